"""What compact is taught on besides pictures as they are: pictures and generators on their way to a style.

What a student gets wrong is found by whoever optimises against it: there, and not on photos, its losses are used. So it
learns from the teacher on pictures that were optimised, and on results of generators that were trained with a
discriminator, at all stages between a photo and a finished result, and of whole runs of ``gan-style train``. Most
follow the student's own losses, some the teacher's: the student has to see the same change in both, although the first
kind was found by what it does not see.
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

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_style.config import quoted
from gan_style.functional import gram_matrix
from gan_style.functional import total_variation_squared as smoothness
from gan_style.models.discriminator import PatchDiscriminator
from gan_style.models.generator import ResnetGenerator
from gan_style.models.perceptual import COMPACT, Perceptual, compact, vgg19
from gan_style.runtime.checkpoint import CheckpointFolder
from gan_style.stylize.model import load_generator

LAYERS = COMPACT.layers()
CONTENT_LAYERS = ["relu3_1", "relu3_2", "relu3_2", "relu3_2", "relu3_4"]
STYLE_LAYERS = ["relu1_1", "relu2_1", "relu3_1", "relu3_3"]
BATCH = 4  # of a generator's training
RUN_STEPS = 600
Features = dict[str, Tensor]


@dataclass
class Pursued:
    """Results, each (3, S, S) float16 in [-1, 1], and of which crop each was made."""

    results: list[Tensor] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)

    def add(self, results: Tensor, parents: list[int]) -> None:
        self.results += [*results.detach().to("cpu", torch.float16)]
        self.parents += parents


@dataclass(frozen=True)
class Ground:
    """What pursuits have in common.

    crops: a file of the pictures (N, 3, S, S) that results are made of; weights: the file of each network; folders: of
    the pictures that are trained on, which runs take theirs from.
    """

    crops: Path
    weights: dict[str, Path]
    folders: list[list[Path]]
    device: str


@dataclass(frozen=True)
class Task:
    """One pursuit: under which network's losses, of what."""

    network: str  # "vgg19" or "compact"
    kind: Callable[["Task", Ground, Tensor, random.Random], Pursued]
    seed: int


def pursue(tasks: list[Task], ground: Ground, processes: int) -> Pursued:
    """All of them, so many at a time."""
    found = Pursued()
    with get_context("spawn").Pool(processes) as pool:
        for one in pool.imap_unordered(_work, [(task, ground) for task in tasks]):
            found.results += [torch.from_numpy(results) for results in one[0]]
            found.parents += one[1]
    return found


def _work(job: tuple[Task, Ground]) -> tuple[list[object], list[int]]:
    task, ground = job
    torch.set_num_threads(1)
    torch.manual_seed(task.seed)
    crops = torch.load(ground.crops).float().to(ground.device)
    pursued = task.kind(task, ground, crops, random.Random(task.seed))
    return [result.numpy() for result in pursued.results], pursued.parents


def network_of(task: Task, ground: Ground, crops: Tensor) -> Perceptual:
    """The task's network, whose features have a root mean square of 1 on some of the crops."""
    build = {"vgg19": vgg19, "compact": compact}[task.network]
    network = build(layers=LAYERS, weights=str(ground.weights[task.network]))
    network = network.to(ground.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        found = network(crops[:48], LAYERS)
    network.scales = {layer: features.square().mean().item() ** 0.5 for layer, features in found.items()}
    return network


def _train(task: Task, ground: Ground, folder: Path, style: Path, rng: random.Random) -> list[str]:
    """The command for a run in this folder, on its contents/."""
    places = {
        "run.root": folder,
        "data.content": folder / "contents",
        "data.style": style.resolve(),
        "perceptual.weights": ground.weights[task.network].resolve(),
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
        "runtime.device": ground.device,
        "runtime.threads": 1,
    }
    given = settings | {name: quoted(str(path)) for name, path in places.items()}
    command = [sys.executable, "-m", "gan_style.cli", "train", "experiment=quickstart"]
    return [*command, *(f"{name}={value}" for name, value in given.items())]


def pursue_run(task: Task, ground: Ground, crops: Tensor, rng: random.Random) -> Pursued:
    """A run of ``gan-style train`` as the quickstart's, with other weights, on one folder in the style of a picture
    of another; the results of six checkpoints are kept, of 96 crops each.
    """
    pursued = Pursued()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contents, styles = rng.sample(ground.folders, 2) if len(ground.folders) > 1 else ground.folders * 2
        (folder / "contents").mkdir()
        for number, path in enumerate(contents):
            (folder / "contents" / f"{number:05d}{path.suffix}").symlink_to(path.resolve())
        command = _train(task, ground, folder, rng.choice(styles), rng)
        subprocess.run(command, check=True, stdout=sys.stderr, env={**os.environ, "OMP_NUM_THREADS": "1"})
        for checkpoint in CheckpointFolder(folder / "run" / "checkpoints").paths():
            parents = rng.sample(range(len(crops)), min(96, len(crops)))
            with torch.no_grad():
                pursued.add(load_generator(checkpoint, crops.device)(crops[parents]), parents)
    return pursued


def pursue_pictures(task: Task, ground: Ground, crops: Tensor, rng: random.Random) -> Pursued:
    """Eight crops on their way to a style by Adam; eight stages of each way are kept."""
    pursued, network = Pursued(), network_of(task, ground, crops)
    parents = rng.sample(range(len(crops)), 8)
    contents, styles = (
        crops[chosen].contiguous(memory_format=torch.channels_last)
        for chosen in (parents, rng.sample(range(len(crops)), 8))
    )
    layers, weights = rng.choices(CONTENT_LAYERS, k=8), [10 ** rng.uniform(0, 1.3) for _ in parents]
    pictures = (torch.rand_like(contents) * 2 - 1 if rng.random() < 0.1 else contents.clone()).requires_grad_()
    optimiser = torch.optim.Adam([pictures], lr=10 ** rng.uniform(-2, -1.4))
    with torch.no_grad():
        of_content, of_style = network(contents, CONTENT_LAYERS), grams_of(network(styles, STYLE_LAYERS))
    kept = stages(8, 160, rng)
    for move in range(1, max(kept) + 1):
        made = network(pictures, [*CONTENT_LAYERS, *STYLE_LAYERS])
        loss = transfer_loss(made, of_content, of_style, layers, weights)
        descend(optimiser, loss + 0.1 * len(parents) * smoothness(pictures))
        pictures.data.clamp_(-1, 1)
        if move in kept:
            pursued.add(pictures, parents)
    return pursued


def pursue_generator(task: Task, ground: Ground, crops: Tensor, rng: random.Random) -> Pursued:
    """A generator on its way to the style of one crop, with a discriminator; ten stages are kept, of 16 crops each."""
    pursued, network = Pursued(), network_of(task, ground, crops)
    generator = ResnetGenerator(width=16).to(crops.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    discriminator = PatchDiscriminator(receptive_field=34, width=16).to(crops.device)
    generator_step = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.99))
    discriminator_step = torch.optim.Adam(discriminator.parameters(), lr=4e-4, betas=(0.5, 0.99))
    style = rng.choice(list(crops))
    layer, weight, adversarial = rng.choice(CONTENT_LAYERS), 10 ** rng.uniform(0, 1.3), rng.uniform(0, 0.4)
    with torch.no_grad():
        grams = grams_of(network(style[None], STYLE_LAYERS))
        of_style = {name: gram.expand(BATCH, -1, -1) for name, gram in grams.items()}
    kept = stages(10, rng.choice([150, 250, 400]), rng)
    for move in range(1, max(kept) + 1):
        contents = crops[rng.sample(range(len(crops)), BATCH)].contiguous(memory_format=torch.channels_last)
        results = generator(contents)
        real = torch.stack([rolled(style, rng) for _ in range(BATCH)])
        (on_real,), (on_fake,) = discriminator(real), discriminator(results.detach())
        descend(discriminator_step, F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean())
        discriminator.requires_grad_(False)
        with torch.no_grad():
            of_content = network(contents, [layer])
        made = network(results, [layer, *STYLE_LAYERS])
        loss = transfer_loss(made, of_content, of_style, [layer] * BATCH, [weight] * BATCH) / BATCH
        descend(generator_step, loss + 0.1 * smoothness(results) - adversarial * discriminator(results)[0].mean())
        discriminator.requires_grad_(True)
        if move in kept:
            parents = rng.sample(range(len(crops)), 16)
            with torch.no_grad():
                pursued.add(generator(crops[parents]), parents)
    return pursued


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def stages(count: int, moves: int, rng: random.Random) -> set[int]:
    """Moves after which results are kept: by chance, one in each ``count``-th of all."""
    part = moves // count
    return {rng.randint(part * number + 1, part * (number + 1)) for number in range(count)}


def rolled(picture: Tensor, rng: random.Random) -> Tensor:
    """A picture (3, S, S), rolled and flipped by chance."""
    moved = picture.roll((rng.randrange(picture.shape[1]), rng.randrange(picture.shape[2])), (1, 2))
    return moved.flip(-1) if rng.random() < 0.5 else moved


def grams_of(features: Features) -> Features:
    return {layer: gram_matrix(one) for layer, one in features.items()}


def transfer_loss(
    made: Features, of_content: Features, of_style: Features, layers: list[str], weights: list[float]
) -> Tensor:
    """The sum over pictures of content, each at its layer, and its weight times Gram style."""
    content = torch.stack([(made[name][i] - of_content[name][i]).square().mean() for i, name in enumerate(layers)])
    style = torch.stack([(gram_matrix(made[k]) - gram).square().mean((1, 2)) for k, gram in of_style.items()]).mean(0)
    return (content + torch.tensor(weights, device=content.device) * style).sum()
