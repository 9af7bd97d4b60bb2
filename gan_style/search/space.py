"""What a search may choose from: named options, each with a list of values or a range."""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gan_style.options import as_typed, did_you_mean, quoted

_RANGE = ("low", "high", "step", "log")
_LARGEST_GRID = 10_000


@dataclass(frozen=True)
class Categorical:
    """One of several values: numbers, booleans, None, words, and lists or mappings of these."""

    values: tuple[Any, ...]

    def examples(self) -> list[Any]:
        """List values to try the option with before anything starts."""
        return list(self.values)

    def grid(self) -> list[Any]:
        return list(self.values)


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included. whole: integers; log: even in the logarithm; step: None for any."""

    low: float
    high: float
    step: float | None = None
    log: bool = False
    whole: bool = False

    def examples(self) -> list[Any]:
        return [self.low, self.high]

    def grid(self) -> list[Any]:
        """List all values. ValueError where they cannot be counted."""
        step = self.step or (1 if self.whole and not self.log else None)
        if step is None:
            raise ValueError("search.sampler=grid needs values that can be counted: a list, or a range with a step")
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        return [round_digits(self.low + number * step) for number in range(count)]


Dimension = Categorical | Range


def round_digits(number: float) -> float:
    """Round to six digits, for people to read; integers as they are."""
    return number if isinstance(number, int) else float(f"{number:.6g}")


def read_space(content: Any, whole: Callable[[str], bool]) -> dict[str, Dimension]:
    """Return {"loss.style.weight": Range(...), ...} from nested or dotted names, in their order.

    whole: whether an option takes integers; its ranges are ranges of integers then. ValueError in the user's words.
    """
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"space={as_typed(content)}: options with their values or ranges expected, such as {_EXAMPLE}")
    space: dict[str, Dimension] = {}
    for name, leaf in _leaves(content):
        if name in space:
            raise ValueError(f"space.{name} is given twice")
        if not isinstance(leaf, list):
            space[name] = _range(name, leaf, whole(name))
            continue
        if not leaf:
            raise ValueError(f"space.{name}=[]: give at least one value")
        kinds = [(type(value), to_literal(value)) for value in leaf]  # 1, 1.0 and true are not the same
        if doubled := [value for number, value in enumerate(leaf) if kinds[number] in kinds[:number]]:
            raise ValueError(f"space.{name}: {doubled[0]} is given twice")
        space[name] = Categorical(tuple(leaf))
    return space


_EXAMPLE = "{loss.style.weight: {low: 0.1, high: 3, log: true}, training.seed: [0, 1]}"


def _leaves(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, list) or (isinstance(value, Mapping) and set(value) & set(_RANGE)):
            yield name, value
        elif isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{name}.")
        else:
            expected = "a list of values, or a range such as {low: 1, high: 10}"
            raise ValueError(f"space.{name}={as_typed(value)}: {expected}, expected")


def _range(name: str, content: Mapping[str, Any], whole: bool) -> Range:
    option = f"space.{name}"
    for key in content:
        if key not in _RANGE:
            raise ValueError(f"there is no {option}.{key}{did_you_mean(key, _RANGE)}; allowed are {', '.join(_RANGE)}")
    for key in ("low", "high"):
        if key not in content:
            raise ValueError(f"{option}.{key} is missing: a range has low and high")
    log = content.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"{option}.log={as_typed(log)}; allowed are true and false")
    low, high = (_number(f"{option}.{key}", content[key], whole) for key in ("low", "high"))
    step = None if content.get("step") is None else _number(f"{option}.step", content["step"], whole)
    if low > high:
        raise ValueError(f"{option}: low={low:g} is above high={high:g}")
    if log and low <= 0:
        raise ValueError(f"{option}: log=true needs a low above 0, not {low:g}")
    if log and step is not None:
        raise ValueError(f"{option}: log=true and step={step:g} do not go together; give one of them")
    if step is not None and not 0 < step <= max(high - low, step if low == high else 0.0):
        raise ValueError(f"{option}.step={step:g}; allowed are numbers above 0, up to high - low = {high - low:g}")
    return Range(low, high, step, log, whole)


def _number(option: str, value: Any, whole: bool) -> float:
    """Read a number as the option that is searched over has it: an int or a float."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        value = float(value)  # YAML 1.1 takes 1e-4 for a word
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{option}={as_typed(value)}; allowed are finite numbers")
    if whole and value != int(value):
        raise ValueError(f"{option}={as_typed(value)}; the option takes whole numbers")
    return int(value) if whole else float(value)


def grid(space: Mapping[str, Dimension]) -> list[dict[str, Any]]:
    """List every combination, the last option fastest. ValueError where they cannot be counted or are too many."""
    values = {}
    for name, dimension in space.items():
        try:
            values[name] = dimension.grid()
        except ValueError as error:
            raise ValueError(f"space.{name}: {error}") from None
    if (count := math.prod(len(points) for points in values.values())) > _LARGEST_GRID:
        raise ValueError(f"the grid has {count:,} points; allowed are {_LARGEST_GRID:,}")
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


def override(name: str, value: Any) -> str:
    return f"{name}={to_literal(value)}"


def to_literal(value: Any) -> str:
    """Return a value in Hydra's grammar; floats to the last bit."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(to_literal, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{to_literal(item)}" for key, item in value.items()) + "}"
    text = str(value)
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", text) and text.lower() not in ("null", "true", "false", "nan", "inf"):
        return text
    return quoted(text)
