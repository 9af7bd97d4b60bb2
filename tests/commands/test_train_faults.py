"""What users really hand in to gan-style train: an earlier run's folder, nothing to train, small shared memory ..."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import start
from run_files import SMOKE

from gan_style.cli import error_message


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_result_whose_checkpoints_are_gone_is_not_replaced_by_another_run(smoke, finished, tmp_path):
    shutil.rmtree(finished / "checkpoints")
    before = contents(finished)
    outcome = smoke("training.seed=5", status=2)
    assert "training.seed" in outcome.err and "run.name" in outcome.err
    (finished / "config.yaml").unlink()
    smoke(status=2)
    assert contents(finished) == {name: data for name, data in before.items() if not name.endswith("config.yaml")}


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(smoke, finished, tmp_path):
    before = (finished / "generator.safetensors").read_bytes()
    shutil.rmtree(finished / "checkpoints")
    smoke()
    assert (finished / "generator.safetensors").read_bytes() == before  # the same weights, and the same file


def test_more_steps_that_raise_the_learning_rate_again_say_so(smoke, finished, tmp_path):
    """After 4 of 4 steps it is 0; of 8 steps, half of them at the full rate, the fifth is trained at that."""
    assert "training.steps=8 stretches the decay" in smoke("training.steps=8").err
    again = smoke("training.steps=9", "training.log_every=3")
    assert "stretches the decay" in again.err  # from 0 of a decay that has ended
    constant = ("run.name=constant", "training.decay=constant")
    smoke(*constant)
    assert "stretches" not in smoke(*constant, "training.steps=5").err


def test_a_style_that_was_not_learned_is_said(smoke, tmp_path):
    assert "hardly any of the style was learned" in smoke("perceptual.weights=packaged").err


def test_wandb_that_cannot_be_imported_costs_no_run(smoke, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    outcome = smoke("tracking.wandb=auto")
    assert "wandb cannot be imported" in outcome.err
    outcome = smoke("run.name=other", "tracking.wandb=offline", status=2)
    assert "tracking.wandb=offline" in outcome.err and "Traceback" not in outcome.err


def test_a_weights_cache_that_cannot_be_written_is_named(gan_style, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    outcome = gan_style("train", "experiment=smoke", "perceptual=vgg19", f"run.root={tmp_path}", status=2)
    assert str(tmp_path / "file") in outcome.err and "perceptual=compact" in outcome.err


@pytest.mark.parametrize(
    "message",
    [
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711",
        "NCCL error in: ProcessGroupNCCL.cpp:3384, remote process exited or there was a network error",
        "Broken pipe",
    ],
)
def test_a_rank_that_has_lost_its_neighbour_says_so_in_a_line(monkeypatch, message):
    assert error_message("train", RuntimeError(message)) is None  # alone, it is something else
    monkeypatch.setenv("WORLD_SIZE", "2")
    message_line = error_message("train", RuntimeError(message))
    assert message_line is not None and message_line[1] == 1 and "\n" not in message_line[0]


def test_a_stop_signal_ends_a_run_whose_data_workers_stand_still(tmp_path):
    """As where shared memory or a network's disk stalls: what they have sent is there, and cannot be fetched."""
    options = ("training.steps=100000", "data.workers=1", "data.cache_mb=0", "training.log_every=1")
    with start("cli", "train", *SMOKE, f"run.root={tmp_path}", *options) as run:
        try:
            next(line for line in run.stdout if line.startswith("step 2/"))
            workers = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
            for worker in workers:
                os.kill(int(worker), signal.SIGSTOP)
            run.send_signal(signal.SIGTERM)
            rest, _ = run.communicate(timeout=120)
        finally:
            run.kill()
    assert workers and run.returncode == 75 and "saved" in rest
    assert not any(Path("/proc", worker).exists() for worker in workers)


def test_shared_memory_that_is_too_small_ends_the_run_with_a_way_out(tmp_path):
    """As Docker's 64 MB are for large batches: here 1 MB, in a mount namespace of its own."""
    enter = ["unshare", "--mount", "sh", "-c"]
    mount = "mount -t tmpfs -o size=1m tmpfs /dev/shm"
    if subprocess.run([*enter, mount], capture_output=True).returncode:
        pytest.skip("mounting takes rights that this process does not have")
    size = "data.size=256 data.resize=[256,300] training.batch=8 data.workers=1 data.cache_mb=0"
    command = f"{sys.executable} -m gan_style.cli train {' '.join(SMOKE)} run.root={tmp_path} {size}"
    done = subprocess.run([*enter, f"{mount} && {command}"], capture_output=True, text=True, timeout=900)
    assert done.returncode == 2, done.stderr
    for word in ("/dev/shm", "--shm-size", "data.workers=0"):
        assert word in done.stderr.splitlines()[-1]
