"""WebDataset tar shards: members that share a key, the path up to the base name's first dot, are one sample."""

import lzma
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gan_style.dataset.layouts.masks import core_of, looks_like_mask
from gan_style.dataset.layouts.tree import splits_in
from gan_style.dataset.naming import CompactNameSet
from gan_style.dataset.sample import (
    ARCHIVE_SUFFIXES,
    OTHER_PICTURE_SUFFIXES,
    PICTURE_SUFFIXES,
    Layout,
    Location,
    Sample,
    SampleError,
    open_archive,
    printable,
)
from gan_style.runtime.files import file_hash

_LONGEST_NAME, _LONGEST_EXTENSION = 1024, 200  # bytes of a member's path, and of what follows its key
_LONGEST_CLASS = 1_000  # bytes of a .cls; a longer one is carried over and taken for no class
_KEY = re.compile(r"((?:.*/|)[^./][^./]*)\.([^/]+)", re.DOTALL)
CLASSES = "classes.txt"


class WebDatasetLayout(Layout):
    """root: the folder; archives: their paths below it. The class is what a .cls holds: a name, or a number that
    classes.txt beside the archives may translate; the split is a word of an archive's name, or its folder, or whatever
    tells a few such names apart.

    Only regular members are looked at, and none is ever extracted.
    """

    kind = "webdataset"

    def __init__(self, root: Path, archives: Sequence[str]) -> None:
        self.root, self.archives = root, archives
        self._splits = splits_in([_without_suffix(archive) for archive in archives])
        self._photos: dict[frozenset[str], str] = {}  # of extensions that come together, the photo's

    def facts(self) -> Mapping[str, Any]:
        path = self.root / CLASSES
        return {CLASSES: file_hash(path) if path.is_file() else None}

    def classes(self) -> list[str]:
        path = self.root / CLASSES
        text = path.read_text(encoding="utf-8", errors="replace").removesuffix("\n") if path.is_file() else ""
        return [printable(line) for line in text.split("\n")] if text else []  # may hold U+2028: no splitlines

    def samples(self) -> Iterator[Sample]:
        names = self.classes()
        seen = CompactNameSet()
        for archive in self.archives:
            for sample in self._archive(archive, names):
                if (key := sample.key) in seen:
                    offset = sample.picture.offset if sample.picture else None
                    sample = replace(sample, key=f"{key} ({archive}, {offset or 0})")
                seen.add(key)
                yield sample

    def _archive(self, archive: str, names: Sequence[str]) -> Iterator[Sample]:
        key, members = "", list[tuple[str, Location]]()  # of the sample that is being read
        try:
            with open_archive(self.root / archive) as file, tarfile.open(fileobj=file, mode="r:") as tar:
                for member in _members(tar):
                    if is_junk(member.name):
                        continue
                    if (problem := _problem(member)) is not None:
                        yield Sample(f"{archive}#{member.name}", member.name.strip("/") or "_", problem=problem)
                        continue
                    member_key, extension = _halves(_plain(member.name))
                    if member_key != key:
                        yield from self._samples(archive, key, members, names)
                        key, members = member_key, []
                    members.append((extension, Location(archive, member.size, member.offset_data, member.name)))
                yield from self._samples(archive, key, members, names)
        except (tarfile.TarError, OSError, ValueError, EOFError, RecursionError, zlib.error, lzma.LZMAError) as error:
            yield from self._samples(archive, key, members, names)
            yield Sample(archive, archive, problem=("damaged archive", str(error) or type(error).__name__))

    def _samples(
        self, archive: str, key: str, members: Sequence[tuple[str, Location]], names: Sequence[str]
    ) -> Iterator[Sample]:
        """The sample that members of one key are; none of no members."""
        if not members:
            return
        places = dict(members)
        try:
            if len(places) < len(members):
                doubled = Counter(extension for extension, _ in members).most_common(1)[0][0]
                raise SampleError("doubled member", f"two members .{doubled} in one sample")
            photo = self._photo(places)
        except SampleError as error:
            yield Sample(key, key, problem=(error.kind, str(error)))
            return
        sidecars = {extension: place for extension, place in places.items() if extension != photo}
        label = _label(sidecars["cls"], self.root, names) if "cls" in sidecars else None
        infix = f".{photo}".rpartition(".")[0]  # input.jpg
        paths = {"": ("", "", infix)} if infix else {}
        yield Sample(key, key, places[photo], self._splits[_without_suffix(archive)], label, sidecars, paths=paths)

    def _photo(self, members: Mapping[str, Location]) -> str:
        """Which of a sample's members is the photo; the others may be its masks, or what it is to become. SampleError
        where none is, or several are.
        """
        pictures = [extension for extension in members if f".{extension}".lower().endswith(PICTURE_SUFFIXES)]
        plain = [extension for extension in pictures if "." not in extension]
        if len(plain) == 1:
            return plain[0]
        roles = {extension: core_of(f"x.{extension.rpartition('.')[0]}").role for extension in pictures}
        named = [extension for extension in pictures if roles[extension] != "label"]
        candidates = plain or named or (pictures if len(pictures) == 1 else [])
        called = [extension for extension in candidates if roles[extension] == "picture"]
        candidates = called if len(called) == 1 else candidates
        if not candidates:
            for extension in members:
                if f".{extension}".lower().endswith(OTHER_PICTURE_SUFFIXES):
                    raise SampleError("unsupported kind", f".{extension} pictures are not read")
            raise SampleError("no picture", f"a sample of {', '.join(members)} alone")
        if len(candidates) == 1:
            return candidates[0]
        if not plain:
            raise SampleError("several pictures", f"{', '.join(candidates)}: which is to be stylized is not known")
        extensions = frozenset(candidates)
        if extensions not in self._photos:
            by_kind = sorted(candidates, key=lambda extension: PICTURE_SUFFIXES.index(f".{extension.lower()}"))
            photos = (extension for extension in by_kind if not self._is_mask(members[extension]))
            self._photos[extensions] = next(photos, by_kind[0])
        return self._photos[extensions]

    def _is_mask(self, place: Location) -> bool:
        try:
            return looks_like_mask(place.read(self.root))
        except ValueError:
            return False


def is_junk(name: str) -> bool:
    """Whether a member is only what a system left behind when it made the archive."""
    parts = _plain(name).split("/")
    return "__MACOSX" in parts or parts[-1].startswith("._") or parts[-1] in (".DS_Store", "Thumbs.db", "desktop.ini")


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


def _without_suffix(archive: str) -> str:
    suffix = next((suffix for suffix in ARCHIVE_SUFFIXES if archive.lower().endswith(suffix)), "")
    return archive[: len(archive) - len(suffix)]
