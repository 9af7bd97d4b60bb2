"""How far a job of make-dataset has come: one line now and then."""

import time

from gan_style.dataset.plan import Shard
from gan_style.runtime.progress import duration

_EVERY = 5.0  # seconds between lines


class ShardProgress:
    """Counts the inputs of shards that are done."""

    def __init__(self) -> None:
        self.total, self.done = 0, 0
        self._begun = self._reported = time.monotonic()
        self._seen: set[int] = set()

    def __call__(self, shard: Shard | None) -> None:
        """A shard was done; None: time has passed."""
        if shard is not None and shard.number not in self._seen:
            self._seen.add(shard.number)
            self.done += shard.count
        if time.monotonic() - self._reported >= _EVERY or (shard is not None and self.done == self.total):
            self._reported = time.monotonic()
            left = duration((self.total - self.done) / self.rate) if self.rate else "not known how much"
            print(f"[{self.done}/{self.total}] {self.rate:.1f} pictures/s, {left} left", flush=True)

    @property
    def seconds(self) -> float:
        """Return the seconds since the job began."""
        return time.monotonic() - self._begun

    @property
    def rate(self) -> float:
        """Return inputs a second."""
        return self.done / self.seconds if self.seconds else 0.0
