"""Stylizing files: which goes where, and one after the other."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_style.images.decode import (
    FORMAT_BY_SUFFIX,
    OTHER_PICTURE_SUFFIXES,
    UnreadablePictureError,
    encode,
    grid,
    list_pictures,
    to_float,
)
from gan_style.images.lossless import (
    ALPHA_SUFFIXES,
    DEEP_SUFFIXES,
    PROFILE_SUFFIXES,
    Original,
    on_white,
    preview,
    read_original,
    write_original,
)
from gan_style.runtime.files import write_bytes, write_durably
from gan_style.runtime.machine import is_shortage
from gan_style.stylize.controls import Controls, mask_file, option_of, read_mask, regions_of
from gan_style.stylize.model import Model
from gan_style.stylize.paint import paint

_SHEET_HEIGHT = 1024  # pixels, at most


@dataclass(frozen=True)
class Job:
    """One picture to read and where its result goes; masks: {style, or "" for all: a mask's file}; sheet: where before
    and after are put side by side, if at all.
    """

    source: Path
    target: Path
    masks: Mapping[str, Path] = field(default_factory=dict)
    sheet: Path | None = None


def plan_file(source: Path, output: Path) -> list[Job]:
    """One picture: ``output`` is a picture's name, or a folder to put it into."""
    named = output.suffix.lower() in FORMAT_BY_SUFFIX and not output.is_dir()
    if output.suffix.lower() in OTHER_PICTURE_SUFFIXES and not output.is_dir():
        raise ValueError(f"output={output}: cannot write {output.suffix}; known are {', '.join(FORMAT_BY_SUFFIX)}")
    if source.suffix.lower() in OTHER_PICTURE_SUFFIXES:
        raise ValueError(f"input={source}: cannot read {source.suffix}; known are {', '.join(FORMAT_BY_SUFFIX)}")
    target = output if named else output / source.name
    if target.suffix.lower() not in FORMAT_BY_SUFFIX:
        raise ValueError(f"input={source} has no picture's suffix; name the result, such as output=result.png")
    if target.resolve() == source.resolve():
        raise ValueError(f"output={output} is the input itself; results are never written over it")
    return [Job(source, target)]


def plan_folder(source: Path, output: Path) -> list[Job]:
    """All pictures below a folder; the tree and the names are kept below ``output``, which lies outside the folder."""
    if output.suffix.lower() in FORMAT_BY_SUFFIX and not output.is_dir():
        raise ValueError(f"output={output} is a picture's name, but input={source} is a folder; give a folder")
    if output.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"output={output} lies inside input={source}; results are never written into the input")
    pictures = list_pictures(source)
    if not pictures:
        raise ValueError(f"input={source}: there is no picture in this folder (known: {', '.join(FORMAT_BY_SUFFIX)})")
    jobs = [Job(path, output / path.relative_to(source)) for path in pictures]
    inside = [job.target for job in jobs if job.target.resolve().is_relative_to(source.resolve())]
    if inside:
        raise ValueError(f"output={output} would write {inside[0]} into input={source}; give another folder")
    return jobs


def with_masks(jobs: Sequence[Job], root: Path, masks: Mapping[str, Path]) -> list[Job]:
    """The jobs with their masks: a file is that of every picture; a folder has one for each, of the same name.

    root: the folder that the pictures are below of. ValueError for a mask that is not there.
    """
    return [
        replace(job, masks={name: mask_file(place, job.source, root, option_of(name)) for name, place in masks.items()})
        for job in jobs
    ]


def with_sheets(jobs: Sequence[Job]) -> list[Job]:
    """The jobs with sheets: of a.jpg a.before_after.jpg, or, where a.png is beside it, a.jpg.before_after.jpg."""
    stems = Counter(job.target.with_suffix("") for job in jobs)
    names = [job.target.stem if stems[job.target.with_suffix("")] == 1 else job.target.name for job in jobs]
    return [
        replace(job, sheet=job.target.with_name(f"{name}.before_after.jpg"))
        for job, name in zip(jobs, names, strict=True)
    ]


def check_outputs(jobs: Sequence[Job], references: Iterable[Path] = ()) -> None:
    """ValueError where something would be written over what is read, or over another result."""
    read = {path.resolve(): "a style's picture" for path in references}
    read |= {job.source.resolve(): "an input" for job in jobs}
    read |= {path.resolve(): "a mask" for job in jobs for path in job.masks.values()}
    written: set[Path] = set()
    for path in (path for job in jobs for path in (job.target, job.sheet) if path is not None):
        if path.resolve() in read:
            raise ValueError(f"output: {path} is {read[path.resolve()]}; nothing is written over it")
        if path.resolve() in written:
            raise ValueError(f"output: {path} would be written twice; rename one of the pictures")
        written.add(path.resolve())


@torch.inference_mode()
def stylize(generator: nn.Module, picture: Tensor, device: torch.device) -> Tensor:
    """uint8 (3, H, W) to a one-style generator's result, float (3, H, W) in [-1, 1], on the CPU; any size, kept."""
    content = to_float(picture[None].to(device)).contiguous(memory_format=torch.channels_last)
    return generator(content)[0].float().cpu()


@dataclass(frozen=True)
class Run:
    """What all pictures of a run have in common; note: what made the results, for their metadata (images.encode)."""

    model: Model
    controls: Controls
    note: Mapping[str, Any] | None = None
    max_megapixels: float = 200.0

    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, str | None, list[str]]]:
        """One after the other: each job with None, or with why there is no result of it, and what is lost of it.

        Each result appears whole or not at all. OSError for a target that cannot be written passes through, as does
        the ValueError for a mask that does not fit.
        """
        for job in jobs:
            try:
                lost = self._made(job)
            except UnreadablePictureError as error:
                yield job, str(error), []
            except (MemoryError, RuntimeError) as error:
                if not is_shortage(error):
                    raise
                yield job, f"not enough memory for {job.source}; give tile=512, or runtime.device=cpu", []
            else:
                yield job, None, lost

    def _made(self, job: Job) -> list[str]:
        original, suffix = read_original(job.source, max_megapixels=self.max_megapixels), job.target.suffix.lower()
        lost = lost_in(original, suffix)
        if suffix not in ALPHA_SUFFIXES:
            original = on_white(original)  # so that the network sees what will be seen
        result = self._painted(job, original)
        before = preview(original, _SHEET_HEIGHT) if job.sheet else None
        del original  # 100 megapixels are not held twice while they are encoded
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_durably(job.target, lambda file: write_original(file, suffix, result, note=self.note))
        if before is not None and job.sheet is not None:
            pair = [to_float(picture) for picture in (before, preview(result, _SHEET_HEIGHT))]
            write_bytes(job.sheet, encode(grid([pair]), ".jpg", note=self.note))
        return lost

    def _painted(self, job: Job, original: Original) -> Original:
        masks = {
            name: read_mask(path, option_of(name), max_megapixels=self.max_megapixels)
            for name, path in job.masks.items()
        }
        try:
            regions = regions_of(masks, self.controls.mix)
            if regions is not None:
                regions.check_size(*original.pixels.shape[1:])
        except ValueError as error:
            files = ", ".join(str(path) for path in job.masks.values())
            raise ValueError(f"{error} ({job.source} with {files})") from error
        pixels = paint(self.model, original.pixels, self.controls, alpha=original.alpha, regions=regions)
        return replace(original, pixels=pixels)


def lost_in(original: Original, suffix: str) -> list[str]:
    """What a kind of file cannot hold of a picture, in words."""
    lost = []
    if original.alpha is not None and suffix not in ALPHA_SUFFIXES:
        lost.append(f"its transparency (it is laid on white); {', '.join(ALPHA_SUFFIXES)} keep it")
    if original.pixels.dtype == torch.uint16 and suffix not in DEEP_SUFFIXES:
        lost.append(f"its 16 bits (they are rounded to 8); {', '.join(DEEP_SUFFIXES)} keep them")
    if original.profile is not None and suffix not in PROFILE_SUFFIXES:
        lost.append(f"its colour profile; {', '.join(PROFILE_SUFFIXES)} keep it")
    if original.frames > 1:
        lost.append(f"all but the first of its {original.frames} pages or frames")
    if original.stripped:
        lost.append("its colour profile, which is not one of RGB")
    return lost
