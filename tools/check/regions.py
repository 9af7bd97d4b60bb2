#!/usr/bin/env python3
"""Measure regions: where they are, how long they take, and what guided style (gan-style optimise) does in them.

where    IoU of mask=auto's regions with given masks: medians over pictures of the region that fits best, and of "sky"
         and the region at the top. Pictures count where a mask covers at least a tenth and at most nine tenths.
time     seconds a picture of each way to find regions, and of painting it, alternately in one process: medians.
guided   five pairs of a photo and a painting with sky in both, optimised without regions, with regions=auto and with
         masks: distance of Gram matrices (compact's, relative, mean over layers) to the painting's, within the sky and
         within the rest, and of features to the photo's. Skies are those of the photos' masks and PAIRS' outlines.
         What is in --work already is measured again, not made.
trained  a generator trained with loss=guided, and one without regions, on --photos with sky but for every fourth, and
         on the painting of the first of --pairs: the same distances on those photos, under VGG-19 (--weights). Runs
         that were stopped go on.

Masks lie in a folder as NAME_sky.png and NAME_foreground.png (grey, white: there).

    python tools/check/regions.py where --photos photos/ --masks photos_masks/
    python tools/check/regions.py time --photos photos/
    python tools/check/regions.py guided --photos photos/ --masks photos_masks/ --paintings paintings/ --work w/ \
        --optimise perceptual.weights=vgg19.safetensors size=128 steps=60
    python tools/check/regions.py trained --photos photos/ --masks photos_masks/ --paintings paintings/ --work w/ \
        --weights vgg19_relu3_4.safetensors --train training.steps=800
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

import gan_style
from gan_style.functional import by_region, gram_matrix
from gan_style.images.decode import decode, to_float
from gan_style.images.formats import list_pictures
from gan_style.models.perceptual import Perceptual, compact, vgg19
from gan_style.regions.segment import (
    NETWORKS,
    NamedMasks,
    NetworkRegions,
    PictureRegions,
    SegmentationNetwork,
    Segmenter,
)

LEAST = 0.1  # of the pixels, and of what is not the mask
STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_4", "relu4_2")
STARRY = [(0, 0), (1, 0), (1, 0.52), (0.88, 0.55), (0.8, 0.63), (0.62, 0.68), (0.4, 0.7), (0.3, 0.72), (0.27, 0.65)]
STARRY += [(0.22, 0.5), (0.21, 0.25), (0.18, 0.12), (0.16, 0.2), (0.13, 0.3), (0.13, 0.68), (0, 0.78)]
SCREAM = [(0, 0), (0.95, 0), (0.95, 0.25), (0.8, 0.27), (0.6, 0.28), (0, 0.28)]
WAVE = [(0, 0), (1, 0), (1, 0.4), (0.9, 0.52), (0.8, 0.63), (0.72, 0.7), (0.6, 0.7), (0.5, 0.65), (0.42, 0.5)]
WAVE += [(0.41, 0.4), (0.58, 0.42), (0.6, 0.3), (0.52, 0.2), (0.45, 0.1), (0.4, 0.07), (0.33, 0.08), (0.2, 0.2)]
WAVE += [(0.1, 0.33), (0, 0.34)]
SHIPWRECK = [(0, 0), (1, 0), (1, 0.42), (0.85, 0.4), (0.83, 0.3), (0.72, 0.4), (0.65, 0.3), (0.5, 0.28), (0.35, 0.32)]
SHIPWRECK += [(0.2, 0.3), (0.08, 0.24), (0, 0.22)]
SIZE = 128  # short side at which generators are measured
TRAIN = ["loss=guided", "~loss.adversarial", "generator=slim", "perceptual=compact", "data.size=96"]
TRAIN += ["data.resize=[96,144]", "data.style_resize=[128,128]", "data.sample_size=128", "training.batch=4"]
TRAIN += ["training.warmup_steps=20", "training.ema_decay=0.98", "training.audit_every=0", "tracking.wandb=disabled"]
TRAIN += ["training.checkpoint_every=200", "training.sample_every=10000", "metrics.every=10000"]
PAIRS = [  # a photo's name, a painting's, and the outline of its sky, in fractions of width and height
    ("241004", "starry_night", STARRY),
    ("253055", "the_scream", SCREAM),
    ("260058", "great_wave", WAVE),
    ("296007", "shipwreck", SHIPWRECK),
    ("182053", "starry_night", STARRY),
]


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


def random_network(name: str) -> NetworkRegions:
    """A network of torchvision with random weights: as fast as with others."""
    from torchvision.models import get_model_builder

    segmenter = object.__new__(NetworkRegions)
    segmenter.network, segmenter.device = name, torch.device("cpu")
    segmenter.names = {0: "background", **{number: str(number) for number in range(1, 21)}}
    segmenter._network = SegmentationNetwork(get_model_builder(name)(weights=None, weights_backbone=None))
    return segmenter


def time_ways(photos: Sequence[Path]) -> Mapping[str, float]:
    """Median seconds a picture, without decoding."""
    from gan_style.stylize.controls import Controls
    from gan_style.stylize.model import load_model, resolve_model
    from gan_style.stylize.paint import paint

    def finder(segmenter: Segmenter, name: str) -> Callable[[Tensor], object]:
        return NamedMasks(segmenter, {name: [name]})

    model, _ = load_model(resolve_model(["wave"], None), torch.device("cpu"))
    ways = {f"mask=auto, {count} regions": finder(PictureRegions(count), "1") for count in (2, 3, 4)}
    ways |= {name: finder(random_network(name), "background") for name in NETWORKS[:2]}
    ways["painting in one style"] = lambda pixels: paint(model, pixels, Controls({"wave": 1.0}))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for photo in photos:
        pixels = decode(photo)
        for name, way in ways.items():
            begun = time.perf_counter()
            way(pixels)
            times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in times.items()}


def optimise(photo: Path, painting: Path, output: Path, options: Sequence[str]) -> Tensor:
    """Run gan-style optimise, unless it has been; the result, (1, 3, h, w) in [-1, 1]."""
    arguments = [f"content={photo}", f"style={painting}", f"output={output}", "log_every=1000", *options]
    subprocess.run(
        [sys.executable, "-m", "gan_style.cli", "optimise", *arguments], check=True, stdout=subprocess.DEVNULL
    )
    return to_float(decode(output)[None])


def outline(points: Sequence[tuple[float, float]], width: int, height: int) -> Tensor:
    """Fill a polygon of fractions of the width and the height: bool (H, W)."""
    picture = Image.new("1", (width, height))
    ImageDraw.Draw(picture).polygon([(x * width, y * height) for x, y in points], fill=1)
    return torch.from_numpy(np.asarray(picture).copy())


def scaled(image: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(image.float(), list(size), mode="bilinear", antialias=True).clamp(-1.0, 1.0)


@torch.no_grad()
def style_distance(
    image: Tensor, mask: Tensor, style: Tensor, style_mask: Tensor, network: Perceptual, layers: Sequence[str]
) -> float:
    """Compare Gram matrices of features within a mask, (1, 1, H, W), of each: relative, mean over layers."""
    grams = []
    for picture, region in ((image, mask), (style, style_mask)):
        features = network(picture, layers)
        grams.append([gram_matrix(by_region(features[layer], region.float())[0]) for layer in layers])
    return statistics.fmean(float((a - b).norm() / b.norm()) for a, b in zip(*grams, strict=True))


def check_guided(
    photos: Path, masks: Path, paintings: Path, work: Path, pairs: Sequence[int], options: Sequence[str]
) -> None:
    work.mkdir(parents=True, exist_ok=True)
    network = compact(layers=STYLE_LAYERS)
    table: dict[str, list[list[float]]] = {}
    print("pair, way: style distance in the sky, in the rest; feature distance to the photo; seconds")
    for number in pairs:
        stem, name, points = PAIRS[number]
        photo, painting = photos / f"{stem}.jpg", next(paintings.glob(f"{name}*.jpg"))
        content, style = (to_float(decode(path)[None]) for path in (photo, painting))
        sky = (decode(masks / f"{stem}_sky.png")[0] > 127)[None, None]
        style_sky = outline(points, style.shape[-1], style.shape[-2])[None, None]
        files = [work / f"{number}_photo_sky.png", work / f"{number}_painting_sky.png"]
        for file, mask in zip(files, (sky, style_sky), strict=True):
            Image.fromarray(mask[0, 0].numpy().astype(np.uint8)).save(file)
        ways = {"whole": [], "regions=auto": ["regions=auto"], "masks": [f"masks=[{files[0]},{files[1]}]"]}
        for way, more in ways.items():
            begun = time.perf_counter()
            result = optimise(photo, painting, work / f"{number}_{way.replace('=', '_')}.png", [*more, *options])
            seconds = time.perf_counter() - begun
            small_style = scaled(
                style, [round(x * min(result.shape[-2:]) / min(style.shape[-2:])) for x in style.shape[-2:]]
            )
            here, there = scaled(sky, result.shape[-2:]), scaled(style_sky, small_style.shape[-2:])
            row = [
                style_distance(result, a, small_style, b, network, STYLE_LAYERS)
                for a, b in ((here, there), (1 - here, 1 - there))
            ]
            row += [feature_distance(result, scaled(content, result.shape[-2:])), seconds]
            table.setdefault(way, []).append(row)
            print(f"{stem} {name} {way}: " + " ".join(f"{value:.3f}" for value in row), flush=True)
    for way, rows in table.items():
        print(f"mean, {way}: " + " ".join(f"{statistics.fmean(column):.3f}" for column in zip(*rows, strict=True)))


@torch.no_grad()
def feature_distance(image: Tensor, content: Tensor) -> float:
    """Compare compact's features, relu4_2, of two pictures: relative."""
    first, second = (compact(layers=("relu4_2",))(picture, ("relu4_2",))["relu4_2"] for picture in (image, content))
    return float((first - second).norm() / second.norm())


def check_trained(
    photos: Path, masks: Path, paintings: Path, work: Path, pair: int, weights: Path, options: Sequence[str]
) -> None:
    # Photos with sky, their class-index masks and the painting's, and a table of names
    stems = [path.stem for path in list_pictures(photos) if "sky" in masks_of(masks, path.stem)]
    held_out = stems[::4]
    _, name, points = PAIRS[pair]
    painting = next(paintings.glob(f"{name}*.jpg"))
    style = to_float(decode(painting, short_side=SIZE)[None])
    skies = {stem: decode(masks / f"{stem}_sky.png")[0] > 127 for stem in stems}
    skies[painting.stem] = style_sky = outline(points, style.shape[-1], style.shape[-2])
    (work / "masks").mkdir(parents=True, exist_ok=True)
    for stem, sky in skies.items():
        Image.fromarray(sky.numpy().astype(np.uint8)).save(work / "masks" / f"{stem}.png")
    (work / "names.txt").write_text("ground\nsky\n")

    # Train without regions and with them
    content, holdout = (
        ",".join(str(photos / f"{stem}.jpg") for stem in names) for names in (set(stems) - set(held_out), held_out)
    )
    arguments = [f"data.content=[{content}]", f"data.holdout=[{holdout}]", f"data.style={painting}", *TRAIN, *options]
    regions = [f"data.regions.{role}={work / 'masks'}" for role in ("content", "style")]
    regions += ["data.regions.names=[sky,ground]", f"data.regions.classes={work / 'names.txt'}"]
    for way, more in (("whole", ["loss.style.guided=false"]), ("guided", regions)):
        command = [sys.executable, "-m", "gan_style.cli", "train", f"run.root={work}", f"run.name={way}"]
        subprocess.run([*command, *arguments, *more], check=True, stdout=subprocess.DEVNULL)

    # Measure both on the photos that were held out
    layers = ("relu1_1", "relu2_1", "relu3_1")
    network = vgg19(layers=layers, weights=str(weights))
    models = {way: gan_style.load(str(work / way)) for way in ("whole", "guided")}
    table: dict[str, list[list[float]]] = {way: [] for way in ("photo", *models)}
    for stem in held_out:
        photo = decode(photos / f"{stem}.jpg", short_side=SIZE)
        sky = scaled(skies[stem][None, None].float(), photo.shape[-2:])
        for way, rows in table.items():
            result = photo
            if way in models:
                picture = models[way](Image.fromarray(photo.permute(1, 2, 0).numpy()))
                result = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)
            image, there = to_float(result[None]), style_sky[None, None].float()
            pairs = ((sky, there), (1 - sky, 1 - there))
            rows.append([style_distance(image, a, style, b, network, layers) for a, b in pairs])
            rows[-1].append(feature_distance(image, to_float(photo[None])))
    print("means over held-out photos: style distance in the sky, in the rest; feature distance to the photo")
    for way, rows in table.items():
        print(f"{way}: " + " ".join(f"{statistics.fmean(column):.3f}" for column in zip(*rows, strict=True)))
    for number, part in enumerate(("sky", "rest")):
        lower = sum(a[number] < b[number] for a, b in zip(table["guided"], table["whole"], strict=True))
        print(f"{part}: guided is lower in {lower} of {len(held_out)} photos")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("where", "time", "guided", "trained"))
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--paintings", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--pairs", type=int, nargs="+", default=range(len(PAIRS)), help="numbers of them, from 0")
    parser.add_argument("--regions", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--optimise", nargs="+", default=[], help="more options of gan-style optimise")
    parser.add_argument("--weights", type=Path, help="of VGG-19, for trained")
    parser.add_argument("--train", nargs="+", default=[], help="more options of gan-style train")
    options = parser.parse_args()

    if options.part == "trained":
        folders = (options.photos, options.masks, options.paintings, options.work)
        check_trained(*folders, options.pairs[0], options.weights, options.train)
        return
    if options.part == "guided":
        check_guided(options.photos, options.masks, options.paintings, options.work, options.pairs, options.optimise)
        return
    photos = list_pictures(options.photos)
    if options.part == "time":
        for name, value in time_ways(photos[:5]).items():
            print(f"{name:<32}{value:.3f} s a picture")
        return
    for count in options.regions:
        for name, values in measure(photos, options.masks, count).items():
            quarters = statistics.quantiles(values, n=4)
            print(
                f"regions={count}  {name:<24} {len(values):3} pictures  IoU median {statistics.median(values):.3f}"
                f"  (quarters {quarters[0]:.3f}, {quarters[2]:.3f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
