"""Stability: what moves a little in the photo moves along in the result, and noise is not painted."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_style.functional import Generators
from gan_style.losses.scene import Scene
from gan_style.losses.warp import Warp, small_warp

_RANGES = {"shift": 0.5, "turn": 45.0, "scale": 0.5, "bend": 0.1, "noise": 1.0}


def stability_loss(shaken: Tensor, moved: Tensor, inside: Tensor) -> Tensor:
    """Mean squared difference where ``inside`` (N, 1, H, W) is 1; of each sample, then over samples.

    shaken: G(warp(x) + noise); moved: warp(G(x)); both (N, 3, H, W). Eilertsen et al. 2019 (Single-frame Regularization
    for Temporally Stable CNNs), their transform invariance; differs in that the noise comes with the movement.
    """
    squares = (shaken.float() - moved.float()).square().mean(dim=1, keepdim=True) * inside
    return (squares.sum(dim=(1, 2, 3)) / inside.sum(dim=(1, 2, 3)).clamp_min(1.0)).mean()


@dataclass(kw_only=True)
class Stability:
    """The result of the warped and noised photo is the warped result; costs a generator pass over as many pictures.

    shift: largest movement, as a share of the shorter side; turn: in degrees; scale: share more or less; bend: of a
    smooth bending, as a share of the shorter side; noise: standard deviation, in units of [-1, 1].
    """

    weight: float
    shift: float = 0.06
    turn: float = 4.0
    scale: float = 0.04
    bend: float = 0.01
    noise: float = 0.04

    def __post_init__(self) -> None:
        for name, most in _RANGES.items():
            if not 0 <= getattr(self, name) <= most or math.isnan(getattr(self, name)):
                raise ValueError(f"loss.stability.{name}={getattr(self, name)}; allowed are numbers from 0 to {most}")

    @torch.no_grad()
    def shake(self, content: Tensor, random: Generators) -> tuple[Warp, Tensor]:
        """A warp for each photo (N, 3, H, W) in [-1, 1], and the photos so moved, noise added; random: one for each."""
        warp = small_warp(content, random, shift=self.shift, turn=self.turn, scale=self.scale, bend=self.bend)
        noise = torch.stack([torch.randn(content.shape[1:], generator=one) for one in random])
        moved = warp(content) + self.noise * noise.to(content.device, non_blocking=True)
        return warp, moved.clamp(-1.0, 1.0).contiguous(memory_format=torch.channels_last)

    def __call__(self, scene: Scene) -> Tensor:
        assert scene.shaken is not None and scene.warp is not None
        return stability_loss(scene.shaken, scene.warp(scene.fake), scene.warp.inside)
