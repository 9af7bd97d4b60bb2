"""Content, style and pixel terms against independent formulas; the same loss at every resolution and batch size."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gan_style.demo import demo_pictures
from gan_style.functional import (
    centred_gram_matrix,
    channel_moments,
    gram_matrix,
    total_variation_absolute,
    total_variation_squared,
)
from gan_style.images.decode import decode, to_float
from gan_style.losses.content import (
    AbsoluteContent,
    Content,
    GatysContent,
    absolute_content_loss,
    content_loss,
    gatys_content_loss,
)
from gan_style.losses.objective import Objective
from gan_style.losses.pixel import (
    AbsoluteVariation,
    Colour,
    Identity,
    Paired,
    SquaredVariation,
    colour_loss,
    identity_loss,
    paired_loss,
)
from gan_style.losses.style import (
    CentredGramStyle,
    GatysStyle,
    GramStyle,
    MomentStyle,
    Style,
    gatys_style_loss,
    gram_loss,
    moments_loss,
)
from gan_style.losses.term import AuxiliaryPass, LossInputs
from gan_style.models.perceptual import Perceptual, compact, vgg19


def gatys_content(features: Tensor, target: Tensor) -> float:
    """Gatys et al. 2016, equation 1: half the sum of squared differences."""
    return 0.5 * ((features.double() - target.double()) ** 2).sum().item()


def gatys_style(features: Tensor, target: Tensor) -> float:
    """Gatys et al. 2016, equations 3 and 4, for one picture: N maps of M positions, sums and no means."""
    count, positions = features.shape[1], features.shape[2] * features.shape[3]
    result, expected = (x[0].double().reshape(count, positions) for x in (features, target))
    difference = result @ result.T - expected @ expected.T
    return (difference**2).sum().item() / (4 * count**2 * positions**2)


STYLES = Style.__subclasses__()


@pytest.mark.parametrize(
    "loss", [content_loss, absolute_content_loss, gatys_content_loss, identity_loss, paired_loss, colour_loss]
)
def test_losses_are_computed_in_float32(noise, loss):
    pictures = [noise(1, 3, 8, 8).bfloat16(), noise(1, 3, 8, 8, seed=1).bfloat16()]
    assert loss(*pictures).dtype == torch.float32
    assert loss(*pictures) == loss(*(x.float() for x in pictures))


@pytest.mark.parametrize(("loss", "expected"), [(content_loss, 4e6), (gatys_content_loss, 0.5 * 32 * 4e6)])
def test_content_does_not_overflow_in_half_precision(loss, expected):
    features = torch.full((1, 2, 4, 4), 1000.0).half()
    assert loss(features, -features) == expected


def test_one_target_serves_a_whole_batch_of_gram_matrices(noise):
    grams, target = gram_matrix(noise(3, 4, 5, 5)), gram_matrix(noise(1, 4, 5, 5, seed=1))
    expected = sum(gram_loss(gram[None], target) for gram in grams) / 3
    torch.testing.assert_close(gram_loss(grams, target), expected)


class TestGatys:
    """Sums, as in the paper, against those above: equal for pictures of one size."""

    @pytest.mark.parametrize("shape", [(5, 4, 6), (2, 9, 9)])
    def test_content_is_equation_1_averaged_over_the_batch(self, noise, shape):
        features, target = noise(3, *shape), noise(3, *shape, seed=1)
        expected = sum(gatys_content(*pair) for pair in zip(features.split(1), target.split(1), strict=True)) / 3
        assert gatys_content_loss(features, target).item() == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("shape", [(5, 4, 6), (2, 9, 9)])
    def test_style_is_equation_4_averaged_over_the_batch(self, noise, shape):
        features, target = noise(3, *shape), noise(3, *shape, seed=1)
        expected = sum(gatys_style(*pair) for pair in zip(features.split(1), target.split(1), strict=True)) / 3
        result = gatys_style_loss(gram_matrix(features), gram_matrix(target)).item()
        assert result == pytest.approx(expected, rel=1e-5)


class TestThroughVgg:
    """The whole way from pictures to the loss, in float32, against the equations on raw features in float64."""

    @pytest.fixture(params=["random", "real"])
    def network(self, request) -> Perceptual:
        torch.manual_seed(0)
        if request.param == "real":
            weights, deepest = request.getfixturevalue("real_vgg"), ["relu3_1", "relu3_3", "relu3_4"]
        else:
            weights, deepest = "random", ["relu3_1", "relu4_1", "relu4_2", "relu5_1"]
        return vgg19(layers=["relu1_1", "relu2_1", *deepest], weights=weights)

    @pytest.fixture
    def pictures(self) -> list[Tensor]:
        """A fake, a content and a style, real ones and of one size, (1, 3, 80, 64)."""
        pytest.importorskip("skimage")
        paths = [demo_pictures(name)[0] for name in ("heldout", "photos", "styles")]
        return [to_float(decode(path, short_side=120)[None, :, 20:100, 30:94]) for path in paths]

    @pytest.fixture
    def vgg_inputs(self, network, pictures) -> Callable[..., dict[str, float]]:
        """The unweighted losses of content and style terms."""

        def make(content, style) -> dict[str, float]:
            terms = {
                "content": content(weight=1.0, layers=network.layers[-2:-1]),
                "style": style(weight=1.0, layers=network.layers, target="painting.jpg"),
            }
            objective = Objective(terms, network)
            fake, photo, painting = pictures
            objective.set_style("painting.jpg", [(0, painting)])
            _, parts = objective.generator_loss(LossInputs(photo, painting, fake), None, warming_up=False)
            return {name: part.item() for name, part in parts.items()}

        return make

    @pytest.fixture
    def expected(self, network, pictures) -> dict[str, float]:
        """Equation 1 at one deep layer; equations 3 to 5, with all w_l one over the number of layers."""
        fake, photo, painting = (copy.deepcopy(network).double()(x.double(), network.layers) for x in pictures)
        assert all(features.dtype == torch.float64 for features in fake.values())
        content = network.layers[-2]
        of_layers = [gatys_style(fake[layer], painting[layer]) for layer in network.layers]
        return {
            "content": gatys_content(fake[content], photo[content]),
            "style": sum(of_layers) / len(of_layers),
            "entries": fake[content].numel(),
        }

    @pytest.mark.parametrize("of_paper", [True, False], ids=["Gatys' terms", "default terms, up to their factors"])
    def test_terms_are_the_papers(self, vgg_inputs, expected, of_paper):
        losses = vgg_inputs(GatysContent, GatysStyle) if of_paper else vgg_inputs(Content, GramStyle)
        content, style = (1, 1) if of_paper else (2 / expected["entries"], 4)
        assert losses["content"] == pytest.approx(content * expected["content"], rel=1e-5, abs=0)
        assert losses["style"] == pytest.approx(style * expected["style"], rel=1e-5, abs=0)


class TestBfloat16:
    """Forward passes and losses under autocast, as in training, on the packaged network: eight bits in its features.

    Measured on these pictures: content within 0.03 %, style within 0.2 % of float32.
    """

    LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu3_3")

    @pytest.mark.parametrize("style", STYLES)
    @pytest.mark.parametrize("target", ["mean", "each"])
    def test_keeps_content_and_style_within_one_percent_of_float32(self, style, target):
        pytest.importorskip("skimage")
        paths = [*demo_pictures("photos")[:2], *demo_pictures("heldout")[:2], *demo_pictures("styles")[:2]]
        cropped = torch.cat([to_float(decode(path, short_side=120)[None, :, :96, :96]) for path in paths])
        fake, photos, paintings = cropped.split(2)
        network = compact(layers=[*self.LAYERS, "relu3_2"])
        network.calibrate(photos.split(1))
        terms = {
            "content": Content(weight=1.0, layers=["relu3_2"]),
            "of Gatys": GatysContent(weight=1.0, layers=["relu3_2"]),
            "style": style(weight=1.0, layers=self.LAYERS, target=target),
        }
        objective = Objective(terms, network)
        objective.set_style(target, enumerate(paintings.split(1)))
        inputs = LossInputs(photos, paintings, fake, style_index=torch.tensor([0, 1]))
        _, full = objective.generator_loss(inputs, None, warming_up=False)
        with torch.autocast("cpu", torch.bfloat16):
            _, half = objective.generator_loss(inputs, None, warming_up=False)
        assert inputs.fake_features["relu3_2"].dtype == torch.bfloat16
        for name, part in half.items():
            assert part.dtype == torch.float32
            assert part.item() == pytest.approx(full[name].item(), rel=0.01, abs=0), name


class TestMomentsLoss:
    def test_adds_the_squared_differences_of_means_and_deviations_and_averages_over_channels(self):
        result = torch.tensor([[[1.0, 2.0], [0.0, 1.0]], [[3.0, 0.5], [0.0, 0.0]]])
        expected = torch.tensor([[[0.0, 4.0], [0.0, 1.0]]])
        by_hand = [1.0**2 + 2.0**2, 0.0, 3.0**2 + 3.5**2, 1.0**2]  # sample by sample, channel by channel
        assert moments_loss(result, expected).item() == pytest.approx(sum(by_hand) / 4, rel=1e-6)

    def test_of_pictures_of_one_tone_is_the_squared_difference_of_tones(self):
        result, expected = (channel_moments(torch.full((2, 3, 5, size), tone)) for tone, size in ((0.75, 4), (0.25, 7)))
        assert moments_loss(result, expected).item() == pytest.approx(0.25, rel=1e-6)


def test_absolute_content_is_the_mean_absolute_difference_in_float64(noise):
    features, target = noise(2, 5, 4, 6), noise(2, 5, 4, 6, seed=1)
    expected = (features.double() - target.double()).abs().sum().item() / 240
    assert absolute_content_loss(features, target).item() == pytest.approx(expected, rel=1e-6)


class TestPixelLosses:
    @pytest.mark.parametrize("identity_loss", [identity_loss, paired_loss])
    def test_identity_is_the_mean_absolute_difference(self, identity_loss):
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
        result, target = (
            torch.tensor(c, dtype=torch.float32).view(1, 3, 1, 1).expand(2, 3, 4, 4) for c in (fake, content)
        )
        assert colour_loss(result, target).item() == pytest.approx(expected, abs=3e-5)


def scene_of(fake: Tensor, content: Tensor, style: Tensor) -> LossInputs:
    """A scene whose features are simple functions of its pictures, with two layers, and a set of as many styles."""

    def look(images: Tensor) -> dict[str, Tensor]:
        return {"a": images, "b": images[..., ::2, ::2] * 2.0}

    targets = {}
    for kind in STYLES:
        for layer, features in look(style).items():
            statistics = kind.statistic(features)
            targets[kind(weight=1.0, layers=[layer], target="each").key(layer)] = statistics
            targets[kind(weight=1.0, layers=[layer]).key(layer)] = statistics.mean(dim=0, keepdim=True)
    return LossInputs(
        content=content,
        style=style,
        fake=fake,
        auxiliary={"rebuilt": AuxiliaryPass(style * 0.5)},
        style_index=torch.arange(len(style)),
        fake_features=look(fake),
        content_features=look(content),
        style_targets=targets,
    )


class TestTerms:
    @pytest.fixture
    def inputs(self, noise) -> LossInputs:
        return scene_of(*(noise(2, 3, 8, 8, seed=seed) for seed in range(3)))

    @pytest.mark.parametrize("layers", [["a"], ["b"], ["a", "b"]])
    @pytest.mark.parametrize(
        ("term", "loss"),
        [(Content, content_loss), (GatysContent, gatys_content_loss), (AbsoluteContent, absolute_content_loss)],
    )
    def test_content_is_the_mean_over_its_layers(self, inputs, layers, term, loss):
        expected = sum(loss(inputs.fake_features[x], inputs.content_features[x]) for x in layers) / len(layers)
        torch.testing.assert_close(term(weight=1.0, layers=layers)(inputs), expected)

    @pytest.mark.parametrize("layers", [["a"], ["b"], ["a", "b"]])
    @pytest.mark.parametrize(
        ("term", "statistic", "loss"),
        [
            (GramStyle, gram_matrix, gram_loss),
            (GatysStyle, gram_matrix, gatys_style_loss),
            (CentredGramStyle, centred_gram_matrix, gram_loss),
            (MomentStyle, channel_moments, moments_loss),
        ],
    )
    def test_style_is_the_mean_over_its_layers(self, inputs, layers, term, statistic, loss):
        features = {"a": inputs.style, "b": inputs.style[..., ::2, ::2] * 2.0}
        to_mean, to_each = [], []
        for layer in layers:
            result, expected = statistic(inputs.fake_features[layer]), statistic(features[layer])
            to_mean.append(loss(result, expected.mean(dim=0, keepdim=True)))
            to_each.append(loss(result, expected))
        torch.testing.assert_close(term(weight=1.0, layers=layers)(inputs), sum(to_mean) / len(layers))
        torch.testing.assert_close(term(weight=1.0, layers=layers, target="each")(inputs), sum(to_each) / len(layers))

    def test_pixel_terms_are_their_formulas_on_the_right_pictures(self, inputs):
        assert SquaredVariation(weight=1.0)(inputs) == total_variation_squared(inputs.fake)
        assert AbsoluteVariation(weight=1.0)(inputs) == total_variation_absolute(inputs.fake)
        assert Colour(weight=1.0)(inputs) == colour_loss(inputs.fake, inputs.content)
        assert Identity(weight=1.0)(inputs) == identity_loss(inputs.style * 0.5, inputs.style)
        assert Paired(weight=1.0)(inputs) == paired_loss(inputs.fake, inputs.style)


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
        "style": GramStyle(weight=1.0, layers=LAYERS, target="each"),
        "identity": Identity(weight=1.0),
        "colour": Colour(weight=1.0),
    }
    actual = {}
    for size in (256, 512, 1024):
        fake, content = smooth(size, 1), smooth(size, 2)
        of_fake, of_content = network(fake, LAYERS), network(content, LAYERS)
        inputs = LossInputs(content, content, fake, torch.tensor([0]))
        inputs.fake_features, inputs.content_features = of_fake, of_content
        inputs.auxiliary = {"rebuilt": AuxiliaryPass(fake)}
        inputs.style_targets = {terms["style"].key(layer): gram_matrix(of_content[layer]) for layer in LAYERS}
        actual[size] = {name: term(inputs).item() for name, term in terms.items()}
    return actual


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
        GatysContent(weight=1.0, layers=["a", "b"]),
        AbsoluteContent(weight=1.0, layers=["a", "b"]),
        Paired(weight=1.0),
        *(kind(weight=1.0, layers=["a", "b"], target=target) for kind in STYLES for target in ("mean", "each")),
        SquaredVariation(weight=1.0),
        AbsoluteVariation(weight=1.0),
        Identity(weight=1.0),
        Colour(weight=1.0),
    ],
    ids=lambda term: f"{type(term).__name__} {getattr(term, 'target', '')}".strip(),
)
def test_batch_of_eight_copies_has_the_loss_of_one(noise, term):
    first = [noise(1, 3, 8, 8, seed=seed) for seed in range(3)]
    single, copies = term(scene_of(*first)), term(scene_of(*(x.repeat(8, 1, 1, 1) for x in first)))
    assert single > 0
    torch.testing.assert_close(copies, single, rtol=1e-5, atol=0)
