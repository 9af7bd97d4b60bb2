#!/usr/bin/env python3
"""Measure a distilled library (generator=mobile) beside its teacher, style by style.

Style left is that of tools/check/quality.py, the mean over relu1_1 to relu4_1; droplets are those of
tools/check/droplets.py. Photos must be ones that neither was trained on.

    python tools/check/student.py shipped:library shipped:mobile --photos photos/ --weights vgg19_relu5_4.safetensors \\
        --style wave=great_wave.jpg monet=monets/ --sheet sheet.jpg
"""

import argparse
from pathlib import Path
from statistics import mean

import torch
from droplets import droplets, palette, pictures
from PIL import Image
from quality import CPU, STYLE_LAYERS, to_image
from torch import Tensor

from gan_style.functional import gram_matrix
from gan_style.images.decode import decode, encode, grid, to_float
from gan_style.losses.objective import mean_gram
from gan_style.losses.style import gram_loss
from gan_style.models.library import LibraryGenerator, condition_of
from gan_style.models.perceptual import vgg19
from gan_style.stylize.model import find_generator, load_generator


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("student", type=Path)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument(
        "--style", nargs="+", required=True, metavar="NAME=PATH", help="the styles' pictures or folders"
    )
    parser.add_argument("--weights", required=True, help="of VGG-19, to relu4_1 at least")
    parser.add_argument("--size", type=int, default=256, help="short side of photos and style pictures")
    parser.add_argument("--max-photos", type=int, default=8)
    parser.add_argument("--sheet", type=Path, help="JPEG: for each style a photo, the teacher's result, the student's")
    options = parser.parse_args()

    # The photos' own Gram matrices
    networks = [load_generator(find_generator(path), CPU) for path in (options.teacher, options.student)]
    photos = [
        to_float(decode(p, short_side=options.size)[None]) for p in pictures(options.photos)[: options.max_photos]
    ]
    vgg = vgg19(layers=STYLE_LAYERS, weights=options.weights)
    vgg.calibrate(photos)
    photo_features = [vgg(photo, STYLE_LAYERS) for photo in photos]

    print("| style | teacher | student | ratio | droplets |\n|---|---|---|---|---|")
    means: list[list[float]] = []
    rows: list[list[Tensor]] = []
    for name, path in (spec.split("=", 1) for spec in options.style):
        style_paths = pictures(Path(path))[:40]
        colours = palette(Image.open(each) for each in style_paths)
        grams = mean_gram(
            vgg, (to_float(decode(each, short_side=options.size)[None]) for each in style_paths), STYLE_LAYERS
        )

        # Each network's distance to the style, as a share of the photos' own
        style_left, blobs, row = [], [], [photos[len(rows) % len(photos)][0]]
        for network in networks:
            assert isinstance(network, LibraryGenerator)
            condition = condition_of(network.styles, {name: 1.0})
            results = [network(photo, condition) for photo in photos]
            result_features = [vgg(result, STYLE_LAYERS) for result in results]
            shares = []
            for layer in STYLE_LAYERS:
                after, before = (
                    sum(gram_loss(gram_matrix(maps[layer]), grams[layer]).item() for maps in each)
                    for each in (result_features, photo_features)
                )
                shares.append(after / before)
            style_left.append(mean(shares))
            pairs = zip(results, photos, strict=True)
            blobs.append(sum(len(droplets(to_image(result), to_image(photo), colours)) for result, photo in pairs))
            row.append(results[len(rows) % len(photos)][0])
        means.append(style_left)
        rows.append(row)
        print(
            f"| {name} | {style_left[0]:.1%} | {style_left[1]:.1%} | {style_left[1] / style_left[0]:.2f} "
            f"| {blobs[0]}, {blobs[1]} |",
            flush=True,
        )
    teacher, student = (mean(column) for column in zip(*means, strict=True))
    print(f"| mean | {teacher:.1%} | {student:.1%} | {student / teacher:.2f} | |")
    if options.sheet:
        options.sheet.write_bytes(encode(grid(rows), options.sheet.suffix))


if __name__ == "__main__":
    main()
