"""Tracking: what a tracker is told of a run, several as one, and metrics.jsonl, which is always written."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_style.runtime.files import write_bytes

METRICS_FILE = "metrics.jsonl"  # in a run's folder


@dataclass(frozen=True)
class FinalResult:
    """Hold what a finished run has come to.

    generator: its file, of the last step. best: the checkpoint with the lowest composite, where one is kept, of
    ``best_step``, with that composite in ``best_values``. rows: makes the final pictures, each uint8 (3, H, W), a row
    of them for each held-out photo.
    """

    step: int
    generator: Path
    best: Path | None = None
    best_step: int | None = None
    best_values: Mapping[str, float] = field(default_factory=dict)
    columns: Sequence[str] = ()
    rows: Callable[[], Sequence[Sequence[Any]]] = tuple


class Tracker:
    """Receives a run's numbers and pictures; each tracker takes what it has a use for. Only rank 0 has a real one."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Track named numbers of a step (the count of finished steps)."""

    def picture(self, step: int, name: str, path: Path) -> None:
        """Track a picture file of a step."""

    def rewind(self, step: int) -> None:
        """Go back to this step; what was told of later ones will be told again."""

    def preempted(self) -> None:
        """Note that the run is about to end before its last step and will go on later."""

    def completed(self, result: FinalResult) -> None:
        """Note that the run has done its last step, and that its files are there."""

    def finish(self, *, failed: bool) -> None:
        """End the run; called in every exit."""


class MultiTracker(Tracker):
    """Passes everything on to each of several trackers.

    optional: those that a run can do without, by name; at its first error, which ``warn`` is told, one is left alone.
    """

    def __init__(
        self,
        trackers: Sequence[Tracker] = (),
        optional: Mapping[str, Tracker] | None = None,
        warn: Callable[[str], object] = print,
    ) -> None:
        self.trackers, self._optional, self._warn = list(trackers), dict(optional or {}), warn

    def _tell(self, tell: Callable[[Tracker], object]) -> None:
        for name, tracker in list(self._optional.items()):
            try:
                tell(tracker)
            except Exception as error:  # whatever a library and its processes come up with
                del self._optional[name]
                self._warn(f"{name} has failed and is left alone: {str(error) or type(error).__name__}")
        for tracker in self.trackers:
            tell(tracker)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._tell(lambda tracker: tracker.scalars(step, values))

    def picture(self, step: int, name: str, path: Path) -> None:
        self._tell(lambda tracker: tracker.picture(step, name, path))

    def rewind(self, step: int) -> None:
        self._tell(lambda tracker: tracker.rewind(step))

    def preempted(self) -> None:
        self._tell(lambda tracker: tracker.preempted())

    def completed(self, result: FinalResult) -> None:
        self._tell(lambda tracker: tracker.completed(result))

    def finish(self, *, failed: bool) -> None:
        self._tell(lambda tracker: tracker.finish(failed=failed))


class JsonlTracker(Tracker):
    """Appends {"step": ..., name: value, ...} to a file, whole lines at a time.

    On resume, lines of steps after ``last_step`` (and a torn last line) are dropped, so that no step stands twice.
    """

    def __init__(self, path: Path, *, last_step: int) -> None:
        self._path = path
        self._open(last_step)

    def _open(self, last_step: int) -> None:
        if self._path.exists():
            lines = []
            for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError):  # torn by a kill
                    if read_row(line)[0] <= last_step:
                        lines.append(line + "\n")
            write_bytes(self._path, "".join(lines).encode())
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (closed by finish)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()

    def rewind(self, step: int) -> None:
        self._file.close()
        self._open(step)

    def finish(self, *, failed: bool) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def read_row(line: str | bytes) -> tuple[int, dict[str, float]]:
    """Return a line's step and its numbers. ValueError for a line that is torn, or another program's."""
    content = json.loads(line)
    step = content.pop("step", None) if isinstance(content, dict) else None
    if type(step) is not int or step < 0:
        raise ValueError("no step")
    numbers = {name: x for name, x in content.items() if type(x) is float or (type(x) is int and abs(x) < 1e300)}
    return step, {name: float(x) for name, x in numbers.items()}
