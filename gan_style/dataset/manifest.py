"""What a finished dataset says of itself: the manifest and the summary, merged from the shards' rows in their order,
and beside the pictures classes.txt, COCO's annotation files, lists and tables with the names of the results.

All follow from the plan and the rows, and can be made again at any time.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import IO, Any

from gan_style.dataset.journal import DATA, Records, Row, factors_of
from gan_style.dataset.layouts.coco import CocoLayout, from_classes, from_tables
from gan_style.dataset.layouts.tables import Index, Output, rewritten
from gan_style.dataset.layouts.webdataset import CLASSES
from gan_style.dataset.naming import Scheme
from gan_style.dataset.sample import NO_HOME, Layout, Location
from gan_style.dataset.worker import COLUMNS, copies_of
from gan_style.runtime.files import ensure_folder, remove_leftovers, write_bytes, write_durably

NAMES = {"parquet": "manifest.parquet", "jsonl": "manifest.jsonl"}
SUMMARY = "summary.json"
_DOCUMENTS = "documents.json"  # in the state folder: the hashes of the dataset's documents
_WHOLE = ("copy", "output_bytes", "width", "height", "source_width", "source_height", "seed", "tries")
_REAL = ("strength", "content_distance", "structure")
_ROWS_IN_A_GROUP = 10_000  # of Parquet's
_NAMED_FAILURES = 1000  # in the summary; the manifest has them all


class Stopped(Exception):  # noqa: N818 (no error)
    """We were asked to stop between two shards."""


@dataclass(frozen=True)
class Merge:
    """stopped: asked between shards."""

    records: Records
    stopped: Callable[[], bool] = lambda: False

    def each_row(self) -> Iterator[Row]:
        """The rows of all shards. Stopped where we are to stop."""
        for shard in self.records.plan.shards:
            if self.stopped():
                raise Stopped
            yield from self.records.rows(shard)

    def manifest(self, kind: str) -> Path:
        """Write the manifest, as parquet, jsonl, or auto: parquet where pyarrow is there; the other kind is removed."""
        kind = manifest_kind(kind)
        path = self.records.output / NAMES[kind]
        write_durably(path, self._parquet if kind == "parquet" else self._jsonl)
        for other in set(NAMES.values()) - {path.name}:
            (self.records.output / other).unlink(missing_ok=True)
        return path

    def tidy(self) -> None:
        """Remove what killed processes left; all shards are done, and the caller alone merges."""
        output, state = self.records.output, self.records.state
        folders = {output, output / DATA, output / DATA / "annotations", state, state / "records", state / "rows"}
        for folder in folders | {(output / DATA / name).parent for _, name, _ in self.records.plan.tables}:
            remove_leftovers(folder)

    def _jsonl(self, file: IO[bytes]) -> None:
        for row in self.each_row():
            file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")

    def _parquet(self, file: IO[bytes]) -> None:
        import pyarrow
        import pyarrow.parquet

        kinds = dict.fromkeys(COLUMNS, pyarrow.string())
        kinds |= dict.fromkeys(_WHOLE, pyarrow.int64()) | dict.fromkeys(_REAL, pyarrow.float64())
        schema = pyarrow.schema([(name, kinds[name]) for name in COLUMNS])
        with pyarrow.parquet.ParquetWriter(file, schema) as writer:
            rows = self.each_row()
            while batch := list(islice(rows, _ROWS_IN_A_GROUP)):
                writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))

    def summary(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """Counts and the failures by kind, from the rows; ``more`` is added. Written to summary.json."""
        statuses, kinds, lost = Counter[str](), Counter[str](), Counter[str]()
        empty = Counter[str]()  # styles in whose regions nothing is
        failures, left_out = list[dict[str, Any]](), list[str]()  # left out: what says something of pictures, or of all
        for row in self.each_row():
            statuses[row["status"]] += 1
            lost.update(part for part in (row.get("lost") or "").split(" | ") if part)
            empty.update(style for style, share in json.loads(row.get("regions") or "{}").items() if not share)
            if row["kind"] is not None:
                kinds[row["kind"]] += 1
            if (row["kind"], row["error"]) == NO_HOME and len(left_out) < _NAMED_FAILURES:
                left_out.append(row["key"])
            if row["status"] == "failed" and len(failures) < _NAMED_FAILURES:
                failures.append({name: row[name] for name in ("key", "copy", "kind", "error")})
        summary = {
            "inputs": self.records.plan.inputs,
            "rows": statuses.total(),
            "statuses": dict(sorted(statuses.items())),
            "kinds": dict(sorted(kinds.items())),
            "left_out": left_out,
            "lost": dict(sorted(lost.items())),
            "empty_regions": dict(sorted(empty.items())),
            "failures": failures,
            "settings": self.records.plan.settings,
            **more,
        }
        write_bytes(self.records.output / SUMMARY, json.dumps(summary, indent=2).encode())
        return summary


def manifest_kind(kind: str) -> str:
    """parquet or jsonl. ValueError where Parquet is asked for and cannot be had."""
    there = find_spec("pyarrow") is not None
    if kind == "parquet" and not there:
        raise ValueError("manifest=parquet needs pyarrow: pip install 'gan_style[dataset]'; or give manifest=jsonl")
    return ("parquet" if there else "jsonl") if kind == "auto" else kind


def read_manifest(output: Path) -> Iterator[Row]:
    """The rows of whichever manifest there is; none where there is none."""
    if (output / NAMES["jsonl"]).is_file():
        with open(output / NAMES["jsonl"], "rb") as file:
            yield from map(json.loads, file)
    elif (output / NAMES["parquet"]).is_file():
        import pyarrow.parquet

        for batch in pyarrow.parquet.ParquetFile(output / NAMES["parquet"]).iter_batches():
            yield from batch.to_pylist()


@dataclass(frozen=True)
class Documents:
    """layout: of the input; kind: of the output; rows: of all shards; warn: is told what cannot be mended."""

    layout: Layout
    kind: str
    scheme: Scheme
    records: Records
    rows: Callable[[], Iterator[Row]]
    warn: Callable[[str], object]

    def write(self) -> None:
        """Write them all, and then what their hashes are."""
        hashes = {}
        for path, content in self._contents():
            ensure_folder((self.records.output / DATA / path).parent)
            write_bytes(self.records.output / DATA / path, content)
            hashes[path] = hashlib.sha256(content).hexdigest()
        write_bytes(self.records.state / _DOCUMENTS, json.dumps(hashes, indent=1).encode())

    def _contents(self) -> Iterator[tuple[str, bytes]]:
        classes = self.records.plan.classes
        if self.kind == "webdataset" and classes:
            yield CLASSES, "".join(f"{name}\n" for name in classes).encode()
        if self.kind == "coco" and isinstance(self.layout, CocoLayout):
            yield from from_tables(self.layout.tables, self.rows(), self.scheme.copies).items()
        elif self.kind == "coco":
            yield from from_classes(self.records.output, self.rows(), classes, self.layout.names, self.warn).items()
        if tables := self.records.plan.tables:
            index, root = self._index(), self.layout.root
            for key, _, size in tables:
                if key.lower().endswith(".txt"):
                    index.add_numbers(key, Location(key, size).read(root))
            for key, name, size in tables:
                yield name, rewritten(key, Location(key, size).read(root), index, root, self.warn)

    def _index(self) -> Index:
        """The results of each file that a table may name."""
        files: dict[str, list[Output]] = {}
        labels: set[str] = set()
        inputs = self.records.plan.all_samples()
        samples = (sample for sample in inputs for _ in range(copies_of(sample, self.scheme.copies)))
        for sample, row in zip(samples, self.rows(), strict=True):
            places = {extension: place.path for extension, place in sample.sidecars.items()}
            labels.update(places.values())
            for path in (sample.key, *places.values()):
                files.setdefault(path, [])
            if row["output"] is not None:
                factors = factors_of(row)
                files[sample.key].append(Output(row["output"], factors))
                for extension, path in places.items():
                    files[path].append(Output(self.scheme.path(sample, row["copy"], f".{extension}"), factors))
        return Index(files, labels)


def listed(state: Path) -> dict[str, str] | None:
    """The hashes of a dataset's documents by path; None where they are not known."""
    try:
        content: Any = json.loads((state / _DOCUMENTS).read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
