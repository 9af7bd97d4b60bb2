#!/usr/bin/env python3
"""Measure how near a generator comes to what its objective allows: the same objective, a photo's own pixels optimised.

For each style and photo: the objective (content, style and total variation, as the generator was trained with) of the
generator's result, of what gan-style optimise reaches from the photo (L-BFGS), and their ratio.

    python tools/check/optimum.py library.safetensors --style wave=great_wave.jpg --photos photos/ \\
        --weights vgg19_relu5_4.safetensors --style-weight wave=20
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from droplets import pictures
from quality import CONTENT_LAYER, STYLE_LAYERS, contestant

from gan_style.images.decode import decode, to_float
from gan_style.losses.content import Content
from gan_style.losses.objective import Objective
from gan_style.losses.pixel import SquaredVariation
from gan_style.losses.style import GramStyle
from gan_style.losses.term import LossInputs
from gan_style.models.perceptual import vgg19
from gan_style.optimise.optimise import Level, Optimisation, Problem


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", type=Path, help="a library, or a generator of one style")
    parser.add_argument("--style", nargs="+", required=True, metavar="NAME=PATH", help="a picture, or a folder of them")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", required=True, help="of VGG-19, to relu4_2 at least")
    parser.add_argument("--size", type=int, default=192, help="short side of the photos")
    parser.add_argument("--style-size", type=int, default=288, help="short side of the style pictures")
    parser.add_argument("--max-photos", type=int, default=2)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--content-weight", type=float, default=0.3)
    parser.add_argument("--style-weight", nargs="+", default=[], metavar="NAME=WEIGHT", help="10 where it is not given")
    parser.add_argument("--layer-weights", type=float, nargs=4, default=[0.3, 1.0, 1.0, 1.5])
    options = parser.parse_args()

    paths = pictures(options.photos)[: options.max_photos]
    photos = {path.stem: to_float(decode(path, short_side=options.size)[None]) for path in paths}
    network = vgg19(layers=[*STYLE_LAYERS, CONTENT_LAYER], weights=options.weights)
    network.calibrate(list(photos.values()))
    weights = {name: float(weight) for name, weight in (item.split("=") for item in options.style_weight)}
    optimiser = partial(
        torch.optim.LBFGS, history_size=20, line_search_fn="strong_wolfe", max_iter=1, max_eval=25, tolerance_grad=0.0
    )

    ratios = []
    print(f"{'style':<16}{'photo':<16}{'photo':>9}{'generator':>11}{'optimum':>9}{'ratio':>7}")
    for name, place in (item.split("=", 1) for item in options.style):
        # The objective that the style was trained with
        style = GramStyle(
            weight=weights.get(name, 10.0), layers=STYLE_LAYERS, layer_weights=options.layer_weights, relative=True
        )
        content = Content(weight=options.content_weight, layers=[CONTENT_LAYER])
        terms = {"content": content, "style": style, "tv": SquaredVariation(weight=0.1)}
        objective = Objective(terms, network)
        styles = [to_float(decode(p, short_side=options.style_size)[None]) for p in pictures(Path(place))[:40]]
        results = contestant(f"{options.generator}#{name}", photos, options.size)

        for stem, photo in photos.items():
            height, width = photo.shape[-2:]
            levels = [Level(height, width, 1.0, options.evaluations)]
            optimisation = Optimisation(
                Problem(
                    objective=objective,
                    content=photo,
                    styles=styles,
                    style_weights=None,
                    levels=levels,
                    make_optimiser=optimiser,
                ),
                photo,
            )
            losses = []
            for picture in (photo, results[stem]):
                with torch.inference_mode():
                    inputs = LossInputs(photo, styles[0], picture)
                    losses.append(objective.generator_loss(inputs, None, warming_up=False)[0].item())
            lowest = min(optimisation.terms["total"] for _ in optimisation.iterates())
            ratios.append(losses[1] / lowest)
            row = f"{losses[0]:>9.3f}{losses[1]:>11.3f}{lowest:>9.3f}{ratios[-1]:>7.2f}"
            print(f"{name:<16}{stem[:14]:<16}{row}", flush=True)
    print(f"median of the ratios: {torch.tensor(ratios).median():.2f}")


if __name__ == "__main__":
    main()
