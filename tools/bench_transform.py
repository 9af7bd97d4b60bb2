#!/usr/bin/env python3
"""Measure gan_style.transforms.RandomStyle in its two places: on single pictures in a data worker, on batches.

    python tools/bench_transform.py [--device cuda] [--sides 64 224]

Every picture is stylized (p=1), on one thread where a CPU does it; the median over the rounds counts.
"""

import argparse
import itertools

import torch
from bench_common import alternate, middle
from torch import Tensor
from torchvision.transforms import v2

from gan_style.transforms import RandomStyle


def measure(model: str, images: Tensor, rounds: int) -> tuple[float, float]:
    """Return the seconds for a Pillow picture, and for a picture of a batch (N, 3, H, W)."""
    pictures = [v2.functional.to_pil_image(image) for image in images[:4]]
    single, batched = (RandomStyle(p=1.0, checkpoint=f"shipped:{model}") for _ in range(2))
    ways = {"single": lambda: [single(picture) for picture in pictures], "batch": lambda: batched(images)}
    times = alternate(ways, rounds, images.device)
    return middle(times["single"]) / len(pictures), middle(times["batch"]) / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="of the batches")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 224], help="of the pictures, in pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)

    print("| model | pixels | a picture in a worker, ms | a picture of a batch, ms |", "|---|---|---|---|", sep="\n")
    for side, model in itertools.product(options.sides, ["library", "mobile"]):
        images = torch.randint(0, 256, (options.batch, 3, side, side), dtype=torch.uint8, device=options.device)
        single, batch = measure(model, images, options.rounds)
        print(f"| {model} | {side} x {side} | {1000 * single:.1f} | {1000 * batch:.1f} |", flush=True)


if __name__ == "__main__":
    main()
