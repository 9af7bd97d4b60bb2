"""A library of styles in one generator: (N, 3, H, W) in [-1, 1] and a condition to the same shape and range."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.models.blocks import ConditionalInstanceNorm
from gan_style.models.generator import ResidualCoder
from gan_style.models.tone import light


class LibraryGenerator(ResidualCoder):
    """The generator of many styles, with conditional instance normalisation: K styles, their mixtures, at any strength.

    Dumoulin et al. 2017, with one row more than there are styles: the photo's own, of which a condition takes what is
    missing from 1. styles: their names, in the order of the condition's columns.
    """

    def __init__(
        self,
        *,
        width: int = 32,
        blocks: int = 5,
        output: str = "linear",
        tone: bool = True,
        styles: Sequence[str] = (),
    ) -> None:
        if not styles or len(set(styles)) < len(styles):
            raise ValueError(
                f"generator=library with the styles {list(styles)}: name each once, with its pictures, as in "
                "data.style={monet: FOLDER, wave: PICTURE}"
            )
        norm = partial(ConditionalInstanceNorm, styles=len(styles) + 1)
        super().__init__(width, blocks, norm, output, tones=len(styles) * tone)
        self.styles = list(styles)
        self.arguments |= {"styles": self.styles}

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        """Paint photos. condition: how much of each style, (N, K), or (N, K, h, w) of any size.

        Each from 0; their sum, the strength, at most 1. Where it is 0 the result equals the photo exactly.
        """
        result = self.paint(images, self.shares(condition))
        if condition.ndim == 4:
            condition = F.interpolate(condition, images.shape[-2:], mode="bilinear", antialias=True)
        if not self.training:  # losses look at the network's own output
            result = self.with_tone(result, *light(images), condition)
        strength = condition.sum(dim=1, keepdim=True)
        return self.blend_with_photo(images, result, strength if strength.ndim == 4 else strength[..., None, None])

    @staticmethod
    def shares(condition: Tensor) -> Tensor:
        """Return the normalisations' condition: the photo's own row takes what the styles leave of 1."""
        return torch.cat([condition, 1.0 - condition.sum(dim=1, keepdim=True)], dim=1)

    @staticmethod
    def blend_with_photo(images: Tensor, result: Tensor, strength: Tensor) -> Tensor:
        """Fade the network's result by its strength (N, 1, H, W): at 0 it is the photo exactly.

        What no network can do, draw a photo again pixel by pixel, it need not do then.
        """
        return torch.lerp(images.to(result.dtype), result, strength.to(result.dtype))


def condition_of(styles: Sequence[str], mix: Mapping[str, float], device: torch.device | None = None) -> Tensor:
    """Return (1, K): how much of each of a library's styles; those that ``mix`` does not name get nothing."""
    return torch.tensor([[mix.get(name, 0.0) for name in styles]], device=device)


class OneStyle(nn.Module):
    """A library under one condition (1, K), which every picture is given: (N, 3, H, W) to the same."""

    def __init__(self, library: LibraryGenerator, condition: Tensor) -> None:
        super().__init__()
        self.library, self.condition = library, condition

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.library(images, self.condition.expand(len(images), -1))
        return result
