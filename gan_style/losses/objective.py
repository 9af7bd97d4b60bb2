"""The objective: named, weighted terms over one perceptual network."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from gan_style.functional import gram_matrix
from gan_style.losses.adversarial import Adversarial, Logits
from gan_style.losses.perceptual import Content, GramStyle
from gan_style.losses.regular import Identity
from gan_style.losses.scene import Features, Scene
from gan_style.models.perceptual import Perceptual

ADVERSARIAL, WARMUP = "adversarial", "content"


class Term(Protocol):
    """A named part of the generator's loss: a weight, and a scalar for a scene."""

    weight: float

    def __call__(self, scene: Scene) -> Tensor: ...


class Objective:
    """All loss terms by name. Weight 0 means: computed and logged, not trained on."""

    def __init__(self, terms: Mapping[str, Any], perceptual: Perceptual) -> None:
        check_terms(terms)
        terms = dict(terms)
        self.adversarial: Adversarial | None = terms.pop(ADVERSARIAL, None)
        self.terms: dict[str, Term] = terms
        self.perceptual = perceptual
        self.style_grams: dict[str, Features] = {}

    @property
    def needs_identity(self) -> bool:
        """Whether the generator has to pass over the style pictures too."""
        return any(isinstance(term, Identity) for term in self.terms.values())

    @property
    def fixed_targets(self) -> list[str]:
        """The style targets that do not come from the batch: "mean", or the path of a picture."""
        return sorted({term.target for term in self.terms.values() if isinstance(term, GramStyle) and not term.paired})

    def set_style(self, target: str, pictures: Iterable[Tensor]) -> None:
        """Compute a target's mean Gram matrices once, from pictures (1, 3, H, W) in [-1, 1] on the device."""
        self.style_grams[target] = mean_gram(self.perceptual, pictures, style_layers(self.terms.values()))

    def state_dict(self) -> dict[str, Any]:
        """What was measured at the start of the run: feature scales and the Gram matrices of fixed style targets."""
        grams = {target: {k: v.cpu() for k, v in found.items()} for target, found in self.style_grams.items()}
        return {"scales": dict(self.perceptual.scales), "style_grams": grams}

    def load_state_dict(self, saved: Mapping[str, Any], device: torch.device) -> None:
        """Take over what an earlier part of the run measured."""
        self.perceptual.scales = dict(saved["scales"])
        grams = saved["style_grams"].items()
        self.style_grams = {target: {k: v.to(device) for k, v in found.items()} for target, found in grams}

    def generator_loss(
        self, scene: Scene, logits: Logits | None, *, warming_up: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each term by name (unweighted). In the warm-up: the content term alone."""
        terms = {WARMUP: self.terms[WARMUP]} if warming_up else self.terms
        self._look(scene, terms.values())
        parts = {name: term(scene) for name, term in terms.items()}
        weights = {name: term.weight for name, term in terms.items()}
        if logits is not None and self.adversarial is not None:
            parts[ADVERSARIAL] = self.adversarial.generator_loss(logits)
            weights[ADVERSARIAL] = self.adversarial.weight
        trained = [weights[name] * part for name, part in parts.items() if weights[name]]
        return torch.stack(trained).sum() if trained else scene.fake.sum() * 0.0, parts

    def _look(self, scene: Scene, terms: Iterable[Term]) -> None:
        """Fill in the features that these terms ask for: one pass over fake, targets without gradients."""
        terms = list(terms)
        of_content, of_style = content_layers(terms), style_layers(terms)
        scene.fake_features = self.perceptual(scene.fake, [*of_content, *of_style])
        scene.style_grams = self.style_grams
        with torch.no_grad():
            scene.content_features = self.perceptual(scene.content, of_content)
            scene.style_features = self.perceptual(scene.style, style_layers(terms, paired=True))


def content_layers(terms: Iterable[Any]) -> list[str]:
    """The layers that content terms ask for."""
    return [layer for term in terms if isinstance(term, Content) for layer in term.layers]


def style_layers(terms: Iterable[Any], *, paired: bool | None = None) -> list[str]:
    """The layers that style terms ask for: of all of them, or only of those that are (not) paired."""
    style = [term for term in terms if isinstance(term, GramStyle) and paired in (None, term.paired)]
    return [layer for term in style for layer in term.layers]


@torch.no_grad()
def mean_gram(perceptual: Perceptual, pictures: Iterable[Tensor], layers: Sequence[str]) -> Features:
    """The mean Gram matrix over pictures, each (1, 3, H, W) in [-1, 1] of any size: {layer: (1, C, C)}."""
    total: Features = {}
    count = 0
    for picture in pictures:
        count += 1
        for layer, features in perceptual(picture, layers).items():
            gram = gram_matrix(features)
            total[layer] = total[layer] + gram if layer in total else gram
    return {layer: gram / count for layer, gram in total.items()}


def check_terms(terms: Mapping[str, Any]) -> None:
    """ValueError, naming the option, for terms that cannot make an objective."""
    if not terms:
        raise ValueError("there is no loss term left; keep at least one under loss")
    for name, term in terms.items():
        if (name == ADVERSARIAL) != isinstance(term, Adversarial):
            raise ValueError(f"loss.{name}: the adversarial term, and it alone, is mounted as loss.{ADVERSARIAL}")
        if not math.isfinite(term.weight) or term.weight < 0:
            raise ValueError(f"loss.{name}.weight={term.weight}; allowed are finite numbers from 0 (0: log only)")
        if isinstance(term, Content | GramStyle) and (isinstance(term.layers, str) or not term.layers):
            raise ValueError(
                f"loss.{name}.layers={term.layers or []}: give a list of at least one layer, such as [relu3_1], "
                f"or remove the term with ~loss.{name}"
            )
