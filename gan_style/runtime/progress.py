"""Show how far a command has come: tqdm's bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import TextIO

from tqdm import tqdm

_LOSSES = {f"loss/{name}": name for name in ("content", "style", "adversarial")} | {"discriminator/loss": "D"}


def warn(message: str) -> None:
    """Say what somebody should know, and go on: on stderr, above a progress bar if there is one."""
    tqdm.write(f"warning: {message}", file=sys.stderr)


class _Bar(tqdm):
    monitor_interval = 0  # no thread of its own, beside which processes would be forked


class Progress:
    """Steps done of all (None: not known), images a second, the time left, and the main losses.

    terms: {key of a value: how it is shown}; unit: what a step makes ``batch`` of; every: least seconds between lines.
    """

    def __init__(
        self,
        *,
        first_step: int,
        steps: int | None,
        batch: int,
        terms: Mapping[str, str] = _LOSSES,
        unit: str = "images",
        every: float = 0.0,
        out: TextIO | None = None,
    ) -> None:
        self.step, self.steps, self.batch, self.terms, self.unit = first_step, steps, batch, terms, unit
        self._every, self._shown = every, -every
        self.out = out or sys.stdout
        self._begin, self._first_step = time.monotonic(), first_step
        self._bar: _Bar | None = None
        if self.out.isatty():
            layout = "step {n_fmt}/{total_fmt} {bar} {postfix}"
            self._bar = _Bar(total=steps, initial=first_step, file=self.out, bar_format=layout, dynamic_ncols=True)

    def images_per_second(self, step: int) -> float:
        """Return the mean since this process began."""
        return (step - self._first_step) * self.batch / max(1e-9, time.monotonic() - self._begin)

    def skip(self, steps: int) -> None:
        """Count steps of an earlier run: done, and no part of the speed."""
        self._first_step += steps
        self.step += steps

    def update(self, step: int, values: Mapping[str, float] | None = None) -> None:
        """Show where the run is after ``step`` steps."""
        self.step, now, values = step, time.monotonic(), values or {}
        if now - self._shown < self._every and step != self.steps:
            return
        self._shown = now
        speed = self.images_per_second(step)
        text = f"{speed:.1f} {self.unit}/s  "
        if self.steps is not None:
            text += f"{duration((self.steps - step) * self.batch / max(speed, 1e-9))} left  "
        text += "  ".join(f"{short} {values[name]:.4g}" for name, short in self.terms.items() if name in values)
        if self._bar is None:
            self.out.write(f"step {step}/{self.steps or '?'}  {text}\n")
            self.out.flush()
        else:
            self._bar.n = step
            self._bar.set_postfix_str(text, refresh=True)

    def say(self, message: str) -> None:
        """Print a line of its own, above the bar."""
        tqdm.write(message, file=self.out)
        self.out.flush()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def duration(seconds: float) -> str:
    """Return seconds as "45 s", "3 min 20 s" or "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
