"""One training step: mathematics and nothing else."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan_style.data.stream import Batch
from gan_style.images.decode import to_float
from gan_style.losses.adversarial import Adversarial
from gan_style.losses.objective import Objective
from gan_style.losses.scene import Scene
from gan_style.losses.stable import Stability
from gan_style.losses.warp import Warp
from gan_style.metrics.vital import vital_signs
from gan_style.training.state import TrainState

Scalars = dict[str, Tensor]


@dataclass(frozen=True)
class Precision:
    """Where the step computes and in what: ``dtype`` float32, or bfloat16 or float16 through autocast.

    Losses stay float32.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32

    def autocast(self) -> torch.autocast:
        """The context for forward passes and losses."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


@dataclass(frozen=True)
class _Riders:
    """What rides along with the photos in the generator's one forward pass.

    identity: the style pictures; stability: the photos, moved as this term has it, by draws that follow from ``seed``.
    references: whether the generator is given the style pictures beside the photos.
    """

    identity: bool
    stability: Stability | None
    seed: int
    references: bool


@dataclass
class _Part:
    """The batch, or where gradients are accumulated a part of it, on its way through the step."""

    content: Tensor
    style: Tensor
    batch: Batch
    fake: Tensor | None = None
    rebuilt: Tensor | None = None
    shaken: Tensor | None = None
    warp: Warp | None = None

    def generate(self, generator: nn.Module, riders: _Riders) -> None:
        """The generator's one forward pass, with those who ride along."""
        pictures = {"fake": self.content}
        if riders.identity:
            pictures["rebuilt"] = self.style
        if riders.stability is not None:
            draws = _draws(riders.seed, self.batch.positions, ("shaken",))
            self.warp, pictures["shaken"] = riders.stability.shake(self.content, draws)
        given = [torch.cat(list(pictures.values()))]
        if riders.references:
            given.append(self.style.repeat(len(pictures), 1, 1, 1))
        if self.batch.condition is not None:
            given.append(self.batch.condition.repeat(len(pictures), 1))
        made = generator(*given).float().split(len(self.content))
        for name, result in zip(pictures, made, strict=True):
            setattr(self, name, result)

    def outputs(self) -> list[Tensor]:
        """What the generator has made."""
        return [made for made in (self.fake, self.rebuilt, self.shaken) if made is not None]

    def release(self) -> None:
        """Nothing is kept for other parts' sake."""
        self.fake = self.rebuilt = self.shaken = self.warp = None


def train_step(
    state: TrainState, batch: Batch, objective: Objective, precision: Precision, *, audit: bool = False
) -> Scalars:
    """One step of D, then of G, on one batch; returns named, detached scalars, still on the device.

    batch.content, batch.style: uint8 (N, 3, H, W) on the device. During the warm-up the content term alone is trained
    on, and D rests, unless its gradient has to be measured for the balance of weights. audit: measure how hard each
    term pulls at the generator's output, too. Where ``state.accumulate`` cuts the batch into parts, gradients are those
    of the whole; its fakes are then made twice, so that only one part's activations are in memory at a time.
    """
    parts = [_Part(_to_float(one.content), _to_float(one.style), one) for one in batch.split(state.accumulate)]
    adversarial = objective.adversarial if not state.warming_up or objective.needs_discriminator_early else None
    alone, everything = len(parts) == 1, audit or not state.warming_up
    stability = objective.stability if everything else None
    riders = _Riders(objective.needs_identity and everything, stability, state.seed, state.by_reference)
    scalars: Scalars = {}
    state.set_learning_rates()

    if alone or adversarial is not None:  # ONE generator forward, shared by both halves
        with precision.autocast(), torch.set_grad_enabled(alone):
            for part in parts:
                part.generate(state.run("generator"), riders)

    if adversarial is not None:  # discriminator half
        found: list[Scalars] = []
        loss = _discriminator_losses(state, parts, adversarial, precision, found)
        scalars |= _named("discriminator", state.update("discriminator", loss)) | _mean(found)

    found = []
    with state.discriminator_frozen() as frozen:  # generator half
        judge = frozen if adversarial is not None and everything else None
        loss = _generator_losses(state, parts, objective, judge, precision, found, riders=riders, audit=audit)
        scalars |= _named("generator", state.update("generator", loss)) | _mean(found)

    state.ema.update(state.generator)
    state.step += 1
    return {name: scalar.detach() for name, scalar in scalars.items()}


def _discriminator_losses(
    state: TrainState, parts: Sequence[_Part], adversarial: Adversarial, precision: Precision, found: list[Scalars]
) -> Iterator[Tensor]:
    """Each part's loss, of which the update takes the gradient before it asks for the next."""
    discriminator = state.run("discriminator")
    for number, part in enumerate(parts):
        assert part.fake is not None
        draws = _draws(state.seed, part.batch.positions, ("real", "fake"))
        with state.gathering(discriminator, last=number == len(parts) - 1):
            discriminator.train(number == 0)  # spectral normalisation moves once a step
            with precision.autocast():
                pictures, condition = (part.style, part.fake.detach()), part.batch.condition
                loss, values = adversarial.discriminator_loss(discriminator, *pictures, draws, condition)
            found.append(_named("discriminator", values))
            yield loss / len(parts)
    discriminator.train()


def _generator_losses(
    state: TrainState,
    parts: Sequence[_Part],
    objective: Objective,
    judge: nn.Module | None,
    precision: Precision,
    found: list[Scalars],
    *,
    riders: _Riders,
    audit: bool,
) -> Iterator[Tensor]:
    """Likewise; judge: the frozen D, where its opinion is asked."""
    generator = state.run("generator")
    for number, part in enumerate(parts):
        with state.gathering(generator, last=number == len(parts) - 1):
            with precision.autocast():
                if len(parts) > 1:
                    part.generate(generator, riders)
                assert part.fake is not None
                logits = None
                if judge is not None and objective.adversarial is not None:
                    draws = _draws(state.seed, part.batch.positions, ("judged",))
                    logits = objective.adversarial.judge(judge, part.fake, draws, part.batch.condition)
                scene = Scene(part.content, part.style, part.fake, part.rebuilt, part.batch.style_index)
                scene.warp, scene.shaken, scene.condition = part.warp, part.shaken, part.batch.condition
                warming_up = state.warming_up
                loss, terms = objective.generator_loss(scene, logits, warming_up=warming_up, audit=audit)
            found.append(_named("loss", terms) | {"loss/total": loss.detach()})
            if audit:
                found[-1] |= _named("health", vital_signs(part.fake.detach(), part.content))
                found[-1] |= _named("gradient", objective.audit(terms, part.outputs(), state.loss_scale("generator")))
            yield loss / len(parts)
            part.release()


def _to_float(pictures: Tensor) -> Tensor:
    return to_float(pictures).contiguous(memory_format=torch.channels_last)


def _draws(seed: int, positions: Iterable[int], roles: Iterable[str]) -> list[torch.Generator]:
    """For each role and sample its own random numbers, which follow from (seed, role, position) alone."""
    seeds = (random.Random(f"{seed}/augment {role}/{p}").getrandbits(63) for role in roles for p in positions)
    return [torch.Generator().manual_seed(one) for one in seeds]


def _named(prefix: str, values: Scalars) -> Scalars:
    return {f"{prefix}/{name}": value.detach() for name, value in values.items()}


def _mean(found: Sequence[Scalars]) -> Scalars:
    """Of the parts' numbers, those of the whole batch: means, and of norms over samples the norm over all of them."""
    if len(found) == 1:
        return found[0]
    stacked = {name: torch.stack([one[name] for one in found]) for name in found[0]}
    return {
        name: values.norm() / len(found) if name.startswith("gradient/") else values.mean()
        for name, values in stacked.items()
    }
