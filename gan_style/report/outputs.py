"""Outputs of models to evaluate: computed by a generator when asked for, or read from a folder of pictures."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_style.evaluation.runner import ModelOutputs
from gan_style.evaluation.suite import PHOTOS, STYLES
from gan_style.images.decode import decode, to_float
from gan_style.images.formats import UnreadablePictureError, list_pictures
from gan_style.runtime.checkpoint import GENERATOR_FILE
from gan_style.stylize.model import load_painter, of_style


@dataclass
class GeneratedOutputs:
    """Outputs of a generator."""

    generator: nn.Module

    @torch.no_grad()
    def __call__(self, path: Path, content: Tensor) -> Tensor:
        output: Tensor = self.generator(content.contiguous(memory_format=torch.channels_last))
        if not output.isfinite().all():
            raise ArithmeticError(f"{path}: a generator's result is not a finite number")
        return output.float()


class FolderOutputs:
    """Outputs in a folder, whose tree and names are those of the content pictures; suffixes may differ.

    A content picture's output is the one whose path inside the folder is the longest end of the content's own path:
    cat/1.png of .../photos/cat/1.jpg before 1.png, so that names may come again in other folders.
    """

    def __init__(self, folder: Path, option: str = "checkpoint") -> None:
        self.folder, self.option = folder, option
        self._files: dict[tuple[str, ...], list[Path]] = {}
        for file in list_pictures(folder):
            self._files.setdefault(file.relative_to(folder).with_suffix("").parts, []).append(file)

    def match(self, contents: Iterable[Path]) -> dict[Path, Path]:
        """Return {content picture: its output}. ValueError for one without, with several, or with another one's.

        A content picture that cannot be read needs none.
        """
        contents = list(contents)
        matched, missing = {}, []
        for path in contents:
            file = self.find(path)
            if file is not None:
                matched[path] = file
            else:
                with suppress(UnreadablePictureError):
                    decode(path, short_side=16)
                    missing.append(path.name)
        if missing:
            names = ", ".join(missing[:3]) + ", ..." * (len(missing) > 3)
            count = f"{len(missing)} of {len(contents)} content pictures"
            raise ValueError(f"{self.option}={self.folder}: it has none for {count}, matched by name ({names})")
        owners: dict[Path, Path] = {}
        for path, file in matched.items():
            if owners.setdefault(file, path) != path:
                problem = f"{file.name} would be the result of {owners[file]} and of {path}"
                raise ValueError(f"{self.option}={self.folder}: {problem}; keep the content's folders in it")
        return matched

    def find(self, content: Path) -> Path | None:
        """Return the output of one content picture, None where there is none; ValueError where there are several."""
        parts = content.absolute().with_suffix("").parts
        key = next((parts[start:] for start in range(len(parts)) if parts[start:] in self._files), None)
        files = self._files[key] if key else [f for key, fs in self._files.items() if key[-1] == parts[-1] for f in fs]
        if len(files) > 1:
            names = ", ".join(str(file.relative_to(self.folder)) for file in files[:3])
            raise ValueError(f"{self.option}={self.folder}: several pictures have the same name ({names})")
        return files[0] if files else None

    def __call__(self, path: Path, content: Tensor) -> Tensor:
        file = self.match([path])[path]
        output = to_float(decode(file, short_side=min(content.shape[-2:]))[None].to(content.device))
        if output.shape != content.shape:
            actual, expected = (f"{x.shape[-1]} x {x.shape[-2]}" for x in (output, content))
            raise ValueError(f"{file}: a result of {actual} pixels for content of {expected}; they have to agree")
        return output


def holds_outputs(place: Path) -> bool:
    """Return whether a place is a folder of pictures rather than a run or a model's file."""
    is_run = (place / GENERATOR_FILE).is_file() or (place / "checkpoints").is_dir()
    return place.is_dir() and not is_run and bool(list_pictures(place))


def open_outputs(spec: str, device: torch.device) -> ModelOutputs:
    """Open a run's folder, a generator's file, a checkpoint, or a folder of pictures that are outputs already.

    Of a multi-style generator ``FILE#STYLE``, of one that takes its style from a picture ``FILE#PICTURE``.
    """
    path = Path(spec).expanduser()
    return FolderOutputs(path) if holds_outputs(path) else GeneratedOutputs(load_painter(spec, device))


def model_labels(specs: Sequence[str], option: str = "checkpoint") -> list[str]:
    """Return a short name for each model, no two alike: of its run, with the checkpoint's where that is needed.

    None is called as the baselines are. ValueError for a model that is not there, or is given twice.
    """
    if missing := [spec for spec in specs if not of_style(spec)[0].exists()]:
        raise ValueError(f"{option}={missing[0]}: there is no such file or folder")
    paths = [Path(spec).expanduser() for spec in specs]
    for number, path in enumerate(paths):
        if path.resolve() in (other.resolve() for other in paths[:number]):
            raise ValueError(f"{option}={path} is given twice")
    short = [_run_name(spec) for spec in specs]
    longer = [f"{name}/{path.stem}" if path.suffix else str(path) for name, path in zip(short, paths, strict=True)]
    names = [name if short.count(name) == 1 else long for name, long in zip(short, longer, strict=True)]
    labels = [*names, PHOTOS, STYLES]
    return [name if labels.count(name) == 1 else str(path.resolve()) for name, path in zip(names, paths, strict=True)]


def _run_name(spec: str) -> str:
    place, style = of_style(spec)
    path, end = place.resolve(), "" if style is None else f"#{style}"
    if path.parent.name == "checkpoints":
        return path.parent.parent.name + end
    if path.name == GENERATOR_FILE:
        return path.parent.name + end
    return (path.stem if path.is_file() else path.name) + end
