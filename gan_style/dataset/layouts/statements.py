"""What tables and lists say of single pictures: for layouts that have no place for tables, to know for which pixels
labels were made, and for splits that no folder says.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any
from xml.etree import ElementTree

from gan_style.dataset.geometry import has_places, stated_size
from gan_style.dataset.layouts.tables import (
    LINES_OF_JSON,
    MOST_BYTES,
    MOST_IN_A_FOLDER,
    TABLE_SUFFIXES,
    UNREADABLE,
    YAML,
    Rewriter,
    apart,
    index_of,
)
from gan_style.dataset.layouts.tree import Tree, split_in
from gan_style.dataset.layouts.yolo import split_places
from gan_style.dataset.sample import Sample

_RECORDED = tuple(suffix for suffix in TABLE_SUFFIXES if suffix not in (".list", ".ini"))
_SPLIT_FIELDS = ("split", "subset", "partition", "set", "0")  # 0: Vertex's first column
_NUMBERED = {"partition": {"0": "train", "1": "val", "2": "test"}, "train_test_split": {"1": "train", "0": "test"}}
_WORDS = re.compile(r"[^\W\d_]+[\s,.]+[^\W\d_]+")

Record = dict[str, Any]


@dataclass
class Statements:
    """records: of each picture, by its path: (the table's name, the record); splits: that lists and tables say it is
    in; read: the tables that say anything.
    """

    records: dict[str, list[tuple[str, Record]]] = field(default_factory=dict)
    splits: dict[str, set[str]] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)

    def applied(self, sample: Sample, *, inline: bool) -> Sample:
        """The sample, with what is said of it: whether boxes are for the pixels as stored; as JSON beside it."""
        records = self.records.get(sample.key, [])
        placed = [record for _, record in records if has_places(record)]
        sizes = {size for record in placed if (size := stated_size(record)) is not None}
        if len(sizes) == 1:
            sample = replace(sample, labelled=next(iter(sizes)))
        elif placed:
            sample = replace(sample, as_stored=True)
        if not inline:
            return sample
        splits = self.splits.get(sample.key, set())
        splits = splits - {"trainval"} if len(splits) > 1 else splits
        if sample.split is None and len(splits) == 1:
            sample = replace(sample, split=next(iter(splits)))
        texts = dict(sample.inline)
        for table in dict.fromkeys(name for name, _ in records):
            own = [record for name, record in records if name == table]
            extensions = ("json" if table == "metadata" else f"{table}.json", f"{table}.json", f"{table}.2.json")
            extension = next(extension for extension in extensions if extension not in sample.sidecars)
            texts[extension] = json.dumps(own[0] if len(own) == 1 else own)
        captions = [record[n] for _, record in records for n in ("text", "caption") if isinstance(record.get(n), str)]
        if len(captions) == 1 and "txt" not in sample.sidecars:
            texts["txt"] = captions[0]
        return replace(sample, inline=texts)


def read_statements(tree: Tree) -> Statements:
    """What the tables of a tree say of its pictures."""
    statements = Statements()
    paths = [path for path in _tables(tree) if (tree.root / path).stat().st_size <= MOST_BYTES]
    if not paths:
        return statements
    index = index_of(tree)

    # Splits by YOLO's data.yaml: of folders, and of lists.
    places = [place for path in paths if path.endswith(YAML) for place in split_places(tree.root, path)]
    for key in index.files if places else ():
        splits = {split for split, place in places if key.startswith(f"{place}/")}
        if splits:
            statements.splits[key] = splits
    lists = {place: split for split, place in places}

    # Numbers that lists give to pictures, and then what each table says.
    for path in paths:
        if path.lower().endswith(".txt"):
            index.add_numbers(path, (tree.root / path).read_bytes())
    for path in [path for path in paths if not path.endswith(YAML)]:
        stem = PurePosixPath(path).stem
        table = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_") or "table"
        try:
            for keys, record in _records(tree, path, Rewriter(index, path)):
                split, rest = (lists[path], record) if path in lists else _split_of(stem, record)
                for key in keys:
                    statements.read.add(path)
                    if split is not None:
                        statements.splits.setdefault(key, set()).add(split)
                    if rest:
                        statements.records.setdefault(key, []).append((table, rest))
        except UNREADABLE:
            continue
    return statements


def _split_of(stem: str, record: Record) -> tuple[str | None, Record]:
    """The split that a record's field says, or its list's name; and the record, empty where it said nothing else."""
    numbers = next((names for part, names in _NUMBERED.items() if stem.endswith(part) or part in record), {})
    for name in (*_SPLIT_FIELDS, *(["label"] if numbers else [])):
        value = str(record.get(name, "")).strip()
        if (split := split_in(numbers.get(value, value))) is not None and not split[1]:
            return split[0], ({} if name == "label" else record)
    split = split_in(stem)
    is_split = split is not None and not (record and split[1])  # cat_train.txt with a number for each is none
    return (split[0] if split is not None and is_split else None), record


def _tables(tree: Tree) -> Iterator[str]:
    for folder in tree.folders:
        names = [name for name in tree.try_listing(folder).files if name.lower().endswith(_RECORDED)]
        if len(names) > MOST_IN_A_FOLDER:  # labels of single pictures, but for lists of splits
            stems = {name: split_in(PurePosixPath(name).stem) for name in names}
            names = [name for name, split in stems.items() if split is not None and not split[1]]
        yield from apart(tree, folder, names)


def _records(tree: Tree, path: str, rewriter: Rewriter) -> Iterator[tuple[Iterable[str], Record]]:
    """The records of a table, each with the pictures that it names."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet

        names = pyarrow.parquet.read_schema(tree.root / path).names
        records = pyarrow.parquet.read_table(tree.root / path).to_pylist() if "file_name" in names else []
    else:
        text = (tree.root / path).read_text(encoding="utf-8-sig")
        if suffix in (".txt", ".lst"):
            header = text.partition("\n")[0].split(",")
            if len(header) < 2 or any(rewriter.references(name.split()[0]) for name in header if name.strip()):
                yield from _of_lines(path, text, rewriter)
                return
        records = _records_in(text, suffix, rewriter)
    for record in records:
        yield dict.fromkeys(rewriter.named_in(record).values()), record


def _records_in(text: str, suffix: str, rewriter: Rewriter) -> Iterator[Record]:
    if suffix in LINES_OF_JSON:
        yield from _dicts([json.loads(line) for line in text.splitlines() if line.strip()], rewriter)
    elif suffix in (".json", ".geojson"):
        yield from _dicts(json.loads(text), rewriter)
    elif suffix == ".xml":
        if "<!ENTITY" not in text:
            yield from _elements(ElementTree.fromstring(text), rewriter)
    else:
        header, rows, _ = rewriter.read_csv(text, suffix)
        columns = [name.strip() for name in header or map(str, range(max(map(len, rows), default=0)))]
        yield from (dict(zip(columns, row, strict=False)) for row in rows)


def _of_lines(path: str, text: str, rewriter: Rewriter) -> Iterator[tuple[list[str], Record]]:
    """Of a list: what stands behind a picture's name in its line, and the rows of numbers below (WIDER's boxes)."""
    lines = [line for line in text.splitlines() if line.strip()]
    header: list[str] = []
    if len(lines) > 2 and lines[0].strip() == str(len(lines) - 2):  # CelebA's: how many, then what the columns are
        header, lines = lines[1].split(), lines[2:]
    numbers = rewriter.numbers if {line.split()[0] for line in lines} <= rewriter.numbers.keys() else {}
    stems = rewriter.are_stems(lines)
    picture, after, below = None, "", list[str]()
    for line in [*lines, ""]:
        words = re.split(r"[\s,]+", line.strip(), maxsplit=1)
        named = rewriter.references(line.strip()) or numbers.get(words[0]) or rewriter.references(words[0])
        named = named or (rewriter.index.find_stem(words[0], rewriter.folder) if stems else None)
        if named is None and line and picture is not None:
            below += [line] if len(line.split()) > 1 else []
            continue
        if picture is not None:
            of_splits = "ImageSets" in path.split("/")  # VOC's lists for each class say 1 or -1
            yield [picture], {} if of_splits else _of_words(picture, after, header, below)
        picture, below = named, []
        after = words[1] if len(words) > 1 and rewriter.references(line.strip()) is None else ""


def _of_words(picture: str, text: str, header: Sequence[str], below: Sequence[str]) -> Record:
    """What a line says behind its picture's name, as a record; empty where that is nothing."""
    values = text.split()
    if header and len(values) in (len(header), len(header) - 1):
        return {"file_name": picture, **dict(zip(header[-len(values) :], values, strict=True))}
    if below:
        return {"file_name": picture, "line": "\n".join(below)}
    if _WORDS.search(text):
        return {"file_name": picture, "text": text}
    if not values or re.search(r"\.\w{3,4}\Z", text):  # nothing, or another file's name
        return {}
    return {"file_name": picture, "label" if len(values) == 1 and "," not in text else "line": text}


def _elements(parent: ElementTree.Element, rewriter: Rewriter) -> Iterator[Record]:
    """Of XML (CVAT, dlib): the elements with an attribute that names a picture."""
    for child in parent:
        if any(rewriter.references(value) is not None for value in child.attrib.values()):
            yield _plain_element(child)
        else:
            yield from _elements(child, rewriter)


def _plain_element(element: ElementTree.Element) -> Record:
    record: Record = dict(element.attrib)
    for child in element:
        record.setdefault(child.tag, []).append(_plain_element(child))
    if element.text and element.text.strip():
        record["text"] = element.text.strip()
    return record


def _dicts(value: Any, rewriter: Rewriter) -> Iterator[Record]:
    """The records in a JSON value that name a picture; keys that do become a field of theirs."""
    if isinstance(value, list):
        rewriter.find_stem_fields_of(value)
        for item in value:
            if isinstance(item, dict) and rewriter.named_in(item):
                yield item
            else:
                yield from _dicts(item, rewriter)
    elif isinstance(value, dict):
        if any(rewriter.references(item, name) is not None for name, item in value.items()):
            yield value
            return
        stems = rewriter.index.covers(value, named=False, folder=rewriter.folder)
        for key, item in value.items():
            path = rewriter.index.find_stem(key, rewriter.folder) if stems else rewriter.references(key)
            if path is not None:
                yield {"file_name": path, **(item if isinstance(item, dict) else {"value": item})}
            else:
                yield from _dicts(item, rewriter)
