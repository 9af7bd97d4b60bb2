"""Loading a trained generator, from what a run left behind."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gan_style.checkpoint import GENERATOR_FILE, CheckpointFolder, read_checkpoint, read_generator
from gan_style.files import file_hash
from gan_style.inference.references import library_of
from gan_style.models.generator import ResnetGenerator
from gan_style.models.library import LibraryGenerator, OneStyle, condition_of
from gan_style.models.reference import ReferenceGenerator
from gan_style.models.registry import rebuild
from gan_style.provenance import picture_note
from gan_style.runtime import placed

_LARGEST_REFERENCE = 100.0  # megapixels


def load_generator(checkpoint: Path, device: torch.device) -> nn.Module:
    """The EMA generator of a run's folder, of its generator.safetensors, or of one of its checkpoints (.pt).

    Raises ValueError, in the user's words, for a missing, damaged or foreign file.
    """
    path = find_generator(checkpoint)
    if path.suffix == ".pt":
        content: dict[str, Any] = read_checkpoint(path)
        weights, description = content["state"]["networks"]["ema"], content["generator"]
    else:
        weights, description = read_generator(path)
    generator = rebuild(description, weights, str(path))
    return placed(generator, device).requires_grad_(False).eval()


def load_painter(spec: str, device: torch.device) -> nn.Module:
    """Likewise, as a network that is called on pictures alone; of a library the style that ``FILE#STYLE`` names, and of
    a generator that takes its style from a picture that of ``FILE#PICTURE``.

    Raises ValueError too for a library without a style, or for one that it does not have.
    """
    place, style = of_style(spec)
    generator = load_generator(place, device)
    if isinstance(generator, ReferenceGenerator):
        if style is None:
            raise ValueError(f"checkpoint={spec}: it takes its style from a picture; name one, {place}#PICTURE")
        picture = {style: Path(style).expanduser()}
        generator = library_of(generator, picture, device, max_megapixels=_LARGEST_REFERENCE)
    if not isinstance(generator, LibraryGenerator):
        if style is not None:
            raise ValueError(f"checkpoint={spec}: {place} has no styles with names")
        if not isinstance(generator, ResnetGenerator):
            raise ValueError(f"checkpoint={spec}: a {type(generator).__name__} paints nothing from a photo alone")
        return generator
    if style is None or style not in generator.styles:
        raise no_style(spec, generator.styles)
    return OneStyle(generator, condition_of(generator.styles, {style: 1.0}, device))


def no_style(spec: str, styles: Iterable[str]) -> ValueError:
    """That a ``FILE#STYLE`` names none of these styles."""
    return ValueError(f"checkpoint={spec}: choose one of its styles, {of_style(spec)[0]}#NAME: {', '.join(styles)}")


def of_style(spec: str) -> tuple[Path, str | None]:
    """(file or folder, style or picture) of ``FILE#STYLE``; a path that exists as it is written is one."""
    whole = Path(spec).expanduser()
    place, mark, style = spec.rpartition("#")
    return (Path(place).expanduser(), style) if mark and place and not whole.exists() else (whole, None)


def note_of(path: Path) -> dict[str, Any]:
    """What pictures made by a generator say of it (images.encode): the file that ``find_generator`` names."""
    content = _told_by(path)
    origin = content.get("provenance")
    style = origin.get("style") if isinstance(origin, dict) else None
    return picture_note(checkpoint=file_hash(path), style=style, strength=1.0, seed=None, step=_step(content))


def step_of(path: Path) -> int | None:
    """The steps that the generator in this file was trained for, where it says so."""
    return _step(_told_by(path))


def _told_by(path: Path) -> dict[str, Any]:
    return read_checkpoint(path) if path.suffix == ".pt" else read_generator(path)[1]


def _step(content: Mapping[str, Any]) -> int | None:
    step: int | None = content["state"]["step"] if "state" in content else content.get("step")
    return step


def find_generator(checkpoint: Path) -> Path:
    """The file that ``load_generator`` reads."""
    if checkpoint.is_file():
        return checkpoint
    if not checkpoint.is_dir():
        raise ValueError(f"checkpoint={checkpoint}: there is no such file or folder")
    candidates = [checkpoint / GENERATOR_FILE, *CheckpointFolder(checkpoint / "checkpoints").paths()]
    for path in candidates:
        if path.is_file():
            return path
    raise ValueError(f"checkpoint={checkpoint}: this folder holds no {GENERATOR_FILE}; is it a run's folder?")
