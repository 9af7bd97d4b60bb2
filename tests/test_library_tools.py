"""What the tools do to a library before it ships."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from generators import make_library

sys.path.append(str(Path(__file__).parents[1] / "tools"))
import check_library
import check_perceptual
import ship_library


def test_a_model_that_is_too_large_leaves_the_one_that_ships(tmp_path, monkeypatch):
    path, description = tmp_path / "library.safetensors", {"type": "library"}
    path.write_bytes(b"what shipped before")
    monkeypatch.setattr(ship_library, "load_generator", lambda path, device: None)
    monkeypatch.setattr(ship_library, "LIMIT", 1000)
    with pytest.raises(ValueError, match="more than 1,000"):
        ship_library.ship(path, {"weight": torch.zeros(500)}, description)
    assert path.read_bytes() == b"what shipped before" and list(tmp_path.iterdir()) == [path]
    ship_library.ship(path, {"weight": torch.zeros(100)}, description)
    assert 400 < path.stat().st_size < 1000 and list(tmp_path.iterdir()) == [path]


def test_what_was_measured_is_kept_for_the_same_files_alone(tmp_path):
    for name in ("model", "teacher", "photo.png", "style.png"):
        (tmp_path / name).write_bytes(b"1")
    arguments = Namespace(model=tmp_path / "model", teacher=tmp_path / "teacher", content=[str(tmp_path / "photo.png")])
    arguments.size, arguments.photos, arguments.optimise_steps, calls = 64, 2, 3, []

    def measured(name):
        cache = check_library.Kept(tmp_path / "work", check_library.depends_on(arguments, [tmp_path / "style.png"]))
        return cache("strengths_wave", lambda number: calls.append(number) or len(calls), 7)

    assert measured("wave") == measured("wave") == 1
    for number, name in enumerate(("model", "teacher", "photo.png", "style.png"), start=2):
        (tmp_path / name).write_bytes(b"2")
        assert measured("wave") == measured("wave") == number
    arguments.size = 128
    assert measured("wave") == 6


def test_a_run_under_other_weights_is_not_taken_for_one_under_these(tmp_path):
    run, weights = tmp_path / "generator_compact", tmp_path / "compact.safetensors"
    weights.write_bytes(b"1")
    check_perceptual.mark_weights(run, weights)
    run.mkdir()
    check_perceptual.mark_weights(run, weights)
    weights.write_bytes(b"2")
    with pytest.raises(SystemExit, match="trained under other weights"):
        check_perceptual.mark_weights(run, weights)


@pytest.mark.parametrize("scale", [0.0, 0.85, 1.0])
def test_a_style_that_is_set_back_is_at_its_full_strength_what_it_was_at_less(noise, scale):
    generator = make_library("monet", "wave")
    photo, wave = noise(1, 3, 24, 20), torch.tensor([[0.0, 1.0]])
    monet = torch.tensor([[1.0, 0.0]])
    with torch.no_grad():
        expected, other = generator.paint(photo, generator.shares(scale * wave)), generator(photo, monet)
        ship_library.set_back(generator, {"wave": scale})
        assert torch.allclose(generator.paint(photo, generator.shares(wave)), expected, atol=1e-5)
        assert torch.equal(generator(photo, monet), other)
