"""What chaos_train.py does to a run: each function harms it in its way, starts it again until it is done or has come to
its documented end, and raises WrongEndError where something else happens."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from chaos_driver import IO_ERROR, NO_SPACE, SIGNALS
from chaos_runs import REFUSED, STEPS, Draw, Run, Started, WrongEndError, check_whole, steps_of

from gan_style.runtime.checkpoint import CheckpointFolder, read_checkpoint
from gan_style.runtime.signals import PREEMPTED

_POINTS = ("write", "fsync", "synced", "rename", "renamed")


def expect(started: Started, statuses: tuple[int, ...], words: str = "") -> None:
    """WrongEndError unless it ends so, and says so."""
    status = started.wait()
    if status not in statuses or words not in started.words():
        raise WrongEndError(f"status {status} where {statuses} and {words!r} were expected: {started.tail()}")


def stopped(run: Run) -> tuple[int, ...]:
    """Statuses of bad input: 2, or where rank 1 was the first to end, because the other had gone, 1."""
    return (2,) if run.ranks == 1 else (1, 2)


def at_some_step(run: Run, rng: Draw, least: int = 1, most: int = STEPS - 8, **fault: object) -> Started:
    """A start that has come so far."""
    started = run.start(**fault)
    started.until_step(rng.randint(least, most))
    return started


def stop_somewhere(run: Run, rng: Draw, least: int = 8) -> None:
    """Kill everything after a step."""
    started = at_some_step(run, rng, least)
    started.kill()
    started.wait()


# SIGKILL


def kill_at_random(run: Run, rng: Draw) -> None:
    whom = ["launcher"] if run.ranks == 1 else ["launcher", "rank 0", "rank 1", "the group"]
    for _ in range(rng.randint(1, 3)):
        started = run.start()
        if rng.random() < 0.5:
            started.until_time(rng.uniform(0.0, 1.2 * run.usual))
        else:
            started.until_step(rng.randint(1, STEPS))
            time.sleep(rng.uniform(0.0, 0.05))
        started.send(rng.choice(whom), signal.SIGKILL)
        started.wait()
    run.finish()


def kill_in_save(run: Run, rng: Draw) -> None:
    for _ in range(2):
        started = run.start(name="at_save", point=rng.choice(_POINTS), nth=rng.randint(1, 6), rank=0)
        if started.wait() == 0:
            raise WrongEndError("it was not killed")
    run.finish()


def kill_under_torchrun(run: Run, rng: Draw) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=2"]
    run.command = [*command, "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "-m", "gan_style.commands.train"]
    started = at_some_step(run, rng, least=8)  # there is a checkpoint to resume from
    started.send(rng.choice(("rank 0", "rank 1")), signal.SIGKILL)
    expect(started, (0,), "resuming")


def kill_worker(run: Run, rng: Draw) -> None:
    run.workers = 2
    started = at_some_step(run, rng)
    started.send("worker 0", signal.SIGKILL)
    if started.wait() == 0:
        raise WrongEndError("a run without its worker ended with status 0")
    run.finish()


def kill_save_loop(run: Run, rng: Draw) -> None:
    """Not a run, but fifty processes that save as fast as they can; what they announced has to be there."""
    folder = CheckpointFolder(run.place / "loop")
    folder.folder.mkdir(parents=True)
    for _ in range(50):
        announced, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            _save_for_ever(folder, write)
        os.close(write)
        time.sleep(rng.uniform(0.0, 0.08))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with open(announced) as file:
            told = [int(line) for line in file.read().split()]
        damaged: list[str] = []
        found = folder.load_newest(damaged.append)
        if damaged or (told and (found is None or found[1]["step"] < told[-1])):
            raise WrongEndError(f"announced {told[-1:]}, found {found and found[1]['step']}; {damaged}")


def _save_for_ever(folder: CheckpointFolder, pipe: int) -> None:
    os.environ["TMPDIR"] = "/dev/shm"
    step = int(folder.paths()[0].stem[5:]) if folder.paths() else 0
    while True:
        step += 1
        folder.save(step, {"step": step, "weights": torch.full((50_000,), float(step))})
        os.write(pipe, f"{step}\n".encode())


# Signals


def signal_to(run: Run, rng: Draw, *, whom: str) -> None:
    number = SIGNALS[rng.number % 4]
    started = at_some_step(run, rng)
    before = time.monotonic()
    started.send({"the process": "launcher", "the launcher": "launcher"}.get(whom, whom), number)
    expect(started, (PREEMPTED,), "saved; the same command again goes on")
    if (taken := time.monotonic() - before) > 30.0:
        raise WrongEndError(f"it took {taken:.0f} s to stop")
    run.finish()


# Checkpoints


def _cut(path: Path, rng: Draw) -> None:
    os.truncate(path, rng.randrange(1, path.stat().st_size))


def _flip(path: Path, rng: Draw) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(8):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _empty(path: Path, _: Draw) -> None:
    path.write_bytes(b"")


def _flip_without_manifest(path: Path, rng: Draw) -> None:
    (path.parent / "manifest.json").unlink()
    member = path.read_bytes().find(b"networks")  # inside what is pickled, where every byte counts
    data = bytearray(path.read_bytes())
    data[member + rng.randrange(8)] ^= 1
    path.write_bytes(data)


def _foreign(path: Path, _: Draw) -> None:
    (path.parent / "manifest.json").unlink()
    torch.save({"format": "gan_style.checkpoint/99", "state": {}}, path)


def _garble_manifest(path: Path, _: Draw) -> None:
    (path.parent / "manifest.json").write_text('{"step_')


DAMAGES: dict[str, Callable[[Path, Draw], None]] = {
    "cut short": _cut,
    "with flipped bits": _flip,
    "empty": _empty,
    "missing": lambda path, _: path.unlink(),
    "with flipped bits, its manifest missing": _flip_without_manifest,
    "of another version": _foreign,
    "whole, its manifest garbled": _garble_manifest,
}
_UNSEEN = ("missing", "whole, its manifest garbled")  # nothing to be told of


def damage_newest(run: Run, rng: Draw, *, damage: str) -> None:
    stop_somewhere(run, rng)
    newest = run.checkpoints.paths()[0]
    DAMAGES[damage](newest, rng)
    words = run.finish().words()
    if damage not in _UNSEEN and not (newest.name in words and "trying the one before" in words):
        raise WrongEndError("it went on without a word about the damaged checkpoint")


def damage_all(run: Run, rng: Draw) -> None:
    stop_somewhere(run, rng)
    whole = {path: path.read_bytes() for path in run.checkpoints.paths()}
    for path in whole:
        _cut(path, rng)
    expect(run.start(), (2,), "remove them to start over")
    for path, data in whole.items():
        path.write_bytes(data)
    run.finish()


def change_workers(run: Run, rng: Draw) -> None:
    stop_somewhere(run, rng, 1)
    run.workers = 2 - run.workers
    run.finish()


def change_ranks(run: Run, rng: Draw) -> None:
    stop_somewhere(run, rng, 1)
    run.ranks = 3 - run.ranks
    run.finish()
    for path in run.folder.glob("digest_rank*"):  # some may be of the other number of ranks
        path.unlink()
    check_whole(run)


def two_at_once(run: Run, rng: Draw) -> None:
    first = at_some_step(run, rng, 1, 4)
    first.send("the group", signal.SIGSTOP)  # it holds the folder, however long the second takes to get there
    second = run.start()
    status = second.wait()
    first.send("the group", signal.SIGCONT)
    if REFUSED not in second.words() and "is finished" not in second.words():
        raise WrongEndError(f"the second run was not refused (status {status}): {second.tail()}")
    expect(first, (0,))


# Disks


def low_disk(run: Run, rng: Draw) -> None:
    expect(run.start(name="low_disk", nth=rng.randint(1, 10), rank=0), stopped(run), "the disk of")
    run.finish()


def error_in_save(run: Run, rng: Draw) -> None:
    error = (NO_SPACE, IO_ERROR)[rng.number // 2 % 2]
    point = rng.choice(("write", "fsync", "rename"))
    started = run.start(name="at_save", point=point, nth=rng.randint(1, 8), error=error, rank=0)
    expect(started, stopped(run), "is full" if error == NO_SPACE else os.strerror(error))
    run.finish()


def full_tmpfs(run: Run, rng: Draw) -> None:
    """Where mounting is not allowed, a stand-in: an error in a write."""
    run.place.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", run.place], capture_output=True)
    if mounted.returncode:
        return error_in_save(run, rng)
    kept = run.place.with_name(f"{run.place.name}_kept")
    try:
        started = at_some_step(run, rng, 4)
        filler = run.place / "filler"
        _fill(filler)
        expect(started, stopped(run))
        if not ("is full" in started.words() or os.strerror(NO_SPACE) in started.words()):
            raise WrongEndError(f"not a word about the disk: {started.tail()}")
        filler.unlink()
        run.finish()
        shutil.copytree(run.place, kept)
    finally:
        run.clear_up()
        subprocess.run(["umount", "-l", run.place], check=True)
    run.place = kept


def _fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as file:
        for size in (2**20, 2**10, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


# Data


def _own_pictures(run: Run) -> None:
    own = run.place / "pictures"
    shutil.copytree(run.pictures, own)
    run.pictures = own


def _lose(run: Run, rng: Draw, count: int) -> dict[Path, bytes]:
    """Pictures that are there no more, or no pictures; with what they were."""
    chosen = rng.sample(sorted((run.pictures / "content").glob("*.png")), count)
    whole = {path: path.read_bytes() for path in chosen}
    for path in chosen:
        way = rng.choice((lambda p: p.unlink(), lambda p: _cut(p, Draw("1")), lambda p: p.write_bytes(b"no picture")))
        way(path)
    return whole


def lose_pictures(run: Run, rng: Draw) -> None:
    _own_pictures(run)
    started = at_some_step(run, rng, 1, STEPS - 20)
    whole = _lose(run, rng, 3)
    expect(started, stopped(run), "data.max_unreadable")
    for path, data in whole.items():
        path.write_bytes(data)
    run.finish()


def lose_allowed(run: Run, rng: Draw) -> None:
    _own_pictures(run)
    run.options.append("data.max_unreadable=0.5")
    started = at_some_step(run, rng, 1, STEPS - 20)
    lost = _lose(run, rng, 1)
    expect(started, (0,), "passed over")
    if not all(str(path) in started.words() for path in lost):
        raise WrongEndError("the lost picture is not named")
    check_whole(run)


def raising_tracker(run: Run, rng: Draw) -> None:
    method = rng.choice(("scalars", "scalars", "picture", "finish"))
    error = rng.choice(("RuntimeError", "ConnectionError"))
    started = run.start(name="tracker", step=rng.randint(1, 18), method=method, error=error)
    expect(started, (0, 1, 2), "sulks")
    run.finish()


# Numbers


def nan_for_a_while(run: Run, rng: Draw, rank: int | None = None) -> None:
    where = ("loss", "value", "discriminator")[rng.number % 3]
    first = rng.randint(4, STEPS - 10)
    fault = {"name": "nan", "where": where, "first": first, "last": first + 2, "rank": rank}
    expect(run.start(**fault), (0,), f"step {first}: not a finite number")
    check_whole(run)
    _all_finite(run)


def nan_on_one(run: Run, rng: Draw) -> None:
    nan_for_a_while(run, rng, rank=rng.randint(0, 1))


def nan_in_weights(run: Run, rng: Draw) -> None:
    first = rng.randint(5, STEPS - 10)
    fault = {"name": "nan", "where": "weights", "first": first, "last": first, "rank": rng.randrange(run.ranks)}
    expect(run.start(**fault), (0,), "warning: back to step")
    check_whole(run)
    _all_finite(run)


def nan_for_good(run: Run, rng: Draw) -> None:
    first = rng.randint(5, STEPS - 12)
    started = run.start(name="nan", where="loss", first=first, last=None, rank=rng.choice((None, 0)))
    expect(started, (4,), "after going back 2 times")
    run.finish()
    if steps_of(run.folder) != list(range(1, STEPS + 1)):
        raise WrongEndError(f"metrics.jsonl has the steps {steps_of(run.folder)}")
    _all_finite(run)


def _all_finite(run: Run) -> None:
    for path in run.checkpoints.paths():
        for network, weights in read_checkpoint(path)["state"]["networks"].items():
            if not all(tensor.isfinite().all() for tensor in weights.values() if tensor.is_floating_point()):
                raise WrongEndError(f"{path.name}: {network} is not finite")
    json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[-1])
