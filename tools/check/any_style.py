#!/usr/bin/env python3
"""Measure a generator of any style on paintings that it was not trained on.

For each painting and photo: what is left of the style distance (Gram matrices under VGG-19, features scaled to mean
activation 1, mean over relu1_1 to relu4_1 of each layer's share of the photo's own), and whether the painting is the
nearest of all to the result, by the mean over layers of distances relative to the spread of the paintings.

    python tools/check/any_style.py MODEL --paintings paintings/ --photos photos/ --weights vgg19_relu5_4.safetensors
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch
from droplets import pictures
from quality import CONTENT_LAYER, CPU, STYLE_LAYERS, to_image
from torch import Tensor
from torch.nn import functional as F

from gan_style.functional import gram_matrix
from gan_style.images.decode import decode, to_float
from gan_style.losses.content import content_loss
from gan_style.models.perceptual import vgg19
from gan_style.models.reference import ReferenceGenerator
from gan_style.optimise.refine import Refiner
from gan_style.stylize.model import Model, load_generator, with_references


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--paintings", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", required=True, help="of VGG-19, to relu4_2 at least")
    parser.add_argument("--size", type=int, default=256, help="short side of photos and paintings")
    parser.add_argument("--max-photos", type=int, default=5)
    parser.add_argument("--max-paintings", type=int, default=20)
    parser.add_argument("--refine", type=int, default=0, help="steps on each photo (gan-style stylize refine=)")
    parser.add_argument("--sheet", type=Path, help="PNG: a row for each painting, behind it the results")
    options = parser.parse_args()

    generator = load_generator(options.checkpoint, CPU)
    assert isinstance(generator, ReferenceGenerator)
    paths = {path.stem: path for path in pictures(options.paintings)[: options.max_paintings]}
    paintings = {name: to_float(decode(path, short_side=options.size)[None]) for name, path in paths.items()}
    photo_paths = pictures(options.photos)[: options.max_photos]
    photos = [to_float(decode(path, short_side=options.size)[None]) for path in photo_paths]
    vgg = vgg19(layers=[*STYLE_LAYERS, CONTENT_LAYER], weights=options.weights)
    vgg.calibrate(photos)

    # Gram matrices of the paintings, and how far they lie from each other: the unit of each layer
    with torch.inference_mode():
        grams = [grams_of(vgg(painting, STYLE_LAYERS)) for painting in paintings.values()]
        stacked = {layer: torch.cat([gram[layer] for gram in grams]) for layer in STYLE_LAYERS}
        spread = {layer: (gram - gram.mean(dim=0)).square().mean() for layer, gram in stacked.items()}

        # Every painting on every photo
        library = with_references(Model(generator, (), CPU), paintings)
        shares, nearest, contents, rows = [], [], [], []
        for number, name in enumerate(paintings):
            condition = F.one_hot(torch.tensor([number]), len(paintings)).float()
            row = []
            for photo in photos:
                if options.refine:
                    single = with_references(Model(generator, (), CPU), {name: paintings[name]})
                    refined = Refiner({name: paintings[name]}, options.refine)(single.generator, photo)
                    result = refined(photo, torch.ones(1, 1))
                else:
                    result = library.generator(photo, condition)
                features, photo_features = (
                    vgg(result, [*STYLE_LAYERS, CONTENT_LAYER]),
                    vgg(photo, [*STYLE_LAYERS, CONTENT_LAYER]),
                )
                after, before = grams_of(features), grams_of(photo_features)
                shares.append(
                    [distance(after, grams[number], x) / distance(before, grams[number], x) for x in STYLE_LAYERS]
                )
                far = [
                    torch.stack([distance(after, gram, x) / spread[x] for x in STYLE_LAYERS]).sum() for gram in grams
                ]
                nearest.append(int(torch.stack(far).argmin()) == number)
                contents.append(content_loss(features[CONTENT_LAYER], photo_features[CONTENT_LAYER]))
                row.append(result)
            rows.append(row)
            mine = torch.tensor(shares[-len(photos) :])
            print(
                f"{name[:40]:<42}{100 * mine.mean():>6.1f}%   nearest {sum(nearest[-len(photos) :])} of {len(photos)}",
                flush=True,
            )

    style_left = torch.tensor(shares)
    print(
        "style left, median: "
        + ", ".join(f"{x} {100 * m:.1f}%" for x, m in zip(STYLE_LAYERS, style_left.median(dim=0).values, strict=True))
    )
    print(f"style left, mean over layers, median over pairs: {100 * style_left.mean(dim=1).median():.1f}%")
    print(f"the right painting is the nearest in {100 * sum(nearest) / len(nearest):.0f}%")
    print(f"content relu4_2: {torch.stack(contents).mean():.2f}")
    if options.sheet:
        to_image(sheet(list(paintings.values()), rows)).save(options.sheet)


def grams_of(features: dict[str, Tensor]) -> dict[str, Tensor]:
    """Compute the Gram matrix of each style layer."""
    return {layer: gram_matrix(features[layer]) for layer in STYLE_LAYERS}


def sum_of(values: Iterable[Tensor]) -> Tensor:
    """Add up scalars."""
    return torch.stack(list(values)).sum()


def distance(grams: dict[str, Tensor], target: dict[str, Tensor], layer: str) -> Tensor:
    """Compute the mean squared difference of one layer's Gram matrices."""
    return (grams[layer] - target[layer]).square().mean()


def sheet(paintings: list[Tensor], rows: list[list[Tensor]]) -> Tensor:
    """Lay out (1, 3, H, W): one row for each painting, the painting cut to a square before its results."""
    height = 160
    lines = []
    for painting, row in zip(paintings, rows, strict=True):
        cells = [
            F.interpolate(x, (height, round(x.shape[3] * height / x.shape[2])), mode="area") for x in [painting, *row]
        ]
        cells = [cell[..., : round(height * 1.5)] for cell in cells]
        cells = [F.pad(cell, (0, round(height * 1.5) - cell.shape[3]), value=1.0) for cell in cells]
        lines.append(torch.cat(cells, dim=3))
    return torch.cat(lines, dim=2)


if __name__ == "__main__":
    main()
