"""What a training run has left in its folder: read, never changed, whether the run is finished, under way or broken."""

import glob
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_style.evaluation.suite import PHOTOS, STYLES
from gan_style.images.formats import natural_order
from gan_style.runtime.checkpoint import GENERATOR_FILE, read_header
from gan_style.runtime.provenance import FAILURE_FILE, read_failure
from gan_style.runtime.tracking import METRICS_FILE, read_row

CONFIG_FILE = "config.yaml"
FINISHED, UNFINISHED, FAILED = "finished", "unfinished", "failed"
_MOST_NAMED = 3  # corrupt lines of a file that are named one by one

Series = dict[str, list[tuple[int, float]]]  # of a metric: (step, value), steps upward


@dataclass(frozen=True)
class Generator:
    """Hold the header of a generator's file; parameters: how many numbers it holds."""

    description: dict[str, Any]
    parameters: int

    @property
    def step(self) -> int:
        """Return the finished steps that it was trained for; 0 where it does not say."""
        step = self.description.get("step")
        return step if type(step) is int else 0


@dataclass(frozen=True)
class Evaluation:
    """Hold a run's own numbers that ``gan-style evaluate`` has left in its folder, as {metric: number}.

    protocol: what it was measured with, and on what; step: after how many steps, where it says so.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    protocol: str = ""
    step: int | None = None


@dataclass
class Run:
    """A run's folder. settings: {dotted name: value}; reason: why it failed; problems: what cannot be read."""

    folder: Path
    settings: dict[str, Any]
    series: Series = field(default_factory=dict)
    generator: Generator | None = None
    reason: str | None = None
    problems: list[str] = field(default_factory=list)
    evaluation: Evaluation = field(default_factory=Evaluation)

    @property
    def steps(self) -> int | None:
        """Return the steps that it is to have; None where its settings cannot be read."""
        steps = self.settings.get("training.steps")
        return steps if type(steps) is int else None

    @property
    def step(self) -> int:
        """Return the last step of which it left anything."""
        seen = [values[-1][0] for values in self.series.values()]
        return max([self.generator.step if self.generator else 0, *seen])

    @property
    def status(self) -> str:
        """Return FINISHED, UNFINISHED (stopped, or still under way) or FAILED."""
        if self.reason is not None:
            return FAILED
        is_finished = self.generator is not None and self.steps is not None and self.generator.step >= self.steps
        return FINISHED if is_finished else UNFINISHED

    def last(self, name: str) -> float | None:
        values = self.series.get(name)
        return values[-1][1] if values else None

    def data(self, name: str) -> Any:
        """Return the paths that data.NAME holds, found from anywhere; of several styles {style: its paths}."""
        beginning = f"data.{name}."
        styles = {key.removeprefix(beginning): x for key, x in self.settings.items() if key.startswith(beginning)}
        return _locate(styles or self.settings.get(f"data.{name}"), self.folder, self.settings)

    def seconds(self) -> float | None:
        """Estimate how long its steps took: pictures seen by pictures a second, as measured last."""
        speed, batch = self.last("images_per_second"), self.settings.get("training.batch")
        return self.step * batch / speed if speed and type(batch) is int else None


def find_runs(place: Path) -> list[Path]:
    """Return the folders of runs that a folder stands for: itself, or all below it. ValueError for none.

    Hidden folders, such as Hydra's own, are passed over, and so is whatever lies inside of a run.
    """
    if not place.exists():
        raise ValueError(f"runs={place}: there is no such folder")
    folders = list(_below(place)) if place.is_dir() else []
    if not folders:
        raise ValueError(f"runs={place}: neither a run's folder (with {CONFIG_FILE}) nor one that holds any")
    return folders


def _below(folder: Path) -> Iterator[Path]:
    traces = (METRICS_FILE, GENERATOR_FILE, "checkpoints", "samples", ".job.lock")
    has_traces = (folder / CONFIG_FILE).is_file() and any((folder / name).exists() for name in traces)
    if has_traces or (folder / FAILURE_FILE).is_file():
        yield folder
        return
    for path in sorted(folder.iterdir(), key=lambda path: natural_order(path.name)):
        if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield from _below(path)


def _locate(spec: Any, folder: Path, settings: Mapping[str, Any]) -> Any:
    """Return a run's paths so that they are found from anywhere; settings: the run's, flat.

    Relative paths are those of the folder that the run was started in, which follows from where its own folder lies. A
    path that is not there is returned as it is.
    """
    if isinstance(spec, Mapping):
        return {name: _locate(value, folder, settings) for name, value in spec.items()}
    if isinstance(spec, list | tuple):
        return [_locate(value, folder, settings) for value in spec]
    inside = Path(str(settings.get("run.root", "")), str(settings.get("run.name", ""))).parts
    parts = folder.resolve().parts
    if not isinstance(spec, str) or not inside or parts[-len(inside) :] != inside or spec.startswith("~"):
        return spec
    path = Path(*parts[: -len(inside)]) / spec
    return str(path) if path.exists() or (glob.has_magic(spec) and glob.glob(str(path), recursive=True)) else spec


def read_run(folder: Path, settings: Mapping[str, Any], problems: Sequence[str] = ()) -> Run:
    """Read everything but pictures. settings: the run's, flat; problems: what is known not to be readable already."""
    run = Run(folder, dict(settings), reason=read_failure(folder), problems=list(problems))
    if (folder / METRICS_FILE).is_file():
        run.series, wrong = read_metrics(folder / METRICS_FILE)
        run.problems += wrong
    if (folder / GENERATOR_FILE).is_file():
        try:
            run.generator = Generator(*read_header(folder / GENERATOR_FILE))
        except ValueError as error:
            run.problems.append(str(error))
    evaluation = folder / "evaluation" / "metrics.json"
    if evaluation.is_file():
        try:
            run.evaluation = read_evaluation(evaluation, folder)
        except ValueError as error:
            run.problems.append(str(error))
    return run


def read_metrics(path: Path) -> tuple[Series, list[str]]:
    """Return ({metric: (step, value) by step}, problems): corrupt lines are named and passed over.

    Of two values for a step the later one counts; values that are no finite numbers are left out.
    """
    series: dict[str, dict[int, float]] = {}
    problems: list[str] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            step, values = read_row(line)
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}, line {number} is corrupt and passed over ({error})")
            continue
        for name, value in ((name, value) for name, value in values.items() if is_number(value)):
            series.setdefault(name, {})[step] = value
    if (more := len(problems) - _MOST_NAMED) > 0:
        problems[_MOST_NAMED:] = [f"{path}: so are {more} more lines"]
    return {name: sorted(values.items()) for name, values in series.items()}, problems


def labels(folders: Sequence[Path]) -> list[str]:
    """Return a short name for each folder, no two alike: as many of its last parts as that takes."""
    whole = [folder.resolve().parts[1:] or ("/",) for folder in folders]
    assert len(set(whole)) == len(whole)
    names = []
    for parts in whole:
        count = 1
        while sum(other[-count:] == parts[-count:] for other in whole) > 1:
            count += 1
        names.append("/".join(parts[-count:]))
    return names


# Settings of evaluate that its numbers depend on.
_PROTOCOL_SETTINGS = ("size", "layers", "perceptual", "inception_weights", "calibration_pictures")


def read_evaluation(path: Path, folder: Path) -> Evaluation:
    """Read what evaluate's metrics.json says of the run in this folder. ValueError for a file that is not one."""
    try:
        content = json.loads(path.read_bytes())
        settings, models = content.get("settings", {}), content.get("models", {})
        labels = [label for label in content["metrics"] if label not in (PHOTOS, STYLES)]
        if len(labels) > 1:  # several models, of which those of the run lie in its folder
            places = {label: Path(model["place"]).resolve() for label, model in models.items()}
            run_folder = folder.resolve()
            labels = [label for label, place in places.items() if run_folder in (place, *place.parents)]
        if len(labels) != 1:
            return Evaluation()
        count: Callable[[Any], Any] = len if "content" in content else sorted  # those of before have but their names
        on = [
            {name: settings.get(name) for name in _PROTOCOL_SETTINGS},
            {kind: count(content.get("pictures", {}).get(kind, {})) for kind in (PHOTOS, STYLES)},
            content.get("content"),
            content.get("references"),
        ]
        row, step = content["metrics"][labels[0]], models.get(labels[0], {}).get("step")
        return Evaluation(
            {name: estimate["value"] for name, estimate in row.items() if is_number(estimate["value"])},
            json.dumps(on, sort_keys=True),
            step if type(step) is int else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = type(error).__name__
        raise ValueError(f"{path} is not what gan-style evaluate writes, and passed over ({reason})") from error


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number, not too large to be worked with."""
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def stale(runs: Mapping[str, Run]) -> dict[str, tuple[int, int]]:
    """Return {label: (steps when it was evaluated, steps now)} of runs that were trained on since."""
    steps = {label: (run.evaluation.step, run.generator.step) for label, run in runs.items() if run.generator}
    return {label: (then, now) for label, (then, now) in steps.items() if then is not None and now and now != then}


def measured_differently(runs: Mapping[str, Run]) -> bool:
    """Return whether the runs' evaluations differ in settings or pictures."""
    return len({run.evaluation.protocol for run in runs.values() if run.evaluation.numbers}) > 1
