"""Commands in processes of their own, and waiting for what they do, with a deadline."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gan_style

REPOSITORY = Path(gan_style.__file__).parents[1]  # the checkout that is tested


def start(module: str, *arguments: str, own_group: bool = False) -> "subprocess.Popen[str]":
    """Start ``python -m gan_style.MODULE`` with one thread; all that it says is in its stdout."""
    return subprocess.Popen(
        [sys.executable, "-m", f"gan_style.{module}", *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=own_group,
    )


def finish(process: "subprocess.Popen[str]", *, seconds: float = 120.0) -> tuple[int, str]:
    """Return a process's status and what it said; AssertionError where it hangs."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"it hangs: {process.communicate()[0]}") from None
    return process.returncode, output


def wait_until(
    happened: Callable[[], object], process: "subprocess.Popen[str] | None" = None, *, seconds: float = 120.0
) -> None:
    """Return once ``happened`` is true; AssertionError where the process ends, or the time is over, before that."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert process is None or process.poll() is None, process.stdout.read() if process.stdout else process.args
        assert time.monotonic() < deadline, f"it has not happened in {seconds:g} s"
        time.sleep(0.005)
