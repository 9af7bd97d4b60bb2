"""The training loop: it keeps time. When to log, sample, save; when to stop."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_style.checkpoint import GENERATOR_FILE, CheckpointFolder, write_generator
from gan_style.data.pictures import UnreadablePictures
from gan_style.data.stream import Batch
from gan_style.files import write_bytes
from gan_style.images import encode
from gan_style.losses.objective import Objective
from gan_style.models.registry import describe
from gan_style.tracking.base import Tracker
from gan_style.training.progress import Progress
from gan_style.training.sampling import Composite, Sampler
from gan_style.training.state import TrainState
from gan_style.training.step import Precision, train_step


class NonFiniteError(ArithmeticError):
    """A loss or a gradient is no longer a finite number."""


@dataclass(frozen=True)
class Every:
    """After how many steps to log, to sample, to measure and to save; each happens after the last step too.

    audit: how often to measure what each loss term contributes, 0 for never.
    """

    log: int
    sample: int
    metrics: int
    checkpoint: int
    audit: int
    last: int

    def due(self, step: int, interval: int) -> bool:
        return step % interval == 0 or step == self.last

    def audit_due(self, step: int) -> bool:
        return self.audit > 0 and step % self.audit == 0


@dataclass
class Loop:
    """A run: what is trained, on what, and where the results go.

    ``extra`` is saved in every checkpoint beside state and objective; ``watches`` count unreadable pictures by option.
    ``composite`` chooses the best checkpoint (None: none is kept). ``measured`` and ``grid_path`` are those of the
    last samples, None and empty before.
    """

    state: TrainState
    objective: Objective
    precision: Precision
    every: Every
    folder: Path
    checkpoints: CheckpointFolder
    sampler: Sampler
    tracker: Tracker
    progress: Progress
    watches: Mapping[str, UnreadablePictures]
    extra: Mapping[str, Any]
    composite: Composite | None = None
    measured: dict[str, float] = field(default_factory=dict)
    grid_path: Path | None = None

    def run(self, batches: Iterable[Batch]) -> None:
        """Train on every batch. NonFiniteError names the step and the terms, and nothing is saved from then on."""
        unchecked: list[tuple[int, dict[str, Tensor]]] = []
        try:
            for batch in batches:
                self._report_unreadable(batch)
                audit = self.every.audit_due(self.state.step + 1)
                on_device = batch.to(self.precision.device)
                scalars = train_step(self.state, on_device, self.objective, self.precision, audit=audit)
                unchecked.append((self.state.step, scalars))
                self._keep_time(unchecked)
        finally:
            self.progress.close()

    def _keep_time(self, unchecked: list[tuple[int, dict[str, Tensor]]]) -> None:
        """Log, sample and save where that is due, but only finite numbers."""
        step, every = self.state.step, self.every
        audited = every.audit_due(step)
        log, sample, save = (every.due(step, interval) for interval in (every.log, every.sample, every.checkpoint))
        log, measure = log or audited, every.due(step, every.metrics)
        if not (log or sample or measure or save):
            return
        values = _check_finite(unchecked)
        unchecked.clear()
        if audited:
            self._balance(values)
        if sample or measure or save:
            _check_weights(self.state)
        if log:
            self._log(step, values)
        if sample or measure:
            self._look(step, sample=sample, measure=measure)
        if save:
            self._save(step)

    def _balance(self, values: dict[str, float]) -> None:
        """Where weights are to be found in the warm-up: take in an audit, and with the last one settle them."""
        balance, warmup = self.objective.balance, self.state.warmup_steps
        if balance is None or balance.settled:
            return
        balance.observe({name: values[f"gradient/{name}"] for name in balance.shares})
        if self.state.step + self.every.audit > warmup:
            weights = self.objective.settle_balance()
            found = "  ".join(f"loss.{name}.weight={weights[name]:.4g}" for name in balance.shares)
            self.progress.say(f"balanced after {balance.audits} audits, for the rest of the run: {found}")

    def _report_unreadable(self, batch: Batch) -> None:
        for option, name, reason in batch.unreadable:
            self.watches[option].report((name, reason))

    def _log(self, step: int, values: dict[str, float]) -> None:
        values["learning_rate"] = self.state.generator_optimiser.param_groups[0]["lr"]
        self.tracker.scalars(step, values | {"images_per_second": self.progress.images_per_second(step)})
        self.progress.update(step, values)

    def _look(self, step: int, *, sample: bool, measure: bool) -> None:
        """Make the held-out pictures' results once, for the grid and for the numbers."""
        results = self.sampler.results(self.state.ema.network)
        if sample:
            self.grid_path = path = self.folder / "samples" / f"step_{step:08d}.jpg"
            write_bytes(path, encode(self.sampler.sheet(results), path.suffix))
            self.tracker.picture(step, "samples", path)
        if measure:
            self.measured = self.sampler.measure(results)
            self._keep_best(step)
            self.tracker.scalars(step, self.measured)

    def _keep_best(self, step: int) -> None:
        """Save the checkpoint beside the others where its composite is the lowest so far."""
        if self.composite is None:
            return
        self.measured["heldout/composite"] = value = self.composite(self.measured)
        if self.composite.lowest is None or value < self.composite.lowest:
            self.composite.lowest = value
            self.checkpoints.save_best(self._content() | {"step": step})

    def _save(self, step: int) -> None:
        """The generator first: a run whose last checkpoint is there then has its result too."""
        save_generator(self.folder / GENERATOR_FILE, self.state.ema.network, step, self.objective.describe())
        self.checkpoints.save(step, self._content())

    def _content(self) -> dict[str, Any]:
        lowest = self.composite.lowest if self.composite else None
        measured = {"state": self.state.state_dict(), "objective": self.objective.state_dict(), "lowest": lowest}
        return measured | dict(self.extra)


def save_generator(path: Path, generator: nn.Module, step: int, objective: Mapping[str, Any]) -> None:
    """Write the generator with what it takes to rebuild it, and what it was trained for."""
    write_generator(path, generator.state_dict(), describe(generator) | {"step": step, "objective": dict(objective)})


def _check_weights(state: TrainState) -> None:
    """A finite loss can be followed by an update that is not: then nothing may be made of the weights."""
    for name, network in (("generator", state.generator), ("discriminator", state.discriminator)):
        norms = list(torch._foreach_norm(list(network.parameters()))) if network is not None else []
        if norms and not torch.stack(norms).isfinite().all():
            raise NonFiniteError(f"step {state.step}: not a finite number: weights/{name}")


def _check_finite(steps: list[tuple[int, dict[str, Tensor]]]) -> dict[str, float]:
    """The last step's numbers, after one look at all of them together: one wait for the device, not one a step."""
    flat = torch.stack([scalar.float() for _, scalars in steps for scalar in scalars.values()]).tolist()
    numbers = iter(flat)
    for step, scalars in steps:
        values = {name: next(numbers) for name in scalars}
        culprits = [name for name, value in values.items() if not math.isfinite(value)]
        if culprits:
            raise NonFiniteError(f"step {step}: not a finite number: {', '.join(culprits)}")
    return values
