"""A search over trainings that are a formula instead."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from gan_style.search.loop import Search, TrainingEnd
from gan_style.search.space import Categorical, Range
from gan_style.search.study import SearchPlan, Study

SPACE = {"x": Range(-1.0, 1.0), "n": Range(1, 5, whole=True), "kind": Categorical(("a", None, True, 1))}


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk():
    """What SQLite promises of power cuts is not tested here."""

    def set_(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", set_)
    yield
    event.remove(Engine, "connect", set_)


@pytest.fixture
def make_plan() -> Callable[..., SearchPlan]:
    def make(**fields: Any) -> SearchPlan:
        return SearchPlan(**({"space": SPACE, "metrics": {"heldout/composite": "minimise"}, "startup": 3} | fields))

    return make


@pytest.fixture
def make_search(tmp_path: Path) -> Callable[..., Search]:
    """A search whose trainings measure formula(number, parameters) -> {step: {metric: value}}, or raise OSError.

    asked: number -> why the training is asked to end before it ends.
    """

    def make(
        plan: SearchPlan,
        formula: Callable[[int, Mapping[str, Any]], Mapping[int, Mapping[str, float]]],
        trials: int = 8,
        stop_reason: Callable[[int], str] = lambda number: "",
        folder: Path = tmp_path,
    ) -> Search:
        study = Study(folder, plan)
        search: Search

        def train(
            number: int, overrides: Sequence[str], report: Callable[[int, Mapping[str, float]], bool]
        ) -> TrainingEnd:
            parameters = next(trial.parameters for trial in study.trials() if trial.number == number)
            if reason := stop_reason(number):
                return TrainingEnd(reason, 75, {})
            try:
                rows = formula(number, parameters)
            except OSError:
                return TrainingEnd("", 1, {})
            reported_values: dict[str, float] = {}
            for step, values in rows.items():
                reported_values |= values
                if report(step, values):
                    return TrainingEnd("pruned", 75, reported_values)
            return TrainingEnd("", 0, reported_values)

        search = Search(study, study.limit(trials), folder, train, lambda number: f"why {number}", say=output.append)
        search.said = output
        return search

    output: list[str] = []
    return make
