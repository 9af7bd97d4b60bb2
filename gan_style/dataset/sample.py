"""One input of a dataset, as the plan keeps it: what it is called, where its bytes lie, what belongs to it."""

import bz2
import gzip
import json
import lzma
import os
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from gan_style.images.formats import FORMAT_OF_SUFFIX

PICTURE_SUFFIXES = tuple(FORMAT_OF_SUFFIX)
_KNOWN_PICTURES = (
    ".gif .avif .heic .heif .hif .jp2 .j2k .jpf .jpx .jxl .jxr .jng .mng .ico .tga .psd .ppm .pgm .pbm .pnm .pfm .exr "
    ".hdr .dds .pcx .sgi .svg .eps .xcf .qoi .dng .cr2 .cr3 .nef .arw .orf .rw2 .raf .pef .srw .raw .bpg .flif "
    ".wdp .hdp .fits .dcm .nii .pdf"
)
# Pictures that are not read: they are named and counted, and never passed through.
OTHER_PICTURE_SUFFIXES = tuple(suffix for suffix in _KNOWN_PICTURES.split() if suffix not in PICTURE_SUFFIXES)
ALL_PICTURE_SUFFIXES = (*PICTURE_SUFFIXES, *OTHER_PICTURE_SUFFIXES)
_CONTAINERS = (
    ".parquet .arrow .feather .zip .rar .7z .gz .tgz .bz2 .xz .zst .tar .tfrecord .tfrecords .record .lmdb .mdb "
    ".h5 .hdf5 .npz .npy .mat .pkl .pickle .rec .beton .mp4 .mov .avi .mkv .webm"
)
CONTAINER_SUFFIXES = frozenset(_CONTAINERS.split())  # of files that may hold a whole dataset
_UNPACKERS: Mapping[str, Callable[[Path], Any]] = {
    **dict.fromkeys((".gz", ".tgz"), gzip.GzipFile),
    **dict.fromkeys((".bz2", ".tbz", ".tbz2"), bz2.BZ2File),
    **dict.fromkeys((".xz", ".txz"), lzma.LZMAFile),
}
# Of tar archives that are read.
ARCHIVE_SUFFIXES = (".tar", *(f".tar{ending}" if ending[1] != "t" else ending for ending in _UNPACKERS))
NO_HOME = ("no home", "it belongs to no picture")  # of a file that archives have no place for
_quoted = json.encoder.encode_basestring_ascii  # a text as JSON
_OTHER_FIELDS = ("inline", "paths", "labelled", "as_stored", "passthrough", "table", "problem")  # that few samples have
MOST_BYTES = 1_000_000_000  # of one file: it is read into memory as a whole


class SampleError(ValueError):
    """Why one input has no result; ``kind`` is a class of reasons (a word or three), the message says it in full."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Location:
    """Where bytes lie: a file below the input's root, or, with an offset, a stretch of a tar archive there."""

    path: str
    size: int
    offset: int | None = None
    member: str = ""

    def __str__(self) -> str:
        """For people and manifests: "cats/1.jpg", "000001.tar#cats/1.jpg"."""
        return printable(f"{self.path}#{self.member}" if self.offset is not None else self.path)

    def read(self, root: Path) -> bytes:
        """The bytes; SampleError where they are not there, not readable, too many, or not as many as were planned."""
        if self.size > MOST_BYTES:
            raise SampleError("too large", f"{self.size} bytes; files up to {MOST_BYTES} are read")
        try:
            data = self._read(root / self.path)
        except FileNotFoundError as error:
            raise SampleError("missing", "there is no such file any more") from error
        except OSError as error:
            raise SampleError("unreadable", f"{error.strerror or error}") from error
        if len(data) != self.size:
            raise SampleError("changed", "its length is not the one it was planned with")
        return data

    def _read(self, path: Path) -> bytes:
        """One byte more than were planned, where it is a file of its own and has them."""
        if self.offset is not None and is_compressed(path):
            return os.pread(_unpacked_now(path).fileno(), self.size, self.offset)
        with open(path, "rb") as file:
            file.seek(self.offset or 0)
            return file.read(self.size + (self.offset is None))

    def to_json(self) -> str:
        member = "" if self.offset is None else f",{self.offset},{_quoted(self.member)}"
        return f"[{_quoted(self.path)},{self.size}{member}]"


@dataclass(frozen=True)
class Sample:
    """key: what the picture is called in its source, unique; every draw follows from it.
    name: the path of its results below the output, without suffix; unique too, whatever the case of its letters.
    picture: None where there is none to be had; ``problem`` (kind, message) then says why.
    sidecars: the files that belong to it, by extension ("txt", "mask.png"); inline: the same, made by the layout.
    paths: where, in a tree, those sidecars lie that are not called as the picture is up to a dot, by extension, and
    under "" the picture: (folder, text before the name's last part, text after it; "*" there is the picture's name).
    labelled: (width, height) that its labels were made for, where a table says so; as_stored: a table has labels that
    were made for the pixels as they are stored.
    passthrough: copied as it is; table: it names pictures, and is written when the names of all results are known.
    """

    key: str
    name: str
    picture: Location | None = None
    split: str | None = None
    label: str | None = None
    sidecars: Mapping[str, Location] = field(default_factory=dict)
    inline: Mapping[str, str] = field(default_factory=dict)
    paths: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    labelled: tuple[int, int] | None = None
    as_stored: bool = False
    passthrough: bool = False
    table: bool = False
    problem: tuple[str, str] | None = None

    @property
    def file_name(self) -> str:
        """What the picture's file is called; "" where there is none."""
        return (self.picture.member or self.picture.path).rpartition("/")[2] if self.picture else ""

    def to_line(self, name: str | None = None) -> bytes:
        """One line of JSON, ASCII alone, whatever the names hold; with another name, if one is given."""
        # What every sample has is put together here, since plans have millions of lines.
        name = self.name if name is None else name
        parts = [f'{{"key":{_quoted(self.key)},"name":{_quoted(name)}']
        if self.picture is not None:
            parts.append(f'"picture":{self.picture.to_json()}')
        if self.split is not None:
            parts.append(f'"split":{_quoted(self.split)}')
        if self.label is not None:
            parts.append(f'"label":{_quoted(self.label)}')
        if self.sidecars:
            sidecars = (f"{_quoted(extension)}:{place.to_json()}" for extension, place in self.sidecars.items())
            parts.append(f'"sidecars":{{{",".join(sidecars)}}}')
        others = {field: value for field in _OTHER_FIELDS if (value := getattr(self, field))}
        if others:
            parts.append(json.dumps(others, separators=(",", ":"))[1:-1])
        return f"{','.join(parts)}}}\n".encode()

    @staticmethod
    def from_line(line: bytes) -> "Sample":
        content = json.loads(line)
        content.pop("masks", None)  # of older plans
        content["passthrough"] = content.pop("carried", False) or content.get("passthrough", False)
        for name in ("labelled", "problem"):
            content[name] = tuple(content[name]) if name in content else None
        content["picture"] = Location(*content["picture"]) if "picture" in content else None
        content["paths"] = {extension: tuple(path) for extension, path in content.get("paths", {}).items()}
        sidecars = content.get("sidecars", {})
        return Sample(**(content | {"sidecars": {name: Location(*packed) for name, packed in sidecars.items()}}))


class Layout:
    """An input, whose files it lists as samples. root: where locations are; kind: the layout's name; names: of classes
    by number, where labels have numbers alone.
    """

    root: Path
    kind: str
    names: Sequence[str] = ()

    def samples(self) -> Iterator[Sample]:
        """All inputs, always in one order."""
        raise NotImplementedError

    def facts(self) -> Mapping[str, Any]:
        """What else the listing depends on."""
        return {}

    def classes(self) -> list[str] | None:
        """The names behind the numbers in its .cls files, in their order; None where we number the classes."""
        return None

    def check_scaling(self) -> None:
        """ValueError where labels in tables cannot be scaled."""

    def doubts(self) -> list[str]:
        """What may not be as it was taken to be, for people."""
        return []


def join(folder: str, name: str) -> str:
    """A path below the root, which is ""."""
    return f"{folder}/{name}" if folder else name


def some(names: Sequence[str], count: int = 3) -> str:
    """The first of many names, for people."""
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def is_compressed(path: Path) -> bool:
    return path.suffix.lower() in _UNPACKERS


@contextmanager
def open_archive(path: Path) -> Iterator[IO[bytes]]:
    """A tar archive, open for reading; one that is compressed is unpacked for that. OSError where it cannot be read."""
    if is_compressed(path):
        file = _unpacked_now(path)
        file.seek(0)
        yield file
    else:
        with open(path, "rb") as file:
            yield file


_unpacking = threading.Lock()


def _unpacked_now(path: Path) -> IO[bytes]:
    status = path.stat()
    with _unpacking:
        return _unpacked(path, status.st_mtime_ns, status.st_size)


@lru_cache(2)
def _unpacked(path: Path, changed: int, size: int) -> IO[bytes]:
    """A compressed file's content in a file without a name, as far as it can be unpacked; changed, size: its own."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (it stays open as long as it is kept)
    with _UNPACKERS[path.suffix.lower()](path) as packed, suppress(EOFError, zlib.error, lzma.LZMAError):
        while block := packed.read(2**20):
            file.write(block)
    file.flush()
    return file


def printable(name: str) -> str:
    """A name that any reader can encode: bytes that are no UTF-8 are written as \\xNN."""
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair, from JSON
        return name.encode("utf-8", "backslashreplace").decode()
