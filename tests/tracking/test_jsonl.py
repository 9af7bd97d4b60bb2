"""gan_style/runtime/tracking.py: one whole JSON object a line, and no step twice."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gan_style.runtime.tracking import JsonlTracker


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def track(path: Path, values: dict[int, dict[str, float]], *, last_step: int = 0) -> list[dict[str, Any]]:
    """A run that goes on behind ``last_step`` with these values of its steps; what its file holds then."""
    tracker = JsonlTracker(path, last_step=last_step)
    for step, scalars in values.items():
        tracker.scalars(step, scalars)
    tracker.finish(failed=False)
    return lines(path)


@pytest.fixture
def three_steps(path: Path) -> bytes:
    track(path, {step: {"loss": step / 10} for step in (10, 20, 30)})
    return path.read_bytes()


def test_each_call_is_one_line_with_its_step_and_its_numbers(path: Path) -> None:
    rows = track(path, {1: {"loss/style": 0.5, "count": 3}, 2: {}})
    assert rows == [{"step": 1, "loss/style": 0.5, "count": 3}, {"step": 2}]


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-38, 123456789.123456789, -0.0])
def test_numbers_come_back_to_the_last_digit(path: Path, value: float) -> None:
    assert repr(track(path, {1: {"value": value}})[0]["value"]) == repr(value)


def test_names_may_hold_any_letters_and_still_make_one_line(path: Path) -> None:
    expected = [{"step": 1, "größe\u2028\n": 1.0}]
    assert track(path, {1: {"größe\u2028\n": 1.0}}) == expected
    assert track(path, {}, last_step=1) == expected


def test_each_line_is_there_as_soon_as_it_is_tracked_and_pictures_add_none(path: Path) -> None:
    tracker = JsonlTracker(path, last_step=0)
    for step in (1, 2, 3):
        tracker.scalars(step, {"loss": 1.0})
        tracker.picture(step, "samples", path.parent / "a.jpg")
        assert [line["step"] for line in lines(path)] == [*range(1, step + 1)]
    tracker.finish(failed=True)
    assert len(lines(path)) == 3


def test_a_process_that_dies_without_a_word_has_lost_no_line(path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from gan_style.runtime.tracking import JsonlTracker\n"
        "tracker = JsonlTracker(Path(sys.argv[1]), last_step=0)\n"
        "[tracker.scalars(step, {'loss': 1.0}) for step in range(1, 51)]\n"
        "os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert [line["step"] for line in lines(path)] == [*range(1, 51)]


# Going on with a run


@pytest.mark.parametrize(("last", "left"), [(0, []), (9, []), (10, [10]), (25, [10, 20]), (99, [10, 20, 30])])
def test_steps_after_the_checkpoint_are_dropped_and_come_again(path: Path, three_steps: bytes, last, left) -> None:
    rows = track(path, {last + 1: {"loss": 9.0}}, last_step=last)
    assert rows == [*({"step": step, "loss": step / 10} for step in left), {"step": last + 1, "loss": 9.0}]
    assert os.listdir(path.parent) == ["metrics.jsonl"]


def test_no_step_stands_twice_after_a_resume(path: Path, three_steps: bytes) -> None:
    rows = track(path, {step: {"loss": -1.0} for step in (20, 30, 40)}, last_step=15)
    assert [(row["step"], row["loss"]) for row in rows] == [(10, 1.0), (20, -1.0), (30, -1.0), (40, -1.0)]


@pytest.mark.parametrize("cut", range(2, 27))
def test_a_torn_last_line_is_dropped_wherever_it_is_torn(path: Path, three_steps: bytes, cut: int) -> None:
    assert len(three_steps) == 3 * 26  # with the line's end, which cut 1 would take and leave the line whole
    path.write_bytes(three_steps[:-cut])
    assert [row["step"] for row in track(path, {}, last_step=30)] == [10, 20]


def test_a_whole_last_line_without_its_end_is_kept(path: Path, three_steps: bytes) -> None:
    path.write_bytes(three_steps[:-1])
    assert [row["step"] for row in track(path, {40: {}}, last_step=30)] == [10, 20, 30, 40]


@pytest.mark.parametrize(
    "junk", [b"\x00\x00\xff\xfe", b"12", b"null", b"[]", b"{}", b'{"step": null}', b'{"step": "9"}', b'"step"']
)
def test_a_line_that_is_none_of_ours_is_dropped(path: Path, junk: bytes) -> None:
    path.write_bytes(b'{"step": 1}\n' + junk + b'\n{"step": 2}\n')
    assert [row["step"] for row in track(path, {}, last_step=9)] == [1, 2]


def test_the_lines_that_are_kept_are_kept_to_the_letter(path: Path) -> None:
    text = '{"step": 1, "a": 1e-05}\n{"step":2,"b":[1, 2]}\n'
    path.write_text(text)
    track(path, {}, last_step=2)
    assert path.read_text() == text
