"""gan_style/images/decode.py: what is read, what is refused, and what becomes of the values."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw
from torch import Tensor

from gan_style.images.decode import decode, encode, encode_animation, grid, to_float, to_uint8
from gan_style.images.formats import UnreadablePictureError, is_picture, list_pictures

ORIENTATION = 0x0112  # the EXIF tag
LOSSLESS = (".png", ".bmp", ".tif", ".tiff")
LOSSY = (".jpg", ".jpeg", ".webp")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)


def ramp(height: int, width: int) -> np.ndarray:
    """Smooth in both directions, different in every channel."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([x * 255, y * 255, (1 - x) * 200], axis=-1).round().astype(np.uint8)


def saved(array: np.ndarray, path: Path, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def channels_last(picture: Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).numpy()


def largest_difference(picture: Tensor, array: np.ndarray) -> int:
    return int(np.abs(channels_last(picture).astype(int) - array.astype(int)).max())


# Decoding: kinds of file


@pytest.mark.parametrize(
    ("name", "options"), [("a.png", {}), ("a.bmp", {}), ("a.tif", {}), ("a.tiff", {}), ("a.webp", {"lossless": True})]
)
def test_lossless_kinds_are_read_exactly(tmp_path: Path, name: str, options: dict[str, bool]) -> None:
    picture = decode(saved(noise(5, 9), tmp_path / name, **options))
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 5, 9)
    assert np.array_equal(channels_last(picture), noise(5, 9))


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.webp", "A.JPG"])
def test_lossy_kinds_are_read_closely(tmp_path: Path, name: str) -> None:
    assert largest_difference(decode(saved(ramp(40, 56), tmp_path / name, quality=95)), ramp(40, 56)) <= 8


def test_a_bitmap_without_the_head_of_its_file_is_read(tmp_path: Path) -> None:
    picture = Image.effect_noise((30, 20), 60).convert("RGB")
    picture.save(tmp_path / "a.dib", "DIB")
    assert np.array_equal(decode(tmp_path / "a.dib").numpy().transpose(1, 2, 0), np.asarray(picture))


def test_the_content_decides_the_kind_not_the_name(tmp_path: Path) -> None:
    Image.fromarray(noise(4, 4)).save(tmp_path / "really_a_png.jpg", format="PNG")
    assert np.array_equal(channels_last(decode(tmp_path / "really_a_png.jpg")), noise(4, 4))


def test_a_jpeg_of_several_pictures_gives_its_first(tmp_path: Path) -> None:
    """Many cameras write MPO files under the name .jpg."""
    first, second = Image.new("RGB", (32, 16), "red"), Image.new("RGB", (32, 16), "blue")
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    picture = decode(tmp_path / "a.jpg")
    assert picture.shape == (3, 16, 32)
    assert picture[0].min() > 240
    assert picture[2].max() < 15


# Decoding: kinds of pixel


def test_grey_is_the_same_in_all_three_channels(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = decode(saved(grey, tmp_path / "a.png"))
    assert np.array_equal(channels_last(picture), np.stack([grey] * 3, axis=-1))


def laid_on_white(value: int, alpha: int) -> float:
    return value * alpha / 255 + 255 * (1 - alpha / 255)


@pytest.mark.parametrize("alpha", [0, 51, 128, 204, 255])
@pytest.mark.parametrize("kind", ["LA", "RGBA"])
def test_transparency_is_laid_on_white(tmp_path: Path, kind: str, alpha: int) -> None:
    values = (100,) if kind == "LA" else (200, 100, 0)
    Image.new(kind, (2, 3), (*values, alpha)).save(tmp_path / "a.png")
    actual = decode(tmp_path / "a.png")[:, 0, 0].tolist()
    expected = [laid_on_white(value, alpha) for value in (values * 3)[:3]]
    assert actual == pytest.approx(expected, abs=0 if alpha in (0, 255) else 1)


def palette_picture() -> Image.Image:
    picture = Image.new("P", (3, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255, 0, 0, 0])
    picture.putdata([0, 1, 2])
    return picture


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [(255, 0, 0), (0, 0, 255), (0, 0, 0)]),
        ({"transparency": 0}, [(255, 255, 255), (0, 0, 255), (0, 0, 0)]),
        ({"transparency": b"\xff\x00\x33"}, [(255, 0, 0), (255, 255, 255), (204, 204, 204)]),
    ],
    ids=["opaque", "one transparent entry", "an alpha for each entry"],
)
def test_palettes_become_colours_and_their_transparency_white(
    tmp_path: Path, options: dict[str, int | bytes], expected: list[tuple[int, int, int]]
) -> None:
    palette_picture().save(tmp_path / "a.png", **options)
    assert channels_last(decode(tmp_path / "a.png"))[0].tolist() == [list(colour) for colour in expected]


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_one_bit_is_black_and_white(tmp_path: Path, name: str) -> None:
    picture = Image.new("1", (2, 1))
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / name)
    assert decode(tmp_path / name).tolist() == [[[0, 255]]] * 3


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bit_grey_257k_is_k(tmp_path: Path, name: str) -> None:
    k = np.arange(256).reshape(16, 16)
    picture = decode(saved((257 * k).astype(np.uint16), tmp_path / name))
    assert np.array_equal(channels_last(picture), np.stack([k] * 3, axis=-1))


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (128, 0), (129, 1), (32767, 127), (65406, 254), (65407, 255), (65535, 255)]
)
def test_sixteen_bit_grey_is_rounded_to_the_nearest(tmp_path: Path, value: int, expected: int) -> None:
    assert decode(saved(np.full((1, 1), value, np.uint16), tmp_path / "a.png")).unique().tolist() == [expected]


def test_big_endian_sixteen_bit_grey_is_read_like_any_other(tmp_path: Path) -> None:
    Image.new("I;16B", (2, 2), 257 * 77).save(tmp_path / "a.tif")
    assert decode(tmp_path / "a.tif").unique().tolist() == [77]


def test_float_grey_is_taken_to_lie_between_0_and_1(tmp_path: Path) -> None:
    values = np.array([[-0.01, 0.0, 0.5, 51 / 255, 1.0, 1.01]], np.float32)
    assert decode(saved(values, tmp_path / "a.tif"))[1].tolist() == [[0, 0, 128, 51, 255, 255]]


@pytest.mark.parametrize(
    ("inks", "expected"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 0, 0), (255, 0, 255)),
        ((0, 0, 255, 0), (255, 255, 0)),
        ((0, 0, 0, 255), (0, 0, 0)),
    ],
    ids=["paper", "cyan", "magenta", "yellow", "black"],
)
def test_cmyk_jpeg_has_the_colours_of_its_inks(
    tmp_path: Path, inks: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    Image.new("CMYK", (8, 8), inks).save(tmp_path / "a.jpg", quality=95)
    assert decode(tmp_path / "a.jpg")[:, 4, 4].tolist() == pytest.approx(expected, abs=3)


def profile_of_exchanged_primaries() -> bytes:
    """An RGB profile, sRGB's but that R and G have changed places in its table of tags."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in ((b"rXYZ", b"xXYZ"), (b"gXYZ", b"rXYZ"), (b"xXYZ", b"gXYZ")):
        profile = profile.replace(old, new)
    return profile.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_colours_are_taken_by_the_profile_to_srgb(tmp_path: Path, suffix: str) -> None:
    orange = Image.new("RGB", (16, 16), (230, 120, 40))
    orange.save(tmp_path / f"a{suffix}", icc_profile=profile_of_exchanged_primaries(), quality=100)
    assert decode(tmp_path / f"a{suffix}")[:, 8, 8].tolist() == pytest.approx([120, 230, 40], abs=4)
    assert decode(tmp_path / f"a{suffix}", short_side=4)[:, 2, 2].tolist() == pytest.approx([120, 230, 40], abs=4)


def test_transparency_and_profile_go_together(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (230, 120, 40, 0)).save(tmp_path / "a.png", icc_profile=profile_of_exchanged_primaries())
    Image.new("RGBA", (8, 8), (230, 120, 40, 255)).save(
        tmp_path / "b.png", icc_profile=profile_of_exchanged_primaries()
    )
    assert decode(tmp_path / "a.png")[:, 4, 4].tolist() == [255, 255, 255]
    assert decode(tmp_path / "b.png")[:, 4, 4].tolist() == pytest.approx([120, 230, 40], abs=3)


@pytest.mark.parametrize(
    "profile", [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), b"no profile"], ids=["sRGB", "none"]
)
def test_numbers_stay_where_the_profile_says_nothing_else(tmp_path: Path, profile: bytes) -> None:
    Image.new("RGB", (8, 8), (230, 120, 40)).save(tmp_path / "a.png", icc_profile=profile)
    assert decode(tmp_path / "a.png")[:, 4, 4].tolist() == [230, 120, 40]


# Decoding: upright


def as_stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The array that a camera stores, from EXIF's table of where row 0 and column 0 of what is stored are seen."""
    first_row, first_column = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    stored = upright.swapaxes(0, 1) if first_row in ("left", "right") else upright
    stored = stored[::-1] if first_row in ("bottom", "right") else stored
    return np.ascontiguousarray(stored[:, ::-1] if first_column in ("bottom", "right") else stored)


def with_marked_corner() -> np.ndarray:
    """32 high, 48 wide, white, the upper left corner red, the upper right one blue: all in whole JPEG blocks."""
    picture = np.full((32, 48, 3), 255, np.uint8)
    picture[:16, :16] = (255, 0, 0)
    picture[:16, -16:] = (0, 0, 255)
    return picture


@pytest.mark.parametrize("short_side", [None, 32, 16], ids=["as it is", "same size", "half"])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int, name: str, short_side: int | None) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {".jpg": {"quality": 95, "subsampling": 0}, ".webp": {"lossless": True}}.get(name[1:], {})
    saved(as_stored(with_marked_corner(), orientation), tmp_path / name, exif=exif, **options)
    picture = decode(tmp_path / name, short_side=short_side)
    height = short_side or 32
    assert picture.shape == (3, height, height * 3 // 2)
    eighth = height // 8  # well inside the corners, away from what scaling blurs
    corners = [picture[:, y, x].tolist() for y in (eighth, -eighth) for x in (eighth, -eighth)]
    for actual, expected in zip(corners, [(255, 0, 0), (0, 0, 255), (255,) * 3, (255,) * 3], strict=True):
        assert actual == pytest.approx(expected, abs=10)


# Decoding: scaled


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 90), height=st.integers(1, 90), short=st.integers(1, 40))
def test_short_side_sets_the_shorter_side_and_keeps_the_ratio(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, short: int
) -> None:
    path = saved(np.zeros((height, width, 3), np.uint8), tmp_path_factory.getbasetemp() / "scaled.bmp")
    _, found_height, found_width = decode(path, short_side=short).shape
    assert min(found_height, found_width) == short
    exact = short / min(width, height)
    assert abs(found_width - width * exact) <= 0.5
    assert abs(found_height - height * exact) <= 0.5


@pytest.mark.parametrize("short_side", [40, 160], ids=["smaller", "larger"])
@pytest.mark.parametrize("size", [(120, 80), (80, 120)], ids=["landscape", "portrait"])
def test_a_disc_stays_round(tmp_path: Path, size: tuple[int, int], short_side: int) -> None:
    picture = Image.new("L", size)
    x, y = size[0] // 2, size[1] // 2
    ImageDraw.Draw(picture).ellipse((x - 30, y - 30, x + 30, y + 30), fill=255)
    picture.save(tmp_path / "a.png")
    disc = decode(tmp_path / "a.png", short_side=short_side)[0] > 127
    diameter = 61 * short_side / 80
    assert disc.any(dim=0).sum().item() == pytest.approx(diameter, abs=2)
    assert disc.any(dim=1).sum().item() == pytest.approx(diameter, abs=2)


@pytest.mark.parametrize("kind", ["RGB", "L"])
@pytest.mark.parametrize("size", [(1600, 1200), (601, 1203)], ids=["even", "odd"])
def test_a_large_jpeg_read_small_is_the_large_one_scaled(tmp_path: Path, size: tuple[int, int], kind: str) -> None:
    """Decoding at 1/2, 1/4 or 1/8 must not show: compare with all pixels decoded, then scaled."""
    Image.fromarray(ramp(size[1], size[0])).convert(kind).save(tmp_path / "a.jpg", quality=95)
    picture = decode(tmp_path / "a.jpg", short_side=100)
    with Image.open(tmp_path / "a.jpg") as whole:
        small = (round(size[0] * 100 / min(size)), round(size[1] * 100 / min(size)))
        expected = np.asarray(whole.convert("RGB").resize(small, Image.Resampling.LANCZOS))
    assert picture.shape == (3, small[1], small[0])
    assert largest_difference(picture, expected) <= 4


@pytest.mark.parametrize(("orientation", "expected"), [(1, (240, 241)), (6, (241, 240))])
def test_a_large_jpeg_that_is_nearly_square_keeps_its_longer_side(tmp_path: Path, orientation: int, expected) -> None:
    """2007 x 2001 at 1/8 is 251 x 251."""
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", (2007, 2001)).save(tmp_path / "a.jpg", exif=exif)
    assert decode(tmp_path / "a.jpg", short_side=240).shape[1:] == expected
    assert decode(tmp_path / "a.jpg", short_side=240, upright=False).shape[1:] == (240, 241)


# Decoding: what is refused


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def half_of_a_picture(folder: Path, name: str) -> Path:
    data = saved(noise(40, 40), folder / name).read_bytes()
    return written(folder / name, data[: len(data) // 2])


def gif(folder: Path) -> Path:
    Image.new("P", (4, 4)).save(folder / "gif.png", format="GIF")
    return folder / "gif.png"


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
KINDS = "its content is not a JPEG, PNG, WebP"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: written(folder / "text.jpg", b"no picture at all\n" * 50), KINDS),
        (lambda folder: written(folder / "empty.png", b""), KINDS),
        (lambda folder: written(folder / "figure.jpg", EPS), KINDS),
        (gif, KINDS),
        (lambda folder: half_of_a_picture(folder, "cut.jpg"), "truncated"),
        (lambda folder: half_of_a_picture(folder, "cut.png"), "truncated"),
        (lambda folder: half_of_a_picture(folder, "cut.bmp"), "truncated"),
        (lambda folder: half_of_a_picture(folder, "cut.tif"), "truncated"),
        (lambda folder: half_of_a_picture(folder, "cut.webp"), r"\w+"),
        (lambda folder: folder / "missing.jpg", "there is no such file"),
        (lambda folder: folder / "no_folder" / "missing.jpg", "there is no such file"),
        (lambda folder: folder, "directory"),
        (lambda folder: folder / f"{'x' * 300}.jpg", r"\w+"),
    ],
    ids=[
        *("text", "empty", "eps", "gif", "cut jpg", "cut png", "cut bmp", "cut tiff", "cut webp"),
        *("missing", "in a missing folder", "folder", "name too long for any file"),
    ],
)
def test_what_cannot_be_read_is_named_with_a_reason(tmp_path: Path, make: Callable[[Path], Path], reason: str) -> None:
    path = make(tmp_path)
    with pytest.raises(UnreadablePictureError, match=f"cannot read the picture .*: .*{reason}") as caught:
        decode(path)
    assert str(path) in str(caught.value)


def test_every_cut_of_a_jpeg_is_refused(tmp_path: Path) -> None:
    """Never a picture whose lower part is grey; only the two bytes of the end marker are free to go."""
    data = saved(noise(16, 16), tmp_path / "a.jpg").read_bytes()
    for length in range(0, len(data) - 2, 7):
        with pytest.raises(UnreadablePictureError):
            decode(written(tmp_path / "a.jpg", data[:length]))


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(noise(40, 40), tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 40 // 2 - 1)
    with pytest.raises(UnreadablePictureError, match=r"bomb\.png: .*decompression bomb"):
        decode(path)


def test_too_little_memory_is_not_taken_for_a_bad_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("gan_style.images.decode.open_picture", fail)
    with pytest.raises(MemoryError):
        decode(saved(noise(2, 2), tmp_path / "a.png"))


# Ranges


def test_bytes_to_float_and_back_is_exact_for_all_256() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(values)), values)


def test_black_is_minus_one_and_white_is_one() -> None:
    actual = to_float(torch.tensor([0, 255], dtype=torch.uint8))
    assert actual.dtype == torch.float32
    assert actual.tolist() == [-1.0, 1.0]


def test_to_float_leaves_its_input_alone() -> None:
    values = torch.tensor([3, 200], dtype=torch.uint8)
    to_float(values)
    assert values.tolist() == [3, 200]


@given(st.floats(-1, 1, width=32))
def test_to_uint8_takes_the_nearest(value: float) -> None:
    assert abs(to_uint8(torch.tensor(value)).item() - (value + 1) * 127.5) <= 0.5 + 1e-4


@pytest.mark.parametrize(("value", "expected"), [(1.001, 255), (7.0, 255), (-1.001, 0), (-300.0, 0)])
def test_to_uint8_clamps(value: float, expected: int) -> None:
    assert to_uint8(torch.tensor([value])).tolist() == [expected]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_to_uint8_takes_every_float_type(dtype: torch.dtype) -> None:
    assert to_uint8(torch.tensor([-1.0, 0.5, 1.0], dtype=dtype)).tolist() == [0, 191, 255]


# Encoding


@pytest.mark.parametrize("suffix", [*LOSSLESS, ".PNG"])
def test_lossless_kinds_come_back_exactly(tmp_path: Path, suffix: str) -> None:
    picture = torch.from_numpy(noise(7, 11)).permute(2, 0, 1)
    path = written(tmp_path / f"a{suffix}", encode(to_float(picture), suffix))
    assert torch.equal(decode(path), picture)


@pytest.mark.parametrize("suffix", LOSSY)
def test_lossy_kinds_come_back_closely(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"a{suffix}", encode(to_float(torch.from_numpy(ramp(48, 64)).permute(2, 0, 1)), suffix))
    assert largest_difference(decode(path), ramp(48, 64)) <= 8


def test_jpeg_keeps_the_colour_of_single_columns(tmp_path: Path) -> None:
    """Stylized pictures have sharp coloured edges: the chroma is stored at full resolution."""
    picture = torch.zeros(3, 16, 16, dtype=torch.uint8)
    picture[0, :, ::2] = 255
    picture[2, :, 1::2] = 255
    path = written(tmp_path / "a.jpg", encode(to_float(picture), ".jpg"))
    assert (decode(path).int() - picture.int()).abs().float().mean() < 16  # chroma at a half: about 100


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".jpg", "JPEG"), (".JPEG", "JPEG"), (".png", "PNG"), (".webp", "WEBP"), (".tif", "TIFF")]
)
def test_the_suffix_picks_the_kind(suffix: str, kind: str) -> None:
    assert Image.open(io.BytesIO(encode(torch.zeros(3, 2, 2), suffix))).format == kind


@pytest.mark.parametrize("suffix", [".gif", "", "png"])
def test_an_unknown_suffix_is_refused_and_the_known_ones_named(suffix: str) -> None:
    with pytest.raises(ValueError, match=rf"'{suffix}'.*\.jpg.*\.png"):
        encode(torch.zeros(3, 2, 2), suffix)


# Grids


def plain(height: int, width: int, value: float) -> Tensor:
    return torch.full((3, height, width), value)


def test_a_grid_lays_rows_of_pictures_on_white() -> None:
    sheet = grid([[plain(4, 6, -1.0), plain(4, 3, 0.0)], [plain(2, 5, 0.5)]], gap=2)
    expected = torch.ones(3, 4 + 2 + 2, 6 + 2 + 3)
    expected[:, :4, :6] = -1.0
    expected[:, :4, 8:] = 0.0
    expected[:, 6:, :5] = 0.5
    assert torch.equal(sheet, expected)


def test_a_grid_scales_each_picture_to_the_height_of_its_row() -> None:
    sheet = grid([[plain(4, 4, -1.0), plain(8, 12, 0.25), plain(2, 3, 0.5)]], gap=1)
    assert sheet.shape == (3, 4, 4 + 1 + 6 + 1 + 6)
    assert sheet[:, :, 5:11].unique().tolist() == pytest.approx([0.25])
    assert sheet[:, :, 12:].unique().tolist() == pytest.approx([0.5])


def test_a_grid_of_one_picture_is_that_picture() -> None:
    picture = to_float(torch.from_numpy(noise(3, 4)).permute(2, 0, 1))
    assert torch.equal(grid([[picture]]), picture)


def test_a_grid_needs_no_gradients() -> None:
    assert not grid([[plain(2, 2, 0.0).requires_grad_()]]).requires_grad


# Names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("a.jpg", True), ("a.JPEG", True), ("a.b.tiff", True), ("a.WebP", True)),
        *(("a.gif", False), ("a.txt", False), ("jpg", False), (".jpg", False), (".a.jpg", False)),
    ],
)
def test_a_picture_is_known_by_its_name(name: str, expected: bool) -> None:
    assert is_picture(Path(name)) is expected


def test_a_folder_lists_its_pictures_sorted_recursively_without_the_hidden(tmp_path: Path) -> None:
    visible = ["B.PNG", "a.jpg", "deep/er/c.webp", "deep/z.bmp"]
    hidden = [".a.jpg", ".thumbnails/a.jpg", "deep/.cache/more/a.jpg", "deep/._b.png"]
    for name in [*visible, *hidden, "notes.txt", "deep/page.html"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a_folder.jpg").mkdir()
    assert list_pictures(tmp_path) == sorted(tmp_path / name for name in visible)


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    for name in ("photos/a.jpg", "elsewhere/deep/b.jpg", "photos/closed/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    photos = tmp_path / "photos"
    for name, target in (("more", "elsewhere"), ("up", "photos"), ("itself.jpg", "photos/itself.jpg")):
        (photos / name).symlink_to(tmp_path / target)
    (tmp_path / "elsewhere" / "back").symlink_to(photos)
    (photos / "another").symlink_to(photos / "closed")  # what is there already is not there twice
    assert list_pictures(photos) == [photos / "a.jpg", photos / "closed" / "c.jpg", photos / "more" / "deep" / "b.jpg"]


def test_a_folder_that_cannot_be_listed_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.jpg", "closed/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    scandir = os.scandir

    def guarded(path: Path) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.warns(UserWarning, match=r"closed cannot be listed and is passed over: Permission denied"):
        assert list_pictures(tmp_path) == [tmp_path / "a.jpg"]


def test_a_hidden_folder_that_is_named_itself_is_listed(tmp_path: Path) -> None:
    folder = tmp_path / ".pictures"
    folder.mkdir()
    (folder / "a.jpg").touch()
    assert list_pictures(folder) == [folder / "a.jpg"]


# Animations


def test_an_animation_shows_every_picture_for_its_time() -> None:
    pictures = [torch.full((3, 6, 8), value) for value in (-1.0, 0.0, 1.0)]
    animation = Image.open(io.BytesIO(encode_animation(pictures, [0.1, 0.2, 2.0])))
    assert (animation.format, animation.n_frames, animation.size) == ("GIF", 3, (8, 6))
    assert animation.info["loop"] == 0  # for ever
    for number, (value, seconds) in enumerate([(0, 0.1), (128, 0.2), (255, 2.0)]):
        animation.seek(number)
        assert animation.info["duration"] == 1000 * seconds
        assert (
            largest_difference(torch.from_numpy(np.array(animation.convert("RGB"))).permute(2, 0, 1), np.uint8(value))
            <= 1
        )
