"""Checkpoints and generator files: saved whole or not at all, loaded without running anything they contain."""

import json
import pickle
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gan_style.files import remove_leftovers, write_bytes, write_durably

FORMAT = "gan_style.checkpoint/1"
GENERATOR_FORMAT = "gan_style.generator/1"
GENERATOR_FILE = "generator.safetensors"  # in a run's folder
BEST_FILE = "best.pt"  # among the checkpoints
# what torch.load and zipfile raise for a file that is cut, changed or something else
_LOAD_ERRORS = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, NotImplementedError),
    *(pickle.UnpicklingError, zipfile.BadZipFile, zlib.error),
)
_NAME = re.compile(r"step_(\d{8,})\.pt")


@dataclass
class CheckpointFolder:
    """The checkpoints of one run, ``step_00001000.pt`` and so on; the last ``keep`` of them are kept."""

    folder: Path
    keep: int = 3

    def paths(self) -> list[Path]:
        """All checkpoints, the newest first."""
        found = [(int(match[1]), path) for path in self.folder.glob("*.pt") if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found, reverse=True)]

    def save(self, step: int, content: Mapping[str, Any]) -> Path:
        """Write a checkpoint (plain containers and tensors only), then remove those beyond ``keep``."""
        path = self.folder / f"step_{step:08d}.pt"
        write_durably(path, lambda file: torch.save({"format": FORMAT, **content}, file))
        others = [other for other in self.paths() if other != path]  # a damaged one may carry a higher number
        for old in others[self.keep - 1 :]:
            old.unlink(missing_ok=True)
        remove_leftovers(self.folder)
        return path

    def save_best(self, content: Mapping[str, Any]) -> Path:
        """Write ``best.pt``, which is kept beside the others and is never resumed from."""
        path = self.folder / BEST_FILE
        write_durably(path, lambda file: torch.save({"format": FORMAT, **content}, file))
        return path

    def load_newest(self, warn: Callable[[str], object]) -> tuple[Path, dict[str, Any]] | None:
        """The newest checkpoint that can be read; None where there is none. ``warn`` is told of each damaged one.

        Raises ValueError where there are checkpoints but all are damaged: training never starts over in silence.
        """
        paths = self.paths()
        for path in paths:
            try:
                return path, read_checkpoint(path)
            except ValueError as error:
                warn(f"{error}; trying the one before")
        if paths:
            raise ValueError(
                f"no checkpoint in {self.folder} can be read ({len(paths)} tried); remove them to start over"
            )
        return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU. ValueError for a file that is damaged, foreign, or would run code."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not compare the checksums that it writes
            if (member := archive.testzip()) is not None:
                raise ValueError(f"{member} differs from its checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _LOAD_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"the checkpoint {path} is damaged or not a checkpoint ({reason})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"the checkpoint {path} was not written by this version of gan_style ({FORMAT})")
    return content


def write_generator(path: Path, weights: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write a generator as one safetensors file; ``description`` (JSON types) is what it takes to rebuild it."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}
    metadata = {"format": GENERATOR_FORMAT, "description": json.dumps(description)}
    write_bytes(path, save(tensors, metadata=metadata))


def read_generator(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(weights, description) of a file by write_generator. ValueError for a damaged or a foreign file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError, ValueError) as error:
        raise ValueError(f"the generator file {path} is damaged or not a safetensors file ({error})") from error
    if metadata.get("format") != GENERATOR_FORMAT:
        raise ValueError(f"{path} holds no gan_style generator (its format is {metadata.get('format', 'not named')!r})")
    try:
        return weights, dict(json.loads(metadata["description"]))
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} does not say how its generator is rebuilt (its description is damaged)") from error
