#!/usr/bin/env python3
"""Do the metrics of ``gan-style evaluate`` say what they should? Prints a table.

Damages the content pictures (blur and noise of growing strength), hands them to ``gan-style evaluate`` as folders of
results, and looks at its numbers: photos have to score as photos and style pictures as style pictures, and the more
damage, the worse content distance, SSIM and structure.

    python tools/check/evaluate.py --content PHOTOS --style PAINTINGS perceptual.weights=vgg19_relu3_4.safetensors
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_style.data.pictures import find_pictures
from gan_style.evaluation.suite import METRICS, PHOTOS, STYLES
from gan_style.images.decode import decode, encode, to_float
from gan_style.runtime.files import write_bytes

BLURS, NOISES = (2, 4, 8), (0.05, 0.15, 0.45)
Numbers = dict[str, dict[str, dict[str, float]]]  # of metrics.json: set -> metric -> value, error, n


def blurred(picture: Tensor, factor: float) -> Tensor:
    """As if photographed with so many times fewer pixels a side."""
    small = F.avg_pool2d(picture, int(factor), ceil_mode=True)
    return F.interpolate(small, picture.shape[-2:], mode="bilinear")


def noised(picture: Tensor, strength: float) -> Tensor:
    """Gaussian noise of this standard deviation, in units of [-1, 1]."""
    random = torch.Generator().manual_seed(0)
    return (picture + strength * torch.randn(picture.shape, generator=random)).clamp(-1.0, 1.0)


def damage(paths: list[Path], size: int, work: Path) -> dict[str, Path]:
    """{"blur 2": folder of pictures, ...}."""
    folders: dict[str, Path] = {}
    kinds: list[tuple[str, Callable[[Tensor, float], Tensor], tuple[float, ...]]]
    kinds = [("blur", blurred, BLURS), ("noise", noised, NOISES)]
    for kind, function, strengths in kinds:
        for strength in strengths:
            folders[f"{kind} {strength}"] = folder = work / f"{kind}_{strength}"
            folder.mkdir(parents=True, exist_ok=True)
            for path in paths:
                picture = to_float(decode(path, short_side=size)[None])
                write_bytes(folder / f"{path.stem}.png", encode(function(picture, strength)[0], ".png"))
    return folders


def evaluate(folders: dict[str, Path], arguments: argparse.Namespace, contents: list[Path]) -> Numbers:
    """The numbers of one evaluation, under our names."""
    listed = ",".join(f"'{folder}'" for folder in folders.values())
    photos = ",".join(f"'{path}'" for path in contents)
    options = {"checkpoint": f"[{listed}]", "content": f"[{photos}]", "style": f"'{arguments.style}'"}
    options |= {"size": str(arguments.size), "output": f"'{arguments.work / 'evaluation'}'"}
    command = [sys.executable, "-m", "gan_style.cli", "evaluate", *(f"{k}={v}" for k, v in options.items())]
    subprocess.run([*command, *arguments.overrides], check=True)
    found: Numbers = json.loads((arguments.work / "evaluation" / "metrics.json").read_text())["metrics"]
    names = {folder.name: name for name, folder in folders.items()}
    return {names.get(label, label): numbers for label, numbers in found.items()}


def rows(found: Numbers) -> list[tuple[str, str, str, bool]]:
    """(what, measured, wanted, whether it is so)."""

    def value(label: str, metric: str) -> float:
        return found[label][metric]["value"]

    checks = []
    for metric, perfect in (("content", 0.0), ("ssim", 1.0), ("structure", 1.0), ("colour/mean", 0.0)):
        made = value(PHOTOS, metric)
        checks.append((f"photos: {metric}", f"{made:.4g}", f"{perfect:g}", abs(made - perfect) < 1e-5))
    for metric in ("style", "kid", "frechet", "deception"):
        if metric not in found.get(STYLES, {}) or metric not in found[PHOTOS]:
            continue
        photos, styles = value(PHOTOS, metric), value(STYLES, metric)
        right = styles < photos if METRICS[metric].better == "lower" else styles > photos
        measured = f"{styles:.4g} | {photos:.4g}"
        checks.append((f"{metric}: style pictures | photos", measured, "style pictures better", right))
    for metric in ("content", "ssim", "structure"):
        for kind, strengths in (("blur", BLURS), ("noise", NOISES)):
            ladder = [value(label, metric) for label in (PHOTOS, *(f"{kind} {s}" for s in strengths))]
            worse = METRICS[metric].better == "higher"
            right = ladder == sorted(ladder, reverse=worse) and len(set(ladder)) == len(ladder)
            checks.append((f"{metric}, more {kind}", " ".join(f"{x:.4g}" for x in ladder), "worse each time", right))
    return checks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--content", required=True, help="photos")
    parser.add_argument("--style", required=True, help="style pictures")
    parser.add_argument("--pictures", type=int, default=40, help="of the content")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--work", type=Path, default=Path("runs/check_evaluate"))
    parser.add_argument("overrides", nargs="*", help="of gan-style evaluate, such as perceptual=compact")
    arguments = parser.parse_args()
    everything = find_pictures(arguments.content, "--content")
    count = min(arguments.pictures, len(everything))
    contents = [everything[i * len(everything) // count] for i in range(count)]
    found = evaluate(damage(contents, arguments.size, arguments.work), arguments, contents)
    checks = rows(found)
    print("\n| what | measured | wanted | |\n|---|---|---|---|")
    for what, measured, wanted, right in checks:
        print(f"| {what} | {measured} | {wanted} | {'yes' if right else 'NO'} |")
    sys.exit(0 if all(right for *_, right in checks) else 1)


if __name__ == "__main__":
    main()
