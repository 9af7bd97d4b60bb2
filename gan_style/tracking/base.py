"""What a tracker can do, and several as one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


class Tracker(Protocol):
    """Receives a run's numbers and pictures. Only rank 0 has a real one."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Named numbers of a step (the count of finished steps)."""

    def picture(self, step: int, name: str, path: Path) -> None:
        """A picture file of a step."""

    def rewind(self, step: int) -> None:
        """The run goes back to this step; what was told of later ones will be told again."""

    def preempted(self) -> None:
        """The run is about to end before its last step and will go on later."""

    def finish(self, *, failed: bool) -> None:
        """The run ends; called in every exit."""


class Several:
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

    def finish(self, *, failed: bool) -> None:
        for tracker in self.trackers:
            tracker.finish(failed=failed)
