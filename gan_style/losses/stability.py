"""Stability: what moves a little in the photo moves along in the result (as in a video); noise is not painted."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_style.functional import RandomGenerators
from gan_style.losses.term import AuxiliaryPass, LossInputs, RandomFor, Term


@dataclass(frozen=True)
class Warp:
    """Say where each pixel of a moved picture comes from.

    grid: (N, H, W, 2), float32, x and y as grid_sample reads them (align_corners=False: -1 and 1 are the outer edges);
    inside: (N, 1, H, W), 1 where that place lies in the picture, else 0.
    """

    grid: Tensor
    inside: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Move pictures (N, C, H, W); float32. What comes in over the edge is a reflection.

        Bicubic: bilinear sampling would blur, and teach a generator that is compared with it to blur, too.
        """
        with torch.autocast(images.device.type, enabled=False):
            return F.grid_sample(
                images.float(), self.grid, mode="bicubic", padding_mode="reflection", align_corners=False
            )


def small_warp(
    images: Tensor, random: RandomGenerators, *, shift: float, turn: float, scale: float, bend: float
) -> Warp:
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


_RANGES = {"shift": 0.5, "turn": 45.0, "scale": 0.5, "bend": 0.1, "noise": 1.0}


def stability_loss(perturbed: Tensor, moved: Tensor, inside: Tensor) -> Tensor:
    """Average the squared difference where ``inside`` (N, 1, H, W) is 1; of each sample, then over samples.

    perturbed: G(warp(x) + noise); moved: warp(G(x)); both (N, 3, H, W). Eilertsen et al. 2019 (Single-frame
    Regularization for Temporally Stable CNNs), their transform invariance; differs in that the noise comes with the
    movement.
    """
    squares = (perturbed.float() - moved.float()).square().mean(dim=1, keepdim=True) * inside
    return (squares.sum(dim=(1, 2, 3)) / inside.sum(dim=(1, 2, 3)).clamp_min(1.0)).mean()


@dataclass(kw_only=True)
class Stability(Term):
    """The result of the warped and noised photo is the warped result; costs a generator pass over as many pictures.

    shift: largest movement, as a share of the shorter side; turn: in degrees; scale: share more or less; bend: of a
    smooth bending, as a share of the shorter side; noise: standard deviation, in units of [-1, 1].
    """

    auxiliary = "perturbed"

    shift: float = 0.06
    turn: float = 4.0
    scale: float = 0.04
    bend: float = 0.01
    noise: float = 0.04

    def __post_init__(self) -> None:
        for name, largest in _RANGES.items():
            if not 0 <= getattr(self, name) <= largest or math.isnan(getattr(self, name)):
                raise ValueError(
                    f"loss.stability.{name}={getattr(self, name)}; allowed are numbers from 0 to {largest}"
                )

    @torch.no_grad()
    def auxiliary_pass(self, content: Tensor, style: Tensor, random_for: RandomFor) -> AuxiliaryPass:
        """Move each photo (N, 3, H, W) in [-1, 1] by a warp of its own, the context, and add noise."""
        random = random_for("shaken")
        warp = small_warp(content, random, shift=self.shift, turn=self.turn, scale=self.scale, bend=self.bend)
        noise = torch.stack([torch.randn(content.shape[1:], generator=generator) for generator in random])
        moved = warp(content) + self.noise * noise.to(content.device, non_blocking=True)
        return AuxiliaryPass(moved.clamp(-1.0, 1.0).contiguous(memory_format=torch.channels_last), warp)

    def __call__(self, inputs: LossInputs) -> Tensor:
        perturbed = inputs.auxiliary["perturbed"]
        warp: Warp = perturbed.context
        return stability_loss(perturbed.images, warp(inputs.fake), warp.inside)
