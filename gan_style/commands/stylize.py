"""``gan-style stylize``: give pictures the style that a generator has learned."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from gan_style.cli import command
from gan_style.config import plain
from gan_style.demo import PREFIX, demo_pictures
from gan_style.images.formats import describe_others, format_for, scan_folder
from gan_style.options import Runtime, SegmentationOptions, listed, option
from gan_style.runtime.device import choose_device
from gan_style.runtime.files import ensure_writable, file_hash
from gan_style.runtime.progress import warn
from gan_style.runtime.provenance import check_replaceable, config_hash
from gan_style.stylize.batch import (
    BatchStylizer,
    PictureJob,
    check_outputs,
    plan_file,
    plan_folder,
    with_masks,
    with_sheets,
)
from gan_style.stylize.controls import Controls, check_names, mixture
from gan_style.stylize.model import (
    Model,
    any_style_model,
    equal_parts,
    find_references,
    load_model,
    read_references,
    resolve_model,
)
from gan_style.stylize.regions import MaskPlan, named_masks, plan_regions, region_settings

_MOST_NAMED = 100  # styles, in a picture's note
UNREADABLE = 3  # exit status: some pictures have no result


@dataclass(kw_only=True)
class StylizeOptions:
    input: str = option(path=True)
    output: str = option(path=True)
    checkpoint: str | None = option(path=True)
    style: Any = option(path=True)
    reference: Any = option(path=True, many=True)
    refine: int = option(0)
    strength: float
    mask: Any = option(path=True)
    regions: int | None = option(2, 12)
    segmentation: SegmentationOptions
    colours: str
    stroke: Any
    tile: Any
    max_megapixels: float = option(above=0, below=inf)
    sheet: bool
    overwrite: bool
    runtime: Runtime


@command("stylize", StylizeOptions)
def main(cfg: DictConfig) -> int:
    """Stylize a picture or a folder of pictures; status 3 where some could not be read or written."""
    # What is read, and what will be written: nothing that is read, and nothing twice.
    style, mask, segmentation = plain(cfg.style), plain(cfg.mask), plain(cfg.segmentation)
    device = choose_device(cfg.runtime.device, cfg.runtime.threads)
    style, plan, regions = plan_regions(style, mask, cfg.regions, segmentation)
    files = {name: Path(str(place)).expanduser() for name, place in plan.files.items()}
    classes = None if segmentation["masks"] is None else Path(segmentation["masks"]).expanduser()
    jobs, root = _plan(str(cfg.input), Path(cfg.output).expanduser())
    jobs = with_masks(jobs, root, files, classes)
    jobs = with_sheets(jobs) if cfg.sheet else jobs
    paintings = {} if cfg.reference is None else find_references(listed(cfg.reference))
    check_outputs(jobs, paintings.values())

    # The model, and what is asked of it.
    model, note, mix, references = choose_model(style, plan, cfg.checkpoint, paintings, device, cfg.max_megapixels)
    controls = Controls(mix, cfg.strength, cfg.colours, cfg.tile, cfg.stroke)
    find_named = named_masks(plan, segmentation, regions, device)
    settings = {
        "checkpoint": note["checkpoint"],
        "style": dict(controls.mix),
        "references": {name: file_hash(path) for name, path in paintings.items()},
        "strength": controls.strength,
        "colours": controls.colours,
        "stroke": controls.stroke,
        **region_settings(plan, segmentation, regions),
    }
    refiner = None
    if cfg.refine:
        from gan_style.optimise.refine import Refiner  # losses: nothing else here needs them

        settings["refine"], refiner = cfg.refine, Refiner(references, cfg.refine)
    stylizer = BatchStylizer(
        model,
        controls,
        _note(note, model, controls, plan),
        settings,
        refine=refiner,
        max_megapixels=cfg.max_megapixels,
        plan=plan,
        named=find_named,
    )

    # Only results of the same command are written over.
    outputs = ((path, partial(stylizer.mark, job)) for job in jobs for path in job.outputs)
    check_replaceable(outputs, overwrite=cfg.overwrite)
    ensure_writable(jobs[0].target.parent, "output")
    if without := [job.target for job in jobs if not format_for(job.target.suffix).metadata]:
        warn(f"{without[0]} cannot say what made it: its kind of file holds nothing but pixels")

    # One picture after the other.
    failures = 0
    for number, (job, problem, lost) in enumerate(stylizer(jobs), start=1):
        failures += problem is not None
        print(f"[{number}/{len(jobs)}] {job.target if problem is None else problem}", flush=True)
        for what in lost:
            warn(f"{job.target} is without {what}")
    if failures:
        print(f"gan-style stylize: {failures} of {len(jobs)} pictures have no result", file=sys.stderr)
    return UNREADABLE if failures else 0


def choose_model(
    style: Any,
    plan: MaskPlan,
    checkpoint: str | None,
    paintings: Mapping[str, Path],
    device: torch.device,
    max_megapixels: float,
) -> tuple[Model, dict[str, Any], dict[str, float], dict[str, Tensor]]:
    """Return the model that the options name, what its pictures say of it, the mixture of styles, the references."""
    place = None if checkpoint is None else Path(str(checkpoint)).expanduser()
    references = read_references(paintings, max_megapixels=max_megapixels)
    if references and place is None:
        place = any_style_model()
    names = [*([style] if isinstance(style, str) else style or ()), *filter(None, plan.order)]
    model, note = load_model(resolve_model(names, place), device, references)
    check_names(plan.order, model.styles)
    if style is None and references and not plan.by_style:
        style = equal_parts(model.styles)
    return model, note, mixture(style, model.styles, masked=plan.by_style), references


def _note(note: Mapping[str, Any], model: Model, controls: Controls, plan: MaskPlan) -> dict[str, Any]:
    """Return the pictures' metadata; of a generator of one style, they have the name it was trained under, if any."""
    styles: Any = dict(controls.mix) if controls.mix else list(plan.order)
    if len(controls.mix) > _MOST_NAMED:  # a hash, as metadata are small
        styles = {"styles": len(styles), "sha256": config_hash(styles)}
    style = note.get("style") if len(model.styles) == 1 else next(iter(styles)) if len(styles) == 1 else styles
    more = {"colours": controls.colours} if controls.colours != "style" else {}
    return {**note, "style": style, "strength": controls.strength, **more}


def _plan(source: str, output: Path) -> tuple[list[PictureJob], Path]:
    """Return what is to be done, and the folder that the pictures' names are below of."""
    if source.startswith(PREFIX):
        pictures = demo_pictures(source.removeprefix(PREFIX))
        jobs = [job for path in pictures for job in plan_file(path, output)]
        if len({job.target for job in jobs}) < len(jobs):
            raise ValueError(f"output={output} is one picture, but input={source} are {len(jobs)}; give a folder")
        return jobs, pictures[0].parent
    path = Path(source).expanduser()
    if not path.is_dir():
        return plan_file(path, output), path.parent
    if message := describe_others(scan_folder(path)[1]):
        warn(f"input={source}: {message}")
    return plan_folder(path, output), path


if __name__ == "__main__":
    main()
