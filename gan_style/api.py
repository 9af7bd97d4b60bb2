"""The Python interface: gan_style.load("monet") gives an object that is called on pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_style.images.decode import to_float, to_uint8
from gan_style.images.lossless import Original, from_pil, read_original, to_eight_bits, to_pil
from gan_style.options import as_typed
from gan_style.runtime.device import choose_device
from gan_style.stylize.controls import (
    Controls,
    Regions,
    Stroke,
    Style,
    Tile,
    check_names,
    full_range,
    mask_of,
    mixture,
    option_of,
    read_mask,
)
from gan_style.stylize.model import (
    SHIPPED,
    Model,
    encoder_input,
    equal_parts,
    open_model,
    resolve_model,
    shipped,
    with_references,
)
from gan_style.stylize.paint import paint
from gan_style.stylize.regions import find_masks, named_masks, plan_regions

Range = tuple[float, float] | None
_OVERSHOOT = 1.5  # what networks and resampling may make of values in [-1, 1]


class Stylizer:
    """A model, ready to be called, also by many threads at once: a call changes nothing, and the same call gives the
    same result. ``styles`` are its names; ``style`` is what it does when a call names none. A model that takes its
    style from a picture has neither: every call gives it the ``reference``.
    """

    def __init__(self, model: Model, style: Style = None) -> None:
        self._model = model
        self.style = style if style is not None or len(model.styles) != 1 else model.styles[0]

    @property
    def styles(self) -> tuple[str, ...]:
        return self._model.styles

    def __call__(
        self,
        picture: Any,
        *,
        style: Style = None,
        reference: Any = None,
        refine: int = 0,
        strength: float = 1.0,
        mask: Any = None,
        regions: int | None = None,
        segmentation: Mapping[str, Any] | None = None,
        colours: str = "style",
        stroke: Stroke = 1.0,
        tile: Tile = "auto",
        max_megapixels: float = 200.0,
        value_range: tuple[float, float] | None = None,
    ) -> Any:
        """Return the stylized picture, of the kind that was given and of the same size.

        picture: a Pillow picture; the path of one, for which a Pillow picture is returned, upright and of 8 bits; or a
        tensor (N, 3, H, W), float in [-1, 1] or uint8, whose device, type and range the result shares.
        value_range: of float tensors, black and white, such as (0, 1); floats that could be of that range, or of no
        usual one, are refused without it.
        style: a name, or {name: weight} with weights that sum to 1. reference: for a model that takes its style from a
        picture, a picture of any of these kinds, or {name: picture}, mixed evenly or as style has it;
        refine: so many steps fit its style to the picture, 20 bring it much closer. strength: 0, the
        picture itself, to 1. mask: where; a grey picture (white: there) of any of these kinds, or a tensor (H, W) in
        [0, 1] or of uint8, or {style: mask}; or a name or number of a region, "rest", or "auto" with a list of styles.
        regions: how many a picture is cut into where masks are numbers. segmentation: who knows names: {"network": ...,
        "weights": ...}, or {"masks": a file, "names": ...}, as the options of ``gan-style stylize`` have them.
        stroke: how many times as broad as the model's own its strokes are, or "auto", as on 512 pixels;
        colours: "style", "luminance" or "lab"; tile: "auto", "off", or a side in pixels. ValueError for bad input.
        """
        # Read what masks, style and references ask for, and check it against the model's styles.
        segmentation = dict(segmentation or {})
        style, plan, regions = plan_regions(style, mask, regions, segmentation)
        by_style = plan.by_style
        references = _references(reference, max_megapixels, value_range)
        model = with_references(self._model, references)
        default = self.style if reference is None else equal_parts(model.styles)
        chosen = style if style is not None or by_style else default
        controls = Controls(mixture(chosen, model.styles, masked=by_style), strength, colours, tile, stroke)
        check_names(plan.order, model.styles)

        # Prepare to find the regions, once the pixels are known.
        find_named = named_masks(plan, segmentation, regions, model.device)
        classes = None if segmentation.get("masks") is None else Path(segmentation["masks"]).expanduser()

        def regions_in(pixels: Tensor) -> Regions | None:
            def read(name: str, values: Any) -> Tensor:
                return _as_mask(values, option_of(name), max_megapixels)

            return find_masks(plan, read, find_named, pixels, classes, controls.mix)

        refiner = None
        if refine:
            from gan_style.optimise.refine import Refiner  # losses: nothing else here needs them

            refiner = Refiner(references, refine)

        if isinstance(picture, Tensor):
            images = _in_range(picture, value_range)
            if not len(images):
                return picture.clone()
            eight_bits = images if images.dtype == torch.uint8 else to_uint8(images)
            results = []
            for image, pixels in zip(images, eight_bits, strict=True):
                refined = model
                if refiner is not None:
                    refined = replace(model, generator=refiner(model.generator, to_float(pixels[None])))
                results.append(paint(refined, image, controls, regions=regions_in(pixels.cpu())))
            return _back_in_range(torch.stack(results), value_range).to(picture.device)
        original = _opened(picture, max_megapixels)
        found_regions = regions_in(to_eight_bits(original).pixels)
        if refiner is not None:
            model = replace(model, generator=refiner(model.generator, encoder_input(original)))
        pixels = paint(model, original.pixels, controls, alpha=original.alpha, regions=found_regions)
        return to_pil(Original(pixels, original.alpha, original.profile))


def load(model: str | Path, *, device: str = "auto") -> Stylizer:
    """Load a style that comes with gan_style, by its name ("monet"), or a run's folder, generator file or checkpoint.

    A folder that has a style's name is given as a Path, or as "./monet". "shipped:any" is the model that takes its
    style from a picture.
    device: auto, cpu, cuda, cuda:1 ... ValueError for what is not there, with the nearest names.
    """
    if not str(model).strip():
        raise ValueError("an empty name; give that of a style, or a run's folder")
    place = Path(model).expanduser()
    is_place = isinstance(model, Path) or len(place.parts) > 1 or place.suffix != ""
    is_place |= str(model).startswith(SHIPPED)
    is_place |= place.exists() and str(model) not in styles()  # a folder of a style's paintings may have its name
    path = resolve_model([] if is_place else [str(model)], place if is_place else None)
    loaded, _ = open_model(path, choose_device(device, None))
    return Stylizer(loaded, None if is_place else str(model))


def styles() -> list[str]:
    """Return the names of the styles that come with gan_style."""
    return sorted({name for names in shipped().values() for name in names})


def _opened(picture: Any, max_megapixels: float) -> Original:
    if isinstance(picture, str | Path):
        return read_original(Path(picture).expanduser(), max_megapixels=max_megapixels)
    return from_pil(picture)


def _references(reference: Any, max_megapixels: float, value_range: Range) -> dict[str, Tensor]:
    """Return {name: (1, 3, H, W) in [-1, 1]}; an only picture needs no name."""
    if reference is None:
        return {}
    references = reference if isinstance(reference, Mapping) else {"reference": reference}
    return {str(name): _as_reference(picture, max_megapixels, value_range) for name, picture in references.items()}


def _as_reference(picture: Any, max_megapixels: float, value_range: Range) -> Tensor:
    if not isinstance(picture, Tensor):
        return encoder_input(_opened(picture, max_megapixels))
    if len(picture) != 1:
        raise ValueError(f"reference: a tensor of shape (1, 3, H, W) expected, got {tuple(picture.shape)}")
    images = _in_range(picture, value_range)
    return to_float(images) if images.dtype == torch.uint8 else images.float()


def _in_range(pictures: Tensor, value_range: Range) -> Tensor:
    """Return (N, 3, H, W) of uint8, or of floats in [-1, 1]. ValueError for what may be meant otherwise."""
    if pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ValueError(f"a tensor of shape (N, 3, H, W) expected, got {tuple(pictures.shape)}")
    if pictures.dtype == torch.uint8:
        return pictures
    if not pictures.is_floating_point():
        raise ValueError(f"a tensor of uint8, or of floats in [-1, 1], expected; got {pictures.dtype}")
    if not pictures.numel():
        return pictures
    if value_range is not None and (not isinstance(value_range, Sequence) or len(value_range) != 2):
        raise ValueError(f"value_range={as_typed(value_range)}: (black, white) expected, such as (0, 1)")
    lowest, highest = (float(value) for value in pictures.detach().aminmax())
    if value_range is None and lowest >= 0 and highest <= _OVERSHOOT:
        hint = "give value_range=(0, 1) if 0 is black, or value_range=(-1, 1) if 0 is grey"
        raise ValueError(f"all values lie from {lowest:g} to {highest:g}: {hint}")
    black, white = value_range or (-1.0, 1.0)
    beyond = (_OVERSHOOT - 1.0) / 2.0 * (white - black)
    if not (black - beyond <= lowest and highest <= white + beyond):  # not a number, too
        got = f"floats from {black:g} to {white:g} expected, but the values go from {lowest:g} to {highest:g}"
        raise ValueError(f"{got}; say with value_range=(black, white), such as (0, 255), what they mean")
    return pictures if value_range is None else (pictures - black) * (2.0 / (white - black)) - 1.0


def _back_in_range(images: Tensor, value_range: Range) -> Tensor:
    if value_range is None or images.dtype == torch.uint8:
        return images
    black, white = value_range
    return (images + 1.0) * ((white - black) / 2.0) + black


def _as_mask(mask: Any, option: str, max_megapixels: float) -> Tensor:
    """Return a mask as uint8 (H, W)."""
    if isinstance(mask, str | Path):
        return read_mask(Path(mask).expanduser(), option, max_megapixels=max_megapixels)
    if not isinstance(mask, Tensor):
        return mask_of(from_pil(mask), option)
    if mask.ndim != 2 or not (mask.dtype in (torch.uint8, torch.bool) or mask.is_floating_point()):
        got = f"{mask.dtype} {tuple(mask.shape)}"
        raise ValueError(f"{option}: a tensor (H, W) of uint8, bool or floats in [0, 1] expected, got {got}")
    if not mask.is_floating_point():
        return full_range(mask.cpu(), option) if mask.dtype == torch.uint8 else mask.cpu().to(torch.uint8) * 255
    lowest, highest = (float(value) for value in mask.aminmax()) if mask.numel() else (0.0, 0.0)
    if not (lowest >= -0.01 and highest <= 1.01):
        raise ValueError(f"{option}: floats in [0, 1] expected, but the values go from {lowest:g} to {highest:g}")
    return (mask.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).cpu()
