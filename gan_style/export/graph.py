"""The network as it is exported: layers that every runtime has, pictures of any size, bytes or floats.

The generator's own layers are written for speed in PyTorch and ask for a size's remainders; here they are replaced by
plain ones that give the same numbers, and everything around the network (padding, tone stage, strength) is inside.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.functional import luma
from gan_style.models.blocks import ConditionalInstanceNorm, FewChannels, InstanceNorm, Upsample, weights_by_rows
from gan_style.models.generator import DOWNSAMPLING, MIN_INPUT_SIZE, ResidualCoder
from gan_style.models.library import LibraryGenerator
from gan_style.models.reference import ConvolutionEncoder, ReferenceGenerator
from gan_style.models.tone import LEVELS, apply_tone, contrast, light, plain_color

FLOAT, UINT8 = "float", "uint8"  # (N, 3, H, W) in [-1, 1], or bytes (N, H, W, 3)


class ExportedGenerator(nn.Module):
    """A generator with plain layers; ``inputs`` names what it is called with, and ``forward`` takes them in this order.

    image: (N, 3, H, W) in [-1, 1], or with pixels="uint8" bytes (N, H, W, 3); the result is of the same kind and size.
    styles, of a multi-style generator: (N, K), how much of each; their sum is the strength, at most 1. With ``fixed``,
    (1, K), it is no input: every picture gets these.
    reference, strength, of a generator of any style: pictures of the style, of the image's kind and of any size from 16
    pixels, best with a short side of ``generator.side``, and (N, 1), from 0 to 1.
    """

    fixed: Tensor | None

    def __init__(self, generator: nn.Module, pixels: str = FLOAT, fixed: Tensor | None = None) -> None:
        super().__init__()
        encoder = getattr(generator, "style_encoder", None)
        if not isinstance(generator, ResidualCoder) or isinstance(encoder, ConvolutionEncoder):
            kind = type(generator).__name__ + (" with encoder=convolutions" if encoder is not None else "")
            raise ValueError(f"a {kind} cannot be exported")
        plain = _with_plain_layers(copy.deepcopy(generator)).eval()
        self.generator = plain.to(memory_format=torch.contiguous_format)  # as torch.export stores weights
        self.pixels = pixels
        self.register_buffer("fixed", fixed)
        self.styles = generator.styles if isinstance(generator, LibraryGenerator) and fixed is None else []
        self.takes_reference = isinstance(generator, ReferenceGenerator)
        self.side = generator.side if isinstance(generator, ReferenceGenerator) else None
        self.inputs: tuple[str, ...] = ("image", "styles") if self.styles else ("image",)
        if self.takes_reference:
            self.inputs = ("image", "reference", "strength")

    def forward(self, image: Tensor, *conditions: Tensor) -> Tensor:
        if self.takes_reference:
            reference, strength = conditions
            result = self._paint_like(self._decoded(image), self._decoded(reference), strength)
        else:
            result = self._paint(self._decoded(image), *conditions)
        if self.pixels == FLOAT:
            return result
        return ((result + 1.0) * 127.5).round().clamp(0.0, 255.0).to(torch.uint8).permute(0, 2, 3, 1)

    def _decoded(self, image: Tensor) -> Tensor:
        return image.permute(0, 3, 1, 2).float() / 127.5 - 1.0 if self.pixels == UINT8 else image

    def _paint(self, images: Tensor, styles: Tensor | None = None) -> Tensor:
        generator, styles = self.generator, self.fixed if styles is None else styles
        x = self._network(images, None if styles is None else LibraryGenerator.shares(styles))
        result = generator.with_tone(x, *light(images), styles)
        if styles is None:
            return result
        return LibraryGenerator.blend_with_photo(images, result, styles.sum(dim=1, keepdim=True)[..., None, None])

    def _paint_like(self, images: Tensor, references: Tensor, strength: Tensor) -> Tensor:
        generator = self.generator
        code = generator.style_encoder(references)
        result = self._network(images, torch.cat([strength * code, strength, 1.0 - strength], dim=1))
        if generator.tone:
            mean, deviation = light(images)
            result = apply_tone(result, plain_color(_tone_curves(references), mean), contrast(deviation))
        return LibraryGenerator.blend_with_photo(images, result.clamp(-1.0, 1.0), strength[..., None, None])

    def _network(self, images: Tensor, condition: Tensor | None) -> Tensor:
        height, width = images.shape[-2:]
        x = _pad(images)
        for stage in self.generator.stages:
            x = stage(x, condition)
        for dim, side in ((2, height), (3, width)):  # by indices: a slice is traced as one that cuts something off
            x = x.index_select(dim, torch.arange(side, device=x.device))
        return x

    def example(self) -> tuple[Tensor, ...]:
        """Return inputs to trace with: sizes that no constant of the network equals."""
        image = torch.zeros(2, 3, 37, 43)
        conditions: tuple[Tensor, ...] = ()
        if self.styles:
            conditions = (torch.full((2, len(self.styles)), 0.5 / len(self.styles)),)
        if self.takes_reference:
            conditions = (torch.zeros(2, 3, 53, 61), torch.ones(2, 1))
        inputs = (image, *conditions)
        if self.pixels == UINT8:
            return tuple(x.permute(0, 2, 3, 1).to(torch.uint8) if x.ndim == 4 else x for x in inputs)
        return inputs

    def dynamic_shapes(self) -> tuple[Any, ...]:
        """Return which dimensions of each input vary, as torch.export wants it."""
        sides = (1, 2) if self.pixels == UINT8 else (2, 3)
        varies = torch.export.Dim.DYNAMIC
        image, *conditions = (
            {0: varies} | (dict.fromkeys(sides, varies) if x.ndim == 4 else {}) for x in self.example()
        )
        return (image, tuple(conditions)) if conditions else (image,)


def trace(network: ExportedGenerator) -> torch.export.ExportedProgram:
    """Trace the network for inputs of any size."""
    with torch.no_grad():
        return torch.export.export(network, network.example(), dynamic_shapes=network.dynamic_shapes(), strict=False)


def _pad(images: Tensor) -> Tensor:
    """Repeat the last row and column as pad_to_multiple does, by indices, which need no case distinction."""
    for dim in (2, 3):
        side = images.shape[dim]
        length = torch.sym_max(MIN_INPUT_SIZE, (side + DOWNSAMPLING - 1) // DOWNSAMPLING * DOWNSAMPLING)
        places = torch.arange(length, device=images.device).clamp(max=side - 1)
        images = images.index_select(dim, places)
    return images


def _tone_curves(references: Tensor) -> Tensor:
    """Compute each reference's tone curve (N, LEVELS, 3) as models.tone.tone_curve does, without loops."""
    colours = references.flatten(2)
    order = luma(references).flatten(1).argsort(dim=1)
    ordered = colours.gather(2, order[:, None].expand(-1, 3, -1))

    # The first pixels % LEVELS parts are one pixel longer than the others.
    pixels = colours.shape[2]
    level = torch.arange(LEVELS, device=references.device)
    length = pixels // LEVELS + (level < pixels % LEVELS).long()
    end = length.cumsum(0)
    place = torch.arange(pixels, device=references.device)[:, None]
    member = ((place >= end - length) & (place < end)).to(colours.dtype)

    # Of each part the pixel that is nearest to its mean; those of other parts are out of reach.
    means = ordered @ member / length
    distances = (ordered - means @ member.T).square().sum(dim=1)
    nearest = (distances[..., None] + 100.0 * (1.0 - member)).argmin(dim=1)
    return ordered.gather(2, nearest[:, None].expand(-1, 3, -1)).transpose(1, 2)


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


class _PlainConvolution(nn.Module):
    """FewChannels as two convolutions whose weights are constants: runtimes are slow, too, at three output channels."""

    rows: Tensor
    places: Tensor

    def __init__(self, layer: FewChannels) -> None:
        super().__init__()
        self.side = layer.kernel_size[0] // 2
        rows, places = weights_by_rows(layer.weight)
        self.register_buffer("rows", rows.contiguous())
        self.register_buffer("places", places.contiguous())
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(F.pad(x, (self.side,) * 4, mode="reflect"), self.rows), self.places, self.bias)


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
