"""A line now and then: how far, how fast, how long still."""

import time
from collections.abc import Callable

_SECONDS_BETWEEN = 2.0


class Progress:
    """Counts frames; those that were there already count as done, but not for the speed.

    frames: of the whole video, None where its header does not say; say: what prints a line.
    """

    def __init__(self, frames: int | None, say: Callable[[str], None]) -> None:
        self.frames, self.say = frames, say
        self.done = self.made = 0
        self._started = self._told = time.monotonic()

    def passed(self, count: int) -> None:
        """Frames that an earlier run has made."""
        self.done += count
        self._started = self._told = time.monotonic() if not self.made else self._started

    def add(self, count: int) -> None:
        """Frames that this run has made."""
        self.done, self.made = self.done + count, self.made + count
        if time.monotonic() - self._told >= _SECONDS_BETWEEN:
            self._told = time.monotonic()
            self.say(self.line())

    def line(self) -> str:
        """ "frame 120/300  12.4 frames/s  15 s left"."""
        speed = self.speed()
        whole = "" if self.frames is None else f"/{self.frames}"
        left = "" if self.frames is None or not speed else f"  {_words(max(0, self.frames - self.done) / speed)} left"
        return f"frame {self.done}{whole}  {speed:.3g} frames/s{left}"

    def speed(self) -> float:
        """Frames a second in this run."""
        return self.made / max(time.monotonic() - self._started, 1e-9)


def _words(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
