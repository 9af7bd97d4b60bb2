#!/usr/bin/env python3
"""Count droplets: smooth blobs of a colour that neither the style nor the photo has in that place.

Networks with instance normalisation can make them where one spike carries a channel's statistics (Karras et al. 2020,
StyleGAN2, section 2). A droplet here is a connected region of at least MIN_AREA pixels of the result, blurred by a
3 x 3 box, whose colour is more than THRESHOLD levels (Euclidean, RGB of 8 bits) from every colour of the style pictures
and from the photo's own colour at that pixel.

    python tools/check/droplets.py --results painted/ --photos photos/ --style great_wave.jpg
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree

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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="folder of results, named as their photos")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--style", type=Path, required=True, nargs="+", help="style pictures or folders of them")
    options = parser.parse_args(arguments)

    colors = palette(Image.open(path) for folder in options.style for path in pictures(folder))
    photos = {path.stem: path for path in pictures(options.photos)}
    total = affected = 0
    for path in pictures(options.results):
        blobs = droplets(Image.open(path), Image.open(photos[path.stem]), colors)
        total, affected = total + len(blobs), affected + bool(blobs)
        if blobs:
            area, row, column = blobs[0]
            print(f"{path.name}: {len(blobs)}, the largest of {area} pixels at row {row}, column {column}")
    print(f"{total} droplets on {affected} of {len(pictures(options.results))} results")


if __name__ == "__main__":
    main()
