"""What every command's schema says of the machine that it runs on."""

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class RuntimeConfig:
    """device: auto, cpu, cuda, cuda:1 ...; threads: of the CPU, None for torch's own choice."""

    device: str = MISSING
    threads: int | None = None


def at_least(value: float | None, least: float, option: str) -> None:
    if value is not None and not value >= least:
        raise ValueError(f"{option}={value}; allowed are numbers from {least}")
