#!/usr/bin/env python3
"""Whether a fast setting trains as well as float32: several seeds of each, and whether their ends lie together.

    python tools/check_fast_quality.py --steps 1000 --seeds 0 1 2 --work runs/quality --fast training.precision=bfloat16
    python tools/check_fast_quality.py --steps 40 --size 80 --seeds 0 1 2 --fast runtime.compile=true

Every run is gan-style train itself, in a process of its own, and resumes: the same command again goes on where it was
stopped, and leaves finished runs alone. What is compared is each logged loss, averaged over the last fifth of the
steps, and the held-out numbers at the end. A number passes if the mean over the fast seeds lies no further above the
mean over the reference's than the reference's seeds lie apart (their largest less their smallest). Exit status 1 where
one fails.
"""

import argparse
import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from bench_common import markdown

REFERENCE, FAST = "float32", "fast"
_HELD_OUT = ("heldout/content", "heldout/style")


def train(given: Namespace, kind: str, seed: int) -> dict[str, float]:
    """A run from wherever it was; the numbers it ended with."""
    name = f"{kind}_{seed}"
    options = [f"run.name={name}", f"run.root={given.work}", f"training.steps={given.steps}", f"training.seed={seed}"]
    options += [f"data.content={given.content}", f"data.style={given.style}", f"data.size={given.size}"]
    options += [f"data.resize=[{given.size},{given.size * 3 // 2}]", f"training.warmup_steps={given.steps // 20}"]
    options += [f"training.log_every={max(1, given.steps // 100)}", f"metrics.every={given.steps}"]
    options += [f"training.checkpoint_every={max(1, given.steps // 10)}", f"training.sample_every={given.steps}"]
    options += ["tracking.wandb=disabled", f"perceptual={given.perceptual}", *given.options]
    options += given.fast if kind == FAST else []
    command = [sys.executable, "-m", "gan_style.cli", "train", *options]
    log = given.work / f"{name}.log"
    with log.open("a") as file:
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if status:
        raise SystemExit(f"{name} ended with status {status}; see {log}")
    return ended_with(given.work / name / "metrics.jsonl", given.steps)


def ended_with(path: Path, steps: int) -> dict[str, float]:
    """Losses over the last fifth of the steps, and the held-out numbers of the last; of a run's metrics.jsonl."""
    found: dict[str, list[float]] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        for key, value in row.items():
            if key.startswith("loss/") and row["step"] > 0.8 * steps:
                found.setdefault(key, []).append(value)
            if key in _HELD_OUT:
                found[key] = [value]
    return {key: mean(values) for key, values in found.items()}


def judge(reference: Iterable[Mapping[str, float]], fast: Iterable[Mapping[str, float]]) -> list[dict[str, Any]]:
    """A row for each number: both means, the reference's spread over seeds, and whether fast is within it.

    The adversarial loss goes up and down with the discriminator and says nothing of quality: it is shown, not judged.
    """
    reference, fast, rows = list(reference), list(fast), []
    for key in reference[0]:
        wanted, made = [one[key] for one in reference], [one[key] for one in fast]
        spread = max(wanted) - min(wanted)
        passed = mean(made) - mean(wanted) <= spread
        judged = not key.endswith(("adversarial", "total"))
        row = {"number": key, "float32": mean(wanted), "spread": spread, "fast": mean(made)}
        rows.append(row | {"within": ("yes" if passed else "NO") if judged else "not judged"})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fast-seeds", type=int, nargs="+", help="of the fast setting; without: the same")
    parser.add_argument("--size", type=int, default=128, help="pixels")
    parser.add_argument(
        "--fast", nargs="+", default=["training.precision=bfloat16"], help="options of the fast setting"
    )
    parser.add_argument("--perceptual", default="compact")
    parser.add_argument("--content", default="demo:photos")
    parser.add_argument("--style", default="demo:styles/flow")
    parser.add_argument("--option", dest="options", action="append", default=[], help="of all runs: NAME=VALUE")
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), help="where the runs lie, and resume")
    parser.add_argument("--json", type=Path, help="where the numbers go, too")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    ends: dict[str, list[dict[str, float]]] = {REFERENCE: [], FAST: []}
    seeds = {REFERENCE: given.seeds, FAST: given.fast_seeds or given.seeds}
    for kind, numbers in ends.items():
        for seed in seeds[kind]:
            numbers.append(train(given, kind, seed))
            print(f"{kind}, seed {seed}: done", flush=True)
    rows = judge(ends[REFERENCE], ends[FAST])
    counts = f"{len(seeds[REFERENCE])} seeds of float32, {len(seeds[FAST])} of fast"
    print(f"fast: {' '.join(given.fast)}; {given.steps} steps, {counts}\n\n{markdown(rows)}")
    if given.json:
        given.json.write_text(json.dumps({"ends": ends, "rows": rows}, indent=1))
    sys.exit(1 if any(row["within"] == "NO" for row in rows) else 0)


if __name__ == "__main__":
    main()
