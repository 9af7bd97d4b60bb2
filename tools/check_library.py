#!/usr/bin/env python3
"""How good is a library of styles? Tables under VGG-19, and a sheet: photo, style, optimise, library.

strengths  style and content distance of its results at strength 0, 0.25 ... 1: each has to move one way only
deception  the share of its results that a classifier takes for the style's own pictures, and of photos as they are
optimise   the same pairs by gan-style optimise (L-BFGS, one level, from the photo): how near the library comes
scales     how far each style is best gone: what tools/ship_library.py --scale takes, from photos of the training
single     (with --single NAME=RUN) a generator of that style alone, for as many pictures: content and style distance

Whoever trained the library on some of the photos should give others here. Parts that are done are kept in --work.

    python tools/check_library.py --model library.safetensors --teacher vgg19_relu3_4.safetensors \\
        --content PHOTOS --style wave=great_wave.jpg monet=MONETS
"""

import argparse
import json
import random
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from check_optimise import configuration, load, make_objective
from torch import Tensor

from gan_style.config import build
from gan_style.data.pictures import find_pictures
from gan_style.data.stream import Crop
from gan_style.evaluation.metrics import StyleClassifier, embedding
from gan_style.evaluation.suite import content_distance, style_distance
from gan_style.images.decode import decode, encode, grid, to_float
from gan_style.losses.objective import Objective, mean_gram
from gan_style.models.library import LibraryGenerator, condition_of
from gan_style.optimise.optimise import Optimisation, Problem, plan_levels
from gan_style.runtime.files import file_hash, write_bytes
from gan_style.stylize.model import find_generator, load_generator

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SCALES = (0.8, 0.85, 0.9, 0.95, 1.0, 1.15, 1.3)
CONTENT_LAYERS, STYLE_LAYERS = ["relu3_2"], ["relu1_1", "relu2_1", "relu3_1", "relu3_3"]
EMBEDDING_LAYERS = ["relu1_1", "relu2_1", "relu3_1"]
CROPS, CROP = 40, 160  # of photos and of style pictures, for the classifier
MAKERS = ("optimise", "library")
Row = dict[str, float]


class Check:
    """The library, the photos, the styles, and VGG-19, calibrated on the photos, to measure them with."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.size, self.steps = arguments.size, arguments.optimise_steps
        generator = load_generator(arguments.model, torch.device("cpu"))
        if not isinstance(generator, LibraryGenerator):
            raise SystemExit(f"--model {arguments.model} is no library of styles")
        self.generator = generator
        named = dict(one.split("=", 1) for one in arguments.style)
        self.styles = {name: find_pictures(spec, f"--style {name}") for name, spec in named.items()}
        if unknown := sorted(set(self.styles) - set(generator.styles)):
            raise SystemExit(f"--style {unknown[0]}: the library has {', '.join(generator.styles)}")
        paths = find_pictures(arguments.content, "--content")
        paths = random.Random(0).sample(paths, min(arguments.photos, len(paths)))
        self.photos = [load(path, arguments.size, torch.device("cpu")) for path in paths]
        self.cfg = configuration("lbfgs", [])
        self.objective: Objective = make_objective(self.cfg, str(arguments.teacher), self.photos)
        self.vgg = self.objective.perceptual
        self.classifier_photos = find_pictures(arguments.content, "--content")

    def grams(self, name: str) -> dict[str, Tensor]:
        """The style's, at the size of the photos; of many pictures the mean of forty."""
        chosen = random.Random(1).sample(self.styles[name], min(40, len(self.styles[name])))
        with torch.no_grad():
            return mean_gram(self.vgg, (load(path, self.size, torch.device("cpu")) for path in chosen), STYLE_LAYERS)

    @torch.no_grad()
    def made(self, name: str, photo: Tensor, strength: float = 1.0) -> Tensor:
        return self.generator(photo, condition_of(self.generator.styles, {name: strength})).clamp(-1, 1)

    def distances(self, results: Sequence[Tensor], grams: dict[str, Tensor]) -> Row:
        """Means over the photos; style as a share of the photos' own."""
        own = sum(style_distance(self.vgg, photo, grams) for photo in self.photos)
        style = sum(style_distance(self.vgg, one, grams) for one in results)
        content = sum(
            content_distance(self.vgg, one, photo, CONTENT_LAYERS)
            for one, photo in zip(results, self.photos, strict=False)
        )
        return {"style": style / own * len(self.photos) / len(results), "content": content / len(results)}

    def strengths(self, name: str) -> list[Row]:
        grams = self.grams(name)
        return [self.distances([self.made(name, photo, s) for photo in self.photos], grams) for s in STRENGTHS]

    @torch.no_grad()
    def scales(self, name: str) -> list[Row]:
        """With the style's rows less far, or farther, from the photo's own."""
        grams, full = self.grams(name), condition_of(self.generator.styles, {name: 1.0})
        made = [
            [self.generator.paint(photo, self.generator.shares(scale * full)).clamp(-1, 1) for photo in self.photos]
            for scale in SCALES
        ]
        return [self.distances(results, grams) for results in made]

    @torch.no_grad()
    def deception(self, name: str) -> Row:
        """Learned from crops of one half of the photos and from the style's; asked about the other half."""
        rng = random.Random(2)
        photos = [self._crop(rng.choice(self.classifier_photos), rng) for _ in range(2 * CROPS)]
        styles = [self._crop(rng.choice(self.styles[name]), rng) for _ in range(CROPS)]
        classifier = StyleClassifier.trained(self._embedded(photos[:CROPS]), self._embedded(styles))
        results = [self.made(name, photo) for photo in photos[CROPS:]]
        return {
            "photos": classifier.rate(self._embedded(photos[CROPS:])),
            "results": classifier.rate(self._embedded(results)),
        }

    def _crop(self, path: Path, rng: random.Random) -> Tensor:
        picture = Crop(CROP, (CROP, self.size))(decode(path, short_side=self.size), rng)
        return to_float(picture[None]).contiguous(memory_format=torch.channels_last)

    def _embedded(self, pictures: Iterable[Tensor]) -> Tensor:
        return torch.cat([embedding(self.vgg(picture, EMBEDDING_LAYERS)) for picture in pictures])

    def optimise(self, name: str, number: int, folder: Path) -> Row:
        """One photo; the row of the sheet goes into ``folder``."""
        photo, style = self.photos[number], load(self.styles[name][0], self.size, torch.device("cpu"))
        levels = plan_levels(*photo.shape[-2:], levels=1, steps=self.steps)
        problem = Problem(
            objective=self.objective,
            content=photo,
            styles=[style],
            style_weights=None,
            levels=levels,
            make_optimiser=build(self.cfg.method, "method"),
        )
        optimisation = Optimisation(problem, photo)
        for _ in optimisation.iterates():
            pass
        results = [optimisation.canvas.detach().clamp(-1, 1), self.made(name, photo)]
        grams = mean_gram(self.vgg, [style], STYLE_LAYERS)
        own = style_distance(self.vgg, photo, grams)
        found = {}
        for who, result in zip(MAKERS, results, strict=True):
            found[f"{who} style"] = style_distance(self.vgg, result, grams) / own
            found[f"{who} content"] = content_distance(self.vgg, result, photo, CONTENT_LAYERS)
        write_bytes(folder / f"row_{name}.png", encode(grid([[x[0] for x in (photo, style, *results)]]), ".png"))
        print(f"optimise {name}: {found}", flush=True)
        return found

    @torch.no_grad()
    def single(self, name: str, run: Path) -> dict[str, Row]:
        alone, grams = load_generator(run, torch.device("cpu")), self.grams(name)
        of_library = self.distances([self.made(name, photo) for photo in self.photos], grams)
        return {"single": self.distances([alone(photo) for photo in self.photos], grams), "library": of_library}


class Kept:
    """What parts found, each made once: of the same files with the same settings."""

    def __init__(self, folder: Path, of: Any) -> None:
        self.folder, self.of = folder, of
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, make: Callable[..., Any], *arguments: Any, of: Any = None) -> Any:
        """From NAME.json where it is there. of: what else than all parts depend on this one does."""
        path, of = self.folder / f"{name}.json", json.loads(json.dumps([self.of, of]))
        before = json.loads(path.read_bytes()) if path.is_file() else {}
        if isinstance(before, dict) and before.get("of") == of:
            return before["found"]
        found = make(*arguments)
        write_bytes(path, json.dumps({"of": of, "found": found}).encode())
        return found


def depends_on(arguments: argparse.Namespace, styles: Iterable[Path]) -> list[Any]:
    """Hashes of all files that are measured and measured with, and the settings."""
    files = [arguments.model, arguments.teacher, *find_pictures(arguments.content, "--content"), *styles]
    return [arguments.size, arguments.photos, arguments.optimise_steps, *map(file_hash, files)]


def one_way(values: Sequence[float], sign: int) -> bool:
    return all(sign * (after - before) > 0 for before, after in pairwise(values))


def table(head: str, rows: Iterable[Sequence[str]]) -> str:
    count = head.count("|") + 1
    return "\n".join([f"| {head} |", "|" + "---|" * count, *(f"| {' | '.join(row)} |" for row in rows)])


def strength_rows(found: dict[str, list[Row]]) -> list[list[str]]:
    rows = []
    for name, by_strength in found.items():
        for kind, sign in (("style", -1), ("content", 1)):
            values = [one[kind] for one in by_strength]
            shown = [f"{value:.1%}" if kind == "style" else f"{value:.2f}" for value in values]
            rows.append([name, kind, *shown, "yes" if one_way(values, sign) else "NO"])
    return rows


def scale_rows(found: dict[str, list[Row]]) -> list[list[str]]:
    """The least style distance up to 1: beyond, there is more of the style and less of the photo."""
    upto = sum(scale <= 1 for scale in SCALES)
    rows = []
    for name, by_scale in found.items():
        best = min(range(upto), key=lambda number: by_scale[number]["style"])
        rows.append([name, *(f"{one['style']:.1%} / {one['content']:.2f}" for one in by_scale), f"{SCALES[best]:g}"])
    return rows


def pair_rows(found: dict[str, Row]) -> list[list[str]]:
    return [
        [name, *(f"{one[f'{who} style']:.1%}" for who in MAKERS), *(f"{one[f'{who} content']:.2f}" for who in MAKERS)]
        for name, one in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a library's file or run")
    parser.add_argument("--teacher", type=Path, required=True, help="VGG-19 weights, torchvision's names")
    parser.add_argument("--content", nargs="+", default=["demo:heldout"])
    parser.add_argument("--style", nargs="+", required=True, metavar="NAME=PICTURES")
    parser.add_argument("--single", nargs="*", default=[], metavar="NAME=RUN")
    parser.add_argument("--parts", nargs="*", default=["strengths", "deception", "optimise"])
    parser.add_argument("--photos", type=int, default=8)
    parser.add_argument("--size", type=int, default=256, help="short side, pixels")
    parser.add_argument("--optimise-steps", type=int, default=100, help="evaluations")
    parser.add_argument("--work", type=Path, default=Path("runs/check_library"))
    arguments = parser.parse_args()

    check, work, blocks = Check(arguments), arguments.work, []
    kept = Kept(work, depends_on(arguments, (path for paths in check.styles.values() for path in paths)))
    if "strengths" in arguments.parts:
        found = {name: kept(f"strengths_{name}", check.strengths, name) for name in check.styles}
        head = " | ".join(["style", "distance", *(f"strength {s:g}" for s in STRENGTHS), "one way"])
        blocks.append(table(head, strength_rows(found)))
    if "scales" in arguments.parts:
        found = {name: kept(f"scales_{name}", check.scales, name) for name in check.styles}
        head = " | ".join(["style / content", *(f"{s:g}" for s in SCALES), "best up to 1"])
        blocks.append(table(head, scale_rows(found)))
    if "deception" in arguments.parts:
        found = {name: kept(f"deception_{name}", check.deception, name) for name in check.styles}
        rows = [[name, f"{one['photos']:.2f}", f"{one['results']:.2f}"] for name, one in found.items()]
        blocks.append(table("style | photos taken for it | results taken for it", rows))
    if "optimise" in arguments.parts:
        of_photo = [number % len(check.photos) for number in range(len(check.styles))]
        found = {
            name: kept(f"optimise_{name}", check.optimise, name, number, work)
            for name, number in zip(check.styles, of_photo, strict=True)
        }
        blocks.append(table("style | style left: optimise | library | content: optimise | library", pair_rows(found)))
        sheet = grid([[to_float(decode(work / f"row_{name}.png"))] for name in check.styles])
        write_bytes(work / "sheet.png", encode(sheet, ".png"))
    for one in arguments.single:
        name, run = one.split("=", 1)
        found = kept(f"single_{name}", check.single, name, Path(run), of=file_hash(find_generator(Path(run))))
        rows = [[name, who, f"{row['style']:.1%}", f"{row['content']:.3f}"] for who, row in found.items()]
        blocks.append(table("style | generator | style left | content", rows))
    text = "\n\n".join(blocks)
    print(text)
    write_bytes(work / "table.md", f"{text}\n".encode())


if __name__ == "__main__":
    main()
