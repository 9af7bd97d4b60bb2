"""Workers that are harmed in the middle, for engines that start processes of their own (which import this file)."""

import os
import signal
import time

import torchless

from gan_style.dataset.worker import ShardWorker


class Harmed(torchless.Making):
    """Worker 0 comes to harm in its second shard, once; the others begin only then. harm: a signal to itself."""

    harm = signal.SIGKILL

    def __call__(self, number: int = 0) -> ShardWorker:
        worker = super().__call__(number)
        plain, died, shards = worker.make, worker.records.output.parent / "died", []

        def make(samples):
            shards.append(samples)
            if number == 0 and len(shards) == 2 and not died.exists():
                died.touch()
                os.kill(os.getpid(), self.harm)
            while number != 0 and not died.exists():
                time.sleep(0.02)
            yield from plain(samples)

        worker.make = make
        return worker


class Preempted(Harmed):
    """As submitit's jobs are told to leave."""

    harm = signal.SIGUSR2


class Deadly(torchless.Making):
    """A sample that kills every process."""

    def __call__(self, number: int = 0) -> ShardWorker:
        worker = super().__call__(number)
        plain = worker.make

        def make(samples):
            if any("007" in sample.key for _, sample in samples):
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(samples)

        worker.make = make
        return worker


class Full(torchless.Making):
    """No worker can write, or only worker 0 cannot."""

    only_first = False

    def __call__(self, number: int = 0) -> ShardWorker:
        if number == 0 or not self.only_first:
            raise OSError(28, "No space left on device")
        return super().__call__(number)


class FirstFull(Full):
    only_first = True
