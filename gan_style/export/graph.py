"""The network as it is exported: layers that every runtime has, pictures of any size, bytes or floats.

The generator's own layers are written for speed in PyTorch and ask for a size's remainders; here they are replaced by
plain ones that give the same numbers, and everything around the network (padding, tone stage, strength) is inside.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.models.blocks import ConditionalInstanceNorm, FewChannels, InstanceNorm, Upsample
from gan_style.models.generator import DOWNSAMPLING, MIN_INPUT_SIZE, ResidualCoder
from gan_style.models.library import LibraryGenerator
from gan_style.models.tone import light

FLOAT, UINT8 = "float", "uint8"  # (N, 3, H, W) in [-1, 1], or bytes (N, H, W, 3)
Dimensions = dict[int, Any]


class ExportedGenerator(nn.Module):
    """A generator with plain layers; ``inputs`` names what it is called with, and ``forward`` takes them in this order.

    image: (N, 3, H, W) in [-1, 1], or with pixels="uint8" bytes (N, H, W, 3); the result is of the same kind and size.
    styles, of a multi-style generator: (N, K), how much of each; their sum is the strength, at most 1. With ``fixed``,
    (1, K), it is no input: every picture gets these.
    """

    fixed: Tensor | None

    def __init__(self, generator: nn.Module, pixels: str = FLOAT, fixed: Tensor | None = None) -> None:
        super().__init__()
        if not isinstance(generator, ResidualCoder):
            raise ValueError(f"a {type(generator).__name__} cannot be exported")
        self.generator = _with_plain_layers(copy.deepcopy(generator)).eval()
        self.pixels = pixels
        self.register_buffer("fixed", fixed)
        self.styles = generator.styles if isinstance(generator, LibraryGenerator) and fixed is None else []
        self.inputs = ("image", "styles") if self.styles else ("image",)

    def forward(self, image: Tensor, *conditions: Tensor) -> Tensor:
        x = image.permute(0, 3, 1, 2).float() / 127.5 - 1.0 if self.pixels == UINT8 else image
        result = self._paint(x, *conditions)
        if self.pixels == FLOAT:
            return result
        return ((result + 1.0) * 127.5).round().clamp(0.0, 255.0).to(torch.uint8).permute(0, 2, 3, 1)

    def _paint(self, images: Tensor, styles: Tensor | None = None) -> Tensor:
        generator, styles = self.generator, self.fixed if styles is None else styles
        height, width = images.shape[-2:]
        condition = None if styles is None else LibraryGenerator.shares(styles)
        x = _padded(images)
        for stage in generator.stages:
            x = stage(x, condition)
        result = generator.with_tone(x[..., :height, :width], *light(images), styles)
        if styles is None:
            return result
        return LibraryGenerator.faded(images, result, styles.sum(dim=1, keepdim=True)[..., None, None])

    def example(self) -> tuple[Tensor, ...]:
        """Return inputs to trace with: sizes that no constant of the network equals."""
        image = torch.zeros(2, 3, 37, 43)
        image = image.permute(0, 2, 3, 1).to(torch.uint8) if self.pixels == UINT8 else image
        return (image, torch.full((2, len(self.styles)), 0.5 / len(self.styles))) if self.styles else (image,)

    def dynamic_shapes(self) -> tuple[Any, ...]:
        """Return which dimensions of each input vary, as torch.export wants it."""
        varies = torch.export.Dim.DYNAMIC
        image = {0: varies, 1: varies, 2: varies} if self.pixels == UINT8 else {0: varies, 2: varies, 3: varies}
        return (image, ({0: varies},)) if self.styles else (image,)


def traced(network: ExportedGenerator) -> torch.export.ExportedProgram:
    """Trace the network for inputs of any size."""
    with torch.no_grad():
        return torch.export.export(network, network.example(), dynamic_shapes=network.dynamic_shapes(), strict=False)


def _padded(images: Tensor) -> Tensor:
    """Repeat the last row and column as pad_to_multiple does, by indices, which need no case distinction."""
    for dim in (2, 3):
        side = images.shape[dim]
        length = torch.sym_max(MIN_INPUT_SIZE, (side + DOWNSAMPLING - 1) // DOWNSAMPLING * DOWNSAMPLING)
        places = torch.arange(length, device=images.device).clamp(max=side - 1)
        images = images.index_select(dim, places)
    return images


class _PlainNorm(nn.Module):
    """Instance normalisation with one row of scales and shifts, or with rows that a condition mixes."""

    def __init__(self, norm: InstanceNorm | ConditionalInstanceNorm) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        if condition is None:
            return F.instance_norm(x, weight=self.weight, bias=self.bias)
        scale, shift = ((condition @ table)[..., None, None] for table in (self.weight, self.bias))
        return F.instance_norm(x) * scale + shift


class _PlainUpsample(nn.Module):
    """Nearest-neighbour doubling, then a convolution, one after the other."""

    def __init__(self, upsample: Upsample) -> None:
        super().__init__()
        self.layers = _with_plain_layers(upsample[1])

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        doubled: Tensor = self.layers(F.interpolate(x, scale_factor=2.0, mode="nearest"), condition)
        return doubled


class _PlainConvolution(nn.Conv2d):
    """A convolution with reflection padding, at once."""

    def __init__(self, layer: FewChannels) -> None:
        kernel = layer.kernel_size[0]
        super().__init__(layer.in_channels, layer.out_channels, kernel, padding=kernel // 2, padding_mode="reflect")
        self.weight, self.bias = layer.weight, layer.bias


_PLAIN: dict[type[nn.Module], Any] = {
    InstanceNorm: _PlainNorm,
    ConditionalInstanceNorm: _PlainNorm,
    Upsample: _PlainUpsample,
    FewChannels: _PlainConvolution,
}


def _with_plain_layers(module: Any) -> Any:
    """Replace, in place, the layers below a module that are written for PyTorch; the weights are shared."""
    for name, child in module.named_children():
        plain = _PLAIN.get(type(child))
        setattr(module, name, plain(child) if plain else _with_plain_layers(child))
    return module
