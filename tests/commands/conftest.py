"""Running a command as its user would: in this process (fast), or in one of its own (where signals matter)."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
from run_files import SMOKE, assert_same, steps_in

from gan_style.runtime.checkpoint import read_checkpoint, read_generator


@dataclass
class Outcome:
    status: int
    out: str
    err: str


@pytest.fixture
def gan_style(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """gan_style("train", "name=value", ..., status=0): what a command printed that ended with this status."""

    def call(command: str, *arguments: str, status: int = 0) -> Outcome:
        monkeypatch.setattr(sys, "argv", [f"gan-style {command}", *arguments])
        with pytest.raises(SystemExit) as exit_:
            import_module(f"gan_style.commands.{command}").main()
        captured = capsys.readouterr()
        assert int(exit_.value.code or 0) == status, captured.err
        return Outcome(status, captured.out, captured.err)

    return call


@pytest.fixture
def smoke(gan_style, tmp_path) -> Callable[..., Outcome]:
    """smoke("name=value", ..., root=tmp_path, status=0): a run in root / "smoke" that ends with this status."""

    def call(*options: str, root: Path = tmp_path, status: int = 0) -> Outcome:
        return gan_style("train", *SMOKE, f"run.root={root}", *options, status=status)

    return call


@pytest.fixture
def resumed_as_whole(gan_style, tmp_path) -> Callable[..., Path]:
    """resumed_as_whole("name=value", ...): the folder of two and two steps, which equal four in a piece to the bit."""

    def call(*options: str) -> Path:
        for name, steps in (("whole", 4), ("parts", 2), ("parts", 4)):
            more = ("training.decay=constant", f"training.steps={steps}", f"run.root={tmp_path / name}")
            outcome = gan_style("train", *options, *more)
        assert "after step 2" in outcome.out
        whole, parts = (next((tmp_path / name).iterdir()) for name in ("whole", "parts"))
        assert steps_in(parts) == [1, 2, 3, 4]
        saved = [read_checkpoint(run / "checkpoints" / "step_00000004.pt") for run in (whole, parts)]
        assert_same(*({key: item[key] for key in ("state", "objective")} for item in saved))
        assert_same(*(read_generator(run / "generator.safetensors") for run in (whole, parts)))
        return parts

    return call


@pytest.fixture(scope="session")
def trained() -> Callable[..., Path]:
    """trained(root, "name=value", ...): the folder of a smoke run, for tests that share it."""

    def call(root: Path, *arguments: str) -> Path:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as exit_:
            patch.setattr(sys, "argv", ["gan-style train", *arguments, f"run.root={root}"])
            import_module("gan_style.commands.train").main()
        assert not exit_.value.code
        return root / "smoke"

    return call


@pytest.fixture(scope="session")
def smoke_run(trained, tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("smoke"), *SMOKE)


@pytest.fixture
def finished(smoke_run, tmp_path) -> Path:
    """The folder of a finished run, tmp_path / "smoke", for a test to go on with."""
    return shutil.copytree(smoke_run, tmp_path / "smoke")
