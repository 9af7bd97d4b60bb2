"""From one frame to the next: optical flow and where it can be trusted, scene cuts, blending, and flicker.

Frames here are numpy arrays of shape (H, W, 3), RGB, uint8: what decoders, encoders and OpenCV have in common.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
Field = NDArray[np.float32]
_MIN_SIDE = 64  # pixels a side, below which the estimator's pyramid has no levels


def flow(current: Frame, previous: Frame) -> Field:
    """Estimate (H, W, 2), x and y in pixels: what is at p in ``current`` was at p + flow(p) in ``previous``.

    Kroeger et al. 2016 (Fast Optical Flow using Dense Inverse Search), as OpenCV has it.
    """
    height, width = current.shape[:2]
    factor = max(1.0, _MIN_SIDE / min(height, width))
    size = (round(width * factor), round(height * factor))
    current_grey, previous_grey = (cv2.resize(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY), size) for x in (current, previous))
    # an estimator each time: one that is kept starts from the last flow, and a resumed run would differ
    estimator: Any = cv2.DISOpticalFlow.create(cv2.DISOpticalFlow_PRESET_MEDIUM)
    field: Any = estimator.calc(current_grey, previous_grey, None)
    if factor > 1:
        field = cv2.resize(field, (width, height)) * np.array([width / size[0], height / size[1]], dtype=np.float32)
    return np.asarray(field, dtype=np.float32)


def warp(previous: NDArray[Any], field: Field) -> Field:
    """Move ``previous`` to where it is in the current frame: previous(p + field(p)), bilinear; float32 in [0, 255]."""
    x, y = _places(field)
    return np.asarray(cv2.remap(previous.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def consistency_mask(backward: Field, forward: Field) -> NDArray[np.bool_]:
    """Find where, (H, W), a flow from current to previous is followed back by its opposite, not at an edge of motion.

    Ruder et al. 2016 (Artistic Style Transfer for Videos), section on the temporal consistency loss, with the
    thresholds of Sundaram et al. 2010. What was outside of the previous frame is not trusted.
    """
    x, y = _places(backward)
    height, width = x.shape
    back = warp(forward, backward)
    apart, lengths = _square(backward + back), _square(backward) + _square(back)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    is_edge = _steepness(backward) > 0.01 * _square(backward) + 0.002
    return np.asarray(inside & (apart <= 0.01 * lengths + 0.5) & ~is_edge)


def _steepness(field: Field) -> Field:
    steepness = np.zeros(field.shape[:2], dtype=np.float32)
    for axis in (0, 1):
        if field.shape[axis] > 1:
            steepness += _square(np.gradient(field, axis=axis))
    return steepness


def _square(field: NDArray[Any]) -> Field:
    return np.asarray(np.square(field).sum(axis=-1), dtype=np.float32)


def _places(field: Field) -> tuple[Field, Field]:
    height, width = field.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return x + field[..., 0], y + field[..., 1]


def warp_error(current: NDArray[Any], previous: NDArray[Any], field: Field, mask: NDArray[np.bool_]) -> float | None:
    """Average the squared difference of a frame and the one before, moved along the flow, over trusted pixels.

    Values in [0, 1], mean over colours: Lai et al. 2018 (Learning Blind Video Temporal Consistency), their warping
    error of a pair. None where no pixel is trusted.
    """
    if not mask.any():
        return None
    difference = (current.astype(np.float32) - warp(previous, field))[mask] / 255.0
    return float(np.square(difference).mean(dtype=np.float64))


_BINS = 8  # a colour
_LOOKED_AT = (64, 64)


def histogram_distance(current: Frame, previous: Frame) -> float:
    """Measure how much the colours of two frames differ, from 0 (the same) to 1 (no colour in common).

    Half the summed difference of their histograms of 8 x 8 x 8 colours: movement leaves them nearly as they are.
    """
    current_counts, previous_counts = (_histogram(frame) for frame in (current, previous))
    return 0.5 * float(np.abs(current_counts - previous_counts).sum())


def _histogram(frame: Frame) -> np.ndarray:
    small = cv2.resize(frame, _LOOKED_AT, interpolation=cv2.INTER_AREA)
    counts = cv2.calcHist([small], [0, 1, 2], None, [_BINS] * 3, [0, 256] * 3)
    return np.asarray(counts / counts.sum())


@dataclass
class WarpErrors:
    """Sums that add up over parts of a video: pairs of frames measured, their warp errors, and cuts (frame numbers)."""

    pairs: int = 0
    source: float = 0.0
    result: float = 0.0
    cuts: list[int] = field(default_factory=list)

    def __add__(self, other: "WarpErrors") -> "WarpErrors":
        sums = (self.pairs + other.pairs, self.source + other.source, self.result + other.result)
        return WarpErrors(*sums, [*self.cuts, *other.cuts])

    def means(self) -> tuple[float, float] | None:
        """Return the warp errors of source and result, root mean square in [0, 1]; None where no pair counts."""
        return None if not self.pairs else ((self.source / self.pairs) ** 0.5, (self.result / self.pairs) ** 0.5)

    def as_plain(self) -> dict[str, object]:
        return asdict(self)


@dataclass
class TemporalFilter:
    """Takes frames and their results one after the other.

    blend: share of the last result, moved along the flow, in the next one where the flow can be trusted, 0 to below 1;
    cut: change of colours from which on a new scene begins (change); measure: whether warp errors are wanted. The last
    result is kept in steps of 1/256, not rounded to 8 bits: else small changes would never arrive.
    """

    blend: float
    cut: float
    measure: bool
    last_source: Frame | None = None
    last_result: Field | None = None
    tally: WarpErrors = field(default_factory=WarpErrors)

    def __call__(self, number: int, source: Frame, result: Frame) -> Frame:
        """Return the result to keep, blended where that is asked for. number: the frame's, for the list of cuts."""
        before, last = self.last_source, self.last_result
        state = result.astype(np.float32)
        if before is not None and last is not None:
            if histogram_distance(source, before) >= self.cut:
                self.tally.cuts.append(number)
            elif self.blend or self.measure:
                state = self._along(source, before, state, last)
        self.last_source, self.last_result = source, state
        return np.asarray(state.round().clip(0, 255), dtype=np.uint8)

    def _along(self, source: Frame, before: Frame, result: Field, last: Field) -> Field:
        backward = flow(source, before)
        mask = consistency_mask(backward, flow(before, source))
        if self.blend:
            share = np.float32(self.blend) * mask[..., None]
            mixed = result * (1 - share) + warp(last, backward) * share
            result = np.asarray((mixed * 256).round().clip(0, 255 * 256) / 256, dtype=np.float32)
        if self.measure:
            of_source = warp_error(source, before, backward, mask)
            of_result = warp_error(result, last, backward, mask)
            if of_source is not None and of_result is not None:
                self.tally += WarpErrors(1, of_source, of_result)
        return result
