"""``gan-style evaluate``: numbers and a report that say which model is better."""

import json
import platform
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

from gan_style import __version__
from gan_style.config import build, command, plain
from gan_style.data.pictures import UnreadablePictures, find_pictures
from gan_style.data.sets import split
from gan_style.evaluation.external import inception, lpips
from gan_style.evaluation.runner import Judge, Results, worst
from gan_style.evaluation.suite import DEFAULT, PHOTOS, STYLES, Measured, Ruler, check_names, summary, why_not
from gan_style.images.decode import decode, to_float
from gan_style.images.formats import UnreadablePictureError
from gan_style.report.evaluation import Scores, columns, number, report, sheet_row
from gan_style.report.html import thumbnail
from gan_style.report.outputs import Found, labels, open_results
from gan_style.runtime.device import choose_device, in_full_float32, placed
from gan_style.runtime.distributed import Ranks, ranks
from gan_style.runtime.files import check_place, ensure_writable, write_bytes, write_text
from gan_style.runtime.provenance import changed_since, fingerprint
from gan_style.schema import check_evaluate
from gan_style.stylize.model import find_generator, no_style, of_style, step_of


@dataclass(frozen=True)
class Setup:
    """What is measured, on what."""

    cfg: DictConfig
    device: torch.device
    specs: list[str]
    names: list[str]
    contents: list[Path]
    styles: list[Path]
    output: Path
    facts: list[str]


@command("evaluate")
def main(cfg: DictConfig) -> int:
    """Measure models on pictures that they were not trained on, between two ends: the photos and the style pictures.

    Under torchrun every rank measures its share of the pictures.
    """
    with ranks() as group, warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: _say(group, f"warning: {message}")
        check_evaluate(cfg)
        setup = make_setup(cfg)
        check_place(setup.output, "output")
        models = open_models(setup)
        judge = make_judge(setup, group, lambda words: _say(group, words))
        ensure_writable(setup.output, "output")
        table, sets = _measure(setup, judge, models)
        if group.first:
            _write(setup, judge, models, table, sets)
    return 0


def _say(group: Ranks, words: str) -> None:
    if group.first:
        print(words, flush=True)


def _measure(setup: Setup, judge: Judge, models: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    of_style, of_content = (
        UnreadablePictures(option, len(paths), setup.cfg.max_unreadable, "max_unreadable")
        for option, paths in (("style", setup.styles), ("content", setup.contents))
    )
    reference, rest = judge.styles(setup.styles, of_style)
    sets = judge.contents(setup.contents, models, of_content)
    for watch in (of_content, of_style):
        if watch.problems:
            setup.facts.append(f"{len(watch.problems)} {watch.option} pictures cannot be read and are left out")
    if rest.embeddings or rest.numbers:
        sets[STYLES] = rest
    return summary(sets, reference, setup.names), sets


def _write(setup: Setup, judge: Judge, models: dict[str, Any], table: dict[str, Any], sets: dict[str, Any]) -> None:
    for fact in setup.facts:
        print(fact)
    print(as_text(table))
    write_bytes(setup.output / "metrics.json", as_json(setup, table, sets).encode())
    page: Path = setup.output / "report.html"
    results = {name: measured for name, measured in sets.items() if name not in (PHOTOS, STYLES)}
    write_text(page, make_report(setup, judge, models, table, results))
    print(f"numbers: {setup.output / 'metrics.json'}\nreport:  {page}")


def make_setup(cfg: DictConfig) -> Setup:
    """Find models and pictures, and leave out what was trained on and what cannot be computed."""
    device = choose_device(cfg.runtime.device, cfg.runtime.threads)
    in_full_float32()
    specs = [str(spec) for spec in cfg.checkpoint] if isinstance(cfg.checkpoint, ListConfig) else [str(cfg.checkpoint)]
    if not specs:
        raise ValueError("checkpoint=[]: give at least one run, file or folder of results")
    if missing := [spec for spec in specs if not of_style(spec)[0].exists()]:
        raise ValueError(f"checkpoint={missing[0]}: there is no such file or folder")
    runs = {spec: _run_of(of_style(spec)[0]) for spec in specs}
    contents, left_out = _contents(cfg, runs)
    styles = _styles(cfg, runs)
    names, reasons = _names(cfg, len(contents), len(styles))
    facts = [
        f"{len(contents)} content pictures, {len(styles)} style pictures, short side {cfg.size}",
        *([f"{left_out} content pictures were trained on and are left out"] if left_out else []),
        *(f"not computed: {reason}" for reason in reasons),
    ]
    return Setup(cfg, device, specs, names, contents, styles, _output(cfg, specs), facts)


@dataclass(frozen=True)
class Trained:
    """The run that a model is of: its folder and the settings of its data."""

    folder: Path
    data: DictConfig


def _run_of(checkpoint: Path) -> Trained | None:
    """None where no run's folder is there to ask."""
    for folder in (checkpoint, *list(checkpoint.parents)[:2]):
        if (folder / "config.yaml").is_file():
            found = OmegaConf.load(folder / "config.yaml")
            known = isinstance(found, DictConfig) and isinstance(found.get("data"), DictConfig)
            return Trained(folder, found.data) if known else None
    return None


def _contents(cfg: DictConfig, runs: Mapping[str, Trained | None]) -> tuple[list[Path], int]:
    """(the pictures to measure on, how many of those asked for were trained on)."""
    trained: set[Path] = set()
    held_out: list[Path] = []
    for spec, run in runs.items():
        try:
            used, kept = _split_of(run)
        except ValueError as error:
            warnings.warn(f"{spec}: its training pictures are not there to be left out ({error})", stacklevel=2)
            continue
        if run is not None and changed_since(run.folder, {"content": used}):
            warnings.warn(
                f"{spec}: data.content is not what this run was trained on (pictures were added, removed or changed): "
                f"its held-out pictures are others now, and some may have been trained on; give content=...",
                stacklevel=2,
            )
        trained |= {path.resolve() for path in used}
        held_out = held_out or kept
    if cfg.content is None and not held_out:
        raise ValueError("content=... is missing, and the first run has no held-out pictures to take instead")
    asked = held_out if cfg.content is None else find_pictures(plain(cfg.content), "content")
    chosen = [path for path in asked if path.resolve() not in trained]
    if not chosen:
        raise ValueError(f"content={cfg.content}: all {len(asked)} pictures were trained on; give others")
    count = min(len(chosen), cfg.max_pictures or len(chosen))
    return [chosen[i * len(chosen) // count] for i in range(count)], len(asked) - len(chosen)


def _split_of(run: Trained | None) -> tuple[list[Path], list[Path]]:
    """(trained on, held out) of a run, of the pictures that are there today."""
    if run is None:
        return [], []
    used, kept, _ = split(plain(run.data.content), plain(run.data.holdout), run.data.holdout_count)
    return used, kept


def _styles(cfg: DictConfig, runs: Mapping[str, Trained | None]) -> list[Path]:
    if cfg.style is not None:
        return find_pictures(plain(cfg.style), "style")
    spec, first = next(((spec, run) for spec, run in runs.items() if run is not None), ("", None))
    if first is None:
        raise ValueError("style=... is missing, and there is no run whose style pictures could be taken")
    style, asked = plain(first.data.style), of_style(spec)[1]
    if isinstance(style, dict):
        if asked not in style:
            raise no_style(spec, style)
        return find_pictures(style[asked], "style")
    return find_pictures(style if asked is None else asked, "style")  # a picture that the style is taken from


def _names(cfg: DictConfig, photos: int, styles: int) -> tuple[list[str], list[str]]:
    """(metrics to compute, why others are not). Those asked for by name have to be possible."""
    asked = plain(cfg.metrics)
    if asked is not None and (not isinstance(asked, list) or not asked):
        raise ValueError(f"metrics={asked}: a list of names expected, such as [content, style], or null")
    names = list(asked or DEFAULT)
    check_names(names)
    reasons = why_not(names, photos, styles)
    if reasons and asked is not None:
        raise ValueError("metrics: " + "; ".join(reasons.values()))
    return [name for name in names if name not in reasons], list(reasons.values())


def _output(cfg: DictConfig, specs: Sequence[str]) -> Path:
    if cfg.output is not None:
        return Path(cfg.output).expanduser()
    first = of_style(specs[0])[0]
    if not (first / "config.yaml").is_file():
        raise ValueError("output=... is missing: give a folder for metrics.json and report.html")
    return first / "evaluation"


def open_models(setup: Setup) -> dict[str, Results]:
    """{label: results}."""
    opened = [open_results(spec, setup.device) for spec in setup.specs]
    stem, count = Counter(path.stem for path in setup.contents).most_common(1)[0]
    if count > 1 and any(isinstance(one, Found) for one in opened):
        raise ValueError(f"content: {count} pictures are called {stem}, and a folder of results has one for them all")
    for one in opened:
        if isinstance(one, Found):
            one.check(setup.contents)
    return dict(zip(labels(setup.specs), opened, strict=True))


def make_judge(setup: Setup, group: Ranks, say: Callable[[str], None]) -> Judge:
    """The perceptual network, calibrated on content pictures, and the metrics' own networks."""
    cfg, names = setup.cfg, setup.names
    layers = plain(cfg.layers)
    deep = [layer for kind in layers.values() for layer in kind]
    perceptual = placed(build(cfg.perceptual, "perceptual", layers=deep), setup.device)
    if cfg.calibration_pictures and not perceptual.scales_given:
        perceptual.calibrate(_calibration_pictures(setup))
    wants_inception = {"fid", "artfid"} & set(names)
    ruler = Ruler(
        perceptual=perceptual,
        names=names,
        content_layers=layers["content"],
        style_layers=layers["style"],
        embedding_layers=layers["embedding"],
        lpips=lpips(setup.device) if {"lpips", "artfid"} & set(names) else None,
        inception=inception(cfg.inception_weights, setup.device) if wants_inception else None,
    )
    scales = ", ".join(f"{layer} {scale:.3g}" for layer, scale in perceptual.scales.items())
    setup.facts.append(f"perceptual network {perceptual.architecture.name}; feature scales {scales}")
    return Judge(ruler, cfg.size, setup.device, group, say)


def _calibration_pictures(setup: Setup) -> list[torch.Tensor]:
    """Evenly spread; those that cannot be read are named when it is their turn to be measured."""
    count = min(setup.cfg.calibration_pictures, len(setup.contents))
    found = []
    for path in (setup.contents[i * len(setup.contents) // count] for i in range(count)):
        with suppress(UnreadablePictureError):
            found.append(to_float(decode(path, short_side=setup.cfg.size)[None].to(setup.device)))
    if not found:
        raise ValueError(f"content: none of {count} pictures can be read, the first of them {setup.contents[0]}")
    return found


def as_text(table: Scores) -> str:
    """The table for a terminal, metrics downward."""
    names = columns(table, layers=True)
    rows = [["", *table], *([name, *(number(found.get(name)) for found in table.values())] for name in names)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_json(setup: Setup, table: Scores, sets: Mapping[str, Measured]) -> str:
    """Everything: settings, versions, the table, and each picture's numbers."""
    pictures = {
        name: {_name(setup, name, n): numbers for n, numbers in measured.numbers.items()}
        for name, measured in sets.items()
    }
    versions = {"gan_style": __version__, "torch": torch.__version__, "python": platform.python_version()}
    content = {
        "settings": plain(setup.cfg),
        "versions": versions,
        "facts": setup.facts,
        "models": dict(zip(labels(setup.specs), map(_model, setup.specs), strict=True)),
        "content": fingerprint(setup.contents),
        "references": fingerprint(setup.styles),
        "metrics": {name: {k: asdict(one) for k, one in found.items()} for name, found in table.items()},
        "pictures": pictures,
    }
    return json.dumps(content, indent=1)


def _model(spec: str) -> dict[str, Any]:
    """Where it was found, and after how many steps; None where its file, or a folder of pictures, does not say."""
    place = of_style(spec)[0]
    try:
        step = step_of(find_generator(place))
    except ValueError:
        step = None
    return {"place": str(place.resolve()), "step": step}


def _name(setup: Setup, name: str, picture: int) -> str:
    return str((setup.styles if name == STYLES else setup.contents)[picture])


def make_report(
    setup: Setup, judge: Judge, models: Mapping[str, Results], table: Scores, results: Mapping[str, Measured]
) -> str:
    """The page; the results on its sheet are made once more."""
    sheet = []
    for n in worst(results, setup.cfg.report_pictures):
        path = setup.contents[n]
        content = to_float(decode(path, short_side=setup.cfg.size)[None].to(setup.device))
        pictures = {PHOTOS: content} | {name: made(path, content) for name, made in models.items()}
        numbers = {name: results[name].numbers[n] for name in models}
        small = {name: thumbnail(picture) for name, picture in pictures.items()}
        sheet.append(sheet_row(path.name, small, numbers, list(models)))
    return report(title="Evaluation", facts=setup.facts, scores=table, sheet=sheet)


if __name__ == "__main__":
    main()
