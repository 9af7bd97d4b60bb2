"""Content, style and pixel terms against independent formulas; the same loss at every resolution and batch size."""

import math

import pytest
import torch
from torch import Tensor

from gan_style.functional import gram_matrix, total_variation_absolute, total_variation_squared
from gan_style.losses.perceptual import Content, GramStyle, content_loss, gram_loss
from gan_style.losses.regular import (
    AbsoluteVariation,
    Colour,
    Identity,
    SquaredVariation,
    colour_loss,
    identity_loss,
)
from gan_style.losses.scene import Scene
from gan_style.models.perceptual import compact


def gatys_content(features: Tensor, target: Tensor) -> float:
    """Gatys et al. 2016, equation 1: half the sum of squared differences."""
    return 0.5 * ((features.double() - target.double()) ** 2).sum().item()


def gatys_style(features: Tensor, target: Tensor) -> float:
    """Gatys et al. 2016, equations 3 and 4, for one picture: N maps of M positions, sums and no means."""
    count, positions = features.shape[1], features.shape[2] * features.shape[3]
    made, wanted = (x[0].double().reshape(count, positions) for x in (features, target))
    difference = made @ made.T - wanted @ wanted.T
    return (difference**2).sum().item() / (4 * count**2 * positions**2)


class TestContentLoss:
    @pytest.mark.parametrize("shape", [(1, 5, 4, 6), (3, 2, 7, 7)])
    def test_is_twice_that_of_gatys_per_entry(self, noise, shape):
        features, target = noise(*shape), noise(*shape, seed=1)
        expected = 2 * gatys_content(features, target) / math.prod(shape)
        assert content_loss(features, target).item() == pytest.approx(expected, rel=1e-6)

    def test_is_computed_in_float32(self, noise):
        features, target = noise(1, 4, 8, 8).bfloat16(), noise(1, 4, 8, 8, seed=1).bfloat16()
        assert content_loss(features, target).dtype == torch.float32
        assert content_loss(features, target) == content_loss(features.float(), target.float())

    def test_does_not_overflow_in_half_precision(self):
        features = torch.full((1, 2, 4, 4), 1000.0).half()
        assert content_loss(features, -features) == 4e6


class TestGramLoss:
    @pytest.mark.parametrize("shape", [(1, 5, 4, 6), (1, 2, 9, 9)])
    def test_is_four_times_that_of_gatys(self, noise, shape):
        features, target = noise(*shape), noise(*shape, seed=1)
        made = gram_loss(gram_matrix(features), gram_matrix(target)).item()
        assert made == pytest.approx(4 * gatys_style(features, target), rel=1e-5)

    def test_takes_one_target_for_the_whole_batch(self, noise):
        grams, target = gram_matrix(noise(3, 4, 5, 5)), gram_matrix(noise(1, 4, 5, 5, seed=1))
        expected = sum(gram_loss(gram[None], target) for gram in grams) / 3
        torch.testing.assert_close(gram_loss(grams, target), expected)

    def test_compares_pictures_of_different_sizes(self, noise):
        features = noise(1, 4, 6, 5)
        larger = features.repeat_interleave(3, dim=2).repeat_interleave(2, dim=3)
        assert gram_loss(gram_matrix(features), gram_matrix(larger)).item() == pytest.approx(0, abs=1e-12)


class TestPixelLosses:
    def test_identity_is_the_mean_absolute_difference(self):
        style = torch.zeros(2, 3, 4, 4)
        rebuilt = style.clone()
        rebuilt[0, 0, 0, 0], rebuilt[1, 2, 3, 3] = 0.5, -1.0
        assert identity_loss(rebuilt, style).item() == pytest.approx(1.5 / 96, rel=1e-6)
        assert identity_loss(style, style) == 0

    @pytest.mark.parametrize(
        ("fake", "content", "expected"),
        [
            ((0.2, -0.4, 1), (0.2, -0.4, 1), 0.0),
            ((1, 1, 1), (-1, -1, -1), 1.0),  # white and black: luma alone
            ((0, 0, 0), (1, 1, 1), 0.5),
            # Red and black: U and V differ by less than Huber's 1, and count by half their squares.
            ((1, -1, -1), (-1, -1, -1), 0.299 + 0.5 * 0.14713**2 + 0.5 * 0.615**2),
            # Red and cyan: V differs by 1.23, which Huber counts as 1.23 - 0.5.
            ((1, -1, -1), (-1, 1, 1), 0.402 + 0.5 * (2 * 0.14713) ** 2 + (1.23 - 0.5)),
        ],
        ids=["the same", "white, black", "grey, white", "red, black", "red, cyan"],
    )
    def test_colour_is_l1_on_luma_and_huber_on_chroma(self, fake, content, expected):
        made, wanted = (
            torch.tensor(c, dtype=torch.float32).view(1, 3, 1, 1).expand(2, 3, 4, 4) for c in (fake, content)
        )
        assert colour_loss(made, wanted).item() == pytest.approx(expected, abs=3e-5)

    @pytest.mark.parametrize("loss", [identity_loss, colour_loss])
    def test_are_computed_in_float32(self, noise, loss):
        pictures = [noise(1, 3, 4, 4).bfloat16(), noise(1, 3, 4, 4, seed=1).bfloat16()]
        assert loss(*pictures).dtype == torch.float32
        assert loss(*pictures) == loss(*(x.float() for x in pictures))


def scene_of(fake: Tensor, content: Tensor, style: Tensor) -> Scene:
    """A scene whose features are simple functions of its pictures, with two layers."""

    def look(images: Tensor) -> dict[str, Tensor]:
        return {"a": images, "b": images[..., ::2, ::2] * 2.0}

    return Scene(
        content=content,
        style=style,
        fake=fake,
        rebuilt=style * 0.5,
        fake_features=look(fake),
        content_features=look(content),
        style_features=look(style),
        style_grams={"mean": {"a": torch.ones(1, 3, 3), "b": torch.eye(3)[None]}},
    )


class TestTerms:
    @pytest.fixture
    def scene(self, noise) -> Scene:
        return scene_of(*(noise(2, 3, 8, 8, seed=seed) for seed in range(3)))

    @pytest.mark.parametrize("layers", [["a"], ["b"], ["a", "b"]])
    def test_content_is_the_mean_over_its_layers(self, scene, layers):
        expected = sum(content_loss(scene.fake_features[x], scene.content_features[x]) for x in layers) / len(layers)
        torch.testing.assert_close(Content(weight=1.0, layers=layers)(scene), expected)

    @pytest.mark.parametrize("layers", [["a"], ["b"], ["a", "b"]])
    def test_style_is_the_mean_over_its_layers(self, scene, layers):
        grams = {x: gram_matrix(scene.fake_features[x]) for x in layers}
        to_mean = sum(gram_loss(grams[x], scene.style_grams["mean"][x]) for x in layers) / len(layers)
        to_pair = sum(gram_loss(grams[x], gram_matrix(scene.style_features[x])) for x in layers) / len(layers)
        torch.testing.assert_close(GramStyle(weight=1.0, layers=layers)(scene), to_mean)
        torch.testing.assert_close(GramStyle(weight=1.0, layers=layers, target="paired")(scene), to_pair)

    def test_style_of_a_pair_compares_each_result_with_its_own_partner(self, noise):
        pictures = noise(2, 3, 8, 8)
        term = GramStyle(weight=1.0, layers=["a", "b"], target="paired")
        assert term(scene_of(pictures, pictures, pictures)) == 0
        assert term(scene_of(pictures, pictures, pictures.flip(0))) > 0

    def test_pixel_terms_are_their_formulas_on_the_right_pictures(self, scene):
        assert SquaredVariation(weight=1.0)(scene) == total_variation_squared(scene.fake)
        assert AbsoluteVariation(weight=1.0)(scene) == total_variation_absolute(scene.fake)
        assert Colour(weight=1.0)(scene) == colour_loss(scene.fake, scene.content)
        assert Identity(weight=1.0)(scene) == identity_loss(scene.rebuilt, scene.style)


def smooth(size: int, seed: int) -> Tensor:
    """Slow waves (at most two across the picture), the same picture at every size: (1, 3, size, size)."""
    random = torch.Generator().manual_seed(seed)
    places = (torch.arange(size) + 0.5) / size * 2 * math.pi
    picture = torch.zeros(1, 3, size, size)
    for channel in range(3):
        for _ in range(3):
            down, right = torch.randint(-2, 3, (2,), generator=random)
            phase = torch.rand((), generator=random) * 2 * math.pi
            picture[0, channel] += torch.cos(down * places[:, None] + right * places[None] + phase) / 3
    return picture


LAYERS = ("relu1_1", "relu2_1")
TOLERANCES = {"content": 0.03, "style": 0.1, "identity": 1e-4, "colour": 1e-4}


@pytest.fixture(scope="module")
def losses_by_size() -> dict[int, dict[str, float]]:
    """The losses of one pair of pictures, drawn at 256, 512 and 1024 pixels."""
    torch.manual_seed(0)
    network = compact(layers=LAYERS, weights="random")
    network.calibrate([smooth(64, 9)])
    terms = {
        "content": Content(weight=1.0, layers=LAYERS),
        "style": GramStyle(weight=1.0, layers=LAYERS, target="paired"),
        "identity": Identity(weight=1.0),
        "colour": Colour(weight=1.0),
    }
    found = {}
    for size in (256, 512, 1024):
        fake, content = smooth(size, 1), smooth(size, 2)
        of_fake, of_content = network(fake, LAYERS), network(content, LAYERS)
        scene = Scene(content, content, fake, fake, of_fake, of_content, of_content)
        found[size] = {name: term(scene).item() for name, term in terms.items()}
    return found


class TestResolution:
    """Only the network's zero padding tells the sizes apart: its share of a picture falls with the size.

    Random weights, which answer to plain surfaces as much as to edges, keep content within 3 % and style within 10 %;
    a sum in place of a mean would be off by a factor of 4 to 256.
    """

    @pytest.mark.parametrize("term", TOLERANCES)
    @pytest.mark.parametrize("size", [512, 1024])
    def test_does_not_change_the_loss(self, losses_by_size, term, size):
        assert losses_by_size[256][term] > 1e-3
        expected = losses_by_size[256][term]
        assert losses_by_size[size][term] == pytest.approx(expected, rel=TOLERANCES[term])

    @pytest.mark.parametrize("factor", [2, 4])
    def test_does_not_change_the_formulas_at_all(self, noise, factor):
        """Every position standing ``factor`` squared times gives the same means."""
        small = [noise(2, 3, 8, 8), noise(2, 3, 8, 8, seed=1)]
        large = [x.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3) for x in small]
        for loss in (content_loss, identity_loss, colour_loss, lambda a, b: gram_loss(gram_matrix(a), gram_matrix(b))):
            torch.testing.assert_close(loss(*large), loss(*small), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "term",
    [
        Content(weight=1.0, layers=["a", "b"]),
        GramStyle(weight=1.0, layers=["a", "b"]),
        GramStyle(weight=1.0, layers=["a", "b"], target="paired"),
        SquaredVariation(weight=1.0),
        AbsoluteVariation(weight=1.0),
        Identity(weight=1.0),
        Colour(weight=1.0),
    ],
    ids=lambda term: f"{type(term).__name__} {getattr(term, 'target', '')}".strip(),
)
def test_batch_of_eight_copies_has_the_loss_of_one(noise, term):
    one = [noise(1, 3, 8, 8, seed=seed) for seed in range(3)]
    single, copies = term(scene_of(*one)), term(scene_of(*(x.repeat(8, 1, 1, 1) for x in one)))
    assert single > 0
    torch.testing.assert_close(copies, single, rtol=1e-5, atol=0)
