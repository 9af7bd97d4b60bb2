"""gan-style info, and what gan-style stylize writes into its pictures."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from generators import make_resnet, write_file
from PIL import Image

from gan_style import __version__
from gan_style.models.generator import ResnetGenerator
from gan_style.models.registry import describe
from gan_style.runtime.checkpoint import GENERATOR_FILE, CheckpointFolder
from gan_style.runtime.provenance import record


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with a generator and a checkpoint that say what their style is called."""
    generator, folder = make_resnet(width=2), tmp_path / "run"
    folder.mkdir()
    objective = {"weights": {"style": 5.0}, "scales": {"relu1_1": 2.0}}
    origin = {"provenance": {"style": "flow", "seed": 3}}
    write_file(folder / GENERATOR_FILE, generator, step=20, objective=objective, **origin)
    state = {"networks": {"ema": generator.state_dict()}, "step": 20}
    content = {"state": state, "generator": describe(generator), "config": {"training": {"steps": 20}}, **origin}
    (folder / "checkpoints").mkdir()
    CheckpointFolder(folder / "checkpoints").save(20, content)
    (folder / "config.yaml").write_text("training: {steps: 20}\n")
    (folder / "metrics.jsonl").write_text('{"step": 20, "heldout/style": 1.25}\n')
    record(folder, {"gan_style": "0.0", "seed": 3})
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.effect_noise((24, 20), 60).convert("RGB").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def note_in(path: Path) -> dict:
    with Image.open(path) as picture:
        return json.loads(picture.text["Description"] if picture.format == "PNG" else picture.getexif()[0x010E])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("source", [GENERATOR_FILE, "checkpoints/step_00000020.pt"])
def test_a_stylized_picture_says_what_made_it_and_info_reads_it_back(gan_style, run, photo, tmp_path, source, suffix):
    target = tmp_path / f"result{suffix}"
    outcome = gan_style("stylize", f"checkpoint={run / source}", f"input={photo}", f"output={target}")
    digest = hashlib.sha256((run / source).read_bytes()).hexdigest()
    expected = {"checkpoint": digest, "style": "flow", "strength": 1.0, "seed": None, "step": 20}
    note = note_in(target)
    assert len(note.pop("result")) == 32
    assert note == {"gan_style": __version__, **expected}
    outcome = gan_style("info", f"file={target}")
    assert digest in outcome.out and "flow" in outcome.out
    assert str(tmp_path) not in json.dumps(note_in(target))


def test_bmp_is_written_with_a_warning(gan_style, run, photo, tmp_path):
    outcome = gan_style("stylize", f"checkpoint={run}", f"input={photo}", f"output={tmp_path / 'r.bmp'}")
    assert "r.bmp cannot say what made it" in outcome.err
    outcome = gan_style("info", f"file={tmp_path / 'r.bmp'}", status=2)
    assert "files of this kind hold none" in outcome.err


def test_a_generator_a_checkpoint_and_a_run(gan_style, run):
    checkpoint = run / "checkpoints" / "step_00000020.pt"
    outcome = gan_style("info", f"file=[{run / GENERATOR_FILE},{checkpoint},{run}]")
    generator, state, folder = outcome.out.split("\n\n")
    parameters = sum(tensor.numel() for tensor in ResnetGenerator(width=2, blocks=1).state_dict().values())
    assert f"{parameters:,} parameters" in generator and "objective.weights.style" in generator
    assert "objective.scales.relu1_1" in generator and "ResnetGenerator" in generator
    assert hashlib.sha256(checkpoint.read_bytes()).hexdigest() in state and "config.training.steps" in state
    assert "finished" in folder and "1.25" in folder and "step_00000020.pt" in folder and "from_step" in folder


def test_a_foreign_note_is_shown_without_control_characters(gan_style, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = json.dumps({"gan_style": "1", "style": "\x1b[2Jx" + "y" * 999})
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    outcome = gan_style("info", f"file={tmp_path / 'a.jpg'}")
    assert "\x1b" not in outcome.out
    assert all(len(line) < 260 for line in outcome.out.splitlines())


BAD_INPUT = {
    "nowhere": "there is no such file or folder",
    "photo.png": "does not say what made it",
    "notes.txt": "not a picture, a video, a model (.safetensors",
    "broken.png": "cannot read the picture",
    "foreign.safetensors": "holds no gan_style generator",
    "damaged.safetensors": "damaged",
    "damaged.pt": "damaged",
    "empty": "not a run's folder",
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_foreign_files_are_told_from_ours(gan_style, photo, tmp_path, name):
    from safetensors.torch import save_file

    (tmp_path / "empty").mkdir()
    for damaged in ("broken.png", "damaged.safetensors", "damaged.pt", "notes.txt"):
        (tmp_path / damaged).write_bytes(b"PK nothing")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    outcome = gan_style("info", f"file={tmp_path / name}", status=2)
    assert BAD_INPUT[name] in outcome.err and name in outcome.err
