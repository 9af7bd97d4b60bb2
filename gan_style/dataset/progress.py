"""How far a job has come: one line now and then."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gan_style.dataset.plan import Shard


@dataclass
class Progress:
    """Counts the shards of one job; ``total`` and ``done`` are inputs."""

    total: int = 0
    every: float = 5.0
    say: Callable[[str], object] = lambda line: print(line, flush=True)
    now: Callable[[], float] = time.monotonic
    done: int = 0
    _seen: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._begun = self._said = self.now()

    def __call__(self, shard: Shard | None) -> None:
        """A shard was done; None: time has passed."""
        if shard is not None and shard.number not in self._seen:
            self._seen.add(shard.number)
            self.done += shard.count
        if self.now() - self._said >= self.every or (shard is not None and self.done == self.total):
            self._said = self.now()
            self.say(self.line())

    @property
    def seconds(self) -> float:
        return self.now() - self._begun

    @property
    def rate(self) -> float:
        """Inputs a second."""
        return self.done / self.seconds if self.seconds else 0.0

    def line(self) -> str:
        left = f"{_time((self.total - self.done) / self.rate)} left" if self.rate else "time left not known yet"
        return f"[{self.done}/{self.total}] {self.rate:.1f} pictures/s, {left}"


def total(shards: Iterable[Shard]) -> int:
    return sum(shard.count for shard in shards)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
