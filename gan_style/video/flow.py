"""Optical flow between frames, where it can be trusted, and how far two frames differ along it.

Frames here are numpy arrays of shape (H, W, 3), RGB, uint8: what decoders, encoders and OpenCV have in common.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
Field = NDArray[np.float32]
_SMALLEST = 64  # pixels a side, below which the estimator's pyramid has no levels


def flow(current: Frame, previous: Frame) -> Field:
    """(H, W, 2), x and y in pixels: what is at p in ``current`` was at p + flow(p) in ``previous``.

    Kroeger et al. 2016 (Fast Optical Flow using Dense Inverse Search), as OpenCV has it.
    """
    height, width = current.shape[:2]
    factor = max(1.0, _SMALLEST / min(height, width))
    size = (round(width * factor), round(height * factor))
    one, other = (cv2.resize(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY), size) for x in (current, previous))
    # an estimator each time: one that is kept starts from the last flow, and a resumed run would differ
    estimator: Any = cv2.DISOpticalFlow.create(cv2.DISOpticalFlow_PRESET_MEDIUM)
    found = estimator.calc(one, other, None)
    if factor > 1:
        found = cv2.resize(found, (width, height)) * np.array([width / size[0], height / size[1]], dtype=np.float32)
    return np.asarray(found, dtype=np.float32)


def moved(previous: NDArray[Any], field: Field) -> Field:
    """``previous`` as it looks in the current frame: previous(p + field(p)), bilinear; float32 in [0, 255]."""
    x, y = _places(field)
    return np.asarray(cv2.remap(previous.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def trusted(backward: Field, forward: Field) -> NDArray[np.bool_]:
    """(H, W): where a flow from current to previous is followed back by its opposite, and is not at an edge of motion.

    Ruder et al. 2016 (Artistic Style Transfer for Videos), section on the temporal consistency loss, with the
    thresholds of Sundaram et al. 2010. What was outside of the previous frame is not trusted.
    """
    x, y = _places(backward)
    height, width = x.shape
    back = moved(forward, backward)
    apart, lengths = _square(backward + back), _square(backward) + _square(back)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return np.asarray(inside & (apart <= 0.01 * lengths + 0.5) & (_steepness(backward) <= _allowed_steepness(backward)))


def _allowed_steepness(field: Field) -> Field:
    return 0.01 * _square(field) + 0.002


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


def warp_error(current: Frame, previous: Frame, field: Field, mask: NDArray[np.bool_]) -> float | None:
    """Mean squared difference of a frame and the one before, moved along the flow, over trusted pixels.

    Values in [0, 1], mean over colours: Lai et al. 2018 (Learning Blind Video Temporal Consistency), their warping
    error of a pair. None where no pixel is trusted.
    """
    if not mask.any():
        return None
    difference = (current.astype(np.float32) - moved(previous, field))[mask] / 255.0
    return float(np.square(difference).mean(dtype=np.float64))
