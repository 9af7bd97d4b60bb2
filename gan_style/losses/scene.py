"""What a loss term may look at."""

from dataclasses import dataclass, field

from torch import Tensor

Features = dict[str, Tensor]


@dataclass
class Scene:
    """One batch as the generator's half sees it; only what some term asks for is filled in.

    Pictures are (N, 3, H, W) in [-1, 1]; features are {layer: (N, C, h, w)}. ``style_targets`` are statistics that
    were computed once, by the key that a style term gives them; ``style_index`` (N,) says which picture of the style
    set stands beside each content.
    """

    content: Tensor
    style: Tensor
    fake: Tensor
    rebuilt: Tensor | None = None  # G(style), for the identity term
    style_index: Tensor | None = None
    fake_features: Features = field(default_factory=dict)
    content_features: Features = field(default_factory=dict)
    style_targets: Features = field(default_factory=dict)
