"""gan-style train under signals, kills, numbers that are not finite, full disks, and with several ranks.

Each process costs some five seconds before it trains: the fast set starts a handful, the whole matrix is slow.
"""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import finish, start, wait_until
from run_files import SMOKE, assert_same, rows, steps_in

from gan_style.runtime.checkpoint import CheckpointFolder, read_checkpoint
from gan_style.runtime.files import locked
from gan_style.stylize.model import load_generator
from gan_style.training.sampling import Sampler

# Long enough to be met in the midst, with checkpoints that are seldom where a signal comes.
LAST = 24
LONG = (*SMOKE, f"training.steps={LAST}", f"training.sample_every={LAST}", f"metrics.every={LAST}")
LONG = (*LONG, "training.checkpoint_every=10")
TWO, BF16 = "runtime.devices=2", "training.precision=bfloat16"
WORKERS = ("data.workers=2", "data.cache_mb=0")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
SOON = 60.0  # of a pre-emption: some 3 s on an idle machine, and this one may be busy with other tests


def newest(run: Path) -> dict[str, Any]:
    actual = CheckpointFolder(run / "checkpoints").load_newest(pytest.fail)
    assert actual is not None
    return actual[1]


def assert_ended_alike(first: Path, second: Path) -> None:
    """Weights, moments, what was measured and what was logged, but for how fast it went."""
    mine, theirs = newest(first), newest(second)
    for key in ("state", "objective", "lowest"):
        assert_same(mine[key], theirs[key], key)
    logged = [
        [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows(run)] for run in (first, second)
    ]
    assert_same(logged[0], logged[1], "metrics.jsonl")


def start_training(root: Path, *options: str, own_group: bool = False) -> subprocess.Popen[str]:
    return start("commands.train", *options, f"run.root={root}", own_group=own_group)


def await_steps(process: subprocess.Popen[str], run: Path, count: int) -> None:
    """Until so many steps of a run are logged."""
    metrics = run / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and metrics.read_bytes().count(b"loss/total") >= count, process)


def ranks_of(launcher: int) -> dict[int, int]:
    """{rank: process id} of a launcher's children."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    environments = {int(child): Path(f"/proc/{child}/environ").read_bytes().split(b"\0") for child in children}
    return {
        int(entry.removeprefix(b"RANK=")): child
        for child, entries in environments.items()
        for entry in entries
        if entry.startswith(b"RANK=")
    }


UNDISTURBED_RUNS: dict[tuple[str, ...], Path] = {}


@pytest.fixture
def run(gan_style) -> Callable[..., tuple[int, str]]:
    """run(root, *options): status and words; in this process where one is enough."""

    def call(root: Path, *options: str) -> tuple[int, str]:
        if TWO in options:
            return finish(start_training(root, *options))
        outcome = gan_style("train", *options, f"run.root={root}")
        return outcome.status, outcome.out + outcome.err

    return call


@pytest.fixture
def undisturbed(run, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a LONG run with these options that nothing has happened to; made once."""

    def make(*options: str) -> Path:
        if options not in UNDISTURBED_RUNS:
            root = tmp_path_factory.mktemp("undisturbed")
            status, output = run(root, *LONG, *options)
            assert status == 0, output
            UNDISTURBED_RUNS[options] = root / "smoke"
        return UNDISTURBED_RUNS[options]

    return make


# Pre-emption


def assert_pre_empted(
    root: Path, options: tuple[str, ...], send: Callable[[subprocess.Popen[str]], None], message: str
) -> None:
    """Status 75 soon after, and a checkpoint of just the step that the log ends with."""
    process = start_training(root, *LONG, *options, own_group=True)
    await_steps(process, root / "smoke", 3)
    send(process)
    status, output = finish(process, seconds=SOON)
    assert status == 75, output
    step = steps_in(root / "smoke")[-1]
    assert newest(root / "smoke")["state"]["step"] == step
    assert f"stopped by {message} after step {step}, saved; the same command again goes on" in output
    assert step < LAST and not list(root.rglob("*.part"))


def assert_goes_on_as_if_nothing_had_happened(run: Any, root: Path, options: tuple[str, ...], expected: Path) -> None:
    step = steps_in(root / "smoke")[-1]
    status, output = run(root, *LONG, *options)
    assert status == 0 and f"after step {step}" in output, output
    assert steps_in(root / "smoke") == list(range(1, LAST + 1))
    assert_ended_alike(root / "smoke", expected)


def to_the_group(number: int) -> Callable[[subprocess.Popen[str]], None]:
    return lambda process: os.killpg(process.pid, number)


def to_the_launcher(number: int) -> Callable[[subprocess.Popen[str]], None]:
    return lambda process: process.send_signal(number)


def to_rank(rank: int, number: int) -> Callable[[subprocess.Popen[str]], None]:
    return lambda process: os.kill(ranks_of(process.pid)[rank], number)


def test_a_signal_to_the_whole_group_data_workers_too_ends_a_run_that_goes_on_as_if_nothing_had_happened(
    run, undisturbed, tmp_path
):
    """As a terminal's Ctrl-C, or a scheduler's warning."""
    options = (BF16, *WORKERS)
    assert_pre_empted(tmp_path, options, to_the_group(signal.SIGTERM), "SIGTERM")
    assert_goes_on_as_if_nothing_had_happened(run, tmp_path, options, undisturbed(*options))


@pytest.mark.slow  # three runs, one of two ranks
def test_a_signal_to_one_rank_of_two_ends_both_at_one_step_from_which_one_alone_goes_on(run, tmp_path):
    """Rank 0 speaks, and the signal came to the other."""
    assert_pre_empted(tmp_path, (TWO,), to_rank(1, signal.SIGUSR1), "another rank")
    status, output = run(tmp_path, *LONG)
    assert status == 0, output
    assert steps_in(tmp_path / "smoke") == list(range(1, LAST + 1))


@pytest.mark.slow  # 8 runs stopped and resumed
@pytest.mark.parametrize("options", [(), WORKERS], ids=["", "workers"])
@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_to_one_process(run, undisturbed, tmp_path, number, options):
    send = to_the_group(number) if options else to_the_launcher(number)
    assert_pre_empted(tmp_path, options, send, number.name)
    assert_goes_on_as_if_nothing_had_happened(run, tmp_path, options, undisturbed(*options))


@pytest.mark.slow  # 16 runs of two ranks, stopped and resumed
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("to", ["launcher", "group", "rank 0", "rank 1"])
def test_every_signal_to_every_process_of_two_ranks(run, undisturbed, tmp_path, number, to):
    send = {"launcher": to_the_launcher(number), "group": to_the_group(number)}.get(to)
    send = send or to_rank(int(to[-1]), number)
    output = "another rank" if to == "rank 1" else number.name
    assert_pre_empted(tmp_path, (TWO,), send, output)
    assert_goes_on_as_if_nothing_had_happened(run, tmp_path, (TWO,), undisturbed(TWO))


@pytest.fixture
def signalled(monkeypatch) -> Callable[[int, int], None]:
    """signalled(step, number): the progress line of that step is followed by a signal to this process."""

    def call(at: int, number: int) -> None:
        def update(_: Any, step: int, values: dict[str, float]) -> None:
            if step == at:
                os.kill(os.getpid(), number)

        monkeypatch.setattr("gan_style.training.supervisor.Progress.update", update)

    return call


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_step_it_comes_in_with_a_checkpoint_of_it(smoke, tmp_path, signalled, number):
    """In this process: the handler only notes it, and the loop looks once a step."""
    signalled(3, number)
    outcome = smoke("training.steps=9", status=75)
    assert steps_in(tmp_path / "smoke") == [1, 2, 3, 4] and newest(tmp_path / "smoke")["state"]["step"] == 4
    assert f"stopped by {number.name} after step 4, saved" in outcome.out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_before_the_first_step_has_nothing_to_save_and_the_same_status(smoke, tmp_path, monkeypatch, number):
    """A scheduler that queues on 75 again has to do so for a run that was still measuring its photos."""
    with monkeypatch.context() as patched:
        patched.setattr("gan_style.commands.train.calibrate", lambda *_: os.kill(os.getpid(), number))
        outcome = smoke(status=75)
    assert f"{number.name} while nothing is being trained: nothing to save; run again" in outcome.err
    assert list(tmp_path.rglob("*.pt")) == []
    smoke()


def test_a_signal_in_the_last_step_ends_nothing_early(smoke, signalled):
    signalled(4, signal.SIGTERM)
    smoke()


def test_a_run_of_limited_time_is_saved_and_goes_on(gan_style, tmp_path):
    limited = gan_style("train", *LONG, f"run.root={tmp_path / 'a'}", "training.max_time=0.001", status=75)
    assert "stopped by training.max_time after step 1, saved" in limited.out
    assert newest(tmp_path / "a" / "smoke")["state"]["step"] == 1
    gan_style("train", *LONG, f"run.root={tmp_path / 'a'}", "training.max_time=1000")
    assert steps_in(tmp_path / "a" / "smoke") == list(range(1, LAST + 1))
    gan_style("train", *LONG, f"run.root={tmp_path / 'b'}")
    assert_ended_alike(tmp_path / "a" / "smoke", tmp_path / "b" / "smoke")


# Kills


def survive_kills(run: Any, root: Path, options: tuple[str, ...], kills: int, seed: int) -> None:
    """SIGKILL the whole group some time after a run has trained again, so often; then let it end."""
    rng, folder = random.Random(seed), root / "smoke"
    for _ in range(kills):
        before = len(steps_in(folder)) if (folder / "metrics.jsonl").exists() else 0
        if before >= LAST - 4:
            break
        process = start_training(root, *LONG, "training.checkpoint_every=3", *options, own_group=True)
        saved = newest(folder)["state"]["step"] if list(root.rglob("step_*.pt")) else 0
        await_steps(process, folder, saved + 1)
        time.sleep(rng.uniform(0.0, 0.4))
        os.killpg(process.pid, signal.SIGKILL)
        status, output = finish(process)
        assert status in (-signal.SIGKILL, 0), output
    status, output = run(root, *LONG, "training.checkpoint_every=3", *options)
    assert status == 0, output
    assert steps_in(folder) == list(range(1, LAST + 1))


def test_killed_and_started_again_a_run_ends_bit_by_bit_as_an_undisturbed_one(run, undisturbed, tmp_path):
    options = (BF16, *WORKERS)
    survive_kills(run, tmp_path, options, kills=1, seed=0)
    assert_ended_alike(tmp_path / "smoke", undisturbed(*options))


@pytest.mark.slow  # 15 kills, 5 undisturbed runs
@pytest.mark.parametrize(
    "options",
    [(), (BF16,), WORKERS, (BF16, *WORKERS), (TWO,), (TWO, *WORKERS)],
    ids=["", "bfloat16", "workers", "bfloat16, workers", "two ranks", "two ranks, workers"],
)
def test_killed_again_and_again_likewise(run, undisturbed, tmp_path, options):
    survive_kills(run, tmp_path, options, kills=3, seed=len(options))
    assert_ended_alike(tmp_path / "smoke", undisturbed(*options))


SGD = tuple(
    option
    for name in ("generator", "discriminator")
    for option in (
        f"optimiser.{name}._target_=torch.optim.SGD",
        f"~optimiser.{name}.betas",
        f"optimiser.{name}.lr=0.001",
    )
)


@pytest.mark.slow  # three runs of two ranks
def test_with_another_number_of_ranks_a_run_goes_on_with_the_same_samples(run, undisturbed, tmp_path):
    """2, then 1, then 2 ranks; under SGD losses are those of one rank, which no other order of the samples gives.

    Within rounding for some steps, and then within a little more: it turns a unit at its threshold on or off.
    """
    options = (*SGD, "training.decay=constant")
    for steps, more in ((7, TWO), (15, "runtime.devices=1"), (LAST, TWO)):
        status, output = run(tmp_path, *LONG, *options, more, f"training.steps={steps}")
        assert status == 0, output
    assert steps_in(tmp_path / "smoke") == list(range(1, LAST + 1))
    expected = undisturbed(*options)
    for item, other in zip(rows(tmp_path / "smoke"), rows(expected), strict=True):
        assert item["loss/content"] == pytest.approx(other["loss/content"], rel=1e-2), item["step"]
    contents = [row["loss/content"] for row in rows(expected)]
    changes = [abs(after / before - 1) for before, after in itertools.pairwise(contents)]
    assert sorted(changes)[len(changes) // 2] > 0.03  # from one batch to the next: an order can be told
    mine, theirs = (newest(item)["state"]["networks"]["generator"] for item in (tmp_path / "smoke", expected))
    item, other = (torch.cat([x.flatten().double() for x in network.values()]) for network in (mine, theirs))
    assert ((item - other).norm() / item.norm()).item() < 1e-4


# Numbers that are not finite


@pytest.fixture
def breaking(monkeypatch) -> Callable[..., list[int]]:
    """breaking(first, last): the variation's calls of these numbers are not a number; step 1 is the warm-up."""

    def make(first: int, last: float) -> list[int]:
        calls: list[int] = []

        def broken(images: torch.Tensor) -> torch.Tensor:
            calls.append(len(calls) + 1)
            value: torch.Tensor = images.square().mean()
            return value * float("nan") if first <= calls[-1] <= last else value

        monkeypatch.setattr("gan_style.losses.pixel.total_variation_squared", broken)
        return calls

    return make


PATIENT = ("training.steps=12", "training.checkpoint_every=3", "training.skip_patience=3")


def test_a_step_that_is_not_finite_is_skipped_told_and_counted(smoke, tmp_path, breaking):
    breaking(4, 5)  # steps 5 and 6
    outcome = smoke(*PATIENT)
    nonfinite_keys = "generator/gradient, loss/tv, loss/total"
    for step, count in ((5, 1), (6, 2)):
        message = f"warning: step {step}: not a finite number: {nonfinite_keys}; the step was skipped ({count} so far)"
        assert message in outcome.err
    assert "back to step" not in outcome.err
    actual = [json.loads(line) for line in (tmp_path / "smoke" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(value) for row in actual for value in row.values())
    by_step = {row["step"]: row for row in actual if "loss/content" in row}
    assert sorted(by_step) == list(range(1, 13))
    assert [by_step[step]["generator/skipped"] for step in (4, 5, 6, 7)] == [0, 1, 1, 0]
    assert not list(tmp_path.rglob("step_00000006.pt"))  # no use going back to the midst of what is skipped


def test_too_many_in_a_row_lead_back_to_the_last_checkpoint_with_half_the_learning_rates(smoke, tmp_path, breaking):
    breaking(4, 6)  # steps 5 to 7
    options = (*PATIENT, "training.decay=constant")
    assert "warning: back to step 3, with 0.5 times the configured learning rates" in smoke(*options).err
    assert steps_in(tmp_path / "smoke") == list(range(1, 13))
    actual = {row["step"]: row for row in rows(tmp_path / "smoke")}
    assert [actual[step]["learning_rate"] / actual[1]["learning_rate"] for step in (3, 4, 12)] == [1.0, 0.5, 0.5]
    assert newest(tmp_path / "smoke")["state"]["caution"] == 0.5
    smoke(*options, "training.steps=14")
    assert rows(tmp_path / "smoke")[-1]["learning_rate"] == 0.5 * actual[1]["learning_rate"]


@pytest.mark.parametrize("rollbacks", [0, 1, 2])
def test_going_back_is_tried_so_often_and_then_the_run_ends_with_the_culprits(smoke, tmp_path, breaking, rollbacks):
    calls = breaking(4, float("inf"))
    outcome = smoke(*PATIENT, f"training.rollbacks={rollbacks}", status=4)
    last = 7 if rollbacks == 0 else 6  # tv is broken from step 5 on at first, from step 4 on when that comes again
    assert f"step {last}: not a finite number: generator/gradient, loss/tv, loss/total" in outcome.err
    assert "gradients not finite in generator." in outcome.err
    diagnosis = torch.load(tmp_path / "smoke" / "diagnosis.pt", weights_only=True)
    assert diagnosis["content"].dtype == torch.uint8 and len(diagnosis["positions"]) == len(diagnosis["content"])
    assert diagnosis["layers"] and str(diagnosis["step"]) == str(last)
    assert outcome.err.count("back to step 3") == rollbacks
    assert len(calls) == 6 + rollbacks * 3  # steps 2 to 7, then 4 to 6 again
    state = newest(tmp_path / "smoke")["state"]
    assert state["step"] == 3
    assert all(tensor.isfinite().all() for network in state["networks"].values() for tensor in network.values())
    load_generator(tmp_path / "smoke", torch.device("cpu"))  # what the run has left can be used


def test_a_run_whose_last_step_is_bad_is_no_success(smoke, tmp_path, breaking):
    breaking(11, float("inf"))  # step 12, fewer in a row than the patience
    assert "step 12: not a finite number" in smoke(*PATIENT, status=4).err
    assert newest(tmp_path / "smoke")["state"]["step"] == 9


def test_an_audit_that_is_skipped_does_not_spoil_the_balance(smoke, tmp_path, breaking):
    breaking(2, 2)
    balance = ("loss.balance={content:1,tv:2}", "training.warmup_steps=3", "training.audit_every=1")
    assert "balanced after 2 audits" in smoke(*balance).out
    weights = newest(tmp_path / "smoke")["objective"]["weights"]
    assert all(np.isfinite(weight) and weight > 0 for weight in weights.values())


def test_signs_of_ill_health_are_told_by_name(smoke, tmp_path):
    """A generator of a learning rate that drives every value to the end of the range."""
    options = ("training.steps=9", "training.audit_every=1", "optimiser.generator.lr=100", "training.clip=null")
    outcome = smoke(*options, status=4)
    assert "saturation: " in outcome.err and outcome.err.count("saturation: ") == 1
    assert {"health/saturated", "health/spread", "health/variety"} <= rows(tmp_path / "smoke")[0].keys()


# Disks, locks, and what cannot be


def test_a_disk_that_fills_up_stops_the_run_in_words_and_what_was_saved_is_whole(smoke, tmp_path, monkeypatch):
    options = ("training.steps=8",)
    with monkeypatch.context() as patch:
        calls = []

        def usage(folder: Path) -> Any:
            calls.append(folder)
            return shutil._ntuple_diskusage(10**9, 0, 10**9 if len(calls) <= 2 else 1000)

        patch.setattr("shutil.disk_usage", usage)
        outcome = smoke(*options, "metrics.best=null", status=2)
    message = f"the disk of {tmp_path / 'smoke' / 'checkpoints'} is full"
    assert message in outcome.err and "run the same command again" in outcome.err
    assert newest(tmp_path / "smoke")["state"]["step"] == 4
    smoke(*options)
    assert steps_in(tmp_path / "smoke") == list(range(1, 9))


def test_training_does_not_wait_for_a_checkpoint_to_be_written(smoke, tmp_path, monkeypatch):
    """Step 3 is logged while the checkpoint of step 2 is still being written; its content is that of step 2."""
    save, order, last_step = CheckpointFolder.save, [], threading.Event()

    def slow(self: CheckpointFolder, step: int, content: dict[str, Any]) -> Path:
        last_step.wait(SOON)
        order.append(f"saved {step}")
        return save(self, step, content)

    def update(_: Any, step: int, values: dict[str, float]) -> None:
        order.append(f"step {step}")
        if step == 3:
            last_step.set()

    monkeypatch.setattr(CheckpointFolder, "save", slow)
    monkeypatch.setattr("gan_style.training.supervisor.Progress.update", update)
    options = ("training.steps=3", "training.checkpoint_every=2", "training.sample_every=3", "metrics.every=3")
    smoke(*options)
    assert order == ["step 1", "step 2", "step 3", "saved 2", "saved 3"]
    path = tmp_path / "smoke" / "checkpoints" / "step_00000002.pt"
    assert read_checkpoint(path)["state"]["step"] == 2


@pytest.mark.parametrize(
    ("ranks", "batch", "message"),
    [
        (2, 3, "training.batch=3 for 2 ranks x training.accumulate=1; allowed are multiples of 2"),
        (8, 8, "data.content: 3 pictures for 8 ranks"),
    ],
)
def test_ranks_without_pictures_or_a_share_of_the_batch_are_refused(
    smoke, tmp_path, monkeypatch, ranks, batch, message
):
    """As a rank sees it, without the others."""
    from gan_style.commands.train import check_ranks

    monkeypatch.setattr(
        "gan_style.commands.train.check_ranks", lambda cfg, _, pictures: check_ranks(cfg, ranks, pictures)
    )
    outcome = smoke(f"training.batch={batch}", root=tmp_path / "runs", status=2)
    assert message in outcome.err and not (tmp_path / "runs").exists()


def test_devices_start_ranks_with_the_runs_own_options(gan_style, tmp_path, monkeypatch):
    started: list[Any] = []
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr("gan_style.commands.train.launch", lambda *arguments: started.append(arguments) or 0)
    options = (*SMOKE, TWO, "training.seed=1", f"run.root={tmp_path}")
    gan_style("train", *options)
    [(count, (_, *command))] = started
    assert count == 2 and command == ["-m", "gan_style.commands.train", *options]


@pytest.mark.slow  # four runs of two ranks
class TestTwoRanksRefuse:
    def test_a_run_with_other_settings_and_name_them(self, run, tmp_path):
        assert run(tmp_path, *SMOKE)[0] == 0
        status, output = run(tmp_path, *SMOKE, TWO, "loss.style.weight=7", "training.batch=4", "training.steps=8")
        assert status == 2, output
        assert "loss.style.weight: " in output and "training.batch: 2 there, 4 here" in output

    def test_a_folder_that_another_run_has(self, run, tmp_path):
        (tmp_path / "smoke").mkdir()
        with locked(tmp_path / "smoke"):
            status, output = run(tmp_path, *SMOKE, TWO)
        assert status == 2 and "another process works in" in output


# The training's random state


@pytest.mark.parametrize("workers", ["0", "2"])
def test_loaders_samples_and_checkpoints_leave_the_global_random_state_alone(smoke, tmp_path, monkeypatch, workers):
    """From the first step to the last, whatever is due; nothing that a run draws depends on it either."""
    states: list[tuple[bytes, Any, bytes]] = []

    def look(*_: Any) -> None:
        state = torch.get_rng_state().numpy().tobytes(), random.getstate(), np.random.get_state()[1].tobytes()
        states.append(state)

    measure = Sampler.measure
    monkeypatch.setattr(Sampler, "measure", lambda *a: (look(), measure(*a), look())[1])
    monkeypatch.setattr("gan_style.training.supervisor.Progress.update", look)
    often = ("training.sample_every=1", "metrics.every=1", "training.checkpoint_every=1", "training.audit_every=1")
    augment = "loss.adversarial.augment=[translation,colour,cutout]"
    smoke(*often, augment, f"data.workers={workers}")
    assert len(states) == 4 * 3 and all(item == states[0] for item in states)
