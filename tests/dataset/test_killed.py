"""Killed at any moment, a dataset loses nothing, doubles nothing, and never shows a part of a file."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torchless
from samples import files

LAYOUTS = ("folder", "webdataset")
POINTS = {  # what the process was doing when it died
    "writing the plan's lines": ("write", "/.gan_style/", 1, "in"),
    "writing the plan": ("write", "/.gan_style/", 2, "in"),
    "before the plan's lines are in place": ("replace", "plan-000", 1, "before"),
    "before the plan is in place": ("replace", "plan.json", 1, "before"),
    "after the plan is in place": ("replace", "plan.json", 1, "after"),
    "writing a result": ("write", "/data/", 2, "in"),
    "before a result is synced": ("fsync", "/data/", 3, "before"),
    "after a result is synced": ("fsync", "/data/", 4, "after"),
    "before a result is in place": ("replace", "/data/", 2, "before"),
    "after a result is in place": ("replace", "/data/", 2, "after"),
    "writing rows": ("write", "/rows/", 2, "in"),
    "before rows are in place": ("replace", "/rows/", 2, "before"),
    "after rows are in place": ("replace", "/rows/", 2, "after"),
    "writing a record": ("write", "/records/", 2, "in"),
    "before a record is synced": ("fsync", "/records/", 2, "before"),
    "before a record is in place": ("replace", "/records/", 2, "before"),
    "after a record is in place": ("replace", "/records/", 2, "after"),
    "before a lease ends": ("unlink", "/leases/", 2, "before"),
    "after a lease ended": ("unlink", "/leases/", 2, "after"),
    "writing the manifest": ("write", "/out/.", 9, "in"),
    "before the manifest is in place": ("replace", "manifest", 1, "before"),
}


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("source"), random.Random(0)
    for label in ("cats", "dogs"):
        (folder / label).mkdir()
        for number in range(6):
            (folder / label / f"{number}.jpg").write_bytes(rng.randbytes(rng.randint(1, 3000)))
            (folder / label / f"{number}.txt").write_text(f"a caption for {number}")
    return folder


@pytest.fixture(scope="session", params=LAYOUTS)
def undisturbed(request, source, tmp_path_factory) -> tuple[str, dict[str, bytes]]:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    torchless.make(str(source), output, request.param)
    return request.param, files(output)


def visible(folder: Path) -> dict[str, bytes]:
    """Read all files but temporary ones, wherever they are."""
    return {name: data for name, data in files(folder).items() if not name.rpartition("/")[2].startswith(".")}


def run(source: Path, output: Path, layout: str, *trap: object) -> int:
    program = [sys.executable, torchless.__file__, source, output, layout, 4, *trap]
    return subprocess.run([str(part) for part in program], timeout=60, check=False).returncode


EACH = [("folder", point) for point in POINTS]
EACH += [("webdataset", point) for point in POINTS if "plan" not in point]  # which is written before any layout


@pytest.mark.parametrize(("undisturbed", "point"), EACH, indirect=["undisturbed"])
def test_killed_at_a_named_point(source, undisturbed, tmp_path, point):
    layout, expected = undisturbed
    call, place, number, when = POINTS[point]
    if layout == "webdataset" and place == "/data/":
        number = min(2, number)  # there are fewer files
    output = tmp_path / "out"
    assert run(source, output, layout, call, place, number, when) == -signal.SIGKILL
    assert visible(output).items() <= expected.items(), "whatever has its final name is whole"
    done = {path: path.stat().st_mtime_ns for path in output.glob(".gan_style/records/[0-9]*")}
    torchless.make(str(source), output, layout)
    assert files(output) == expected
    assert done == {path: path.stat().st_mtime_ns for path in done}, "what was done is not done again"


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])  # 1 s each
def test_killed_again_and_again(source, undisturbed, tmp_path, seed):
    layout, expected = undisturbed
    rng, kills = random.Random(seed), 0
    while kills < 8:
        trap = (
            rng.choice(["replace", "fsync", "unlink"]),
            "/out/",
            rng.randint(1, 12),
            rng.choice(["before", "after"]),
        )
        if run(source, tmp_path / "out", layout, *trap) == 0:
            break
        kills += 1
        assert visible(tmp_path / "out").items() <= expected.items()
    torchless.make(str(source), tmp_path / "out", layout)
    assert kills > 0 and files(tmp_path / "out") == expected


def test_two_jobs_on_one_output(source, undisturbed, tmp_path):
    layout, expected = undisturbed
    program = [sys.executable, torchless.__file__, source, tmp_path / "out", layout, 4]
    jobs = [subprocess.Popen([str(part) for part in program]) for _ in range(2)]
    assert [job.wait(timeout=60) for job in jobs] == [0, 0]
    assert files(tmp_path / "out") == expected
