#!/usr/bin/env python3
"""Measure how near a generator comes to what its objective allows: the same objective, a photo's own pixels optimised.

For each style and photo: the objective (content, style and total variation, as the generator was trained with) of the
photo, of the generator's result, and of what gan-style optimise reaches from the photo (L-BFGS), with its ratio to
that. With --refine, of what optimise reaches in so few evaluations from the generator's result (init=GENERATOR); with
--fit, of the generator after so many steps of Adam on that photo alone, on all its weights: what a network of its kind
can do at all.

    python tools/check/optimum.py library.safetensors --style wave=great_wave.jpg --photos photos/ \\
        --weights vgg19_relu5_4.safetensors --style-weight wave=20
"""

import argparse
import copy
import statistics
from functools import partial
from pathlib import Path

import torch
from droplets import pictures
from quality import CONTENT_LAYER, CPU, STYLE_LAYERS
from torch import Tensor, nn

from gan_style.images.decode import decode, to_float
from gan_style.losses.content import Content
from gan_style.losses.objective import Objective
from gan_style.losses.pixel import SquaredVariation
from gan_style.losses.style import GramStyle
from gan_style.losses.term import LossInputs
from gan_style.models.perceptual import vgg19
from gan_style.optimise.optimise import Level, Optimisation, Problem
from gan_style.stylize.model import load_painter

FIT_LEARNING_RATE = 5e-4
LBFGS = partial(
    torch.optim.LBFGS, history_size=20, line_search_fn="strong_wolfe", max_iter=1, max_eval=25, tolerance_grad=0.0
)


def optimised(objective: Objective, photo: Tensor, styles: list[Tensor], start: Tensor, evaluations: int) -> float:
    """Return the lowest value that the objective reaches from a start (1, 3, H, W) in so many evaluations."""
    height, width = photo.shape[-2:]
    levels = [Level(height, width, 1.0, evaluations)]
    problem = Problem(
        objective=objective, content=photo, styles=styles, style_weights=None, levels=levels, make_optimiser=LBFGS
    )
    optimisation = Optimisation(problem, start)
    return min(optimisation.terms["total"] for _ in optimisation.iterates())


def fitted(painter: nn.Module, objective: Objective, photo: Tensor, steps: int) -> Tensor:
    """Train a copy of a generator on one photo (1, 3, H, W) and return what it makes of it then."""
    painter = copy.deepcopy(painter).train().requires_grad_(True)
    optimiser = torch.optim.Adam(painter.parameters(), lr=FIT_LEARNING_RATE, betas=(0.8, 0.99))
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=steps)
    for _ in range(steps):
        loss, _ = objective.generator_loss(LossInputs(photo, photo, painter(photo)), None, warming_up=False)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
    return painted(painter.eval(), photo)


@torch.no_grad()
def painted(painter: nn.Module, photo: Tensor) -> Tensor:
    """Return a generator's result, as it is written to a file."""
    result: Tensor = painter(photo)
    return result.clamp(-1.0, 1.0)


@torch.no_grad()
def loss_of(objective: Objective, photo: Tensor, picture: Tensor) -> float:
    """Return the objective of a picture (1, 3, H, W) made of a photo."""
    return objective.generator_loss(LossInputs(photo, photo, picture), None, warming_up=False)[0].item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", help="a library, which has a style of that name, or a generator of one style")
    parser.add_argument("--style", nargs="+", required=True, metavar="NAME=PATH", help="a picture, or a folder of them")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", required=True, help="of VGG-19, to relu4_2 at least")
    parser.add_argument("--size", type=int, default=192, help="short side of the photos")
    parser.add_argument("--style-size", type=int, default=288, help="short side of the style pictures")
    parser.add_argument("--max-photos", type=int, default=2)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--refine", type=int, nargs="*", default=[], metavar="EVALUATIONS")
    parser.add_argument("--fit", type=int, default=0, metavar="STEPS")
    parser.add_argument("--content-weight", type=float, default=0.3)
    parser.add_argument("--style-weight", nargs="+", default=[], metavar="NAME=WEIGHT", help="10 where it is not given")
    parser.add_argument("--layer-weights", type=float, nargs=4, default=[0.3, 1.0, 1.0, 1.5])
    options = parser.parse_args()

    paths = pictures(options.photos)[: options.max_photos]
    photos = {path.stem: to_float(decode(path, short_side=options.size)[None]) for path in paths}
    network = vgg19(layers=[*STYLE_LAYERS, CONTENT_LAYER], weights=options.weights)
    network.calibrate(list(photos.values()))
    weights = {name: float(weight) for name, weight in (item.split("=") for item in options.style_weight)}

    kinds = ["generator", *(f"refined {count}" for count in options.refine), *(["fitted"] if options.fit else [])]
    ratios: dict[str, list[float]] = {kind: [] for kind in kinds}
    print(f"{'style':<16}{'photo':<16}{'photo':>9}{'optimum':>9}" + "".join(f"{kind:>16}" for kind in kinds))
    for name, place in (item.split("=", 1) for item in options.style):
        # The objective that the style was trained with
        style = GramStyle(
            weight=weights.get(name, 10.0), layers=STYLE_LAYERS, layer_weights=options.layer_weights, relative=True
        )
        content = Content(weight=options.content_weight, layers=[CONTENT_LAYER])
        objective = Objective({"content": content, "style": style, "tv": SquaredVariation(weight=0.1)}, network)
        styles = [to_float(decode(p, short_side=options.style_size)[None]) for p in pictures(Path(place))[:40]]
        try:
            painter = load_painter(f"{options.generator}#{name}", CPU)
        except ValueError:  # it has one style
            painter = load_painter(options.generator, CPU)

        # What each way reaches on each photo; the first leaves the style's statistics in the objective
        for stem, photo in photos.items():
            optimum = optimised(objective, photo, styles, photo, options.evaluations)
            result = painted(painter, photo)
            reached = {"generator": loss_of(objective, photo, result)}
            for count in options.refine:
                reached[f"refined {count}"] = optimised(objective, photo, styles, result, count)
            if options.fit:
                reached["fitted"] = loss_of(objective, photo, fitted(painter, objective, photo, options.fit))
            for kind, loss in reached.items():
                ratios[kind].append(loss / optimum)
            row = "".join(f"{loss:>9.3f} ({loss / optimum:.2f})" for loss in reached.values())
            print(f"{name:<16}{stem[:14]:<16}{loss_of(objective, photo, photo):>9.3f}{optimum:>9.3f}{row}", flush=True)
    print(f"{'median':<16}{'':<34}" + "".join(f"{statistics.median(ratios[kind]):>16.2f}" for kind in kinds))


if __name__ == "__main__":
    main()
