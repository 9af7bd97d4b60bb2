"""From what a user names, a style or a file, to a model at work."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_style.checkpoint import GENERATOR_FILE, read_generator
from gan_style.inference.controls import unknown_style
from gan_style.inference.load import find_generator, load_generator, note_of
from gan_style.inference.paint import Model
from gan_style.inference.references import with_references
from gan_style.models.reference import ReferenceGenerator


def shipped() -> dict[Path, tuple[str, ...]]:
    """The models that come with gan_style, and the styles of each."""
    folder = Path(str(files("gan_style") / "assets" / "models"))
    return {path: _styles(read_generator(path)[1], path) for path in sorted(folder.glob("*.safetensors"))}


def _styles(description: dict[str, Any], path: Path) -> tuple[str, ...]:
    """A library's own names; for a generator of one style what it was trained on, or else the file's name."""
    arguments = description.get("arguments")
    if isinstance(arguments, dict) and arguments.get("styles"):
        return tuple(arguments["styles"])
    origin = description.get("provenance")
    name = origin.get("style") if isinstance(origin, dict) else None
    return (name or (path.absolute().parent.name if path.name == GENERATOR_FILE else path.stem),)


def resolve_model(styles: Sequence[str], checkpoint: Path | None) -> Path:
    """The generator's file: the checkpoint's or, without one, that of the shipped model that has these styles.

    ValueError, with the nearest names, where there is none.
    """
    if checkpoint is not None:
        return find_generator(checkpoint)
    models = shipped()
    known = sorted({name for names in models.values() for name in names})
    if not known:
        raise ValueError("checkpoint=... is missing; this installation comes without models of its own")
    if not styles:
        raise ValueError(f"style=... or checkpoint=... is missing; styles that come with gan_style: {', '.join(known)}")
    for name in styles:
        if name not in known:
            raise unknown_style(name, known)
    for path, names in models.items():
        if set(styles) <= set(names):
            return path
    raise ValueError(f"style: no single model has all of {', '.join(styles)}; only styles of one model can be mixed")


def load_model(
    path: Path, device: torch.device, references: Mapping[str, Tensor] | None = None
) -> tuple[Model, dict[str, Any]]:
    """The model of a file that ``resolve_model`` has found, and what its pictures say of it (images.encode).

    references: {name: (1, 3, H, W) in [-1, 1]}, for a model that takes its styles from pictures, and for no other.
    """
    opened, note = open_model(path, device)
    named = {"style": next(iter(references))} if references and len(references) == 1 else {}
    return with_references(opened, references or {}), note | named


def open_model(path: Path, device: torch.device) -> tuple[Model, dict[str, Any]]:
    """The same as it is in its file: one that takes its styles from pictures has none yet."""
    generator, note = load_generator(path, device), note_of(path)
    if isinstance(generator, ReferenceGenerator):
        return Model(generator, (), device), note
    named = getattr(generator, "styles", None)
    styles = tuple(named) if named else _styles({"provenance": {"style": note.get("style")}}, path)
    return Model(generator, styles, device), note
