"""What the benchmarks of speed share: fair timing, measured ceilings, peak memory, tables."""

import ctypes
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from gan_style.runtime.machine import keep_freed_memory

Row = Mapping[str, Any]


def synchronise(device: torch.device) -> None:
    """Wait for a device that works on its own."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """How long one call takes, from nothing under way to nothing under way.

    One CPU thread is timed in core-seconds, which leave out the time for which others had the core.
    """
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    synchronise(device)
    begun = clock()
    function()
    synchronise(device)
    return clock() - begun


def return_freed_memory() -> None:
    """Have glibc give freed memory back as a process without keep_freed_memory does once it has run for a while."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD: how far they grow by themselves
        libc.mallopt(-1, 64 << 20)
        libc.malloc_trim(0)


def alternate(
    ways: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device,
    warm: int = 1,
    plain: Sequence[str] | None = None,
) -> dict[str, list[float]]:
    """The seconds of each way, one call each in turn, so that what else the machine does falls on all of them.

    Every other round goes backward; ``warm`` rounds come first that do not count. plain: ways that have the allocator
    as it is; the others keep what they free, as our commands do, and the first of either kind is called once before.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    kept = None
    for number in range(-warm, rounds):
        order = list(ways)[:: 1 if number % 2 else -1]
        for name in order:
            if plain is not None and kept is not (name not in plain):
                kept = name not in plain
                keep_freed_memory() if kept else return_freed_memory()
                ways[name]()
            taken = seconds(ways[name], device)
            if number >= 0:
                found[name].append(taken)
    return found


def middle(values: Iterable[float]) -> float:
    return statistics.median(values)


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median of the rounds' own ratios: what slows a whole round leaves it alone."""
    return middle(a / b for a, b in zip(over, under, strict=True))


def flops(function: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions in one call, a multiply-add as two."""
    with FlopCounterMode(display=False) as counter:
        function()
    total: int = counter.get_total_flops()
    return total


@torch.no_grad()
def ceiling(device: torch.device, dtype: torch.dtype, rounds: int = 7) -> float:
    """FLOP/s of the best of a few large 3x3 convolutions in channels_last: what this machine can do with the type."""
    best = 0.0
    batch = 64 if device.type == "cuda" else 4
    for channels, size in ((128, 128), (256, 64), (512, 32)):
        x, weight = (
            torch.randn(*shape, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
            for shape in ((batch, channels, size, size), (channels, channels, 3, 3))
        )

        def convolve(x: torch.Tensor = x, weight: torch.Tensor = weight) -> torch.Tensor:
            return F.conv2d(x, weight, padding=1)

        convolve()
        fastest = min(seconds(convolve, device) for _ in range(rounds))
        best = max(best, 18 * batch * (size * channels) ** 2 / fastest)
    return best


def peak_memory(work: Callable[..., None], *arguments: Any) -> float:
    """MB that ``work(*arguments)`` takes at its peak, in a fresh process; arguments have to be picklable.

    On a CPU resident memory beyond what it was when ``work`` was called, on CUDA the allocator's own peak.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_watched, args=(theirs, work, arguments))
    process.start()
    theirs.close()
    try:
        return float(ours.recv())
    except EOFError:
        raise SystemExit("a measurement of memory failed; see above") from None
    finally:
        process.join()


def _watched(pipe: Any, work: Callable[..., None], arguments: Sequence[Any]) -> None:
    threads = next((one.threads for one in arguments if hasattr(one, "threads")), None)
    torch.set_num_threads(threads or 1)
    torch.ones(8, 8) @ torch.ones(8, 8)  # the libraries' own buffers are not the work's
    on_cuda = torch.cuda.is_available() and not any(getattr(one, "device", "") == "cpu" for one in arguments)
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    before = resident("VmRSS")
    work(*arguments)
    pipe.send(torch.cuda.max_memory_allocated() / 1e6 if on_cuda else resident("VmHWM") - before)


def resident(kind: str) -> float:
    """This process's resident memory in MB: VmRSS now, VmHWM at its highest."""
    return int(Path("/proc/self/status").read_text().split(f"{kind}:")[1].split()[0]) / 1000


def machine(device: torch.device) -> str:
    """What was measured on, in words."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        name = str(known.get("cpu_name", platform.machine()))
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def markdown(rows: Sequence[Row]) -> str:
    """A table, of the names in the first row."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row.get(name, "")) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
