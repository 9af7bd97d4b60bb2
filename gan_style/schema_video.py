"""The typed schema of ``gan-style stylize-video``, and what its types cannot say."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from gan_style.schema_runtime import RuntimeConfig, at_least


@dataclass
class StylizeVideoConfig:
    """The root of ``gan-style stylize-video``; see conf/stylize_video.yaml for what each means."""

    checkpoint: str | None = None
    style: Any = None
    input: str = MISSING
    output: str | None = None
    strength: float = MISSING
    colours: str = MISSING
    codec: str = MISSING
    crf: Any = MISSING
    pixels: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    blend: float = MISSING
    cut: float = MISSING
    warp_error: bool = MISSING
    segment: int = MISSING
    batch: int = MISSING
    overwrite: bool = MISSING
    port: int = MISSING
    size: int | None = None
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


ROOTS: dict[str, type] = {"stylize_video": StylizeVideoConfig}


def check_stylize_video(cfg: Any) -> None:
    """What the types cannot say: ranges. ValueError in the user's words."""
    for name, least in {"segment": 1, "batch": 1, "size": 16}.items():
        at_least(cfg[name], least, name)
    if not 0 <= cfg.blend < 1:
        raise ValueError(f"blend={cfg.blend}; allowed are numbers from 0 (none) to below 1")
    if not 0 < cfg.cut <= 1:
        raise ValueError(f"cut={cfg.cut}; allowed are numbers above 0 and up to 1 (no cut is ever seen)")
    crf = cfg.crf
    if crf != "auto" and (isinstance(crf, bool) or not isinstance(crf, int | float) or not 0 <= crf <= 63):
        raise ValueError(f"crf={crf}; allowed are auto, or numbers from 0 (best) to 51, and to 63 for VP9 and AV1")
    if not 0 <= cfg.port <= 65535:
        raise ValueError(f"port={cfg.port}; allowed are 0 (any that is free) to 65535")
