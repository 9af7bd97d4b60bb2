#!/usr/bin/env python3
"""Distil ``compact`` from VGG-19: each layer of the student gives VGG-19's own features in fewer dimensions.

For each relu layer the teacher's features f (C channels, scaled to a root mean square of 1) are projected on the C/4
leading directions of their mean Gram matrix, g = P^T f with orthonormal columns P. Distances between features, and
between Gram matrices, are (nearly) kept by such a projection; and a student that predicts g gives nearly the
teacher's losses and, what counts, nearly their gradients. The student is a VGG of a quarter of the width with a linear
1x1 head at each layer; it is trained by feature matching, ||g - student||^2, and Gram matching.

It prints its measures on pictures that were held out: Spearman correlation of content and of style distances with
VGG-19's, and the gradients' cosine similarity. The weights file is written as safetensors.

    python tools/distill_perceptual.py --teacher vgg19_relu3_4.safetensors --pictures FOLDER [FOLDER ...] --steps 7000
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.functional import gram_matrix
from gan_style.images import decode, list_pictures, to_float
from gan_style.models.perceptual import COMPACT, Perceptual, vgg19

LAYERS = COMPACT.layers()


def load_pictures(folders: list[Path], short_side: int) -> tuple[list[Tensor], list[Tensor]]:
    """(training, held out): uint8 pictures; every sixth of each folder, in sorted order, is held out."""
    training: list[Tensor] = []
    held_out: list[Tensor] = []
    for folder in folders:
        for number, path in enumerate(list_pictures(folder)):
            (held_out if number % 6 == 5 else training).append(decode(path, short_side=short_side))
    return training, held_out


def random_crop(picture: Tensor, size: int, rng: random.Random) -> Tensor:
    """A crop of side ``size`` at a random scale, float in [-1, 1], (3, size, size)."""
    side = rng.randint(size, min(picture.shape[1:]))
    top, left = (rng.randint(0, length - side) for length in picture.shape[1:])
    crop = to_float(picture[None, :, top : top + side, left : left + side])
    crop = F.interpolate(crop, (size, size), mode="bilinear", antialias=True)[0]
    return crop.flip(-1) if rng.random() < 0.5 else crop


def disturbed(batch: Tensor, rng: random.Random) -> Tensor:
    """The kinds of picture that a generator makes on its way: noise, mixtures, wrong colours, lost detail."""
    batch = batch.clone()
    for i in range(len(batch)):
        kind = rng.choice(["none", "none", "noise", "mix", "colour", "blur", "texture"])
        if kind == "noise":
            batch[i] += torch.randn_like(batch[i]) * rng.uniform(0.02, 0.5)
        elif kind == "mix":
            batch[i].lerp_(batch[(i + 1) % len(batch)], rng.uniform(0.2, 0.8))
        elif kind == "colour":
            batch[i] = batch[i] * (torch.rand(3, 1, 1) * 1.5) + torch.rand(3, 1, 1) * 0.8 - 0.4
        elif kind == "blur":
            small = F.avg_pool2d(batch[i : i + 1], rng.choice([2, 4, 8]))
            batch[i] = F.interpolate(small, batch.shape[-2:], mode="bilinear")[0]
        elif kind == "texture":
            noise = torch.randn(1, 3, *(max(2, side // rng.choice([2, 4, 8])) for side in batch.shape[-2:]))
            batch[i] += F.interpolate(noise, batch.shape[-2:], mode="bicubic")[0] * rng.uniform(0.1, 0.6)
    return batch.clamp(-1, 1)


@torch.no_grad()
def projections(teacher: Perceptual, pictures: list[Tensor], channels: dict[str, int]) -> dict[str, Tensor]:
    """Per layer the C/4 leading eigenvectors of the mean Gram matrix, as a 1x1 convolution (C/4, C, 1, 1)."""
    grams: dict[str, Tensor] = {}
    for picture in pictures:
        for layer, features in teacher(picture[None], LAYERS).items():
            grams[layer] = grams.get(layer, torch.zeros(())) + gram_matrix(features)[0]
    found = {}
    for layer, gram in grams.items():
        values, vectors = torch.linalg.eigh(gram.double())
        kept = channels[layer]
        share = values[-kept:].sum() / values.sum()
        print(f"{layer}: {kept} of {len(values)} directions keep {share:.4f} of the energy")
        found[layer] = vectors[:, -kept:].flip(1).T.float()[:, :, None, None].contiguous()
    return found


def matching_loss(student: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
    """Feature matching and Gram matching, each relative to the target's own size, summed over layers."""
    total = torch.zeros(())
    for layer, goal in target.items():
        total = total + F.mse_loss(student[layer], goal) / goal.square().mean()
        made, wanted = gram_matrix(student[layer]), gram_matrix(goal)
        error = torch.linalg.matrix_norm(made - wanted) / torch.linalg.matrix_norm(wanted)
        total = total + 0.5 * error.mean()
    return total


def spearman(a: list[float], b: list[float]) -> float:
    """Spearman's rank correlation of two lists without ties."""
    ranks = [torch.tensor(x, dtype=torch.float64).argsort().argsort().double() for x in (a, b)]
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()


def distances(network: Perceptual, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(content, style) distance of two pictures (1, 3, H, W), summed over the layers with equal weight."""
    of_a, of_b = network(a, LAYERS), network(b, LAYERS)
    content = sum(F.mse_loss(of_a[layer], of_b[layer]) for layer in ("relu3_1", "relu3_4"))
    style = sum(F.mse_loss(gram_matrix(of_a[layer]), gram_matrix(of_b[layer])) for layer in LAYERS[::2])
    return content, style  # type: ignore[return-value]


def measure(teacher: Perceptual, student: Perceptual, pictures: list[Tensor], pairs: int) -> dict[str, float]:
    """Agreement with the teacher on held-out pictures: rank correlations and cosines of gradients to the input."""
    rng = random.Random(1)
    crops = [random_crop(picture, 128, rng)[None] for picture in pictures]
    values: dict[str, list[tuple[float, float]]] = {"content": [], "style": []}
    cosines: dict[str, list[float]] = {"content": [], "style": []}
    for _ in range(pairs):
        a, b = (crop.clone().requires_grad_() for crop in rng.sample(crops, 2))
        by_network = [distances(network, a, b) for network in (teacher, student)]
        for kind, of_teacher, of_student in zip(values, *by_network, strict=True):
            values[kind].append((of_teacher.item(), of_student.item()))
            one, two = (torch.autograd.grad(d, a, retain_graph=True)[0] for d in (of_teacher, of_student))
            cosines[kind].append(F.cosine_similarity(one.flatten(), two.flatten(), 0).item())
    report = {f"{kind} spearman": spearman(*map(list, zip(*rows, strict=True))) for kind, rows in values.items()}
    return report | {f"{kind} gradient cosine": sum(rows) / len(rows) for kind, rows in cosines.items()}


def train(
    student: Perceptual,
    teacher: Perceptual,
    project: dict[str, Tensor],
    training: list[Tensor],
    rng: random.Random,
    arguments: argparse.Namespace,
) -> None:
    """Adam on matching_loss over disturbed crops; the learning rate rises for 100 steps, then falls to 0."""
    optimiser = torch.optim.Adam(student.parameters(), lr=2e-3, betas=(0.9, 0.99))
    start, running = time.monotonic(), 0.0
    for step in range(1, arguments.steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, step / 100) * (1 - (step - 1) / arguments.steps)
        batch = torch.stack([random_crop(p, arguments.size, rng) for p in rng.choices(training, k=arguments.batch)])
        batch = disturbed(batch, rng).to(arguments.device, memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(arguments.device, torch.bfloat16):
            features = teacher(batch, LAYERS)
            goal = {layer: F.conv2d(features[layer], project[layer]).float() for layer in LAYERS}
        loss = matching_loss(student(batch, LAYERS), goal)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        running = loss.item() if step == 1 else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 0:
            print(f"step {step}  loss {running:.4f}  {time.monotonic() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="VGG-19 weights, torchvision's names")
    parser.add_argument("--pictures", type=Path, nargs="+", required=True, help="folders of photos and paintings")
    parser.add_argument("--output", type=Path, default=Path("gan_style/assets/perceptual/compact.safetensors"))
    parser.add_argument("--steps", type=int, default=7000, help="about 0.25 s each on 2 cores")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rng = random.Random(0)

    training, held_out = load_pictures(arguments.pictures, 256)
    print(f"{len(training)} pictures to train on, {len(held_out)} held out")
    teacher = vgg19(layers=LAYERS, weights=str(arguments.teacher)).to(memory_format=torch.channels_last)
    sample = [random_crop(picture, 192, rng) for picture in rng.sample(training, min(48, len(training)))]
    teacher.calibrate([picture[None] for picture in sample])
    student = Perceptual(COMPACT, LAYERS).to(memory_format=torch.channels_last)
    channels = {f"relu{name}": count for name, _, count in COMPACT.convolutions()}
    project = projections(teacher, sample, channels)
    for convolution in student.features.values():
        assert isinstance(convolution, nn.Conv2d)
        nn.init.kaiming_normal_(convolution.weight)
    student.to(arguments.device).requires_grad_(True)
    teacher.to(arguments.device)
    project = {layer: p.to(arguments.device) for layer, p in project.items()}

    train(student, teacher, project, training, rng, arguments)

    student.to("cpu").requires_grad_(False)
    teacher.to("cpu")
    student.calibrate([picture[None] for picture in sample])
    report = measure(teacher, student, held_out, pairs=60)
    print(json.dumps(report, indent=2))
    student.scales = dict.fromkeys(LAYERS, 1.0)
    metadata = {"source": "distilled from VGG-19 (Simonyan and Zisserman, CC BY 4.0)", "measures": json.dumps(report)}
    weights = {key: tensor.contiguous() for key, tensor in student.state_dict().items()}
    save_file(weights, arguments.output, metadata=metadata)
    print(f"wrote {arguments.output} ({arguments.output.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()
