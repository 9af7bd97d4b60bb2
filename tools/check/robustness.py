#!/usr/bin/env python3
"""Does style make a classifier robust? Trains a small one from scratch, without styles and with them, and tests it.

Every arm has the same network, pictures (--data holds train/CLASS and val/CLASS), number of steps and crops; its
accuracy is measured on clean pictures, corrupted ones (after Hendrycks and Dietterich 2019), in styles that no arm has
seen, in grey and in other colours. Results are kept in --output: the same command goes on where it was stopped.

    python tools/check/robustness.py --data flowers/ --output runs/robustness
"""

import argparse
import functools
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from gan_style.images.decode import decode
from gan_style.images.formats import list_pictures
from gan_style.runtime.files import write_bytes
from gan_style.transforms import RandomStyle

STORED, SIDE = 96, 64  # pixels: of the pictures at rest, and as the network sees them
BATCH, STEPS = 64, 400
HELD_OUT = ["composition", "metzinger", "hatching", "pointillism"]
TRAINED = ["monet", "wave", "starry_night", "scream", "blue_horse", "shipwreck", "flow", "mosaic"]


@dataclass(frozen=True)
class Arm:
    """copies: of each picture, by make-dataset; random: p of RandomStyle, on every batch; trivial: TrivialAugment."""

    copies: int = 0
    random: float = 0.0
    strength: tuple[float, float] = (0.5, 1.0)
    trivial: bool = False


ARMS = {
    "standard": Arm(),
    "TrivialAugment": Arm(trivial=True),
    "copies": Arm(copies=1),
    "RandomStyle": Arm(random=0.5),
    "RandomStyle-rare": Arm(random=0.25),
    "RandomStyle-weak": Arm(random=0.5, strength=(0.2, 0.6)),
    "both": Arm(random=0.5, trivial=True),
    "copies-weak": Arm(copies=1, strength=(0.2, 0.6)),
    "copies-three": Arm(copies=3),
}


def load(folder: Path) -> tuple[Tensor, Tensor]:
    """Read pictures, uint8 (N, 3, STORED, STORED), and their classes, (N,), from a folder for each class."""
    images, labels = [], []
    for number, place in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        for path in list_pictures(place):
            images.append(v2.functional.center_crop(decode(path, short_side=STORED), [STORED, STORED]))
            labels.append(number)
    return torch.stack(images), torch.tensor(labels)


@functools.cache
def make_copies(data: Path, output: Path, arm: Arm) -> Path:
    """Stylize the training pictures by make-dataset, where that is not done yet."""
    low, high = arm.strength
    place = output / f"dataset-{arm.copies}-{low:g}-{high:g}"
    options = {"style": TRAINED, "strength": [low, high], "copies": arm.copies, "size": STORED, "score": "none"}
    words = [f"{name}={json.dumps(value).replace(chr(34), '')}" for name, value in options.items()]
    command = [sys.executable, "-m", "gan_style.cli", "make-dataset", f"input={data / 'train'}", f"output={place}"]
    subprocess.run([*command, *words], check=True)
    return place / "data"


class Block(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, incoming: int, outgoing: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(incoming, outgoing, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outgoing),
            nn.ReLU(),
            nn.Conv2d(outgoing, outgoing, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outgoing),
        )
        shortcut = (nn.AvgPool2d(stride), nn.Conv2d(incoming, outgoing, 1, bias=False), nn.BatchNorm2d(outgoing))
        self.shortcut = nn.Identity() if incoming == outgoing else nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.inner(x))


def classifier(classes: int, width: int = 24) -> nn.Module:
    """Build a residual network of eight layers for pictures of 64 pixels."""
    return nn.Sequential(
        *(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
        *(Block(width, width, 1), Block(width, 2 * width, 2), Block(2 * width, 4 * width, 2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes)),
    ).to(memory_format=torch.channels_last)


def normalised(images: Tensor) -> Tensor:
    """Scale uint8 pictures for the network."""
    return ((images.float() / 255.0 - 0.45) / 0.25).contiguous(memory_format=torch.channels_last)


def train(images: Tensor, labels: Tensor, arm: Arm, seed: int) -> tuple[nn.Module, float]:
    """Train a classifier; also return the CPU seconds that RandomStyle took."""
    torch.manual_seed(seed)
    network = classifier(int(labels.max()) + 1)
    optimiser = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=STEPS)
    crop = v2.Compose([v2.RandomResizedCrop(SIDE, scale=(0.35, 1.0), antialias=True), v2.RandomHorizontalFlip()])
    trivial = v2.TrivialAugmentWide()
    style = RandomStyle(TRAINED, strength=arm.strength, p=arm.random)
    styling = 0.0
    for _ in range(STEPS):
        chosen = torch.randint(len(images), (BATCH,))
        batch = torch.stack([crop(images[number]) for number in chosen])
        if arm.trivial:
            batch = torch.stack([trivial(image) for image in batch])
        begun = time.process_time()
        batch = style(batch) if arm.random else batch
        styling += time.process_time() - begun
        loss = F.cross_entropy(network(normalised(batch)), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval(), styling


def corruptions() -> dict[str, Callable[[Tensor], Tensor]]:
    """Return functions of uint8 (N, 3, H, W), by kind and strength (after Hendrycks and Dietterich 2019, section 3)."""

    def noise(deviation: float, images: Tensor) -> Tensor:
        random = torch.Generator().manual_seed(0)
        return to_bytes(images / 255.0 + deviation * torch.randn(images.shape, generator=random))

    def blur(sigma: float, images: Tensor) -> Tensor:
        return v2.functional.gaussian_blur(images, [13, 13], [sigma, sigma])

    def contrast(factor: float, images: Tensor) -> Tensor:
        values = images / 255.0
        mean = values.mean(dim=(-2, -1), keepdim=True)
        return to_bytes(mean + factor * (values - mean))

    def jpeg(quality: float, images: Tensor) -> Tensor:
        return torch.stack([v2.functional.jpeg(image, int(quality)) for image in images])

    def pixelation(share: float, images: Tensor) -> Tensor:
        small = F.interpolate(images.float(), scale_factor=share, mode="area")
        return F.interpolate(small, images.shape[-2:], mode="nearest").round().to(torch.uint8)

    def to_bytes(values: Tensor) -> Tensor:
        return (values.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)

    strengths = {
        noise: (0.06, 0.12, 0.24),
        blur: (0.7, 1.2, 2.0),
        contrast: (0.4, 0.2, 0.1),
        jpeg: (40, 20, 10),
        pixelation: (0.6, 0.4, 0.25),
    }
    return {
        f"{kind.__name__}/{number}": functools.partial(kind, value)
        for kind, values in strengths.items()
        for number, value in enumerate(values, 1)
    }


def test_sets(images: Tensor) -> dict[str, Tensor]:
    """Make the validation pictures of each test, uint8 (N, 3, SIDE, SIDE), by kind and variant."""

    def seen(pictures: Tensor) -> Tensor:
        return v2.functional.resize(v2.functional.center_crop(pictures, [80, 80]), [SIDE, SIDE], antialias=True)

    clean = seen(images)
    sets = {"clean": clean} | {name: corrupt(clean) for name, corrupt in corruptions().items()}
    for style in HELD_OUT:
        paint = RandomStyle(style, strength=1.0, p=1.0)
        sets[f"held-out styles/{style}"] = seen(torch.cat([paint(part) for part in images.split(50)]))
    sets["grey"] = v2.functional.rgb_to_grayscale(clean, num_output_channels=3)
    return sets | {f"hue/{turn}": v2.functional.adjust_hue(clean, turn) for turn in (0.25, 0.5)}


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the percentage of pictures whose class the network names."""
    return 100.0 * float((network(normalised(images)).argmax(dim=1) == labels).float().mean())


def table(output: Path) -> str:
    """Return all results as Markdown: over seeds, mean and standard deviation of each kind's mean over its variants."""
    kinds = ["clean", *dict.fromkeys(name.split("/")[0] for name in corruptions()), "held-out styles", "grey", "hue"]
    lines = ["| " + " | ".join(["arm", "seeds", *kinds]) + " |", "|---" * (len(kinds) + 2) + "|"]
    for arm in ARMS:
        runs = [json.loads(path.read_bytes()) for path in sorted(output.glob(f"{arm}.*.json"))]
        if not runs:
            continue
        cells = []
        for kind in kinds:
            values = [
                statistics.mean(value for name, value in run["accuracy"].items() if name.split("/")[0] == kind)
                for run in runs
            ]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.1f} ± {spread:.1f}")
        lines.append("| " + " | ".join([arm, str(len(runs)), *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="train/CLASS/*.jpg and val/CLASS/*.jpg")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--arms", nargs="+", choices=ARMS, default=["standard", "TrivialAugment", "copies", "RandomStyle"]
    )
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    images, labels = load(options.data / "train")
    validation, answers = load(options.data / "val")
    sets: dict[str, Tensor] = {}
    for seed, name in itertools.product(range(options.seeds), options.arms):
        place, arm = options.output / f"{name}.{seed}.json", ARMS[name]
        if place.exists():
            continue
        pictures, classes = [images], [labels]
        if arm.copies:
            copies, of_copies = load(make_copies(options.data, options.output, arm))
            pictures, classes = [images, copies], [labels, of_copies]
        begun = time.process_time()
        network, styling = train(torch.cat(pictures), torch.cat(classes), arm, seed)
        seconds = time.process_time() - begun
        sets = sets or test_sets(validation)
        result = {
            "arm": name,
            "seed": seed,
            "accuracy": {test: accuracy(network, tested, answers) for test, tested in sets.items()},
            "cpu_seconds": round(seconds),
            "of_random_style": round(styling),
        }
        write_bytes(place, json.dumps(result, indent=1).encode())
        print(f"{name} {seed}: {seconds:.0f} s of CPU, {styling:.0f} of them for styles", flush=True)
    print(table(options.output))


if __name__ == "__main__":
    main()
