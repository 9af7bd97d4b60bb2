"""The search loop: one trial after the other until there are enough, each a training that can be ended early."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_style.runtime.files import write_json
from gan_style.runtime.process import await_folder, run_process
from gan_style.runtime.signals import PREEMPTED
from gan_style.runtime.tracking import METRICS_FILE, read_row
from gan_style.search.space import override
from gan_style.search.study import Study, Trial


@dataclass(frozen=True)
class TrainingEnd:
    """Hold how a training ended. stop_reason: why it was asked to, "" if it was not; last: its metrics' last values."""

    stop_reason: str
    status: int
    last: Mapping[str, float]


def train(
    command: Sequence[str],
    folder: Path,
    log: Path,
    *,
    should_prune: Callable[[int, Mapping[str, float]], bool],
    stopped: Callable[[], str | None],
) -> TrainingEnd:
    """Run a training to its end, or until a row of its metrics.jsonl or somebody asks it to stop.

    should_prune: called with every row so far; true asks the training to end. stopped: why the search is to end,
    or None. What the training prints is added to ``log``.
    """

    def should_stop() -> str | None:
        verdicts = [should_prune(step, values) for step, values in read_rows(folder / METRICS_FILE)]  # all of them
        return stopped() or ("pruned" if any(verdicts) else None)

    await_folder(folder)
    stop_reason, status = run_process(command, should_stop, log=log)
    if status == PREEMPTED and not stop_reason:
        stop_reason = "another"
    should_stop()  # on the rows of the last moment
    last = {name: value for _, values in read_rows(folder / METRICS_FILE) for name, value in values.items()}
    return TrainingEnd(stop_reason, status, last)


def read_rows(path: Path) -> list[tuple[int, dict[str, float]]]:
    """Return (step, {name: number}) of every whole line of a growing metrics.jsonl; other lines are passed over."""
    rows = []
    for line in path.read_bytes().split(b"\n")[:-1] if path.is_file() else ():
        with suppress(ValueError):
            rows.append(read_row(line))
    return rows


SUMMARY_FILE = "summary.json"
FORMAT = "gan_style.search/1"

ShouldPrune = Callable[[int, Mapping[str, float]], bool]


@dataclass
class Search:
    """A study, and how a trial is trained and its failure explained.

    train: (trial's number, its overrides, what to call with every row of its metrics) -> how it ended. why: number ->
    the reason of a training that failed. stopped: why the search is to end, or None. summary.json is in ``folder``.
    """

    study: Study
    trials: int
    folder: Path
    train: Callable[[int, Sequence[str], ShouldPrune], TrainingEnd]
    why: Callable[[int], str]
    stopped: Callable[[], str | None] = lambda: None
    say: Callable[[str], None] = print

    def run(self) -> str | None:
        """Try trials until there are enough; return why it stopped before, if it did.

        A trial that fails is counted and does not end the search. ValueError where trainings measure no such metric.
        """
        while self.study.finished() < self.trials:
            self._write_summary()
            if self.study.is_exhausted():
                self.say(f"every point of the space has been tried, after {self.study.finished()} trials")
                return None
            if (reason := self.stopped() or self._try(self.study.next())) is not None:
                return reason
        self._write_summary()
        return None

    def _try(self, trial: Trial) -> str | None:
        """Train a trial and note how it ended; return why it was asked to end, where it is to go on later."""
        study, metrics, number = self.study, list(self.study.plan.metrics), trial.number
        settings = overrides(trial.parameters)
        self.say(f"trial {number} ({study.finished() + 1} of {self.trials}): {' '.join(settings)}")

        # The same settings give the same result, seed and all, so they are not trained again.
        if (earlier := study.same_as(trial)) is not None:
            study.end(earlier.state, values=earlier.values, reason=f"the same as trial {earlier.number}")
            self.say(f"trial {number} is the same as trial {earlier.number}, whose result it takes")
            return None

        # Train, with the pruner looking at the first metric of each row.
        pruned: list[tuple[int, float]] = []

        def should_prune(step: int, row: Mapping[str, float]) -> bool:
            value = row.get(metrics[0], math.nan)
            if study.plan.pruning.kind != "none" and not pruned and math.isfinite(value) and study.report(step, value):
                pruned.append((step, value))
            return bool(pruned)

        begun = time.monotonic()
        ended = self.train(number, settings, should_prune)
        seconds = time.monotonic() - begun
        if ended.stop_reason and not pruned and ended.status != 0:
            return ended.stop_reason

        # Note how it ended: pruned, failed for a reason, or complete.
        if pruned and ended.status != 0:
            reason = f"stopped at step {pruned[0][0]}, {metrics[0]} {pruned[0][1]:.4g}"
            study.end("pruned", reason=reason, seconds=seconds)
            self.say(f"trial {number} {reason}")
            return None
        values = [ended.last.get(name, math.nan) for name in metrics]
        missing = [] if ended.status else [name for name in metrics if name not in ended.last]
        if ended.status == 0 and all(map(math.isfinite, values)):
            study.end("complete", values=values, seconds=seconds)
            is_best = number in [best.number for best in study.best()]
            mark = "" if not is_best else "  (best so far)" if len(values) == 1 else "  (on the front)"
            self.say(f"trial {number}: {_values_text(metrics, values)}{mark}")
            return None
        reason = f"{_values_text(metrics, values)}: not a finite number"
        if ended.status != 0:
            reason = self.why(number) or f"status {ended.status}"
        elif missing:
            reason = f"it measured no {missing[0]}"
        study.end("failed", reason=reason, seconds=seconds)
        self.say(f"trial {number} failed: {reason}")
        if missing:
            names = ", ".join(sorted(ended.last)) or "nothing"
            raise ValueError(f"search.metric={missing[0]}: trial {number} measured no such thing; it measured {names}")
        return None

    def _write_summary(self) -> None:
        write_json(self.folder / SUMMARY_FILE, summary(self.study))


def overrides(parameters: Mapping[str, Any]) -> list[str]:
    return [override(name, value) for name, value in parameters.items()]


def _values_text(metrics: Sequence[str], values: Sequence[float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in zip(metrics, values, strict=True))


def summary(study: Study) -> dict[str, Any]:
    """List every trial, and which are the best (one, or a Pareto front), in JSON types."""
    plan, rows = study.plan, []
    for trial in study.trials():
        row: dict[str, Any] = {"number": trial.number, "state": trial.state, "parameters": dict(trial.parameters)}
        row |= {"values": dict(zip(plan.metrics, trial.values, strict=True))} if trial.values else {}
        row |= {"reason": trial.reason} if trial.reason else {}
        rows.append(row | {"seconds": round(trial.seconds, 1)})
    return {
        "format": FORMAT,
        "metrics": dict(plan.metrics),
        "sampler": plan.sampler,
        "pruner": plan.pruning.kind,
        "best": [trial.number for trial in study.best()],
        "trials": rows,
    }


def closing_lines(study: Study, folder_of: Callable[[int], Path]) -> Iterator[str]:
    """Yield the closing lines: how many ended how, and the best or the front with its settings."""
    trials, best, metrics = study.trials(), study.best(), list(study.plan.metrics)
    count = {state: sum(trial.state == state for trial in trials) for state in ("complete", "pruned", "failed")}
    yield f"{len(trials)} trials: " + ", ".join(f"{number} {state}" for state, number in count.items())
    yield from (f"  trial {trial.number} failed: {trial.reason}" for trial in trials if trial.state == "failed")
    if not best:
        yield "no trial was completed"
        return
    if len(metrics) > 1:
        yield f"Pareto front of {' and '.join(metrics)}, {len(best)} of {count['complete']} trials:"
    for trial in best:
        name = "best: trial" if len(metrics) == 1 else "  trial"
        result = f"{_values_text(metrics, trial.values)}: {' '.join(overrides(trial.parameters))}"
        yield f"{name} {trial.number}, {result}  ({folder_of(trial.number)})"
