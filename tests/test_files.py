"""gan_style/runtime/files.py: a file at its final name is whole, whatever happens to the one who writes it."""

import errno
import hashlib
import os
import random
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import pytest
from PIL import Image
from processes import wait_until

from gan_style.runtime.files import ensure_writable, identity, remove_leftovers, write_bytes, write_durably


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5000], ids=["empty", "a byte", "a megabyte"])
def test_the_content_is_what_was_written(tmp_path: Path, data: bytes) -> None:
    write_bytes(tmp_path / "a.bin", data)
    assert (tmp_path / "a.bin").read_bytes() == data
    assert names(tmp_path) == ["a.bin"]


def test_while_it_is_written_the_old_file_stands_and_the_new_one_is_hidden(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old and long" * 100)

    def write(file: IO[bytes]) -> None:
        file.write(b"half of the n")
        file.flush()
        assert path.read_bytes() == b"old and long" * 100
        assert [name for name in names(tmp_path) if not name.startswith(".")] == ["a.bin"]
        assert len(names(tmp_path)) == 2  # in the same folder, so that the rename stays on one file system

    write_durably(path, write)
    assert path.read_bytes() == b"half of the n" and names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [b"old", None], ids=["over a file", "a new file"])
def test_an_exception_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, old: bytes | None, error: type[BaseException]
) -> None:
    path = tmp_path / "a.bin"
    if old is not None:
        path.write_bytes(old)

    def write(file: IO[bytes]) -> None:
        file.write(b"half")
        raise error("while writing")

    with pytest.raises(error, match="while writing"):
        write_durably(path, write)
    assert {item.name: item.read_bytes() for item in tmp_path.iterdir()} == ({} if old is None else {"a.bin": old})


@pytest.mark.parametrize("hidden", [False, True])
def test_a_full_disk_is_an_oserror_that_names_the_file(tmp_path: Path, hidden: bool) -> None:
    """Also where torch.save hides it behind one of its own."""

    def write(file: IO[bytes]) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            if hidden:
                raise RuntimeError("unexpected pos 20992 vs 20944") from None
            raise

    with pytest.raises(OSError) as failure:
        write_durably(tmp_path / "a.png", write)
    assert failure.value.errno == errno.ENOSPC and failure.value.filename == str(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_rename_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_bytes(tmp_path / "folder", b"data")
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("parent", ["missing", "file"])
def test_a_folder_that_is_none_passes_its_oserror_through(tmp_path: Path, parent: str) -> None:
    (tmp_path / "file").write_bytes(b"data")
    with pytest.raises(OSError, match=parent):
        write_bytes(tmp_path / parent / "a.bin", b"data")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["x" * 255, "画" * 83 + ".png", "é" * 127], ids=["ascii", "three bytes", "two bytes"])
def test_every_name_that_the_system_allows_can_be_written(tmp_path: Path, name: str) -> None:
    assert len(name.encode()) <= 255
    write_bytes(tmp_path / name, b"data")
    assert (tmp_path / name).read_bytes() == b"data"


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only way to see a power failure coming: the order of the calls."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        calls.append("sync folder" if stat.S_ISDIR(status.st_mode) else f"sync {status.st_size} bytes")
        fsync(descriptor)

    def note_replace(source: Path, target: Path) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_bytes(tmp_path / "a.bin", b"12345")
    assert calls == ["sync 5 bytes", "rename", "sync folder"]


def test_two_writers_of_one_file_leave_the_one_or_the_other(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    contents = [bytes([number]) * 200_000 for number in range(4)]
    threads = [threading.Thread(target=write_bytes, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert names(tmp_path) == ["a.bin"]


# Killed

WRITER = """
import hashlib, sys
from itertools import count
from pathlib import Path
from gan_style.runtime.files import write_durably

def write(file, number):
    block = number.to_bytes(8, "big") * 32768
    digest = hashlib.sha256()
    for _ in range(12):  # 3 MB in many small writes
        file.write(block)
        digest.update(block)
    file.write(digest.digest())

for number in count(int(sys.argv[2])):
    write_durably(Path(sys.argv[1]), lambda file: write(file, number))
"""


def number_of_a_whole_file(path: Path) -> int:
    data = path.read_bytes()
    assert len(data) == 12 * 8 * 32768 + 32
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]
    return int.from_bytes(data[:8], "big")


def test_a_process_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path, rng, contents_read = tmp_path / "state.bin", random.Random(0), []
    for start in range(0, 10_000_000, 1_000_000):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(start)]) as writer:
            try:
                wait_until(lambda start=start: path.exists() and number_of_a_whole_file(path) >= start, writer)
                time.sleep(rng.uniform(0, 0.05))
            finally:
                writer.kill()  # SIGKILL: no handler, no clean-up
        contents_read.append(number_of_a_whole_file(path))
    assert contents_read == sorted(set(contents_read))  # each of the ten has got something through
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["state.bin"]


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    stays = ["a.pt", "a.part", ".hidden", ".a.pt"]
    for name in stays:
        (tmp_path / name).write_bytes(b"data")

    def write(file: IO[bytes]) -> None:
        file.write(b"half")
        (remaining,) = (item for item in tmp_path.iterdir() if item.name not in stays)
        os.link(remaining, tmp_path / f".0{remaining.name[1:]}")  # as a process killed here would leave it
        raise Killed

    with pytest.raises(Killed):
        write_durably(tmp_path / "b.pt", write)
    assert len(names(tmp_path)) == len(stays) + 1
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(stays)


# Folders to write into


def test_spellings_of_one_path_are_known_and_a_hard_link_is_another(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "soft").symlink_to("a")
    assert identity(tmp_path / "a") == identity(tmp_path / "soft") == identity(tmp_path / "x" / ".." / "a")
    (tmp_path / "hard").hardlink_to(tmp_path / "a")
    assert identity(tmp_path / "a") != identity(tmp_path / "hard")
    assert identity(tmp_path / "new") == identity(tmp_path / "soft" / ".." / "new")


def test_a_missing_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    ensure_writable(tmp_path / "runs" / "first", "run.folder")
    ensure_writable(tmp_path / "runs" / "first", "run.folder")  # and may be there
    assert (tmp_path / "runs" / "first").is_dir()
    assert names(tmp_path / "runs" / "first") == []


@pytest.mark.parametrize("below", ["file", "file/deeper", "file/even/deeper"])
def test_a_folder_that_cannot_be_made_is_an_error_that_names_the_option(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_bytes(b"data")
    with pytest.raises(ValueError, match=rf"^run\.folder: cannot write into {tmp_path / below} \(\w+"):
        ensure_writable(tmp_path / below, "run.folder")
    assert (tmp_path / "file").read_bytes() == b"data"


def test_a_folder_that_takes_no_files_is_an_error_that_names_the_option() -> None:
    with pytest.raises(ValueError, match=r"^output: cannot write into /proc/self "):
        ensure_writable(Path("/proc/self"), "output")  # not even root may


def test_stylizing_needs_no_fcntl_and_no_signals_of_unix(tmp_path: Path) -> None:
    """As on Windows: the module and two signals are hidden."""
    Image.effect_noise((40, 30), 40).convert("RGB").save(tmp_path / "photo.png")
    program = f"""
import signal, sys
sys.modules["fcntl"] = None
del signal.SIGUSR1, signal.SIGUSR2
import gan_style.commands.train
from gan_style.cli import main
from gan_style.runtime.files import locked
with locked(__import__("pathlib").Path({str(tmp_path)!r})):
    pass
sys.argv = ["gan-style", "stylize", "style=monet", "input={tmp_path}/photo.png", "output={tmp_path}/out.png"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out.png") as result:
        assert result.size == (40, 30)
