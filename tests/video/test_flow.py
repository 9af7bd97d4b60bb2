"""Optical flow, where it is trusted, the warp error, scene cuts, and blending."""

import numpy as np
import pytest
from clips import smooth_picture

from gan_style.video.temporal import (
    TemporalFilter,
    WarpErrors,
    consistency_mask,
    flow,
    histogram_distance,
    warp,
    warp_error,
)

SHIFTS = [(0, 0), (3, 0), (0, -4), (5, 2), (-6, 3)]


def pan(shift: tuple[int, int], side: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(previous, current): what is at p in the current frame was at p + shift (x, y) in the previous one."""
    picture, (x, y) = smooth_picture(side + 40, side + 40, seed), shift
    return picture[20 : 20 + side, 20 : 20 + side], picture[20 + y :, 20 + x :][:side, :side]


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_known_shift_is_found(shift):
    previous, current = pan(shift)
    actual = flow(current, previous)
    inner = actual[15:-15, 15:-15]
    assert np.abs(inner - np.float32(shift)).mean() < 0.15
    assert consistency_mask(actual, flow(previous, current))[15:-15, 15:-15].mean() > 0.95


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (20, 90)])
def test_the_smallest_frames_have_a_flow(size):
    frame = smooth_picture(*size, seed=1)
    actual = flow(frame, frame)
    assert actual.shape == (*size, 2) and np.abs(actual).max() < 0.5
    assert consistency_mask(actual, actual).shape == size


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_picture_moved_by_whole_pixels_has_no_warp_error_where_it_was_seen(shift):
    previous, current = pan(shift)
    field = np.broadcast_to(np.float32(shift), (120, 120, 2)).copy()
    mask = consistency_mask(field, -field)
    overlap = (120 - abs(shift[0])) * (120 - abs(shift[1]))
    assert mask.sum() == overlap  # what was outside of the previous frame is not trusted
    assert warp_error(current, previous, field, mask) == 0
    np.testing.assert_array_equal(warp(previous, field)[mask], current[mask])


def test_the_warp_error_is_the_mean_square_of_what_differs():
    black, grey = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 51, np.uint8)
    field, everywhere = np.zeros((8, 8, 2), np.float32), np.ones((8, 8), bool)
    assert warp_error(grey, black, field, everywhere) == pytest.approx(0.2**2)
    assert warp_error(grey, black, field, ~everywhere) is None


def test_what_is_covered_and_where_motion_has_an_edge_is_not_trusted():
    backward = np.zeros((40, 40, 2), np.float32)
    backward[:, 20:, 0] = 4.0
    forward = np.where(np.arange(40)[:, None] < 24, 0.0, -4.0).astype(np.float32)[None] * [1, 0]
    agreeing = consistency_mask(backward, forward)
    assert agreeing[:, :18].all() and agreeing[:, 22:34].all() and not agreeing[:, 20].any()
    assert not consistency_mask(backward, np.zeros_like(backward))[:, 22:].any()  # the way back leads elsewhere


class TestScenes:
    def test_another_picture_is_a_change_and_a_movement_is_none(self):
        for seed in range(5):
            previous, current = pan((6, 3), seed=seed)
            other, _ = pan((0, 0), seed=seed + 1)
            assert histogram_distance(current, previous) < 0.25 < 0.4 < histogram_distance(other, previous)

    def test_ranges_from_none_to_all(self):
        black, white = np.zeros((9, 9, 3), np.uint8), np.full((9, 9, 3), 255, np.uint8)
        assert histogram_distance(black, black) == 0 and histogram_distance(black, white) == 1


class TestFollower:
    def test_sees_cuts_and_measures_nothing_across_them(self):
        (first, two), (three, four) = pan((2, 0), seed=0), pan((2, 0), seed=1)
        temporal_filter = TemporalFilter(0.0, 0.4, True)
        for number, frame in enumerate((first, two, three, four)):
            assert np.array_equal(temporal_filter(number, frame, frame), frame)
        assert temporal_filter.tally.cuts == [2] and temporal_filter.tally.pairs == 2
        assert temporal_filter.tally.source == temporal_filter.tally.result < 1e-3

    def test_blends_what_flickers_along_the_flow_and_not_across_a_cut(self):
        (first, two), (three, _) = pan((2, 0), seed=0), pan((2, 0), seed=1)
        bright, dark = np.full_like(first, 200), np.full_like(first, 100)
        temporal_filter = TemporalFilter(0.5, 0.4, True)
        assert (temporal_filter(0, first, bright) == 200).all()
        blended = temporal_filter(1, two, dark)[20:-20, 20:-20]
        assert np.median(blended) == 150 and blended.min() >= 100
        assert (temporal_filter(2, three, dark) == 100).all()
        assert temporal_filter.tally.result == pytest.approx((50 / 255) ** 2, rel=0.1)

    def test_a_small_change_arrives_however_much_is_blended(self):
        """100 to 104 at 5 %: 100.2, which rounding to 8 bits each time would never leave."""
        still = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
        temporal_filter = TemporalFilter(0.9, 1.0, False)
        temporal_filter(0, still, np.full_like(still, 100))
        for number in range(1, 80):
            result = temporal_filter(number, still, np.full_like(still, 104))
        assert np.median(result) == 104

    def test_sums_add_up_over_parts(self):
        total = WarpErrors(1, 0.1, 0.4, [3]) + WarpErrors(3, 0.3, 1.2, [9])
        assert (total.pairs, total.cuts) == (4, [3, 9])
        assert total.means() == pytest.approx(((0.4 / 4) ** 0.5, (1.6 / 4) ** 0.5))
        assert WarpErrors().means() is None
