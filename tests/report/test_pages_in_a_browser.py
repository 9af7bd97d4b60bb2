"""The pages of evaluate and compare in a real browser, on a telephone and on a desk."""

import pytest
import torch

from gan_style.evaluation.metrics import Estimate
from gan_style.evaluation.suite import PHOTOS, STYLES
from gan_style.report import comparison, evaluation
from gan_style.report.html import thumbnail
from gan_style.report.table import Column, Table, Value

pytestmark = pytest.mark.slow  # starts a browser
RUNS = ("a", "b", f"sweeps/monet/017-{'loss.style.weight=10,' * 8}seed=0")
PICTURE = thumbnail(torch.linspace(-1, 1, 3 * 96 * 144).view(1, 3, 96, 144))
TALL = thumbnail(torch.linspace(-1, 1, 3 * 96 * 60).view(1, 3, 96, 60))


def evaluation_page() -> str:
    scores = {
        name: {
            metric: Estimate(value + 0.001 * number, 0.1, 9)
            for metric, value in [("content", 1.0), ("ssim", 0.5), ("style", 2.0), ("kid", 3.0), ("frechet", 30.0)]
        }
        for number, name in enumerate((PHOTOS, *RUNS, STYLES))
    }
    numbers = {name: {"content": float(number)} for number, name in enumerate(RUNS)}
    backwards = {name: {"content": -float(number)} for number, name in enumerate(RUNS)}
    sheet = [
        evaluation.sheet_row("wide.png", {PHOTOS: PICTURE, **dict.fromkeys(RUNS, PICTURE)}, numbers, RUNS),
        evaluation.sheet_row("tall.png", {PHOTOS: TALL, **dict.fromkeys(RUNS, TALL)}, backwards, RUNS),
    ]
    return evaluation.report(title="Evaluation", facts=["x" * 200], scores=scores, sheet=sheet)


def comparison_page() -> str:
    columns = [
        Column(name, name, "lower", True, {run: Value(f"{n}", n + 0.5) for n, run in enumerate(RUNS)})
        for name in ("heldout/content", "heldout/style", "heldout/ssim", "loss/content")
    ]
    return comparison.report(
        title="Comparison of runs",
        facts=["x" * 200],
        warnings=["y" * 200],
        table=Table(list(RUNS), columns),
        axes=(columns[0], columns[1]),
        series={"loss/content": {run: [(step, 1.0 / step) for step in range(1, 9)] for run in RUNS}},
        sheet=comparison.Sheet("a note", [("wide.png", {"": PICTURE, **dict.fromkeys(RUNS, PICTURE)})]),
    )


@pytest.fixture(params=[evaluation_page, comparison_page], ids=["evaluate", "compare"])
def page(request, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(request.param(), encoding="utf-8")
    return path


@pytest.fixture
def visit(chromium):
    """visit(page, width): a tab; at the end nothing may have been asked for or complained about."""
    tabs, troubles = [], []

    def call(page, width):
        tab = chromium.new_page(viewport={"width": width, "height": 780})
        tab.on("pageerror", lambda error: troubles.append(str(error)))
        tab.on("console", lambda message: troubles.append(message.text))
        tab.goto(page.as_uri())
        tabs.append(tab)
        return tab

    yield call
    for tab in tabs:
        tab.close()
    assert troubles == []


BOXES = """selector => [...document.querySelectorAll(selector)].map((e) => e.getBoundingClientRect())
    .filter((b) => b.width).map((b) => [b.left, b.top, b.right, b.bottom])"""


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_runs_over_the_window_and_no_label_over_another(visit, page, width):
    tab = visit(page, width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    labels = tab.evaluate(BOXES, ".chart .point text")
    circles = tab.evaluate(BOXES, ".chart .point circle")
    assert len(labels) >= 2
    for number, first in enumerate(labels):
        for other in [*labels[:number], *circles]:
            apart = (
                first[2] <= other[0] + 1
                or other[2] <= first[0] + 1
                or first[3] <= other[1] + 3
                or other[3] <= first[1] + 3
            )
            assert apart, (first, other)


@pytest.mark.parametrize("width", [360, 1280])
def test_pictures_keep_their_proportions_and_those_of_a_row_are_equally_wide(visit, page, width):
    tab = visit(page, width)
    sizes = tab.evaluate("[...document.images].map((i) => [i.width, i.height, i.naturalWidth, i.naturalHeight])")
    assert len(sizes) >= 4 and len({displayed for displayed, *_ in sizes}) == 1
    assert tab.evaluate("getComputedStyle(document.images[0]).objectFit") == "contain"
    for shown_width, shown_height, real_width, real_height in sizes:
        assert shown_height == pytest.approx(min(320, shown_width * real_height / real_width), abs=1.5)


def test_a_rows_name_stays_where_it_is_when_the_table_moves(visit, page):
    tab = visit(page, 360)
    left = "document.querySelector('{}').getBoundingClientRect().left"
    tab.evaluate("document.querySelector('.scroll').scrollLeft = 500")
    assert tab.evaluate("document.querySelector('.scroll').scrollLeft") > 50
    name, frame = (tab.evaluate(left.format(selector)) for selector in (".numbers tbody th", ".scroll"))
    assert name == pytest.approx(frame, abs=2)


def test_a_click_sorts_the_table(visit, page):
    tab = visit(page, 1280)
    names = "[...document.querySelectorAll('.numbers tbody')][0].innerText.split('\\n')[0]"
    head = ".numbers thead button >> nth=1"
    tab.click(head)
    first = tab.evaluate(names)
    tab.click(head)
    assert tab.evaluate(names) != first


def test_the_sheet_is_ordered_worst_first(visit, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(evaluation_page(), encoding="utf-8")
    tab = visit(path, 1280)
    titles = "[...document.querySelectorAll('.sheet .row')].map((row) => row.querySelector('img').title)"
    assert tab.evaluate(titles) == ["wide.png", "tall.png"]
    tab.select_option("#order", index=2)  # content of b: 1 and -1
    assert tab.evaluate(titles) == ["wide.png", "tall.png"]
    tab.evaluate("document.querySelectorAll('option')[2].dataset.sign = -1")  # as if higher were better
    tab.select_option("#order", index=0)
    tab.select_option("#order", index=2)
    assert tab.evaluate(titles) == ["tall.png", "wide.png"]
