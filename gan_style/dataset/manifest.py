"""What a finished dataset says of itself: the manifest and the summary. Both are merged from the shards' rows,
in their order, and can be made again from them at any time.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from gan_style.dataset.journal import DATA, Records, Row
from gan_style.dataset.plan import Shard
from gan_style.dataset.sample import NO_HOME
from gan_style.dataset.worker import COLUMNS
from gan_style.runtime.files import remove_leftovers, write_bytes, write_durably

NAMES = {"parquet": "manifest.parquet", "jsonl": "manifest.jsonl"}
SUMMARY = "summary.json"
_WHOLE = ("copy", "output_bytes", "width", "height", "source_width", "source_height", "seed", "tries")
_REAL = ("strength", "content_distance", "structure")
_NAMED_FAILURES = 1000  # in the summary; the manifest has them all


class Stopped(Exception):  # noqa: N818 (no error)
    """We were asked to stop between two shards."""


@dataclass(frozen=True)
class Merge:
    """stopped: asked between shards."""

    records: Records
    stopped: Callable[[], bool] = lambda: False

    def rows(self) -> Iterator[tuple[Shard, list[Row]]]:
        """The rows of all shards, by shard. Stopped where we are to stop."""
        for shard in self.records.plan.shards:
            if self.stopped():
                raise Stopped
            yield shard, list(self.records.rows(shard))

    def each_row(self) -> Iterator[Row]:
        for _, rows in self.rows():
            yield from rows

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
        for _, rows in self.rows():
            file.write(b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows))

    def _parquet(self, file: IO[bytes]) -> None:
        import pyarrow
        import pyarrow.parquet

        kinds = dict.fromkeys(COLUMNS, pyarrow.string())
        kinds |= dict.fromkeys(_WHOLE, pyarrow.int64()) | dict.fromkeys(_REAL, pyarrow.float64())
        schema = pyarrow.schema([(name, kinds[name]) for name in COLUMNS])
        with pyarrow.parquet.ParquetWriter(file, schema) as writer:
            for batch in self._groups():
                writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))

    def _groups(self, least: int = 10_000) -> Iterator[list[Row]]:
        """Rows in groups that Parquet likes."""
        group: list[Row] = []
        for _, rows in self.rows():
            group += rows
            if len(group) >= least:
                yield group
                group = []
        if group:
            yield group

    def summary(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """Counts and the failures by kind, from the rows; ``more`` is added. Written to summary.json."""
        statuses, kinds, lost, failures = Counter[str](), Counter[str](), Counter[str](), list[dict[str, Any]]()
        left_out = list[str]()  # that say something of pictures, or of all
        empty = Counter[str]()  # styles in whose regions nothing is
        for _, rows in self.rows():
            statuses.update(row["status"] for row in rows)
            lost.update(part for row in rows for part in (row.get("lost") or "").split(" | ") if part)
            regions = [json.loads(row["regions"]) for row in rows if row.get("regions")]
            empty.update(style for shares in regions for style, share in shares.items() if not share)
            kinds.update(row["kind"] for row in rows if row["kind"] is not None)
            homeless = (row for row in rows if row["kind"] == "no home" and row["error"] == NO_HOME[1])
            left_out += [row["key"] for row in homeless][: _NAMED_FAILURES - len(left_out)]
            failures += [row for row in rows if row["status"] == "failed"][: _NAMED_FAILURES - len(failures)]
        summary = {
            "inputs": self.records.plan.inputs,
            "rows": statuses.total(),
            "statuses": dict(sorted(statuses.items())),
            "kinds": dict(sorted(kinds.items())),
            "left_out": left_out,
            "lost": dict(sorted(lost.items())),
            "empty_regions": dict(sorted(empty.items())),
            "failures": [{name: row[name] for name in ("key", "copy", "kind", "error")} for row in failures],
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
