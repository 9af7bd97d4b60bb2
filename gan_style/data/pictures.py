"""Sets of pictures: from what the user names to decoded pictures, with the unreadable ones named and counted."""

import glob
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_style.demo import PREFIX, demo_pictures
from gan_style.images.decode import decode
from gan_style.images.formats import (
    UnreadablePictureError,
    describe_others,
    is_broken_link,
    is_picture,
    known_suffixes,
    scan_folder,
)
from gan_style.options import as_typed

Item = TypeVar("Item")


def find_pictures(spec: str | Sequence[str], option: str) -> list[Path]:
    """List the files that a folder (searched recursively), a glob, a picture, "demo:NAME", or several of them name.

    Each once. Raises ValueError, naming the option, where there are none.
    """
    if isinstance(spec, str):
        return _find(spec, option)
    if not isinstance(spec, Sequence) or not all(isinstance(item, str) for item in spec):
        raise ValueError(f"{option}={as_typed(spec)}: a path or a list of paths expected")
    paths = dict.fromkeys(path for item in spec for path in _find(item, option))
    return _not_empty(list(paths), f"{option}={as_typed(spec)}: an empty list")


def _find(spec: str, option: str) -> list[Path]:
    if spec.startswith(PREFIX):
        return _demo(spec, option)
    path = Path(spec).expanduser()
    if path.is_dir():
        pictures, others = scan_folder(path)
        _warn_of(others, f"{option}={spec}")
        return _not_empty(pictures, f"{option}={spec}: there is no picture in this folder")
    if path.is_file():
        return [path]
    if glob.has_magic(spec):
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
        files = [match for match in matches if match.is_file() or is_broken_link(match)]
        pictures = [match for match in files if is_picture(match) and match.exists()]
        _warn_of(sorted(set(files) - set(pictures)), f"{option}={spec}")
        # ** follows a link that leads back to its own folder many times over: each file is taken by its shortest path.
        by_file = {match.resolve(): match for match in sorted(pictures, key=lambda path: len(path.parts), reverse=True)}
        return _not_empty(sorted(by_file.values()), f"{option}={spec}: no picture matches this pattern")
    if is_broken_link(path):
        raise ValueError(f"{option}={spec} is a link to {path.readlink()}, and there is no such file")
    raise ValueError(
        f"{option}={spec}: there is no such folder or file; give a folder, a glob in quotes, a picture, or {PREFIX}NAME"
    )


def _warn_of(others: Sequence[Path], source: str) -> None:
    """Count, by kind, the files that are passed over."""
    if message := describe_others(others):
        warnings.warn(f"{source}: {message}", stacklevel=4)


def _demo(spec: str, option: str) -> list[Path]:
    try:
        return demo_pictures(spec.removeprefix(PREFIX))
    except ValueError as error:
        raise ValueError(f"{option}={spec}: {error}") from error


def _not_empty(paths: list[Path], message: str) -> list[Path]:
    if not paths:
        raise ValueError(f"{message} (known kinds: {known_suffixes()})")
    return paths


class UnreadablePictures:
    """Name each unreadable picture of a set in one warning, count them, and raise when they are too many."""

    def __init__(self, option: str, total: int, limit: float, limit_option: str = "data.max_unreadable") -> None:
        self.option, self.total, self.limit, self.limit_option = option, total, limit, limit_option
        self.problems: dict[str, str] = {}  # name to reason

    def report(self, *problems: tuple[str, str]) -> None:
        """Count unreadable pictures, each (name, reason); ValueError when more than the allowed share of the set is."""
        for name, reason in problems:
            if name not in self.problems:
                self.problems[name] = reason
                warnings.warn(f"{reason}; passed over ({len(self.problems)} so far in {self.option})", stacklevel=2)
        if problems:
            self._check(problems[-1][1])

    def _check(self, reason: str) -> None:
        if len(self.problems) == self.total:
            raise ValueError(f"{self.option}: none of its {self.total} pictures can be read; the last: {reason}")
        if len(self.problems) > self.limit * self.total:
            raise ValueError(
                f"{self.option}: {len(self.problems)} of {self.total} pictures cannot be read, more than "
                f"{self.limit_option}={self.limit:g} allows; the last: {reason}"
            )


class PictureSet:
    """Pictures by number, decoded with a given short side: all at once if they fit the cache, else one by one.

    all_paths: the paths with unreadable ones among them, which ``paths`` has no more after caching.
    Item: uint8 (3, H, W), or UnreadablePictureError (never after caching: then the unreadable ones are left out).
    """

    def __init__(
        self, paths: Sequence[Path], *, short_side: int, cache_bytes: float, watch: UnreadablePictures
    ) -> None:
        self.paths = self.all_paths = list(paths)
        self.short_side = short_side
        self.watch = watch
        self._cached: list[Tensor] | None = None
        likely_size = 1.5 * 3 * short_side**2  # bytes, at an aspect ratio of 3 : 2
        if len(self.paths) * likely_size <= cache_bytes:
            with ThreadPoolExecutor(max_workers=max(1, min(8, torch.get_num_threads()))) as pool:
                results = list(pool.map(self._decode_or_error, self.paths))
            pairs = list(zip(self.paths, results, strict=True))
            self.watch.report(*((str(path), str(r)) for path, r in pairs if isinstance(r, UnreadablePictureError)))
            good = [(path, r) for path, r in pairs if isinstance(r, Tensor)]
            self.paths = [path for path, _ in good]
            self._cached = [picture for _, picture in good]

    @property
    def cached(self) -> bool:
        """Return whether all pictures are in memory."""
        return self._cached is not None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        if self._cached is not None:
            return self._cached[number]
        return decode(self.paths[number], short_side=self.short_side)

    def _decode_or_error(self, path: Path) -> Tensor | UnreadablePictureError:
        try:
            return decode(path, short_side=self.short_side)
        except UnreadablePictureError as error:
            return error


class PairedPictures:
    """Photos with the style pictures of their names (without suffix) behind them, as one picture of six channels.

    Item: uint8 (6, H, W), so that one crop cuts both alike. ``numbers`` are those of the style pictures. ValueError for
    a photo without a style picture, and for names that are not unique.
    """

    def __init__(self, content: PictureSet, style: PictureSet) -> None:
        self.content, self.style = content, style
        self.paths, self.watch = content.paths, content.watch
        for option, paths in (("data.content", content.all_paths), ("data.style", style.all_paths)):
            name, count = Counter(path.stem for path in paths).most_common(1)[0]
            if count > 1:
                raise ValueError(f"data.paired=true: the name {name!r} comes {count} times in {option}")
        names = {path.stem for path in style.all_paths}
        if missing := [path for path in content.all_paths if path.stem not in names]:
            raise ValueError(
                f"data.paired=true: {len(missing)} of {len(content.all_paths)} photos have no style picture of their "
                f"name, as {missing[0]}"
            )
        by_name = {path.stem: number for number, path in enumerate(style.paths)}
        self.numbers = [by_name.get(path.stem, -1) for path in content.paths]  # -1: could not be read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        photo, partner = self.content[number], self.numbers[number]
        if partner < 0:
            raise UnreadablePictureError(f"the style picture of {self.paths[number]} cannot be read")
        style = self.style[partner]
        (height, width), (style_height, style_width) = photo.shape[1:], style.shape[1:]
        if not 0.98 < (height * style_width) / (width * style_height) < 1.02:
            raise UnreadablePictureError(
                f"{self.style.paths[partner]} is no pair of {self.paths[number]}: {style_width} x {style_height} and "
                f"{width} x {height} differ in shape"
            )
        if style.shape != photo.shape:
            style = F.interpolate(style[None], (height, width), mode="bilinear", antialias=True)[0]
        return torch.cat([photo, style])


class MaskedPictures:
    """Photos with the masks of their regions behind them, as one picture of 3 + R channels.

    Item: uint8 (3 + R, H, W), so that one crop cuts both alike. masks: gives a photo's, uint8 (R, H, W), by its path
    and its pixels; those of photos in memory are, too.
    """

    def __init__(self, content: PictureSet, masks: Callable[[Path, Tensor], Tensor]) -> None:
        self.content, self.paths, self.watch = content, content.paths, content.watch
        self._masks = masks
        numbers = range(len(content)) if content.cached else ()
        self._cached = {number: masks(self.paths[number], content[number]) for number in numbers}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        photo = self.content[number]
        masks = self._cached[number] if self._cached else self._masks(self.paths[number], photo)
        return torch.cat([photo, masks])


def first_of_parts(items: Sequence[Item], count: int) -> list[Item]:
    """Cut the items into ``count`` equal parts and return the first of each; all items where there are no more."""
    count = min(count, len(items))
    return [items[part * len(items) // count] for part in range(count)]


def middle_of_parts(items: Sequence[Item], count: int) -> list[Item]:
    """Cut the items into ``count`` equal parts and return the middle of each; all items where there are no more."""
    count = min(count, len(items))
    return [items[(2 * part + 1) * len(items) // (2 * count)] for part in range(count)]


def held_out_split(paths: Sequence[Path], count: int) -> tuple[list[Path], list[Path]]:
    """Return (training, held out): ``count`` pictures, evenly spaced, but never more than a fifth of the set."""
    count = min(count, len(paths) // 5)
    chosen = {round((i + 0.5) * len(paths) / count - 0.5) for i in range(count)}
    training = [path for i, path in enumerate(paths) if i not in chosen]
    return training, [paths[i] for i in sorted(chosen)]
