"""Sweeps as their users start them: real processes, real training, real kills."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
from processes import finish, start, wait_until

pytestmark = pytest.mark.slow  # each has some ten processes that import torch and train

SMOKE = ("experiment=smoke", "perceptual.weights=random", "training.calibration_pictures=2", "runtime.threads=1")
GRID = ("loss.style.weight=1,3,10", "training.seed=0,1")
LIMIT = 1500.0  # seconds; a busy machine takes a minute for a job
LAUNCHERS = {"basic": (), "joblib": ("hydra.launcher.n_jobs=3",)}


def start_sweep(root: Path, launcher: str, *options: str) -> "subprocess.Popen[str]":
    launching = ("-m", f"hydra/launcher={launcher}", *LAUNCHERS[launcher])
    return start("commands.train", *launching, *SMOKE, *options, f"run.root={root}")


def finish_sweep(process: "subprocess.Popen[str]") -> tuple[int, str]:
    return finish(process, seconds=LIMIT)


def rows(folder: Path) -> list[dict[str, float]]:
    """What was logged, but for how fast it went."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "images_per_second"} for line in lines]


def results(sweep: Path) -> dict[str, list[dict[str, float]]]:
    return {path.parent.name: rows(path.parent) for path in sorted(sweep.glob("*/metrics.jsonl"))}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, list[dict[str, float]]]:
    """Six jobs, one after the other."""
    root = tmp_path_factory.mktemp("basic")
    status, output = finish_sweep(start_sweep(root, "basic", *GRID))
    assert status == 0, output
    actual = results(root / "smoke")
    assert len(actual) == 6 and len({json.dumps(item) for item in actual.values()}) == 6
    return actual


@pytest.mark.parametrize("launcher", ["joblib"])
def test_six_jobs_have_the_same_results_under_every_launcher(undisturbed, tmp_path, launcher):
    status, output = finish_sweep(start_sweep(tmp_path, launcher, *GRID))
    assert status == 0, output
    assert results(tmp_path / "smoke") == undisturbed


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_killed_half_way_and_started_again_no_job_is_run_twice_to_its_end(undisturbed, tmp_path, launcher):
    """The sweep is killed, and its jobs save themselves; the next sweep waits for that, and goes on with them."""
    sweep, process = tmp_path / "smoke", start_sweep(tmp_path, launcher, *GRID)
    # Of three that have saved their last step the one that still runs may fail, as nobody reads what it prints.
    wait_until(lambda: len(list(sweep.glob("*/checkpoints/step_00000004.pt"))) >= 3, process)
    process.send_signal(signal.SIGKILL)
    process.wait()  # its pipe stays open, for what its jobs still say
    status, output = finish_sweep(start_sweep(tmp_path, launcher, *GRID))
    process.stdout.close()
    assert status == 0, output
    assert results(sweep) == undisturbed  # each step once, and the same
    assert int(re.search(r"6 jobs, (\d) of them finished before", output)[1]) >= 2
    assert "6 finished" in output
    for log in sweep.glob("*/job.log"):
        assert log.read_text().count("grid (content | style | result)") == 1


def test_a_sweep_that_is_asked_to_stop_leaves_with_status_75_and_goes_on(tmp_path):
    options = ("training.seed=0,1", "training.steps=400", "training.sample_every=1000", "metrics.every=1000")
    sweep, process = tmp_path / "smoke", start_sweep(tmp_path, "basic", *options)
    metrics = sweep / "training.seed_0" / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and metrics.stat().st_size, process)
    process.send_signal(signal.SIGTERM)
    status, output = finish_sweep(process)
    assert status == 75 and "1 stopped, 1 not started" in output, output
    summary = json.loads((sweep / "summary.json").read_text())
    assert [job["status"] for job in summary["jobs"]] == ["stopped", "not started"]
    assert not (sweep / "training.seed_1").exists()
    assert finish_sweep(start_sweep(tmp_path, "basic", *options))[0] == 0
    assert [row["step"] for row in rows(metrics.parent) if "loss/total" in row] == list(range(1, 401))
