"""Files that speak of many pictures by their names: Hugging Face's metadata.jsonl, Roboflow's _annotations.csv, files
of VIA and CVAT, lists of splits, YOLO's data.yaml, or whatever else has records with a picture's name in them.

Once all results have their names, such a file is written again with these: a record, line or row for each copy, boxes
scaled as the picture was. In layouts without a place for it, each picture gets what is said of it.
"""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from xml.etree import ElementTree

from gan_style.dataset.geometry import NotScalableError, has_places, scaled, text_of
from gan_style.dataset.layouts.masks import core_of
from gan_style.dataset.layouts.text import decoded
from gan_style.dataset.layouts.yolo import read_yaml, rewritten_yaml
from gan_style.dataset.sample import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from gan_style.dataset.layouts.tree import Tree

TABLE_SUFFIXES = (
    *(
        ".txt",
        ".csv",
        ".tsv",
        ".json",
        ".jsonl",
        ".ndjson",
        ".yaml",
        ".yml",
        ".xml",
        ".lst",
        ".list",
        ".parquet",
        ".ini",
        *(".geojson", ".odgt", ".manifest"),
    ),
)
OPAQUE_SUFFIXES = (
    *(".mat", ".npy", ".npz", ".pkl", ".pickle", ".h5", ".hdf5", ".db", ".sqlite", ".tfrecord"),
    *(".xlsx", ".xls", ".ods", ".arrow", ".feather", ".gz", ".zip"),
)
MOST_IN_A_FOLDER = 50  # files of these kinds; more are labels of single pictures
MOST_BYTES = 2_000_000_000
_MOST_LOOKED_AT = 100_000  # rows, to tell which columns name pictures
_CALLED_PICTURE = re.compile(r"(?i)image|img|photo|picture|file|frame")
_OF_CLASSES = re.compile(r"(?i)(classes|names|parts|attributes)\.")  # files whose numbers are those of other things
_IDS = ("id", "key", "name", "image_id", "img_id")  # fields that may hold a picture's name without its suffix
_NUMBERED = re.compile(r"(?<=[A-Za-z0-9])#\d+\Z")  # 1.jpg#0, the first of several captions
_ROW_OF_NUMBERS = re.compile(r"(?<![\w.])(?:-?\d+(?:\.\d+)?[\s,;|]+){3,}-?\d+(?:\.\d+)?")
_TRACK = re.compile(r"\d+,-?\d+(?:,-?\d+(?:\.\d+)?){4,}")
_SIZE = re.compile(r"(?im)^(im(?:g|age)?_?(?:width|(height))\s*=\s*)(\d+)")  # in MOT's seqinfo.ini
_CAMERA = frozenset(("fl_x", "fl_y", "cx", "cy"))
_DEEPEST = 4  # records in records, in which one may name a picture


@dataclass(frozen=True)
class Output:
    """One result of a picture: its path below data/, and by how much it was scaled in width and height."""

    path: str
    factors: tuple[float, float] = (1.0, 1.0)


class Index:
    """The files that tables may name, by path; files: to their results; labels: those of them that are no pictures to
    stylize, but masks and the like, which a bare name means only where no picture is called so.
    """

    def __init__(self, files: Mapping[str, Sequence[Output]], labels: Container[str] = ()) -> None:
        self.files, self.labels = files, labels
        self.numbers: dict[str, dict[str, str]] = {}

    @cached_property
    def is_scaled(self) -> bool:
        return any(output.factors != (1.0, 1.0) for outputs in self.files.values() for output in outputs)

    @cached_property
    def has_new_names(self) -> bool:
        return any([output.path for output in self.files[path]] != [path] for path in self.pictures)

    @cached_property
    def has_copies(self) -> bool:
        return any(len(outputs) > 1 for outputs in self.files.values())

    def add_numbers(self, path: str, content: bytes) -> None:
        """Note the numbers that a list gives to pictures ("1 cats/1.jpg"), by which others beside it may name them."""
        lines = [line.split(maxsplit=1) for line in content.decode("utf-8", "replace").splitlines() if line.strip()]
        if not all(len(line) == 2 and line[0].isdigit() and not _ROW_OF_NUMBERS.match(line[1]) for line in lines):
            return
        folder = path.rpartition("/")[0]
        numbers = {number: match for number, name in lines if (match := self.find(name.strip(), folder)) is not None}
        if numbers and len(numbers) >= 0.9 * len(lines):
            self.numbers[folder] = numbers

    def numbers_for(self, folder: str) -> Mapping[str, str]:
        """The numbers of pictures for files in a folder: of a list in it, or in one above."""
        while folder not in self.numbers and folder:
            folder = folder.rpartition("/")[0]
        return self.numbers.get(folder, {})

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {path.casefold(): path for path in self.files}

    @cached_property
    def _names(self) -> dict[str, str | None]:
        """By base name; None where several are called so."""
        return self._unambiguous(self.files, lambda path: path.rpartition("/")[2].casefold())

    @cached_property
    def pictures(self) -> list[str]:
        return [path for path in self.files if path.lower().endswith(PICTURE_SUFFIXES) and path not in self.labels]

    @cached_property
    def _stems(self) -> dict[str, str | None]:
        return self._unambiguous(self.pictures, lambda path: PurePosixPath(path).stem)

    @cached_property
    def _bare(self) -> dict[str, str | None]:
        """By path without suffix."""
        return self._unambiguous(self.pictures, lambda path: path.rpartition(".")[0])

    @cached_property
    def frames(self) -> dict[str, dict[int, str]]:
        """Of each folder, the pictures that are called as numbers."""
        frames: dict[str, dict[int, str]] = {}
        for path in self.pictures:
            folder, _, name = path.rpartition("/")
            if (stem := name.rpartition(".")[0]).isdecimal():
                frames.setdefault(folder, {})[int(stem)] = path
        return frames

    def _unambiguous(self, paths: Iterable[str], name_of: Callable[[str], str]) -> dict[str, str | None]:
        pictures: dict[str, str | None] = {}
        labels: dict[str, str | None] = {}
        for path in paths:
            names, name = (labels if path in self.labels else pictures), name_of(path)
            names[name] = None if name in names else path
        return labels | pictures

    def find(self, reference: str, folder: str) -> str | None:
        """The path of the file that a table in this folder means."""
        local = reference.rpartition("?d=")[2]  # Label Studio's /data/local-files/?d=images/1.jpg, and its uploads
        uploaded = re.sub(r"(\A|/)[0-9a-f]{8}-(?=[^/]+\Z)", r"\1", local)
        for name in dict.fromkeys((reference, unquote(reference), unquote(local), unquote(uploaded))):
            parts = [part for part in re.split(r"[/\\]+", name.strip()) if part not in ("", ".")]
            if not parts or len(name) > 4096:
                continue
            for base in dict.fromkeys((folder, "")):
                path = _normal([*(base.split("/") if base else []), *parts])
                if path is not None and path in self.files:
                    return path
                if path is not None and (match := self._folded.get(path.casefold())) is not None:
                    return match
            parts = [part for part in parts if part != ".."]
            for at in range(len(parts) - 1):  # of another place: the longest end of the path that is one of ours
                for base in dict.fromkeys((folder, "")):
                    path = "/".join([*(base.split("/") if base else []), *parts[at + 1 :]])
                    if len(parts) - at > 2 and (match := self._folded.get(path.casefold())) is not None:
                        return match
            if (match := self._in_folder(parts[-1], folder) or self._names.get(parts[-1].casefold())) is not None:
                return match
        return None

    def _in_folder(self, name: str, folder: str) -> str | None:
        """A file of this name in one of the usual folders beside a table: images/."""
        for inner in ("images", "image", "imgs", "img", "JPEGImages", "data"):
            path = f"{folder}/{inner}/{name}" if folder else f"{inner}/{name}"
            if path in self.files:
                return path
        return None

    def find_stem(self, stem: str, folder: str = "") -> str | None:
        """The picture that a name without suffix means: "1", "cats/1"."""
        *above, last = re.split(r"[/\\]+", stem)
        if not above:
            return self._bare.get(f"{folder}/{last}" if folder else last) or self._stems.get(last)
        path = "/".join([*above, last])
        for base in dict.fromkeys((f"{folder}/" if folder else "", "")):
            if (match := self._bare.get(base + path)) is not None:
                return match
        match = self._stems.get(last)
        return match if match is not None and match.rpartition(".")[0].endswith(f"/{path}") else None

    def covers(self, values: Iterable[Any], *, named: bool, folder: str = "", is_id: bool = False) -> bool:
        """Whether values, of one column say, are names of pictures without their suffixes: most of them are, and they
        are of most pictures, where the column is not called as pictures are (named). Numbers have to be those of all
        pictures, or, in a column called as ids are (is_id), of all in their folders.
        """
        distinct = {value for value in values if isinstance(value, str) and value.strip()}
        paths = {path for value in distinct if (path := self.find_stem(value, folder)) is not None}
        if not named and all(value.isdigit() and str(int(value)) == value for value in distinct):  # or any numbers
            folders = {path.rpartition("/")[0] for path in paths}
            in_them = [path for path in self.pictures if not is_id or path.rpartition("/")[0] in folders]
            return len(paths) == len(distinct) == len(in_them)
        most = len(paths) > len(distinct) / 2
        return most and (named or len(paths) >= max(1, len(self.pictures) / 2))

    def renamed(self, reference: str, path: str, output: Output, folder: str) -> str:
        """The reference to a result, in the form of that to its source."""
        slashed, absolute = reference.replace("\\", "/"), re.match(r"([A-Za-z]:)?[/\\]", reference) is not None
        own, parts = unquote(slashed).split("/"), path.split("/")
        same = 0
        while same < min(len(own), len(parts)) and own[-1 - same].casefold() == parts[-1 - same].casefold():
            same += 1
        new = output.path.split("/")
        if (
            absolute and same < len(own) - 1
        ):  # which would lead to the originals; /images/1.jpg starts from the root here
            up = [".."] * len(folder.split("/")) if folder else ["."]
            below = output.path.removeprefix(f"{folder}/") if folder else output.path
            return f"./{below}" if below != output.path or not folder else "/".join([*up, *new])
        if output.path == path:
            return reference
        prefix = slashed.split("/")[: len(own) - same]
        result = "/".join([*prefix, *new[len(new) - same :]])
        return result.replace("/", "\\") if "\\" in reference and "/" not in reference else result


def _normal(parts: Sequence[str]) -> str | None:
    """A path without "..", None for one that leads out."""
    done: list[str] = []
    for part in parts:
        if part == "..":
            if not done:
                return None
            done.pop()
        else:
            done.append(part)
    return "/".join(done)


@dataclass
class Rewriter:
    """Writes a table again. index: of what it may name; folder, table: where it lies, and its name; named: references
    that were found; gone: those to pictures without a result.
    """

    index: Index
    folder: str
    table: str = ""
    named: int = 0
    gone: int = 0
    keys: dict[str, list[str]] = field(default_factory=dict)  # of records, and those of their copies
    stem_fields: frozenset[Any] = frozenset()  # columns, or fields of records, that hold names without suffixes

    @property
    def numbers(self) -> Mapping[str, str]:
        """The numbers by which the table may name pictures."""
        return {} if _OF_CLASSES.match(self.table) else self.index.numbers_for(self.folder)

    def references(self, value: Any, field: Any = None) -> str | None:
        """The path that a value, of a field, names; None where it names no picture of ours."""
        if not isinstance(value, str) or not 0 < len(value) < 4096 or "\n" in value:
            return None
        value = _NUMBERED.sub("", value)
        if not re.search(r"\.[A-Za-z0-9]{2,5}\Z", value.strip()):
            return self.index.find_stem(value, self.folder) if field in self.stem_fields else None
        return self.index.find(value, self.folder)

    def outputs(self, path: str) -> Sequence[Output]:
        self.named += 1
        outputs = self.index.files[path]
        self.gone += not outputs
        return outputs

    def name(self, reference: str, path: str, output: Output) -> str:
        plain = _NUMBERED.sub("", reference)
        if plain != reference:
            return self.name(plain, path, output) + reference[len(plain) :]
        if reference.rpartition("/")[2] == PurePosixPath(path).stem:  # without suffix
            return reference[: reference.rfind("/") + 1] + PurePosixPath(output.path).stem
        return self.index.renamed(reference, path, output, self.folder)

    def find_stem_fields(self, columns: Mapping[Any, Sequence[Any]]) -> None:
        """Note which columns hold names of pictures without their suffixes; none does where one has whole names."""
        if any(self.references(value) is not None for values in columns.values() for value in values[:200]):
            return
        self.stem_fields = frozenset(
            name
            for name, values in columns.items()
            if self.index.covers(
                values,
                named=bool(_CALLED_PICTURE.search(str(name))),
                folder=self.folder,
                is_id=str(name).strip().lower() in _IDS,
            )
        )

    def document(self, value: Any) -> Any:
        """A whole JSON file, whose lists name records by the keys that these have now (VIA's)."""
        new = self._document(value)
        return self._with_new_keys(new) if any(keys != [key] for key, keys in self.keys.items()) else new

    def _with_new_keys(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._with_new_keys(item) for key, item in value.items()}
        if not isinstance(value, list):
            return value
        names = [
            self.keys.get(item, [item]) if isinstance(item, str) else [self._with_new_keys(item)] for item in value
        ]
        return [item for own in names for item in own]

    def _document(self, value: Any) -> Any:
        """The same value where it is about one picture that has several copies."""
        if isinstance(value, dict) and any(self.references(item, name) is not None for name, item in value.items()):
            copies = list(self._copies(value))
            return copies[0] if len(copies) == 1 else value
        return self.json(value)

    def json(self, value: Any) -> Any:
        """A JSON value with each record, string or key that names a picture once for each of its results."""
        if isinstance(value, list):
            self.find_stem_fields_of(value)
            if value and all(isinstance(item, str) and self._is_stem(item) for item in value):  # Food-101's
                return [copy for item in value for copy in self._stem_copies(item)]
            return [copy for item in value for copy in self._copies(item)]
        if isinstance(value, dict):
            stems = self.index.covers(value, named=False, folder=self.folder)
            many = sum(self._first_named(item) is not None for item in value.values()) > len(value) / 2
            return {
                k: copy for key, item in value.items() for k, copy in self._fields(key, item, stems=stems, many=many)
            }
        return value

    def _is_stem(self, value: str) -> bool:
        """Whether it is a picture's path without its suffix."""
        return "/" in value and not value.startswith("/") and self.index.find_stem(value, self.folder) is not None

    def _stem_copies(self, value: str) -> Iterator[str]:
        path = self.index.find_stem(value, self.folder)
        yield from (self.name(value, path, output) for output in self.outputs(path)) if path is not None else ()

    def find_stem_fields_of(self, records: Sequence[Any]) -> None:
        """The same of a list of records."""
        columns: dict[str, list[Any]] = {}
        for record in records[:1000] if all(isinstance(item, dict) for item in records[:10]) else ():
            for name, value in record.items() if isinstance(record, dict) else ():
                if isinstance(value, str):
                    columns.setdefault(name, []).append(value)
        if columns and not any(self._first_named(item) for item in records[:10]):
            self.find_stem_fields(columns)

    def _copies(self, item: Any) -> Iterator[Any]:
        """Of an element of a list."""
        if isinstance(item, str) and (path := self.references(item)) is not None:
            yield from (self.name(item, path, output) for output in self.outputs(path))
        elif (path := self._first_named(item)) is not None:
            yield from self._records(item, path)
        else:
            yield self.json(item)

    def _fields(self, key: str, item: Any, *, stems: bool, many: bool) -> Iterator[tuple[str, Any]]:
        """Of a record, whose keys may name pictures (VIA: 1.jpg45678), without suffixes (stems), or number records of
        pictures (many).
        """
        path = self.index.find_stem(key, self.folder) if stems else self.references(key)
        if path is not None:
            for number, output in enumerate(self.outputs(path)):
                yield self.name(key, path, output), self._scaled(self._renamed(item, path, number), output)
        elif many and (path := self._first_named(item)) is not None:
            named = [value for value in self.named_in(item) if key.startswith(value)]
            for number, copy in enumerate(self._records(item, path)):
                new_key = f"{key}~{number + 1}" if number else key
                if named:
                    new_key = self.name(named[0], path, self.index.files[path][number]) + key[len(named[0]) :]
                self.keys.setdefault(key, []).append(new_key)
                yield new_key, copy
        else:
            yield key, self.json(item)

    def named_in(self, record: Any) -> dict[str, str]:
        """The values in a record, or in one within it, that name pictures, and which."""
        return dict(self._names_in(record, _DEEPEST))

    def _names_in(self, record: Any, depth: int) -> Iterator[tuple[str, str]]:
        for field_name, value in record.items() if isinstance(record, dict) else ():
            if (path := self.references(value, field_name)) is not None:
                yield value, path
        for value in record.values() if isinstance(record, dict) and depth else ():
            yield from self._names_in(value, depth - 1)

    def _first_named(self, record: Any) -> str | None:
        return next((path for _, path in self._names_in(record, _DEEPEST)), None)

    def _renamed(self, value: Any, picture: str, number: int, field_name: Any = None) -> Any:
        """What is said of a picture, for its copy of this number: other files that it names (masks) have that, too."""
        if isinstance(value, dict):
            return {key: self._renamed(item, picture, number, key) for key, item in value.items()}
        if isinstance(value, list):
            return [self._renamed(item, picture, number, field_name) for item in value]
        path = self.references(value, field_name)
        if path is None and field_name in _IDS and value in (PurePosixPath(picture).stem, picture.rpartition(".")[0]):
            path = picture
        outputs = self.index.files[path] if path is not None else ()
        return self.name(value, path, outputs[min(number, len(outputs) - 1)]) if path is not None and outputs else value

    def _records(self, record: Mapping[str, Any], picture: str) -> Iterator[dict[str, Any]]:
        """A record for each copy of the picture that it names."""
        for number, output in enumerate(self.outputs(picture)):
            yield self._scaled(self._renamed(record, picture, number), output)

    def _scaled(self, record: Any, output: Output) -> Any:
        return record if output.factors == (1.0, 1.0) else scaled(record, output.factors)

    def rows(self, header: Sequence[str] | None, rows: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
        """Of a CSV; without a header boxes are known only in the form of name, x1, y1, x2, y2, class."""
        fields: Sequence[Any] = header or ()
        for row in rows:
            paths = {
                at: path
                for at, value in enumerate(row)
                if (path := self.references(value, fields[at] if at < len(fields) else at)) is not None
            }
            if not paths:
                yield row
                continue
            first = next(iter(paths.values()))
            for number, output in enumerate(self.outputs(first)):
                copy = list(row)
                for at, path in paths.items():
                    own = self.index.files[path]
                    if own:
                        copy[at] = self.name(row[at], path, own[min(number, len(own) - 1)])
                if output.factors != (1.0, 1.0):
                    names = header or (["", "x1", "y1", "x2", "y2"] if _is_retinanet(row) else [])
                    record = self._scaled(dict(zip(names, copy, strict=False)), output)
                    copy = [str(record.get(name, value)) if name else value for name, value in _pairs(names, copy)]
                yield copy

    def lines(self, text: str) -> str:
        """Of a list: whole lines, or words of them, that name pictures, with their suffix or (VOC's) without."""
        lines, result, at = text.splitlines(), list[str](), 0
        numbers = self.numbers
        if numbers and {line.split()[0] for line in lines if line.split()} >= numbers.keys():
            result = [copy for line in lines for copy in self._numbered_copies(line, numbers)]
            return "\n".join(result) + "\n" * text.endswith("\n")
        stems, sources, results = self.are_stems(lines), 0, 0
        header = self._header_of(lines)
        while at < len(lines):
            line = lines[at]
            block = [line]
            at += 1
            if self.references(line.strip()) is not None:  # WIDER: a count, and so many boxes
                count = lines[at].strip() if at < len(lines) else ""
                if count.isdigit() and all(_is_box(line) for line in lines[at + 1 : at + 1 + max(1, int(count))]):
                    block += lines[at : at + 1 + max(1, int(count))]
                    at += len(block) - 1
            named = self.named
            copies = list(self._line_copies(block, stems, header))
            result += copies
            if self.named > named:
                sources, results = sources + 1, results + len(copies)
        if lines and lines[0].strip() == str(sources):  # CelebA's lists begin with how many pictures they name
            result[0] = str(results)
        return "\n".join(result) + "\n" * text.endswith("\n")

    def _numbered_copies(self, line: str, numbers: Mapping[str, str]) -> Iterator[str]:
        """Of a line that begins with a picture's number: "1 60.0 27.0 325.0 304.0". Copies get numbers of their own."""
        parts = re.split(r"(\s+)", line.strip())
        path = numbers.get(parts[0])
        if path is None:
            yield line
            return
        span = max(map(int, numbers))
        for number, output in enumerate(self.outputs(path)):
            copy = [str(int(parts[0]) + number * span) if number else parts[0], *parts[1:]]
            for at, word in enumerate(parts[2:], 2):
                if self.references(word) == path:
                    copy[at] = self.name(word, path, output)
            if output.factors != (1.0, 1.0):
                for axis, at in enumerate(_places_in(self.table, parts)):
                    copy[at] = text_of(float(copy[at]) * output.factors[axis % 2])
            yield "".join(copy)

    def are_stems(self, lines: Sequence[str]) -> bool:
        first_words = [line.split()[0] for line in lines[:200] if line.split()]
        stems = sum(self.index.find_stem(word, self.folder) is not None for word in first_words)
        return bool(first_words) and stems > len(first_words) / 2

    def _header_of(self, lines: Sequence[str]) -> list[str]:
        """The names of a list's columns: of its first line, or of that below a count (CelebA's); else none."""
        at = 1 if len(lines) > 1 and lines[0].strip().isdigit() else 0
        words = re.split(r"[\s,]+", lines[at].strip()) if lines else []
        is_header = len(words) > 1 and not any(re.match(r"-?[\d.]|.*\.\w{2,5}\Z", word) for word in words)
        return words if is_header and not any(map(self.references, words)) else []

    def tracks(self, text: str) -> str | None:
        """MOT's lines (frame, number, x, y, width, height ...) for the frames now; None for any other file."""
        lines = text.splitlines()
        if not lines or not all(map(_TRACK.fullmatch, lines)):
            return None
        above = self.folder.rpartition("/")[0]
        folders = [name for name in self.index.frames if name.rpartition("/")[0] == above and name != self.folder]
        stem = PurePosixPath(self.table).stem  # VisDrone's sequences
        folders = folders or [name for name in self.index.frames if name.rpartition("/")[2] == stem]
        frames = self.index.frames[folders[0]] if len(folders) == 1 else {}
        rows = [line.split(",") for line in lines]
        if not any(int(row[0]) in frames for row in rows):
            return None
        for row in rows:
            outputs = self.index.files.get(frames.get(int(row[0]), ""), ())
            factors = outputs[0].factors if outputs else (1.0, 1.0)
            if factors != (1.0, 1.0):
                row[2:6] = [text_of(float(value) * factors[at % 2]) for at, value in enumerate(row[2:6])]
        return "\n".join(map(",".join, rows)) + "\n" * text.endswith("\n")

    def _line_copies(self, block: Sequence[str], stems: bool, header: Sequence[str]) -> Iterator[str]:
        line = block[0]
        parts = re.split(r"(\s+|,)", line)
        paths = {at: reference for at, word in enumerate(parts) if (reference := self.references(word)) is not None}
        whole = self.references(line.strip()) if len(paths) < 2 else None  # its name may have blanks
        if (path := whole) is not None and (path not in paths.values() or len(line.split()) == 1):
            for output in self.outputs(path):
                yield line.replace(line.strip(), self.name(line.strip(), path, output))
                yield from (_scaled_box(line, output) for line in block[1:])
            return
        stem = line.split()[0] if line.split() else ""
        if not paths and stems and (reference := self.index.find_stem(stem, self.folder)):
            for output in self.outputs(reference):
                yield line.replace(stem, self.name(stem, reference, output), 1)
            return
        if not paths:
            yield line
            return
        for number, _ in enumerate(self.outputs(next(iter(paths.values())))):
            copy = list(parts)
            for at, path in paths.items():
                own = self.index.files[path]
                if own:
                    copy[at] = self.name(parts[at], path, own[min(number, len(own) - 1)])
            outputs = self.index.files[next(iter(paths.values()))]
            scaled_words = _scaled_columns(copy, header, outputs[number]) if header else None
            yield "".join(scaled_words or _scaled_words(copy, max(paths), outputs[number]))

    def element(self, parent: ElementTree.Element) -> None:
        """Of XML (CVAT, dlib): elements with an attribute that names a picture."""
        children: list[ElementTree.Element] = []
        span = max((int(own) for child in parent if (own := child.get("id", "")).isdigit()), default=0) + 1
        for child in parent:
            paths = {name: path for name, value in child.attrib.items() if (path := self.references(value)) is not None}
            if not paths:
                self.element(child)
                children.append(child)
                continue
            name, path = next(iter(paths.items()))
            for number, output in enumerate(self.outputs(path)):
                copy = ElementTree.fromstring(ElementTree.tostring(child))
                if number and copy.get("id", "").isdigit():
                    copy.set("id", str(int(copy.get("id", "")) + number * span))
                copy.set(name, self.name(child.attrib[name], path, output))
                if output.factors != (1.0, 1.0):
                    _scale_element(copy, output.factors)
                children.append(copy)
        parent[:] = children


def _places_in(table: str, words: Sequence[str]) -> list[int]:
    """Which words of a line that begins with a picture's number are x, y, x, y: CUB-200's boxes and parts."""
    if not all(re.fullmatch(r"-?\d+(\.\d+)?", word) for word in words[::2]):
        return []
    if "box" in table.lower() and len(words) == 9:  # number, then x, y, width, height, with the blanks between them
        return [2, 4, 6, 8]
    return [4, 6] if "loc" in table.lower() and len(words) >= 9 else []  # number, part, x, y, whether it is seen


def _pairs(names: Sequence[str], values: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield from ((names[at] if at < len(names) else "", value) for at, value in enumerate(values))


def _is_retinanet(row: Sequence[str]) -> bool:
    return len(row) == 6 and all(re.fullmatch(r"-?\d+(\.\d+)?", value.strip()) for value in row[1:5])


def _is_box(line: str) -> bool:
    parts = line.split()
    return len(parts) >= 4 and all(re.fullmatch(r"-?\d+(\.\d+)?", word) for word in parts)


def _scaled_box(line: str, output: Output) -> str:
    """x, y, width, height, then what else there is; a line of one number is a count."""
    if output.factors == (1.0, 1.0) or not _is_box(line):
        return line
    parts = line.split()
    box = [f"{float(word) * output.factors[at % 2]:g}" for at, word in enumerate(parts[:4])]
    return " ".join([*box, *parts[4:]])


def _scaled_columns(parts: list[str], header: Sequence[str], output: Output) -> list[str] | None:
    """Of a line with a picture's name, by its columns' names; None where it has other columns."""
    places = [at for at in range(0, len(parts), 2) if parts[at]]
    if len(places) - len(header) not in (0, 1):  # CelebA's header leaves out the picture's
        return None
    names = ["", *header][-len(places) :]
    new = scaled(dict(zip(names, (parts[at] for at in places), strict=True)), output.factors)
    parts = list(parts)
    for at, name in zip(places, names, strict=True):
        parts[at] = str(new[name])
    return parts


def _scaled_words(parts: list[str], reference: int, output: Output) -> list[str]:
    """Of a line with a picture's name: the numbers behind it, in turn for x and y; of groups of five words (boxes with
    a class behind them), or of four numbers and words, four. Those that are no pixels, since none is over 1, stay.
    """
    before = "".join(parts[:reference])
    if output.factors != (1.0, 1.0) and _ROW_OF_NUMBERS.search(before):  # WFLW's
        raise NotScalableError(f"numbers before the name of a picture ({before[:60]})")
    pieces = re.split(r"([\s,]+)", "".join(parts[reference + 1 :]))
    places = [at for at in range(0, len(pieces), 2) if pieces[at]]
    are_numbers = [re.fullmatch(r"-?\d+(?:\.\d+)?", pieces[at]) is not None for at in places]
    numbers = [float(pieces[at]) for at, is_number in zip(places, are_numbers, strict=True) if is_number]
    if output.factors == (1.0, 1.0) or len(numbers) < 4 or max(numbers) <= 1:
        return parts
    fives = [are_numbers[at : at + 4] for at in range(0, len(places), 5)] if len(places) % 5 == 0 else [[False]]
    in_fives = (
        all(group.count(",") == 4 for group in "".join(pieces).split()) or len(places) % 2 or not all(are_numbers)
    )
    if in_fives and all(map(all, fives)):
        places = [at for number, at in enumerate(places) if number % 5 < 4]
    elif len(numbers) == 4 and all(are_numbers[are_numbers.index(True) :][:4]):  # one box, among words
        places = places[are_numbers.index(True) :][:4]
    elif not all(are_numbers):
        raise NotScalableError(f"numbers in a line that is not known ({''.join(parts)[:60]})")
    for number, at in enumerate(places):
        pieces[at] = f"{float(pieces[at]) * output.factors[number % 2]:g}"
    return [*parts[: reference + 1], *pieces]


def _scale_element(element: ElementTree.Element, factors: tuple[float, float]) -> None:
    for child in element.iter():
        record = {name: value for name, value in child.attrib.items() if name != "points"}
        child.attrib.update({name: str(value) for name, value in scaled(record, factors).items()})
        if "points" in child.attrib:
            points = [pair.split(",") for pair in child.attrib["points"].split(";")]
            moved = [[f"{float(side) * factor:g}" for side, factor in zip(p, factors, strict=True)] for p in points]
            child.set("points", ";".join(",".join(pair) for pair in moved))


def rewritten(path: str, content: bytes, index: Index, root: Path, warn: Callable[[str], object]) -> bytes:
    """A table's content for the result; its own bytes where nothing has to change.

    path: the table's, below the root; warn: is told of what could not be mended.
    """
    suffix, rewriter = PurePosixPath(path).suffix.lower(), rewriter_of(path, index)
    if suffix in OPAQUE_SUFFIXES:
        if index.has_new_names or index.is_scaled:
            warn(f"{path} cannot be read here; pictures that it may name, and places in them, are in it as they were")
        return content
    try:
        new = _rewritten(path, suffix, content, rewriter, root, warn)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        csv.Error,
        ElementTree.ParseError,
    ) as error:
        if _names_some(content, index):
            warn(f"{path} names pictures, but could not be read ({error}); it is copied as it is")
        return content
    if rewriter.gone:
        warn(f"{path}: {rewriter.gone} entries are left out, since their pictures have no result")
    if new is None and rewriter.named and index.has_copies:
        warn(f"{path} is of one picture, and has no place for its copies; it is copied as it is")
    results = ((name, [PurePosixPath(output.path).name for output in outputs]) for name, outputs in _some(index))
    stale = index.is_scaled or any(names != [name] for name, names in results)
    if stale and suffix not in TABLE_SUFFIXES and not rewriter.named and _names_some(content, index):
        warn(f"{path} names pictures, in a form that is not known; it is copied as it is")
    if not rewriter.named and new is None and suffix not in (".yaml", ".yml", ".parquet"):
        for doubt in _doubts(path, content.decode("utf-8", "replace"), index):
            warn(doubt)
    return content if new is None else new


def rewriter_of(path: str, index: Index) -> Rewriter:
    folder, _, name = path.rpartition("/")
    return Rewriter(index, folder, name)


def _doubts(path: str, text: str, index: Index) -> Iterator[str]:
    """What may be wrong with a file that names no picture, and still may speak of them by their order or number."""
    lines = [line for line in text.splitlines() if line.strip()]
    if index.is_scaled and any(map(_ROW_OF_NUMBERS.search, lines)):
        yield f"{path}: its numbers, which may be places in pictures, are as they were, and the pictures are scaled"
    elif index.is_scaled and re.search(r"(?i)\b(im|img|image)_?(width|height)\s*=", text):
        yield f"{path} states the size of pictures as it was, and the pictures are scaled"
    if index.has_copies and re.search(r'"(image|img)_?id"\s*:\s*\d|<box\s+frame="\d', text):
        yield f"{path} has numbers for pictures, and copies have none of their own"
    is_named = re.search(r"(?i)class|names|readme|licen[cs]e", path.rpartition("/")[2]) is not None
    if index.has_copies and not is_named and len(lines) - len(index.pictures) in (0, 1):
        yield f"{path} has a line for each picture, and names none: there are more pictures now, in another order"


def check_scaling(root: Path, tree: "Tree", but: Container[str] = ()) -> None:
    """ValueError, naming the table, where one (but some) has labels that cannot be scaled."""
    index = index_of(tree, (0.5, 0.5))
    for folder in tree.folders:
        names = [name for name in tree.try_listing(folder).files if name.lower().endswith(TABLE_SUFFIXES)]
        for path in apart(tree, folder, names[:MOST_IN_A_FOLDER]):
            if path in but or (root / path).stat().st_size > MOST_BYTES:
                continue
            try:
                content = (root / path).read_bytes()
                _rewritten(path, PurePosixPath(path).suffix.lower(), content, rewriter_of(path, index), root, len)
            except NotScalableError as error:
                raise ValueError(f"{path} cannot be scaled: {error}; it needs size=keep") from error
            except Exception:  # of many kinds: it is no table, and is copied as it is
                continue


def _some(index: Index) -> Iterator[tuple[str, Sequence[Output]]]:
    """Some pictures' names, and their results."""
    some = ((path, outputs) for path, outputs in index.files.items() if path.lower().endswith(PICTURE_SUFFIXES))
    yield from ((path.rpartition("/")[2], outputs) for path, outputs in islice(some, 100))


def _names_some(content: bytes, index: Index) -> bool:
    return any(os.fsencode(name) in content for name, _ in _some(index))


def _rewritten(
    path: str, suffix: str, content: bytes, rewriter: Rewriter, root: Path, warn: Callable[[str], object]
) -> bytes | None:
    if suffix in (".yaml", ".yml"):
        data = read_yaml(root / path)
        if data is None:
            return None
        new_yaml, outside = rewritten_yaml(data, path, root)
        for value in outside:
            warn(f"{path}: {value} is not in the input, and left as it is")
        return new_yaml
    if suffix == ".parquet":
        return _rewritten_parquet(content, rewriter)
    text, encoding = decoded(content)
    if suffix not in TABLE_SUFFIXES and not text.startswith("{"):
        return None
    if suffix in (".json", ".geojson"):
        try:
            value = json.loads(text)
        except json.JSONDecodeError:  # TuSimple's: an object a line
            return _rewritten(path, ".jsonl", content, rewriter, root, warn)
        if rewriter.index.is_scaled and isinstance(value, dict) and value.get("type") == "FeatureCollection":
            raise NotScalableError("its coordinates may be pixels, or places on the earth")
        if rewriter.index.is_scaled and isinstance(value, dict) and "frames" in value and value.keys() & _CAMERA:
            raise NotScalableError("it has a camera in pixels for all pictures")  # NeRF's transforms.json
        new_value = rewriter.document(value)
        _check_named(rewriter, value)
        return None if new_value == value else json.dumps(new_value, ensure_ascii=False).encode(encoding)
    if suffix in (".jsonl", ".ndjson", ".odgt", ".manifest") or suffix not in TABLE_SUFFIXES:
        records = [json.loads(line) for line in text.splitlines() if line.strip()]
        new_records = rewriter.json(records)
        _check_named(rewriter, records)
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in new_records)
        return None if new_records == records else "".join(lines).encode(encoding)
    if suffix in (".csv", ".tsv"):
        rows, delimiter = read_rows(text, suffix)
        header = None if not rows or any(rewriter.references(value) for value in rows[0]) else rows[0]
        body = rows[1:] if header else rows
        rewriter.find_stem_fields(columns_of(header, body))
        new_rows = [*([header] if header else []), *rewriter.rows(header, body)]
        _check_named(rewriter, {name: [0, 0] for name in header or ()})
        if new_rows == rows:
            return None
        buffer = io.StringIO()
        options: dict[str, Any] = {"quoting": csv.QUOTE_NONE, "quotechar": None} if delimiter == "|" else {}
        end = "\r\n" if "\r\n" in text else "\n"
        csv.writer(buffer, delimiter=delimiter, lineterminator=end, **options).writerows(new_rows)
        return buffer.getvalue().encode(encoding)
    if suffix == ".xml":
        if b"<!ENTITY" in content:
            return None
        tree = ElementTree.fromstring(content)
        before = ElementTree.tostring(tree)
        rewriter.element(tree)
        _check_named(rewriter, [dict(child.attrib) for child in tree.iter()])
        after = ElementTree.tostring(tree, encoding="utf-8", xml_declaration=True)
        return None if ElementTree.tostring(tree) == before else after
    if suffix == ".ini":
        own = [path for path in rewriter.index.pictures if path.startswith(rewriter.folder)]
        outputs = [output for path in own for output in rewriter.index.files[path]]
        if len(factors := {output.factors for output in outputs}) == 1:
            (scale,) = factors
            text = _SIZE.sub(lambda line: f"{line[1]}{round(int(line[3]) * scale[bool(line[2])])}", text)
            return None if scale == (1.0, 1.0) else text.encode(encoding)
    if (tracks := rewriter.tracks(text)) is not None:
        if rewriter.index.has_copies:
            warn(f"{path} tells of frames by their numbers, and copies have none of their own")
        return None if tracks == text else tracks.encode(encoding)
    new_text = rewriter.lines(text)
    return None if new_text.rstrip("\n") == "\n".join(text.splitlines()).rstrip("\n") else new_text.encode(encoding)


def _check_named(rewriter: Rewriter, value: Any) -> None:
    """NotScalableError for places that are said to be in no picture that we know, once pictures are scaled."""
    if rewriter.index.is_scaled and not rewriter.named and has_places(value):
        raise NotScalableError("it has places in pictures that it does not name")


def read_rows(text: str, suffix: str) -> tuple[list[list[str]], str]:
    first = text.splitlines()[0] if text else ""
    delimiter = "\t" if suffix == ".tsv" else max(",", "\t", ";", "|", key=first.count)
    quoting: Any = csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
    return [row for row in csv.reader(io.StringIO(text), delimiter=delimiter, quoting=quoting) if row], delimiter


def columns_of(header: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> dict[Any, list[str]]:
    """The values of each column, by its name or, without a header, its number; of a long table the first."""
    columns: dict[Any, list[str]] = {}
    for row in rows[:_MOST_LOOKED_AT]:
        for at, value in enumerate(row):
            columns.setdefault(header[at] if header and at < len(header) else at, []).append(value)
    return columns


def _rewritten_parquet(content: bytes, rewriter: Rewriter) -> bytes | None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(content))
    records = table.to_pylist()
    new = rewriter.json(records)
    if new == records:
        return None
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(new, schema=table.schema), buffer)
    return buffer.getvalue()


def apart(tree: "Tree", folder: str, names: Sequence[str]) -> Iterator[str]:
    """The paths of those of a folder's files that are not labels of one picture."""
    taken = set(tree.matches(folder).taken) if names else set()
    for owner in tree.picture_folders_of(folder) if names else ():
        taken |= tree.matches(owner).taken
    yield from (path for name in names if (path := f"{folder}/{name}" if folder else name) not in taken)


def index_of(tree: "Tree", factors: tuple[float, float] = (1.0, 1.0)) -> Index:
    """An index of a tree's pictures, each with one result, which is scaled so."""
    paths = list(_pictures_in(tree, ""))
    folders = {path.rpartition("/")[0] for path in paths}
    of_labels = {folder for folder in folders if tree.is_label_path(folder)}
    labels = {
        path
        for path in paths
        if path.rpartition("/")[0] in of_labels or core_of(PurePosixPath(path).stem).role == "label"
    }
    return Index({path: [Output(path, factors)] for path in paths}, labels)


def _pictures_in(tree: "Tree", path: str, depth: int = 0) -> Iterator[str]:
    listing = tree.try_listing(path)
    yield from (f"{path}/{name}" if path else name for name in listing.files if name.lower().endswith(PICTURE_SUFFIXES))
    for name in listing.folders if depth < 30 else ():
        yield from _pictures_in(tree, f"{path}/{name}" if path else name, depth + 1)
