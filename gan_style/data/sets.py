"""A run's pictures: what is trained on, what is held out, and whole pictures for targets and samples."""

import random
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from gan_style.data.pictures import PictureSet, UnreadablePictures, find_pictures, held_out_split
from gan_style.data.stream import Crop
from gan_style.images.decode import decode, to_float
from gan_style.images.formats import UnreadablePictureError

Spec = str | Sequence[str]


@dataclass
class Pictures:
    """content, styles: the sets that are trained on, a style's by its name, or under "" where there is one alone;
    held_out: files for the samples, held_out_styles: for the references among them.
    """

    content: PictureSet
    styles: dict[str, PictureSet]
    held_out: list[Path]
    held_out_is_trained_on: bool
    style_short_side: int
    held_out_styles: list[Path] = field(default_factory=list)

    @property
    def in_memory(self) -> bool:
        """Return whether all sets are decoded already."""
        return all(folder.cached for folder in (self.content, *self.styles.values()))

    @property
    def style_paths(self) -> list[Path]:
        """List the paths of all style pictures, in the order of their numbers."""
        return [path for folder in self.styles.values() for path in folder.paths]

    @property
    def watches(self) -> dict[str, UnreadablePictures]:
        """Return the counters of unreadable pictures by option."""
        return {folder.watch.option: folder.watch for folder in (self.content, *self.styles.values())}

    def content_crops(self, count: int, crop: Crop, seed: int, device: torch.device) -> Iterator[Tensor]:
        """Yield crops (1, 3, S, S) in [-1, 1] of up to ``count`` readable content pictures, drawn with ``seed``.

        For one that cannot be read another is taken.
        """
        rng = random.Random(seed)
        chosen = rng.sample(range(len(self.content)), min(count, len(self.content)))
        taken = set(chosen)
        others = (number for number in range(len(self.content)) if number not in taken)
        while chosen:
            number = chosen.pop(0)
            try:
                yield to_float(crop(self.content[number], rng)[None].to(device))
            except UnreadablePictureError as error:
                self.content.watch.report((str(self.content.paths[number]), str(error)))
                chosen += islice(others, 1)

    def style_pictures(
        self, device: torch.device, short_side: int | None = None, name: str | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield the readable style pictures with their numbers, whole (1, 3, H, W) in [-1, 1], one after the other.

        short_side: None for the middle of the range that crops are cut from; name: of one style; None: of all.
        """
        first = 0
        for style, pictures in self.styles.items():
            if name in (None, style):
                pictures_of_style = load(pictures.paths, short_side or self.style_short_side, device, pictures.watch)
                yield from ((first + number, picture) for number, picture in pictures_of_style)
            first += len(pictures)

    def held_out_pictures(self, device: torch.device, short_side: int) -> list[Tensor]:
        """Return the readable held-out pictures, whole (1, 3, H, W) in [-1, 1]; ValueError where there are none."""
        watch = UnreadablePictures("data.holdout", len(self.held_out), limit=1.0)
        return [picture for _, picture in load(self.held_out, short_side, device, watch)]


def open_pictures(
    *,
    content: Spec,
    style: Spec | Mapping[str, Spec],
    holdout: Spec | None,
    holdout_count: int,
    resize: tuple[int, int],
    style_resize: tuple[int, int],
    cache_mb: float,
    max_unreadable: float,
    style_holdout_count: int | None = None,
) -> Pictures:
    """Find, split and (where they fit the cache) decode the pictures. Arguments as in conf/train.yaml under data.

    style_holdout_count: None for none; more are never held out than a fifth of them.
    """
    # Find the style pictures, and hold out references where that is asked for.
    specs = {str(name): value for name, value in style.items()} if isinstance(style, Mapping) else {"": style}
    options = {name: f"data.style.{name}".rstrip(".") for name in specs}
    style_paths = {name: find_pictures(spec, options[name]) for name, spec in specs.items()}
    held_out_styles: list[Path] = []
    if style_holdout_count:
        style_paths, held_out_styles = _without(style_paths, style_holdout_count)

    # Find the photos, and hold some out.
    content_paths, held_out, both = split(content, holdout, holdout_count)
    if both:
        warnings.warn(f"{both} pictures of data.holdout, in data.content too, are not trained on", stacklevel=2)
    trained_on = not held_out
    if trained_on:
        warnings.warn(
            f"too few content pictures to hold any out ({len(content_paths)}; data.holdout_count={holdout_count}, and "
            "never more than a fifth are): the samples show some that are trained on; data.holdout names others",
            stacklevel=2,
        )
        held_out = content_paths[: max(1, holdout_count)]

    # Decode what fits: half of the cache is for photos, half for style pictures by their number.
    def picture_set(option: str, paths: list[Path], longest: int, share: float) -> PictureSet:
        watch = UnreadablePictures(option, len(paths), max_unreadable)
        return PictureSet(paths, short_side=longest, cache_bytes=cache_mb * 1e6 * share, watch=watch)

    whole = 2 * sum(map(len, style_paths.values()))
    return Pictures(
        content=picture_set("data.content", content_paths, resize[1], 0.5),
        styles={
            name: picture_set(options[name], paths, style_resize[1], len(paths) / whole)
            for name, paths in style_paths.items()
        },
        held_out=held_out,
        held_out_is_trained_on=trained_on,
        style_short_side=round(sum(style_resize) / 2),
        held_out_styles=held_out_styles,
    )


def _without(style_paths: Mapping[str, list[Path]], count: int) -> tuple[dict[str, list[Path]], list[Path]]:
    """Return (trained on, held out) of an only style's pictures; where there are too few, some are both."""
    ((name, paths),) = style_paths.items()
    training, held_out = held_out_split(paths, count)
    if not held_out:
        warnings.warn(
            f"{len(paths)} style pictures are too few to hold any out: the samples' references are trained on",
            stacklevel=3,
        )
    return {name: training}, held_out or paths[:count]


def split(content: Spec, holdout: Spec | None, holdout_count: int) -> tuple[list[Path], list[Path], int]:
    """Return (trained on, held out, how many of these were named in both); arguments as in conf/train.yaml."""
    content_paths = find_pictures(content, "data.content")
    if holdout is None:
        training, held_out = held_out_split(content_paths, holdout_count)
        if 0 < len(held_out) < holdout_count:
            warnings.warn(
                f"data.holdout_count={holdout_count}: {len(held_out)} of {len(content_paths)} content pictures are "
                f"held out, as never more than a fifth are; data.holdout names others",
                stacklevel=3,
            )
        return training, held_out, 0
    held_out = find_pictures(holdout, "data.holdout")
    held_out_files = {path.resolve() for path in held_out}  # the same file may be named by several paths
    training = [path for path in content_paths if path.resolve() not in held_out_files]
    if not training:
        raise ValueError("data.holdout leaves no picture of data.content to train on")
    return training, held_out, len(content_paths) - len(training)


def load(
    paths: Iterable[Path], short_side: int, device: torch.device, watch: UnreadablePictures
) -> Iterator[tuple[int, Tensor]]:
    """Yield (place in ``paths``, picture): readable ones, whole, as (1, 3, H, W) in [-1, 1] on the device.

    ``watch`` is told of the others.
    """
    for number, path in enumerate(paths):
        try:
            yield number, to_float(decode(path, short_side=short_side)[None].to(device))
        except UnreadablePictureError as error:
            watch.report((str(path), str(error)))
