"""Reading a dataset again: every record, every file, every label, against the manifest and, if asked, the input."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_style.dataset.geometry import Change
from gan_style.dataset.header import read_header
from gan_style.dataset.journal import DATA, Records, Row
from gan_style.dataset.layouts.labels import adapted, read_labels, read_sidecars
from gan_style.dataset.layouts.tree import JUNK
from gan_style.dataset.layouts.webdataset import CLASSES
from gan_style.dataset.manifest import listed, read_manifest
from gan_style.dataset.naming import CompactNameSet, scheme_of
from gan_style.dataset.plan import Shard
from gan_style.dataset.sample import Sample, SampleError
from gan_style.dataset.worker import copies_of
from gan_style.dataset.writers import Destination
from gan_style.runtime.files import file_hash

_OWN = {"webdataset": (CLASSES,), "coco": ("annotations/",), "folder": ()}  # what merging wrote, of older versions


@dataclass(frozen=True)
class Difference:
    """shard: its number, None for what belongs to none; damaged: whether doing the shard again mends it."""

    shard: int | None
    place: str
    problem: str
    damaged: bool = True


@dataclass(frozen=True)
class Verify:
    """root: the input's, None not to compare with it."""

    records: Records
    root: Path | None = None

    def __call__(self) -> Iterator[Difference]:
        """All that differs, shard by shard; then files that belong to none, and the manifest."""
        known = CompactNameSet()
        settings = self.records.plan.settings
        destination = Destination(settings["output_layout"], self.records.output / DATA, scheme_of(settings))
        for shard in self.records.plan.shards:
            yield from self._shard(shard, destination, known)
        documents = listed(self.records.state)
        for path, sha256 in (documents or {}).items():
            known.add(path)
            if _sha256(self.records.output / DATA / path) != sha256:
                problem = "differs from what was written; the same make-dataset command writes it again"
                yield Difference(None, path, problem)
        yield from self._unknown_files(known, _OWN[destination.kind] if documents is None else ())
        yield from self._manifest()

    def _shard(self, shard: Shard, destination: Destination, known: CompactNameSet) -> Iterator[Difference]:
        record = self.records.record(shard)
        if record is None:
            yield Difference(shard.number, f"shard {shard.number}", "is not done, or its record is damaged")
            return
        try:
            rows = list(self.records.rows(shard))
        except ValueError as error:
            yield Difference(shard.number, f"shard {shard.number}", str(error))
            return
        samples = self.records.plan.samples(shard)
        own_samples = [sample for sample in samples for _ in range(copies_of(sample, destination.scheme.copies))]
        if len(rows) != len(own_samples):
            problem = f"has {len(rows)} rows for {len(own_samples)} results"
            yield Difference(shard.number, f"shard {shard.number}", problem)
            return
        for path, _, sha256 in record["archives"]:
            known.add(path)
            if _sha256(self.records.output / DATA / path) != sha256:
                yield Difference(shard.number, path, "differs from its sha256")
        shard_files = destination.shard_files(shard)
        named: set[str] = set()
        for sample, row in zip(own_samples, rows, strict=True):
            expected = shard_files.expected(sample, row)
            named |= {name for name, _ in expected.values()}
            for problem in self._row(shard_files.read, sample, row, expected):
                yield Difference(shard.number, row["output"] or row["key"], problem)
            yield from self._source(shard, sample, row)
        for name in shard_files.members.keys() - named:
            yield Difference(shard.number, f"{shard_files.archive}#{name}", "is not in the manifest")
        if shard_files.archive is None:
            known.update(named)

    def _row(self, read: Any, sample: Sample, row: Row, expected: Mapping[str, tuple[str, str]]) -> Iterator[str]:
        for number, (name, sha256) in enumerate(expected.values()):
            content = read(name)
            if content is None:
                yield f"{name} is missing"
            elif hashlib.sha256(content).hexdigest() != sha256:
                yield f"{name} differs from its sha256"
            elif number == 0 and row["width"] is not None:
                size = read_header(content).size
                if size != (row["width"], row["height"]):
                    yield f"has {size[0]} x {size[1]} pixels, not {row['width']} x {row['height']}"
            elif name.endswith(".cls") and "cls" not in sample.sidecars:  # one of ours: its number in classes.txt
                classes, label = self.records.plan.classes, row["label"]
                if label not in classes or content != str(classes.index(label)).encode():
                    yield f"{name} does not hold the class {label}"
        if row["label"] != sample.label or row["split"] != sample.split:
            yield f"its label or split is not {sample.label}, {sample.split}"

    def _source(self, shard: Shard, sample: Sample, row: Row) -> Iterator[Difference]:
        """Its source, and that what lies beside it was carried over to the byte."""
        if self.root is None or row["source_sha256"] is None or sample.picture is None:
            return
        try:
            source = hashlib.sha256(sample.picture.read(self.root)).hexdigest()
        except SampleError:
            source = None
        if source != row["source_sha256"]:
            problem = "is not the source any more that the result was made from"
            yield Difference(shard.number, row["source"], problem, False)
        if row["output"] is None or sample.passthrough:
            return
        sums = json.loads(row["sidecars"] or "{}")
        try:
            sidecars = read_sidecars(sample, self.root)
            expected = adapted(sidecars, read_labels(sidecars), change_of(sample, row))
        except SampleError as error:
            yield Difference(shard.number, row["source"], f"what belongs to it cannot be read any more: {error}", False)
            return
        for extension, content in expected.items():
            if hashlib.sha256(content).hexdigest() != sums.get(extension):
                place = sample.sidecars.get(extension[1:], row["source"])
                yield Difference(shard.number, str(place), "differs from what belongs to the result", False)

    def _unknown_files(self, known: CompactNameSet, own: tuple[str, ...]) -> Iterator[Difference]:
        data = self.records.output / DATA
        for folder, _, names in os.walk(data):
            for name in names:
                path = (Path(folder) / name).relative_to(data).as_posix()
                if path not in known and not (own and path.startswith(own)) and not JUNK.match(name):
                    yield Difference(None, path, "is not in the manifest", False)

    def _manifest(self) -> Iterator[Difference]:
        """That it holds the shards' rows, in their order."""
        merged = read_manifest(self.records.output)
        try:
            for shard in self.records.plan.shards:
                for row in self.records.rows(shard):
                    if next(merged, None) != row:
                        yield Difference(None, "the manifest", f"differs from the rows of shard {shard.number}", False)
                        return
            if next(merged, None) is not None:
                yield Difference(None, "the manifest", "has more rows than the shards", False)
        except (ValueError, OSError) as error:
            yield Difference(None, "the manifest", f"cannot be compared: {error}", False)


def change_of(sample: Sample, row: Row) -> Change:
    """What became of a row's picture."""
    name = (row["output"].partition("#")[2] or row["output"]).rpartition("/")[2]
    if not row.get("source_width"):
        return Change(name, source=sample.file_name)
    old, new = (row["source_width"], row["source_height"]), (row["width"], row["height"])
    return Change(name, old, new, source=sample.file_name)


def repair(records: Records, findings: Sequence[Difference]) -> list[int]:
    """Mark the damaged shards as not done; their numbers."""
    damaged = sorted({finding.shard for finding in findings if finding.damaged and finding.shard is not None})
    for number in damaged:
        records.forget(records.plan.shards[number])
    return damaged


def count_rows(records: Records) -> Counter[str]:
    """How many rows there are of each status."""
    counts: Counter[str] = Counter()
    for shard in records.plan.shards:
        record = records.record(shard)
        counts.update(record["statuses"] if record else {})
    return counts


def _sha256(path: Path) -> str | None:
    try:
        return file_hash(path)
    except OSError:
        return None
