#!/usr/bin/env python3
"""How fast a training step is, beside a plain step of the same mathematics (tools/bench_reference.py).

    python tools/bench_train.py                                   # 256 px, batch 4, VGG-19 and compact
    python tools/bench_train.py --precision float32 bfloat16 --weights vgg19.pth --markdown step.md
    python tools/bench_train.py --what memory                     # peaks with each setting that saves memory
    python tools/bench_train.py --grow 128 256 512 1024 --batch 1  # does the cost grow with the pixels alone?

Both steps have the same weights and see the same batch, and their losses are compared. They take turns within one
process, ratios are medians over rounds, and one CPU thread is timed in core-seconds, so that a machine that is busy
with other work shifts them little. Parts are timed one after the other in the order in which the step does them; FLOPs
are counted by torch, and set against what this machine was measured to do in large convolutions of the same type.
Waiting is for the next batch, from JPEG files that were decoded into memory before, as a run does. Without --weights
VGG-19's are random: speed does not depend on them.
"""

import argparse
import json
import tempfile
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from bench_common import alternate, ceiling, flops, machine, markdown, middle, peak_memory, ratio, seconds
from bench_make_dataset import make_pictures
from bench_reference import Reference
from hydra import compose, initialize_config_dir
from torch import Tensor

import gan_style.commands.train  # noqa: F401 (registers the options of train)
from gan_style.commands import train_setup
from gan_style.commands.train_setup import TrainSetup
from gan_style.config import CONFIG_PATH, plain
from gan_style.data.stream import Batch
from gan_style.images.decode import to_float
from gan_style.losses.objective import content_layers, style_layers
from gan_style.losses.term import LossInputs
from gan_style.runtime.device import choose_device
from gan_style.runtime.files import write_bytes
from gan_style.runtime.machine import keep_freed_memory
from gan_style.training.step import Precision, train_step

REFERENCE = "plain step"
_SAVINGS = ("", "training.recompute=true", "training.accumulate=2", "training.accumulate=4", "runtime.compile=true")


class Ours:
    """A training run's parts, as the command builds them, and its step."""

    def __init__(self, given: Namespace, perceptual: str, precision: str, size: int, pictures: str = "?") -> None:
        self.device = choose_device(given.device, None)
        weights = "packaged" if perceptual == "compact" else given.weights or "random"
        options = [f"perceptual={perceptual}", f"perceptual.weights={weights}", f"generator={given.generator}"]
        options += [f"data.content={pictures}", f"data.style={pictures}", f"data.size={size}"]
        options += [f"data.resize=[{size},{size * 5 // 4}]", f"training.batch={given.batch}"]
        options += ["training.warmup_steps=0", f"training.precision={precision}", *given.options]
        with initialize_config_dir(str(CONFIG_PATH), version_base="1.3"):
            cfg = compose("train", options)
        self.setup = TrainSetup(cfg, plain(cfg), self.device, Path("."))
        self.objective = train_setup.make_objective(self.setup)
        self.state = train_setup.make_state(self.setup, self.objective, fresh=True)
        train_setup.distribute(self.setup, self.state)
        self.precision = Precision(self.device, getattr(torch, precision))
        self.seen: dict[str, Any] = {}

    def prepare(self, batch: Batch) -> None:
        """Scales and targets from this batch's own pictures."""
        self.objective.perceptual.calibrate([to_float(batch.content[:1])])
        styles = to_float(batch.style).split(1)
        self.objective.set_style("mean", enumerate(styles))

    def step(self, batch: Batch) -> dict[str, Tensor]:
        return train_step(self.state, batch, self.objective, self.precision)

    def parts(self, batch: Batch) -> Mapping[str, Callable[[], object]]:
        """The step cut into parts, to be called in this order."""
        return {
            "generator forward": lambda: self._generate(batch),
            "discriminator": lambda: self._discriminator_half(batch),
            "discriminator, asked by G": lambda: self._ask(batch),
            "perceptual forward": self._look,
            "losses, perceptual backward": self._judge,
            "generator backward": lambda: self.seen["fake"].backward(self.seen["leaf"].grad),
            "optimisers": lambda: [one.step() for one in self.state.optimisers().values()],
            "EMA": lambda: self.state.ema.update(self.state.generator),
        }

    def _generate(self, batch: Batch) -> None:
        photo, style = (
            to_float(one).contiguous(memory_format=torch.channels_last) for one in (batch.content, batch.style)
        )
        with self.precision.autocast():
            fake = self.state.generator(photo).float()
        self.seen = {"content": photo, "style": style, "fake": fake, "leaf": fake.detach().requires_grad_()}

    def _discriminator_half(self, batch: Batch) -> None:
        adversarial, discriminator = self.objective.adversarial, self.state.discriminator
        assert adversarial is not None and discriminator is not None
        with self.precision.autocast():
            draws = [torch.Generator() for _ in range(2 * len(batch.positions))]
            loss, _ = adversarial.discriminator_loss(
                discriminator, self.seen["style"], self.seen["fake"].detach(), draws
            )
        loss.backward()

    def _ask(self, batch: Batch) -> None:
        adversarial = self.objective.adversarial
        assert adversarial is not None
        with self.state.discriminator_frozen() as frozen, self.precision.autocast():
            assert frozen is not None
            draws = [torch.Generator() for _ in batch.positions]
            loss = adversarial.generator_loss(adversarial.logits(frozen, self.seen["leaf"], draws))
            (self.objective.weights["adversarial"] * loss).backward()

    def _look(self) -> None:
        perceptual, terms = self.objective.perceptual, list(self.objective.terms.values())
        with self.precision.autocast():
            of_fake = perceptual(self.seen["leaf"], [*content_layers(terms), *style_layers(terms)])
            with torch.no_grad():
                of_content = perceptual(self.seen["content"], content_layers(terms))
        scene = LossInputs(self.seen["content"], self.seen["style"], self.seen["leaf"])
        scene.fake_features, scene.content_features = of_fake, of_content
        scene.style_targets = self.objective.style_targets
        self.seen["scene"] = scene

    def _judge(self) -> None:
        with self.precision.autocast():
            losses = [self.objective.weights[n] * term(self.seen["scene"]) for n, term in self.objective.terms.items()]
        torch.stack(losses).sum().backward()


def make_batch(given: Namespace, size: int, device: torch.device) -> Batch:
    """Smooth random pictures, always the same."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(2 * given.batch, 3, max(2, size // 16), max(2, size // 16), generator=random)
    whole = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1).mul(255).to(torch.uint8)
    index, positions = torch.zeros(given.batch, dtype=torch.int64), list(range(given.batch))
    return Batch(whole[: given.batch], whole[given.batch :], index, positions, []).to(device)


def our_ways(given: Namespace, size: int) -> Iterator[tuple[str, Ours]]:
    for perceptual in given.perceptual:
        for precision in given.precision:
            yield f"ours, {perceptual}, {precision}", Ours(given, perceptual, precision, size)


def compare_losses(given: Namespace, batch: Batch, rounds: int = 3) -> list[dict[str, Any]]:
    """Our float32 step's losses beside the plain step's, from the same weights, for a few steps."""
    ours = Ours(given, "vgg19", "float32", given.size)
    ours.prepare(batch)
    reference = Reference(ours.state, ours.objective)
    rows = []
    for number in range(1, rounds + 1):
        theirs, mine = reference.step(batch), ours.step(batch)
        for name, value in theirs.items():
            rows.append({"step": number, "loss": name, "plain": f"{value:.6f}", "ours": f"{mine[name].item():.6f}"})
    return rows


def compare_steps(given: Namespace, batch: Batch) -> list[dict[str, Any]]:
    """Each way's step in turn: the table that the ratios come from."""
    everything = dict(our_ways(given, given.size))
    for ours in everything.values():
        ours.prepare(batch)
    base = Ours(given, "vgg19", "float32", given.size)
    base.prepare(batch)
    reference, device = Reference(base.state, base.objective), base.device
    ways: dict[str, Callable[[], object]] = {REFERENCE: lambda: reference.step(batch)}
    ways |= {name: lambda ours=ours: ours.step(batch) for name, ours in everything.items()}  # type: ignore[misc]
    timings = alternate(ways, given.steps, device, plain=[REFERENCE])
    peak = {name: peak_memory(run_alone, given, name) for name in ways} if given.memory else {}
    return [
        {
            "step": name,
            "times as fast": ratio(timings[REFERENCE], taken),
            "seconds": middle(taken),
            "pictures/s": given.batch / middle(taken),
            "peak MB": f"{peak[name]:.0f}" if name in peak else "",
        }
        for name, taken in timings.items()
    ]


def run_alone(given: Namespace, name: str) -> None:
    """Two steps of one way, for its memory."""
    if name != REFERENCE:
        keep_freed_memory()
    batch = make_batch(given, given.size, choose_device(given.device, None))
    _, perceptual, precision = name.split(", ") if name != REFERENCE else ("", "vgg19", "float32")
    ours = Ours(given, perceptual, precision, given.size)
    ours.prepare(batch)
    reference = Reference(ours.state, ours.objective) if name == REFERENCE else None
    for _ in range(2):
        reference.step(batch) if reference else ours.step(batch)


def by_part(given: Namespace, batch: Batch, ceilings: Mapping[str, float]) -> list[dict[str, Any]]:
    """Each way's parts in turn: seconds, share of the step, FLOPs, share of the machine's ceiling."""
    ways: dict[str, Any] = dict(our_ways(given, given.size))
    for ours in ways.values():
        ours.prepare(batch)
    base = Ours(given, "vgg19", "float32", given.size)
    base.prepare(batch)
    ways = {REFERENCE: Reference(base.state, base.objective)} | ways
    parts = {name: way.parts(batch) for name, way in ways.items()}
    keep_freed_memory()  # in all of them: here shares count
    found: dict[tuple[str, str], list[float]] = {}
    for number in range(given.steps + 1):
        for name in ways:
            for part, function in parts[name].items():
                taken = seconds(function, base.device)
                if number:
                    found.setdefault((name, part), []).append(taken)
    rows = []
    for name in ways:
        precision = name.split(", ")[-1] if name != REFERENCE else "float32"
        times = {part: middle(found[name, part]) for part in parts[name]}
        counts = {part: flops(function) for part, function in parts[name].items()}
        for part in [*times, "together"]:
            time = times.get(part, sum(times.values()))
            count = counts.get(part, sum(counts.values()))
            rows.append(
                {
                    "step": name,
                    "part": part,
                    "seconds": time,
                    "share": f"{time / sum(times.values()):.1%}",
                    "GFLOP": count / 1e9,
                    "GFLOP/s": count / time / 1e9,
                    "of the ceiling": f"{count / time / ceilings[precision]:.0%}",
                }
            )
    return rows


def perceptual_shares(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Of each way's step what goes to the perceptual network and the losses on it."""
    shares = {}
    for name in dict.fromkeys(row["step"] for row in rows):
        times = {row["part"]: row["seconds"] for row in rows if row["step"] == name}
        looking = sum(t for part, t in times.items() if "perceptual" in part or part == "style targets")
        shares[name] = looking / times["together"]
    return shares


def waiting(given: Namespace) -> list[dict[str, Any]]:
    """Which share of a run's time each way waits for its data."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench_") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make_pictures(Path(folder), 12, given.size * 3 // 2)
        for perceptual in given.perceptual:
            for precision in given.precision:
                ours = Ours(given, perceptual, precision, given.size, folder)
                pictures = train_setup.open_sets(ours.setup)
                batches = iter(train_setup.make_batches(ours.setup, pictures, 0))
                ours.prepare(next(batches).to(ours.device))
                waits, steps = [], []
                for _ in range(given.steps + 1):
                    held: list[Batch] = []
                    waits.append(
                        seconds(lambda held=held, batches=batches: held.append(next(batches)), ours.device)  # type: ignore[misc]
                    )
                    steps.append(seconds(lambda held=held, ours=ours: ours.step(held[0].to(ours.device)), ours.device))  # type: ignore[misc]
                wait, step = middle(waits[1:]), middle(steps[1:])
                share = f"{wait / (wait + step):.2%}"
                name = f"ours, {perceptual}, {precision}"
                rows.append({"step": name, "milliseconds for a batch": 1e3 * wait, "share of the run": share})
    return rows


def grow(given: Namespace) -> list[dict[str, Any]]:
    """Seconds and memory for each megapixel of a batch, at several sizes."""
    device, perceptual, precision = choose_device(given.device, None), given.perceptual[0], given.precision[0]
    ways: dict[str, Callable[[], object]] = {}
    for size in given.grow:
        batch, ours = make_batch(given, size, device), Ours(given, perceptual, precision, size)
        ours.prepare(batch)
        ways[str(size)] = lambda ours=ours, batch=batch: ours.step(batch)  # type: ignore[misc]
    found = alternate(ways, given.steps, device)
    rows = []
    for size in given.grow:
        millions = given.batch * size**2 / 1e6
        row = {"pixels": f"{given.batch} x {size} x {size}", "seconds": middle(found[str(size)])}
        row["seconds/megapixel"] = row["seconds"] / millions
        for name, more in (("MB/megapixel", []), ("with training.recompute", ["training.recompute=true"])):
            if given.memory:
                settings = {"size": size, "options": [*given.options, *more]}
                peak = peak_memory(run_alone, Namespace(**vars(given) | settings), f"ours, {perceptual}, {precision}")
                row[name] = f"{peak / millions:.0f}"
        rows.append(row)
    return rows


def memory(given: Namespace) -> list[dict[str, Any]]:
    """MB for each megapixel of a batch with each setting that saves memory, and each way."""
    millions, rows = given.batch * given.size**2 / 1e6, []
    for setting in _SAVINGS:
        options = Namespace(**vars(given) | {"options": [*given.options, *([setting] if setting else [])]})
        row = {"setting": setting or "none"}
        for perceptual in given.perceptual:
            for precision in given.precision:
                name = f"ours, {perceptual}, {precision}"
                row[name.removeprefix("ours, ")] = f"{peak_memory(run_alone, options, name) / millions:.0f}"
        rows.append(row)
    return rows


def _steps(given: Namespace, batch: Batch, found: dict[str, Any]) -> list[str]:
    found["steps"] = compare_steps(given, batch)
    return [markdown(found["steps"])]


def _parts(given: Namespace, batch: Batch, found: dict[str, Any]) -> list[str]:
    names = dict.fromkeys(["float32", *given.precision])
    ceilings = found["ceilings"] = {name: ceiling(batch.content.device, getattr(torch, name)) for name in names}
    found["parts"] = by_part(given, batch, ceilings)
    found["perceptual share"] = perceptual_shares(found["parts"])
    shares = ", ".join(f"{name} {share:.0%}" for name, share in found["perceptual share"].items())
    tops = ", ".join(f"{name} {top / 1e9:.0f}" for name, top in ceilings.items())
    return [
        f"Ceilings, GFLOP/s: {tops}",
        markdown(found["parts"]),
        f"The perceptual network's share of the step: {shares}.",
    ]


def _waiting(given: Namespace, batch: Batch, found: dict[str, Any]) -> list[str]:
    found["waiting"] = waiting(given)
    return [markdown(found["waiting"])]


def _losses(given: Namespace, batch: Batch, found: dict[str, Any]) -> list[str]:
    found["losses"] = compare_losses(given, batch)
    return ["Losses, ours in float32 beside the plain step's:", markdown(found["losses"])]


def _memory(given: Namespace, batch: Batch, found: dict[str, Any]) -> list[str]:
    found["memory"] = memory(given)
    return ["MB/megapixel:", markdown(found["memory"])]


_SECTIONS = {"steps": _steps, "parts": _parts, "waiting": _waiting, "losses": _losses, "memory": _memory}


def main() -> None:
    given = arguments()
    if given.threads:
        torch.set_num_threads(given.threads)
    device = choose_device(given.device, None)
    found: dict[str, Any] = {"machine": machine(device), "size": given.size, "batch": given.batch}
    told = [f"{found['machine']}; {given.size} px, batch {given.batch}, generator {given.generator}"]
    if given.grow:
        found["growth"] = grow(given)
        told.append(markdown(found["growth"]))
    else:
        batch = make_batch(given, given.size, device)
        for what in given.what:
            print(f"measuring {what} ...", flush=True)
            told += _SECTIONS[what](given, batch, found)
    print("\n\n".join(told))
    if given.markdown:
        write_bytes(given.markdown, ("\n\n".join(told) + "\n").encode())
    if given.json:
        write_bytes(given.json, json.dumps(found, indent=1).encode())


def arguments() -> Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5, help="of each way, after one to warm up")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; 0 for torch's choice")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--generator", default="resnet", choices=("resnet", "slim"))
    parser.add_argument(
        "--precision", nargs="+", default=["float32", "bfloat16"], choices=("float32", "bfloat16", "float16")
    )
    parser.add_argument("--perceptual", nargs="+", default=["vgg19", "compact"], choices=("vgg19", "compact"))
    parser.add_argument("--weights", help="VGG-19's file; random weights without it")
    parser.add_argument("--option", dest="options", action="append", default=[], help="of gan-style train: NAME=VALUE")
    parser.add_argument("--what", nargs="+", default=list(_SECTIONS), choices=list(_SECTIONS), help="to measure")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True, help="measure peaks, too")
    parser.add_argument("--grow", type=int, nargs="*", default=[], metavar="SIZE", help="growth at these sizes instead")
    parser.add_argument("--json", type=Path, help="where the numbers go, too")
    parser.add_argument("--markdown", type=Path, help="where the tables go, too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
