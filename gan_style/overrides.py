"""One word of a command line, name=value, as Hydra can read it."""

import re
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from gan_style.schema import ROOTS

# Options of many types that name files, folders or styles.
_PLACES = ("content", "style", "holdout", "checkpoint", "checkpoints", "reference", "mask", "runs", "file", "results")


def readable(name: str, argument: str, *, sweeping: bool = False) -> str:
    """key=value as Hydra can read it: a value that its grammar refuses, such as "my photo (1).jpg", gets quotes.

    So does, outside of a sweep, a value with commas, which Hydra would take for several values; and a name that it
    would take for a number and write otherwise, such as a folder 2024_01_05. In a list of FILE#STYLE each gets them.
    """
    if argument.startswith("-") or "=" not in argument:
        return argument
    key, value = argument.split("=", 1)
    if re.fullmatch(r"\[[^][{}'\"]+\]", value) and "#" in value:
        return f"{key}=[{','.join(quoted(one.strip()) for one in value[1:-1].split(','))}]"
    try:
        found = OverridesParser.create().parse_override(argument)
        meant = sweeping if found.is_sweep_override() else not _is_name(name, key, value, found.value())
        if meant:
            return argument
    except HydraException:
        pass
    return f"{key}={quoted(value)}"


def _is_name(name: str, key: str, value: str, found: Any) -> bool:
    """Whether a value that reads as a number, or as true or false, is meant as text, and would be changed."""
    if not isinstance(found, int | float) or str(found) == value:
        return False
    kind: Any = ROOTS.get(name)
    for part in key.lstrip("+").split("."):
        kind = get_type_hints(kind).get(part) if is_dataclass(kind) else None
    place = kind is Any and key.rpartition(".")[2] in _PLACES
    return kind in (str, str | None) or (place and isinstance(found, int) and "_" in value)


def quoted(value: str) -> str:
    """In single quotes as Hydra's grammar has them: backslashes are doubled before a quote and at the end."""
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"'{escaped}'"
