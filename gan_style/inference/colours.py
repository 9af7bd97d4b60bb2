"""Whose colours a result has: the style's, or the photo's.

style       the style's
luminance   the result's luma under the photo's chroma (Gatys et al. 2016, "Preserving Color in Neural Artistic Style
            Transfer", section 2.2)
lab         the result's, moved so that mean and standard deviation of L*, a* and b* are the photo's (Reinhard et al.
            2001, "Color Transfer between Images", in CIE Lab)
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gan_style.functional import lab_to_rgb, rgb_to_lab, rgb_to_yuv
from gan_style.inference.boxes import Moments

STYLE, LUMINANCE, LAB = "style", "luminance", "lab"
COLOURS = (STYLE, LUMINANCE, LAB)
_SMALLEST_DEVIATION = 0.5  # of L*, a*, b*: what varies less is rounding, which nothing may amplify


def with_luma_of(made: Tensor, photo: Tensor) -> Tensor:
    """The photo with the result's luma; both (N, 3, H, W) in [-1, 1].

    A new luma under unchanged U and V moves R, G and B alike; so where the two are equal nothing changes.
    """
    difference = (rgb_to_yuv(made)[:, :1] - rgb_to_yuv(photo)[:, :1]) * 2.0
    return (photo + difference).clamp(-1.0, 1.0)


@dataclass
class LabMatch:
    """First told of all parts of a result and its photo (``see``), then moves the result's colours to the photo's."""

    _made: Moments = field(default_factory=Moments)
    _photo: Moments = field(default_factory=Moments)

    def see(self, made: Tensor, photo: Tensor, cover: Tensor | None) -> None:
        """(1, 3, h, w) in [-1, 1]; cover: (1, 1, h, w) in [0, 1], where the result counts, None for everywhere."""
        self._made.add(rgb_to_lab(made), cover)
        self._photo.add(rgb_to_lab(photo), cover)

    def __call__(self, made: Tensor, photo: Tensor, cover: Tensor | None) -> Tensor:
        """Where a mask's edge is soft, what is there of the photo keeps its colours, as if the two were blended."""
        own, wanted = (moments.variance.sqrt() for moments in (self._made, self._photo))
        scale = torch.where(own > _SMALLEST_DEVIATION, wanted / own.clamp_min(_SMALLEST_DEVIATION), 0.0)
        shift = self._photo.mean - self._made.mean * scale
        scale, shift = (values.to(made)[:, None, None] for values in (scale, shift))
        if cover is None:
            return lab_to_rgb(rgb_to_lab(made) * scale + shift)
        kept = rgb_to_lab(photo) * (1.0 - cover)
        return lab_to_rgb((rgb_to_lab(made) - kept) * scale + shift * cover + kept)
