"""``gan-style styles``: which styles there are, and a sheet of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from gan_style import __version__
from gan_style.cli import command
from gan_style.data.pictures import find_pictures
from gan_style.images.decode import decode, encode, labelled_grid, to_float
from gan_style.images.formats import FORMAT_OF_SUFFIX, known_suffixes
from gan_style.images.metadata import NOTED
from gan_style.options import Runtime, option
from gan_style.runtime.checkpoint import read_header
from gan_style.runtime.device import choose_device
from gan_style.runtime.files import ensure_writable, file_hash, identity, write_bytes
from gan_style.runtime.provenance import check_replaceable, result_mark
from gan_style.stylize.controls import Controls
from gan_style.stylize.model import load_model, open_model, resolve_model, shipped
from gan_style.stylize.paint import paint


@dataclass(kw_only=True)
class StylesOptions:
    checkpoint: str | None = option(path=True)
    sheet: str | None = option(path=True)
    input: str = option(path=True)
    size: int = option(16)
    overwrite: bool
    runtime: Runtime


@command("styles", StylesOptions)
def main(cfg: DictConfig) -> None:
    """List the styles that come with gan_style, or a model's own; with sheet=FILE show them on one picture."""
    sheet = None if cfg.sheet is None else Path(cfg.sheet).expanduser()
    if sheet is not None and sheet.suffix.lower() not in FORMAT_OF_SUFFIX:
        raise ValueError(f"sheet={sheet}: cannot write this kind of picture; known are {known_suffixes()}")
    models = shipped()
    if cfg.checkpoint is not None:
        path = resolve_model([], Path(cfg.checkpoint).expanduser())
        models = {path: open_model(path, torch.device("cpu"))[0].styles}
    if not models:
        raise ValueError("this installation comes without models of its own; give checkpoint=...")
    for path, names in models.items():
        print("\n".join(_describe(path, names)), flush=True)
    if sheet is not None:
        with_styles = [path for path, names in models.items() if names]
        if not with_styles:
            raise ValueError("sheet: this model takes its style from a picture; see gan-style stylize reference=...")
        _write_sheet(cfg, sheet, with_styles)


def _write_sheet(cfg: DictConfig, sheet: Path, models: Sequence[Path]) -> None:
    source = find_pictures(cfg.input, "input")[0]
    if identity(sheet) == identity(source):
        raise ValueError(f"sheet={sheet} is the input itself; results are never written over it")
    settings = {"models": [file_hash(path) for path in models], "input": file_hash(source), "size": cfg.size}
    mark = result_mark("styles", settings)
    check_replaceable([(sheet, lambda: mark)], overwrite=cfg.overwrite, option="sheet")
    ensure_writable(sheet.parent, "sheet")
    device = choose_device(cfg.runtime.device, cfg.runtime.threads)
    photo = decode(source, short_side=cfg.size)
    painted: dict[str, Tensor] = {}  # each style once, by the first of the models that has it
    for path in reversed(models):
        model, _ = load_model(path, device)
        painted |= {name: to_float(paint(model, photo, Controls({name: 1.0}))) for name in model.styles}
    cells = [("photo", to_float(photo)), *painted.items()]
    note = {NOTED: __version__, "command": "styles", "result": mark}
    write_bytes(sheet, encode(labelled_grid(cells, columns=min(len(cells), 5)), sheet.suffix, note=note))
    print(f"sheet: {sheet}")


def _describe(path: Path, names: Sequence[str]) -> Iterator[str]:
    """Yield a line for the model, and one for each of its styles, with what its file says about it."""
    description = read_header(path)[0] if path.suffix == ".safetensors" else {}
    about: dict[str, Any] = description.get("about", {})
    count = f"{len(names)} style{'s' * (len(names) != 1)}"
    summary = count if names else "the style is that of a picture, reference=..."
    yield f"{path.name}  ({summary}, {path.stat().st_size / 1e6:.1f} MB)"
    width = max(map(len, names), default=0) + 2
    yield from (f"  {name:<{width}}{about.get(name, '')}".rstrip() for name in names)


if __name__ == "__main__":
    main()
