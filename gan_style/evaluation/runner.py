"""Measuring whole sets: every picture in turn, this rank's share of them, and the ranks' parts put together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from gan_style.data.pictures import UnreadablePictures
from gan_style.evaluation.suite import PHOTOS, Measured, Ruler, halves
from gan_style.functional import gram_matrix
from gan_style.images.decode import decode, to_float
from gan_style.images.formats import UnreadablePictureError
from gan_style.losses.objective import mean_of
from gan_style.losses.scene import Features
from gan_style.runtime.distributed import Ranks


class Results(Protocol):
    """The results of one model."""

    def __call__(self, path: Path, content: Tensor) -> Tensor:
        """The result for a content picture: its file, and its pixels (1, 3, H, W) in [-1, 1]; same shape and range."""


@dataclass
class Judge:
    """Measures photos, results and style pictures, all scaled to the short side ``size``.

    say: told of progress, on the first rank only.
    """

    ruler: Ruler
    size: int
    device: torch.device
    ranks: Ranks
    say: Callable[[str], None]

    def styles(self, paths: Sequence[Path], watch: UnreadablePictures) -> tuple[Measured, Measured]:
        """(reference, the other half); from the reference come the Gram matrices that everything is compared with."""
        self.say(f"measuring {len(paths)} style pictures ...")
        reference, others = (set(half) for half in halves(range(len(paths))))
        measured, grams = Measured(), []
        for number, _, picture in self._pictures(paths, reference, watch):
            features = self.ruler.look(picture)
            measured.embeddings[number] = self.ruler.embeddings(picture, features)
            if "style" in self.ruler.names:
                grams.append({layer: gram_matrix(features[layer]) for layer in self.ruler.style_layers})
        self.ruler.grams = self._mean_over_ranks(grams)
        rest = Measured()
        for number, _, picture in self._pictures(paths, others, watch):
            features = self.ruler.look(picture)
            rest.numbers[number] = self.ruler.picture(picture, features)
            rest.embeddings[number] = self.ruler.embeddings(picture, features)
        self._share(watch)
        return tuple(Measured.merged(self.ranks.gather(part)) for part in (measured, rest))  # type: ignore[return-value]

    def _mean_over_ranks(self, grams: Sequence[Features]) -> Features:
        """Every rank has the mean of its part; weighted by their counts these make the mean of all."""
        own = {layer: gram.cpu() for layer, gram in mean_of(grams).items()}
        parts = [(part, count) for part, count in self.ranks.gather((own, len(grams))) if count]
        whole = mean_of((part for part, _ in parts), [count for _, count in parts])
        return {layer: gram.to(self.device) for layer, gram in whole.items()}

    def contents(
        self, paths: Sequence[Path], models: Mapping[str, Results], watch: UnreadablePictures
    ) -> dict[str, Measured]:
        """{photos and each model: measured}, all under the photos' numbers; every photo is looked at once."""
        found = {name: Measured() for name in (PHOTOS, *models)}
        for number, path, content in self._pictures(paths, None, watch):
            of_content = self.ruler.look(content)
            for name in found:
                made = content if name == PHOTOS else models[name](path, content)
                features = of_content if name == PHOTOS else self.ruler.look(made)
                numbers = self.ruler.pair(made, content, features, of_content)
                found[name].numbers[number] = numbers | self.ruler.picture(made, features)
                found[name].embeddings[number] = self.ruler.embeddings(made, features)
            if (number + 1) % max(1, len(paths) // 10) == 0 or number + 1 == len(paths):
                self.say(f"measured {number + 1} of {len(paths)} content pictures")
        self._share(watch)
        return {name: Measured.merged(self.ranks.gather(part)) for name, part in found.items()}

    def _share(self, watch: UnreadablePictures) -> None:
        """What another rank cannot read counts, and is named, on this one too."""
        for problems in self.ranks.gather(list(watch.problems.items())):
            watch.report(*problems)

    def _pictures(
        self, paths: Sequence[Path], chosen: set[int] | None, watch: UnreadablePictures
    ) -> Iterator[tuple[int, Path, Tensor]]:
        """(number, file, (1, 3, H, W)): the readable ones of this rank's share of the chosen."""
        numbers = [number for number in range(len(paths)) if chosen is None or number in chosen]
        for _, number in self.ranks.share(numbers):
            try:
                picture = decode(paths[number], short_side=self.size)
            except UnreadablePictureError as error:
                watch.report((str(paths[number]), str(error)))
                continue
            yield number, paths[number], to_float(picture[None].to(self.device))


def worst(models: Mapping[str, Measured], count: int) -> list[int]:
    """The numbers of up to ``count`` pictures for a sheet: half of them where some model did worst, by its content and
    style distance in turn, the others evenly spread.
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
    spread = [rest[i * len(rest) // (count - len(picked))] for i in range(count - len(picked))]
    return sorted([*picked, *spread])
