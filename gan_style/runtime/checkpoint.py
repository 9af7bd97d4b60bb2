"""Checkpoints and generator files: saved whole or not at all, loaded without running anything they contain."""

import errno
import hashlib
import io
import json
import math
import pickle
import re
import shutil
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gan_style.runtime.files import file_hash, remove_leftovers, write_bytes, write_durably
from gan_style.runtime.machine import first_line

FORMAT = "gan_style.checkpoint/1"
GENERATOR_FORMAT = "gan_style.generator/1"
GENERATOR_FILE = "generator.safetensors"  # in a run's folder
BEST_FILE, MANIFEST_FILE = "best.pt", "manifest.json"  # among the checkpoints
_SPARE = 16_000_000  # bytes that a full disk should have left, for logs and samples
# what torch.load and zipfile raise for a file that is cut, changed or something else
_LOAD_ERRORS = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, NotImplementedError),
    *(pickle.UnpicklingError, zipfile.BadZipFile, zlib.error),
)
_NAME = re.compile(r"step_(\d{8,})\.pt")


@dataclass
class CheckpointFolder:
    """The checkpoints of one run, ``step_00001000.pt`` and so on, beside ``best.pt`` and a manifest of their sha256.

    The last ``keep`` are kept, and every one whose step is a multiple of ``keep_every`` (None: no more). When one is
    saved, training/supervisor.py decides.
    """

    folder: Path
    keep: int = 3
    keep_every: int | None = None

    def paths(self) -> list[Path]:
        """Return all checkpoints, the newest first."""
        paths = [path for path in self.folder.glob("*.pt") if _NAME.fullmatch(path.name)]
        return sorted(paths, key=_step_of, reverse=True)

    def save(self, step: int, content: Mapping[str, Any]) -> Path:
        """Write a checkpoint (plain containers and tensors only), then remove those that are not to be kept.

        ValueError, with all that was there untouched, where the disk has no room for it.
        """
        path = self._write(f"step_{step:08d}.pt", content)
        earlier = [other for other in self.paths() if other != path]  # a damaged one may carry a higher number
        for old in earlier[self.keep - 1 :]:
            if not (self.keep_every and _step_of(old) % self.keep_every == 0):
                old.unlink(missing_ok=True)
        remove_leftovers(self.folder)
        return path

    def save_best(self, content: Mapping[str, Any]) -> Path:
        """Write ``best.pt``, which is kept beside the others and is never resumed from."""
        return self._write(BEST_FILE, content)

    def _write(self, name: str, content: Mapping[str, Any]) -> Path:
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, **content}, buffer)
        data = buffer.getbuffer()
        check_space(self.folder, len(data))
        manifest = {file: entry for file, entry in self._manifest().items() if (self.folder / file).is_file()}
        with disk_full_error(self.folder):
            if manifest.pop(name, None):  # a kill between the two files may leave none with another one's sum
                self._write_manifest(manifest)
            write_durably(self.folder / name, lambda file: file.write(data))
            manifest[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            self._write_manifest(manifest)
        return self.folder / name

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        write_bytes(self.folder / MANIFEST_FILE, json.dumps(manifest, indent=1, sort_keys=True).encode())

    def _manifest(self) -> dict[str, dict[str, Any]]:
        """Read what is known of the files; nothing of a missing or damaged manifest: files carry checksums too."""
        try:
            manifest = json.loads((self.folder / MANIFEST_FILE).read_text())
        except (OSError, ValueError):
            return {}
        manifest = manifest if isinstance(manifest, dict) else {}
        return {name: entry for name, entry in manifest.items() if isinstance(entry, dict)}

    def load_newest(self, warn: Callable[[str], object]) -> tuple[Path, dict[str, Any]] | None:
        """Load the newest checkpoint that can be read; None without any. ``warn`` is told of each damaged one.

        Raises ValueError where there are checkpoints but all are damaged: training never starts over in silence.
        """
        paths = self.paths()
        for path in paths:
            try:
                return path, read_checkpoint(path)
            except ValueError as error:
                warn(f"{error}; trying the one before")
        if paths:
            problem = f"no checkpoint in {self.folder} can be read ({len(paths)} tried)"
            raise ValueError(f"{problem}; remove them to start over")
        return None


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))


def check_space(folder: Path, needed: int) -> None:
    """Raise ValueError where the disk has less room than ``needed`` bytes and a little more."""
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE:
        raise ValueError(_full(folder, f": {needed / 1e6:.4g} MB are needed and {free / 1e6:.4g} MB free"))


@contextmanager
def disk_full_error(folder: Path) -> Iterator[None]:
    """Raise the ValueError of check_space where the disk turns out to be full, or a quota is reached, in the block."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ValueError(_full(folder, "")) from error


def _full(folder: Path, how: str) -> str:
    hint = "make room (fewer training.keep_checkpoints) and run the same command again"
    return f"the disk of {folder} is full{how}; what was saved before is whole: {hint}"


class Background:
    """Does one job at a time in a thread of its own; what a job raises, a later call raises."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._jobs: deque[Future[object]] = deque()

    def submit(self, job: Callable[[], object]) -> None:
        """Line a job up; waits only where two are still to be done, since each holds a copy of the run."""
        while self._jobs and (len(self._jobs) > 1 or self._jobs[0].done()):
            self._jobs.popleft().result()
        self._jobs.append(self._pool.submit(job))

    def wait(self) -> None:
        while self._jobs:
            self._jobs.popleft().result()

    def close(self) -> None:
        """Wait, for the last time."""
        try:
            self.wait()
        finally:
            self._pool.shutdown()


def on_host(content: Any) -> Any:
    """Return plain containers with every tensor copied into the host's memory, where training no longer changes it."""
    if isinstance(content, Tensor):
        return content.detach().to("cpu", copy=True)
    if isinstance(content, Mapping):
        return {key: on_host(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(on_host(value) for value in content)
    return content


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content, on the CPU. ValueError for a file that is damaged, foreign, or would run code."""
    try:
        entry = CheckpointFolder(path.parent)._manifest().get(path.name)
        if entry is not None and file_hash(path) != entry.get("sha256"):
            raise ValueError("it differs from its sha256 in manifest.json")
        with zipfile.ZipFile(path) as archive:  # torch.load does not compare the checksums that it writes
            if (member := archive.testzip()) is not None:
                raise ValueError(f"{member} differs from its checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _LOAD_ERRORS as error:
        raise ValueError(f"the checkpoint {path} is damaged or not a checkpoint ({first_line(error)})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"the checkpoint {path} was not written by this version of gan_style ({FORMAT})")
    return content


def write_generator(path: Path, weights: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write a generator as one safetensors file; ``description`` (JSON types) is what it takes to rebuild it."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}
    metadata = {"format": GENERATOR_FORMAT, "description": json.dumps(description)}
    with disk_full_error(path.parent):
        write_bytes(path, _with_sorted_metadata(save(tensors, metadata=metadata)))


def _with_sorted_metadata(file: bytes) -> bytes:
    """Return a safetensors file with its metadata sorted by name; the library's own order is another one each time."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:end])
    header = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + file[end:]


def read_generator(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return (weights, description) of a file by write_generator. ValueError for a damaged or a foreign file."""
    with _open_generator(path) as (file, description):
        return {key: file.get_tensor(key) for key in file.keys()}, description  # noqa: SIM118 (not a mapping)


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return a generator file's description, and how many parameters it holds, without reading them."""
    with _open_generator(path) as (file, description):
        return description, sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118


@contextmanager
def _open_generator(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Open a file by write_generator, with its description. ValueError for a damaged or a foreign file."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file, _description(path, file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ValueError(f"the generator file {path} is damaged or not a safetensors file ({error})") from error


def _description(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if metadata.get("format") != GENERATOR_FORMAT:
        raise ValueError(f"{path} holds no gan_style generator (its format is {metadata.get('format', 'not named')!r})")
    try:
        return dict(json.loads(metadata["description"]))
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} does not say how its generator is rebuilt (its description is damaged)") from error
