#!/usr/bin/env python3
"""Measure how well ``compact`` stands in for VGG-19, in six parts; print a table.

speed      forward and backward to the input, alternately in one process: ratio of the medians
channels   Pearson correlation of each of VGG-19's channels with its best linear reconstruction from compact's features,
           fitted on one half of the pictures and measured on the other: median over channels
gradients  cosine of the two networks' gradients to the input, of content and style losses between pairs of pictures
optimise   a picture optimised under compact's losses (loss=optimise_compact, views=16) against one optimised under
           VGG-19's (loss=optimise), both as ``gan-style optimise levels=1 method=adam`` does it: how far VGG-19's style
           distance comes down, at what content distance (both measured by VGG-19)
generator  likewise, a generator trained for equal steps under each (``gan-style train experiment=quickstart``)
fidelity   Spearman's rank correlation of content and of style distances, on pictures that the distillation held out, on
           results of the shipped library (all styles), and on results of the two trained generators at all stages of
           their training; the last lie close together (the spread of VGG-19's distances is printed), which makes it
           the hardest

Losses are looked at on two sets of layers: up to relu3 (the defaults), and up to relu4 (--layers).

Pictures: every sixth of each folder, which is what tools/distill/distill.py holds out; by default the demo pictures,
which it has never seen.

    python tools/check_perceptual.py --teacher vgg19_relu5_4.safetensors --content PHOTOS --styles PAINTINGS
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
from torch.nn import functional as F

import gan_style
from gan_style.config import build
from gan_style.data.pictures import find_pictures
from gan_style.evaluation.suite import content_distance, style_distance
from gan_style.functional import gram_matrix
from gan_style.images.decode import decode, encode, grid, to_float
from gan_style.images.formats import list_pictures
from gan_style.losses.objective import Objective, mean_gram
from gan_style.models.perceptual import COMPACT, Perceptual, compact, vgg19
from gan_style.optimise.optimise import Optimisation, Problem, draw_view, plan_levels
from gan_style.runtime.checkpoint import CheckpointFolder
from gan_style.runtime.files import file_hash, write_bytes
from gan_style.stylize.model import load_generator

PARTS = ("speed", "channels", "gradients", "optimise", "generator", "fidelity")
NETWORKS = ("vgg19", "compact")
LAYERS = {  # (content, style)
    "relu3": (["relu3_2"], ["relu1_1", "relu2_1", "relu3_1", "relu3_3"]),
    "relu4": (["relu4_2"], ["relu1_1", "relu2_1", "relu3_1", "relu4_1"]),
}
COMPACT_CONTENT = {  # that optimise looks at under compact
    "relu3": ["relu2_2", "relu3_1", "relu3_2", "relu3_3", "relu3_4"],
    "relu4": ["relu3_2", "relu3_3", "relu3_4", "relu4_1", "relu4_2"],
}
Row = tuple[str, str, str]  # what, measured, required


def held_out(paths: Sequence[Path]) -> list[Path]:
    """Return every sixth picture: these the distillation does not train on."""
    return list(paths[5::6])


def loss_options(network: str, layers: str, content: Sequence[str]) -> list[str]:
    """Return the overrides that set the loss layers of a command."""
    style = LAYERS[layers][1]
    return [
        f"perceptual={network}",
        f"loss.content.layers=[{','.join(content)}]",
        f"loss.style.layers=[{','.join(style)}]",
    ]


def optimise_config(network: str, layers: str) -> Any:
    """Compose the configuration of ``gan-style optimise`` for a network."""
    if network == "vgg19":
        return configuration("adam", ["loss=optimise", *loss_options(network, layers, LAYERS[layers][0])])
    options = loss_options(network, layers, COMPACT_CONTENT[layers])
    return configuration("adam", ["loss=optimise_compact", "views=16", *options])


def terms_of(loss: Any) -> dict[str, Any]:
    return {str(name): build(node, f"loss.{name}") for name, node in loss.items() if name != "balance"}


class NetworkPair:
    """Both networks, calibrated on the same photos, and distances by each of them."""

    def __init__(self, teacher: str, student: str, photos: Sequence[Tensor], device: torch.device) -> None:
        layers = COMPACT.layers()
        built = (vgg19(layers=layers, weights=teacher), compact(layers=layers, weights=student))
        self.by_name: dict[str, Perceptual] = {}
        for name, network in zip(NETWORKS, built, strict=True):
            self.by_name[name] = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            network.calibrate(photos)

    @torch.no_grad()
    def distances(self, name: str, layers: str, result: Tensor, content: Tensor, style: Tensor) -> tuple[float, float]:
        """Return the (content, style) distance of a result (1, 3, H, W) by one of the networks on a set of layers."""
        network, (content_layers, style_layers) = self.by_name[name], LAYERS[layers]
        grams = mean_gram(network, [style], style_layers)
        return content_distance(network, result, content, content_layers), style_distance(network, result, grams)


def optimise(name: str, layers: str, network: Perceptual, content: Tensor, style: Tensor, steps: int) -> Tensor:
    """Optimise the content picture (1, 3, H, W) by ``steps`` of Adam on one network's losses."""
    cfg = optimise_config(name, layers)
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


def comparison(
    networks: NetworkPair, layers: str, results: dict[str, Tensor], content: Tensor, style: Tensor, label: str
) -> list[Row]:
    """Compare compact's result with VGG-19's own, by VGG-19's measure."""
    pictures = (content, *results.values())
    (_, start), *ends = (networks.distances("vgg19", layers, picture, content, style) for picture in pictures)
    return rows_of(label, start, *ends)


def rows_of(label: str, start: float, of_vgg: tuple[float, float], of_compact: tuple[float, float]) -> list[Row]:
    """Return the rows on (content, style) distances of the two results, where the photo's style distance is given."""
    (content_v, style_v), (content_c, style_c) = of_vgg, of_compact
    detail = f"style {start:.3g} -> {style_v:.3g} | {style_c:.3g}, content {content_v:.3g} | {content_c:.3g}"
    print(f"{label}: {detail} (VGG-19 | compact)", flush=True)
    return [
        (f"{label}: drop of style distance", f"{(start - style_c) / (start - style_v):.1%}", ">= 80%"),
        (f"{label}: content distance", f"{content_c / content_v:.2f}x", "<= 1.25x"),
    ]


def check_speed(arguments: argparse.Namespace, teacher: str) -> list[Row]:
    """Time forward and backward to the input, the two networks alternately."""
    rows, device, everything = [], torch.device(arguments.device), COMPACT.layers()
    up_to_relu3_4 = everything[: everything.index("relu3_4") + 1]
    chosen = {"up to relu3_4": (up_to_relu3_4, 8), "up to relu4_2": (everything, 6), "relu4_2 alone": (["relu4_2"], 6)}
    for label, (layers, required) in chosen.items():
        built = (vgg19(layers=layers, weights=teacher), compact(layers=layers, weights=arguments.student))
        networks = [network.to(device, memory_format=torch.channels_last) for network in built]  # type: ignore[call-overload]
        for size, precision in product(arguments.speed_sizes, arguments.precisions):
            dtype = getattr(torch, precision)
            images = torch.rand(arguments.batch, 3, size, size, device=device) * 2 - 1
            images = images.contiguous(memory_format=torch.channels_last).requires_grad_()
            calls = [partial(forward_backward, network, images, layers, dtype) for network in networks]
            seconds = timed(calls, device)
            measured = f"{seconds[0] / seconds[1]:.1f}x ({seconds[0] * 1e3:.4g} ms | {seconds[1] * 1e3:.4g} ms)"
            bar = f">= {required}x" if size == 256 and precision == "float32" else ""
            rows.append((f"speed, {label}, {size} px, batch {arguments.batch}, {precision}", measured, bar))
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


@torch.no_grad()
def check_channels(networks: NetworkPair, pictures: Sequence[Tensor]) -> list[Row]:
    """Correlate each of VGG-19's channels with its linear reconstruction from compact's, fitted on other pictures."""
    rows, layers, generator = [], COMPACT.layers(), torch.Generator().manual_seed(0)

    # of each half of the pictures both networks' features at the same 1000 positions of each, (positions, channels)
    halves: list[dict[str, list[tuple[Tensor, Tensor]]]] = [{layer: [] for layer in layers} for _ in range(2)]
    for number, picture in enumerate(pictures):
        of_teacher, of_student = (networks.by_name[name](picture, layers) for name in NETWORKS)
        for layer in layers:
            teacher, student = (features[layer][0].flatten(1).T.double() for features in (of_teacher, of_student))
            chosen = torch.randperm(len(teacher), generator=generator)[:1000].to(teacher.device)
            halves[number % 2][layer].append((teacher[chosen], student[chosen]))

    for layer in layers:
        (fit_t, fit_s), (test_t, test_s) = (
            [torch.cat(one) for one in zip(*half[layer], strict=True)] for half in halves
        )

        # least squares on one half (normal equations, a very small ridge); correlation over the positions of the other
        fit_s, test_s = (F.pad(one, (0, 1), value=1.0) for one in (fit_s, test_s))
        square = fit_s.T @ fit_s
        ridge = 1e-6 * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype, device=square.device)
        predicted = test_s @ torch.linalg.solve(square + ridge, fit_s.T @ fit_t)
        predicted, test_t = (one - one.mean(0) for one in (predicted, test_t))
        norms = predicted.norm(dim=0) * test_t.norm(dim=0)
        correlations = ((predicted * test_t).sum(0) / norms)[norms > 0]  # without channels that are always 0
        lower, median, upper = correlations.quantile(torch.tensor([0.1, 0.5, 0.9]).to(correlations)).tolist()
        published = {"relu1_1": ">= 0.97", "relu3_1": ">= 0.85", "relu4_1": ">= 0.81"}.get(layer, "")
        measured = f"{median:.3f} (10 %: {lower:.3f}, 90 %: {upper:.3f})"
        rows.append((f"median correlation of VGG-19's channels, {layer}", measured, published))
    return rows


def check_gradients(networks: NetworkPair, pictures: Sequence[Tensor], pairs: int = 40, size: int = 128) -> list[Row]:
    """Compare the two networks' gradients to the input: of the content loss at each layer, of Gram style up to each."""
    rng = random.Random(1)
    cosines: dict[str, list[float]] = {}
    for _ in range(pairs):
        a, b = (picture[..., :size, :size].clone().requires_grad_() for picture in rng.sample(pictures, 2))
        features = [
            (network(a, COMPACT.layers()), network(b, COMPACT.layers())) for network in networks.by_name.values()
        ]
        content = ["relu3_2", "relu3_4", "relu4_1", "relu4_2"]
        losses = {f"content at {k}": [F.mse_loss(of_a[k], of_b[k]) for of_a, of_b in features] for k in content}
        style = {f"style at {layer}": [layer] for layer in ("relu3_1", "relu4_1")}
        style |= {f"style at {', '.join(layers)}": layers for _, layers in LAYERS.values()}
        for label, layers in style.items():
            losses[label] = [
                torch.stack([F.mse_loss(gram_matrix(of_a[k]), gram_matrix(of_b[k])) for k in layers]).sum()
                for of_a, of_b in features
            ]
        for label, both in losses.items():
            one, other = (torch.autograd.grad(loss, a, retain_graph=True)[0].flatten() for loss in both)
            cosines.setdefault(label, []).append(F.cosine_similarity(one, other, 0, eps=1e-30).item())
    return [(f"gradient cosine, {label}", f"{statistics.mean(found):.3f}", "") for label, found in cosines.items()]


def check_optimise(
    networks: NetworkPair, layers: str, pairs: Sequence[tuple[Tensor, Tensor]], steps: int, folder: Path
) -> list[Row]:
    """The decisive test: pictures optimised under each network."""
    rows, shown = [], []
    for number, (content, style) in enumerate(pairs, start=1):
        results = {name: optimise(name, layers, networks.by_name[name], content, style, steps) for name in NETWORKS}
        rows += comparison(networks, layers, results, content, style, f"optimise {number}, {layers}")
        shown.append([content[0], style[0], *(result[0] for result in results.values())])
    write_bytes(folder / f"optimise_{layers}.jpg", encode(grid(shown), ".jpg"))
    return rows


def train_generators(arguments: argparse.Namespace, layers: str, teacher: str) -> dict[str, Path]:
    """Run the quickstart under each network, keep all checkpoints; return {network: the run's folder}."""
    folders = {}
    for name in NETWORKS:
        weights = {"vgg19": teacher, "compact": arguments.student}[name]
        folder = arguments.work / f"generator_{layers}_{name}"
        run = {"run.root": arguments.work, "run.name": folder.name, "perceptual.weights": weights}
        run |= {"training.steps": arguments.generator_steps, "training.keep_checkpoints": 99}
        run |= {"training.checkpoint_every": max(1, arguments.generator_steps // 6)}
        run |= {"training.sample_every": arguments.generator_steps, "runtime.device": arguments.device}
        command = [sys.executable, "-m", "gan_style.cli", "train", "experiment=quickstart"]
        command += loss_options(name, layers, LAYERS[layers][0])
        begin = time.monotonic()
        mark_weights(folder, packaged(name) if weights == "packaged" else Path(weights))
        subprocess.run([*command, *(f"{key}={value}" for key, value in run.items())], check=True, stdout=sys.stderr)
        print(f"generator trained under {name}, {layers}: {time.monotonic() - begin:.0f} s", flush=True)
        folders[name] = folder
    return folders


def packaged(name: str) -> Path:
    return Path(gan_style.__file__).parent / "assets" / "perceptual" / f"{name}.safetensors"


def mark_weights(run: Path, weights: Path) -> None:
    """Note beside a run what it is trained under; SystemExit where it was other weights."""
    mark, sha256 = run.with_suffix(".sha256"), file_hash(weights)
    if run.exists() and (not mark.is_file() or mark.read_text() != sha256):
        raise SystemExit(f"{run} was trained under other weights than {weights}; remove it, or give another --work")
    write_bytes(mark, sha256.encode())


@torch.no_grad()
def check_generator(
    networks: NetworkPair, layers: str, folders: dict[str, Path], contents: Sequence[Tensor], style: Tensor
) -> list[Row]:
    """The generators' results on pictures that they were not trained on, by VGG-19's measure: means over pictures."""
    generators = {name: load_generator(folder, style.device) for name, folder in folders.items()}
    starts, shown = [], []
    ends: dict[str, list[tuple[float, float]]] = {name: [] for name in NETWORKS}
    for content in contents:
        results = {name: generator(content) for name, generator in generators.items()}
        starts.append(networks.distances("vgg19", layers, content, content, style)[1])
        for name, result in results.items():
            ends[name].append(networks.distances("vgg19", layers, result, content, style))
        shown.append([content[0], style[0], *(result[0] for result in results.values())])
    write_bytes(folders["compact"].parent / f"generator_{layers}.jpg", encode(grid(shown), ".jpg"))
    means = [
        (statistics.mean(content for content, _ in ends[name]), statistics.mean(style for _, style in ends[name]))
        for name in NETWORKS
    ]
    return rows_of(f"generator, {layers}", statistics.mean(starts), *means)


def check_fidelity(networks: NetworkPair, layers: Sequence[str], triples: dict[str, list[list[Tensor]]]) -> list[Row]:
    """Correlate the ranks of the two networks' distances of [result, content, style]."""
    rows = []
    for (label, of_label), chosen in product(triples.items(), layers):
        by_network = [[networks.distances(name, chosen, *triple) for triple in of_label] for name in NETWORKS]
        for number, kind in enumerate(("content", "style")):
            one, other = ([distances[number] for distances in each] for each in by_network)
            spread = torch.tensor(one, dtype=torch.float64).log().std().exp().item() - 1
            measured = f"{spearman(one, other):.3f} ({len(of_label)} pairs, spread {spread:.0%})"
            rows.append((f"Spearman of {kind} distances, {chosen}, {label}", measured, ">= 0.95"))
    return rows


@torch.no_grad()
def results_of_library(contents: Sequence[Tensor], styles: Sequence[Tensor]) -> list[list[Tensor]]:
    """Return [result, content, a style to compare with] of each shipped style and content."""
    painters = [gan_style.load(name, device=str(contents[0].device)) for name in gan_style.styles()]
    made = [(painter(content), content) for painter in painters for content in contents]
    return [[result, content, styles[number % len(styles)]] for number, (result, content) in enumerate(made)]


@torch.no_grad()
def results_of_stages(
    folders: Sequence[Path], contents: Sequence[Tensor], styles: Sequence[Tensor]
) -> list[list[Tensor]]:
    """Return the same of each checkpoint of the runs."""
    results = []
    for folder in folders:
        for checkpoint in CheckpointFolder(folder / "checkpoints").paths():
            generator = load_generator(checkpoint, styles[0].device)
            results += [[generator(x), x, styles[number % len(styles)]] for number, x in enumerate(contents)]
    return results


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Return Spearman's rank correlation of two lists without ties."""
    ranks = [torch.tensor(x, dtype=torch.float64).argsort().argsort().double() for x in (a, b)]
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()


def load(paths: Sequence[Path], size: int, device: torch.device) -> list[Tensor]:
    """Load the middle squares of pictures, (1, 3, size, size) in [-1, 1]."""
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
    parser.add_argument("--layers", nargs="+", choices=list(LAYERS), default=list(LAYERS), help="of the losses")
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
    networks = NetworkPair(teacher, arguments.student, contents[:16], device)
    rng = random.Random(0)
    pairs = list(
        zip(rng.sample(contents, arguments.pairs), (rng.choice(styles) for _ in range(arguments.pairs)), strict=True)
    )
    flow = load(find_pictures("demo:styles/flow", "pictures"), arguments.size, device)  # the quickstart's style

    rows: list[Row] = []
    if "speed" in arguments.parts:
        rows += check_speed(arguments, teacher)
    if "channels" in arguments.parts:
        rows += check_channels(networks, [*contents, *styles])
    if "gradients" in arguments.parts:
        rows += check_gradients(networks, [*contents, *styles])
    folders: list[Path] = []
    for layers in arguments.layers:
        if "optimise" in arguments.parts:
            rows += check_optimise(networks, layers, pairs, arguments.steps, arguments.work)
        if "generator" in arguments.parts:
            trained = train_generators(arguments, layers, teacher)
            rows += check_generator(networks, layers, trained, contents[:10], flow[0])
            folders += trained.values()
    if "fidelity" in arguments.parts:
        paintings, rng = [*flow, *styles], random.Random(1)
        pool = [*contents[:10], *paintings]
        triples = {
            "held-out pictures": [rng.sample(pool, 3) for _ in range(80)],
            "results of the library's styles": results_of_library(contents[:10], paintings),
        }
        if folders:
            triples["results at all stages of runs"] = results_of_stages(folders, contents[:10], paintings)
        rows += check_fidelity(networks, arguments.layers, triples)

    print("\n| measured | compact against VGG-19 | required |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    write_bytes(arguments.work / "table.json", json.dumps(rows, indent=1).encode())


if __name__ == "__main__":
    main()
