"""How much of its photo each result keeps: columns of the manifest."""

from typing import Any

import torch
from torch import Tensor

from gan_style.evaluation.metrics import MIN_SIZE, structure
from gan_style.losses.content import content_loss
from gan_style.models.perceptual import Perceptual, compact
from gan_style.runtime.device import move_to

Scores = dict[str, list[float]]


def structure_scores(result: Tensor, content: Tensor) -> Scores:
    """How far edges agree, at most 1, one for each of (N, 3, H, W) in [-1, 1]; NaN where pictures are too small."""
    if min(result.shape[-2:]) < MIN_SIZE:
        return {"structure": [float("nan")] * len(result)}
    return {"structure": structure(result, content).tolist()}


class ContentScore:
    """The same, and the content distance: content_loss on a perceptual network's features, mean over layers."""

    LAYERS = ("relu2_1", "relu3_1")

    def __init__(self, perceptual: Perceptual) -> None:
        self.perceptual = perceptual

    @torch.no_grad()
    def __call__(self, result: Tensor, content: Tensor) -> Scores:
        if min(result.shape[-2:]) < MIN_SIZE:
            return {"content_distance": [float("nan")] * len(result), **structure_scores(result, content)}
        features, targets = (self.perceptual(images, list(self.LAYERS)) for images in (result, content))
        distances = [self._distance(features, targets, number) for number in range(len(result))]
        return {"content_distance": distances, **structure_scores(result, content)}

    def _distance(self, result: dict[str, Tensor], targets: dict[str, Tensor], number: int) -> float:
        row = slice(number, number + 1)
        return float(torch.stack([content_loss(result[name][row], targets[name][row]) for name in self.LAYERS]).mean())


def make_score(kind: str, device: Any) -> Any:
    """structure: 1 where all edges stay; full: the content distance too, on compact's features."""
    if kind == "none":
        return None
    if kind == "structure":
        return structure_scores
    return ContentScore(move_to(compact(layers=list(ContentScore.LAYERS)), device))
