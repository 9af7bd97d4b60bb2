"""Pure functions against closed forms and plain loops in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gan_style.functional import (
    AUGMENTATIONS,
    diff_augment,
    gram_matrix,
    rgb_to_yuv,
    total_variation_absolute,
    total_variation_squared,
)


def gram_in_loops(features: Tensor) -> Tensor:
    count, channels, height, width = features.shape
    gram = torch.zeros(count, channels, channels, dtype=torch.float64)
    for n in range(count):
        for i in range(channels):
            for j in range(channels):
                products = features[n, i].double() * features[n, j].double()
                gram[n, i, j] = products.sum() / (height * width)
    return gram


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestGramMatrix:
    @pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 17)])
    def test_of_ones_is_ones_at_any_size(self, size):
        torch.testing.assert_close(gram_matrix(torch.ones(2, 5, *size)), torch.ones(2, 5, 5))

    def test_of_orthogonal_maps_is_diagonal_with_their_mean_squares(self):
        maps = torch.zeros(1, 3, 2, 3)
        maps[0, 0, 0, 0], maps[0, 1, 1, 2], maps[0, 2, 0, 1] = 1.0, 2.0, -3.0
        torch.testing.assert_close(gram_matrix(maps)[0], torch.diag(torch.tensor([1.0, 4.0, 9.0])) / 6)

    def test_equals_a_loop_in_float64(self, noise):
        features = noise(3, 4, 5, 7)
        torch.testing.assert_close(gram_matrix(features).double(), gram_in_loops(features), rtol=1e-6, atol=1e-7)

    def test_is_per_sample(self, noise):
        features = noise(3, 4, 6, 6)
        one_by_one = torch.cat([gram_matrix(sample[None]) for sample in features])
        torch.testing.assert_close(gram_matrix(features), one_by_one)

    def test_a_sample_does_not_feel_its_neighbours(self, noise):
        features = noise(3, 4, 6, 6).requires_grad_()
        (gradient,) = torch.autograd.grad(gram_matrix(features)[1].sum(), features)
        assert gradient[1].abs().min() > 0
        assert gradient[0].count_nonzero() == gradient[2].count_nonzero() == 0

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
    def test_is_float32_and_exact_for_the_given_features(self, noise, dtype):
        features = noise(2, 4, 8, 8).to(dtype)
        gram = gram_matrix(features)
        assert gram.dtype == torch.float32
        torch.testing.assert_close(gram.double(), gram_in_loops(features), rtol=1e-6, atol=1e-7)

    def test_is_float32_under_autocast(self, noise):
        features = noise(2, 4, 8, 8)
        with torch.autocast("cpu", torch.bfloat16):
            gram = gram_matrix(features)
        assert gram.dtype == torch.float32
        torch.testing.assert_close(gram, gram_matrix(features), rtol=0, atol=0)

    @given(exponent=st.floats(-3, 3), dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]))
    def test_does_not_overflow_and_grows_with_the_square_of_the_scale(self, exponent, dtype):
        features = (torch.rand(1, 3, 16, 16, generator=seeded()) * 10**exponent).to(dtype)
        gram = gram_matrix(features)
        assert gram.isfinite().all()
        torch.testing.assert_close(gram.double(), gram_in_loops(features), rtol=1e-5, atol=0)


def ramp(height: int, width: int, *, down: float, right: float) -> Tensor:
    plane = torch.arange(height)[:, None] * down + torch.arange(width)[None] * right
    return plane.expand(2, 3, height, width)


class TestTotalVariation:
    @pytest.mark.parametrize("function", [total_variation_squared, total_variation_absolute])
    def test_of_a_constant_is_zero(self, function):
        assert function(torch.full((2, 3, 5, 6), 0.7)) == 0

    def test_of_a_ramp_is_the_sum_of_its_slopes(self):
        picture = ramp(6, 9, down=-0.1, right=0.05)
        assert total_variation_absolute(picture).item() == pytest.approx(0.15, rel=1e-5)
        assert total_variation_squared(picture).item() == pytest.approx(0.1**2 + 0.05**2, rel=1e-5)

    def test_of_a_chessboard_is_that_of_its_steps(self):
        board = (torch.arange(8)[:, None] + torch.arange(8)[None]).remainder(2).mul(2.0).sub(1.0).expand(1, 3, 8, 8)
        assert total_variation_absolute(board) == 4.0  # each step is 2, in both directions
        assert total_variation_squared(board) == 8.0

    @pytest.mark.parametrize("function", [total_variation_squared, total_variation_absolute])
    def test_of_a_batch_is_the_mean_over_its_pictures(self, noise, function):
        pictures = noise(3, 3, 7, 5)
        torch.testing.assert_close(function(pictures), torch.stack([function(x[None]) for x in pictures]).mean())

    @pytest.mark.parametrize("function", [total_variation_squared, total_variation_absolute])
    def test_is_computed_in_float32(self, noise, function):
        pictures = noise(1, 3, 8, 8).bfloat16()
        assert function(pictures).dtype == torch.float32
        torch.testing.assert_close(function(pictures), function(pictures.float()))


class TestRgbToYuv:
    @pytest.mark.parametrize(
        ("rgb", "yuv"),
        [
            ((1, 1, 1), (1, 0, 0)),
            ((-1, -1, -1), (0, 0, 0)),
            ((0, 0, 0), (0.5, 0, 0)),
            ((1, -1, -1), (0.299, -0.14713, 0.615)),
            ((-1, 1, -1), (0.587, -0.28886, -0.51499)),
            ((-1, -1, 1), (0.114, 0.436, -0.10001)),
        ],
        ids=["white", "black", "grey", "red", "green", "blue"],
    )
    def test_gives_the_numbers_of_bt601(self, rgb, yuv):
        picture = torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1).expand(2, 3, 2, 2)
        expected = torch.tensor(yuv, dtype=torch.float32).view(1, 3, 1, 1).expand(2, 3, 2, 2)
        torch.testing.assert_close(rgb_to_yuv(picture), expected, rtol=0, atol=2e-5)

    def test_chroma_follows_the_definition_from_luma(self, noise):
        """BT.601: U = 0.436 (B - Y) / (1 - 0.114), V = 0.615 (R - Y) / (1 - 0.299)."""
        picture = noise(2, 3, 4, 4)
        y, u, v = rgb_to_yuv(picture).unbind(1)
        red, _, blue = (picture * 0.5 + 0.5).unbind(1)
        torch.testing.assert_close(u, 0.436 * (blue - y) / (1 - 0.114), rtol=0, atol=3e-5)
        torch.testing.assert_close(v, 0.615 * (red - y) / (1 - 0.299), rtol=0, atol=3e-5)

    def test_is_float32_under_autocast(self, noise):
        with torch.autocast("cpu", torch.bfloat16):
            made = rgb_to_yuv(noise(1, 3, 4, 4))
        torch.testing.assert_close(made, rgb_to_yuv(noise(1, 3, 4, 4)), rtol=0, atol=0)


KINDS = list(AUGMENTATIONS)


class TestDiffAugment:
    def test_of_nothing_is_the_identity(self, noise):
        pictures = noise(2, 3, 8, 8)
        assert diff_augment(pictures, [], seeded()) is pictures

    @pytest.mark.parametrize("kinds", [[kind] for kind in KINDS] + [KINDS])
    def test_follows_from_the_generator_alone(self, noise, kinds):
        pictures = noise(4, 3, 16, 16)
        first, second = (diff_augment(pictures, kinds, seeded(1)) for _ in range(2))
        assert torch.equal(first, second)
        assert not torch.equal(first, diff_augment(pictures, kinds, seeded(2)))

    @pytest.mark.parametrize("kind", KINDS)
    def test_keeps_shape_and_type_and_leaves_its_input_alone(self, noise, kind):
        pictures = noise(2, 3, 16, 24)
        before = pictures.clone()
        made = diff_augment(pictures, [kind], seeded(1))
        assert made.shape == pictures.shape and made.dtype == torch.float32
        assert torch.equal(pictures, before)

    @pytest.mark.parametrize("kind", KINDS)
    def test_draws_for_each_sample(self, noise, kind):
        pictures = noise(1, 3, 32, 32).expand(8, 3, 32, 32)
        made = diff_augment(pictures, [kind], seeded(1))
        assert len({sample.numpy().tobytes() for sample in made}) > 4

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_sample_is_made_from_itself_alone(self, noise, kind):
        pictures = noise(3, 3, 16, 16).requires_grad_()
        made = diff_augment(pictures, [kind], seeded(1))
        (gradient,) = torch.autograd.grad(made[1].square().sum(), pictures)
        assert gradient[1].count_nonzero() > 0
        assert gradient[0].count_nonzero() == gradient[2].count_nonzero() == 0

    @pytest.mark.parametrize("kind", KINDS)
    def test_is_differentiable(self, kind):
        pictures = torch.rand(2, 3, 9, 9, dtype=torch.float64, generator=seeded(), requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: diff_augment(x, [kind], seeded(1)), pictures)

    def test_kinds_are_applied_in_the_given_order(self, noise):
        pictures = noise(2, 3, 16, 16)
        random = seeded(1)
        by_hand = diff_augment(diff_augment(pictures, ["cutout"], random), ["colour"], random)
        assert torch.equal(diff_augment(pictures, ["cutout", "colour"], seeded(1)), by_hand)
        assert not torch.equal(diff_augment(pictures, ["colour", "cutout"], seeded(1)), by_hand)

    def test_colour_shifts_and_scales_about_the_means(self, noise):
        """Brightness, then saturation about a pixel's grey, then contrast about the picture's mean, pixel by pixel."""
        pictures, random = noise(3, 3, 5, 4), seeded(7)
        brightness, saturation, contrast = (torch.rand(3, 1, 1, 1, generator=random).flatten() for _ in range(3))
        expected = pictures.clone().double()
        for n, picture in enumerate(expected):
            picture += brightness[n] - 0.5
            for row in range(5):
                for column in range(4):
                    pixel = picture[:, row, column]
                    picture[:, row, column] = (pixel - pixel.mean()) * saturation[n] * 2 + pixel.mean()
            expected[n] = (picture - picture.mean()) * (contrast[n] + 0.5) + picture.mean()
        made = diff_augment(pictures, ["colour"], seeded(7))
        torch.testing.assert_close(made.double(), expected, rtol=1e-5, atol=1e-6)

    def test_colour_draws_within_the_papers_ranges(self):
        """On a grey picture with one brighter half, brightness and contrast can be read off the result."""
        pictures = torch.zeros(256, 3, 2, 2)
        pictures[:, :, 0] = 1.0
        made = diff_augment(pictures, ["colour"], seeded(3))
        brightness = made.mean(dim=(1, 2, 3)) - 0.5
        contrast = made[:, 0, 0, 0] - made[:, 0, 1, 0]
        assert brightness.min() >= -0.5 and brightness.max() <= 0.5 and brightness.max() - brightness.min() > 0.9
        assert contrast.min() >= 0.5 - 1e-6 and contrast.max() <= 1.5 + 1e-6 and contrast.max() - contrast.min() > 0.9

    @given(seed=st.integers(0, 10**6), height=st.integers(1, 40), width=st.integers(1, 40))
    def test_translation_is_a_shift_by_at_most_an_eighth_that_lets_in_zeros(self, seed, height, width):
        pictures = torch.rand(2, 3, height, width, generator=seeded()) + 1.0  # no zeros of its own
        made = diff_augment(pictures, ["translation"], seeded(seed))
        for before, after in zip(pictures, made, strict=True):
            assert any(
                torch.equal(after, shifted(before, down, right))
                for down in range(-(height // 8), height // 8 + 1)
                for right in range(-(width // 8), width // 8 + 1)
            )

    def test_translation_reaches_an_eighth_in_every_direction(self):
        pictures = torch.zeros(400, 1, 16, 16)
        pictures[:, :, 8, 8] = 1.0
        found = diff_augment(pictures, ["translation"], seeded(1)).nonzero()[:, 2:] - 8
        assert len(found) == 400  # the marked pixel is moved, never lost or doubled
        offsets = {tuple(offset) for offset in found.tolist()}
        assert offsets == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}

    @given(seed=st.integers(0, 10**6), height=st.integers(1, 40), width=st.integers(1, 40))
    def test_cutout_zeroes_one_rectangle_of_at_most_a_quarter_and_keeps_the_rest(self, seed, height, width):
        pictures = torch.rand(2, 3, height, width, generator=seeded()) + 1.0
        made = diff_augment(pictures, ["cutout"], seeded(seed))
        for before, after in zip(pictures, made, strict=True):
            cut = (after == 0).all(dim=0)
            assert torch.equal(after, before * ~cut)
            assert cut.sum() <= height * width / 4
            rows, columns = cut.any(dim=1), cut.any(dim=0)
            assert torch.equal(cut, rows[:, None] & columns[None])
            for line in (rows.nonzero(), columns.nonzero()):
                assert len(line) == 0 or line[-1] - line[0] + 1 == len(line)  # without a gap

    def test_cutout_of_a_whole_rectangle_is_a_quarter(self):
        made = diff_augment(torch.ones(64, 1, 16, 24), ["cutout"], seeded(1))
        shares = (made == 0).float().mean(dim=(1, 2, 3))
        assert shares.max() == 0.25 and shares.min() > 0 and not math.isclose(shares.mean(), 0.25)


def shifted(picture: Tensor, down: int, right: int) -> Tensor:
    """Pixel by pixel: what was at (row, column) is at (row + down, column + right)."""
    moved = torch.zeros_like(picture)
    height, width = picture.shape[1:]
    for row in range(max(0, down), min(height, height + down)):
        left, end = max(0, right), min(width, width + right)
        moved[:, row, left:end] = picture[:, row - down, left - right : end - right]
    return moved
