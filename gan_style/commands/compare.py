"""``gan-style compare``: runs side by side, from what they have left in their folders."""

import shutil
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from gan_style.cli import command
from gan_style.config import flat, plain
from gan_style.data.pictures import find_pictures
from gan_style.data.sets import split
from gan_style.images.decode import decode, to_float
from gan_style.images.formats import UnreadablePictureError, list_pictures
from gan_style.options import Runtime, listed, option
from gan_style.report.comparison import Sheet, report
from gan_style.report.html import data_uri, thumbnail
from gan_style.report.runs import CONFIG_FILE, Run, find_runs, labels, measured_differently, read_run, stale
from gan_style.report.table import (
    as_csv,
    as_text,
    axes_of,
    check_common,
    curve_names,
    make_table,
    protocol_differences,
    scale_spread,
)
from gan_style.runtime.device import choose_device
from gan_style.runtime.files import check_place, ensure_writable, write_text
from gan_style.runtime.machine import first_line
from gan_style.runtime.progress import warn
from gan_style.runtime.provenance import carries, check_replaceable, marked_page, options_mark
from gan_style.stylize.model import load_painter

_FACTS = (
    "metrics are the last ones that each run has left; heldout/ is measured on its held-out pictures, of the averaged "
    "generator, loss/ on its last batch",
    "time is that of all steps at the speed that was measured last",
)
_ALIKE = "gan-style evaluate checkpoint=[...] with all runs measures them alike"
_SCALES_APART = 0.01  # share by which feature scales may differ without a warning


@dataclass(kw_only=True)
class CompareOptions:
    runs: Any = option(path=True, many=True, required=True)
    output: str = option(path=True)
    overwrite: bool
    curves: list[str] | None
    content: Any = option(path=True)
    pictures: int = option(0)
    size: int = option(16)
    runtime: Runtime


@command("compare", CompareOptions)
def main(cfg: DictConfig) -> None:
    """Compare runs: a table, content against style, curves and pictures; finished, unfinished and failed ones alike.

    The runs' folders are given as plain words, gan-style compare runs/a sweeps/x, or as runs=[runs/a,sweeps/x].
    """
    messages: list[str] = []  # which the report shows, too

    def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
        messages.append(str(message))
        warn(str(message))

    warnings.showwarning = show_warning

    # Read the runs and print their table.
    output = Path(cfg.output).expanduser()
    check_place(output, "output")
    table_file, page_file = output / "summary.csv", output / "report.html"
    mark = options_mark("compare", plain(cfg))
    replaceable = [page_file] if carries(page_file, mark) else [page_file, table_file]  # a CSV holds no mark
    check_replaceable(((path, lambda: mark) for path in replaceable), overwrite=cfg.overwrite)
    runs = read_runs(listed(cfg.runs))
    check_common(runs)
    names = curve_names(runs, cfg.curves)
    table = make_table(runs)
    warn_of(runs)
    print(as_text(table, shutil.get_terminal_size((160, 24)).columns), flush=True)

    # Stylize photos with all of them, and write.
    counts = Counter(run.status for run in runs.values())
    statuses = ", ".join(f"{count} {status}" for status, count in counts.items())
    page = report(
        title="Comparison of runs",
        facts=[f"{len(runs)} runs: {statuses}", *_FACTS],
        sheet=make_sheet(cfg, runs),
        warnings=messages,
        table=table,
        axes=axes_of(table),
        series={name: {k: run.series[name] for k, run in runs.items() if name in run.series} for name in names},
    )
    ensure_writable(output, "output")
    write_text(page_file, marked_page(page, mark))
    write_text(table_file, as_csv(table))
    print(f"table:  {table_file}\nreport: {page_file}")


def read_runs(places: Sequence[str]) -> dict[str, Run]:
    """Return {label: run} of the folders that are named, each once, in their order."""
    folder_of = {path.resolve(): path for place in places for path in find_runs(Path(place).expanduser())}
    folders = list(folder_of.values())
    return dict(zip(labels(folders), map(read_run_of, folders), strict=True))


def read_run_of(folder: Path) -> Run:
    """Read a run's folder. A run whose settings cannot be read is one without settings; it says so."""
    return read_run(folder, *read_settings(folder))


def read_settings(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return a run's settings, flat, and what is wrong with them where they cannot be read."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        return {}, [f"{folder} has no {CONFIG_FILE}"]
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception as error:  # YAML's and OmegaConf's own classes, OSError, UnicodeDecodeError
        return {}, [f"{path} cannot be read ({first_line(error)})"]
    return (flat(content), []) if isinstance(content, dict) else ({}, [f"{path} holds no settings"])


def warn_of(runs: Mapping[str, Run]) -> None:
    """Warn of what cannot be read, and of what cannot be compared."""
    for run in runs.values():
        for problem in run.problems:
            warnings.warn(problem, stacklevel=2)
    for label, (then, now) in stale(runs).items():
        warnings.warn(f"evaluate/ of {label} was measured after {then:,} steps, it has {now:,} now", stacklevel=3)
    if measured_differently(runs):
        differ = "evaluate/ was measured in several evaluations that differ in their settings or pictures"
        warnings.warn(f"{differ}, so those numbers are of different scales here; {_ALIKE}", stacklevel=3)
    if keys := protocol_differences(runs):
        differ = f"the runs differ in {', '.join(keys)}, with which held-out numbers and losses are measured"
        warnings.warn(f"{differ}: those are of different scales here; {_ALIKE}", stacklevel=2)
    elif (apart := scale_spread(runs)) > _SCALES_APART:
        differ = f"the runs' feature scales differ by up to {100 * apart:.0f} %, and held-out numbers by more"
        hint = "more training.calibration_pictures, or perceptual.scales, bring them together"
        warnings.warn(f"{differ}; {hint}; {_ALIKE}", stacklevel=2)


def make_sheet(cfg: DictConfig, runs: Mapping[str, Run]) -> Sheet:
    """Show the same photos through each run's generator; where the photos are not there, each run's last sample grid.

    Made anew rather than cut from the grids: these do not say where one picture ends, are compressed, and differ
    between runs with other held-out pictures or sizes.
    """
    if cfg.pictures == 0:
        return Sheet("pictures=0: none were asked for.", [])
    try:
        contents = _photos(cfg, runs)
    except ValueError as error:
        if cfg.content is not None:
            raise
        message = f"the sheet shows each run's own last samples, since its photos are not there ({error})"
        warnings.warn(message, stacklevel=2)
        grids = _grids(runs)
        note = "Each run's last samples: content, style and result."
        return Sheet(note, [("last samples", grids)] if grids else [])
    device = choose_device(cfg.runtime.device, cfg.runtime.threads)
    rows = {path: {Sheet.photo: thumbnail(content)} for path, content in contents.items()}
    for label, run in runs.items():
        if run.generator is None:
            continue
        try:
            generator = load_painter(str(run.folder), device)
        except ValueError as error:
            warnings.warn(f"{error}; it is not on the sheet", stacklevel=2)
            continue
        with torch.inference_mode():
            for path, picture in contents.items():
                rows[path][label] = thumbnail(generator(picture.to(device)))
    note = f"{len(rows)} photos through each run's generator as it was saved last; a run without one is left out."
    return Sheet(note, [*_styles(runs), *((path.name, uris) for path, uris in rows.items())])


def _photos(cfg: DictConfig, runs: Mapping[str, Run]) -> dict[Path, Tensor]:
    """Read photos: those asked for, or held out by the first run whose pictures are there."""
    paths = find_pictures(plain(cfg.content), "content") if cfg.content is not None else _held_out(runs)
    photos: dict[Path, Tensor] = {}
    for path in paths:
        if len(photos) == cfg.pictures:
            break
        try:
            photos[path] = to_float(decode(path, short_side=cfg.size)[None])
        except UnreadablePictureError as error:
            warnings.warn(f"{error}; it is left out", stacklevel=2)
    if not photos:
        raise ValueError(f"content: none of {len(paths)} pictures can be read")
    return photos


def _held_out(runs: Mapping[str, Run]) -> list[Path]:
    reason = "no run says what it was trained on"
    for run in runs.values():
        content = run.data("content")
        if content is None:
            continue
        try:
            trained, held_out, _ = split(content, run.data("holdout"), run.settings.get("data.holdout_count", 0))
        except ValueError as error:
            reason = str(error)
            continue
        return held_out or trained
    raise ValueError(reason)


def _styles(runs: Mapping[str, Run]) -> list[tuple[str, dict[str, str]]]:
    """Return a row of each run's first style picture; where they have the same one, it stands once."""
    pictures: dict[str, Path] = {}
    uris: dict[Path, str] = {}
    for label, run in runs.items():
        with suppress(ValueError):  # it says none, or it cannot be read
            path = find_pictures(run.data("style"), "data.style")[0]
            uris.setdefault(path, thumbnail(to_float(decode(path, short_side=256)[None])))
            pictures[label] = path
    if len(uris) == 1:
        return [("style", {Sheet.photo: next(iter(uris.values()))})]
    return [("style", {label: uris[path] for label, path in pictures.items()})] if pictures else []


def _grids(runs: Mapping[str, Run]) -> dict[str, str]:
    """Return each run's last sample grid as it is."""
    pictures = {}
    for label, run in runs.items():
        for path in list_pictures(run.folder / "samples")[-1:]:
            try:
                pictures[label] = data_uri(decode(path))
            except UnreadablePictureError as error:
                warnings.warn(f"{error}; it is not on the sheet", stacklevel=2)
    return pictures


if __name__ == "__main__":
    main()
