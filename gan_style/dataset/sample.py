"""One input of a dataset, as the plan keeps it: what it is called, where its bytes lie, what belongs to it."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_style.images.formats import FORMAT_OF_SUFFIX

PICTURE_SUFFIXES = tuple(FORMAT_OF_SUFFIX)
SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
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
            with open(root / self.path, "rb") as file:
                file.seek(self.offset or 0)
                data = file.read(self.size + (self.offset is None))
        except FileNotFoundError as error:
            raise SampleError("missing", "there is no such file any more") from error
        except OSError as error:
            raise SampleError("unreadable", f"{error.strerror or error}") from error
        if len(data) != self.size:
            raise SampleError("changed", "its length is not the one it was planned with")
        return data

    def packed(self) -> list[Any]:
        return [self.path, self.size] if self.offset is None else [self.path, self.size, self.offset, self.member]


@dataclass(frozen=True)
class Sample:
    """key: what the picture is called in its source, unique; every draw follows from it.
    name: the path of its results below the output, without suffix; unique too, whatever the case of its letters.
    picture: None where there is none to be had; ``problem`` (kind, message) then says why, or it is only ``carried``.
    sidecars: what lies beside it, by extension ("txt", "mask.png"); inline: the same, made by the source itself.
    labelled: (width, height) that its labels were made for, where they say so; as_stored: they say nothing, and were
    made for the pixels as they are stored; masks: carried pictures (with rows of their own) that were made for it.
    """

    key: str
    name: str
    picture: Location | None = None
    split: str | None = None
    label: str | None = None
    sidecars: Mapping[str, Location] = field(default_factory=dict)
    inline: Mapping[str, str] = field(default_factory=dict)
    labelled: tuple[int, int] | None = None
    as_stored: bool = False
    masks: Sequence[Location] = ()
    carried: bool = False
    problem: tuple[str, str] | None = None

    def to_line(self) -> bytes:
        """One line of JSON, ASCII alone, whatever the names hold."""
        content = {
            "key": self.key,
            "name": self.name,
            "picture": self.picture.packed() if self.picture else None,
            "split": self.split,
            "label": self.label,
            "sidecars": {extension: place.packed() for extension, place in self.sidecars.items()},
            "inline": dict(self.inline),
            "labelled": self.labelled,
            "as_stored": self.as_stored,
            "masks": [place.packed() for place in self.masks],
            "carried": self.carried,
            "problem": self.problem,
        }
        kept = {key: value for key, value in content.items() if value not in (None, {}, [], False)}
        return json.dumps(kept, separators=(",", ":")).encode() + b"\n"

    @staticmethod
    def from_line(line: bytes) -> "Sample":
        content = json.loads(line)
        for name in ("labelled", "problem"):
            content[name] = tuple(content[name]) if name in content else None
        content["picture"] = Location(*content["picture"]) if "picture" in content else None
        content["masks"] = tuple(Location(*packed) for packed in content.get("masks", ()))
        sidecars = content.get("sidecars", {})
        return Sample(**(content | {"sidecars": {name: Location(*packed) for name, packed in sidecars.items()}}))


def printable(name: str) -> str:
    """A name that any reader can encode: bytes that are no UTF-8 are written as \\xNN."""
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair, from JSON
        return name.encode("utf-8", "backslashreplace").decode()


def split_of(name: str) -> str | None:
    """The split that a folder's or an archive's name stands for, as it is written there."""
    return name if name.lower() in SPLITS else None


def read_lines(path: Path, offset: int, size: int) -> Iterator[Sample]:
    """The samples that a stretch of a plan's file holds."""
    with open(path, "rb") as file:
        file.seek(offset)
        for line in file.read(size).splitlines():
            yield Sample.from_line(line)
