"""Runs that chaos_train.py harms: how they are started, watched, ended and compared with an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import chaos_driver
import torch
from chaos_driver import FAULT, FORKED, Forked

from gan_style.data.pictures import find_pictures
from gan_style.images.decode import decode, encode
from gan_style.runtime.checkpoint import BEST_FILE, GENERATOR_FILE, CheckpointFolder, read_checkpoint, read_generator
from gan_style.runtime.files import write_bytes

STEPS, SAVE_EVERY, METRICS_EVERY = 36, 3, 9
REFUSED = "another process works in"
_OPTIONS = [
    "experiment=smoke",
    f"training.steps={STEPS}",
    "training.warmup_steps=2",
    f"training.checkpoint_every={SAVE_EVERY}",
    "training.sample_every=18",
    "training.audit_every=6",
    f"metrics.every={METRICS_EVERY}",
    "data.cache_mb=0",
]


class WrongEndError(Exception):
    """A run did not end as it should have."""


class Draw(Random):
    """A case's random numbers, and the case's own number."""

    def __init__(self, seed: str, number: int = 0) -> None:
        super().__init__(seed)
        self.number = number


def make_pictures(folder: Path) -> None:
    """Eight content and two style pictures, small enough to be decoded again and again."""
    for role, spec, count in (("content", "demo:photos", 8), ("style", "demo:styles", 2)):
        (folder / role).mkdir(parents=True)
        paths = find_pictures(spec, role)
        for number in range(count):
            picture = decode(paths[number % len(paths)], short_side=96 - 2 * number)
            write_bytes(folder / role / f"{number}.png", encode(picture, ".png"))


@dataclass
class Run:
    """One run in ``place``: its command, and the processes that have been started for it.

    command: instead of the driver's, for launchers of another make; usual: seconds that an undisturbed run takes.
    """

    place: Path
    pictures: Path
    ranks: int
    workers: int
    limit: float
    forked: bool
    usual: float = 0.0
    options: list[str] = field(default_factory=list)
    command: list[str] | None = None
    started: "list[Started]" = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.place / "smoke"

    @property
    def checkpoints(self) -> CheckpointFolder:
        return CheckpointFolder(self.folder / "checkpoints")

    def start(self, **fault: Any) -> "Started":
        """The same command again. fault: as chaos_driver has them."""
        self.place.mkdir(parents=True, exist_ok=True)
        given = [f"run.root={self.place}", f"data.workers={self.workers}", f"data.content={self.pictures / 'content'}"]
        given += [f"data.style={self.pictures / 'style'}", f"runtime.devices={1 if self.command else self.ranks}"]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "PYTHONUNBUFFERED": "1"}
        env |= {FAULT: json.dumps(fault)} | ({FORKED: "1"} if self.forked else {})
        self.started.append(Started(self, [*_OPTIONS, *given, *self.options], env))
        return self.started[-1]

    def finish(self, attempts: int = 3) -> "Started":
        """Start again until it is done; WrongEndError where that does not come to pass."""
        deadline = time.monotonic() + self.limit
        while True:
            last = self.start()
            status = last.wait()
            if status == 0:
                return last
            attempts -= REFUSED not in last.words()  # ranks whose launcher was killed may still be at work
            if attempts == 0 or time.monotonic() > deadline:
                raise WrongEndError(f"status {status} from an undisturbed start: {last.tail()}")
            time.sleep(0.2)

    def clear_up(self) -> None:
        for one in self.started:
            one.kill()


class Started:
    """One start of a run's command, in a process group of its own."""

    def __init__(self, run: Run, options: list[str], env: dict[str, str]) -> None:
        self.run, self.log = run, run.place.with_name(f"{run.place.name}_log{len(run.started)}.txt")
        self.begun = time.monotonic()
        self.process: Any
        with open(self.log, "wb") as log:
            if run.forked and run.command is None:
                self.process = Forked(options, env, log, leader=True)
            else:
                command = run.command or [sys.executable, chaos_driver.__file__]
                self.process = subprocess.Popen(
                    [*command, *options], env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )

    def words(self) -> str:
        return self.log.read_text(errors="replace")

    def tail(self) -> str:
        return " / ".join(self.words().splitlines()[-3:])[-300:]

    def until(self, reached: Callable[[], bool]) -> bool:
        """Wait for something; False where the process ended before."""
        while not reached():
            if self.process.poll() is not None:
                return False
            self._within_limit()
            time.sleep(0.002)
        return True

    def until_step(self, step: int) -> bool:
        return self.until(lambda: steps_of(self.run.folder)[-1:] >= [step])

    def until_time(self, seconds: float) -> bool:
        return self.until(lambda: time.monotonic() - self.begun >= seconds)

    def wait(self) -> int:
        """The status; WrongEndError, and everything killed, where it takes too long."""
        self.until(lambda: False)
        status: int = self.process.returncode
        return status

    def _within_limit(self) -> None:
        if time.monotonic() - self.begun > self.run.limit:
            self.kill()
            raise WrongEndError(f"hang: still there after {self.run.limit:.0f} s: {self.tail()}")

    def members(self) -> dict[str, int]:
        """{"launcher", "rank 0", "rank 1", "worker 0", ...: process id}, of those that there are by now."""
        launcher = self.process.pid
        ranks = [launcher] if self.run.ranks == 1 else children(launcher)
        found = {"launcher": launcher} | {f"rank {number}": pid for number, pid in enumerate(ranks)}
        return found | {f"worker {n}": pid for n, pid in enumerate(p for one in ranks for p in children(one))}

    def send(self, whom: str, number: int) -> None:
        """To one of its members, or to "the group"; those that have gone or are not there yet get nothing."""
        try:
            if whom == "the group":
                os.killpg(self.process.pid, number)
            elif (pid := self.members().get(whom)) is not None:
                os.kill(pid, number)
        except ProcessLookupError:
            pass

    def kill(self) -> None:
        """Everything; torchrun's ranks have groups of their own."""
        members = self.members() if self.process.poll() is None else {}
        self.send("the group", signal.SIGKILL)
        for pid in members.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """In the order in which they were started."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without timings; a line that is being written is left out."""
    try:
        lines = (folder / "metrics.jsonl").read_text().split("\n")[:-1]
    except OSError:
        return []
    rows = [json.loads(line) for line in lines]
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in rows]


def steps_of(folder: Path) -> list[int]:
    """The training steps that metrics.jsonl tells of, in its order."""
    return [row["step"] for row in rows_of(folder) if "learning_rate" in row]


def check_whole(run: Run) -> None:
    """WrongEndError unless every step is there once, nothing is left over, and all files at final names can be read."""
    steps = steps_of(run.folder)
    if steps != list(range(1, STEPS + 1)):
        raise WrongEndError(f"metrics.jsonl has the steps {steps}")
    if left := list(run.folder.rglob("*.part")):
        raise WrongEndError(f"left over: {[path.name for path in left]}")
    for path in run.checkpoints.folder.glob("*.pt"):
        try:
            read_checkpoint(path)
        except ValueError as error:
            raise WrongEndError(str(error)) from error
    if (run.folder / "digest_rank1").exists():
        one, other = ((run.folder / f"digest_rank{rank}").read_text() for rank in (0, 1))
        if one != other:
            raise WrongEndError("the ranks ended with different weights")


def check_equal(run: Run, reference: Path) -> None:
    """check_whole, and WrongEndError unless state, numbers and pictures are the undisturbed run's, bit for bit."""
    check_whole(run)
    contents = [read_checkpoint(CheckpointFolder(one / "checkpoints").paths()[0]) for one in (run.folder, reference)]
    mine, theirs = ({name: content[name] for name in ("state", "objective", "lowest")} for content in contents)
    if found := list(differences(mine, theirs)):
        raise WrongEndError(f"{len(found)} differences in the last checkpoint, the first in {found[0]}")
    if rows_of(run.folder) != rows_of(reference):
        raise WrongEndError("the numbers in metrics.jsonl differ")
    for name in (GENERATOR_FILE, f"checkpoints/{BEST_FILE}", f"samples/step_{STEPS:08d}.jpg"):
        if list(differences(*(_content_of(one / name) for one in (run.folder, reference)))):
            raise WrongEndError(f"{name} differs")


def _content_of(path: Path) -> Any:
    """What counts in a file: safetensors writes its metadata in no fixed order, and a checkpoint names its folder.

    A generator names the hash of its run's config, in which the data workers differ.
    """
    if path.suffix == ".safetensors":
        weights, description = read_generator(path)
        provenance = {name: one for name, one in description["provenance"].items() if name != "config"}
        return weights, description | {"provenance": provenance}
    return read_checkpoint(path)["state"] if path.suffix == ".pt" else path.read_bytes()


def differences(mine: Any, theirs: Any, place: str = "") -> Iterator[str]:
    """Where two nests of containers and tensors differ."""
    if isinstance(mine, torch.Tensor):
        if not torch.equal(mine, theirs):
            yield place
    elif isinstance(mine, dict):
        if mine.keys() != theirs.keys():
            yield f"{place} (keys)"
        for key in mine.keys() & theirs.keys():
            yield from differences(mine[key], theirs[key], f"{place}/{key}")
    elif isinstance(mine, list | tuple):
        for number, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            yield from differences(one, other, f"{place}/{number}")
    elif mine != theirs:
        yield place
