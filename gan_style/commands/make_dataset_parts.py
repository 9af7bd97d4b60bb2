"""The parts of make-dataset, each from its settings; a worker's are made in the process that it works in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gan_style import __version__
from gan_style.commands.make_dataset_styles import StyleSource, absolute, find_styles, fingerprint, make_stylizers
from gan_style.dataset.journal import DATA, Records
from gan_style.dataset.naming import Names, Scheme, among_images, in_folders, make_scheme
from gan_style.dataset.plan import Plan
from gan_style.dataset.sampling import BLEND, ChoiceSampler
from gan_style.dataset.worker import ShardWorker
from gan_style.dataset.writers import Destination
from gan_style.runtime.files import file_hash

_PLANNED = (
    *("size", "copies", "keep_fraction", "seed", "format", "quality", "lossless", "png_level", "max_pixels"),
    *("color", "precision", "batch", "batch_pixels", "shard_size", "threads_per_worker", "score", "carry"),
)


def strength_range(strength: Any) -> tuple[float, float]:
    """(least, most) of a number or a list of two. ValueError for anything else."""
    pair = (strength, strength) if isinstance(strength, int | float) else strength
    try:
        least, most = (float(value) for value in pair)
    except (TypeError, ValueError):
        raise ValueError(f"strength={strength}; a number, or two such as [0.5,1.0], expected") from None
    if not 0 <= least <= most <= 1:
        raise ValueError(f"strength={strength}; allowed are 0 to 1, the smaller one first")
    return least, most


@dataclass(frozen=True)
class Job:
    """All that a worker is made from; it pickles. cfg: make-dataset's config as plain containers; input_kind, kind: the
    layouts of input and output.
    """

    cfg: Mapping[str, Any]
    root: Path
    plan: Plan
    input_kind: str
    kind: str
    device: str

    @property
    def output(self) -> Path:
        return Path(self.cfg["output"]).expanduser()

    @property
    def records(self) -> Records:
        return Records(self.output, self.plan)


def with_absolute_paths(job: Job) -> Job:
    """The same job for a process with another working folder."""
    cfg = {**job.cfg, "output": str(job.output.absolute()), **absolute(job.cfg)}
    return replace(job, cfg=cfg, root=job.root.absolute(), plan=Plan(job.plan.folder.absolute(), job.plan.content))


def device_of(cfg: Mapping[str, Any]) -> str:
    """Where the networks run. With engines that work elsewhere it is not tried here: a login node has no GPU."""
    import torch

    from gan_style.runtime.device import choose_device

    name, engine = cfg["runtime"]["device"], cfg["engine"]
    if engine == "local":
        of_workers = name in ("auto", "cuda") and cfg["runtime"]["devices"] > 1 and torch.cuda.is_available()
        return "cuda" if of_workers else str(choose_device(name, None))  # each worker tries its own
    if name == "auto":
        return "cuda" if cfg[engine]["gpus"] else "cpu"
    return str(name)


def scheme_of(cfg: Mapping[str, Any], input_kind: str, kind: str) -> Scheme:
    """input_kind, kind: the layouts of input and output."""
    return make_scheme(cfg["copies"], None if cfg["format"] == "keep" else f".{cfg['format']}", input_kind, kind)


def make_names(cfg: Mapping[str, Any], input_kind: str, kind: str) -> Names:
    """Where samples go in an output of this layout."""
    scheme = scheme_of(cfg, input_kind, kind)
    if kind == "folder" and input_kind == "webdataset":
        return Names(scheme, in_folders)
    return Names(scheme, among_images) if kind == "coco" and input_kind != "coco" else Names(scheme)


def settings_of(
    cfg: Mapping[str, Any], styles: Sequence[StyleSource], input_kind: str, kind: str, device: str
) -> dict[str, Any]:
    """All that results follow from, by the names of the options: what a plan is bound to."""
    hashes = {path: file_hash(path) for path in {style.path for style in styles}}
    return {
        "checkpoint": [fingerprint(style, hashes[style.path]) for style in styles],
        "input_layout": input_kind,
        "output_layout": kind,
        "strength": list(strength_range(cfg["strength"])),
        "strength_is": BLEND,
        **{name: cfg[name] for name in _PLANNED},
        "gate.structure_min": cfg["gate"]["structure_min"],
        "gate.tries": cfg["gate"]["tries"],
        "runtime.device": device.partition(":")[0],
        "gan_style version": __version__,
    }


def versions() -> dict[str, str]:
    """Of what results may depend on in their last bits."""
    return {name: version(name) for name in ("torch", "torchvision", "pillow")}


def make_worker(job: Job, number: int = 0) -> ShardWorker:
    """The worker of process ``number``, with its networks."""
    scheme = scheme_of(job.cfg, job.input_kind, job.kind)
    destination = Destination(job.kind, job.output / DATA, scheme)
    return ShardWorker(job.records, destination, _make_pipeline(job, scheme, number), seed=job.cfg["seed"])


def _make_pipeline(job: Job, scheme: Scheme, number: int) -> Any:
    import torch  # from here on: planning, committing and verifying do without

    from gan_style.dataset.loading import Loader
    from gan_style.dataset.pipeline import Batching, Gate, Pipeline
    from gan_style.runtime.device import choose_device

    cfg = job.cfg
    name = f"cuda:{number % max(1, torch.cuda.device_count())}" if job.device == "cuda" else job.device
    device = choose_device(name, cfg["threads_per_worker"])
    styles = find_styles(cfg)
    return Pipeline(
        loader=Loader(
            job.root,
            cfg["max_pixels"],
            None if cfg["size"] == "keep" else cfg["size"],
            keep_color=cfg["color"] == "keep",
        ),
        sampler=ChoiceSampler(
            cfg["seed"],
            [style.weight for style in styles],
            strength_range(cfg["strength"]),
            cfg["keep_fraction"],
            cfg["copies"],
        ),
        stylizers=make_stylizers(styles, device, getattr(torch, cfg["precision"]), cfg["max_pixels"]),
        scheme=scheme,
        batching=Batching(cfg["batch"], cfg["batch_pixels"]),
        gate=Gate(cfg["gate"]["structure_min"], cfg["gate"]["tries"]),
        score=make_score(cfg["score"], device),
        device=device,
        encoding=make_encoding(cfg),
        threads=cfg["runtime"]["io_threads"],
    )


def make_encoding(cfg: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Pillow's options by suffix."""
    lossy, webp = {"quality": cfg["quality"]}, {"lossless": True, "quality": 0, "method": 0}
    return {
        ".jpg": lossy,
        ".jpeg": lossy,
        ".webp": webp if cfg["lossless"] else lossy,
        ".png": {"compress_level": cfg["png_level"]},
    }


def make_score(kind: str, device: Any) -> Any:
    """structure: 1 where all edges stay; full: the content distance too, on compact's features."""
    if kind == "none":
        return None
    from gan_style.dataset.scores import ContentScore, structure_scores

    if kind == "structure":
        return structure_scores
    from gan_style.models.perceptual import compact
    from gan_style.runtime.device import placed

    return ContentScore(placed(compact(layers=list(ContentScore.LAYERS)), device))
