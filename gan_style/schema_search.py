"""The typed schema of ``gan-style search``, and what its types cannot say."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("none", "median", "halving")
DIRECTIONS = ("auto", "minimise", "maximise")


@dataclass
class SearchOptions:
    """See conf/search.yaml for what each means."""

    name: str = MISSING
    root: str = MISSING
    trials: int | None = None
    metric: Any = MISSING
    direction: Any = MISSING
    sampler: str = MISSING
    startup: int = MISSING
    seed: int = MISSING
    pruner: str = MISSING
    pruner_startup: int = MISSING
    pruner_warmup: int = MISSING


@dataclass
class SearchConfig:
    """The root of ``gan-style search``."""

    space: Any = MISSING
    search: SearchOptions = field(default_factory=SearchOptions)
    train: list[str] = field(default_factory=list)
    dry_run: bool = False


ROOTS: dict[str, type] = {"search": SearchConfig}


def check_search(cfg: Any) -> None:
    """What the types cannot say. ValueError in the user's words."""
    search = cfg.search
    if not str(search.name).strip(" ./"):
        raise ValueError(f"search.name={search.name!r}; give a name, which the search's folder gets")
    smallest = {"trials": 1, "startup": 0, "pruner_startup": 1, "pruner_warmup": 0}
    for name, least in smallest.items():
        if search[name] is not None and search[name] < least:
            raise ValueError(f"search.{name}={search[name]}; allowed are numbers from {least}")
    for name, allowed in {"sampler": SAMPLERS, "pruner": PRUNERS}.items():
        if search[name] not in allowed:
            raise ValueError(f"search.{name}={search[name]}; allowed are {', '.join(allowed)}")
    if search.trials is None and search.sampler != "grid":
        raise ValueError(f"search.trials=null needs search.sampler=grid; with {search.sampler} give a number")
    several = not isinstance(search.metric, str)
    if several and search.pruner != "none":
        raise ValueError(
            f"search.pruner={search.pruner} ends trials by one number, and search.metric has {len(search.metric)}, for "
            f"a Pareto front; use search.pruner=none, or one metric such as heldout/composite"
        )
