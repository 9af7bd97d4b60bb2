"""gan_style/images/lossless.py: alpha, 16 bits and profiles are kept where a kind of file can hold them."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from chunks import chunk
from PIL import Image

from gan_style.images.decode import decode
from gan_style.images.formats import UnreadablePictureError
from gan_style.images.lossless import (
    Original,
    from_pil,
    lost_in,
    on_white,
    preview,
    read_original,
    to_pil,
    write_original,
)
from gan_style.images.metadata import read_note

NOTE = {"gan_style": "1", "style": "monet"}
PROFILE = b"an ICC profile, which nobody looks into here" * 3


def values(channels: int, height: int = 33, width: int = 47, deep: bool = True) -> torch.Tensor:
    random = np.random.default_rng(channels)
    return torch.from_numpy(random.integers(0, 65536 if deep else 256, (channels, height, width))).to(
        torch.uint16 if deep else torch.uint8
    )


def original(channels: int, *, deep: bool = True, profile: bytes | None = None) -> Original:
    planes = values(channels, deep=deep)
    return Original(planes[:3], planes[3:] if channels == 4 else None, profile)


def written(path: Path, picture: Original) -> Original:
    with open(path, "wb") as file:
        write_original(file, path.suffix, picture, note=NOTE)
    return read_original(path, max_megapixels=1)


def same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    return a is b if a is None or b is None else a.dtype == b.dtype and np.array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("deep", [True, False])
def test_what_is_written_is_read_back_exactly(tmp_path, suffix, channels, deep):
    options = original(channels, deep=deep, profile=PROFILE)
    actual = written(tmp_path / f"a{suffix}", options)
    assert same(actual.pixels, options.pixels) and same(actual.alpha, options.alpha)
    assert actual.profile == PROFILE
    assert read_note(tmp_path / f"a{suffix}") == NOTE


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_other_programs_read_our_16_bits(tmp_path, suffix, channels):
    """OpenCV and tifffile, where they are; Pillow, which sees the high bytes."""
    options = original(channels)
    written(tmp_path / f"a{suffix}", options)
    planes = values(channels).numpy().transpose(1, 2, 0)
    with Image.open(tmp_path / f"a{suffix}") as opened:
        assert np.array_equal(np.asarray(opened), (planes >> 8).astype(np.uint8))
    if suffix == ".tif":
        tifffile = pytest.importorskip("tifffile")
        assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), planes)


def test_strips_of_rows_make_one_picture(tmp_path, monkeypatch):
    monkeypatch.setattr("gan_style.images.lossless.STRIP_PIXELS", 400)
    for suffix in (".png", ".tif"):
        assert same(written(tmp_path / f"a{suffix}", original(4)).pixels, values(4)[:3])


def sixteen_bit_png(planes: np.ndarray, kind: int, *, interlaced: bool = False) -> bytes:
    """(H, W, C) as a PNG, written here once more, with filter 0."""
    height, width = planes.shape[:2]
    passes = [(0, 0, 1, 1)]
    if interlaced:  # Adam7
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [planes[top::down, left::right] for top, left, down, right in passes]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for part in parts if part.size for row in part)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, int(interlaced))
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("channels", "kind"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_every_kind_of_16_bit_png_is_read_whole(channels, kind, interlaced):
    planes = values(channels).numpy().transpose(1, 2, 0)
    actual = read_original(io.BytesIO(sixteen_bit_png(planes, kind, interlaced=interlaced)), max_megapixels=1)
    colours = planes[..., :3] if channels > 2 else np.repeat(planes[..., :1], 3, axis=2)
    assert np.array_equal(actual.pixels.numpy().transpose(1, 2, 0), colours)
    assert (actual.alpha is not None) == (channels in (2, 4))
    if actual.alpha is not None:
        assert np.array_equal(actual.alpha[0].numpy(), planes[..., -1])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif"])
def test_pictures_of_8_bits_are_what_decode_makes_of_them(tmp_path, suffix):
    Image.fromarray(values(3, deep=False).numpy().transpose(1, 2, 0)).save(tmp_path / f"a{suffix}")
    actual = read_original(tmp_path / f"a{suffix}", max_megapixels=1)
    assert same(actual.pixels, decode(tmp_path / f"a{suffix}")) and actual.alpha is None


def test_camera_rotation_turns_16_bits_too():
    planes, exif = values(3).numpy().transpose(1, 2, 0), Image.Exif()
    exif[0x0112] = 6
    data, orientation = sixteen_bit_png(planes, 2), chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\x00\x00"))
    actual = read_original(io.BytesIO(data[:33] + orientation + data[33:]), max_megapixels=1)
    assert np.array_equal(actual.pixels.numpy().transpose(1, 2, 0), np.rot90(planes, -1))


@pytest.mark.parametrize("suffix", [".webp", ".jpg", ".bmp"])
def test_what_a_kind_of_file_cannot_hold_is_rounded_or_laid_on_white(tmp_path, suffix):
    planes = torch.full((4, 16, 16), 30000, dtype=torch.int32).to(torch.uint16)
    actual = written(tmp_path / f"a{suffix}", Original(planes[:3], planes[3:]))
    value = 30000 / 257 if suffix == ".webp" else 255 * (1 - 30000 / 65535) + 30000 / 257 * (30000 / 65535)
    assert (actual.pixels.int() - value).abs().max() <= 2
    assert (actual.alpha is not None) == (suffix == ".webp")


def test_webp_keeps_alpha_exactly(tmp_path):
    options = original(4, deep=False)
    assert same(written(tmp_path / "a.webp", options).alpha, options.alpha)


@pytest.mark.parametrize("deep", [True, False])
def test_laid_on_white(deep):
    options, most = original(4, deep=deep), 65535 if deep else 255
    share = options.alpha.double() / most
    expected = options.pixels.double() * share + most * (1 - share)
    assert (on_white(options).pixels.double() - expected).abs().max() <= 0.51


def test_a_picture_larger_than_the_limit_is_refused_with_its_option(tmp_path):
    Image.new("RGB", (1001, 1000)).save(tmp_path / "a.png")
    with pytest.raises(UnreadablePictureError, match=r"a\.png.*1001 x 1000 pixels; max_megapixels=1 allows fewer"):
        read_original(tmp_path / "a.png", max_megapixels=1)
    assert read_original(tmp_path / "a.png", max_megapixels=1.1).pixels.shape == (3, 1000, 1001)


def test_a_limit_above_pillows_own_is_the_one_that_holds():
    """Pillow's is for the whole process and would refuse this header."""
    data = bytearray(sixteen_bit_png(np.zeros((1, 1, 3), np.uint16), 2))
    data[16:24] = struct.pack(">II", 30000, 30000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    with pytest.raises(UnreadablePictureError, match="30000 x 30000 pixels; max_megapixels=800"):
        read_original(io.BytesIO(bytes(data)), max_megapixels=800)


def test_pillow_s_pictures_go_in_and_out_unharmed():
    options = original(4, deep=False)
    picture = to_pil(options)
    assert picture.mode == "RGBA" and same(from_pil(picture).pixels, options.pixels)
    grey = Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000)
    assert from_pil(grey).pixels.dtype == torch.uint16
    with pytest.raises(ValueError, match=r"a picture expected.*got int"):
        from_pil(3)


def test_a_preview_is_small_and_never_enlarged():
    assert preview(original(4), 11).shape == (3, 11, 16)
    assert preview(original(3), 100).shape == (3, 33, 47)


@pytest.mark.parametrize("suffix", [".tif", ".webp", ".png"])
@pytest.mark.parametrize("frames", [1, 3])
def test_further_pages_and_frames_are_counted(tmp_path, suffix, frames):
    pages = [Image.new("RGB", (8, 6), (60 * number, 0, 0)) for number in range(frames)]
    pages[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=pages[1:])
    original = read_original(tmp_path / f"a{suffix}", max_megapixels=1)
    assert original.pixels.shape == (3, 6, 8)
    assert len(lost_in(original, ".png")) == (frames > 1)
    if frames > 1:
        assert "of its 3" in original.lost[0] and ("stylize-video" in original.lost[0]) == (suffix != ".tif")
