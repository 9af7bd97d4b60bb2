#!/usr/bin/env python3
"""Count droplets: smooth blobs of a colour that neither the style nor the photo has in that place.

Networks with instance normalisation can make them where one spike carries a channel's statistics (Karras et al. 2020,
StyleGAN2, section 2). A droplet here is a connected region of at least MIN_AREA pixels of the result, blurred by a
3 x 3 box, whose colour is more than THRESHOLD levels (Euclidean, RGB of 8 bits) from every colour of the style pictures
and from the photo's own colour at that pixel.

Of a model, every style is run on photos, on plain pictures of seven levels, on a smooth sky and on a black picture
with one white dot; of results that are there already, these are looked at.

    python tools/check/droplets.py --model runs/library --photos photos/ --style wave=great_wave.jpg monet=monets/
    python tools/check/droplets.py --spikes library.safetensors --photos photos/ --style wave=great_wave.jpg
    python tools/check/droplets.py --results painted/ --photos photos/ --style wave=great_wave.jpg
"""

import argparse
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree
from torch import Tensor

import gan_style
from gan_style.images.decode import decode, to_float
from gan_style.models.blocks import ConditionalInstanceNorm, InstanceNorm
from gan_style.models.library import condition_of
from gan_style.stylize.model import load_generator

MIN_AREA = 40  # pixels
THRESHOLD = 28.0  # levels
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def blurred(image: Image.Image) -> np.ndarray:
    """Return the picture, (H, W, 3) float, after a 3 x 3 box filter."""
    return ndimage.uniform_filter(np.asarray(image.convert("RGB"), dtype=np.float32), size=(3, 3, 0))


def palette(styles: Iterable[Image.Image]) -> cKDTree:
    """Build a search tree over the colours of the style pictures, in steps of 4 levels, blurred and as they are."""
    colors: set[tuple[int, ...]] = set()
    for style in styles:
        style.thumbnail((1024, 1024))
        for pixels in (np.asarray(style.convert("RGB")), blurred(style)):
            colors |= set(map(tuple, np.unique((pixels.reshape(-1, 3) / 4).astype(int), axis=0).tolist()))
    return cKDTree(np.array(sorted(colors)) * 4.0 + 2.0)


def droplets(result: Image.Image, photo: Image.Image, colors: cKDTree) -> list[tuple[int, int, int]]:
    """Return the droplets of a result, largest first: (area in pixels, row, column of the centre)."""
    pixels = blurred(result)
    of_photo = blurred(photo.convert("RGB").resize(result.size, Image.Resampling.BOX))
    from_photo = np.linalg.norm(pixels - of_photo, axis=2) > THRESHOLD
    from_style = np.zeros_like(from_photo)
    distances, _ = colors.query(pixels[from_photo], distance_upper_bound=THRESHOLD)
    from_style[from_photo] = np.isinf(distances)
    labels, count = ndimage.label(from_style)
    areas = ndimage.sum_labels(from_style, labels, range(1, count + 1))
    centers = ndimage.center_of_mass(from_style, labels, range(1, count + 1)) if count else []
    blobs = [(int(area), *map(round, center)) for area, center in zip(areas, centers, strict=True) if area >= MIN_AREA]
    return sorted(blobs, reverse=True)


def pictures(path: Path) -> list[Path]:
    """Return a picture, or the pictures of a folder, sorted."""
    return sorted(one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES) if path.is_dir() else [path]


def synthetic(size: int = 256) -> dict[str, Image.Image]:
    """Make pictures that bring droplets out: plain ones, a smooth sky of 25 levels, a white dot on black."""
    plain = {
        f"plain {level}": Image.new("RGB", (size, size), (level,) * 3) for level in (0, 42, 85, 128, 170, 213, 255)
    }
    sky = np.linspace(200, 225, size)[:, None, None] - np.array([60, 30, 0])
    dot = Image.new("RGB", (size, size))
    dot.putpixel((size // 3, size // 2), (255, 255, 255))
    return plain | {"sky": Image.fromarray(np.broadcast_to(sky, (size, size, 3)).astype("uint8")), "dot": dot}


def spikes(path: Path, condition: Tensor | None, photos: Iterable[Tensor]) -> dict[str, float]:
    """Measure how far a spike carries the statistics of each normalisation: {its name: the largest energy at a place}.

    The energy is the mean over channels of the squared deviation from the mean, in variances: 1 on average over the
    picture; the median over photos of its maximum.
    """
    generator = load_generator(path, torch.device("cpu"))
    peaks: dict[str, list[float]] = {}

    def measure(name: str, features: Tensor) -> None:
        variance, mean = torch.var_mean(features, dim=(2, 3), keepdim=True)
        peaks.setdefault(name, []).append(((features - mean).square() / variance).mean(dim=1).max().item())

    for name, module in generator.named_modules():
        if isinstance(module, InstanceNorm | ConditionalInstanceNorm):
            module.register_forward_pre_hook(lambda _, inputs, name=name: measure(name, inputs[0]))
    with torch.inference_mode():
        for photo in photos:
            generator(*([photo] if condition is None else [photo, condition]))
    return {name: statistics.median(values) for name, values in peaks.items()}


def report(style: str, results: Mapping[str, Image.Image], sources: Mapping[str, Image.Image], colors: cKDTree) -> int:
    """Print the droplets on a style's results, and return how many there are."""
    total = affected = 0
    for name, result in results.items():
        blobs = droplets(result, sources[name], colors)
        total, affected = total + len(blobs), affected + bool(blobs)
        if blobs:
            area, row, column = blobs[0]
            print(f"  {name}: {len(blobs)}, the largest of {area} pixels at row {row}, column {column}")
    print(f"{style}: {total} droplets on {affected} of {len(results)} results", flush=True)
    return total


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--results", type=Path, help="folder of results, named as their photos")
    what.add_argument("--model", help="a generator: a run, a file, or a style that ships")
    what.add_argument("--spikes", type=Path, help="a generator's file: the energy of spikes at its normalisations")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--max-photos", type=int, default=None)
    parser.add_argument("--size", type=int, default=256, help="short side of the photos that a model is run on")
    parser.add_argument("--style", required=True, nargs="+", metavar="NAME=PICTURES", help="a picture, or a folder")
    options = parser.parse_args(arguments)

    styles = {name: pictures(Path(path)) for name, path in (one.split("=", 1) for one in options.style)}
    photos = {path.stem: Image.open(path).convert("RGB") for path in pictures(options.photos)[: options.max_photos]}
    if options.spikes:
        inputs = [to_float(decode(path, short_side=options.size)[None]) for path in pictures(options.photos)]
        names = getattr(load_generator(options.spikes, torch.device("cpu")), "styles", None)
        for style in styles:
            condition = None if names is None else condition_of(names, {style: 1.0})
            peaks = spikes(options.spikes, condition, inputs[: options.max_photos])
            print(f"{style}: " + "  ".join(f"{name} {peak:.0f}" for name, peak in peaks.items()), flush=True)
        return
    total = 0
    if options.results:
        ((style, paths),) = styles.items()
        results = {path.stem: Image.open(path) for path in pictures(options.results)}
        total = report(style, results, photos, palette(map(Image.open, paths)))
    else:
        model = gan_style.load(options.model)
        for photo in photos.values():
            scale = options.size / min(photo.size)
            photo.thumbnail((photo.width * scale, photo.height * scale), Image.Resampling.LANCZOS)
        sources = photos | synthetic()
        for style, paths in styles.items():
            choice = {"style": style} if len(model.styles) > 1 else {}
            results = {name: model(source, **choice) for name, source in sources.items()}
            total += report(style, results, sources, palette(map(Image.open, paths)))
    print(f"{total} droplets in all")


if __name__ == "__main__":
    main()
