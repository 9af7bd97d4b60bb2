"""Stylizing files: which goes where, and one after the other."""

import errno
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gan_style.images.decode import encode, grid, to_float
from gan_style.images.formats import (
    FORMAT_OF_SUFFIX,
    UNREAD_SUFFIXES,
    UnreadablePictureError,
    check_fits,
    format_for,
    is_broken_link,
    known_suffixes,
    list_pictures,
)
from gan_style.images.lossless import (
    Original,
    lost_in,
    on_white,
    preview,
    read_original,
    to_eight_bits,
    write_original,
)
from gan_style.runtime.files import file_hash, identity, write_bytes, write_durably
from gan_style.runtime.machine import is_shortage
from gan_style.runtime.provenance import result_mark
from gan_style.stylize.controls import Controls, MaskFinder, Regions, option_of, read_mask
from gan_style.stylize.model import Model, encoder_input
from gan_style.stylize.paint import paint
from gan_style.stylize.regions import MaskPlan, find_masks

if TYPE_CHECKING:  # the perceptual network is loaded where regions are wanted by name
    from gan_style.regions.segment import NamedMasks

_SHEET_HEIGHT, _SHEET_WIDTH = 1024, 32_000  # pixels of each of a sheet's two pictures, at most
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # errors that the next picture would meet, too

Refine = Callable[[nn.Module, Tensor], nn.Module]  # a generator, a picture (1, 3, H, W): the generator for that picture


class UnwritableResultError(OSError):
    """A result that its file, or the file system, has no place for; the message says why."""


@dataclass(frozen=True)
class PictureJob:
    """One picture to read and where its result goes; masks: {style, or "" for all: a mask's file}; classes: its
    class-index mask; sheet: where before and after are put side by side, if at all.
    """

    source: Path
    target: Path
    masks: Mapping[str, Path] = field(default_factory=dict)
    classes: Path | None = None
    sheet: Path | None = None

    @property
    def outputs(self) -> list[Path]:
        """Return the files that are written."""
        return [self.target] if self.sheet is None else [self.target, self.sheet]


def plan_file(source: Path, output: Path) -> list[PictureJob]:
    """Plan one picture: ``output`` is a picture's name, or a folder to put it into."""
    if is_broken_link(source):
        raise ValueError(f"input={source} is a link to {source.readlink()}, and there is no such file")
    if not source.is_file():
        raise ValueError(f"input={source}: there is no such file or folder")
    if hint := UNREAD_SUFFIXES.get(source.suffix.lower()):
        raise ValueError(f"input={source}: {hint}")
    if output.suffix.lower() in UNREAD_SUFFIXES and not output.is_dir():
        raise ValueError(f"output={output}: cannot write {output.suffix}; known are {known_suffixes()}")
    names_file = output.suffix.lower() in FORMAT_OF_SUFFIX and not output.is_dir()
    target = output if names_file else output / source.name
    if target.suffix.lower() not in FORMAT_OF_SUFFIX:
        raise ValueError(f"input={source} has no picture's suffix; name the result, such as output=result.png")
    if identity(target) == identity(source):
        raise ValueError(f"output={output} is the input itself; results are never written over it")
    return [PictureJob(source, target)]


def plan_folder(source: Path, output: Path) -> list[PictureJob]:
    """Plan all pictures below a folder; the tree and the names are kept below ``output``, which lies outside of it."""
    if output.suffix.lower() in FORMAT_OF_SUFFIX and not output.is_dir():
        raise ValueError(f"output={output} is a picture's name, but input={source} is a folder; give a folder")
    if output.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"output={output} lies inside input={source}; results are never written into the input")
    pictures = list_pictures(source)
    if not pictures:
        raise ValueError(f"input={source}: there is no picture in this folder (known: {known_suffixes()})")
    jobs = [PictureJob(path, output / path.relative_to(source)) for path in pictures]
    inside = [job.target for job in jobs if job.target.resolve().is_relative_to(source.resolve())]
    if inside:
        raise ValueError(f"output={output} would write {inside[0]} into input={source}; give another folder")
    return jobs


def with_masks(
    jobs: Sequence[PictureJob], root: Path, masks: Mapping[str, Path], classes: Path | None = None
) -> list[PictureJob]:
    """Return the jobs with their masks: a file is that of every picture; a folder has one for each, of the same name.

    root: the folder that the pictures are below of; classes: class-index masks. ValueError for one that is not there.
    """
    finders = {name: MaskFinder(place, option_of(name)) for name, place in masks.items()}
    find_classes = None if classes is None else MaskFinder(classes, "segmentation.masks")
    names = [job.source.relative_to(root) for job in jobs]
    return [
        replace(
            job,
            masks={style: find(name) for style, find in finders.items()},
            classes=None if find_classes is None else find_classes(name),
        )
        for job, name in zip(jobs, names, strict=True)
    ]


def with_sheets(jobs: Sequence[PictureJob]) -> list[PictureJob]:
    """Return the jobs with sheets: a.before_after.jpg of a.jpg; a.jpg.before_after.jpg where a.png is beside it."""
    stems = Counter(job.target.with_suffix("") for job in jobs)
    names = [job.target.stem if stems[job.target.with_suffix("")] == 1 else job.target.name for job in jobs]
    return [
        replace(job, sheet=job.target.with_name(f"{name}.before_after.jpg"))
        for job, name in zip(jobs, names, strict=True)
    ]


def check_outputs(jobs: Sequence[PictureJob], references: Iterable[Path] = ()) -> None:
    """Raise ValueError where something would be written over what is read, or over another result."""
    inputs = {identity(path): "a style's picture" for path in references}
    inputs |= {identity(job.source): "an input" for job in jobs}
    inputs |= {identity(path): "a mask" for job in jobs for path in (*job.masks.values(), job.classes) if path}
    written: set[Path] = set()
    for path in (path for job in jobs for path in job.outputs):
        if identity(path) in inputs:
            raise ValueError(f"output: {path} is {inputs[identity(path)]}; nothing is written over it")
        if path.resolve() in written:
            raise ValueError(f"output: {path} would be written twice; rename one of the pictures")
        written.add(path.resolve())


@torch.inference_mode()
def stylize(generator: nn.Module, picture: Tensor, device: torch.device) -> Tensor:
    """Stylize uint8 (3, H, W) by a one-style generator: float (3, H, W) in [-1, 1], on the CPU."""
    content = to_float(picture[None].to(device)).contiguous(memory_format=torch.channels_last)
    return generator(content)[0].float().cpu()


@dataclass(frozen=True)
class BatchStylizer:
    """Stylizes files one after the other.

    note: what made the results, for their metadata (images.decode.encode); settings: all that they depend on besides
    their own files (JSON types); plan: where which style is wanted; named: finds the regions that it names; refine:
    makes the generator for each picture, of the model's and the picture in [-1, 1].
    """

    model: Model
    controls: Controls
    note: Mapping[str, Any]
    settings: Mapping[str, Any]
    refine: Refine | None = None
    max_megapixels: float = 200.0
    plan: MaskPlan = field(default_factory=MaskPlan)
    named: "NamedMasks | None" = None

    def __call__(self, jobs: Sequence[PictureJob]) -> Iterator[tuple[PictureJob, str | None, list[str]]]:
        """Yield each job with None, or with why there is no result of it, and with what its result is without.

        Each result appears whole or not at all. OSError for a target without room, or that may not be written, passes
        through, as does the ValueError for a mask that does not fit.
        """
        for job in jobs:
            try:
                lost = self._stylize(job)
            except (UnreadablePictureError, UnwritableResultError) as error:
                yield job, str(error), []
            except (MemoryError, RuntimeError) as error:
                if not is_shortage(error):
                    raise
                yield job, f"not enough memory for {job.source}; give tile=512, or runtime.device=cpu", []
            else:
                yield job, None, lost

    def mark(self, job: PictureJob) -> str:
        """Return what marks the results of a job (runtime.outputs)."""
        masks = {name: file_hash(path) for name, path in job.masks.items()}
        classes = {} if job.classes is None else {"classes": file_hash(job.classes)}
        return result_mark("stylize", {**self.settings, "input": file_hash(job.source), "masks": masks, **classes})

    def _stylize(self, job: PictureJob) -> list[str]:
        # Read, and see that the result will have a place.
        original, suffix = read_original(job.source, max_megapixels=self.max_megapixels), job.target.suffix.lower()
        lost = lost_in(original, suffix)
        if not format_for(suffix).alpha:
            original = on_white(original)  # so that the network sees what will be seen
        with _written(job.target):
            check_fits(suffix, *original.pixels.shape[1:])

        # Paint.
        model = self.model
        if self.refine is not None:
            model = replace(model, generator=self.refine(model.generator, encoder_input(original)))
        pixels = paint(
            model, original.pixels, self.controls, alpha=original.alpha, regions=self._regions(job, original)
        )
        result = replace(original, pixels=pixels)
        before = preview(original, _SHEET_HEIGHT, _SHEET_WIDTH) if job.sheet else None
        del original  # 100 megapixels are not held twice while they are encoded

        # Write the result, and the sheet beside it.
        note = {**self.note, "result": self.mark(job)}
        with _written(job.target):
            job.target.parent.mkdir(parents=True, exist_ok=True)
            write_durably(job.target, lambda file: write_original(file, suffix, result, note=note))
        if before is not None and job.sheet is not None:
            pair = [to_float(picture) for picture in (before, preview(result, _SHEET_HEIGHT, _SHEET_WIDTH))]
            with _written(job.sheet):
                write_bytes(job.sheet, encode(grid([pair]), ".jpg", note=note))
        return lost

    def _regions(self, job: PictureJob, original: Original) -> Regions | None:
        if not (job.masks or self.plan.order):
            return None

        def read(name: str, path: Path) -> Tensor:
            return read_mask(path, option_of(name), max_megapixels=self.max_megapixels)

        pixels = to_eight_bits(original).pixels
        try:
            return find_masks(
                replace(self.plan, files=job.masks), read, self.named, pixels, job.classes, self.controls.mix
            )
        except ValueError as error:
            files = ", ".join(str(path) for path in (*job.masks.values(), job.classes) if path)
            raise ValueError(f"{error} ({job.source}{' with ' * bool(files)}{files})") from error


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Raise UnwritableResultError where something is written to a path that this result alone has no place at."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # encoders raise OSError, ValueError, RuntimeError
        if (isinstance(error, OSError) and error.errno in _NO_ROOM) or is_shortage(error):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise UnwritableResultError(f"cannot write {path}: {reason}") from error
