"""Which of very many names there have been, in eight bytes each, where a set would take more than a hundred."""

import hashlib
from collections.abc import Iterable

import numpy as np

_RECENT = 2**20  # in a set, before they are packed


class Marks:
    """A set of names that only grows.

    It keeps 64 bits of each name's hash: of 100 million, one in 200 billion that was never added is taken for one that
    was.
    """

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._packed: list[np.ndarray] = []  # sorted, each less than half as long as the one before

    def add(self, name: str) -> None:
        self._recent.add(_mark(name))
        if len(self._recent) >= _RECENT:
            self._pack()

    def update(self, names: Iterable[str]) -> None:
        for name in names:
            self.add(name)

    def __contains__(self, name: str) -> bool:
        mark = _mark(name)
        return mark in self._recent or any(_holds(packed, mark) for packed in self._packed)

    def _pack(self) -> None:
        """As the rungs of a merge sort: every name is merged log2(N / 2^20) times."""
        fresh = np.fromiter(self._recent, np.uint64, len(self._recent))
        self._recent.clear()
        while self._packed and len(self._packed[-1]) <= 2 * len(fresh):
            fresh = np.concatenate([self._packed.pop(), fresh])
        fresh.sort()
        self._packed.append(fresh)


def _mark(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _holds(packed: np.ndarray, mark: int) -> bool:
    place = int(packed.searchsorted(np.uint64(mark)))
    return place < len(packed) and int(packed[place]) == mark
