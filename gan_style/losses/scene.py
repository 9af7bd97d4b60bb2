"""What a loss term may look at."""

from dataclasses import dataclass, field

from torch import Tensor

from gan_style.losses.warp import Warp

Features = dict[str, Tensor]


@dataclass
class Scene:
    """One batch as the generator's half sees it; only what some term asks for is filled in.

    Pictures are (N, 3, H, W) in [-1, 1]; features are {layer: (N, C, h, w)}. ``style_targets`` are statistics, by the
    key that a style term gives them, computed once but for those of the batch's own style crops; ``style_index`` (N,)
    says which picture of the style set stands beside each content; ``condition`` (N, K), for a library of styles, how
    much of each its sample is given, or (N, 1) how much of its reference's.
    """

    content: Tensor
    style: Tensor
    fake: Tensor
    rebuilt: Tensor | None = None  # G(style), for the identity term
    style_index: Tensor | None = None
    fake_features: Features = field(default_factory=dict)
    content_features: Features = field(default_factory=dict)
    style_targets: Features = field(default_factory=dict)
    warp: Warp | None = None  # for the stability term, with
    shaken: Tensor | None = None  # G(warp(content) + noise)
    condition: Tensor | None = None
