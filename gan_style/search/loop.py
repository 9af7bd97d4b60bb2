"""The search loop: one trial after the other until there are enough, what is said of each, and the summary."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_style.runtime.files import write_bytes
from gan_style.search.process import TrainingEnd
from gan_style.search.space import override
from gan_style.search.study import Running, Study, Trial

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

    @property
    def metrics(self) -> list[str]:
        return list(self.study.plan.metrics)

    def run(self) -> str | None:
        """Try trials until there are enough; why it stopped before, if it did.

        A trial that fails is counted and does not end the search. ValueError where trainings measure no such metric.
        """
        while self.study.finished() < self.trials:
            self._summarise()
            if self.study.is_exhausted():
                self.say(f"every point of the space has been tried, after {self.study.finished()} trials")
                return None
            if (reason := self.stopped() or self._try(self.study.next())) is not None:
                return reason
        self._summarise()
        return None

    def _try(self, trial: Running) -> str | None:
        text = " ".join(overrides(trial.parameters))
        self.say(f"trial {trial.number} ({self.study.finished() + 1} of {self.trials}): {text}")
        if (earlier := self.study.same_as(trial)) is not None:
            # The same settings give the same result, seed and all, so it is not trained again.
            trial.end(earlier.state, values=earlier.values, reason=f"the same as trial {earlier.number}")
            self.say(f"trial {trial.number} is the same as trial {earlier.number}, whose result it takes")
            return None
        started, watch = time.monotonic(), _Watch(self.metrics, trial, prunes=self.study.plan.pruning.kind != "none")
        ended = self.train(trial.number, overrides(trial.parameters), watch)
        if ended.asked and not watch.pruned and ended.status != 0:
            return ended.asked
        self._end(trial, ended, watch, time.monotonic() - started)
        return None

    def _end(self, trial: Running, ended: TrainingEnd, watch: "_Watch", seconds: float) -> None:
        values = [ended.last.get(name, math.nan) for name in self.metrics]
        if ended.status == 0:
            self._end_finished(trial, ended, values, seconds)
        elif watch.pruned:
            message = f"stopped at step {watch.step}, {self.metrics[0]} {watch.value:.4g}"
            trial.end("pruned", reason=message, seconds=seconds)
            self.say(f"trial {trial.number} {message}")
        else:
            self._fail(trial, self.why(trial.number) or f"status {ended.status}", seconds)

    def _end_finished(self, trial: Running, ended: TrainingEnd, values: list[float], seconds: float) -> None:
        if missing := [name for name in self.metrics if name not in ended.last]:
            self._fail(trial, f"it measured no {missing[0]}", seconds)
            raise ValueError(
                f"search.metric={missing[0]}: trial {trial.number} measured no such thing; it measured "
                f"{', '.join(sorted(ended.last)) or 'nothing'}"
            )
        if not all(map(math.isfinite, values)):
            self._fail(trial, f"{_values_text(self.metrics, values)}: not a finite number", seconds)
            return
        trial.end("complete", values=values, seconds=seconds)
        best = [trial.number for trial in self.study.best()]
        mark = "" if trial.number not in best else "  (best so far)" if len(values) == 1 else "  (on the front)"
        self.say(f"trial {trial.number}: {_values_text(self.metrics, values)}{mark}")

    def _fail(self, trial: Running, reason: str, seconds: float) -> None:
        trial.end("failed", reason=reason, seconds=seconds)
        self.say(f"trial {trial.number} failed: {reason}")

    def _summarise(self) -> None:
        content = summary(self.study)
        write_bytes(self.folder / SUMMARY_FILE, json.dumps(content, indent=1).encode() + b"\n")


class _Watch:
    """Hands a trial's first metric to the pruner."""

    def __init__(self, metrics: Sequence[str], trial: Running, *, prunes: bool) -> None:
        self._metric, self._trial, self._prunes = metrics[0], trial, prunes
        self.pruned, self.step, self.value = False, 0, math.nan

    def __call__(self, step: int, values: Mapping[str, float]) -> bool:
        value = values.get(self._metric, math.nan)
        if self._prunes and not self.pruned and math.isfinite(value) and self._trial.report(step, value):
            self.pruned, self.step, self.value = True, step, value
        return self.pruned


def overrides(parameters: Mapping[str, Any]) -> list[str]:
    """A trial's values as the command line has them."""
    return [override(name, value) for name, value in parameters.items()]


def _values_text(metrics: Sequence[str], values: Sequence[float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in zip(metrics, values, strict=True))


def summary(study: Study) -> dict[str, Any]:
    """Every trial, and which are the best (one, or a Pareto front), in JSON types."""
    plan = study.plan
    return {
        "format": FORMAT,
        "metrics": dict(plan.metrics),
        "sampler": plan.sampler,
        "pruner": plan.pruning.kind,
        "best": [trial.number for trial in study.best()],
        "trials": [_row(trial, plan.metrics) for trial in study.trials()],
    }


def _row(trial: Trial, metrics: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {"number": trial.number, "state": trial.state, "parameters": dict(trial.parameters)}
    if trial.values:
        row["values"] = dict(zip(metrics, trial.values, strict=True))
    if trial.reason:
        row["reason"] = trial.reason
    return row | {"seconds": round(trial.seconds, 1)}


def closing_words(study: Study, folder_of: Callable[[int], Path]) -> Iterator[str]:
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
        summary = f"{_values_text(metrics, trial.values)}: {' '.join(overrides(trial.parameters))}"
        yield f"{name} {trial.number}, {summary}  ({folder_of(trial.number)})"
