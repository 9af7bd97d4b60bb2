"""Where a result comes from: versions, git state, data and settings of a run, what made a picture, and its mark.

Nothing here tells of a person or a machine: no absolute paths, no user's and no host's name.

A result carries a mark, the hash of its command and of all that it depends on, somewhere in its file: in a picture's
note, a page's source, a JSON's key. So whatever the kind of file, looking for these bytes tells whose it is. A command
writes over its own earlier results, and with overwrite=true over anything.
"""

import hashlib
import json
import mmap
import os
import platform
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from gan_style import __version__
from gan_style.runtime.files import write_json, write_text
from gan_style.runtime.machine import has_lost_neighbour

FORMAT = "gan_style.provenance/1"
PROVENANCE_FILE = "provenance.json"  # in a run's folder
FAILURE_FILE = "failure.txt"  # there too, where a run has ended with an error
_CHECKOUT = Path(__file__).resolve().parents[2]
_CODE = ("gan_style", "conf", "pyproject.toml")  # what in a checkout decides about results
_SECONDS_FOR_GIT = 20
_LONGEST_SETTINGS = 20_000  # characters, in a picture's metadata


def provenance(
    *, settings: Mapping[str, Any], seed: int, style: str | None, data: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Record what a run's result depends on (JSON types).

    settings: the resolved config; style: as style_name gives it; data: a fingerprint for each set by its name.
    """
    return {
        "gan_style": __version__,
        "git": git_state(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "libraries": {name: version for name in requirements()[""] if (version := installed_version(name)) is not None},
        "config": config_hash(settings),
        "seed": seed,
        "style": style,
        "data": {name: dict(record) for name, record in data.items()},
    }


def record(folder: Path, record: Mapping[str, Any], *, step: int = 0) -> None:
    """Keep ``record`` in a run's provenance.json, as what holds from ``step`` finished steps on.

    A run that goes on as before adds nothing; one that goes on with other code, libraries or data adds an entry.
    """
    before = [entry for entry in read_record(folder) if entry.get("from_step", 0) < step]
    if not before or {key: value for key, value in before[-1].items() if key != "from_step"} != dict(record):
        before.append({"from_step": step, **record})
    write_json(folder / PROVENANCE_FILE, {"format": FORMAT, "entries": before})


def read_record(folder: Path) -> list[dict[str, Any]]:
    """Return a run's entries, in the order of their steps; none where there is no file, or no whole one."""
    try:
        content = json.loads((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    entries = content.get("entries") if isinstance(content, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def picture_note(
    *, checkpoint: str, style: str | None, strength: float, seed: int | None, **more: Any
) -> dict[str, Any]:
    """Make the note in a picture's metadata (images.encode).

    checkpoint: sha256 of the file that made it; style: its name, where it is known; strength: 1 is the style in full;
    seed: of what was drawn, None where nothing was; more: JSON types, such as step=20000.
    """
    fields = {"checkpoint": checkpoint, "style": style, "strength": strength, "seed": seed}
    return {"gan_style": __version__, **fields, **more}


def optimisation_note(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Make the note of a picture that was optimised: settings by dotted name, or their hash where they are long.

    Of a path its last part.
    """
    note = {"gan_style": __version__, "command": "optimise"}
    options = {name: _without_folders(value) for name, value in settings.items() if value is not None}
    return note | (options if len(json.dumps(options)) < _LONGEST_SETTINGS else {"settings": config_hash(options)})


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(item) for item in value]
    return os.path.basename(value) if isinstance(value, str) else value


def config_hash(settings: Mapping[str, Any]) -> str:
    """Return the sha256 of plain containers, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).hexdigest()


def fingerprint(paths: Iterable[Path]) -> dict[str, Any]:
    """Return {"files": count, "bytes": in all, "sha256": of their names and sizes}; no contents are read.

    Names are those below the folder that the files have in common, so that the same data elsewhere have the same hash;
    neither does the order matter. A file that is gone counts as one of -1 bytes.
    """
    files = sorted({os.path.abspath(path) for path in paths})
    common = os.path.commonpath([os.path.dirname(file) for file in files]) if files else ""
    digest, total = hashlib.sha256(), 0
    for file in files:
        try:
            size = os.stat(file).st_size
        except OSError:
            size = -1
        total += max(0, size)
        digest.update(b"%d %s\0" % (size, os.fsencode(os.path.relpath(file, common)).replace(b"\\", b"/")))
    return {"files": len(files), "bytes": total, "sha256": digest.hexdigest()}


def changed_since(folder: Path, sets: Mapping[str, Iterable[Path]]) -> set[str]:
    """Name the sets that are others than those that the run in this folder was trained on last."""
    record = read_record(folder)
    data = record[-1].get("data") if record else None
    fingerprints = data if isinstance(data, dict) else {}
    return {name for name, paths in sets.items() if fingerprints.get(name) not in (None, fingerprint(paths))}


def style_name(spec: Any) -> str:
    """Shorten what data.style names to a name: the last part of a path, without suffix; several are joined by "+"."""
    if isinstance(spec, str):
        parts = [part for part in re.split(r"[/\\:]", spec) if part not in ("", ".", "..", "~")]
        plain = [part for part in parts if not re.search(r"[*?\[\]]", part)]
        return Path(plain[-1]).stem if plain else "style"
    names = list(dict.fromkeys(style_name(str(item)) for item in spec))
    return "+".join(names[:4]) + (f"+{len(names) - 4} more" if len(names) > 4 else "")


def git_state() -> dict[str, Any] | None:
    """Return {"commit": ..., "dirty": whether code or conf/ differ from it}; None without a checkout or git."""
    if not (_CHECKOUT / ".git").exists():
        return None
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", *_CODE)
    return None if commit is None or changes is None else {"commit": commit.strip(), "dirty": bool(changes.strip())}


def _git(*arguments: str) -> str | None:
    """Run git in the checkout; nothing is written there, and no other repository is asked."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        process = subprocess.run(
            ["git", "-C", str(_CHECKOUT), *arguments],
            env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=_SECONDS_FOR_GIT,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout if process.returncode == 0 else None


def installed_version(name: str) -> str | None:
    """Return the version of an installed distribution; None where it is not."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def requirements() -> dict[str, list[str]]:
    """Return {extra: names of distributions}, under "" what is always needed, as pyproject.toml or the package says."""
    project = _CHECKOUT / "pyproject.toml"
    if project.is_file() and (project_table := tomllib.loads(project.read_text(encoding="utf-8"))["project"]):
        lines_of = {"": project_table["dependencies"], **project_table["optional-dependencies"]}
        return {extra: _names(lines) for extra, lines in lines_of.items()}
    try:
        lines = requires("gan_style") or []
    except PackageNotFoundError:
        return {"": []}
    by_extra: dict[str, list[str]] = {"": []}
    for line in lines:
        match = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        by_extra.setdefault(match[1] if match else "", []).append(line)
    return {extra: _names(lines) for extra, lines in by_extra.items()}


def _names(lines: Iterable[str]) -> list[str]:
    """Return the distributions that requirements name, gan_style's own extras aside."""
    names = [match[0] for line in lines if (match := re.match(r"[\w.-]+", line))]
    return [name for name in names if name.replace("-", "_") != "gan_style"]


@contextmanager
def note_failure(folder: Path) -> Iterator[None]:
    """Remove the folder's failure.txt for the block; where that raises an error, write one that says why.

    Being stopped (Ctrl-C, a signal) is no failure: the run can go on.
    """
    path = folder / FAILURE_FILE
    path.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        if folder.is_dir():
            reason = "another rank has ended" if has_lost_neighbour(error) else str(error) or type(error).__name__
            write_text(path, f"{reason}\n")
        raise


def read_failure(folder: Path) -> str | None:
    """Read why a run has failed, in a line; None where it has not."""
    try:
        lines = (folder / FAILURE_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line for line in lines if line.strip()), "for an unknown reason")


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
    """Raise ValueError, before anything is written, where an output is there that this command has not made.

    outputs: each file with what gives its mark, which is asked for only where the file is there.
    """
    if overwrite:
        return
    foreign = [path for path, mark in outputs if (path.exists() or path.is_symlink()) and not carries(path, mark())]
    if foreign:
        more = f", and {len(foreign) - 1} more," if len(foreign) > 1 else ""
        problem = f"{foreign[0]}{more} is there already, and not as an earlier result of this command"
        raise ValueError(f"{option}: {problem}; give another name, or overwrite=true to replace it")
