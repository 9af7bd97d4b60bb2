#!/usr/bin/env python3
"""How fast make-dataset is, how much memory it takes, and how long its plan takes to be read.

    python tools/bench_make_dataset.py --sizes 256 512 --pictures 48 --rounds 3
    python tools/bench_make_dataset.py --memory 100000
    python tools/bench_make_dataset.py --keys 10000000

Speed: JPEG files to JPEG files that are written for good, with an untrained network (its speed is a trained one's).
Overlapped is make-dataset's own worker; the plain loop reads, decodes, stylizes, encodes and writes one picture after
the other with the same network and as many threads for it. Alternately, each in a process of its own; medians. The
score is left out of both (--score structure puts it into ours). Waiting is the share of its time for which the network
had nothing to do. Memory: so many pictures of 16 px by the command itself, looked at from outside. Keys: a plan with so
many inputs, all of them done, and what it costs to find that out.
"""

import argparse
import io
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from gan_style.commands import make_dataset
from gan_style.commands.dataset_job import Job, make_worker
from gan_style.commands.make_dataset import check_make_dataset
from gan_style.config import CONFIG_PATH, plain
from gan_style.dataset.journal import STATE, Records
from gan_style.dataset.naming import Names, Scheme
from gan_style.dataset.plan import write_plan
from gan_style.dataset.sample import Location, Sample
from gan_style.images.decode import decode, encode_uint8, to_float, to_uint8
from gan_style.models.generator import ResnetGenerator
from gan_style.models.registry import describe
from gan_style.runtime.checkpoint import write_generator
from gan_style.runtime.device import choose_device
from gan_style.stylize.model import load_generator

Numbers = dict[str, float]
_WAYS = ("overlapped", "plain loop")
_DECIDE = """
import sys, time
from pathlib import Path
from gan_style.dataset.plan import read_plan
from gan_style.dataset.journal import STATE, Records
begun, output = time.perf_counter(), Path(sys.argv[1])
plan = read_plan(output / STATE)
left = Records(output, plan).left(plan.shards)
seconds = time.perf_counter() - begun
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1000
print(f"{plan.inputs} keys in {len(plan.shards)} shards, {len(left)} left: {seconds:.2f} s, {peak:.0f} MB")
"""


def make_pictures(folder: Path, count: int, size: int | tuple[int, int]) -> None:
    """Smooth noise, which takes about as many bytes a pixel as photographs do; squares, or of (width, height)."""
    rng = np.random.default_rng(0)
    width, height = (size, size) if isinstance(size, int) else size
    (folder / "class").mkdir(parents=True)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8))
        fine = rng.normal(0, 6, (height, width, 3))
        pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) + fine
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "class" / f"{number:06d}.jpg", quality=92)


def make_generator(path: Path, width: int, blocks: int) -> None:
    torch.manual_seed(0)
    generator = ResnetGenerator(width=width, blocks=blocks)
    write_generator(path, generator.state_dict(), describe(generator) | {"step": 0})


def settings(**options: Any) -> dict[str, Any]:
    """make-dataset's config; options by name, with __ for a dot."""
    with initialize_config_dir(str(CONFIG_PATH), version_base="1.3"):
        cfg = compose("make_dataset", ["checkpoint=?", "input=?", "output=?", "manifest=jsonl"])
    for name, value in options.items():
        OmegaConf.update(cfg, name.replace("__", "."), value)
    check_make_dataset(cfg)
    found: dict[str, Any] = plain(cfg)
    return found


def apart(function: Callable[[], Numbers]) -> Numbers:
    """In a process of its own, forked: its numbers, and its peak of memory in MB."""
    ours, theirs = multiprocessing.Pipe()

    def work() -> None:
        found = function()
        peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]  # kB; ours alone, unlike ru_maxrss
        theirs.send(found | {"peak": int(peak) / 1000})

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    theirs.close()
    try:
        numbers: Numbers = ours.recv()
    except EOFError:
        raise SystemExit("a measurement failed; see above") from None
    process.join()
    return numbers


def overlapped(cfg: dict[str, Any]) -> Numbers:
    """Plan, then time the worker over all shards."""
    with redirect_stdout(io.StringIO()):
        source, kind = make_dataset._open(cfg)
        job: Job = make_dataset._planned(cfg, source, kind)
    worker = make_worker(job)
    clock, begun = worker.make.clock, time.perf_counter()  # type: ignore[attr-defined]
    for shard in job.plan.shards:
        worker.process(shard)
    seconds = time.perf_counter() - begun
    return {"rate": job.plan.inputs / seconds, "busy": clock.busy / seconds, "waiting": 1 - clock.busy / seconds}


@torch.inference_mode()
def plain_loop(cfg: dict[str, Any]) -> Numbers:
    """One picture after the other, as a script would."""
    device = choose_device(cfg["runtime"]["device"], cfg["threads_per_worker"])
    generator, busy = load_generator(Path(cfg["checkpoint"]), device), 0.0
    paths, output = sorted(Path(cfg["input"]).rglob("*.jpg")), Path(cfg["output"])
    output.mkdir()
    begun = time.perf_counter()
    for path in paths:
        content = decode(path)[None]
        started = time.perf_counter()
        picture = to_float(content.to(device)).contiguous(memory_format=torch.channels_last)
        made = to_uint8(generator(picture)).cpu()[0]
        busy += time.perf_counter() - started
        (output / path.name).write_bytes(encode_uint8(made, ".jpg", quality=cfg["quality"]))
    seconds = time.perf_counter() - begun
    return {"rate": len(paths) / seconds, "busy": busy / seconds, "waiting": 1 - busy / seconds}


def speed(work: Path, plan: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each size and way."""
    make_generator(work / "style.safetensors", plan.width, plan.blocks)
    for size in plan.sizes:
        make_pictures(work / f"in{size}", plan.pictures, size)
        found: dict[str, list[Numbers]] = {way: [] for way in _WAYS}
        for number in range(plan.rounds):
            for way in _WAYS:
                cfg = settings(
                    checkpoint=str(work / "style.safetensors"),
                    input=str(work / f"in{size}"),
                    output=str(work / f"{way} {size} {number}"),
                    score=plan.score,
                    batch=plan.batch,
                    threads_per_worker=plan.threads,
                    runtime__device=plan.device,
                    runtime__io_threads=plan.io_threads,
                    precision=plan.precision,
                )
                run = overlapped if way == "overlapped" else plain_loop
                found[way].append(apart(lambda run=run, cfg=cfg: run(cfg)))  # type: ignore[misc]
        for way in _WAYS:
            middle = {name: statistics.median(one[name] for one in found[way]) for name in found[way][0]}
            yield {"size": size, "way": way, "rates": [one["rate"] for one in found[way]], **middle}


def memory(work: Path, count: int, first: int) -> Numbers:
    """Resident memory in MB once ``first`` pictures are done, and the most and the last from then on."""
    make_generator(work / "small.safetensors", 2, 0)
    base = work / "small"
    for part in range(0, count, 1000):
        make_pictures(base / f"{part:07d}", min(1000, count - part), 16)
    cfg = settings(
        checkpoint=str(work / "small.safetensors"), input=str(base), output=str(work / "small out"), score="none"
    ) | {"shard_size": 200}
    process = multiprocessing.get_context("fork").Process(target=make_dataset.make, args=(cfg,))
    process.start()
    seen: list[float] = []
    at_first, records = 0.0, work / "small out" / STATE / "records"
    while process.is_alive():
        time.sleep(0.1)
        resident = _resident(process.pid or 0)
        if not resident:
            break
        if at_first:
            seen.append(resident)
        elif records.is_dir() and 200 * len(list(records.glob("*.json"))) >= first:
            at_first = resident
    process.join()
    if process.exitcode != 0 or not seen:
        raise SystemExit(f"the run of {count} pictures ended with status {process.exitcode}")
    return {"first": at_first, "last": seen[-1], "most": max(seen)}


def _resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6
    except (OSError, IndexError):
        return 0.0


def decide(work: Path, count: int, size: int) -> str:
    """Write a plan of so many keys with a record for each shard (in an instant: nothing here has to last), and read it
    as the command does.
    """
    output = work / "keys"
    records_dir = output / STATE / "records"
    samples = (
        Sample(f"{number // 1000:06d}/{number:08d}.jpg", f"{number // 1000:06d}/{number:08d}", Location("x.jpg", 1))
        for number in range(count)
    )
    records_dir.mkdir(parents=True)
    os.fsync = lambda descriptor: None  # type: ignore[assignment, misc]
    before, begin = _memory("VmRSS"), time.perf_counter()
    plan = write_plan(output / STATE, samples, {}, Names(Scheme(1, None, keyed=False)), size, {})
    written = f"written in {time.perf_counter() - begin:.0f} s with {_memory('VmHWM') - before:.0f} MB more"
    records = Records(output, plan)
    records.prepare()
    for shard in plan.shards:
        records.commit(shard, [], [])
    done = subprocess.run([sys.executable, "-c", _DECIDE, str(output)], capture_output=True, text=True, check=False)
    return f"{written}; {(done.stdout or done.stderr).strip()}"


def _memory(name: str) -> float:
    """Of this process, in MB, by its name in proc(5)."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 512], help="pixels; none leaves speed out")
    parser.add_argument("--pictures", type=int, default=64, help="of each size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=32, help="of the network")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1, help="of the network")
    parser.add_argument("--io-threads", type=int, default=2)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--score", default="none")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", type=int, default=0, metavar="N", help="pictures for the check of memory")
    parser.add_argument("--first", type=int, default=5000, help="after how many memory is looked at first")
    parser.add_argument("--keys", type=int, default=0, metavar="N", help="inputs for the check of the plan")
    parser.add_argument(
        "--shard-size", type=int, default=200, help="of that plan: reading it costs by shards, not keys"
    )
    parser.add_argument("--json", type=Path, help="where the numbers go, too")
    plan = parser.parse_args()
    torch.set_num_threads(1)  # a fork takes no threads along; each measurement sets its own
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        if plan.sizes and not plan.memory and not plan.keys:
            print("| size | way | pictures/s (each round) | network waits | peak MB |\n|---|---|---|---|---|")
            found["speed"] = []
            for row in speed(Path(folder), plan):
                found["speed"].append(row)
                rates = ", ".join(f"{rate:.2f}" for rate in row["rates"])
                share = f"{row['waiting']:.1%}"
                print(f"| {row['size']} | {row['way']} | {row['rate']:.2f} ({rates}) | {share} | {row['peak']:.0f} |")
        if plan.memory:
            found["memory"] = numbers = memory(Path(folder), plan.memory, plan.first)
            more = numbers["most"] / numbers["first"] - 1
            print(f"{plan.memory} pictures: {numbers['first']:.0f} MB after {plan.first}, then at most ", end="")
            print(f"{numbers['most']:.0f} MB ({more:+.1%}), {numbers['last']:.0f} MB at the end")
        if plan.keys:
            found["keys"] = decide(Path(folder), plan.keys, plan.shard_size)
            print(found["keys"])
    if plan.json:
        plan.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
