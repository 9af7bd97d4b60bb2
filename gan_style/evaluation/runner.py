"""Measure whole sets: each rank its share of the pictures; the parts are then put together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from gan_style.data.pictures import UnreadablePictures, first_of_parts
from gan_style.evaluation.suite import PHOTOS, Measurements, MetricSuite, halves
from gan_style.functional import gram_matrix
from gan_style.images.decode import decode, to_float
from gan_style.images.formats import UnreadablePictureError
from gan_style.losses.objective import mean_of
from gan_style.losses.term import Features
from gan_style.runtime.distributed import Ranks


class ModelOutputs(Protocol):
    """Hold what one model makes of content pictures."""

    def __call__(self, path: Path, content: Tensor) -> Tensor:
        """Return the output for a content picture's file and its pixels (1, 3, H, W) in [-1, 1]; of equal shape."""


@dataclass
class Evaluator:
    """Measure photos, outputs and style pictures, all scaled to the short side ``size``; progress: prints a line."""

    suite: MetricSuite
    size: int
    device: torch.device
    ranks: Ranks
    progress: Callable[[str], None]

    def measure_styles(self, paths: Sequence[Path], watch: UnreadablePictures) -> tuple[Measurements, Measurements]:
        """Return (reference half, other half); the reference's mean Gram matrices become the suite's style targets."""
        self.progress(f"measuring {len(paths)} style pictures ...")
        reference, others = (set(half) for half in halves(range(len(paths))))
        measured, grams = Measurements(), []
        for number, _, picture in self._pictures(paths, reference, watch):
            features = self.suite.features(picture)
            measured.embeddings[number] = self.suite.embed(picture, features)
            if "style" in self.suite.names:
                grams.append({layer: gram_matrix(features[layer]) for layer in self.suite.style_layers})
        self.suite.grams = self._mean_over_ranks(grams)
        rest = Measurements()
        for number, _, picture in self._pictures(paths, others, watch):
            features = self.suite.features(picture)
            rest.numbers[number] = self.suite.measure_image(picture, features)
            rest.embeddings[number] = self.suite.embed(picture, features)
        self._share(watch)
        return tuple(Measurements.merged(self.ranks.gather(part)) for part in (measured, rest))  # type: ignore[return-value]

    def _mean_over_ranks(self, grams: Sequence[Features]) -> Features:
        """Return the mean over all ranks' parts, each weighted by its count."""
        rank_mean = {layer: gram.cpu() for layer, gram in mean_of(grams).items()}
        parts = [(part, count) for part, count in self.ranks.gather((rank_mean, len(grams))) if count]
        whole = mean_of((part for part, _ in parts), [count for _, count in parts])
        return {layer: gram.to(self.device) for layer, gram in whole.items()}

    def measure_outputs(
        self, paths: Sequence[Path], models: Mapping[str, ModelOutputs], watch: UnreadablePictures
    ) -> dict[str, Measurements]:
        """Return {PHOTOS and each model: measurements} under the photos' numbers."""
        measured = {name: Measurements() for name in (PHOTOS, *models)}
        for number, path, content in self._pictures(paths, None, watch):
            content_features = self.suite.features(content)
            for name, measurements in measured.items():
                output = content if name == PHOTOS else models[name](path, content)
                features = content_features if name == PHOTOS else self.suite.features(output)
                numbers = self.suite.measure_pair(output, content, features, content_features)
                measurements.numbers[number] = numbers | self.suite.measure_image(output, features)
                measurements.embeddings[number] = self.suite.embed(output, features)
            if (number + 1) % max(1, len(paths) // 10) == 0 or number + 1 == len(paths):
                self.progress(f"measured {number + 1} of {len(paths)} content pictures")
        self._share(watch)
        return {name: Measurements.merged(self.ranks.gather(part)) for name, part in measured.items()}

    def _share(self, watch: UnreadablePictures) -> None:
        """Count and name on every rank what any of them cannot read."""
        for problems in self.ranks.gather(list(watch.problems.items())):
            watch.report(*problems)

    def _pictures(
        self, paths: Sequence[Path], chosen: set[int] | None, watch: UnreadablePictures
    ) -> Iterator[tuple[int, Path, Tensor]]:
        """Yield (number, file, (1, 3, H, W)) of the readable ones of this rank's share of the chosen."""
        numbers = [number for number in range(len(paths)) if chosen is None or number in chosen]
        for _, number in self.ranks.share(numbers):
            try:
                picture = decode(paths[number], short_side=self.size)
            except UnreadablePictureError as error:
                watch.report((str(paths[number]), str(error)))
                continue
            yield number, paths[number], to_float(picture[None].to(self.device))


def pick_worst(models: Mapping[str, Measurements], count: int) -> list[int]:
    """Return the numbers of up to ``count`` pictures for a sheet.

    Half of them are those where some model did worst, by content and style distance in turn; the others are spread
    evenly.
    """
    numbers = sorted({number for measured in models.values() for number in measured.numbers})
    if len(numbers) <= count:
        return numbers
    rankings = [
        sorted(
            (n for n in measured.numbers if metric in measured.numbers[n]), key=lambda n: -measured.numbers[n][metric]
        )
        for measured in models.values()
        for metric in ("content", "style")
    ]
    chosen = dict.fromkeys(n for row in zip(*(r for r in rankings if r), strict=False) for n in row)
    picked = list(chosen)[: count // 2]
    rest = [n for n in numbers if n not in picked]
    return sorted([*picked, *first_of_parts(rest, count - len(picked))])
