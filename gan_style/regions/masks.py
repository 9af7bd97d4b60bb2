"""From a segmenter's coarse shares to masks at the picture's size, whose edges are the picture's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_style.functional import guided_gain, luma, scaled_part, window_mean
from gan_style.images.decode import to_float
from gan_style.regions.names import numbers_of
from gan_style.regions.segment import Segmenter, shrink

_SIDE = 512  # pixels: the short side at which edges are looked for
_FLAT = 1e-4  # variance of luma in [0, 1] below which a window has no edge
_SOFTEST = 0.1  # less of a region than this is none of it, so that a mask's outside is exactly 0
_ROWS = 512  # of the full size that are worked at together


@dataclass(frozen=True)
class NamedMasks:
    """Make masks, {key: uint8 (H, W)}, of the regions that are called by these names: {key: names}."""

    segmenter: Segmenter
    names: Mapping[str, Sequence[str]]

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown name, and for one that is wanted twice."""
        owners: dict[int, str] = {}
        for key, numbers in self.groups.items():
            for number in numbers:
                if owners.setdefault(number, key) != key:
                    name = self.segmenter.names[number]
                    raise ValueError(f"mask: {name} is given to {owners[number]} and to {key}; it can have one style")

    @property
    def groups(self) -> dict[str, list[int]]:
        """Return the numbers of the classes that each key stands for."""
        option = {key: f"mask.{key}" if key else "mask" for key in self.names}
        return {
            key: sorted({number for name in names for number in numbers_of(name, self.segmenter.names, option[key])})
            for key, names in self.names.items()
        }

    def __call__(self, pixels: Tensor, classes: Path | None = None) -> dict[str, Tensor]:
        """Return the masks of uint8 (3, H, W). classes: its class-index mask, where the segmenter reads them."""
        return self.refined(pixels, self.shares(pixels, classes))

    def shares(self, pixels: Tensor, classes: Path | None = None) -> Tensor:
        """Compute each key's share of each place, (1, G, h, w) in [0, 1], at the segmenter's own size."""
        return self.segmenter(pixels, list(self.groups.values()), classes)

    def refined(self, pixels: Tensor, shares: Tensor) -> dict[str, Tensor]:
        """Make the masks of shares."""
        return dict(zip(self.names, refine(pixels, shares), strict=True))


@torch.inference_mode()
def refine(pixels: Tensor, shares: Tensor) -> Tensor:
    """Bring coarse shares (1, R, h, w) to the size of a picture, uint8 (3, H, W), and to its edges: uint8 (R, H, W).

    The guided filter of He et al. 2010, guided by luma: fitted to a smaller picture, with windows as wide as a cell of
    the shares, and applied to the full size (He and Sun 2015, "Fast Guided Filter"). Nowhere more than 255 in all.
    """
    height, width = pixels.shape[-2:]
    shares = shares.cpu().float()
    shares = torch.cat([shares, 1.0 - shares.sum(dim=1, keepdim=True)], dim=1)

    # In each window shares are a linear function of luma
    guide = luma(shrink(pixels, _SIDE))
    coarse = F.interpolate(shares, guide.shape[-2:], mode="bilinear", antialias=True)
    window = 2 * max(1, round(guide.shape[-1] / shares.shape[-1])) + 1
    gain = guided_gain(guide, coarse, window, _FLAT)
    offset = window_mean(window_mean(coarse, window) - gain * window_mean(guide, window), window)
    gain = window_mean(gain, window)

    # Applied to the luma of the full size, a strip at a time; what is faint is dropped
    masks = torch.empty(shares.shape[1] - 1, height, width, dtype=torch.uint8)
    for top in range(0, height, _ROWS):
        strip = (slice(top, min(height, top + _ROWS)), slice(0, width))
        slope, level = (scaled_part(x, *strip, height, width) for x in (gain, offset))
        values = slope * luma(to_float(pixels[(slice(None), *strip)][None])) + level
        values = ((values - _SOFTEST) / (1.0 - 2.0 * _SOFTEST)).clamp(0.0, 1.0)
        values = values / values.sum(dim=1, keepdim=True).clamp_min(1e-6)
        ends = values.cumsum(dim=1).mul(255.0).round().to(torch.uint8)  # rounded so that they still sum to 255
        masks[(slice(None), *strip)] = ends.diff(dim=1, prepend=torch.zeros_like(ends[:, :1]))[0, :-1]
    return masks
