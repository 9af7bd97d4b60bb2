"""Signals that ask a run to save itself and end."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

PREEMPTED = 75  # exit status: saved; run again to go on
_NAMES = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")  # Windows has the first two
NUMBERS = tuple(signal.Signals[name] for name in _NAMES if hasattr(signal, name))
_ECHO = 1.0  # seconds


class Stop:
    """Says whether somebody has asked; a handler does nothing but set it. A second signal of a kind ends at once.

    Not one that comes within a second: what is sent to a whole process group reaches a rank twice, once through its
    launcher.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._seen: dict[int, float] = {}

    def ask(self, number: int, _: FrameType | None = None) -> None:
        now = time.monotonic()
        if now - self._seen.setdefault(number, now) > _ECHO:
            os._exit(128 + number)
        self.reason = signal.Signals(number).name


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Let SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 set the Stop that the block is given."""
    stop = Stop()
    with handled_by(stop.ask):
        yield stop


@contextmanager
def leave_on_signals() -> Iterator[None]:
    """Let the same signals end the block, in which there is nothing to save yet, with the same status."""

    def leave(number: int, _: FrameType | None) -> None:
        message = f"{signal.Signals(number).name} while nothing is being trained: nothing to save; run again"
        print(message, file=sys.stderr, flush=True)
        raise SystemExit(PREEMPTED)

    with handled_by(leave):
        yield


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Send the same signals to this handler while the block runs; then to whom they went before."""
    before = {number: signal.signal(number, handler) for number in NUMBERS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def die_with(parent: int, number: int = 9) -> None:
    """Have this child process sent a signal when the parent dies (where the system can: Linux), now if it is dead.

    An orphan would go on unseen, and hold the locks that it has inherited.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
