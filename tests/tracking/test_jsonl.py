"""gan_style/runtime/tracking.py: one whole JSON object a line, and no step twice."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gan_style.runtime.tracking import JsonlTracker


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def written(path: Path, *steps: int) -> Path:
    tracker = JsonlTracker(path, last_step=0)
    for step in steps:
        tracker.scalars(step, {"loss": step / 10})
    tracker.finish(failed=False)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_each_call_is_one_line_with_its_step_and_its_numbers(path: Path) -> None:
    tracker = JsonlTracker(path, last_step=0)
    tracker.scalars(1, {"loss/style": 0.5, "count": 3})
    tracker.scalars(2, {})
    tracker.finish(failed=False)
    assert lines(path) == [{"step": 1, "loss/style": 0.5, "count": 3}, {"step": 2}]


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-38, 123456789.123456789, -0.0])
def test_numbers_come_back_to_the_last_digit(path: Path, value: float) -> None:
    tracker = JsonlTracker(path, last_step=0)
    tracker.scalars(1, {"value": value})
    tracker.finish(failed=False)
    assert repr(lines(path)[0]["value"]) == repr(value)


def test_names_may_hold_any_letters_and_still_make_one_line(path: Path) -> None:
    tracker = JsonlTracker(path, last_step=0)
    tracker.scalars(1, {"größe\u2028\n": 1.0})
    tracker.finish(failed=True)
    assert lines(path) == [{"step": 1, "größe\u2028\n": 1.0}]
    JsonlTracker(path, last_step=1).finish(failed=False)
    assert lines(path) == [{"step": 1, "größe\u2028\n": 1.0}]


def test_each_line_is_there_as_soon_as_it_is_tracked(path: Path) -> None:
    tracker = JsonlTracker(path, last_step=0)
    for step in (1, 2, 3):
        tracker.scalars(step, {"loss": 1.0})
        assert [line["step"] for line in lines(path)] == [*range(1, step + 1)]
    tracker.finish(failed=False)


def test_pictures_add_no_line(path: Path) -> None:
    tracker = JsonlTracker(path, last_step=0)
    tracker.picture(1, "samples", path.parent / "a.jpg")
    tracker.finish(failed=False)
    assert lines(path) == []


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


def test_a_resumed_run_goes_on_in_the_same_file(path: Path) -> None:
    tracker = JsonlTracker(written(path, 10, 20), last_step=20)
    tracker.scalars(30, {"loss": 9.0})
    tracker.finish(failed=False)
    assert lines(path) == [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 2.0}, {"step": 30, "loss": 9.0}]


@pytest.mark.parametrize(("last", "remaining"), [(0, []), (9, []), (10, [10]), (25, [10, 20]), (99, [10, 20, 30])])
def test_steps_after_the_checkpoint_are_dropped(path: Path, last: int, remaining: list[int]) -> None:
    JsonlTracker(written(path, 10, 20, 30), last_step=last).finish(failed=False)
    assert [line["step"] for line in lines(path)] == remaining


def test_no_step_stands_twice_after_a_resume(path: Path) -> None:
    written(path, 10, 20, 30)
    tracker = JsonlTracker(path, last_step=15)
    for step in (20, 30, 40):
        tracker.scalars(step, {"loss": -1.0})
    tracker.finish(failed=False)
    assert [(line["step"], line["loss"]) for line in lines(path)] == [(10, 1.0), (20, -1.0), (30, -1.0), (40, -1.0)]


@pytest.mark.parametrize("cut", range(2, 27))
def test_a_torn_last_line_is_dropped_wherever_it_is_torn(path: Path, cut: int) -> None:
    complete = written(path, 10, 20).read_bytes()
    assert len(complete) == 2 * 26  # with the line's end, which cut 1 would take and leave the line whole
    path.write_bytes(complete[:-cut])
    JsonlTracker(path, last_step=20).finish(failed=False)
    assert [line["step"] for line in lines(path)] == [10]


def test_a_whole_last_line_without_its_end_is_kept(path: Path) -> None:
    path.write_bytes(written(path, 10, 20).read_bytes()[:-1])
    tracker = JsonlTracker(path, last_step=20)
    tracker.scalars(30, {})
    tracker.finish(failed=False)
    assert [line["step"] for line in lines(path)] == [10, 20, 30]


@pytest.mark.parametrize(
    "junk", [b"\x00\x00\xff\xfe", b"12", b"null", b"[]", b"{}", b'{"step": null}', b'{"step": "9"}', b'"step"']
)
def test_a_line_that_is_none_of_ours_is_dropped(path: Path, junk: bytes) -> None:
    path.write_bytes(b'{"step": 1}\n' + junk + b'\n{"step": 2}\n')
    JsonlTracker(path, last_step=9).finish(failed=False)
    assert [line["step"] for line in lines(path)] == [1, 2]


def test_the_lines_that_are_kept_are_kept_to_the_letter(path: Path) -> None:
    text = '{"step": 1, "a": 1e-05}\n{"step":2,"b":[1, 2]}\n'
    path.write_text(text)
    JsonlTracker(path, last_step=2).finish(failed=False)
    assert path.read_text() == text


def test_opening_again_leaves_no_other_file(path: Path) -> None:
    JsonlTracker(written(path, 1), last_step=1).finish(failed=False)
    assert os.listdir(path.parent) == ["metrics.jsonl"]
