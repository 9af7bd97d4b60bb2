"""Weights & Biases without a server: which mode, and what is said where it cannot be."""

import urllib.request
from contextlib import nullcontext
from pathlib import Path

import pytest

from gan_style.runtime.wandb import WandbTracker, resolve_mode


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_auto_is_offline_without_a_key_and_online_with_one(monkeypatch, tmp_path):
    assert resolve_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert resolve_mode("auto") == "online"
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert resolve_mode("auto") == "online"
    (tmp_path / "netrc").write_text("machine elsewhere.example login user password secret\n")
    assert resolve_mode("auto") == "offline"


def test_the_environments_mode_decides_in_place_of_auto_only(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_mode("auto") == "disabled"
    assert resolve_mode("offline") == "offline"


@pytest.mark.parametrize("by", ["option", "environment"])
def test_online_without_a_key_is_refused_and_never_prompts(monkeypatch, by):
    monkeypatch.setenv("WANDB_MODE", "online" if by == "environment" else "")
    with pytest.raises(ValueError, match="needs a key"):
        resolve_mode("auto" if by == "environment" else "online")


def test_a_server_out_of_reach_is_a_connection_error_that_names_the_way_out(tmp_path, monkeypatch):
    import wandb

    def unreachable(**_: object) -> None:
        raise wandb.errors.CommError("no route to the server")

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: nullcontext())
    monkeypatch.setattr(wandb, "init", unreachable)
    with pytest.raises(ConnectionError, match="no route to the server; offline needs no server"):
        WandbTracker(mode="online", project="p", name="n", config={}, folder=tmp_path)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match=r"tracking\.wandb=dryrun; allowed are auto, online, offline, disabled"):
        resolve_mode("dryrun")
