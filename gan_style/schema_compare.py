"""The typed schemas of ``gan-style compare``, ``info`` and ``doctor``, and what their types cannot say."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from gan_style.schema_runtime import RuntimeConfig


@dataclass
class CompareConfig:
    """The root of ``gan-style compare``; see conf/compare.yaml for what each means."""

    runs: Any = MISSING
    output: str = MISSING
    curves: list[str] | None = None
    content: Any = None
    pictures: int = MISSING
    size: int = MISSING
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


@dataclass
class InfoConfig:
    """The root of ``gan-style info``."""

    file: Any = MISSING


@dataclass
class DoctorDataConfig:
    """What is counted; as in conf/train.yaml under data."""

    content: Any = None
    style: Any = None


@dataclass
class DoctorConfig:
    """The root of ``gan-style doctor``; see conf/doctor.yaml for what each means."""

    data: DoctorDataConfig = field(default_factory=DoctorDataConfig)
    folders: list[str] = MISSING
    wandb: str = MISSING


ROOTS: dict[str, type] = {"compare": CompareConfig, "info": InfoConfig, "doctor": DoctorConfig}


def check_compare(cfg: Any) -> None:
    """What the types cannot say. ValueError in the user's words."""
    for name, least in {"pictures": 0, "size": 16}.items():
        if cfg[name] < least:
            raise ValueError(f"{name}={cfg[name]}; allowed are numbers from {least}")
