"""What a run has left: its logged rows, and a comparison to the bit."""

import json
from pathlib import Path
from typing import Any

import torch


def rows(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "loss/total" in row]


def steps_in(run: Path) -> list[int]:
    return [row["step"] for row in rows(run)]


def assert_same(one: Any, two: Any, name: str = "") -> None:
    """Plain containers, tensors and numbers, bit by bit."""
    assert type(one) is type(two), name
    if isinstance(one, dict):
        assert one.keys() == two.keys(), name
        for key in one:
            assert_same(one[key], two[key], f"{name}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), name
        for number, (left, right) in enumerate(zip(one, two, strict=True)):
            assert_same(left, right, f"{name}/{number}")
    else:
        assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two, name
