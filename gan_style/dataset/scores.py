"""How much of its photo each result keeps: columns of the manifest."""

import torch
from torch import Tensor

from gan_style.evaluation.image_metrics import SMALLEST, structure
from gan_style.losses.content import content_loss
from gan_style.models.perceptual import Perceptual

Scores = dict[str, list[float]]


def structure_scores(made: Tensor, content: Tensor) -> Scores:
    """How far edges agree, at most 1, one for each of (N, 3, H, W) in [-1, 1]; NaN where pictures are too small."""
    if min(made.shape[-2:]) < SMALLEST:
        return {"structure": [float("nan")] * len(made)}
    return {"structure": structure(made, content).tolist()}


class ContentScore:
    """The same, and the content distance: content_loss on a perceptual network's features, mean over layers."""

    LAYERS = ("relu2_1", "relu3_1")

    def __init__(self, perceptual: Perceptual) -> None:
        self.perceptual = perceptual

    @torch.no_grad()
    def __call__(self, made: Tensor, content: Tensor) -> Scores:
        if min(made.shape[-2:]) < SMALLEST:
            return {"content_distance": [float("nan")] * len(made), **structure_scores(made, content)}
        features, wanted = (self.perceptual(images, list(self.LAYERS)) for images in (made, content))
        distances = [self._distance(features, wanted, number) for number in range(len(made))]
        return {"content_distance": distances, **structure_scores(made, content)}

    def _distance(self, made: dict[str, Tensor], wanted: dict[str, Tensor], number: int) -> float:
        one = slice(number, number + 1)
        return float(torch.stack([content_loss(made[name][one], wanted[name][one]) for name in self.LAYERS]).mean())
