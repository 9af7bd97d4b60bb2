"""Names under which results are written: always inside the output, never two alike, never too long.

"~" and eight hexadecimal digits of the key's hash are put behind a name that another has already, be it in other
letters' case or in another Unicode form: such names are one and the same on some file systems.
"""

import hashlib
import os
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import PurePosixPath
from typing import Any

from gan_style.dataset.sample import PICTURE_SUFFIXES, Sample, join, printable


class CompactNameSet:
    """A set of names that only grows, in 13 to 27 bytes for each.

    It keeps 64 bits of each name's hash: of 100 million, one in 200 billion that was never added is taken for one that
    was.
    """

    def __init__(self) -> None:
        # A hash table: each hash lies at the place that its last bits say, or at the next that was free; 0 is free.
        self._table, self._count = array("q", bytes(8 * 1024)), 0

    def add(self, name: str) -> None:
        place = self._place(mark := hash(name) or 1)
        if not self._table[place]:
            self._table[place] = mark
            self._count += 1
            if self._count > 0.6 * len(self._table):
                old, self._table = self._table, array("q", bytes(16 * len(self._table)))
                for mark in filter(None, old):
                    self._table[self._place(mark)] = mark

    def update(self, names: Iterable[str]) -> None:
        for name in names:
            self.add(name)

    def __contains__(self, name: str) -> bool:
        return self._table[self._place(hash(name) or 1)] != 0

    def _place(self, mark: int) -> int:
        """Where a hash lies, or would."""
        table, last = self._table, len(self._table) - 1
        place = mark & last
        while table[place] and table[place] != mark:
            place = (place + 1) & last
        return place


_LONGEST = 255  # bytes of one name, on nearly all file systems
_COPY_DIGITS = 8  # for the copy's number
_PLAIN = re.compile(r"[A-Za-z0-9_ ~-][A-Za-z0-9_ ~.-]*")  # safe as it is
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")
_SHARED = (".txt", ".caption", ".tags")  # extensions of files that are written as they are
_FILE_SUFFIXES = (*PICTURE_SUFFIXES, ".txt", ".json", ".xml", ".cls", ".csv")


@dataclass(frozen=True)
class Scheme:
    """How results are called. copies: of each picture; suffix: ".jpg" and so on, or None for the source's own;
    keyed: as members of WebDataset samples, whose key ends at the first dot of the base name; tree: sidecars lie where
    the source has them (labels/1.txt), rather than all beside their picture.
    """

    copies: int
    suffix: str | None
    keyed: bool
    tree: bool = False

    def picture_suffix(self, sample: Sample) -> str:
        assert sample.picture is not None
        return self.suffix or os.path.splitext(sample.picture.member or sample.picture.path)[1]

    def extensions(self, sample: Sample) -> list[str]:
        """Of all files that each copy of a sample may have, the picture's first."""
        if sample.passthrough or sample.picture is None:
            return [""]
        labelled = [".cls"] if self.keyed and sample.label is not None and "cls" not in sample.sidecars else []
        sidecars = [f".{extension}" for extension in (*sample.sidecars, *sample.inline)]
        return [self.picture_suffix(sample), *labelled, *sidecars]

    def path(self, sample: Sample, copy: int, extension: str) -> str:
        """Where one of a copy's files lies, below data/ or in its archive."""
        if sample.passthrough or sample.picture is None:
            return sample.name + extension
        mark = "" if self.copies == 1 else f"~{copy + 1}"
        is_picture = extension == self.picture_suffix(sample)
        path = sample.paths.get("" if is_picture else extension[1:])
        if path is None or not self.tree:
            infix = path[2] if path is not None and is_picture and path[2].startswith(".") else ""  # 1.input.jpg
            return f"{sample.name}{mark}{infix}{extension}"
        folder, before, after = path
        if after.startswith("*"):
            picture = PurePosixPath(self.path(sample, copy, self.picture_suffix(sample))).name
            return join(folder, picture + after[1:])
        own = sample.name.rpartition("/")[2]
        return join(folder, f"{before}{own}{mark}{after}{extension if is_picture else ''}")

    def taken_by(self, sample: Sample) -> Iterator[tuple[str, str]]:
        """(name, "") of what no other sample may use: its files' names, or its samples' keys. (name, source) of a
        caption, which is the same file for all pictures that are called as it is (1.jpg, 1.png, 1.txt).
        """
        extensions = [""] if self.keyed else self.extensions(sample)
        for copy, extension in product(range(1 if sample.passthrough else self.copies), extensions):
            source = sample.sidecars.get(extension[1:]) if extension.endswith(_SHARED) else None
            yield self.path(sample, copy, extension), str(source or "")


def make_scheme(copies: int, suffix: str | None, input_kind: str, kind: str) -> Scheme:
    """The scheme of an output; input_kind, kind: the layouts of input and output."""
    tree = input_kind != "webdataset" and (kind == "folder" or input_kind == kind == "coco")
    return Scheme(copies, suffix, keyed=kind == "webdataset", tree=tree)


def scheme_of(settings: Mapping[str, Any]) -> Scheme:
    """The scheme of an output, by the settings of its plan."""
    kind, suffix = settings["output_layout"], None if settings["format"] == "keep" else f".{settings['format']}"
    return make_scheme(settings["copies"], suffix, settings.get("input_layout", kind), kind)


def in_folders(sample: Sample) -> str:
    """For a WebDataset sample that becomes a file: split/class/key, unless the key's own folders say so already."""
    label = [] if sample.label is None else sample.label.split("/")
    *folders, last = sample.name.split("/")
    split = [sample.split] if sample.split and folders[:1] != [sample.split] else []
    own = folders[len(folders) - len(label) :] == label
    return "/".join([*split, *([] if own else label), *folders, last])


def among_images(sample: Sample) -> str:
    """Where COCO's pictures lie."""
    return sample.name if sample.name.startswith("images/") else f"images/{sample.name}"


class Names:
    """Gives each sample its final name; remembers those that are taken. changed: how many were not free or safe."""

    def __init__(self, scheme: Scheme, name_of: Callable[[Sample], str] = lambda sample: sample.name) -> None:
        """name_of: the name that a sample gets if it is safe and free."""
        self.scheme, self.wanted = scheme, name_of
        self.changed, self.example = 0, ("", "")
        self._taken = CompactNameSet()
        self._folders: dict[str, str] = {}
        self._folder = lru_cache(1024)(self._safe_folder)

    def take(self, samples: Iterable[Sample]) -> None:
        """Remember samples that were given their names before."""
        for sample in samples:
            self._remember(self._taken_by(sample))
            parts = sample.name.split("/")[:-1]
            for count in range(1, len(parts) + 1):
                folder = "/".join(parts[:count])
                self._folders.setdefault(_folded(folder), folder)

    def give(self, sample: Sample) -> Sample:
        """The sample with its final name."""
        name = self.wanted(sample)
        folder, slash, last = name.rpartition("/")
        suffix = PurePosixPath(last).suffix if sample.passthrough else ""
        suffix = suffix if len(suffix) <= 16 else ""  # an ending too long to be a suffix is none
        base = last.removesuffix(suffix)
        if sample.sidecars or sample.paths:
            sample = self._without_clashes(sample)
        longest = _LONGEST - _COPY_DIGITS - self._longest_ending(sample, suffix)
        folder, safe = self._folder(folder) + slash if slash else "", _safe(base, longest, dots=not self.scheme.keyed)
        named, digits = _renamed(sample, f"{folder}{safe}{suffix}"), 8
        while self._is_taken(taken := self._taken_by(named)):
            named = _renamed(sample, f"{folder}{marked(safe, sample.key, digits, longest)}{suffix}")
            digits += 8
        self._remember(taken)
        if named.name != name and sample.picture is not None:
            self.changed += 1
            self.example = self.example if self.changed > 1 else (name, named.name)
        return named

    def _without_clashes(self, sample: Sample) -> Sample:
        """A mask that would be called as its picture is (1.png of 1.jpg, with format=png) becomes 1.mask.png."""
        suffix = self.scheme.picture_suffix(sample)
        sidecars, paths = dict(sample.sidecars), dict(sample.paths)
        if suffix[1:] in sidecars and f"mask{suffix}" not in sidecars:
            sidecars[f"mask{suffix}"] = sidecars.pop(suffix[1:])
        for extension, (folder, before, after) in sample.paths.items():
            path = sample.paths.get("", (sample.name.rpartition("/")[0], "", ""))
            if extension and (folder, before, after) == (path[0], path[1], path[2] + suffix):
                del paths[extension]
        for extension, (folder, before, after) in paths.items():
            paths[extension] = (self._folder(folder) if folder else "", before, after)
        return replace(sample, sidecars=sidecars, paths=paths)

    def _longest_ending(self, sample: Sample, suffix: str) -> int:
        """How many bytes a sample's files have, at most, besides its base name."""
        lengths = []
        for extension in (suffix, *self.scheme.extensions(sample)):
            _, before, after = sample.paths.get(extension[1:], sample.paths.get("", ("", "", "")))
            ending = before + after + extension if self.scheme.tree else extension
            lengths.append(len(ending.encode("utf-8", "surrogatepass")))  # not fewer than a file system writes
        return max(lengths)

    def _taken_by(self, sample: Sample) -> list[tuple[str, str]]:
        return [(_folded(name), source) for name, source in self.scheme.taken_by(sample)]

    def _is_taken(self, names: Iterable[tuple[str, str]]) -> bool:
        return any(
            name in self._taken and not (source and f"{name}\0{source}" in self._taken) for name, source in names
        )

    def _remember(self, names: Iterable[tuple[str, str]]) -> None:
        for name, source in names:
            self._taken.add(name)
            if source:
                self._taken.add(f"{name}\0{source}")

    def _safe_folder(self, path: str) -> str:
        """Each part made safe, and marked where it differs from another folder's name in case or form alone."""
        done: list[str] = []
        for folder in path.split("/"):
            name = _safe(
                folder, _LONGEST - _COPY_DIGITS, dots=PurePosixPath(folder).suffix.lower() not in _FILE_SUFFIXES
            )
            path = "/".join([*done, name])
            known = self._folders.setdefault(_folded(path), path)
            done.append(name if known == path else marked(name, folder, 8, _LONGEST - _COPY_DIGITS))
        return "/".join(done)


def names_of(settings: Mapping[str, Any]) -> Names:
    """Names for samples of an output with these settings."""
    scheme, kind, input_kind = scheme_of(settings), settings["output_layout"], settings["input_layout"]
    if kind == "folder" and input_kind == "webdataset":
        return Names(scheme, in_folders)
    return Names(scheme, among_images) if kind == "coco" and input_kind != "coco" else Names(scheme)


def _renamed(sample: Sample, name: str) -> Sample:
    return sample if sample.name == name else replace(sample, name=name)


def _safe(name: str, longest: int, *, dots: bool) -> str:
    """One part of a path that any file system takes: no control characters, no backslash, not hidden, not too long."""
    if _PLAIN.fullmatch(name) and len(name) <= longest and (dots or "." not in name):
        return name
    safe = _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", printable(name).replace("\\x", "%"))
    safe = safe if dots and safe.strip(".") else safe.replace(".", "%2E")
    safe = f"%2E{safe[1:]}" if safe.startswith(".") else safe or "_"
    return safe if len(safe.encode()) <= longest else marked(safe, name, 8, longest)


def marked(name: str, key: str, digits: int, longest: int) -> str:
    """The name with so many digits of the key's hash behind it, cut to so many bytes."""
    mark = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
    return f"{name.encode()[: longest - digits - 1].decode('utf-8', 'ignore')}~{mark}"


def _folded(name: str) -> str:
    """Equal for names that some file system takes for one."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
