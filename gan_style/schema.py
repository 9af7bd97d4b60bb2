"""The typed schema of each root config: a mistyped key or a wrong type fails before anything runs."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from gan_style import schema_compare, schema_search
from gan_style.schema_dataset import MakeDatasetConfig, VerifyDatasetConfig
from gan_style.schema_runtime import RuntimeConfig, at_least


@dataclass
class LayersConfig:
    """Layers of the perceptual network, for each of its uses."""

    content: list[str] = MISSING
    style: list[str] = MISSING
    embedding: list[str] = MISSING


@dataclass
class EvaluateConfig:
    """The root of ``gan-style evaluate``; see conf/evaluate.yaml for what each means."""

    checkpoint: Any = MISSING
    content: Any = None
    style: Any = None
    output: str | None = None
    metrics: Any = None
    size: int = MISSING
    max_pictures: int | None = None
    max_unreadable: float = MISSING
    calibration_pictures: int = MISSING
    layers: LayersConfig = field(default_factory=LayersConfig)
    inception_weights: str | None = None
    report_pictures: int = MISSING
    perceptual: Any = MISSING
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


@dataclass
class StudyConfig:
    """The root of ``gan-style study``; see conf/study.yaml for what each means."""

    checkpoints: Any = None
    content: Any = None
    style: Any = None
    size: int = MISSING
    questions: int = MISSING
    repeats: int = MISSING
    allow_ties: bool = MISSING
    style_pictures: int = MISSING
    title: str = MISSING
    results: Any = None
    output: str | None = None
    seed: int = MISSING
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


ROOTS: dict[str, type] = {
    "evaluate": EvaluateConfig,
    "study": StudyConfig,
    "make_dataset": MakeDatasetConfig,
    "verify_dataset": VerifyDatasetConfig,
    **schema_compare.ROOTS,
    **schema_search.ROOTS,
}


def check_evaluate(cfg: Any) -> None:
    """What the types cannot say. ValueError in the user's words."""
    at_least(cfg.size, 16, "size")
    at_least(cfg.max_pictures, 1, "max_pictures")
    at_least(cfg.calibration_pictures, 0, "calibration_pictures")
    at_least(cfg.report_pictures, 0, "report_pictures")
    if not 0 <= cfg.max_unreadable <= 1:
        raise ValueError(f"max_unreadable={cfg.max_unreadable}; allowed are 0 to 1")
    for name, layers in cfg.layers.items():
        if not layers:
            raise ValueError(f"layers.{name}=[]: give at least one layer, such as [relu3_1]")


def check_study(cfg: Any) -> None:
    """What the types cannot say. ValueError in the user's words."""
    if (cfg.checkpoints is None) == (cfg.results is None):
        raise ValueError(
            "give either checkpoints=[runs/a,runs/b], to write a page, or results=[a.json,b.json], to read its answers"
        )
    made = {"content": cfg.content, "style": cfg.style, "output": cfg.output}
    if cfg.checkpoints is not None and (missing := [name for name, value in made.items() if value is None]):
        raise ValueError(f"{missing[0]}=... is missing: checkpoints=... needs {', '.join(made)}")
    if cfg.results is not None and (useless := [name for name in ("content", "style") if made[name] is not None]):
        raise ValueError(f"{useless[0]}=... belongs to checkpoints=...; results=... needs none")
    suffix = ".html" if cfg.results is None else ".json"
    if cfg.output is not None and not str(cfg.output).lower().endswith(suffix):
        raise ValueError(f"output={cfg.output}; allowed is a name that ends in {suffix}")
    for name, least in {"size": 16, "questions": 1, "repeats": 0, "style_pictures": 1}.items():
        at_least(cfg[name], least, name)
    if 2 * cfg.repeats > cfg.questions:
        raise ValueError(f"repeats={cfg.repeats}; allowed are 0 to half of questions={cfg.questions}")
    if not -(2**63) <= cfg.seed < 2**63:
        raise ValueError(f"seed={cfg.seed}; allowed are whole numbers of 64 bits")
