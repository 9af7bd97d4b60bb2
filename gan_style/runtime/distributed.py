"""Ranks: the processes that torchrun, or ``launch``, starts beside each other. One process alone is rank 0 of 1."""

import inspect
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gan_style.runtime.machine import cores
from gan_style.runtime.signals import PREEMPTED, die_with, handled_by

_LOST_PATIENCE = 5.0  # seconds
Item = TypeVar("Item")
COLLECTIVE_TIMEOUT = timedelta(minutes=30)  # of a collective: the others may be writing samples or a checkpoint


@dataclass(frozen=True)
class Ranks:
    """This process among ``count``; they differ in ``rank``, 0 to count - 1."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Return whether this is the rank that prints and writes."""
        return self.rank == 0

    def say(self, message: str) -> None:
        """Print a line, once for all ranks."""
        if self.first:
            print(message, flush=True)

    def share(self, items: Sequence[Item]) -> list[tuple[int, Item]]:
        """Return this rank's part of a list that all have, with each item's number in it."""
        return list(enumerate(items))[self.rank :: self.count]

    def gather(self, part: Item) -> list[Item]:
        """Return every rank's part, in their order, on every rank."""
        if self.count == 1:
            return [part]
        parts: list[Item] = [part] * self.count
        dist.all_gather_object(parts, part)
        return parts

    def from_first(self, item: Item) -> Item:
        """Rank 0's item, on every rank."""
        if self.count == 1:
            return item
        items = [item]
        dist.broadcast_object_list(items, src=0)
        return items[0]

    def mean(self, values: Tensor) -> Tensor:
        """Average every rank's values (float32, any device); the result is on every rank, on the CPU."""
        values = values.cpu()
        if self.count > 1:
            dist.all_reduce(values)
            values /= self.count
        return values

    def any(self, flag: bool) -> bool:
        return self.mean(torch.tensor([float(flag)])).item() > 0 if self.count > 1 else flag

    def wait(self) -> None:
        if self.count > 1:
            dist.barrier()

    def shared(self, network: nn.Module) -> DistributedDataParallel:
        """Wrap a network for ranks to train together: gradients are averaged, bucket by bucket, while backward goes on.

        Buffers (vectors of spectral normalisation) follow from the weights and need no exchange.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)  # its new name is not in torch 2.11
            parameters = inspect.signature(DistributedDataParallel).parameters
        new, old = "forward_sync_buffers", "broadcast_buffers"  # the latter before torch 2.15
        options: dict[str, Any] = {"gradient_as_bucket_view": True, new if new in parameters else old: False}
        return DistributedDataParallel(network, **options)


def local_device(name: str) -> str:
    """Choose this rank's device where "auto" or "cuda" leave it open: cuda:0, cuda:1, ... by its number on the node."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not torch.cuda.is_available():
        return name
    shown_one = torch.cuda.device_count() == 1 and "LOCAL_WORLD_SIZE" not in os.environ
    if shown_one and name in ("auto", "cuda", "cuda:0"):
        return "cuda:0"  # a scheduler shows each task its own (srun --gpus-per-task=1)
    if name.startswith("cuda:"):
        hint = "give cuda, and choose with CUDA_VISIBLE_DEVICES"
        raise ValueError(f"runtime.device={name}: ranks cannot share one GPU; {hint}")
    if name not in ("auto", "cuda"):
        return name
    if local >= torch.cuda.device_count():
        raise ValueError(f"rank {local} of this node has no device: there are {torch.cuda.device_count()}")
    return f"cuda:{local}"


@contextmanager
def ranks() -> Iterator[Ranks]:
    """Join the ranks of torchrun's environment while the block runs: NCCL between GPUs, else gloo."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store, rank, _ = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(name_of_start(store, rank, count), store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=COLLECTIVE_TIMEOUT)
    try:
        yield Ranks(dist.get_rank(), count)
    except BaseException:
        # where a rank has failed NCCL's shutdown would wait for what that one will never send
        if not torch.cuda.is_available():
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def name_of_start(store: dist.Store, rank: int, count: int) -> str:
    """Return a word that all ranks of this start have in common, and none of one before.

    torchrun keeps one store for all its restarts, and each of its nodes counts them for itself; what a dead rank has
    left in the store must not be read. So each rank leaves a new word there, and rank 0 answers all that it finds.
    RuntimeError where the others do not come.
    """
    word = secrets.token_hex(8)
    if rank > 0:
        store.set(f"start/{rank}", word)
        name: str = store.get(f"start/answer/{word}").decode()
        store.set(f"start/{name}/{rank}", "here")
        return name
    answered: set[bytes] = set()
    begin, missing = time.monotonic(), set(range(1, count))
    while missing:
        for other in sorted(missing):
            if store.check([f"start/{word}/{other}"]):
                missing.remove(other)
            elif store.check([f"start/{other}"]) and (rank_word := store.get(f"start/{other}")) not in answered:
                store.set(f"start/answer/{rank_word.decode()}", word)
                answered.add(rank_word)
        if missing and time.monotonic() - begin > COLLECTIVE_TIMEOUT.total_seconds():
            raise RuntimeError(f"ranks {', '.join(map(str, sorted(missing)))} of {count} did not come")
        time.sleep(0.02 if missing else 0)
    return word


def launch(count: int, command: Sequence[str], *, grace: float = 30.0) -> int:
    """Run ``count`` processes of a command on this machine as ranks of one run; the status they end with.

    Signals are passed on. Where one fails the others are ended: SIGTERM (not after status 75, pre-empted, which all are
    about to end with), then after ``grace`` seconds SIGKILL. The status is that of the first that failed for a reason
    of its own.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores() // count))
    common = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": threads,
    }
    processes: list[subprocess.Popen[bytes]] = []
    with handled_by(lambda number, _: _tell(processes, number)):
        for rank in range(count):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            ends = partial(die_with, os.getpid(), signal.SIGTERM)  # where the launcher is killed its ranks save and end
            processes.append(subprocess.Popen(command, env=os.environ | common | place, preexec_fn=ends))
        return _await(processes, grace)


def _tell(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _await(processes: Sequence[subprocess.Popen[bytes]], grace: float) -> int:
    status, deadline, lost, killed = 0, float("inf"), 0.0, set[int]()
    while None in [process.poll() for process in processes]:  # each is asked, not only the first that runs
        time.sleep(0.05)
        failed = [process.returncode for process in processes if process.returncode not in (None, 0)]
        # A rank that is killed says nothing itself.
        for rank, end in enumerate(process.returncode for process in processes):
            if end is not None and end < 0 and not status and rank not in killed:
                killed.add(rank)
                name = signal.Signals(-end).name
                hint = ", maybe as memory was short" if -end == signal.SIGKILL else ""
                print(f"rank {rank} was killed by {name}{hint}", file=sys.stderr, flush=True)

        # A rank that has lost its neighbour ends with 1, maybe before the neighbour itself has: wait for that one.
        if failed and not lost:
            lost = time.monotonic()
        if failed and not status and (set(failed) != {1} or time.monotonic() - lost > _LOST_PATIENCE):
            status, deadline = failed[0], time.monotonic() + grace
            if status != PREEMPTED:  # that one has saved, and so have the others: let them end by themselves
                _tell(processes, signal.SIGTERM)
        if time.monotonic() > deadline:
            print(f"ranks that did not end within {grace:.0f} s are killed", file=sys.stderr, flush=True)
            _tell(processes, signal.SIGKILL)
            deadline = float("inf")
    ends = [status, *(process.returncode for process in processes)]
    # 1 and signals: of ranks that lost their neighbours; 75 after another's failure: of those that were told to end
    telling = [end for end in ends if end > 1 and (end != PREEMPTED or status == PREEMPTED)]
    status = next(iter([*telling, *filter(None, ends)]), 0)
    return 128 - status if status < 0 else status
