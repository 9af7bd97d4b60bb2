"""What is done: a record for each shard, written last; a shard is done if and only if its record holds.

    .gan_style/records/000012.json   the record: hashes of the rows and of the archive, counts, its own hash
    .gan_style/rows/000012.jsonl     the shard's rows of the manifest
    .gan_style/leases/000012.lock    who works on it; held by flock, so that a dead process holds nothing

Leases only save work. Two that do the same shard write the same bytes.
"""

import hashlib
import json
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_style.dataset.plan import Plan, Shard
from gan_style.runtime.files import ensure_folder, sync_folder, write_bytes

FORMAT = "gan_style.record/1"
STATE, DATA = ".gan_style", "data"  # folders in the output
Row = dict[str, Any]


@dataclass(frozen=True)
class Lease:
    """token: of the one who has it; dead: tokens of those who had it and did not finish."""

    token: str
    dead: Sequence[str]


@dataclass(frozen=True)
class Records:
    """The records of one output folder."""

    output: Path
    plan: Plan

    @property
    def state(self) -> Path:
        return self.output / STATE

    def prepare(self) -> None:
        """Make the folders."""
        for folder in (self.output / DATA, *(self.state / name for name in ("records", "rows", "leases"))):
            ensure_folder(folder)

    def record(self, shard: Shard) -> dict[str, Any] | None:
        """A shard's record, if it is whole, of this plan, and fits the sizes of what it vouches for; else None."""
        try:
            content = json.loads(self._path(shard).read_bytes())
            sizes = [(self.rows_path(shard), content["rows"]["bytes"])]
            sizes += [(self.output / DATA / path, size) for path, size, _ in content["archives"]]
            is_whole = content["format"] == FORMAT and content["sum"] == _sum(content)
            fits = is_whole and all(path.stat().st_size == size for path, size in sizes)
            return content if fits and content["plan"] == self._owner(shard) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def left(self, shards: Iterable[Shard]) -> list[Shard]:
        """Those that are not done."""
        return [shard for shard in shards if self.record(shard) is None]

    def commit(self, shard: Shard, rows: Sequence[Row], archives: Sequence[tuple[str, int, str]]) -> None:
        """Write the rows, then the record; the shard's files must be in place for good.

        archives: (path below data/, bytes, sha256) of each.
        """
        lines = b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)
        write_bytes(self.rows_path(shard), lines)
        content: dict[str, Any] = {
            "format": FORMAT,
            "plan": self._owner(shard),
            "rows": {"bytes": len(lines), "sha256": hashlib.sha256(lines).hexdigest()},
            "archives": [list(archive) for archive in archives],
            "statuses": dict(Counter(row["status"] for row in rows)),
            "failures": dict(Counter(row["kind"] for row in rows if row["status"] == "failed")),
        }
        content["sum"] = _sum(content)
        write_bytes(self._path(shard), json.dumps(content).encode())

    def rows(self, shard: Shard) -> Iterator[Row]:
        """The rows of a shard that is done. ValueError where they differ from what the record vouches for."""
        record = self.record(shard)
        lines = self.rows_path(shard).read_bytes() if record else b""
        if record is None or hashlib.sha256(lines).hexdigest() != record["rows"]["sha256"]:
            raise ValueError(f"the rows of shard {shard.number} are damaged; gan-style verify-dataset repair=true")
        yield from map(json.loads, lines.splitlines())

    def forget(self, shard: Shard) -> None:
        """Take the record away: the shard is to be done again."""
        self._path(shard).unlink(missing_ok=True)

    def rows_path(self, shard: Shard) -> Path:
        return self.state / "rows" / f"{shard.number:06d}.jsonl"

    @contextmanager
    def lease(self, shard: Shard) -> Iterator[Lease | None]:
        """Have a shard to ourselves; None where another living process has it."""
        import fcntl  # datasets need a POSIX system, other commands do not

        path = self.state / "leases" / f"{shard.number:06d}.lock"
        with open(path, "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            file.seek(0)
            lease = Lease(secrets.token_hex(8), file.read().split())
            file.write(f"{lease.token}\n")
            file.flush()
            os.fsync(file.fileno())  # a power cut may leave parts of files behind, which only the token tells of
            sync_folder(path.parent)
            yield lease
            path.unlink(missing_ok=True)  # not after an exception: the token says whose leftovers are to be removed

    def _path(self, shard: Shard) -> Path:
        return self.state / "records" / f"{shard.number:06d}.json"

    def _owner(self, shard: Shard) -> str:
        return f"{self.plan.identity}:{shard.sha256}"


def factors_of(row: Row) -> tuple[float, float]:
    """By how much a result is wider and higher than its source."""
    if not row.get("source_width") or row["width"] is None:
        return 1.0, 1.0
    return row["width"] / row["source_width"], row["height"] / row["source_height"]


def _sum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(
        json.dumps({key: value for key, value in content.items() if key != "sum"}, sort_keys=True).encode()
    ).hexdigest()


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Wait for our turn: for what all jobs on one output do, but one after the other."""
    import fcntl

    ensure_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
