#!/usr/bin/env python3
"""Measure what generators paint: style left by layer, content distance, droplets, beside published results.

Style left is the distance of Gram matrices (VGG-19, features scaled to mean activation 1) of the result to the style
pictures, as a share of the photo's own distance; content is the distance of relu4_2's features. Contestants are folders
of results, or generators (PATH, or PATH#STYLE), which are run on the photos at --size. Droplets are those of
tools/check/droplets.py, on the same results.

    python tools/check/quality.py --photos photos/ --style great_wave.jpg --weights vgg19_relu5_4.safetensors \\
        published=published/wave ours=runs/wave shipped=library.safetensors#wave --sheet sheet.png
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from droplets import droplets, palette, pictures
from PIL import Image
from torch import Tensor

from gan_style.functional import gram_matrix
from gan_style.images.decode import decode, to_float
from gan_style.losses.content import content_loss
from gan_style.losses.objective import mean_gram
from gan_style.losses.style import gram_loss
from gan_style.models.library import LibraryGenerator, OneStyle, condition_of
from gan_style.models.perceptual import vgg19
from gan_style.stylize.model import load_generator

STYLE_LAYERS = ["relu1_1", "relu2_1", "relu3_1", "relu4_1"]
CONTENT_LAYER = "relu4_2"
CPU = torch.device("cpu")


def contestant(spec: str, photos: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """Return the results {photo's stem: (1, 3, H, W)} of a folder, or of a generator run on the photos."""
    if Path(spec).is_dir() and not (Path(spec) / "generator.safetensors").exists():
        files = {path.stem: path for path in pictures(Path(spec))}
        return {stem: to_float(decode(files[stem], short_side=size)[None]) for stem in photos}
    path, _, style = spec.partition("#")
    generator: torch.nn.Module = load_generator(Path(path), CPU)
    if isinstance(generator, LibraryGenerator):
        generator = OneStyle(generator, condition_of(generator.styles, {style: 1.0}))
    with torch.inference_mode():
        return {stem: generator(photo).clamp(-1.0, 1.0) for stem, photo in photos.items()}


def to_image(picture: Tensor) -> Image.Image:
    """Convert (1, 3, H, W) in [-1, 1] to a Pillow picture."""
    pixels = ((picture[0] + 1.0) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(pixels.numpy()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contestants", nargs="+", metavar="NAME=PATH[#STYLE]")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--style", type=Path, required=True, help="the style picture, or a folder of them")
    parser.add_argument("--weights", required=True, help="of VGG-19, to relu4_2 at least")
    parser.add_argument("--size", type=int, default=256, help="short side of photos and style pictures")
    parser.add_argument("--max-photos", type=int, default=None)
    parser.add_argument("--sheet", type=Path, help="PNG: photo and contestants side by side")
    options = parser.parse_args()

    # The photos and the style pictures at one size, and VGG-19 calibrated on the photos
    paths = pictures(options.photos)[: options.max_photos]
    photos = {path.stem: to_float(decode(path, short_side=options.size)[None]) for path in paths}
    vgg = vgg19(layers=[*STYLE_LAYERS, CONTENT_LAYER], weights=options.weights)
    vgg.calibrate(list(photos.values()))
    style_paths = pictures(options.style)[:40]
    styles = [to_float(decode(path, short_side=options.size)[None]) for path in style_paths]
    grams = mean_gram(vgg, styles, STYLE_LAYERS)
    colors = palette(Image.open(path) for path in style_paths)

    # Each photo's own distances, then those of every contestant
    contestants = dict(spec.split("=", 1) for spec in options.contestants)
    results = {"photos": photos} | {name: contestant(spec, photos, options.size) for name, spec in contestants.items()}
    print(f"{'':<14}{'content':>8}" + "".join(f"{layer:>9}" for layer in STYLE_LAYERS) + "   droplets")
    own: dict[str, float] = {}
    with torch.inference_mode():
        features = {stem: vgg(photo, [*STYLE_LAYERS, CONTENT_LAYER]) for stem, photo in photos.items()}
        for name, images in results.items():
            content, blobs, affected = 0.0, 0, 0
            distances = dict.fromkeys(STYLE_LAYERS, 0.0)
            for stem, image in images.items():
                seen = vgg(image, [*STYLE_LAYERS, CONTENT_LAYER])
                content += content_loss(seen[CONTENT_LAYER], features[stem][CONTENT_LAYER]).item() / len(images)
                for layer in STYLE_LAYERS:
                    distances[layer] += gram_loss(gram_matrix(seen[layer]), grams[layer]).item() / len(images)
                if name != "photos":
                    found = droplets(to_image(image), to_image(photos[stem]), colors)
                    blobs, affected = blobs + len(found), affected + bool(found)
            own = own or distances
            left = "".join(f"{100 * distances[layer] / own[layer]:>8.1f}%" for layer in STYLE_LAYERS)
            print(f"{name:<14}{content:>8.2f}{left}   {blobs} on {affected} of {len(images)}", flush=True)

    # One row a photo, the contestants side by side
    if options.sheet:
        rows = [torch.cat([images[stem] for images in results.values()], dim=3) for stem in photos]
        width = max(row.shape[3] for row in rows)
        sheet = torch.cat([torch.nn.functional.pad(row, (0, width - row.shape[3]), value=1.0) for row in rows], dim=2)
        to_image(sheet).save(options.sheet)


if __name__ == "__main__":
    main()
