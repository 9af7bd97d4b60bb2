#!/usr/bin/env python3
"""Harms short training runs on a seeded plan, starts them again, and compares the end with an undisturbed run.

    python tools/chaos_train.py --cases 4 --jobs 2
    python tools/chaos_train.py --kinds "SIGKILL at random times" --cases 200
    python tools/chaos_train.py --whole --jobs 2 --write docs/reliability.md

A run is 36 tiny steps with a checkpoint after every third. Cases of a kind go through 1 and 2 ranks, and 0 and 2 data
workers. One passes when every start ended as documented, within the limit of time, and the last one with what the
undisturbed run ended with: weights, averages, optimisers, losses and pictures bit for bit, no step missing or doubled
in metrics.jsonl, nothing left over. Processes are forked from one that has imported everything; --fresh starts each
anew. Exit status 1 where a case failed.
"""

import argparse
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import chaos_harm as harm
import torch
from chaos_document import write_section
from chaos_driver import SIGNALS
from chaos_runs import Draw, Run, WrongEndError, check_equal, check_whole, make_pictures

DAMAGES = list(harm.DAMAGES)
Case = Callable[[Run, Draw], None]


@dataclass(frozen=True)
class Kind:
    """A kind of harm. case: harms a run, and starts it until it is done; raises WrongEndError where something is amiss.

    equal: whether the run has to end with the undisturbed run's weights; ranks: None for 1 and 2 in turn; whole: cases
    of the suite's whole column.
    """

    case: Case
    equal: bool = True
    ranks: int | None = None
    whole: int = 6


@dataclass
class Result:
    kind: str
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def kinds() -> dict[str, Kind]:
    """By name, in the order of the table."""
    found = {
        "SIGKILL at random times, up to three times": Kind(harm.kill_at_random, whole=160),
        "SIGKILL at a point of a save": Kind(harm.kill_in_save, whole=40),
        "SIGKILL of a rank, torchrun --max-restarts=2": Kind(harm.kill_under_torchrun, ranks=2),
        "SIGKILL of a data worker": Kind(harm.kill_worker),
        "SIGKILL in a loop of saves, TMPDIR on another file system": Kind(
            harm.kill_save_loop, equal=False, ranks=1, whole=4
        ),  # of fifty kills
    }
    targets = {"the process": 1, "the launcher": 2, "rank 0": 2, "rank 1": 2, "the group": 2}
    for whom, ranks in targets.items():
        found[f"{', '.join(one.name for one in SIGNALS)} to {whom}"] = Kind(
            partial(harm.signal_to, whom=whom), ranks=ranks, whole=32
        )
    for damage in DAMAGES:
        found[f"newest checkpoint {damage}"] = Kind(partial(harm.damage_newest, damage=damage), whole=9)
    return found | {
        "every checkpoint cut short": Kind(harm.damage_all),
        "data workers changed across the resume": Kind(harm.change_workers),
        "ranks changed across the resume": Kind(harm.change_ranks, equal=False),
        "a second run on the same folder": Kind(harm.two_at_once),
        "disk without room for a checkpoint": Kind(harm.low_disk),
        "no space, or I/O error, at a point of a save": Kind(harm.error_in_save),
        "disk full (a small tmpfs, where mounting is allowed)": Kind(harm.full_tmpfs),
        "a picture disappears, is cut or replaced, more than allowed": Kind(harm.lose_pictures),
        "a picture disappears, is cut or replaced, as many as allowed": Kind(harm.lose_allowed, equal=False),
        "a tracker raises": Kind(harm.raising_tracker),
        "NaN or inf for three steps": Kind(harm.nan_for_a_while, equal=False, whole=4),
        "NaN or inf for three steps, on one of two ranks": Kind(harm.nan_on_one, equal=False, ranks=2, whole=4),
        "NaN in G's weights": Kind(harm.nan_in_weights, equal=False, whole=4),
        "NaN from a step on": Kind(harm.nan_for_good, equal=False, whole=4),
    }


def attempt(name: str, number: int, plan: argparse.Namespace, work: Path, usual: dict[int, float]) -> Result:
    """One case."""
    kind, result, begun = kinds()[name], Result(name), time.monotonic()
    ranks = kind.ranks or 1 + number % 2
    workers = (0, 2)[number // (1 if kind.ranks else 2) % 2]
    place = work / f"{re.sub(r'[^a-zA-Z0-9]+', '_', name)}_{number}"
    run = Run(place, work / "pictures", ranks, workers, plan.limit, not plan.fresh, usual[ranks])
    rng = Draw(f"{plan.seed}/{name}/{number}", number)
    try:
        kind.case(run, rng)
        if kind.equal and (run.folder / "metrics.jsonl").exists():
            check_equal(run, work / f"undisturbed_{ranks}" / "smoke")
    except Exception as failure:  # one of our own making must not end the plan
        if not isinstance(failure, WrongEndError):
            traceback.print_exc()
        result.failures.append(f"{name}, case {number} ({ranks} ranks, {workers} workers): {failure}")
    finally:
        run.clear_up()
    result.seconds = time.monotonic() - begun
    print(f"{'FAILED' if result.failures else 'ok':<7}{result.seconds:6.1f} s  {name} #{number}", flush=True)
    return result


def undisturbed(plan: argparse.Namespace, work: Path) -> dict[int, float]:
    """Run what all others are compared with; {ranks: seconds}."""
    usual = {}
    for ranks in (1, 2):
        run = Run(work / f"undisturbed_{ranks}", work / "pictures", ranks, 0, plan.limit, not plan.fresh)
        begun = time.monotonic()
        run.finish(attempts=1)
        usual[ranks] = time.monotonic() - begun
        check_whole(run)
    return usual


def table(results: list[Result], plan: argparse.Namespace) -> str:
    """Markdown."""
    lines = ["| what | cases | bit-equal | ended as documented | failures |", "|---|---|---|---|---|"]
    for name, kind in kinds().items():
        cases = [result for result in results if result.kind == name]
        good = sum(not result.failures for result in cases)
        if cases:
            equal = good if kind.equal else "-"
            lines.append(f"| {name} | {len(cases)} | {equal} | {good} | {len(cases) - good} |")
    failed = [failure for result in results for failure in result.failures]
    total = f"{len(results)} cases, {len(failed)} failed; seed {plan.seed}, "
    lines += ["", total + ("every process started anew." if plan.fresh else "processes forked, torchrun's aside.")]
    return "\n".join(lines + [f"- {failure}" for failure in failed])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=4, help="of each kind")
    parser.add_argument("--kinds", nargs="*", default=[""], help="those whose names contain one of these")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time")
    parser.add_argument("--limit", type=float, default=180.0, help="seconds that a start may take")
    parser.add_argument("--fresh", action="store_true", help="start each process anew (5 s each) instead of forking")
    parser.add_argument("--work", type=Path, help="folder for the runs, which are kept there")
    parser.add_argument("--write", type=Path, help="document whose table is to be replaced")
    parser.add_argument("--whole", action="store_true", help="as many cases of each kind as the suite's whole has")
    plan = parser.parse_args()
    torch.set_num_threads(1)  # a fork takes no threads along
    chosen = [name for name in kinds() if any(part in name for part in plan.kinds)]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    with tempfile.TemporaryDirectory(prefix="chaos_") as temporary:
        work = (plan.work or Path(temporary)).absolute()
        make_pictures(work / "pictures")
        usual = undisturbed(plan, work)
        print("undisturbed: " + ", ".join(f"{n} ranks {s:.1f} s" for n, s in usual.items()), flush=True)
        cases = [
            (name, number) for name in chosen for number in range(kinds()[name].whole if plan.whole else plan.cases)
        ]
        with ProcessPoolExecutor(plan.jobs, mp_context=get_context("fork"), initializer=_by_default) as pool:
            started = [pool.submit(attempt, *case, plan, work, usual) for case in cases]
            results = [one.result() for one in started]
    text = table(results, plan)
    print(f"\n{text}")
    if plan.write:
        write_section(plan.write, "Training", text)
    sys.exit(1 if any(result.failures for result in results) else 0)


def _by_default() -> None:
    """An interrupted plan ends with all its processes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
