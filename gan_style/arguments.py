"""What a config gives to a function or class, against what that takes; in the user's words."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any


def check_arguments(function: Any, arguments: Mapping[str, Any], given: Mapping[str, Any], option: str) -> None:
    """Names against the signature, and plain types against its annotations or, lacking those, its defaults.

    given: arguments that the config does not hold; option: for messages. Raises ValueError.
    """
    parameters = inspect.signature(function).parameters
    for name, value in arguments.items():
        if name not in parameters:
            known = [other for other in parameters if other not in given]
            raise ValueError(f"there is no {option}.{name}{nearest(name, known)}; allowed are {', '.join(known)}")
        expected = parameters[name].annotation
        if expected not in (bool, int, float, str):
            expected = type(parameters[name].default)
            expected = float if expected is int else expected
        if expected in (bool, int, float, str) and not _fits(value, expected):
            raise ValueError(f"{option}.{name}={value}: {expected.__name__} expected, got {type(value).__name__}")
    for name, parameter in parameters.items():
        needed = parameter.default is inspect.Parameter.empty and parameter.kind is inspect.Parameter.KEYWORD_ONLY
        if needed and name not in arguments and name not in given:
            raise ValueError(f"{option}.{name} is missing")


def _fits(value: Any, expected: type) -> bool:
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, expected) and (expected is bool or not isinstance(value, bool))


def nearest(word: str, known: list[str]) -> str:
    """The known word that is meant, as a question to end a message with; nothing where none is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""
