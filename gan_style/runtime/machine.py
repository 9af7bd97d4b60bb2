"""What a process has of its machine: cores, and memory until there is none. It does not import torch."""

import os

# "alloc_failed" is cuBLAS's and cuDNN's word for it
_SHORTAGES = ("allocate memory", "out of memory", "alloc_failed")


def cores() -> int:
    """How many this process may use, which is not how many there are in a container or beside other jobs."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that there was no memory to be had: Python's, torch's on a GPU or on a CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, a RuntimeError
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in _SHORTAGES)
