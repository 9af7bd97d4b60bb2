"""``gan-style make-dataset``: stylize a whole labelled dataset; the same command again does what is missing."""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gan_style.commands.make_dataset_parts import (
    Job,
    device_of,
    kind_of,
    make_names,
    make_worker,
    settings_of,
    versions,
    with_absolute_paths,
)
from gan_style.commands.make_dataset_styles import StyleSource, check_references, find_styles, listed_references
from gan_style.config import TOO_MANY_FAILURES, command, plain
from gan_style.dataset.engines.local import Stop, run_here, run_processes
from gan_style.dataset.journal import STATE, Records, only_one
from gan_style.dataset.layouts.coco import CocoSource, from_classes, from_tables
from gan_style.dataset.layouts.recognise import Source, open_source
from gan_style.dataset.manifest import Merge, Stopped, manifest_kind
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
from gan_style.dataset.progress import Progress, total
from gan_style.runtime.files import ensure_writable
from gan_style.runtime.signals import PREEMPTED
from gan_style.schema_dataset import check_make_dataset


@command("make_dataset")
def main(cfg: DictConfig) -> int:
    """Stylize a whole labelled dataset. The same command again does what is missing; status 75: stopped, run it again;
    status 3: more failures than max_failures.
    """
    check_make_dataset(cfg)
    return make(plain(cfg))


def make(cfg: Mapping[str, Any]) -> int:
    """The same from checked settings as plain containers."""
    manifest_kind(cfg["manifest"])
    cfg = {**cfg, "reference": listed_references(cfg)}
    stop, progress = Stop(PREEMPTED), Progress()
    with stop.watching():
        source, kind = _open(cfg)
        job = _planned(cfg, source, kind)
        if stop.asked or not _run(job, stop, progress):
            return _stopped(job, stop)
        left = job.records.left(job.plan.shards)
        if left:
            print(f"this job's part is done; {len(left)} of {len(job.plan.shards)} shards are other jobs'")
            return 0
        try:
            return _finish(job, source, stop, progress)
        except Stopped:
            return _stopped(job, stop)


def _open(cfg: Mapping[str, Any]) -> tuple[Source, str]:
    """The source, and the output's layout."""
    output = Path(cfg["output"]).expanduser()
    source = open_source(cfg["input"], cfg["input_layout"], made=cfg["output_layout"], carry=cfg["carry"])
    kind = kind_of(source) if cfg["output_layout"] == "auto" else cfg["output_layout"]
    source = open_source(cfg["input"], kind_of(source), made=kind, carry=cfg["carry"])
    if cfg["size"] != "keep" and isinstance(source, CocoSource):
        raise ValueError(
            f"size={cfg['size']}: boxes and segmentations would no longer fit; a COCO folder needs size=keep"
        )
    here, there = output.resolve(), source.root.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise ValueError(f"output={output} and input={cfg['input']}: neither may lie inside the other")
    return source, kind


def _planned(cfg: Mapping[str, Any], source: Source, kind: str) -> Job:
    """The job, with the plan that is there, or else a new one; ValueError where another was begun here."""
    output, device = Path(cfg["output"]).expanduser(), device_of(cfg)
    styles = find_styles(cfg)
    settings = settings_of(cfg, styles, source, kind, device)
    if output.is_dir() and not (output / STATE).exists() and any(output.iterdir()):
        raise ValueError(f"output={output} holds files that are not make-dataset's; choose another folder")
    ensure_writable(output, "output")
    with only_one(output / STATE / "plan.lock"):
        known = read_plan(output / STATE)
        plan = _plan(cfg, styles, source, kind, settings, output / STATE, known)
    if known is not None and not cfg["extend"] and cfg["shard_index"] == 0:  # long for millions: one job does it
        check_listing(known, source.samples)
    job = Job(cfg, source.root, plan, kind, device)
    job.records.prepare()
    return job


def _plan(
    cfg: Mapping[str, Any],
    styles: Sequence[StyleSource],
    source: Source,
    kind: str,
    settings: Mapping[str, Any],
    folder: Path,
    plan: Plan | None,
) -> Plan:
    """The plan that is there, extended if that is wanted, or a new one."""
    names = make_names(cfg, source, kind)
    classes = source.classes() if kind == "webdataset" else None
    make = functools.partial(write_plan, folder, settings=settings, names=names, facts=source.facts(), classes=classes)
    if plan is None:
        check_references(styles, cfg["max_pixels"])
        print(f"looking through {cfg['input']} (input_layout={kind_of(source)}) ...", flush=True)
        plan = make(samples=source.samples(), shard_size=cfg["shard_size"])
        if not plan.inputs:
            (folder / "plan.json").unlink()
            raise ValueError(f"input={cfg['input']}: there is nothing in it")
        return plan
    check_settings(plan, settings)
    if not cfg["extend"]:
        check_facts(plan, source.facts())
        return plan
    new = new_samples(plan, source.samples())
    print(f"{len(new)} new inputs beside {plan.inputs}")
    if not new:
        return plan
    names.take(plan.all_samples())
    return make(samples=new, shard_size=cfg["shard_size"], before=plan)


def _run(job: Job, stop: Stop, progress: Progress) -> bool:
    """Do what is left of this job's shards. False where it could not be finished."""
    cfg, records = job.cfg, job.records
    own = job.plan.shards[cfg["shard_index"] :: cfg["shard_count"]]
    todo = records.left(own)
    retry = _with_failures(records, own) if cfg["retry_failed"] else []
    print(f"{total(own)} inputs in {len(own)} shards, {total(todo)} left to do", flush=True)
    if not todo and not retry:
        return True
    progress.total = total([*todo, *retry])
    numbers = [shard.number for shard in retry]
    return choose_engine(job)(
        functools.partial(make_worker, with_absolute_paths(job)),
        shards=[*todo, *retry],
        retry=numbers,
        stop=stop,
        report=progress,
    )


def choose_engine(job: Job) -> Callable[..., bool]:
    """What runs workers over shards."""
    cfg = job.cfg
    if cfg["engine"] == "slurm":
        from gan_style.dataset.engines.slurm import run_array

        return functools.partial(run_array, records=job.records, **cfg["slurm"])
    if cfg["engine"] == "ray":
        from gan_style.dataset.engines.ray import run_actors

        return functools.partial(run_actors, **cfg["ray"])
    devices = cfg["runtime"]["devices"]
    return run_here if devices == 1 else functools.partial(run_processes, count=devices)


def _with_failures(records: Records, shards: Sequence[Shard]) -> list[Shard]:
    found = [(shard, records.record(shard)) for shard in shards]
    return [shard for shard, record in found if record is not None and record["failures"]]


def _finish(job: Job, source: Source, stop: Stop, progress: Progress) -> int:
    """Merge what the shards left into the dataset's own papers; the exit status."""
    with only_one(job.records.state / "merge.lock"):
        merge = Merge(job.records, lambda: stop.asked)
        merge.tidy()
        manifest = merge.manifest(job.cfg["manifest"])
        if job.kind == "webdataset":
            merge.classes()
        if job.kind == "coco":
            rows = (row for _, rows in merge.rows() for row in rows)
            if isinstance(source, CocoSource):
                from_tables(job.output, source.tables, rows, job.cfg["copies"])
            else:
                from_classes(job.output, rows, job.plan.classes)
        speed = {"inputs": progress.done, "seconds": progress.seconds, "pictures_per_second": progress.rate}
        summary = merge.summary({"this_job": speed, "versions": versions()})
    return _told(job, manifest, summary)


def _told(job: Job, manifest: Path, summary: Mapping[str, Any]) -> int:
    counts = ", ".join(f"{count} {status}" for status, count in summary["statuses"].items())
    print(f"{summary['rows']} results of {summary['inputs']} inputs: {counts}; see {manifest}")
    failed = summary["statuses"].get("failed", 0)
    for failure in summary["failures"][:10]:
        print(f"  failed: {failure['key']}: {failure['kind']}: {failure['error']}", file=sys.stderr)
    if failed > job.cfg["max_failures"]:
        print(
            f"gan-style make-dataset: {failed} failed, more than max_failures={job.cfg['max_failures']}",
            file=sys.stderr,
        )
        return TOO_MANY_FAILURES
    return 0


def _stopped(job: Job, stop: Stop) -> int:
    left = len(job.records.left(job.plan.shards))
    why = "stopped" if stop.asked else "all processes ended early (killed, or out of memory?)"
    print(f"gan-style make-dataset: {why}; {left} shards are left; the same command goes on", file=sys.stderr)
    return PREEMPTED


if __name__ == "__main__":
    main()
