#!/usr/bin/env python3
"""Distil generator=mobile from a library of styles: the student learns to paint what the library paints.

Each step draws crops of photos at changing scales and a condition for each: mostly one style in full, else at another
strength, or two mixed. The teacher's outputs are the targets, before tone stage and fading, which the student takes
over as they are. The loss is the mean absolute difference, and the differences of features and Gram matrices under
``compact``. Outputs are used again from a buffer, since the teacher is the slower one of the two.

It is saved every 100 steps, and the same command goes on from there; --seconds ends it early. Another --teacher with
--start takes trained weights to a new library: a tenth of the steps will do.

    python tools/distill_mobile.py --teacher library.safetensors --photos PHOTOS [PHOTOS ...] --out runs/mobile
"""

import argparse
import copy
import random
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_style.functional import gram_matrix
from gan_style.images.decode import decode, encode, grid, to_float, to_uint8
from gan_style.images.formats import list_pictures
from gan_style.models.blocks import ConditionalInstanceNorm
from gan_style.models.library import LibraryGenerator
from gan_style.models.mobile import MobileGenerator
from gan_style.models.perceptual import compact
from gan_style.models.registry import describe
from gan_style.runtime.checkpoint import write_generator
from gan_style.runtime.device import move_to
from gan_style.runtime.files import file_hash, write_bytes, write_durably
from gan_style.stylize.model import description_of, find_generator, load_generator

CPU = torch.device("cpu")
FEATURE_LAYERS = ["relu1_1", "relu2_1", "relu3_1", "relu4_1"]
SMALLEST_SIDE, LARGEST_SIDE = 144, 384  # of photos before a crop is cut
STYLE_ROWS = 10.0  # learning rate of scales and shifts, in that of convolutions
FRESH = 3  # one in so many pairs of a batch is new

Pair = tuple[Tensor, Tensor, Tensor]  # uint8 photo and target (3, S, S), condition (K,)


def random_photo(paths: list[Path], size: int, rng: random.Random) -> Tensor:
    """Cut a crop, uint8 (3, size, size), out of a photo that was scaled at random; some are nearly plain."""
    picture = decode(rng.choice(paths), short_side=max(size, rng.randint(SMALLEST_SIDE, LARGEST_SIDE)))
    top, left = (rng.randint(0, length - size) for length in picture.shape[1:])
    crop = picture[:, top : top + size, left : left + size]
    crop = crop.flip(-1) if rng.random() < 0.5 else crop
    if rng.random() < 0.08:
        contrast, level = rng.uniform(0.02, 0.5), rng.uniform(0.0, 255.0)
        crop = (contrast * crop.float() + (1.0 - contrast) * level).to(torch.uint8)
    return crop


def random_condition(weights: list[float], rng: random.Random) -> Tensor:
    """Draw how much of each style: in three of four cases one in full. weights: how often each is drawn."""
    styles = len(weights)
    (first,), second = rng.choices(range(styles), weights), rng.randrange(styles - 1)
    second += second >= first  # any other
    share = rng.random() if rng.random() < 0.1 else 1.0
    strength = rng.random() if rng.random() < 0.2 else 1.0
    condition = torch.zeros(styles)
    condition[first], condition[second] = strength * share, strength * (1.0 - share)
    return condition


def style_weights(emphasis: list[str], styles: list[str]) -> list[float]:
    """Return how often each style is drawn, from "NAME=WEIGHT"; those without a name: 1."""
    named = dict(item.split("=", 1) for item in emphasis)
    if unknown := sorted(set(named) - set(styles)):
        raise SystemExit(f"--emphasis {unknown[0]}: the teacher has {', '.join(styles)}")
    return [float(named.get(name, 1.0)) for name in styles]


class Distillation:
    """The state of a distillation: student, its moving average, optimiser, and steps done."""

    def __init__(self, teacher: LibraryGenerator, arguments: argparse.Namespace) -> None:
        torch.manual_seed(arguments.seed)
        self.teacher, self.arguments = teacher, arguments
        self.teacher_hash = file_hash(find_generator(arguments.teacher))
        self.student = move_to(
            MobileGenerator(width=arguments.width, blocks=arguments.blocks, styles=teacher.styles), CPU
        )
        self.step = 0
        self.buffer: list[Pair] = []
        self.weights = style_weights(arguments.emphasis, teacher.styles)
        self.features = move_to(compact(layers=FEATURE_LAYERS), CPU)
        if arguments.start:
            self.student.load_state_dict(load_generator(find_generator(arguments.start), CPU).state_dict())
        if teacher.tones is not None and self.student.tones is not None:
            self.student.tones.copy_(teacher.tones)
        self.average = copy.deepcopy(self.student).requires_grad_(False).eval()
        tables = [
            parameter
            for module in self.student.modules()
            if isinstance(module, ConditionalInstanceNorm)
            for parameter in module.parameters()
        ]
        others = [parameter for parameter in self.student.parameters() if all(parameter is not one for one in tables)]
        self.optimiser = torch.optim.Adam([{"params": others}, {"params": tables}], betas=(0.5, 0.99), fused=True)

    def draw_pairs(self, count: int, rng: random.Random, paths: list[Path]) -> list[Pair]:
        """Return new photos with the teacher's outputs, which also enter the buffer."""
        size = self.arguments.size
        photos = torch.stack([random_photo(paths, size, rng) for _ in range(count)])
        conditions = torch.stack([random_condition(self.weights, rng) for _ in range(count)])
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            images = to_float(photos).contiguous(memory_format=torch.channels_last)
            targets = to_uint8(self.teacher.paint(images, self.teacher.shares(conditions)))
        pairs = list(zip(photos, targets, conditions, strict=True))
        self.buffer = [*self.buffer, *pairs][-self.arguments.buffer :]
        return pairs

    def loss(self, pairs: list[Pair]) -> dict[str, Tensor]:
        photos, targets, conditions = (torch.stack(column) for column in zip(*pairs, strict=True))
        images, target = (to_float(x).contiguous(memory_format=torch.channels_last) for x in (photos, targets))
        with torch.autocast("cpu", torch.bfloat16):
            painted = self.student.paint(images, self.student.shares(conditions))
            seen = self.features(painted, FEATURE_LAYERS)
            with torch.no_grad():
                wanted = self.features(target, FEATURE_LAYERS)
        terms = {
            "pixels": (painted.float() - target).abs().mean(),
            "features": torch.zeros(()),
            "grams": torch.zeros(()),
        }
        for layer in FEATURE_LAYERS:
            goal = wanted[layer].float()
            terms["features"] = terms["features"] + F.mse_loss(seen[layer].float(), goal) / goal.square().mean()
            gram = gram_matrix(goal)
            distance = (gram_matrix(seen[layer]) - gram).square().mean((1, 2)) / gram.square().mean((1, 2))
            terms["grams"] = terms["grams"] + distance.mean()
        return terms

    def train_step(self, paths: list[Path]) -> dict[str, float]:
        """Make one step: draw, forward, backward, and the moving average."""
        arguments, rng = self.arguments, random.Random(self.arguments.seed * 1_000_003 + self.step)
        fresh = arguments.batch if len(self.buffer) < 4 * arguments.batch else max(1, arguments.batch // FRESH)
        pairs = self.draw_pairs(fresh, rng, paths)
        pairs += [rng.choice(self.buffer) for _ in range(arguments.batch - fresh)]

        # Warmed up, then down to a twentieth along a quarter of a cosine's period
        rate = arguments.lr * min(1.0, (self.step + 1) / 50)
        rate *= 0.05 + 0.95 * float(torch.cos(torch.tensor(self.step / arguments.steps * torch.pi / 2)))
        for group, factor in zip(self.optimiser.param_groups, (1.0, STYLE_ROWS), strict=True):
            group["lr"] = rate * factor

        terms = self.loss(pairs)
        self.optimiser.zero_grad()
        (terms["pixels"] + 0.1 * terms["features"] + terms["grams"]).backward()
        self.optimiser.step()
        self.step += 1
        decay = min(0.998, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.student.parameters(), strict=True):
                mean.lerp_(now, 1.0 - decay)
        return {name: term.item() for name, term in terms.items()}

    def save(self, folder: Path, description: dict[str, object]) -> None:
        """Write the state, and the moving average as a generator."""
        state = {
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "teacher": self.teacher_hash,
        }
        write_durably(folder / "state.pt", lambda file: torch.save(state, file))
        content = description | describe(self.average) | {"step": self.step}
        write_generator(folder / "generator.safetensors", self.average.state_dict(), content)

    def resume(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        if state["teacher"] != self.teacher_hash:
            raise SystemExit(f"--out {path.parent} holds another teacher's student; give another folder")
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]

    @torch.inference_mode()
    def sheet(self, paths: list[Path]) -> bytes:
        """Draw photo, teacher and student of some styles, as a JPEG."""
        rows = []
        for number, path in enumerate(paths):
            photo = to_float(decode(path, short_side=256)[None])
            cells = [photo[0]]
            for style in range(3):
                condition = torch.eye(len(self.teacher.styles))[None, (3 * number + style) % len(self.teacher.styles)]
                cells += [network(photo, condition)[0] for network in (self.teacher, self.average)]
            rows.append(cells)
        return encode(grid(rows), ".jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="a run's folder, or a generator's file")
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="folders; every sixth is held out")
    parser.add_argument("--exclude", type=Path, help="a folder of photos whose names are never trained on")
    parser.add_argument("--out", type=Path, required=True, help="folder of the state and the generator")
    parser.add_argument("--start", type=Path, help="mobile weights to begin with")
    parser.add_argument("--emphasis", nargs="*", default=[], metavar="NAME=WEIGHT", help="styles to draw more often")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=1400.0, help="after which this run ends, to be gone on with")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=144)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--buffer", type=int, default=3000, help="pairs that are used again")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    teacher = load_generator(arguments.teacher, CPU)
    if not isinstance(teacher, LibraryGenerator):
        parser.error(f"--teacher {arguments.teacher} is no library of styles")
    excluded = {path.name for path in list_pictures(arguments.exclude)} if arguments.exclude else set()
    photos = [path for folder in arguments.photos for path in list_pictures(folder)]
    held_out = photos[5::6]
    paths = [path for path in photos if path not in set(held_out) and path.name not in excluded]
    arguments.out.mkdir(parents=True, exist_ok=True)
    source = description_of(find_generator(arguments.teacher))
    description: dict[str, object] = {name: source[name] for name in ("provenance", "about") if name in source}

    run = Distillation(teacher, arguments)
    if (arguments.out / "state.pt").exists():
        run.resume(arguments.out / "state.pt")
    print(f"{len(paths)} photos, from step {run.step}", flush=True)
    start = time.monotonic()
    while run.step < arguments.steps and time.monotonic() - start < arguments.seconds:
        terms = run.train_step(paths)
        if run.step % 20 == 0:
            words = "  ".join(f"{name} {value:.4f}" for name, value in terms.items())
            print(f"{run.step}  {words}  {time.process_time():.0f} s of CPU", flush=True)
        if run.step % 100 == 0:
            run.save(arguments.out, description)
        if run.step % 500 == 0:
            write_bytes(arguments.out / f"sheet_{run.step}.jpg", run.sheet(held_out[:: max(1, len(held_out) // 4)][:4]))
    run.save(arguments.out, description)
    write_bytes(arguments.out / "sheet.jpg", run.sheet(held_out[:: max(1, len(held_out) // 4)][:4]))


if __name__ == "__main__":
    main()
