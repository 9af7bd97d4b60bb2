"""Runs as a table: what differs, what came of it, which is best; as CSV and for a terminal."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_style.report.runs import Evaluation, Generator, Run, measured_differently, stale
from gan_style.report.table import (
    as_csv,
    as_text,
    axes_of,
    check_common,
    curve_names,
    differing,
    front,
    make_table,
    protocol_differences,
    scale_spread,
)


def run(name="a", *, reason=None, evaluated=None, protocol="", scales=None, steps=20, **series):
    """Values of the steps 10 and 20, or any pairs."""
    pairs = {
        key.replace("__", "/"): values if isinstance(values[0], tuple) else list(zip((10, 20), values, strict=True))
        for key, values in series.items()
    }
    settings = {"run.name": name, "training.steps": steps, "training.batch": 4, "loss.style.weight": 1.0}
    generator = Generator({"step": 20, "objective": {"scales": scales or {}}}, 1234)
    return Run(
        Path(f"/runs/{name}"), settings, pairs, generator, reason, evaluation=Evaluation(evaluated or {}, protocol)
    )


def with_settings(run, **settings):
    run.settings |= {key.replace("__", "."): value for key, value in settings.items()}
    return run


def two():
    a = run(heldout__content=(1.0, 3.0), heldout__ssim=(0.5, 0.25), heldout__style=(9.0, 2.0), images_per_second=(8, 4))
    b = run("b", heldout__content=(1.5, 2.0), heldout__ssim=(0.1, 0.5), heldout__style=(9.0, 4.0))
    return {"a": with_settings(a, loss__style__weight=10), "b": with_settings(b, loss__tv__weight=0.5)}


def column(runs, name):
    return next(column for column in make_table(runs).columns if column.name == name)


def rows(table):
    return list(csv.DictReader(io.StringIO(as_csv(table))))


class TestSettings:
    def test_only_what_differs_and_matters_is_shown(self):
        settings = {"a": {"x": 1, "y": [1], "run.name": "a"}, "b": {"x": 1, "y": [2], "run.name": "b", "z": None}}
        for name, first in settings.items():
            first |= {"data.workers": name, "training.log_every": name}
        assert differing(settings) == ["y"], "null and an option that is not there are the same"

    def test_null_is_shown_as_what_is_not_there(self):
        runs = {n: run(n, loss__tv=(1.0, 1.0)) for n in "abc"}
        runs["a"].settings["data.x"], runs["b"].settings["data.x"] = None, 3
        assert [column(runs, "data.x").value(label).text for label in "abc"] == ["-", "3", "-"]

    def test_one_and_true_and_a_text_of_one_differ(self):
        assert differing({"a": {"x": 1}, "b": {"x": True}}) == ["x"] == differing({"a": {"x": 1}, "b": {"x": "1"}})

    def test_values_are_spelled_as_options_are(self):
        values = {"a": ["relu1_1", None, True], "b": {"monet": 1, "wave": [2.0, 0.5]}}
        runs = {n: with_settings(run(n, loss__tv=(1.0, 1.0)), data__x=value) for n, value in values.items()}
        texts = [cell.text for cell in column(runs, "data.x").cells.values()]
        assert texts == ["[relu1_1, null, true]", "{monet: 1, wave: [2, 0.5]}"]

    def test_titles_are_the_shortest_end_that_no_other_name_has(self):
        a, b = (with_settings(run(n, loss__tv=(1.0, 1.0))) for n in "ab")
        a.settings |= {"loss.style.weight": 5, "optimiser.generator.lr": 1, "generator.lr": 1}
        b.settings |= {"loss.style.weight": 6, "optimiser.generator.lr": 2, "generator.lr": 2}
        titles = {column.name: column.title for column in make_table({"a": a, "b": b}).columns}
        assert titles["loss.style.weight"] == "style.weight"
        assert titles["optimiser.generator.lr"] == "optimiser.generator.lr" and titles["generator.lr"] == "generator.lr"

    def test_a_run_whose_settings_cannot_be_read_makes_no_difference(self):
        unread = run("c", loss__tv=(1.0, 1.0))
        unread.settings.clear()
        same = {"a": run(loss__tv=(1.0, 1.0)), "c": unread}
        assert not any("weight" in column.name for column in make_table(same).columns)


class TestMetrics:
    def test_last_and_best_values_by_each_metrics_own_end(self):
        (a, b) = rows(make_table(two()))
        assert (a["heldout/content"], a["heldout/content best"], a["heldout/content best step"]) == ("3", "1", "10")
        assert (a["heldout/ssim"], a["heldout/ssim best"], a["heldout/ssim best step"]) == ("0.25", "0.5", "10")
        assert (b["heldout/ssim"], b["heldout/ssim best"], b["heldout/ssim best step"]) == ("0.5", "0.5", "20")
        assert "heldout/content/relu1_1 best" not in a

    def test_the_winner_of_a_column(self):
        winners = {column.name: column.winner() for column in make_table(two()).columns}
        assert winners["heldout/content"] == "b" and winners["heldout/ssim"] == "b" and winners["heldout/style"] == "a"
        assert winners["status"] is None and winners["loss.style.weight"] is None
        assert winners["images/s"] is None  # one run alone has it

    def test_equal_runs_have_no_winner(self):
        assert column({n: run(n, heldout__content=(1.0, 2.0)) for n in "ab"}, "heldout/content").winner() is None

    def test_a_run_that_was_trained_on_since_is_told_of(self):
        a, b = (run(name, evaluated={"style": 0.2}) for name in "ab")
        a.evaluation = replace(a.evaluation, step=10)
        b.evaluation = replace(b.evaluation, step=20)
        assert stale({"a": a, "b": b}) == {"a": (10, 20)}

    def test_numbers_of_different_protocols_have_no_winner(self):
        a = run("a", evaluated={"style": 0.2}, protocol="vgg19")
        b = run("b", evaluated={"style": 0.05}, protocol="compact")
        runs = {"a": a, "b": b}
        assert measured_differently(runs)
        assert column(runs, "evaluate/style").winner() is None
        b.evaluation = replace(b.evaluation, protocol="vgg19")
        assert column(runs, "evaluate/style").winner() == "b"

    def test_infinite_settings_and_missing_times(self):
        first, two = (
            with_settings(run(n, heldout__style=(1.0, 1.0)), data__recolour=v) for n, v in (("a", math.inf), ("b", 5.0))
        )
        (a, b) = rows(make_table({"a": first, "b": two}))
        assert (a["data.recolour"], b["data.recolour"]) == ("inf", "5")
        assert a["time"] == "" and a["images/s"] == ""


class TestCsv:
    def test_it_reads_back_to_the_last_digit_whatever_runs_are_called(self):
        third = 1 / 3
        names = ['a,"b"', "new\nline", "=1+1", "<b>"]
        runs = {name: run("x", heldout__content=(third, third * (i + 1))) for i, name in enumerate(names)}
        actual = rows(make_table(runs))
        assert [row["run"] for row in actual] == names
        assert [float(row["heldout/content"]) for row in actual] == [third * (i + 1) for i in range(4)]
        assert actual[0]["parameters"] == "1234" and actual[0]["steps"] == "20"

    def test_every_row_is_as_long_as_the_head(self):
        lines = list(csv.reader(io.StringIO(as_csv(make_table(two() | {"c": run("c", other=(1.0, 1.0))})))))
        assert len({len(line) for line in lines}) == 1


class TestText:
    @pytest.mark.parametrize("width", [60, 100, 400])
    def test_it_keeps_to_the_terminal_and_counts_what_is_left_out(self, width):
        table = make_table(two())
        lines = as_text(table, width).splitlines()
        assert all(len(line) <= width for line in lines[:3])
        assert lines[0].split()[:2] == ["run", "status"]
        rows_shown = 0 if width == 400 else 1
        assert ("more columns" in lines[-1]) == (rows_shown == 1 or not all(column.visible for column in table.columns))

    def test_the_best_is_marked_and_content_and_style_come_first(self):
        text = as_text(make_table(two()), 70)
        assert "heldout/content  heldout/style" in text.splitlines()[0] and "2*" in text

    def test_control_characters_of_a_name_do_not_reach_the_terminal(self):
        assert "\x1b" not in as_text(make_table({"\x1b[31mred": run(loss__tv=(1.0, 1.0))}), 80)

    def test_status_says_why_and_how_far(self):
        runs = {
            "f": run(reason="out of memory", a=(1.0, 1.0)),
            "u": run(steps=50, a=(1.0, 1.0)),
            "d": run(a=(1.0, 1.0)),
        }
        text = as_text(make_table(runs), 120)
        assert "failed: out of memory" in text and "unfinished, 20 of 50" in text and "finished " in text


class TestWhatCanBeCompared:
    def test_runs_without_common_metrics_are_refused_and_told_what_each_has(self):
        with pytest.raises(ValueError, match=r"no metric in common.*a has loss/x; b has loss/y"):
            check_common({"a": run(loss__x=(1.0, 1.0)), "b": run(loss__y=(1.0, 1.0))})

    def test_runs_without_numbers_are_refused_together_but_not_one_among_others(self):
        with pytest.raises(ValueError, match="none of these 2 runs has left any numbers yet: a, b"):
            check_common({"a": run(), "b": run()})
        check_common({"a": run(x=(1.0, 1.0)), "b": run(), "c": run(x=(1.0, 1.0))})
        check_common({"a": run(x=(1.0, 1.0))})

    @pytest.mark.parametrize(
        ("key", "measured_otherwise"),
        [
            ("perceptual._target_", True),
            ("loss.style.layers", True),
            ("data.style", True),
            ("data.sample_size", True),
            ("loss.style.weight", False),
            ("training.seed", False),
            ("data.size", False),
            ("data.resize", True),
            ("metrics.best.style", True),
            ("loss.style.target", True),
        ],
    )
    def test_settings_that_the_numbers_are_measured_with_are_told(self, key, measured_otherwise):
        a, b = run(), run("b")
        a.settings[key], b.settings[key] = "one", "two"
        assert protocol_differences({"a": a, "b": b}) == ([key] if measured_otherwise else [])

    def test_how_far_feature_scales_are_apart(self):
        scales = [{"relu1_1": 1.0, "relu2_1": 2.0}, {"relu1_1": 1.1, "relu2_1": 2.0}, {}]
        assert scale_spread({str(i): run(scales=s) for i, s in enumerate(scales)}) == pytest.approx(0.1)
        assert scale_spread({"a": run()}) == 0.0

    def test_axes_are_those_that_most_runs_have(self):
        runs = two() | {"c": run("c", loss__content=(1.0, 1.0), loss__style=(1.0, 1.0))}
        assert [column.name for column in axes_of(make_table(runs))] == ["heldout/content", "heldout/style"]
        losses = {n: run(n, loss__content=(1.0, 1.0), loss__style=(1.0, 1.0)) for n in "ab"}
        assert [column.name for column in axes_of(make_table(losses))] == ["loss/content", "loss/style"]
        assert axes_of(make_table({"a": run(loss__tv=(1.0, 1.0))})) is None

    def test_curves_that_nobody_has_are_refused(self):
        assert curve_names(two(), None) == ["heldout/content", "heldout/style", "heldout/ssim"]
        assert curve_names(two(), ["images_per_second"]) == ["images_per_second"]
        with pytest.raises(ValueError, match="curves: no run has 'lss'"):
            curve_names(two(), ["lss"])


SMALL = st.integers(0, 6).map(float)  # so that ties are common


def dominates(a, b):
    return a[0] <= b[0] and a[1] <= b[1] and a != b


@given(st.lists(st.tuples(SMALL, SMALL), max_size=30))
def test_it_is_what_nothing_dominates(points):
    by_force = {i for i, p in enumerate(points) if not any(dominates(other, p) for other in points)}
    assert set(front(points)) == by_force
    assert [points[i] for i in front(points)] == sorted(points[i] for i in by_force)


def test_by_hand():
    assert front([(2, 2), (1, 3), (3, 1), (3, 3), (2, 2)]) == [1, 0, 4, 2]
    assert front([]) == [] and front([(5, 5)]) == [0]
