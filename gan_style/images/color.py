"""Whose colours a result has: the style's, or the photo's.

luminance   the result's luma under the photo's chroma (Gatys et al. 2016, "Preserving Color in Neural Artistic Style
            Transfer", section 2.2)
lab         the result's, moved so that mean and standard deviation of L*, a* and b* are the photo's (Reinhard et al.
            2001, "Color Transfer between Images", in CIE Lab)
histogram   one picture's mean and covariance brought to another's (Gatys et al., section 2.1)
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gan_style.functional import RunningMoments, lab_to_rgb, rgb_to_lab, rgb_to_yuv

STYLE, LUMINANCE, LAB = "style", "luminance", "lab"
COLOURS = (STYLE, LUMINANCE, LAB)
_SMALLEST_DEVIATION = 0.5  # of L*, a*, b*: what varies less is rounding, which nothing may amplify
_SMALLEST_VARIANCE = 1e-4  # of values in [-1, 1]: a direction with less is rounding, which nothing may amplify


def with_luma_of(result: Tensor, photo: Tensor) -> Tensor:
    """Return the photo with the result's luma; both (N, 3, H, W) in [-1, 1].

    A new luma under unchanged U and V moves R, G and B alike; so where the two are equal nothing changes.
    """
    difference = (rgb_to_yuv(result)[:, :1] - rgb_to_yuv(photo)[:, :1]) * 2.0
    return (photo + difference).clamp(-1.0, 1.0)


@dataclass
class LabMatch:
    """Moves a result's colours to its photo's, in CIE Lab, once all parts of both have been measured (``add``)."""

    _result: RunningMoments = field(default_factory=RunningMoments)
    _photo: RunningMoments = field(default_factory=RunningMoments)

    def add(self, result: Tensor, photo: Tensor, cover: Tensor | None) -> None:
        """Measure (1, 3, h, w) in [-1, 1]; cover: (1, 1, h, w) in [0, 1], where the result counts, None everywhere."""
        self._result.add(rgb_to_lab(result), cover)
        self._photo.add(rgb_to_lab(photo), cover)

    def __call__(self, result: Tensor, photo: Tensor, cover: Tensor | None) -> Tensor:
        """Colour the result; at a mask's soft edge the photo's part keeps its colours, as if the two were blended."""
        deviation, target = (moments.variance.sqrt() for moments in (self._result, self._photo))
        scale = torch.where(deviation > _SMALLEST_DEVIATION, target / deviation.clamp_min(_SMALLEST_DEVIATION), 0.0)
        shift = self._photo.mean - self._result.mean * scale
        scale, shift = (values.to(result)[:, None, None] for values in (scale, shift))
        if cover is None:
            return lab_to_rgb(rgb_to_lab(result) * scale + shift)
        photo_part = rgb_to_lab(photo) * (1.0 - cover)
        return lab_to_rgb((rgb_to_lab(result) - photo_part) * scale + shift * cover + photo_part)


def match_colours(picture: Tensor, target: Tensor) -> Tensor:
    """Return the picture with the mean and covariance of the target's channels; both (1, C, H, W) in [-1, 1].

    x A + b with A = cov(target)^(1/2) cov(picture)^(-1/2), the symmetric roots of Hertzmann et al. 2001 (Image
    Analogies), which Gatys et al. prefer to Cholesky's; for one channel their luma matching, (x - mean) sd / sd + mean.
    Directions in which the picture does not vary (all but one, of a grey one) stay empty. Clamped to [-1, 1].
    """
    (mean, covariance), (target_mean, target_covariance) = _moments(picture), _moments(target)
    transform = _power(target_covariance, 0.5) @ _power(covariance, -0.5)
    pixels = picture[0].flatten(1).double() - mean
    matched = (transform @ pixels + target_mean).to(picture.dtype)
    return matched.reshape(picture.shape).clamp(-1.0, 1.0)


def _moments(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean (C, 1) and covariance (C, C) of a picture's channels over its pixels, float64."""
    pixels = picture[0].flatten(1).double()
    mean = pixels.mean(dim=1, keepdim=True)
    return mean, (pixels - mean) @ (pixels - mean).T / pixels.shape[1]


def _power(covariance: Tensor, exponent: float) -> Tensor:
    """Return a symmetric matrix to a power, on the directions in which it is not next to 0."""
    values, vectors = torch.linalg.eigh(covariance)
    powers = torch.where(values > _SMALLEST_VARIANCE, values.clamp_min(_SMALLEST_VARIANCE) ** exponent, 0.0)
    return vectors * powers @ vectors.T
