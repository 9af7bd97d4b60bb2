"""The device and the threads a command runs on, and what could make it faster."""

import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from gan_style.runtime.machine import cores, first_line, is_shortage

Network = TypeVar("Network", bound=nn.Module)


def choose_device(name: str, threads: int | None) -> torch.device:
    """Return the device for "auto" (cuda where one works, else cpu) or by name; set the CPU's threads where asked.

    Raises ValueError for a device that is not there, or that this torch was not built for.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if name != "auto":
        return _try_device(name)
    try:
        return _try_device("cuda" if torch.cuda.is_available() else "cpu")
    except ValueError as error:
        warnings.warn(f"runtime.device=auto goes on with cpu: {error}", stacklevel=2)
        return torch.device("cpu")


def _try_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.ones(1, device=device).add_(1).item()  # torch may have no code for a GPU that is there
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"runtime.device={name} cannot be used here ({first_line(error)}); try auto or cpu") from error
    return device


def in_full_float32() -> None:
    """Make convolutions of float32 on a GPU as exact as on a CPU; torch's default, TF32, rounds to 10 bits.

    For measuring, and for line searches, which ask for more than that.
    """
    torch.backends.cudnn.allow_tf32 = False  # the newer fp32_precision would leave torch.export unable to read the flag


def move_to(network: Network, device: torch.device) -> Network:
    """Return the network on the device, its convolutions laid out for channels_last."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def compile_network(network: Network, *, option: str) -> Network:
    """Return the network, which torch compiles when it is first called, and again for other kinds of input; in place.

    Where that fails (no C++ compiler, say), forward or backward, a warning names the option and the reason, and the
    network goes on as it was. Its state_dict stays what it is.
    """
    plain, fast = network._call_impl, torch.compile(network._call_impl)
    tried: set[Any] = set()
    failed = False

    def call(*arguments: Any, **keywords: Any) -> Any:
        nonlocal failed
        if failed:
            return plain(*arguments, **keywords)
        # torch compiles the backward only when it is run, where it is too late to fall back: so it is run here once
        # for each kind of input.
        inputs = (argument for argument in [*arguments, *keywords.values()] if isinstance(argument, torch.Tensor))
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
        kind = (shapes, torch.is_grad_enabled(), torch.is_autocast_enabled(device.type))
        try:
            if kind not in tried and torch.is_grad_enabled():
                weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
                if weights:
                    torch.autograd.grad(fast(*arguments, **keywords).float().sum(), weights, allow_unused=True)
            tried.add(kind)
            return fast(*arguments, **keywords)
        except Exception as error:  # of many kinds, and torch's own have no common base
            if is_shortage(error):
                raise
            failed = True
            warnings.warn(f"{option}: torch cannot compile here ({first_line(error)}); going on without", stacklevel=2)
        return plain(*arguments, **keywords)

    network._compiled_call_impl = call  # what nn.Module.compile sets, and calls in place of _call_impl
    return network


def advice(device: torch.device, dtype: torch.dtype = torch.float32) -> Iterator[str]:
    """List what makes the work slower than it has to be on this machine; for a user to read, nothing is changed."""
    if device.type != "cpu":
        on_cuda = device.type == "cuda"
        if on_cuda and dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
            yield "this GPU emulates bfloat16, which is slow; float16 is in its hardware"
        return
    if dtype in (torch.bfloat16, torch.float16) and not _in_hardware(dtype):
        name = str(dtype).removeprefix("torch.")
        yield f"this CPU emulates {name}, which is several times slower than float32"
    elif dtype == torch.float32 and fastest_precision(device) == torch.bfloat16:
        yield "this CPU has bfloat16 in hardware, in which a step is faster; training.precision=auto takes it"
    threads, usable = torch.get_num_threads(), cores()
    if threads > usable:
        yield f"{threads} threads for {usable} cores get into each other's way; runtime.threads={usable} is faster"
    elif threads < usable and os.environ.get("OMP_NUM_THREADS") == str(threads):
        yield f"OMP_NUM_THREADS={threads} lets {usable - threads} of {usable} cores idle; try runtime.threads={usable}"


def fastest_precision(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device has it in hardware, else float32."""
    if device.type == "cuda":
        in_hardware = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        in_hardware = device.type == "cpu" and _in_hardware(torch.bfloat16)
    return torch.bfloat16 if in_hardware else torch.float32


def _in_hardware(dtype: torch.dtype) -> bool:
    capabilities: Mapping[str, Any] = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    names = {torch.bfloat16: ("avx512_bf16", "amx_bf16", "bf16"), torch.float16: ("avx512_fp16", "amx_fp16", "fp16")}
    return any(capabilities.get(name) for name in names[dtype])


def allocator() -> str:
    """Name the library that hands out the CPU's memory: jemalloc, tcmalloc, mimalloc, or "of the system"."""
    try:
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        return "of the system"
    return next((name for name in ("jemalloc", "tcmalloc", "mimalloc") if f"lib{name}" in mapped), "of the system")
