"""``gan-style train -m``: a sweep. Each job is a command line of its own, run by a launcher as a process of its own.

A process for each, whatever the launcher: one that is killed, or runs out of memory, takes no other along, its device's
memory is free afterwards, and its results are those of the same command line alone.
"""

import hashlib
import itertools
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
from gan_style.config import CONFIG_PATH, build
from gan_style.options import quoted
from gan_style.runtime.files import check_place, ensure_writable, locked, write_json, write_text
from gan_style.runtime.provenance import FAILURE_FILE, read_failure
from gan_style.runtime.signals import PREEMPTED, Stop, stop_on_signals

_PLACE = ("run.root", "run.name", "run.sweep")  # what each job is told by the sweep
_ROOT, _ROOT_OF_RUNS = "sweeps", "runs"  # where sweeps go, unless run.root says something else than it does by default
SUMMARY_FILE = "summary.json"
FORMAT = "gan_style.sweep/1"
FINISHED, FAILED, STOPPED, WAITING = "finished", "failed", "stopped", "not started"
_LONGEST = 100  # characters of a folder's name


def sweep(arguments: Sequence[str], *, command: str, finished: Callable[[DictConfig], bool]) -> int:
    """Run ``command`` for all combinations of its arguments' values; the status, as in Summary.status.

    finished: whether the folder of a job's settings holds a whole run. ValueError for what is no sweep or has two jobs
    in one folder; nothing is written then.
    """
    # Compose every point of the grid, and give each its folder.
    composed = _compose_grid(command, arguments)
    folder, node = _folder(composed), composed[0].hydra.launcher
    is_basic = str(node.get("_target_")).startswith("hydra.")  # Hydra's own, basic, for which ours stands
    launcher: Launcher = Basic() if is_basic else build(node, "hydra.launcher")
    check_place(folder, "run.root, run.sweep")
    names = _job_names(composed)
    jobs = [_job(command, folder, item, name) for item, name in zip(composed, names, strict=True)]
    if composed[0].cfg.dry_run:
        for job in jobs:
            print(f"{job.name}:\n  {shlex.join(text for text in job.command[1:] if not text.startswith('dry_run='))}")
        print(f"dry_run=true: these are the jobs of {folder}; nothing was started or written")
        return 0

    # Run those that are not finished, and keep how each ends.
    ensure_writable(folder, "run.root, run.sweep")
    with locked(folder, "run.sweep"), stop_on_signals() as stop:
        summary = Summary(folder, {name: item.point for name, item in zip(names, composed, strict=True)})
        for item, name in zip(composed, names, strict=True):
            item.cfg.run.root, item.cfg.run.name, item.cfg.run.sweep = str(folder), name, folder.name
            if finished(item.cfg):
                summary.add(name, 0)
        waiting = [job for job in jobs if job.name in summary.names(WAITING)]
        print(f"{folder}: {len(jobs)} jobs, {len(jobs) - len(waiting)} of them finished before", flush=True)
        summary.write()
        for end in launcher.run(waiting, stop) if waiting else ():
            reason, stopped = _reason(end, stop), stop.reason is not None
            summary.add(end.job.name, end.status, reason=reason, seconds=end.seconds, stopped=stopped)
            summary.write()
            print(summary.line(end.job.name), flush=True)
    print(summary.text(), flush=True)
    return PREEMPTED if stop.reason else summary.status()


# The grid, and the folder of each of its points

Point = Mapping[str, str | None]  # a combination of the grid: {name: value} as given, None for ~name


@dataclass(frozen=True)
class Composed:
    """A point of the grid with its settings: the command's own, and Hydra's. swept: the names of several values."""

    point: Point
    swept: frozenset[str]
    cfg: DictConfig
    hydra: DictConfig


def grid(overrides: Sequence[Override]) -> tuple[list[Point], frozenset[str]]:
    """Return all combinations of the values, the last option's changing fastest, and the options that have several.

    Of an option that is given twice the last counts.
    """
    axes: dict[str, list[str | None]] = {}
    swept = set()
    for override in overrides:
        key = override.get_key_element()
        swept.discard(key)
        if not override.is_sweep_override():
            _, text, value = (override.input_line or "").partition("=")
            axes[key] = [value if text else None]
            continue
        if key.startswith("hydra"):
            raise ValueError(f"{key} is the same for all jobs of a sweep; it cannot be swept over")
        if not override.is_discrete_sweep():
            raise ValueError(f"{override.input_line}: a sweep takes values one by one, such as 1,2,3 or range(1,4)")
        axes[key] = list(override.sweep_string_iterator())
        if not axes[key]:
            raise ValueError(f"{override.input_line}: this chooses nothing; there is no such choice")
        swept.add(key)
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())], frozenset(swept)


def _compose_grid(command: str, arguments: Sequence[str]) -> list[Composed]:
    with hydra.initialize_config_dir(str(CONFIG_PATH), version_base="1.3"):
        # Where Hydra's plugins of our launchers' names are installed, ours would have to fit their schemas.
        launchers = ConfigStore.instance().repo["hydra"]["launcher"]
        for path in (CONFIG_PATH / "hydra" / "launcher").glob("*.yaml"):
            launchers.pop(path.name, None)

        # An experiment may have a grid of its own.
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        overrides = parser.parse_overrides(list(arguments))
        sweeper = _compose(command, grid(overrides)[0][0], frozenset()).hydra.sweeper
        if not str(sweeper.get("_target_")).endswith("BasicSweeper"):
            raise ValueError("hydra/sweeper: a sweep of gan-style is a grid (basic)")
        params = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
        points, swept = grid([*parser.parse_overrides(params), *overrides])
        if not swept:
            raise ValueError("-m sweeps over nothing: give an option several values, as in training.seed=0,1")
        return [_compose(command, point, swept) for point in points]


def _compose(command: str, point: Point, swept: frozenset[str]) -> Composed:
    arguments = [key if value is None else f"{key}={value}" for key, value in point.items()]
    cfg = hydra.compose(command, arguments, return_hydra_config=True)
    with open_dict(cfg):
        hydra_settings = cfg.pop("hydra")
    return Composed(point, swept, cfg, hydra_settings)


def _folder(composed: Sequence[Composed]) -> Path:
    """Return the sweep's folder: root/run.sweep. Without run.sweep it is named after the runs."""
    roots, names = ({item.cfg.run[key] for item in composed} for key in ("root", "sweep"))
    if len(roots) > 1 or len(names) > 1:
        raise ValueError("run.root and run.sweep are the same for all jobs of a sweep; they cannot be swept over")
    root, name = roots.pop(), names.pop()
    if root == _ROOT_OF_RUNS and "run.root" not in composed[0].point:
        root = _ROOT
    if name is None:
        runs = {str(item.cfg.run.name) for item in composed if "run.name" not in item.point}
        name = "+".join(sorted(runs)[:4]) or "default"
    if not str(name).strip(" ./") or "/" in str(name):
        raise ValueError(f"run.sweep={name!r}; give a name, which the sweep's folder in run.root gets")
    return Path(root).expanduser() / str(name)


def _job_names(composed: Sequence[Composed]) -> list[str]:
    """Name each job's folder: run.name if given, else the values that are swept over. ValueError for two alike."""
    names = []
    for item in composed:
        is_named = "run.name" in item.point
        name = str(item.cfg.run.name) if is_named else folder_name({key: item.point[key] for key in sorted(item.swept)})
        if is_named and "/" in name:
            raise ValueError(f"run.name={name}: in a sweep it is the name of one folder in the sweep's")
        if name in names and is_named:
            hint = "leave it out (run.sweep names the sweep), or have options in it: run.name='seed${training.seed}'"
            raise ValueError(f"run.name={name} gives two jobs of the sweep one folder; {hint}")
        if name in names:
            raise ValueError(f"two jobs of the sweep have the same settings, and so one folder: {name}")
        names.append(name)
    return names


def folder_name(overrides: Point) -> str:
    """Name a folder, loss.style.weight_3+training.seed_1, of what Hydra and shells can read: letters, digits, ._+-

    A name that is cut, or has other characters replaced, ends in a hash of the whole.
    """
    whole = "+".join(f"{key.lstrip('+')}_{value}" for key, value in overrides.items())
    name = re.sub(r"[^\w.+-]+", "-", whole, flags=re.ASCII).strip("-.") or "job"
    if name == whole and len(name) <= _LONGEST:
        return name
    digest = hashlib.blake2b(whole.encode(), digest_size=4).hexdigest()
    return f"{name[: _LONGEST - len(digest) - 1]}-{digest}"


def _job(command: str, folder: Path, composed: Composed, name: str) -> SweepJob:
    """Build a point's job: its command line with the overrides, and its place."""
    place = {"run.root": str(folder), "run.name": name, "run.sweep": folder.name}
    options = {k: v for k, v in composed.point.items() if not k.lstrip("+").startswith((*_PLACE, "hydra"))}
    arguments = [key if value is None else f"{key}={value}" for key, value in options.items()]
    placed = [f"{key}={quoted(value)}" for key, value in place.items()]
    return SweepJob(
        name,
        (sys.executable, "-m", f"gan_style.commands.{command}", *arguments, *placed),
        folder=(folder / name).absolute(),
        directory=Path.cwd(),
        devices=composed.cfg.runtime.devices,
        takes_gpus=composed.cfg.runtime.device in ("auto", "cuda"),
    )


# How jobs end


class Summary:
    """Keep how a sweep's jobs have ended, in its folder. jobs: {name: overrides}, in their order."""

    def __init__(self, folder: Path, jobs: Mapping[str, Point]) -> None:
        self.folder = folder
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
        """Note that a job has ended. stopped: the sweep was asked to end, so that only one with a reason has failed."""
        failed = exit_status not in (0, PREEMPTED) and (reason is not None or not stopped)
        status = FINISHED if exit_status == 0 else FAILED if failed else STOPPED
        self.jobs[name] |= {"status": status, "exit_status": exit_status}
        self.jobs[name] |= {"reason": reason} if failed else {}
        self.jobs[name] |= {} if seconds is None else {"seconds": round(seconds, 1)}

    def names(self, status: str) -> list[str]:
        return [name for name, job in self.jobs.items() if job["status"] == status]

    def status(self) -> int:
        """Return 0: all finished; 75: the same command goes on; else the highest of the jobs that failed."""
        if self.names(STOPPED) or self.names(WAITING):
            return PREEMPTED
        return max((self.jobs[name]["exit_status"] for name in self.names(FAILED)), default=0)

    def write(self) -> None:
        counts = {status: len(self.names(status)) for status in (FINISHED, FAILED, STOPPED, WAITING)}
        content = {"format": FORMAT, "sweep": self.folder.name, "counts": counts, "jobs": list(self.jobs.values())}
        write_json(self.folder / SUMMARY_FILE, content)

    def line(self, name: str) -> str:
        job, count = self.jobs[name], len(self.jobs)
        reason = f": {job['reason']}" if job.get("reason") else ""
        ended = f"{job['status']} after {job.get('seconds', 0):.0f} s{reason}"
        return f"{name}: {ended} ({count - len(self.names(WAITING))} of {count})"

    def text(self) -> str:
        """Write the closing lines: how many have ended how, which failed and why, and what to do."""
        counts = Counter(job["status"] for job in self.jobs.values())
        parts = [f"{counts[status]} {status}" for status in (FINISHED, FAILED, STOPPED, WAITING) if counts[status]]
        lines = [f"{self.folder}: {', '.join(parts)}"]
        lines += [f"  failed:  {name}: {self.jobs[name]['reason']}" for name in self.names(FAILED)]
        lines += [f"  {status}: {name}" for status in (STOPPED, WAITING) for name in self.names(status)]
        if len(lines) > 1:
            lines.append("the same command goes on with these, and leaves the finished ones alone")
        return "\n".join([*lines, f"summary: {self.folder / SUMMARY_FILE}"])


def _reason(end: JobEnd, stop: Stop) -> str | None:
    """Return why a job failed, as its folder says; where it does not, what is known is written there."""
    if end.status in (0, PREEMPTED):
        return None
    reason = read_failure(end.job.folder)
    if reason is None and stop.reason is None:
        reason = end.message()
        end.job.folder.mkdir(exist_ok=True)
        write_text(end.job.folder / FAILURE_FILE, f"{reason}\n")
    return reason
