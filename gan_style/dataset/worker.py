"""One shard from its lease to its record. All that an engine has to do is to call ``process`` for shards."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from gan_style.dataset.journal import Records, Row
from gan_style.dataset.naming import Scheme
from gan_style.dataset.plan import Shard
from gan_style.dataset.sample import ALL_PICTURE_SUFFIXES, Sample, printable
from gan_style.dataset.writers import Destination, FolderWriter, ShardFiles

SKIPPED = ("no picture", "not annotated", "no home", "no pair", "gate")  # kinds that are no failures
COLUMNS = (
    *("key", "copy", "split", "label", "source", "source_sha256", "output", "output_sha256", "output_bytes"),
    *("width", "height", "source_width", "source_height", "orientation", "checkpoint", "style", "strength", "seed"),
    *("tries", "content_distance", "structure", "status", "kind", "error", "lost", "sidecars", "regions"),
)


@dataclass
class SampleResult:
    """What became of one copy of a sample. files: the picture's under its suffix, and its sidecars; none where
    there is nothing to write, and ``row`` says why; row: columns of the manifest.
    """

    number: int
    copy: int
    row: Row
    files: dict[str, bytes] = field(default_factory=dict)


Finished = tuple[Row, dict[str, bytes]]  # a copy's row, and its files


class Maker(Protocol):
    """Makes results: all copies of all these samples, once each, in any order. Torch, or a test's stand-in."""

    def __call__(self, samples: Sequence[tuple[int, Sample]]) -> Iterator[SampleResult]: ...


class Done(Enum):
    """already: it was done before; busy: another process has it; now: we did it."""

    ALREADY = "already"
    BUSY = "busy"
    NOW = "now"


@dataclass
class ShardWorker:
    """Turns shards into files, rows and records; knows nothing of other workers. seed: for the manifest."""

    records: Records
    destination: Destination
    make: Maker
    seed: int

    def process(self, shard: Shard, *, retry: bool = False) -> Done:
        """Do a shard unless it is done or another does it; with ``retry`` do its failures again.

        OSError where the output cannot be written: nothing of the shard counts then.
        """
        with self.records.lease(shard) as lease:
            if lease is None:
                return Done.BUSY
            record = self.records.record(shard)
            if record is not None and not (retry and record["failures"]):
                return Done.ALREADY
            samples = self.records.plan.samples(shard)
            shard_files, reusable = self.destination.shard_files(shard), dict[tuple[int, int], Finished]()
            if record is not None:  # what it has besides failures, as long as the files are what they were
                for (number, copy), row in zip(self._order(samples), self.records.rows(shard), strict=True):
                    if row["status"] != "failed" and (files := shard_files.files(samples[number], row)) is not None:
                        reusable[number, copy] = row, files
            self.records.forget(shard)  # killed from here on, the shard is done as a whole again
            shard_files.remove_leftovers(samples, lease.dead)
            writer = shard_files.writer(lease.token)
            try:
                rows = self._fill(samples, shard_files, writer, reusable)
                archives = writer.commit()
            except BaseException:
                with suppress(OSError):
                    writer.discard()
                raise
            self.records.commit(shard, rows, archives)
        return Done.NOW

    def _fill(
        self,
        samples: Sequence[Sample],
        shard_files: ShardFiles,
        writer: FolderWriter,
        reusable: Mapping[tuple[int, int], Finished],
    ) -> list[Row]:
        """All results to the writer in the plan's order, whatever order they are made in; their rows."""
        order, ready = self._order(samples), dict(reusable)
        rows: list[Row] = []

        def take() -> None:
            while len(rows) < len(order) and order[len(rows)] in ready:
                number, copy = order[len(rows)]
                row, files = ready.pop((number, copy))
                if files:
                    writer.add(samples[number], copy, files)
                rows.append(row)

        todo = sorted({number for number, copy in order if (number, copy) not in reusable})
        for result in self.make([(number, samples[number]) for number in todo]):
            if (result.number, result.copy) not in reusable:
                ready[result.number, result.copy] = self._finished(shard_files, samples[result.number], result)
            take()
        take()
        assert len(rows) == len(order) and not ready, "one row for each copy of each input"
        return rows

    def _order(self, samples: Sequence[Sample]) -> list[tuple[int, int]]:
        """(number, copy) of every row of a shard."""
        copies = self.destination.scheme.copies
        return [(number, copy) for number, sample in enumerate(samples) for copy in range(copies_of(sample, copies))]

    def _finished(self, shard_files: ShardFiles, sample: Sample, result: SampleResult) -> Finished:
        """The row in full, and the files with the class's number among them."""
        files = dict(result.files)
        if files and self.destination.scheme.keyed and sample.label is not None and ".cls" not in files:
            files[".cls"] = str(self.records.plan.classes.index(sample.label)).encode()
        row = dict.fromkeys(COLUMNS) | {
            "key": printable(sample.key),
            "copy": result.copy,
            "split": sample.split,
            "label": sample.label,
            "source": str(sample.picture or printable(sample.key)),
            "seed": self.seed,
        }
        if files:
            (extension, picture), *sidecars = files.items()
            row["output"] = shard_files.path(sample, result.copy, extension)
            row["output_sha256"] = hashlib.sha256(picture).hexdigest()
            row["output_bytes"] = len(picture)
            sums = {extension: hashlib.sha256(content).hexdigest() for extension, content in sidecars}
            row["sidecars"] = json.dumps(sums)
        assert result.row.keys() <= row.keys(), result.row.keys() - row.keys()
        for name, value in result.row.items():
            row[name] = printable(value) if isinstance(value, str) else value
        return row, files


def copies_of(sample: Sample, copies: int) -> int:
    """How many rows an input has: one for each copy, a single one where there is nothing to stylize."""
    return copies if sample.picture is not None and not sample.passthrough else 1


def passed_through(number: int, sample: Sample, sha256: str, content: bytes, scheme: Scheme) -> SampleResult:
    """A file as it is; a table only in name, since it is written when all results have theirs."""
    row: Row = {"status": "carried", "source_sha256": sha256}
    if scheme.copies > 1 and sample.key.lower().endswith(ALL_PICTURE_SUFFIXES):
        row["lost"] = "their copies (pictures that are carried, such as masks of no picture, are there once)"
    if sample.table:
        return SampleResult(number, 0, row | {"output": scheme.path(sample, 0, "")})
    return SampleResult(number, 0, row, {"": content})
