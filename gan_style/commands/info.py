"""``gan-style info``: what made a picture, and what is in a generator, a checkpoint or a run's folder."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gan_style.cli import command
from gan_style.commands.compare import read_run_of
from gan_style.config import flat
from gan_style.export.formats import TORCH_SUFFIX, read_description
from gan_style.images.formats import FORMAT_OF_SUFFIX, UnreadablePictureError, is_picture
from gan_style.images.metadata import NOTED, read_note
from gan_style.options import as_typed, listed, option
from gan_style.report.runs import CONFIG_FILE
from gan_style.report.table import on_one_line, short, status_of
from gan_style.runtime.checkpoint import GENERATOR_FILE, CheckpointFolder, read_checkpoint, read_header
from gan_style.runtime.files import file_hash
from gan_style.runtime.provenance import FAILURE_FILE, PROVENANCE_FILE, read_record
from gan_style.stylize.model import of_style
from gan_style.stylize.onnx_model import ONNX_SUFFIX, OnnxModel

_HELD_OUT = ("heldout/content", "heldout/style", "heldout/style_ratio", "heldout/ssim", "heldout/composite")
_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
_cut = partial(on_one_line, longest=200)  # texts may be from foreign hands
Lines = Iterator[tuple[str, str]]


@dataclass(kw_only=True)
class InfoOptions:
    file: Any = option(path=True, many=True, required=True)


@command("info", InfoOptions)
def main(cfg: DictConfig) -> None:
    """Say what made a picture, or what a generator's file, a checkpoint or a run's folder holds.

    Files are given as plain words, gan-style info result.png, or as file=result.png.
    """
    blocks = []
    for path in (of_style(file)[0] for file in listed(cfg.file)):
        rows = list(_rows(path))
        width = max(len(name) for name, _ in rows) + 2
        blocks.append("\n".join([f"{path}", *(f"  {name + ':':<{width}}{text}" for name, text in rows)]))
    print("\n\n".join(blocks))


def _rows(path: Path) -> Lines:
    """Yield a file's facts, by name; ValueError for a foreign one."""
    if not path.exists():
        raise ValueError(f"file={path}: there is no such file or folder")
    if path.is_dir():
        return _run(path)
    kinds = {".safetensors": _generator, ".pt": _checkpoint, ONNX_SUFFIX: _onnx, TORCH_SUFFIX: _torch}
    if path.suffix in kinds:
        return kinds[path.suffix](path)
    if path.name == PROVENANCE_FILE:
        return _provenance(path.parent)
    if path.suffix.lower() in _VIDEO_SUFFIXES:
        return _video(path)
    return _picture(path)


def _video(path: Path) -> Lines:
    if find_spec("av") is None:
        raise ValueError(f"file={path}: videos need PyAV: pip install 'gan_style[video]'")
    from gan_style.video.mux import read_comment

    note = read_comment(path)
    if NOTED not in note:
        raise ValueError(f"file={path}: this video does not say what made it")
    yield "kind", "a video made by gan_style"
    yield from _items(note)


def _picture(path: Path) -> Lines:
    try:
        note = read_note(path)
    except UnreadablePictureError as error:
        if is_picture(path):
            raise
        allowed = "a picture, a video, a model (.safetensors, .onnx, .pt2), a checkpoint (.pt) or a run's folder"
        raise ValueError(f"file={path}: not {allowed}") from error
    if note is None:
        kind = FORMAT_OF_SUFFIX.get(path.suffix.lower())
        hint = "; files of this kind hold none" if kind is not None and not kind.metadata else ""
        raise ValueError(f"file={path}: this picture does not say what made it{hint}")
    yield "kind", "a picture made by gan_style"
    yield from _items(note)


def _items(content: Mapping[str, Any]) -> Lines:
    """Yield what plain containers hold as lines, with dotted names."""
    for name, value in flat(content).items():
        if value is not None:
            yield _cut(name), _cut(as_typed(value))


def _file(path: Path, kind: str, more: str = "") -> Lines:
    yield "kind", kind
    yield "sha256", file_hash(path)
    yield "size", f"{path.stat().st_size / 1e6:.3g} MB{more}"


def _generator(path: Path) -> Lines:
    description, parameters = read_header(path)
    yield from _file(path, "a generator", f", {parameters:,} parameters")
    yield from _items(description)


def _onnx(path: Path) -> Lines:
    model = OnnxModel(path)
    yield from _file(path, "an exported model (ONNX)")
    yield "inputs", ", ".join(model.inputs)
    yield from _items(model.description)


def _torch(path: Path) -> Lines:
    yield from _file(path, "an exported model (torch.export)")
    yield from _items(read_description(path))


def _checkpoint(path: Path) -> Lines:
    content = read_checkpoint(path)
    yield from _file(path, "a checkpoint")
    for name, weights in content["state"]["networks"].items():
        yield f"parameters of {_cut(name)}", f"{sum(tensor.numel() for tensor in weights.values()):,}"
    yield "step", str(content["state"]["step"])
    for part in ("generator", "lowest", "provenance"):
        if content.get(part) is not None:
            yield from _items({part: content[part]})
    yield from _items({"config": content.get("config", {})})


def _run(folder: Path) -> Lines:
    parts = (CONFIG_FILE, GENERATOR_FILE, PROVENANCE_FILE, FAILURE_FILE, "checkpoints")
    if not any((folder / part).exists() for part in parts):
        raise ValueError(f"file={folder}: not a run's folder ({CONFIG_FILE}, {GENERATOR_FILE} ... are not there)")
    run = read_run_of(folder)
    yield "kind", "a run's folder"
    yield "status", _cut(status_of(run))
    for problem in run.problems:
        yield "warning", _cut(problem)
    for name in _HELD_OUT:
        if (value := run.last(name)) is not None:
            yield name, short(value)
    checkpoints = CheckpointFolder(folder / "checkpoints").paths()
    yield "checkpoints", ", ".join(path.name for path in reversed(checkpoints)) or "none"
    if run.generator is not None:
        yield "generator", f"{run.generator.parameters:,} parameters, after step {run.generator.step}"
        yield "sha256", file_hash(folder / GENERATOR_FILE)
    yield from _provenance(folder)


def _provenance(folder: Path) -> Lines:
    """Return the entries of provenance.json, the last one in full."""
    entries = read_record(folder)
    if not entries:
        yield "provenance", f"none ({PROVENANCE_FILE} is not there, or damaged)"
        return
    for entry in entries[:-1]:
        git = entry.get("git")
        commit = git.get("commit") if isinstance(git, dict) else None
        yield "before", _cut(f"from step {entry.get('from_step')}: gan_style {entry.get('gan_style')}, {commit}")
    yield from _items(entries[-1])


if __name__ == "__main__":
    main()
