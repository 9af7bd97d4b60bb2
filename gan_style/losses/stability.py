"""Stability: what moves a little in the photo moves along in the result, and noise is not painted."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_style.losses.inputs import AuxiliaryPass, Draw, LossInputs, Term
from gan_style.losses.warp import Warp, small_warp

_RANGES = {"shift": 0.5, "turn": 45.0, "scale": 0.5, "bend": 0.1, "noise": 1.0}


def stability_loss(perturbed: Tensor, moved: Tensor, inside: Tensor) -> Tensor:
    """Mean squared difference where ``inside`` (N, 1, H, W) is 1; of each sample, then over samples.

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
        for name, most in _RANGES.items():
            if not 0 <= getattr(self, name) <= most or math.isnan(getattr(self, name)):
                raise ValueError(f"loss.stability.{name}={getattr(self, name)}; allowed are numbers from 0 to {most}")

    @torch.no_grad()
    def auxiliary_pass(self, content: Tensor, style: Tensor, draw: Draw) -> AuxiliaryPass:
        """Move each photo (N, 3, H, W) in [-1, 1] by a warp of its own, the context, and add noise."""
        random = draw("shaken")
        warp = small_warp(content, random, shift=self.shift, turn=self.turn, scale=self.scale, bend=self.bend)
        noise = torch.stack([torch.randn(content.shape[1:], generator=generator) for generator in random])
        moved = warp(content) + self.noise * noise.to(content.device, non_blocking=True)
        return AuxiliaryPass(moved.clamp(-1.0, 1.0).contiguous(memory_format=torch.channels_last), warp)

    def __call__(self, inputs: LossInputs) -> Tensor:
        perturbed = inputs.auxiliary["perturbed"]
        warp: Warp = perturbed.context
        return stability_loss(perturbed.images, warp(inputs.fake), warp.inside)
