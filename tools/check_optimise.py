#!/usr/bin/env python3
"""How good is ``gan-style optimise``, and how near do trained generators come? Prints a table.

method     L-BFGS at 100 evaluations against Adam at 500, on the same pairs, objective and start (the photo): the loss
           that each reaches, what is left of the photo's own style distance, the content distance, and the seconds
generator  (with --generator RUN ...) the loss that a generator reaches on the same pairs and objective, what share of
           L-BFGS's way down from the photo that is, and at what fraction of the time; the pairs' styles should be those
           that it was trained on

The objective is conf/loss/optimise.yaml's. Each pair's numbers and pictures are written as they are made; the same
command again goes on with the pairs that are missing.

    python tools/check_optimise.py --teacher vgg19_relu3_4.safetensors --content PHOTOS --styles PAINTINGS --pairs 5
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import Optimizer

import gan_style.commands.optimise  # noqa: F401  (declares the options of conf/optimise.yaml)
from gan_style.config import CONFIG_PATH, build
from gan_style.data.pictures import find_pictures
from gan_style.evaluation.suite import content_distance, style_distance
from gan_style.images.decode import decode, encode, grid, to_float
from gan_style.losses.objective import Objective, content_layers, mean_gram, style_layers
from gan_style.optimise.optimise import Optimisation, Problem, plan_levels
from gan_style.runtime.device import move_to
from gan_style.runtime.files import file_hash, write_bytes
from gan_style.stylize.model import find_generator, load_generator

METHODS = ("lbfgs", "adam")
SETTINGS = ("teacher", "size", "lbfgs_steps", "adam_steps", "generator", "set", "device")
Pair = tuple[Path, Path]


def configuration(method: str, overrides: Sequence[str]) -> DictConfig:
    """conf/optimise.yaml with one of its methods."""
    with hydra.initialize_config_dir(str(CONFIG_PATH), version_base="1.3"):
        return hydra.compose("optimise", [f"method={method}", *overrides])


def make_objective(cfg: DictConfig, teacher: str, pictures: Sequence[Tensor]) -> Objective:
    """The default objective on VGG-19, calibrated on the pair as the command does."""
    terms = {str(name): build(node, f"loss.{name}") for name, node in cfg.loss.items() if name != "balance"}
    layers = [*content_layers(terms.values()), *style_layers(terms.values())]
    network = move_to(build(cfg.perceptual, "perceptual", layers=layers, weights=teacher), pictures[0].device)
    network.calibrate(pictures)
    return Objective(terms, network)


def load(path: Path, size: int, device: torch.device) -> Tensor:
    """(1, 3, H, W) in [-1, 1] with the short side ``size``."""
    return to_float(decode(path, short_side=size)[None].to(device)).contiguous(memory_format=torch.channels_last)


class Pairing:
    """One photo and one style under one objective, and what is measured of a picture there."""

    def __init__(self, arguments: argparse.Namespace, pair: Pair) -> None:
        self.arguments, self.device = arguments, torch.device(arguments.device)
        self.content, self.style = (load(path, arguments.size, self.device) for path in pair)
        cfg = configuration(METHODS[0], arguments.set)
        self.objective = make_objective(cfg, str(arguments.teacher), [self.content, self.style])
        terms = list(self.objective.terms.values())
        self.content_layers, self.style_layers = content_layers(terms), style_layers(terms)
        self.grams = mean_gram(self.objective.perceptual, [self.style], self.style_layers)

    def problem(self, steps: int, make_optimiser: Callable[[list[Tensor]], Optimizer]) -> Problem:
        """At one size alone."""
        return Problem(
            objective=self.objective,
            content=self.content,
            styles=[self.style],
            style_weights=None,
            levels=plan_levels(*self.content.shape[-2:], levels=1, steps=steps),
            make_optimiser=make_optimiser,
        )

    def optimise(self, method: str, steps: int) -> tuple[Tensor, dict[str, Any]]:
        """The result (1, 3, H, W), clamped, with the curve of the loss, the seconds and the measures."""
        cfg = configuration(method, self.arguments.set)
        optimisation = Optimisation(self.problem(steps, build(cfg.method, "method")), self.content)
        curve, begin = [], time.perf_counter()
        for _ in optimisation.iterates():
            curve.append([optimisation.evaluation, optimisation.terms["total"]])
        seconds = time.perf_counter() - begin
        result = optimisation.canvas.detach().clamp(-1, 1)
        return result, {"seconds": seconds, "curve": curve} | self.measures(result)

    @torch.no_grad()
    def generate(self, generator: nn.Module) -> tuple[Tensor, dict[str, Any]]:
        """A generator's result and measures; seconds: the second of two passes."""
        for _ in range(2):
            begin = time.perf_counter()
            result = generator(self.content).float().clamp(-1, 1)
            result.cpu()  # waits for the device
            seconds = time.perf_counter() - begin
        return result, {"seconds": seconds} | self.measures(result)

    @torch.no_grad()
    def measures(self, result: Tensor) -> dict[str, float]:
        """Loss, style and content distance of a picture (1, 3, H, W), as it is shown: clamped."""
        problem = self.problem(1, torch.optim.Adam)
        scene, _ = problem.at(problem.levels[0])
        scene.fake = result
        network = self.objective.perceptual
        return {
            "loss": self.objective.generator_loss(scene, None, warming_up=False)[0].item(),
            "style": style_distance(network, result, self.grams),
            "content": content_distance(network, result, self.content, self.content_layers),
        }


def measured(arguments: argparse.Namespace, pair: Pair, folder: Path) -> dict[str, Any]:
    """All numbers of one pair, from ``folder`` where they are there already, for the same settings."""
    path = folder / "numbers.json"
    settings: dict[str, Any] = {name: str(getattr(arguments, name)) for name in SETTINGS}
    settings |= {"files": [file_hash(path) for path in (arguments.teacher, *pair, *_files(arguments.generator))]}
    if path.is_file() and (found := json.loads(path.read_bytes()))["settings"] == settings:
        return dict(found)
    folder.mkdir(parents=True, exist_ok=True)
    found = {"settings": settings} | measure(arguments, pair, folder)
    write_bytes(path, json.dumps(found).encode())
    return found


def _files(generators: Sequence[Path]) -> list[Path]:
    return [find_generator(path) for path in generators]


def measure(arguments: argparse.Namespace, pair: Pair, folder: Path) -> dict[str, Any]:
    """All numbers of one pair; its pictures go into ``folder``."""
    pairing = Pairing(arguments, pair)
    found: dict[str, Any] = {"pair": [path.name for path in pair], "photo": pairing.measures(pairing.content)}
    shown = [pairing.content, pairing.style]
    for method, steps in zip(METHODS, (arguments.lbfgs_steps, arguments.adam_steps), strict=True):
        result, found[method] = pairing.optimise(method, steps)
        shown.append(result)
        print(f"{folder.name} {method}: loss {found[method]['loss']:.4g}, {found[method]['seconds']:.0f} s", flush=True)
    for run in arguments.generator:
        result, found[str(run)] = pairing.generate(load_generator(run, pairing.device))
        shown.append(result)
    write_bytes(folder / "pictures.png", encode(grid([[one[0] for one in shown]]), ".png"))
    return found


def first_below(curve: Sequence[Sequence[float]], loss: float) -> str:
    """The evaluation at which a curve has come down to a loss."""
    return next((f"{evaluation:.0f}" for evaluation, value in curve if value <= loss), "never")


def method_rows(numbers: Sequence[dict[str, Any]]) -> list[str]:
    """One row for each pair, and their means."""
    rows = [
        "| pair | loss: photo | L-BFGS | Adam | L-BFGS reaches Adam's end at | style left: L-BFGS | Adam "
        "| content: L-BFGS | Adam | s: L-BFGS | Adam |\n|---|---|---|---|---|---|---|---|---|---|---|"
    ]
    for one in numbers:
        photo, lbfgs, adam = (one[name] for name in ("photo", *METHODS))
        reached = first_below(lbfgs["curve"], adam["curve"][-1][1])
        cells = [" x ".join(one["pair"]), *(f"{x['loss']:.4g}" for x in (photo, lbfgs, adam)), reached]
        cells += [f"{x['style'] / photo['style']:.1%}" for x in (lbfgs, adam)]
        cells += [f"{x['content']:.3g}" for x in (lbfgs, adam)] + [f"{x['seconds']:.0f}" for x in (lbfgs, adam)]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def generator_rows(numbers: Sequence[dict[str, Any]], runs: Sequence[Path]) -> list[str]:
    """One row for each generator: means over the pairs."""
    rows = [
        "| generator | loss | L-BFGS's | share of the way down | style left | content | time by L-BFGS's |\n"
        "|---|---|---|---|---|---|---|"
    ]
    for run in map(str, runs):
        way = [(x["photo"]["loss"] - x[run]["loss"]) / (x["photo"]["loss"] - x["lbfgs"]["loss"]) for x in numbers]
        style = [x[run]["style"] / x["photo"]["style"] for x in numbers]
        fraction = statistics.mean(x[run]["seconds"] / x["lbfgs"]["seconds"] for x in numbers)
        loss, best = (statistics.mean(x[name]["loss"] for x in numbers) for name in (run, "lbfgs"))
        content = statistics.mean(x[run]["content"] for x in numbers)
        cells = [Path(run).name, f"{loss:.4g}", f"{best:.4g}", f"{statistics.mean(way):.1%}"]
        rows.append(f"| {' | '.join([*cells, f'{statistics.mean(style):.1%}', f'{content:.3g}', f'{fraction:.2g}'])} |")
    return rows


def choose_pairs(arguments: argparse.Namespace) -> list[Pair]:
    """Photos without repetition, each with a style: seeded."""
    rng = random.Random(arguments.seed)
    contents, styles = find_pictures(arguments.content, "--content"), find_pictures(arguments.styles, "--styles")
    styles = rng.sample(styles, len(styles))
    chosen = rng.sample(contents, min(arguments.pairs, len(contents)))
    return [(content, styles[number % len(styles)]) for number, content in enumerate(chosen)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="VGG-19 weights, torchvision's names")
    parser.add_argument("--content", nargs="+", default=["demo:heldout"], help="photos, folders of them, demo:NAME")
    parser.add_argument("--styles", nargs="+", default=["demo:styles"], help="likewise")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--size", type=int, default=256, help="short side of content and style, pixels")
    parser.add_argument("--lbfgs-steps", type=int, default=100, help="evaluations")
    parser.add_argument("--adam-steps", type=int, default=500, help="evaluations")
    parser.add_argument("--generator", type=Path, nargs="*", default=[], help="runs, or generator files")
    parser.add_argument("--set", nargs="*", default=[], help="options of gan-style optimise, such as loss.tv.weight=0")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of pairs")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=Path("runs/check_optimise"), help="numbers, pictures, table")
    arguments = parser.parse_args()

    pairs = {
        arguments.work / f"{content.stem}_{style.stem}": (content, style) for content, style in choose_pairs(arguments)
    }
    numbers = [measured(arguments, pair, folder) for folder, pair in pairs.items()]

    table = "\n".join(method_rows(numbers))
    if arguments.generator:
        table += "\n\n" + "\n".join(generator_rows(numbers, arguments.generator))
    print("\n" + table)
    write_bytes(arguments.work / "table.md", f"{table}\n".encode())
    write_bytes(arguments.work / "numbers.json", json.dumps(numbers).encode())
    rows = [[to_float(decode(folder / "pictures.png"))] for folder in pairs]
    write_bytes(arguments.work / "sheet.png", encode(grid(rows), ".png"))


if __name__ == "__main__":
    main()
