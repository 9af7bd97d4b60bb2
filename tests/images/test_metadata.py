"""gan_style/images/metadata.py: what a file says besides pixels, and of what made it, where its kind can hold it."""

import io
import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from chunks import chunk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from gan_style.images.decode import decode, encode
from gan_style.images.formats import FORMAT_OF_SUFFIX, UnreadablePictureError
from gan_style.images.lossless import lost_in, read_original, write_original
from gan_style.images.metadata import read_note

DATE, MODEL, COPYRIGHT, ARTIST, DESCRIPTION = 0x9003, 0x0110, 0x8298, 0x013B, 0x010E
EXIF, GPS = 0x8769, 0x8825
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="A"/></x:xmpmeta>'
NOTE = {"gan_style": "9.9", "checkpoint": "ab" * 32, "style": 'Kü"hl\\ 水', "strength": 0.5, "seed": 7, "none": None}
IMAGE = torch.linspace(-1, 1, 3 * 20 * 24).view(3, 20, 24)
HOLDING = [suffix for suffix, kind in FORMAT_OF_SUFFIX.items() if kind.metadata]


def camera_exif(**more: object) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[MODEL], exif[COPYRIGHT], exif[ARTIST] = 6, "EOS", "(c) Me", "Me"
    exif.get_ifd(EXIF)[DATE] = "2020:01:02 03:04:05"
    exif.get_ifd(EXIF)[0xA002] = 40
    exif.get_ifd(GPS)[1], exif.get_ifd(GPS)[2] = "N", (48.0, 8.0, 0.0)
    return exif


def photo(path, exif: Image.Exif, **options: object):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 40, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return path


def stylized(source, suffix: str, *, deep: bool = False) -> tuple[Image.Image, list[str]]:
    original = read_original(source, max_megapixels=1)
    if deep:
        original = replace(original, pixels=(original.pixels.int() * 257).to(torch.uint16))
    file = io.BytesIO()
    write_original(file, suffix, original, note=NOTE)
    assert read_note(file) == NOTE
    return Image.open(file), lost_in(original, suffix)


@pytest.mark.parametrize(("suffix", "deep"), [*((suffix, False) for suffix in HOLDING), (".png", True), (".tif", True)])
def test_exif_xmp_and_resolution_of_a_photo_are_kept_upright(tmp_path, suffix, deep):
    source = photo(tmp_path / "a.jpg", camera_exif(), dpi=(300, 300), xmp=XMP, icc_profile=b"profile")
    result, lost = stylized(source, suffix, deep=deep)
    assert lost == []
    if deep:
        (tmp_path / f"b{suffix}").write_bytes(content := result.fp.getvalue())
        assert stylized(tmp_path / f"b{suffix}", suffix)[0].fp.getvalue() == content
    exif = result.getexif()
    assert (exif[MODEL], exif[COPYRIGHT], exif[ARTIST]) == ("EOS", "(c) Me", "Me")
    assert exif.get(0x0112, 1) == 1 and result.size == (20, 40)
    assert exif.get_ifd(EXIF)[DATE] == "2020:01:02 03:04:05" and exif.get_ifd(EXIF)[0xA002] == 20
    assert exif.get_ifd(GPS)[1] == "N" and [float(value) for value in exif.get_ifd(GPS)[2]] == [48.0, 8.0, 0.0]
    xmp = result.info.get("xmp") or exif.get(700)
    assert b'dc:title="A"' in xmp and b'Orientation="6"' not in xmp
    dpi = result.info.get("dpi") or (exif[0x011A], exif[0x011B])
    assert [round(float(value)) for value in dpi] == [300, 300]


@pytest.mark.parametrize("suffix", HOLDING)
def test_a_description_of_the_user_s_stays_beside_our_note(tmp_path, suffix):
    exif = camera_exif()
    exif[DESCRIPTION] = "My cat"
    result, _ = stylized(photo(tmp_path / "a.jpg", exif), suffix)
    assert result.getexif()[DESCRIPTION] == "My cat"


def test_our_note_replaces_that_of_the_source(tmp_path):
    exif = Image.Exif()
    exif[DESCRIPTION] = json.dumps({"gan_style": "0", "style": "older"})
    result, _ = stylized(photo(tmp_path / "a.jpg", exif), ".jpg")
    assert json.loads(result.getexif()[DESCRIPTION]) == NOTE


def test_artist_and_copyright_of_a_tiff_reach_other_kinds(tmp_path):
    exif = Image.Exif()
    exif[ARTIST], exif[COPYRIGHT] = "Me", "(c) Me"
    for suffix in HOLDING:
        result, _ = stylized(photo(tmp_path / "a.tif", exif, dpi=(72, 72)), suffix)
        assert (result.getexif()[ARTIST], result.getexif()[COPYRIGHT]) == ("Me", "(c) Me")


def test_texts_of_a_png_are_kept_or_named(tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts_of = {"Author": "Me", "Title": "水", "parameters": "steps: 3"}
    for keyword, text in texts_of.items():
        texts.add_itxt(keyword, text)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=texts)
    result, lost = stylized(tmp_path / "a.png", ".png")
    assert lost == [] and texts_of.items() <= result.text.items()
    result, (lost,) = stylized(tmp_path / "a.png", ".jpg")
    assert result.getexif()[ARTIST] == "Me" and "Title" in lost and "parameters" in lost


def test_a_kind_without_metadata_is_said_to_be_without(tmp_path):
    original = read_original(photo(tmp_path / "a.jpg", camera_exif(), xmp=XMP), max_megapixels=1)
    assert {"EXIF" in line or "XMP" in line for line in lost_in(original, ".bmp")} == {True}


def test_too_long_exif_loses_the_maker_s_note_first_and_says_so(tmp_path):
    exif = camera_exif()
    exif.get_ifd(EXIF)[0x927C] = bytes(64_000)
    exif.get_ifd(EXIF)[DATE] = "2020:01:02 03:04:05"
    source = photo(tmp_path / "a.png", exif)
    original = read_original(source, max_megapixels=1)
    file = io.BytesIO()
    write_original(file, ".jpg", original, note={"gan_style": "1", "long": "x" * 5000})
    assert Image.open(file).getexif().get_ifd(EXIF)[DATE] == "2020:01:02 03:04:05"
    assert lost_in(original, ".png") == []


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind them"])
def test_a_png_with_megabytes_of_xmp_and_profile_is_read_whole(tmp_path, deep, behind):
    """As Photoshop writes them; Pillow refuses more than 1 MB of each."""
    pixels = np.random.default_rng(0).integers(0, 255, (8, 9, 3)).astype(np.uint16 if deep else np.uint8)
    file = io.BytesIO()
    if deep:
        import imagecodecs

        file.write(imagecodecs.png_encode(pixels))
    else:
        Image.fromarray(pixels).save(file, "PNG")
    xmp, profile, data = b"<x/>" + b" " * 3_000_000, bytes(range(256)) * 8000, file.getvalue()
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp))
    old = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2_000_000)))
    colours = chunk(b"iCCP", b"p\0\0" + zlib.compress(profile))
    texts = text + old
    data = data[:33] + colours + (data[33:-12] + texts + data[-12:] if behind else texts + data[33:])
    (tmp_path / "a.png").write_bytes(data)
    original = read_original(tmp_path / "a.png", max_megapixels=1)
    assert np.array_equal(original.pixels.numpy().transpose(1, 2, 0), pixels)
    assert original.metadata.xmp == xmp and original.profile == profile
    assert any("Comment" in line for line in original.lost)
    assert decode(tmp_path / "a.png").shape == (3, 8, 9)


# Notes of what made a picture


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


def test_no_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(UnreadablePictureError, match=r"a\.png"):
        read_note(tmp_path / "a.png")


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=20)), st.sampled_from(HOLDING))
def test_any_note_comes_back(more, suffix):
    note = more | {"gan_style": "1"}
    assert read_note(io.BytesIO(encode(IMAGE, suffix, note=note))) == note
