"""The pictures of a study: what the user names as models, and what their results for the photos look like."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_style.checkpoint import GENERATOR_FILE, CheckpointFolder
from gan_style.data.pictures import find_pictures
from gan_style.images.decode import decode, list_pictures, to_float
from gan_style.pages.html import data_uri
from gan_style.pages.study import Pictures
from gan_style.stylize.batch import stylize
from gan_style.stylize.model import load_painter, of_style

_OTHER_SHAPE = 0.05  # difference of the logarithms of two aspect ratios


def study_pictures(
    checkpoints: Any, content: Any, style: Any, *, size: int, style_pictures: int, device: torch.device
) -> Pictures:
    """Photos, artworks (at most ``style_pictures``) and every model's results, of a short side of ``size`` pixels.

    Prints what is done; ValueError in the user's words for whatever cannot be found or read.
    """
    models = labelled(checkpoints)
    contents = find_pictures(content, "content")
    styles = spread(find_pictures(style, "style"), style_pictures)
    finished = {label: finished_results(path, contents) for label, path in models.items() if _holds_pictures(path)}
    photos = [decode(path, short_side=size) for path in contents]
    results = {}
    for label, path in models.items():
        print(f"{label}: {len(photos)} pictures, {'as they are' if label in finished else 'stylized'}", flush=True)
        if label in finished:
            results[label] = _read(label, finished[label], photos, size)
        else:
            results[label] = _stylized(path, photos, device)
    return Pictures(
        photos=[_shown(photo) for photo in photos],
        styles=[_shown(decode(path, short_side=size)) for path in styles],
        results=results,
    )


def labelled(checkpoints: Any) -> dict[str, Path]:
    """{label: path}; a label is the name of the run or folder or, where two are called the same, what was given."""
    if not isinstance(checkpoints, list) or len(checkpoints) < 2 or not all(isinstance(c, str) for c in checkpoints):
        raise ValueError(f"checkpoints={checkpoints}: a list of two models or more expected, such as [runs/a,runs/b]")
    paths = [Path(given).expanduser() for given in checkpoints]
    if missing := [path for path in paths if not of_style(str(path))[0].exists()]:
        raise ValueError(f"checkpoints={missing[0]}: there is no such file or folder")
    names = [path.parent.name if path.name == GENERATOR_FILE else path.name for path in map(Path.absolute, paths)]
    labels = [given if names.count(name) > 1 else name for name, given in zip(names, checkpoints, strict=True)]
    if twice := _twice(labels):
        raise ValueError(f"checkpoints: {twice} is given twice")
    if odd := [label for label in labels if not label.isprintable()]:
        raise ValueError(f"checkpoints: the name {odd[0]!r} cannot be printed; rename it")
    return dict(zip(labels, paths, strict=True))


def _twice(names: Sequence[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """At most ``count`` of them, evenly spread."""
    count = min(count, len(paths))
    return [paths[(2 * number + 1) * len(paths) // (2 * count)] for number in range(count)]


def _holds_pictures(path: Path) -> bool:
    holds_generator = (path / GENERATOR_FILE).is_file() or CheckpointFolder(path / "checkpoints").paths()
    return path.is_dir() and not holds_generator and bool(list_pictures(path))


def finished_results(folder: Path, contents: Sequence[Path]) -> list[Path]:
    """The folder's picture for each content picture: the one of the same name, suffixes aside."""
    found = list_pictures(folder)
    if twice := _twice([path.stem for path in found]):
        raise ValueError(f"checkpoints={folder}: several of its pictures are called {twice}")
    if twice := _twice([path.stem for path in contents]):
        raise ValueError(f"content: several pictures are called {twice}; checkpoints={folder} is matched by name")
    by_name = {path.stem: path for path in found}
    if missing := [path.name for path in contents if path.stem not in by_name]:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise ValueError(
            f"checkpoints={folder}: this folder holds no generator, and of the content's {len(contents)} pictures no "
            f"result for {len(missing)} ({names}); results are matched by name"
        )
    return [by_name[path.stem] for path in contents]


def _read(label: str, paths: Sequence[Path], photos: Sequence[Tensor], size: int) -> list[str]:
    results = [decode(path, short_side=size) for path in paths]
    other = sum(_another_shape(result, photo) for result, photo in zip(results, photos, strict=True))
    if other:  # cropped or squashed results give themselves away
        print(f"warning: {other} of {len(paths)} pictures of {label} have another shape than their photos")
    return [_shown(result) for result in results]


def _another_shape(result: Tensor, photo: Tensor) -> bool:
    ratios = [picture.shape[-1] / picture.shape[-2] for picture in (result, photo)]
    return abs(math.log(ratios[0] / ratios[1])) > _OTHER_SHAPE


def _stylized(checkpoint: Path, photos: Sequence[Tensor], device: torch.device) -> list[str]:
    generator = load_painter(str(checkpoint), device)
    return [data_uri(stylize(generator, photo, device)) for photo in photos]


def _shown(picture: Tensor) -> str:
    """uint8 (3, H, W); all pictures are encoded alike, so that none is told by its compression."""
    return data_uri(to_float(picture))
