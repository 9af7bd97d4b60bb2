"""Pure functions against closed forms and plain loops in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gan_style.functional import (
    AUGMENTATIONS,
    _Gram,
    centred_gram_matrix,
    channel_moments,
    diff_augment,
    gram_matrix,
    grey,
    rgb_to_yuv,
    smooth_edges,
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


def each(count: int, seed: int = 0) -> list[torch.Generator]:
    """A generator for each of so many samples."""
    return [seeded(1000 * seed + number) for number in range(count)]


class TestGramMatrix:
    def test_equals_a_loop_in_float64(self, noise):
        features = noise(3, 4, 5, 7)
        torch.testing.assert_close(gram_matrix(features).double(), gram_in_loops(features), rtol=1e-6, atol=1e-7)

    def test_has_the_gradient_that_differences_give(self, noise):
        """And that gradient has one of its own, as R1 or a Hessian would ask for."""
        rows = noise(2, 7, 3).double().requires_grad_()
        assert torch.autograd.gradcheck(_Gram.apply, (rows,))
        assert torch.autograd.gradgradcheck(_Gram.apply, (rows,))

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_has_autograd_s_own_gradient_in_every_layout(self, noise, layout):
        features = noise(2, 5, 6, 4).to(memory_format=layout).requires_grad_()
        weights = noise(2, 5, 5, seed=1)  # not symmetric
        flat = features.flatten(2)
        (expected,) = torch.autograd.grad((torch.bmm(flat, flat.mT) / 24 * weights).sum(), features)
        (result,) = torch.autograd.grad((gram_matrix(features) * weights).sum(), features)
        torch.testing.assert_close(result, expected)
        assert result.is_contiguous(memory_format=layout) or layout == torch.contiguous_format


class TestCentredGramMatrix:
    def test_is_torchs_covariance_over_positions(self, noise):
        features = noise(2, 5, 6, 4)
        expected = torch.stack([torch.cov(sample.double().flatten(1), correction=0) for sample in features])
        torch.testing.assert_close(centred_gram_matrix(features).double(), expected, rtol=1e-5, atol=1e-7)

    def test_of_plain_tones_is_zero(self):
        assert not centred_gram_matrix(torch.tensor([1.0, -3.0]).view(1, 2, 1, 1).expand(1, 2, 5, 5)).any()


class TestChannelMoments:
    EPSILON = 1e-5  # of AdaIN, under the root

    def test_of_two_tones_follow_the_closed_form(self):
        """A quarter of the positions at 3, the rest at -1: mean 0, variance (9 + 3) / 4."""
        features = torch.full((1, 2, 4, 6), -1.0)
        features[:, :, 0] = 3.0
        features[:, 1] *= 10
        result = channel_moments(features)
        assert result.shape == (1, 2, 2)
        assert result[0, :, 0].tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
        assert result[0, :, 1].tolist() == pytest.approx([3**0.5, 300**0.5], rel=1e-5)

    def test_of_a_plain_tone_have_a_gradient(self):
        """The root of a variance of 0 has none; the epsilon under it keeps a silent channel from spoiling training."""
        features = torch.full((1, 2, 4, 4), 0.5, requires_grad=True)
        result = channel_moments(features)
        assert result[0, :, 1].tolist() == pytest.approx([self.EPSILON**0.5] * 2, rel=1e-5)
        (gradient,) = torch.autograd.grad(result.sum(), features)
        assert gradient.isfinite().all()

    def test_of_a_single_position_are_finite(self, noise):
        features = noise(2, 3, 1, 1)
        result = channel_moments(features)
        assert torch.equal(result[..., 0], features[..., 0, 0]) and result.isfinite().all()


def moments_by_numpy(features: Tensor) -> Tensor:
    values = features.double().numpy()
    moments = values.mean((2, 3)), np.sqrt(values.var((2, 3)) + TestChannelMoments.EPSILON)
    return torch.from_numpy(np.stack(moments, axis=2))


def centred_gram_in_loops(features: Tensor) -> Tensor:
    return gram_in_loops(features.double() - features.double().mean(dim=(2, 3), keepdim=True))


STATISTICS = {gram_matrix: gram_in_loops, centred_gram_matrix: centred_gram_in_loops, channel_moments: moments_by_numpy}


@pytest.mark.parametrize("statistic", STATISTICS)
class TestStatistics:
    """Of features of any scale in any float type: finite, and those of float64 within 1e-5.

    Covariances, which come out near zero where others do not, are within 1e-5 of the largest among them.
    """

    @given(
        exponent=st.floats(-3, 3),
        dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
        autocast=st.booleans(),
        seed=st.integers(0, 5),
    )
    def test_do_not_overflow_and_are_exact_for_the_given_features(self, statistic, exponent, dtype, autocast, seed):
        features = (torch.rand(2, 3, 16, 16, generator=seeded(seed)) * 10**exponent).to(dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            result = statistic(features)
        assert result.dtype == torch.float32 and result.isfinite().all()
        expected = STATISTICS[statistic](features)
        of_the_largest = 1e-5 * expected.abs().max().item() if statistic is centred_gram_matrix else 0
        torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=of_the_largest)

    def test_are_per_sample(self, statistic, noise):
        features = noise(3, 4, 6, 6).requires_grad_()
        result = statistic(features)
        torch.testing.assert_close(result, torch.cat([statistic(sample[None]) for sample in features]))
        (gradient,) = torch.autograd.grad(result[1].square().sum(), features)
        assert gradient[1].count_nonzero() > 0
        assert gradient[0].count_nonzero() == gradient[2].count_nonzero() == 0

    def test_leave_their_features_alone(self, statistic, noise):
        features = noise(2, 4, 6, 6)
        statistic(features)
        assert torch.equal(features, noise(2, 4, 6, 6))

    def test_do_not_depend_on_where_things_are(self, statistic, noise):
        """Statistics over positions: the same of positions in any order, and of each position many times."""
        features = noise(2, 4, 6, 6)
        shuffled = features.flatten(2)[:, :, torch.randperm(36, generator=seeded())].unflatten(2, (9, 4))
        larger = features.repeat_interleave(2, dim=2).repeat_interleave(3, dim=3)
        for other in (shuffled, larger):
            torch.testing.assert_close(statistic(other), statistic(features))


def ramp(height: int, width: int, *, down: float, right: float) -> Tensor:
    plane = torch.arange(height)[:, None] * down + torch.arange(width)[None] * right
    return plane.expand(2, 3, height, width)


class TestTotalVariation:
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

    def test_is_float32_under_autocast(self, noise):
        with torch.autocast("cpu", torch.bfloat16):
            result = rgb_to_yuv(noise(1, 3, 4, 4))
        torch.testing.assert_close(result, rgb_to_yuv(noise(1, 3, 4, 4)), rtol=0, atol=0)


class TestGrey:
    @pytest.mark.parametrize(
        ("rgb", "luma"),
        [((1, -1, -1), 0.299), ((-1, 1, -1), 0.587), ((-1, -1, 1), 0.114), ((1, 1, -1), 0.886), ((-1, -1, -1), 0.0)],
        ids=["red", "green", "blue", "yellow", "black"],
    )
    def test_is_the_luma_of_bt601_in_all_three_channels(self, rgb, luma):
        picture = torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1).expand(2, 3, 2, 4)
        result = grey(picture)
        assert result.shape == picture.shape and result.dtype == torch.float32
        torch.testing.assert_close(result, torch.full((2, 3, 2, 4), 2 * luma - 1), rtol=0, atol=1e-6)


KINDS = list(AUGMENTATIONS)


class TestSmoothEdges:
    def test_leaves_a_picture_without_edges_alone(self, noise):
        soft = noise(2, 3, 1, 1).expand(2, 3, 9, 12) + torch.linspace(0, 0.3, 12)
        assert torch.equal(smooth_edges(soft), soft)

    def test_of_a_step_is_the_gaussian_near_it_and_the_step_beyond(self):
        """Black and white: the kernel's weights right of each pixel add up, within two pixels of where the edge is."""
        step = torch.full((1, 3, 12, 20), -1.0)
        step[..., 10:] = 1.0
        taps = [math.exp(-0.5 * (x / 1.1) ** 2) for x in range(-2, 3)]
        expected = []
        for column in range(20):
            white = sum(tap for tap, x in zip(taps, range(-2, 3), strict=True) if column + x >= 10) / sum(taps)
            expected.append(2 * white - 1)
        torch.testing.assert_close(smooth_edges(step), torch.tensor(expected).expand(1, 3, 12, 20))

    def test_blurs_within_reach_of_an_edge_alone(self, noise):
        """A white square on noise too weak to be edges: what lies four pixels off stays what it was."""
        picture = 0.05 * noise(1, 3, 24, 24) - 0.5
        picture[..., 8:12, 8:12] = 1.0
        change = (smooth_edges(picture) != picture).any(dim=1)[0]
        rows, columns = change.nonzero().unbind(1)
        assert rows.min() >= 5 and rows.max() <= 14 and columns.min() >= 5 and columns.max() <= 14
        assert change[6:14, 6:14].all()

    def test_under_autocast_is_that_of_float32(self, noise):
        picture = noise(1, 3, 16, 16)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(smooth_edges(picture), smooth_edges(picture.float()))
        torch.testing.assert_close(smooth_edges(picture), smooth_edges(picture.flip(3)).flip(3))


class TestDiffAugment:
    def test_of_nothing_is_the_identity(self, noise):
        pictures = noise(2, 3, 8, 8)
        assert diff_augment(pictures, [], each(2)) is pictures

    @pytest.mark.parametrize("kinds", [[kind] for kind in KINDS] + [KINDS])
    def test_follows_from_the_generators_alone(self, noise, kinds):
        pictures = noise(4, 3, 16, 16)
        first, second = (diff_augment(pictures, kinds, each(4, 1)) for _ in range(2))
        assert torch.equal(first, second)
        assert not torch.equal(first, diff_augment(pictures, kinds, each(4, 2)))

    @pytest.mark.parametrize("kind", KINDS)
    def test_keeps_shape_and_type_and_leaves_its_input_alone(self, noise, kind):
        pictures = noise(2, 3, 16, 24)
        before = pictures.clone()
        result = diff_augment(pictures, [kind], each(2, 1))
        assert result.shape == pictures.shape and result.dtype == torch.float32
        assert torch.equal(pictures, before)

    @pytest.mark.parametrize("kinds", [[kind] for kind in KINDS] + [KINDS])
    def test_of_a_sample_is_the_same_wherever_it_stands_in_whatever_batch(self, noise, kinds):
        """So that neither the batch's size nor the number of ranks is felt."""
        pictures = noise(6, 3, 16, 24)
        full_batch = diff_augment(pictures, kinds, each(6, 1))
        for places in ([3], [5, 0], [2, 3, 4], [1, 1]):
            random = [each(6, 1)[place] for place in places]
            assert torch.equal(diff_augment(pictures[places], kinds, random), full_batch[places])

    @pytest.mark.parametrize("kind", KINDS)
    def test_is_differentiable(self, kind):
        pictures = torch.rand(2, 3, 9, 9, dtype=torch.float64, generator=seeded(), requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: diff_augment(x, [kind], each(2, 1)), pictures)

    def test_kinds_are_applied_in_the_given_order(self, noise):
        pictures = noise(2, 3, 16, 16)
        random = each(2, 1)
        by_hand = diff_augment(diff_augment(pictures, ["cutout"], random), ["colour"], random)
        assert torch.equal(diff_augment(pictures, ["cutout", "colour"], each(2, 1)), by_hand)
        assert not torch.equal(diff_augment(pictures, ["colour", "cutout"], each(2, 1)), by_hand)

    def test_colour_shifts_and_scales_about_the_means(self, noise):
        """Brightness, then saturation about a pixel's grey, then contrast about the picture's mean, pixel by pixel."""
        pictures, random = noise(3, 3, 5, 4), each(3, 7)
        brightness, saturation, contrast = ([torch.rand(1, generator=item).item() for item in random] for _ in range(3))
        expected = pictures.clone().double()
        for n, picture in enumerate(expected):
            picture += brightness[n] - 0.5
            for row in range(5):
                for column in range(4):
                    pixel = picture[:, row, column]
                    picture[:, row, column] = (pixel - pixel.mean()) * saturation[n] * 2 + pixel.mean()
            expected[n] = (picture - picture.mean()) * (contrast[n] + 0.5) + picture.mean()
        result = diff_augment(pictures, ["colour"], each(3, 7))
        torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-6)

    def test_colour_draws_within_the_papers_ranges(self):
        """On a grey picture with one brighter half, brightness and contrast can be read off the result."""
        pictures = torch.zeros(256, 3, 2, 2)
        pictures[:, :, 0] = 1.0
        result = diff_augment(pictures, ["colour"], each(256, 3))
        brightness = result.mean(dim=(1, 2, 3)) - 0.5
        contrast = result[:, 0, 0, 0] - result[:, 0, 1, 0]
        assert brightness.min() >= -0.5 and brightness.max() <= 0.5 and brightness.max() - brightness.min() > 0.9
        assert contrast.min() >= 0.5 - 1e-6 and contrast.max() <= 1.5 + 1e-6 and contrast.max() - contrast.min() > 0.9

    @given(seed=st.integers(0, 10**6), height=st.integers(1, 40), width=st.integers(1, 40))
    def test_translation_is_a_shift_by_at_most_an_eighth_that_lets_in_zeros(self, seed, height, width):
        pictures = torch.rand(2, 3, height, width, generator=seeded()) + 1.0  # no zeros of its own
        result = diff_augment(pictures, ["translation"], each(2, seed))
        for before, after in zip(pictures, result, strict=True):
            assert any(
                torch.equal(after, shifted(before, down, right))
                for down in range(-(height // 8), height // 8 + 1)
                for right in range(-(width // 8), width // 8 + 1)
            )

    def test_translation_reaches_an_eighth_in_every_direction(self):
        pictures = torch.zeros(400, 1, 16, 16)
        pictures[:, :, 8, 8] = 1.0
        actual = diff_augment(pictures, ["translation"], each(400, 1)).nonzero()[:, 2:] - 8
        assert len(actual) == 400  # the marked pixel is moved, never lost or doubled
        offsets = {tuple(offset) for offset in actual.tolist()}
        assert offsets == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}

    @given(seed=st.integers(0, 10**6), height=st.integers(1, 40), width=st.integers(1, 40))
    def test_cutout_zeroes_one_rectangle_of_at_most_a_quarter_and_keeps_the_rest(self, seed, height, width):
        pictures = torch.rand(2, 3, height, width, generator=seeded()) + 1.0
        result = diff_augment(pictures, ["cutout"], each(2, seed))
        for before, after in zip(pictures, result, strict=True):
            cut = (after == 0).all(dim=0)
            assert torch.equal(after, before * ~cut)
            assert cut.sum() <= height * width / 4
            rows, columns = cut.any(dim=1), cut.any(dim=0)
            assert torch.equal(cut, rows[:, None] & columns[None])
            for line in (rows.nonzero(), columns.nonzero()):
                assert len(line) == 0 or line[-1] - line[0] + 1 == len(line)  # without a gap

    def test_cutout_of_a_whole_rectangle_is_a_quarter(self):
        result = diff_augment(torch.ones(64, 1, 16, 24), ["cutout"], each(64, 1))
        shares = (result == 0).float().mean(dim=(1, 2, 3))
        assert shares.max() == 0.25 and shares.min() > 0 and not math.isclose(shares.mean(), 0.25)


def shifted(picture: Tensor, down: int, right: int) -> Tensor:
    """Pixel by pixel: what was at (row, column) is at (row + down, column + right)."""
    moved = torch.zeros_like(picture)
    height, width = picture.shape[1:]
    for row in range(max(0, down), min(height, height + down)):
        left, end = max(0, right), min(width, width + right)
        moved[:, row, left:end] = picture[:, row - down, left - right : end - right]
    return moved
