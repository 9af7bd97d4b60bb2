"""What may be written over: a command's own earlier results, and with overwrite=true anything.

A result carries a mark, the hash of its command and of all that it depends on, somewhere in its file: in a picture's
note, a page's source, a JSON's key. So whatever the kind of file, looking for these bytes tells whose it is.
"""

import mmap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from gan_style.runtime.provenance import config_hash


def result_mark(command: str, settings: Mapping[str, Any]) -> str:
    """Return what marks a result of a command: 32 hex digits; settings: all that it depends on (JSON types)."""
    return config_hash({"command": command, "settings": dict(settings)})[:32]


def options_mark(command: str, options: Mapping[str, Any]) -> str:
    """Return what marks a report of a command: of the same options, whatever its models and pictures have become."""
    return result_mark(command, {k: v for k, v in options.items() if k not in ("output", "overwrite", "runtime")})


def marked_page(html: str, mark: str) -> str:
    return f"{html.rstrip()}\n<!-- {mark} -->\n"


def carries(path: Path, mark: str) -> bool:
    """Return whether a file holds a mark."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(mark.encode("ascii")) >= 0
    except (OSError, ValueError):  # a folder, or an empty file
        return False


def check_replaceable(
    outputs: Iterable[tuple[Path, Callable[[], str]]], *, overwrite: bool, option: str = "output"
) -> None:
    """ValueError, before anything is written, where an output is there and is no earlier result of the same command.

    outputs: each file with what gives its mark, which is asked for only where the file is there.
    """
    if overwrite:
        return
    foreign = [path for path, mark in outputs if (path.exists() or path.is_symlink()) and not carries(path, mark())]
    if foreign:
        more = f", and {len(foreign) - 1} more," if len(foreign) > 1 else ""
        raise ValueError(
            f"{option}: {foreign[0]}{more} is there already, and not as an earlier result of this command; "
            "give another name, or overwrite=true to replace it"
        )
