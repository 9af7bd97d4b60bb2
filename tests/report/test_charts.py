"""Charts: places in proportion, round ticks, labels that keep off each other."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_style.report.charts import Frame, axes, padded_range, path, place_labels, ticks

NUMBER = st.floats(-1e6, 1e6)


def test_corners_lie_on_the_margins():
    frame = Frame(left=-1.0, right=3.0, bottom=10.0, top=20.0, width=200, height=100, margin=20, rim=5)
    assert frame.place(-1.0, 10.0) == (20, 80) and frame.place(3.0, 20.0) == (195, 5)
    assert frame.place(1.0, 15.0) == pytest.approx((107.5, 42.5))
    assert Frame(0.0, 1.0, 0.0, 1.0, width=200, height=100, margin=20, rim=20).place(1.0, 1.0) == (180, 20)


@given(NUMBER, st.floats(1e-6, 1e6))
def test_ticks_are_few_round_inside_and_reach_nearly_to_the_ends(low, size):
    high = low + size
    if high - low < 1e-9 * abs(low):
        return
    actual = ticks(high, low)
    assert 2 <= len(actual) <= 7
    step, rounding = (actual[-1] - actual[0]) / (len(actual) - 1), 1e-8 * (high - low) + 1e-14 * abs(low)
    assert f"{step:.0e}"[0] in "125" and float(f"{step:.0e}") == pytest.approx(step, rel=1e-5)
    assert (
        low - rounding <= actual[0] < low + step + rounding and high - step - rounding < actual[-1] <= high + rounding
    )
    assert actual == pytest.approx([actual[0] + step * number for number in range(len(actual))], abs=rounding)


def test_ticks_between_numbers_by_hand():
    assert ticks(4.7, 2.9) == [3.0, 3.5, 4.0, 4.5]
    assert ticks(0.25, -0.25) == [-0.2, -0.1, 0.0, 0.1, 0.2]


@given(st.lists(NUMBER, min_size=1, max_size=9))
def test_a_range_holds_its_values_and_is_never_empty(values):
    low, high = padded_range(values)
    assert low <= min(values) and max(values) <= high and low < high


def test_a_path_goes_through_its_points():
    frame = Frame(0.0, 10.0, 0.0, 10.0, width=120, height=120, margin=10, rim=10)
    assert path(frame, [(0, 0), (10, 10)]) == "M10.0 110.0L110.0 10.0"


def boxes(frame, places, texts, labels):
    for (_, _), text, label in zip(places, texts, labels, strict=True):
        if label is not None:
            wide = 6.6 * len(text)
            left = label.x - {"start": 0, "middle": wide / 2, "end": wide}[label.anchor]
            yield left, label.y - 10, left + wide, label.y + 3


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.text("abc", min_size=1, max_size=20)), max_size=14))
def test_labels_never_overlap_nor_leave_the_chart(entries):
    frame = Frame(0.0, 1.0, 0.0, 1.0)
    places = [frame.place(x, y) for x, y, _ in entries]
    texts = [text for *_, text in entries]
    actual = list(boxes(frame, places, texts, place_labels(frame, places, texts)))
    for number, first in enumerate(actual):
        assert min(first[:2]) >= 0 and first[2] <= frame.width and first[3] <= frame.height
        for other in actual[:number]:
            assert first[2] <= other[0] or other[2] <= first[0] or first[3] <= other[1] or other[3] <= first[1]


def test_a_lonely_point_has_its_label_to_the_right_and_no_text_has_no_place():
    frame = Frame(0.0, 1.0, 0.0, 1.0)
    place = frame.place(0.2, 0.5)
    labels = place_labels(frame, [place, frame.place(0.9, 0.9)], ["name", ""])
    assert labels[0].anchor == "start" and labels[0].x > place[0] and labels[1] is None


def test_axes_escape_their_titles():
    text = axes(Frame(0.0, 1.0, 0.0, 1.0), "<a>", '"b"&')
    assert "&lt;a&gt;" in text and "&#34;b&#34;&amp;" in text and not re.search(r"<a>", text)
