"""Regions of a photo and of paintings that belong together, for guided style (Gatys et al. 2017, section 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_style.images.decode import to_uint8
from gan_style.regions.segment import PictureRegions, check_proportions, cluster, read_class_mask, refine

_HEIGHT = 3.0  # weight of the row, where regions of two pictures are matched


@dataclass(frozen=True)
class GuidedRegions:
    """The same R regions of the content and of each style: masks, (1, R, H, W) in [0, 1]."""

    content: Tensor
    styles: Sequence[Tensor]


def clustered_regions(content: Tensor, styles: Sequence[Tensor], count: int) -> GuidedRegions:
    """Find a picture's own regions (PictureRegions) in the content and in each style, matched by their features.

    content, styles: (1, 3, H, W) in [-1, 1]. What is compared is how a region differs from its picture's mean, so that
    sky takes from sky although all of the painting is unlike the photo; the nearest two are matched first. Colours do
    not count, since a painting's are its own; how high a region lies counts most.
    """
    segmenter = PictureRegions(count, content.device)
    masks, centres = [], []
    for image in (content, *styles):
        pixels = to_uint8(image.cpu())[0]
        features = segmenter.describe(pixels)
        centroids = cluster(features, count)
        masks.append(refine(pixels, segmenter.shares(pixels, features, centroids)))
        centres.append((centroids - features.mean(dim=(1, 2))) * _matching_weights(len(features)).to(features))
    matched = [mask[_match(centres[0], other)] for mask, other in zip(masks[1:], centres[1:], strict=True)]
    return _guided(masks[0] / 255, [mask / 255 for mask in matched], content.device)


def _matching_weights(length: int) -> Tensor:
    """Weigh the values of PictureRegions' descriptions, the last of which are three colours, the row and the column."""
    return torch.tensor([1.0] * (length - 5) + [0.0, 0.0, 0.0, _HEIGHT, 1.0])


def _match(centres: Tensor, other_centres: Tensor) -> list[int]:
    """Match each of the centres (R, D) with the number of another's centre, each once."""
    distances, numbers = torch.cdist(centres, other_centres), [0] * len(centres)
    for _ in numbers:
        centre, other = divmod(int(distances.argmin()), len(other_centres))
        numbers[centre] = other
        distances[centre], distances[:, other] = torch.inf, torch.inf
    return numbers


def read_regions(content: Tensor, styles: Sequence[Tensor], paths: Sequence[Path]) -> GuidedRegions:
    """Read class-index masks, one of the content and one of each style; equal numbers belong together.

    ValueError for another shape than its picture's, and for a region of the content that a style has not.
    """
    numbers = []
    for image, path in zip((content, *styles), paths, strict=True):
        mask = read_class_mask(path, "masks")
        check_proportions(mask, image, f"masks={path}")
        numbers.append(F.interpolate(mask[None, None].float(), image.shape[-2:], mode="nearest")[0, 0].int())
    regions = numbers[0].unique().tolist()
    for mask, path in zip(numbers[1:], paths[1:], strict=True):
        if missing := sorted(set(regions) - set(mask.unique().tolist())):
            raise ValueError(f"masks={path}: region {missing[0]} of {paths[0]} is not in it; known are {regions}")
    planes = [torch.stack([mask == region for region in regions]) for mask in numbers]
    return _guided(planes[0], planes[1:], content.device)


def _guided(content: Tensor, styles: Sequence[Tensor], device: torch.device) -> GuidedRegions:
    content, *styles = (masks[None].float().to(device) for masks in (content, *styles))
    return GuidedRegions(content, styles)
