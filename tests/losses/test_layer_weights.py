"""Weighted means: over the layers of a term, over the pictures of a style."""

import pytest
import torch

from gan_style.functional import weighted_mean
from gan_style.losses.content import Content, GatysContent
from gan_style.losses.objective import check_terms, mean_of
from gan_style.losses.scene import Scene
from gan_style.losses.style import GatysStyle, GramStyle

LAYERS = ["relu1_1", "relu2_1"]


@pytest.fixture
def scene(noise):
    """Features of two layers, and for every kind of statistic here the style's Gram matrices."""
    features = [
        {layer: noise(2, 4, 5, 6, seed=10 * number + place) for place, layer in enumerate(LAYERS)} for number in (1, 2)
    ]
    grams = {GramStyle(weight=1.0, layers=LAYERS).key(layer): noise(1, 4, 4, seed=7) for layer in LAYERS}
    picture = torch.zeros(2, 3, 8, 8)
    return Scene(
        picture, picture, picture, fake_features=features[0], content_features=features[1], style_targets=grams
    )


@pytest.mark.parametrize("kind", [Content, GatysContent, GramStyle, GatysStyle])
def test_a_terms_layers_are_weighted_in_any_unit(scene, kind):
    alone = [kind(weight=1.0, layers=[layer])(scene) for layer in LAYERS]
    assert not torch.isclose(*alone, rtol=1e-2)
    for weights, expected in (
        (None, (alone[0] + alone[1]) / 2),
        ([5.0, 5.0], (alone[0] + alone[1]) / 2),
        ([3, 1], (3 * alone[0] + alone[1]) / 4),
        ([0.0, 2.0], alone[1]),
    ):
        assert torch.allclose(kind(weight=1.0, layers=LAYERS, layer_weights=weights)(scene), expected)


def test_a_weighted_mean_of_tensors():
    values = [torch.tensor([1.0, 2.0]), torch.tensor([5.0, -2.0])]
    assert torch.equal(weighted_mean(values), torch.tensor([3.0, 0.0]))
    assert torch.equal(weighted_mean(values, [3, 1]), torch.tensor([2.0, 1.0]))
    with pytest.raises(ValueError):
        weighted_mean(values, [1.0])


def test_the_mean_of_named_tensors_weighted_and_not():
    found = [{"a": torch.tensor([1.0]), "b": torch.tensor([0.0])}, {"a": torch.tensor([5.0]), "b": torch.tensor([4.0])}]
    assert mean_of(found) == {"a": torch.tensor([3.0]), "b": torch.tensor([2.0])}
    assert mean_of(found, [3, 1]) == {"a": torch.tensor([2.0]), "b": torch.tensor([1.0])}
    assert mean_of([]) == {}
    with pytest.raises(ValueError):
        mean_of(found, [1.0])


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0, 0], [1.0, float("nan")], [True, 1], "ab", 3, ["1", "2"]])
@pytest.mark.parametrize("kind", [Content, GramStyle])
def test_weights_that_make_no_mean_are_refused_by_name(kind, weights):
    with pytest.raises(ValueError, match=r"loss\.mine\.layer_weights="):
        check_terms({"mine": kind(weight=1.0, layers=LAYERS, layer_weights=weights)})


def test_content_that_was_looked_at_is_not_looked_at_again(make_objective, noise):
    objective = make_objective(adversarial=None)
    scene = Scene(noise(1, 3, 16, 16), noise(1, 3, 16, 16), noise(1, 3, 16, 16, seed=2))
    first, _ = objective.generator_loss(scene, None, warming_up=False)
    kept = scene.content_features
    scene.content = torch.full_like(scene.content, float("nan"))  # would be seen
    second, _ = objective.generator_loss(scene, None, warming_up=False)
    assert scene.content_features is kept and torch.equal(first, second)
