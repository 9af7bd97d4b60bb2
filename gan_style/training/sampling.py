"""Sample grids and distances on pictures that are not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan_style.images import grid
from gan_style.losses.scene import Features
from gan_style.metrics.distances import content_distance, style_distance
from gan_style.models.perceptual import Perceptual


@dataclass
class Sampler:
    """Fixed pictures, each (1, 3, H, W) in [-1, 1] on the device, and what their results are measured by.

    style_grams: the Gram matrices of the style; photo_style: the photos' own mean distance to it, measured once.
    """

    contents: Sequence[Tensor]
    styles: Sequence[Tensor]
    perceptual: Perceptual
    style_grams: Features
    content_layers: Sequence[str]

    def __post_init__(self) -> None:
        self.photo_style = self._mean_style(self.contents)

    @torch.no_grad()
    def __call__(self, generator: nn.Module) -> tuple[Tensor, dict[str, float]]:
        """(grid of content | style | result, (3, H, W); distances by name)."""
        results = [generator(content).float() for content in self.contents]
        rows = [
            [content[0], self.styles[number % len(self.styles)][0], result[0]]
            for number, (content, result) in enumerate(zip(self.contents, results, strict=True))
        ]
        return grid(rows), self._measure(results)

    def _measure(self, results: Sequence[Tensor]) -> dict[str, float]:
        values: dict[str, float] = {}
        if self.style_grams:
            values["heldout/style_distance"] = self._mean_style(results)
            values["heldout/style_distance_photo"] = self.photo_style
            values["heldout/style_ratio"] = values["heldout/style_distance"] / max(self.photo_style, 1e-12)
        if self.content_layers:
            pairs = zip(results, self.contents, strict=True)
            found = [content_distance(self.perceptual, made, of, self.content_layers) for made, of in pairs]
            values["heldout/content_distance"] = sum(found) / len(found)
        return values

    def _mean_style(self, images: Sequence[Tensor]) -> float:
        if not self.style_grams:
            return 0.0
        return sum(style_distance(self.perceptual, image, self.style_grams) for image in images) / len(images)
