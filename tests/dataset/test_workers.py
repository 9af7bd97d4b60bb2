"""How many processes work, and which of them die, changes nothing of what they make."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import harmed
import pytest
import torchless
from processes import wait_until
from samples import files

from gan_style.dataset.engines import ray, slurm
from gan_style.dataset.engines.local import run_here, run_processes, work
from gan_style.dataset.journal import Records
from gan_style.dataset.worker import Done
from gan_style.runtime.signals import Stop


@pytest.mark.parametrize("layout", ["folder", "webdataset"])
def test_the_number_of_processes_changes_no_byte(planned, source, tmp_path, layout):
    trees = []
    for workers in (1, 2, 4):
        torchless.make(str(source), tmp_path / str(workers), layout, shard_size=3, workers=workers)
        trees.append(files(tmp_path / str(workers)))
    assert trees[0] == trees[1] == trees[2] and len(trees[0]) > 14


@pytest.fixture
def records(planned, tmp_path) -> Records:
    return Records(tmp_path / "out", planned[0])


@pytest.fixture
def run(planned, tmp_path):
    """run(Making, retry=..., count=...): whether two processes have done all."""

    def call(making=torchless.Making, *, retry=(), count: int = 2) -> bool:
        (plan, root), report = planned, lambda shard: None
        worker_maker = making(tmp_path / "out", plan, root)
        return run_processes(worker_maker, plan.shards, count=count, retry=retry, stop=Stop(), report=report)

    return call


@pytest.fixture
def worker(planned, tmp_path):
    return torchless.make_worker(tmp_path / "out", *planned)


def test_a_killed_process_leaves_its_work_to_the_other(run, records, check_whole, capfd):
    assert run(harmed.Harmed)
    assert "SIGKILL" in capfd.readouterr().err
    assert records.left(records.plan.shards) == []
    assert not list(records.output.rglob("*.part"))
    check_whole()


@pytest.fixture
def failures(run, records, source, tmp_path) -> list[int]:
    """The numbers of the shards: all done, each with failures, of pictures that were away then."""
    source.rename(tmp_path / "away")
    assert run()
    (tmp_path / "away").rename(source)
    assert all(records.record(shard)["failures"] for shard in records.plan.shards)
    return [shard.number for shard in records.plan.shards]


def test_what_a_killed_process_had_to_do_again_is_done_by_the_other(run, records, failures):
    assert run(harmed.Harmed, retry=failures)
    assert records.left(records.plan.shards) == []
    assert not any(records.record(shard)["failures"] for shard in records.plan.shards)


def test_why_nothing_can_be_done_again_is_raised(run, failures):
    with pytest.raises(OSError, match="No space left"):
        run(harmed.FirstFull, retry=failures[:1])


def test_a_shard_to_do_again_that_kills_all_ends_in_failure(run, records, failures):
    assert not run(harmed.Deadly, retry=failures)
    assert len(records.left(records.plan.shards)) == 1
    done = [shard for shard in records.plan.shards if records.record(shard)]
    assert not any(records.record(shard)["failures"] for shard in done)


def test_a_failing_process_leaves_its_work_to_the_other_and_is_named(run, capfd):
    assert run(harmed.FirstFull)
    assert "No space left" in capfd.readouterr().err


def test_when_all_fail_the_reason_is_raised(run):
    with pytest.raises(OSError, match="No space left"):
        run(harmed.Full, count=1)


def test_an_impatient_worker_leaves_what_others_have(worker, planned):
    (plan, _), shards = planned, []
    with worker.records.lease(plan.shards[0]):
        options = {"retry": (), "stopped": lambda: False, "report": shards.append}
        assert work(worker, plan.shards, **options, patient=False)
    assert worker.records.left(plan.shards) == plan.shards[:1] and None not in shards


@pytest.mark.parametrize("engine", [slurm, ray])
def test_an_engine_that_is_not_installed_is_named(engine, records, monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    common = {"shards": [], "retry": [], "stop": Stop(), "report": lambda shard: None}
    with pytest.raises(ValueError, match=r"gan_style\[slurm\]" if engine is slurm else r"gan_style\[ray\]"):
        if engine is slurm:
            slurm.run_array(torchless.Making, **common, records=records, local=True, tasks=1, timeouts=1)
        else:
            ray.run_actors(torchless.Making, **common, address=None, actors=1, gpus=0, cpus=1)


def test_a_shard_that_a_living_process_has_is_passed_over(worker, planned):
    first, second, *_ = planned[0].shards
    with worker.records.lease(first) as lease:
        assert lease is not None
        assert worker.process(first) is Done.BUSY
        assert worker.process(second) is Done.NOW
    assert worker.process(first) is Done.NOW
    assert worker.process(first) is Done.ALREADY


def test_who_has_a_shard_is_on_the_disk_before_any_of_its_files(worker, planned, monkeypatch):
    """After a power cut only the lock's token says whose parts of files are to be removed."""
    synced, sync = [], os.fsync

    def noted(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append((path.suffix or path.name, path.stat().st_size))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    worker.process(planned[0].shards[0])
    assert synced[0] == (".lock", 17) and synced[1][0] == "leases" and ".part" in dict(synced[2:])


def test_a_stop_ends_after_the_shard_in_flight(planned, records, tmp_path):
    (plan, root), stop, done = planned, Stop(), []

    def report(shard):
        done.append(shard)
        stop.reason = "SIGTERM" if len(done) == 2 else None

    making = torchless.Making(tmp_path / "out", plan, root)
    assert not run_here(making, plan.shards, retry=(), stop=stop, report=report)
    assert len(records.left(plan.shards)) == len(plan.shards) - 2


def test_a_signal_to_the_whole_group_ends_all_after_their_shards(planned, source, tmp_path):
    """As a scheduler or Ctrl-C sends it."""
    program = [sys.executable, torchless.__file__, source, tmp_path / "out", "folder", 1, 2, 0.1]
    job = subprocess.Popen([str(part) for part in program], start_new_session=True)
    records = tmp_path / "out" / ".gan_style" / "records"
    wait_until(lambda: list(records.glob("*.json")), job)
    os.killpg(job.pid, signal.SIGTERM)
    assert job.wait(timeout=10) == 75
    assert 0 < len(list(records.glob("0*.json"))) < 36
    assert not list((tmp_path / "out").rglob("*.part"))
