#!/usr/bin/env python3
"""Do two perceptual networks rank pictures alike? Spearman's correlation of their style and content distances.

Style: for each style picture, the Gram distance of every picture in --pictures and every photo, relative to the
target's mean square, mean over layers; the correlation over pictures. Content: the distance of each result to its photo
(the folders of --pictures hold one under each photo's name), of the photo blurred and noised at three strengths, and of
the photo mixed with each result in halves; the correlation within each photo, and over all. Features are scaled to mean
activation 1 on the photos.

    python tools/check/perceptual_ranks.py --photos yardstick/photos --pictures yardstick/wave yardstick/scream \\
        --styles paintings/ --vgg19 vgg19_relu5_4.safetensors \\
        --model squeezenet1_1 --weights squeezenet1_1.safetensors \\
        --style-layers features.1 features.3 features.4 features.6 --content-layers features.10
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from droplets import pictures
from torch import Tensor
from torch.nn import functional as F

from gan_style.functional import gram_matrix
from gan_style.images.decode import decode, to_float
from gan_style.losses.content import content_loss
from gan_style.losses.style import gram_loss
from gan_style.models.perceptual import Perceptual, vgg19
from gan_style.models.torchvision_network import torchvision_network

Layers = tuple[list[str], list[str]]  # of the style, of the content


def degraded(photo: Tensor, results: list[Tensor]) -> list[Tensor]:
    """Return the results, the photo mixed with each in halves, blurred, and noised."""
    random = torch.Generator().manual_seed(0)
    blurred = [F.interpolate(F.avg_pool2d(photo, n), photo.shape[-2:], mode="bilinear") for n in (2, 4, 8)]
    noised = [photo + s * torch.randn(photo.shape, generator=random) for s in (0.1, 0.2, 0.4)]
    return [*results, *(0.5 * (photo + result) for result in results), *blurred, *noised]


@torch.no_grad()
def style_distances(network: Perceptual, layers: list[str], images: list[Tensor], styles: list[Tensor]) -> np.ndarray:
    """Return relative Gram distances, styles x images."""
    grams = [{name: gram_matrix(value) for name, value in network(x, layers).items()} for x in [*images, *styles]]
    result_grams, targets = grams[: len(images)], grams[len(images) :]
    return np.array(
        [
            [sum(_relative(gram[name], target[name]) for name in layers) / len(layers) for gram in result_grams]
            for target in targets
        ]
    )


def _relative(gram: Tensor, target: Tensor) -> float:
    return (gram_loss(gram, target) / target.square().mean()).item()


@torch.no_grad()
def content_distances(network: Perceptual, layers: list[str], sets: Mapping[str, list[Tensor]]) -> np.ndarray:
    """Return distances to the photo, photos x pictures; each set begins with its photo."""
    rows = []
    for photo, *others in sets.values():
        target = network(photo, layers)
        features = [network(other, layers) for other in others]
        rows.append([sum(content_loss(one[n], target[n]).item() for n in layers) / len(layers) for one in features])
    return np.array(rows)


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the correlation of ranks (no ties are expected)."""
    ranks = [np.argsort(np.argsort(values.ravel())).astype(float) for values in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument(
        "--pictures", type=Path, nargs="+", required=True, help="folders of results, named as the photos"
    )
    parser.add_argument("--styles", type=Path, required=True, help="a folder")
    parser.add_argument("--vgg19", required=True, help="VGG-19's weights")
    parser.add_argument("--model", required=True, help="a network of torchvision")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--style-layers", nargs="+", required=True)
    parser.add_argument("--content-layers", nargs="+", required=True)
    parser.add_argument("--size", type=int, default=192)
    arguments = parser.parse_args()

    def read(path: Path) -> Tensor:
        return to_float(decode(path, short_side=arguments.size)[None])

    photos = {path.stem: read(path) for path in pictures(arguments.photos)}
    folders = [{path.stem: read(path) for path in pictures(folder)} for folder in arguments.pictures]
    styles = {path.stem: read(path) for path in pictures(arguments.styles)}
    sets = {stem: [photo, *degraded(photo, [folder[stem] for folder in folders])] for stem, photo in photos.items()}
    images = [*photos.values(), *(picture for folder in folders for picture in folder.values())]

    layers: list[Layers] = [
        (["relu1_1", "relu2_1", "relu3_1", "relu4_1"], ["relu4_2"]),
        (arguments.style_layers, arguments.content_layers),
    ]
    networks = [
        vgg19(layers=[*layers[0][0], *layers[0][1]], weights=arguments.vgg19),
        torchvision_network(model=arguments.model, layers=[*layers[1][0], *layers[1][1]], weights=arguments.weights),
    ]
    style, content = [], []
    for network, (of_style, of_content) in zip(networks, layers, strict=True):
        network.calibrate(list(photos.values()))
        style.append(style_distances(network, of_style, images, list(styles.values())))
        content.append(content_distances(network, of_content, sets))

    print(f"style, {len(images)} pictures:")
    for name, one, other in zip(styles, *style, strict=True):
        print(f"  {name:<42}{spearman(one, other):.3f}")
    print(f"  {'mean':<42}{np.mean([spearman(a, b) for a, b in zip(*style, strict=True)]):.3f}")
    within = [spearman(a, b) for a, b in zip(*content, strict=True)]
    print(f"content, {content[0].shape[1]} pictures of each of {len(photos)} photos:")
    print(f"  within a photo: mean {np.mean(within):.3f}, lowest {min(within):.3f}; over all {spearman(*content):.3f}")


if __name__ == "__main__":
    main()
