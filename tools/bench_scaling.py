#!/usr/bin/env python3
"""What more GPUs bring: measured here on gloo ranks of one machine, and extended by a model to clusters.

    python tools/bench_scaling.py --json runs/scaling.json             # measure, then the model
    python tools/bench_scaling.py --model-only --compute 0.11 --gpu-batch 16 --fixed 0.01 --overlap 0

Measured, alternately, as medians: a training step of 1 rank and of 2 (the same batch for each, "weak"; the same batch
together, "strong"), the same without any exchange, and a bare all-reduce of as many bytes. What backward hides of the
exchange is what the bare all-reduce takes beyond what it adds to the step. Ranks here share one machine's cores, so
that 2 ranks are no faster than 1 where one uses all of them; --threads 1 gives each its own.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gan_style.data.stream import Batch
from gan_style.losses.adversarial import Adversarial
from gan_style.losses.content import Content
from gan_style.losses.objective import Objective
from gan_style.losses.style import GramStyle
from gan_style.models.discriminator import PatchDiscriminator
from gan_style.models.generator import ResnetGenerator
from gan_style.models.perceptual import compact
from gan_style.runtime.distributed import Ranks, launch, ranks
from gan_style.runtime.files import write_bytes
from gan_style.training.schedule import Schedule
from gan_style.training.state import Ema, TrainState
from gan_style.training.step import Precision, train_step

AGREEMENT = 50e-6  # seconds of a message between hosts
COUNTS = (8, 64, 512)
_RESULT = "GAN_STYLE_BENCH"  # environment: where rank 0 leaves what it measured


# The model


@dataclass(frozen=True)
class Link:
    """bandwidth: GB/s for each GPU; latency: seconds for one message."""

    bandwidth: float
    latency: float


LINKS = {"NVLink": Link(450.0, 5e-6), "InfiniBand": Link(50.0, 5e-6), "Ethernet": Link(3.0, 30e-6)}


def all_reduce_time(count: int, gradient_bytes: float, link: Link, buckets: int = 4) -> float:
    """Seconds of ring all-reduces: 2 (n-1)/n bytes / bandwidth + latency log2 n (each bucket anew).

    DDP's first bucket holds 1 MB, the others 25: two for each of our networks.
    """
    if count == 1:
        return 0.0
    transfer = 2 * (count - 1) / count * gradient_bytes / (link.bandwidth * 1e9)
    return transfer + buckets * link.latency * math.log2(count)


def step_time(
    compute: float, count: int, gradient_bytes: float, link: Link, *, fixed: float = 0.0, hidden: float = 0.0
) -> float:
    """Seconds of a step: compute (of one rank's share of the batch) + fixed + what backward does not hide + agreeing.

    fixed: what a step costs however small its batch (kernel launches, optimiser, EMA); hidden: seconds of backward
    that an exchange can run beside. The ranks' agreement on whether to stop is a message between hosts.
    """
    exchange = max(0.0, all_reduce_time(count, gradient_bytes, link) - hidden)
    return compute + fixed + exchange + AGREEMENT * math.log2(count)


def model_rows(compute: float, batch: int, gradient_bytes: float, fixed: float, overlap: float) -> list[dict[str, Any]]:
    """Weak (``batch`` for each GPU) and strong (8 x ``batch`` of all together) by link and count.

    compute: seconds for ``batch`` pictures on one GPU; overlap: share of compute beside which gradients can travel.
    """
    rows = []
    for name, link in LINKS.items():
        alone = step_time(compute, 1, gradient_bytes, link, fixed=fixed)
        eight = step_time(compute, 8, gradient_bytes, link, fixed=fixed, hidden=overlap * compute)
        for count in COUNTS:
            weak = step_time(compute, count, gradient_bytes, link, fixed=fixed, hidden=overlap * compute)
            row: dict[str, Any] = {
                "link": name,
                "GPUs": count,
                "all-reduce ms": 1e3 * all_reduce_time(count, gradient_bytes, link),
                "weak step ms": 1e3 * weak,
                "weak efficiency": alone / weak,
                "strong: pictures each": "-",
                "strong step ms": "-",
                "strong efficiency": "-",
            }
            each, cut = batch * 8 / count, compute * 8 / count
            if each >= 1:
                strong = step_time(cut, count, gradient_bytes, link, fixed=fixed, hidden=overlap * cut)
                efficiency = eight / strong * 8 / count
                row |= zip(list(row)[-3:], (each, 1e3 * strong, efficiency), strict=True)
            rows.append(row)
    return rows


# The measurement


def make_state(given: argparse.Namespace) -> tuple[TrainState, Objective]:
    """The networks of --width, as a command would build them, with content, style and adversarial terms."""
    torch.manual_seed(0)
    perceptual = compact(weights="packaged", layers=["relu2_1", "relu3_1"])
    terms = {
        "content": Content(weight=1.0, layers=["relu3_1"]),
        "style": GramStyle(weight=1.0, layers=["relu2_1"]),
        "adversarial": Adversarial(),
    }
    objective = Objective(terms, perceptual)
    objective.set_style("mean", [(0, torch.rand(1, 3, given.size, given.size) * 2 - 1)])
    generator, discriminator = ResnetGenerator(width=given.width), PatchDiscriminator(width=2 * given.width)
    adam = [torch.optim.Adam(one.parameters(), lr=1e-4, fused=True) for one in (generator, discriminator)]
    schedule = Schedule("constant", 1_000_000, 1.0)
    return TrainState(generator, discriminator, Ema(generator, 0.999), adam[0], adam[1], schedule), objective


def make_batch(count: int, size: int) -> Batch:
    pictures = torch.randint(0, 256, (2, count, 3, size, size), dtype=torch.uint8)
    return Batch(pictures[0], pictures[1], torch.zeros(count, dtype=torch.int64), list(range(count)), [])


def timed(function: Callable[[], object], group: Ranks) -> float:
    """Seconds, from when all ranks are there."""
    group.wait()
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def medians(parts: dict[str, Callable[[], object]], group: Ranks, rounds: int) -> dict[str, float]:
    """The median seconds of each, measured in turn; the first round warms up and does not count."""
    found: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(rounds + 1):
        for name, function in parts.items():
            taken = timed(function, group)
            if number:
                found[name].append(taken)
    return {name: statistics.median(taken) for name, taken in found.items()}


def measure(given: argparse.Namespace, group: Ranks) -> dict[str, float]:
    """This number of ranks' times."""
    state, objective = make_state(given)
    networks: dict[str, nn.Module] = {"generator": state.generator, "discriminator": state.discriminator or nn.Module()}
    if group.count > 1:
        state.parallel = {name: group.shared(network) for name, network in networks.items()}
    weak, strong = make_batch(given.batch, given.size), make_batch(max(1, given.batch // group.count), given.size)
    precision = Precision(torch.device("cpu"))
    sizes = {name: sum(p.numel() * p.element_size() for p in one.parameters()) for name, one in networks.items()}
    flat = [torch.zeros(size // 4) for size in sizes.values()]

    def step(batch: Batch) -> None:
        train_step(state, batch, objective, precision)

    def apart() -> None:
        with ExitStack() as stack:
            for network in state.parallel.values():
                stack.enter_context(network.no_sync())
            step(weak)

    def exchange() -> None:
        for one in flat:
            group.mean(one)

    parts: dict[str, Callable[[], object]] = {"weak": lambda: step(weak), "strong": lambda: step(strong)}
    if group.count > 1:
        parts |= {"apart": apart, "all_reduce": exchange}
    return {f"{name}_bytes": float(size) for name, size in sizes.items()} | medians(parts, group, given.rounds)


def measured(given: argparse.Namespace, count: int, place: Path) -> dict[str, float]:
    """measure, in ``count`` processes of their own."""
    os.environ |= {_RESULT: str(place), "OMP_NUM_THREADS": str(given.threads)}
    status = launch(count, [sys.executable, __file__, *sys.argv[1:]])
    if status:
        raise SystemExit(status)
    found: dict[str, float] = json.loads(place.read_text())
    place.unlink()
    return found


def summary(
    given: argparse.Namespace, alternations: Sequence[tuple[dict[str, float], dict[str, float]]]
) -> dict[str, Any]:
    """What follows from 1 rank's and 2 ranks' times, each the median over alternations."""
    one, two = (
        {name: statistics.median(pair[which][name] for pair in alternations) for name in alternations[0][which]}
        for which in (0, 1)
    )
    visible = max(0.0, two["weak"] - two["apart"])
    return {
        "batch": given.batch,
        "size": given.size,
        "generator_mb": one["generator_bytes"] / 1e6,
        "discriminator_mb": one["discriminator_bytes"] / 1e6,
        "step_1_ms": 1e3 * one["weak"],
        "step_2_weak_ms": 1e3 * two["weak"],
        "step_2_strong_ms": 1e3 * two["strong"],
        "step_2_without_exchange_ms": 1e3 * two["apart"],
        "all_reduce_ms": 1e3 * two["all_reduce"],
        "visible_ms": 1e3 * visible,
        "hidden_share": max(0.0, 1.0 - visible / two["all_reduce"]),
        "weak_efficiency": one["weak"] / two["weak"],
        "strong_speedup": one["weak"] / two["strong"],
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    """A markdown table."""
    names = list(rows[0])
    print("| " + " | ".join(name.replace("_", " ") for name in names) + " |\n" + "|---" * len(names) + "|")
    for row in rows:
        print("| " + " | ".join(f"{x:.3g}" if isinstance(x, float) else str(x) for x in row.values()) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4, help="of one rank")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=int, default=32, help="of the generator; the discriminator has twice that")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--alternations", type=int, default=2, help="of 1 rank and 2 ranks")
    parser.add_argument("--threads", type=int, default=1, help="of each rank")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--model-only", action="store_true")
    parser.add_argument("--compute", type=float, default=0.11, help="seconds of a step on one GPU, without --fixed")
    parser.add_argument("--fixed", type=float, default=0.01, help="seconds that a step takes however small its batch")
    parser.add_argument("--gpu-batch", type=int, default=16, help="that --compute is for")
    parser.add_argument("--gradient-mb", type=float, help="of G and D; left out: what was measured, or 17.7")
    parser.add_argument("--overlap", type=float, default=0.0, help="share of compute beside which gradients can travel")
    given = parser.parse_args()
    if _RESULT in os.environ:
        with ranks() as group:
            found = measure(given, group)
            if group.first:
                write_bytes(Path(os.environ[_RESULT]), json.dumps(found).encode())
        return
    content: dict[str, Any] = {}
    gradient_mb = given.gradient_mb
    if not given.model_only:
        place = Path(f".bench_{os.getpid()}.json").absolute()
        pairs = [(measured(given, 1, place), measured(given, 2, place)) for _ in range(given.alternations)]
        content["measured"] = summary(given, pairs)
        show([{"what": name, "value": value} for name, value in content["measured"].items()])
        gradient_mb = gradient_mb or content["measured"]["generator_mb"] + content["measured"]["discriminator_mb"]
    gradient_mb = gradient_mb or 17.7
    content["model"] = model_rows(given.compute, given.gpu_batch, 1e6 * (gradient_mb), given.fixed, given.overlap)
    print(f"\nmodel: {given.compute:g} s for {given.gpu_batch} pictures, {given.fixed:g} s fixed, {gradient_mb} MB")
    show(content["model"])
    if given.json:
        write_bytes(given.json, json.dumps(content, indent=1).encode())


if __name__ == "__main__":
    main()
