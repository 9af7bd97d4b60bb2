"""The report of a comparison of runs: table, content against style, curves over the steps, contact sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

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
    points = _points(table, axes)
    best = [list(points)[number] for number in front(list(points.values()))]
    better = {column.name: column.better for column in table.columns}
    color = {label: number for number, label in enumerate(table.labels)}
    return render(
        "comparison.html",
        title=title,
        version=__version__,
        facts=facts,
        warnings=warnings,
        heads=[TableHead(c.title + ARROWS[c.better], c.name, _holds_text(c)) for c in table.visible_columns()],
        rows=[_row(table, label, color[label]) for label in table.labels],
        scatter=_scatter(points, best, color, axes),
        front=[TableRow(label, color[label], ()) for label in best],
        curves=[
            (
                name + ARROWS[better.get(name, "")],
                curves([(label, color[label], values) for label, values in lines.items()], name),
            )
            for name, lines in series.items()
        ],
        note=sheet.note,
        pictures=_pictures(table, sheet, color),
    )


def _holds_text(column: Column) -> bool:
    return any(cell.number is None and cell.text != NOTHING for cell in column.cells.values())


def _row(table: Table, label: str, color: int) -> TableRow:
    cells = []
    for column in table.visible_columns():
        cell = column.value(label)
        differs = cell.best is not None and cell.best != cell.number
        note = f"best {cell.best:.4g} at {cell.at}" if differs else ""
        cells.append(TableCell(cell.text, cell.number, note=note, best=column.winner() == label))
    return TableRow(label, color, cells)


def _points(table: Table, axes: tuple[Column, Column] | None) -> dict[str, tuple[float, float]]:
    """Return {run: (content, style)} of those that have both."""
    points = {}
    for label in table.labels if axes else ():
        assert axes is not None
        x, y = (column.value(label).number for column in axes)
        if x is not None and y is not None:
            points[label] = (x, y)
    return points


def _scatter(
    points: Mapping[str, tuple[float, float]],
    best: Sequence[str],
    color: Mapping[str, int],
    axes: tuple[Column, Column] | None,
) -> tuple[Markup, Markup] | None:
    """Draw content distance to the right and style distance upward: down and to the left is better."""
    if axes is None or not points:
        return None
    few = len(points) <= _MOST_LABELLED
    return scatter(
        [ChartPoint(run, x, y, color[run], run in best, few or run in best) for run, (x, y) in points.items()],
        x_range=padded_range(x for x, _ in points.values()),
        y_range=padded_range(y for _, y in points.values()),
        titles=(f"{axes[0].name} ↓", f"{axes[1].name} ↓"),
        step_line=[points[run] for run in best],
    )


def _pictures(table: Table, sheet: Sheet, color: Mapping[str, int]) -> list[SheetRow]:
    pictured = [label for label in table.labels if any(label in pictures for _, pictures in sheet.rows)]
    labels = [sheet.photo, *pictured] if any(sheet.photo in pictures for _, pictures in sheet.rows) else pictured
    return [
        SheetRow(name, [SheetCell(label, color.get(label), pictures.get(label)) for label in labels])
        for name, pictures in sheet.rows
    ]
