"""The report of a comparison of runs: table, content against style, curves over the steps, contact sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gan_style import __version__
from gan_style.report.charts import ChartPoint, curves, padded_range, scatter
from gan_style.report.evaluation import ARROWS
from gan_style.report.html import SheetCell, SheetRow, TableCell, TableHead, TableRow, render
from gan_style.report.table import NOTHING, Column, Table, front

_MOST_LABELLED = 12  # points of the chart; of more, only those on the front have their names beside them


@dataclass(frozen=True)
class Sheet:
    """The contact sheet. rows: (name of the picture, {run: picture as a data URI}); the photo's label is ``photo``,
    which no run can have.

    note: where the pictures come from, in words.
    """

    note: str
    rows: Sequence[tuple[str, Mapping[str, str]]]
    photo: str = ""


def report(
    *,
    title: str,
    facts: Sequence[str],
    warnings: Sequence[str],
    table: Table,
    axes: tuple[Column, Column] | None,
    series: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]],
    sheet: Sheet,
) -> str:
    """Return the whole page, self-contained. axes: content and style; series: {metric: {run: [(step, value)]}}."""
    color = {label: number for number, label in enumerate(table.labels)}

    # The chart: content distance to the right, style distance upward, so that down and to the left is better.
    points: dict[str, tuple[float, float]] = {}
    chart, best = None, list[str]()
    if axes is not None:
        pairs = {label: tuple(column.value(label).number for column in axes) for label in table.labels}
        points = {label: (x, y) for label, (x, y) in pairs.items() if x is not None and y is not None}
    if axes is not None and points:
        best = [list(points)[number] for number in front(list(points.values()))]
        few = len(points) <= _MOST_LABELLED
        chart = scatter(
            [ChartPoint(run, x, y, color[run], run in best, few or run in best) for run, (x, y) in points.items()],
            x_range=padded_range(x for x, _ in points.values()),
            y_range=padded_range(y for _, y in points.values()),
            titles=(f"{axes[0].name} ↓", f"{axes[1].name} ↓"),
            step_line=[points[run] for run in best],
        )

    # The table, and the curves over the steps.
    columns = table.visible_columns()
    better = {column.name: column.better for column in table.columns}
    texts = {c.name for c in columns if any(x.number is None and x.text != NOTHING for x in c.cells.values())}
    lines_of = {name: [(run, color[run], values) for run, values in lines.items()] for name, lines in series.items()}

    # The contact sheet, with the runs that have pictures.
    pictured = {label for _, pictures in sheet.rows for label in pictures}
    labels = [label for label in (sheet.photo, *table.labels) if label in pictured]
    return render(
        "comparison.html",
        title=title,
        version=__version__,
        facts=facts,
        warnings=warnings,
        heads=[TableHead(c.title + ARROWS[c.better], c.name, c.name in texts) for c in columns],
        rows=[TableRow(run, color[run], [_cell(column, run) for column in columns]) for run in table.labels],
        scatter=chart,
        front=[TableRow(run, color[run], ()) for run in best],
        curves=[(name + ARROWS[better.get(name, "")], curves(lines, name)) for name, lines in lines_of.items()],
        note=sheet.note,
        pictures=[
            SheetRow(name, [SheetCell(label, color.get(label), pictures.get(label)) for label in labels])
            for name, pictures in sheet.rows
        ],
    )


def _cell(column: Column, run: str) -> TableCell:
    cell = column.value(run)
    differs = cell.best is not None and cell.best != cell.number
    note = f"best {cell.best:.4g} at {cell.at}" if differs else ""
    return TableCell(cell.text, cell.number, note=note, best=column.winner() == run)
