"""One training step: mathematics and nothing else."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan_style.data.stream import Batch
from gan_style.images import to_float
from gan_style.losses.objective import Objective
from gan_style.losses.scene import Scene
from gan_style.training.state import TrainState


@dataclass(frozen=True)
class Precision:
    """Where the step computes and in what: ``dtype`` float32, or bfloat16 through autocast (losses stay float32)."""

    device: torch.device
    dtype: torch.dtype = torch.float32

    def autocast(self) -> torch.autocast:
        """The context for forward passes and losses."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def train_step(
    state: TrainState, batch: Batch, objective: Objective, precision: Precision, *, audit: bool = False
) -> dict[str, Tensor]:
    """One step of D, then of G, on one batch; returns named, detached scalars, still on the device.

    batch.content, batch.style: uint8 (N, 3, H, W) on the device. During the warm-up the content term alone is trained
    on, and D rests, unless its gradient has to be measured for the balance of weights. audit: measure how hard each
    term pulls at the generator's output, too.
    """
    content, style = _to_float(batch.content), _to_float(batch.style)
    warming_up = state.warming_up
    all_terms = audit or not warming_up
    adversarial = objective.adversarial if not warming_up or objective.needs_discriminator_early else None
    scalars: dict[str, Tensor] = {}
    state.set_learning_rates()

    with precision.autocast():  # ONE generator forward, shared by both halves
        fake, rebuilt = _generate(state.generator, content, style, objective.needs_identity and all_terms)

    if adversarial is not None:  # discriminator half
        assert state.discriminator is not None and state.discriminator_optimiser is not None
        with precision.autocast():
            loss, parts = adversarial.discriminator_loss(state.discriminator, style, fake.detach(), state.random)
        scalars |= {f"discriminator/{name}": part for name, part in parts.items()}
        scalars["discriminator/gradient"] = state.update(state.discriminator_optimiser, loss)

    with state.discriminator_frozen() as frozen, precision.autocast():  # generator half
        logits = adversarial.judge(frozen, fake, state.random) if adversarial and frozen and all_terms else None
        scene = Scene(content, style, fake, rebuilt, batch.style_index)
        loss, parts = objective.generator_loss(scene, logits, warming_up=warming_up, audit=audit)
    if audit:
        scalars |= objective.audit(parts, [fake] if rebuilt is None else [fake, rebuilt])
    scalars |= {f"loss/{name}": part for name, part in parts.items()} | {"loss/total": loss}
    scalars["generator/gradient"] = state.update(state.generator_optimiser, loss)

    state.ema.update(state.generator)
    state.step += 1
    return {name: scalar.detach() for name, scalar in scalars.items()}


def _to_float(pictures: Tensor) -> Tensor:
    return to_float(pictures).contiguous(memory_format=torch.channels_last)


def _generate(generator: nn.Module, content: Tensor, style: Tensor, identity: bool) -> tuple[Tensor, Tensor | None]:
    if not identity:
        return generator(content).float(), None
    fake, rebuilt = generator(torch.cat([content, style])).float().chunk(2)
    return fake, rebuilt
