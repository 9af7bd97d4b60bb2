"""Evaluation: what is measured of each picture, and what follows from it for a set of pictures.

Each picture's numbers and embeddings are kept under its number. So the parts that several ranks have measured are
merged by putting them together, and what follows is the same to the bit as if one rank had measured all.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gan_style.evaluation.metrics import (
    FEWEST_FOR_DECEPTION,
    FEWEST_FOR_KID,
    NORMAL_95,
    Estimate,
    Moments,
    StyleClassifier,
    colour_drift,
    embedding,
    frechet_distance,
    kernel_distance,
    ssim,
    structure,
    wilson,
)
from gan_style.functional import gram_matrix
from gan_style.losses.content import content_loss
from gan_style.losses.style import gram_loss
from gan_style.losses.term import Features
from gan_style.models.perceptual import Perceptual
from gan_style.options import did_you_mean

PHOTOS, STYLES = "photos", "style pictures"  # the baselines that are measured like models
PERCEPTUAL, INCEPTION = "perceptual", "inception"  # spaces of embeddings
_FEWEST_TO_HALVE = 8


@dataclass(frozen=True)
class Metric:
    """better: "lower", "higher", or "" where neither is. paired: needs the content picture."""

    better: str
    paired: bool
    meaning: str


METRICS = {
    "content": Metric("lower", True, "content distance, mean over layers (Johnson et al. 2016, eq. 2)"),
    "ssim": Metric("higher", True, "structural similarity of luma (Wang et al. 2004)"),
    "structure": Metric("higher", True, "agreement of edges (gradient magnitude similarity, Xue et al. 2014)"),
    "style": Metric("lower", False, "style distance to the style set's mean Gram matrices (Gatys et al. 2016)"),
    "colour/mean": Metric("", True, "how far the mean colour moved, in L*a*b* (Reinhard et al. 2001)"),
    "colour/spread": Metric("", True, "how far the colours' standard deviations moved, in L*a*b*"),
    "kid": Metric("lower", False, "kernel distance to the style set, perceptual features (Binkowski et al. 2018)"),
    "frechet": Metric("lower", False, "Frechet distance to the style set, perceptual features (Heusel et al. 2017)"),
    "deception": Metric("higher", False, "share taken for style pictures (Sanakoyeu et al. 2018)"),
    "lpips": Metric("lower", True, "learned perceptual distance, AlexNet (Zhang et al. 2018)"),
    "fid": Metric("lower", False, "Frechet distance to the style set, Inception features (Heusel et al. 2017)"),
    "artfid": Metric("lower", False, "(1 + lpips) (1 + fid) (Wright and Ommer 2022)"),
}
OPTIONAL = ("lpips", "fid", "artfid")  # with weights that have to be at hand
DEFAULT = tuple(name for name in METRICS if name not in OPTIONAL)
OF_PICTURES = ("content", "ssim", "structure", "style", "colour/mean", "colour/spread")  # cheap enough for training


def check_metrics(names: Iterable[str], known: Sequence[str] = tuple(METRICS), option: str = "metrics") -> None:
    """Raise ValueError, naming the nearest, for a metric that does not exist."""
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"{option}: there is no metric {name!r}{hint}; known are {', '.join(known)}")


def missing_requirements(names: Iterable[str], photos: int, styles: int) -> dict[str, str]:
    """Return {metric: why it cannot be computed} with so many content and style pictures."""
    reference = len(halves(range(styles))[0])
    reasons = {}
    for name in names:
        if name == "kid" and min(photos, reference) < FEWEST_FOR_KID:
            reasons[name] = (
                f"kid needs at least {FEWEST_FOR_KID} content pictures and as many style pictures to compare with; "
                f"there are {photos} and {reference}"
            )
        elif name in ("frechet", "fid", "artfid") and min(photos, reference) < 2:
            reasons[name] = f"{name} needs at least 2 content and 2 style pictures; there are {photos} and {styles}"
        elif name == "deception" and min(photos, styles) < 2 * FEWEST_FOR_DECEPTION:
            reasons[name] = (
                f"deception needs at least {2 * FEWEST_FOR_DECEPTION} content and {2 * FEWEST_FOR_DECEPTION} style "
                f"pictures, half of them to learn from; there are {photos} and {styles}"
            )
    return reasons


def halves(items: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return (reference, other half), every other item each; where there are few, all are the reference."""
    if len(items) < _FEWEST_TO_HALVE:
        return list(items), []
    return list(items[::2]), list(items[1::2])


@dataclass
class MetricSuite:
    """Measure single pictures, each (1, 3, H, W) in [-1, 1], by the metrics in ``names``.

    grams: the style set's mean Gram matrices {layer: (1, C, C)}; lpips: of (result, content), (1,); inception: of a
    picture, (1, D).
    """

    perceptual: Perceptual
    names: Sequence[str]
    content_layers: Sequence[str]
    style_layers: Sequence[str]
    embedding_layers: Sequence[str]
    grams: Features = field(default_factory=dict)
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None
    inception: Callable[[Tensor], Tensor] | None = None

    @torch.no_grad()
    def features(self, picture: Tensor) -> Features:
        """Compute the features that the metrics need, in one pass."""
        layers = [*self.embedding_layers] if self._needs_embedding else []
        layers += self.content_layers if "content" in self.names else []
        layers += self.style_layers if "style" in self.names else []
        return self.perceptual(picture, layers) if layers else {}

    @property
    def _needs_embedding(self) -> bool:
        return bool({"kid", "frechet", "deception"} & set(self.names))

    @torch.no_grad()
    def measure_image(self, picture: Tensor, features: Features) -> dict[str, float]:
        """Return the numbers of a picture alone."""
        if "style" not in self.names:
            return {}
        losses = {f"style/{k}": gram_loss(gram_matrix(features[k]), gram) for k, gram in self.grams.items()}
        return _with_mean("style", losses)

    @torch.no_grad()
    def measure_pair(
        self, result: Tensor, content: Tensor, features: Features, content_features: Features
    ) -> dict[str, float]:
        """Return the numbers of a result and its content picture."""
        numbers: dict[str, float] = {}
        if "content" in self.names:
            layers = self.content_layers
            numbers |= _with_mean(
                "content", {f"content/{k}": content_loss(features[k], content_features[k]) for k in layers}
            )
        for name, measure in (("ssim", ssim), ("structure", structure), ("lpips", self.lpips)):
            if name in self.names or (name == "lpips" and measure is not None):
                assert measure is not None
                numbers[name] = measure(result, content).item()
        if {"colour/mean", "colour/spread"} & set(self.names):
            drift = zip(("colour/mean", "colour/spread"), colour_drift(result, content), strict=True)
            numbers |= {name: value.item() for name, value in drift if name in self.names}
        return numbers

    @torch.no_grad()
    def embed(self, picture: Tensor, features: Features) -> dict[str, Tensor]:
        """Return {space: (D,)} on the CPU."""
        embeddings = {}
        if self._needs_embedding:
            embeddings[PERCEPTUAL] = embedding({k: features[k] for k in self.embedding_layers})[0].cpu()
        if self.inception is not None:
            embeddings[INCEPTION] = self.inception(picture)[0].float().cpu()
        return embeddings


def _with_mean(name: str, layers: Mapping[str, Tensor]) -> dict[str, float]:
    numbers = {layer: value.item() for layer, value in layers.items()}
    return {name: sum(numbers.values()) / len(numbers)} | numbers


@dataclass
class Measurements:
    """Numbers and embeddings of a set of pictures, by the pictures' numbers."""

    numbers: dict[int, dict[str, float]] = field(default_factory=dict)
    embeddings: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    @classmethod
    def merged(cls, parts: Iterable["Measurements"]) -> "Measurements":
        """Merge what several ranks have measured, in the order of the pictures' numbers."""
        whole = cls()
        for part in parts:
            whole.numbers |= part.numbers
            whole.embeddings |= part.embeddings
        return cls(dict(sorted(whole.numbers.items())), dict(sorted(whole.embeddings.items())))

    def rows(self, space: str, numbers: Iterable[int] | None = None) -> Tensor:
        """Return the embeddings of all pictures, or of these, (n, D)."""
        chosen = self.embeddings if numbers is None else [n for n in numbers if n in self.embeddings]
        return torch.stack([self.embeddings[number][space] for number in chosen])

    def means(self) -> dict[str, Estimate]:
        """Return each metric's mean over pictures, with the standard error of the mean."""
        names = dict.fromkeys(name for numbers in self.numbers.values() for name in numbers)
        return {name: _mean([numbers[name] for numbers in self.numbers.values() if name in numbers]) for name in names}


def _mean(values: Sequence[float]) -> Estimate:
    rows = torch.tensor(values, dtype=torch.float64)
    error = (rows.std() / len(rows) ** 0.5).item() if len(rows) > 1 else None
    return Estimate(rows.mean().item(), error, len(rows))


def summary(
    sets: Mapping[str, Measurements], reference: Measurements, names: Sequence[str]
) -> dict[str, dict[str, Estimate]]:
    """Return {set: {metric or metric/layer: estimate}}.

    sets: the photos, every model's results under the photos' numbers, and (where there are enough) the other half of
    the style pictures; reference: the half that all are compared with.
    """
    scores = {name: measured.means() for name, measured in sets.items()}
    if "deception" in names:
        for name, rate in _deception(sets, reference).items():
            scores[name]["deception"] = rate
    for metric, space in (("kid", PERCEPTUAL), ("frechet", PERCEPTUAL), ("fid", INCEPTION)):
        if metric in names or (metric == "fid" and "artfid" in names):
            for name, measured in sets.items():
                if len(measured.embeddings) >= (FEWEST_FOR_KID if metric == "kid" else 2):
                    rows = measured.rows(space), reference.rows(space)
                    is_kid = metric == "kid"
                    scores[name][metric] = (
                        kernel_distance(*rows) if is_kid else frechet_distance(*map(Moments.of, rows))
                    )
    if "artfid" in names:
        for row in scores.values():
            if "lpips" in row and "fid" in row:
                row["artfid"] = Estimate((1 + row["lpips"].value) * (1 + row["fid"].value), None, row["fid"].n)
    return scores


def _deception(sets: Mapping[str, Measurements], reference: Measurements) -> dict[str, Estimate]:
    """Train the classifier on one half of the photos and the reference, and ask it about results of the others."""
    learned, asked = halves(list(sets[PHOTOS].embeddings))
    photos = sets[PHOTOS].rows(PERCEPTUAL, learned)
    classifier = StyleClassifier.trained(photos, reference.rows(PERCEPTUAL))
    rates = {}
    for name, measured in sets.items():
        rows = measured.rows(PERCEPTUAL, None if name == STYLES else asked)
        rate = classifier.rate(rows)
        interval = wilson(rate * len(rows), len(rows))  # which is not of width 0 where all, or none, are taken for it
        error = (interval.high - interval.low) / (2 * NORMAL_95) if interval else None
        rates[name] = Estimate(rate, error, len(rows))
    return rates


@torch.no_grad()
def style_distance(perceptual: Perceptual, image: Tensor, grams: Features) -> float:
    """Average gram_loss of a picture (1, 3, H, W) in [-1, 1] to Gram matrices {layer: (1, C, C)} over layers."""
    features = perceptual(image, list(grams))
    losses = [gram_loss(gram_matrix(features[layer]), gram) for layer, gram in grams.items()]
    return torch.stack(losses).mean().item()


@torch.no_grad()
def content_distance(perceptual: Perceptual, image: Tensor, content: Tensor, layers: Sequence[str]) -> float:
    """Average content_loss of two pictures (1, 3, H, W) in [-1, 1] over layers."""
    features, targets = perceptual(image, layers), perceptual(content, layers)
    return torch.stack([content_loss(features[layer], targets[layer]) for layer in layers]).mean().item()
