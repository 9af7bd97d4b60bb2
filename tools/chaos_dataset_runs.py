"""Runs of make-dataset that chaos_make_dataset.py harms: how they are started, ended and compared."""

import functools
import json
import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from gan_style.commands import make_dataset, verify_dataset
from gan_style.commands.make_dataset import check_make_dataset
from gan_style.config import CONFIG_PATH, plain
from gan_style.dataset.engines import local
from gan_style.dataset.manifest import read_manifest
from gan_style.models.generator import ResnetGenerator
from gan_style.models.registry import describe
from gan_style.runtime.checkpoint import write_generator

SHARD = 3
Tree = dict[str, bytes]
Fault = Callable[[], None]


class WrongEndError(Exception):
    """A run did not end as it should have."""


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise WrongEndError(what)


def picture(path: Path, width: int, height: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def make_given(folder: Path) -> None:
    """The input (sixteen pictures in two classes, captions, a mask, one that is none) and two generators."""
    for number in range(16):
        size = (24, 17) if number % 2 else (20 + number, 31)
        stem = folder / "in" / f"class {number % 2}" / f"{number:02d}"
        picture(stem.with_suffix(".jpg" if number % 3 else ".png"), *size, number)
        stem.with_suffix(".txt").write_text(f"a caption for {number}")
    picture(folder / "in" / "class 1" / "01.mask.png", 24, 17, 99)
    (folder / "in" / "class 1" / "bad.jpg").write_text("no picture")
    for seed in range(2):
        torch.manual_seed(seed)
        generator = ResnetGenerator(width=2, blocks=1)
        path = folder / f"style{seed}.safetensors"
        write_generator(path, generator.state_dict(), describe(generator) | {"step": 1})


@functools.cache
def _defaults() -> Any:
    with initialize_config_dir(str(CONFIG_PATH), version_base="1.3"):
        return compose("make_dataset", ["checkpoint=?", "input=?", "output=?", "runtime.device=cpu"])


@dataclass
class Run:
    """A dataset in the making. given: the folder by ``make_given``; place: of our own, with the output in it."""

    place: Path
    given: Path
    layout: str = "folder"
    workers: int = 1
    limit: float = 120.0
    changed: dict[str, Any] = field(default_factory=dict)
    started: list["Started"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.place.mkdir(parents=True)
        _defaults()  # once, before anything is forked
        for module in ("dataset.pipeline", "dataset.scores", "stylize.model"):
            import_module(f"gan_style.{module}")

    @property
    def output(self) -> Path:
        return self.place / "out"

    def settings(self, **changed: Any) -> dict[str, Any]:
        """changed: options by name, with __ for a dot."""
        options: dict[str, Any] = {
            "checkpoint": str(self.given / "style0.safetensors"),
            "input": str(self.given / "in"),
        }
        options |= {"output": str(self.output), "output_layout": self.layout, "runtime.devices": self.workers}
        options |= {"shard_size": SHARD, "manifest": "jsonl", "max_failures": 2, "strength": [0.3, 1.0], "copies": 2}
        options |= {name.replace("__", "."): value for name, value in (self.changed | changed).items()}
        cfg = _defaults().copy()
        for name, value in options.items():
            OmegaConf.update(cfg, name, value)
        check_make_dataset(cfg)
        found: dict[str, Any] = plain(cfg)
        return found

    def start(self, fault: Fault | None = None, **changed: Any) -> "Started":
        cfg = self.settings(**changed)
        log = self.place / f"{len(self.started)}.log"
        self.started.append(Started(lambda: make_dataset.make(cfg), fault, log, self.limit))
        return self.started[-1]

    def finish(self, status: int = 0, **changed: Any) -> None:
        """Start undisturbed, and expect this status."""
        last = self.start(**changed)
        got = last.wait()
        expect(got == status, f"status {got} from an undisturbed start: {last.words()[-500:]}")

    def verify(self, *, repairing: bool = False) -> "Started":
        """verify-dataset, ended."""
        source = self.changed.get("input", str(self.given / "in"))
        log = self.place / f"{len(self.started)}.verify.log"
        one = Started(lambda: verify_dataset.verify(str(self.output), source, repairing=repairing), None, log, 60)
        self.started.append(one)
        one.wait()
        return one

    def rows(self) -> list[dict[str, Any]]:
        return list(read_manifest(self.output))

    def done(self) -> dict[str, int]:
        """When each shard's record was written."""
        return {path.name: path.stat().st_mtime_ns for path in self.output.glob(".gan_style/records/[0-9]*.json")}

    def clear_up(self) -> None:
        for one in self.started:
            one.kill()


class Started:
    """One start, in a process of its own (and a group), forked from this one, which has imported everything."""

    def __init__(self, command: Callable[[], int], fault: Fault | None, log: Path, limit: float) -> None:
        self.log, self.limit, self.status, self.peak = log, limit, -1, 0
        self.begun, self._ended = time.monotonic(), False
        self.pid = os.fork()
        if self.pid == 0:
            _become(command, fault, log)

    def poll(self) -> bool:
        """Whether it has ended."""
        if not self._ended:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._ended, self.status, self.peak = True, os.waitstatus_to_exitcode(status), usage.ru_maxrss
        return self._ended

    def wait(self) -> int:
        while not self.poll():
            if time.monotonic() - self.begun > self.limit:
                self.kill()
                raise WrongEndError(f"not ended after {self.limit:g} s: {self.words()[-500:]}")
            time.sleep(0.005)
        return self.status

    def signal(self, number: int) -> None:
        if not self.poll():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """With all its processes."""
        if not self._ended:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                os.kill(self.pid, signal.SIGKILL)  # not yet a group of its own
            while not self.poll():
                time.sleep(0.005)

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def words(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def _become(command: Callable[[], int], fault: Fault | None, log: Path) -> None:
    """The forked process's life; what a command's main makes of its errors is made of them here."""
    status = 1
    try:
        os.setsid()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        context = local.multiprocessing.get_context("fork")
        local.multiprocessing.get_context = lambda kind: context  # type: ignore[assignment, misc]
        if fault is not None:
            fault()
        try:
            status = command()
        except (ValueError, OSError) as error:
            print(error, flush=True)
            status = 2
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def tree(folder: Path) -> Tree:
    """Everything below a folder but locks, and the time that the summary tells."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".lock":
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    if "summary.json" in found:
        found["summary.json"] = json.dumps(json.loads(found["summary.json"]) | {"this_job": None}).encode()
    return found


def check_equal(run: Run, wanted: Mapping[str, bytes]) -> None:
    """Nothing lost, nothing doubled, nothing left over, no byte another."""
    got = tree(run.output)
    for name in sorted(got.keys() | wanted.keys()):
        expect(name in got, f"{name} is missing")
        expect(name in wanted, f"{name} is left over")
        expect(got[name] == wanted[name], f"{name} differs from the undisturbed run's")


def check_visible(run: Run, wanted: Mapping[str, bytes]) -> None:
    """Whatever has its final name is whole."""
    for name, data in tree(run.output).items():
        if not name.rpartition("/")[2].startswith("."):
            expect(wanted.get(name) == data, f"{name} is at its final name and differs")


def check_kept(run: Run, done: Mapping[str, int]) -> None:
    """What was done has not been done again."""
    now = run.done()
    for name, when in done.items():
        expect(now.get(name) == when, f"shard {name} was done again")


class Draw(random.Random):
    """A case's random numbers, and the case's own number."""

    def __init__(self, seed: str, number: int) -> None:
        super().__init__(seed)
        self.number = number
