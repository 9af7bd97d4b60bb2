"""``gan-style train -m``: a sweep. Each job is a command line of its own, run by a launcher as a process of its own.

A process for each, whatever the launcher: one that is killed, or runs out of memory, takes no other along, its device's
memory is free afterwards, and its results are those of the same command line alone.
"""

import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, open_dict

from gan_style.commands.launchers import Basic, Ended, Job, Launcher
from gan_style.commands.sweep_parts import Known, Point, Summary, allocated, grid, read_index, write_index
from gan_style.config import CONFIG_PATH, build, quoted
from gan_style.runtime.files import check_place, ensure_writable, locked, write_text
from gan_style.runtime.provenance import FAILURE_FILE, read_failure
from gan_style.runtime.signals import PREEMPTED, Stop, stop_on_signals

_PLACE = ("run.root", "run.name", "run.sweep")  # what each job is told by the sweep
_ROOT, _ROOT_OF_RUNS = "sweeps", "runs"  # where sweeps go, unless run.root says something else than it does by default


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
    found = _composed(command, arguments)
    points = [(one.point, one.name) for one in found]
    folder, launcher = _folder(found), _launcher(found)
    check_place(folder, "run.root, run.sweep")
    _, own = allocated(read_index(folder), points, free)
    if found[0].cfg.dry_run:
        _show(folder, _jobs(command, folder, found, own))
        return 0
    ensure_writable(folder, "run.root, run.sweep")
    with locked(folder, "run.sweep"), stop_on_signals() as stop:
        index, own = allocated(read_index(folder), points, free)
        write_index(folder, index)
        jobs = _jobs(command, folder, found, own)
        done = {job for job, one in zip(jobs, found, strict=True) if finished(_of_job(one.cfg, folder, job))}
        summary = Summary(folder, {job.name: one.point.overrides for job, one in zip(jobs, found, strict=True)})
        for job in done:
            summary.add(job.name, 0)
        todo = [job for job in jobs if job not in done]
        print(f"{folder}: {len(jobs)} jobs, {len(done)} of them finished before", flush=True)
        _run(launcher, todo, stop, summary)
    print(summary.told(), flush=True)
    return PREEMPTED if stop.reason else summary.status()


def _composed(command: str, arguments: Sequence[str]) -> list[Composed]:
    with hydra.initialize_config_dir(str(CONFIG_PATH), version_base="1.3"):
        _forget_plugins()
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        given = parser.parse_overrides(list(arguments))
        sweeper = _compose(command, grid(given)[0]).hydra.sweeper
        if not str(sweeper.get("_target_")).endswith("BasicSweeper"):
            raise ValueError("hydra/sweeper: a sweep of gan-style is a grid (basic)")
        params = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]  # as an experiment may have them
        return [_compose(command, point) for point in grid([*parser.parse_overrides(params), *given])]


def _forget_plugins() -> None:
    """Where Hydra's plugins of our launchers' names are installed, ours would have to fit their schemas."""
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    for path in (CONFIG_PATH / "hydra" / "launcher").glob("*.yaml"):
        launchers.pop(path.name, None)


def _compose(command: str, point: Point) -> Composed:
    cfg = hydra.compose(command, point.arguments(), return_hydra_config=True)
    with open_dict(cfg):
        own = cfg.pop("hydra")
    return Composed(point, cfg, own)


def _folder(found: Sequence[Composed]) -> Path:
    """The sweep's: root/run.sweep. Without run.sweep its name is that of the runs, as the experiment has it."""
    for one in found:
        if one.name is not None and "/" in one.name:
            raise ValueError(f"run.name={one.name}: in a sweep it is the name of one folder in the sweep's")
    roots, names = ({one.cfg.run[key] for one in found} for key in ("root", "sweep"))
    if len(roots) > 1 or len(names) > 1:
        raise ValueError("run.root and run.sweep are the same for all jobs of a sweep; they cannot be swept over")
    root, name = roots.pop(), names.pop()
    if root == _ROOT_OF_RUNS and not any("run.root" in one.point.overrides for one in found):
        root = _ROOT
    if name is None:
        runs = dict.fromkeys(str(one.cfg.run.name) for one in found if one.name is None)
        name = "+".join(sorted(runs)[:4]) or "default"
    if not str(name).strip(" ./") or "/" in str(name):
        raise ValueError(f"run.sweep={name!r}; give a name, which the sweep's folder in run.root gets")
    return Path(root).expanduser() / str(name)


def _launcher(found: Sequence[Composed]) -> Launcher:
    """What hydra/launcher chooses; Hydra's own, basic, stands for ours."""
    node = found[0].hydra.launcher
    if str(node.get("_target_")).startswith("hydra."):
        return Basic()
    launcher: Launcher = build(node, "hydra.launcher")
    return launcher


def _jobs(command: str, folder: Path, found: Sequence[Composed], own: Sequence[Known]) -> list[Job]:
    return [_job(command, folder, one, known.name) for one, known in zip(found, own, strict=True)]


def _job(command: str, folder: Path, one: Composed, name: str) -> Job:
    """Its command line: the overrides of its point, and its place."""
    place = {"run.root": str(folder), "run.name": name, "run.sweep": folder.name}
    kept = [text for text in one.point.arguments() if not text.lstrip("+").startswith((*_PLACE, "hydra"))]
    placed = [f"{key}={quoted(value)}" for key, value in place.items()]
    runtime = one.cfg.runtime
    return Job(
        name,
        (sys.executable, "-m", f"gan_style.commands.{command}", *kept, *placed),
        folder=(folder / name).absolute(),
        here=Path.cwd(),
        devices=runtime.devices,
        takes_gpus=runtime.device in ("auto", "cuda"),
    )


def _of_job(cfg: DictConfig, folder: Path, job: Job) -> DictConfig:
    """The settings as the job itself finds them."""
    cfg.run.root, cfg.run.name, cfg.run.sweep = str(folder), job.name, folder.name
    return cfg


def _show(folder: Path, jobs: Iterable[Job]) -> None:
    for job in jobs:
        print(f"{job.name}:\n  {shlex.join(text for text in job.command[1:] if not text.startswith('dry_run='))}")
    print(f"dry_run=true: these are the jobs of {folder}; nothing was started or written")


def _run(launcher: Launcher, jobs: Sequence[Job], stop: Stop, summary: Summary) -> None:
    """Start what is to do, and tell and keep of each how it ends."""
    summary.write()
    if not jobs:
        return
    for ended in launcher.run(jobs, stop):
        reason = _reason(ended, stop)
        summary.add(ended.job.name, ended.status, reason=reason, seconds=ended.seconds, stopped=stop.reason is not None)
        summary.write()
        print(summary.line(ended.job.name), flush=True)


def _reason(ended: Ended, stop: Stop) -> str | None:
    """Why a job failed: what it has left in its folder; where that is nothing, what is known, which is kept there."""
    if ended.status in (0, PREEMPTED):
        return None
    reason = read_failure(ended.job.folder)
    if reason is None and stop.reason is None:
        reason = ended.words()
        ended.job.folder.mkdir(exist_ok=True)
        write_text(ended.job.folder / FAILURE_FILE, f"{reason}\n")
    return reason
