"""engine=ray, on a cluster of two machines that Ray's own utility plays here; one of them is lost.

Slow, because a cluster takes ten seconds to start and as long to end; skipped without Ray.
"""

import threading
import time
from pathlib import Path

import harmed
import pytest
import torchless

from gan_style.dataset.engines.ray import run_actors
from gan_style.dataset.journal import Records
from gan_style.runtime.signals import Stop

ray = pytest.importorskip("ray", reason="Ray is not installed (the extra ray)")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # actors import what they unpickle
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def run(cluster, planned, tmp_path):
    """run(Making, actors=...): whether all is done; .seen: what was reported."""

    def call(making=torchless.Making, actors=1, stop=None, report=None, pause=0.0) -> bool:
        plan, root = planned
        make = making(tmp_path / "out", plan, root, pause)
        Records(tmp_path / "out", plan).prepare()
        call.seen = []
        work = {"shards": plan.shards, "retry": [], "stop": stop or Stop(), "report": report or call.seen.append}
        return run_actors(make, **work, address=None, actors=actors, gpus=0, cpus=1)

    return call


def test_actors_make_the_bytes_that_one_process_makes(run, check_whole):
    """One of the two has no room, and holds up nothing."""
    assert run(actors=2)
    assert sorted(shard.number for shard in run.seen if shard) == list(range(12))
    check_whole()


def test_a_killed_actor_is_replaced(run, check_whole, capfd):
    assert run(harmed.Harmed)
    assert "actor 0 is lost, another takes its place" in capfd.readouterr().err
    check_whole()


def test_a_lost_machine_leaves_its_work_to_the_other(run, cluster, check_whole, capfd):
    node, shards = cluster.add_node(num_cpus=1), []
    cluster.wait_for_nodes()

    def report(shard):
        shards.append(shard)
        if sum(shard_number is not None for shard_number in shards) == 4 and shard is not None:
            threading.Thread(target=cluster.remove_node, args=(node, False)).start()

    assert run(actors=2, report=report, pause=0.5)
    assert "is lost" in capfd.readouterr().err
    check_whole()


def test_when_all_fail_the_reason_is_raised(run):
    with pytest.raises(OSError, match="No space left"):
        run(harmed.Full)


def test_a_stop_ends_after_the_shards_in_flight(run, tmp_path):
    stop = Stop()
    shards = []

    def report(shard):
        if shard is not None:
            shards.append(shard)
            stop.reason = "SIGTERM"

    begun = time.monotonic()
    assert not run(stop=stop, report=report, pause=0.2) and time.monotonic() - begun < 30
    assert len(shards) == 1 and len(list((tmp_path / "out" / ".gan_style" / "records").glob("*.json"))) == 1
