"""tools/distill_mobile.py: it writes a mobile generator of the teacher's styles, and goes on where it ended."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest
import torch
from generators import make_library, write_file

from gan_style.data.pictures import find_pictures
from gan_style.models.library import LibraryGenerator
from gan_style.models.mobile import MobileGenerator
from gan_style.models.registry import describe
from gan_style.runtime.checkpoint import CheckpointFolder
from gan_style.stylize.model import load_generator

PATH = Path(__file__).parents[1] / "tools" / "distill_mobile.py"
SPEC = importlib.util.spec_from_file_location("distill_mobile", PATH)
assert SPEC is not None and SPEC.loader is not None
distill_mobile = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(distill_mobile)
STYLES = ["monet", "wave", "scream"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs the tool with a small student; its results are in tmp_path/out."""
    write_file(tmp_path / "teacher.safetensors", make_library(*STYLES))
    photos = str(find_pictures("demo:heldout", "photos")[0].parent)
    common = ["--teacher", str(tmp_path / "teacher.safetensors"), "--photos", photos, "--out", str(tmp_path / "out")]
    small = ["--width", "4", "--blocks", "1", "--batch", "2", "--size", "32"]

    def tool(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["distill_mobile.py", *common, *small, *arguments])
        distill_mobile.main()

    return tool


def test_the_student_is_a_mobile_generator_and_the_same_command_goes_on(run, tmp_path):
    run("--steps", "2")
    student = load_generator(tmp_path / "out" / "generator.safetensors", torch.device("cpu"))
    assert isinstance(student, MobileGenerator) and student.styles == STYLES
    before = {name: weight.clone() for name, weight in student.state_dict().items()}
    assert torch.load(tmp_path / "out" / "state.pt", weights_only=True)["step"] == 2

    run("--steps", "2")  # nothing is left to do
    same = load_generator(tmp_path / "out" / "generator.safetensors", torch.device("cpu")).state_dict()
    assert all(torch.equal(weight, before[name]) for name, weight in same.items())

    run("--steps", "3")
    state = torch.load(tmp_path / "out" / "state.pt", weights_only=True)
    after = load_generator(tmp_path / "out" / "generator.safetensors", torch.device("cpu")).state_dict()
    assert state["step"] == 3
    assert any(not torch.equal(weight, before[name]) for name, weight in after.items())


def test_a_checkpoint_is_a_teacher_and_another_teacher_is_refused(run, tmp_path):
    teacher = LibraryGenerator(width=4, blocks=1, styles=STYLES)
    (tmp_path / "checkpoints").mkdir()
    content = {"state": {"networks": {"ema": teacher.state_dict()}, "step": 1}, "generator": describe(teacher)}
    CheckpointFolder(tmp_path / "checkpoints").save(1, content)
    checkpoint = str(tmp_path / "checkpoints" / "step_00000001.pt")
    run("--teacher", checkpoint, "--steps", "1")
    with pytest.raises(SystemExit, match="--out"):
        run("--steps", "2")
    started = str(tmp_path / "out" / "generator.safetensors")
    run("--steps", "1", "--start", started, "--out", str(tmp_path / "again"))
    assert (tmp_path / "again" / "generator.safetensors").is_file()


def test_styles_are_drawn_by_their_emphasis(run):
    assert distill_mobile.style_weights(["wave=3"], STYLES) == [1.0, 3.0, 1.0]
    with pytest.raises(SystemExit, match="munch"):
        run("--emphasis", "munch=2")

    rng = random.Random(0)
    conditions = [distill_mobile.random_condition([0.0, 1.0, 0.0], rng) for _ in range(200)]
    assert all(condition[1] > 0 for condition in conditions)  # the first of two, whatever its share
    assert sum(condition[1] == 1.0 for condition in conditions) > 100
    assert all(condition.sum() <= 1.0 + 1e-6 for condition in conditions)
