"""Optuna, kept in one file and imported only when a search runs: which trial comes next, and what is known of each.

A trial's values follow from the search's seed, the trial's number and the results before it, so a search that is
interrupted tries what it would have tried.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gan_style.options import differences
from gan_style.search.space import Categorical, Dimension, grid, round_digits, to_literal

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("none", "median", "halving")
STUDY_FILE = "study.db"
_PLAN, _REASON, _SECONDS = "plan", "reason", "seconds"
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


@dataclass(frozen=True)
class Pruning:
    """Say which trials end before their time: kind is none, median or halving. None before ``warmup`` steps.

    median: those worse, at the same step, than the median of at least ``startup`` complete ones. halving: those not
    among the best quarter of all that came as far, at ``warmup`` steps, at four times as many, and so on (Li et al.
    2020, asynchronous successive halving).
    """

    kind: str = "none"
    startup: int = 4
    warmup: int = 1


@dataclass(frozen=True)
class SearchPlan:
    """Describe a search. metrics: {name: "minimise" or "maximise"}; settings: of the training, flat and plain."""

    space: Mapping[str, Dimension]
    metrics: Mapping[str, str]
    sampler: str = "tpe"
    startup: int = 10
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    pruning: Pruning = Pruning()

    def described(self) -> dict[str, str]:
        """List what must stay the same while a search goes on, by the options' names."""
        of_space = {f"space.{name}": str(dimension) for name, dimension in self.space.items()}
        of_search = {
            "search.metric": str(dict(self.metrics)),
            "search.sampler": self.sampler,
            "search.seed": str(self.seed),
        }
        return of_search | of_space | {name: json.dumps(value) for name, value in self.settings.items()}


@dataclass(frozen=True)
class Trial:
    """One trial as it stands. state: running, complete, pruned or failed; values: of the metrics, in their order."""

    number: int
    state: str
    parameters: Mapping[str, Any]
    values: Sequence[float] = ()
    reason: str = ""
    seconds: float = 0.0


class Study:
    """A search's trials, kept in study.db of its folder.

    ValueError where Optuna is not installed, or where the folder holds a search with another plan.
    """

    def __init__(self, folder: Path, plan: SearchPlan) -> None:
        try:
            import optuna
            from sqlalchemy.exc import DatabaseError
        except ImportError as error:
            raise ValueError("gan-style search needs Optuna: pip install 'gan_style[search]'") from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # what it would say is said by the search
        self._optuna, self.plan = optuna, plan
        self._points: list[dict[str, Any]] | None = None  # of the space, where they can be counted
        try:
            self._points = grid(plan.space)
        except ValueError:
            if plan.sampler == "grid":
                raise

        # Open the database, or begin one.
        path, pruning = folder.absolute() / STUDY_FILE, plan.pruning
        directions: list[Any] = [direction.replace("ise", "ize") for direction in plan.metrics.values()]
        pruners: dict[str, Any] = {
            "none": optuna.pruners.NopPruner(),
            "median": optuna.pruners.MedianPruner(n_startup_trials=pruning.startup, n_warmup_steps=pruning.warmup),
            "halving": optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, pruning.warmup)),
        }
        try:
            self._study = optuna.create_study(
                storage=f"sqlite:///{quote(str(path))}",
                study_name="search",
                directions=directions,
                load_if_exists=True,
                pruner=pruners[pruning.kind],
            )
        except DatabaseError as error:
            raise ValueError(f"{path} cannot be read ({error.orig}); choose another search.name") from error

        # The folder holds this search or none.
        new = plan.described()
        old = self._study.user_attrs.get(_PLAN, new)
        if lines := differences(old, new):
            raise ValueError("\n  ".join([f"{folder} holds another search; choose another search.name.", *lines]))
        self._study.set_user_attr(_PLAN, new)

    def trials(self) -> list[Trial]:
        return [self._seen(trial) for trial in self._study.get_trials(deepcopy=False) if trial.state.name != "WAITING"]

    def finished(self) -> int:
        return sum(trial.state != "running" for trial in self.trials())

    def same_as(self, trial: Trial) -> Trial | None:
        """Return an earlier trial of the same parameters that has a result."""
        earlier = [other for other in self.trials() if other.number < trial.number]
        ended = (other for other in earlier if other.state in ("complete", "pruned"))
        return next((other for other in ended if _key(other.parameters) == _key(trial.parameters)), None)

    def is_exhausted(self) -> bool:
        """Return whether each point of the space has been tried, which takes one of few points."""
        tried = {_key(trial.parameters) for trial in self.trials() if trial.state != "running"}
        return self._points is not None and tried >= set(map(_key, self._points))

    def limit(self, count: int | None) -> int:
        """Count the trials that there will be: all points of the grid, or as many as are asked for."""
        if self.plan.sampler == "grid" and self._points is not None:
            return min(count or len(self._points), len(self._points))
        assert count is not None
        return count

    def next(self) -> Trial:
        """Begin a trial: the one that was running when a search before this one ended, or else a new one."""
        # Draws follow from the seed and the trial's number.
        trials = self._study.get_trials(deepcopy=False)
        running, waiting = ([t for t in trials if t.state.name == state] for state in ("RUNNING", "WAITING"))
        number = running[0].number if running else len(trials) - len(waiting)
        digest = hashlib.blake2b(f"{self.plan.seed}/{number}".encode(), digest_size=4).digest()
        seed, samplers = int.from_bytes(digest, "big"), self._optuna.samplers
        if self.plan.sampler == "tpe":
            self._study.sampler = samplers.TPESampler(seed=seed, n_startup_trials=self.plan.startup)
        else:
            self._study.sampler = samplers.RandomSampler(seed=seed)

        # Take the trial up, or ask for one; a grid's points are tried in their order.
        if running:
            self._trial = self._optuna.trial.Trial(self._study, running[0]._trial_id)
        else:
            if self.plan.sampler == "grid" and self._points and not waiting:
                point = self._points[number]
                self._study.enqueue_trial(
                    {n: to_literal(x) if isinstance(self.plan.space[n], Categorical) else x for n, x in point.items()}
                )
            self._trial = self._study.ask()
        self._reported = max(running[0].intermediate_values, default=-1) if running else -1
        parameters = {name: self._suggest(self._trial, name) for name in self.plan.space}
        return Trial(self._trial.number, "running", parameters)

    def report(self, step: int, value: float) -> bool:
        """Tell the pruner the running trial's metric; return whether it is to end. An earlier step is passed over."""
        if step <= self._reported:
            return False
        self._reported = step
        self._trial.report(value, step)
        return bool(self._trial.should_prune())

    def end(self, state: str, *, values: Sequence[float] = (), reason: str = "", seconds: float = 0.0) -> None:
        """End the running trial. state: complete, which has values; pruned or failed, which have a reason."""
        self._trial.set_user_attr(_SECONDS, seconds)
        if reason:
            self._trial.set_user_attr(_REASON, reason)
        optuna_state = next(name for name, label in _STATES.items() if label == state)
        self._study.tell(self._trial, list(values) or None, state=self._optuna.trial.TrialState[optuna_state])

    def best(self) -> list[Trial]:
        """Find the best complete trial, or for several metrics the Pareto front by the first of them."""
        complete = [trial for trial in self.trials() if trial.state == "complete"]
        if not complete:
            return []
        if len(self.plan.metrics) == 1:
            return [self._seen(self._study.best_trial)]
        return sorted(map(self._seen, self._study.best_trials), key=lambda trial: tuple(trial.values))

    def _suggest(self, trial: Any, name: str) -> Any:
        """Return the trial's value of an option: kept where it was chosen before."""
        dimension = self.plan.space[name]
        if isinstance(dimension, Categorical):
            return self._value(name, trial.suggest_categorical(name, [to_literal(value) for value in dimension.values]))
        suggest = trial.suggest_int if dimension.whole else trial.suggest_float
        step = {} if dimension.step is None else {"step": dimension.step}
        return self._value(name, suggest(name, dimension.low, dimension.high, log=dimension.log, **step))

    def _value(self, name: str, text: Any) -> Any:
        """Convert what Optuna keeps to the value that is used.

        Of choices it is told the written form, in which 1, 1.0 and true differ and lists are allowed.
        """
        dimension = self.plan.space[name]
        if not isinstance(dimension, Categorical):
            return min(max(round_digits(text), dimension.low), dimension.high)
        return {to_literal(value): value for value in dimension.values}[text]

    def _seen(self, trial: Any) -> Trial:
        state = _STATES.get(trial.state.name, "running")
        return Trial(
            number=trial.number,
            state=state,
            parameters={name: self._value(name, text) for name, text in trial.params.items()},
            values=tuple(trial.values or ()) if state == "complete" else (),
            reason=trial.user_attrs.get(_REASON, ""),
            seconds=trial.user_attrs.get(_SECONDS, 0.0),
        )


def _key(parameters: Mapping[str, Any]) -> str:
    """Return parameters as text, in which 1, 1.0 and true differ."""
    return " ".join(f"{name}={to_literal(value)}" for name, value in sorted(parameters.items()))
