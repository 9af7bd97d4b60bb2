"""The page of a comparison: one file, whatever runs are called, with the front, the curves and the sheet."""

import re

import pytest
from web_pages import HOSTILE, WebPage, check_self_contained

from gan_style.report.comparison import Sheet, report
from gan_style.report.table import Column, Table, Value

URI = "data:image/jpeg;base64,AAAA"
POINTS = {"a": (1.0, 4.0), "b": (2.0, 2.0), "c": (3.0, 3.0), "d": (4.0, 1.0)}  # c is dominated by b


def column(name, values, better="lower"):
    return Column(name, name, better, True, {label: Value(f"{x:g}", x, x / 2, 10) for label, x in values.items()})


def comparison_page(points=POINTS, sheet=None, warnings=(), facts=("a fact",), title="t", curves=None):
    pair = tuple(
        column(f"heldout/{name}", {k: p[i] for k, p in points.items()}) for i, name in enumerate(("content", "style"))
    )
    status = Column("status", "status", "", True, {label: Value("failed: <b>") for label in points})
    table = Table(list(points), [status, *pair])
    if curves is None:
        curves = {"heldout/content": {label: [(10, p[0] * 2), (20, p[0])] for label, p in points.items()}}
    sheet = sheet or Sheet("a note", [("p.png", {Sheet.photo: URI, **dict.fromkeys(points, URI)})])
    axes = pair if points else None
    return report(title=title, facts=facts, warnings=warnings, table=table, axes=axes, series=curves, sheet=sheet)


def test_it_is_one_file_that_loads_nothing():
    check_self_contained(comparison_page())


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_texts(name):
    points = {name: POINTS["a"], "b": POINTS["b"]}
    sheet = Sheet(name, [(name, {Sheet.photo: URI, name: URI, "b": URI})])
    page = WebPage(comparison_page(points, sheet, warnings=[name], facts=[name], title=name))
    tame = WebPage(comparison_page({"x": POINTS["a"], "b": POINTS["b"]}, warnings=["w"]))
    for tag in ("script", "img", "style", "svg", "td"):
        assert len(page.all(tag)) == len(tame.all(tag)), tag
    assert name in page.text


def wide_chart(text):
    return re.search(r"<svg.*?</svg>", text)[0]


def test_the_front_is_marked_and_labelled():
    chart = wide_chart(comparison_page())
    front = set(re.findall(r'<g class="point c\d front" data-run="(\d)">', chart))
    assert front == {"0", "1", "3"} and '<g class="point c2" data-run="2">' in chart
    assert sorted(re.findall(r'text-anchor="\w+">([abcd])</text></g>', chart)) == ["a", "b", "c", "d"]


def test_of_many_points_those_on_the_front_are_labelled():
    points = {f"run{i}": (float(i), float(-i if i < 2 else i)) for i in range(30)}
    labelled = re.findall(r'text-anchor="\w+">(run\d+)</text></g>', wide_chart(comparison_page(points)))
    assert sorted(labelled) == ["run0", "run1"]


def test_points_lie_where_their_numbers_are():
    circles = re.findall(
        r'data-run="(\d)"><title>[^<]*</title><circle cx="([\d.]+)" cy="([\d.]+)"', wide_chart(comparison_page())
    )
    (x0, y0), (x1, y1), (x3, y3) = ((float(x), float(y)) for run, x, y in sorted(circles) if run != "2")
    assert (x1 - x0) / (x3 - x0) == pytest.approx(1 / 3, abs=1e-3)
    assert (y1 - y0) / (y3 - y0) == pytest.approx(2 / 3, abs=1e-3) and y3 > y1 > y0  # SVG counts downward


def curve(lines):
    return re.search(r"<figure><figcaption>.*?</figure>", comparison_page(curves=lines))[0]


def test_a_line_for_each_run_and_a_point_for_a_single_value():
    curves = {"loss/x": {"a": [(1, 1.0), (2, 2.0)], "b": [(2, 1.5)]}}
    figure = curve(curves)
    assert figure.count("<path d=") == 1 and figure.count("<circle") == 1
    assert "loss/x" in figure


def test_long_curves_are_thinned_and_keep_their_end():
    values = [(step, float(step)) for step in range(1, 10_001)]
    figure = curve({"m": {"a": values}})
    places = re.search(r'<path d="M([^"]*)"', figure)[1].split("L")
    assert 100 < len(places) <= 300 and float(places[-1].split()[0]) == pytest.approx(358, abs=0.1)


def test_a_far_off_beginning_does_not_flatten_the_rest():
    values = [(1, 1000.0), *((step, 1.0 + step % 2) for step in range(2, 100))]
    figure = curve({"m": {"a": values}})
    heights = [float(place.split()[1]) for place in re.search(r'<path d="M([^"]*)"', figure)[1].split("L")]
    assert abs(heights[1] - heights[2]) > 100 and heights[0] == min(heights) >= 0


def test_numbers_to_sort_by_and_the_best_are_in_the_table():
    text = comparison_page()
    body = re.search(r"<tbody>.*?</tbody>", text, flags=re.DOTALL)[0]
    assert re.findall(r'class="best" data-value="([\d.]+)"', body) == ["1.0", "1.0"]
    assert "best 0.5 at 10" in body and "<b>" not in body and "failed: &lt;b&gt;" in body


def test_a_run_without_pictures_leaves_a_gap_and_no_pictures_no_sheet():
    sheet = Sheet("n", [("p", {Sheet.photo: URI, "a": URI}), ("q", {Sheet.photo: URI, "a": URI, "d": URI})])
    text = comparison_page(sheet=sheet)
    assert len(WebPage(text).all("img")) == 5
    assert WebPage(comparison_page(sheet=Sheet("none", []))).all("img") == []


def test_without_both_metrics_it_says_so():
    assert "<svg" not in comparison_page({}, curves={})
