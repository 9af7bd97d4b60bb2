#!/usr/bin/env python3
"""Are regions where people see them? Those of mask=auto beside given masks: IoU, and seconds a picture of each way.

Masks lie in a folder as NAME_sky.png and NAME_foreground.png (grey, white: there). Pictures count where a mask covers
at least a tenth and at most nine tenths. Stated are the medians over pictures of the IoU of the region that fits best,
and of "sky" and the region at the top.

    python tools/check/regions.py --photos photos/ --masks photos_masks/ --network lraspp_mobilenet_v3_large
"""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gan_style.images.decode import decode
from gan_style.images.formats import list_pictures
from gan_style.models.segmentation import NETWORKS, SegmentationNetwork
from gan_style.regions.masks import NamedMasks
from gan_style.regions.segment import NetworkRegions, PictureRegions, Segmenter

LEAST = 0.1  # of the pixels, and of what is not the mask


def iou(first: Tensor, second: Tensor) -> float:
    """Of two masks, bool (H, W)."""
    return float((first & second).sum() / (first | second).sum().clamp_min(1))


def masks_of(folder: Path, stem: str) -> dict[str, Tensor]:
    """Read a photo's masks, by name, bool (H, W), where they are a fair part of it."""
    files = {kind: folder / f"{stem}_{kind}.png" for kind in ("sky", "foreground")}
    masks = {kind: decode(path)[0] > 127 for kind, path in files.items() if path.is_file()}
    return {kind: mask for kind, mask in masks.items() if LEAST < mask.float().mean() < 1 - LEAST}


def measure(photos: Sequence[Path], folder: Path, count: int) -> Mapping[str, list[float]]:
    """IoU of a picture's own regions with its masks."""
    named = NamedMasks(PictureRegions(count), {str(number): [str(number)] for number in range(1, count + 1)})
    scores: dict[str, list[float]] = {}
    for photo in photos:
        masks = masks_of(folder, photo.stem)
        regions = [mask > 127 for mask in named(decode(photo)).values()] if masks else []
        for kind, mask in masks.items():
            scores.setdefault(f"{kind}, best region", []).append(max(iou(mask, region) for region in regions))
            if kind == "sky":
                scores.setdefault("sky, region 1", []).append(iou(mask, regions[0]))
    return scores


def seconds(segmenter: Segmenter, names: Sequence[str], photos: Sequence[Path]) -> float:
    """Median seconds a picture, without decoding."""
    named, times = NamedMasks(segmenter, {name: [name] for name in names}), []
    for photo in photos:
        pixels, begun = decode(photo), time.perf_counter()
        named(pixels)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def random_network(name: str) -> NetworkRegions:
    """A network of torchvision with random weights: as fast as with others."""
    from torchvision.models import get_model_builder

    segmenter = object.__new__(NetworkRegions)
    segmenter.network, segmenter.device = name, torch.device("cpu")
    segmenter.names = {0: "background", **{number: str(number) for number in range(1, 21)}}
    segmenter._network = SegmentationNetwork(get_model_builder(name)(weights=None, weights_backbone=None))
    return segmenter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--regions", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--network", nargs="*", default=[], choices=NETWORKS, help="whose seconds are measured, too")
    options = parser.parse_args()

    photos = list_pictures(options.photos)
    for count in options.regions:
        for name, values in measure(photos, options.masks, count).items():
            quarters = statistics.quantiles(values, n=4)
            print(
                f"regions={count}  {name:<24} {len(values):3} pictures  IoU median {statistics.median(values):.3f}"
                f"  (quarters {quarters[0]:.3f}, {quarters[2]:.3f})",
                flush=True,
            )
    for count in options.regions:
        print(f"mask=auto, regions={count}: {seconds(PictureRegions(count), ['1'], photos[:20]):.3f} s a picture")
    for network in options.network:
        print(f"{network}: {seconds(random_network(network), ['background'], photos[:5]):.3f} s a picture")


if __name__ == "__main__":
    main()
