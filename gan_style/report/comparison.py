"""The report of a comparison of runs: table, content against style, curves over the steps, contact sheet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gan_style.report.charts import Frame, Label, around, axes, path, spread, svg
from gan_style.report.html import asset, escape, page
from gan_style.report.table import NOTHING, Column, Table, Value, front

_COLOURS, _DASHES = 8, ("", "6 4", "2 3")  # of lines, in turn
_MOST_LABELLED = 12  # points of the chart; of more, only those on the front have their names beside them
_LONGEST_LABEL = 30  # characters
_MOST_POINTS = 300  # of a line
_ARROWS = {"lower": " ↓", "higher": " ↑", "": ""}


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
    axes_: tuple[Column, Column] | None,
    curves: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]],
    sheet: Sheet,
) -> str:
    """The whole page, self-contained. curves: {metric: {run: (step, value)}}."""
    body = "\n".join(
        [
            f"<main><h1>{escape(title)}</h1>",
            _list("facts", facts),
            _list("warnings", warnings),
            "<h2>Runs</h2>",
            '<p class=quiet>A click on a column sorts by it. The best of a column is bold; "best" under a number is '
            "that run's own best on the way.</p>",
            _table(table),
            "<h2>Content against style</h2>",
            _chart(table, axes_),
            "<h2>On the way</h2>",
            "<p class=quiet>Over the steps, in the colours of the table; pointing at a run lights it up.</p>",
            f"<div class=curves>{''.join(_curve(table, name, lines) for name, lines in curves.items())}</div>",
            "<h2>Pictures</h2>",
            f"<p class=quiet>{escape(sheet.note)}</p>",
            _sheet(table, sheet),
            "</main>",
        ]
    )
    return page(title=title, body=body, style=asset("compare.css"), script=asset("compare.js"))


def _list(kind: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul class={kind}>{items}</ul>" if lines else ""


def _colour(number: int) -> str:
    """The class of a run's colour."""
    return f"c{number % _COLOURS}"


def _table(table: Table) -> str:
    columns = table.shown()
    heads = "".join(_head(c.title + _ARROWS[c.better], c.name, text=_holds_text(c)) for c in columns)
    rows = []
    for number, label in enumerate(table.labels):
        name = f"<th scope=row><i class='swatch {_colour(number)}'></i>{_breakable(label)}</th>"
        cells = "".join(_cell(column.value(label), best=column.winner() == label) for column in columns)
        rows.append(f"<tr data-run={number}>{name}{cells}</tr>")
    head = f"<thead><tr>{_head('run', '', text=True)}{heads}</tr></thead>"
    return f'<div class=wide><table id="runs">{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _breakable(name: str) -> str:
    """A run's name, which may be broken after a comma."""
    return escape(name).replace(",", ",<wbr>")


def _holds_text(column: Column) -> bool:
    return any(cell.number is None and cell.text != NOTHING for cell in column.cells.values())


def _head(title: str, name: str, *, text: bool) -> str:
    kind = " class=text" if text else ""
    return f'<th scope=col{kind} title="{escape(name)}"><button type=button>{escape(title)}</button></th>'


def _cell(cell: Value, *, best: bool) -> str:
    value = "" if cell.number is None else f' data-value="{cell.number!r}"'
    kind = " class=best" if best else " class=text" if cell.number is None and cell.text != NOTHING else ""
    differs = cell.best is not None and cell.best != cell.number
    under = f"<small>best {cell.best:.4g} at {cell.at}</small>" if differs else ""
    return f"<td{value}{kind}>{escape(cell.text)}{under}</td>"


def _chart(table: Table, pair: tuple[Column, Column] | None) -> str:
    """Content distance to the right, style distance upward: down and to the left is better."""
    points = _points(table, pair)
    if pair is None or not points:
        return "<p>It takes the metrics content and style, of the held-out pictures or of the losses.</p>"
    (left, right), (bottom, top) = around(x for x, _ in points.values()), around(y for _, y in points.values())
    frame = Frame(left=left, right=right, bottom=bottom, top=top, width=760, height=420, rim=16)
    labels = list(points)
    best = [labels[i] for i in front(list(points.values()))]
    parts = [axes(frame, f"{pair[0].name} ↓", f"{pair[1].name} ↓"), _front_line(frame, [points[k] for k in best])]
    parts += _marks(table, frame, points, best)
    words = f"On the front, better than which none is in both: {', '.join(best)}."
    chart = svg(frame, parts, f"{pair[0].name} against {pair[1].name}")
    return f"<div class=wide>{chart}</div><p>{escape(words)}</p>"


def _points(table: Table, pair: tuple[Column, Column] | None) -> dict[str, tuple[float, float]]:
    """{run: (content, style)} of those that have both."""
    numbers = {label: [column.value(label).number for column in pair or ()] for label in table.labels}
    return {k: (found[0], found[1]) for k, found in numbers.items() if found and None not in found}  # type: ignore[misc]


def _marks(table: Table, frame: Frame, points: Mapping[str, tuple[float, float]], best: Sequence[str]) -> Iterator[str]:
    """A circle for each run, filled on the front, whose names are placed first."""
    order = [*best, *(label for label in points if label not in best)]
    places = [frame.place(*points[label]) for label in order]
    texts = [_cut(label) if label in best or len(points) <= _MOST_LABELLED else "" for label in order]
    for label, place, text, where in zip(order, places, texts, spread(frame, places, texts), strict=True):
        number = table.labels.index(label)
        hint = f"<title>{escape(label)}: {points[label][0]:.4g}, {points[label][1]:.4g}</title>"
        kind = f"point {_colour(number)}{' front' if label in best else ''}"
        name = _text(where, text) if where is not None else ""
        yield f'<g class="{kind}" data-run={number}>{hint}{_circle(place, label in best)}{name}</g>'


def _text(where: Label, text: str) -> str:
    return f'<text x="{where.x:.1f}" y="{where.y:.1f}" text-anchor="{where.anchor}">{escape(text)}</text>'


def _circle(place: tuple[float, float], best: bool) -> str:
    return f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="{7 if best else 5}"/>'


def _front_line(frame: Frame, points: Sequence[tuple[float, float]]) -> str:
    """The border of what the front's points dominate: steps to the right and down."""
    corners = [(points[0][0], frame.top)]
    for (x, y), (after, _) in zip(points, [*points[1:], (frame.right, 0.0)], strict=True):
        corners += [(x, y), (after, y)]
    return f'<path class=front d="{path(frame, corners)}"/>'


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"


def _curve(table: Table, name: str, lines: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """One metric of all runs over the steps; where it fell far at the beginning the chart shows what came after."""
    frame = _range(lines)
    better = next((column.better for column in table.columns if column.name == name), "")
    parts = [axes(frame, "", "")]
    for label, points in lines.items():
        number = table.labels.index(label)
        dash = _DASHES[number // _COLOURS % len(_DASHES)]
        style = f' stroke-dasharray="{dash}"' if dash else ""
        shown = [(x, min(max(y, frame.bottom), frame.top)) for x, y in _thinned(points)]
        line = f'<path d="{path(frame, shown)}"{style}/>' if len(shown) > 1 else _circle(frame.place(*shown[0]), False)
        parts.append(f"<g class='line {_colour(number)}' data-run={number}><title>{escape(label)}</title>{line}</g>")
    caption = f"<figcaption>{escape(name)}{_ARROWS[better]}</figcaption>"
    return f"<figure>{caption}{svg(frame, parts, f'{name} over the steps')}</figure>"


def _range(lines: Mapping[str, Sequence[tuple[int, float]]]) -> Frame:
    """All steps, and values up to the 95th percentile where there are enough of them and the rest lies far off."""
    values = sorted(y for points in lines.values() for _, y in points)
    high = values[int(0.95 * len(values))] if len(values) >= 40 else values[-1]
    low, reach = values[0], values[-1] - values[0]
    kept = [low, high if high - low < reach / 3 else values[-1]]
    bottom, top = around(kept, margin=0.05)
    last = max(x for points in lines.values() for x, _ in points)
    return Frame(right=max(1, last), top=top, bottom=bottom, width=460, height=240, margin=44, rim=10)


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Evenly spread ones, the last among them."""
    stride = -(-len(points) // _MOST_POINTS)
    return list(points[::-1][::stride][::-1])


def _sheet(table: Table, sheet: Sheet) -> str:
    if not sheet.rows:
        return ""
    labels = [label for label in table.labels if any(label in found for _, found in sheet.rows)]
    photos = any(sheet.photo in found for _, found in sheet.rows)
    heads = "".join(
        f"<th scope=col><i class='swatch {_colour(table.labels.index(label))}'></i>{_breakable(label)}</th>"
        for label in labels
    )
    rows = []
    for name, found in sheet.rows:
        first = f"<th scope=row>{_picture(found.get(sheet.photo), name)}<small>{escape(name)}</small></th>"
        cells = "".join(f"<td>{_picture(found.get(label), f'{label}: {name}')}</td>" for label in labels)
        rows.append(f"<tr>{first}{cells}</tr>")
    head = f"<thead><tr><th>{'photo' if photos else ''}</th>{heads}</tr></thead>"
    return f"<div class=wide><table class=sheet>{head}<tbody>{''.join(rows)}</tbody></table></div>"


def _picture(uri: str | None, text: str) -> str:
    return "" if uri is None else f'<img src="{escape(uri)}" alt="{escape(text)}" title="{escape(text)}" loading=lazy>'
