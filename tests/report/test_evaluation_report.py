"""The report of an evaluation: one file, whatever models and pictures are called, and what it says of the numbers."""

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_style.evaluation.set_metrics import Estimate
from gan_style.evaluation.suite import METRICS, PHOTOS, STYLES
from gan_style.report.charts import ticks
from gan_style.report.evaluation import SheetRow, columns, number, report

HOSTILE = [
    "</script><script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "a & b < c > d",
    "--><!--",
    "ä\n✓",
]
URI = "data:image/jpeg;base64,AAAA"


def estimates(**values):
    return {name.replace("__", "/"): Estimate(value, 0.25, 8) for name, value in values.items()}


TABLE = {
    PHOTOS: estimates(content=0.0, ssim=1.0, style=3.0, colour__mean=0.0, content__relu3_1=0.0),
    "one": estimates(content=0.5, ssim=0.8, style=1.0, colour__mean=5.0, content__relu3_1=0.5),
    "two": estimates(content=0.7, ssim=0.9, style=0.4, colour__mean=2.0, content__relu3_1=0.7),
    STYLES: estimates(style=0.2),
}
ROWS = [SheetRow("p.png", {PHOTOS: URI, "one": URI, "two": URI}, {"one": {"content": 0.5}, "two": {"content": 0.7}})]


def made(table=TABLE, sheet=ROWS, title="t", facts=("a fact",)):
    return report(title=title, facts=facts, table=table, sheet=sheet)


class Page(HTMLParser):
    """Tags with their attributes, and the texts in each table's cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self.scripts, self.last = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th", "li", "text", "h1"):
            self.cells.append((tag, dict(attrs).get("class"), ""))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        self.last = tag

    def handle_data(self, data):
        if self.last == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif self.cells and self.last == self.cells[-1][0]:
            tag, kind, text = self.cells[-1]
            self.cells[-1] = (tag, kind, text + data)

    def handle_endtag(self, tag):
        self.last = None

    @property
    def rows(self):
        """What the script reads."""
        (text,) = [text for attributes, text in self.scripts if attributes.get("id") == "rows"]
        return json.loads(text)

    def texts(self, tag, kind=None):
        return [text.strip() for found, of_kind, text in self.cells if found == tag and kind in (None, of_kind)]


class TestSelfContained:
    def test_nothing_is_loaded_from_anywhere(self):
        text = made()
        assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp|import\(", text)
        for tag, attributes in Page(text).tags:
            assert tag not in ("link", "iframe", "object", "embed", "base", "form")
            for name in ("src", "href", "action", "srcset"):
                assert attributes.get(name, "data:").startswith("data:")
            assert not any(name.startswith("on") for name in attributes)

    def test_the_browser_is_told_so_too(self):
        policies = [a["content"] for tag, a in Page(made()).tags if a.get("http-equiv") == "Content-Security-Policy"]
        assert len(policies) == 1
        assert "default-src 'none'" in policies[0] and "img-src data:" in policies[0] and "http" not in policies[0]

    def test_it_is_one_whole_page(self):
        text = made()
        assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
        tags = [tag for tag, _ in Page(text).tags]
        for tag in ("html", "head", "body", "title", "style", "svg", "main"):
            assert tags.count(tag) == 1, tag


class TestHostileNames:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_labels_facts_titles_and_file_names_stay_texts(self, name):
        table = {PHOTOS: TABLE[PHOTOS], name: TABLE["one"], "two": TABLE["two"]}
        rows = [SheetRow(name, {PHOTOS: URI, name: URI}, {name: {"content": 0.5}})]
        page, tame = Page(made(table, rows, title=name, facts=[name])), Page(made(sheet=[]))
        counts = [[tag for tag, _ in one.tags if tag in ("script", "img", "style")] for one in (page, tame)]
        assert counts[0] == counts[1]
        assert (
            name.strip() in page.texts("th") and name.strip() in page.texts("li") and name.strip() in page.texts("h1")
        )
        assert name.strip() in page.texts("text")  # in the chart
        assert page.rows == [{"name": name, "pictures": {PHOTOS: URI, name: URI}, "numbers": {name: {"content": 0.5}}}]

    @given(name=st.text(min_size=1, max_size=30))
    def test_rows_parse_back_whatever_a_file_is_called(self, name):
        rows = [SheetRow(name, {name: URI}, {name: {"ssim": -0.125}})]
        assert Page(made(sheet=rows)).rows == [
            {"name": name, "pictures": {name: URI}, "numbers": {name: {"ssim": -0.125}}}
        ]


class TestTable:
    def cells(self, table=TABLE, **more):
        """{(label, metric): (text, marked)} of the first table."""
        text = made(table, **more).split("</table>")[0]
        names = [re.sub(r"\s.*", "", one) for one in re.findall(r"<th scope=col>(.*?)</th>", text)]
        found = {}
        for row in re.findall(r"<tr[^>]*><th scope=row>.*?</tr>", text):
            label = re.search(r"scope=row>(.*?)</th>", row)[1]
            for name, (mark, value) in zip(names, re.findall(r"<td( class=best)?>(.*?)</td>", row), strict=True):
                found[label, name] = (value, bool(mark))
        return found

    def test_the_best_model_is_marked_by_each_metrics_own_end(self):
        best = {name: label for (label, name), (_, marked) in self.cells().items() if marked}
        assert best == {"content": "one", "ssim": "two", "style": "two"}  # colour drift has no better end

    def test_neither_end_of_the_scale_is_marked_and_a_single_model_is_not_either(self):
        alone = {label: TABLE[label] for label in (PHOTOS, "one", STYLES)}
        assert not any(marked for _, marked in self.cells(alone).values())

    def test_a_dash_stands_where_there_is_nothing(self):
        cells = self.cells()
        assert cells[STYLES, "content"] == ("-", False)
        assert cells[STYLES, "style"][0] == "0.2 ± 0.25"

    def test_columns_are_in_the_metrics_own_order_and_layers_stand_apart(self):
        assert columns(TABLE, layers=False) == ["content", "ssim", "style", "colour/mean"]
        assert columns(TABLE, layers=True)[-1] == "content/relu3_1"
        first, second = made().split("<summary>By layer</summary>")
        assert "content/relu3_1" not in first and "content/relu3_1" in second

    def test_every_metric_shown_is_explained(self):
        every = {"m": {name: Estimate(1.0, None, 4) for name in METRICS}}
        assert all(made(every).count(f"<dt>{name}</dt>") == 1 for name in METRICS)

    @pytest.mark.parametrize(
        ("estimate", "text"),
        [
            (None, "-"),
            (Estimate(0.123456, None, 3), "0.1235"),
            (Estimate(1234567.0, 0.0123, 3), "1.235e+06 ± 0.012"),
            (Estimate(0.0, 0.0, 3), "0 ± 0"),
        ],
    )
    def test_numbers_are_short(self, estimate, text):
        assert number(estimate) == text


class TestChart:
    def points(self, table):
        return {
            label: (float(x), float(y))
            for x, y, label in re.findall(
                r'<circle class=\w+ cx="([\d.]+)" cy="([\d.]+)" r="5"/><text[^>]*>(.*?)</text>', made(table)
            )
        }

    def test_content_goes_to_the_right_and_style_upward_in_proportion(self):
        found = self.points(TABLE)
        assert set(found) == {PHOTOS, "one", "two"}
        (x0, y0), (x1, y1), (x2, y2) = found[PHOTOS], found["one"], found["two"]
        assert (x1 - x0) / (x2 - x0) == pytest.approx(0.5 / 0.7, abs=2e-3)
        assert (y1 - y0) / (y2 - y0) == pytest.approx((3.0 - 1.0) / (3.0 - 0.4), abs=2e-3)
        assert y2 > y1 > y0  # SVG counts downward

    def test_everything_lies_within_it(self):
        for x, y in self.points(TABLE).values():
            assert 60 <= x <= 580 and 60 <= y <= 340

    def test_the_style_pictures_own_distance_is_a_line(self):
        with_line, without = made(), made({k: v for k, v in TABLE.items() if k != STYLES})
        assert "<line class=floor" in with_line and "style pictures themselves" in with_line
        assert "<line class=floor" not in without

    @pytest.mark.parametrize("missing", ["content", "style"])
    def test_without_its_metrics_it_says_so(self, missing):
        table = {label: {k: v for k, v in one.items() if k != missing} for label, one in TABLE.items()}
        text = made(table)
        assert "It takes the metrics content and style." in text and "<svg" not in text

    def test_where_all_is_zero_there_is_a_chart_too(self):
        assert self.points({PHOTOS: estimates(content=0.0, style=0.0)}) == {PHOTOS: (60.0, 340.0)}

    @given(largest=st.floats(1e-9, 1e9))
    def test_ticks_are_few_round_and_reach_nearly_to_the_end(self, largest):
        found = ticks(largest)
        assert found[0] == 0.0 and 3 <= len(found) <= 7
        step = found[1]
        assert float(f"{step:.0e}") == pytest.approx(step) and f"{step:.0e}"[0] in "125"
        assert found == pytest.approx([step * i for i in range(len(found))], rel=1e-9)
        assert largest - step < found[-1] * (1 + 1e-9) and found[-1] <= largest * (1 + 1e-9)

    def test_ticks_by_hand(self):
        assert ticks(1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        assert ticks(0.07) == [0.0, 0.02, 0.04, 0.06]


def test_the_sheets_script_reads_what_the_page_holds():
    """Every id that report.js asks for is there, and no other metric is better when higher."""
    script = next(text for attributes, text in Page(made()).scripts if not attributes)
    ids = {attributes["id"] for _, attributes in Page(made()).tags if "id" in attributes}
    assert set(re.findall(r'getElementById\("(\w+)"\)', script)) <= ids
    higher = json.loads(re.search(r"higherIsBetter = (\[.*?\])", script)[1])
    shown = ("content", "style", "ssim", "structure")  # on the sheet
    assert higher == [name for name in shown if METRICS[name].better == "higher"]
    assert "innerHTML" not in script and "eval" not in script


def test_a_report_without_pictures_is_one_too():
    assert Page(made(sheet=[])).rows == []
