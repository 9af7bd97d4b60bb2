#!/usr/bin/env python3
"""Distil ``compact`` from VGG-19: each layer of the student gives VGG-19's own features in fewer dimensions.

For each relu layer the teacher's features f (C channels, scaled to a root mean square of 1) are projected on their
leading directions, g = P^T f with orthonormal columns P. Distances between features, and between Gram matrices, are
(nearly) kept by such a projection; and a student that predicts g gives nearly the teacher's losses and, what counts,
nearly their gradients. The student is a VGG of about a quarter of the width with a linear 1x1 head at each layer.

It learns in rounds. Each adds to a replay buffer (replay.py): perturbed crops at first, then on-policy samples
(on_policy.py): pictures and generators on their way to a style under the losses of the student as it is now, and of the
teacher, among them whole runs of ``gan-style train``. From the buffer the student learns by feature matching and Gram
matching, and how features change from crop to result: in which direction, how far at each position, and how far in all,
which is the content loss; and the direction of that loss's gradient to the result's pixels.

--blocks 4 learns the fourth block alone, and leaves the others as --start has them.

Every sixth picture of each folder is held out; tools/check_perceptual.py measures on those. The weights are written as
safetensors in float16, every 100 steps.

    python tools/distill/distill.py --teacher vgg19_relu5_4.safetensors --pictures FOLDER [FOLDER ...]
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

import torch
from on_policy import (
    Context,
    SamplingTask,
    collect_samples,
    sample_generator_training,
    sample_optimised_pictures,
    sample_shipped_style,
    sample_training_run,
)
from replay import Features, ReplayBuffer, Target, content_gradients, subsample
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.functional import gram_matrix
from gan_style.images.decode import decode, to_float
from gan_style.images.formats import list_pictures
from gan_style.models.perceptual import COMPACT, Perceptual, Vgg, compact, vgg19

BLOCKS = range(1, len(COMPACT.blocks) + 1)
# Weight of each layer in the losses: deep ones, which content is read from, are the harder ones.
LAYER_WEIGHTS = {layer: {"relu1": 0.5, "relu2": 0.7}.get(layer[:5], 1.0) for layer in COMPACT.layers()}
LAYER_WEIGHTS |= {"relu3_2": 2.0, "relu4_2": 2.0}


def split(folder: Path, excluded: set[str]) -> tuple[list[Path], list[Path]]:
    """Return (pictures to train on, held-out ones): every sixth is held out, as tools/check_perceptual.py measures on
    those; excluded: names never trained on."""
    paths = list_pictures(folder)
    held_out = paths[5::6]
    return [path for path in paths if path not in held_out and path.name not in excluded], held_out


def recoloured(picture: Tensor, rng: random.Random) -> Tensor:
    """Change the colours of every other picture: channels permuted and mixed, contrast and lightness changed."""
    if rng.random() < 0.5:
        return picture
    mixture = torch.tensor([[rng.gauss(0, 0.25) for _ in range(3)] for _ in range(3)])
    mixture += torch.eye(3)[rng.sample(range(3), 3)]
    mixture /= mixture.sum(1, keepdim=True).clamp_min(0.3)
    contrast, light = rng.uniform(0.6, 1.4), rng.uniform(-0.25, 0.25)
    return (contrast * torch.einsum("ij,jhw->ihw", mixture, picture) + light).clamp(-1, 1)


def random_crop(picture: Tensor, side: int, size: int, rng: random.Random) -> Tensor:
    """Cut a square of that side out of a picture and scale it to (3, size, size), float in [-1, 1]."""
    top, left = (rng.randint(0, length - side) for length in picture.shape[1:])
    crop = to_float(picture[None, :, top : top + side, left : left + side])
    crop = F.interpolate(crop, (size, size), mode="bilinear", antialias=True)[0]
    return crop.flip(-1) if rng.random() < 0.5 else crop


def side_at_most(picture: Tensor, size: int, rng: random.Random) -> int:
    """Draw a side from ``size`` (the picture's own scale) to its short side: mostly scaled down."""
    return rng.randint(size, min(picture.shape[1:]))


def side_around(picture: Tensor, size: int, rng: random.Random) -> int:
    """Draw a side from ``size`` / 1.5 (enlarged) to the whole short side, each doubling as likely as the next.

    Pictures are optimised, and generators trained, as large as they are: there the student has to be as good.
    """
    return round(size / 1.5 * (1.5 * min(picture.shape[1:]) / size) ** rng.random())


def perturbed(batch: Tensor, rng: random.Random) -> Tensor:
    """Imitate what a generator makes on its way: noise, mixtures, wrong colours, lost detail."""
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
def leading_directions(
    teacher: Perceptual, pictures: list[Tensor], channels: dict[str, int], rng: random.Random
) -> tuple[Features, dict[str, float]]:
    """Return the leading directions of the teacher's features per layer, as 1x1 convolutions (kept, C, 1, 1).

    The eigenvectors of the mean Gram matrix of features, to which that of their changes under perturbation is added
    (each with trace 1): the style loss looks at features, the content loss at how they change. And per layer the mean
    square of the projected features.
    """
    energy: dict[str, Tensor] = {}
    for picture in pictures:
        pair = torch.stack([picture, perturbed(picture[None], rng)[0]])
        for layer, features in teacher(pair, teacher.layers).items():
            change = features[1:] - features[:1]
            both = torch.stack([gram_matrix(features[:1])[0], gram_matrix(change)[0]]).double()
            energy[layer] = energy.get(layer, torch.zeros(())) + both
    projections, mean_squares = {}, {}
    for layer, both in energy.items():
        gram = (both / both.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]).sum(0)
        kept = torch.linalg.eigh(gram)[1][:, -channels[layer] :].flip(1)
        shares = [((kept.T @ one @ kept).trace() / one.trace()).item() for one in both]
        print(
            f"{layer}: {kept.shape[1]} of {len(kept)} directions keep {shares[0]:.3f} of the features' energy, "
            f"{shares[1]:.3f} of their changes'"
        )
        mean_squares[layer] = shares[0] * len(kept) / kept.shape[1]
        projections[layer] = kept.T.float()[:, :, None, None].contiguous()
    return projections, mean_squares


@torch.no_grad()
def rotated(projections: Features, teacher: Perceptual, student: Perceptual, pictures: list[Tensor]) -> Features:
    """Rotate the directions of each layer into the basis that the student has learned (orthogonal Procrustes problem).

    Eigenvectors come with any sign, and those of nearly the same eigenvalue in any mixture, by machine and version;
    the losses are the same in every basis, the student's weights are not.
    """
    products: Features = {}
    for picture in pictures:
        of_teacher, of_student = (network(picture[None], list(projections)) for network in (teacher, student))
        for layer, kept in projections.items():
            projected = F.conv2d(of_teacher[layer], kept)[0].flatten(1)
            products[layer] = products.get(layer, torch.zeros(())) + of_student[layer][0].flatten(1) @ projected.T
    result = {}
    for layer, product in products.items():
        left, _, right = torch.linalg.svd(product.double())
        result[layer] = torch.einsum("ij,jk...->ik...", (left @ right).float(), projections[layer]).contiguous()
    return result


def matching_loss(student: Features, target: Features) -> Tensor:
    """Feature matching and Gram matching, each relative to the target's own size, over layers."""
    losses = []
    for layer, wanted in target.items():
        of_student, of_target = gram_matrix(student[layer]), gram_matrix(wanted)
        grams = (torch.linalg.matrix_norm(of_student - of_target) / torch.linalg.matrix_norm(of_target)).mean()
        features = F.mse_loss(student[layer], wanted) / wanted.square().mean()
        losses.append(LAYER_WEIGHTS[layer] * (features + 0.5 * grams))
    return torch.stack(losses).sum()


def change_loss(student: Features, target: Features) -> Tensor:
    """How features change from content to result, against how the teacher's do; relative, over layers."""
    losses = []
    for layer, wanted in target.items():
        error = (student[layer] - wanted).square().mean((1, 2, 3))
        losses.append(LAYER_WEIGHTS[layer] * (error / (wanted.square().mean((1, 2, 3)) + 0.02)).mean())
    return torch.stack(losses).sum()


def distance_loss(student: Features, changes: Features, mean_squares: dict[str, float]) -> Tensor:
    """How much features change, against how much all of the teacher's do: at each position, and in all.

    A student that cannot tell in which direction a feature changes should still say how far, and regression makes it
    say too little: then the content loss is blind to what it should forbid. In all, squared up to 5 % only: pictures
    whose pixels were optimised against the student are ten times as wrong as results of generators, and would dominate.
    mean_squares: the student's.
    """
    losses = []
    for layer, of_teacher in changes.items():
        of_student = student[layer].square().mean(1) / mean_squares[layer]
        error = ((of_student + 1e-4).sqrt() - (of_teacher + 1e-4).sqrt()).square().mean((1, 2))
        local = (error / (of_teacher.mean((1, 2)) + 0.02)).mean()
        log_ratio = ((of_student.mean((1, 2)) + 0.005) / (of_teacher.mean((1, 2)) + 0.005)).log()
        total = F.smooth_l1_loss(log_ratio, torch.zeros_like(log_ratio), beta=0.05)
        losses.append(LAYER_WEIGHTS[layer] * (2 * local + 5 * total))
    return torch.stack(losses).sum()


def gradient_loss(student: Tensor, target: Tensor) -> Tensor:
    """1 - cosine of content gradients (N, 3, S, S), of pixels and of means over 2 x 2 and 4 x 4 of them.

    An optimiser goes where the student's gradient points: where the teacher's would not have led, the two losses part.
    """
    pooled = [(F.avg_pool2d(student, side).flatten(1), F.avg_pool2d(target, side).flatten(1)) for side in (1, 2, 4)]
    return 1 - torch.stack([F.cosine_similarity(one, other).mean() for one, other in pooled]).mean()


def losses_of(student: Perceptual, buffer: ReplayBuffer, count: int, rng: random.Random) -> Features:
    """Return one step's losses by name, on ``count`` of the buffer's results and their crops."""
    target = buffer.target
    batch = buffer.sample(count, rng)
    results, crops = batch.pictures.split(count)
    results.requires_grad_()
    with target.autocast(buffer.device):
        of_results, of_crops = (subsample(student(pictures, target.layers)) for pictures in (results, crops))

    # features and their changes, of the student and of the teacher
    features = {layer: torch.cat([of_results[layer].float(), of_crops[layer].float()]) for layer in target.layers}
    change, wanted_change = (
        {layer: one[:count] - one[count:] for layer, one in both.items()} for both in (features, batch.features)
    )

    # gradients of the content losses, whose own gradient to the weights is wanted
    gradient_losses = [
        gradient_loss(content_gradients(change[layer], results, differentiable=True), wanted)
        for layer, wanted in batch.gradients.items()
    ]
    return {
        "matching": matching_loss(features, batch.features),
        "change": 0.5 * change_loss(change, wanted_change),
        "distance": distance_loss(change, batch.changes, target.mean_squares),
        "gradient": 2 * torch.stack(gradient_losses).mean(),
    }


def first_buffer(
    training: list[Tensor], target: Target, arguments: argparse.Namespace, rng: random.Random
) -> ReplayBuffer:
    """Fill a buffer with crops, half of which are perturbed, too, and with what the file ``--buffer`` holds."""
    chosen, size = rng.choices(training, k=arguments.crops), arguments.size
    crops = torch.stack([recoloured(random_crop(p, side_around(p, size, rng), size, rng), rng) for p in chosen])
    half = list(range(0, len(crops), 2))
    results, parents = [*perturbed(crops[half], rng)], half
    if arguments.buffer is not None and arguments.buffer.exists():
        before = torch.load(arguments.buffer, weights_only=True)
        results += [*before["results"]]
        parents += (before["parents"] + len(crops)).tolist()
        crops = torch.cat([crops, before["crops"].float()])
    buffer = ReplayBuffer(crops, target, arguments.device)
    buffer.add(results, parents)
    return buffer


def parameters_of(student: Perceptual, blocks: list[int]) -> dict[str, nn.Parameter]:
    """Return the weights of these blocks, and of their heads, by name."""
    names = [(name, index) for name, index, _ in COMPACT.convolutions() if int(name[0]) in blocks]
    prefixes = tuple([f"features.{index}." for _, index in names] + [f"heads.{name}." for name, _ in names])
    return {name: parameter for name, parameter in student.named_parameters() if name.startswith(prefixes)}


def as_matrix(weight: Tensor) -> Tensor:
    """View a convolution's weight (out, in, kh, kw) in channels_last as (out, kh * kw * in): the same memory."""
    return weight.permute(0, 2, 3, 1).view(len(weight), -1)


class Distillation:
    """Muon for matrices, Adam for biases; the learning rate rises over 200 steps and falls to 0 with the last one."""

    def __init__(self, student: Perceptual, buffer: ReplayBuffer, arguments: argparse.Namespace) -> None:
        self.student, self.buffer, self.arguments = student, buffer, arguments
        self.parameters = list(parameters_of(student, arguments.blocks).values())
        self.matrices = {one: nn.Parameter(as_matrix(one.data)) for one in self.parameters if one.ndim == 4}
        self.optimisers = (
            torch.optim.Muon(self.matrices.values(), weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
            torch.optim.Adam([one for one in self.parameters if one.ndim == 1], betas=(0.9, 0.99)),
        )
        self.rng, self.step, self.begin = random.Random(arguments.seed), 0, time.monotonic()
        self.averages = dict.fromkeys(("matching", "change", "distance", "gradient"), 0.0)

    def train(self, steps: int) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        for _ in range(steps):
            rate = self.arguments.rate * min(1.0, (self.step + 1) / 200) * (1 - self.step / self.arguments.steps)
            losses = losses_of(self.student, self.buffer, self.arguments.batch, self.rng)
            self.student.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            for parameter, matrix in self.matrices.items():
                assert parameter.grad is not None
                matrix.grad = as_matrix(parameter.grad.contiguous(memory_format=torch.channels_last))
            for optimiser in self.optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = rate
                optimiser.step()
            self.step += 1
            self.averages |= {name: 0.98 * self.averages[name] + 0.02 * loss.item() for name, loss in losses.items()}
            if self.step % 100 == 0:
                words = "  ".join(f"{name} {value:.4f}" for name, value in self.averages.items())
                print(f"step {self.step}  {words}  {time.monotonic() - self.begin:.0f} s", flush=True)
                save(self.student, self.arguments.output)
        self.student.requires_grad_(False)


def tasks_of(number: int, first_round: int, arguments: argparse.Namespace) -> list[SamplingTask]:
    """Return the sampling tasks of a round, from the first that has any; the teacher's once: it does not change."""
    if number < first_round:
        return []
    kinds = [
        ("compact", kind)
        for kind in (sample_generator_training, sample_optimised_pictures)
        for _ in range(2 * arguments.generators)
    ]
    kinds += [("compact", sample_training_run)] * arguments.runs
    if number == first_round:
        kinds += [("vgg19", sample_generator_training)] * arguments.generators
        kinds += [("vgg19", sample_training_run)] * (arguments.runs // 3)
        kinds += [("vgg19", sample_shipped_style)] * arguments.shipped_styles
    first = 1000 * (100 * arguments.seed + number)
    return [SamplingTask(network, kind, seed) for seed, (network, kind) in enumerate(reversed(kinds), start=first)]


def begin_with(student: Vgg, start: dict[str, Tensor]) -> list[str]:
    """Load what the file ``--start`` holds, which may end earlier, and draw the rest; return the layers it holds."""
    for convolution in student.features.values():
        assert isinstance(convolution, nn.Conv2d)
        nn.init.kaiming_normal_(convolution.weight)
    weights = {key: tensor.float() for key, tensor in start.items() if key != "form_factors"}
    student.load_state_dict({**student.state_dict(), **weights})
    known = [layer for layer in COMPACT.layers() if f"heads.{layer.removeprefix('relu')}.weight" in start]
    student.form_factors[: len(known)] = start.get("form_factors", torch.ones(len(known)))[: len(known)]
    return known


def save(student: Perceptual, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write the weights in float16, and the form factors, which are few, as they are."""
    weights = {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in student.state_dict().items()}
    weights = {key: tensor if key == "form_factors" else tensor.half() for key, tensor in weights.items()}
    save_file(weights, path, metadata=metadata)


def mean_sizes(network: Perceptual, pictures: list[Tensor]) -> dict[str, tuple[float, float]]:
    """Return {layer: (root mean square, mean) of the features} over pictures (3, H, W)."""
    totals = {layer: torch.zeros(2) for layer in network.layers}
    with torch.no_grad():
        for picture in pictures:
            for layer, features in network(picture[None], network.layers).items():
                totals[layer] += torch.stack([features.square().mean(), features.mean()]) / len(pictures)
    return {layer: (square.sqrt().item(), mean.item()) for layer, (square, mean) in totals.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="VGG-19 weights, torchvision's names")
    parser.add_argument("--pictures", type=Path, nargs="+", required=True, help="folders of photos and paintings")
    parser.add_argument(
        "--exclude", type=Path, help="a folder: pictures with the names of its files are not trained on"
    )
    parser.add_argument("--output", type=Path, default=Path("gan_style/assets/perceptual/compact.safetensors"))
    parser.add_argument("--start", type=Path, help="weights to begin with, instead of random ones")
    all_blocks = list(BLOCKS)
    parser.add_argument("--blocks", type=int, nargs="+", choices=BLOCKS, default=all_blocks, help="that are learned")
    parser.add_argument("--steps", type=int, default=9000, help="of all rounds; half a second each on 2 cores")
    parser.add_argument("--rounds", type=int, default=3, help="the buffer grows at the beginning of each")
    parser.add_argument("--crops", type=int, default=3000, help="of the buffer, of which half is perturbed, too")
    generators = (
        "trained under VGG-19; in each round twice as many, and sets of eight optimised pictures, under compact"
    )
    parser.add_argument("--generators", type=int, default=5, help=generators)
    runs = "runs of gan-style train under compact in each round, and once a third as many under VGG-19; 4 and 9 minutes"
    parser.add_argument("--runs", type=int, default=6, help=runs)
    parser.add_argument(
        "--shipped-styles", type=int, default=8, help="styles that ship, painted on 96 crops each, once"
    )
    kept = "a file of crops and results: what is there is learned from, too, and what is sampled is added"
    parser.add_argument("--buffer", type=Path, help=kept)
    precision = "of the passes; bfloat16 takes half the time on processors that compute in it"
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help=precision)
    parser.add_argument("--rate", type=float, default=2e-3, help="at the beginning")
    parser.add_argument("--batch", type=int, default=12, help="results, and as many crops")
    parser.add_argument("--size", type=int, default=96, help="of crops, in pixels")
    parser.add_argument("--seed", type=int, default=0, help="of crops and samples: another for each --start")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2, help="for on-policy samples")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rng = random.Random(0)

    # pictures, and the teacher, scaled to features with a root mean square of 1
    excluded = {path.name for path in arguments.exclude.iterdir()} if arguments.exclude else set()
    folders = [split(folder, excluded) for folder in arguments.pictures]
    training = [decode(path, short_side=256) for paths, _ in folders for path in paths]
    print(f"{len(training)} pictures to train on, {sum(len(held_out) for _, held_out in folders)} held out")
    layers = [layer for layer in COMPACT.layers() if int(layer[4]) in arguments.blocks]
    teacher = vgg19(layers=layers, weights=str(arguments.teacher)).to(memory_format=torch.channels_last)
    sample = [
        random_crop(picture, side_at_most(picture, 192, rng), 192, rng)
        for picture in rng.sample(training, min(64, len(training)))
    ]
    sizes = mean_sizes(teacher, sample)
    teacher.scales = {layer: square for layer, (square, _) in sizes.items()}

    # the student, and the directions that it is to predict, in the basis that it knows
    student = compact(layers=COMPACT.layers(), weights="random").to(memory_format=torch.channels_last)
    known = begin_with(student, load_file(arguments.start) if arguments.start else {})
    for layer, (square, mean) in sizes.items():
        student.form_factors[COMPACT.layers().index(layer)] = square / mean
    channels = {f"relu{name}": count for name, _, count in COMPACT.convolutions()}
    projections, mean_squares = leading_directions(teacher, sample, channels, rng)
    known_projections = {layer: one for layer, one in projections.items() if layer in known}
    projections |= rotated(known_projections, teacher, student, sample)
    for network in (student, teacher):
        network.to(arguments.device)
    projections = {layer: one.to(arguments.device) for layer, one in projections.items()}

    # rounds of sampling and learning; a student that knows nothing yet gives no samples worth having, and where a
    # buffer has results these come first
    torch.manual_seed(arguments.seed)
    rng = random.Random(arguments.seed)
    first_round = 0 if arguments.start and not (arguments.buffer and arguments.buffer.exists()) else 1
    target = Target(teacher, projections, mean_squares, getattr(torch, arguments.precision))
    buffer = first_buffer(training, target, arguments, rng)
    distillation = Distillation(student, buffer, arguments)
    for number in range(arguments.rounds):
        tasks = tasks_of(number, first_round, arguments)
        if tasks:
            with tempfile.TemporaryDirectory() as folder:
                weights = {"vgg19": arguments.teacher, "compact": Path(folder) / "student.safetensors"}
                save(student, weights["compact"])
                torch.save(buffer.crops, Path(folder) / "crops.pt")
                context = Context(Path(folder) / "crops.pt", weights, [paths for paths, _ in folders], arguments.device)
                samples = collect_samples(tasks, context, arguments.processes)
            buffer.add(samples.results, samples.parents)
            if arguments.buffer is not None:
                buffer.save(arguments.buffer)
        print(f"round {number + 1}: {len(buffer.results)} results of {len(buffer.crops)} crops", flush=True)
        distillation.train(arguments.steps // arguments.rounds)
        save(student, arguments.output)

    source = "distilled from VGG-19 (Simonyan and Zisserman, CC BY 4.0)"
    save(student, arguments.output, {"source": source})
    print(f"wrote {arguments.output} ({arguments.output.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()
