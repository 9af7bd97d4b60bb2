"""How far a picture is from a style and from its content, on the features of a perceptual network."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gan_style.functional import gram_matrix
from gan_style.losses.content import content_loss
from gan_style.losses.scene import Features
from gan_style.losses.style import gram_loss
from gan_style.models.perceptual import Perceptual


@torch.no_grad()
def style_distance(perceptual: Perceptual, image: Tensor, grams: Features) -> float:
    """gram_loss of one picture (1, 3, H, W) in [-1, 1] to given Gram matrices {layer: (1, C, C)}, mean over layers."""
    features = perceptual(image, list(grams))
    losses = [gram_loss(gram_matrix(features[layer]), gram) for layer, gram in grams.items()]
    return torch.stack(losses).mean().item()


@torch.no_grad()
def content_distance(perceptual: Perceptual, image: Tensor, content: Tensor, layers: Sequence[str]) -> float:
    """content_loss of two pictures (1, 3, H, W) in [-1, 1], mean over layers."""
    made, wanted = perceptual(image, layers), perceptual(content, layers)
    return torch.stack([content_loss(made[layer], wanted[layer]) for layer in layers]).mean().item()
