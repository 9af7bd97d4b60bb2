#!/usr/bin/env python3
"""Does ``compact`` stand in for VGG-19? Measured four ways, each against VGG-19 itself; prints a table.

speed      forward and backward to the input, alternately in one process: ratio of the medians
optimise   a picture optimised under compact's losses (loss=optimise_compact, views=16) against one optimised under
           VGG-19's (loss=optimise), both as ``gan-style optimise levels=1 method=adam`` does it: how far VGG-19's style
           distance comes down, at what content distance (both measured by VGG-19)
generator  likewise, a generator trained for equal steps under each (``gan-style train experiment=quickstart``)
fidelity   Spearman's rank correlation of content and of style distances, on pictures that the distillation held out, on
           results of the shipped library (all styles), and on results of the two trained generators at all stages of
           their training; the last lie close together (the spread of VGG-19's distances is printed), which makes it
           the hardest

Pictures: every sixth of each folder, which is what tools/distill_perceptual.py holds out; by default the demo pictures,
which it has never seen.

    python tools/check_perceptual.py --teacher vgg19_relu3_4.safetensors --content PHOTOS --styles PAINTINGS
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from check_optimise import configuration
from torch import Tensor

import gan_style
from gan_style.config import build
from gan_style.data.pictures import find_pictures
from gan_style.evaluation.suite import content_distance, style_distance
from gan_style.images.decode import decode, encode, grid, to_float
from gan_style.images.formats import list_pictures
from gan_style.losses.objective import Objective, content_layers, mean_gram, style_layers
from gan_style.models.perceptual import COMPACT, Perceptual, compact, vgg19
from gan_style.optimise.optimise import Optimisation, Problem
from gan_style.optimise.pyramid import draw_view, plan_levels
from gan_style.runtime.checkpoint import CheckpointFolder
from gan_style.runtime.files import file_hash, write_bytes
from gan_style.stylize.model import load_generator

PARTS = ("speed", "optimise", "generator", "fidelity")
NETWORKS = ("vgg19", "compact")
Row = tuple[str, str, str]  # what, measured, wanted


def held_out(paths: Sequence[Path]) -> list[Path]:
    """Every sixth: not trained on by the distillation."""
    return list(paths[5::6])


def optimise_config(network: str) -> Any:
    """What ``gan-style optimise`` is to be given for a network."""
    options = {"vgg19": ["loss=optimise"], "compact": ["loss=optimise_compact", "views=16"]}[network]
    return configuration("adam", [f"perceptual={network}", *options])


def terms_of(loss: Any) -> dict[str, Any]:
    return {str(name): build(node, f"loss.{name}") for name, node in loss.items() if name != "balance"}


class Judge:
    """Both networks, calibrated on the same photos, and VGG-19's verdict on results, on the layers of loss=optimise."""

    def __init__(self, teacher: str, student: str, photos: Sequence[Tensor], device: torch.device) -> None:
        terms = terms_of(optimise_config("vgg19").loss).values()
        self.content, self.style = content_layers(terms), style_layers(terms)
        layers = COMPACT.layers()
        built = (vgg19(layers=layers, weights=teacher), compact(layers=layers, weights=student))
        self.networks: dict[str, Perceptual] = {}
        for name, network in zip(NETWORKS, built, strict=True):
            self.networks[name] = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            network.calibrate(photos)

    def distances(self, name: str, result: Tensor, content: Tensor, style: Tensor) -> tuple[float, float]:
        """(content, style) distance of a result (1, 3, H, W) by one of the networks."""
        network = self.networks[name]
        grams = mean_gram(network, [style], self.style)
        return content_distance(network, result, content, self.content), style_distance(network, result, grams)


def optimise(name: str, network: Perceptual, content: Tensor, style: Tensor, steps: int) -> Tensor:
    """The content picture (1, 3, H, W) after ``steps`` of Adam on one network's losses."""
    cfg = optimise_config(name)
    problem = Problem(
        objective=Objective(terms_of(cfg.loss), network),
        content=content,
        styles=[style],
        style_weights=None,
        levels=plan_levels(*content.shape[2:], levels=1, steps=steps),
        make_optimiser=build(cfg.method, "method"),
        view=None if cfg.views is None else partial(draw_view, 0, reach=cfg.views),
    )
    optimisation = Optimisation(problem, content)
    for _ in optimisation.iterates():
        pass
    return optimisation.canvas.detach().clamp(-1, 1)


def compared(judge: Judge, results: dict[str, Tensor], content: Tensor, style: Tensor, label: str) -> list[Row]:
    """How far compact's result comes, by VGG-19's measure, relative to VGG-19's own."""
    (_, start), *ends = (judge.distances("vgg19", x, content, style) for x in (content, *results.values()))
    (content_v, style_v), (content_c, style_c) = ends
    detail = f"style {start:.3g} -> {style_v:.3g} | {style_c:.3g}, content {content_v:.3g} | {content_c:.3g}"
    print(f"{label}: {detail} (VGG-19 | compact)", flush=True)
    return [
        (f"{label}: drop of style distance", f"{(start - style_c) / (start - style_v):.1%}", ">= 80%"),
        (f"{label}: content distance", f"{content_c / content_v:.2f}x", "<= 1.25x"),
    ]


def check_speed(arguments: argparse.Namespace, teacher: str) -> list[Row]:
    """Forward and backward to the input up to relu3_4, the two networks alternately."""
    rows, device = [], torch.device(arguments.device)
    for layers, what in ((COMPACT.layers(), "all layers"), (["relu3_4"], "relu3_4 alone")):
        built = (vgg19(layers=layers, weights=teacher), compact(layers=layers, weights=arguments.student))
        networks = [network.to(device, memory_format=torch.channels_last) for network in built]  # type: ignore[call-overload]
        for size, precision in product(arguments.speed_sizes, arguments.precisions):
            dtype = getattr(torch, precision)
            images = torch.rand(arguments.batch, 3, size, size, device=device) * 2 - 1
            images = images.contiguous(memory_format=torch.channels_last).requires_grad_()
            calls = [partial(forward_backward, network, images, layers, dtype) for network in networks]
            seconds = timed(calls, device)
            label = f"speed, {what}, {size} px, batch {arguments.batch}, {precision}"
            measured = f"{seconds[0] / seconds[1]:.1f}x ({seconds[0] * 1e3:.4g} ms | {seconds[1] * 1e3:.4g} ms)"
            rows.append((label, measured, ">= 8x" if size == 256 and precision == "float32" else ""))
    return rows


def forward_backward(network: Perceptual, images: Tensor, layers: Sequence[str], dtype: torch.dtype) -> None:
    images.grad = None
    with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
        features = network(images, layers)
        loss = torch.stack([one.float().square().mean() for one in features.values()]).sum()
    loss.backward()


def timed(functions: Sequence[Callable[[], None]], device: torch.device, rounds: int = 9) -> list[float]:
    """Median seconds of each function, called alternately; two rounds are thrown away."""
    seconds: list[list[float]] = [[] for _ in functions]
    for number in range(rounds + 2):
        for function, found in zip(functions, seconds, strict=True):
            begin = time.perf_counter()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number >= 2:
                found.append(time.perf_counter() - begin)
    return [statistics.median(found) for found in seconds]


def check_optimise(judge: Judge, pairs: Sequence[tuple[Tensor, Tensor]], steps: int, folder: Path) -> list[Row]:
    """The decisive test: pictures optimised under each network."""
    rows, shown = [], []
    for number, (content, style) in enumerate(pairs, start=1):
        results = {name: optimise(name, judge.networks[name], content, style, steps) for name in NETWORKS}
        rows += compared(judge, results, content, style, f"optimise {number}")
        shown.append([content[0], style[0], *(result[0] for result in results.values())])
    write_bytes(folder / "optimise.jpg", encode(grid(shown), ".jpg"))
    return rows


def train_generators(arguments: argparse.Namespace, teacher: str) -> dict[str, Path]:
    """A run of the quickstart under each network, all checkpoints kept; {network: the run's folder}."""
    folders = {}
    for name in NETWORKS:
        weights = {"vgg19": teacher, "compact": arguments.student}[name]
        run = {"run.root": arguments.work, "run.name": f"generator_{name}", "perceptual.weights": weights}
        run |= {"training.steps": arguments.generator_steps, "training.keep_checkpoints": 99}
        run |= {"training.checkpoint_every": max(1, arguments.generator_steps // 6)}
        run |= {"training.sample_every": arguments.generator_steps, "runtime.device": arguments.device}
        command = [sys.executable, "-m", "gan_style.cli", "train", "experiment=quickstart", f"perceptual={name}"]
        begin = time.monotonic()
        mark_weights(arguments.work / f"generator_{name}", packaged(name) if weights == "packaged" else Path(weights))
        subprocess.run([*command, *(f"{key}={value}" for key, value in run.items())], check=True, stdout=sys.stderr)
        print(f"generator trained under {name}: {time.monotonic() - begin:.0f} s", flush=True)
        folders[name] = arguments.work / f"generator_{name}"
    return folders


def packaged(name: str) -> Path:
    return Path(gan_style.__file__).parent / "assets" / "perceptual" / f"{name}.safetensors"


def mark_weights(run: Path, weights: Path) -> None:
    """Note beside a run what it is trained under; SystemExit where it was other weights."""
    mark, sha256 = run.with_suffix(".sha256"), file_hash(weights)
    if run.exists() and (not mark.is_file() or mark.read_text() != sha256):
        raise SystemExit(f"{run} was trained under other weights than {weights}; remove it, or give another --work")
    write_bytes(mark, sha256.encode())


def check_generator(judge: Judge, folders: dict[str, Path], contents: Sequence[Tensor], style: Tensor) -> list[Row]:
    """The generators' results on pictures that they were not trained on, by VGG-19's measure: means over pictures."""
    device = style.device
    generators = {name: load_generator(folder, device) for name, folder in folders.items()}
    starts, ends, shown = [], {name: [] for name in NETWORKS}, []  # type: ignore[var-annotated]
    with torch.no_grad():
        for content in contents:
            results = {name: generator(content) for name, generator in generators.items()}
            starts.append(judge.distances("vgg19", content, content, style)[1])
            for name, result in results.items():
                ends[name].append(judge.distances("vgg19", result, content, style))
            shown.append([content[0], style[0], *(result[0] for result in results.values())])
    write_bytes(folders["compact"].parent / "generator.jpg", encode(grid(shown), ".jpg"))
    start = statistics.mean(starts)
    (content_v, style_v), (content_c, style_c) = (
        map(statistics.mean, zip(*ends[name], strict=True)) for name in NETWORKS
    )
    print(f"generator: style {start:.3g} -> {style_v:.3g} | {style_c:.3g}, content {content_v:.3g} | {content_c:.3g}")
    return [
        ("generator: drop of style distance", f"{(start - style_c) / (start - style_v):.1%}", ">= 80%"),
        ("generator: content distance", f"{content_c / content_v:.2f}x", "<= 1.25x"),
    ]


def check_fidelity(
    judge: Judge, folders: dict[str, Path], contents: Sequence[Tensor], styles: Sequence[Tensor]
) -> list[Row]:
    """Rank correlations of the two networks' distances."""
    rng = random.Random(1)
    pictures = [*contents, *styles]
    triples = {
        "held-out pictures": [rng.sample(pictures, 3) for _ in range(80)],
        "results of the library's styles": results_of_library(contents, styles),
    }
    if folders:
        triples["results at all stages of two runs"] = results_of_stages(folders, contents, styles)
    rows = []
    for what, found in triples.items():
        by_network = [[judge.distances(name, *triple) for triple in found] for name in NETWORKS]
        for kind, number in (("content", 0), ("style", 1)):
            one, other = ([distances[number] for distances in each] for each in by_network)
            logs = torch.tensor(one, dtype=torch.float64).log()
            measured = f"{spearman(one, other):.3f} ({len(found)} pairs, spread {logs.std().exp().item() - 1:.0%})"
            rows.append((f"Spearman of {kind} distances, {what}", measured, ">= 0.95"))
    return rows


@torch.no_grad()
def results_of_library(contents: Sequence[Tensor], styles: Sequence[Tensor]) -> list[list[Tensor]]:
    """[result, content, a style to compare with] of each shipped style and content."""
    painters = [gan_style.load(name, device=str(contents[0].device)) for name in gan_style.styles()]
    made = [(painter(content), content) for painter in painters for content in contents]
    return [[result, content, styles[number % len(styles)]] for number, (result, content) in enumerate(made)]


@torch.no_grad()
def results_of_stages(
    folders: dict[str, Path], contents: Sequence[Tensor], styles: Sequence[Tensor]
) -> list[list[Tensor]]:
    """The same of each checkpoint of the runs."""
    results = []
    for folder in folders.values():
        for checkpoint in CheckpointFolder(folder / "checkpoints").paths():
            generator = load_generator(checkpoint, styles[0].device)
            results += [[generator(x), x, styles[number % len(styles)]] for number, x in enumerate(contents)]
    return results


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation of two lists without ties."""
    ranks = [torch.tensor(x, dtype=torch.float64).argsort().argsort().double() for x in (a, b)]
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()


def load(paths: Sequence[Path], size: int, device: torch.device) -> list[Tensor]:
    """The middle squares of pictures, (1, 3, size, size) in [-1, 1]."""
    found = []
    for path in paths:
        picture = decode(path, short_side=size)
        top, left = ((length - size) // 2 for length in picture.shape[1:])
        found.append(to_float(picture[None, :, top : top + size, left : left + size].to(device)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="VGG-19 weights, torchvision's names")
    parser.add_argument("--student", default="packaged", help="compact's weights")
    parser.add_argument("--content", type=Path, nargs="+", help="folders of photos; without: the demo photographs")
    parser.add_argument("--styles", type=Path, nargs="+", help="folders of pictures; without: the demo styles")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200, help="of the optimisation")
    parser.add_argument("--size", type=int, default=256, help="of the optimised pictures")
    parser.add_argument("--generator-steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=4, help="of the speed measurement")
    parser.add_argument("--speed-sizes", type=int, nargs="+", default=[256])
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bfloat16"), default=["float32"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=Path("runs/check_perceptual"), help="runs, pictures, table.json")
    arguments = parser.parse_args()
    device, teacher = torch.device(arguments.device), str(arguments.teacher.resolve())
    arguments.work.mkdir(parents=True, exist_ok=True)

    def pictures(folders: list[Path] | None, demo: Sequence[str]) -> list[Tensor]:
        chosen = [path for folder in folders or [] for path in held_out(list_pictures(folder))]
        return load(chosen or find_pictures(list(demo), "pictures"), arguments.size, device)

    contents = pictures(arguments.content, ["demo:heldout", "demo:photos"])
    styles = pictures(arguments.styles, ["demo:styles"])
    judge = Judge(teacher, arguments.student, contents[:16], device)
    rng = random.Random(0)
    pairs = list(
        zip(rng.sample(contents, arguments.pairs), (rng.choice(styles) for _ in range(arguments.pairs)), strict=True)
    )

    flow = load(find_pictures("demo:styles/flow", "pictures"), arguments.size, device)  # the quickstart's style
    rows: list[Row] = []
    folders: dict[str, Path] = {}
    if "speed" in arguments.parts:
        rows += check_speed(arguments, teacher)
    if "optimise" in arguments.parts:
        rows += check_optimise(judge, pairs, arguments.steps, arguments.work)
    if "generator" in arguments.parts:
        folders = train_generators(arguments, teacher)
        rows += check_generator(judge, folders, contents[:10], flow[0])
    if "fidelity" in arguments.parts:
        rows += check_fidelity(judge, folders, contents[:10], [*flow, *styles])

    print("\n| measured | compact against VGG-19 | wanted |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    write_bytes(arguments.work / "table.json", json.dumps(rows, indent=1).encode())


if __name__ == "__main__":
    main()
