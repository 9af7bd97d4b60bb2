"""From what the user names to a source."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any, Protocol

from gan_style.dataset.layouts.coco import CocoSource, find_tables
from gan_style.dataset.layouts.folder import FolderSource, is_folder
from gan_style.dataset.layouts.webdataset import TarSource
from gan_style.dataset.sample import PICTURE_SUFFIXES, Sample

LAYOUTS = ("folder", "webdataset", "coco")
_BRACES = re.compile(r"\{([^{}]*)\}")
_MOST_ARCHIVES = 10_000_000
_LOOKED_INTO = 1000  # folders, and files in each, to tell archives from pictures


class Source(Protocol):
    """root: where places are; facts: what else the listing depends on; samples: all inputs, always in one order.

    classes: the names behind the numbers in its .cls files, in their order; None where it has none, and we number them.
    """

    @property
    def root(self) -> Path: ...

    def facts(self) -> Mapping[str, Any]: ...

    def classes(self) -> list[str] | None: ...

    def samples(self) -> Iterator[Sample]: ...


def open_source(spec: str, layout: str, *, made: str, carry: Sequence[str]) -> Source:
    """layout: one of LAYOUTS, or auto; made: the output's. ValueError, in the user's words, where there is nothing."""
    path = Path(spec).expanduser()
    layout = _guess(spec, path) if layout == "auto" else layout
    if layout == "webdataset":
        return _tars(spec, path)
    if not path.is_dir():
        raise ValueError(f"input={spec}: there is no such folder")
    strays = made != "webdataset"
    if layout == "folder":
        return FolderSource(path, carry, strays, numbered=not strays)
    tables = find_tables(path)
    if not tables:
        raise ValueError(f"input={spec}: a COCO folder has annotations/*.json or annotations.json; here is neither")
    return CocoSource(path, carry, inline=made != "coco", strays=strays, paths=tables)


def _guess(spec: str, path: Path) -> str:
    if path.is_dir():
        if find_tables(path):
            return "coco"
        archive, picture = _seen(path)
        if archive is not None and picture is not None:
            raise ValueError(
                f"input={spec}: holds an archive ({archive}) and pictures ({picture}); say input_layout=webdataset or "
                f"input_layout=folder"
            )
        return "folder" if archive is None else "webdataset"
    return "webdataset" if spec.endswith((".tar", "}")) else "folder"


def _seen(root: Path) -> tuple[str | None, str | None]:
    """(an archive at the top or in a folder there, a picture beside it or deeper); without an archive no picture."""
    archive = next((name for name in _files(root, "", depth=2) if name.endswith(".tar")), None)
    if archive is None:
        return None, None
    pictures = (name for name in _files(root, "", depth=4) if name.lower().endswith(PICTURE_SUFFIXES))
    return archive, next(pictures, None)


def _files(root: Path, folder: str, depth: int) -> Iterator[str]:
    """Paths below the root so many folders deep, of each folder but the top only the beginning."""
    try:
        with os.scandir(root / folder) as found:
            some = islice(found, _LOOKED_INTO) if folder else found
            items = sorted((is_folder(item), item.name) for item in some if not item.name.startswith("."))
    except OSError:  # its row will tell
        return
    yield from (f"{folder}{name}" for is_one, name in items if not is_one)
    for name in [name for is_one, name in items if is_one][: _LOOKED_INTO // 10 if depth > 1 else 0]:
        yield from _files(root, f"{folder}{name}/", depth - 1)


def _tars(spec: str, path: Path) -> TarSource:
    if path.is_dir():
        found = sorted(archive for archive in path.rglob("*.tar") if not archive.name.startswith("."))
    else:
        found = [Path(name) for name in expand(str(path))]
    if not found:
        raise ValueError(f"input={spec}: there is no .tar in this folder")
    missing = [archive for archive in found if not archive.is_file()]
    if missing:
        raise ValueError(f"input={spec}: {len(missing)} of {len(found)} archives are not there, such as {missing[0]}")
    root = path if path.is_dir() else _common(found)
    return TarSource(root, [archive.relative_to(root).as_posix() for archive in found])


def _common(paths: Sequence[Path]) -> Path:
    root = paths[0].parent
    while not all(path.is_relative_to(root) for path in paths):
        root = root.parent
    return root


def expand(pattern: str) -> list[str]:
    """ "a-{000..002}.tar" and "{x,y}.tar" to the names that they stand for, as a shell would."""
    parts = _BRACES.split(pattern)
    choices = [[part] if number % 2 == 0 else _choices(part) for number, part in enumerate(parts)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > _MOST_ARCHIVES:
        raise ValueError(f"input={pattern}: stands for {count} archives; up to {_MOST_ARCHIVES} are read")
    return ["".join(chosen) for chosen in product(*choices)]


def _choices(inside: str) -> list[str]:
    match = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if match is None:
        return inside.split(",")
    first, last = int(match[1]), int(match[2])
    if last - first > _MOST_ARCHIVES:
        raise ValueError(f"input: {{{inside}}} stands for {last - first + 1} archives; up to {_MOST_ARCHIVES} are read")
    width = max(len(match[1]), len(match[2])) if match[1].startswith("0") or match[2].startswith("0") else 0
    return [f"{number:0{width}d}" for number in range(first, last + 1)]
