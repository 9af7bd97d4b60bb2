"""``gan-style make-dataset``: stylize a whole labelled dataset; the same command again does what is missing."""

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gan_style.cli import TOO_MANY_FAILURES, command
from gan_style.commands.dataset_job import Job, device_of, make_worker, settings_of, threads_of, with_absolute_paths
from gan_style.commands.dataset_styles import (
    StyleSource,
    check_references,
    check_regions,
    find_styles,
    listed_references,
    plan_of,
    read_pairs,
)
from gan_style.config import plain
from gan_style.dataset.engines.local import ShardProgress, run_here, run_processes
from gan_style.dataset.journal import STATE, only_one
from gan_style.dataset.layouts.recognise import LAYOUTS, Inventory, open_layout, output_kind
from gan_style.dataset.manifest import Documents, Merge, Stopped, manifest_kind
from gan_style.dataset.naming import Names, names_of, scheme_of
from gan_style.dataset.plan import (
    Plan,
    Shard,
    check_facts,
    check_listing,
    check_settings,
    new_samples,
    read_plan,
    write_plan,
)
from gan_style.dataset.sample import Layout, Sample, printable, some
from gan_style.dataset.sampling import strength_range
from gan_style.options import SegmentationOptions, as_typed, check_options, option
from gan_style.runtime.files import ensure_writable
from gan_style.runtime.progress import warn
from gan_style.runtime.signals import PREEMPTED, Stop, stop_on_signals

# Options: defaults and help are in conf/make_dataset.yaml.


@dataclass(kw_only=True)
class GateOptions:
    structure_min: float | None
    tries: int = option(0, 20)


@dataclass(kw_only=True)
class DatasetRuntime:
    device: str
    devices: int = option(1)
    io_threads: int = option(1)


@dataclass(kw_only=True)
class SlurmOptions:
    local: bool
    tasks: int = option(1)
    at_once: int = option(1)
    partition: str | None
    time: int = option(1)
    gpus: int = option(0)
    cpus: int = option(1)
    memory_gb: float | None
    timeouts: int = option(0)
    more: Any


@dataclass(kw_only=True)
class RayOptions:
    address: str | None
    actors: int = option(1)
    gpus: float = option(0)
    cpus: float = option(0)


@dataclass(kw_only=True)
class MakeDatasetOptions:
    checkpoint: Any = option(path=True, many=True)
    style: Any = option(path=True, many=True)
    reference: Any = option(path=True, many=True)
    weights: list[float] | None
    pairs: str | None = option(path=True)
    input: str = option(path=True)
    input_layout: str = option(choices=("auto", *LAYOUTS))
    output: str = option(path=True)
    output_layout: str = option(choices=("auto", "folder", "webdataset", "coco"))
    carry: list[str]
    size: Any
    copies: int = option(1, 1000)
    strength: Any
    mask: Any = option(path=True)
    regions: int | None = option(2, 12)
    segmentation: SegmentationOptions
    keep_fraction: float = option(0, 1)
    seed: int
    format: str = option(choices=("keep", "jpg", "png", "webp"))
    color: str = option(choices=("keep", "rgb"))
    quality: int = option(1, 100)
    lossless: bool
    png_level: int = option(0, 9)
    max_pixels: int = option(1, 178_000_000)
    precision: str = option(choices=("float32", "bfloat16"))
    batch: int = option(1)
    batch_pixels: int = option(1)
    shard_size: int = option(1)
    threads_per_worker: int | None = option(1)
    score: str = option(choices=("none", "structure", "full"))
    gate: GateOptions
    manifest: str = option(choices=("auto", "parquet", "jsonl"))
    max_failures: int = option(0)
    retry_failed: bool
    extend: bool
    dry_run: bool
    engine: str = option(choices=("local", "slurm", "ray"))
    shard_index: int
    shard_count: int = option(1)
    runtime: DatasetRuntime
    slurm: SlurmOptions
    ray: RayOptions


def check_make_dataset(cfg: Any) -> None:
    """Check the options' ranges, and what fits together. ValueError in the user's words."""
    check_options(MakeDatasetOptions, cfg)
    if not 0 <= cfg.shard_index < cfg.shard_count:
        raise ValueError(f"shard_index={cfg.shard_index}; allowed are 0 to {cfg.shard_count - 1}")
    if cfg.gate.structure_min is not None and cfg.score == "none":
        raise ValueError(f"gate.structure_min={cfg.gate.structure_min} needs score=structure or score=full")
    if cfg.size != "keep" and not (isinstance(cfg.size, int) and not isinstance(cfg.size, bool) and cfg.size >= 1):
        raise ValueError(f"size={as_typed(cfg.size)}; allowed are keep, or the length of the short side in pixels")
    if cfg.pairs is not None and (cfg.weights is not None or cfg.keep_fraction > 0):
        raise ValueError(f"pairs={cfg.pairs} says what each picture becomes; leave weights and keep_fraction out")
    if cfg.extend and cfg.retry_failed:
        raise ValueError("extend=true and retry_failed=true: one after the other")
    strength_range(cfg.strength)
    if not (cfg.slurm.more is None or hasattr(cfg.slurm.more, "items")):
        raise ValueError(f"slurm.more={as_typed(cfg.slurm.more)}; names and values such as {{account: me}} expected")
    if cfg.engine != "local" and cfg.runtime.devices != 1:
        count = {"slurm": "slurm.tasks", "ray": "ray.actors"}[cfg.engine]
        raise ValueError(f"runtime.devices={cfg.runtime.devices} belongs to engine=local; here it is {count}=...")


@command("make_dataset", MakeDatasetOptions)
def main(cfg: DictConfig) -> int:
    """Stylize a whole labelled dataset. The same command again does what is missing; status 75: stopped, run it again;
    status 3: more failures than max_failures.
    """
    check_make_dataset(cfg)
    return make(plain(cfg))


def make(cfg: Mapping[str, Any]) -> int:
    """Make the dataset from checked settings as plain containers."""
    manifest_kind(cfg["manifest"])
    cfg = {**cfg, "reference": listed_references(cfg)}
    progress = ShardProgress()
    with stop_on_signals() as stop:
        layout, kind = _open(cfg)
        cfg = {**cfg, "pairs": read_pairs(cfg, layout.root)}
        if cfg["dry_run"]:
            return _show(cfg, layout, kind)
        job = _planned(cfg, layout, kind)
        if stop.reason is not None or not _run(job, stop, progress):
            return _stopped(job, stop)
        unfinished = job.records.left(job.plan.shards)
        if unfinished:
            print(f"this job's part is done; {len(unfinished)} of {len(job.plan.shards)} shards are other jobs'")
            return 0
        try:
            return _finish(job, layout, stop, progress)
        except Stopped:
            return _stopped(job, stop)


def _open(cfg: Mapping[str, Any]) -> tuple[Layout, str]:
    """Return the input's layout, and the output's kind."""
    output = Path(cfg["output"]).expanduser()
    layout = open_layout(cfg["input"], cfg["input_layout"], target=cfg["output_layout"], carry=cfg["carry"])
    kind = output_kind(layout.kind, cfg["output_layout"])
    if cfg["size"] != "keep":
        layout.check_scaling()
    here, there = output.resolve(), layout.root.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise ValueError(f"output={output} and input={cfg['input']}: neither may lie inside the other")
    return layout, kind


def _show(cfg: Mapping[str, Any], layout: Layout, kind: str) -> int:
    """Say what was recognised, and write nothing."""
    inventory, names = Inventory(layout), names_of({**cfg, "input_layout": layout.kind, "output_layout": kind})
    for sample in _checked(cfg, inventory.watch(layout.samples())):
        names.give(sample)
    inventory.check(cfg["input"])
    print(inventory.line())
    _warn_of_names(names)
    print(f"output_layout={kind}; dry_run=true: nothing was written")
    return 0


def _planned(cfg: Mapping[str, Any], layout: Layout, kind: str) -> Job:
    """Return the job, with the plan that is there, or else a new one; ValueError where another was begun here."""
    output, device = Path(cfg["output"]).expanduser(), device_of(cfg)
    styles = find_styles(cfg)
    check_regions(cfg)
    settings = settings_of(cfg, styles, layout.kind, kind, device)
    if output.is_dir() and not (output / STATE).exists() and any(output.iterdir()):
        raise ValueError(f"output={output} holds files that are not make-dataset's; choose another folder")
    ensure_writable(output, "output")
    with only_one(output / STATE / "plan.lock"):
        earlier = read_plan(output / STATE)
        settings["threads_per_worker"] = threads_of(cfg, earlier, device)
        plan = _plan(cfg, styles, layout, settings, output / STATE, earlier)
    if earlier is not None and not cfg["extend"] and cfg["shard_index"] == 0:  # long for millions: one job does it
        check_listing(earlier, layout.samples)
    print(plan.about, flush=True)
    _warn_of_equal_copies(cfg, styles)
    job = Job(cfg, layout.root, plan, device)
    job.records.prepare()
    return job


def _plan(
    cfg: Mapping[str, Any],
    styles: Sequence[StyleSource],
    layout: Layout,
    settings: Mapping[str, Any],
    folder: Path,
    plan: Plan | None,
) -> Plan:
    """Return the plan that is there, extended if that is asked for, or write a new one."""
    names, inventory = names_of(settings), Inventory(layout)
    classes = layout.classes() if settings["output_layout"] == "webdataset" else None
    make = functools.partial(
        write_plan, folder, settings=settings, names=names, facts=layout.facts(), classes=classes, about=inventory.line
    )
    if plan is None:
        check_references(styles, cfg["max_pixels"])
        print(f"looking through {cfg['input']} (input_layout={layout.kind}) ...", flush=True)
        plan = make(samples=_checked(cfg, inventory.watch(layout.samples())), shard_size=cfg["shard_size"])
        try:
            inventory.check(cfg["input"])
        except ValueError:
            (folder / "plan.json").unlink()
            raise
        _warn_of_names(names)
        return plan
    check_settings(plan, settings)
    if not cfg["extend"]:
        check_facts(plan, layout.facts())
        return plan
    new = new_samples(plan, inventory.watch(layout.samples()))
    print(f"{len(new)} new inputs beside {plan.inputs}")
    if not new:
        return plan
    names.take(plan.all_samples())
    return make(samples=new, shard_size=cfg["shard_size"], before=plan)


def _checked(cfg: Mapping[str, Any], samples: Iterable[Sample]) -> Iterator[Sample]:
    """Yield the same samples. ValueError, after the last, where pairs name a content that is not among them."""
    missing = dict.fromkeys(cfg["pairs"] or ())
    for sample in samples:
        if sample.picture is not None and not sample.passthrough:
            missing.pop(printable(sample.key), None)
        yield sample
    if missing:
        more = f", and {len(missing) - 1} more contents," if len(missing) > 1 else ""
        raise ValueError(f"pairs: {next(iter(missing))}{more} is no picture to be stylized in input={cfg['input']}")


def _warn_of_names(names: Names) -> None:
    if names.changed:
        before, after = names.example
        warn(
            f"{names.changed} names were changed, since another differs from them in letters' case alone, is the same "
            f"without its suffix, or since not every file system takes them: {before} is {after}"
        )


def _warn_of_equal_copies(cfg: Mapping[str, Any], styles: Sequence[StyleSource]) -> None:
    least, most = strength_range(cfg["strength"])
    count = 1 if plan_of(cfg)[1].by_style else sum(style.weight > 0 for style in styles)
    if cfg["pairs"] is None and cfg["copies"] > count and least == most:
        warn(
            f"copies={cfg['copies']}, but there are {count} styles to draw and one strength, so some copies of a "
            f"picture are equal; give strength=[0.5,1.0], more styles, or copies={count}"
        )


def _run(job: Job, stop: Stop, progress: ShardProgress) -> bool:
    """Do what is left of this job's shards. False where it could not be finished."""
    cfg, records = job.cfg, job.records
    shards = job.plan.shards[cfg["shard_index"] :: cfg["shard_count"]]
    todo = records.left(shards)
    finished = [(shard, record) for shard in shards if cfg["retry_failed"] and (record := records.record(shard))]
    retry = [shard for shard, record in finished if record["failures"]]
    print(f"{_inputs(shards)} inputs in {len(shards)} shards, {_inputs(todo)} left to do", flush=True)
    if not todo and not retry:
        return True
    progress.total = _inputs([*todo, *retry])
    run, worker = choose_engine(job), functools.partial(make_worker, with_absolute_paths(job))
    numbers = [shard.number for shard in retry]
    return run(worker, shards=[*todo, *retry], retry=numbers, stop=stop, report=progress)


def _inputs(shards: Sequence[Shard]) -> int:
    return sum(shard.count for shard in shards)


def choose_engine(job: Job) -> Callable[..., bool]:
    """Build what runs workers over shards."""
    cfg = job.cfg
    if cfg["engine"] == "slurm":
        from gan_style.dataset.engines.slurm import run_array

        return functools.partial(run_array, records=job.records, **cfg["slurm"])
    if cfg["engine"] == "ray":
        from gan_style.dataset.engines.ray import run_actors

        return functools.partial(run_actors, **cfg["ray"])
    devices = cfg["runtime"]["devices"]
    return run_here if devices == 1 else functools.partial(run_processes, count=devices)


def _finish(job: Job, layout: Layout, stop: Stop, progress: ShardProgress) -> int:
    """Merge what the shards left into the dataset's own papers; the exit status."""
    with only_one(job.records.state / "merge.lock"):
        merge = Merge(job.records, lambda: stop.reason is not None)
        merge.tidy()
        manifest = merge.manifest(job.cfg["manifest"])
        warnings: list[str] = []
        scheme = scheme_of(job.plan.settings)
        Documents(layout, job.kind, scheme, job.records, merge.each_row, warnings.append).write()
        for warning in warnings:
            warn(warning)
        speed = {"inputs": progress.done, "seconds": progress.seconds, "pictures_per_second": progress.rate}
        versions = {name: version(name) for name in ("torch", "torchvision", "pillow")}  # the last bits depend on them
        more = {"this_job": speed, "versions": versions, "recognised": job.plan.about, "warnings": warnings}
        summary = merge.summary(more)
    return _print_summary(job, manifest, summary)


def _print_summary(job: Job, manifest: Path, summary: Mapping[str, Any]) -> int:
    counts = ", ".join(f"{count} {status}" for status, count in summary["statuses"].items())
    print(f"{summary['rows']} results of {summary['inputs']} inputs: {counts}; see {manifest}")
    reasons = ", ".join(f"{count} {kind}" for kind, count in summary["kinds"].items())
    if reasons:
        print(f"not stylized: {reasons}")
    if left_out := summary["left_out"]:
        warn(f"files that are in no result, since archives have no place for them: {some(left_out, 5)}")
    for what, count in summary["lost"].items():
        warn(f"{count} results lost {what}")
    for style, count in summary["empty_regions"].items():
        warn(f"{count} results have no region for {style}; see the manifest's column regions")
    failed = summary["statuses"].get("failed", 0)
    for failure in summary["failures"][:10]:
        print(f"  failed: {failure['key']}: {failure['kind']}: {failure['error']}", file=sys.stderr)
    reason = f"{failed} failed, more than max_failures={job.cfg['max_failures']}"
    if failed and not summary["statuses"].get("ok"):
        reason = "not one picture could be stylized"
    elif failed <= job.cfg["max_failures"]:
        return 0
    print(f"gan-style make-dataset: {reason}", file=sys.stderr)
    return TOO_MANY_FAILURES


def _stopped(job: Job, stop: Stop) -> int:
    unfinished = len(job.records.left(job.plan.shards))
    why = "stopped" if stop.reason else "all processes ended early (killed, or out of memory?)"
    print(f"gan-style make-dataset: {why}; {unfinished} shards are left; the same command goes on", file=sys.stderr)
    return PREEMPTED


if __name__ == "__main__":
    main()
