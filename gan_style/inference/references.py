"""Models that take their style from a picture, a reference: with some, such a model is a library of their styles."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_style.demo import PREFIX, demo_pictures
from gan_style.images import UnreadablePictureError, list_pictures, to_float
from gan_style.inference.paint import Model
from gan_style.models.library import LibraryGenerator
from gan_style.models.reference import ReferenceGenerator
from gan_style.originals import Original, on_white, read_original, to_eight_bits


def find_references(given: str | Sequence[str]) -> dict[str, Path]:
    """{its name without the suffix: its file} of one picture or several, or of folders; "demo:..." works, too.

    ValueError where there is none, or two have one name.
    """
    specs = [given] if isinstance(given, str) else list(given)
    paths = [path for spec in specs for path in _files(str(spec))]
    if not paths:
        raise ValueError(f"reference={given}: give a picture of the style, or several: reference=[a.jpg,b.jpg]")
    named = {path.stem: path for path in paths}
    for path in paths:
        if named[path.stem] != path:
            raise ValueError(f"reference: {path} and {named[path.stem]} have one name; rename one of them")
    return named


def _files(spec: str) -> list[Path]:
    if spec.startswith(PREFIX):
        return demo_pictures(spec.removeprefix(PREFIX))
    path = Path(spec).expanduser()
    return list_pictures(path) if path.is_dir() else [path]


def read_references(files: Mapping[str, Path], *, max_megapixels: float) -> dict[str, Tensor]:
    """{name: (1, 3, H, W) in [-1, 1]}. ValueError for what cannot be read."""
    try:
        return {name: shown(read_original(path, max_megapixels=max_megapixels)) for name, path in files.items()}
    except UnreadablePictureError as error:
        raise ValueError(f"reference: {error}") from error


def shown(original: Original) -> Tensor:
    """What an encoder is shown of a picture, (1, 3, H, W) in [-1, 1]: on white where it is transparent."""
    return to_float(to_eight_bits(on_white(original)).pixels[None])


@torch.inference_mode()
def with_references(model: Model, references: Mapping[str, Tensor]) -> Model:
    """The model with the styles of these pictures, {name: (1, 3, H, W) in [-1, 1]}, of any size.

    ValueError where a model needs references and there are none, and the other way about.
    """
    generator = model.generator
    if isinstance(generator, ReferenceGenerator):
        if not references:
            raise ValueError("reference=... is missing: this model takes its style from a picture that it is shown")
        codes = {name: generator.encode(_scaled(one, generator.side, model)) for name, one in references.items()}
        return Model(generator.library(codes), tuple(codes), model.device)
    if references:
        raise ValueError(
            f"reference={', '.join(references)}: this model has learned its styles ({', '.join(model.styles)}) and "
            "looks at no others; give a checkpoint of generator=reference"
        )
    return model


def library_of(
    generator: ReferenceGenerator, references: Mapping[str, Path], device: torch.device, *, max_megapixels: float
) -> LibraryGenerator:
    """The generator as a library of the styles of these files, by name. ValueError for what cannot be read."""
    shown = read_references(references, max_megapixels=max_megapixels)
    library = with_references(Model(generator, (), device), shown).generator
    assert isinstance(library, LibraryGenerator)
    return library


def equal_parts(names: Sequence[str]) -> dict[str, float]:
    """What several references are mixed to where nobody says how."""
    return {name: 1.0 / len(names) for name in names}


def _scaled(picture: Tensor, side: int, model: Model) -> Tensor:
    """To the short side that references had in training: brush strokes of the same size."""
    factor = side / min(picture.shape[-2:])
    size = [max(1, round(length * factor)) for length in picture.shape[-2:]]
    return F.interpolate(picture.to(model.device), size, mode="bilinear", antialias=True)
