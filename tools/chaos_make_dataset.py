#!/usr/bin/env python3
"""Harms small runs of make-dataset on a seeded plan, starts them again, and compares the end with an undisturbed run.

    python tools/chaos_make_dataset.py --cases 8
    python tools/chaos_make_dataset.py --kinds "SIGKILL at random times" --cases 500
    python tools/chaos_make_dataset.py --whole --write docs/reliability.md

A run stylizes sixteen tiny pictures twice, in six shards, beside captions, a mask and a file that is no picture.
Cases of a kind go through folder and webdataset as the output, and 1 and 2 processes. One passes when nothing is lost,
doubled or left over, and every byte is that of the undisturbed run (the manifest's too; the time in summary.json
aside), what is at a final name was whole at every kill, and each start ended as documented. Processes are forked from
this one, which has imported everything. Exit status 1 where a case failed.
"""

import argparse
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import chaos_dataset_harm as harm
import chaos_dataset_inputs as inputs
import torch
from chaos_dataset_runs import Draw, Run, Tree, WrongEndError, make_given, tree
from chaos_document import write_section

Case = Callable[[Run, Draw, Tree], None]
KINDS: dict[str, tuple[Case, int]] = {  # and the cases of the suite's whole column
    "SIGKILL at one of 15 named points": (harm.kill_at_point, 60),
    "SIGKILL at random times, three times": (harm.kill_at_random, 300),
    "SIGKILL at random times, ten times": (harm.kill_storm, 200),
    "SIGKILL of one of two processes, which does not come back": (harm.kill_one_worker, 24),
    "processes, threads and jobs changed across kills": (harm.change_counts, 24),
    "two jobs at once, one of them killed in every other case": (harm.two_at_once, 24),
    "weights, strength, seed, copies, format, batch, shards or input changed": (harm.change_fingerprint, 16),
    "no space, I/O error or read-only at a write, fsync or rename": (harm.disk_error, 36),
    "SIGTERM, SIGINT to the process or to all of its group": (harm.stop_by_signal, 40),
    "a file, its rows or its record flipped, cut or removed; verify-dataset repair=true": (harm.damage, 200),
    "twenty mutilated pictures among good ones": (inputs.fuzz_pictures, 100),
    "thirty pictures with hostile names": (inputs.hostile_names, 8),
    "an archive with hostile members, cut in every other case": (inputs.hostile_archives, 26),
    "pictures of 1 to 257 px, classes and captions, to each layout": (inputs.sizes_and_labels, 12),
}

LEAST = {"SIGKILL at one of 15 named points": 60}  # each point with both layouts, and 1 and 2 processes


@dataclass
class Result:
    kind: str
    failure: str | None
    seconds: float


def attempt(name: str, number: int, plan: argparse.Namespace, work: Path, usual: dict[str, Tree]) -> Result:
    """One case."""
    layout, workers = ("folder", "webdataset")[number % 2], 1 + number // 2 % 2
    place = work / f"{re.sub(r'[^a-zA-Z0-9]+', '_', name)[:40]}_{number}"
    run = Run(place, work / "given", layout, workers, plan.limit)
    begun, failure = time.monotonic(), None
    try:
        KINDS[name][0](run, Draw(f"{plan.seed}/{name}/{number}", number), usual[layout])
    except Exception as error:  # one of our own making must not end the plan
        if not isinstance(error, WrongEndError):
            traceback.print_exc()
        failure = f"{name}, case {number} ({layout}, {workers} processes): {error}"
    finally:
        run.clear_up()
    seconds = time.monotonic() - begun
    print(f"{'FAILED' if failure else 'ok':<7}{seconds:6.1f} s  {name} #{number}", flush=True)
    return Result(name, failure, seconds)


def undisturbed(plan: argparse.Namespace, work: Path) -> dict[str, Tree]:
    """By layout, what all others are compared with."""
    found = {}
    for layout in ("folder", "webdataset"):
        run = Run(work / f"undisturbed_{layout}", work / "given", layout, 1, plan.limit)
        run.finish()
        found[layout] = tree(run.output)
    return found


def table(results: list[Result], plan: argparse.Namespace) -> str:
    """Markdown."""
    lines = ["| what | cases | passed | failures |", "|---|---|---|---|"]
    for name in KINDS:
        cases = [result for result in results if result.kind == name]
        bad = sum(result.failure is not None for result in cases)
        if cases:
            lines.append(f"| {name} | {len(cases)} | {len(cases) - bad} | {bad} |")
    failed = [result.failure for result in results if result.failure is not None]
    lines += ["", f"{len(results)} cases, {len(failed)} failed; seed {plan.seed}."]
    return "\n".join(lines + [f"- {failure}" for failure in failed])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=4, help="of each kind (60 at least at named points)")
    parser.add_argument("--kinds", nargs="*", default=[""], help="those whose names contain one of these")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds that a start may take")
    parser.add_argument("--whole", action="store_true", help="as many cases of each kind as the suite's whole has")
    parser.add_argument("--work", type=Path, help="folder for the runs, which are kept there")
    parser.add_argument("--write", type=Path, help="document whose table is to be replaced")
    plan = parser.parse_args()
    torch.set_num_threads(1)  # a fork takes no threads along
    with tempfile.TemporaryDirectory(prefix="chaos_") as temporary:
        work = (plan.work or Path(temporary)).absolute()
        make_given(work / "given")
        usual = undisturbed(plan, work)
        results = [
            attempt(name, number, plan, work, usual)
            for name in KINDS
            if any(part in name for part in plan.kinds)
            for number in range(KINDS[name][1] if plan.whole else max(plan.cases, LEAST.get(name, 0)))
        ]
    text = table(results, plan)
    print(f"\n{text}")
    if plan.write:
        write_section(plan.write, "Datasets", text)
    sys.exit(1 if any(result.failure for result in results) else 0)


if __name__ == "__main__":
    main()
