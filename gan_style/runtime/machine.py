"""What a process has of its machine: cores, memory until there is none, and errors. It does not import torch."""

import ctypes
import os
import platform
import re

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of mallopt(3)
_LARGE = 3 << 25  # bytes; holes between kept arrays of this size cost more memory than clearing their pages costs time
# "alloc_failed" is cuBLAS's and cuDNN's word for it
_SHORTAGES = ("allocate memory", "out of memory", "alloc_failed")


def cores() -> int:
    """Count the cores that this process may use, which are fewer in a container or beside other jobs."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> bool:
    """Have glibc keep what this process frees for what it allocates next; True where there is a glibc to do so.

    By itself it gives arrays from 32 MB back to the system at once, which then has to clear each page of the next one:
    up to a third of a step's time. Here only those from _LARGE on are given back, and threads share one arena: those of
    their own keep nothing from 64 MB on. For processes of our own; a library leaves its caller's allocator alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = {_M_MMAP_THRESHOLD: _LARGE, _M_TRIM_THRESHOLD: (1 << 31) - 1, _M_ARENA_MAX: 1}
    return all(libc.mallopt(name, value) for name, value in settings.items())


def is_shortage(error: BaseException) -> bool:
    """Return whether an error says that there was no memory to be had: Python's, torch's on a GPU or on a CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, a RuntimeError
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in _SHORTAGES)


def first_line(error: BaseException) -> str:
    """Return an error's first line that says anything, else its kind."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def has_lost_neighbour(error: BaseException) -> bool:
    """Return whether a rank has failed as another one has gone, by what torch.distributed raises in all backends."""
    pattern = r"(?i)connection (closed|reset|refused|was closed)|closed by peer|broken pipe|gloo|nccl|recvValue"
    is_distributed = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return is_distributed and not isinstance(error, ValueError | OSError) and bool(re.search(pattern, str(error)))
