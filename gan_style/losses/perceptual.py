"""Content and style losses on the features of a perceptual network."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_style.functional import gram_matrix
from gan_style.losses.scene import Scene

PAIRED, MEAN = "paired", "mean"


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of features (N, C, H, W).

    Gatys et al. 2016, equation 1, differs in that theirs is half the sum; Johnson et al. 2016, equation 2, is this one.
    """
    return (features.float() - target.float()).square().mean()


def gram_loss(gram: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of Gram matrices (N, C, C), each averaged over positions; the target may be (1, C, C).

    Gatys et al. 2016, equation 4, where both pictures have the same size, is a quarter of this.
    """
    return (gram - target).square().mean()


@dataclass(kw_only=True)
class Content:
    """The result keeps the content: content_loss, averaged over ``layers``."""

    weight: float
    layers: Sequence[str]

    def __call__(self, scene: Scene) -> Tensor:
        pairs = [(scene.fake_features[layer], scene.content_features[layer]) for layer in self.layers]
        return torch.stack([content_loss(made, wanted) for made, wanted in pairs]).mean()


@dataclass(kw_only=True)
class GramStyle:
    """The result has the style: gram_loss, averaged over ``layers``.

    target: "mean" (the mean Gram of the style set, computed once), "paired" (the Gram of the style picture that stands
    beside the content picture in the batch), or the path of one picture.
    """

    weight: float
    layers: Sequence[str]
    target: str = MEAN

    @property
    def paired(self) -> bool:
        return self.target == PAIRED

    def __call__(self, scene: Scene) -> Tensor:
        pairs = [(gram_matrix(scene.fake_features[layer]), self._goal(scene, layer)) for layer in self.layers]
        return torch.stack([gram_loss(made, wanted) for made, wanted in pairs]).mean()

    def _goal(self, scene: Scene, layer: str) -> Tensor:
        return gram_matrix(scene.style_features[layer]) if self.paired else scene.style_grams[self.target][layer]
