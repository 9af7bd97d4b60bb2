"""Which evaluation counts for each of the runs that are compared."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gan_style.comparison.evaluations import Evaluation
from gan_style.comparison.runs import Run


@dataclass(frozen=True)
class Counted:
    """What one evaluation says of the compared runs, {label: {metric: number}}, and what it was measured with.

    steps: {label: after how many}, where it says so.
    """

    numbers: Mapping[str, Mapping[str, float]]
    ruler: str
    steps: Mapping[str, int]


def counted(runs: Mapping[str, Run]) -> dict[str, Counted]:
    """Of each run that was evaluated the evaluation that counts.

    Its own, where that is of it alone; but one of several runs together, where that was measured otherwise, since only
    there are they of one scale.
    """
    folders = {run.folder.resolve(): label for label, run in runs.items()}
    alone, together = dict[str, Counted](), list[Counted]()
    for label, run in runs.items():
        one = run.evaluation
        if len(one.numbers) == 1:
            alone[label] = _of_runs(one, dict.fromkeys(one.numbers, label))
        elif one.numbers:
            together.append(_of_runs(one, _matched(one, folders)))
    found = {}
    for label in runs:
        joint = max((one for one in together if label in one.numbers), key=lambda one: len(one.numbers), default=None)
        own = alone.get(label)
        chosen = own if own and (joint is None or own.ruler == joint.ruler) else joint
        if chosen is not None:
            found[label] = chosen
    return found


def _of_runs(evaluation: Evaluation, labels: Mapping[str, str]) -> Counted:
    """labels: {its name of a model: the run's}."""
    return Counted(
        {label: evaluation.numbers[name] for name, label in labels.items()},
        evaluation.ruler,
        {label: evaluation.steps[name] for name, label in labels.items() if name in evaluation.steps},
    )


def _matched(evaluation: Evaluation, folders: Mapping[Path, str]) -> dict[str, str]:
    """{an evaluation's name of a model: the run's label} of the runs that it can be told to be of.

    By where it was found; where that is gone, or is not said, by the folder's name if no other run has it.
    """
    by_name: dict[str, list[str]] = {}
    for folder, label in folders.items():
        by_name.setdefault(folder.name, []).append(label)
    found = []
    for name in evaluation.numbers:
        place = evaluation.places.get(name)
        if place is not None and place.exists():
            fits = [folders[folder] for folder in (place, *place.parents) if folder in folders]
        else:
            fits = by_name.get(name, [])
        found += [(name, label) for label in fits if len(fits) == 1]
    taken = Counter(label for _, label in found)
    return {name: label for name, label in found if taken[label] == 1}


def stale(runs: Mapping[str, Run]) -> dict[str, tuple[int, int]]:
    """{label: (steps when it was evaluated, steps now)} of runs that were trained on since."""
    then = {label: one.steps.get(label) for label, one in counted(runs).items()}
    return {
        label: (step, now)
        for label, step in then.items()
        if step is not None and (generator := runs[label].generator) and (now := generator.step) and now != step
    }


def rulers_apart(runs: Mapping[str, Run]) -> bool:
    """Whether the runs' evaluations were not all measured with the same, on the same pictures."""
    return len({one.ruler for one in counted(runs).values()}) > 1
