"""The typed schema of ``gan-style train``, and what its types cannot say."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass
class RunConfig:
    """Where a run keeps its files: ``root/name``; a sweep's jobs theirs: ``root/sweep/JOB``."""

    name: str = MISSING
    root: str = "runs"
    sweep: str | None = None


@dataclass
class TrainingConfig:
    """See conf/train.yaml for what each means."""

    steps: int = MISSING
    batch: int = MISSING
    warmup_steps: int = MISSING
    seed: int = MISSING
    start: str | None = None
    precision: str = MISSING
    decay: str = MISSING
    hold: float = MISSING
    clip: float | None = None
    ema_decay: float = MISSING
    log_every: int = MISSING
    sample_every: int = MISSING
    checkpoint_every: int = MISSING
    keep_checkpoints: int = MISSING
    calibration_pictures: int = MISSING
    audit_every: int = MISSING
    accumulate: int = MISSING
    recompute: bool = False
    keep_every: int | None = None
    max_time: float | None = None
    skip_patience: int = MISSING
    rollbacks: int = MISSING


@dataclass
class MetricsConfig:
    """What is measured while a run goes on; see conf/train.yaml."""

    every: int = MISSING
    names: list[str] = MISSING
    best: Any = None


@dataclass
class DataConfig:
    """See conf/train.yaml for what each means."""

    content: Any = MISSING
    style: Any = MISSING
    holdout: Any = None
    holdout_count: int = MISSING
    style_holdout_count: int | None = None
    sample_size: int = MISSING
    size: int = MISSING
    resize: tuple[int, int] = MISSING
    style_resize: tuple[int, int] | None = None
    flip: bool = MISSING
    full_strength: float = MISSING
    cache_mb: float = MISSING
    workers: int | None = None
    max_unreadable: float = MISSING


@dataclass
class OptimiserConfig:
    """One optimiser each; ``_partial_`` nodes that are given the parameters."""

    generator: Any = MISSING
    discriminator: Any = MISSING


@dataclass
class TrackingConfig:
    """Weights & Biases; see conf/train.yaml for what each means. metrics.jsonl is always written."""

    wandb: str = MISSING
    project: str = MISSING
    name: str = MISSING
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    artifacts: bool = MISSING


@dataclass
class TrainRuntimeConfig:
    """As for every command; devices: processes on this machine, each with its own device."""

    device: str = MISSING
    threads: int | None = None
    devices: int = MISSING
    compile: bool = False


@dataclass
class TrainConfig:
    """The root of ``gan-style train``."""

    run: RunConfig = field(default_factory=RunConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    data: DataConfig = field(default_factory=DataConfig)
    generator: Any = MISSING
    discriminator: Any = MISSING
    perceptual: Any = MISSING
    loss: dict[str, Any] = field(default_factory=dict)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    runtime: TrainRuntimeConfig = field(default_factory=TrainRuntimeConfig)
    dry_run: bool = False


def check_train(cfg: Any) -> None:
    """What the types cannot say: ranges, and what fits together. ValueError in the user's words."""
    training, data = cfg.training, cfg.data
    smallest = {"steps": 1, "batch": 1, "warmup_steps": 0, "log_every": 1, "sample_every": 1, "checkpoint_every": 1}
    smallest |= {"keep_checkpoints": 1, "calibration_pictures": 0, "audit_every": 0, "accumulate": 1, "keep_every": 1}
    smallest |= {"skip_patience": 1, "rollbacks": 0}
    for name, least in smallest.items():
        at_least(training[name], least, f"training.{name}")
    at_least(cfg.runtime.devices, 1, "runtime.devices")
    if training.max_time is not None and not 0 < training.max_time < math.inf:
        raise ValueError(f"training.max_time={training.max_time}; allowed are seconds above 0, or null for no limit")
    for name in ("workers", "holdout_count", "style_holdout_count", "cache_mb"):
        at_least(data[name], 0, f"data.{name}")
    at_least(cfg.metrics.every, 1, "metrics.every")
    if training.precision not in PRECISIONS:
        raise ValueError(f"training.precision={training.precision}; allowed are {', '.join(PRECISIONS)}")
    if not str(cfg.run.name).strip(" ./"):
        raise ValueError(f"run.name={cfg.run.name!r}; give a name, which the run's folder gets")
    if not -(2**63) <= training.seed < 2**63:
        raise ValueError(f"training.seed={training.seed}; allowed are whole numbers of 64 bits")
    if training.clip is not None and not 0 < training.clip < math.inf:
        raise ValueError(f"training.clip={training.clip}; allowed are numbers above 0, or null for no clipping")
    for name in ("resize", "style_resize"):
        bounds = None if data[name] is None else list(data[name])
        if bounds is not None and not (len(bounds) == 2 and data.size <= bounds[0] <= bounds[1]):
            raise ValueError(f"data.{name}={bounds}; two lengths, from data.size={data.size} upward")
    if data.size < 16 or data.sample_size < 16:
        raise ValueError(f"data.size={data.size}, data.sample_size={data.sample_size}; allowed are numbers from 16")
    if cfg.loss.get("balance") is not None and not 0 < training.audit_every <= training.warmup_steps:
        raise ValueError(
            f"loss.balance finds its weights from audits in the warm-up, and with training.warmup_steps="
            f"{training.warmup_steps} and training.audit_every={training.audit_every} there is none; "
            f"allowed for training.audit_every are 1 to training.warmup_steps"
        )
    if training.warmup_steps and "content" not in cfg.loss:
        raise ValueError(f"training.warmup_steps={training.warmup_steps} needs loss.content; set it to 0")
    check_library(cfg)
    check_reference(cfg)
    if not 0 <= data.full_strength <= 1:
        raise ValueError(f"data.full_strength={data.full_strength}; allowed are 0 to 1")
    if not 0 <= data.max_unreadable <= 1:
        raise ValueError(f"data.max_unreadable={data.max_unreadable}; allowed are 0 to 1")


def check_library(cfg: Any) -> None:
    """Several styles by name need a generator that can tell them apart, and it needs them."""
    named, target = cfg.data.style if isinstance(cfg.data.style, Mapping) else {}, cfg.generator.get("_target_", "")
    if isinstance(cfg.data.style, Mapping) and not named:
        raise ValueError("data.style={} names no style; write data.style={monet: FOLDER, wave: PICTURE}")
    library = str(target).endswith(".LibraryGenerator")
    if named and not library:
        raise ValueError(f"data.style names styles ({', '.join(map(str, named))}), which needs generator=library")
    if library and not named:
        raise ValueError(
            f"generator=library needs styles with names, got data.style={cfg.data.style}; "
            "write data.style={monet: FOLDER, wave: PICTURE}"
        )
    for name in named:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", str(name)):
            raise ValueError(f"data.style: {name!r} is no name for a style; allowed are letters, digits, - and _")


def check_reference(cfg: Any) -> None:
    """What a generator that is shown pictures of styles needs, and no other has a use for."""
    reference = by_reference(cfg)
    if cfg.data.style_holdout_count is not None and not reference:
        raise ValueError(
            f"data.style_holdout_count={cfg.data.style_holdout_count} is for generator=reference, whose samples have "
            "references that it has not seen; leave it null"
        )
    if reference and cfg.data.style_holdout_count == 0:
        raise ValueError(
            "data.style_holdout_count=0 leaves generator=reference's samples without a reference; allowed "
            "are numbers from 1, or null"
        )


def by_reference(cfg: Any) -> bool:
    """Whether the generator is shown a picture of the style that is wanted."""
    return str(cfg.generator.get("_target_", "")).endswith(".ReferenceGenerator")


def check_ranks(cfg: Any, ranks: int, pictures: int) -> None:
    """Whether a batch can be cut for so many ranks, and there are pictures for all. ValueError in the user's words."""
    parts = ranks * cfg.training.accumulate
    if cfg.training.batch % parts:
        raise ValueError(
            f"training.batch={cfg.training.batch} cannot be divided among {ranks} ranks x training.accumulate="
            f"{cfg.training.accumulate}; allowed are multiples of {parts}"
        )
    if pictures < ranks:
        raise ValueError(f"data.content: {pictures} pictures for {ranks} ranks; there have to be as many at least")


def at_least(value: float | None, least: float, option: str) -> None:
    if value is not None and not value >= least:
        raise ValueError(f"{option}={value}; allowed are numbers from {least}")
