"""The held-out pictures: sample grids, and what is measured of their results while a run goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gan_style.images import grid
from gan_style.metrics.evaluation import METRICS, OF_PICTURES, Measured, Ruler, check_names

PREFIX = "heldout/"
AUTO = "auto"


@dataclass
class Sampler:
    """Fixed pictures, each (1, 3, H, W) in [-1, 1] on the device, and the ruler that measures their results."""

    contents: Sequence[Tensor]
    styles: Sequence[Tensor]
    ruler: Ruler

    def __post_init__(self) -> None:
        of_photos = [self.ruler.picture(content, self.ruler.look(content)) for content in self.contents]
        self.photo_style = _means(of_photos).get("style")

    @torch.no_grad()
    def results(self, generator: nn.Module) -> list[Tensor]:
        """One for each content picture."""
        return [generator(content).float() for content in self.contents]

    def sheet(self, results: Sequence[Tensor]) -> Tensor:
        """A grid of content | style | result, (3, H, W)."""
        rows = [
            [content[0], self.styles[number % len(self.styles)][0], result[0]]
            for number, (content, result) in enumerate(zip(self.contents, results, strict=True))
        ]
        return grid(rows)

    @torch.no_grad()
    def measure(self, results: Sequence[Tensor]) -> dict[str, float]:
        """{"heldout/content": ..., "heldout/style/relu1_1": ...}: means over pictures.

        heldout/style_photo is the photos' own style distance, heldout/style_ratio the results' divided by it.
        """
        found = []
        for made, content in zip(results, self.contents, strict=True):
            features, of_content = self.ruler.look(made), self.ruler.look(content)
            pair = self.ruler.pair(made, content, features, of_content)
            found.append(pair | self.ruler.picture(made, features))
        values = _means(found)
        if self.photo_style is not None:
            values["style_photo"] = self.photo_style
            values["style_ratio"] = values["style"] / max(self.photo_style, 1e-12)
        return {PREFIX + name: value for name, value in values.items()}


def _means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    means = Measured(numbers={number: dict(one) for number, one in enumerate(found)}).means()
    return {name: estimate.value for name, estimate in means.items()}


@dataclass
class Composite:
    """One number to choose the best checkpoint by; lower is better.

    weights: of metrics by name; one that is better when higher counts as 1 minus itself. lowest: so far in this run.
    """

    weights: Mapping[str, float]
    lowest: float | None = None

    def __call__(self, values: Mapping[str, float]) -> float:
        """Of what Sampler.measure found."""
        found = {name: values[PREFIX + name] for name in self.weights}
        upward = {name for name in found if METRICS[name].better == "higher"}
        return sum(self.weights[name] * (1.0 - x if name in upward else x) for name, x in found.items())


def composite_weights(best: Any, names: Sequence[str]) -> dict[str, float] | None:
    """The weights that metrics.best stands for: its own, for "auto" content and style equally, for None none.

    ValueError, naming the option, for metrics that are not measured in training or have no better end.
    """
    check_names(names, OF_PICTURES, "metrics.names")
    if best is None:
        return None
    if best == AUTO:
        return {name: 1.0 for name in ("content", "style") if name in names}
    if not isinstance(best, Mapping):
        raise ValueError(f"metrics.best={best}: weights such as {{content: 1, style: 1}}, {AUTO}, or null expected")
    for name, weight in best.items():
        if name not in names:
            raise ValueError(f"metrics.best.{name}: not in metrics.names={list(names)}")
        if not METRICS[name].better:
            raise ValueError(f"metrics.best.{name}: neither more nor less of it is better; take others")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise ValueError(f"metrics.best.{name}={weight}; allowed are finite numbers from 0")
    return dict(best)
