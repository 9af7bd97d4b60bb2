"""What a picture says of what made it: written by images.encode, read back by Pillow alone and by read_note."""

import io
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gan_style.images.decode import decode, encode
from gan_style.images.formats import FORMAT_OF_SUFFIX, UnreadablePictureError
from gan_style.images.metadata import read_note

NOTE = {"gan_style": "9.9", "checkpoint": "ab" * 32, "style": 'Kü"hl\\ 水', "strength": 0.5, "seed": 7, "none": None}
IMAGE = torch.linspace(-1, 1, 3 * 20 * 24).view(3, 20, 24)
HOLDING = [suffix for suffix, kind in FORMAT_OF_SUFFIX.items() if kind.metadata]


def by_pillow(data: bytes) -> str:
    """As any reader of metadata sees it: PNG's Description, else EXIF's ImageDescription."""
    with Image.open(io.BytesIO(data)) as picture:
        if picture.format == "PNG":
            return picture.text["Description"]
        return picture.getexif()[0x010E]


@pytest.mark.parametrize("suffix", HOLDING)
def test_every_kind_that_can_hold_a_note_holds_it(suffix, tmp_path):
    data = encode(IMAGE, suffix, note=NOTE)
    assert json.loads(by_pillow(data)) == NOTE
    assert by_pillow(data).isascii()
    path = tmp_path / f"p{suffix}"
    path.write_bytes(data)
    assert read_note(path) == NOTE


@pytest.mark.parametrize("suffix", FORMAT_OF_SUFFIX)
def test_a_note_changes_no_pixel(suffix):
    pixels = [decode(io.BytesIO(encode(IMAGE, suffix, note=note))) for note in (None, NOTE)]
    assert torch.equal(*pixels)


@pytest.mark.parametrize("suffix", FORMAT_OF_SUFFIX)
def test_without_a_note_there_is_none(suffix):
    assert read_note(io.BytesIO(encode(IMAGE, suffix))) is None


def test_a_kind_without_metadata_holds_pixels_only():
    assert encode(IMAGE, ".bmp", note=NOTE) == encode(IMAGE, ".bmp")


@pytest.mark.parametrize("text", ["a cat", "[1]", '{"other": 1}', "{", "[" * 5000, "12", ""])
def test_another_programs_description_is_no_note(text, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = text
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert read_note(tmp_path / "a.jpg") is None


def test_a_note_that_cannot_be_told_from_others_or_is_too_long_is_refused():
    with pytest.raises(ValueError, match="gan_style"):
        encode(IMAGE, ".png", note={"style": "x"})
    with pytest.raises(ValueError, match="32000"):
        encode(IMAGE, ".jpg", note={"gan_style": "x" * 40_000})


def test_no_picture_is_named(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(UnreadablePictureError, match=r"a\.png"):
        read_note(tmp_path / "a.png")


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=20)), st.sampled_from(HOLDING))
def test_any_note_comes_back(more, suffix):
    note = more | {"gan_style": "1"}
    assert read_note(io.BytesIO(encode(IMAGE, suffix, note=note))) == note
