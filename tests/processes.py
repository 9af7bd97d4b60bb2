"""Waiting for what another process does, with a deadline."""

import subprocess
import time
from collections.abc import Callable


def wait_until(
    happened: Callable[[], object], process: "subprocess.Popen[str] | None" = None, *, seconds: float = 120.0
) -> None:
    """Return once ``happened`` is true; AssertionError where the process ends, or the time is over, before that."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert process is None or process.poll() is None, process.stdout.read() if process.stdout else process.args
        assert time.monotonic() < deadline, f"it has not happened in {seconds:g} s"
        time.sleep(0.005)
