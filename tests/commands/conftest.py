"""Running a command as its user would: in this process (fast), or in one of its own (where signals matter)."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
from run_files import SMOKE


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
