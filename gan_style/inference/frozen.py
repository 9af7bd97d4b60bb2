"""A generator with some of its normalisations frozen: the same weights in a module tree of its own.

So a generator holds no state, and threads may share one.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.inference.boxes import Moments
from gan_style.models.blocks import ConditionalInstanceNorm, InstanceNorm

_EPSILON = 1e-5  # under the root; group_norm's own

Rows = Mapping[str, Tensor]  # a normalisation's name -> (P, 2, C): for each of P conditions its scale and its shift


class _Frozen(nn.Module):
    """A normalisation with known statistics: a scale and a shift; shares (1, P, h, w) mix them from P rows."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, x: Tensor, shares: Tensor | None = None) -> Tensor:
        if shares is None:
            scale, shift = self.rows[0][..., None, None]
        else:
            shares = F.interpolate(shares, x.shape[-2:], mode="bilinear", antialias=True)
            scale, shift = torch.einsum("nphw,ptc->tnchw", shares, self.rows)
        return torch.addcmul(shift, x, scale)


class Reached(Exception):  # noqa: N818 (not an error: how a pass ends at the normalisation that it is for)
    def __init__(self, name: str, x: Tensor) -> None:
        super().__init__(name)
        self.name, self.x = name, x


class _Unknown(nn.Module):
    """A normalisation whose statistics are still to be found."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor, shares: Tensor | None = None) -> Tensor:
        raise Reached(self.name, x)


def twin(module: nn.Module, rows: Rows, name: str = "") -> nn.Module:
    """A copy of the module tree with its normalisations frozen or unknown; it shares all weights, and changes none."""
    if isinstance(module, InstanceNorm | ConditionalInstanceNorm):
        return _Frozen(rows[name]) if name in rows else _Unknown(name)
    copied = copy.copy(module)
    children = module._modules.items()
    copied._modules = {key: child and twin(child, rows, f"{name}.{key}" if name else key) for key, child in children}
    return copied


def row_of(norm: nn.Module, condition: Tensor | None, found: Moments, device: torch.device) -> Tensor:
    """(1, 2, C): the scale and the shift that a normalisation amounts to under one condition, (1, K)."""
    if isinstance(norm, ConditionalInstanceNorm):
        assert condition is not None
        gain, offset = ((condition.to(table) @ table)[0].double().cpu() for table in (norm.weight, norm.bias))
    else:
        assert isinstance(norm, InstanceNorm)
        gain, offset = norm.weight.double().cpu(), norm.bias.double().cpu()
    scale = gain / (found.variance + _EPSILON).sqrt()
    return torch.stack([scale, offset - found.mean * scale])[None].float().to(device)
