"""Charts as inline SVG: ticks, axes, points with labels that keep off each other, lines."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gan_style.report.html import escape

_CHARACTER, _LINE = 6.6, 13.0  # about how wide a character and how high a line of 12 px text is


@dataclass(frozen=True)
class Frame:
    """From numbers to places: x in [left, right], y in [bottom, top], drawn on width x height.

    margin: to the left and below, where numbers stand; rim: to the right and above, None for as much.
    """

    right: float
    top: float
    left: float = 0.0
    bottom: float = 0.0
    width: int = 640
    height: int = 400
    margin: int = 60
    rim: int | None = None

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point is drawn, in SVG's units: to the right and downward."""
        margins = self.margin + (self.margin if self.rim is None else self.rim)
        across = (self.width - margins) * (x - self.left) / (self.right - self.left)
        up = (self.height - margins) * (y - self.bottom) / (self.top - self.bottom)
        return self.margin + across, self.height - self.margin - up


def around(values: Iterable[float], *, margin: float = 0.1) -> tuple[float, float]:
    """(low, high) with room beside the values: ``margin`` of their range on either side, and never nothing."""
    found = list(values)
    low, high = min(found), max(found)
    beside = margin * (high - low) or margin * abs(high) or 1.0
    return low - beside, high + beside


def ticks(high: float, low: float = 0.0) -> list[float]:
    """The multiples of a round number from low to high: about six of them."""
    assert math.isfinite(high) and math.isfinite(low) and high > low
    rough = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [float(f"{step * i:.12g}") for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def axes(frame: Frame, across: str, up: str) -> str:
    """Grid lines with their numbers, and what is drawn along each side."""
    (x0, y0), (x1, y1) = frame.place(frame.left, frame.bottom), frame.place(frame.right, frame.top)
    parts = []
    for value in ticks(frame.right, frame.left):
        x, _ = frame.place(value, frame.bottom)
        parts.append(f'<line class=grid x1="{x:.1f}" x2="{x:.1f}" y1="{y0:.1f}" y2="{y1:.1f}"/>')
        parts.append(f'<text x="{x:.1f}" y="{y0 + 18:.1f}" text-anchor="middle">{value:g}</text>')
    for value in ticks(frame.top, frame.bottom):
        _, y = frame.place(frame.left, value)
        parts.append(f'<line class=grid x1="{x0:.1f}" x2="{x1:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{x0 - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    middle = frame.height / 2
    if across:
        parts.append(f'<text x="{frame.width / 2}" y="{y0 + 48:.0f}" text-anchor="middle">{escape(across)}</text>')
    if up:
        turned = f'text-anchor="middle" transform="rotate(-90 14 {middle})"'
        parts.append(f'<text x="14" y="{middle}" {turned}>{escape(up)}</text>')
    return "".join(parts)


def svg(frame: Frame, parts: Iterable[str], label: str, kind: str = "chart") -> str:
    """The chart; label: what it shows, for those who cannot see it."""
    shown = f'viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{escape(label)}"'
    return f"<svg class={kind} {shown}>{''.join(parts)}</svg>"


def path(frame: Frame, points: Iterable[tuple[float, float]]) -> str:
    """The d of an SVG path through points."""
    places = [frame.place(x, y) for x, y in points]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)


Box = tuple[float, float, float, float]  # left, upper, right, lower


@dataclass(frozen=True)
class Label:
    """Where a text stands: x, y, and SVG's text-anchor."""

    x: float
    y: float
    anchor: str


def spread(frame: Frame, places: Sequence[tuple[float, float]], texts: Sequence[str]) -> list[Label | None]:
    """A place beside each point for its text, on no point and on no other text; None where there is no room or no text.

    Tried are right, left, above and below, then further off; the first points choose first.
    """
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    found: list[Label | None] = []
    for (x, y), text in zip(places, texts, strict=True):
        wide = len(text) * _CHARACTER
        tried = ((label, _box(label, wide)) for label in _choices(x, y))
        free = ((label, box) for label, box in tried if _inside(frame, box) and not any(_meet(box, b) for b in taken))
        label, box = next(free, (None, None)) if text else (None, None)
        found.append(label)
        if box is not None:
            taken.append(box)
    return found


def _choices(x: float, y: float) -> list[Label]:
    beside = [Label(x + 9, y + 4, "start"), Label(x - 9, y + 4, "end")]
    over = [Label(x, y - 10, "middle"), Label(x, y + 19, "middle")]
    corners = [Label(x + 8 * i, y + 4 + 14 * j, "start" if i > 0 else "end") for j in (-1, 1) for i in (1, -1)]
    return [*beside, *over, *corners]


def _box(label: Label, wide: float) -> Box:
    left = label.x - {"start": 0.0, "middle": wide / 2, "end": wide}[label.anchor]
    return left, label.y - _LINE + 3, left + wide, label.y + 3


def _inside(frame: Frame, box: Box) -> bool:
    return box[0] >= frame.margin and box[2] <= frame.width and box[1] >= 0 and box[3] <= frame.height - frame.margin


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
