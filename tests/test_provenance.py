"""Where a result comes from: fingerprints, git state, records of a run, and that they tell of nobody."""

import getpass
import hashlib
import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from gan_style import __version__
from gan_style.runtime import provenance
from gan_style.runtime.files import file_hash
from gan_style.runtime.provenance import (
    config_hash,
    fingerprint,
    git_state,
    installed_version,
    note_failure,
    picture_note,
    read_failure,
    read_record,
    record,
    requirements,
    style_name,
)


def filled(folder: Path, **files: int) -> list[Path]:
    """Files of so many bytes."""
    paths = [folder / name.replace("__", "/") for name in files]
    for path, size in zip(paths, files.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    return paths


class TestFingerprint:
    def test_by_hand(self, tmp_path):
        actual = fingerprint(filled(tmp_path, b=3, a=2))
        assert actual == {"files": 2, "bytes": 5, "sha256": hashlib.sha256(b"2 a\x003 b\0").hexdigest()}

    def test_names_below_the_common_folder_count_and_the_place_does_not(self, tmp_path):
        here = fingerprint(filled(tmp_path / "one", sub__a=1, b=2))
        there = fingerprint(reversed(filled(tmp_path / "else" / "where", sub__a=1, b=2)))
        assert here == there
        assert fingerprint(filled(tmp_path / "x", sub2__a=1, b=2))["sha256"] != here["sha256"]
        assert fingerprint(filled(tmp_path / "y", sub__a=2, b=1))["sha256"] != here["sha256"]

    def test_files_that_are_gone_and_none_at_all(self, tmp_path):
        paths = filled(tmp_path, a=1)
        assert fingerprint([*paths, tmp_path / "gone"])["files"] == 2
        assert fingerprint([*paths, tmp_path / "gone"]) != fingerprint([*paths, *filled(tmp_path, gone=0)])
        assert fingerprint([])["files"] == 0

    def test_a_name_cannot_pass_for_two_files(self, tmp_path):
        assert fingerprint(filled(tmp_path / "p", **{"a 1 b": 1})) != fingerprint(filled(tmp_path / "q", a=1, b=1))


def test_hashes(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert file_hash(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180
    assert config_hash({"a": 1, "b": [2]}) == config_hash({"b": [2], "a": 1}) != config_hash({"a": 1, "b": [3]})


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("demo:styles/flow", "flow"),
        ("/data/me/monet", "monet"),
        ("/data/me/starry night.jpg", "starry night"),
        ("/data/monet/**/*.jpg", "monet"),
        (["a/x.png", "b/y.png", "a/x.png"], "x+y"),
        (["1", "2", "3", "4", "5", "6"], "1+2+3+4+2 more"),
        ("*", "style"),
        ("C:\\art\\klimt", "klimt"),
    ],
)
def test_a_styles_name_is_short_and_tells_no_path(spec, name):
    assert style_name(spec) == name


class TestGit:
    @pytest.fixture
    def checkout(self, tmp_path, monkeypatch):
        def git(*arguments):
            identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
            subprocess.run(["git", *identity, "-C", tmp_path, *arguments], check=True, capture_output=True)

        (tmp_path / "gan_style").mkdir()
        (tmp_path / "gan_style" / "a.py").write_text("1")
        git("init", "-q")
        git("add", ".")
        git("commit", "-q", "-m", "x")
        monkeypatch.setattr(provenance, "_CHECKOUT", tmp_path)
        return tmp_path

    def test_clean_then_dirty_by_code_alone(self, checkout):
        commit = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
        (checkout / "result.png").touch()
        assert git_state() == {"commit": commit.strip(), "dirty": False}
        (checkout / "gan_style" / "new.py").touch()
        assert git_state() == {"commit": commit.strip(), "dirty": True}

    def test_another_repository_in_the_environment_is_not_asked(self, checkout, monkeypatch, tmp_path_factory):
        monkeypatch.setenv("GIT_DIR", str(tmp_path_factory.mktemp("other")))
        assert git_state() is not None

    def test_outside_of_a_checkout_or_without_git_there_is_none(self, checkout, monkeypatch):
        monkeypatch.setenv("PATH", "")
        assert git_state() is None
        monkeypatch.setattr(provenance, "_CHECKOUT", checkout / "gan_style")
        assert git_state() is None


def test_what_is_required_is_known_with_and_without_a_checkout(monkeypatch, tmp_path):
    listed = requirements()
    assert {"torch", "hydra-core", "pillow"} <= set(listed[""]) and "pyarrow" in listed["dataset"]
    assert installed_version("torch") and installed_version("no-such-library") is None
    monkeypatch.setattr(provenance, "_CHECKOUT", tmp_path)
    assert {"torch", "hydra-core", "pillow"} <= set(requirements()[""])


def make_provenance(**more):
    settings = {"run": {"name": "a"}, "training": {"seed": 3}}
    return provenance.provenance(settings=settings, seed=3, style="flow", data={"content": fingerprint([])}) | more


class TestRecord:
    def test_what_is_kept(self, tmp_path):
        record(tmp_path, make_provenance())
        (entry,) = read_record(tmp_path)
        assert entry["gan_style"] == __version__ and entry["seed"] == 3 and entry["from_step"] == 0
        assert entry["libraries"]["torch"] == installed_version("torch") and len(entry["config"]) == 64

    def test_going_on_alike_adds_nothing_and_going_on_otherwise_an_entry(self, tmp_path):
        record(tmp_path, make_provenance())
        record(tmp_path, make_provenance(), step=10)
        assert [entry["from_step"] for entry in read_record(tmp_path)] == [0]
        record(tmp_path, make_provenance(git={"commit": "other", "dirty": False}), step=20)
        assert [entry["from_step"] for entry in read_record(tmp_path)] == [0, 20]

    def test_what_was_gone_back_behind_is_forgotten(self, tmp_path):
        for step, name in ((0, "a"), (20, "b"), (10, "c")):
            record(tmp_path, make_provenance(style=name), step=step)
        assert [(entry["from_step"], entry["style"]) for entry in read_record(tmp_path)] == [(0, "a"), (10, "c")]

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"entries": 3}', '{"entries": [1, {"a": 2}]}'])
    def test_a_damaged_record_is_none(self, tmp_path, text):
        (tmp_path / provenance.PROVENANCE_FILE).write_text(text)
        assert read_record(tmp_path) == ([{"a": 2}] if "[1" in text else [])


def test_nothing_tells_of_a_person_or_a_machine(tmp_path):
    paths = filled(tmp_path / "photos", a=1)
    entry = make_provenance(data={"content": fingerprint(paths)}, style=style_name(str(tmp_path / "art")))
    text = json.dumps([entry, picture_note(checkpoint="0" * 64, style="x", strength=1.0, seed=None)])
    private = [str(tmp_path), str(Path.home()), os.getcwd(), socket.gethostname()]
    assert [word for word in private if len(word) > 1 and word in text] == []
    if len(getpass.getuser()) > 4:  # "root" and the like are parts of other words
        assert getpass.getuser() not in text


LOST_NEIGHBOUR = "[/pytorch/gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:35755: Connection reset by peer"


class TestFailure:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (ValueError("why\nand more"), "why"),
            (RuntimeError(), "RuntimeError"),
            (RuntimeError(LOST_NEIGHBOUR), "another rank has ended"),
            *((KeyboardInterrupt(), None), (SystemExit(), None)),  # being stopped is no failure
        ],
        ids=repr,
    )
    def test_an_error_is_noted_and_passes_on(self, tmp_path, monkeypatch, error, reason):
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(type(error)), note_failure(tmp_path):
            raise error
        assert read_failure(tmp_path) == reason

    def test_the_next_try_removes_it(self, tmp_path):
        (tmp_path / provenance.FAILURE_FILE).write_text("\n")
        assert read_failure(tmp_path) == "for an unknown reason"
        with note_failure(tmp_path):
            assert read_failure(tmp_path) is None
        assert read_failure(tmp_path) is None
