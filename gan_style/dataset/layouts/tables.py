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
from itertools import islice, product
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from gan_style.dataset.geometry import NotScalableError, decoded, has_places, scale_numbers, scaled
from gan_style.dataset.layouts.masks import core_of
from gan_style.dataset.layouts.tree import Tree
from gan_style.dataset.layouts.yolo import read_yaml, rewritten_yaml
from gan_style.dataset.sample import PICTURE_SUFFIXES, join

_JSON, LINES_OF_JSON = (".json", ".geojson"), (".jsonl", ".ndjson", ".odgt", ".manifest")
YAML = (".yaml", ".yml")
TABLE_SUFFIXES = (*_JSON, *LINES_OF_JSON, *YAML, ".txt", ".lst", ".list", ".csv", ".tsv", ".parquet", ".xml", ".ini")
OPAQUE_SUFFIXES = (
    *(".mat", ".npy", ".npz", ".pkl", ".pickle", ".h5", ".hdf5", ".db", ".sqlite", ".tfrecord"),
    *(".xlsx", ".xls", ".ods", ".arrow", ".feather", ".gz", ".zip"),
)
MOST_IN_A_FOLDER = 50  # files of these kinds; more are labels of single pictures
MOST_BYTES = 2_000_000_000
_MOST_LOOKED_AT = 100_000  # rows, to tell which columns name pictures
_CALLED_PICTURE = re.compile(r"(?i)image|img|photo|picture|file|frame")
_OF_CLASSES = re.compile(r"(?i)(classes|names|parts|attributes)\.")  # files whose numbers are those of other things
_BESIDE_TABLES = ("images", "image", "imgs", "img", "JPEGImages", "data")  # folders, with the pictures that they name
_IDS = ("id", "key", "name", "image_id", "img_id")  # fields that may hold a picture's name without its suffix
_NUMBERED = re.compile(r"(?<=[A-Za-z0-9])#\d+\Z")  # 1.jpg#0, the first of several captions
_PLAIN_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_ROW_OF_NUMBERS = re.compile(r"(?<![\w.])(?:-?\d+(?:\.\d+)?[\s,;|]+){3,}-?\d+(?:\.\d+)?")
_TRACK = re.compile(r"\d+,-?\d+(?:,-?\d+(?:\.\d+)?){4,}")
_SIZE = re.compile(r"(?im)^(im(?:g|age)?_?(?:width|(height))\s*=\s*)(\d+)")  # in MOT's seqinfo.ini
_CAMERA = frozenset(("fl_x", "fl_y", "cx", "cy"))
UNREADABLE = (ValueError, TypeError, RecursionError, csv.Error, ElementTree.ParseError)  # of what is no table
_DEEPEST = 4  # records in records, in which one may name a picture


@dataclass(frozen=True)
class Output:
    """One result of a picture: its path below data/, and by how much it was scaled in width and height."""

    path: str
    factors: tuple[float, float] = (1.0, 1.0)

    @property
    def is_scaled(self) -> bool:
        return self.factors != (1.0, 1.0)


class Index:
    """The files that tables may name, by path; files: to their results; labels: those of them that are no pictures to
    stylize, but masks and the like, which a bare name means only where no picture is called so.
    """

    def __init__(self, files: Mapping[str, Sequence[Output]], labels: Container[str] = ()) -> None:
        self.files, self.labels = files, labels
        self.numbers: dict[str, dict[str, str]] = {}

    @cached_property
    def is_scaled(self) -> bool:
        return any(output.is_scaled for outputs in self.files.values() for output in outputs)

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
            down = [part for part in parts if part != ".."]
            if not down or len(name) > 4096:
                continue
            # The path itself; if it is of another place, its longest end that is a path of ours; the name alone.
            places = ["/".join(parts), *("/".join(down[at:]) for at in range(1, len(down) - 1))]
            for place, base in product(places, dict.fromkeys((folder, ""))):
                path = normpath(join(base, place))
                match = path if path in self.files else self._folded.get(path.casefold())
                if match is not None:
                    return match
            paths = (join(folder, f"{inner}/{down[-1]}") for inner in _BESIDE_TABLES)
            match = next((path for path in paths if path in self.files), None)
            if (match := match or self._names.get(down[-1].casefold())) is not None:
                return match
        return None

    def find_stem(self, stem: str, folder: str = "") -> str | None:
        """The picture that a name without suffix means: "1", "cats/1"."""
        *above, last = re.split(r"[/\\]+", stem)
        if not above:
            return self._bare.get(join(folder, last)) or self._stems.get(last)
        path = "/".join([*above, last])
        for base in (folder, ""):
            if (match := self._bare.get(join(base, path))) is not None:
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
        words, parts = unquote(slashed).split("/"), path.split("/")
        same = 0
        while same < min(len(words), len(parts)) and words[-1 - same].casefold() == parts[-1 - same].casefold():
            same += 1
        new = output.path.split("/")
        if absolute and same < len(words) - 1:  # which would lead to the originals; /images/1.jpg is from our root
            below = output.path.removeprefix(f"{folder}/") if folder else output.path
            up = [".."] * len(folder.split("/")) if folder else ["."]
            return f"./{below}" if below != output.path or not folder else "/".join([*up, *new])
        if output.path == path:
            return reference
        result = "/".join([*slashed.split("/")[: len(words) - same], *new[len(new) - same :]])
        return result.replace("/", "\\") if "\\" in reference and "/" not in reference else result


@dataclass
class Rewriter:
    """Writes a table again. index: of what it may name; path: the table's; named: references that were found; gone:
    those to pictures without a result.
    """

    index: Index
    path: str
    named: int = 0
    gone: int = 0
    keys: dict[str, list[str]] = field(default_factory=dict)  # of records, and those of their copies
    stem_fields: frozenset[Any] = frozenset()  # columns, or fields of records, that hold names without suffixes

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def table(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def numbers(self) -> Mapping[str, str]:
        """The numbers by which it may name pictures: those of a list beside it, or in a folder above."""
        folder = self.folder
        while folder not in self.index.numbers and folder:
            folder = folder.rpartition("/")[0]
        return {} if _OF_CLASSES.match(self.table) else self.index.numbers.get(folder, {})

    def references(self, value: Any, field: Any = None) -> str | None:
        """The path that a value, of a field, names; None where it names no picture of ours."""
        if not isinstance(value, str) or not 0 < len(value) < 4096 or "\n" in value:
            return None
        value = _NUMBERED.sub("", value)
        if not re.search(r"\.[A-Za-z0-9]{2,5}\Z", value.strip()):
            return self.index.find_stem(value, self.folder) if field in self.stem_fields else None
        return self.index.find(value, self.folder)

    def copies(self, path: str) -> Iterator[tuple[int, Output]]:
        """The results of a picture that the table names, with their numbers."""
        self.named += 1
        self.gone += not self.index.files[path]
        return enumerate(self.index.files[path])

    def name(self, reference: str, path: str, number: int) -> str:
        """A reference to a picture as one to its result of this number, or its last; as it is where it has none."""
        if not (outputs := self.index.files[path]):
            return reference
        output = outputs[min(number, len(outputs) - 1)]
        plain = _NUMBERED.sub("", reference)
        if plain.rpartition("/")[2] == PurePosixPath(path).stem:  # without suffix
            new = plain[: plain.rfind("/") + 1] + PurePosixPath(output.path).stem
        else:
            new = self.index.renamed(plain, path, output, self.folder)
        return new + reference[len(plain) :]

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
        names = value.items() if isinstance(value, dict) else ()
        if any(self.references(item, name) is not None for name, item in names):  # it is about one picture
            copies = list(self._copies(value))
            new = copies[0] if len(copies) == 1 else value
        else:
            new = self.json(value)
        return self._with_new_keys(new) if any(keys != [key] for key, keys in self.keys.items()) else new

    def _with_new_keys(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._with_new_keys(item) for key, item in value.items()}
        if not isinstance(value, list):
            return value
        new: list[Any] = []
        for item in value:
            new += self.keys.get(item, [item]) if isinstance(item, str) else [self._with_new_keys(item)]
        return new

    def json(self, value: Any) -> Any:
        """A JSON value with each record, string or key that names a picture once for each of its results."""
        if isinstance(value, list):
            self.find_stem_fields_of(value)
            stems = bool(value) and self._are_paths(value)
            return [copy for item in value for copy in self._copies(item, stems=stems)]
        if isinstance(value, dict):
            stems = self.index.covers(value, named=False, folder=self.folder)
            many = sum(self._first_named(item) is not None for item in value.values()) > len(value) / 2
            return {
                k: copy for key, item in value.items() for k, copy in self._fields(key, item, stems=stems, many=many)
            }
        return value

    def _are_paths(self, values: Sequence[Any]) -> bool:
        """Whether all are pictures' paths without their suffixes, as Food-101 has them."""
        return all(
            isinstance(value, str)
            and "/" in value
            and not value.startswith("/")
            and self.index.find_stem(value, self.folder) is not None
            for value in values
        )

    def find_stem_fields_of(self, records: Sequence[Any]) -> None:
        """The same of a list of records."""
        columns: dict[str, list[Any]] = {}
        for record in records[:1000] if all(isinstance(item, dict) for item in records[:10]) else ():
            for name, value in record.items() if isinstance(record, dict) else ():
                if isinstance(value, str):
                    columns.setdefault(name, []).append(value)
        if columns and not any(self._first_named(item) for item in records[:10]):
            self.find_stem_fields(columns)

    def _copies(self, item: Any, *, stems: bool = False) -> Iterator[Any]:
        """Of an element of a list; stems: of paths without suffixes."""
        path = self.index.find_stem(item, self.folder) if stems else self.references(item)
        if path is not None:
            yield from (self.name(item, path, number) for number, _ in self.copies(path))
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
            for number, copy in enumerate(self._records(item, path)):
                yield self.name(key, path, number), copy
        elif many and (path := self._first_named(item)) is not None:
            named = [value for value in self.named_in(item) if key.startswith(value)]
            for number, copy in enumerate(self._records(item, path)):
                new_key = f"{key}~{number + 1}" if number else key
                if named:
                    new_key = self.name(named[0], path, number) + key[len(named[0]) :]
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
        return value if path is None else self.name(value, path, number)

    def _records(self, record: Any, picture: str) -> Iterator[Any]:
        """What is said of a picture, for each of its results."""
        for number, output in self.copies(picture):
            copy = self._renamed(record, picture, number)
            yield scaled(copy, output.factors) if output.is_scaled else copy

    def read_csv(self, text: str, suffix: str) -> tuple[list[str] | None, list[list[str]], str]:
        """(the header, if it has one, the rows, the delimiter)."""
        first = text.splitlines()[0] if text else ""
        delimiter = "\t" if suffix == ".tsv" else max(",", "\t", ";", "|", key=first.count)
        quoting: Any = csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter, quoting=quoting) if row]
        header = None if not rows or any(map(self.references, rows[0])) else rows[0]
        rows = rows[1:] if header else rows

        # Values by column, whose name or number is known then; of a long table the first.
        columns: dict[Any, list[str]] = {}
        for row in rows[:_MOST_LOOKED_AT]:
            for at, value in enumerate(row):
                columns.setdefault(header[at] if header and at < len(header) else at, []).append(value)
        self.find_stem_fields(columns)
        return header, rows, delimiter

    def rows(self, header: Sequence[str] | None, rows: Iterable[list[str]]) -> Iterator[list[str]]:
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
            for number, output in self.copies(next(iter(paths.values()))):
                copy = [self.name(value, paths[at], number) if at in paths else value for at, value in enumerate(row)]
                if output.is_scaled:
                    is_retinanet = len(row) == 6 and all(_PLAIN_NUMBER.fullmatch(value.strip()) for value in row[1:5])
                    names = header or (["", "x1", "y1", "x2", "y2"] if is_retinanet else [])
                    record = scaled(dict(zip(names, copy, strict=False)), output.factors)
                    named = zip([*names, *[""] * len(copy)], copy, strict=False)
                    copy = [str(record.get(name, value)) if name else value for name, value in named]
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
        for copy_number, output in self.copies(path):
            copy = [str(int(parts[0]) + copy_number * span) if copy_number else parts[0], *parts[1:]]
            for at, word in enumerate(parts[2:], 2):
                if self.references(word) == path:
                    copy[at] = self.name(word, path, copy_number)
            if output.is_scaled:
                scale_numbers(copy, _places_in(self.table, parts), output.factors)
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
            if outputs and outputs[0].is_scaled:
                scale_numbers(row, range(2, 6), outputs[0].factors)
        return "\n".join(map(",".join, rows)) + "\n" * text.endswith("\n")

    def _line_copies(self, block: Sequence[str], stems: bool, header: Sequence[str]) -> Iterator[str]:
        """Of a line, and the boxes below it: a line that is a name, one that begins with a stem, or one with names."""
        line, fields = block[0], block[0].split()
        parts = re.split(r"(\s+|,)", line)
        paths = {at: reference for at, word in enumerate(parts) if (reference := self.references(word)) is not None}
        whole = self.references(line.strip()) if len(paths) < 2 else None  # its name may have blanks
        if whole is not None and (whole not in paths.values() or len(fields) == 1):
            for number, output in self.copies(whole):
                yield line.replace(line.strip(), self.name(line.strip(), whole, number))
                yield from (_scaled_box(line, output) for line in block[1:])
        elif paths:
            for number, output in self.copies(next(iter(paths.values()))):
                copy = [self.name(part, paths[at], number) if at in paths else part for at, part in enumerate(parts)]
                scaled_words = _scaled_columns(copy, header, output) if header else None
                yield "".join(scaled_words or _scaled_words(copy, max(paths), output))
        elif stems and fields and (path := self.index.find_stem(fields[0], self.folder)):
            for number, _ in self.copies(path):
                yield line.replace(fields[0], self.name(fields[0], path, number), 1)
        else:
            yield line

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
            for number, output in self.copies(path):
                copy = ElementTree.fromstring(ElementTree.tostring(child))
                if number and copy.get("id", "").isdigit():
                    copy.set("id", str(int(copy.get("id", "")) + number * span))
                copy.set(name, self.name(child.attrib[name], path, number))
                if output.is_scaled:
                    _scale_element(copy, output.factors)
                children.append(copy)
        parent[:] = children


def _places_in(table: str, words: Sequence[str]) -> list[int]:
    """Which words of a line that begins with a picture's number are x, y, x, y: CUB-200's boxes and parts."""
    if not all(map(_PLAIN_NUMBER.fullmatch, words[::2])):
        return []
    if "box" in table.lower() and len(words) == 9:  # number, then x, y, width, height, with the blanks between them
        return [2, 4, 6, 8]
    return [4, 6] if "loc" in table.lower() and len(words) >= 9 else []  # number, part, x, y, whether it is seen


def _is_box(line: str) -> bool:
    parts = line.split()
    return len(parts) >= 4 and all(map(_PLAIN_NUMBER.fullmatch, parts))


def _scaled_box(line: str, output: Output) -> str:
    """x, y, width, height, then what else there is; a line of one number is a count."""
    if not output.is_scaled or not _is_box(line):
        return line
    parts = line.split()
    scale_numbers(parts, range(4), output.factors)
    return " ".join(parts)


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
    if not output.is_scaled:
        return parts
    before = "".join(parts[:reference])
    if _ROW_OF_NUMBERS.search(before):  # WFLW's
        raise NotScalableError(f"numbers before the name of a picture ({before[:60]})")
    pieces = re.split(r"([\s,]+)", "".join(parts[reference + 1 :]))
    places = [at for at in range(0, len(pieces), 2) if pieces[at]]
    are_numbers = [_PLAIN_NUMBER.fullmatch(pieces[at]) is not None for at in places]
    numbers = [float(pieces[at]) for at, is_number in zip(places, are_numbers, strict=True) if is_number]
    if len(numbers) < 4 or max(numbers) <= 1:
        return parts
    in_fives = all(group.count(",") == 4 for group in "".join(pieces).split()) or len(places) % 2
    if (
        (in_fives or not all(are_numbers))
        and len(places) % 5 == 0
        and all(all(are_numbers[at : at + 4]) for at in range(0, len(places), 5))
    ):
        places = [at for number, at in enumerate(places) if number % 5 < 4]
    elif len(numbers) == 4 and all(are_numbers[are_numbers.index(True) :][:4]):  # one box, among words
        places = places[are_numbers.index(True) :][:4]
    elif not all(are_numbers):
        raise NotScalableError(f"numbers in a line that is not known ({''.join(parts)[:60]})")
    scale_numbers(pieces, places, output.factors)
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
    suffix, rewriter = PurePosixPath(path).suffix.lower(), Rewriter(index, path)
    if suffix in OPAQUE_SUFFIXES:
        if index.has_new_names or index.is_scaled:
            warn(f"{path} cannot be read here; pictures that it may name, and places in them, are in it as they were")
        return content
    try:
        new = _rewritten(suffix, content, rewriter, root, warn)
    except (*UNREADABLE, KeyError, AttributeError) as error:
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
    if not rewriter.named and new is None and suffix not in (*YAML, ".parquet"):
        for doubt in _doubts(path, content.decode("utf-8", "replace"), index):
            warn(doubt)
    return content if new is None else new


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


def check_scaling(tree: Tree, but: Container[str] = ()) -> None:
    """ValueError, naming the table, where one (but some) has labels that cannot be scaled."""
    index = index_of(tree, (0.5, 0.5))
    for folder in tree.folders:
        names = [name for name in tree.try_listing(folder).files if name.lower().endswith(TABLE_SUFFIXES)]
        for path in apart(tree, folder, names[:MOST_IN_A_FOLDER]):
            if path in but or (tree.root / path).stat().st_size > MOST_BYTES:
                continue
            try:
                content, suffix = (tree.root / path).read_bytes(), PurePosixPath(path).suffix.lower()
                _rewritten(suffix, content, Rewriter(index, path), tree.root, len)
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
    suffix: str, content: bytes, rewriter: Rewriter, root: Path, warn: Callable[[str], object]
) -> bytes | None:
    """The new content, by the kind of the file; None where nothing changes."""
    index = rewriter.index
    if suffix in YAML:
        data = read_yaml(root / rewriter.path)
        new_yaml, outside = (None, []) if data is None else rewritten_yaml(data, rewriter.path, root)
        for value in outside:
            warn(f"{rewriter.path}: {value} is not in the input, and left as it is")
        return new_yaml

    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(io.BytesIO(content))
        records = table.to_pylist()
        if (new := rewriter.json(records)) == records:
            return None
        file = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(new, schema=table.schema), file)
        return file.getvalue()

    text, encoding = decoded(content)
    if suffix not in TABLE_SUFFIXES and not text.startswith("{"):
        return None

    if suffix in _JSON:
        try:
            value = json.loads(text)
        except json.JSONDecodeError:  # TuSimple's: an object a line
            return _rewritten(LINES_OF_JSON[0], content, rewriter, root, warn)
        if index.is_scaled and isinstance(value, dict) and value.get("type") == "FeatureCollection":
            raise NotScalableError("its coordinates may be pixels, or places on the earth")
        if index.is_scaled and isinstance(value, dict) and "frames" in value and value.keys() & _CAMERA:
            raise NotScalableError("it has a camera in pixels for all pictures")  # NeRF's transforms.json
        new = rewriter.document(value)
        _check_named(rewriter, value)
        return None if new == value else json.dumps(new, ensure_ascii=False).encode(encoding)

    if suffix in LINES_OF_JSON or suffix not in TABLE_SUFFIXES:
        records = [json.loads(line) for line in text.splitlines() if line.strip()]
        new = rewriter.json(records)
        _check_named(rewriter, records)
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in new)
        return None if new == records else "".join(lines).encode(encoding)

    if suffix in (".csv", ".tsv"):
        header, rows, delimiter = rewriter.read_csv(text, suffix)
        new = list(rewriter.rows(header, rows))
        _check_named(rewriter, {name: [0, 0] for name in header or ()})
        if new == rows:
            return None
        buffer = io.StringIO()
        options: dict[str, Any] = {"quoting": csv.QUOTE_NONE, "quotechar": None} if delimiter == "|" else {}
        end = "\r\n" if "\r\n" in text else "\n"
        writer = csv.writer(buffer, delimiter=delimiter, lineterminator=end, **options)
        writer.writerows([*([header] if header else []), *new])
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
        pictures = [path for path in index.pictures if path.startswith(rewriter.folder)]
        if len(factors := {output.factors for path in pictures for output in index.files[path]}) == 1:
            (scale,) = factors
            text = _SIZE.sub(lambda line: f"{line[1]}{round(int(line[3]) * scale[bool(line[2])])}", text)
            return None if scale == (1.0, 1.0) else text.encode(encoding)

    new_text = rewriter.tracks(text)
    if new_text is None:
        new_text = rewriter.lines(text)
        is_same = new_text.rstrip("\n") == "\n".join(text.splitlines()).rstrip("\n")
        return None if is_same else new_text.encode(encoding)
    if index.has_copies:
        warn(f"{rewriter.path} tells of frames by their numbers, and copies have none of their own")
    return None if new_text == text else new_text.encode(encoding)


def _check_named(rewriter: Rewriter, value: Any) -> None:
    """NotScalableError for places that are said to be in no picture that we know, once pictures are scaled."""
    if rewriter.index.is_scaled and not rewriter.named and has_places(value):
        raise NotScalableError("it has places in pictures that it does not name")


def apart(tree: Tree, folder: str, names: Sequence[str]) -> Iterator[str]:
    """The paths of those of a folder's files that are not labels of one picture."""
    owners = [folder, *tree.picture_folders_of(folder)] if names else []
    taken = set().union(*(tree.matches(owner).taken for owner in owners))
    yield from (path for name in names if (path := join(folder, name)) not in taken)


def index_of(tree: Tree, factors: tuple[float, float] = (1.0, 1.0)) -> Index:
    """An index of a tree's pictures, each with one result, which is scaled so."""
    paths = list(_pictures_in(tree, ""))
    of_labels = {folder for folder in {path.rpartition("/")[0] for path in paths} if tree.is_label_path(folder)}
    labels = {p for p in paths if p.rpartition("/")[0] in of_labels or core_of(PurePosixPath(p).stem).role == "label"}
    return Index({path: [Output(path, factors)] for path in paths}, labels)


def _pictures_in(tree: Tree, path: str, depth: int = 0) -> Iterator[str]:
    listing = tree.try_listing(path)
    yield from (join(path, name) for name in listing.files if tree.is_picture(name))
    for name in listing.folders if depth < 30 else ():
        yield from _pictures_in(tree, join(path, name), depth + 1)
