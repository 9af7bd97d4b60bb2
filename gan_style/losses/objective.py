"""The objective: named, weighted terms over one perceptual network."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.functional import gram_matrix, grey
from gan_style.losses.adversarial import Adversarial, Logits
from gan_style.losses.content import Content
from gan_style.losses.palette import PIXELS
from gan_style.losses.style import CROP, EACH, MEAN, GramStyle, Style, StyleTerm
from gan_style.losses.term import Features, LossInputs, Term
from gan_style.models.perceptual import Perceptual
from gan_style.options import as_typed

ADVERSARIAL, WARMUP = "adversarial", "content"


class Objective:
    """Sum all loss terms by name. Weight 0 means: computed and logged, not trained on.

    ``weights`` are the terms' own, until ``balance`` (target shares by name) has found others.
    """

    def __init__(
        self, terms: Mapping[str, Any], perceptual: Perceptual, balance: Mapping[str, float] | None = None
    ) -> None:
        check_terms(terms)
        self.weights: dict[str, float] = {name: term.weight for name, term in terms.items()}
        if balance is not None:
            check_shares(balance, self.weights)
        terms = dict(terms)
        self.adversarial: Adversarial | None = terms.pop(ADVERSARIAL, None)
        self.terms: dict[str, Term] = terms
        self.perceptual = perceptual
        self.balance = Balance(balance) if balance is not None else None
        self.style_targets: Features = {}
        self.styles: list[str] = []  # of a library, by name

    @property
    def auxiliary_terms(self) -> list[Term]:
        """List the terms for which the generator has to pass over more than the photos."""
        return [term for term in self.terms.values() if term.auxiliary is not None]

    def make_projection(self, generator: nn.Module) -> nn.Module | None:
        """Build the network that a loss term trains along with the generator, if there is one. ValueError for two."""
        built = {name: term.projection(generator) for name, term in self.terms.items()}
        networks = {name: network for name, network in built.items() if network is not None}
        if len(networks) > 1:
            raise ValueError(f"loss terms {', '.join(networks)}: each trains a projection, and there can be one only")
        return next(iter(networks.values()), None)

    @property
    def needs_discriminator_early(self) -> bool:
        """Return whether D has to learn during the warm-up, so that its gradient can be measured there."""
        return self.balance is not None and ADVERSARIAL in self.balance.shares

    @property
    def targets(self) -> list[str]:
        """List the style targets that are computed once, before step 1: "mean", "each", paths of pictures."""
        return sorted({term.target for term in self._style_terms()} - {CROP})

    def _style_terms(self, target: str | None = None) -> list[StyleTerm]:
        return [term for term in self.terms.values() if isinstance(term, StyleTerm) and target in (None, term.target)]

    @torch.no_grad()
    def set_style(
        self,
        target: str,
        pictures: Iterable[tuple[int, Tensor]],
        weights: Sequence[float] | None = None,
        masks: Callable[[int, Tensor], Tensor] | None = None,
    ) -> None:
        """Compute a target's statistics, once: the mean over pictures, or for "each" a row for every picture.

        pictures: (number in the style set, (1, 3, H, W) in [-1, 1] on the device), of any sizes; weights: of the mean,
        one for each picture, in any unit; None: all equal. masks: gives a picture's regions, (1, R, H, W) in [0, 1].
        """
        terms = self._style_terms(target)
        statistics = (
            (number, self._statistics(picture, terms, None if masks is None else masks(number, picture)))
            for number, picture in pictures
        )
        self.style_targets |= (
            rows_of(statistics) if target == EACH else mean_of((statistic for _, statistic in statistics), weights)
        )

    @torch.no_grad()
    def bytes_of_each(self) -> int:
        """Return how much memory the statistics of one picture take where targets are kept for each."""
        picture = torch.zeros(1, 3, 32, 32, device=self.perceptual.mean.device)
        return sum(statistic.nbytes for statistic in self._statistics(picture, self._style_terms(EACH)).values())

    def style_grams(self, target: str, row: int | None = None) -> Features:
        """Return the Gram matrices {layer: (1, C, C)} of a style target, from what is known; {} where some are not.

        row: the one style's of a library; None: the mean over all rows.
        """
        grams = {}
        for layer in style_layers(self.terms.values()):
            target_grams = self.style_targets.get(GramStyle(weight=0.0, layers=[layer], target=target).key(layer))
            if target_grams is None:
                return {}
            grams[layer] = target_grams.mean(dim=0, keepdim=True) if row is None else target_grams[row : row + 1]
        return grams

    @torch.no_grad()
    def set_library(self, target: str, styles: Mapping[str, Iterable[tuple[int, Tensor]]]) -> None:
        """Compute a target's statistics for each of several styles: a row each, the mean over its pictures.

        ValueError where a term weighs a style that there is not.
        """
        terms = self._style_terms(target)
        self.styles = list(styles)
        unknown = {name for term in terms if isinstance(term, Style) for name in term.style_weights or {}} - set(styles)
        if unknown:
            raise ValueError(
                f"style_weights of a style term names {', '.join(sorted(unknown))}; the styles of data.style are "
                f"{', '.join(styles)}"
            )
        means = [mean_of(self._statistics(picture, terms) for _, picture in pictures) for pictures in styles.values()]
        self.style_targets |= {key: torch.cat([mean[key] for mean in means]) for key in means[0]}

    def _statistics(self, picture: Tensor, terms: Iterable[StyleTerm], masks: Tensor | None = None) -> Features:
        """Return {key: (N, ...)} of pictures, in one pass for terms that see colours and one for those that don't."""
        statistics: Features = {}
        for without_colours in (False, True):
            those = [term for term in terms if term.grey == without_colours]
            features = self._features(grey(picture) if without_colours else picture, style_features(those))
            for term in those:
                for name in term.style_features:
                    statistics |= term.statistics(name, features[name], masks)
        return statistics

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured: feature scales, style targets, and the balanced weights.

        Not the targets of "each": their rows follow the style set, are many, and have to be set again.
        """
        of_each = {term.key(name) for term in self._style_terms(EACH) for name in term.style_features}
        targets = {key: target.cpu() for key, target in self.style_targets.items() if key not in of_each}
        return {
            "scales": dict(self.perceptual.scales),
            "style_targets": targets,
            "styles": self.styles,
            "weights": dict(self.weights),
            "balance": self.balance.state_dict() if self.balance else None,
        }

    def load_state_dict(self, saved: Mapping[str, Any], device: torch.device) -> None:
        """Take over what an earlier part of the run measured."""
        self.perceptual.scales = dict(saved["scales"])
        self.style_targets |= {key: target.to(device) for key, target in saved["style_targets"].items()}
        self.styles = list(saved.get("styles", []))
        self.weights = dict(saved["weights"])
        if self.balance:
            self.balance.load_state_dict(saved["balance"])

    def describe(self) -> dict[str, Any]:
        """Describe what a result was trained for (JSON types): network, feature scales, weights."""
        network = self.perceptual
        return {"perceptual": network.name, "scales": dict(network.scales), "weights": dict(self.weights)}

    def settle_balance(self) -> dict[str, float]:
        """Put the balanced weights in force, for good; returns all weights."""
        assert self.balance is not None
        self.weights |= self.balance.freeze_weights(self.weights)
        return self.weights

    def generator_loss(
        self, inputs: LossInputs, logits: Logits | None, *, warming_up: bool, audit: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the weighted sum, and each term by name (unweighted).

        In the warm-up the sum is that of the content term alone, and the others are computed for an audit only.
        """
        terms = {WARMUP: self.terms[WARMUP]} if warming_up and not audit else self.terms
        self._compute_features(inputs, terms.values())
        losses = {name: term(inputs) for name, term in terms.items()}
        if logits is not None and self.adversarial is not None:
            losses[ADVERSARIAL] = self.adversarial.generator_loss(logits, inputs.condition)
        names = [WARMUP] if warming_up else list(losses)
        weighted = [self.weights[name] * losses[name] for name in names if self.weights[name]]
        return torch.stack(weighted).sum() if weighted else inputs.fake.sum() * 0.0, losses

    def gradient_norms(
        self, losses: Mapping[str, Tensor], outputs: Sequence[Tensor], scale: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute each unweighted term's gradient norm (L2) at the generator's outputs, all of them together.

        scale: what float16's losses are multiplied with, so that small gradients are not lost on their way.
        """
        norms = {name: _gradient_norm(loss, outputs, scale) for name, loss in losses.items()}
        if scale is not None:  # which suits the weighted sum: some term alone may be too large for it
            overflown = [name for name, norm in norms.items() if not norm.isfinite()]
            norms |= {name: _gradient_norm(losses[name], outputs, None) for name in overflown}
        return norms

    def gradient_shares(self, norms: Mapping[str, float]) -> dict[str, float]:
        """Compute each term's share: its weight times its gradient norm, divided by the sum over terms."""
        weighted = {name: self.weights[name] * norm for name, norm in norms.items()}
        total = max(sum(weighted.values()), 1e-30)
        return {name: norm / total for name, norm in weighted.items()}

    def _compute_features(self, inputs: LossInputs, terms: Iterable[Term]) -> None:
        """Fill in the features that these terms need: one pass over fake, one over content without gradients.

        Content features that are there already are kept: a content that stays is looked at once.
        """
        terms = list(terms)
        of_content = [name for term in terms for name in term.content_features]
        of_style = [name for term in terms for name in term.style_features]
        inputs.fake_features = self._features(inputs.fake, [*of_content, *of_style])

        # With a condition, style targets begin at the photo's own statistics.
        if inputs.condition is not None:
            of_content += of_style
        if not inputs.content_features.keys() >= set(of_content):
            with torch.no_grad():
                inputs.content_features = self._features(inputs.content, of_content)

        # Targets were computed before step 1, but for those of the style crops themselves.
        inputs.style_targets, inputs.styles = self.style_targets, self.styles
        if of_crops := [term for term in terms if isinstance(term, StyleTerm) and term.target == CROP]:
            with torch.no_grad():
                inputs.style_targets = inputs.style_targets | self._statistics(inputs.style, of_crops)

    def _features(self, images: Tensor, names: Iterable[str]) -> Features:
        """Compute features by name, LAYER or LAYER@SCALE: one pass of the perceptual network for each scale."""
        layers: dict[str, list[str]] = {}
        features: Features = {}
        for name in names:
            if name == PIXELS:
                features[PIXELS] = images
                continue
            layer, _, scale = name.partition("@")
            layers.setdefault(scale, []).append(layer)
        for scale, names_here in layers.items():
            if not scale:
                features |= self.perceptual(images, names_here)
                continue
            size = [max(1, round(side * float(scale))) for side in images.shape[-2:]]
            smaller = F.interpolate(images.float(), size, mode="bilinear", antialias=True)
            features |= {f"{layer}@{scale}": value for layer, value in self.perceptual(smaller, names_here).items()}
        return features


def _gradient_norm(loss: Tensor, outputs: Sequence[Tensor], scale: Tensor | None) -> Tensor:
    scaled = loss if scale is None else loss * scale
    gradients = torch.autograd.grad(scaled, outputs, retain_graph=True, allow_unused=True)
    lengths = [gradient.float().norm() for gradient in gradients if gradient is not None]
    norm = torch.stack(lengths).norm() if lengths else loss.detach() * 0.0
    return norm if scale is None else norm / scale


def content_layers(terms: Iterable[Any]) -> list[str]:
    """List the perceptual network's layers that terms need of the content."""
    return [name for term in terms if isinstance(term, Term) for name in term.content_features]


def style_features(terms: Iterable[Any]) -> list[str]:
    """List the features that terms need of the style: layers, or layers at scales."""
    return [name for term in terms if isinstance(term, Term) for name in term.style_features]


def style_layers(terms: Iterable[Any]) -> list[str]:
    """List the perceptual network's layers that terms need of the style, at whatever scale."""
    return list(dict.fromkeys(name.partition("@")[0] for name in style_features(terms) if name != PIXELS))


def mean_of(sets: Iterable[Features], weights: Iterable[float] | None = None) -> Features:
    """Average each named tensor, weighted where weights (one for each set, in any unit) are given."""
    total: Features = {}
    whole = 0.0
    for features, weight in zip(sets, repeat(1.0) if weights is None else weights, strict=weights is not None):
        total = {key: total[key] + weight * value if total else weight * value for key, value in features.items()}
        whole += weight
    return {key: value / whole for key, value in total.items()}


def rows_of(numbered: Iterable[tuple[int, Features]]) -> Features:
    """Stack each named tensor (1, ...) at its number's row; rows of unreadable pictures are the mean."""
    rows = dict(numbered)
    mean = mean_of(rows.values())
    return {key: torch.cat([rows.get(n, mean)[key] for n in range(max(rows) + 1)]) for key in mean}


@torch.no_grad()
def mean_gram(perceptual: Perceptual, pictures: Iterable[Tensor], layers: Sequence[str]) -> Features:
    """Compute the mean Gram matrix over pictures, each (1, 3, H, W) in [-1, 1] of any size: {layer: (1, C, C)}."""
    features_of_pictures = (perceptual(picture, layers) for picture in pictures)
    return mean_of({layer: gram_matrix(features) for layer, features in maps.items()} for maps in features_of_pictures)


def check_terms(terms: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the option, for terms that cannot make an objective."""
    if not terms:
        raise ValueError("there is no loss term left; keep at least one under loss")
    passes: dict[str, str] = {}
    for name, term in terms.items():
        auxiliary = getattr(term, "auxiliary", None)
        if auxiliary is not None and passes.setdefault(auxiliary, name) != name:
            raise ValueError(f"loss.{name}: loss.{passes[auxiliary]} is of its kind, and there can be one only")
    for name, term in terms.items():
        if (name == ADVERSARIAL) != isinstance(term, Adversarial):
            raise ValueError(f"loss.{name}: the adversarial term, and it alone, is mounted as loss.{ADVERSARIAL}")
        if not math.isfinite(term.weight) or term.weight < 0:
            raise ValueError(
                f"loss.{name}.weight={as_typed(term.weight)}; allowed are finite numbers from 0 (0: log only)"
            )
        if isinstance(term, Content | Style) and (isinstance(term.layers, str) or not term.layers):
            raise ValueError(
                f"loss.{name}.layers={term.layers or []}: give a list of at least one layer, such as [relu3_1], "
                f"or remove the term with ~loss.{name}"
            )
        if isinstance(term, Style) and (
            isinstance(term.scales, str) or not term.scales or not all(0 < scale <= 1 for scale in term.scales)
        ):
            raise ValueError(
                f"loss.{name}.scales={as_typed(term.scales)}: give a list of numbers above 0, up to 1, such as "
                "[1, 0.5, 0.25]"
            )
        if isinstance(term, Style) and term.guided and (term.statistic is not gram_matrix or term.target != MEAN):
            raise ValueError(f"loss.{name}: guided=true is for Gram matrices (GramStyle, GatysStyle) and target={MEAN}")
        if isinstance(term, Content | Style) and term.layer_weights is not None:
            check_mean_weights(term.layer_weights, len(term.layers), f"loss.{name}.layer_weights", "layer")


def check_mean_weights(weights: Any, count: int, option: str, of_what: str) -> None:
    """Raise ValueError, naming the option, for what cannot be the weights of a mean over ``count`` things."""
    allowed = f"one finite number from 0 for each {of_what}, not all 0, or null for equal weights"
    if not isinstance(weights, Sequence) or isinstance(weights, str) or len(weights) != count:
        raise ValueError(f"{option}={as_typed(weights)} for {count} {of_what}s; allowed is a list of {allowed}")
    numbers = all(isinstance(weight, int | float) and not isinstance(weight, bool) for weight in weights)
    if not numbers or not all(0 <= weight < math.inf for weight in weights) or not sum(weights):
        raise ValueError(f"{option}={list(weights)}; allowed is {allowed}")


class Balance:
    """Find weights under which the named terms' gradients have the target shares; then they stay.

    shares: {term: target share}, positive, in any unit. What is shared is each term's weight times the norm of its
    gradient at the generator's output, averaged over the audits of the warm-up. The sum over terms stays what the
    configured weights make it, so that terms outside the balance keep their place.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        self.shares = dict(shares)
        self.norms: dict[str, float] = dict.fromkeys(self.shares, 0.0)
        self.audits = 0
        self.settled = False

    def observe(self, norms: Mapping[str, float]) -> None:
        """Take in one audit: the norm of each term's gradient at the generator's output, unweighted."""
        self.audits += 1
        for name in self.norms:
            self.norms[name] += (norms[name] - self.norms[name]) / self.audits

    def freeze_weights(self, configured: Mapping[str, float]) -> dict[str, float]:
        """Compute the weights of the balanced terms. ValueError for a term whose gradient was always 0."""
        self.settled = True
        if not self.audits:
            raise ValueError("loss.balance: no audit in the warm-up found gradients that are finite numbers")
        if still := [name for name, norm in self.norms.items() if norm == 0.0]:
            raise ValueError(f"loss.balance: the gradient of {', '.join(still)} was 0 all through the warm-up")
        total = sum(configured[name] * norm for name, norm in self.norms.items())
        whole = sum(self.shares.values())
        return {name: share / whole * total / self.norms[name] for name, share in self.shares.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured so far."""
        return {"norms": dict(self.norms), "audits": self.audits, "settled": self.settled}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over what an earlier part of the run measured."""
        self.norms, self.audits, self.settled = dict(saved["norms"]), saved["audits"], saved["settled"]


def check_shares(shares: Mapping[str, float], weights: Mapping[str, float]) -> None:
    """Raise ValueError, naming the option, for shares that no weights could give. weights: those of all terms."""
    if unknown := sorted(shares.keys() - weights.keys()):
        raise ValueError(f"loss.balance names {', '.join(unknown)}; the loss terms are {', '.join(weights)}")
    if len(shares) < 2:
        raise ValueError(f"loss.balance={dict(shares)}: give shares for at least two terms, or null for no balance")
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < math.inf:
            raise ValueError(
                f"loss.balance.{name}={as_typed(share)}; allowed are numbers above 0, relative to each other"
            )
    if not any(weights[name] for name in shares):
        raise ValueError("loss.balance keeps the sum of the weighted gradients, so at least one needs a weight above 0")
