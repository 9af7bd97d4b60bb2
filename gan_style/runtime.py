"""The device and the threads a command runs on."""

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def choose_device(name: str, threads: int | None) -> torch.device:
    """ "auto" (cuda where there is one, else cpu) or a torch device by name; sets the CPU's threads where asked.

    Raises ValueError for a device that is not there.
    """
    if threads is not None:
        if threads < 1:
            raise ValueError(f"runtime.threads={threads}; allowed are numbers from 1, or null for torch's choice")
        torch.set_num_threads(threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"runtime.device={name} cannot be used here ({first}); try auto or cpu") from error
    return device


def placed(network: Network, device: torch.device) -> Network:
    """The network on the device, its convolutions laid out for channels_last."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
