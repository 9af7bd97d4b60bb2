"""Masks: grey pictures that say where a style is wanted. White is all of it, black none, grey between."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gan_style.images import UnreadablePictureError, is_picture
from gan_style.inference.controls import Regions, unknown_style
from gan_style.originals import Original, read_original, to_eight_bits

_GREY_TOLERANCE = 8  # of 255: a JPEG's channels differ a little


def option_of(name: str) -> str:
    """How a mask is called in messages; the one for the whole mixture has no name."""
    return f"mask.{name}" if name else "mask"


def check_names(names: Sequence[str], known: Sequence[str]) -> None:
    """ValueError for a mask of a style that there is not."""
    if not names:
        raise ValueError("mask={}: give a mask for each style, as in mask={monet: sky.png}, or one picture for all")
    for name in names:
        if name and name not in known:
            raise unknown_style(name, known, "mask")


def read_mask(path: Path, option: str, *, max_megapixels: float) -> Tensor:
    """A mask's values, uint8 (H, W). ValueError, naming the option, for what is no grey picture."""
    try:
        return mask_of(read_original(path, max_megapixels=max_megapixels), f"{option}={path}")
    except UnreadablePictureError as error:
        raise ValueError(f"{option}: {error}") from error


def mask_of(original: Original, told: str) -> Tensor:
    """uint8 (H, W) of a grey picture; what is transparent counts as black."""
    original = to_eight_bits(original)
    pixels = original.pixels
    if int((pixels.amax(dim=0) - pixels.amin(dim=0)).max()) > _GREY_TOLERANCE:
        raise ValueError(f"{told}: it has colours; a mask is a grey picture, white where the style is wanted")
    if original.alpha is None:
        return pixels[1]
    return (pixels[1].float() * (original.alpha[0].float() / 255.0)).round().to(torch.uint8)


def regions_of(masks: Mapping[str, Tensor], mix: Mapping[str, float]) -> Regions | None:
    """masks: {style: uint8 (H, W)}, or {"": (H, W)} for the whole mixture; None without any."""
    if not masks:
        return None
    shapes = {tuple(mask.shape) for mask in masks.values()}
    if len(shapes) > 1:
        sizes = ", ".join(f"{option_of(name)} {mask.shape[1]} x {mask.shape[0]}" for name, mask in masks.items())
        raise ValueError(f"the masks differ in size ({sizes}); all need the picture's")
    return Regions([{name: 1.0} if name else mix for name in masks], torch.stack(list(masks.values())))


def mask_file(place: Path, picture: Path, root: Path, option: str) -> Path:
    """The mask of a picture: ``place`` itself, or in this folder the picture of the same name (below ``root``)."""
    if not place.is_dir():
        if not place.is_file():
            raise ValueError(f"{option}={place}: there is no such file or folder")
        return place
    wanted = place / picture.relative_to(root)
    found = sorted(path for path in wanted.parent.glob("*") if path.stem == wanted.stem and is_picture(path))
    if not found:
        raise ValueError(f"{option}={place}: this folder has no mask for {picture} (a picture named {wanted.stem})")
    return wanted if wanted in found else found[0]
