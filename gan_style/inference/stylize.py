"""Stylizing files: which goes where, and one after the other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_style.files import write_bytes
from gan_style.images import (
    FORMAT_BY_SUFFIX,
    OTHER_PICTURE_SUFFIXES,
    UnreadablePictureError,
    decode,
    encode,
    list_pictures,
    to_float,
)


@dataclass(frozen=True)
class Job:
    """One picture to read and where its result goes."""

    source: Path
    target: Path


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


@torch.inference_mode()
def stylize(generator: nn.Module, picture: Tensor, device: torch.device) -> Tensor:
    """uint8 (3, H, W) to the result, float (3, H, W) in [-1, 1], on the CPU; any size, kept exactly."""
    content = to_float(picture[None].to(device)).contiguous(memory_format=torch.channels_last)
    return generator(content)[0].float().cpu()


def run(
    generator: nn.Module, jobs: Sequence[Job], device: torch.device, *, note: Mapping[str, Any] | None = None
) -> Iterator[tuple[Job, str | None]]:
    """Stylize one after the other; yields each job with None, or with why its picture could not be read.

    note: what the results are made by, for their metadata (images.encode).
    Each result appears whole or not at all. OSError for a target that cannot be written passes through.
    """
    for job in jobs:
        try:
            picture = decode(job.source)
        except UnreadablePictureError as error:
            yield job, str(error)
            continue
        result = stylize(generator, picture, device)
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(job.target, encode(result, job.target.suffix, note=note))
        yield job, None
