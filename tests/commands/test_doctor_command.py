"""gan-style doctor: one block, no secrets, and a status that says whether something that is needed is broken."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from gan_style import __version__
from gan_style.commands import doctor as module
from gan_style.commands.doctor import without_home


@pytest.fixture
def doctor(gan_style, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments, status=0: gan_style("doctor", *arguments, status=status)


def test_a_sound_machine(doctor, tmp_path):
    outcome = doctor()
    assert "nothing is broken" in outcome.out and "BROKEN" not in outcome.out
    for line in (
        __version__,
        torch.__version__.split("+")[0],
        "perceptual=compact",
        "perceptual=vgg19",
        "distributed",
        "W&B",
        "GB free",
    ):
        assert line in outcome.out
    assert list(tmp_path.iterdir()) == []  # nothing is left behind, and runs/ is not made


def test_keys_and_the_users_folder_are_not_shown(doctor, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789secret")
    monkeypatch.setenv("TORCH_HOME", str(Path.home() / "weights"))
    outcome = doctor()
    assert "wandb=auto means online" in outcome.out and "secret" not in outcome.out
    assert "~/weights" in outcome.out and str(Path.home() / "weights") not in outcome.out


def test_what_cannot_track_is_broken_and_never_a_prompt(doctor, monkeypatch):
    monkeypatch.setenv("NETRC", "/nowhere")
    assert "BROKEN tracking.wandb=online needs a key" in doctor("wandb=online", status=1).out


def test_configured_data_are_counted(doctor, tmp_path):
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for name in ("a.png", "more/b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "c.gif").touch()
    outcome = doctor("data.content=photos", "data.style=[photos/a.png]")
    assert "2 pictures" in outcome.out and "1 .gif" in outcome.out and "1 pictures" in outcome.out
    outcome = doctor("data.style={monet: photos, wave: photos/a.png}")
    assert "data.style.monet" in outcome.out and "data.style.wave" in outcome.out
    outcome = doctor("data.content=nowhere", status=1)
    assert "1 broken: data.content" in outcome.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_broken(doctor, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "BROKEN" in doctor("folders=[closed]", status=1).out


def test_a_file_in_a_folders_place_is_broken(doctor, tmp_path):
    (tmp_path / "runs").touch()
    assert "1 broken: folder runs" in doctor(status=1).out


def test_missing_libraries(doctor, monkeypatch):
    real = module.installed_version
    monkeypatch.setattr(module, "installed_version", lambda name: None if name == "pyarrow" else real(name))
    outcome = doctor()
    assert "pyarrow not installed" in outcome.out
    monkeypatch.setattr(module, "installed_version", lambda name: None if name == "safetensors" else real(name))
    outcome = doctor(status=1)
    assert "1 broken: safetensors" in outcome.out


def test_a_part_that_fails_itself_is_told_and_the_others_are_done(doctor, monkeypatch):
    def fail(*_):
        raise OSError("broken library\nsecond line")

    monkeypatch.setattr(module, "compact", fail)
    monkeypatch.setattr(torch.distributed, "is_available", fail)
    outcome = doctor(status=1)
    assert "W&B" in outcome.out
    assert "distributed:" in outcome.out and "failed: OSError: broken library" in outcome.out


def test_a_device_that_does_not_compute_is_broken(doctor, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)

    def fail(_):
        raise RuntimeError("CUDA error: out of order\nmore")

    monkeypatch.setattr(torch.cuda, "get_device_properties", fail)
    assert "BROKEN CUDA error: out of order" in doctor(status=1).out


def test_the_home_folder_is_cut_out_wherever_it_stands(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/al"))
    assert without_home("no /home/al/x (in /home/al) /home/alan") == "no ~/x (in ~) /home/alan"
    monkeypatch.setattr(Path, "home", lambda: Path("/"))
    assert without_home("/a b") == "/a b"
