"""Actors of Ray Core, each given a shard whenever it has done one. An actor that dies, or a machine with all that is on
it, costs the shards in flight there, which others do again.
"""

import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from gan_style.dataset.engines.local import Report
from gan_style.dataset.plan import Shard
from gan_style.dataset.worker import Done, ShardWorker
from gan_style.runtime.progress import warn
from gan_style.runtime.signals import NUMBERS, Stop

_PATIENCE = 0.3  # seconds between looks at what has happened
_MOST_LOST = 5  # times the number of actors, one after the other with nothing done between: then something is wrong


class Actor:
    """Holds a worker, in a process of its own."""

    def __init__(self, make: Callable[[int], ShardWorker], number: int) -> None:
        self._make, self._number = make, number

    def prepare(self) -> None:
        """Make the worker; not on construction, where what it raises would look like a death."""
        self._worker = self._make(self._number)

    def process(self, shard: Shard, retry: bool) -> Done:
        done = self._worker.process(shard, retry=retry)
        if done is Done.BUSY:
            time.sleep(_PATIENCE)
        return done


@dataclass(frozen=True)
class Call:
    """What an actor does now; shard: None while it prepares."""

    actor: Any
    number: int
    shard: Shard | None


@dataclass
class ActorPool:
    """The driver's side. create_actor: makes the actor of a number; waiting: shards that nobody does."""

    ray: Any
    create_actor: Callable[[int], Any]
    waiting: deque[Shard]
    retry: Container[int]
    report: Report
    calls: dict[Any, Call] = field(default_factory=dict)
    idle: list[tuple[Any, int]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    lost: int = 0

    def work(self, count: int, stop: Stop) -> bool:
        """With so many actors until all shards are done. False where we were stopped or actors die and die."""
        for number in range(count):
            self._begin(number)
        while self.waiting or self._busy():
            if stop.reason is not None:
                self.waiting.clear()
                if not self._busy():
                    return False
            if self.lost > _MOST_LOST * count or not (self.calls or self.idle):
                return False
            self._step()
        return stop.reason is None

    def end(self) -> None:
        for actor, _ in [*((call.actor, call.number) for call in self.calls.values()), *self.idle]:
            self._end(actor)

    def _end(self, actor: Any) -> None:
        with suppress(Exception):  # gone already
            self.ray.kill(actor)

    def _busy(self) -> bool:
        return any(call.shard is not None for call in self.calls.values())

    def _begin(self, number: int) -> None:
        """An actor gets shards once it is there: one that waits for a machine holds up nothing."""
        actor = self.create_actor(number)
        self.calls[actor.prepare.remote()] = Call(actor, number, None)

    def _step(self) -> None:
        while self.idle and self.waiting:
            (actor, number), shard = self.idle.pop(), self.waiting.popleft()
            self.calls[actor.process.remote(shard, shard.number in self.retry)] = Call(actor, number, shard)
        ready, _ = self.ray.wait(list(self.calls), num_returns=1, timeout=_PATIENCE) if self.calls else ([], [])
        for result in ready:
            self._take(self.calls.pop(result), result)
        self.report(None)

    def _take(self, call: Call, result: Any) -> None:
        try:
            done = self.ray.get(result)
        except (OSError, ValueError) as error:  # of the worker: it cannot write, say
            self.errors.append(str(error).strip().splitlines()[-1])  # Ray puts the whole trace into the message
            self._give_back(call)
            return
        except self.ray.exceptions.RayTaskError:
            raise  # a mistake in the code
        except self.ray.exceptions.RayError as error:
            warn(f"actor {call.number} is lost, another takes its place: {type(error).__name__}")
            self.lost += 1
            self._give_back(call)
            self._begin(call.number)
            return
        self.idle.append((call.actor, call.number))
        if call.shard is None:
            return
        if done is Done.BUSY:
            self.waiting.append(call.shard)
        else:
            self.lost = 0
            self.report(call.shard)

    def _give_back(self, call: Call) -> None:
        self._end(call.actor)  # in case it is only out of reach
        if call.shard is not None:
            self.waiting.appendleft(call.shard)


def run_actors(
    make: Callable[[int], ShardWorker],
    *,
    shards: Sequence[Shard],
    retry: Sequence[int],
    stop: Stop,
    report: Report,
    address: str | None,
    actors: int,
    gpus: float,
    cpus: float,
) -> bool:
    """All shards by so many actors of the cluster at ``address`` (None: one that is started here). False where we were
    stopped, or where actors die again and again. OSError for what all of them raised.

    make: must pickle; gpus, cpus: that each actor takes from its machine.
    """
    if find_spec("ray") is None:
        raise ValueError("engine=ray needs Ray: pip install 'gan_style[ray]'")
    import ray

    with _connected(ray, address, max(1, math.ceil(actors * cpus))):
        resources = ray.cluster_resources()
        for name, needed in {"CPU": cpus, "GPU": gpus}.items():
            if (available := resources.get(name, 0)) < needed:
                warn(f"an actor takes {needed:g} {name} and the cluster has {available:g}; waiting for more")
        remote = ray.remote(num_gpus=gpus, num_cpus=cpus, max_restarts=0)(Actor)
        pool = ActorPool(ray, lambda number: remote.remote(make, number), deque(shards), set(retry), report)
        try:
            finished = pool.work(min(actors, len(shards)), stop)
        finally:
            pool.end()
    if pool.errors and not finished and stop.reason is None:
        raise OSError(pool.errors[0])
    for error in pool.errors:
        warn(f"an actor gave up, and the others did its work: {error}")
    return finished


@contextmanager
def _connected(ray: Any, address: str | None, cpus: int) -> Iterator[None]:
    """Be a driver of the cluster for the time being; our signal handlers stay ours."""
    if ray.is_initialized():  # our caller's
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ours = {number: signal.getsignal(number) for number in NUMBERS}
    local = {"address": "local", "num_cpus": cpus, "include_dashboard": False}
    options = local if address is None else {"address": address}
    try:
        ray.init(logging_level="warning", log_to_driver=False, **options)
    except ConnectionError as error:
        raise ValueError(f"ray.address={address}: {error}") from error
    for number, handler in ours.items():
        signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()
