"""The base class of loss terms: a weight, what a term needs (features, generator passes), a scalar of a batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from gan_style.functional import RandomGenerators

Features = dict[str, Tensor]
# From a role to a random generator for each sample, which follows from (seed, role, position).
RandomFor = Callable[[str], RandomGenerators]


@dataclass(frozen=True)
class AuxiliaryPass:
    """Pictures (N, 3, H, W) beside the photos in the generator's one forward pass, or what it made of them.

    context: what the term that asked for them has to know of them afterwards.
    """

    images: Tensor
    context: Any = None


@dataclass
class LossInputs:
    """Hold one batch as the generator's half sees it; only what some term needs is filled in.

    Pictures are (N, 3, H, W) in [-1, 1]; features are {name: (N, C, h, w)}. ``style_targets`` are statistics, by the
    key that a style term gives them, computed once but for those of the batch's own style crops; ``style_index`` (N,)
    says which picture of the style set stands beside each content; ``condition`` (N, K), for a library of styles, how
    much of each its sample is given, or (N, 1) how much of its reference's; ``styles`` are the library's, by name,
    in the order of the condition's columns; ``auxiliary`` are the results of auxiliary passes, by Term.auxiliary;
    ``masks`` (N, R, H, W) in [0, 1] say where the regions are whose styles are compared by themselves.
    ``generator`` and ``projection`` (what Term.projection built, as it is trained) serve terms that look through the
    generator's own layers; ``random_for`` gives random generators for each sample.
    """

    content: Tensor
    style: Tensor
    fake: Tensor
    style_index: Tensor | None = None
    condition: Tensor | None = None
    auxiliary: dict[str, AuxiliaryPass] = field(default_factory=dict)
    fake_features: Features = field(default_factory=dict)
    content_features: Features = field(default_factory=dict)
    style_targets: Features = field(default_factory=dict)
    styles: Sequence[str] = ()
    masks: Tensor | None = None
    generator: nn.Module | None = None
    projection: nn.Module | None = None
    random_for: RandomFor | None = None


@dataclass(kw_only=True)
class Term(ABC):
    """A named part of the generator's loss. It declares what it needs; the objective and the step provide it.

    content_features, style_features: names of the perceptual network's features; auxiliary: the name of an auxiliary
    pass of the generator, for which ``auxiliary_pass`` makes the pictures.
    """

    weight: float

    @property
    def auxiliary(self) -> str | None:
        return None

    @property
    def content_features(self) -> list[str]:
        return []

    @property
    def style_features(self) -> list[str]:
        return []

    def auxiliary_pass(self, content: Tensor, style: Tensor, random_for: RandomFor) -> AuxiliaryPass:
        """Make the pictures of the auxiliary pass from those of the batch."""
        raise NotImplementedError

    def projection(self, generator: nn.Module) -> nn.Module | None:
        """Build the network that the term trains along with the generator, if there is one."""
        return None

    @abstractmethod
    def __call__(self, inputs: LossInputs) -> Tensor:
        """Compute the unweighted term, a scalar."""
