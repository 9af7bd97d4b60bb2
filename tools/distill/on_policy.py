"""On-policy samples: pictures and generators on their way to a style under the student's own losses, and the teacher's.

An optimiser finds the pictures on which the student is wrong: there, and not on photos, its losses are used. So the
student learns from the teacher on optimised pictures, on results of generators trained with a discriminator, at all
stages between a photo and a finished result, and on those of whole runs of ``gan-style train``. Most follow the
student's own losses, some the teacher's: it has to see the same change in both.
"""

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from replay import Features
from torch import Tensor
from torch.nn import functional as F

import gan_style
from gan_style.config import quoted
from gan_style.functional import gram_matrix
from gan_style.functional import total_variation_squared as smoothness
from gan_style.models.discriminator import PatchDiscriminator
from gan_style.models.generator import ResnetGenerator
from gan_style.models.perceptual import COMPACT, Perceptual, compact, vgg19
from gan_style.runtime.checkpoint import CheckpointFolder
from gan_style.stylize.model import load_generator

LAYERS = COMPACT.layers()
CONTENT_LAYERS = ["relu3_1", "relu3_2", "relu3_2", "relu3_4", "relu4_1", "relu4_2", "relu4_2"]  # one is drawn
STYLE_LAYERS = ["relu1_1", "relu2_1", "relu3_1", "relu3_3", "relu4_1"]
DEEP_LOSSES = {"loss.content.layers": "[relu4_2]", "loss.style.layers": "[relu1_1,relu2_1,relu3_1,relu4_1]"}
BATCH_SIZE = 4  # of a generator's training
RUN_STEPS = 600


@dataclass
class Samples:
    """Results, each (3, S, S) float16 in [-1, 1], and the index of the crop that each was made of."""

    results: list[Tensor] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)

    def add(self, results: Tensor, parents: list[int]) -> None:
        self.results += [*results.detach().to("cpu", torch.float16)]
        self.parents += parents


@dataclass(frozen=True)
class Context:
    """What all sampling tasks share.

    crops: a file of the pictures (N, 3, S, S) that results are made of; weights: the file of each network; folders:
    lists of the pictures to train on, from which runs take their contents and styles.
    """

    crops: Path
    weights: dict[str, Path]
    folders: list[list[Path]]
    device: str


@dataclass(frozen=True)
class SamplingTask:
    """How to make samples, and under which network's losses."""

    network: str  # "vgg19" or "compact"
    collect: Callable[["SamplingTask", Context, Tensor, random.Random], Samples]
    seed: int


def collect_samples(tasks: list[SamplingTask], context: Context, processes: int) -> Samples:
    """Carry out all tasks, ``processes`` at a time."""
    samples = Samples()
    with get_context("spawn").Pool(processes) as pool:
        for results, parents in pool.imap_unordered(_work, [(task, context) for task in tasks]):
            samples.results += [torch.from_numpy(result) for result in results]
            samples.parents += parents
    return samples


def _work(job: tuple[SamplingTask, Context]) -> tuple[list[Any], list[int]]:
    task, context = job
    torch.set_num_threads(1)
    torch.manual_seed(task.seed)
    crops = torch.load(context.crops).float().to(context.device)
    samples = task.collect(task, context, crops, random.Random(task.seed))
    return [result.numpy() for result in samples.results], samples.parents


def calibrated_network(task: SamplingTask, context: Context, crops: Tensor) -> Perceptual:
    """Load the task's network, scaled so that its features have a root mean square of 1 on some of the crops."""
    build = {"vgg19": vgg19, "compact": compact}[task.network]
    network = build(layers=LAYERS, weights=str(context.weights[task.network]))
    network = network.to(context.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        features = network(crops[:48], LAYERS)
    network.scales = {layer: one.square().mean().item() ** 0.5 for layer, one in features.items()}
    return network


def training_command(task: SamplingTask, context: Context, folder: Path, style: Path, rng: random.Random) -> list[str]:
    """Return the command for a run in this folder, on its contents/, with loss weights and layers drawn at random."""
    places = {
        "run.root": folder,
        "data.content": folder / "contents",
        "data.style": style.resolve(),
        "perceptual.weights": context.weights[task.network].resolve(),
    }
    settings = {
        "run.name": "run",
        "perceptual": task.network,
        "training.steps": RUN_STEPS,
        "training.checkpoint_every": RUN_STEPS // 6,
        "training.keep_checkpoints": 6,
        "training.sample_every": RUN_STEPS,
        "training.seed": task.seed,
        "metrics.every": RUN_STEPS,
        "loss.content.weight": 0.3 * 10 ** rng.uniform(-0.4, 0.3),
        "loss.adversarial.weight": 0.5 * 10 ** rng.uniform(-1, 0.2),
        "optimiser.generator.lr": 5e-4 * 10 ** rng.uniform(0, 0.3),
        "runtime.device": context.device,
        "runtime.threads": 1,
    }
    settings |= {name: quoted(str(path)) for name, path in places.items()}
    if rng.random() < 0.5:
        settings |= DEEP_LOSSES
    command = [sys.executable, "-m", "gan_style.cli", "train", "experiment=quickstart"]
    return [*command, *(f"{name}={value}" for name, value in settings.items())]


def sample_training_run(task: SamplingTask, context: Context, crops: Tensor, rng: random.Random) -> Samples:
    """Train as the quickstart does, with other loss weights, on one folder in the style of a picture of another; keep
    the results of six checkpoints, of 96 crops each.
    """
    samples = Samples()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contents, styles = rng.sample(context.folders, 2) if len(context.folders) > 1 else context.folders * 2
        (folder / "contents").mkdir()
        for number, path in enumerate(contents):
            (folder / "contents" / f"{number:05d}{path.suffix}").symlink_to(path.resolve())
        command = training_command(task, context, folder, rng.choice(styles), rng)
        subprocess.run(command, check=True, stdout=sys.stderr, env={**os.environ, "OMP_NUM_THREADS": "1"})
        for checkpoint in CheckpointFolder(folder / "run" / "checkpoints").paths():
            parents = rng.sample(range(len(crops)), min(96, len(crops)))
            with torch.no_grad():
                samples.add(load_generator(checkpoint, crops.device)(crops[parents]), parents)
    return samples


def sample_shipped_style(task: SamplingTask, context: Context, crops: Tensor, rng: random.Random) -> Samples:
    """Paint 96 crops in one of the styles that ship, at a random strength each."""
    samples, style = Samples(), gan_style.load(rng.choice(gan_style.styles()), device=context.device)
    parents = rng.sample(range(len(crops)), min(96, len(crops)))
    strengths = torch.tensor([1 - rng.random() ** 2 for _ in parents], device=context.device)[:, None, None, None]
    with torch.no_grad():
        samples.add(crops[parents].lerp(style(crops[parents]), strengths), parents)
    return samples


def sample_optimised_pictures(task: SamplingTask, context: Context, crops: Tensor, rng: random.Random) -> Samples:
    """Optimise eight crops towards a style by Adam; keep eight stages of each."""
    samples, network = Samples(), calibrated_network(task, context, crops)
    parents = rng.sample(range(len(crops)), 8)
    contents, styles = (
        crops[chosen].contiguous(memory_format=torch.channels_last)
        for chosen in (parents, rng.sample(range(len(crops)), 8))
    )
    layers, weights = rng.choices(CONTENT_LAYERS, k=8), [10 ** rng.uniform(0, 1.3) for _ in parents]
    pictures = (torch.rand_like(contents) * 2 - 1 if rng.random() < 0.1 else contents.clone()).requires_grad_()
    optimiser = torch.optim.Adam([pictures], lr=10 ** rng.uniform(-2, -1.4))
    with torch.no_grad():
        of_content, of_style = network(contents, CONTENT_LAYERS), gram_matrices(network(styles, STYLE_LAYERS))
    kept = random_stages(8, 160, rng)
    for step in range(1, max(kept) + 1):
        made = network(pictures, [*CONTENT_LAYERS, *STYLE_LAYERS])
        loss = transfer_loss(made, of_content, of_style, layers, weights)
        descend(optimiser, loss + 0.1 * len(parents) * smoothness(pictures))
        pictures.data.clamp_(-1, 1)
        if step in kept:
            samples.add(pictures, parents)
    return samples


def sample_generator_training(task: SamplingTask, context: Context, crops: Tensor, rng: random.Random) -> Samples:
    """Train a generator and a discriminator on the style of one crop; keep ten stages, of 16 crops each."""
    samples, network = Samples(), calibrated_network(task, context, crops)
    generator = ResnetGenerator(width=16).to(crops.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    discriminator = PatchDiscriminator(receptive_field=34, width=16).to(crops.device)
    generator_step = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.99))
    discriminator_step = torch.optim.Adam(discriminator.parameters(), lr=4e-4, betas=(0.5, 0.99))
    style = rng.choice(list(crops))
    layer, weight, adversarial = rng.choice(CONTENT_LAYERS), 10 ** rng.uniform(0, 1.3), rng.uniform(0, 0.4)
    with torch.no_grad():
        grams = gram_matrices(network(style[None], STYLE_LAYERS))
        of_style = {name: gram.expand(BATCH_SIZE, -1, -1) for name, gram in grams.items()}
    kept = random_stages(10, rng.choice([150, 250, 400]), rng)
    for step in range(1, max(kept) + 1):
        contents = crops[rng.sample(range(len(crops)), BATCH_SIZE)].contiguous(memory_format=torch.channels_last)
        results = generator(contents)
        real = torch.stack([rolled(style, rng) for _ in range(BATCH_SIZE)])
        (on_real,), (on_fake,) = discriminator(real), discriminator(results.detach())
        descend(discriminator_step, F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean())
        discriminator.requires_grad_(False)
        with torch.no_grad():
            of_content = network(contents, [layer])
        made = network(results, [layer, *STYLE_LAYERS])
        loss = transfer_loss(made, of_content, of_style, [layer] * BATCH_SIZE, [weight] * BATCH_SIZE) / BATCH_SIZE
        descend(generator_step, loss + 0.1 * smoothness(results) - adversarial * discriminator(results)[0].mean())
        discriminator.requires_grad_(True)
        if step in kept:
            parents = rng.sample(range(len(crops)), 16)
            with torch.no_grad():
                samples.add(generator(crops[parents]), parents)
    return samples


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def random_stages(count: int, steps: int, rng: random.Random) -> set[int]:
    """Draw the steps after which results are kept: one in each ``count``-th of all steps."""
    part = steps // count
    return {rng.randint(part * number + 1, part * (number + 1)) for number in range(count)}


def rolled(picture: Tensor, rng: random.Random) -> Tensor:
    """Roll and flip a picture (3, S, S) at random."""
    moved = picture.roll((rng.randrange(picture.shape[1]), rng.randrange(picture.shape[2])), (1, 2))
    return moved.flip(-1) if rng.random() < 0.5 else moved


def gram_matrices(features: Features) -> Features:
    return {layer: gram_matrix(one) for layer, one in features.items()}


def transfer_loss(
    made: Features, of_content: Features, of_style: Features, layers: list[str], weights: list[float]
) -> Tensor:
    """Sum over pictures the content loss, each at its layer, and its weight times the Gram style loss."""
    content = torch.stack([(made[name][i] - of_content[name][i]).square().mean() for i, name in enumerate(layers)])
    style = torch.stack([(gram_matrix(made[k]) - gram).square().mean((1, 2)) for k, gram in of_style.items()]).mean(0)
    return (content + torch.tensor(weights, device=content.device) * style).sum()
