"""A run's pictures: what is trained on, what is held out, and whole pictures for targets and samples."""

import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gan_style.data.pictures import PictureSet, UnreadablePictures, find_pictures, held_out_split
from gan_style.data.stream import Crop
from gan_style.images import UnreadablePictureError, decode, to_float

Spec = str | Sequence[str]


@dataclass
class Pictures:
    """content, style: the sets that are trained on; held_out: files for the samples."""

    content: PictureSet
    style: PictureSet
    held_out: list[Path]
    held_out_is_trained_on: bool
    style_short_side: int

    @property
    def in_memory(self) -> bool:
        """Whether both sets are decoded already."""
        return self.content.cached and self.style.cached

    @property
    def watches(self) -> dict[str, UnreadablePictures]:
        """Who counts the unreadable pictures of each option."""
        return {watch.option: watch for watch in (self.content.watch, self.style.watch)}

    def content_crops(self, count: int, crop: Crop, seed: int, device: torch.device) -> Iterator[Tensor]:
        """Crops (1, 3, S, S) in [-1, 1] of up to ``count`` readable content pictures, drawn with ``seed``."""
        rng = random.Random(seed)
        for number in rng.sample(range(len(self.content)), min(count, len(self.content))):
            try:
                yield to_float(crop(self.content[number], rng)[None].to(device))
            except UnreadablePictureError as error:
                self.content.watch.report((str(self.content.paths[number]), str(error)))

    def style_pictures(self, device: torch.device, short_side: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """The style set's readable pictures with their numbers, whole (1, 3, H, W) in [-1, 1], one after the other.

        short_side: None for the middle of the range that crops are cut from.
        """
        return load(self.style.paths, short_side or self.style_short_side, device, self.style.watch)

    def held_out_pictures(self, device: torch.device, short_side: int) -> list[Tensor]:
        """The readable held-out pictures, whole (1, 3, H, W) in [-1, 1]; ValueError where there are none."""
        watch = UnreadablePictures("data.holdout", len(self.held_out), limit=1.0)
        return [picture for _, picture in load(self.held_out, short_side, device, watch)]


def open_pictures(
    *,
    content: Spec,
    style: Spec,
    holdout: Spec | None,
    holdout_count: int,
    resize: tuple[int, int],
    style_resize: tuple[int, int],
    cache_mb: float,
    max_unreadable: float,
) -> Pictures:
    """Find, split and (where they fit the cache) decode the pictures. Arguments as in conf/train.yaml under data."""
    style_paths = find_pictures(style, "data.style")
    content_paths, held_out, both = split(content, holdout, holdout_count)
    if both:
        warnings.warn(f"{both} pictures of data.holdout, in data.content too, are not trained on", stacklevel=2)
    trained_on = not held_out
    if trained_on:
        warnings.warn(
            "too few content pictures to hold any out: the samples show some that are trained on", stacklevel=2
        )
        held_out = content_paths[: max(1, holdout_count)]

    def picture_set(option: str, paths: list[Path], longest: int) -> PictureSet:
        watch = UnreadablePictures(option, len(paths), max_unreadable)
        return PictureSet(paths, short_side=longest, cache_bytes=cache_mb * 1e6 / 2, watch=watch)

    return Pictures(
        content=picture_set("data.content", content_paths, resize[1]),
        style=picture_set("data.style", style_paths, style_resize[1]),
        held_out=held_out,
        held_out_is_trained_on=trained_on,
        style_short_side=round(sum(style_resize) / 2),
    )


def split(content: Spec, holdout: Spec | None, holdout_count: int) -> tuple[list[Path], list[Path], int]:
    """(trained on, held out, how many of the held-out ones were named in both); arguments as in conf/train.yaml."""
    content_paths = find_pictures(content, "data.content")
    if holdout is None:
        return *held_out_split(content_paths, holdout_count), 0
    held_out = find_pictures(holdout, "data.holdout")
    both = set(held_out) & set(content_paths)
    training = [path for path in content_paths if path not in both]
    if not training:
        raise ValueError("data.holdout leaves no picture of data.content to train on")
    return training, held_out, len(both)


def load(
    paths: Iterable[Path], short_side: int, device: torch.device, watch: UnreadablePictures
) -> Iterator[tuple[int, Tensor]]:
    """(place in ``paths``, picture): readable ones, whole, as (1, 3, H, W) in [-1, 1] on the device.

    ``watch`` is told of the others.
    """
    for number, path in enumerate(paths):
        try:
            yield number, to_float(decode(path, short_side=short_side)[None].to(device))
        except UnreadablePictureError as error:
            watch.report((str(path), str(error)))
