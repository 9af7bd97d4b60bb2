"""A trial's training as a process of its own, followed by what it writes and ended by a signal.

A process and not a call: what crashes it (a fault in a library, memory, a device) ends one trial and not the search;
ranks start from it as from the command line; and the signal that a search ends a trial with is the one that a run
saves itself on, so that an interrupted trial goes on where it was.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from gan_style.runtime.files import locked
from gan_style.runtime.signals import PREEMPTED, die_with

_LOOK_EVERY = 0.2  # seconds
_PATIENCE = 120.0  # seconds that a run which an earlier search left is waited for

Rows = list[tuple[int, dict[str, float]]]


@dataclass(frozen=True)
class TrainingEnd:
    """How a training ended: why it was asked to end ("" if it was not), its exit status, its metrics' last values."""

    asked: str
    status: int
    last: Mapping[str, float]


class Follower:
    """Reads the rows of a growing metrics.jsonl, whole lines only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self) -> Rows:
        """(step, {name: number}) of every line so far; lines that are no such thing are passed over."""
        try:
            lines = self._path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return [row for line in lines if (row := _row(line)) is not None]

    def last(self) -> dict[str, float]:
        """Each metric's last value."""
        return {name: value for _, values in self.rows() for name, value in values.items()}


def _row(line: bytes) -> tuple[int, dict[str, float]] | None:
    try:
        content = json.loads(line)
        step = content.pop("step")
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    numbers = {n: float(x) for n, x in content.items() if isinstance(x, int | float) and not isinstance(x, bool)}
    return (step, numbers) if type(step) is int else None


def train(
    command: Sequence[str],
    folder: Path,
    log: Path,
    *,
    should_prune: Callable[[int, Mapping[str, float]], bool],
    stopped: Callable[[], str | None],
) -> TrainingEnd:
    """Run a training to its end, or until a row of its metrics.jsonl or somebody asks it to stop.

    should_prune: called with every row so far; true asks the training to end. stopped: why the search is to end,
    or None. What the training prints is added to ``log``.
    """
    await_folder(folder)
    follower, asked = Follower(folder / "metrics.jsonl"), ""
    with open(log, "ab") as out, _started(command, out) as process:
        while process.poll() is None:
            reason = stopped() or ("pruned" if _any_reached(follower.rows(), should_prune) else "")
            if reason and not asked:
                asked = reason
                process.send_signal(signal.SIGTERM)
            time.sleep(_LOOK_EVERY)
    if process.returncode == PREEMPTED and not asked:
        time.sleep(_LOOK_EVERY)  # a signal to all processes may have reached it first
        asked = stopped() or "another"
    _any_reached(follower.rows(), should_prune)
    return TrainingEnd(asked, process.returncode, follower.last())


def _any_reached(rows: Rows, should_prune: Callable[[int, Mapping[str, float]], bool]) -> bool:
    verdicts = [should_prune(step, values) for step, values in rows]  # all of them, whatever the first says
    return any(verdicts)


@contextmanager
def _started(command: Sequence[str], out: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive us: it is asked to save itself and waited for, however the block ends."""
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for the search, which passes on what it makes of it
        preexec_fn=partial(die_with, os.getpid(), signal.SIGTERM),  # it saves itself, and the next search goes on
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


def await_folder(folder: Path, patience: float = _PATIENCE) -> None:
    """Wait until no process works in a run's folder; ValueError where one still does after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while (folder / ".lock").exists():
        try:
            with locked(folder):
                return
        except ValueError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_EVERY)


def last_line(log: Path) -> str:
    """What a training said last; "" where it said nothing."""
    with suppress(OSError), open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else ""
    return ""
