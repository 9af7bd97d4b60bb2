"""Ranks: the processes that torchrun starts beside each other. One process alone is rank 0 of 1."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch.distributed as dist

Item = TypeVar("Item")


@dataclass(frozen=True)
class Ranks:
    """This process among ``count``; they differ in ``rank``, 0 to count - 1."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that prints and writes."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[tuple[int, Item]]:
        """This rank's part of a list that all have, with each item's number in it."""
        return list(enumerate(items))[self.rank :: self.count]

    def gather(self, part: Item) -> list[Item]:
        """Every rank's part, in their order, on every rank."""
        if self.count == 1:
            return [part]
        parts: list[Item] = [part] * self.count
        dist.all_gather_object(parts, part)
        return parts


@contextmanager
def ranks() -> Iterator[Ranks]:
    """The ranks that torchrun's environment speaks of, joined over gloo while the block runs."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks()
        return
    dist.init_process_group("gloo")
    try:
        yield Ranks(dist.get_rank(), count)
    finally:
        dist.destroy_process_group()
