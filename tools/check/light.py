#!/usr/bin/env python3
"""Does a model keep the light? Results of dimmed photos, and of plain black and white, for each style.

For each photo at seven exposures (1 % to 100 % of its values) the mean luma of the result; it has to rise with the
exposure: Spearman's correlation, 1.0 where it never falls. Then plain black and plain white pictures: how far their
results' luma lies apart, beside how far the style's own darkest and lightest fifths do. And how much of all photos'
results is the network's, beside a plain colour of the style (gan_style/models/tone.py).

    python tools/check/light.py --model library.safetensors --photos photos/ --style wave=great_wave.jpg monet=monets/
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from droplets import pictures
from PIL import Image
from scipy.stats import spearmanr

import gan_style
from gan_style.models.tone import contrast

EXPOSURES = (0.01, 0.02, 0.05, 0.1, 0.22, 0.46, 1.0)
LUMA = np.array([0.299, 0.587, 0.114])


def luma(image: Image.Image) -> np.ndarray:
    """Return BT.601 luma, (H, W), of 0 to 255."""
    return np.asarray(image.convert("RGB"), dtype=np.float64) @ LUMA


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a generator: a run, a file, or a style that ships")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--max-photos", type=int, default=3)
    parser.add_argument("--size", type=int, default=256, help="short side of the photos")
    parser.add_argument("--style", required=True, nargs="+", metavar="NAME=PICTURES", help="a picture, or a folder")
    options = parser.parse_args()

    model = gan_style.load(options.model)
    photos = [Image.open(path).convert("RGB") for path in pictures(options.photos)[: options.max_photos]]
    for photo in photos:
        scale = options.size / min(photo.size)
        photo.thumbnail((photo.width * scale, photo.height * scale), Image.Resampling.LANCZOS)
    contrasts = np.array([luma(Image.open(path)).std() / 255.0 for path in pictures(options.photos)])
    shares = contrast(torch.from_numpy(contrasts)).numpy()
    print(f"the network's share of the results of {len(shares)} photos: median {np.median(shares):.3f}", end=", ")
    print(f"5 in 100 below {np.quantile(shares, 0.05):.3f}, the least {shares.min():.3f}", flush=True)
    for style, path in (one.split("=", 1) for one in options.style):
        choice = {"style": style} if len(model.styles) > 1 else {}

        # Mean luma of the results, over the exposures
        lowest, means = 1.0, np.zeros(len(EXPOSURES))
        for photo in photos:
            dimmed = [photo.point(lambda value, exposure=exposure: round(value * exposure)) for exposure in EXPOSURES]
            levels = [luma(model(image, **choice)).mean() for image in dimmed]
            lowest = min(lowest, float(spearmanr(EXPOSURES, levels).statistic))
            means += np.array(levels) / len(photos)

        # Plain pictures, and the style's own fifths
        black, white = (luma(model(Image.new("RGB", (256, 256), (v,) * 3), **choice)).mean() for v in (0, 255))
        own = []
        for picture in pictures(Path(path))[:40]:
            values = np.sort(luma(Image.open(picture)), axis=None)
            own.append((values[: len(values) // 5].mean(), values[-len(values) // 5 :].mean()))
        dark, bright = np.mean(own, axis=0)
        print(
            f"{style:<14} lowest rank correlation {lowest:.3f}; luma {' '.join(f'{mean:.0f}' for mean in means)}; "
            f"black {black:.0f}, white {white:.0f} (the style's own: {dark:.0f}, {bright:.0f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
