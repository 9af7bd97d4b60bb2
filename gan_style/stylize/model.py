"""Models: a generator loaded from what a run left behind, found by a style's name or a file, ready to paint.

A model that takes its style from a picture, a reference, becomes with some of them a library of their styles.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.demo import PREFIX, demo_pictures
from gan_style.images.decode import to_float, to_uint8
from gan_style.images.formats import UnreadablePictureError, list_pictures
from gan_style.images.lossless import Original, on_white, read_original, to_eight_bits
from gan_style.models.generator import ResnetGenerator
from gan_style.models.library import LibraryGenerator, OneStyle, condition_of
from gan_style.models.reference import ReferenceGenerator
from gan_style.models.registry import rebuild
from gan_style.options import as_typed
from gan_style.runtime.checkpoint import GENERATOR_FILE, CheckpointFolder, read_checkpoint, read_generator, read_header
from gan_style.runtime.device import move_to
from gan_style.runtime.files import file_hash
from gan_style.runtime.provenance import picture_note
from gan_style.stylize.controls import unknown_style
from gan_style.stylize.onnx_model import ONNX_SUFFIX, OnnxModel

SHIPPED = "shipped:"
_LARGEST_REFERENCE = 100.0  # megapixels


@dataclass(frozen=True)
class Model:
    """A generator at work; styles: their names, in the order of a library's condition."""

    generator: nn.Module
    styles: tuple[str, ...]
    device: torch.device

    def condition(self, mix: dict[str, float] | None, strength: float) -> Tensor:
        """Return (1, K): how much of each style; None for nothing."""
        return condition_of(self.styles, {name: strength * w for name, w in (mix or {}).items()}, self.device)


def load_generator(checkpoint: Path, device: torch.device) -> nn.Module:
    """Load the EMA generator of a run's folder, of its generator.safetensors, or of one of its checkpoints (.pt).

    Raises ValueError, in the user's words, for a missing, damaged or foreign file.
    """
    path = find_generator(checkpoint)
    if path.suffix == ONNX_SUFFIX:
        raise ValueError(
            f"checkpoint={path}: an ONNX file is only run, by gan-style stylize; give the generator itself"
        )
    if path.suffix == ".pt":
        content: dict[str, Any] = read_checkpoint(path)
        weights, description = content["state"]["networks"]["ema"], content["generator"]
    else:
        weights, description = read_generator(path)
    generator = rebuild(description, weights, str(path))
    return move_to(generator, device).requires_grad_(False).eval()


def load_painter(spec: str, device: torch.device) -> nn.Module:
    """Load it as a network that is called on pictures alone; of a library the style that ``FILE#STYLE`` names, and of
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
    """Make the error for a ``FILE#STYLE`` that names none of these styles."""
    place = spec if of_style(spec)[1] is None else spec.rpartition("#")[0]
    return ValueError(f"checkpoint={spec}: choose one of its styles, {place}#NAME: {', '.join(styles)}")


def of_style(spec: str) -> tuple[Path, str | None]:
    """Split into (file or folder, style or picture) of ``FILE#STYLE``; a path that exists as it is written is one.

    "shipped:NAME" is the file of a model that comes with gan_style.
    """
    whole = Path(spec).expanduser()
    place, mark, style = spec.rpartition("#")
    if spec.startswith(SHIPPED):
        return find_generator(Path(place or spec)), style if mark else None
    return (Path(place).expanduser(), style) if mark and place and not whole.exists() else (whole, None)


def note_of(path: Path) -> dict[str, Any]:
    """Make the note in pictures made by a generator (images.encode): the file that ``find_generator`` names."""
    content = description_of(path)
    origin = content.get("provenance")
    style = origin.get("style") if isinstance(origin, dict) else None
    return picture_note(checkpoint=file_hash(path), style=style, strength=1.0, seed=None, step=_step(content))


def step_of(path: Path) -> int | None:
    """Return the steps that the generator in this file was trained for, where it says so."""
    return _step(description_of(path))


def description_of(path: Path) -> dict[str, Any]:
    """Return what the file that ``find_generator`` names says of its generator; a checkpoint's whole content."""
    return read_checkpoint(path) if path.suffix == ".pt" else read_header(path)[0]


def _step(content: Mapping[str, Any]) -> int | None:
    step: int | None = content["state"]["step"] if "state" in content else content.get("step")
    return step


def find_generator(checkpoint: Path) -> Path:
    """Return the file that ``load_generator`` reads: also "shipped:NAME", a model that comes with gan_style."""
    if str(checkpoint).startswith(SHIPPED):
        return _shipped_file(str(checkpoint).removeprefix(SHIPPED))
    if checkpoint.is_file():
        return checkpoint
    if not checkpoint.is_dir():
        raise ValueError(f"checkpoint={checkpoint}: there is no such file or folder")
    candidates = [checkpoint / GENERATOR_FILE, *CheckpointFolder(checkpoint / "checkpoints").paths()]
    for path in candidates:
        if path.is_file():
            return path
    raise ValueError(f"checkpoint={checkpoint}: this folder holds no {GENERATOR_FILE}; is it a run's folder?")


def find_references(spec: str | Sequence[str]) -> dict[str, Path]:
    """Return {its name without the suffix: its file} of one picture or several, or of folders; "demo:..." works, too.

    Pictures of one name in different folders are told apart by these: monet_1 and munch_1. ValueError where there is
    none, or where that is not enough.
    """
    specs = [spec] if isinstance(spec, str) else list(spec)
    paths = [path for spec in specs for path in _files(str(spec))]
    if not paths:
        raise ValueError(
            f"reference={as_typed(spec)}: give a picture of the style, or several: reference=[a.jpg,b.jpg]"
        )
    # As many of a path's last parts as tell it from all others.
    parts = {path: path.absolute().with_suffix("").parts for path in paths}
    deepest = max(map(len, parts.values()))
    endings = [Counter(part[-count:] for part in parts.values()) for count in range(1, deepest + 1)]
    files: dict[str, Path] = {}
    for path, part in parts.items():
        unique = (part[-count:] for count in range(1, len(part) + 1) if endings[count - 1][part[-count:]] == 1)
        name = "_".join(next(unique, part[-1:]))
        if name in files:
            raise ValueError(f"reference: {path} and {files[name]} have one name; rename one of them")
        files[name] = path
    return files


def _files(spec: str) -> list[Path]:
    if spec.startswith(PREFIX):
        return demo_pictures(spec.removeprefix(PREFIX))
    path = Path(spec).expanduser()
    return list_pictures(path) if path.is_dir() else [path]


def read_references(files: Mapping[str, Path], *, max_megapixels: float) -> dict[str, Tensor]:
    """Return {name: (1, 3, H, W) in [-1, 1]}. ValueError for what cannot be read."""
    try:
        return {name: encoder_input(read_original(path, max_megapixels=max_megapixels)) for name, path in files.items()}
    except UnreadablePictureError as error:
        raise ValueError(f"reference: {error}") from error


def encoder_input(original: Original) -> Tensor:
    """Return a picture as an encoder sees it, (1, 3, H, W) in [-1, 1]: on white where it is transparent."""
    return to_float(to_eight_bits(on_white(original)).pixels[None])


@torch.inference_mode()
def with_references(model: Model, references: Mapping[str, Tensor]) -> Model:
    """Return the model with the styles of these pictures, {name: (1, 3, H, W) in [-1, 1]}, of any size.

    ValueError where a model needs references and there are none, and the other way about.
    """
    generator = model.generator
    if isinstance(generator, ReferenceGenerator):
        if not references:
            raise ValueError("reference=... is missing: this model takes its style from a picture that it is shown")
        codes = {name: generator.encode(_scale(picture, generator.side, model)) for name, picture in references.items()}
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
    """Return the generator as a library of the styles of these files, by name. ValueError for what cannot be read."""
    pictures = read_references(references, max_megapixels=max_megapixels)
    library = with_references(Model(generator, (), device), pictures).generator
    assert isinstance(library, LibraryGenerator)
    return library


def equal_parts(names: Sequence[str]) -> dict[str, float]:
    """Return the mixture of several references where nobody says how."""
    return {name: 1.0 / len(names) for name in names}


def _scale(picture: Tensor, side: int, model: Model) -> Tensor:
    """Scale to the short side that references had in training: brush strokes of the same size."""
    factor = side / min(picture.shape[-2:])
    size = [max(1, round(length * factor)) for length in picture.shape[-2:]]
    return F.interpolate(picture.to(model.device), size, mode="bilinear", antialias=True)


def _shipped_file(name: str) -> Path:
    models = {path.stem: path for path in shipped()}
    if name not in models:
        names = ", ".join(SHIPPED + stem for stem in models) or "none"
        raise ValueError(f"checkpoint={SHIPPED}{name}: there is no such model; known are {names}")
    return models[name]


def shipped() -> dict[Path, tuple[str, ...]]:
    """Return the models that come with gan_style, and the styles of each."""
    folder = Path(str(files("gan_style") / "assets" / "models"))
    return {path: _styles(read_header(path)[0], path) for path in sorted(folder.glob("*.safetensors"))}


def any_style_model() -> Path:
    """Return the model that comes with gan_style and takes its style from a picture. ValueError where there is none."""
    for path, names in shipped().items():
        if not names:
            return path
    raise ValueError("checkpoint=... is missing: this installation has no model that takes its style from a picture")


def _styles(description: dict[str, Any], path: Path) -> tuple[str, ...]:
    """Return a library's own names; for a generator of one style what it was trained on, or else the file's name.

    None for a generator that takes its style from a picture.
    """
    if description.get("class") == ReferenceGenerator.__name__:
        return ()
    arguments = description.get("arguments")
    if isinstance(arguments, dict) and arguments.get("styles"):
        return tuple(arguments["styles"])
    origin = description.get("provenance")
    name = origin.get("style") if isinstance(origin, dict) else None
    return (name or (path.absolute().parent.name if path.name == GENERATOR_FILE else path.stem),)


def resolve_model(styles: Sequence[str], checkpoint: Path | None) -> Path:
    """Return the generator's file: the checkpoint's or, without one, that of the shipped model that has these styles.

    The first in alphabetical order, where several have them. ValueError, with the nearest names, where there is none.
    """
    if checkpoint is not None:
        return find_generator(checkpoint)
    models = shipped()
    all_styles = sorted({name for names in models.values() for name in names})
    if not all_styles:
        raise ValueError("checkpoint=... is missing; this installation comes without models of its own")
    if not styles:
        raise ValueError(
            "style=..., reference=... or checkpoint=... is missing; styles that come with gan_style: "
            f"{', '.join(all_styles)}"
        )
    for name in styles:
        if name not in all_styles:
            raise unknown_style(name, all_styles)
    for path, names in models.items():
        if set(styles) <= set(names):
            return path
    raise ValueError(f"style: no single model has all of {', '.join(styles)}; only styles of one model can be mixed")


def load_model(
    path: Path, device: torch.device, references: Mapping[str, Tensor] | None = None
) -> tuple[Model, dict[str, Any]]:
    """Return the model of a file that ``resolve_model`` has found, and what its pictures say of it (images.encode).

    references: {name: (1, 3, H, W) in [-1, 1]}, for a model that takes its styles from pictures, and for no other.
    """
    opened, note = open_model(path, device)
    style = {"style": next(iter(references))} if references and len(references) == 1 else {}
    return with_references(opened, references or {}), note | style


def open_model(path: Path, device: torch.device) -> tuple[Model, dict[str, Any]]:
    """Open a model as it is in its file: one that takes its styles from pictures has none yet."""
    if path.suffix == ONNX_SUFFIX:
        return _open_onnx(path, device)
    generator, note = load_generator(path, device), note_of(path)
    if isinstance(generator, ReferenceGenerator):
        return Model(generator, (), device), note
    own_styles = getattr(generator, "styles", None)
    styles = tuple(own_styles) if own_styles else _styles({"provenance": {"style": note.get("style")}}, path)
    return Model(generator, styles, device), note


def _open_onnx(path: Path, device: torch.device) -> tuple[Model, dict[str, Any]]:
    """Open an exported model, which onnxruntime runs on the CPU."""
    generator = OnnxGenerator(OnnxModel(path, torch.get_num_threads()))
    description = generator.model.description
    style, step = description.get("style"), description.get("step")
    note = picture_note(checkpoint=file_hash(path), style=style, strength=1.0, seed=None, step=step)
    return Model(generator, generator.styles or (style or path.stem,), device), note


class OnnxGenerator(nn.Module):
    """An exported model, called as the generator that it was made of: (N, 3, H, W) in [-1, 1] to the same.

    styles: its styles' names where the condition (N, K) is an input, else none.
    """

    def __init__(self, model: OnnxModel) -> None:
        super().__init__()
        self.model, self.styles = model, model.styles

    def forward(self, images: Tensor, *conditions: Tensor) -> Tensor:
        pixels = to_uint8(images).permute(0, 2, 3, 1) if self.model.pixels == "uint8" else images.float()
        arrays = [value.contiguous().cpu().numpy() for value in (pixels, *conditions)]
        result = torch.from_numpy(self.model(*arrays)).to(images.device)
        return to_float(result.permute(0, 3, 1, 2)) if result.dtype == torch.uint8 else result
