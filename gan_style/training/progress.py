"""The progress line: rewritten in place on a terminal, plain lines otherwise."""

import shutil
import sys
import time
from collections.abc import Mapping
from typing import TextIO

_MAIN_TERMS = {"loss/content": "content", "loss/style": "style", "loss/adversarial": "adversarial"}
_MAIN_TERMS |= {"discriminator/loss": "D"}


class Progress:
    """Shows step, pictures per second, time left and the main terms.

    terms: {key of a value: how it is called}; unit: what a step makes ``batch`` of.
    """

    def __init__(
        self,
        *,
        first_step: int,
        steps: int,
        batch: int,
        terms: Mapping[str, str] = _MAIN_TERMS,
        unit: str = "images",
        out: TextIO | None = None,
    ) -> None:
        self.steps, self.batch = steps, batch
        self.terms, self.unit = terms, unit
        self.out = out or sys.stdout
        self._start, self._first_step = time.monotonic(), first_step
        self._line_open = False

    def images_per_second(self, step: int) -> float:
        """The mean since this process began."""
        return (step - self._first_step) * self.batch / max(1e-9, time.monotonic() - self._start)

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Show where the run is after ``step`` steps."""
        speed = self.images_per_second(step)
        left = (self.steps - step) * self.batch / max(speed, 1e-9)
        terms = "  ".join(f"{short} {values[name]:.4g}" for name, short in self.terms.items() if name in values)
        line = f"step {step}/{self.steps}  {speed:.1f} {self.unit}/s  {duration(left)} left  {terms}"
        if self.out.isatty():
            line = line[: shutil.get_terminal_size().columns - 1]  # a line that wraps could not be rewritten
            self.out.write(f"\r\x1b[2K{line}")
            self._line_open = True
        else:
            self.out.write(line + "\n")
        self.out.flush()

    def say(self, message: str) -> None:
        """A line of its own."""
        self.close()
        self.out.write(message + "\n")
        self.out.flush()

    def close(self) -> None:
        """End a line that is still open."""
        if self._line_open:
            self.out.write("\n")
            self._line_open = False


def duration(seconds: float) -> str:
    """Seconds as "45 s", "3 min 20 s" or "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
