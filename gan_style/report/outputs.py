"""Results to judge: made by a generator when they are asked for, or found in a folder of pictures."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_style.evaluation.runner import Results
from gan_style.evaluation.suite import PHOTOS, STYLES
from gan_style.images.decode import decode, to_float
from gan_style.images.formats import UnreadablePictureError, list_pictures
from gan_style.runtime.checkpoint import GENERATOR_FILE
from gan_style.stylize.model import load_painter, of_style


@dataclass
class Made:
    """By a generator."""

    generator: nn.Module

    @torch.no_grad()
    def __call__(self, path: Path, content: Tensor) -> Tensor:
        made: Tensor = self.generator(content.contiguous(memory_format=torch.channels_last))
        if not made.isfinite().all():
            raise ArithmeticError(f"{path}: a generator's result is not a finite number")
        return made.float()


@dataclass
class Found:
    """In a folder, under the content pictures' names; the suffix may differ. For results of other programs."""

    folder: Path
    files: dict[str, Path]

    def check(self, contents: Sequence[Path]) -> None:
        """ValueError where there is no result for a content picture that can be read."""
        for path in contents:
            if path.stem not in self.files:
                with suppress(UnreadablePictureError):
                    decode(path, short_side=16)
                    self._file(path)

    def _file(self, path: Path) -> Path:
        if path.stem not in self.files:
            raise ValueError(f"checkpoint={self.folder}: this folder of results has none for {path.name}")
        return self.files[path.stem]

    def __call__(self, path: Path, content: Tensor) -> Tensor:
        file = self._file(path)
        made = to_float(decode(file, short_side=min(content.shape[-2:]))[None].to(content.device))
        if made.shape != content.shape:
            raise ValueError(
                f"{file}: a result of {made.shape[-1]} x {made.shape[-2]} pixels for content of "
                f"{content.shape[-1]} x {content.shape[-2]} (both scaled to the same short side); they have to agree"
            )
        return made


def open_results(spec: str, device: torch.device) -> Results:
    """A run's folder, a generator's file, a checkpoint, or a folder of pictures that are results already.

    Of a library of styles ``FILE#STYLE``, of a generator that takes its style from a picture ``FILE#PICTURE``.
    """
    path = Path(spec).expanduser()
    if path.is_dir() and not (path / GENERATOR_FILE).is_file() and not (path / "checkpoints").is_dir():
        files = list_pictures(path)
        stems = {file.stem: file for file in files}
        if len(stems) < len(files):
            raise ValueError(f"checkpoint={spec}: several pictures in this folder of results have the same name")
        if files:
            return Found(path, stems)
    return Made(load_painter(spec, device))


def labels(specs: Sequence[str]) -> list[str]:
    """A short name for each model, no two alike: of its run, with the checkpoint's where that is needed.

    None is called as the two ends of the scale are. ValueError for a model that is given twice.
    """
    paths = [Path(spec).expanduser() for spec in specs]
    for number, path in enumerate(paths):
        if path.resolve() in (other.resolve() for other in paths[:number]):
            raise ValueError(f"checkpoint={path} is given twice")
    short = [_run_name(spec) for spec in specs]
    longer = [f"{name}/{path.stem}" if path.suffix else str(path) for name, path in zip(short, paths, strict=True)]
    named = [name if short.count(name) == 1 else long for name, long in zip(short, longer, strict=True)]
    taken = [*named, PHOTOS, STYLES]
    return [name if taken.count(name) == 1 else str(path.resolve()) for name, path in zip(named, paths, strict=True)]


def _run_name(spec: str) -> str:
    place, style = of_style(spec)
    path, of_library = place.resolve(), "" if style is None else f"#{style}"
    if path.parent.name == "checkpoints":
        return path.parent.parent.name + of_library
    if path.name == GENERATOR_FILE:
        return path.parent.name + of_library
    return (path.stem if path.is_file() else path.name) + of_library
