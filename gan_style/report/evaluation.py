"""The report of an evaluation: the table, content against style as a chart, and a sheet of results."""

from collections.abc import Mapping, Sequence

from gan_style import __version__
from gan_style.evaluation.metrics import Estimate
from gan_style.evaluation.suite import METRICS, PHOTOS, STYLES
from gan_style.report.charts import ChartPoint, scatter
from gan_style.report.html import SheetCell, SheetRow, TableCell, TableHead, TableRow, render

Scores = Mapping[str, Mapping[str, Estimate]]  # {model or baseline: {metric or metric/layer: estimate}}
ARROWS = {"lower": " ↓", "higher": " ↑", "": ""}
_ON_THE_SHEET = ("content", "style", "ssim", "structure")  # numbers under a result


def report(*, title: str, facts: Sequence[str], scores: Scores, sheet: Sequence[SheetRow]) -> str:
    """Return the whole page, self-contained. facts: what was measured and how, a line each."""
    metrics = columns(scores, layers=False)
    layers = [name for name in columns(scores, layers=True) if name not in METRICS]
    models = [label for label in scores if label not in (PHOTOS, STYLES)]
    orders = [
        (model, metric, -1 if METRICS[metric].better == "higher" else 1)
        for model in models
        for metric in _ON_THE_SHEET
        if any(metric in cell.numbers for row in sheet for cell in row.cells if cell.label == model)
    ]
    # The chart: content distance to the right, style distance upward, from 0: down and to the left is better.
    points = [
        ChartPoint(label, row["content"].value, row["style"].value, models.index(label) if label in models else None)
        for label, row in scores.items()
        if {"content", "style"} <= row.keys()
    ]
    chart = None
    if points:
        of_styles = scores[STYLES]["style"].value if "style" in scores.get(STYLES, {}) else None
        chart = scatter(
            points,
            x_range=(0.0, 1.15 * max(point.x for point in points) or 1.0),
            y_range=(0.0, 1.1 * max([*(point.y for point in points), of_styles or 0.0]) or 1.0),
            titles=("content distance ↓", "style distance ↓"),
            reference_line=None if of_styles is None else (of_styles, STYLES),
        )
    return render(
        "evaluation.html",
        title=title,
        version=__version__,
        facts=facts,
        warnings=(),
        heads=_heads(metrics),
        rows=_rows(scores, metrics, models),
        meanings={name: METRICS[name].meaning for name in metrics},
        layer_heads=_heads(layers),
        layer_rows=_rows(scores, layers, models),
        scatter=chart,
        orders=orders,
        pictures=sheet,
    )


def columns(scores: Scores, *, layers: bool) -> list[str]:
    """Return the metrics that any row has, in the order of METRICS; with ``layers`` those of single layers, too."""
    present = dict.fromkeys(name for row in scores.values() for name in row)
    of_layers = [name for name in present if name not in METRICS]
    return [name for name in METRICS if name in present] + (of_layers if layers else [])


def number(estimate: Estimate | None) -> str:
    """Return a number with its standard error for a terminal, as short as can be read; a dash for none."""
    if estimate is None:
        return "-"
    return f"{estimate.value:.4g}" + ("" if estimate.error is None else f" ± {estimate.error:.2g}")


def _heads(metrics: Sequence[str]) -> list[TableHead]:
    heads = {name: TableHead(name + ARROWS[metric.better], metric.meaning) for name, metric in METRICS.items()}
    return [heads.get(name, TableHead(name, name)) for name in metrics]


def _rows(scores: Scores, metrics: Sequence[str], models: Sequence[str]) -> list[TableRow]:
    # The best model by each metric, where there are several and one end is better.
    best = {}
    for name in metrics:
        values = {label: scores[label][name].value for label in models if name in scores[label]}
        better = METRICS[name].better if name in METRICS else "lower"
        if len(values) >= 2 and better:
            best[name] = (min if better == "lower" else max)(values, key=lambda label: values[label])
    rows = []
    for label, row in scores.items():
        cells = []
        for name in metrics:
            if (estimate := row.get(name)) is None:
                cells.append(TableCell("-"))
                continue
            error = "" if estimate.error is None else f"{estimate.error:.2g}"
            cells.append(TableCell(f"{estimate.value:.4g}", estimate.value, error, best=label == best.get(name)))
        rows.append(TableRow(label, models.index(label) if label in models else None, cells))
    return rows


def sheet_row(
    name: str, pictures: Mapping[str, str], numbers: Mapping[str, Mapping[str, float]], models: Sequence[str]
) -> SheetRow:
    """Return a row of the sheet: {model or PHOTOS: picture as a data URI}, {model: {metric: number}}."""
    cells = [SheetCell("", None, pictures.get(PHOTOS))]
    for color, model in enumerate(models):
        metrics = {metric: numbers[model][metric] for metric in _ON_THE_SHEET if metric in numbers.get(model, {})}
        cells.append(SheetCell(model, color, pictures.get(model), metrics))
    return SheetRow(name, cells)
