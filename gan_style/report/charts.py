"""Charts as inline SVG: ticks, axes, points with labels that keep off each other, lines."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

COLORS = 8  # of runs, in turn (report.css)
_DASHES = ("", "6 4", "2 3")  # of lines, where colors come again
_MOST_POINTS = 300  # of a line
_CHARACTER, _LINE = 7.5, 13.0  # about how wide a bold character and how high a line of 12 px text is


@dataclass(frozen=True)
class Frame:
    """Map numbers to places: x in [left, right], y in [bottom, top], drawn on width x height.

    margin: to the left and below, where numbers stand; rim: to the right and above.
    """

    left: float
    right: float
    bottom: float
    top: float
    width: int = 640
    height: int = 400
    margin: int = 60
    rim: int = 60

    @property
    def longest_label(self) -> int:
        """Return how many characters a label has that may stand beside a point."""
        return 30 if self.width > 400 else 18

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point is drawn, in SVG's units: to the right and downward."""
        margins = self.margin + self.rim
        across = (self.width - margins) * (x - self.left) / (self.right - self.left)
        up = (self.height - margins) * (y - self.bottom) / (self.top - self.bottom)
        return self.margin + across, self.height - self.margin - up


def padded_range(values: Iterable[float], *, margin: float = 0.1) -> tuple[float, float]:
    """Return (low, high) with room beside the values: ``margin`` of their range on either side, and never nothing."""
    numbers = list(values)
    low, high = min(numbers), max(numbers)
    padding = margin * (high - low) or margin * abs(high) or 1.0
    return low - padding, high + padding


def ticks(high: float, low: float = 0.0) -> list[float]:
    """Return the multiples of a round number from low to high: about six of them."""
    assert math.isfinite(high) and math.isfinite(low) and high > low
    rough = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [float(f"{step * i:.12g}") for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def axes(frame: Frame, across: str, up: str) -> str:
    """Draw grid lines with their numbers and the titles of both axes."""
    (x0, y0), (x1, y1) = frame.place(frame.left, frame.bottom), frame.place(frame.right, frame.top)
    parts = []
    for value in ticks(frame.right, frame.left):
        x, _ = frame.place(value, frame.bottom)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{y0:.1f}" y2="{y1:.1f}"/>')
        parts.append(f'<text class="ticks" x="{x:.1f}" y="{y0 + 18:.1f}" text-anchor="middle">{value:g}</text>')
    for value in ticks(frame.top, frame.bottom):
        _, y = frame.place(frame.left, value)
        parts.append(f'<line class="grid" x1="{x0:.1f}" x2="{x1:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="ticks" x="{x0 - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    middle = frame.height / 2
    if across:
        parts.append(f'<text x="{frame.width / 2}" y="{y0 + 40:.0f}" text-anchor="middle">{escape(across)}</text>')
    if up:
        turned = f'text-anchor="middle" transform="rotate(-90 12 {middle})"'
        parts.append(f'<text x="12" y="{middle}" {turned}>{escape(up)}</text>')
    return "".join(parts)


def svg(frame: Frame, parts: Iterable[str], label: str) -> Markup:
    """Return the chart; label: what it shows, for those who cannot see it."""
    attributes = f'viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{escape(label)}"'
    return Markup(f'<svg class="chart" {attributes}>{"".join(parts)}</svg>')  # parts escape their texts


def path(frame: Frame, points: Iterable[tuple[float, float]]) -> str:
    """Return the d of an SVG path through points."""
    places = [frame.place(x, y) for x, y in points]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)


Box = tuple[float, float, float, float]  # left, upper, right, lower


@dataclass(frozen=True)
class TextPlace:
    """Hold a text's place: x, y, and SVG's text-anchor."""

    x: float
    y: float
    anchor: str


def place_labels(
    frame: Frame, places: Sequence[tuple[float, float]], texts: Sequence[str], obstacles: Sequence[Box] = ()
) -> list[TextPlace | None]:
    """Place each point's text beside it, on no point, no other text and no obstacle; None where there is no room.

    Tried are right, left, above and below, then further off; the first points choose first.
    """
    occupied = [*obstacles, *((x - 7, y - 7, x + 7, y + 7) for x, y in places)]
    labels: list[TextPlace | None] = []
    for (x, y), text in zip(places, texts, strict=True):
        right_or_left = [TextPlace(x + 11, y + 4, "start"), TextPlace(x - 11, y + 4, "end")]
        over = [TextPlace(x, y - 10, "middle"), TextPlace(x, y + 19, "middle")]
        corners = [TextPlace(x + 8 * i, y + 4 + 14 * j, "start" if i > 0 else "end") for j in (-1, 1) for i in (1, -1)]
        labels.append(None)
        for label in (*right_or_left, *over, *corners) if text else ():
            left, upper, right, lower = box = _box(label, len(text) * _CHARACTER)
            is_inside = left >= frame.margin and right <= frame.width and upper >= 0
            is_inside = is_inside and lower <= frame.height - frame.margin
            if is_inside and not any(_overlap(box, other) for other in occupied):
                labels[-1] = label
                occupied.append(box)
                break
    return labels


def _text(label: TextPlace, text: str) -> str:
    return f'<text x="{label.x:.1f}" y="{label.y:.1f}" text-anchor="{label.anchor}">{escape(text)}</text>'


def _box(label: TextPlace, wide: float) -> Box:
    left = label.x - {"start": 0.0, "middle": wide / 2, "end": wide}[label.anchor]
    return left, label.y - _LINE + 3, left + wide, label.y + 3


def _overlap(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


@dataclass(frozen=True)
class ChartPoint:
    """A point of a scatter chart. color: the number of its run's color, None for a baseline; front: it is filled."""

    label: str
    x: float
    y: float
    color: int | None = None
    front: bool = False
    labelled: bool = True


def scatter(
    points: Sequence[ChartPoint],
    *,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    titles: tuple[str, str],
    reference_line: tuple[float, str] | None = None,
    step_line: Sequence[tuple[float, float]] = (),
) -> tuple[Markup, Markup]:
    """Draw points as a chart for wide windows, and as one for narrow ones.

    reference_line: a height with its name, drawn as a line; step_line: the border of what these points dominate.
    """

    def draw(frame: Frame) -> Markup:
        parts = [axes(frame, *titles)]
        obstacles: list[Box] = []
        if step_line:
            corners = [(step_line[0][0], frame.top)]
            for (x, y), (after, _) in zip(step_line, [*step_line[1:], (frame.right, 0.0)], strict=True):
                corners += [(x, y), (after, y)]
            parts.append(f'<path class="front" d="{path(frame, corners)}"/>')
        if reference_line is not None:
            (x0, y0), (x1, _) = frame.place(frame.left, reference_line[0]), frame.place(frame.right, reference_line[0])
            parts.append(f'<line class="floor" x1="{x0:.1f}" x2="{x1:.1f}" y1="{y0:.1f}" y2="{y0:.1f}"/>')
            # Its name stands over or under the line, at an end where no point lies.
            ends = [TextPlace(x, y0 + dy, side) for x, side in ((x1, "end"), (x0 + 4, "start")) for dy in (-6, 15)]
            circles = [(x - 7, y - 7, x + 7, y + 7) for x, y in (frame.place(point.x, point.y) for point in points)]
            length = len(reference_line[1]) * _CHARACTER
            free = [c for c in ends if not any(_overlap(_box(c, length), circle) for circle in circles)]
            where = (free or ends)[0]
            parts.append(_text(where, reference_line[1]))
            obstacles.append(_box(where, length))

        # Points on the front choose the places of their labels first.
        ordered = sorted(points, key=lambda point: not point.front)
        places = [frame.place(point.x, point.y) for point in ordered]
        texts = [shorten(point.label, frame.longest_label) if point.labelled else "" for point in ordered]
        labels = place_labels(frame, places, texts, obstacles)
        for point, (x, y), text, label in zip(ordered, places, texts, labels, strict=True):
            run = "" if point.color is None else f' data-run="{point.color}"'
            color = "" if point.color is None else f" c{point.color % COLORS}"
            hint = f"<title>{escape(point.label)}: {point.x:.4g}, {point.y:.4g}</title>"
            circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{7 if point.front else 5}"/>'
            name = "" if label is None else _text(label, text)
            parts.append(f'<g class="point{color}{" front" if point.front else ""}"{run}>{hint}{circle}{name}</g>')
        return svg(frame, parts, " against ".join(titles))

    wide = Frame(*x_range, *y_range, width=760, height=420, margin=56, rim=20)
    narrow = Frame(*x_range, *y_range, width=340, height=330, margin=48, rim=18)
    return draw(wide), draw(narrow)


def curves(lines: Sequence[tuple[str, int, Sequence[tuple[int, float]]]], name: str) -> Markup:
    """Draw a metric over the steps: (run, number of its color, [(step, value)]) each.

    Where values fell far at the beginning the chart shows the range of what came after.
    """
    values = sorted(y for *_, points in lines for _, y in points)
    high = values[int(0.95 * len(values))] if len(values) >= 40 else values[-1]
    label_value = high if high - values[0] < (values[-1] - values[0]) / 3 else values[-1]
    bottom, top = padded_range([values[0], label_value], margin=0.05)
    last = max(x for *_, points in lines for x, _ in points)
    frame = Frame(0.0, max(1, last), bottom, top, width=380, height=230, margin=44, rim=22)
    parts = [axes(frame, "", "")]
    for label, color, points in lines:
        dash = _DASHES[color // COLORS % len(_DASHES)]
        style = f' stroke-dasharray="{dash}"' if dash else ""
        stride = -(-len(points) // _MOST_POINTS)
        thinned = list(points[::-1][::stride][::-1])  # evenly spread, the last among them
        inside = [(x, min(max(y, frame.bottom), frame.top)) for x, y in thinned]
        line = f'<path d="{path(frame, inside)}"{style}/>'
        if len(inside) == 1:
            x, y = frame.place(*inside[0])
            line = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
        hint = f"<title>{escape(label)}</title>"
        parts.append(f'<g class="line c{color % COLORS}" data-run="{color}">{hint}{line}</g>')
    return svg(frame, parts, f"{name} over the steps")


def shorten(text: str, longest: int) -> str:
    """Return a text cut in its middle, where names differ least."""
    if len(text) <= longest:
        return text
    head = (longest - 1) // 2
    return f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"
