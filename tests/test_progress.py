"""runtime/progress.py: a bar on a terminal, plain lines in a file."""

import io

import pytest

from gan_style.runtime import progress
from gan_style.runtime.progress import Progress, duration

VALUES = {"loss/content": 0.5, "loss/style": 1.25, "discriminator/loss": 2.0, "generator/gradient": 9.0}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """A clock that shows what the test puts into the list."""
    time = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def test_counts_from_where_this_process_began(clock):
    bar = Progress(first_step=100, steps=200, batch=4, out=io.StringIO())
    clock[0] += 10.0
    assert bar.images_per_second(120) == pytest.approx(20 * 4 / 10)


def test_writes_plain_lines_into_a_file(clock):
    out = io.StringIO()
    bar = Progress(first_step=0, steps=100, batch=4, out=out)
    for step in (10, 20):
        clock[0] += 5.0
        bar.update(step, VALUES)
    bar.say("a checkpoint")
    bar.close()
    assert out.getvalue().splitlines() == [
        "step 10/100  8.0 images/s  45 s left  content 0.5  style 1.25  D 2",
        "step 20/100  8.0 images/s  40 s left  content 0.5  style 1.25  D 2",
        "a checkpoint",
    ]
    assert "\r" not in out.getvalue() and "\x1b" not in out.getvalue()


def test_rewrites_its_bar_on_a_terminal_and_says_things_on_lines_of_their_own(clock):
    out = Terminal()
    bar = Progress(first_step=0, steps=100, batch=4, out=out)
    for step in (10, 20):
        clock[0] += 5.0
        bar.update(step, VALUES)
    last = out.getvalue().split("\r")[-1]
    assert "step 20/100" in last and "8.0 images/s  40 s left  content 0.5" in last and "\n" not in out.getvalue()
    bar.say("a checkpoint")
    assert "\ra checkpoint\n" in out.getvalue()
    bar.close()
    bar.close()
    assert out.getvalue().endswith("\n")


def test_survives_a_first_look_without_a_step(clock):
    out = io.StringIO()
    Progress(first_step=5, steps=10, batch=1, out=out).update(5, {})
    assert out.getvalue().startswith("step 5/10  0.0 images/s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (90000, "25 h 0 min"),
    ],
)
def test_durations_have_two_units_at_most(seconds, text):
    assert duration(seconds) == text
