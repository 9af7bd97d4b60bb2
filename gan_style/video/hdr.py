"""HDR video, PQ and HLG, as a network and a screen without HDR can show it: tone-mapped to BT.709."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

PQ, HLG = 16, 18  # FFmpeg's numbers of transfer functions: SMPTE ST 2084, ARIB STD-B67
_WHITE, _PEAK = 203.0, 1000.0  # nits: of diffuse white (ITU-R BT.2408), and of what HDR is usually graded for
_BT2020_TO_BT709 = np.array(  # ITU-R BT.2087
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_GAMMA = 1 / 2.4  # the inverse of BT.1886, which is what a screen does
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128  # of ST 2084


def to_sdr(values: NDArray[np.uint16], transfer: int, *, wide: bool) -> NDArray[np.uint8]:
    """Return uint8 (H, W, 3) of BT.709 for R'G'B' of PQ or HLG, uint16 (H, W, 3); wide: with BT.2020's primaries.

    The brightest of a pixel's colours is brought into range as ITU-R BT.2390 has it, the others in proportion: so hues
    stay, and what is darker than about 90 nits is as bright as it was.
    """
    light: NDArray[np.floating[Any]] = (_PQ_LIGHT if transfer == PQ else _HLG_LIGHT)[values]
    if transfer == HLG:  # BT.2100: the screen's part, for one of 1,000 nits
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light = light * (_PEAK * np.maximum(luminance, 1e-6) ** 0.2)[..., None]
    brightest = np.maximum(light.max(axis=-1), 1e-4)
    light = light * (np.interp(brightest, _NITS, _TONES).astype(np.float32) / brightest)[..., None]
    if wide:
        light = light @ _BT2020_TO_BT709.T
    displayed = np.clip(light / _WHITE, 0.0, 1.0) ** _GAMMA
    return np.round(displayed * 255.0).astype(np.uint8)


def _pq_to_nits(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    root = signal ** (1 / _M2)
    return np.asarray(10_000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1))


def _nits_to_pq(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    power = (nits / 10_000) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


def _hlg_to_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply ITU-R BT.2100's inverse OETF, to [0, 1]."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def _tone_curve(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply ITU-R BT.2390, 5.4: from a peak of _PEAK to one of _WHITE, in PQ's own scale."""
    peak = _nits_to_pq(np.array(_PEAK))
    signal = np.minimum(_nits_to_pq(nits) / peak, 1.0)
    white = _nits_to_pq(np.array(_WHITE)) / peak
    knee = 1.5 * white - 0.5
    t = np.maximum(signal - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * white
    return _pq_to_nits(np.where(signal < knee, signal, spline) * peak)


_SIGNAL = np.arange(65536) / 65535
_PQ_LIGHT = _pq_to_nits(_SIGNAL).astype(np.float32)
_HLG_LIGHT = _hlg_to_light(_SIGNAL).astype(np.float32)
_NITS = _pq_to_nits(np.linspace(0, 1, 4096))
_TONES = _tone_curve(_NITS)
