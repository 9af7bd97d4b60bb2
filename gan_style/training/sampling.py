"""The held-out pictures: sample grids, and what is measured of their results while a run goes on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gan_style.evaluation.suite import METRICS, OF_PICTURES, Measurements, MetricSuite, check_metrics
from gan_style.images.decode import grid, to_uint8
from gan_style.models.reference import ReferenceGenerator
from gan_style.options import as_typed

PREFIX = "heldout/"
AUTO = "auto"


@dataclass
class Sampler:
    """Fixed pictures, each (1, 3, H, W) in [-1, 1] on the device, and the suite that measures their results."""

    contents: Sequence[Tensor]
    styles: Sequence[Tensor]
    suite: MetricSuite

    def __post_init__(self) -> None:
        of_photos = [self.suite.measure_image(content, self.suite.features(content)) for content in self.contents]
        self.photo_style = _means(of_photos).get("style")

    @torch.no_grad()
    def results(self, generator: nn.Module) -> list[Tensor]:
        """Make a result for each content picture."""
        return [generator(content).float() for content in self.contents]

    def sheet(self, results: Sequence[Tensor]) -> Tensor:
        """Return a grid of content | style | result, (3, H, W)."""
        return grid(self._panels(results))

    def rows(self, results: Sequence[Tensor]) -> list[list[Tensor]]:
        """Return the same pictures one by one, each uint8 (3, H, W) on the CPU."""
        return [[to_uint8(picture).cpu() for picture in row] for row in self._panels(results)]

    def _panels(self, results: Sequence[Tensor]) -> list[list[Tensor]]:
        return [
            [content[0], self.styles[number % len(self.styles)][0], result[0]]
            for number, (content, result) in enumerate(zip(self.contents, results, strict=True))
        ]

    @torch.no_grad()
    def measure(self, results: Sequence[Tensor]) -> dict[str, float]:
        """Return {"heldout/content": ..., "heldout/style/relu1_1": ...}: means over pictures.

        heldout/style_photo is the photos' own style distance, heldout/style_ratio the results' divided by it.
        """
        rows = []
        for result, content in zip(results, self.contents, strict=True):
            features, of_content = self.suite.features(result), self.suite.features(content)
            pair = self.suite.measure_pair(result, content, features, of_content)
            rows.append(pair | self.suite.measure_image(result, features))
        values = _means(rows)
        if self.photo_style is not None:
            values["style_photo"] = self.photo_style
            values["style_ratio"] = values["style"] / max(self.photo_style, 1e-12)
        return {PREFIX + name: value for name, value in values.items()}


@dataclass
class LibrarySampler:
    """The same for a library of styles, in the order of the condition's columns: every picture in every style."""

    by_style: Mapping[str, Sampler]

    @property
    def suite(self) -> MetricSuite:
        """Return the first style's suite: what it measures, all measure."""
        return next(iter(self.by_style.values())).suite

    @property
    def contents(self) -> Sequence[Tensor]:
        """Return the content pictures, the same for every style."""
        return next(iter(self.by_style.values())).contents

    def results(self, generator: nn.Module) -> list[Tensor]:
        """Return every style's results, one for each content picture, at full strength."""
        results = []
        for number, sampler in enumerate(self.by_style.values()):
            condition = torch.eye(len(self.by_style), device=sampler.contents[0].device)[number : number + 1]
            with torch.no_grad():
                results += [generator(content, condition).float() for content in sampler.contents]
        return results

    def sheet(self, results: Sequence[Tensor]) -> Tensor:
        """Return a grid (3, H, W): the styles above, and for each content its results under them."""
        samplers, contents = list(self.by_style.values()), self.contents
        blank = torch.ones_like(contents[0][0])
        rows = [[blank, *(sampler.styles[0][0] for sampler in samplers)]]
        rows += [
            [content[0], *(result[0] for result in results[n :: len(contents)])] for n, content in enumerate(contents)
        ]
        width = contents[0].shape[-1]
        return grid([[_fitted(picture, contents[0].shape[-2], width) for picture in row] for row in rows])

    def rows(self, results: Sequence[Tensor]) -> list[list[Tensor]]:
        """Return content | style | result of every style, each uint8 (3, H, W) on the CPU."""
        count = len(self.contents)
        each = enumerate(self.by_style.values())
        return [row for n, sampler in each for row in sampler.rows(results[n * count : (n + 1) * count])]

    def measure(self, results: Sequence[Tensor]) -> dict[str, float]:
        """Measure each style under its name, {"heldout/monet/content": ...}, and their means over the styles."""
        count = len(self.contents)
        each = {}
        for number, (name, sampler) in enumerate(self.by_style.items()):
            each[name] = sampler.measure(results[number * count : (number + 1) * count])
        keys = next(iter(each.values()))
        means = {key: sum(values[key] for values in each.values()) / len(each) for key in keys}
        summary = {
            f"{PREFIX}{name}/{key.removeprefix(PREFIX)}": value
            for name, values in each.items()
            for key, value in values.items()
            if key.count("/") == 1
        }
        return means | summary


@dataclass
class ReferenceSampler(LibrarySampler):
    """The same in the styles of references, which the generator is shown."""

    def results(self, generator: nn.Module) -> list[Tensor]:
        """Return every reference's results, one for each content picture, at full strength."""
        assert isinstance(generator, ReferenceGenerator)
        with torch.no_grad():
            codes = {name: generator.encode(sampler.styles[0]) for name, sampler in self.by_style.items()}
        return super().results(generator.library(codes))


def _fitted(picture: Tensor, height: int, width: int) -> Tensor:
    """Cut (3, H, W) in its middle to the shape of height and width, for a grid whose columns are aligned."""
    scale = max(height / picture.shape[-2], width / picture.shape[-1])
    size = [max(side, round(length * scale)) for side, length in zip((height, width), picture.shape[-2:], strict=True)]
    scaled = torch.nn.functional.interpolate(picture[None].float(), size, mode="bilinear", antialias=True)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return scaled[:, top : top + height, left : left + width]


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    means = Measurements(numbers={number: dict(row) for number, row in enumerate(rows)}).means()
    return {name: estimate.value for name, estimate in means.items()}


@dataclass
class Composite:
    """Compute one number to choose the best checkpoint by; lower is better.

    weights: of metrics by name; one that is better when higher counts as 1 minus itself. lowest: so far in this run.
    """

    weights: Mapping[str, float]
    lowest: float | None = None

    def __call__(self, values: Mapping[str, float]) -> float:
        """Compute it of the numbers of Sampler.measure."""
        numbers = {name: values[PREFIX + name] for name in self.weights}
        upward = {name for name in numbers if METRICS[name].better == "higher"}
        return sum(self.weights[name] * (1.0 - x if name in upward else x) for name, x in numbers.items())


def measurable(names: Sequence[str], content: Collection[str], style: Collection[str]) -> list[str]:
    """List those of metrics.names that can be measured: with layers of a content loss, and of a style loss."""
    needed = {"content": content, "style": style}
    return [name for name in names if needed.get(name, True)]


def composite_weights(best: Any, names: Sequence[str]) -> dict[str, float] | None:
    """Return the weights that metrics.best stands for: its own, for "auto" content and style equally, for None none.

    ValueError, naming the option, for metrics that are not measured in training or have no better end.
    """
    check_metrics(names, OF_PICTURES, "metrics.names")
    if best is None:
        return None
    if best == AUTO:
        return {name: 1.0 for name in ("content", "style") if name in names}
    if not isinstance(best, Mapping):
        raise ValueError(
            f"metrics.best={as_typed(best)}: weights such as {{content: 1, style: 1}}, {AUTO}, or null expected"
        )
    for name, weight in best.items():
        if name not in names:
            raise ValueError(f"metrics.best.{name}: not in metrics.names={list(names)}")
        if not METRICS[name].better:
            raise ValueError(f"metrics.best.{name}: neither more nor less of it is better; take others")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise ValueError(f"metrics.best.{name}={as_typed(weight)}; allowed are finite numbers from 0")
    return dict(best)
