"""WebDataset tar shards: members that share a key, the path up to the base name's first dot, are one sample."""

import hashlib
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gan_style.dataset.naming import CompactNameSet
from gan_style.dataset.sample import PICTURE_SUFFIXES, Location, Sample, printable, split_of

_LONGEST_NAME, _LONGEST_EXTENSION = 1024, 200  # bytes of a member's path, and of what follows its key
_LONGEST_CLASS = 1_000  # bytes of a .cls; a longer one is carried over and taken for no class
_PREFERENCE = [suffix[1:] for suffix in PICTURE_SUFFIXES]  # a .jpg with a .png beside it: the .png is its mask
_KEY = re.compile(r"((?:.*/|)[^./][^./]*)\.([^/]+)", re.DOTALL)
CLASSES = "classes.txt"


@dataclass(frozen=True)
class TarSource:
    """root: the folder; archives: their paths below it. The class is what a .cls holds: a name, or a number that
    classes.txt beside the archives may translate; the split is what an archive's name begins with, or its folder.

    Only regular members are looked at, and none is ever extracted.
    """

    root: Path
    archives: Sequence[str]

    def facts(self) -> Mapping[str, Any]:
        return {CLASSES: _sha256(self.root / CLASSES)}

    def classes(self) -> list[str]:
        return read_classes(self.root / CLASSES)

    def samples(self) -> Iterator[Sample]:
        names = self.classes()
        seen = CompactNameSet()
        for archive in self.archives:
            for sample in self._archive(archive, names):
                if (key := sample.key) in seen:
                    sample = replace(sample, key=f"{key} ({archive}, {_first_offset(sample)})")
                seen.add(key)
                yield sample

    def _archive(self, archive: str, names: Sequence[str]) -> Iterator[Sample]:
        path, group = self.root / archive, _Group("", archive)
        try:
            with tarfile.open(path, "r:") as tar:  # no compression: members are read where they lie
                for member in _members(tar):
                    if (problem := _problem(member)) is not None:
                        yield Sample(f"{archive}#{member.name}", member.name.strip("/") or "_", problem=problem)
                        continue
                    key, extension = _halves(_plain(member.name))
                    if key != group.key:
                        yield from group.samples(self.root, names)
                        group = _Group(key, archive)
                    group.add(extension, Location(archive, member.size, member.offset_data, member.name))
                yield from group.samples(self.root, names)
        except (tarfile.TarError, OSError, ValueError, EOFError, RecursionError) as error:
            yield from group.samples(self.root, names)
            yield Sample(archive, archive, problem=("damaged archive", str(error) or type(error).__name__))


@dataclass
class _Group:
    key: str
    archive: str
    members: dict[str, Location] = field(default_factory=dict)
    doubled: str | None = None

    def add(self, extension: str, place: Location) -> None:
        if extension in self.members:
            self.doubled = extension
        self.members[extension] = place

    def samples(self, root: Path, names: Sequence[str]) -> Iterator[Sample]:
        if not self.members:
            return
        if self.doubled is not None:
            yield Sample(self.key, self.key, problem=("doubled member", f"two members .{self.doubled} in one sample"))
            return
        pictures = [extension for kind in _PREFERENCE for extension in self.members if extension.lower() == kind]
        if not pictures:
            yield Sample(self.key, self.key, problem=("no picture", f"a sample of {', '.join(self.members)} alone"))
            return
        beside = {extension: place for extension, place in self.members.items() if extension != pictures[0]}
        label = _label(beside["cls"], root, names) if "cls" in beside else None
        yield Sample(self.key, self.key, self.members[pictures[0]], split_of_archive(self.archive), label, beside)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All but folders; tarfile itself ends quietly at a header that is damaged after the first."""
    end = 0
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
        if member.size < 0 or member.offset < end:
            raise tarfile.ReadError(f"a member of negative size at byte {member.offset}")  # would be read for ever
        end = member.offset_data + (-(-member.size // 512) * 512 if member.isreg() else 0)
        if not member.isdir():
            yield member
    assert tar.fileobj is not None
    tar.fileobj.seek(end)
    if tar.fileobj.read(512).strip(b"\0"):
        raise tarfile.ReadError(f"no member's header at byte {end}")


def _problem(member: tarfile.TarInfo) -> tuple[str, str] | None:
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse is not None:
        return "not a regular member", "a link, a device, or a sparse file"
    name = _plain(member.name)
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "." in parts or "" in parts or "\0" in name:
        return "unsafe name", "absolute, or with . or .. or nothing between its slashes"
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:
        return "unsafe name", f"longer than {_LONGEST_NAME} bytes"
    if _KEY.fullmatch(name) is None:
        return "no key", "its name has no extension, or begins with a dot"
    if len(_halves(name)[1].encode("utf-8", "surrogatepass")) > _LONGEST_EXTENSION:
        return "unsafe name", f"its extension is longer than {_LONGEST_EXTENSION} bytes"
    return None


def _plain(name: str) -> str:
    """Without the ./ that tar writes where it was given a folder."""
    return re.sub(r"\A(\./)+", "", name)


def _halves(name: str) -> tuple[str, str]:
    match = _KEY.fullmatch(name)
    assert match is not None
    return match[1], match[2]


def _label(place: Location, root: Path, names: Sequence[str]) -> str | None:
    if place.size > _LONGEST_CLASS:
        return None
    try:
        text = place.read(root).decode("utf-8", "replace").strip()
    except ValueError:
        return None
    if re.fullmatch("[0-9]{1,9}", text) and int(text) < len(names):
        return names[int(text)]
    return text or None


def split_of_archive(archive: str) -> str | None:
    """train of train-000012.tar and of train/000012.tar."""
    folder, _, name = archive.rpartition("/")
    begun = re.match(r"[A-Za-z]+(?=[-_.\d])", name)
    return (split_of(begun[0]) if begun else None) or split_of(folder.rpartition("/")[2])


def _first_offset(sample: Sample) -> int:
    return sample.picture.offset or 0 if sample.picture else 0


def read_classes(path: Path) -> list[str]:
    """The names of the classes, in order; none where there is no such file."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace").removesuffix("\n")
    return [printable(line) for line in text.split("\n")] if text else []  # a name may hold U+2028: no splitlines


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
