#!/usr/bin/env python3
"""How fast make-dataset is, how much memory it takes, and how long its plan takes to be read.

    python tools/bench_make_dataset.py --sizes 256 --pictures 333 --rounds 1
    python tools/bench_make_dataset.py --memory 100000
    python tools/bench_make_dataset.py --keys 10000000

Speed: JPEG files to JPEG files that are written for good, with untrained networks (their speed is a trained one's),
in turn, each in a process of its own; medians. make-dataset is the command from its look through the input to the
manifest, in float32 and bfloat16, with a network of --width and --blocks. With the library it draws from all styles
that come with us, as it does where no checkpoint is named. Its files alone: with a network that gives back what it
gets. The plain loops read, stylize, encode and write one picture after the other with as many threads for the network:
with our generator, with the same one of stock modules (NCHW, float32, as published code has it), and AdaIN's
(tools/bench_adain.py). Slow ways do --slow-pictures of the pictures only. The score is left out (--score structure
puts it into ours). Busy is the share of its time for which the network worked; core-seconds leave out the time for
which others had the core. Memory: so many pictures of 16 px by the command itself, looked at from outside. Keys: a
plan with so many inputs, all of them done, and what it costs to find that out.
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_adain import Pipeline
from bench_reference import copied
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
_OURS = {"make-dataset, float32": "float32", "make-dataset, bfloat16": "bfloat16"}
_LIBRARY = {"make-dataset, library, float32": "float32", "make-dataset, library, bfloat16": "bfloat16"}
_FILES, _LOOP, _STOCK, _ADAIN = (
    "make-dataset, files alone",
    "plain loop",
    "plain loop, stock modules",
    "AdaIN's pipeline",
)
_WAYS = (*_OURS, *_LIBRARY, _FILES, _LOOP, _STOCK, _ADAIN)
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


def whole(cfg: dict[str, Any], network: Callable[..., Any] | None = None) -> Numbers:
    """make-dataset from its look through the input to its manifest. network: in place of the generator's."""
    workers: list[Any] = []

    def kept_worker(job: Job, number: int = 0) -> Any:
        workers.append(make_worker(job, number))
        if network is not None:
            workers[0].make.stylizers = [network]
        return workers[0]

    make_dataset.make_worker = kept_worker
    begun, core = time.perf_counter(), time.process_time()
    with redirect_stdout(io.StringIO()):
        assert make_dataset.make(cfg) == 0
    seconds, clock = time.perf_counter() - begun, workers[0].make.clock
    return _numbers(clock.pictures, seconds, time.process_time() - core, clock.busy)


class Nothing:
    """A network that gives back what it gets."""

    name = sha256 = "nothing"

    def __call__(self, content: torch.Tensor, *, tiled: bool = False) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda strengths: content


def _numbers(pictures: int, seconds: float, core: float, busy: float) -> Numbers:
    return {"rate": pictures / seconds, "core": core / pictures, "busy": busy / seconds}


@torch.inference_mode()
def plain_loop(cfg: dict[str, Any], count: int, stock: bool = False) -> Numbers:
    """One picture after the other, as a script would. stock: our generator as stock modules, in NCHW."""
    device = choose_device(cfg["runtime"]["device"], cfg["threads_per_worker"])
    generator, busy = load_generator(Path(cfg["checkpoint"]), device), 0.0
    layout = torch.contiguous_format if stock else torch.channels_last
    generator = copied(generator).eval() if stock else generator
    paths, output = sorted(Path(cfg["input"]).rglob("*.jpg"))[:count], Path(cfg["output"])
    output.mkdir()
    begun, core = time.perf_counter(), time.process_time()
    for path in paths:
        content = decode(path)[None]
        started = time.perf_counter()
        picture = to_float(content.to(device)).contiguous(memory_format=layout)
        made = to_uint8(generator(picture)).cpu()[0]
        busy += time.perf_counter() - started
        (output / path.name).write_bytes(encode_uint8(made, ".jpg", quality=cfg["quality"]))
    return _numbers(len(paths), time.perf_counter() - begun, time.process_time() - core, busy)


def adain(cfg: dict[str, Any], count: int, styles: Path) -> Numbers:
    torch.set_num_threads(cfg["threads_per_worker"])
    pipeline = Pipeline(sorted(styles.rglob("*.jpg")))
    paths, output = sorted(Path(cfg["input"]).rglob("*.jpg"))[:count], Path(cfg["output"])
    output.mkdir()
    begun, core = time.perf_counter(), time.process_time()
    for path in paths:
        pipeline(path, output / path.name)
    return _numbers(count, time.perf_counter() - begun, time.process_time() - core, 0.0)


def speed(work: Path, plan: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each size and way."""
    make_generator(work / "style.safetensors", plan.width, plan.blocks)
    make_pictures(work / "styles", 4, 512)
    for size in plan.sizes:
        make_pictures(work / f"in{size}", plan.pictures, size)
        measurements: dict[str, list[Numbers]] = {way: [] for way in plan.ways}
        for number in range(plan.rounds):
            for way in plan.ways:
                cfg = settings(
                    checkpoint=None if way in _LIBRARY else str(work / "style.safetensors"),
                    input=str(work / f"in{size}"),
                    output=str(work / f"{way} {size} {number}"),
                    score=plan.score,
                    batch=plan.batch,
                    threads_per_worker=plan.threads,
                    runtime__device=plan.device,
                    runtime__io_threads=plan.io_threads,
                    precision=(_OURS | _LIBRARY).get(way, "float32"),
                )
                run = {
                    _FILES: partial(whole, cfg, Nothing()),
                    _LOOP: partial(plain_loop, cfg, plan.pictures),
                    _STOCK: partial(plain_loop, cfg, min(plan.slow_pictures, plan.pictures), stock=True),
                    _ADAIN: partial(adain, cfg, min(plan.slow_pictures, plan.pictures), work / "styles"),
                }.get(way, partial(whole, cfg))
                measurements[way].append(apart(run))
        for way in plan.ways:
            rounds = measurements[way]
            middle = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
            yield {"size": size, "way": way, "rates": [each["rate"] for each in rounds], **middle}


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
    before, begin, cpu = _memory("VmRSS"), time.perf_counter(), time.process_time()
    plan = write_plan(output / STATE, samples, {}, Names(Scheme(1, None, keyed=False)), size, {})
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    written = f"written in {seconds:.0f} s ({cpu:.0f} s of CPU) with {_memory('VmHWM') - before:.0f} MB more"
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
    parser.add_argument("--ways", nargs="+", default=list(_WAYS), choices=_WAYS)
    parser.add_argument("--slow-pictures", type=int, default=12, help="of each size, for the slow ways")
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
            print("| size | way | pictures/s (each round) | core-seconds/picture | network busy | peak MB |")
            print("|---|---|---|---|---|---|")
            found["speed"] = []
            for row in speed(Path(folder), plan):
                found["speed"].append(row)
                rates = ", ".join(f"{rate:.2f}" for rate in row["rates"])
                busy = f"{row['busy']:.1%}" if row["busy"] else ""
                cells = (row["size"], row["way"], f"{row['rate']:.2f} ({rates})", f"{row['core']:.4f}", busy)
                print("|", *(f"{cell} |" for cell in cells), f"{row['peak']:.0f} |", flush=True)
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
