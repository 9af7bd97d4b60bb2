#!/usr/bin/env python3
"""Make a trained generator part of the package: half the size (float16), with a line about each style.

A style whose strength 1 goes too far (tools/check_library.py --parts scales, on photos of the training) can be set
back: with --scale its rows of scales and shifts move towards the photo's own.

    python tools/ship_library.py runs/style_library library --about tools/styles.json --scale starry_night=0.9
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_style.data.pictures import find_pictures
from gan_style.images.decode import decode, to_float
from gan_style.models.blocks import ConditionalInstanceNorm
from gan_style.models.library import LibraryGenerator
from gan_style.models.registry import rebuild
from gan_style.models.tone import tone_curve
from gan_style.runtime.checkpoint import read_generator, write_generator
from gan_style.runtime.files import write_bytes
from gan_style.stylize.model import find_generator, load_generator

MODELS = Path(__file__).parents[1] / "gan_style" / "assets" / "models"
STYLE_SIDE = 288  # short side of style pictures in the library's training
LIMIT = 16_000_000  # bytes, of all shipped models together


def set_back(generator: LibraryGenerator, scales: dict[str, float]) -> None:
    """What strength 1 was at these parts of the way from the photo's own rows to each style's is strength 1 now."""
    for norm in generator.modules():
        if isinstance(norm, ConditionalInstanceNorm):
            for table, (name, scale) in product((norm.weight, norm.bias), scales.items()):
                row = generator.styles.index(name)
                table.data[row] = torch.lerp(table.data[-1], table.data[row], scale)


def ship(path: Path, weights: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Put a generator among the shipped models. ValueError where these would be too large: what was there stays."""
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / path.name
        write_generator(new, weights, description)
        load_generator(new, torch.device("cpu"))
        size = new.stat().st_size
        total = size + sum(one.stat().st_size for one in path.parent.iterdir() if one != path)
        if total > LIMIT:
            raise ValueError(f"{path.name}: the shipped models would take {total:,} bytes, more than {LIMIT:,}")
        write_bytes(path, new.read_bytes())
    print(f"{path.name}: {size:,} bytes; all shipped models {total:,} of at most {LIMIT:,}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder, or its generator.safetensors")
    parser.add_argument("name", help="of the model: its file is called so")
    parser.add_argument("--about", type=Path, required=True, help="JSON: a line about each style")
    parser.add_argument("--scale", nargs="*", default=[], metavar="STYLE=NUMBER", help="how far styles are to go")
    parser.add_argument("--tones", nargs="*", default=[], metavar="STYLE=PICTURES", help="measure tone curves anew")
    arguments = parser.parse_args()

    weights, description = read_generator(find_generator(arguments.run))
    scales = {name: float(scale) for name, scale in (item.split("=") for item in arguments.scale)}
    if scales:
        generator = rebuild(description, weights, str(arguments.run))
        if not isinstance(generator, LibraryGenerator) or set(scales) - set(generator.styles):
            parser.error(f"--scale {' '.join(arguments.scale)}: {arguments.run} has no such style")
        set_back(generator, scales)
        weights, description["scales"] = generator.state_dict(), scales
    for name, place in (item.split("=", 1) for item in arguments.tones):
        paths = find_pictures(place, "--tones")
        curve = tone_curve(to_float(decode(path, short_side=STYLE_SIDE)[None]) for path in paths[:100])
        weights = {**weights, "tones": weights["tones"].clone()}
        weights["tones"][description["arguments"]["styles"].index(name)] = curve
    about = json.loads(arguments.about.read_text())
    styles = description["arguments"].get("styles", [arguments.name])
    if description["class"] == "ReferenceGenerator":
        styles = []  # they are those of pictures
    if missing := sorted(set(styles) - set(about)):
        parser.error(f"--about {arguments.about} says nothing of {', '.join(missing)}")
    description["about"] = {style: about[style] for style in styles}
    MODELS.mkdir(parents=True, exist_ok=True)
    path = MODELS / f"{arguments.name}.safetensors"
    try:
        ship(path, {name: weight.half() for name, weight in weights.items()}, description)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
