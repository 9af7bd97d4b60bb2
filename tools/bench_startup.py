#!/usr/bin/env python3
"""How long commands take to start, beside the time that ``import torch`` takes.

    python tools/bench_startup.py --rounds 9

Each in a process of its own, one after the other in turn. The picture that stylize paints has 481 x 321 pixels. Seconds
of the clock and of the processor are medians; ratios are medians of the rounds' own.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_common import markdown, middle, ratio
from bench_make_dataset import make_pictures

TORCH = "import torch"


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command to its end: seconds by the clock, and by the processor."""
    before, begun = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after, elapsed = os.times(), time.perf_counter() - begun
    return elapsed, sum(after[2:4]) - sum(before[2:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        make_pictures(Path(folder), 1, (481, 321))
        paths = [f"input={folder}/class/000000.jpg", f"output={folder}/painted.jpg", "overwrite=true"]
        cli = [sys.executable, "-m", "gan_style.cli"]
        commands = {
            TORCH: [sys.executable, "-c", "import torch"],
            "import gan_style": [sys.executable, "-c", "import gan_style"],
            "gan-style --help": [*cli, "--help"],
            "gan-style stylize, one picture": [*cli, "stylize", "style=starry_night", *paths],
        }
        runs = [{name: measure(command) for name, command in commands.items()} for _ in range(rounds + 1)][1:]
    rows = []
    for name in commands:
        elapsed, busy = ([run[name][which] for run in runs] for which in (0, 1))
        torch_elapsed, torch_busy = ([run[TORCH][which] for run in runs] for which in (0, 1))
        row = {"command": name, "of import torch": ratio(elapsed, torch_elapsed)}
        row |= {"seconds": middle(elapsed), "of its core-seconds": ratio(busy, torch_busy)}
        row["core-seconds"] = middle(busy)
        rows.append(row)
    print(markdown(rows))


if __name__ == "__main__":
    main()
