"""Files that must last: written whole or not at all (see the protocol in ARCHITECTURE.md)."""

import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

_SYNCS = 16  # files that are synced at a time: a disk takes them together


def write_durably(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let ``write`` fill a temporary file in the target's own folder, fsync it, and rename it onto the target.

    A reader, or a process killed at any moment, sees the old file or the new one, never a part. OSError passes through
    with the old file intact and no temporary file left.
    """
    temporary = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
            error = error.__context__  # of torch.save, which hides it behind one of its own
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    sync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    write_durably(path, lambda file: file.write(data))


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8; bytes of a file's name that are no text (surrogates) are written as \\udcNN."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, content: Mapping[str, Any], *, allow_nan: bool = True) -> None:
    write_bytes(path, json.dumps(dict(content), indent=1, allow_nan=allow_nan).encode() + b"\n")


def file_hash(path: Path) -> str:
    """Return the sha256 of a file, as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identity(path: Path) -> object:
    """Return what is equal for all spellings of one path: through links, or in other capitals where these are one.

    A hard link is another path: replacing it leaves the file.
    """
    whole = path.resolve()
    try:
        status = whole.stat()
    except OSError:
        return whole
    return (status.st_dev, status.st_ino) if status.st_nlink == 1 else whole


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last (Windows, which cannot open a folder, does so by itself)."""
    if os.name != "nt":
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class AtomicFileGroup:
    """Several files that are written one by one and appear at once: synced and renamed by ``commit``, folder by folder.

    Each is whole or not at all, by the same rule as in write_durably, with one sync of a folder for all its files.
    ``token`` names the writer; ``remove`` removes what a dead writer of that token has left.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self._targets: dict[Path, Path] = {}

    def open(self, target: Path) -> IO[bytes]:
        """Return the temporary file of a target, to be written and closed; its folder is made, and lasts."""
        ensure_folder(target.parent)
        self._targets[target] = _of(self.token, target)
        return open(self._targets[target], "wb")

    def write(self, target: Path, data: bytes) -> None:
        with self.open(target) as file:
            file.write(data)

    def commit(self) -> None:
        """Put all files at their final names, for good."""
        with ThreadPoolExecutor(_SYNCS) as pool:
            list(pool.map(_sync, self._targets.values()))
        for target, temporary in self._targets.items():
            os.replace(temporary, target)
        for folder in {target.parent for target in self._targets}:
            sync_folder(folder)
        self._targets.clear()

    def discard(self) -> None:
        for temporary in self._targets.values():
            temporary.unlink(missing_ok=True)
        self._targets.clear()

    @staticmethod
    def remove(token: str, targets: Iterable[Path]) -> None:
        """Remove a writer's temporary files for these targets."""
        for target in targets:
            _of(token, target).unlink(missing_ok=True)


def _of(token: str, target: Path) -> Path:
    digest = hashlib.blake2b(os.fsencode(target.name), digest_size=8).hexdigest()
    return target.parent / f".{token}-{digest}.part"


def ensure_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they last."""
    if not folder.is_dir():
        ensure_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed process left behind."""
    for path in folder.glob(".*.part"):
        path.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, option: str = "run.name") -> Iterator[None]:
    """Have a folder to ourselves; ValueError where another living process has it. A dead process holds nothing.

    option: what another folder is chosen by.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"another process works in {folder}; wait for it or choose another {option}") from None
    try:
        yield
    finally:
        lock.release()


def check_place(folder: Path, option: str) -> None:
    """Raise ValueError, naming the option, where the folder plainly cannot be made; nothing is written."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{option}: cannot write into {folder} ({existing} is not a folder that can be written to)")


def ensure_writable(folder: Path, option: str) -> None:
    """Make the folder, or raise ValueError, naming the option, where it cannot be made or written into."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        files = [place for place in (folder, *folder.parents) if place.is_file()]
        reason = f"there is a file, {files[0]}" if files else error.strerror or error
        raise ValueError(f"{option}: cannot write into {folder} ({reason})") from error
