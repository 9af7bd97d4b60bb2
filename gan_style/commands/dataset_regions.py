"""Masks in make-dataset: where which style is wanted, in each picture."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from gan_style.dataset.sample import Sample, SampleError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from gan_style.stylize.controls import MaskFinder, Regions
    from gan_style.stylize.regions import MaskPlan


def plan_of(cfg: Mapping[str, Any]) -> "tuple[Any, MaskPlan, int | None]":
    """Understand style, mask and regions: the style, where masks do not name it, the plan, and the regions' count."""
    from gan_style.stylize.regions import plan_regions

    return plan_regions(cfg["style"], cfg["mask"], cfg["regions"], cfg["segmentation"])


def check_regions(cfg: Mapping[str, Any]) -> None:
    """Raise ValueError, before any work, for names that nobody knows, and for what is not there."""
    import torch

    make_region_finder(cfg, torch.device("cpu"))


def mask_settings(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that results depend on, by name; nothing without masks."""
    from gan_style.stylize.regions import region_settings

    _, plan, count = plan_of(cfg)
    if not plan.order:
        return {}
    files = {style: str(place) for style, place in plan.files.items()}
    return {"mask": {"order": list(plan.order), "files": files, **region_settings(plan, cfg["segmentation"], count)}}


def absolute_masks(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that name masks and their tables, for a process with another working folder."""
    _, plan, _ = plan_of(cfg)
    files = {style: str(Path(place).expanduser().absolute()) for style, place in plan.files.items()}
    mask = (dict(cfg["mask"]) | files if isinstance(cfg["mask"], Mapping) else files[""]) if files else cfg["mask"]
    segmentation = {
        name: str(path.absolute()) if name != "network" and (path := Path(str(value)).expanduser()).exists() else value
        for name, value in cfg["segmentation"].items()
    }
    return {"mask": mask, "segmentation": segmentation}


@dataclass(frozen=True)
class RegionFinder:
    """Find a picture's regions; files and classes: of masks by hand, by style, and of class-index masks."""

    plan: "MaskPlan"
    named: Any
    files: "Mapping[str, MaskFinder]"
    classes: "MaskFinder | None"
    max_pixels: int

    def __call__(self, sample: Sample, pixels: "Tensor") -> "tuple[Regions, dict[str, float]]":
        """Find the regions of uint8 or uint16 (3, H, W), and each style's share of it. SampleError without a mask."""
        from gan_style.images.lossless import Original, to_eight_bits
        from gan_style.stylize.controls import option_of, read_mask
        from gan_style.stylize.regions import find_masks

        def read(style: str, path: Path) -> "Tensor":
            return read_mask(path, option_of(style), max_megapixels=self.max_pixels / 1e6)

        assert sample.picture is not None
        picture = PurePath(sample.picture.member or sample.picture.path)
        try:
            plan = replace(self.plan, files={style: find(picture) for style, find in self.files.items()})
            classes = None if self.classes is None else self.classes(picture)
            pixels = to_eight_bits(Original(pixels)).pixels
            regions = find_masks(plan, read, self.named, pixels, classes, {}, warn=False)
        except ValueError as error:
            raise SampleError("mask", str(error)) from error
        assert regions is not None
        shares = regions.planes.float().mean(dim=(1, 2)) / 255
        return regions, dict(zip(self.plan.order, shares.tolist(), strict=True))


def make_region_finder(cfg: Mapping[str, Any], device: "torch.device") -> RegionFinder | None:
    """Build it; None without masks. ValueError, in the user's words, for what is not there."""
    from gan_style.stylize.controls import MaskFinder, option_of
    from gan_style.stylize.regions import named_masks

    _, plan, count = plan_of(cfg)
    find_named = named_masks(plan, cfg["segmentation"], count, device)
    if not plan.order:
        return None
    files = {style: MaskFinder(Path(str(place)).expanduser(), option_of(style)) for style, place in plan.files.items()}
    folder = cfg["segmentation"]["masks"]
    classes = None if folder is None else MaskFinder(Path(folder).expanduser(), "segmentation.masks")
    return RegionFinder(plan, find_named, files, classes, cfg["max_pixels"])
