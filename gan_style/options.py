"""Declare a command's options: the type and range of each, and whether it may change when a run goes on.

Each command has a dataclass of its options at the top of its file; defaults and help stand in conf/NAME.yaml.
"""

import difflib
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields, is_dataclass
from types import NoneType
from typing import Any, get_args

# Hydra's own, whose next argument is not a plain word.
FLAGS_WITH_A_WORD = (
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    *("--experimental-rerun", "--info", "-i"),
)
SEEDS = (-(2**63), 2**63 - 1)  # the least and the most


def did_you_mean(word: Any, known: Iterable[str], most: int = 1) -> str:
    """Return " (did you mean A or B?)", for a message about a word that is not known; "" where none is near."""
    names = {name.casefold(): name for name in known}
    near = [names[name] for name in difflib.get_close_matches(str(word).casefold(), names, n=most, cutoff=0.5)]
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def as_typed(value: Any) -> str:
    """Return a value as a command line has it, for messages: null, true, 0.5, [a, b], {a: 0.5}."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {as_typed(item)}" for name, item in value.items()) + "}"
    if isinstance(value, Sequence | Set) and not isinstance(value, str | bytes):
        return f"[{', '.join(map(as_typed, value))}]"
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def listed(value: Any) -> list[str]:
    """Return the texts of an option that is one or many; none of null."""
    if value is None:
        return []
    return [str(item) for item in value] if _is_list(value) else [str(value)]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def quoted(value: str) -> str:
    """Put text in single quotes as Hydra's grammar has them: backslashes are doubled before a quote and at the end."""
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"'{escaped}'"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return a line for each setting, by dotted name, that is not what it was: "size: 3 there, 4 here"."""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [f"{key}: {as_typed(old.get(key))} there, {as_typed(new.get(key))} here" for key in keys]


def option(
    least: float | None = None,
    most: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[str] | None = None,
    path: bool = False,
    many: bool = False,
    required: bool = False,
    may_change: bool = False,
) -> Any:
    """Declare a field of a command's options.

    least, most, above, below: bounds of a number, with or without the bound itself. path: it names files, folders or
    styles, so that 2024_01 is a name and no number. many: it is one text, or a list of them (``listed`` reads it).
    required: null is refused where the type is Any. may_change: a run goes on where it differs from before; of a group,
    all that is in it.
    """
    return field(metadata={name: value for name, value in locals().items() if value is not None and value is not False})


@dataclass(kw_only=True)
class Runtime:
    """Options of every command that computes."""

    device: str
    threads: int | None = option(1)


@dataclass(kw_only=True)
class SegmentationOptions:
    """Choose who knows a picture's regions by name: a network of torchvision, or class-index masks; all null: none."""

    network: str | None
    weights: str | None = option(path=True)
    masks: str | None = option(path=True)
    names: str | None = option(path=True)


def check_options(options: type, cfg: Mapping[str, Any], prefix: str = "") -> None:
    """Raise ValueError, in the user's words, for a value outside of its option's range, and for an empty text."""
    for member in fields(options):
        name, value = prefix + member.name, cfg[member.name]
        if is_dataclass(member.type):
            check_options(member.type, value, f"{name}.")  # type: ignore[arg-type]
        else:
            _check(name, value, member.type, member.metadata)


def _check(name: str, value: Any, kind: Any, facts: Mapping[str, Any]) -> None:
    # An empty value is a shell variable that is not set, or a slip; as a path it would be the current folder.
    if any(isinstance(text, str) and not text.strip() for text in leaves(value)):
        raise ValueError(f"{name}={value!r} is empty; give a value, or null for none where that is allowed")
    if facts.get("path") and value is not None and None in leaves(value):
        raise ValueError(f"{name}={as_typed(value)}: null is the name of nothing; a file of that name is ./null")
    if value is None and facts.get("required"):
        raise ValueError(f"{name}=null: a value is needed; a file of that name is ./null")
    if facts.get("many") and value is not None and not _is_one_or_many(value):
        raise ValueError(f"{name}={as_typed(value)}: one expected, or a list of at least one such as [a,b]")
    if "choices" in facts and value is not None and value not in facts["choices"]:
        raise ValueError(f"{name}={as_typed(value)}; allowed are {', '.join(facts['choices'])}{_or_null(kind)}")
    if isinstance(value, int | float) and not isinstance(value, bool) and not _within(value, facts):
        raise ValueError(f"{name}={as_typed(value)}; allowed are {_range(facts)}{_or_null(kind)}")


def keep_tildes_of_names(options: type, cfg: Any) -> None:
    """Make the paths absolute that begin with ~ without meaning a home directory: ~t.jpg, ./~t.jpg."""
    for member in fields(options):
        value = cfg[member.name]
        if is_dataclass(member.type):
            keep_tildes_of_names(member.type, value)  # type: ignore[arg-type]
        elif member.metadata.get("path") and any(str(text).startswith(("~", "./~")) for text in leaves(value)):
            cfg[member.name] = _without_tilde(value)


def _without_tilde(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_tilde(item) for name, item in value.items()}
    if _is_list(value):
        return [_without_tilde(item) for item in value]
    text = str(value)
    is_name = text.startswith("./~") or (text.startswith("~") and os.path.expanduser(text) == text)
    return os.path.abspath(text) if is_name else value


def leaves(value: Any) -> Iterator[Any]:
    """Yield the plain values of nested containers."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if _is_list(value):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def _is_one_or_many(value: Any) -> bool:
    items = value if _is_list(value) else [value]
    return bool(items) and all(isinstance(item, str | int | float) for item in items)


def _within(value: float, facts: Mapping[str, Any]) -> bool:
    return (  # not a number is within no bounds
        ("least" not in facts or value >= facts["least"])
        and ("most" not in facts or value <= facts["most"])
        and ("above" not in facts or value > facts["above"])
        and ("below" not in facts or value < facts["below"])
    )


def _range(facts: Mapping[str, Any]) -> str:
    """Describe a range: "1 to 9", "numbers from 1", "numbers above 0 and below 1"."""
    if (facts.get("least"), facts.get("most")) == SEEDS:
        return "whole numbers of 64 bits"
    if "least" in facts and "most" in facts:
        return f"{facts['least']} to {facts['most']}"
    words_of_bounds = {"least": "from", "above": "above", "most": "up to", "below": "below"}
    return "numbers " + " and ".join(
        f"{word} {facts[name]}" for name, word in words_of_bounds.items() if facts.get(name, math.inf) < math.inf
    )


def _or_null(kind: Any) -> str:
    return ", or null" if NoneType in get_args(kind) else ""


def declared(options: Any, name: str) -> tuple[Any, Mapping[str, Any]]:
    """Return the type of the option of this dotted name and what is declared of it; (None, {}) for an unknown one."""
    kind: Any = options
    facts: Mapping[str, Any] = {}
    for part in name.split("."):
        members = {member.name: member for member in fields(kind)} if is_dataclass(kind) else {}
        if part not in members:
            return None, {}
        kind, facts = members[part].type, members[part].metadata
    return kind, facts


def may_change(options: type, name: str) -> bool:
    """Return whether a run goes on where the option of this dotted name, or the group that it is in, differs."""
    parts = name.split(".")
    groups = (".".join(parts[: end + 1]) for end in range(len(parts)))
    return any(declared(options, group)[1].get("may_change") for group in groups)
