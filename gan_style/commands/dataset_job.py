"""A job of make-dataset: what it is bound to, and its worker, made in the process that it works in."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gan_style import __version__
from gan_style.commands.dataset_styles import (
    StyleSource,
    absolute_options,
    find_styles,
    fingerprint,
    make_region_finder,
    make_stylizers,
    mask_settings,
)
from gan_style.dataset.journal import DATA, Records
from gan_style.dataset.naming import scheme_of
from gan_style.dataset.plan import Plan
from gan_style.dataset.sampling import BLEND, ChoiceSampler, strength_range
from gan_style.dataset.worker import ShardWorker
from gan_style.dataset.writers import Destination
from gan_style.runtime.files import file_hash
from gan_style.runtime.machine import cores, keep_freed_memory

_PLANNED = (
    *("size", "copies", "keep_fraction", "seed", "format", "quality", "lossless", "png_level", "max_pixels"),
    *("color", "precision", "batch", "batch_pixels", "shard_size", "threads_per_worker", "score", "carry"),
)


@dataclass(frozen=True)
class Job:
    """All that a worker is made from; it pickles. cfg: make-dataset's config as plain containers; root: the input's."""

    cfg: Mapping[str, Any]
    root: Path
    plan: Plan
    device: str

    @property
    def output(self) -> Path:
        return Path(self.cfg["output"]).expanduser()

    @property
    def records(self) -> Records:
        return Records(self.output, self.plan)

    @property
    def kind(self) -> str:
        """Return the output's layout."""
        return str(self.plan.settings["output_layout"])


def with_absolute_paths(job: Job) -> Job:
    """Return the same job for a process with another working folder."""
    cfg = {**absolute_options(job.cfg), "output": str(job.output.absolute())}
    return replace(job, cfg=cfg, root=job.root.absolute(), plan=Plan(job.plan.folder.absolute(), job.plan.content))


def device_of(cfg: Mapping[str, Any]) -> str:
    """Choose where the networks run. With engines that work elsewhere it is not tried here: a login node has no GPU."""
    import torch

    from gan_style.runtime.device import choose_device

    name, engine = cfg["runtime"]["device"], cfg["engine"]
    if engine == "local":
        of_workers = name in ("auto", "cuda") and cfg["runtime"]["devices"] > 1 and torch.cuda.is_available()
        return "cuda" if of_workers else str(choose_device(name, None))  # each worker tries its own
    if name == "auto":
        return "cuda" if cfg[engine]["gpus"] else "cpu"
    return str(name)


def threads_of(cfg: Mapping[str, Any], plan: Plan | None, device: str) -> int:
    """Return the threads of a worker's network: as asked, as the plan has it, or the worker's share of the cores."""
    threads, engine = cfg["threads_per_worker"], cfg["engine"]
    if threads is not None:
        return int(threads)
    if plan is not None:
        return int(plan.settings["threads_per_worker"])
    if device != "cpu":
        return 1
    available = cores() // cfg["runtime"]["devices"] if engine == "local" else int(cfg[engine]["cpus"])
    return max(1, min(available, int(os.environ.get("OMP_NUM_THREADS", available))))


def settings_of(
    cfg: Mapping[str, Any], styles: Sequence[StyleSource], input_kind: str, kind: str, device: str
) -> dict[str, Any]:
    """Return all that results follow from, by the names of the options: what a plan is bound to."""
    hashes = {path: file_hash(path) for path in {style.path for style in styles}}
    return {
        "checkpoint": [fingerprint(style, hashes[style.path]) for style in styles],
        "input_layout": input_kind,
        "output_layout": kind,
        "strength": list(strength_range(cfg["strength"])),
        "strength_is": BLEND,
        **{name: cfg[name] for name in _PLANNED},
        **mask_settings(cfg),
        "pairs": None if cfg["pairs"] is None else hashlib.sha256(json.dumps(cfg["pairs"]).encode()).hexdigest(),
        "gate.structure_min": cfg["gate"]["structure_min"],
        "gate.tries": cfg["gate"]["tries"],
        "runtime.device": device.partition(":")[0],
        "gan_style version": __version__,
    }


def make_worker(job: Job, number: int = 0) -> ShardWorker:
    """Build the worker of process ``number``, with its networks."""
    import torch  # planning, committing and verifying do without

    from gan_style.dataset.loading import Loader
    from gan_style.dataset.networks import make_score
    from gan_style.dataset.pipeline import Batching, Gate, Pipeline
    from gan_style.runtime.device import choose_device

    keep_freed_memory()
    cfg, scheme = job.cfg, scheme_of(job.plan.settings)

    # Choose the device, and load the networks.
    name = f"cuda:{number % max(1, torch.cuda.device_count())}" if job.device == "cuda" else job.device
    device = choose_device(name, job.plan.settings["threads_per_worker"])
    styles, precision = find_styles(cfg), getattr(torch, cfg["precision"])
    find_regions = make_region_finder(cfg, device)
    regions = None if find_regions is None else find_regions.plan
    stylizers = make_stylizers(styles, device, precision, cfg["max_pixels"], regions)

    # Put the pipeline together, and its worker.
    pipeline = Pipeline(
        loader=Loader(
            job.root,
            cfg["max_pixels"],
            None if cfg["size"] == "keep" else cfg["size"],
            keep_color=cfg["color"] == "keep",
        ),
        sampler=ChoiceSampler(
            cfg["seed"],
            [style.weight for style in styles] if len(stylizers) == len(styles) else [1.0],
            strength_range(cfg["strength"]),
            cfg["keep_fraction"],
            cfg["copies"],
            cfg["pairs"],
        ),
        stylizers=stylizers,
        scheme=scheme,
        batching=Batching(cfg["batch"], cfg["batch_pixels"]),
        gate=Gate(cfg["gate"]["structure_min"], cfg["gate"]["tries"]),
        score=make_score(cfg["score"], device),
        device=device,
        encoding=make_encoding(cfg),
        threads=cfg["runtime"]["io_threads"],
        find_regions=find_regions,
    )
    destination = Destination(job.kind, job.output / DATA, scheme)
    return ShardWorker(job.records, destination, pipeline, seed=cfg["seed"])


def make_encoding(cfg: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return Pillow's options by suffix."""
    lossy, webp = {"quality": cfg["quality"]}, {"lossless": True, "quality": 0, "method": 0}
    return {
        ".jpg": lossy,
        ".jpeg": lossy,
        ".webp": webp if cfg["lossless"] else lossy,
        ".png": {"compress_level": cfg["png_level"]},
    }
