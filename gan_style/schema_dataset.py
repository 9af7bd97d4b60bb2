"""The typed schemas of ``gan-style make-dataset`` and ``verify-dataset``, and what their types cannot say."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from gan_style.dataset.layouts.recognise import LAYOUTS

_CHOICES = {
    "input_layout": ("auto", *LAYOUTS),
    "output_layout": ("auto", "folder", "webdataset", "coco"),
    "format": ("keep", "jpg", "png", "webp"),
    "color": ("keep", "rgb"),
    "precision": ("float32", "bfloat16"),
    "score": ("none", "structure", "full"),
    "manifest": ("auto", "parquet", "jsonl"),
    "engine": ("local", "slurm", "ray"),
}


@dataclass
class GateConfig:
    """See conf/make_dataset.yaml for what each means."""

    structure_min: float | None = None
    tries: int = MISSING


@dataclass
class DatasetRuntimeConfig:
    """device: auto, cpu, cuda, cuda:1 ...; devices: how many processes; io_threads: in each."""

    device: str = MISSING
    devices: int = MISSING
    io_threads: int = MISSING


@dataclass
class SlurmConfig:
    """engine=slurm; see conf/make_dataset.yaml for what each means."""

    local: bool = False
    tasks: int = MISSING
    at_once: int = MISSING
    partition: str | None = None
    time: int = MISSING
    gpus: int = MISSING
    cpus: int = MISSING
    memory_gb: float | None = None
    timeouts: int = MISSING
    more: Any = None


@dataclass
class RayConfig:
    """engine=ray; see conf/make_dataset.yaml for what each means."""

    address: str | None = None
    actors: int = MISSING
    gpus: float = MISSING
    cpus: float = MISSING


@dataclass
class MakeDatasetConfig:
    """The root of ``gan-style make-dataset``; see conf/make_dataset.yaml for what each means."""

    checkpoint: Any = None
    style: Any = None
    reference: Any = None
    weights: list[float] | None = None
    input: str = MISSING
    input_layout: str = MISSING
    output: str = MISSING
    output_layout: str = MISSING
    carry: list[str] = MISSING
    size: Any = MISSING
    copies: int = MISSING
    strength: Any = MISSING
    keep_fraction: float = MISSING
    seed: int = MISSING
    format: str = MISSING
    color: str = MISSING
    quality: int = MISSING
    lossless: bool = MISSING
    png_level: int = MISSING
    max_pixels: int = MISSING
    precision: str = MISSING
    batch: int = MISSING
    batch_pixels: int = MISSING
    shard_size: int = MISSING
    threads_per_worker: int = MISSING
    score: str = MISSING
    gate: GateConfig = field(default_factory=GateConfig)
    manifest: str = MISSING
    max_failures: int = MISSING
    retry_failed: bool = False
    extend: bool = False
    dry_run: bool = False
    engine: str = MISSING
    shard_index: int = MISSING
    shard_count: int = MISSING
    runtime: DatasetRuntimeConfig = field(default_factory=DatasetRuntimeConfig)
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    ray: RayConfig = field(default_factory=RayConfig)


@dataclass
class VerifyDatasetConfig:
    """The root of ``gan-style verify-dataset``; see conf/verify_dataset.yaml for what each means."""

    output: str = MISSING
    input: str | None = None
    repair: bool = False


def check_make_dataset(cfg: Any) -> None:
    """Ranges, and what fits together. ValueError in the user's words."""
    for name, allowed in _CHOICES.items():
        if cfg[name] not in allowed:
            raise ValueError(f"{name}={cfg[name]}; allowed are {', '.join(allowed)}")
    ones = ("copies", "batch", "batch_pixels", "shard_size", "threads_per_worker", "shard_count", "max_pixels")
    for name in ones:
        _within(cfg[name], 1, None, name)
    for name, (least, most) in {"quality": (1, 100), "png_level": (0, 9), "keep_fraction": (0, 1)}.items():
        _within(cfg[name], least, most, name)
    _within(cfg.copies, 1, 1000, "copies")
    _within(cfg.max_pixels, 1, 178_000_000, "max_pixels")
    _within(cfg.max_failures, 0, None, "max_failures")
    _within(cfg.gate.tries, 0, 20, "gate.tries")
    _within(cfg.runtime.devices, 1, None, "runtime.devices")
    _within(cfg.runtime.io_threads, 1, None, "runtime.io_threads")
    _within(cfg.shard_index, 0, cfg.shard_count - 1, "shard_index")
    _check_engine(cfg)
    if cfg.gate.structure_min is not None and cfg.score == "none":
        raise ValueError(f"gate.structure_min={cfg.gate.structure_min} needs score=structure or score=full")
    if cfg.size != "keep" and not (isinstance(cfg.size, int) and not isinstance(cfg.size, bool) and cfg.size >= 1):
        raise ValueError(f"size={cfg.size}; allowed are keep, or the length of the short side in pixels")
    if cfg.extend and cfg.retry_failed:
        raise ValueError("extend=true and retry_failed=true: one after the other")
    strength_range(cfg.strength)


def _check_engine(cfg: Any) -> None:
    for option in ("slurm.tasks", "slurm.at_once", "slurm.time", "slurm.cpus", "ray.actors"):
        node, name = option.split(".")
        _within(cfg[node][name], 1, None, option)
    for option in ("slurm.gpus", "slurm.timeouts", "ray.gpus", "ray.cpus"):
        node, name = option.split(".")
        _within(cfg[node][name], 0, None, option)
    if not (cfg.slurm.more is None or hasattr(cfg.slurm.more, "items")):
        raise ValueError(f"slurm.more={cfg.slurm.more}; names and values such as {{account: me}} expected")
    if cfg.engine != "local" and cfg.runtime.devices != 1:
        count = {"slurm": "slurm.tasks", "ray": "ray.actors"}[cfg.engine]
        raise ValueError(f"runtime.devices={cfg.runtime.devices} belongs to engine=local; here it is {count}=...")


def strength_range(strength: Any) -> tuple[float, float]:
    """(least, most) of a number or a list of two. ValueError for anything else."""
    pair = (strength, strength) if isinstance(strength, int | float) else strength
    try:
        least, most = (float(value) for value in pair)
    except (TypeError, ValueError):
        raise ValueError(f"strength={strength}; a number, or two such as [0.5,1.0], expected") from None
    if not 0 <= least <= most <= 1:
        raise ValueError(f"strength={strength}; allowed are 0 to 1, the smaller one first")
    return least, most


def _within(value: float, least: float, most: float | None, option: str) -> None:
    if not (value >= least and (most is None or value <= most)):
        allowed = f"numbers from {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{option}={value}; allowed are {allowed}")
