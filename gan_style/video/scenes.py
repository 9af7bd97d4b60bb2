"""Where one scene ends and another begins."""

import cv2
import numpy as np

from gan_style.video.flow import Frame

_BINS = 8  # a colour
_LOOKED_AT = (64, 64)


def change(current: Frame, previous: Frame) -> float:
    """How much the colours of two frames differ, from 0 (the same) to 1 (no colour in common).

    Half the summed difference of their histograms of 8 x 8 x 8 colours: movement leaves them nearly as they are.
    """
    one, other = (_histogram(frame) for frame in (current, previous))
    return 0.5 * float(np.abs(one - other).sum())


def _histogram(frame: Frame) -> np.ndarray:
    small = cv2.resize(frame, _LOOKED_AT, interpolation=cv2.INTER_AREA)
    counts = cv2.calcHist([small], [0, 1, 2], None, [_BINS] * 3, [0, 256] * 3)
    return np.asarray(counts / counts.sum())
