#!/usr/bin/env python3
"""Distil ``compact`` from VGG-19: each layer of the student gives VGG-19's own features in fewer dimensions.

For each relu layer the teacher's features f (C channels, scaled to a root mean square of 1) are projected on their
leading directions, g = P^T f with orthonormal columns P. Distances between features, and between Gram matrices, are
(nearly) kept by such a projection; and a student that predicts g gives nearly the teacher's losses and, what counts,
nearly their gradients. The student is a VGG of about a quarter of the width with a linear 1x1 head at each layer.

It learns in rounds. Each adds to a bank of crops (distill_bank.py): disturbed crops at first, then pictures and results
of generators on their way to a style under the losses of the student as it is now, and of the teacher
(distill_pursuits.py), among them whole runs of ``gan-style train``. From the bank it learns by feature matching and
Gram matching, and how features change from crop to result: in which direction, how far at each position, and how far in
all, which is what a content loss says; and in which direction that loss pushes the result's pixels.

Every sixth picture of each folder is held out; tools/check_perceptual.py measures on those. At the end the gradients'
cosine similarity with VGG-19's is printed, and the weights are written as safetensors.

The file that ships went through 4900 steps of an earlier form of this loop, which looked at less (commit e24503e); then
through 8000 of a script with the losses of this one, on crops that were mostly scaled down: 2000 at a rate of 2e-3 on
3000 crops, 3000 results of disturbance and 3024 of pursuits (9 generators and 10 sets of pictures under compact, 6
generators under VGG-19), and 6000 at 1.6e-3 with 2400 more (11 generators and 10 sets, under what the first had made of
compact), an hour and a quarter on 2 cores; then through --start ... --seed 1 --rounds 2 --steps 9600 --crops 2600
--pursuits 7 --rate 1.5e-3, an hour and a half beside other work, all of these with Adam; then, with Muon, through
--start ... --bank BANK --seed 3 --rounds 4 --steps 8400 --crops 1300 --pursuits 0 --runs 0 --rate 2e-3, an hour, where
BANK held 1548 results of runs (7 under compact, one of them stopped early, and 1 under VGG-19) and 1500 of the pursuits
before; and then, with gradients, through --start ... --bank BANK --seed 6 --rounds 2 --crops 1300 --pursuits 0 --runs 2
--rate 2e-3 --precision bfloat16 for 5200 steps, 3500 of them in the first round, 40 minutes beside the two runs, where
BANK held 1728 results of runs (7 under compact, 2 under VGG-19 in bfloat16) and 1056 of other pursuits (3 generators
and 4 sets under compact, 2 generators under VGG-19); in the first 1100 steps amounts were squared at any size; and at
last through 3000 steps of --start ... --bank BANK --seed 20 --rate 1.5e-3 --steps 9000 (no further, so that the rate
was still at two thirds), with 1344 results of runs more (6 under compact, 1 under VGG-19) in BANK, and 5500 of --start
... --bank BANK --seed 21 --rounds 1 --steps 5500 --rate 1.2e-3, half of whose crops have other colours, with 2688 more
(of 6 runs under compact as it was after those 3000) and every other one of the first 1728 left out: 45 minutes, both
with --crops 1300 --pursuits 0 --precision bfloat16.

    python tools/distill_perceptual.py --teacher vgg19_relu3_4.safetensors --pictures FOLDER [FOLDER ...]
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import torch
from check_perceptual import held_out
from distill_bank import CONTENT_LAYER, Bank, Goal, content_gradients, seen
from distill_pursuits import (
    LAYERS,
    STYLE_LAYERS,
    Features,
    Ground,
    Task,
    pursue,
    pursue_generator,
    pursue_pictures,
    pursue_run,
)
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.functional import gram_matrix
from gan_style.images.decode import decode, to_float
from gan_style.images.formats import list_pictures
from gan_style.models.perceptual import COMPACT, Perceptual, compact, vgg19

# How much each layer counts: deep ones, which content is read from, are the harder ones.
SHARES = {layer: {"relu1": 0.5, "relu2": 0.7}.get(layer[:5], 1.0) for layer in LAYERS} | {"relu3_2": 2.0}


def divided(folder: Path) -> tuple[list[Path], list[Path]]:
    """(to train on, held out): as tools/check_perceptual.py divides its pictures."""
    paths = list_pictures(folder)
    kept = held_out(paths)
    return [path for path in paths if path not in kept], kept


def recoloured(picture: Tensor, rng: random.Random) -> Tensor:
    """Every other time in colours that no photo here has: channels exchanged and mixed, contrast and light changed."""
    if rng.random() < 0.5:
        return picture
    mixture = torch.tensor([[rng.gauss(0, 0.25) for _ in range(3)] for _ in range(3)])
    mixture += torch.eye(3)[rng.sample(range(3), 3)]
    mixture /= mixture.sum(1, keepdim=True).clamp_min(0.3)
    contrast, light = rng.uniform(0.6, 1.4), rng.uniform(-0.25, 0.25)
    return (contrast * torch.einsum("ij,jhw->ihw", mixture, picture) + light).clamp(-1, 1)


def random_crop(picture: Tensor, side: int, size: int, rng: random.Random) -> Tensor:
    """A square of that side out of a picture, scaled to ``size``: float in [-1, 1], (3, size, size)."""
    top, left = (rng.randint(0, length - side) for length in picture.shape[1:])
    crop = to_float(picture[None, :, top : top + side, left : left + side])
    crop = F.interpolate(crop, (size, size), mode="bilinear", antialias=True)[0]
    return crop.flip(-1) if rng.random() < 0.5 else crop


def side_at_most(picture: Tensor, size: int, rng: random.Random) -> int:
    """From ``size``, the picture as it is, to its short side, all of it: mostly scaled down."""
    return rng.randint(size, min(picture.shape[1:]))


def side_around(picture: Tensor, size: int, rng: random.Random) -> int:
    """From enlarged 1.5 times to the whole short side, each doubling as likely as the next.

    Pictures are optimised, and generators trained, as large as they are: there the student has to be as good.
    """
    return round(size / 1.5 * (1.5 * min(picture.shape[1:]) / size) ** rng.random())


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


@torch.no_grad()
def turned(project: Features, teacher: Perceptual, student: Perceptual, pictures: list[Tensor]) -> Features:
    """The same directions in the basis that a student was taught in before, as nearly as a rotation brings them.

    Eigenvectors come with any sign, and those of nearly the same eigenvalue in any mixture, by machine and version;
    the losses are the same in every basis, what a student has learned is not (orthogonal Procrustes problem).
    """
    products: Features = {}
    for picture in pictures:
        theirs, mine = teacher(picture[None], LAYERS), student(picture[None], LAYERS)
        for layer, kept in project.items():
            both = mine[layer][0].flatten(1), F.conv2d(theirs[layer], kept)[0].flatten(1)
            products[layer] = products.get(layer, torch.zeros(())) + both[0] @ both[1].T
    found = {}
    for layer, product in products.items():
        left, _, right = torch.linalg.svd(product.double())
        found[layer] = torch.einsum("ij,jk...->ik...", (left @ right).float(), project[layer]).contiguous()
    return found


def matching_loss(student: Features, target: Features) -> Tensor:
    """Feature matching and Gram matching, each relative to the target's own size, over layers."""
    total = torch.zeros((), device=target[LAYERS[0]].device)
    for layer, goal in target.items():
        made, wanted = gram_matrix(student[layer]), gram_matrix(goal)
        grams = (torch.linalg.matrix_norm(made - wanted) / torch.linalg.matrix_norm(wanted)).mean()
        total = total + SHARES[layer] * (F.mse_loss(student[layer], goal) / goal.square().mean() + 0.5 * grams)
    return total


def change_loss(made: Features, wanted: Features) -> Tensor:
    """How features change from content to result, against how the teacher's do; relative, over layers."""
    total = torch.zeros((), device=wanted[LAYERS[0]].device)
    for layer, goal in wanted.items():
        error = (made[layer] - goal).square().mean((1, 2, 3))
        total = total + SHARES[layer] * (error / (goal.square().mean((1, 2, 3)) + 0.02)).mean()
    return total


def distance_loss(made: Features, changes: Features, sizes: dict[str, float]) -> Tensor:
    """How much features change, against how much all of the teacher's do: at each position, and in all.

    A student that cannot tell in which direction a feature changes should still say how far, and regression makes it
    say too little: then the content loss is blind to what it should forbid. In all, squared up to 5 % only: pictures
    whose pixels were optimised against the student are ten times as wrong as results of generators, and would be all
    that counts. sizes: the student's mean squares.
    """
    total = torch.zeros((), device=changes[LAYERS[0]].device)
    for layer, theirs in changes.items():
        mine = made[layer].square().mean(1) / sizes[layer]
        error = ((mine + 1e-4).sqrt() - (theirs + 1e-4).sqrt()).square().mean((1, 2))
        amount = ((mine.mean((1, 2)) + 0.005) / (theirs.mean((1, 2)) + 0.005)).log()
        here = (error / (theirs.mean((1, 2)) + 0.02)).mean()
        in_all = F.smooth_l1_loss(amount, torch.zeros_like(amount), beta=0.05)
        total = total + SHARES[layer] * (2 * here + 5 * in_all)
    return total


def gradient_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """1 - cosine of content gradients (N, 3, S, S), of pixels and of means over 2 x 2 and 4 x 4 of them.

    Whoever optimises under the student goes where its gradient points: where the teacher's would not have led, the two
    content losses part.
    """
    scales = [(F.avg_pool2d(made, side).flatten(1), F.avg_pool2d(wanted, side).flatten(1)) for side in (1, 2, 4)]
    return 1 - torch.stack([F.cosine_similarity(one, other).mean() for one, other in scales]).mean()


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
    crops = [random_crop(picture, side_at_most(picture, 128, rng), 128, rng)[None] for picture in pictures]
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


def losses_of(student: Perceptual, bank: Bank, count: int, rng: random.Random) -> Features:
    """One step's losses by name, on some of the bank's results and their crops."""
    lesson = bank.lesson(count, rng)
    results, crops = lesson.pictures.split(count)
    results.requires_grad_()
    with bank.goal.passes(bank.device):
        found = [seen(student(pictures, LAYERS)) for pictures in (results, crops)]
    of_results, of_crops = ({layer: one.float() for layer, one in features.items()} for features in found)
    made = {layer: torch.cat([of_results[layer], of_crops[layer]]) for layer in LAYERS}
    change = {layer: of_results[layer] - of_crops[layer] for layer in LAYERS}
    wanted_change = {layer: one[:count] - one[count:] for layer, one in lesson.wanted.items()}
    pushed = content_gradients(change[CONTENT_LAYER], results, keep_graph=True)
    return {
        "matching": matching_loss(made, lesson.wanted),
        "change": 0.5 * change_loss(change, wanted_change),
        "distance": distance_loss(change, lesson.changes, bank.goal.sizes),
        "gradient": 2 * gradient_loss(pushed, lesson.gradients),
    }


def first_bank(training: list[Tensor], goal: Goal, arguments: argparse.Namespace, rng: random.Random) -> Bank:
    """Crops, of which half is disturbed, and what ``--bank`` holds."""
    chosen, size = rng.choices(training, k=arguments.crops), arguments.size
    crops = torch.stack([recoloured(random_crop(p, side_around(p, size, rng), size, rng), rng) for p in chosen])
    half = list(range(0, len(crops), 2))
    results, parents = [*disturbed(crops[half], rng)], half
    if arguments.bank is not None and arguments.bank.exists():
        before = torch.load(arguments.bank, weights_only=True)
        results += [*before["results"]]
        parents += (before["parents"] + len(crops)).tolist()
        crops = torch.cat([crops, before["crops"].float()])
    bank = Bank(crops, goal, arguments.device)
    bank.add(results, parents)
    return bank


def as_matrix(weight: Tensor) -> Tensor:
    """(out, kh * kw * in) of a convolution's weight (out, in, kh, kw) in channels_last: the same memory."""
    return weight.permute(0, 2, 3, 1).view(len(weight), -1)


class Distillation:
    """Muon on the bank, Adam for biases; the learning rate rises over 200 steps and falls to 0 with the last one."""

    def __init__(self, student: Perceptual, bank: Bank, arguments: argparse.Namespace) -> None:
        self.student, self.bank, self.arguments = student, bank, arguments
        self.flat, biases = {}, []
        for parameter in student.parameters():
            if parameter.ndim == 4:
                self.flat[parameter] = nn.Parameter(as_matrix(parameter.data))
            else:
                biases.append(parameter)
        self.optimisers = (
            torch.optim.Muon(self.flat.values(), weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
            torch.optim.Adam(biases, betas=(0.9, 0.99)),
        )
        self.rng, self.step, self.begin = random.Random(arguments.seed), 0, time.monotonic()
        self.shown = dict.fromkeys(("matching", "change", "distance", "gradient"), 0.0)

    def go_on(self, steps: int) -> None:
        self.student.requires_grad_(True)
        for _ in range(steps):
            rate = self.arguments.rate * min(1.0, (self.step + 1) / 200) * (1 - self.step / self.arguments.steps)
            losses = losses_of(self.student, self.bank, self.arguments.batch, self.rng)
            self.student.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            for parameter, matrix in self.flat.items():
                assert parameter.grad is not None
                matrix.grad = as_matrix(parameter.grad.contiguous(memory_format=torch.channels_last))
            for optimiser in self.optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = rate
                optimiser.step()
            self.step += 1
            self.shown |= {name: 0.98 * self.shown[name] + 0.02 * loss.item() for name, loss in losses.items()}
            if self.step % 100 == 0:
                words = "  ".join(f"{name} {value:.4f}" for name, value in self.shown.items())
                print(f"step {self.step}  {words}  {time.monotonic() - self.begin:.0f} s", flush=True)
        self.student.requires_grad_(False)


def tasks_of(number: int, first_round: int, arguments: argparse.Namespace) -> list[Task]:
    """The pursuits of a round, from the first that has any; the teacher's once: they do not change with the student."""
    if number < first_round:
        return []
    kinds = [("compact", kind) for kind in (pursue_generator, pursue_pictures) for _ in range(2 * arguments.pursuits)]
    kinds += [("compact", pursue_run)] * arguments.runs
    if number == first_round:
        kinds += [("vgg19", pursue_generator)] * arguments.pursuits + [("vgg19", pursue_run)] * (arguments.runs // 3)
    first = 1000 * (100 * arguments.seed + number)
    return [Task(network, kind, seed) for seed, (network, kind) in enumerate(reversed(kinds), start=first)]


def save(student: Perceptual, path: Path, metadata: dict[str, str] | None = None) -> None:
    weights = {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in student.state_dict().items()}
    save_file(weights, path, metadata=metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="VGG-19 weights, torchvision's names")
    parser.add_argument("--pictures", type=Path, nargs="+", required=True, help="folders of photos and paintings")
    parser.add_argument("--output", type=Path, default=Path("gan_style/assets/perceptual/compact.safetensors"))
    parser.add_argument("--start", type=Path, help="weights to begin with, instead of random ones")
    parser.add_argument("--steps", type=int, default=9000, help="of all rounds; half a second each on 2 cores")
    parser.add_argument("--rounds", type=int, default=3, help="the bank grows at the beginning of each")
    parser.add_argument("--crops", type=int, default=3000, help="of the bank, of which half is disturbed, too")
    pursuits = "generators under VGG-19; in each round twice as many, and sets of eight pictures, under compact"
    parser.add_argument("--pursuits", type=int, default=5, help=pursuits)
    runs = "runs of gan-style train under compact in each round, and once a third as many under VGG-19; 4 and 9 minutes"
    parser.add_argument("--runs", type=int, default=6, help=runs)
    kept = "a file of crops and results: what is there is learned from, too, and what is found is added"
    parser.add_argument("--bank", type=Path, help=kept)
    precision = "of the passes; bfloat16 takes half the time on processors that compute in it"
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help=precision)
    parser.add_argument("--rate", type=float, default=2e-3, help="at the beginning")
    parser.add_argument("--batch", type=int, default=12, help="results, and as many crops")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0, help="of crops and pursuits: another for each --start")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2, help="for the pursuits")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rng = random.Random(0)

    folders = [divided(folder) for folder in arguments.pictures]
    training, unseen = (
        [decode(path, short_side=256) for found in which for path in found] for which in zip(*folders, strict=True)
    )
    print(f"{len(training)} pictures to train on, {len(unseen)} held out")
    teacher = vgg19(layers=LAYERS, weights=str(arguments.teacher)).to(memory_format=torch.channels_last)
    sample = [
        random_crop(picture, side_at_most(picture, 192, rng), 192, rng)
        for picture in rng.sample(training, min(48, len(training)))
    ]
    of_teacher = sizes(teacher, sample)
    teacher.scales = {layer: square for layer, (square, _) in of_teacher.items()}
    channels = {f"relu{name}": count for name, _, count in COMPACT.convolutions()}
    student = compact(layers=LAYERS, weights=str(arguments.start or "random")).to(memory_format=torch.channels_last)
    for convolution in student.features.values() if arguments.start is None else ():
        assert isinstance(convolution, nn.Conv2d)
        nn.init.kaiming_normal_(convolution.weight)
    project, sizes_kept = leading_directions(teacher, sample, channels, rng)
    if arguments.start is not None:
        project = turned(project, teacher, student, sample)
    student.form_factors = torch.tensor([square / mean for square, mean in of_teacher.values()])
    student.to(arguments.device)
    teacher.to(arguments.device)
    project = {layer: p.to(arguments.device) for layer, p in project.items()}

    torch.manual_seed(arguments.seed)
    rng = random.Random(arguments.seed)
    # a student that knows nothing yet is not worth pursuing, and where a bank has results these come first
    first_round = 0 if arguments.start and not (arguments.bank and arguments.bank.exists()) else 1
    bank = first_bank(training, Goal(teacher, project, sizes_kept, getattr(torch, arguments.precision)), arguments, rng)
    distillation = Distillation(student, bank, arguments)
    for number in range(arguments.rounds):
        tasks = tasks_of(number, first_round, arguments)
        if tasks:
            with tempfile.TemporaryDirectory() as folder:
                weights = {"vgg19": arguments.teacher, "compact": Path(folder) / "student.safetensors"}
                save(student, weights["compact"])
                torch.save(bank.crops, Path(folder) / "crops.pt")
                of_folders = [paths for paths, _ in folders]
                ground = Ground(Path(folder) / "crops.pt", weights, of_folders, arguments.device)
                found = pursue(tasks, ground, arguments.processes)
            bank.add(found.results, found.parents)
            if arguments.bank is not None:
                bank.save(arguments.bank)
        print(f"round {number + 1}: {len(bank.results)} results of {len(bank.crops)} crops", flush=True)
        distillation.go_on(arguments.steps // arguments.rounds)
        save(student, arguments.output)

    report = gradient_cosines(teacher.to("cpu"), student.to("cpu"), unseen, pairs=40)
    print(json.dumps(report, indent=2))
    source = "distilled from VGG-19 (Simonyan and Zisserman, CC BY 4.0)"
    save(student, arguments.output, {"source": source, "measures": json.dumps(report)})
    print(f"wrote {arguments.output} ({arguments.output.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()
