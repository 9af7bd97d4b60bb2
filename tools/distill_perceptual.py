#!/usr/bin/env python3
"""Distil ``compact`` from VGG-19: each layer of the student gives VGG-19's own features in fewer dimensions.

For each relu layer the teacher's features f (C channels, scaled to a root mean square of 1) are projected on their
leading directions, g = P^T f with orthonormal columns P. Distances between features, and between Gram matrices, are
(nearly) kept by such a projection; and a student that predicts g gives nearly the teacher's losses and, what counts,
nearly their gradients. The student is a VGG of about a quarter of the width with a linear 1x1 head at each layer.

It learns by feature matching and Gram matching on crops and disturbed crops; and, since a picture that follows the
student's gradients soon looks like nothing that was learned from, on pictures that are being optimised under the
student's own losses while it learns. There its features' change from photo to result, and the size of that change,
must be the teacher's, too.

Every sixth picture of each folder is held out; tools/check_perceptual.py measures on those. At the end the gradients'
cosine similarity with VGG-19's is printed, and the weights are written as safetensors.

The file that ships was made in stages, each from the weights of the one before (--start): 3000 steps without the
distances, 900 with them (400 of these also with a matching of gradients, which did not help), and 1000 at --rate 8e-4
with this loop.

    python tools/distill_perceptual.py --teacher vgg19_relu3_4.safetensors --pictures FOLDER [FOLDER ...]
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.functional import gram_matrix
from gan_style.functional import total_variation_squared as smoothness
from gan_style.images import decode, list_pictures, to_float
from gan_style.models.perceptual import COMPACT, Perceptual, compact, vgg19

LAYERS = COMPACT.layers()
CONTENT_LAYERS = ["relu3_1", "relu3_2", "relu3_2", "relu3_2", "relu3_4"]
STYLE_LAYERS = ["relu1_1", "relu2_1", "relu3_1", "relu3_3"]
Features = dict[str, Tensor]


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


class Goal:
    """The teacher's features, and what the student is to make of them.

    sizes: the mean square of the student's features that the projection leaves, where the teacher's is 1.
    """

    def __init__(self, teacher: Perceptual, project: Features, sizes: dict[str, float]) -> None:
        self.teacher, self.project, self.sizes = teacher, project, sizes

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Features:
        """Of pictures (N, 3, S, S): all of the teacher's."""
        return self.teacher(pictures, LAYERS)

    def projected(self, features: Features) -> Features:
        """Along the leading directions."""
        return {layer: F.conv2d(features[layer], self.project[layer]) for layer in LAYERS}

    def scaled(self, features: Features) -> Features:
        """The student's features with the mean square of the teacher's."""
        return {layer: f * self.sizes[layer] ** -0.5 for layer, f in features.items()}


@dataclass
class Run:
    """A picture (1, 3, S, S) on its way from a content to a style, and how much longer it goes on."""

    content: Tensor
    style: Tensor
    picture: Tensor
    weight: float
    left: int
    optimiser: torch.optim.Optimizer
    content_layer: str
    of_content: Features  # of the teacher


class Pursuit:
    """Pictures on their way to a style under the student's own losses, as in style transfer by optimisation.

    What a student gets wrong is found by whoever optimises against it: on these pictures, and not on photos, its
    losses are used. So it learns from the teacher on them, at all stages between a photo and a finished result.
    """

    def __init__(self, draw: Callable[[], Tensor], goal: Goal, count: int, rng: random.Random) -> None:
        self.draw, self.goal, self.rng = draw, goal, rng
        self.runs = [self._begin() for _ in range(count)]

    def visit(self, student: Perceptual, count: int, moves: int) -> list[Run]:
        """``count`` of the runs, after some more moves."""
        for number, run in enumerate(self.runs):
            if run.left <= 0:
                self.runs[number] = self._begin()
        chosen = self.rng.sample(self.runs, count)
        student.requires_grad_(False)
        with torch.no_grad():
            of_content = self.goal.scaled(student(joined(run.content for run in chosen), CONTENT_LAYERS))
            of_style = grams_of(self.goal.scaled(student(joined(run.style for run in chosen), STYLE_LAYERS)))
        for _ in range(moves):
            pictures = joined(run.picture for run in chosen)
            made = self.goal.scaled(student(pictures, [*CONTENT_LAYERS, *STYLE_LAYERS]))
            (transfer_loss(made, of_content, of_style, chosen) + 0.1 * count * smoothness(pictures)).backward()
            for run in chosen:
                run.left -= 1
                run.optimiser.step()
                run.optimiser.zero_grad()
                run.picture.data.clamp_(-1, 1)
        student.requires_grad_(True)
        return chosen

    @torch.no_grad()
    def _begin(self) -> Run:
        content, style = self.draw()[None], self.draw()[None]
        picture = torch.rand_like(content) * 2 - 1 if self.rng.random() < 0.1 else content.clone()
        picture.requires_grad_()
        return Run(
            content=content,
            style=style,
            picture=picture,
            weight=10 ** self.rng.uniform(0, 1.3),
            left=self.rng.randint(20, 200),
            optimiser=torch.optim.Adam([picture], lr=0.03),
            content_layer=self.rng.choice(CONTENT_LAYERS),
            of_content=self.goal.features(content),
        )


def joined(pictures: Iterable[Tensor]) -> Tensor:
    return torch.cat(list(pictures)).contiguous(memory_format=torch.channels_last)


def grams_of(features: Features) -> Features:
    return {layer: gram_matrix(one) for layer, one in features.items()}


def transfer_loss(made: Features, of_content: Features, of_style: Features, runs: list[Run]) -> Tensor:
    """The sum over runs of content at the run's layer and its weight times Gram style."""
    layers = enumerate(run.content_layer for run in runs)
    content = torch.stack([(made[layer][i] - of_content[layer][i]).square().mean() for i, layer in layers])
    style = torch.stack([(gram_matrix(made[k]) - gram).square().mean((1, 2)) for k, gram in of_style.items()]).mean(0)
    return (content + torch.tensor([run.weight for run in runs], device=content.device) * style).sum()


def leading_directions(
    teacher: Perceptual, pictures: list[Tensor], channels: dict[str, int], rng: random.Random
) -> tuple[Features, dict[str, float]]:
    """Per layer the leading directions of the teacher's features, as a 1x1 convolution (kept, C, 1, 1).

    The eigenvectors of the mean Gram matrix of features, to which that of their changes under disturbance is added
    (each with trace 1): the style loss looks at features, the content loss at how they change. And per layer the mean
    square of the projected features.
    """
    energy: dict[str, Tensor] = {}
    with torch.no_grad():
        for picture in pictures:
            pair = torch.stack([picture, disturbed(picture[None], rng)[0]])
            for layer, features in teacher(pair, LAYERS).items():
                change = features[1:] - features[:1]
                both = torch.stack([gram_matrix(features[:1])[0], gram_matrix(change)[0]]).double()
                energy[layer] = energy.get(layer, torch.zeros(())) + both
    found, kept_sizes = {}, {}
    for layer, both in energy.items():
        gram = (both / both.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]).sum(0)
        kept = torch.linalg.eigh(gram)[1][:, -channels[layer] :].flip(1)
        shares = [((kept.T @ one @ kept).trace() / one.trace()).item() for one in both]
        print(
            f"{layer}: {kept.shape[1]} of {len(kept)} directions keep {shares[0]:.3f} of the features' energy, "
            f"{shares[1]:.3f} of their changes'"
        )
        kept_sizes[layer] = shares[0] * len(kept) / kept.shape[1]
        found[layer] = kept.T.float()[:, :, None, None].contiguous()
    return found, kept_sizes


def matching_loss(student: Features, target: Features) -> Tensor:
    """Feature matching and Gram matching, each relative to the target's own size, summed over layers."""
    total = torch.zeros((), device=target[LAYERS[0]].device)
    for layer, goal in target.items():
        total = total + F.mse_loss(student[layer], goal) / goal.square().mean()
        made, wanted = gram_matrix(student[layer]), gram_matrix(goal)
        error = torch.linalg.matrix_norm(made - wanted) / torch.linalg.matrix_norm(wanted)
        total = total + 0.5 * error.mean()
    return total


def change_loss(made: Features, wanted: Features) -> Tensor:
    """How features change from content to result, against how the teacher's do; relative, summed over layers."""
    total = torch.zeros((), device=wanted[LAYERS[0]].device)
    for layer, goal in wanted.items():
        error = (made[layer] - goal).square().mean((1, 2, 3))
        total = total + (error / (goal.square().mean((1, 2, 3)) + 0.02)).mean()
    return total


def distance_loss(made: Features, wanted: Features, sizes: dict[str, float]) -> Tensor:
    """How much features change, against how much all of the teacher's do: at each position, and in all.

    A student that cannot tell in which direction a feature changes should still say how far, and regression makes it
    say too little: then the content loss is blind to what it should forbid. sizes: the student's mean squares.
    """
    total = torch.zeros((), device=wanted[LAYERS[0]].device)
    for layer, goal in wanted.items():
        mine, theirs = made[layer].square().mean(1) / sizes[layer], goal.square().mean(1)
        error = ((mine + 1e-4).sqrt() - (theirs + 1e-4).sqrt()).square().mean((1, 2))
        total = total + (error / (theirs.mean((1, 2)) + 0.02)).mean()
        ratio = (mine.mean((1, 2)) + 0.005) / (theirs.mean((1, 2)) + 0.005)
        total = total + 0.5 * ratio.log().square().mean()
    return total


def sizes(network: Perceptual, pictures: list[Tensor]) -> dict[str, tuple[float, float]]:
    """{layer: (root mean square, mean) of the features} over pictures (3, H, W)."""
    found = {layer: [0.0, 0.0] for layer in LAYERS}
    with torch.no_grad():
        for picture in pictures:
            for layer, features in network(picture[None], LAYERS).items():
                found[layer][0] += features.square().mean().item() / len(pictures)
                found[layer][1] += features.mean().item() / len(pictures)
    return {layer: (square**0.5, mean) for layer, (square, mean) in found.items()}


def gradient_cosines(teacher: Perceptual, student: Perceptual, pictures: list[Tensor], pairs: int) -> dict[str, float]:
    """Mean cosine of the two networks' gradients to the input, of content and of Gram style, on pairs of crops."""
    rng = random.Random(1)
    crops = [random_crop(picture, 128, rng)[None] for picture in pictures]
    cosines: dict[str, list[float]] = {"content": [], "style": []}
    for _ in range(pairs):
        a, b = (crop.clone().requires_grad_() for crop in rng.sample(crops, 2))
        found = [(network(a, LAYERS), network(b, LAYERS)) for network in (teacher, student)]
        content = [F.mse_loss(of_a["relu3_2"], of_b["relu3_2"]) for of_a, of_b in found]
        style = [
            torch.stack([F.mse_loss(gram_matrix(of_a[k]), gram_matrix(of_b[k])) for k in STYLE_LAYERS]).sum()
            for of_a, of_b in found
        ]
        for kind, losses in (("content", content), ("style", style)):
            one, two = (torch.autograd.grad(loss, a, retain_graph=True)[0].flatten() for loss in losses)
            cosines[kind].append(F.cosine_similarity(one, two, 0).item())
    return {f"{kind} gradient cosine": sum(found) / len(found) for kind, found in cosines.items()}


def train(
    student: Perceptual,
    goal: Goal,
    training: list[Tensor],
    rng: random.Random,
    arguments: argparse.Namespace,
) -> None:
    """Adam on crops, and after a tenth of the steps on pursued pictures too; the learning rate falls to 0."""
    optimiser = torch.optim.Adam(student.parameters(), betas=(0.9, 0.99))
    pursuit = Pursuit(
        lambda: random_crop(rng.choice(training), arguments.size, rng).to(arguments.device), goal, 24, rng
    )
    begin, shown = time.monotonic(), dict.fromkeys(("matching", "change", "distance"), 0.0)
    for step in range(1, arguments.steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = arguments.rate * min(1.0, step / 100) * (1 - (step - 1) / arguments.steps)
        crops = torch.stack([random_crop(p, arguments.size, rng) for p in rng.choices(training, k=arguments.batch)])
        beginner = arguments.start is None and step <= arguments.steps // 10
        crops = disturbed(crops, rng).to(arguments.device, memory_format=torch.channels_last)
        losses = losses_of(student, goal, crops, None if beginner else pursuit)
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        shown |= {name: 0.98 * shown[name] + 0.02 * loss.item() for name, loss in losses.items()}
        if step % 50 == 0:
            words = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
            print(f"step {step}  {words}  {time.monotonic() - begin:.0f} s", flush=True)


def losses_of(student: Perceptual, goal: Goal, crops: Tensor, pursuit: Pursuit | None) -> Features:
    """One step's losses by name, on crops and as many pursued pictures, in one pass of each network."""
    runs = pursuit.visit(student, len(crops), moves=16) if pursuit else []
    pictures = joined([crops, *(run.picture.detach() for run in runs)])
    wanted = goal.features(pictures)
    made = student(joined([pictures, *(run.content for run in runs)]), LAYERS)
    matching = matching_loss({k: f[: len(pictures)] for k, f in made.items()}, goal.projected(wanted))
    if not runs:
        return {"matching": matching}
    change = {k: f[len(crops) : len(pictures)] - f[len(pictures) :] for k, f in made.items()}
    wanted_change = {k: f[len(crops) :] - torch.cat([run.of_content[k] for run in runs]) for k, f in wanted.items()}
    return {
        "matching": matching,
        "change": 0.5 * change_loss(change, goal.projected(wanted_change)),
        "distance": 2.0 * distance_loss(change, wanted_change, goal.sizes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="VGG-19 weights, torchvision's names")
    parser.add_argument("--pictures", type=Path, nargs="+", required=True, help="folders of photos and paintings")
    parser.add_argument("--output", type=Path, default=Path("gan_style/assets/perceptual/compact.safetensors"))
    parser.add_argument("--start", type=Path, help="weights to begin with, instead of random ones")
    parser.add_argument("--steps", type=int, default=4500, help="about 1 s each on 2 cores")
    parser.add_argument("--rate", type=float, default=2e-3, help="Adam's, at the beginning")
    parser.add_argument("--batch", type=int, default=6, help="crops, and as many pursued pictures")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rng = random.Random(0)

    training, held_out = load_pictures(arguments.pictures, 256)
    print(f"{len(training)} pictures to train on, {len(held_out)} held out")
    teacher = vgg19(layers=LAYERS, weights=str(arguments.teacher)).to(memory_format=torch.channels_last)
    sample = [random_crop(picture, 192, rng) for picture in rng.sample(training, min(48, len(training)))]
    of_teacher = sizes(teacher, sample)
    teacher.scales = {layer: square for layer, (square, _) in of_teacher.items()}
    channels = {f"relu{name}": count for name, _, count in COMPACT.convolutions()}
    student = compact(layers=LAYERS, weights=str(arguments.start or "random")).to(memory_format=torch.channels_last)
    for convolution in student.features.values() if arguments.start is None else ():
        assert isinstance(convolution, nn.Conv2d)
        nn.init.kaiming_normal_(convolution.weight)
    project, sizes_kept = leading_directions(teacher, sample, channels, rng)
    student.form_factors = torch.tensor([square / mean for square, mean in of_teacher.values()])
    student.to(arguments.device).requires_grad_(True)
    teacher.to(arguments.device)
    project = {layer: p.to(arguments.device) for layer, p in project.items()}

    train(student, Goal(teacher, project, sizes_kept), training, rng, arguments)

    student.to("cpu").requires_grad_(False)
    report = gradient_cosines(teacher.to("cpu"), student, held_out, pairs=40)
    print(json.dumps(report, indent=2))
    metadata = {"source": "distilled from VGG-19 (Simonyan and Zisserman, CC BY 4.0)", "measures": json.dumps(report)}
    weights = {key: tensor.contiguous() for key, tensor in student.state_dict().items()}
    save_file(weights, arguments.output, metadata=metadata)
    print(f"wrote {arguments.output} ({arguments.output.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()
