"""Processes on this machine, each over the same shards; leases keep them apart, and one that dies harms nobody."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

from gan_style.dataset.plan import Shard
from gan_style.dataset.worker import Done, ShardWorker
from gan_style.runtime.progress import duration, warn
from gan_style.runtime.signals import NUMBERS, Stop, die_with

_PATIENCE = 0.3  # seconds between looks at shards that others have
_REPORTED = 5.0  # seconds between lines that say how far we are

Report = Callable[[Shard | None], None]  # told of each shard that is done; and now and then, with None


class ShardProgress:
    """Say how far a job has come, in one line now and then: the inputs of shards that are done."""

    def __init__(self) -> None:
        self.total, self.done = 0, 0
        self._begun = self._reported = time.monotonic()
        self._seen: set[int] = set()

    def __call__(self, shard: Shard | None) -> None:
        """A shard was done; None: time has passed."""
        if shard is not None and shard.number not in self._seen:
            self._seen.add(shard.number)
            self.done += shard.count
        if time.monotonic() - self._reported >= _REPORTED or (shard is not None and self.done == self.total):
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


def work(
    worker: ShardWorker,
    shards: Iterable[Shard],
    *,
    retry: Container[int],
    stopped: Callable[[], bool],
    report: Report,
    patient: bool = True,
) -> bool:
    """Do all shards that nobody else does, and wait for the others' in case they die. False where we were stopped.

    retry: numbers of those whose failures are to be done again, by us and nobody else; patient: False to leave instead
    of waiting, where someone else sees to it that what the others leave is done.
    """
    left = list(shards)
    while left:
        busy = []
        for shard in left:
            if stopped():
                return False
            if worker.process(shard, retry=shard.number in retry) is Done.BUSY:
                busy.append(shard)
            else:
                report(shard)
        if len(busy) == len(left):
            if not patient:
                return True
            report(None)
            time.sleep(_PATIENCE)
        left = busy
    return True


def order_of(shards: Sequence[Shard], number: int, count: int) -> list[Shard]:
    """All shards, from where worker ``number`` of so many begins: apart from the others, as long as it lasts."""
    start = len(shards) * number // count
    return [*shards[start:], *shards[:start]]


def run_here(
    make: Callable[[], ShardWorker], shards: Sequence[Shard], *, retry: Container[int], stop: Stop, report: Report
) -> bool:
    """All in this process."""
    return work(make(), shards, retry=retry, stopped=lambda: stop.reason is not None, report=report)


def run_processes(
    make: Callable[[int], ShardWorker],
    shards: Sequence[Shard],
    *,
    count: int,
    retry: Sequence[int],
    stop: Stop,
    report: Report,
) -> bool:
    """In so many processes, each with ``make(number)``'s worker (it must pickle). False where we were stopped, or where
    all ended before the shards did; an error of one of them is raised here as OSError, once the others have finished.

    A shard whose failures are to be done again is one process's, since only that one tells before from after; what one
    that died leaves of these is shared out anew, as long as that gets anything done.
    """
    context = multiprocessing.get_context("spawn")  # a fork would take torch's threads and CUDA along, broken
    left = {shard.number: shard for shard in shards}

    def hear(shard: Shard | None) -> None:
        if shard is not None:
            left.pop(shard.number, None)
        report(shard)

    while True:
        # Start them, each with all shards, from another place on, but for those that only another one is to do again.
        before, again = list(left.values()), [number for number in retry if number in left]
        pipes = [context.Pipe() for _ in range(count)]
        children = []
        for number, (_, theirs) in enumerate(pipes):
            to_retry = set(again[number::count])
            foreign = set(again) - to_retry
            queue = [shard for shard in order_of(before, number, count) if shard.number not in foreign]
            arguments = (theirs, make, number, queue, to_retry, os.getpid())
            children.append(context.Process(target=_child, args=arguments))
        for child in children:
            child.start()
        for _, theirs in pipes:
            theirs.close()

        # Hear what they do until all have ended.
        shards_by_number = {shard.number: shard for shard in before}
        finished, errors = _follow([ours for ours, _ in pipes], shards_by_number, stop, hear)
        for number, child in enumerate(children):
            child.join()
            if child.exitcode is not None and child.exitcode < 0:
                name = signal.Signals(-child.exitcode).name
                warn(f"process {number} was ended by {name}; others do its work")

        # Once more, as long as that gets anything done.
        stuck = len(left) == len(before)
        if errors and (not finished or (left and stuck)):
            raise OSError(errors[0])
        for error in errors:
            warn(f"a process gave up, and others do its work: {error}")
        if not left or not finished or stop.reason is not None or stuck:
            return finished and not left


def _follow(
    pipes: Sequence[Connection], shards: dict[int, Shard], stop: Stop, report: Report
) -> tuple[bool, list[str]]:
    """Hear what the children do until all have ended; whether one had finished, and what others raised."""
    left, is_reported, finished = list(pipes), False, False
    errors: list[str] = []
    while left:
        if stop.reason is not None and not is_reported:
            is_reported = True
            for pipe in left:
                with suppress(OSError):
                    pipe.send("stop")
        report(None)
        ready = multiprocessing.connection.wait(left, timeout=_PATIENCE)
        for pipe in [pipe for pipe in left if pipe in ready]:
            try:
                kind, content = pipe.recv()
            except (EOFError, OSError):
                left.remove(pipe)  # finished, or killed
                continue
            if kind == "shard":
                report(shards[content])
            elif kind == "error":
                errors.append(content)
            finished = finished or kind == "finished"
    return finished, errors


def _child(
    pipe: Connection,
    make: Callable[[int], ShardWorker],
    number: int,
    shards: list[Shard],
    retry: Container[int],
    parent: int,
) -> None:
    for asking in NUMBERS:
        signal.signal(asking, signal.SIG_IGN)  # sent to the whole group; our parent tells us when to stop
    die_with(parent)

    def stopped() -> bool:
        return pipe.poll() or os.getppid() != parent

    def report(shard: Shard | None) -> None:
        if shard is not None:
            pipe.send(("shard", shard.number))

    try:
        if work(make(number), shards, retry=retry, stopped=stopped, report=report):
            pipe.send(("finished", None))
    except (OSError, ValueError) as error:
        with suppress(OSError):
            pipe.send(("error", str(error)))
        sys.exit(1)
