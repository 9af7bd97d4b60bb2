"""Which pictures go through the network together: those of one style and size, in the order in which they come."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from gan_style.datasetgen.choices import Choice
from gan_style.datasetgen.entries import Entry
from gan_style.datasetgen.loading import Loaded

_MOST_PENDING_PIXELS = 32_000_000  # decoded pictures that wait for others of their size


@dataclass(frozen=True)
class Batching:
    """size: pictures in a batch; pixels: in a batch of large pictures, which has one at least."""

    size: int
    pixels: int

    def most(self, picture: Tensor) -> int:
        return max(1, min(self.size, self.pixels // (picture.shape[-1] * picture.shape[-2])))


@dataclass(frozen=True)
class Item:
    """One copy of one picture, on its way."""

    number: int
    copy: int
    entry: Entry
    loaded: Loaded
    choice: Choice

    @property
    def picture(self) -> Tensor:
        assert self.loaded.picture is not None
        return self.loaded.picture


class Groups:
    """Items of one style and size, until they are a batch."""

    def __init__(self, batching: Batching) -> None:
        self.batching = batching
        self._groups: dict[tuple[int, int, int], list[Item]] = {}  # in the order in which each was begun
        self._pixels = 0

    def add(self, item: Item) -> Iterator[list[Item]]:
        """The batches that are to be made now: a full one; the oldest ones, while too much waits."""
        _, height, width = item.picture.shape
        key = (item.choice.style, height, width)
        group = self._groups.setdefault(key, [])
        group.append(item)
        self._pixels += height * width
        if len(group) == self.batching.most(item.picture):
            yield self._take(key)
        while self._pixels > _MOST_PENDING_PIXELS:
            yield self._take(next(iter(self._groups)))

    def rest(self) -> Iterator[list[Item]]:
        while self._groups:
            yield self._take(next(iter(self._groups)))

    def _take(self, key: tuple[int, int, int]) -> list[Item]:
        group = self._groups.pop(key)
        self._pixels -= len(group) * key[1] * key[2]
        return group
