"""A folder tree of pictures, of any depth: the class is the folder that a picture lies in, below its split if any."""

import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from gan_style.dataset.sample import PICTURE_SUFFIXES, Location, Sample, printable, split_of

_NOT_READ = (".gif", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".ico", ".tga", ".psd", ".ppm", ".pgm", ".exr")
OTHER_SUFFIXES = tuple(suffix for suffix in _NOT_READ if suffix not in PICTURE_SUFFIXES)
_LONGEST_EXTENSION = 50  # letters


@dataclass(frozen=True)
class FolderSource:
    """root: the folder; carry: patterns of pictures, such as masks, that are copied and never stylized; strays:
    whether files that belong to no picture have a place in the output; numbered: whether each result gets a .cls with
    its class's number, so that one in the folder of a class, which may say something else, has no place beside it.

    Hidden files and folders are passed over. Files that are no pictures belong to the picture beside them whose name
    they share up to a dot (1.jpg: 1.txt, 1.mask.png); all others are carried over as they are.
    """

    root: Path
    carry: Sequence[str] = ()
    strays: bool = True
    numbered: bool = False

    def facts(self) -> Mapping[str, Any]:
        """What else the listing depends on."""
        return {}

    def classes(self) -> None:
        """Ours to number."""

    def samples(self) -> Iterator[Sample]:
        """All inputs, sorted by the parts of their paths."""
        yield from self._folder("", frozenset())

    def _folder(self, path: str, above: frozenset[tuple[int, int]]) -> Iterator[Sample]:
        try:
            here = os.stat(self.root / path)
            with os.scandir(self.root / path) as found:
                items = sorted((item for item in found if not item.name.startswith(".")), key=lambda item: item.name)
        except OSError as error:
            if not path:
                raise
            yield Sample(path, path, problem=("unreadable", f"this folder cannot be listed: {error.strerror or error}"))
            return
        if (here.st_dev, here.st_ino) in above:
            yield Sample(path, path, problem=("link loop", "this folder links to one that it lies in"))
            return
        files = {item.name: item for item in items if not is_folder(item)}
        pictures = self._pictures(path, files)
        beside, masks = self._sidecars(path, files, pictures), self._masks(path, files, pictures)
        taken = {name for names in beside.values() for name in names.values()}
        for item in items:
            full = f"{path}/{item.name}" if path else item.name
            if item.name not in files:
                yield from self._folder(full, above | {(here.st_dev, here.st_ino)})
            elif item.name not in taken:
                sidecars = {ext: files[name] for ext, name in beside.get(item.name, {}).items()}
                sample = self._file(full, item, sidecars)
                own = [Location(f"{path}/{name}" if path else name, _size(files[name])[0]) for name in masks[item.name]]
                yield replace(sample, masks=own) if own and sample.picture is not None else sample

    def _sidecars(self, path: str, names: Iterable[str], pictures: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """{picture: {extension: file}} of one folder; a file belongs to the picture of the longest fitting stem."""
        numbered = self.numbered and split_and_label(PurePosixPath(path).parts)[1] is not None
        found: dict[str, dict[str, str]] = {}
        for name in names:
            suffix = PurePosixPath(name).suffix.lower()
            if self._is_picture(f"{path}/{name}") or suffix in OTHER_SUFFIXES or (numbered and suffix == ".cls"):
                continue
            stems = [name[:at] for at, letter in enumerate(name) if letter == "." and name[:at] in pictures]
            if stems and len(name) - len(stems[-1]) <= _LONGEST_EXTENSION:
                found.setdefault(pictures[stems[-1]], {})[name[len(stems[-1]) + 1 :]] = name
        return found

    def _masks(self, path: str, names: Iterable[str], pictures: Mapping[str, str]) -> dict[str, list[str]]:
        """{picture: carried pictures of one folder that are called as it is and then _something}."""
        found: dict[str, list[str]] = defaultdict(list)
        for name in names:
            stems = [name[:at] for at, letter in enumerate(name) if letter == "_" and name[:at] in pictures]
            if stems and name.lower().endswith(PICTURE_SUFFIXES) and self._is_carried(f"{path}/{name}"):
                found[pictures[stems[-1]]].append(name)
        return found

    def _pictures(self, path: str, names: Iterable[str]) -> dict[str, str]:
        """{stem: the first picture of that name} in one folder."""
        pictures: dict[str, str] = {}
        for name in names:
            if self._is_picture(f"{path}/{name}"):
                pictures.setdefault(PurePosixPath(name).stem, name)
        return pictures

    def _is_picture(self, path: str) -> bool:
        return path.lower().endswith(PICTURE_SUFFIXES) and not self._is_carried(path)

    def _is_carried(self, path: str) -> bool:
        return any(fnmatch(f"/{path.lstrip('/')}", f"*/{pattern}") for pattern in self.carry)

    def _file(self, path: str, item: "os.DirEntry[str]", beside: Mapping[str, "os.DirEntry[str]"]) -> Sample:
        folder, suffix = PurePosixPath(path).parent, PurePosixPath(path).suffix
        split, label = split_and_label(folder.parts)
        sample, carried = Sample(path, path, split=split), not self._is_picture(path)
        size, problem = _size(item)
        if problem is None and suffix.lower() in OTHER_SUFFIXES and not self._is_carried(path):
            problem = ("unsupported kind", f"{suffix} pictures are not read")
        if problem is None and carried and not self.strays:
            numbered = self.numbered and suffix.lower() == ".cls" and label is not None
            problem = ("no home", "the folder says the class" if numbered else "it belongs to no picture")
            if path.lower().endswith(PICTURE_SUFFIXES):
                problem = ("labels", "samples hold masks that are called as their picture up to a dot, 1.mask.png")
        places = {}
        for extension, other in beside.items():
            size_beside, trouble = _size(other)
            problem = problem or (trouble and (trouble[0], f"its .{extension}: {trouble[1]}"))
            places[extension] = Location(str(folder / other.name), size_beside)
        if problem is not None:
            return replace(sample, problem=problem)
        if carried:
            return replace(sample, picture=Location(path, size), carried=True)
        stem = str(folder / PurePosixPath(path).stem)
        return replace(sample, name=stem, picture=Location(path, size), label=label, sidecars=places)


def split_and_label(parts: Sequence[str]) -> tuple[str | None, str | None]:
    """("train", "cats") of ("train", "cats"); deeper folders below a class are a part of its name: "cats/black"."""
    split = split_of(parts[0]) if parts else None
    rest = parts[1:] if split is not None else parts
    label = re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", printable("/".join(rest)))
    return split, label or None  # a class is a line of classes.txt


def is_folder(item: "os.DirEntry[str]") -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link to itself, say; the file's row will tell
        return False


def _size(item: "os.DirEntry[str]") -> tuple[int, tuple[str, str] | None]:
    try:
        found = item.stat()
    except OSError as error:
        return 0, ("missing", f"{error.strerror}: a link that leads nowhere?")
    if not stat.S_ISREG(found.st_mode):
        return 0, ("not a regular file", "a pipe, a socket or a device")
    return found.st_size, None
