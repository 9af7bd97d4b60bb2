"""engine=slurm: with submitit's processes on this machine, and with stand-ins for SLURM's programs."""

import re
import time
from pathlib import Path

import harmed
import pytest
import torchless
from processes import wait_until
from slurm_standins import install

pytest.importorskip("submitit", reason="submitit is not installed (the extra slurm)")

from gan_style.dataset.engines.slurm import run_array
from gan_style.dataset.journal import Records
from gan_style.runtime.signals import Stop

SETTINGS = {"local": True, "tasks": 2, "at_once": 256, "partition": None, "time": 60, "timeouts": 5}
SETTINGS |= {"gpus": 0, "cpus": 1, "memory_gb": None, "more": None}


@pytest.fixture
def run(planned, tmp_path):
    """run(Making, setting=...): whether all is done."""

    def call(making=torchless.Making, stop=None, pause=0.0, **changed) -> bool:
        plan, root = planned
        make, records = making(tmp_path / "out", plan, root, pause), Records(tmp_path / "out", plan)
        records.prepare()
        call.seen = []
        work = {"shards": plan.shards, "retry": [], "stop": stop or Stop(), "report": call.seen.append}
        return run_array(make, **work, records=records, **(SETTINGS | changed))

    return call


def logs(tmp_path: Path) -> str:
    return "".join(path.read_text() for path in (tmp_path / "out" / ".gan_style" / "slurm").glob("*_log.*"))


def test_jobs_make_the_bytes_that_one_process_makes(run, check_whole):
    assert run(tasks=3)
    assert len({shard.number for shard in run.seen if shard}) == 12
    check_whole()


def test_a_job_that_is_pre_empted_goes_on(run, check_whole, tmp_path):
    assert run(harmed.Preempted)
    assert "Requeued job" in logs(tmp_path) and "SIGUSR2" in logs(tmp_path)
    check_whole()


def test_a_killed_job_leaves_its_work_to_the_others(run, check_whole):
    assert run(harmed.Harmed)
    check_whole()


def test_a_job_that_cannot_write_leaves_its_work_to_the_others_and_is_named(run, capfd):
    assert run(harmed.FirstFull)
    assert "No space left" in capfd.readouterr().err


def test_when_no_job_can_write_the_reason_is_raised(run):
    with pytest.raises(OSError, match=r"12 shards are left; OSError: .* No space left"):
        run(harmed.Full)


def test_a_stop_cancels_the_jobs(run, check_whole):
    stop = Stop()
    stop.reason = "SIGTERM"
    begun = time.monotonic()
    assert not run(stop=stop, pause=5.0) and time.monotonic() - begun < 5
    assert run()
    check_whole()


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    return install(tmp_path / "slurm", monkeypatch)


def test_an_array_under_slurm_with_a_job_that_is_pre_empted(run, slurm, check_whole):
    more = {"qos": "low", "additional_parameters": {"requeue": True}}
    assert run(harmed.Preempted, local=False, partition="dev", time=30, gpus=1, memory_gb=1.5, more=more)
    check_whole()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", (slurm / "script").read_text(), re.MULTILINE))
    expected = {"partition": "dev", "time": "30", "array": "0-1%2", "gpus-per-node": "1", "cpus-per-task": "1"}
    expected |= {"mem": "1536MB", "qos": "low", "requeue": "", "signal": "USR2@90"}
    assert expected.items() <= options.items()
    wait_until((slurm / "starts_0").exists, seconds=20)
    assert (slurm / "starts_0").read_text() == "2"


def test_without_slurm_it_is_said_so(run, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match=r"slurm\.local=true"):
        run(local=False)


def test_a_parameter_that_there_is_not_is_refused(run, slurm):
    with pytest.raises(ValueError, match=r"slurm\.more: .*'partitions'"):
        run(local=False, more={"partitions": "dev"})
    assert not (slurm / "script").exists()
