"""Weighted means: over the layers of a term, over the pictures of a style."""

import pytest
import torch
from torch.nn import functional as F

from gan_style.losses.content import Content, GatysContent
from gan_style.losses.objective import check_terms, mean_of
from gan_style.losses.style import GatysStyle, GramStyle
from gan_style.losses.term import LossInputs

LAYERS = ["relu1_1", "relu2_1"]


@pytest.fixture
def inputs(noise):
    """Features of two layers, and for every kind of statistic here the style's Gram matrices."""
    features = [
        {layer: noise(2, 4, 5, 6, seed=10 * number + place) for place, layer in enumerate(LAYERS)} for number in (1, 2)
    ]
    grams = {GramStyle(weight=1.0, layers=LAYERS).key(layer): noise(1, 4, 4, seed=7) for layer in LAYERS}
    picture = torch.zeros(2, 3, 8, 8)
    return LossInputs(
        picture, picture, picture, fake_features=features[0], content_features=features[1], style_targets=grams
    )


@pytest.mark.parametrize("kind", [Content, GatysContent, GramStyle, GatysStyle])
def test_a_terms_layers_are_weighted_in_any_unit(inputs, kind):
    single = [kind(weight=1.0, layers=[layer])(inputs) for layer in LAYERS]
    assert not torch.isclose(*single, rtol=1e-2)
    for weights, expected in (
        (None, (single[0] + single[1]) / 2),
        ([5.0, 5.0], (single[0] + single[1]) / 2),
        ([3, 1], (3 * single[0] + single[1]) / 4),
        ([0.0, 2.0], single[1]),
    ):
        assert torch.allclose(kind(weight=1.0, layers=LAYERS, layer_weights=weights)(inputs), expected)


@pytest.mark.parametrize("kind", [GramStyle, GatysStyle])
def test_relative_distances_are_shares_of_the_targets_mean_square(inputs, kind):
    """Whatever the style's statistics are: ten times larger on both sides changes nothing."""
    term = kind(weight=1.0, layers=LAYERS, relative=True)
    absolute = kind(weight=1.0, layers=LAYERS[:1])(inputs)
    energy = inputs.style_targets[term.key(LAYERS[0])].square().mean()
    torch.testing.assert_close(kind(weight=1.0, layers=LAYERS[:1], relative=True)(inputs), absolute / energy)
    first = term(inputs)
    inputs.style_targets = {key: 10.0 * target for key, target in inputs.style_targets.items()}
    inputs.fake_features = {layer: 10.0**0.5 * features for layer, features in inputs.fake_features.items()}
    torch.testing.assert_close(term(inputs), first)


def test_scales_look_at_the_picture_made_smaller(make_objective, noise):
    """The term at scale 0.5 is that of the pictures at half the size; the mean over scales is the mean of the terms."""
    photo, style, fake = (noise(1, 3, 64, 64, seed=seed) for seed in (1, 2, 3))

    def loss(scales: list[float], size: int) -> torch.Tensor:
        term = GramStyle(weight=1.0, layers=["relu1_1", "relu2_1"], scales=scales)
        objective = make_objective(adversarial=None, content=None, tv=None, style=term)
        pictures = [F.interpolate(item, (size, size), mode="bilinear", antialias=True) for item in (photo, style, fake)]
        objective.set_style("mean", [(0, pictures[1])])
        return objective.generator_loss(LossInputs(*pictures), None, warming_up=False)[0]

    half, both = loss([0.5], 64), loss([1.0, 0.5], 64)
    torch.testing.assert_close(half, loss([1.0], 32))
    torch.testing.assert_close(both, (half + loss([1.0], 64)) / 2)


@pytest.mark.parametrize("scales", [[], [0.0], [2.0], "1"])
def test_scales_that_there_are_not_are_refused_by_name(scales):
    with pytest.raises(ValueError, match=r"loss\.mine\.scales="):
        check_terms({"mine": GramStyle(weight=1.0, layers=LAYERS, scales=scales)})


def test_the_mean_of_named_tensors_weighted_and_not():
    actual = [
        {"a": torch.tensor([1.0]), "b": torch.tensor([0.0])},
        {"a": torch.tensor([5.0]), "b": torch.tensor([4.0])},
    ]
    assert mean_of(iter(actual)) == {"a": torch.tensor([3.0]), "b": torch.tensor([2.0])}
    assert mean_of(actual, [3, 1]) == {"a": torch.tensor([2.0]), "b": torch.tensor([1.0])}
    assert actual[0] == {"a": torch.tensor([1.0]), "b": torch.tensor([0.0])}  # unchanged
    assert mean_of([]) == {}
    with pytest.raises(ValueError):
        mean_of(actual, [1.0])


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0, 0], [1.0, float("nan")], [True, 1], "ab", 3, ["1", "2"]])
@pytest.mark.parametrize("kind", [Content, GramStyle])
def test_weights_that_make_no_mean_are_refused_by_name(kind, weights):
    with pytest.raises(ValueError, match=r"loss\.mine\.layer_weights="):
        check_terms({"mine": kind(weight=1.0, layers=LAYERS, layer_weights=weights)})


def test_content_that_was_looked_at_is_not_looked_at_again(make_objective, noise):
    objective = make_objective(adversarial=None)
    inputs = LossInputs(noise(1, 3, 16, 16), noise(1, 3, 16, 16), noise(1, 3, 16, 16, seed=2))
    first, _ = objective.generator_loss(inputs, None, warming_up=False)
    cached = inputs.content_features
    inputs.content = torch.full_like(inputs.content, float("nan"))  # would be seen
    second, _ = objective.generator_loss(inputs, None, warming_up=False)
    assert inputs.content_features is cached and torch.equal(first, second)
