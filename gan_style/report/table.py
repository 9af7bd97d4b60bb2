"""Several runs as one table: settings that differ, metrics, Pareto front; as CSV and for a terminal."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gan_style.evaluation.suite import METRICS
from gan_style.options import as_typed
from gan_style.report.runs import Run, measured_differently
from gan_style.runtime.progress import duration

HELD_OUT, EVALUATED, LOSS, COMPOSITE = "heldout/", "evaluate/", "loss/", "heldout/composite"
# Pairs of metrics to hold against each other, the first choice first.
AXES = tuple((f"{kind}content", f"{kind}style") for kind in (HELD_OUT, EVALUATED, LOSS))
_CURVES = ("heldout/content", "heldout/style", "heldout/ssim", "heldout/composite", "loss/content", "loss/style")
# settings that say nothing of a result
_NO_DIFFERENCE = (
    *("run.", "tracking.", "runtime.", "dry_run", "data.cache_mb", "data.workers", "data.max_unreadable"),
    *(f"training.{name}" for name in ("max_time", "keep_", "log_every", "checkpoint_every", "recompute")),
)
# What the held-out numbers are measured with: where it differs they are of different scales.
_MEASURED_WITH = ("perceptual.", "data.style", "data.holdout", "data.sample_size", "data.content", "metrics.best")
_MEASURED_WITH_PARTS = (".layers", ".layer_weights", "style.target", "style.grey", "style._target_")
_NO_METRIC = ("images_per_second", "learning_rate")  # logged beside them; they say nothing of a result
NOTHING = "-"


@dataclass(frozen=True)
class Value:
    """A cell. number: for sorting and CSV, where there is one; best and at: a metric's best value and its step."""

    text: str
    number: float | None = None
    best: float | None = None
    at: int | None = None


@dataclass(frozen=True)
class Column:
    """name: unique; title: as short as it can be; better: "lower", "higher" or ""; visible: outside of the CSV too."""

    name: str
    title: str
    better: str = ""
    visible: bool = True
    cells: Mapping[str, Value] = field(default_factory=dict)

    def value(self, label: str) -> Value:
        return self.cells.get(label, Value(NOTHING))

    def winner(self) -> str | None:
        """Return the run with the best last value, where several have one and they differ."""
        numbers = {label: cell.number for label, cell in self.cells.items() if cell.number is not None}
        if not self.better or len(set(numbers.values())) < 2:
            return None
        choose = min if self.better == "lower" else max
        return choose(numbers, key=lambda label: numbers[label])


@dataclass(frozen=True)
class Table:
    """labels: of the runs, in their order; columns likewise."""

    labels: list[str]
    columns: list[Column]

    def visible_columns(self) -> list[Column]:
        return [column for column in self.columns if column.visible]


def make_table(runs: Mapping[str, Run]) -> Table:
    """Return {label: run} as a table: status, settings that differ, metrics (last and best), speed and size."""
    columns = [
        _column("status", {label: Value(status_of(run)) for label, run in runs.items()}),
        _column("steps", {label: _whole(run.step) for label, run in runs.items()}),
    ]

    # The settings that differ.
    settings_of = {label: run.settings for label, run in runs.items() if run.settings}
    every = [key for settings in settings_of.values() for key in settings]
    for key in differing(settings_of):
        cells = {}
        for label, settings in settings_of.items():
            if key in settings:
                value = settings[key]
                number = float(value) if type(value) in (int, float) and math.isfinite(value) else None
                cells[label] = Value(NOTHING if value is None else as_typed(value), number)
        columns.append(_column(key, cells, title=_shortest(key, every)))

    # What was measured in training; single layers, and what is of the way only, are in the CSV alone.
    names = dict.fromkeys(name for run in runs.values() for name in run.series if name != "images_per_second")
    for name in sorted(names, key=_rank):
        better, bare = better_end(name), name.removeprefix(HELD_OUT)
        cells = {}
        for label, run in runs.items():
            if values := run.series.get(name):
                at, best = (max if better == "higher" else min)(values, key=lambda pair: pair[1])
                last = values[-1][1]
                cells[label] = Value(short(last), last, best if better else None, at if better else None)
        visible = name.startswith(LOSS) or (bare != name and bare in (*METRICS, "composite", "style_ratio"))
        columns.append(_column(name, cells, better=better, visible=visible))

    # What gan-style evaluate has left; none is best where the runs were measured differently.
    scores = {label: run.evaluation.numbers for label, run in runs.items()}
    apart, order = measured_differently(runs), list(METRICS)
    evaluated = dict.fromkeys(name for row in scores.values() for name in row)
    for name in sorted(evaluated, key=lambda name: order.index(name) if name in order else len(order)):
        cells = {label: _number(row[name]) for label, row in scores.items() if name in row}
        better = "" if apart else better_end(f"{EVALUATED}{name}")
        columns.append(_column(f"{EVALUATED}{name}", cells, better=better, visible=name in METRICS))

    speeds = {label: _number(run.last("images_per_second")) for label, run in runs.items()}
    columns += [
        _column("time", {label: _time(run.seconds()) for label, run in runs.items()}),
        _column("images/s", speeds, better="higher"),
        _column("parameters", {k: _whole(r.generator.parameters) for k, r in runs.items() if r.generator}),
    ]
    return Table(list(runs), columns)


def _column(
    name: str, cells: Mapping[str, Value], *, title: str = "", better: str = "", visible: bool = True
) -> Column:
    return Column(name, title or name, better, visible, cells)


def status_of(run: Run) -> str:
    """Return a run's status with the reason, or how far it is, in words."""
    if run.reason is not None:
        return f"{run.status}: {run.reason}"
    return run.status if run.steps is None or run.status == "finished" else f"{run.status}, {run.step} of {run.steps}"


def differing(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the dotted names in which {label: settings} differ, in their own order; run names and such aside."""
    runs = settings.values()
    keys = dict.fromkeys(key for run in runs for key in run if not key.startswith(_NO_DIFFERENCE))
    return [key for key in keys if len({repr(run.get(key)) for run in runs}) > 1]


def _shortest(key: str, names: Iterable[str]) -> str:
    """Return the last parts of a dotted name, at least two, that no other name ends in."""
    parts, other_names = key.split("."), {other for other in names if other != key}
    ends = (".".join(parts[-count:]) for count in range(min(2, len(parts)), len(parts) + 1))
    return next((end for end in ends if not any(f".{other}".endswith(f".{end}") for other in other_names)), key)


def _rank(name: str) -> tuple[int, int]:
    """Sort held-out metrics in the order of METRICS, the composite, loss terms, then the rest."""
    kinds = (HELD_OUT, LOSS)
    kind = next((number for number, prefix in enumerate(kinds) if name.startswith(prefix)), len(kinds))
    order = [*(f"{HELD_OUT}{metric}" for metric in METRICS), f"{HELD_OUT}style_ratio", COMPOSITE]
    return kind, order.index(name) if name in order else len(order)


def better_end(name: str) -> str:
    """Return "lower", "higher", or "" where neither is better or the metric is not known."""
    if name in (COMPOSITE, f"{HELD_OUT}style_ratio") or name in (f"{LOSS}content", f"{LOSS}style"):
        return "lower"
    bare = next((name.removeprefix(kind) for kind in (HELD_OUT, EVALUATED) if name.startswith(kind)), "")
    return METRICS[bare].better if bare in METRICS else ""


def _number(value: float | None) -> Value:
    return Value(NOTHING) if value is None else Value(short(value), value)


def _whole(value: int) -> Value:
    return Value(f"{value:,}", value)


def _time(seconds: float | None) -> Value:
    return Value(NOTHING) if seconds is None else Value(duration(seconds), seconds)


def short(value: float) -> str:
    """Format a number, as short as can be read."""
    return f"{value:.4g}"


def check_common(runs: Mapping[str, Run]) -> None:
    """Raise ValueError, naming what each has, where there are no numbers or no two runs have a metric in common."""
    names = {label: {name for name in run.series if name not in _NO_METRIC} for label, run in runs.items()}
    measured = {label: metrics for label, metrics in names.items() if metrics}
    if not measured:
        raise ValueError(f"none of these {len(runs)} runs has left any numbers yet: {', '.join(runs)}")
    counted = [name for metrics in measured.values() for name in metrics]
    if len(measured) > 1 and len(set(counted)) == len(counted):
        lists = (f"{label} has {', '.join(sorted(metrics)[:6])}" for label, metrics in measured.items())
        raise ValueError(f"these runs have no metric in common, so there is nothing to compare: {'; '.join(lists)}")


def protocol_differences(runs: Mapping[str, Run]) -> list[str]:
    """Return the settings that differ and that held-out numbers depend on, so that these cannot be compared."""
    settings_of_runs = [run.settings for run in runs.values() if run.settings]
    keys = differing({str(number): settings for number, settings in enumerate(settings_of_runs)})
    # Where data.style_resize is null, data.resize is that of styles, too.
    resized = any(settings.get("data.style_resize") is None for settings in settings_of_runs)
    return [key for key in keys if is_measurement_setting(key) or (resized and key.startswith("data.resize"))]


def is_measurement_setting(key: str) -> bool:
    """Return whether held-out numbers depend on this setting."""
    return key.startswith(_MEASURED_WITH) or (key.startswith("loss.") and key.endswith(_MEASURED_WITH_PARTS))


def scale_spread(runs: Mapping[str, Run]) -> float:
    """Return by how much the runs' perceptual feature scales differ, at most: 0.1 where one is 10 % above another's."""
    by_layer: dict[str, list[float]] = {}
    for run in runs.values():
        objective = run.generator.description.get("objective", {}) if run.generator else {}
        scales = objective.get("scales", {}) if isinstance(objective, dict) else {}
        for layer, scale in scales.items() if isinstance(scales, dict) else ():
            if type(scale) in (int, float) and scale > 0:
                by_layer.setdefault(layer, []).append(scale)
    return max((max(scales) / min(scales) - 1.0 for scales in by_layer.values()), default=0.0)


def axes_of(table: Table) -> tuple[Column, Column] | None:
    """Return the metrics of content and style that most runs have both of; None where none has."""
    columns = {column.name: column for column in table.columns}
    pairs = [(columns[x], columns[y]) for x, y in AXES if x in columns and y in columns]
    counted = [(len(set(x.cells) & set(y.cells)), pair) for pair in pairs for x, y in [pair]]
    largest = max((count for count, _ in counted), default=0)
    return next((pair for count, pair in counted if count == largest and count), None)


def curve_names(runs: Mapping[str, Run], requested: Sequence[str] | None) -> list[str]:
    """Return the metrics to draw over the steps. ValueError for a wanted one that no run has."""
    measured = dict.fromkeys(name for run in runs.values() for name in run.series)
    if requested is None:
        return [name for name in _CURVES if name in measured]
    if missing := [name for name in requested if name not in measured]:
        raise ValueError(f"curves: no run has {missing[0]!r}; there are {', '.join(sorted(measured))}")
    return list(requested)


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the numbers of the points that no other one dominates, the Pareto front, by their first coordinate.

    Less is better in both. A point dominates another if it is at most as large in both coordinates and smaller in one
    (Pareto's order); so of equal points all are in, or none.
    """
    order = sorted(range(len(points)), key=lambda number: points[number])
    best: list[int] = []
    lowest = float("inf")
    for number in order:
        if points[number][1] < lowest or (best and points[number] == points[best[-1]]):
            best.append(number)
            lowest = points[number][1]
    return best


_WIDEST_CELL = 32  # characters
_FIRST = ("status", "steps", "heldout/content", "heldout/style")  # of all columns; then come settings, then:
_THEN = ("heldout/style_ratio", "heldout/composite", "images/s", "parameters")


def as_csv(table: Table) -> str:
    """Return all columns; beside a metric's last value its best one with its step, where it has a better end."""

    def exact(value: float | None) -> str:  # to the last digit; whole numbers as such
        whole = value is not None and value == int(value) and abs(value) < 1e15
        return "" if value is None else str(int(value)) if whole else repr(value)

    rows = {label: {"run": label} for label in table.labels}
    for column in table.columns:
        has_best = any(cell.at is not None for cell in column.cells.values())
        for label, row in rows.items():
            cell = column.value(label)
            text = "" if cell.text == NOTHING else cell.text
            row[column.name] = text if cell.number is None else exact(cell.number)
            if has_best:
                row |= {f"{column.name} best": exact(cell.best), f"{column.name} best step": exact(cell.at)}
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, next(iter(rows.values())), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    return buffer.getvalue()


def as_text(table: Table, width: int) -> str:
    """Return the table for a terminal of so many characters; columns for which there is no room are counted."""
    labels = [on_one_line(label) for label in table.labels]
    texts = {}
    for column in table.visible_columns():
        cells = [on_one_line(column.value(k).text) + "*" * (column.winner() == k) for k in table.labels]
        texts[column.name] = [on_one_line(column.title), *cells]

    # The most important columns first, while there is room; shown in the table's own order.
    chosen, space = set(), width - max(map(len, [*labels, "run"]))
    for name in sorted(texts, key=_weight):
        needed = 2 + max(map(len, texts[name]))
        if needed <= space:
            chosen.add(name)
            space -= needed
    columns = [["run", *labels], *(texts[name] for name in texts if name in chosen)]
    left_out = len(table.columns) - len(chosen)
    note = f"\n({left_out} more columns are in summary.csv; * marks the best)" if left_out else ""
    return align(list(zip(*columns, strict=True))) + note


def _weight(name: str) -> tuple[int, int]:
    """Sort columns by importance: status, content and style, settings, the other main ones, the rest."""
    if name in _FIRST:
        return 0, _FIRST.index(name)
    if name in _THEN:
        return 2, _THEN.index(name)
    return (3 if name.startswith((HELD_OUT, LOSS, EVALUATED)) or name == "time" else 1), 0


def on_one_line(text: str, longest: int = _WIDEST_CELL) -> str:
    """Return a text on one line without control characters, cut to a length."""
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}…"


def align(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of equal length as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
