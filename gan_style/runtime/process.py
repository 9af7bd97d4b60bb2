"""A command line as a process of its own: followed, asked to save itself by SIGTERM, and never left behind.

A process and not a call: what crashes it (a fault in a library, memory, a device) ends one run and no other; ranks
start from it as from the command line; and the signal that it is asked with is the one on which every run saves itself.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from gan_style.runtime.files import locked
from gan_style.runtime.signals import PREEMPTED, die_with

_LOOK_EVERY = 0.1  # seconds
_PATIENCE = 120.0  # seconds that a run which a killed command has left is waited for


def run_process(
    command: Sequence[str],
    should_stop: Callable[[], str | None],
    *,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> tuple[str, int]:
    """Run a command to its end; return why it was asked to stop ("" where it was not) and its exit status.

    should_stop: called several times a second; a reason asks the process to end (SIGTERM). log: what its output is
    added to, in place of the terminal; environment: added to ours. The status is as a shell has it, 128 + its signal
    for a killed one. The process does not outlive us: it is asked to save itself where we end, or are killed.
    """
    stop_reason = ""
    with ExitStack() as stack:
        output = stack.enter_context(open(log, "ab")) if log else None
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            cwd=cwd,
            env=os.environ | dict(environment or {}),
            start_new_session=True,  # Ctrl-C is for us, who pass on what we make of it
            preexec_fn=partial(die_with, os.getpid(), signal.SIGTERM),
        )
        try:
            while process.poll() is None:
                reason = should_stop()
                if reason and not stop_reason:
                    stop_reason = reason
                    process.terminate()
                time.sleep(_LOOK_EVERY)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait()
    if process.returncode == PREEMPTED and not stop_reason:
        time.sleep(_LOOK_EVERY)  # a signal to all processes may have reached it first
        stop_reason = should_stop() or ""
    return stop_reason, process.returncode if process.returncode >= 0 else 128 - process.returncode


def await_folder(folder: Path, patience: float = _PATIENCE) -> None:
    """Wait until no process works in a run's folder; ValueError where one still does after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while (folder / ".lock").exists():
        try:
            with locked(folder):
                return
        except ValueError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_EVERY)


def last_line(log: Path) -> str:
    """Return the last line that a process printed; "" where it printed none."""
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
