"""RandomGenerators: (N, 3, H, W) in [-1, 1] to the same shape and range, for any H and W from 1 upward."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gan_style.models.blocks import (
    ConditionalInstanceNorm,
    ConvNormRelu,
    FewChannels,
    InstanceNorm,
    Norm,
    ResidualBlock,
    Upsample,
    pad_to_multiple,
)
from gan_style.models.tone import LEVELS, apply_tone, contrast, light, plain_color

DOWNSAMPLING = 4
OUTPUTS = ("linear", "tanh")
MIN_INPUT_SIZE = 16  # below this the reflection padding of the innermost layers has nothing to reflect


class ResidualCoder(nn.Module):
    """Residual encoder-decoder of Johnson et al. 2016, with any normalisation.

    Differs from Johnson et al. in that the two upsampling layers are resize-convolutions.
    """

    tones: Tensor | None

    def __init__(self, width: int, blocks: int, norm: Norm, output: str, tones: int) -> None:
        """Build the layers. tones: how many styles have a tone curve; 0: there is no tone stage."""
        super().__init__()
        if width < 1 or blocks < 0:
            raise ValueError(f"generator.width={width}, generator.blocks={blocks}: width from 1, blocks from 0")
        if output not in OUTPUTS:
            raise ValueError(f"generator.output={output}; allowed are {', '.join(OUTPUTS)}")
        self.arguments: dict[str, Any] = {
            "width": width,
            "blocks": blocks,
            "output": output,
            "tone": tones > 0,
        }
        self.output = output
        self.register_buffer("tones", torch.zeros(tones, LEVELS, 3) if tones else None)
        self.recompute = False  # whether activations inside the stages are made again in backward, to save memory
        self.encoder = nn.Sequential(
            ConvNormRelu(3, width, 9, norm=norm),
            ConvNormRelu(width, 2 * width, 3, stride=2, norm=norm),
            ConvNormRelu(2 * width, 4 * width, 3, stride=2, norm=norm),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(4 * width, norm=norm) for _ in range(blocks)))
        self.decoder = nn.Sequential(
            Upsample(4 * width, 2 * width, norm=norm),
            Upsample(2 * width, width, norm=norm),
            FewChannels(width, 3, 9),
        )

    def paint(self, images: Tensor, condition: Tensor | None) -> Tensor:
        """Run the network; condition: what its normalisations are given."""
        height, width = images.shape[-2:]
        features = [pad_to_multiple(images, DOWNSAMPLING, minimum=MIN_INPUT_SIZE)]
        again = self.recompute and torch.is_grad_enabled()
        for stage in self.stages:  # each is handed its input for good, so that nobody here keeps it in memory
            stage = partial(checkpoint, stage, use_reentrant=False) if again else stage
            features.append(stage(features.pop(), condition))
        return features.pop()[..., :height, :width]

    def with_tone(self, result: Tensor, mean: Tensor, deviation: Tensor, condition: Tensor | None = None) -> Tensor:
        """Apply the tone stage to what the network made (N, 3, H, W), and keep the result within [-1, 1].

        mean, deviation: of the whole photo's luma, as models.tone.light measures them; condition: how much of each
        style, (N, K), or (N, K, H, W).
        """
        if self.tones is not None:
            result = result.to(torch.promote_types(result.dtype, mean.dtype))
            result = apply_tone(result, self.plain_colors(mean, condition), contrast(deviation))
        return result.clamp(-1.0, 1.0)

    def plain_colors(self, mean: Tensor, condition: Tensor | None) -> Tensor:
        """Compute what plain pictures of these mean lumas (N,) become: colours (N, 3), or maps of them (N, 3, h, w)."""
        assert self.tones is not None
        curves = self.tones.movedim(0, 1).flatten(1)  # of all styles side by side: (LEVELS, K 3)
        colors = plain_color(curves.expand(mean.shape[0], -1, -1), mean).unflatten(1, (-1, 3))
        if condition is None:
            return colors[:, 0]
        shares = condition / condition.sum(dim=1, keepdim=True).clamp_min(1e-6)
        shares = shares.to(colors.dtype)
        if shares.ndim == 2:  # without einsum, which runtimes of exported models know badly
            return (shares[..., None] * colors).sum(dim=1)
        return torch.einsum("nkhw,nkc->nchw", shares, colors)

    def conditional_norms(self) -> dict[str, ConditionalInstanceNorm]:
        """Return the normalisations that have a row of scales and shifts for each style, by name."""
        return {name: norm for name, norm in self.named_modules() if isinstance(norm, ConditionalInstanceNorm)}

    @property
    def stages(self) -> list[Callable[[Tensor, Tensor | None], Tensor]]:
        """Return the pass in parts, none of which sees further than 16 pixels of the picture (stylize/tiling.py).

        The first makes sides DOWNSAMPLING times as short, the last makes them whole again.
        """
        return [self._encode, *self.blocks, self._decode]

    def _encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        for layer in self.encoder:
            x = layer(x, condition)
        return x

    def _decode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        *upsampling, to_colours = self.decoder
        for layer in upsampling:
            x = layer(x, condition)
        x = to_colours(x)
        return torch.tanh(x) if self.output == "tanh" else x


class ResnetGenerator(ResidualCoder):
    """The generator of one style, with instance normalisation (Ulyanov et al. 2016).

    width: channels at full resolution (twice as many at a half, four times at a quarter); blocks: residual blocks;
    output: "linear", or "tanh"; tone: whether results keep the photo's light (models/tone.py).
    """

    def __init__(
        self,
        *,
        width: int = 32,
        blocks: int = 5,
        output: str = "linear",
        tone: bool = True,
    ) -> None:
        super().__init__(width, blocks, InstanceNorm, output, tones=int(tone))

    def forward(self, images: Tensor) -> Tensor:
        result = self.paint(images, None)
        return result if self.training else self.with_tone(result, *light(images))  # losses look at the network's own

    def features(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Compute features by name, {layer: (N, C, h, w)}: "image", or encoder.N and blocks.N; runs no deeper.

        ValueError, naming what there is, for a layer that does not exist.
        """
        modules = {
            f"{part}.{n}": layer for part in ("encoder", "blocks") for n, layer in enumerate(getattr(self, part))
        }
        if unknown := [layer for layer in layers if layer not in ("image", *modules)]:
            raise ValueError(f"the generator has no layer {unknown[0]!r}; it has image, {', '.join(modules)}")
        x = pad_to_multiple(images, DOWNSAMPLING, minimum=MIN_INPUT_SIZE)
        features = {"image": images}
        for name, layer in modules.items():
            if features.keys() >= set(layers):
                break
            features[name] = x = layer(x, None)
        return {layer: features[layer] for layer in layers}
