"""Small random movements of pictures, as between two frames of a video."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_style.functional import Generators


@dataclass(frozen=True)
class Warp:
    """Say where each pixel of a moved picture comes from.

    grid: (N, H, W, 2), float32, x and y as grid_sample reads them (align_corners=False: -1 and 1 are the outer edges);
    inside: (N, 1, H, W), 1 where that place lies in the picture, else 0.
    """

    grid: Tensor
    inside: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Pictures (N, C, H, W), moved; float32. What comes in over the edge is a reflection.

        Bicubic: bilinear sampling would blur, and teach a generator that is compared with it to blur, too.
        """
        with torch.autocast(images.device.type, enabled=False):
            return F.grid_sample(
                images.float(), self.grid, mode="bicubic", padding_mode="reflection", align_corners=False
            )


def small_warp(images: Tensor, random: Generators, *, shift: float, turn: float, scale: float, bend: float) -> Warp:
    """Return a warp for each picture (N, C, H, W), drawn from its own generator: a similarity, and a smooth bend.

    Uniform draws: shift, up to so large a share of the shorter side, along each axis; turn, up to so many degrees;
    scale, up to so large a share more or less; bend, on a mesh of 4 x 4, up to so large a share of the shorter side.
    """
    with torch.autocast("cpu", enabled=False):  # in bfloat16 positions would be off by most of a pixel
        height, width = images.shape[-2:]
        short = min(height, width)
        draws = torch.stack([torch.rand(4, generator=generator) for generator in random]) * 2.0 - 1.0
        mesh = torch.stack([torch.rand(2, 4, 4, generator=generator) for generator in random]) * 2.0 - 1.0
        angle, factor = draws[:, 0] * math.radians(turn), 1.0 + draws[:, 1] * scale
        turned = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(-1, 2, 2)
        y, x = torch.meshgrid(_centred(height), _centred(width), indexing="ij")
        matrix = (turned * factor[:, None, None])[:, None, None]
        places = matrix[..., 0] * x[..., None] + matrix[..., 1] * y[..., None]  # in bits the same, whatever the batch
        bent = F.interpolate(mesh, (height, width), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        places = places + (draws[:, None, None, 2:] * shift + bent * bend) * short
        grid = (places * (2.0 / torch.tensor([width, height]))).to(images.device, non_blocking=True)
        return Warp(grid, (grid.abs() <= 1.0).all(dim=-1)[:, None].float())


def _centred(length: int) -> Tensor:
    """Return the pixels' centres, measured from the picture's."""
    return torch.arange(length) - (length - 1) / 2
