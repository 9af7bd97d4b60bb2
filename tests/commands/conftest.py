"""Running a command as its user would: in this process (fast), or in one of its own (where signals matter)."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

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
