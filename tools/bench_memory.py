#!/usr/bin/env python3
"""What memory and time gan-style stylize takes for each megapixel more than a picture of 64 pixels takes.

    python tools/bench_memory.py --sizes 1024 2000 --tile off

Peaks are resident memory of the command's process, seconds are of CPU, on one thread; the lower of two runs each.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2000], help="sides of square pictures, in pixels")
parser.add_argument("--tile", default="off", help="as gan-style stylize tile=")
parser.add_argument("--style", default="starry_night")


def cost(folder: Path, side: int, arguments: argparse.Namespace) -> tuple[float, float]:
    """Return MB at the peak and seconds of CPU of one command."""
    picture = folder / f"{side}.png"
    Image.effect_noise((side // 8, side // 8), 90).convert("RGB").resize((side, side)).save(picture)
    options = [f"input={picture}", f"output={folder / 'result.png'}", f"style={arguments.style}", "overwrite=true"]
    options += [f"tile={arguments.tile}", "runtime.threads=1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = subprocess.Popen(
        [sys.executable, "-m", "gan_style.cli", "stylize", *options], stdout=subprocess.DEVNULL, env=environment
    )
    _, status, usage = os.wait4(command.pid, 0)
    if status:
        raise SystemExit("gan-style stylize failed; see above")
    return usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def main() -> None:
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        costs = {side: min(cost(Path(folder), side, arguments) for _ in range(2)) for side in (64, *arguments.sizes)}
    print("| size | MB/megapixel | seconds/megapixel |\n|---|---|---|")
    for side in arguments.sizes:
        memory, seconds = (x - least for x, least in zip(costs[side], costs[64], strict=True))
        print(f"| {side} | {memory / side**2 * 1e6:.0f} | {seconds / side**2 * 1e6:.2f} |")


if __name__ == "__main__":
    main()
