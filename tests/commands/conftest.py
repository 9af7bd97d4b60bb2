"""Running a command as its user would: in this process (fast), or in one of its own (where signals matter)."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest


@dataclass
class Outcome:
    status: int
    out: str
    err: str


@pytest.fixture
def gan_style(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """gan_style("train", "name=value", ...): status and what was printed."""

    def call(command: str, *arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", [f"gan-style {command}", *arguments])
        with pytest.raises(SystemExit) as exit_:
            import_module(f"gan_style.commands.{command}").main()
        captured = capsys.readouterr()
        return Outcome(int(exit_.value.code or 0), captured.out, captured.err)

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
