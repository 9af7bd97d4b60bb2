"""What is asked for: which styles, how much, where, in whose colours. Checked against what a model can do.

Masks are grey pictures that say where a style is wanted. White is all of it, black none, grey between.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal

import torch
from torch import Tensor

from gan_style.images.color import COLOURS, STYLE
from gan_style.images.formats import UnreadablePictureError, is_picture
from gan_style.images.lossless import Original, read_original, to_eight_bits, white_level
from gan_style.options import as_typed, did_you_mean
from gan_style.stylize.tiling import SMALLEST_TILE, Box

AUTO, OFF = "auto", "off"
_SUM_TOLERANCE = 0.01  # of weights: thirds may be written as 0.33
_MASK_TOLERANCE = 3  # of 255, for masks that are each rounded

Style = str | Mapping[str, float] | None
Tile = int | Literal["auto", "off"]
Stroke = float | Literal["auto"]
STROKE_SIDE = 512  # pixels; stroke=auto paints the short side of larger pictures at this length


@dataclass(frozen=True)
class Controls:
    """mix: {style: its share}, summing to 1; empty where masks name the styles. strength: from 0, the photo, to 1.

    colours: one of COLOURS; tile: a side in pixels, "off", or "auto": where the picture is large. stroke: how many
    times as broad as the model's own its strokes are, from 1, or "auto": as on a picture of STROKE_SIDE pixels.
    """

    mix: Mapping[str, float]
    strength: float = 1.0
    colours: str = STYLE
    tile: Tile = "auto"
    stroke: Stroke = 1.0

    def __post_init__(self) -> None:
        if not (_is_number(self.strength) and 0 <= self.strength <= 1):
            raise ValueError(f"strength={as_typed(self.strength)}; allowed are 0 (the photo) to 1 (the style in full)")
        if self.colours not in COLOURS:
            raise ValueError(f"colours={self.colours}; allowed are {', '.join(COLOURS)}")
        if self.tile not in (AUTO, OFF) and not (isinstance(self.tile, int) and self.tile >= SMALLEST_TILE):
            raise ValueError(
                f"tile={as_typed(self.tile)}; allowed are {AUTO}, {OFF}, or a side from {SMALLEST_TILE} pixels"
            )
        if self.stroke != AUTO and not (_is_number(self.stroke) and 1 <= float(self.stroke) < math.inf):
            raise ValueError(
                f"stroke={as_typed(self.stroke)}; allowed are {AUTO}, or numbers from 1 (the model's own strokes)"
            )

    def reduction(self, height: int, width: int) -> float:
        """Compute by how much a picture of this size is made smaller before it is painted."""
        return max(1.0, min(height, width) / STROKE_SIDE) if self.stroke == AUTO else float(self.stroke)


def unknown_style(name: Any, known: Sequence[str], option: str = "style") -> ValueError:
    """Return the error for a style that a model does not have, with the names nearest to it."""
    hint = did_you_mean(name, known, most=3)
    return ValueError(f"{option}={name}: there is no such style{hint}; known are {', '.join(known)}")


def as_names(style: Any) -> Any:
    """Return a style, names with weights, or a list of names, with each name as text: 1889 and true are names, too."""
    if style is None or isinstance(style, str):
        return style
    if isinstance(style, Mapping):
        return {as_typed(name): weight for name, weight in style.items()}
    return [as_names(name) for name in style] if isinstance(style, Sequence) else as_typed(style)


def mixture(style: Style, known: Sequence[str], *, masked: bool = False) -> dict[str, float]:
    """Return {style: share} of what a user gives: a name, names with weights that sum to 1, or None for an only style.

    masked: masks name the styles; then style has to be None, and the mixture is empty.
    """
    if masked:
        if style is not None:
            raise ValueError(
                f"style={as_typed(style)} and mask={{...}}: the masks name their styles already; leave style out"
            )
        return {}
    if style is None:
        if len(known) != 1:
            raise ValueError(f"style=... is missing; known are {', '.join(known)}")
        return {known[0]: 1.0}
    style = as_names(style)
    if isinstance(style, list):
        raise ValueError(f"style={as_typed(style)}: a name, or weights, {{monet: 0.6, wave: 0.4}}, expected")
    weights = {style: 1.0} if isinstance(style, str) else dict(style)
    for name, weight in weights.items():
        if name not in known:
            raise unknown_style(name, known)
        if not _is_number(weight) or weight < 0:
            raise ValueError(f"style.{name}={as_typed(weight)}; allowed are numbers from 0")
    total = sum(weights.values())
    if abs(total - 1.0) > _SUM_TOLERANCE:
        raise ValueError(f"style={as_typed(weights)}: the weights sum to {total:.6g}; they have to sum to 1")
    return {name: weight / total for name, weight in weights.items() if weight > 0}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class Regions:
    """Say where each mixture goes: planes, uint8 (R, H, W), which nowhere sum to more than 255."""

    mixes: Sequence[Mapping[str, float]]
    planes: Tensor

    def __post_init__(self) -> None:
        if len(self.planes) == 1:
            return
        for rows in self.planes.split(256, dim=1):
            if int(rows.sum(dim=0, dtype=torch.int32).max()) > 255 + _MASK_TOLERANCE:
                names = ", ".join(next(iter(mix)) for mix in self.mixes)
                raise ValueError(f"mask={{{names}}}: the masks overlap; nowhere may they sum to more than white")

    def check_size(self, height: int, width: int) -> None:
        if tuple(self.planes.shape[1:]) != (height, width):
            raise ValueError(
                f"mask: its size is {self.planes.shape[2]} x {self.planes.shape[1]} pixels, "
                f"but the picture's is {width} x {height}; they have to agree"
            )

    def cover(self, box: Box) -> Tensor:
        """Compute how much is to be changed at all, (1, 1, h, w) in [0, 1]."""
        return self._values(box).sum(dim=1, keepdim=True).clamp(max=1.0)

    def shares(self, box: Box) -> Tensor:
        """Compute the share of each region and, last, of what is left as it is: (1, R + 1, h, w), summing to 1."""
        values = self._values(box)
        total = values.sum(dim=1, keepdim=True)
        return torch.cat([values / total.clamp_min(1.0), (1.0 - total).clamp_min(0.0)], dim=1)

    def _values(self, box: Box) -> Tensor:
        return self.planes[(slice(None), *box.place)][None].float() / 255.0


_GREY_TOLERANCE = 8  # of 255: a JPEG's channels differ a little
_DARK = 16  # of 255: the brightest value of what may be numbers of classes, and is hardly a mask


def option_of(name: str) -> str:
    """Name a mask in messages; the one for the whole mixture has no name."""
    return f"mask.{name}" if name else "mask"


def check_names(names: Sequence[str], known: Sequence[str]) -> None:
    """Raise ValueError for a mask of a style that there is not."""
    for name in names:
        if name and name not in known:
            raise unknown_style(name, known, "mask")


def read_mask(path: Path, option: str, *, max_megapixels: float) -> Tensor:
    """Return a mask's values, uint8 (H, W). ValueError, naming the option, for what is no grey picture."""
    try:
        return mask_of(read_original(path, max_megapixels=max_megapixels), f"{option}={path}")
    except UnreadablePictureError as error:
        raise ValueError(f"{option}: {error}") from error


def mask_of(original: Original, label: str) -> Tensor:
    """Return uint8 (H, W) of a grey picture; what is transparent counts as black. label: how messages call it."""
    pixels = to_eight_bits(original).pixels
    if original.pixels.dtype == torch.uint16 and (brightest := original.pixels.numpy().max(initial=0)) <= 255:
        pixels = original.pixels.to(torch.int32)
        if brightest > 1:
            warnings.warn(f"{label}: its 16 bits hold at most {brightest}; 255 is taken for white", stacklevel=2)
    if int((pixels.amax(dim=0) - pixels.amin(dim=0)).max()) > _GREY_TOLERANCE:
        raise ValueError(f"{label}: it has colours; a mask is a grey picture, white where the style is wanted")
    mask = full_range(pixels[1], label)
    if original.alpha is None:
        return mask
    return (mask.float() * (original.alpha[0].float() / white_level(original.alpha))).round().to(torch.uint8)


def full_range(mask: Tensor, label: str) -> Tensor:
    """Return whole numbers as uint8; of 0 and 1 alone, as programs write masks, 1 is taken for white."""
    brightest = int(mask.max()) if mask.numel() else 0
    if brightest == 1:
        warnings.warn(f"{label}: its values are 0 and 1; 1 is taken for white", stacklevel=2)
        return mask.to(torch.uint8) * 255
    if brightest < _DARK:
        change = f"brightest value is {brightest} of 255, so {'hardly anything' if brightest else 'nothing'} changes"
        warnings.warn(f"{label}: its {change}; white is all of a style", stacklevel=2)
    return mask.to(torch.uint8)


def regions_of(masks: Mapping[str, Tensor], mix: Mapping[str, float]) -> Regions | None:
    """Make regions of {style: uint8 (H, W)}, or of {"": (H, W)} for the whole mixture; None without any."""
    if not masks:
        return None
    shapes = {tuple(mask.shape) for mask in masks.values()}
    if len(shapes) > 1:
        sizes = ", ".join(f"{option_of(name)} {mask.shape[1]} x {mask.shape[0]}" for name, mask in masks.items())
        raise ValueError(f"the masks differ in size ({sizes}); all need the picture's")
    return Regions([{name: 1.0} if name else mix for name in masks], torch.stack(list(masks.values())))


@dataclass
class MaskFinder:
    """Find pictures' masks: ``place`` itself, or in this folder the picture of the same name.

    A mask lies below its folder as its picture does below the input, or with the first folders left out: that of
    leftImg8bit/train/ulm/a_leftImg8bit.png is train/ulm/a_gtFine_labelIds.png in Cityscapes' gtFine, that of
    JPEGImages/a.jpg a.png in VOC's SegmentationClass.
    """

    place: Path
    option: str
    _folders: dict[Path, dict[str, list[Path]]] = field(default_factory=dict)  # by stem, each looked through once
    _pictures: dict[Path, PurePath] = field(default_factory=dict)  # of which each mask is

    def __post_init__(self) -> None:
        if not self.place.exists():
            raise ValueError(f"{self.option}={self.place}: there is no such file or folder")

    def __call__(self, picture: PurePath) -> Path:
        """Find the mask of a path below the input. ValueError without one, and for one that two would share."""
        if not self.place.is_dir():
            return self.place
        stems = (picture.stem, picture.stem.replace("_leftImg8bit", "_gtFine_labelIds"))  # Cityscapes calls them so
        for first in range(len(picture.parts)):
            below = self.place.joinpath(*picture.parts[first:])
            masks = [mask for stem in dict.fromkeys(stems) for mask in self._masks(below.parent).get(stem, [])]
            if masks:
                mask = below if below in masks else masks[0]
                if (other := self._pictures.setdefault(mask, picture).with_suffix("")) != picture.with_suffix(""):
                    raise ValueError(
                        f"{self.option}={self.place}: {mask} would be the mask of {other} and of {picture}"
                    )
                return mask
        raise ValueError(
            f"{self.option}={self.place}: this folder has no mask for {picture} (a picture named {picture.stem})"
        )

    def _masks(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._folders:
            stems: dict[str, list[Path]] = {}
            for path in sorted(folder.glob("*")):
                if is_picture(path):
                    stems.setdefault(path.stem, []).append(path)
            self._folders[folder] = stems  # when it is whole: pictures are decoded in several threads
        return self._folders[folder]
