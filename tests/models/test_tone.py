"""The tone stage: results keep the light and the contrast of their photos."""

import pytest
import torch
from torch import Tensor

from gan_style.functional import luma
from gan_style.models.generator import ResnetGenerator
from gan_style.models.library import LibraryGenerator
from gan_style.models.reference import ReferenceGenerator
from gan_style.models.tone import HALF_CONTRAST, LEVELS, contrast, light, plain_color, tone_curve
from gan_style.stylize.paint import in_tiles

CURVE = torch.tensor([[-0.9, -0.8, -0.6], [-0.5, -0.5, -0.3], [0.0, 0.1, 0.0], [0.4, 0.4, 0.6], [0.9, 0.8, 0.7]])
EXPOSURES = (0.01, 0.02, 0.05, 0.1, 0.22, 0.46, 1.0)


def plain(level: float, size: int = 32) -> Tensor:
    return torch.full((1, 3, size, size), level * 2.0 - 1.0)


@pytest.fixture
def generator() -> ResnetGenerator:
    torch.manual_seed(0)
    generator = ResnetGenerator(width=4, blocks=1).eval()
    generator.get_buffer("tones").copy_(CURVE[None])
    return generator


def test_a_curve_is_the_mean_colour_of_each_fifth_of_the_pixels():
    """A picture whose columns, in any order, have five greys has just these."""
    levels = torch.tensor([0.3, -0.8, 0.9, -0.2, 0.0])
    picture = levels.repeat_interleave(3).expand(1, 3, 4, 15)
    expected = levels.sort().values[:, None].expand(LEVELS, 3)
    torch.testing.assert_close(tone_curve([picture, picture.flip(-1)]), expected)


def test_a_pictures_light_is_the_mean_and_deviation_of_its_luma():
    half = torch.cat([plain(0.2), plain(0.6)], dim=3)
    mean, deviation = light(half)
    torch.testing.assert_close((mean, deviation), (torch.tensor([0.4]), torch.tensor([0.2])))


def test_a_curve_is_interpolated_between_black_and_the_middles_of_its_fifths():
    levels = torch.tensor([0.0, 0.15, 0.3, 0.4, 0.5, 0.8, 0.9, 1.0])
    halfway = [(CURVE[n] + CURVE[n + 1]) / 2 for n in range(4)]
    expected = [CURVE[0], halfway[0], CURVE[1], halfway[1], CURVE[2], halfway[3], CURVE[4], CURVE[4]]
    torch.testing.assert_close(plain_color(CURVE.expand(8, -1, -1), levels), torch.stack(expected))


def test_contrast_rises_from_nothing_to_all():
    shares = contrast(torch.linspace(0.0, 0.5, 50))
    assert shares[0] == 0 and 0.999 < shares[-1] < 1 and (shares.diff() > 0).all()
    torch.testing.assert_close(contrast(torch.tensor([HALF_CONTRAST])), torch.tensor([0.5]), atol=0.01, rtol=0)


@pytest.mark.parametrize("level", [0.0, 0.1, 0.35, 1.0])
def test_a_plain_picture_becomes_the_styles_colour_of_its_level(generator, level):
    expected = plain_color(CURVE[None], torch.tensor([level]))[..., None, None].expand(1, 3, 32, 32)
    torch.testing.assert_close(generator(plain(level)), expected)


def test_results_get_darker_with_their_photos(generator, noise):
    photo = noise(1, 3, 48, 48) * 0.5 + 0.5
    dimmed = [generator(photo * exposure * 2.0 - 1.0) for exposure in EXPOSURES]
    means = torch.stack([luma(result).mean() for result in dimmed])
    assert (means.diff() > 0).all()


def test_much_contrast_is_the_networks_own(generator, noise):
    photo = torch.sign(noise(1, 3, 32, 32))  # deviation 0.3 at least
    torch.testing.assert_close(generator(photo), generator.paint(photo, None).clamp(-1.0, 1.0), atol=0.004, rtol=0)


@pytest.mark.parametrize("level", [0.1, 0.7])
def test_a_mixtures_colour_is_the_mixture_of_its_styles_colours(level):
    torch.manual_seed(0)
    library = LibraryGenerator(width=4, blocks=1, styles=["one", "other"]).eval()
    library.get_buffer("tones").copy_(torch.stack([CURVE, -CURVE.flip(0)]))
    colors = [plain_color(curve[None], torch.tensor([level])) for curve in library.get_buffer("tones")]
    expected = (0.25 * colors[0] + 0.75 * colors[1])[..., None, None].expand(1, 3, 32, 32)
    torch.testing.assert_close(library(plain(level), torch.tensor([[0.25, 0.75]])), expected)
    everywhere = torch.tensor([[0.25, 0.75]])[..., None, None].expand(1, 2, 32, 32)
    torch.testing.assert_close(library(plain(level), everywhere), expected)
    torch.testing.assert_close(
        in_tiles(library, plain(level, 80), torch.tensor([[0.25, 0.75]]), tile=64)[..., :32, :32], expected
    )


def test_a_reference_brings_its_own_curve(noise):
    torch.manual_seed(0)
    generator = ReferenceGenerator(width=4, blocks=1, code=4).eval()
    reference = noise(1, 3, 40, 40)
    expected = plain_color(tone_curve([reference])[None], torch.tensor([0.8]))[..., None, None].expand(1, 3, 32, 32)
    torch.testing.assert_close(generator(plain(0.8), reference), expected)
    library = generator.library({"it": generator.encode(reference)})
    torch.testing.assert_close(library(plain(0.8), torch.tensor([[1.0]])), expected)


def test_a_curve_holds_colors_of_the_picture_and_no_mean_of_hues():
    red, green = torch.tensor([0.9, -0.9, -0.5]), torch.tensor([-0.8, 0.1, -0.6])
    picture = torch.stack([red, green] * 50).T.reshape(1, 3, 10, 10)
    for color in tone_curve([picture]):
        assert torch.equal(color, red) or torch.equal(color, green)
