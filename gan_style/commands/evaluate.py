"""``gan-style evaluate``: numbers and a report that say which model is better."""

import platform
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from gan_style import __version__
from gan_style.cli import command
from gan_style.commands.compare import read_settings
from gan_style.config import build, plain
from gan_style.data.pictures import UnreadablePictures, find_pictures, first_of_parts
from gan_style.data.sets import split
from gan_style.evaluation.external import inception, lpips
from gan_style.evaluation.runner import Evaluator, pick_worst
from gan_style.evaluation.suite import (
    DEFAULT,
    PHOTOS,
    STYLES,
    MetricSuite,
    check_metrics,
    missing_requirements,
    summary,
)
from gan_style.images.decode import decode, to_float
from gan_style.images.formats import UnreadablePictureError
from gan_style.options import Runtime, as_typed, listed, option
from gan_style.report.evaluation import Scores, columns, number, report, sheet_row
from gan_style.report.html import thumbnail
from gan_style.report.outputs import FolderOutputs, model_labels, open_outputs
from gan_style.report.runs import CONFIG_FILE, Run
from gan_style.report.table import align
from gan_style.runtime.device import choose_device, in_full_float32, move_to
from gan_style.runtime.distributed import ranks
from gan_style.runtime.files import check_place, ensure_writable, file_hash, write_json, write_text
from gan_style.runtime.progress import warn
from gan_style.runtime.provenance import changed_since, check_replaceable, fingerprint, marked_page, options_mark
from gan_style.stylize.model import find_generator, no_style, of_style, step_of


@dataclass(kw_only=True)
class LayerOptions:
    content: list[str]
    style: list[str]
    embedding: list[str]


@dataclass(kw_only=True)
class EvaluateOptions:
    checkpoint: Any = option(path=True, many=True, required=True)
    content: Any = option(path=True)
    style: Any = option(path=True)
    output: str | None = option(path=True)
    overwrite: bool
    metrics: Any = option(many=True)
    size: int = option(16)
    max_pictures: int | None = option(1)
    max_unreadable: float = option(0, 1)
    calibration_pictures: int = option(0)
    layers: LayerOptions
    inception_weights: str | None = option(path=True)
    report_pictures: int = option(0)
    perceptual: Any
    runtime: Runtime


@command("evaluate", EvaluateOptions)
def main(cfg: DictConfig) -> int:
    """Measure models on pictures that they were not trained on, beside two baselines: photos and style pictures.

    Under torchrun every rank measures its share of the pictures.
    """
    with ranks() as group:
        warnings.showwarning = lambda message, *_: warn(str(message)) if group.first else None

        # Find models and pictures, and leave out what was trained on and what cannot be computed.
        device = choose_device(cfg.runtime.device, cfg.runtime.threads)
        in_full_float32()
        for kind, layers in cfg.layers.items():
            if not layers:
                raise ValueError(f"layers.{kind}=[]: give at least one layer, such as [relu3_1]")
        specs = listed(cfg.checkpoint)
        labels = model_labels(specs)
        runs = {spec: find_run(of_style(spec)[0]) for spec in specs}
        contents, left_out = _content_pictures(cfg, runs)
        styles = _style_pictures(cfg, runs)
        metrics, reasons = _metrics(cfg, len(contents), len(styles))
        facts = [
            f"{len(contents)} content pictures, {len(styles)} style pictures, short side {cfg.size}",
            *([f"{left_out} content pictures were trained on and are left out"] if left_out else []),
            *(f"not computed: {reason}" for reason in reasons),
        ]

        # Nothing is written before all of them are there.
        output = _output(cfg, specs)
        check_place(output, "output")
        numbers_file, page_file = output / "metrics.json", output / "report.html"
        mark = options_mark("evaluate", plain(cfg))
        check_replaceable(((path, lambda: mark) for path in (numbers_file, page_file)), overwrite=cfg.overwrite)
        models = {label: open_outputs(spec, device) for label, spec in zip(labels, specs, strict=True)}
        for model in models.values():
            if isinstance(model, FolderOutputs):
                model.match(contents)
        suite = make_suite(cfg, metrics, contents, device)
        facts.append(f"perceptual network {suite.perceptual.summary()}")
        evaluator = Evaluator(suite, cfg.size, device, group, group.say)
        ensure_writable(output, "output")

        # Measure the style pictures first: from them come the targets that everything is compared with.
        unreadable = {
            name: UnreadablePictures(name, len(paths), cfg.max_unreadable, "max_unreadable")
            for name, paths in (("style", styles), ("content", contents))
        }
        reference, other_styles = evaluator.measure_styles(styles, unreadable["style"])
        measured = evaluator.measure_outputs(contents, models, unreadable["content"])
        for name in ("content", "style"):
            if count := len(unreadable[name].problems):
                facts.append(f"{count} {name} pictures cannot be read and are left out")
        if other_styles.embeddings or other_styles.numbers:
            measured[STYLES] = other_styles
        scores = summary(measured, reference, metrics)

        # Write, on the first rank. The outputs on the report's sheet are computed once more.
        if not group.first:
            return 0
        print("\n".join(facts))
        print(as_text(scores))
        numbers = {
            "settings": plain(cfg),
            "versions": {"gan_style": __version__, "torch": torch.__version__, "python": platform.python_version()},
            "facts": facts,
            "models": dict(zip(models, map(_origin, specs), strict=True)),
            "content": fingerprint(contents),
            "references": fingerprint(styles),
            "metrics": {name: {k: asdict(estimate) for k, estimate in row.items()} for name, row in scores.items()},
            "pictures": {
                name: {str((styles if name == STYLES else contents)[n]): row for n, row in part.numbers.items()}
                for name, part in measured.items()
            },
            "result": mark,
        }
        write_json(numbers_file, numbers)
        sheet = []
        for n in pick_worst({name: measured[name] for name in models}, cfg.report_pictures):
            content = to_float(decode(contents[n], short_side=cfg.size)[None].to(device))
            pictures = {PHOTOS: content} | {name: model(contents[n], content) for name, model in models.items()}
            thumbnails = {name: thumbnail(picture) for name, picture in pictures.items()}
            own_numbers = {name: measured[name].numbers[n] for name in models}
            sheet.append(sheet_row(contents[n].name, thumbnails, own_numbers, list(models)))
        page = report(title="Evaluation", facts=facts, scores=scores, sheet=sheet)
        write_text(page_file, marked_page(page, mark))
        print(f"numbers: {numbers_file}\nreport:  {page_file}")
    return 0


def find_run(checkpoint: Path) -> Run | None:
    """Return the run that a checkpoint is of, with its settings alone; None where there is no run's folder to ask."""
    for folder in (checkpoint, *list(checkpoint.absolute().parents)[:2]):
        if (folder / CONFIG_FILE).is_file():
            settings, _ = read_settings(folder)
            return Run(folder, settings) if any(key.startswith("data.") for key in settings) else None
    return None


def _content_pictures(cfg: DictConfig, runs: Mapping[str, Run | None]) -> tuple[list[Path], int]:
    """Return (the pictures to measure on, how many of those asked for were trained on)."""
    # Collect what the runs were trained on, and the first one's held-out pictures.
    trained: list[Path] = []
    held_out: list[Path] = []
    reason = "the first run has no held-out pictures to take instead"
    for spec, run in runs.items():
        if run is None:
            continue
        try:
            count = run.settings.get("data.holdout_count", 0)
            training, own_held_out, _ = split(run.data("content"), run.data("holdout"), count)
        except ValueError as error:
            warnings.warn(f"{spec}: its training pictures are not there to be left out ({error})", stacklevel=2)
            reason = f"the pictures of {spec} are not found ({error})"
            continue
        if changed_since(run.folder, {"content": training}):
            problem = "data.content is not what this run was trained on (pictures were added, removed or changed)"
            warnings.warn(f"{spec}: {problem}: held-out ones may be trained on; give content=...", stacklevel=2)
        trained += training
        held_out = held_out or own_held_out

    # Leave out what was trained on, and spread the rest over the pictures allowed.
    if cfg.content is None and not held_out:
        raise ValueError(f"content=... is missing, and {reason}")
    candidates = held_out if cfg.content is None else find_pictures(plain(cfg.content), "content")
    chosen = without_copies(candidates, trained)
    if not chosen:
        problem = f"all {len(candidates)} pictures were trained on, maybe under other names"
        raise ValueError(f"content={as_typed(plain(cfg.content))}: {problem}; give others")
    return first_of_parts(chosen, cfg.max_pictures or len(chosen)), len(candidates) - len(chosen)


def without_copies(candidates: Sequence[Path], trained: Sequence[Path]) -> list[Path]:
    """Return the pictures that were not trained on, under whatever path: those of which no trained file has the bytes.

    Only files of equal size are read.
    """
    paths = {path.resolve() for path in trained}
    by_size: dict[int, list[Path]] = {}
    for path in paths:
        by_size.setdefault(path.stat().st_size, []).append(path)
    hashes: dict[int, set[str]] = {}
    chosen = []
    for path in candidates:
        size = path.stat().st_size
        if path.resolve() in paths:
            continue
        if size in by_size:
            if size not in hashes:
                hashes[size] = {file_hash(other) for other in by_size[size]}
            if file_hash(path) in hashes[size]:
                continue
        chosen.append(path)
    return chosen


def _style_pictures(cfg: DictConfig, runs: Mapping[str, Run | None]) -> list[Path]:
    if cfg.style is not None:
        return find_pictures(plain(cfg.style), "style")
    spec, first = next(((spec, run) for spec, run in runs.items() if run is not None), ("", None))
    if first is None:
        raise ValueError("style=... is missing, and there is no run whose style pictures could be taken")
    style, style_name = first.data("style"), of_style(spec)[1]
    if isinstance(style, dict):
        if style_name not in style:
            raise no_style(spec, style)
        return find_pictures(style[style_name], "style")
    return find_pictures(style if style_name is None else style_name, "style")  # a picture that the style is taken from


def _metrics(cfg: DictConfig, photos: int, styles: int) -> tuple[list[str], list[str]]:
    """Return (metrics to compute, why others are not). Those asked for by name have to be possible."""
    names = listed(cfg.metrics) or list(DEFAULT)
    check_metrics(names)
    reasons = missing_requirements(names, photos, styles)
    if reasons and cfg.metrics is not None:
        raise ValueError("metrics: " + "; ".join(reasons.values()))
    return [name for name in names if name not in reasons], list(reasons.values())


def _output(cfg: DictConfig, specs: Sequence[str]) -> Path:
    if cfg.output is not None:
        return Path(cfg.output).expanduser()
    first = of_style(specs[0])[0]
    if not (first / CONFIG_FILE).is_file():
        raise ValueError("output=... is missing: give a folder for metrics.json and report.html")
    return first / "evaluation"


def make_suite(cfg: DictConfig, metrics: list[str], contents: Sequence[Path], device: torch.device) -> MetricSuite:
    """Build the perceptual network, calibrated on content pictures, and the networks of the metrics."""
    layers = plain(cfg.layers)
    deep = [layer for kind in layers.values() for layer in kind]
    perceptual = move_to(build(cfg.perceptual, "perceptual", layers=deep), device)
    if cfg.calibration_pictures and not perceptual.scales_given:
        # Those that cannot be read are named when they are measured.
        paths, pictures = first_of_parts(contents, cfg.calibration_pictures), []
        for path in paths:
            with suppress(UnreadablePictureError):
                pictures.append(to_float(decode(path, short_side=cfg.size)[None].to(device)))
        if not pictures:
            raise ValueError(f"content: none of {len(paths)} pictures can be read, the first of them {contents[0]}")
        perceptual.calibrate(pictures)
    return MetricSuite(
        perceptual=perceptual,
        names=metrics,
        content_layers=layers["content"],
        style_layers=layers["style"],
        embedding_layers=layers["embedding"],
        lpips=lpips(device) if {"lpips", "artfid"} & set(metrics) else None,
        inception=inception(cfg.inception_weights, device) if {"fid", "artfid"} & set(metrics) else None,
    )


def as_text(scores: Scores) -> str:
    names = columns(scores, layers=True)
    rows = [["", *scores], *([name, *(number(row.get(name)) for row in scores.values())] for name in names)]
    return align(rows)


def _origin(spec: str) -> dict[str, Any]:
    """Return where a model was found and its steps; None where its file, or a folder of pictures, does not say."""
    place = of_style(spec)[0]
    try:
        step = step_of(find_generator(place))
    except ValueError:
        step = None
    return {"place": str(place.resolve()), "step": step}


if __name__ == "__main__":
    main()
