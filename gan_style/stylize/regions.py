"""What a mask option means: files, regions by name, and the rest that these leave over; and the masks of a picture."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gan_style.images.formats import FORMAT_OF_SUFFIX
from gan_style.options import as_typed
from gan_style.regions.names import REST
from gan_style.runtime.files import file_hash
from gan_style.stylize.controls import AUTO, Regions, as_names, option_of, regions_of

if TYPE_CHECKING:  # the perceptual network is loaded where regions are wanted by name
    from gan_style.regions.segment import NamedMasks


_NO_NAMES = (
    "without segmentation.network=... (such as lraspp_mobilenet_v3_large) or segmentation.masks=FOLDER with "
    "segmentation.names=... a picture's regions have no names, only numbers from the top: 1, 2, ... and rest"
)


@dataclass(frozen=True)
class MaskPlan:
    """Say where each style goes; "" stands for the whole mixture.

    files: {style: its mask, a path or a picture}; names: {style: names of regions}; rest: the style of what these leave
    over; order: the styles, as they were given.
    """

    files: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rest: str | None = None
    order: Sequence[str] = ()

    @property
    def by_style(self) -> bool:
        """Return whether the masks name the styles."""
        return bool(self.order) and "" not in self.order

    def settings(self) -> dict[str, Any]:
        """Return what results depend on besides the files (JSON types)."""
        regions = {"regions": {name: list(names) for name, names in self.names.items()}} if self.names else {}
        return regions | ({"rest": self.rest} if self.rest is not None else {})


def plan_masks(mask: Any, *, by_name: bool) -> MaskPlan:
    """Understand what a user gives as masks: one for the whole mixture, or {style: mask}.

    A mask is a path (or, from Python, a picture), "rest", the name of a region or a list of them, or the number of one
    of the picture's own regions. by_name: whether there is a source of names; a word without a suffix is then a name,
    and else a path. ValueError for an empty mapping, and where rest is wanted twice.
    """
    if mask is None:
        return MaskPlan()
    masks = dict(mask) if isinstance(mask, Mapping) else {"": mask}
    if not masks:
        raise ValueError("mask={}: give a mask for each style, as in mask={monet: sky.png}, or one picture for all")

    # Sort the masks into the rest, names (or numbers) of regions, and files.
    files: dict[str, Any] = {}
    names: dict[str, list[str]] = {}
    rest = None
    for style, value in masks.items():
        style, option = str(style), option_of(str(style))
        if isinstance(value, str) and value.lower() == REST:
            if rest is not None or not style:
                raise ValueError(
                    f"{option}={as_typed(value)}: {'two styles' if style else 'a single mask'} cannot have the rest"
                )
            rest = style
        elif isinstance(value, list | tuple):
            names[style] = [str(name) for name in value]
            if not by_name and (words := [name for name in names[style] if not name.isdigit()]):
                raise ValueError(f"{option}={words[0]}: {_NO_NAMES}")
        elif isinstance(value, int) or (isinstance(value, str) and _is_name(value, by_name)):
            names[style] = [str(value)]
        else:
            files[style] = value
            _check_word(value, option)
    if rest is not None and len(masks) == 1:
        raise ValueError(f"{option_of(rest)}={REST}: there is no other region that leaves a rest")
    return MaskPlan(files, names, rest, [str(style) for style in masks])


def _is_name(value: str, by_name: bool) -> bool:
    """Return whether it names a region: a number, or, where there is a source of names, what cannot be a path."""
    path = Path(value).expanduser()
    return value.isdigit() or (by_name and len(path.parts) == 1 and path.suffix.lower() not in FORMAT_OF_SUFFIX)


def _check_word(value: Any, option: str) -> None:
    """Raise ValueError for a name where only paths and numbers can be understood."""
    path = Path(value).expanduser() if isinstance(value, str) else None
    if path is not None and len(path.parts) == 1 and not path.suffix and not path.exists():
        raise ValueError(
            f"{option}={as_typed(value)}: there is no such file or folder. If it is the name of a region: {_NO_NAMES}"
        )


def by_name(segmentation: Mapping[str, Any]) -> bool:
    """Return whether there is a source of names."""
    return segmentation.get("network") is not None or segmentation.get("masks") is not None


def named_masks(
    plan: MaskPlan, segmentation: Mapping[str, Any], regions: int | None, device: torch.device
) -> "NamedMasks | None":
    """Build what finds the regions that a plan names; None where it names none.

    segmentation: network, weights, masks and names, as the options have them; regions: how many a picture is cut into
    where they have numbers alone. ValueError, in the user's words, for what is not there and for unknown names.
    """
    asked = ", ".join(f"segmentation.{name}={value}" for name, value in segmentation.items() if value is not None)
    if not plan.names:
        if asked or regions is not None:
            raise ValueError(f"{asked or f'regions={regions}'}: no mask names a region; see mask=... in --help")
        return None
    if by_name(segmentation) and regions is not None:
        raise ValueError(f"regions={regions} and {asked}: regions counts those without names; leave one of them out")
    from gan_style.regions.segment import NamedMasks, make_segmenter

    return NamedMasks(make_segmenter(**segmentation, regions=regions or 3, device=device), plan.names)


def auto_masks(style: Any, regions: int | None) -> tuple[dict[str, int], int]:
    """Read mask=auto: {style: number of the region}, from the top, and how many regions there are to be."""
    if not isinstance(style, list | tuple) or len(style) < 2:
        raise ValueError(
            f"mask={AUTO}: give a style for each region, from the picture's top to its bottom: style=[monet,wave]"
        )
    if len(set(style)) < len(style):
        raise ValueError(
            f"mask={AUTO}: style={as_typed(list(style))} names a style twice; each region needs one of its own"
        )
    if regions not in (None, len(style)):
        raise ValueError(
            f"mask={AUTO}: regions={regions}, but style={as_typed(list(style))} has {len(style)}; one for each"
        )
    return {str(name): number for number, name in enumerate(style, start=1)}, len(style)


def plan_regions(
    style: Any, mask: Any, regions: int | None, segmentation: Mapping[str, Any]
) -> tuple[Any, MaskPlan, int | None]:
    """Understand style, mask and regions together: the style, where masks do not name it, the plan, and the count."""
    style = as_names(style)
    if isinstance(mask, str) and mask == AUTO:
        mask, regions = auto_masks(style, regions)
        style = None
    return style, plan_masks(mask, by_name=by_name(segmentation)), regions


def region_settings(plan: MaskPlan, segmentation: Mapping[str, Any], regions: int | None) -> dict[str, Any]:
    """Return what results depend on where regions are named (JSON types); nothing for masks by hand."""
    settings = plan.settings()
    if not plan.names:
        return settings
    files = {name: path for name in ("weights", "names") if (path := segmentation[name]) and Path(path).is_file()}
    return settings | {
        "segmentation": {name: value for name, value in segmentation.items() if name != "masks"},
        "segmentation files": {name: file_hash(Path(path)) for name, path in files.items()},
        "count": regions,
    }


def find_masks(
    plan: MaskPlan,
    read: Callable[[str, Any], Tensor],
    named: "Callable[[Tensor, Path | None], dict[str, Tensor]] | None",
    pixels: Tensor,
    classes: Path | None,
    mix: Mapping[str, float],
    *,
    warn: bool = True,
) -> Regions | None:
    """Make the masks of one picture, uint8 (3, H, W).

    read: gives a mask's values, uint8 (H, W), of a style and its file; named: finds regions by name, where the plan has
    some; classes: the picture's class-index mask; warn: of a name without any pixels there.
    """
    height, width = pixels.shape[-2:]
    masks = {style: read(style, file) for style, file in plan.files.items()}
    regions = regions_of(masks, mix)
    if regions is not None:
        regions.check_size(height, width)
    if named is not None:
        masks |= named(pixels, classes)
        for style in (style for style in plan.names if warn and not masks[style].any()):
            missing = ", ".join(plan.names[style])
            warnings.warn(f"{option_of(style)}: there is no {missing} in this picture", stacklevel=2)
    if plan.rest is not None:
        covered = sum((mask.int() for mask in masks.values()), torch.zeros(height, width, dtype=torch.int32))
        masks[plan.rest] = (255 - covered).clamp_min(0).to(torch.uint8)
    return regions_of({style: masks[style] for style in plan.order or masks}, mix)
