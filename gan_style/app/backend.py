"""What the app does, without its page: models at hand, uploads, previews, and results at full size."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from torch import Tensor

from gan_style.images.decode import encode_uint8
from gan_style.images.formats import FORMAT_OF_SUFFIX, UnreadablePictureError
from gan_style.images.lossless import preview, read_original
from gan_style.stylize.batch import BatchStylizer, PictureJob
from gan_style.stylize.controls import STROKE_SIDE, Controls, Stroke, regions_of
from gan_style.stylize.model import Model, open_model, read_references, shipped, with_references
from gan_style.stylize.paint import paint, resize

PREVIEW_PIXELS = 1_000_000
# Sizes of strokes: the short side, in pixels, at which larger photos are painted; None: the photo's own.
STROKES: Mapping[str, int | None] = {"as trained": None, "fine": 1024, "medium": STROKE_SIDE, "broad": 256}


@dataclass(frozen=True)
class LabelledStyle:
    """A style in the list: a model's, by its name there."""

    model: str
    name: str


@dataclass(frozen=True)
class Photo:
    """An upload: its file, its height and width, and a preview, uint8 (3, h, w), laid on white."""

    path: Path
    size: tuple[int, int]
    preview: Tensor


@dataclass(frozen=True)
class Settings:
    """Settings of the page. styles: one, or two of one model; share: of the second; references: pictures to take
    the style from instead; mask: uint8 (h, w) in the preview's proportions, white where the style is wanted.
    """

    styles: Sequence[str] = ()
    share: float = 0.5
    strength: float = 1.0
    colours: str = "style"
    stroke: str = "medium"
    references: Sequence[Path] = ()
    mask: Tensor | None = field(default=None, compare=False)


class Backend:
    """Models and where results go. Calls change nothing here, so that several people can work at once."""

    def __init__(self, checkpoints: Sequence[Path], folder: Path, device: torch.device, max_megapixels: float) -> None:
        """Open the user's own generator files, ``checkpoints``, and the models that ship."""
        self.folder, self.max_megapixels = folder, max_megapixels
        self._models: dict[str, tuple[Model, dict[str, Any]]] = {}
        self.styles: dict[str, LabelledStyle] = {}
        self._quick_styles: dict[str, LabelledStyle] = {}  # the same labels, for the camera
        self.reference_model: str | None = None
        for path in [*checkpoints, *sorted(shipped(), key=lambda path: -path.stat().st_size)]:
            key = str(path)
            model, _ = self._models[key] = open_model(path, device)
            if not model.styles:
                self.reference_model = self.reference_model or key
            for style in model.styles:
                label = style
                if path in checkpoints:
                    label = _name(path) if len(model.styles) == 1 else f"{_name(path)}: {style}"
                    if label in self.styles:
                        label = f"{label} ({path})"  # two runs of one name
                self.styles.setdefault(label, LabelledStyle(key, style))  # of shipped models the largest that has it
                self._quick_styles[label] = LabelledStyle(key, style)  # the smallest

    def partners(self, label: str) -> list[str]:
        """List the styles that a style can be mixed with: those of its own model."""
        model = self.styles[label].model
        return [other for other, style in self.styles.items() if style.model == model and other != label]

    def open(self, path: Path) -> Photo:
        """Read an upload. UnreadablePictureError for what is no picture, or too large a one."""
        try:
            original = read_original(path, max_megapixels=self.max_megapixels)
        except UnreadablePictureError as error:
            raise UnreadablePictureError(self.plain(error, path)) from error
        height, width = original.pixels.shape[1:]
        shown = preview(original, max(1, min(height, round(sqrt(PREVIEW_PIXELS * height / width)))))
        return Photo(path, (height, width), shown)

    def latest(self, paths: Sequence[Path]) -> tuple[Photo | None, list[str]]:
        """Return the last of some uploads that can be read, and what is wrong with those behind it."""
        problems: list[str] = []
        for path in reversed(paths):
            try:
                return self.open(path), problems
            except UnreadablePictureError as error:
                problems.append(str(error))
        return None, problems

    def preview(self, photo: Photo, settings: Settings) -> Tensor:
        model, controls, _ = self._prepared(settings, photo.preview.shape[1:])
        masks = {} if settings.mask is None else {"": resize(settings.mask[None], photo.preview.shape[1:])[0]}
        return paint(model, photo.preview, controls, regions=regions_of(masks, controls.mix))

    def thumbnails(self, photo: Photo, side: int = 128) -> Iterator[tuple[str, Tensor]]:
        """Paint every style small, uint8 (3, h, w), the short side of at most so many pixels."""
        small = _at_most(photo.preview, side)
        for label, style in self.styles.items():
            yield label, paint(self._models[style.model][0], small, Controls({style.name: 1.0}))

    def frame(self, picture: Tensor, settings: Settings, side: int = 288) -> Tensor:
        """Paint what a camera sees, uint8 (3, H, W), made smaller so that it can follow."""
        small = _at_most(picture, side)
        settings = replace(settings, stroke="as trained")
        model, controls, _ = self._prepared(settings, small.shape[1:], self._quick_styles)
        return paint(model, small, controls)

    def results(self, photos: Sequence[Path], settings: Settings) -> Iterator[tuple[Path | None, str]]:
        """Paint files at their full size: for each its result, or None, and what there is to say of it."""
        folder = Path(mkdtemp(dir=self.folder))
        for number, path in enumerate(photos):
            try:
                photo = self.open(path)
                model, controls, note = self._prepared(settings, photo.size)
            except ValueError as error:
                yield None, self.plain(error, path)
                continue
            masks = {}
            if settings.mask is not None:
                masks[""] = folder / f"mask{number}.png"
                masks[""].write_bytes(encode_uint8(resize(settings.mask[None], photo.size), ".png"))
            suffix = path.suffix.lower() if path.suffix.lower() in FORMAT_OF_SUFFIX else ".png"
            target = _free(folder, f"{path.stem}_{'_'.join(controls.mix)}", suffix)
            stylizer = BatchStylizer(model, controls, note, note, max_megapixels=self.max_megapixels)
            for _, problem, lost in stylizer([PictureJob(path, target, masks)]):
                missing = "; ".join(f"without {name}" for name in lost)
                yield (None, self.plain(problem, path)) if problem else (target, missing)

    def zipped(self, results: Sequence[Path]) -> Path:
        path = results[0].parent / "pictures.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for result in results:
                archive.write(result, result.name)
        return path

    @staticmethod
    def plain(problem: str | Exception, path: Path) -> str:
        """Return a message without the folder that the server keeps an upload in."""
        return str(problem).replace(str(path), path.name)

    def _prepared(
        self, settings: Settings, size: Sequence[int], styles: Mapping[str, LabelledStyle] | None = None
    ) -> tuple[Model, Controls, dict[str, Any]]:
        """Return the model with its references, what is asked of it for this size, and what the result says."""
        if settings.references:
            if self.reference_model is None:
                raise ValueError("no model here takes its style from a picture")
            model, note = self._models[self.reference_model]
            files = {path.stem: path for path in settings.references[:2]}
            model = with_references(model, read_references(files, max_megapixels=self.max_megapixels))
            names = list(files)
        else:
            if not settings.styles:
                raise ValueError("choose a style first")
            chosen = [(styles or self.styles)[label] for label in settings.styles]
            model, note = self._models[chosen[0].model]
            names = [style.name for style in chosen]
        mix = {names[0]: 1.0} if len(names) == 1 else {names[0]: 1.0 - settings.share, names[1]: settings.share}
        mix = {name: share for name, share in mix.items() if share > 0}
        side = STROKES[settings.stroke]
        stroke: Stroke = 1.0 if side is None else max(1.0, min(size) / side)
        stroke = "auto" if side == STROKE_SIDE else stroke
        controls = Controls(mix, settings.strength, settings.colours, stroke=stroke)
        return model, controls, {**note, "style": mix, "strength": settings.strength}


def _name(path: Path) -> str:
    """Name an own model in the list: by its run's folder, or by its file."""
    return path.absolute().parent.name if path.name == "generator.safetensors" else path.stem


def _at_most(picture: Tensor, side: int) -> Tensor:
    """Scale uint8 (3, h, w) down until its short side is no longer than this."""
    height, width = picture.shape[1:]
    factor = min(1.0, side / min(height, width))
    return resize(picture, [max(1, round(height * factor)), max(1, round(width * factor))])


def _free(folder: Path, stem: str, suffix: str) -> Path:
    """Find a name that no other result has."""
    path, number = folder / f"{stem}{suffix}", 2
    while path.exists():
        path, number = folder / f"{stem}_{number}{suffix}", number + 1
    return path
