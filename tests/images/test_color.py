"""gan_style/images/color.py: whose colours a result has."""

import pytest
import torch

from gan_style.functional import grey, rgb_to_yuv
from gan_style.images.color import match_colours
from gan_style.optimise.optimise import assemble_result, canvas_channels, transfer_inputs


def tinted(noise, *, height=20, width=30, seed=0, tint=(0.2, -0.1, 0.0)):
    """Noise of correlated channels, well inside [-1, 1]."""
    base = noise(1, 3, height, width, seed=seed) * 0.2
    return base + base[:, :1] * 0.5 + torch.tensor(tint).view(1, 3, 1, 1)


def test_matched_colours_have_the_wanted_mean_and_covariance(noise):
    picture, expected = tinted(noise, seed=1), tinted(noise, seed=2, height=15, tint=(-0.3, 0.1, 0.2))
    matched = match_colours(picture, expected)[0].flatten(1)
    assert torch.allclose(matched.mean(dim=1), expected[0].flatten(1).mean(dim=1), atol=1e-5)
    assert torch.allclose(matched.cov(correction=0), expected[0].flatten(1).cov(correction=0), atol=1e-5)


def test_a_picture_matched_to_itself_stays(noise):
    picture = tinted(noise)
    assert torch.allclose(match_colours(picture, picture), picture, atol=1e-5)


def test_for_one_channel_it_is_the_luma_matching_of_gatys_et_al(noise):
    """Their equation (10): sd(content) / sd(style) (L - mean(style)) + mean(content)."""
    picture, target = tinted(noise, seed=1)[:, :1], tinted(noise, seed=2)[:, :1]
    expected = (picture - picture.mean()) * target.std(correction=0) / picture.std(correction=0) + target.mean()
    assert torch.allclose(match_colours(picture, target), expected, atol=1e-5)


@pytest.mark.parametrize("rounding", [0.0, 0.002])
def test_a_grey_picture_gets_no_amplified_rounding(noise, rounding):
    picture = grey(tinted(noise)) + rounding * noise(1, 3, 20, 30, seed=9)
    matched = match_colours(picture, tinted(noise, seed=2))
    along = matched[0].flatten(1) - matched[0].flatten(1).mean(dim=1, keepdim=True)
    strengths = torch.linalg.svdvals(along)
    assert matched.isfinite().all() and strengths[1] < 0.05 * strengths[0]


def test_a_flat_picture_takes_the_mean_colour(noise):
    expected = tinted(noise)
    matched = match_colours(torch.zeros(1, 3, 1, 1), expected)
    assert torch.allclose(matched[0, :, 0, 0], expected.mean(dim=(0, 2, 3)), atol=1e-5)


def test_luminance_keeps_the_contents_chroma_and_takes_the_canvas_for_luma(noise):
    content, canvas = tinted(noise), noise(1, 1, 20, 30, seed=5) * 0.3
    yuv = rgb_to_yuv(assemble_result("luminance", canvas, content))
    assert torch.allclose(yuv[:, 1:], rgb_to_yuv(content)[:, 1:], atol=1e-5)
    assert torch.allclose(yuv[:, :1], canvas * 0.5 + 0.5, atol=1e-5)


def test_luminance_shows_a_coarse_canvas_at_its_own_size(noise):
    assert assemble_result("luminance", noise(1, 1, 10, 15), tinted(noise)).shape == (1, 3, 10, 15)


def test_what_is_shown_is_clamped(noise):
    assert assemble_result("style", noise(1, 3, 4, 4) * 3, noise(1, 3, 4, 4)).abs().max() == 1.0


@pytest.mark.parametrize(("colours", "channels"), [("style", 3), ("histogram", 3), ("luminance", 1)])
def test_what_the_transfer_sees(noise, colours, channels):
    content, style = tinted(noise, seed=1), tinted(noise, seed=2, width=9, tint=(-0.3, 0.1, 0.2))
    seen_content, (seen_style,) = transfer_inputs(colours, content, [style])
    assert seen_content.shape == content.shape and seen_style.shape == style.shape
    assert canvas_channels(colours) == channels
    assert torch.equal(seen_content, grey(content) if colours == "luminance" else content)
    close = torch.allclose(seen_style.mean(dim=(0, 2, 3)), seen_content.mean(dim=(0, 2, 3)), atol=1e-4)
    assert close == (colours != "style")
