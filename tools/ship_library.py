#!/usr/bin/env python3
"""Make a trained generator part of the package: half the size (float16), with a line about each style.

python tools/ship_library.py runs/style_library library --about tools/styles.json
"""

import argparse
import json
from pathlib import Path

import torch

from gan_style.checkpoint import read_generator, write_generator
from gan_style.inference.load import find_generator, load_generator

MODELS = Path(__file__).parents[1] / "gan_style" / "assets" / "models"
LIMIT = 8_000_000  # bytes, of all shipped models together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder, or its generator.safetensors")
    parser.add_argument("name", help="of the model: its file is called so")
    parser.add_argument("--about", type=Path, required=True, help="JSON: a line about each style")
    arguments = parser.parse_args()

    weights, description = read_generator(find_generator(arguments.run))
    about = json.loads(arguments.about.read_text())
    styles = description["arguments"].get("styles", [arguments.name])
    if missing := sorted(set(styles) - set(about)):
        parser.error(f"--about {arguments.about} says nothing of {', '.join(missing)}")
    description["about"] = {style: about[style] for style in styles}
    MODELS.mkdir(parents=True, exist_ok=True)
    path = MODELS / f"{arguments.name}.safetensors"
    write_generator(path, {name: weight.half() for name, weight in weights.items()}, description)
    load_generator(path, torch.device("cpu"))
    total = sum(one.stat().st_size for one in MODELS.iterdir())
    print(f"{path.name}: {path.stat().st_size:,} bytes; all shipped models {total:,} of at most {LIMIT:,}")
    if total > LIMIT:
        path.unlink()
        parser.error(f"the shipped models would take {total:,} bytes, more than {LIMIT:,}; removed again")


if __name__ == "__main__":
    main()
