"""The report of an evaluation: the table, content against style as a chart, and a sheet of results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gan_style.evaluation.set_metrics import Estimate
from gan_style.evaluation.suite import METRICS, PHOTOS, STYLES
from gan_style.report.charts import Frame, axes, svg
from gan_style.report.html import asset, data_block, escape, page

Table = Mapping[str, Mapping[str, Estimate]]
ARROWS = {"lower": "↓", "higher": "↑", "": ""}


@dataclass(frozen=True)
class SheetRow:
    """One content picture on the sheet: its name, {set: picture as a data URI}, {set: {metric: number}}."""

    name: str
    pictures: Mapping[str, str]
    numbers: Mapping[str, Mapping[str, float]]


def number(estimate: Estimate | None) -> str:
    """A number with its standard error, as short as it can be read; a dash for none."""
    if estimate is None:
        return "-"
    if estimate.error is None:
        return f"{estimate.value:.4g}"
    return f"{estimate.value:.4g} ± {estimate.error:.2g}"


def columns(table: Table, *, layers: bool) -> list[str]:
    """The metrics that something in the table has, in their own order; with ``layers`` those of single layers too."""
    present = dict.fromkeys(name for one in table.values() for name in one)
    of_layers = [name for name in present if name not in METRICS]
    return [name for name in METRICS if name in present] + (of_layers if layers else [])


def report(*, title: str, facts: Sequence[str], table: Table, sheet: Sequence[SheetRow]) -> str:
    """The whole page, self-contained. facts: what was measured and how, a line each."""
    body = "\n".join(
        [
            f"<main><h1>{escape(title)}</h1>",
            "<ul class=facts>" + "".join(f"<li>{escape(fact)}</li>" for fact in facts) + "</ul>",
            "<h2>Numbers</h2>",
            _table(table, columns(table, layers=False)),
            _legend(columns(table, layers=False)),
            "<details><summary>By layer</summary>"
            + _table(table, [name for name in columns(table, layers=True) if name not in METRICS])
            + "</details>",
            "<h2>Content against style</h2>",
            _chart(table),
            "<h2>Results</h2>",
            '<p class=order>Order: <select id="order" aria-label="order of the pictures"></select></p>',
            '<div id="sheet" class=sheet></div></main>',
            data_block("rows", [{"name": r.name, "pictures": r.pictures, "numbers": r.numbers} for r in sheet]),
        ]
    )
    return page(title=title, body=body, style=asset("report.css"), script=asset("report.js"))


def _table(table: Table, names: Sequence[str]) -> str:
    head = "".join(
        f"<th scope=col>{escape(name)} {ARROWS[METRICS[name].better] if name in METRICS else ''}</th>" for name in names
    )
    best = {name: _best(table, name) for name in names}
    rows = []
    for label, found in table.items():
        cells = "".join(
            f"<td{' class=best' if label == best[name] else ''}>{number(found.get(name))}</td>" for name in names
        )
        end = " class=end" if label in (PHOTOS, STYLES) else ""
        rows.append(f"<tr{end}><th scope=row>{escape(label)}</th>{cells}</tr>")
    return f"<div class=wide><table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


def _best(table: Table, name: str) -> str | None:
    """The model that is best by a metric, where there are several."""
    values = {label: one[name].value for label, one in table.items() if name in one and label not in (PHOTOS, STYLES)}
    better = METRICS[name].better if name in METRICS else "lower"
    if len(values) < 2 or not better:
        return None
    return (min if better == "lower" else max)(values, key=lambda label: values[label])


def _legend(names: Sequence[str]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(METRICS[name].meaning)}</dd>" for name in names)
    return f"<details><summary>What they mean</summary><dl>{rows}</dl></details>"


def _chart(table: Table) -> str:
    """Content distance to the right, style distance upward: down and to the left is better."""
    points = {k: (v["content"].value, v["style"].value) for k, v in table.items() if {"content", "style"} <= v.keys()}
    if not points:
        return "<p>It takes the metrics content and style.</p>"
    floor = table[STYLES]["style"].value if "style" in table.get(STYLES, {}) else None
    right = 1.15 * max(x for x, _ in points.values()) or 1.0
    top = 1.1 * max([y for _, y in points.values()] + ([floor] if floor else [])) or 1.0
    frame = Frame(right=right, top=top)
    parts = [axes(frame, "content distance ↓", "style distance ↓")]
    if floor is not None:
        (x1, y1), (x2, _) = frame.place(0, floor), frame.place(right, floor)
        parts.append(f'<line class=floor x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y1:.1f}"/>')
        parts.append(f'<text x="{x2:.1f}" y="{y1 - 6:.1f}" text-anchor="end">style pictures themselves</text>')
    for label, (x, y) in points.items():
        left, up = frame.place(x, y)
        end = "end" if label == PHOTOS else "model"
        anchor, beside = ("end", -9) if left > 0.7 * frame.width else ("start", 9)
        parts.append(f'<circle class={end} cx="{left:.1f}" cy="{up:.1f}" r="5"/>')
        parts.append(f'<text x="{left + beside:.1f}" y="{up + 4:.1f}" text-anchor="{anchor}">{escape(label)}</text>')
    return svg(frame, parts, "content distance against style distance")
