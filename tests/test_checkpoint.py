"""Checkpoints (runtime/checkpoint.py): what is kept, fallen back to and refused, full disks, background writes."""

import errno
import hashlib
import io
import json
import os
import pickle
import random
import re
import shutil
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_style.runtime import files
from gan_style.runtime.checkpoint import (
    FORMAT,
    Background,
    CheckpointFolder,
    on_host,
    read_checkpoint,
    read_generator,
    write_generator,
)


def content(step: int) -> dict[str, Any]:
    return {"state": {"step": step, "weights": torch.full((50,), float(step))}}


def folder_with(folder: Path, *steps: int, **options: Any) -> CheckpointFolder:
    checkpoints = CheckpointFolder(folder, **({"keep": 10} | options))
    for step in steps:
        checkpoints.save(step, content(step))
    return checkpoints


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def steps_of(checkpoints: CheckpointFolder) -> list[int]:
    return [int(path.stem.removeprefix("step_")) for path in checkpoints.paths()]


# What is kept


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = {
        "tensors": {dtype: torch.arange(6).to(getattr(torch, dtype)) for dtype in ("float32", "bfloat16", "int64")},
        "random": torch.get_rng_state(),
        "plain": [1, 2.5, "three", None, True, (4, 5), {"six": {7: 8}}],
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    path = CheckpointFolder(tmp_path).save(3, saved)
    actual = read_checkpoint(path)
    assert actual["plain"] == saved["plain"]
    assert torch.equal(actual["random"], saved["random"])
    assert torch.equal(actual["parameter"], saved["parameter"])
    for dtype, tensor in saved["tensors"].items():
        assert actual["tensors"][dtype].dtype == tensor.dtype
        assert torch.equal(actual["tensors"][dtype], tensor)


def test_newest_is_by_step_and_not_by_name_or_date(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 99_999_999, 5, 100_000_000, 3_000)
    assert steps_of(checkpoints) == [100_000_000, 99_999_999, 3_000, 5]


def test_other_files_in_the_folder_are_neither_listed_nor_removed(tmp_path: Path) -> None:
    others = ["best.pt", "step_1.pt", "step_00000007.pt.bak", "my_step_00000008.pt", "step_00000009.txt"]
    for name in others:
        (tmp_path / name).write_bytes(b"mine")
    checkpoints = folder_with(tmp_path, 1, 2, 3, keep=1)
    assert steps_of(checkpoints) == [3]
    assert {path.name for path in tmp_path.iterdir()} == {*others, "step_00000003.pt", "manifest.json"}


def test_saving_clears_away_what_a_killed_save_has_left(tmp_path: Path) -> None:
    (tmp_path / ".step_00000001.pt.0123456789abcdef.part").write_bytes(b"half")
    folder_with(tmp_path, 2)
    assert sorted(snapshot(tmp_path)) == ["manifest.json", "step_00000002.pt"]


def test_a_save_that_fails_leaves_all_that_was_there(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 1, 2, keep=2)
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        checkpoints.save(3, {"state": lambda: None})  # a function cannot be pickled
    assert sorted(snapshot(tmp_path)) == ["manifest.json", "step_00000001.pt", "step_00000002.pt"]
    assert checkpoints.load_newest(pytest.fail)[1]["state"]["step"] == 2


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_one_just_saved_is_never_the_one_removed(tmp_path: Path, keep: int) -> None:
    """A run that fell back from damaged checkpoints saves at lower steps than theirs."""
    folder_with(tmp_path, 10)
    for step in (20, 30, 40):
        (tmp_path / f"step_{step:08d}.pt").write_bytes(b"damaged")
    path = CheckpointFolder(tmp_path, keep=keep).save(15, content(15))
    assert path.exists()
    assert read_checkpoint(path)["state"]["step"] == 15


# What is fallen back to


def test_an_empty_or_missing_folder_has_no_newest(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path).load_newest(pytest.fail) is None
    assert CheckpointFolder(tmp_path / "missing").load_newest(pytest.fail) is None


def test_two_damaged_ones_are_both_named_and_the_third_is_loaded(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 10, 20, 30)
    (tmp_path / "step_00000030.pt").write_bytes(b"")
    (tmp_path / "step_00000020.pt").write_bytes(random.Random(0).randbytes(500))
    warnings: list[str] = []
    assert checkpoints.load_newest(warnings.append)[1]["state"]["step"] == 10
    assert [re.search(r"step_\d+", text)[0] for text in warnings] == ["step_00000030", "step_00000020"]


def test_all_damaged_is_an_error_and_never_a_fresh_start(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 10, 20)
    for path in checkpoints.paths():
        path.write_bytes(path.read_bytes()[:100])
    warnings: list[str] = []
    with pytest.raises(ValueError, match=rf"no checkpoint in {tmp_path} can be read \(2 tried\)"):
        checkpoints.load_newest(warnings.append)
    assert len(warnings) == 2


def test_any_garbage_is_a_value_error_that_names_the_file(tmp_path: Path) -> None:
    rng, path = random.Random(0), tmp_path / "step_00000001.pt"
    for start in (b"", b"\x80\x02", b"PK\x03\x04"):
        for _ in range(60):
            path.write_bytes(start + rng.randbytes(rng.randrange(200)))
            with pytest.raises(ValueError, match=re.escape(str(path))):
                read_checkpoint(path)


def test_a_missing_checkpoint_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"step_00000001\.pt"):
        read_checkpoint(tmp_path / "step_00000001.pt")


# What is refused


class Malicious:
    """Makes a file when it is unpickled, as an attacker's checkpoint would."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


WRITERS = {
    "zip": torch.save,
    "legacy": partial(torch.save, _use_new_zipfile_serialization=False),
    "bare pickle": lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2)),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_checkpoint_that_would_run_code_is_refused_and_nothing_has_run(tmp_path: Path, kind: str) -> None:
    marker, path = tmp_path / "marker", tmp_path / "step_00000001.pt"
    WRITERS[kind]({"format": FORMAT, "state": Malicious(marker)}, path)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_checkpoint(path)
    assert not marker.exists()


def test_the_attack_of_these_tests_does_work_where_code_is_let_run(tmp_path: Path) -> None:
    torch.save({"state": Malicious(tmp_path / "marker")}, tmp_path / "a.pt")
    torch.load(tmp_path / "a.pt", weights_only=False)["state"].close()
    assert (tmp_path / "marker").exists()


def test_a_generator_file_that_is_a_pickle_is_refused_and_nothing_has_run(tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    WRITERS["bare pickle"](Malicious(tmp_path / "marker"), path)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_generator(path)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "foreign",
    [{"state_dict": {"w": torch.ones(1)}}, {"format": "gan_style.checkpoint/0"}, [1, 2], torch.ones(3), None],
    ids=["another project's", "another version's", "a list", "a tensor", "nothing"],
)
def test_a_foreign_checkpoint_is_refused(tmp_path: Path, foreign: object) -> None:
    path = tmp_path / "model.pt"
    torch.save(foreign, path)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} was not written by this version.*{FORMAT}"):
        read_checkpoint(path)


# The manifest, damages, and full disks


class TestManifest:
    def test_tells_of_every_file_its_size_and_sum(self, tmp_path):
        checkpoints = folder_with(tmp_path, 10, 20)
        checkpoints.save_best(content(10))
        assert sorted(manifest(tmp_path)) == ["best.pt", "step_00000010.pt", "step_00000020.pt"]
        for name, entry in manifest(tmp_path).items():
            data = (tmp_path / name).read_bytes()
            assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def test_forgets_what_has_gone(self, tmp_path):
        checkpoints = folder_with(tmp_path, 10, 20, 30, keep=1)
        assert steps_of(checkpoints) == [30]
        checkpoints.save(40, content(40))
        assert "step_00000010.pt" not in manifest(tmp_path) and "step_00000040.pt" in manifest(tmp_path)

    def test_follows_a_checkpoint_that_is_written_anew(self, tmp_path):
        """As after going back."""
        checkpoints = folder_with(tmp_path, 10, 20)
        checkpoints.save(20, content(21))
        assert checkpoints.load_newest(pytest.fail)[1]["state"]["step"] == 21

    def test_never_has_another_ones_sum_for_a_whole_file(self, tmp_path, monkeypatch):
        """Killed after the one or the other of the writes that make up a save, at every point."""
        checkpoints = CheckpointFolder(tmp_path)
        replace = os.replace
        for survived in range(4):
            checkpoints.save(10, content(10))
            done = []

            def killed(source, target, survived=survived, done=done):
                if len(done) == survived:
                    raise KeyboardInterrupt
                done.append(replace(source, target))

            with monkeypatch.context() as patch:
                patch.setattr(files.os, "replace", killed)
                if survived < 3:
                    with pytest.raises(KeyboardInterrupt):
                        checkpoints.save(10, content(11 + survived))
                else:
                    checkpoints.save(10, content(14))
            checkpoints.load_newest(pytest.fail)

    @pytest.mark.parametrize("text", [None, "", "{", "[1]", '"a"', "null", '{"step_00000010.pt": 3}', "\x00" * 50])
    def test_itself_damaged_or_missing_costs_no_checkpoint(self, tmp_path, text):
        """The files carry checksums of their own."""
        checkpoints = folder_with(tmp_path, 10)
        (tmp_path / "manifest.json").unlink() if text is None else (tmp_path / "manifest.json").write_text(text)
        assert checkpoints.load_newest(pytest.fail)[1]["state"]["step"] == 10
        checkpoints.save(20, content(20))
        assert manifest(tmp_path).keys() == {"step_00000020.pt"}


def flipped(place: float) -> Any:
    def flip(data: bytes) -> bytes:
        at = min(int(place * len(data)), len(data) - 1)
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return flip


def of_version(name: str) -> bytes:
    torch.save({"format": name, "state": {"step": 30}}, buffer := io.BytesIO())
    return buffer.getvalue()


DAMAGES = {
    "first byte flipped": flipped(0.0),
    "a byte of the header flipped": flipped(0.1),
    "a middle byte flipped": flipped(0.5),
    "a late byte flipped": flipped(0.9),
    "last byte flipped": flipped(1.0),
    "cut to a half": lambda data: data[: len(data) // 2],
    "cut by a byte": lambda data: data[:-1],
    "a byte too many": lambda data: data + b"\0",
    "empty": lambda data: b"",
    "text": lambda data: b"404 not found",
    "zeros": lambda data: bytes(len(data)),
    "an instruction without its operand": lambda data: b"a.",
    "a missing middle": lambda data: data[:300] + data[900:],
    "of another version": lambda data: of_version("gan_style.checkpoint/9"),
    "another checkpoint under its name": None,
    "missing": None,
}


@pytest.mark.parametrize("manifest_too", [False, True], ids=["with a manifest", "without"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_newest_is_named_and_the_one_before_taken(tmp_path, kind, manifest_too):
    checkpoints = folder_with(tmp_path, 10, 20, 30)
    newest = tmp_path / "step_00000030.pt"
    if kind == "missing":
        newest.unlink()
    elif kind == "another checkpoint under its name":
        shutil.copy(tmp_path / "step_00000010.pt", newest)
    else:
        newest.write_bytes(DAMAGES[kind](newest.read_bytes()))
    if manifest_too:
        (tmp_path / "manifest.json").unlink()
    messages: list[str] = []
    path, actual = checkpoints.load_newest(messages.append)
    if manifest_too and path == newest:  # a whole zip file but for a byte that nothing in it vouches for
        assert kind in ("another checkpoint under its name", "a byte too many") or "flipped" in kind
        assert actual["state"]["step"] in (10, 30)
        return
    assert (path.name, actual["state"]["step"]) == ("step_00000020.pt", 20)
    assert len(messages) == (kind != "missing")
    assert all(str(newest) in message and "trying the one before" in message for message in messages)


class TestKept:
    @pytest.mark.parametrize(
        ("keep", "keep_every", "expected"),
        [
            (1, None, [70]),
            (1, 30, [70, 60, 30]),
            (2, 30, [70, 60, 30]),
            (3, 30, [70, 60, 50, 30]),
            (1, 10, [70, 60, 50, 40, 30, 20, 10]),
            (1, 1000, [70]),
        ],
    )
    def test_are_the_last_ones_and_those_of_every_so_many_steps(self, tmp_path, keep, keep_every, expected):
        checkpoints = folder_with(tmp_path, *range(10, 80, 10), keep=keep, keep_every=keep_every)
        assert steps_of(checkpoints) == expected

    def test_is_the_best_one_and_it_is_never_resumed_from(self, tmp_path):
        checkpoints = CheckpointFolder(tmp_path, keep=1)
        checkpoints.save_best(content(5))
        for step in (10, 20, 30):
            checkpoints.save(step, content(step))
        assert read_checkpoint(tmp_path / "best.pt")["state"]["step"] == 5
        (tmp_path / "step_00000030.pt").unlink()
        assert checkpoints.load_newest(pytest.fail) is None


class TestFullDisk:
    def test_is_seen_before_anything_is_written(self, tmp_path, monkeypatch):
        checkpoints = folder_with(tmp_path, 10, 20)
        before = snapshot(tmp_path)
        monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
        with pytest.raises(
            ValueError, match=rf"the disk of {tmp_path} is full: .* MB are needed .*saved before is whole"
        ):
            checkpoints.save(30, content(30))
        assert snapshot(tmp_path) == before

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    @pytest.mark.parametrize("what", ["fsync", "replace"])
    def test_found_out_in_the_midst_leaves_what_was_there(self, tmp_path, monkeypatch, number, what):
        checkpoints = folder_with(tmp_path, 10, 20)
        before = snapshot(tmp_path)

        def fail(*_: Any) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(files.os, what, fail)
        with pytest.raises(ValueError, match=rf"the disk of {tmp_path} is full; what was saved before is whole"):
            checkpoints.save(30, content(30))
        assert snapshot(tmp_path) == before
        with pytest.raises(ValueError, match="is full"):
            write_generator(tmp_path / "g.safetensors", {"a": torch.ones(3)}, {})

    def test_other_errors_are_told_as_they_are(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
        with pytest.raises(OSError, match="I/O error"):
            CheckpointFolder(tmp_path).save(1, content(1))

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
    def test_a_device_without_room_is_a_full_disk(self, tmp_path, monkeypatch):
        """The real error, from the kernel."""
        checkpoints = folder_with(tmp_path, 10)
        before, real = snapshot(tmp_path), open
        monkeypatch.setattr(files, "open", lambda *_: real("/dev/full", "wb"), raising=False)
        with pytest.raises(ValueError, match=re.escape(f"the disk of {tmp_path} is full; ")):
            checkpoints.save(20, content(20))
        assert snapshot(tmp_path) == before


class TestBackground:
    def test_does_not_keep_the_caller_waiting_and_wait_does(self):
        """Two may be in line (the best and the last checkpoint of one step); a third waits for the first."""
        background, gate, done = Background(), threading.Event(), []

        def job(name: str) -> None:
            gate.wait(10)
            done.append(name)

        for name in ("best", "last"):
            background.submit(lambda name=name: job(name))
        assert done == []
        threading.Timer(0.1, gate.set).start()
        background.submit(lambda: done.append("next"))
        assert done[:1] == ["best"]
        background.wait()
        assert done == ["best", "last", "next"]
        background.close()

    @pytest.mark.parametrize("notice", ["submit", "wait", "close"])
    def test_an_error_in_a_job_surfaces_in_the_next_call_with_its_message(self, notice):
        background = Background()
        background.submit(lambda: (_ for _ in ()).throw(ValueError("the disk of x is full")))
        with pytest.raises(ValueError, match="the disk of x is full"):
            for _ in range(3):  # two may be in line
                background.submit(lambda: None) if notice == "submit" else getattr(background, notice)()
        background.wait()  # told once
        background.close()

    def test_close_waits_and_ends_the_thread(self):
        background, done = Background(), []
        background.submit(lambda: (threading.Event().wait(0.1), done.append(1))[1])
        background.close()
        assert done == [1]
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("checkpoint")]


class TestOnHost:
    def test_is_a_copy_that_training_no_longer_changes(self):
        weights = torch.nn.Parameter(torch.ones(3))
        live = {"a": weights, "b": [torch.zeros(2), (torch.ones(1), "x")], "c": 3, "d": None, "e": {}}
        copied = on_host(live)
        with torch.no_grad():
            weights += 1
            live["b"][0] += 1
            live["b"][1][0].zero_()
        assert torch.equal(copied["a"], torch.ones(3)) and not copied["a"].requires_grad
        assert torch.equal(copied["b"][0], torch.zeros(2)) and torch.equal(copied["b"][1][0], torch.ones(1))
        assert (copied["b"][1][1], copied["c"], copied["d"], copied["e"]) == ("x", 3, None, {})
        assert isinstance(copied["b"], list) and isinstance(copied["b"][1], tuple)

    def test_keeps_types_of_numbers(self):
        for dtype in (torch.float32, torch.bfloat16, torch.int64, torch.uint8):
            assert on_host(torch.ones(2).to(dtype)).dtype == dtype
