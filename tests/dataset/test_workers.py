"""How many processes work, and which of them die, changes nothing of what they make."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torchless
from test_killed import tree

from gan_style.dataset.engines import ray, slurm
from gan_style.dataset.engines.local import run_here, run_processes, work
from gan_style.dataset.journal import Records
from gan_style.dataset.plan import Plan
from gan_style.dataset.worker import Done
from gan_style.runtime.signals import Stop


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(40):
        (tmp_path / "in" / f"class {number % 3}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / f"class {number % 3}" / f"{number:03d}.jpg").write_bytes(bytes([number]) * 500)
    return tmp_path / "in"


@pytest.mark.parametrize("layout", ["folder", "webdataset"])
def test_the_number_of_processes_changes_no_byte(source, tmp_path, layout):
    trees = []
    for workers in (1, 2, 4):
        torchless.make(str(source), tmp_path / str(workers), layout, shard_size=3, workers=workers)
        trees.append(tree(tmp_path / str(workers)))
    assert trees[0] == trees[1] == trees[2] and len(trees[0]) > 14


class OneDies(torchless.Making):
    """The worker of process 0 is killed in its second shard; the other begins only then."""

    def __call__(self, number: int = 0):
        worker = super().__call__(number)
        plain, died, shards = worker.make, worker.records.state / "died", []

        def make(samples):
            shards.append(samples)
            if number == 0 and len(shards) == 2:
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            while number == 1 and not died.exists():
                time.sleep(0.02)
            return plain(samples)

        worker.make = make
        return worker


class OneDiesOnce(OneDies):
    """Likewise, but only in the first round."""

    def __call__(self, number: int = 0):
        died = (self.arguments[0] / ".gan_style" / "died").exists()
        return torchless.Making.__call__(self, number) if died else super().__call__(number)


class OneAlwaysDies(torchless.Making):
    """A shard that kills every process."""

    def __call__(self, number: int = 0):
        worker = super().__call__(number)
        plain = worker.make

        def make(samples):
            if any("007" in sample.key for _, sample in samples):
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(samples)

        worker.make = make
        return worker


class OneFails(torchless.Making):
    """The worker of process 0 cannot write."""

    def __call__(self, number: int = 0):
        if number == 0:
            raise OSError(28, "No space left on device")
        return super().__call__(number)


def in_processes(making, plan: Plan, count: int = 2) -> bool:
    return run_processes(making, plan.shards, count=count, retry=(), stop=Stop(), report=lambda shard: None)


def test_a_killed_process_leaves_its_work_to_the_other(source, tmp_path, capfd):
    plan, root = torchless.make_plan(str(source), tmp_path / "out", shard_size=3)
    assert in_processes(OneDies(tmp_path / "out", plan, root), plan)
    assert "SIGKILL" in capfd.readouterr().err
    assert Records(tmp_path / "out", plan).left(plan.shards) == []
    assert not list((tmp_path / "out").rglob("*.part"))
    torchless.make(str(source), tmp_path / "whole", shard_size=3)
    (tmp_path / "out" / ".gan_style" / "died").unlink()
    assert tree(tmp_path / "out").items() <= tree(tmp_path / "whole").items()


def failing_plan(source: Path, tmp_path: Path) -> tuple[Plan, Path]:
    """Each shard done, with failures: of pictures that were away then."""
    plan, root = torchless.make_plan(str(source), tmp_path / "out", shard_size=3)
    source.rename(tmp_path / "away")
    assert in_processes(torchless.Making(tmp_path / "out", plan, root), plan)
    (tmp_path / "away").rename(source)
    return plan, root


def test_what_a_killed_process_had_to_do_again_is_done_by_the_other(source, tmp_path):
    plan, root = failing_plan(source, tmp_path)
    records = Records(tmp_path / "out", plan)
    assert all(records.record(shard)["failures"] for shard in plan.shards)
    making, retry = OneDiesOnce(tmp_path / "out", plan, root), [shard.number for shard in plan.shards]
    report = {"stop": Stop(), "report": lambda shard: None}
    assert run_processes(making, plan.shards, count=2, retry=retry, **report)
    assert records.left(plan.shards) == []
    assert not any(records.record(shard)["failures"] for shard in plan.shards)


def test_why_nothing_can_be_done_again_is_raised(source, tmp_path):
    plan, root = failing_plan(source, tmp_path)
    making, rest = OneFails(tmp_path / "out", plan, root), {"stop": Stop(), "report": lambda shard: None}
    with pytest.raises(OSError, match="No space left"):
        run_processes(making, plan.shards[:1], count=2, retry=[plan.shards[0].number], **rest)


def test_a_shard_to_do_again_that_kills_all_ends_in_failure(source, tmp_path):
    plan, root = failing_plan(source, tmp_path)
    records, retry = Records(tmp_path / "out", plan), [shard.number for shard in plan.shards]
    making = OneAlwaysDies(tmp_path / "out", plan, root)
    report = {"stop": Stop(), "report": lambda shard: None}
    assert not run_processes(making, plan.shards, count=2, retry=retry, **report)
    assert len(records.left(plan.shards)) == 1
    done = [shard for shard in plan.shards if records.record(shard)]
    assert not any(records.record(shard)["failures"] for shard in done)


def test_a_failing_process_leaves_its_work_to_the_other_and_is_named(source, tmp_path, capfd):
    plan, root = torchless.make_plan(str(source), tmp_path / "out", shard_size=3)
    assert in_processes(OneFails(tmp_path / "out", plan, root), plan)
    assert "No space left" in capfd.readouterr().err


def test_when_all_fail_the_reason_is_raised(source, tmp_path):
    plan, root = torchless.make_plan(str(source), tmp_path / "out", shard_size=3)
    with pytest.raises(OSError, match="No space left"):
        in_processes(OneFails(tmp_path / "out", plan, root), plan, count=1)


def test_an_impatient_worker_leaves_what_others_have(source, tmp_path):
    plan, root = torchless.make_plan(str(source), tmp_path / "out", shard_size=3)
    worker, shards = torchless.make_worker(tmp_path / "out", plan, root), []
    with worker.records.lease(plan.shards[0]):
        options = {"retry": (), "stopped": lambda: False, "report": shards.append}
        assert work(worker, plan.shards, **options, patient=False)
    assert worker.records.left(plan.shards) == plan.shards[:1] and None not in shards


@pytest.mark.parametrize(("engine", "extra"), [(slurm, "slurm"), (ray, "ray")])
def test_an_engine_that_is_not_installed_is_named(engine, extra, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    common = {"shards": [], "retry": [], "stop": Stop(), "report": lambda shard: None}
    with pytest.raises(ValueError, match=rf"gan_style\[{extra}\]"):
        if engine is ray:
            ray.run_actors(torchless.Making, **common, address=None, actors=1, gpus=0, cpus=1)
        else:
            slurm._executor(tmp_path, True, {"timeouts": 1})


def test_a_shard_that_a_living_process_has_is_passed_over(source, tmp_path):
    plan, root = torchless.make_plan(str(source), tmp_path / "out", shard_size=3)
    worker = torchless.make_worker(tmp_path / "out", plan, root)
    with worker.records.lease(plan.shards[0]) as lease:
        assert lease is not None
        assert worker.process(plan.shards[0]) is Done.BUSY
        assert worker.process(plan.shards[1]) is Done.NOW
    assert worker.process(plan.shards[0]) is Done.NOW
    assert worker.process(plan.shards[0]) is Done.ALREADY


def test_who_has_a_shard_is_on_the_disk_before_any_of_its_files(source, tmp_path, monkeypatch):
    """After a power cut only the lock's token says whose parts of files are to be removed."""
    plan, root = torchless.make_plan(str(source), tmp_path / "out", shard_size=3)
    worker, synced, sync = torchless.make_worker(tmp_path / "out", plan, root), [], os.fsync

    def noted(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append((path.suffix or path.name, path.stat().st_size))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    worker.process(plan.shards[0])
    assert synced[0] == (".lock", 17) and synced[1][0] == "leases" and ".part" in dict(synced[2:])


def test_a_stop_ends_after_the_shard_in_flight(source, tmp_path):
    plan, root = torchless.make_plan(str(source), tmp_path / "out", shard_size=3)
    stop, done = Stop(), []

    def report(shard):
        done.append(shard)
        stop.reason = "SIGTERM" if len(done) == 2 else None

    making = torchless.Making(tmp_path / "out", plan, root)
    assert not run_here(making, plan.shards, retry=(), stop=stop, report=report)
    assert len(Records(tmp_path / "out", plan).left(plan.shards)) == len(plan.shards) - 2


def test_a_signal_to_the_whole_group_ends_all_after_their_shards(source, tmp_path):
    """As a scheduler or Ctrl-C sends it."""
    program = [sys.executable, torchless.__file__, source, tmp_path / "out", "folder", 1, 2, 0.1]
    job = subprocess.Popen([str(part) for part in program], start_new_session=True)
    records = tmp_path / "out" / ".gan_style" / "records"
    while not list(records.glob("*.json")) and job.poll() is None:
        time.sleep(0.02)
    os.killpg(job.pid, signal.SIGTERM)
    assert job.wait(timeout=10) == 75
    assert 0 < len(list(records.glob("0*.json"))) < 40
    assert not list((tmp_path / "out").rglob("*.part"))
