"""The report of an evaluation: one file, whatever models and pictures are called, and what it says of the numbers."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_pages import HOSTILE, WebPage, check_self_contained

from gan_style.evaluation.metrics import Estimate
from gan_style.evaluation.suite import METRICS, PHOTOS, STYLES
from gan_style.report.evaluation import columns, number, report, sheet_row

URI = "data:image/jpeg;base64,AAAA"


def estimates(**values):
    return {name.replace("__", "/"): Estimate(value, 0.25, 8) for name, value in values.items()}


SCORES = {
    PHOTOS: estimates(content=0.0, ssim=1.0, style=3.0, colour__mean=0.0, content__relu3_1=0.0),
    "one": estimates(content=0.5, ssim=0.8, style=1.0, colour__mean=5.0, content__relu3_1=0.5),
    "two": estimates(content=0.7, ssim=0.9, style=0.4, colour__mean=2.0, content__relu3_1=0.7),
    STYLES: estimates(style=0.2),
}
NUMBERS = {"one": {"content": 0.5, "ssim": 0.8, "kid": 1.0}, "two": {"content": 0.7, "ssim": 0.9}}


def row(name="p.png", models=("one", "two"), numbers=NUMBERS):
    return sheet_row(name, {PHOTOS: URI, **dict.fromkeys(models, URI)}, numbers, models)


def page_of(scores=SCORES, sheet=None, title="t", facts=("a fact",)):
    return report(title=title, facts=facts, scores=scores, sheet=[row()] if sheet is None else sheet)


def test_it_is_one_file_that_loads_nothing():
    check_self_contained(page_of())


@pytest.mark.parametrize("name", HOSTILE)
def test_labels_facts_titles_and_file_names_stay_texts(name):
    scores = {PHOTOS: SCORES[PHOTOS], name: SCORES["one"], "two": SCORES["two"]}
    sheet = [row(name, (name, "two"), {name: NUMBERS["one"]})]
    page, tame = WebPage(page_of(scores, sheet, title=name, facts=[name])), WebPage(page_of(facts=["f"]))
    for tag in ("script", "img", "style", "svg", "b"):
        assert len(page.all(tag)) == len(tame.all(tag)), tag
    assert page.text.count(name) >= 5  # title, heading, fact, table, sheet, chart ...


@given(st.text(min_size=1, max_size=30))
def test_the_script_reads_the_numbers_of_any_model(name):
    figures = WebPage(page_of(sheet=[row("p", (name,), {name: {"ssim": -0.125}})])).all("figure")
    of_model = [figure for figure in figures if "data-label" in figure]
    line_ends_as_browsers_read_them = name.replace("\r\n", "\n").replace("\r", "\n")
    assert [figure["data-label"].replace("\r\n", "\n").replace("\r", "\n") for figure in of_model] == [
        line_ends_as_browsers_read_them
    ]
    assert json.loads(of_model[0]["data-numbers"]) == {"ssim": -0.125}


def cells(scores=SCORES):
    """{(label, metric): (text, whether it is marked)} of the first table."""
    table = page_of(scores).split("</table>")[0]
    heads = [re.sub(r"[\s↓↑]", "", text) for text in re.findall(r"<button type=\"button\">(.*?)</button>", table)][1:]
    actual = {}
    for label, rest in re.findall(r"<th scope=\"row\">(.*?)</th>(.*?)</tr>", table, flags=re.DOTALL):
        label = re.sub(r"<[^>]*>", "", label).strip()
        tds = re.findall(r"<td( class=\"best\")?[^>]*>(.*?)</td>", rest)
        for head, (mark, value) in zip(heads, tds, strict=True):
            actual[label, head] = (re.sub(r"<[^>]*>", "", value), bool(mark))
    return actual


def test_the_best_model_is_marked_by_each_metrics_better_end():
    best = {name: label for (label, name), (_, marked) in cells().items() if marked}
    assert best == {"content": "one", "ssim": "two", "style": "two"}  # colour drift has no better end


def test_neither_baseline_nor_a_single_model_is_marked():
    single = {label: SCORES[label] for label in (PHOTOS, "one", STYLES)}
    assert not any(marked for _, marked in cells(single).values())


def test_a_dash_stands_where_there_is_nothing():
    assert cells()[STYLES, "content"] == ("-", False)
    assert cells()[STYLES, "style"][0] == "0.2 ± 0.25"


def test_columns_are_in_the_metrics_order_and_layers_stand_apart():
    assert columns(SCORES, layers=False) == ["content", "ssim", "style", "colour/mean"]
    assert columns(SCORES, layers=True)[-1] == "content/relu3_1"
    first, second = page_of().split("<summary>By layer</summary>")
    assert "content/relu3_1" not in first and "content/relu3_1" in second


def test_every_metric_shown_is_explained():
    every = {"m": {name: Estimate(1.0, None, 4) for name in METRICS}}
    assert all(page_of(every).count(f"<dt>{name}</dt>") == 1 for name in METRICS)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (None, "-"),
        (Estimate(0.123456, None, 3), "0.1235"),
        (Estimate(1234567.0, 0.0123, 3), "1.235e+06 ± 0.012"),
        (Estimate(0.0, 0.0, 3), "0 ± 0"),
    ],
)
def test_numbers_are_short(estimate, text):
    assert number(estimate) == text


class TestChart:
    def points(self, scores):
        """{label: (x, y)} in the chart for wide windows."""
        wide = re.search(r"<svg.*?</svg>", page_of(scores))[0]
        actual = re.findall(r'<g class="point.*?<title>(.*?): .*?<circle cx="([\d.]+)" cy="([\d.]+)"', wide)
        return {label: (float(x), float(y)) for label, x, y in actual}

    def test_content_goes_to_the_right_and_style_upward_in_proportion(self):
        actual = self.points(SCORES)
        assert set(actual) == {PHOTOS, "one", "two"}
        (x0, y0), (x1, y1), (x2, y2) = actual[PHOTOS], actual["one"], actual["two"]
        assert (x1 - x0) / (x2 - x0) == pytest.approx(0.5 / 0.7, abs=2e-3)
        assert (y1 - y0) / (y2 - y0) == pytest.approx((3.0 - 1.0) / (3.0 - 0.4), abs=2e-3)
        assert y2 > y1 > y0  # SVG counts downward

    def test_the_style_pictures_own_distance_is_a_line(self):
        without = {label: values for label, values in SCORES.items() if label != STYLES}
        assert '<line class="floor"' in page_of() and '<line class="floor"' not in page_of(without)

    @pytest.mark.parametrize("missing", ["content", "style"])
    def test_there_is_none_without_its_metrics(self, missing):
        scores = {label: {k: v for k, v in first.items() if k != missing} for label, first in SCORES.items()}
        assert "<svg" not in page_of(scores)

    def test_where_all_is_zero_there_is_a_chart_too(self):
        assert set(self.points({PHOTOS: estimates(content=0.0, style=0.0)})) == {PHOTOS}


def test_the_sheet_can_be_ordered_by_every_number_that_it_shows():
    options = [option for option in WebPage(page_of()).all("option") if "data-model" in option]
    actual = {(option["data-model"], option["data-metric"]): int(option["data-sign"]) for option in options}
    assert actual == {("one", "content"): 1, ("one", "ssim"): -1, ("two", "content"): 1, ("two", "ssim"): -1}


def test_a_report_without_pictures_says_so():
    page = WebPage(page_of(sheet=[]))
    assert page.all("img") == [] and page.all("select") == [] and "report_pictures" in page.text
