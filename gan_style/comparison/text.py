"""A comparison's table as a CSV file and for a terminal."""

import csv
import io
from collections.abc import Sequence

from gan_style.comparison.table import EVALUATED, HELD_OUT, LOSS, NOTHING, Column, Table, Value

_WIDEST_CELL = 32  # characters
_FIRST = ("status", "steps", "heldout/content", "heldout/style")  # of all columns; then come settings, then:
_THEN = ("heldout/style_ratio", "heldout/composite", "images/s", "parameters")


def as_csv(table: Table) -> str:
    """All columns. Beside a metric's last value stand its best one and that one's step, where it has a better end."""
    columns = [(column, any(cell.at is not None for cell in column.cells.values())) for column in table.columns]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["run", *(name for column, best in columns for name in _heads(column.name, best))])
    for label in table.labels:
        writer.writerow([label, *(text for c, best in columns for text in _cells(c.cells.get(label), best))])
    return buffer.getvalue()


def _heads(name: str, best: bool) -> list[str]:
    return [name, f"{name} best", f"{name} best step"] if best else [name]


def _cells(cell: Value | None, best: bool) -> list[str]:
    """Numbers to their last digit, whole ones as such; nothing for nothing."""
    if cell is None:
        return [""] * (3 if best else 1)
    return [
        _exact(cell.number) if cell.number is not None else "" if cell.text == NOTHING else cell.text,
        *([_exact(cell.best), _exact(cell.at)] * best),
    ]


def _exact(value: float | None) -> str:
    if value is None:
        return ""
    return repr(value) if value != int(value) or abs(value) >= 1e15 else str(int(value))


def as_text(table: Table, width: int) -> str:
    """For a terminal of so many characters: a row for each run; columns for which there is no room are counted."""
    rows = [_cut(label) for label in table.labels]
    chosen, room = [], width - max(map(len, [*rows, "run"]))
    for column in _by_weight(table.shown()):
        needed = 2 + _width(column, table.labels)
        if needed <= room:
            chosen.append(column)
            room -= needed
    kept = [column for column in table.columns if column in chosen]
    lines = [["run", *(_cut(column.title) for column in kept)]]
    lines += [[row, *(_marked(c, label) for c in kept)] for row, label in zip(rows, table.labels, strict=True)]
    left_out = len(table.columns) - len(kept)
    note = f"\n({left_out} more columns are in summary.csv; * marks the best)" if left_out else ""
    return _aligned(lines) + note


def _by_weight(columns: Sequence[Column]) -> list[Column]:
    """Which columns to find room for first: status, content and style, what was set, the other main ones, the rest."""
    return sorted(columns, key=lambda column: _weight(column.name))


def _weight(name: str) -> tuple[int, int]:
    if name in _FIRST:
        return 0, _FIRST.index(name)
    if name in _THEN:
        return 2, _THEN.index(name)
    return (3 if name.startswith((HELD_OUT, LOSS, EVALUATED)) or name == "time" else 1), 0


def _width(column: Column, labels: Sequence[str]) -> int:
    return max(len(_cut(column.title)), *(len(_marked(column, label)) for label in labels))


def _marked(column: Column, label: str) -> str:
    return _cut(column.value(label).text) + ("*" if column.winner() == label else "")


def _cut(text: str) -> str:
    """On one line, and no control characters, whatever a folder is called."""
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain if len(plain) <= _WIDEST_CELL else f"{plain[: _WIDEST_CELL - 1]}…"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
