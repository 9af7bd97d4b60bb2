"""The styles that come with gan_style: listed, shown, and at work right after installation."""

import json
from pathlib import Path

import pytest
import torch
from generators import make_resnet, write_file
from PIL import Image

import gan_style as package
from gan_style.images.decode import decode
from gan_style.images.metadata import read_note
from gan_style.runtime.checkpoint import read_generator
from gan_style.stylize.model import find_generator, resolve_model, shipped

STYLES = [
    *("monet", "wave", "starry_night", "scream", "composition", "blue_horse", "metzinger", "shipwreck"),
    *("flow", "mosaic", "hatching", "pointillism"),
]


def photo(path: Path, size: tuple[int, int] = (40, 32)) -> Path:
    pixels = torch.randint(0, 256, (size[1] // 4, size[0] // 4, 3), generator=torch.Generator().manual_seed(0))
    Image.fromarray(pixels.to(torch.uint8).numpy()).resize(size).save(path)
    return path


def test_every_shipped_style_is_listed_with_what_it_comes_from(gan_style):
    outcome = gan_style("styles")
    names = [line.split()[0] for line in outcome.out.splitlines()]
    assert names == ["any.safetensors", "library.safetensors", *STYLES, "mobile.safetensors", *STYLES]
    lines = {line.split()[0]: line for line in outcome.out.splitlines()}
    assert "Hokusai" in lines["wave"]


def test_no_shipped_model_takes_more_than_eight_megabytes_or_names_a_path():
    files = list(shipped())
    assert max(path.stat().st_size for path in files) <= 8_000_000
    for path in files:
        description = read_generator(path)[1]
        assert "/" not in json.dumps(description["provenance"]["style"])
        assert set(description["about"]) == set(description["arguments"].get("styles", []))


@pytest.mark.parametrize("style", STYLES)
def test_a_shipped_style_changes_a_photo_and_strength_nothing_does_not(gan_style, tmp_path, style):
    source = photo(tmp_path / "photo.png")
    gan_style("stylize", f"style={style}", f"input={source}", f"output={tmp_path / 'full.png'}")
    nothing = ("strength=0", f"input={source}", f"output={tmp_path / 'nothing.png'}")
    gan_style("stylize", f"style={style}", *nothing)
    full, none, before = (decode(tmp_path / f"{name}.png").float() for name in ("full", "nothing", "photo"))
    assert torch.equal(none, before)
    assert (full - before).abs().mean() > 5
    note = read_note(tmp_path / "full.png")
    assert note is not None and note["style"] == style


def test_the_sheet_shows_the_photo_and_every_style(gan_style, tmp_path):
    source = photo(tmp_path / "photo.png")
    gan_style("styles", f"input={source}", "size=32", f"sheet={tmp_path / 'sheet.png'}")
    with Image.open(tmp_path / "sheet.png") as sheet:
        rows = -(-(1 + len(STYLES)) // 5)  # the photo and the styles, five to a row, each with its name
        assert sheet.size == (5 * 40 + 4 * 4, rows * (32 + 24) + (rows - 1) * 4)


def test_warnings_are_lines_of_their_own_in_every_command(gan_style, tmp_path):
    photo(tmp_path / "photo.png")
    (tmp_path / "notes.txt").write_text("none")
    outcome = gan_style("styles", f"input={tmp_path}", "size=16", f"sheet={tmp_path / 'sheet.jpg'}")
    (line,) = [line for line in (outcome.out + outcome.err).splitlines() if ".txt" in line]
    assert line.startswith("warning: input=") and ".py:" not in outcome.err


def test_a_sheet_never_replaces_a_photo(gan_style, tmp_path):
    source = photo(tmp_path / "photo.png")
    before = source.read_bytes()
    for more in ((), ("overwrite=true",)):
        gan_style("styles", f"input={source}", "size=32", f"sheet={source}", *more, status=2)
    other = photo(tmp_path / "other.png")
    gan_style("styles", f"input={other}", "size=32", f"sheet={source}", status=2)
    assert source.read_bytes() == before


def test_a_library_of_ones_own_is_listed_too(gan_style):
    path = find_generator(Path("shipped:library"))
    assert all(style in gan_style("styles", f"checkpoint={path}").out for style in STYLES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sheet=styles.gif",), "sheet=styles.gif: cannot write this kind of picture; known are .jpg"),
        (("checkpoint=nowhere",), "checkpoint=nowhere: there is no such file or folder"),
        (("size=3",), "size=3; allowed are numbers from 16"),
    ],
)
def test_what_cannot_be_listed_or_shown_is_said(gan_style, arguments, message):
    assert message in gan_style("styles", *arguments, status=2).err


def test_of_two_models_that_have_a_style_the_library_paints_and_the_other_is_named(gan_style, tmp_path):
    assert resolve_model(["wave"], None).stem == "library"
    assert resolve_model([], Path("shipped:mobile")).stem == "mobile"
    arguments = ("style=wave", f"input={photo(tmp_path / 'photo.png')}", f"output={tmp_path / 'out.png'}")
    gan_style("stylize", "checkpoint=shipped:mobile", *arguments)
    assert "shipped:mobile" in gan_style("stylize", "checkpoint=shipped:nothing", *arguments, status=2).err


def test_python_has_the_same_styles(tmp_path):
    assert package.styles() == sorted(STYLES)
    paint = package.load("wave")
    images = torch.rand(1, 3, 20, 24) * 2 - 1
    assert torch.equal(paint(images), paint(images, style="wave"))
    assert not torch.equal(paint(images), paint(images, style="scream"))


def test_a_model_of_one_style_is_listed_under_the_name_that_it_is_asked_for_by(gan_style, tmp_path):
    path = write_file(tmp_path / "g.safetensors", make_resnet(width=2), provenance={"style": "paintings"})
    outcome = gan_style("styles", f"checkpoint={path}")
    assert outcome.out.splitlines() == ["g.safetensors  (1 style, 0.0 MB)", "  paintings"]
