"""What a loss term may look at."""

from dataclasses import dataclass, field

from torch import Tensor

Features = dict[str, Tensor]


@dataclass
class Scene:
    """One batch as the generator's half sees it.

    Pictures are (N, 3, H, W) in [-1, 1]; features are {layer: (N, C, h, w)}; the Gram matrices of fixed style
    targets are {target: {layer: (1, C, C)}}.
    Only what some term asks for is filled in.
    """

    content: Tensor
    style: Tensor
    fake: Tensor
    rebuilt: Tensor | None = None  # G(style), for the identity term
    fake_features: Features = field(default_factory=dict)
    content_features: Features = field(default_factory=dict)
    style_features: Features = field(default_factory=dict)
    style_grams: dict[str, Features] = field(default_factory=dict)
