"""What a tracker can do, and several as one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


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


class Tracker(Protocol):
    """Receives a run's numbers and pictures. Only rank 0 has a real one."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Named numbers of a step (the count of finished steps)."""

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


class MultiTracker:
    """Passes everything on to each of several trackers."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = list(trackers)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for tracker in self.trackers:
            tracker.scalars(step, values)

    def picture(self, step: int, name: str, path: Path) -> None:
        for tracker in self.trackers:
            tracker.picture(step, name, path)

    def rewind(self, step: int) -> None:
        for tracker in self.trackers:
            tracker.rewind(step)

    def preempted(self) -> None:
        for tracker in self.trackers:
            tracker.preempted()

    def completed(self, result: FinalResult) -> None:
        for tracker in self.trackers:
            tracker.completed(result)

    def finish(self, *, failed: bool) -> None:
        for tracker in self.trackers:
            tracker.finish(failed=failed)


class BestEffortTracker:
    """A tracker that a run can do without: at its first error that is said, and it is told nothing more."""

    def __init__(self, tracker: Tracker, name: str, warn: Callable[[str], object]) -> None:
        self._tracker: Tracker | None = tracker
        self._name, self._warn = name, warn

    def _tell(self, tell: Callable[[Tracker], object]) -> None:
        if self._tracker is None:
            return
        try:
            tell(self._tracker)
        except Exception as error:  # whatever a library and its processes come up with
            self._tracker = None
            self._warn(f"{self._name} has failed and is left alone: {str(error) or type(error).__name__}")

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
