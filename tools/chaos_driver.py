#!/usr/bin/env python3
"""``gan-style train`` with a fault in it: patches what the environment's GAN_STYLE_CHAOS names, then runs the command.

For chaos_train.py. A fault is JSON: {"name": ..., "rank": which one suffers (null: every one), and what the function of
that name below takes}. The ranks that the command launches run with the same fault.
"""

import errno
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from hydra.core.global_hydra import GlobalHydra

from gan_style.commands import train
from gan_style.losses.adversarial import Adversarial
from gan_style.losses.objective import Objective
from gan_style.runtime import checkpoint, distributed
from gan_style.training.supervisor import Supervisor

FAULT, FORKED = "GAN_STYLE_CHAOS", "GAN_STYLE_CHAOS_FORKED"  # of the environment
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Forked:
    """A process as subprocess.Popen has them, forked from this one, which has imported everything (5 s for others).

    command: the options of gan-style train; log: where its words go; leader: of a process group of its own.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        log: IO[bytes] | None = None,
        leader: bool = False,
        preexec_fn: Callable[[], None] = lambda: None,
    ) -> None:
        self.returncode: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            preexec_fn()
            _become(command, env, log, leader)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _become(command: Sequence[str], env: Mapping[str, str], log: IO[bytes] | None, leader: bool) -> None:
    """The forked process's life: as a new one would start, up to its end."""
    status: Any = 1
    try:
        try:
            for number in SIGNALS:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            if leader:
                os.setsid()
            if log is not None:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            env = dict(env)
            os.environ.clear()
            os.environ.update(env)
            GlobalHydra.instance().clear()
            sys.argv[1:] = command
            main()
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status if isinstance(status, int) else 1)  # whatever happens, never back into the parent's code


def main() -> None:
    """The command, with the fault."""
    train.launch = _launch  # type: ignore[assignment]
    fault = json.loads(os.environ.get(FAULT, "{}"))
    if "runtime.devices=2" in sys.argv and "RANK" not in os.environ:
        fault = {}  # the launcher itself is well
    name, rank = fault.pop("name", None), fault.pop("rank", None)
    if name and rank in (None, int(os.environ.get("RANK", "0"))):
        FAULTS[name](**fault)
    _leave_a_digest()
    train.main()


def _launch(count: int, command: Sequence[str]) -> int:
    """As distributed.launch, for ranks that run this file."""
    if FORKED in os.environ:
        distributed.subprocess = SimpleNamespace(Popen=Forked)  # type: ignore[assignment]
        return distributed.launch(count, command[3:])
    return distributed.launch(count, [sys.executable, __file__, *command[3:]])


def _leave_a_digest() -> None:
    """At the end of a run each rank writes down what its weights are."""
    rolled_back = Supervisor.rolled_back

    def wrapped(self: Supervisor) -> bool:
        training = rolled_back(self)
        if not training:
            digest = hashlib.sha256()
            for _, network in sorted(self.state._networks().items()):
                for tensor in network.parameters():
                    digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
            (self.folder / f"digest_rank{self.ranks.rank}").write_text(f"{self.state.step} {digest.hexdigest()}")
        return training

    Supervisor.rolled_back = wrapped  # type: ignore[method-assign]


# The faults


def at_save(*, point: str, nth: int, error: int | None = None) -> None:
    """At the nth time that writing checkpoints comes to a point: SIGKILL, or where ``error`` is given an OSError.

    point: write (half of it is), fsync, synced, rename, renamed.
    """
    seen = 0

    def pass_by(where: str) -> None:
        nonlocal seen
        seen += where == point
        if where == point and seen == nth:
            if error is None:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(error or 0, os.strerror(error or 0))

    def around(function: Callable[..., Any], before: str, after: str, place: Callable[..., str]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            if "/checkpoints" not in place(*arguments):
                return function(*arguments)
            pass_by(before)
            result = function(*arguments)
            pass_by(after)
            return result

        return wrapped

    def in_two_halves(path: Path, write: Callable[[Any], object]) -> None:
        def halves(file: IO[bytes]) -> None:
            def written(data: Any) -> None:
                half = len(data) // 2
                file.write(data[:half])
                file.flush()
                pass_by("write")
                file.write(data[half:])

            write(SimpleNamespace(write=written))

        durably(path, halves)

    durably = checkpoint.write_durably
    checkpoint.write_durably = in_two_halves  # type: ignore[assignment]
    os.fsync = around(os.fsync, "fsync", "synced", lambda fd: os.readlink(f"/proc/self/fd/{fd}"))
    os.replace = around(os.replace, "rename", "renamed", lambda _, target: str(target))


def low_disk(*, nth: int) -> None:
    """From the nth question on the disk has 1 MB left."""
    asked, usage = 0, shutil.disk_usage

    def answer(path: Any) -> Any:
        nonlocal asked
        asked += 1
        return usage(path)._replace(free=1_000_000) if asked >= nth else usage(path)

    shutil.disk_usage = answer


def tracker(*, step: int, method: str, error: str) -> None:
    """One more tracker, which raises from a step on."""

    def tell(called: str, now: int = sys.maxsize) -> None:
        if called == method and now >= step:
            raise {"RuntimeError": RuntimeError, "ConnectionError": ConnectionError}[error](
                "the tracker's server sulks"
            )

    make = train.make_tracker
    raising: Any = SimpleNamespace(
        scalars=lambda now, _: tell("scalars", now),
        picture=lambda now, *_: tell("picture", now),
        rewind=lambda _: None,
        preempted=lambda: None,
        completed=lambda _: None,
        finish=lambda *, failed: tell("finish"),
    )

    def with_one_more(setup: Any, last_step: int) -> Any:
        several = make(setup, last_step)
        if several.trackers:
            several.trackers.insert(0, raising)
        return several

    train.make_tracker = with_one_more  # type: ignore[assignment]


def nan(*, where: str, first: int, last: int | None) -> None:
    """Numbers that are not finite from this process's step ``first`` to ``last`` (null: for good).

    where: loss (and with it the gradient), value (the loss is inf, its gradient is finite), discriminator (as loss),
    weights (one of G's is overwritten).
    """
    count, step = 0, train.train_step

    def ill() -> bool:
        return first <= count <= (last or sys.maxsize)

    def spoil(owner: Any, name: str, change: Callable[[Any], Any]) -> None:
        function = getattr(owner, name)

        def wrapped(*arguments: Any, **named: Any) -> Any:
            loss, parts = function(*arguments, **named)
            return (change(loss) if ill() else loss), parts

        setattr(owner, name, wrapped)

    def counted(state: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if where == "weights" and ill():
            next(state.generator.parameters()).data.mul_(float("nan"))
        return step(state, *arguments, **named)

    train.train_step = counted  # type: ignore[assignment]
    if where == "loss":
        spoil(Objective, "generator_loss", lambda loss: loss * float("nan"))
    if where == "value":
        spoil(Objective, "generator_loss", lambda loss: loss + float("inf"))
    if where == "discriminator":
        spoil(Adversarial, "discriminator_loss", lambda loss: loss * float("nan"))


FAULTS: dict[str, Callable[..., None]] = {one.__name__: one for one in (at_save, low_disk, tracker, nan)}
NO_SPACE, IO_ERROR = errno.ENOSPC, errno.EIO

if __name__ == "__main__":
    main()
