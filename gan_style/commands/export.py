"""``gan-style export``: a model as a file for other programs, or a page for browsers, verified beside its generator."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from gan_style import __version__
from gan_style.cli import command
from gan_style.config import plain
from gan_style.data.pictures import find_pictures
from gan_style.export.formats import FLOAT32, INT8, PRECISIONS, TORCH_SUFFIX, check_installed, to_onnx, to_torch
from gan_style.export.graph import FLOAT, UINT8, ExportedGenerator
from gan_style.export.verify import (
    calibration_feeds,
    check_bounds,
    compare,
    conditions_of,
    generator_paint,
    onnx_paint,
    torch_paint,
)
from gan_style.export.web import DESCRIPTION, read_runtime, write_page
from gan_style.models.library import LibraryGenerator, OneStyle, condition_of
from gan_style.options import Runtime, as_typed, option
from gan_style.runtime.device import choose_device
from gan_style.runtime.files import ensure_writable, file_hash, write_bytes
from gan_style.runtime.provenance import check_replaceable, result_mark
from gan_style.stylize.controls import mixture
from gan_style.stylize.model import description_of, find_generator, load_generator, step_of
from gan_style.stylize.onnx_model import ONNX_SUFFIX, OnnxModel

ONNX, TORCH, WEB = "onnx", "torch", "web"
SUFFIXES = {ONNX: ONNX_SUFFIX, TORCH: TORCH_SUFFIX, WEB: ""}  # a page is a folder


@dataclass(kw_only=True)
class ExportRuntime(Runtime):
    """web: a folder with the runtime of format=web."""

    web: str | None = option(path=True)


@dataclass(kw_only=True)
class ExportOptions:
    checkpoint: str = option(path=True)
    style: Any = option(path=True)
    output: str = option(path=True)
    format: str = option(choices=tuple(SUFFIXES))
    precision: str = option(choices=PRECISIONS)
    input: str = option(choices=(FLOAT, UINT8))
    photos: Any = option(path=True)
    calibration: Any = option(path=True)
    overwrite: bool
    runtime: ExportRuntime


@command("export", ExportOptions)
def main(cfg: DictConfig) -> None:
    """Write a model as a file that other programs run, and compare it with its generator at once.

    A file that differs by more than its precision allows is not written.
    """
    # What is asked for, and whether it can be had.
    output = Path(cfg.output).expanduser()
    if cfg.format == WEB and output.exists() and not output.is_dir():
        raise ValueError(f"output={cfg.output}: format=web writes a folder, and this is a file")
    if cfg.format != WEB and output.suffix != SUFFIXES[cfg.format]:
        raise ValueError(f"output={cfg.output}: a file of format={cfg.format} ends in {SUFFIXES[cfg.format]}")
    if cfg.precision == INT8 and cfg.calibration is None:
        raise ValueError("precision=int8 needs calibration=FOLDER: photos on which ranges of activations are measured")
    if cfg.format == TORCH and cfg.precision != FLOAT32:
        raise ValueError(f"precision={cfg.precision}: of format=torch only float32; format=onnx has the others")
    if cfg.format == WEB and cfg.input != FLOAT:
        raise ValueError(f"input={cfg.input}: the page of format=web takes only float")
    if cfg.format != TORCH:
        check_installed()
    photos = find_pictures(plain(cfg.photos), "photos")
    calibration = find_pictures(plain(cfg.calibration), "calibration") if cfg.precision == INT8 else []
    choose_device(cfg.runtime.device, cfg.runtime.threads)
    if SUFFIXES[cfg.format] and output.is_dir():
        raise ValueError(f"output={cfg.output} is a folder; give a file's name")

    # The model, with all of its styles or with a mixture of them.
    style = plain(cfg.style)
    source = find_generator(Path(cfg.checkpoint).expanduser())
    generator = load_generator(source, torch.device("cpu"))
    fixed, mix, painter = None, {}, generator
    if style is not None:
        if not isinstance(generator, LibraryGenerator):
            raise ValueError(f"style={as_typed(style)}: this model has no styles with names")
        mix = mixture(style, generator.styles)
        fixed = condition_of(generator.styles, mix)
        painter = OneStyle(generator, fixed)
    network = ExportedGenerator(generator, cfg.input, fixed)
    if cfg.format == WEB and network.takes_reference:
        raise ValueError(f"checkpoint={cfg.checkpoint}: format=web takes models with styles; this one takes pictures")

    # Only a result of the same command is written over.
    settings = {
        "checkpoint": file_hash(source),
        "style": mix,
        "format": cfg.format,
        "precision": cfg.precision,
        "input": cfg.input,
        "calibration": [file_hash(path) for path in calibration],
    }
    mark = result_mark("export", settings)
    marked = output / DESCRIPTION if (output / DESCRIPTION).is_file() else output
    is_empty = output.is_dir() and not any(output.iterdir())
    check_replaceable([] if is_empty else [(marked, lambda: mark)], overwrite=cfg.overwrite)
    ensure_writable(output.parent, "output")
    runtime = read_runtime(cfg.runtime.web and Path(cfg.runtime.web).expanduser()) if cfg.format == WEB else {}

    # The file's content, compared before it is written.
    description = _description(source, network, cfg.precision, mix) | {"result": mark}
    if cfg.format == TORCH:
        content = to_torch(network, description)
        exported = torch_paint(content, network.pixels)
    else:
        content = to_onnx(
            network, description, precision=cfg.precision, calibration=calibration_feeds(network, calibration)
        )
        exported = onnx_paint(OnnxModel(content, threads=torch.get_num_threads()))
    differences = compare(generator_paint(painter), exported, photos, conditions_of(network))
    print(differences, flush=True)
    check_bounds(cfg.precision, differences)
    if cfg.format == WEB:
        write_page(output, content, description, runtime)
        print(f"{output}: a page; any web server can serve it, also: python -m http.server -d {output}")
        return
    write_bytes(output, content)
    print(f"{output}: {len(content) / 1e6:.2f} MB, {cfg.precision}, inputs {', '.join(network.inputs)}")


def _description(source: Path, network: ExportedGenerator, precision: str, mix: Mapping[str, float]) -> dict[str, Any]:
    """Describe an exported file for its metadata: its inputs, and where it comes from."""
    content = description_of(source)
    generator = content["generator"] if source.suffix == ".pt" else content
    origin = content.get("provenance") or {}
    return {
        "gan_style": __version__,
        "class": generator["class"],
        "checkpoint": file_hash(source),
        "step": step_of(source),
        "style": mix or (None if network.styles else origin.get("style")),
        "styles": list(network.styles),
        "about": content.get("about", {}),
        "inputs": list(network.inputs),
        "input": network.pixels,
        "precision": precision,
        **({"side": network.side} if network.side else {}),
        "provenance": origin,
    }


if __name__ == "__main__":
    main()
