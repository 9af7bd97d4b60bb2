"""What a run has left: its logged rows, and a comparison to the bit."""

import json
from pathlib import Path
from typing import Any

import torch

SMOKE = ("experiment=smoke", "perceptual.weights=random", "training.calibration_pictures=2")


def rows(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "loss/total" in row]


def steps_in(run: Path) -> list[int]:
    return [row["step"] for row in rows(run)]


def assert_same(first: Any, second: Any, name: str = "") -> None:
    """Compare plain containers, tensors and numbers, bit by bit."""
    assert type(first) is type(second), name
    if isinstance(first, dict):
        assert first.keys() == second.keys(), name
        for key in first:
            assert_same(first[key], second[key], f"{name}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), name
        for number, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{name}/{number}")
    else:
        assert torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second, name
