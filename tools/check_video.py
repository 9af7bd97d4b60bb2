#!/usr/bin/env python3
"""Does the stability term hold results still, and what does it cost? Prints a table.

Trains two generators with the same seed for the same number of steps, one with loss=default and one with loss=stable;
makes clips by panning over held-out photos by whole pixels, so that the flow is known exactly, with and without a
camera's noise; and measures warp errors of both along that flow, beside their content and style distances.

    python tools/check_video.py --content PHOTOS --style PAINTING perceptual=compact

Status 1 where the warp error is not at least 30 % lower.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gan_style.data.pictures import find_pictures
from gan_style.functional import gram_matrix
from gan_style.images.decode import decode, encode, grid, to_float, to_uint8
from gan_style.losses.content import content_loss
from gan_style.losses.style import gram_loss
from gan_style.models.perceptual import Perceptual, compact
from gan_style.runtime.files import write_bytes
from gan_style.stylize.model import load_generator
from gan_style.video.temporal import consistency_mask, warp_error

LOSSES = ("default", "stable")
PANS = ((1, 0), (3, 1), (-2, 3), (0, -5))  # pixels a frame, right and down
WANTED = 0.30  # how much lower the warp error has to be
LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu3_3")
NOISE = 2 / 255  # a camera's, in units of [0, 1]


@dataclass
class Found:
    """Root mean squares of warp errors in [0, 1], of clips without and with noise; and the price."""

    still: float
    noisy: float
    content: float
    style: float
    contrast: float


def train(arguments: argparse.Namespace, content: list[Path], held_out: list[Path], loss: str) -> Path:
    """The run's folder; a finished run is taken as it is."""
    options = {
        "data.content": f"[{','.join(map(str, content))}]",
        "data.holdout": f"[{','.join(map(str, held_out))}]",
        "data.style": str(arguments.style),
        "run.root": str(arguments.work),
        "run.name": loss,
        "loss": loss,
        "training.steps": str(arguments.steps),
        "training.warmup_steps": str(arguments.steps // 10),
    }
    command = [sys.executable, "-m", "gan_style.cli", "train", "experiment=quickstart"]
    subprocess.run([*command, *(f"{k}={v}" for k, v in options.items()), *arguments.overrides], check=True)
    return Path(arguments.work) / loss


def clip(photo: Tensor, pan: tuple[int, int], frames: int, side: int) -> Iterator[Tensor]:
    """uint8 (3, side, side) each: a window that moves over a photo by whole pixels."""
    for number in range(frames):
        right, down = (number * step - min(0, (frames - 1) * step) for step in pan)
        yield photo[:, down : down + side, right : right + side]


@torch.inference_mode()
def made(generator: nn.Module, frame: Tensor) -> Tensor:
    """uint8 (3, H, W) to uint8 (3, H, W)."""
    return to_uint8(generator(to_float(frame[None])))[0]


def noised(frame: Tensor, random: torch.Generator) -> Tensor:
    noise = torch.randn(frame.shape, generator=random) * NOISE * 255
    return (frame + noise).round().clamp(0, 255).to(torch.uint8)


def flicker(generator: nn.Module | None, photos: list[Tensor], arguments: argparse.Namespace, *, noise: bool) -> float:
    """Root mean square over all pairs of frames of all clips; of the photos themselves without a generator."""
    squares = []
    for number, photo in enumerate(photos):
        pan, random = PANS[number % len(PANS)], torch.Generator().manual_seed(number)
        frames = [noised(x, random) if noise else x for x in clip(photo, pan, arguments.frames, arguments.side)]
        results = [frame if generator is None else made(generator, frame) for frame in frames]
        field = np.full((arguments.side, arguments.side, 2), pan, dtype=np.float32)
        mask = consistency_mask(field, -field)
        for previous, current in pairwise(results):
            error = warp_error(current.permute(1, 2, 0).numpy(), previous.permute(1, 2, 0).numpy(), field, mask)
            assert error is not None
            squares.append(error)
    return float(np.mean(squares)) ** 0.5


@torch.inference_mode()
def price(
    generator: nn.Module, photos: list[Tensor], painting: Tensor, ruler: Perceptual
) -> tuple[float, float, float]:
    """Content distance, style distance, and the results' contrast (their standard deviation in [0, 1])."""
    grams = {layer: gram_matrix(features) for layer, features in ruler(painting, LAYERS).items()}
    content, style, contrast = [], [], []
    for photo in photos:
        picture = to_float(photo[None])
        result = generator(picture)
        of_photo, of_result = ruler(picture, LAYERS), ruler(result, LAYERS)
        content.append(content_loss(of_result["relu3_3"], of_photo["relu3_3"]).item())
        distances = [gram_loss(gram_matrix(of_result[layer]), grams[layer]) for layer in LAYERS]
        style.append(torch.stack(distances).mean().item())
        contrast.append(result.std().item() / 2)
    return float(np.mean(content)), float(np.mean(style)), float(np.mean(contrast))


def measure(
    run: Path, photos: list[Tensor], painting: Tensor, arguments: argparse.Namespace, ruler: Perceptual
) -> Found:
    generator = load_generator(run, torch.device("cpu"))
    still, noisy = (flicker(generator, photos, arguments, noise=noise) for noise in (False, True))
    return Found(still, noisy, *price(generator, photos, painting, ruler))


def sheet(runs: dict[str, Path], photos: list[Tensor], arguments: argparse.Namespace) -> Path:
    """Of some clips a frame, and of each generator its result and eight times its difference from the next, moved."""
    rows = []
    for number, photo in enumerate(photos[:4]):
        pan = PANS[number % len(PANS)]
        pair = list(clip(photo, pan, 2, arguments.side))
        row = [to_float(pair[0])]
        for run in runs.values():
            one, two = (made(load_generator(run, torch.device("cpu")), frame) for frame in pair)
            right, down = pan
            back = torch.roll(one, (-down, -right), dims=(1, 2))
            difference = (two.float() - back.float()).abs() / 127.5 * 8 - 1
            row += [to_float(one), difference.clamp(-1, 1)]
        rows.append(row)
    path = Path(arguments.work) / "sheet.jpg"
    write_bytes(path, encode(grid(rows), ".jpg"))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--content", required=True, help="photos; every tenth is held out, for the clips")
    parser.add_argument("--style", required=True, type=Path, help="a painting")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--frames", type=int, default=6, help="of a clip")
    parser.add_argument("--side", type=int, default=192, help="of a clip's frames, in pixels")
    parser.add_argument("--work", type=Path, default=Path("runs/check_video"))
    parser.add_argument("overrides", nargs="*", help="of gan-style train, such as perceptual=compact")
    arguments = parser.parse_args()
    everything = find_pictures(arguments.content, "--content")
    held_out = everything[::10]
    content = [path for path in everything if path not in held_out]
    runs = {loss: train(arguments, content, held_out, loss) for loss in LOSSES}
    photos = [decode(path, short_side=arguments.side + 5 * (arguments.frames - 1) + 1) for path in held_out]
    painting = to_float(decode(arguments.style, short_side=256)[None])
    ruler = compact(layers=LAYERS, weights="packaged")
    ruler.calibrate([to_float(photo[None]) for photo in photos])
    found = {loss: measure(run, photos, painting, arguments, ruler) for loss, run in runs.items()}
    print("\n| | warp error, noise-free pan | with noise | content | style | contrast |\n|---|---|---|---|---|---|")
    own = [flicker(None, photos, arguments, noise=noise) for noise in (False, True)]
    print(f"| the clips themselves | {own[0]:.4f} | {own[1]:.4f} | 0 | | |")
    for loss, one in found.items():
        numbers = " | ".join(f"{x:.4f}" for x in (one.still, one.noisy, one.content, one.style, one.contrast))
        print(f"| loss={loss} | {numbers} |")
    first, second = (found[loss] for loss in LOSSES)
    lower = [1 - getattr(second, name) / getattr(first, name) for name in ("still", "noisy")]
    squared = [1 - (1 - one) ** 2 for one in lower]
    print(f"\nwarp error lower by {lower[0]:.0%}, with noise by {lower[1]:.0%}")
    print(f"as a mean square, which Lai et al. give: by {squared[0]:.0%} and {squared[1]:.0%}")
    print(sheet(runs, photos, arguments))
    sys.exit(0 if min(lower) >= WANTED else 1)


if __name__ == "__main__":
    main()
