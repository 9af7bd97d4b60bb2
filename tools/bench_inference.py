#!/usr/bin/env python3
"""How fast a generator paints, in each setting, beside the same network as stock modules, eager, NCHW and float32.

    python tools/bench_inference.py --sizes 256 512 1024 --rounds 5
    python tools/bench_inference.py --checkpoint runs/monet --sizes 512 --compile --markdown inference.md

All settings take turns within one process; ratios are medians over rounds. "off by" is the mean difference from the
results of the plain network, which has no tone stage, in 8-bit levels, where 1 is the last bit of a picture. --compile
takes a C++ compiler and half a minute. ONNX Runtime is measured where onnxruntime, onnx and onnxscript are installed.
Peaks are a fresh process's.
"""

import argparse
import importlib.util
import json
import tempfile
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_common import alternate, flops, machine, markdown, middle, peak_memory, ratio
from bench_reference import copied
from torch import Tensor, nn

from gan_style.models.generator import ResnetGenerator
from gan_style.models.library import LibraryGenerator, OneStyle
from gan_style.runtime.device import choose_device, compile_network, move_to
from gan_style.runtime.files import write_bytes
from gan_style.stylize.model import load_painter

PLAIN = "plain: NCHW, float32"
Paint = Callable[[Tensor], Tensor]


def alone(one: OneStyle) -> ResnetGenerator:
    """One style of a library as a generator of that style alone: the same operations, one row of scales and shifts."""
    generator = ResnetGenerator(**{name: one.library.arguments[name] for name in ("width", "blocks", "output", "tone")})
    row = LibraryGenerator.shares(one.condition)[0]
    weights = one.library.state_dict()
    if "tones" in weights:
        weights["tones"] = torch.einsum("nk,klc->nlc", one.condition, weights["tones"])
    generator.load_state_dict({name: row @ x if x.ndim == 2 else x for name, x in weights.items()})
    return generator.requires_grad_(False).eval()


def our_generator(given: Namespace, device: torch.device) -> nn.Module:
    """From a checkpoint, or one with random weights, whose speed is a trained one's."""
    if given.checkpoint:
        painter = load_painter(given.checkpoint, device)
        return alone(painter).to(device) if isinstance(painter, OneStyle) else painter
    torch.manual_seed(0)
    return move_to(ResnetGenerator(width=given.width, blocks=given.blocks), device).requires_grad_(False).eval()


def make_pictures(given: Namespace, size: int, device: torch.device) -> Tensor:
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(given.batch, 3, size // 8, size // 8, generator=random) * 2 - 1
    return nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(-1, 1).to(device)


def in_type(generator: nn.Module, dtype: torch.dtype) -> Paint:
    """Weights and all between them in this type."""
    generator = generator.to(dtype)
    return lambda x: generator(x.to(dtype).contiguous(memory_format=torch.channels_last)).float()


def in_onnx(generator: nn.Module, device: torch.device, threads: int, folder: str) -> Paint:
    """As ONNX Runtime runs it, at any size."""
    import onnxruntime  # type: ignore[import-not-found,import-untyped,unused-ignore]

    path = str(Path(folder) / "generator.onnx")
    sides = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    example = torch.zeros(2, 3, 64, 96, device=device)
    torch.onnx.export(generator, (example,), path, dynamo=True, dynamic_shapes=(sides,), verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    providers = ["CUDAExecutionProvider"] * (device.type == "cuda") + ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.cpu().numpy()})[0])


def ways(given: Namespace, device: torch.device, folder: str) -> dict[str, Paint]:
    """Every setting by name; one that this machine cannot do is left out, and said so."""
    found: dict[str, Paint] = {PLAIN: copied(our_generator(given, device)).requires_grad_(False).eval()}
    for name in given.precision:
        found[f"ours: channels_last, {name}"] = in_type(our_generator(given, device), getattr(torch, name))
    for name in given.precision if given.compile else ():
        network = compile_network(our_generator(given, device), option="--compile")
        found[f"ours, compiled, {name}"] = in_type(network, getattr(torch, name))
    missing = [name for name in ("onnxruntime", "onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"ONNX Runtime is left out: {', '.join(missing)} not installed", flush=True)
    else:
        threads = torch.get_num_threads()
        found["ONNX Runtime, float32"] = in_onnx(our_generator(given, device), device, threads, folder)
    return found


@torch.inference_mode()
def measure(given: Namespace, size: int, found: dict[str, Paint], device: torch.device) -> list[dict[str, Any]]:
    """A row for each setting at one size."""
    pictures = make_pictures(given, size, device)
    wanted, millions = found[PLAIN](pictures), pictures[:, 0].numel() / 1e6
    off = {name: (paint(pictures).cpu() - wanted.cpu()).abs().mean().item() * 127.5 for name, paint in found.items()}
    taken = alternate({name: partial(paint, pictures) for name, paint in found.items()}, given.rounds, device)
    peak = {name: peak_memory(run_alone, given, name, size) for name in found if _can_run_alone(given, name)}
    return [
        {
            "size": size,
            "setting": name,
            "times as fast": ratio(taken[PLAIN], taken[name]),
            "pictures/s": given.batch / middle(taken[name]),
            "seconds/megapixel": middle(taken[name]) / millions,
            "off by": off[name],
            "MB/megapixel": f"{peak[name] / millions:.0f}" if name in peak else "",
        }
        for name in found
    ]


def _can_run_alone(given: Namespace, name: str) -> bool:
    return given.memory and (name == PLAIN or name.startswith("ours:"))


@torch.inference_mode()
def run_alone(given: Namespace, name: str, size: int) -> None:
    """One batch in one setting, for its memory."""
    device = choose_device(given.device, None)
    generator = our_generator(given, device)
    paint = copied(generator).eval() if name == PLAIN else in_type(generator, getattr(torch, name.split(", ")[-1]))
    paint(make_pictures(given, size, device))


def main() -> None:
    given = arguments()
    if given.threads:
        torch.set_num_threads(given.threads)
    device = choose_device(given.device, None)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        found = ways(given, device, folder)
        for size in given.sizes:
            rows += measure(given, size, found, device)
            print(f"{size} px: done", flush=True)
    title = f"{machine(device)}; batch {given.batch}"
    with torch.inference_mode():
        pictures = make_pictures(given, 256, device)
        work = flops(partial(our_generator(given, device), pictures)) / pictures[:, 0].numel() * 1e6
    told = f"{title}; {work / 1e9:.0f} GFLOP/megapixel\n\n{markdown(rows)}"
    print(told)
    if given.markdown:
        write_bytes(given.markdown, (told + "\n").encode())
    if given.json:
        write_bytes(given.json, json.dumps({"machine": title, "rows": rows}, indent=1).encode())


def arguments() -> Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024], help="pixels")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="of each setting, after one to warm up")
    parser.add_argument("--checkpoint", help="a run or generator file (of a library FILE#STYLE); else random weights")
    parser.add_argument("--width", type=int, default=32, help="of a generator with random weights")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; 0 for torch's choice")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"], choices=("float32", "bfloat16"))
    parser.add_argument("--compile", action="store_true", help="measure torch.compile, too")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True, help="measure peaks, too")
    parser.add_argument("--json", type=Path, help="where the numbers go, too")
    parser.add_argument("--markdown", type=Path, help="where the table goes, too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
