"""engine=slurm: with submitit's processes on this machine, and with stand-ins for SLURM's programs."""

import re
import time
from pathlib import Path

import harmed
import pytest
import torchless
from slurm_standins import install
from test_killed import tree

pytest.importorskip("submitit", reason="submitit is not installed (the extra slurm)")

from gan_style.dataset.engines.slurm import run_array
from gan_style.dataset.journal import Records
from gan_style.runtime.signals import Stop

SETTINGS = {"local": True, "tasks": 2, "at_once": 256, "partition": None, "time": 60, "timeouts": 5}
SETTINGS |= {"gpus": 0, "cpus": 1, "memory_gb": None, "more": None}


@pytest.fixture
def source(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # jobs import what they unpickle
    for number in range(24):
        (tmp_path / "in" / f"class {number % 3}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / f"class {number % 3}" / f"{number:03d}.jpg").write_bytes(bytes([number]) * 500)
    return tmp_path / "in"


@pytest.fixture
def run(source, tmp_path):
    """run(Making, setting=...): whether all is done."""

    def call(making=torchless.Making, stop=None, pause=0.0, **changed) -> bool:
        plan, root = torchless.make_plan(str(source), tmp_path / "out", shard_size=3)
        make, records = making(tmp_path / "out", plan, root, pause), Records(tmp_path / "out", plan)
        records.prepare()
        call.seen = []
        return run_array(
            make,
            shards=plan.shards,
            retry=[],
            stop=stop or Stop(),
            report=call.seen.append,
            records=records,
            **(SETTINGS | changed),
        )

    return call


def undisturbed(source: Path, tmp_path: Path) -> dict[str, bytes]:
    torchless.make(str(source), tmp_path / "whole", shard_size=3)
    return tree(tmp_path / "whole")


def make_dataset(source: Path, tmp_path: Path) -> dict[str, bytes]:
    """What is there once the driver has merged, without the jobs' logs."""
    torchless.make(str(source), tmp_path / "out", shard_size=3)
    return {name: data for name, data in tree(tmp_path / "out").items() if "/slurm/" not in name}


def logs(tmp_path: Path) -> str:
    return "".join(path.read_text() for path in (tmp_path / "out" / ".gan_style" / "slurm").glob("*_log.*"))


def test_jobs_make_the_bytes_that_one_process_makes(run, source, tmp_path):
    assert run(tasks=3)
    assert len({shard.number for shard in run.seen if shard}) == 8
    assert make_dataset(source, tmp_path) == undisturbed(source, tmp_path)


def test_a_job_that_is_pre_empted_goes_on(run, source, tmp_path):
    assert run(harmed.Preempted)
    assert "Requeued job" in logs(tmp_path) and "SIGUSR2" in logs(tmp_path)
    assert make_dataset(source, tmp_path) == undisturbed(source, tmp_path)


def test_a_killed_job_leaves_its_work_to_the_others(run, source, tmp_path):
    assert run(harmed.Harmed)
    assert make_dataset(source, tmp_path) == undisturbed(source, tmp_path)


def test_a_job_that_cannot_write_leaves_its_work_to_the_others_and_is_named(run, capfd):
    assert run(harmed.FirstFull)
    assert "No space left" in capfd.readouterr().err


def test_when_no_job_can_write_the_reason_is_raised(run):
    with pytest.raises(OSError, match=r"8 shards are left; OSError: .* No space left"):
        run(harmed.Full)


def test_a_stop_cancels_the_jobs(run, source, tmp_path):
    stop = Stop()
    stop.reason = "SIGTERM"
    begun = time.monotonic()
    assert not run(stop=stop, pause=5.0) and time.monotonic() - begun < 5
    assert run() and make_dataset(source, tmp_path) == undisturbed(source, tmp_path)


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    return install(tmp_path / "slurm", monkeypatch)


def test_an_array_under_slurm_with_a_job_that_is_pre_empted(run, slurm, source, tmp_path):
    more = {"qos": "low", "additional_parameters": {"requeue": True}}
    assert run(harmed.Preempted, local=False, partition="dev", time=30, gpus=1, memory_gb=1.5, more=more)
    assert make_dataset(source, tmp_path) == undisturbed(source, tmp_path)
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", (slurm / "script").read_text(), re.MULTILINE))
    expected = {"partition": "dev", "time": "30", "array": "0-1%2", "gpus-per-node": "1", "cpus-per-task": "1"}
    expected |= {"mem": "1536MB", "qos": "low", "requeue": "", "signal": "USR2@90"}
    assert expected.items() <= options.items()
    until = time.monotonic() + 20
    while not (slurm / "starts_0").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert (slurm / "starts_0").read_text() == "2"


def test_without_slurm_it_is_said_so(run, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match=r"slurm\.local=true"):
        run(local=False)


def test_a_parameter_that_there_is_not_is_refused(run, slurm):
    with pytest.raises(ValueError, match=r"slurm\.more: .*'partitions'"):
        run(local=False, more={"partitions": "dev"})
    assert not (slurm / "script").exists()
