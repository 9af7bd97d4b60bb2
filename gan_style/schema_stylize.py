"""The typed schema of ``gan-style stylize``, and what its types cannot say."""

import math
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, ListConfig

from gan_style.schema_runtime import RuntimeConfig


@dataclass
class StylizeConfig:
    """The root of ``gan-style stylize``; see conf/stylize.yaml for what each means."""

    input: str = MISSING
    output: str = MISSING
    checkpoint: str | None = None
    style: Any = None
    reference: Any = None
    strength: float = MISSING
    mask: Any = None
    colours: str = MISSING
    stroke: Any = MISSING
    tile: Any = MISSING
    max_megapixels: float = MISSING
    sheet: bool = MISSING
    overwrite: bool = MISSING
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


@dataclass
class StylesConfig:
    """The root of ``gan-style styles``; see conf/styles.yaml for what each means."""

    checkpoint: str | None = None
    sheet: str | None = None
    input: str = MISSING
    size: int = MISSING
    overwrite: bool = MISSING
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def check_stylize(cfg: Any) -> None:
    """What the types cannot say and no other part looks at. ValueError in the user's words."""
    if not 0 < cfg.max_megapixels < math.inf:
        raise ValueError(f"max_megapixels={cfg.max_megapixels}; allowed are numbers above 0")
    for name, kinds in {"style": str | dict, "mask": str | dict}.items():
        value = cfg[name]
        if value is not None and not isinstance(value, kinds) and not hasattr(value, "items"):
            raise ValueError(f"{name}={value}: a name, or names in braces, expected; see gan-style stylize --help")
    if cfg.reference is not None and not isinstance(cfg.reference, str | list | ListConfig):
        raise ValueError(f"reference={cfg.reference}: a picture, or several as [a.jpg,b.jpg], expected")
