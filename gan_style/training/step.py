"""One training step: mathematics and nothing else."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

import torch
from torch import Tensor, nn

from gan_style.data.stream import Batch
from gan_style.images.decode import to_float
from gan_style.losses.objective import Objective
from gan_style.losses.term import AuxiliaryPass, LossInputs, Term
from gan_style.training.health import collapse_diagnostics
from gan_style.training.state import TrainState

Scalars = dict[str, Tensor]


@dataclass(frozen=True)
class Precision:
    """Say where the step computes and in what: ``dtype`` float32, or bfloat16 or float16 through autocast.

    Losses stay float32.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32

    def autocast(self) -> torch.autocast:
        """Return the context for forward passes and losses."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def train_step(
    state: TrainState, batch: Batch, objective: Objective, precision: Precision, *, audit: bool = False
) -> Scalars:
    """Take one step of D, then of G, on one batch; returns named, detached scalars, still on the device.

    batch.content, batch.style: uint8 (N, 3, H, W) on the device. During the warm-up the generator learns from the
    content term alone, and D learns only where the balance of weights measures the adversarial term's gradient.
    audit: compute all terms, and measure the norm of each one's gradient at the generator's output, too.
    ``state.accumulate`` cuts the batch into micro-batches, whose gradients add up to those of the whole; the fakes are
    then made twice, so that only one micro-batch's activations are in memory at a time.
    """
    micro_batches = batch.split(state.accumulate)
    photos = [_to_float(micro_batch.content) for micro_batch in micro_batches]
    styles = [_to_float(micro_batch.style) for micro_batch in micro_batches]
    count, single_micro_batch = len(micro_batches), len(micro_batches) == 1
    full_objective = audit or not state.warming_up
    adversarial = objective.adversarial if not state.warming_up or objective.needs_discriminator_early else None
    auxiliary_terms = objective.auxiliary_terms if full_objective else []
    generator, discriminator = state.wrapped("generator"), state.wrapped("discriminator") if adversarial else None
    scalars: Scalars = {}
    state.set_learning_rates()

    # Generate: one pass over the photos, and over the auxiliary pictures that loss terms need. D and G share its fakes;
    # of several micro-batches D gets them without gradients, and G makes them anew below.
    generated: list[Generated] = []
    if single_micro_batch or adversarial is not None:
        with precision.autocast(), torch.set_grad_enabled(single_micro_batch):
            for micro_batch, photo, style in zip(micro_batches, photos, styles, strict=True):
                generated.append(generate(generator, micro_batch, photo, style, auxiliary_terms, state))

    # Discriminator: loss on real style crops and on fakes, backward, clip, step.
    if adversarial is not None and discriminator is not None:
        state.zero_grad("discriminator")
        finite_losses, values = [], []
        for number, (micro_batch, style, fakes) in enumerate(zip(micro_batches, styles, generated, strict=True)):
            random = _random_for(state.seed, micro_batch.positions, *adversarial.roles)
            discriminator.train(number == 0)  # spectral normalisation moves once a step
            with state.gradient_sync(discriminator, last=number == count - 1):
                with precision.autocast():
                    loss, parts = adversarial.discriminator_loss(
                        discriminator, style, fakes.fake.detach(), random, micro_batch.condition
                    )
                finite_losses.append(state.backward("discriminator", loss / count))
            values.append(_named("discriminator", parts))
        discriminator.train()
        scalars |= _named("discriminator", state.clip_and_step("discriminator", finite_losses)) | _mean(values)

    # Generator: loss of every term, D frozen among them, backward, clip, step.
    with state.discriminator_frozen() as frozen_discriminator:
        state.zero_grad("generator")
        finite_losses, values = [], []
        for number, (micro_batch, photo, style) in enumerate(zip(micro_batches, photos, styles, strict=True)):
            with state.gradient_sync(generator, last=number == count - 1):
                with precision.autocast():
                    if single_micro_batch:
                        fakes = generated[0]
                    else:
                        fakes = generate(generator, micro_batch, photo, style, auxiliary_terms, state)
                    logits = None
                    if adversarial is not None and frozen_discriminator is not None and full_objective:
                        random = _random_for(state.seed, micro_batch.positions, "judged")
                        logits = adversarial.logits(frozen_discriminator, fakes.fake, random, micro_batch.condition)
                    inputs = LossInputs(
                        photo,
                        style,
                        fakes.fake,
                        micro_batch.style_index,
                        micro_batch.condition,
                        fakes.auxiliary,
                        masks=None if micro_batch.masks is None else micro_batch.masks.float() / 255.0,
                        generator=state.generator,
                        projection=state.wrapped("projection"),
                        random_for=partial(_random_for, state.seed, micro_batch.positions),
                    )
                    loss, losses = objective.generator_loss(inputs, logits, warming_up=state.warming_up, audit=audit)
                values.append(_named("loss", losses) | {"loss/total": loss.detach()})
                if audit:
                    norms = objective.gradient_norms(losses, fakes.outputs, state.loss_scale("generator"))
                    values[-1] |= _named("health", collapse_diagnostics(fakes.fake.detach(), photo))
                    values[-1] |= _named("gradient", norms)
                finite_losses.append(state.backward("generator", loss / count))
        scalars |= _named("generator", state.clip_and_step("generator", finite_losses)) | _mean(values)

    # Move the averaged generator (EMA) towards the trained one.
    state.ema.update(state.generator)
    state.step += 1
    return {name: scalar.detach() for name, scalar in scalars.items()}


@dataclass(frozen=True)
class Generated:
    """Hold the generator's results of a micro-batch: the fakes (N, 3, H, W), and the results of auxiliary passes."""

    fake: Tensor
    auxiliary: dict[str, AuxiliaryPass] = field(default_factory=dict)

    @property
    def outputs(self) -> list[Tensor]:
        return [self.fake, *(result.images for result in self.auxiliary.values())]


def generate(
    generator: nn.Module, batch: Batch, photo: Tensor, style: Tensor, terms: Sequence[Term], state: TrainState
) -> Generated:
    """Run the generator once, over the photos and over the auxiliary pictures that loss terms need."""
    random_for = partial(_random_for, state.seed, batch.positions)
    passes = {str(term.auxiliary): term.auxiliary_pass(photo, style, random_for) for term in terms}
    arguments = [torch.cat([photo, *(item.images for item in passes.values())])]
    if state.by_reference:
        arguments.append(style.repeat(1 + len(passes), 1, 1, 1))
    if batch.condition is not None:
        arguments.append(batch.condition.repeat(1 + len(passes), 1))
    fake, *results = generator(*arguments).float().split(len(photo))
    auxiliary = zip(passes.items(), results, strict=True)
    return Generated(fake, {name: AuxiliaryPass(images, item.context) for (name, item), images in auxiliary})


def _to_float(pictures: Tensor) -> Tensor:
    return to_float(pictures).contiguous(memory_format=torch.channels_last)


def _random_for(seed: int, positions: Iterable[int], *roles: str) -> list[torch.Generator]:
    """Make a random generator for each role and sample, which follows from (seed, role, position) alone."""
    seeds = (Random(f"{seed}/augment {role}/{p}").getrandbits(63) for role in roles for p in positions)
    return [torch.Generator().manual_seed(number) for number in seeds]


def _named(prefix: str, values: Scalars) -> Scalars:
    return {f"{prefix}/{name}": value.detach() for name, value in values.items()}


def _mean(values: Sequence[Scalars]) -> Scalars:
    """Combine the micro-batches' numbers to the batch's: means, and of norms over samples the norm over all."""
    if len(values) == 1:
        return values[0]
    stacked = {name: torch.stack([scalars[name] for scalars in values]) for name in values[0]}
    return {
        name: numbers.norm() / len(values) if name.startswith("gradient/") else numbers.mean()
        for name, numbers in stacked.items()
    }
