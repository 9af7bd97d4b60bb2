"""``gan-style train -m``: a sweep. Each job is a command line of its own, run by a launcher as a process of its own.

A process for each, whatever the launcher: one that is killed, or runs out of memory, takes no other along, its device's
memory is free afterwards, and its results are those of the same command line alone.
"""

import hashlib
import itertools
import json
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, open_dict

from gan_style.commands.launchers import Basic, JobEnd, Launcher, SweepJob
from gan_style.config import CONFIG_PATH, build, quoted
from gan_style.runtime.files import check_place, ensure_writable, locked, write_bytes, write_text
from gan_style.runtime.provenance import FAILURE_FILE, read_failure
from gan_style.runtime.signals import PREEMPTED, Stop, stop_on_signals

_PLACE = ("run.root", "run.name", "run.sweep")  # what each job is told by the sweep
_ROOT, _ROOT_OF_RUNS = "sweeps", "runs"  # where sweeps go, unless run.root says something else than it does by default
INDEX_FILE, SUMMARY_FILE = "sweep.json", "summary.json"
FORMAT = "gan_style.sweep/1"
FINISHED, FAILED, STOPPED, WAITING = "finished", "failed", "stopped", "not started"
_LONGEST = 100  # characters of a folder's name


# The grid, and the folder of each of its points


@dataclass(frozen=True)
class Point:
    """A combination of the grid. overrides: {name: value} as given, None for ~name; swept: names of several values."""

    overrides: dict[str, str | None]
    swept: frozenset[str]

    def arguments(self) -> list[str]:
        """As on the command line."""
        return [key if value is None else f"{key}={value}" for key, value in self.overrides.items()]

    def identity(self, free: Callable[[str], bool]) -> dict[str, str | None]:
        """What makes a job the same one another time: its overrides, whatever their order and the writing of numbers.

        Those that are ``free``, which may change when a job goes on, count only where they are swept over.
        """
        fixed = tuple(key for key in self.overrides if key not in self.swept and _is_free(key, free))
        return {key: _canonical(self.overrides[key]) for key in sorted(self.overrides) if key not in fixed}


def _is_free(key: str, free: Callable[[str], bool]) -> bool:
    name = key.lstrip("+~")
    return free(name) or name.startswith(("hydra.", "hydra/"))


def _canonical(value: str | None) -> str | None:
    """1, 1.0 and 1e0 are one number; what is none stays as it is."""
    if value is None:
        return None
    try:
        return str(int(value))
    except ValueError:
        pass
    try:
        number = float(value)
    except ValueError:
        return value
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)


def grid(overrides: Sequence[Override]) -> list[Point]:
    """All combinations of the values, the last option's changing fastest. Of one given twice the last counts."""
    axes: dict[str, list[str | None]] = {}
    swept = set()
    for override in overrides:
        key = override.get_key_element()
        axes[key] = _values(override)
        swept.discard(key)
        if override.is_sweep_override():
            swept.add(key)
    if of_hydra := [key for key in swept if key.startswith("hydra")]:
        raise ValueError(f"{of_hydra[0]} is the same for all jobs of a sweep; it cannot be swept over")
    return [
        Point(dict(zip(axes, values, strict=True)), frozenset(swept)) for values in itertools.product(*axes.values())
    ]


def _values(override: Override) -> list[str | None]:
    if not override.is_sweep_override():
        _, text, value = (override.input_line or "").partition("=")
        return [value if text else None]
    if not override.is_discrete_sweep():
        raise ValueError(f"{override.input_line}: a sweep takes values one by one, such as 1,2,3 or range(1,4)")
    values: list[str | None] = list(override.sweep_string_iterator())
    if not values:
        raise ValueError(f"{override.input_line}: this chooses nothing; there is no such choice")
    return values


@dataclass(frozen=True)
class Known:
    """A job that a sweep's folder knows: its own folder's name, and its Point.identity."""

    name: str
    overrides: dict[str, str | None]


def read_index(folder: Path) -> list[Known]:
    """The jobs that a sweep has had so far, in the order of their numbers. ValueError for a damaged index."""
    path = folder / INDEX_FILE
    if not path.is_file():
        return []
    try:
        return [Known(str(entry["name"]), dict(entry["overrides"])) for entry in json.loads(path.read_bytes())["jobs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); choose another run.sweep") from error


def write_index(folder: Path, index: Sequence[Known]) -> None:
    """Keep it, whole or not at all."""
    jobs = [{"name": known.name, "overrides": known.overrides} for known in index]
    write_bytes(folder / INDEX_FILE, json.dumps({"format": FORMAT, "jobs": jobs}, indent=1).encode() + b"\n")


def allocated(
    index: Sequence[Known], points: Sequence[tuple[Point, str | None]], free: Callable[[str], bool]
) -> tuple[list[Known], list[Known]]:
    """(the index with what is new, the points' own entries of it in their order).

    A point that the index knows keeps its folder, others get the next numbers: so a grid may grow, shrink, or be given
    in another order. A point with a name has that for its folder. ValueError where two have the same folder.
    """
    whole, own = list(index), []
    for point, name in points:
        identity = point.identity(free)
        known = next((entry for entry in whole if entry.overrides == identity), None)
        if known is None:
            others = [point.identity(free) for point, _ in points] + [entry.overrides for entry in whole]
            differing = {
                k: point.overrides[k] for k in point.overrides if k in identity and _differs(k, identity, others)
            }
            known = Known(name or folder_name(len(whole), differing), identity)
            _check_new(known, whole)
            whole.append(known)
        own.append(known)
    for job in own:
        if own.count(job) > 1:
            raise ValueError(f"two jobs of the sweep have the same settings, and so one folder: {job.name}")
    return whole, own


def _differs(key: str, identity: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> bool:
    missing = object()
    return any(other.get(key, missing) != identity[key] for other in others)


def _check_new(new: Known, index: Sequence[Known]) -> None:
    for entry in index:
        if entry.name == new.name:
            raise ValueError(
                f"run.name={new.name} gives two jobs of the sweep one folder; leave it out (each gets a folder with a "
                f"number and its overrides; run.sweep names the sweep), or have the options in it: "
                f"run.name='seed${{training.seed}}'"
            )


def folder_name(number: int, overrides: Mapping[str, str | None]) -> str:
    """007-loss.style.weight_3+training.seed_1: letters, digits and ._+- alone, so that Hydra and shells can read it.

    Longer ones are cut, and end in a hash of the whole. The number has three digits or more, however many jobs there
    are.
    """
    parts = [
        f"without-{key.lstrip('~')}" if value is None else f"{key.lstrip('+')}_{value}"
        for key, value in overrides.items()
    ]
    whole = "+".join(parts)
    text = re.sub(r"[^\w.+-]+", "-", whole, flags=re.ASCII).strip("-.")
    name = f"{number:03d}-{text}" if text else f"{number:03d}"
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.blake2b(whole.encode(), digest_size=4).hexdigest()
    return f"{name[: _LONGEST - len(digest) - 1]}-{digest}"


def label_of_job(folder: Path) -> str | None:
    """003 style.weight=3 seed=1: what a job differs from its sweep's others in; None for a folder that is no job's."""
    folder = folder.resolve()
    try:
        index = read_index(folder.parent)
    except ValueError:
        return None
    own = next((entry for entry in index if entry.name == folder.name), None)
    if own is None:
        return None
    others = [entry.overrides for entry in index]
    keys = [key for key in own.overrides if _differs(key, own.overrides, others)]
    every = {key for overrides in others for key in overrides}
    parts = [f"{_short(key, every)}={own.overrides[key]}" for key in keys if own.overrides[key] is not None]
    parts += [f"without {key.lstrip('~')}" for key in keys if own.overrides[key] is None]
    return " ".join([f"{index.index(own):03d}", *parts])


def _short(key: str, every: Collection[str]) -> str:
    """A dotted name without its first part, where no other of them ends so."""
    _, _, end = key.lstrip("+").partition(".")
    is_unique = sum(f".{other}".endswith(f".{end}") for other in every) == 1
    return end if end and is_unique else key


def _read_summary(folder: Path) -> dict[str, dict[str, Any]]:
    """{name: what an earlier command has said of a job}; nothing where there is none, or none that can be read."""
    try:
        content = json.loads((folder / SUMMARY_FILE).read_bytes())
        return {str(job["name"]): dict(job) for job in [*content["jobs"], *content["other_jobs"]]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


class Summary:
    """How a sweep's jobs have ended, kept in its folder. jobs: {name: overrides} of this command, in their order; what
    earlier commands have said of the sweep's other jobs is kept beside them."""

    def __init__(self, folder: Path, jobs: Mapping[str, Mapping[str, str | None]]) -> None:
        self.folder = folder
        self.others = [summary for name, summary in _read_summary(folder).items() if name not in jobs]
        self.jobs: dict[str, dict[str, Any]] = {
            name: {"name": name, "overrides": dict(overrides), "status": WAITING} for name, overrides in jobs.items()
        }

    def add(
        self,
        name: str,
        exit_status: int,
        *,
        reason: str | None = None,
        seconds: float | None = None,
        stopped: bool = False,
    ) -> None:
        """One has ended. stopped: the whole sweep was asked to end, so that only one with a reason has failed."""
        failed = exit_status not in (0, PREEMPTED) and (reason is not None or not stopped)
        status = FINISHED if exit_status == 0 else FAILED if failed else STOPPED
        self.jobs[name] |= {"status": status, "exit_status": exit_status}
        self.jobs[name] |= {"reason": reason} if failed else {}
        self.jobs[name] |= {} if seconds is None else {"seconds": round(seconds, 1)}

    def names(self, status: str) -> list[str]:
        """Of the jobs that have ended so."""
        return [name for name, job in self.jobs.items() if job["status"] == status]

    def status(self) -> int:
        """0: all finished; 75: the same command goes on, as some are stopped or not started; else the highest of the
        jobs that failed."""
        if self.names(STOPPED) or self.names(WAITING):
            return PREEMPTED
        return max((self.jobs[name]["exit_status"] for name in self.names(FAILED)), default=0)

    def write(self) -> None:
        counts = {status: len(self.names(status)) for status in (FINISHED, FAILED, STOPPED, WAITING)}
        content: dict[str, Any] = {"format": FORMAT, "sweep": self.folder.name, "counts": counts}
        content |= {"jobs": list(self.jobs.values()), "other_jobs": self.others}
        write_bytes(self.folder / SUMMARY_FILE, json.dumps(content, indent=1).encode() + b"\n")

    def line(self, name: str) -> str:
        """What is said when a job has ended."""
        job, count = self.jobs[name], len(self.jobs)
        reason = f": {job['reason']}" if job.get("reason") else ""
        ended = f"{job['status']} after {job.get('seconds', 0):.0f} s{reason}"
        return f"{name}: {ended} ({count - len(self.names(WAITING))} of {count})"

    def text(self) -> str:
        """What is said at the end: how many have ended how, which failed and why, and what to do."""
        counts = ", ".join(
            f"{len(names)} {s}" for s in (FINISHED, FAILED, STOPPED, WAITING) if (names := self.names(s))
        )
        lines = [f"{self.folder}: {counts}"]
        lines += [f"  failed:  {name}: {self.jobs[name]['reason']}" for name in self.names(FAILED)]
        lines += [f"  {status}: {name}" for status in (STOPPED, WAITING) for name in self.names(status)]
        if len(lines) > 1:
            lines.append("the same command goes on with these, and leaves the finished ones alone")
        return "\n".join([*lines, f"summary: {self.folder / SUMMARY_FILE}"])


# The sweep


@dataclass(frozen=True)
class Composed:
    """A point of the grid with its settings: the command's own, and Hydra's."""

    point: Point
    cfg: DictConfig
    hydra: DictConfig

    @property
    def name(self) -> str | None:
        """Its folder's name, where run.name is given; None where the overrides make it."""
        return str(self.cfg.run.name) if "run.name" in self.point.overrides else None


def sweep(
    arguments: Sequence[str], *, command: str, free: Callable[[str], bool], finished: Callable[[DictConfig], bool]
) -> int:
    """Run ``command`` for all combinations of its arguments' values; the status, as in Summary.status.

    free: whether the option of a name may change when a job goes on; finished: whether the folder of a job's
    settings holds a whole run. ValueError for what is no sweep or has two jobs in one folder; nothing is written then.
    """
    composed = _composed(command, arguments)
    points = [(item.point, item.name) for item in composed]
    folder, launcher = _folder(composed), _launcher(composed)
    check_place(folder, "run.root, run.sweep")
    _, own = allocated(read_index(folder), points, free)
    if composed[0].cfg.dry_run:
        _show(folder, _jobs(command, folder, composed, own))
        return 0
    ensure_writable(folder, "run.root, run.sweep")
    with locked(folder, "run.sweep"), stop_on_signals() as stop:
        index, own = allocated(read_index(folder), points, free)
        write_index(folder, index)
        jobs = _jobs(command, folder, composed, own)
        done = {job for job, item in zip(jobs, composed, strict=True) if finished(_of_job(item.cfg, folder, job))}
        summary = Summary(folder, {job.name: item.point.overrides for job, item in zip(jobs, composed, strict=True)})
        for job in done:
            summary.add(job.name, 0)
        todo = [job for job in jobs if job not in done]
        print(f"{folder}: {len(jobs)} jobs, {len(done)} of them finished before", flush=True)
        _run(launcher, todo, stop, summary)
    print(summary.text(), flush=True)
    return PREEMPTED if stop.reason else summary.status()


def _composed(command: str, arguments: Sequence[str]) -> list[Composed]:
    with hydra.initialize_config_dir(str(CONFIG_PATH), version_base="1.3"):
        # Where Hydra's plugins of our launchers' names are installed, ours would have to fit their schemas.
        launchers = ConfigStore.instance().repo["hydra"]["launcher"]
        for path in (CONFIG_PATH / "hydra" / "launcher").glob("*.yaml"):
            launchers.pop(path.name, None)
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        overrides = parser.parse_overrides(list(arguments))
        sweeper = _compose(command, grid(overrides)[0]).hydra.sweeper
        if not str(sweeper.get("_target_")).endswith("BasicSweeper"):
            raise ValueError("hydra/sweeper: a sweep of gan-style is a grid (basic)")
        params = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]  # as an experiment may have them
        return [_compose(command, point) for point in grid([*parser.parse_overrides(params), *overrides])]


def _compose(command: str, point: Point) -> Composed:
    cfg = hydra.compose(command, point.arguments(), return_hydra_config=True)
    with open_dict(cfg):
        own = cfg.pop("hydra")
    return Composed(point, cfg, own)


def _folder(composed: Sequence[Composed]) -> Path:
    """The sweep's: root/run.sweep. Without run.sweep its name is that of the runs, as the experiment has it."""
    for item in composed:
        if item.name is not None and "/" in item.name:
            raise ValueError(f"run.name={item.name}: in a sweep it is the name of one folder in the sweep's")
    roots, names = ({item.cfg.run[key] for item in composed} for key in ("root", "sweep"))
    if len(roots) > 1 or len(names) > 1:
        raise ValueError("run.root and run.sweep are the same for all jobs of a sweep; they cannot be swept over")
    root, name = roots.pop(), names.pop()
    if root == _ROOT_OF_RUNS and not any("run.root" in item.point.overrides for item in composed):
        root = _ROOT
    if name is None:
        runs = dict.fromkeys(str(item.cfg.run.name) for item in composed if item.name is None)
        name = "+".join(sorted(runs)[:4]) or "default"
    if not str(name).strip(" ./") or "/" in str(name):
        raise ValueError(f"run.sweep={name!r}; give a name, which the sweep's folder in run.root gets")
    return Path(root).expanduser() / str(name)


def _launcher(composed: Sequence[Composed]) -> Launcher:
    """What hydra/launcher chooses; Hydra's own, basic, stands for ours."""
    node = composed[0].hydra.launcher
    if str(node.get("_target_")).startswith("hydra."):
        return Basic()
    launcher: Launcher = build(node, "hydra.launcher")
    return launcher


def _jobs(command: str, folder: Path, composed: Sequence[Composed], own: Sequence[Known]) -> list[SweepJob]:
    return [_job(command, folder, item, known.name) for item, known in zip(composed, own, strict=True)]


def _job(command: str, folder: Path, composed: Composed, name: str) -> SweepJob:
    """Its command line: the overrides of its point, and its place."""
    place = {"run.root": str(folder), "run.name": name, "run.sweep": folder.name}
    arguments = [text for text in composed.point.arguments() if not text.lstrip("+").startswith((*_PLACE, "hydra"))]
    placed = [f"{key}={quoted(value)}" for key, value in place.items()]
    runtime = composed.cfg.runtime
    return SweepJob(
        name,
        (sys.executable, "-m", f"gan_style.commands.{command}", *arguments, *placed),
        folder=(folder / name).absolute(),
        here=Path.cwd(),
        devices=runtime.devices,
        takes_gpus=runtime.device in ("auto", "cuda"),
    )


def _of_job(cfg: DictConfig, folder: Path, job: SweepJob) -> DictConfig:
    """The settings as the job itself finds them."""
    cfg.run.root, cfg.run.name, cfg.run.sweep = str(folder), job.name, folder.name
    return cfg


def _show(folder: Path, jobs: Iterable[SweepJob]) -> None:
    for job in jobs:
        print(f"{job.name}:\n  {shlex.join(text for text in job.command[1:] if not text.startswith('dry_run='))}")
    print(f"dry_run=true: these are the jobs of {folder}; nothing was started or written")


def _run(launcher: Launcher, jobs: Sequence[SweepJob], stop: Stop, summary: Summary) -> None:
    """Start what is to do, and tell and keep of each how it ends."""
    summary.write()
    if not jobs:
        return
    for ended in launcher.run(jobs, stop):
        reason = _reason(ended, stop)
        summary.add(ended.job.name, ended.status, reason=reason, seconds=ended.seconds, stopped=stop.reason is not None)
        summary.write()
        print(summary.line(ended.job.name), flush=True)


def _reason(ended: JobEnd, stop: Stop) -> str | None:
    """Why a job failed: what it has left in its folder; where that is nothing, what is known, which is kept there."""
    if ended.status in (0, PREEMPTED):
        return None
    reason = read_failure(ended.job.folder)
    if reason is None and stop.reason is None:
        reason = ended.message()
        ended.job.folder.mkdir(exist_ok=True)
        write_text(ended.job.folder / FAILURE_FILE, f"{reason}\n")
    return reason
