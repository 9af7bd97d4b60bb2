#!/usr/bin/env python3
"""Measure the ONNX files of the models that ship beside PyTorch, in every precision.

Each is run on 20 photos, scaled to sizes from 17 x 23 to 2000 x 1500 pixels, in one style after the other, a mixture
among them. Speed is of 512 x 512 pixels on one thread: both run alternately, and the best of five rounds counts, in
seconds of CPU time. The exit status is 1 where a file is further from PyTorch than its precision allows.

    python tools/check/exports.py --photos photos/ --calibration other_photos/ [--models library mobile any monet]
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_style.demo import demo_pictures
from gan_style.export.formats import INT8, PRECISIONS, to_onnx
from gan_style.export.graph import ExportedGenerator
from gan_style.export.verify import (
    Comparison,
    Condition,
    calibration_feeds,
    check_bounds,
    compare,
    conditions_of,
    generator_paint,
    onnx_paint,
    rates,
    read_scaled,
)
from gan_style.images.decode import decode, encode_uint8, labelled_grid, to_float, to_uint8
from gan_style.images.formats import list_pictures
from gan_style.models.library import LibraryGenerator, OneStyle, condition_of
from gan_style.stylize.model import load_generator, shipped
from gan_style.stylize.onnx_model import OnnxModel

SMALLEST, LARGEST = (17, 23), (2000, 1500)  # height and width
SIDE, ROUNDS = 512, 5  # of the speed


def sizes(count: int) -> list[tuple[int, int]]:
    """Return heights and widths from the smallest to the largest, each by the same factor larger than the last."""
    places = [number / max(1, count - 1) for number in range(count)]
    height, width = (
        [round(first * (last / first) ** place) for place in places]
        for first, last in zip(SMALLEST, LARGEST, strict=True)
    )
    return list(zip(height, width, strict=True))


def load(name: str) -> tuple[nn.Module, ExportedGenerator]:
    """Load a model that ships, or one style of the library; with it what is exported."""
    models = {path.stem: path for path in shipped()}
    generator = load_generator(models.get(name, models["library"]), torch.device("cpu"))
    if name in models:
        return generator, ExportedGenerator(generator)
    if not isinstance(generator, LibraryGenerator) or name not in generator.styles:
        raise SystemExit(f"--models {name}: neither a model that ships ({', '.join(models)}) nor one of its styles")
    style = condition_of(generator.styles, {name: 1.0})
    return OneStyle(generator, style), ExportedGenerator(generator, fixed=style)


def measure(
    name: str, precisions: Sequence[str], photos: Sequence[Path], calibration: Sequence[Path]
) -> Iterator[tuple[str, int, Comparison]]:
    """Yield each precision, the size of its file, and how it compares."""
    generator, network = load(name)
    description = {"styles": network.styles, "input": network.pixels}
    conditions = conditions_of(network)
    pytorch = generator_paint(generator)
    painted: dict[torch.Size, Tensor] = {}  # by PyTorch, for all precisions; each photo has its own size

    def remembered(picture: Tensor, condition: Condition) -> Tensor:
        if picture.shape not in painted:
            painted[picture.shape] = pytorch(picture, condition)
        return painted[picture.shape]

    for precision in precisions:
        feeds = calibration_feeds(network, calibration)
        content = to_onnx(network, description, precision=precision, calibration=feeds)
        onnx = onnx_paint(OnnxModel(content, threads=1))
        comparison = compare(remembered, onnx, photos, conditions, sizes=sizes(len(photos)))
        picture = read_scaled(photos[0], SIDE, SIDE)
        speeds = rates(pytorch, onnx, picture, conditions[0], rounds=ROUNDS, clock=time.process_time)
        yield precision, len(content), Comparison(comparison.largest, comparison.average, comparison.ssim, speeds)


def sheet(calibration: Sequence[Path], styles: Sequence[str] = ("wave", "scream"), side: int = 160) -> bytes:
    """Draw the library, the mobile model and its int8 file beside a photo, as a JPEG."""
    models = {name: load(name) for name in ("library", "mobile")}
    network = models["mobile"][1]
    feeds = calibration_feeds(network, calibration)
    content = to_onnx(network, {"styles": network.styles, "input": network.pixels}, precision=INT8, calibration=feeds)
    painters = {name: generator_paint(generator) for name, (generator, _) in models.items()}
    painters[f"mobile, int8: {len(content) / 1e6:.2f} MB"] = onnx_paint(OnnxModel(content, threads=1))
    cells = []
    for path, style in zip(demo_pictures("heldout"), styles, strict=True):
        photo = decode(path, short_side=side)[None]
        condition = (condition_of(network.styles, {style: 1.0}),)
        cells.append(("photo", to_float(photo[0])))
        cells += [(name, to_float(paint(photo, condition)[0])) for name, paint in painters.items()]
    return encode_uint8(to_uint8(labelled_grid(cells, columns=1 + len(painters))), ".jpg", quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="a folder")
    parser.add_argument("--calibration", type=Path, required=True, help="a folder of other photos, for int8")
    parser.add_argument("--models", nargs="+", default=[*(path.stem for path in shipped()), "monet"], metavar="NAME")
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--count", type=int, default=20, help="of photos")
    parser.add_argument("--calibration-count", type=int, default=39, help="of photos for int8")
    parser.add_argument("--sheet", type=Path, help="JPEG, as docs/mobile.jpg; nothing is measured then")
    arguments = parser.parse_args()
    photos = list_pictures(arguments.photos)[: arguments.count]
    calibration = list_pictures(arguments.calibration)[: arguments.calibration_count]
    if not photos or not calibration:
        parser.error(f"no pictures in --photos {arguments.photos} or --calibration {arguments.calibration}")
    torch.set_num_threads(1)
    if arguments.sheet:
        arguments.sheet.write_bytes(sheet(calibration))
        return

    # One row for each file; what is too far is told at the end
    print("| model | precision | MB | levels, at most | levels, on average | SSIM | pictures/s | PyTorch's |")
    print("|---|---|---|---|---|---|---|---|")
    too_far = []
    for name in arguments.models:
        for precision, size, comparison in measure(name, arguments.precisions, photos, calibration):
            print(
                f"| {name} | {precision} | {size / 1e6:.2f} | {comparison.largest:.0f} | {comparison.average:.3f} | "
                f"{comparison.ssim:.4f} | {comparison.rates[1]:.2f} | {comparison.rates[0]:.2f} |",
                flush=True,
            )
            try:
                check_bounds(precision, comparison)
            except ValueError as error:
                too_far.append(f"{name}: {error}")
    if too_far:
        raise SystemExit("\n".join(too_far))


if __name__ == "__main__":
    main()
