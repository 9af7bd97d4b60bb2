"""What happens between training steps: when to log, sample and save, and when to stop or to go back."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_style.data.pictures import UnreadablePictures
from gan_style.data.stream import Batch
from gan_style.images.decode import encode
from gan_style.losses.objective import Objective
from gan_style.models.registry import describe
from gan_style.runtime.checkpoint import GENERATOR_FILE, Background, CheckpointFolder, on_host, write_generator
from gan_style.runtime.distributed import Ranks
from gan_style.runtime.files import write_bytes, write_durably
from gan_style.runtime.progress import Progress, warn
from gan_style.runtime.signals import PREEMPTED, Stop
from gan_style.runtime.tracking import Tracker
from gan_style.training.health import CollapseWarnings, Health, NonFiniteError, nonfinite_keys
from gan_style.training.sampling import Composite, LibrarySampler, Sampler
from gan_style.training.state import TrainState


@dataclass(frozen=True)
class Intervals:
    """After how many steps to log, to sample, to measure and to save a checkpoint; each happens after the last, too.

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


@dataclass
class Supervisor:
    """Watch over a run's steps: log, measure and save when that is due, and see when to stop or to go back.

    The loop itself is in commands/train.py: a batch, train_step, after_step; rolled_back after the batches.

    ``extra`` is saved in every checkpoint beside state and objective; ``watches`` count unreadable pictures by option.
    ``composite`` chooses the best checkpoint (None: none is kept). ``deadline`` is the time.monotonic() at which the
    run is to stop. ``measured`` and ``grid_path`` are those of the last samples, empty and None before. Only the first
    rank has a sampler, and it alone writes; all take part in what ranks have to agree on.
    """

    state: TrainState
    objective: Objective
    device: torch.device
    intervals: Intervals
    folder: Path
    checkpoints: CheckpointFolder
    sampler: Sampler | LibrarySampler | None
    tracker: Tracker
    progress: Progress
    watches: Mapping[str, UnreadablePictures]
    extra: Mapping[str, Any]
    ranks: Ranks = field(default_factory=Ranks)
    stop: Stop = field(default_factory=Stop)
    health: Health = field(default_factory=Health)
    deadline: float = math.inf
    composite: Composite | None = None
    measured: dict[str, float] = field(default_factory=dict)
    grid_path: Path | None = None
    _unchecked: list[tuple[int, dict[str, Tensor]]] = field(default_factory=list)  # steps whose numbers none has seen
    _stopping: bool = False
    _nonfinite: bool = False  # so that an earlier checkpoint is called for
    _last_batch: Batch | None = None
    _collapse_warnings: CollapseWarnings = field(default_factory=CollapseWarnings)
    _background: Background = field(default_factory=Background)

    def audit_due(self) -> bool:
        """Say whether the next step is to measure what each loss term contributes."""
        return self.intervals.audit > 0 and (self.state.step + 1) % self.intervals.audit == 0

    def after_step(self, batch: Batch, scalars: dict[str, Tensor]) -> bool:
        """Log, measure and save what is due after a step on this batch; return whether the next batch is to follow.

        It is not where somebody asks to stop, or where numbers that are not finite call for an earlier checkpoint.
        """
        for option, name, reason in batch.unreadable:
            self.watches[option].report((name, reason))
        self._unchecked.append((self.state.step, scalars))
        self._stopping = self._asked_to_stop()
        self._nonfinite = self._do_what_is_due(stopping=self._stopping)
        if self._nonfinite:
            self._last_batch = batch
        return not (self._stopping or self._nonfinite)

    def rolled_back(self) -> bool:
        """Go back to the last checkpoint after the batches if numbers call for it; return whether training goes on.

        The learning rate is then lower. NonFiniteError where there is no checkpoint, or going back has not helped.
        """
        if self._nonfinite:
            self._nonfinite = self._stopping = False
            self._go_back()
            return True
        if not self._stopping and self.state.step < self.intervals.last:
            self._save_where_data_ended_early()
        self._background.wait()
        self.ranks.wait()
        return False

    @property
    def stopped_by(self) -> str | None:
        """Name what stopped the run before its last step; None where nothing did."""
        return self.stop.reason if self.state.step < self.intervals.last else None

    def close(self) -> None:
        """End the progress bar and the thread that writes checkpoints."""
        self.progress.close()
        self._background.close()

    def _save_where_data_ended_early(self) -> None:
        """Save where somebody asks to stop while no batch comes; beside other ranks, which cannot be asked, leave."""
        self._say(f"no batch has come since step {self.state.step}")
        if self.ranks.count > 1:
            raise SystemExit(PREEMPTED)
        if self._unchecked:
            self._do_what_is_due(stopping=True)

    def _asked_to_stop(self) -> bool:
        """Say whether to stop. Ranks agree after every step, so that none waits for one that has gone."""
        if time.monotonic() >= self.deadline:
            self.stop.reason = self.stop.reason or "training.max_time"
        if self.state.step == self.intervals.last or not self.ranks.any(self.stop.reason is not None):
            return False
        self.stop.reason = self.stop.reason or "another rank"
        return True

    def _do_what_is_due(self, *, stopping: bool) -> bool:
        """Log, sample and save where that is due, but only finite weights; return whether to go back instead."""
        step, intervals = self.state.step, self.intervals
        audited = intervals.audit > 0 and step % intervals.audit == 0
        log = audited or stopping or intervals.due(step, intervals.log)
        sample, measure = intervals.due(step, intervals.sample), intervals.due(step, intervals.metrics)
        save = stopping or intervals.due(step, intervals.checkpoint)
        if not (log or sample or measure or save):
            return False

        # Look at the numbers of all steps since the last time, and at the weights that anything is made of.
        values, go_back = self._check_numbers()
        save = stopping or (save and not self.health.in_a_row)  # no use going back to the midst of what is skipped
        if go_back:
            return True
        if (sample or measure or save) and (networks := nonfinite_weights(self.state, self.ranks)):
            self.health.last = f"step {step}: not a finite number: {networks}"
            self._warn(self.health.last)
            return True

        # All ranks know what an audit says; the first alone writes.
        if audited:
            self._take_audit(values)
        if self.ranks.first:
            if log:
                self._log(step, values)
            if sample or measure:
                self._evaluate(step, sample=sample, measure=measure)
            if save:
                self._save(step)
        return False

    def _check_numbers(self) -> tuple[dict[str, float], bool]:
        """Return the last step's numbers, and whether those of all steps since the last look call for going back.

        One wait for the device, not one a step; where there are ranks, one exchange between them.
        """
        steps = fetch_scalars(self._unchecked, self.ranks)
        self._unchecked.clear()
        for step, values in steps:
            before, passing = self.health.skipped, set(self.health.passing)
            go_back = self.health.observe(step, values)
            if self.health.skipped > before:
                self._warn(f"{self.health.last}; the step was skipped ({self.health.skipped} so far)")
            if new := sorted(self.health.passing - passing):
                self._warn(f"step {step}: not a finite number: {', '.join(new)}; nothing is trained on it")
            if go_back or (step == self.intervals.last and self.health.in_a_row):
                return values, True
        return steps[-1][1], False

    def _go_back(self) -> None:
        """Load the last good checkpoint, with a lower learning rate; NonFiniteError where that is no use."""
        self._background.wait()
        checkpoint = self.ranks.from_first(self.checkpoints.load_newest(warn=self._warn) if self.ranks.first else None)
        try:
            if checkpoint is None:
                raise NonFiniteError(f"{self.health.last} (there is no checkpoint yet to go back to)")
            self.health.roll_back()
        except NonFiniteError as error:
            raise NonFiniteError(f"{error}; {self._diagnosis()}") from error
        lr_backoff = self.state.lr_backoff * self.health.factor
        self.state.load_state_dict(checkpoint[1]["state"])
        self.state.lr_backoff = lr_backoff
        self.objective.load_state_dict(checkpoint[1]["objective"], self.device)
        self.tracker.rewind(self.state.step)
        self._warn(f"back to step {self.state.step}, with {lr_backoff:g} times the configured learning rates")

    def _diagnosis(self) -> str:
        """Describe which layers' gradients were not finite; they, and the batch, are kept in diagnosis.pt."""
        layers, batch = self.state.nonfinite_gradients(), self._last_batch
        place = self.folder / "diagnosis.pt"
        if self.ranks.first and batch is not None:
            pictures = {"content": batch.content, "style": batch.style, "positions": batch.positions}
            content = {"step": self.state.step, "said": self.health.last, "layers": layers} | on_host(pictures)
            write_durably(place, lambda file: torch.save(content, file))
        names = ", ".join(layers[:3]) + (f" and {len(layers) - 3} more" if len(layers) > 3 else "")
        return f"gradients not finite in {names or 'no layer'}; the batch of step {self.state.step} is in {place}"

    def _take_audit(self, values: dict[str, float]) -> None:
        """Add each term's share of the gradient, warn, and (in the warm-up, where asked for) balance the weights."""
        norms = {name.removeprefix("gradient/"): x for name, x in values.items() if name.startswith("gradient/")}
        values |= {f"share/{name}": share for name, share in self.objective.gradient_shares(norms).items()}
        for warning in self._collapse_warnings.warnings(values):
            self._warn(f"step {self.state.step}: {warning}")
        balance, warmup = self.objective.balance, self.state.warmup_steps
        if balance is None or balance.settled:
            return
        if not nonfinite_keys(norms):
            balance.observe({name: norms[name] for name in balance.shares})
        if self.state.step + self.intervals.audit > warmup:
            weights = self.objective.settle_balance()
            weights_text = "  ".join(f"loss.{name}.weight={weights[name]:.4g}" for name in balance.shares)
            self._say(f"balanced after {balance.audits} audits, for the rest of the run: {weights_text}")

    def _say(self, message: str) -> None:
        if self.ranks.first:
            self.progress.say(message)

    def _warn(self, message: str) -> None:
        if self.ranks.first:
            warn(message)

    def _log(self, step: int, values: dict[str, float]) -> None:
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        values["learning_rate"] = self.state.generator_optimiser.param_groups[0]["lr"]
        self.tracker.scalars(step, values | {"images_per_second": self.progress.images_per_second(step)})
        self.progress.update(step, values)

    def _evaluate(self, step: int, *, sample: bool, measure: bool) -> None:
        """Make the held-out pictures' results once, for the grid and for the numbers."""
        assert self.sampler is not None
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
            content = self._content() | {"step": step}
            self._background.submit(lambda: self.checkpoints.save_best(content))

    def _save(self, step: int) -> None:
        """Write generator and checkpoint while training goes on, which waits for the copy alone.

        The generator first: a run whose last checkpoint is there then has its result too.
        """
        content, generator = self._content(), describe(self.state.generator)
        description = generator | {"step": step, "objective": self.objective.describe()}
        description |= {name: self.extra[name] for name in ("provenance",) if name in self.extra}

        def write() -> None:
            write_generator(self.folder / GENERATOR_FILE, content["state"]["networks"]["ema"], description)
            self.checkpoints.save(step, content)

        self._background.submit(write)

    def _content(self) -> dict[str, Any]:
        lowest = self.composite.lowest if self.composite else None
        measured = {"state": self.state.state_dict(), "objective": self.objective.state_dict(), "lowest": lowest}
        copied: dict[str, Any] = on_host(measured | dict(self.extra))
        return copied


def nonfinite_weights(state: TrainState, ranks: Ranks) -> str:
    """Name the networks whose weights are not finite on any rank; "" for none. A finite loss may lead there."""
    networks = state.nonfinite_networks()
    return (", ".join(networks) or "weights of another rank") if ranks.any(bool(networks)) else ""


def fetch_scalars(steps: Sequence[tuple[int, dict[str, Tensor]]], ranks: Ranks) -> list[tuple[int, dict[str, float]]]:
    """Fetch every step's numbers, of all ranks together: means, and of gradients by term the norm over all samples."""
    names = [name for _, scalars in steps for name in scalars]
    flat = torch.stack([scalar.float() for _, scalars in steps for scalar in scalars.values()]).cpu()
    if ranks.count > 1:
        norms = torch.tensor([name.startswith("gradient/") for name in names])
        mean = ranks.mean(torch.where(norms, flat.square(), flat))
        flat = torch.where(norms, (mean / ranks.count).sqrt(), mean)
    numbers = iter(flat.tolist())
    return [(step, {name: next(numbers) for name in scalars}) for step, scalars in steps]
