"""Regions in training, for loss terms with guided=true: where they are in photos and in style pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from gan_style.regions.masks import refine
from gan_style.regions.names import REST, numbers_of
from gan_style.regions.segment import MaskRegions, PictureRegions, Segmenter
from gan_style.stylize.controls import AUTO, MaskFinder


@dataclass(frozen=True)
class RegionMasks:
    """Finds a picture's regions, uint8 (R, H, W), nowhere more than 255 in all.

    groups: the numbers of each region's classes, None for what the others leave; find: gives the class-index mask of a
    picture, where the segmenter reads one; ``seen``: the numbers of the regions that some picture had so far.
    """

    segmenter: Segmenter
    groups: Sequence[Sequence[int] | None]
    find: MaskFinder | None = None
    seen: set[int] = field(default_factory=set)

    def __call__(self, path: Path, pixels: Tensor) -> Tensor:
        """pixels: uint8 (3, H, W). ValueError without a mask, and for one that cannot be the picture's."""
        shares = self.segmenter(pixels, [group or [] for group in self.groups], self.classes(path)).cpu()
        if None in self.groups:
            shares[:, self.groups.index(None)] = 1.0 - shares.sum(dim=1)
        masks = refine(pixels, shares)
        self.seen.update(masks.flatten(1).any(dim=1).nonzero().flatten().tolist())
        return masks

    def classes(self, path: Path) -> Path | None:
        """Return a picture's class-index mask, where the segmenter reads one; ValueError where there is none."""
        return None if self.find is None else self.find(path.relative_to(path.anchor))

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return the names of the regions that no picture had so far."""
        return [name for number, name in enumerate(names) if number not in self.seen]


def make_region_masks(regions: Any, role: str) -> RegionMasks:
    """Build it from data.regions; role: content or style. ValueError for unknown names and for what is not there."""
    names, place = list(map(str, regions.names)), str(regions[role])
    if place == AUTO:
        groups: list[list[int] | None] = [[number] for number in range(1, len(names) + 1)]
        return RegionMasks(PictureRegions(len(names)), groups)
    option = f"data.regions.{role}"
    segmenter = MaskRegions(regions.classes, option, "data.regions.classes")
    known = segmenter.names
    groups = [None if name.lower() == REST else numbers_of(name, known, "data.regions.names") for name in names]
    numbers = [number for group in groups for number in group or ()]
    if twice := [number for number in numbers if numbers.count(number) > 1]:
        raise ValueError(f"data.regions.names={names}: {known[twice[0]]} is in two of them")
    return RegionMasks(segmenter, groups, MaskFinder(Path(place).expanduser(), option))


def check_train_regions(regions: Any, guided: Sequence[str], *, one_style: bool) -> None:
    """Raise ValueError where data.regions and the loss terms do not fit together. guided: names of the guided terms."""
    names = regions.names
    if names is None:
        if guided:
            raise ValueError(f"loss.{guided[0]} is guided by regions: give data.regions.names, such as [sky,rest]")
        if given := [name for name in ("content", "style", "classes") if regions[name] is not None]:
            raise ValueError(f"data.regions.{given[0]}={regions[given[0]]}: data.regions.names is missing")
        return
    if not guided:
        raise ValueError(f"data.regions.names={list(names)}: no loss term is guided by regions; see loss=guided")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"data.regions.names={list(names)}: give at least one name, each once")
    if missing := [name for name in ("content", "style", "classes") if regions[name] is None]:
        raise ValueError(f"data.regions.names={list(names)}: data.regions.{missing[0]} is missing")
    if regions.content == AUTO:
        raise ValueError(f"data.regions.content={AUTO}: photos need class-index masks; {AUTO} is for style pictures")
    if not one_style:
        raise ValueError("data.regions is for one style, generator=resnet or slim, and unpaired pictures")
