"""gan-style stylize, from the command line to the files that it writes."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from gan_style.checkpoint import write_generator
from gan_style.models.generator import ResnetGenerator
from gan_style.models.registry import describe


@pytest.fixture
def generator_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "generator.safetensors"
    generator = ResnetGenerator(width=4, blocks=1)
    more = {"step": 1, "objective": {"weights": {"style": 5.0}}}
    write_generator(path, generator.state_dict(), describe(generator) | more)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    Image.effect_noise((33, 47), 60).convert("RGB").save(tmp_path / "photos" / "one.png")
    Image.effect_noise((50, 20), 60).convert("RGB").save(tmp_path / "photos" / "cats" / "two (2).jpg")
    return tmp_path / "photos"


def test_a_folders_tree_names_and_sizes_are_kept(gan_style, generator_file, photos, tmp_path):
    before = sorted(photos.rglob("*"))
    outcome = gan_style("stylize", f"checkpoint={generator_file}", f"input={photos}", f"output={tmp_path / 'out'}")
    assert outcome.status == 0, outcome.err
    assert Image.open(tmp_path / "out" / "one.png").size == (33, 47)
    assert Image.open(tmp_path / "out" / "cats" / "two (2).jpg").size == (50, 20)
    assert sorted(photos.rglob("*")) == before


def test_a_picture_with_a_difficult_name_to_a_named_result(gan_style, generator_file, photos, tmp_path):
    source, target = photos / "cats" / "two (2).jpg", tmp_path / "a b" / "result, new.png"
    outcome = gan_style("stylize", f"checkpoint={generator_file.parent}", f"input={source}", f"output={target}")
    assert outcome.status == 0, outcome.err
    assert Image.open(target).size == (50, 20)


def test_exif_rotation_is_applied(gan_style, generator_file, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20), "red").save(tmp_path / "turned.jpg", exif=exif)
    gan_style(
        "stylize", f"checkpoint={generator_file}", f"input={tmp_path / 'turned.jpg'}", f"output={tmp_path / 'o.png'}"
    )
    assert Image.open(tmp_path / "o.png").size == (20, 40)


def test_an_unreadable_picture_is_named_the_others_are_done_and_the_status_tells(
    gan_style, generator_file, photos, tmp_path
):
    (photos / "bad.jpg").write_text("no picture")
    outcome = gan_style("stylize", f"checkpoint={generator_file}", f"input={photos}", f"output={tmp_path / 'out'}")
    assert outcome.status == 3
    assert "bad.jpg" in outcome.out
    assert "1 of 3" in outcome.err
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 2


BAD_INPUT = {
    "no checkpoint": ("{tmp}/nowhere", "{photos}", "{tmp}/out", "no such file or folder"),
    "folder without a generator": ("{photos}", "{photos}", "{tmp}/out", "is it a run's folder?"),
    "damaged checkpoint": ("{tmp}/damaged.safetensors", "{photos}", "{tmp}/out", "damaged"),
    "damaged training checkpoint": ("{tmp}/damaged.pt", "{photos}", "{tmp}/out", "damaged"),
    "foreign safetensors": ("{tmp}/foreign.safetensors", "{photos}", "{tmp}/out", "holds no gan_style generator"),
    "no input": ("{file}", "{tmp}/nothing", "{tmp}/out", "no such file or folder"),
    "empty folder": ("{file}", "{tmp}/empty", "{tmp}/out", "no picture in this folder"),
    "output is the input": ("{file}", "{photos}/one.png", "{photos}/one.png", "never written over"),
    "output inside the input": ("{file}", "{photos}", "{photos}/out", "lies inside"),
    "folder to a picture": ("{file}", "{photos}", "{tmp}/out.png", "give a folder"),
    "output below a file": ("{file}", "{photos}", "{file}/out", "cannot write"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named_in_the_users_words(gan_style, generator_file, photos, tmp_path, case):
    from safetensors.torch import save_file

    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.safetensors").write_bytes(generator_file.read_bytes()[:500])
    (tmp_path / "damaged.pt").write_bytes(b"PK\x03\x04 no checkpoint")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    places = {"tmp": tmp_path, "photos": photos, "file": generator_file}
    checkpoint, source, output, words = (text.format(**places) for text in BAD_INPUT[case])
    outcome = gan_style("stylize", f"checkpoint={checkpoint}", f"input={source}", f"output={output}")
    assert outcome.status == 2
    assert words in outcome.err
    assert not (tmp_path / "out").exists()


def test_weights_of_another_architecture_are_refused(gan_style, photos, tmp_path):
    from gan_style.checkpoint import write_generator

    generator = ResnetGenerator(width=4, blocks=1)
    description = {"class": "ResnetGenerator", "arguments": {"width": 8, "blocks": 1}}
    write_generator(tmp_path / "g.safetensors", generator.state_dict(), description)
    outcome = gan_style(
        "stylize", f"checkpoint={tmp_path / 'g.safetensors'}", f"input={photos}", f"output={tmp_path / 'o'}"
    )
    assert outcome.status == 2
    assert "do not fit the ResnetGenerator" in outcome.err
