"""A trial's training, followed by what it writes and ended early where that says so."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gan_style.runtime.process import await_folder, run_process
from gan_style.runtime.signals import PREEMPTED


@dataclass(frozen=True)
class TrainingEnd:
    """Hold how a training ended: why it was asked to ("" if it was not), its exit status, its metrics' last values."""

    asked: str
    status: int
    last: Mapping[str, float]


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

    def should_stop() -> str | None:
        verdicts = [should_prune(step, values) for step, values in read_rows(folder / "metrics.jsonl")]  # all of them
        return stopped() or ("pruned" if any(verdicts) else None)

    await_folder(folder)
    stop_reason, status = run_process(command, should_stop, log=log)
    if status == PREEMPTED and not stop_reason:
        stop_reason = "another"
    should_stop()  # on the rows of the last moment
    last = {name: value for _, values in read_rows(folder / "metrics.jsonl") for name, value in values.items()}
    return TrainingEnd(stop_reason, status, last)


def read_rows(path: Path) -> list[tuple[int, dict[str, float]]]:
    """(step, {name: number}) of every whole line of a growing metrics.jsonl; other lines are passed over."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    return [row for line in lines if (row := _row(line)) is not None]


def _row(line: bytes) -> tuple[int, dict[str, float]] | None:
    try:
        content = json.loads(line)
        step = content.pop("step")
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    numbers = {n: float(x) for n, x in content.items() if isinstance(x, int | float) and not isinstance(x, bool)}
    return (step, numbers) if type(step) is int else None
