"""Signals that ask a run to end, and the processes of ranks, with commands that are over at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from processes import REPOSITORY, wait_until

from gan_style.runtime.distributed import Ranks, launch, local_device, name_of_start, ranks
from gan_style.runtime.signals import NUMBERS, PREEMPTED, stop_on_signals

WAITING = """
import os, sys, time
from gan_style.runtime.signals import stop_on_signals
with stop_on_signals() as stop:
    print("ready", flush=True)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        time.sleep(0.01)
        if stop.reason and not os.environ.get("STUBBORN"):
            print(stop.reason, flush=True)
            sys.exit(75)
"""


def waiting(**environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], cwd=REPOSITORY, env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


class TestStop:
    def test_75_is_what_schedulers_take_for_run_again(self):
        assert PREEMPTED == os.EX_TEMPFAIL

    @pytest.mark.parametrize("number", NUMBERS)
    def test_a_signal_is_noted_and_nothing_else_happens(self, number):
        before = [signal.getsignal(item) for item in NUMBERS]
        with stop_on_signals() as stop:
            assert stop.reason is None
            os.kill(os.getpid(), number)
            assert stop.reason == number.name
        assert [signal.getsignal(item) for item in NUMBERS] == before

    @pytest.mark.parametrize("number", NUMBERS)
    def test_a_second_one_of_its_kind_ends_at_once_but_not_an_echo_of_the_first(self, number):
        """Echoes come within a second: a terminal's Ctrl-C reaches a rank by itself and through its launcher."""
        process, begin = waiting(STUBBORN="1"), time.monotonic()
        wait_until(lambda: process.send_signal(number) or process.poll() is not None, seconds=15)
        assert process.returncode == 128 + number and time.monotonic() - begin > 1

    def test_one_of_another_kind_does_not(self):
        with stop_on_signals() as stop:
            for number in NUMBERS:
                os.kill(os.getpid(), number)
            assert stop.reason == NUMBERS[-1].name


# Ranks of a launch: await_file, and await_end of a rank that has written its process id.
PRELUDE = """
import os, signal, sys, time
from pathlib import Path
rank = os.environ["RANK"]
def await_file(path):
    while not path.exists():
        time.sleep(0.01)
def await_end(path):
    await_file(path)
    while Path(f"/proc/{path.read_text() or 1}").exists():
        time.sleep(0.01)
"""


def python(program: str) -> list[str]:
    return [sys.executable, "-c", f"{PRELUDE}\n{program}"]


class TestNameOfStart:
    """All ranks of a start agree on a word, whatever an earlier start has left in the store."""

    def start(self, store: dist.Store, count: int) -> list[str]:
        with ThreadPoolExecutor(count) as pool:
            late = [pool.submit(name_of_start, store, rank, count) for rank in reversed(range(count))]
            return [item.result(timeout=20) for item in late]

    @pytest.mark.parametrize("count", [2, 5])
    def test_of_each_start_another(self, count):
        store = dist.HashStore()
        names = [self.start(store, count) for _ in range(4)]
        assert all(len(set(item)) == 1 for item in names) and len({item[0] for item in names}) == 4

    def test_after_a_start_of_which_some_ranks_died(self):
        store = dist.HashStore()
        store.set("start/1", "left by a dead one")
        store.set("start/2", "left by a dead one, too")
        first, second = self.start(store, 3), self.start(store, 2)
        assert len(set(first)) == len(set(second)) == 1 and first[0] != second[0]

    def test_those_that_do_not_come_are_named(self, monkeypatch):
        monkeypatch.setattr("gan_style.runtime.distributed.COLLECTIVE_TIMEOUT", timedelta(seconds=0.1))
        with pytest.raises(RuntimeError, match="ranks 1, 2 of 3 did not come"):
            name_of_start(dist.HashStore(), 0, 3)


class TestLaunch:
    def test_gives_every_rank_its_place_and_all_the_same_address(self, tmp_path):
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")
        program = f"open(rf'{tmp_path}/' + rank, 'w').write(' '.join(os.environ[name] for name in {names}))"
        assert launch(3, python(program)) == 0
        actual = [(tmp_path / str(rank)).read_text().split() for rank in range(3)]
        assert [row[:3] for row in actual] == [[str(rank), str(rank), "3"] for rank in range(3)]
        assert len({tuple(row[3:]) for row in actual}) == 1

    @pytest.mark.parametrize(("statuses", "expected"), [([0, 0], 0), ([3, 0], 3), ([0, 4], 4), ([75, 75], 75)])
    def test_ends_with_the_status_of_those_that_failed(self, statuses, expected):
        assert launch(2, python(f"sys.exit({statuses}[int(rank)])")) == expected

    @pytest.mark.parametrize(
        ("first", "second", "expected"), [(6, 5, 6), (1, 4, 4)], ids=["the first failure", "one lost its neighbour"]
    )
    def test_the_status_is_that_of_the_first_failure_for_a_reason_of_its_own(self, tmp_path, first, second, expected):
        """Rank 1 ends when rank 0 has, and before it is told to."""
        program = f"""
place = Path(r'{tmp_path}', 'pid')
signal.signal(signal.SIGTERM, lambda *_: sys.exit({second}))
if rank == '0':
    place.write_text(str(os.getpid()))
    sys.exit({first})
await_end(place)
sys.exit({second})"""
        assert launch(2, python(program)) == expected

    def test_a_failing_rank_ends_the_others(self):
        started = time.monotonic()
        assert launch(3, python("time.sleep(0 if rank == '1' else 60); sys.exit(9)")) == 9
        assert time.monotonic() - started < 10

    def test_where_one_ends_pre_empted_the_others_may_finish_what_they_are_at(self, tmp_path):
        program = f"""
folder = Path(r'{tmp_path}')
if rank == '0':
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    await_end(folder / 'pid')
    told = signal.sigtimedwait([signal.SIGTERM], 0.5)
    (folder / 'finished').write_text(str(told))
else:
    (folder / 'pid').write_text(str(os.getpid()))
sys.exit(75)"""
        assert launch(2, python(program)) == 75
        assert (tmp_path / "finished").read_text() == "None"

    def test_a_killed_rank_ends_the_others_and_its_signal_is_the_status(self, capfd):
        program = "if rank == '0': os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(60)"
        assert launch(2, python(program)) == 128 + signal.SIGKILL
        errors = capfd.readouterr().err
        assert "rank 0 was killed by SIGKILL" in errors and "rank 1" not in errors

    @pytest.mark.parametrize(("death", "expected"), [("os.kill(os.getpid(), 9)", 137), ("sys.exit(1)", 1)])
    def test_those_that_are_told_to_end_do_not_make_a_failure_a_pre_emption(self, tmp_path, death, expected):
        program = f"""
ready = Path(r'{tmp_path}', 'ready')
if rank == '1':
    await_file(ready)
    {death}
signal.signal(signal.SIGTERM, lambda *_: os._exit(75))
ready.touch()
time.sleep(60)"""
        assert launch(2, python(program)) == expected

    def test_one_that_does_not_heed_sigterm_is_killed_after_the_grace(self, tmp_path, capfd):
        program = f"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
deaf = Path(r'{tmp_path}', 'deaf')
if rank == '1':
    deaf.touch()
    time.sleep(60)
await_file(deaf)
sys.exit(7)"""
        started = time.monotonic()
        assert launch(2, python(program), grace=1.0) == 7
        assert 1.0 < time.monotonic() - started < 50
        assert "ranks that did not end within 1 s are killed" in capfd.readouterr().err

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
    def test_passes_signals_on_to_every_rank_and_takes_its_own_handlers_back(self, tmp_path, number):
        before = signal.getsignal(number)
        program = f"""
signal.signal({int(number)}, lambda *_: (open(rf'{tmp_path}/' + rank, 'w').close(), os._exit(75)))
open(rf'{tmp_path}/ready' + rank, 'w').close()
time.sleep(30)"""

        def send() -> None:
            wait_until(lambda: len(list(tmp_path.glob("ready*"))) == 2)
            os.kill(os.getpid(), number)

        threading.Thread(target=send).start()
        assert launch(2, python(program)) == 75
        assert (tmp_path / "0").exists() and (tmp_path / "1").exists()
        assert signal.getsignal(number) == before


PARENT = """
import os, signal, sys, time
from gan_style.runtime.distributed import launch
from gan_style.runtime.signals import die_with
child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
if sys.argv[1] == "launcher":
    launch(2, [sys.executable, "-c", child])
parent, late = os.getpid(), sys.argv[1] == "late"
pid = os.fork()
if pid == 0:
    while late and os.getppid() == parent:  # as a data worker whose parent is killed before it has begun
        time.sleep(0.01)
    die_with(parent)
if bool(pid) == late:
    print(pid or os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
class TestOrphans:
    @pytest.mark.parametrize(("when", "children"), [("early", 1), ("late", 1), ("launcher", 2)])
    def test_a_child_ends_with_a_parent_that_is_killed(self, when, children):
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, when], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        assert parent.stdout is not None
        assert all(int(parent.stdout.readline()) for _ in range(children))
        parent.kill()
        parent.wait()
        assert parent.stdout.read() == ""  # which ends once no child holds the pipe

    def test_nothing_happens_while_the_parent_lives(self):
        program = f"from gan_style.runtime.signals import die_with; die_with({os.getpid()}); print('well')"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        assert done.stdout == "well\n"


class TestAlone:
    """One process without torchrun's environment."""

    def test_is_rank_0_of_1_and_waits_for_nobody(self, monkeypatch):
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        with ranks() as group:
            assert (group.rank, group.count, group.first) == (0, 1, True)
            assert group.gather("x") == ["x"] and group.from_first("y") == "y"
            assert (group.any(True), group.any(False)) == (True, False)
            values = torch.tensor([1.0, 2.0])
            assert torch.equal(group.mean(values), values)
            group.wait()

    @pytest.mark.parametrize("count", [1, 2, 3, 7])
    def test_shares_a_list_without_loss_or_doubling(self, count):
        parts = [Ranks(rank, count).share("abcdefgh") for rank in range(count)]
        assert sorted(pair for part in parts for pair in part) == list(enumerate("abcdefgh"))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1

    @pytest.mark.parametrize("name", ["auto", "cpu", "cuda:1", "cuda"])
    def test_keeps_the_device_it_was_told(self, monkeypatch, name):
        monkeypatch.setenv("WORLD_SIZE", "1")
        assert local_device(name) == name

    @pytest.mark.parametrize(
        ("rank", "gpus", "of_node", "name", "expected"),
        [
            *((0, 2, {}, "auto", "cuda:0"), (1, 2, {}, "cuda", "cuda:1"), (1, 2, {}, "cpu", "cpu")),
            # a scheduler that shows each task one device means that
            *((rank, 1, {}, name, "cuda:0") for rank in (0, 3) for name in ("auto", "cuda:0")),
            # torchrun's ranks and ours all see one
            (3, 1, {"LOCAL_WORLD_SIZE": "4"}, "auto", "rank 3 of this node has no device: there are 1"),
            (2, 2, {}, "auto", "rank 2 of this node has no device: there are 2"),
            (1, 2, {}, "cuda:1", "runtime.device=cuda:1: ranks cannot share one GPU"),
        ],
    )
    def test_each_rank_of_a_node_has_a_device_of_its_own(self, monkeypatch, rank, gpus, of_node, name, expected):
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
        for variable, value in ({"WORLD_SIZE": "4", "LOCAL_RANK": str(rank)} | of_node).items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        if expected in ("cpu", "cuda:0", "cuda:1"):
            assert local_device(name) == expected
        else:
            with pytest.raises(ValueError, match=expected):
                local_device(name)
