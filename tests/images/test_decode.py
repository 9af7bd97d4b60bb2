"""gan_style/images/decode.py: what is read, what is refused, and what becomes of the values."""

import io
import os
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


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.tiff", "a.webp", "a.jpg", "a.jpeg", "A.JPG"])
def test_every_kind_is_read(tmp_path, name):
    """Exactly or, of a lossy kind, closely."""
    lossy = name.lower().startswith("a.jp")
    options = {"lossless": True} if name == "a.webp" else {"quality": 95} if lossy else {}
    picture = decode(saved(ramp(40, 56), tmp_path / name, **options))
    assert picture.dtype == torch.uint8
    assert largest_difference(picture, ramp(40, 56)) <= (8 if lossy else 0)


def test_a_jpeg_of_several_pictures_gives_its_first(tmp_path):
    """Many cameras write MPO files under the name .jpg."""
    first, second = Image.new("RGB", (32, 16), "red"), Image.new("RGB", (32, 16), "blue")
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    picture = decode(tmp_path / "a.jpg")
    assert picture.shape == (3, 16, 32) and picture[0].min() > 240 and picture[2].max() < 15


# Decoding: kinds of pixel


def test_grey_is_the_same_in_all_three_channels(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = decode(saved(grey, tmp_path / "a.png"))
    assert np.array_equal(channels_last(picture), np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize("alpha", [0, 51, 128, 204, 255])
@pytest.mark.parametrize("kind", ["LA", "RGBA"])
def test_transparency_is_laid_on_white(tmp_path, kind, alpha):
    values = (100,) if kind == "LA" else (200, 100, 0)
    Image.new(kind, (2, 3), (*values, alpha)).save(tmp_path / "a.png")
    expected = [value * alpha / 255 + 255 * (1 - alpha / 255) for value in (values * 3)[:3]]
    assert decode(tmp_path / "a.png")[:, 0, 0].tolist() == pytest.approx(expected, abs=0 if alpha in (0, 255) else 1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[255, 0, 0], [0, 0, 255], [0, 0, 0]]),
        ({"transparency": 0}, [[255, 255, 255], [0, 0, 255], [0, 0, 0]]),
        ({"transparency": b"\xff\x00\x33"}, [[255, 0, 0], [255, 255, 255], [204, 204, 204]]),
    ],
)
def test_palettes_become_colours_and_their_transparency_white(tmp_path, options, expected):
    picture = Image.new("P", (3, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255, 0, 0, 0])
    picture.putdata([0, 1, 2])
    picture.save(tmp_path / "a.png", **options)
    assert channels_last(decode(tmp_path / "a.png"))[0].tolist() == expected


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_one_bit_is_black_and_white(tmp_path, name):
    picture = Image.new("1", (2, 1))
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / name)
    assert decode(tmp_path / name).tolist() == [[[0, 255]]] * 3


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bit_grey_is_rounded_to_the_nearest(tmp_path, name):
    values = [*range(0, 65536, 257), 128, 129, 32767, 65406, 65407]
    picture = decode(saved(np.array([values], np.uint16), tmp_path / name))
    assert picture[:, 0].tolist() == [[*range(256), 0, 1, 127, 254, 255]] * 3


def test_float_grey_is_taken_to_lie_between_0_and_1(tmp_path):
    values = np.array([[-0.01, 0.0, 0.5, 51 / 255, 1.0, 1.01]], np.float32)
    assert decode(saved(values, tmp_path / "a.tif"))[1].tolist() == [[0, 0, 128, 51, 255, 255]]


@pytest.mark.parametrize("ink", [None, 0, 1, 2, 3], ids=["paper", "cyan", "magenta", "yellow", "black"])
def test_cmyk_jpeg_has_the_colours_of_its_inks(tmp_path, ink):
    Image.new("CMYK", (8, 8), tuple(255 * (ink == n) for n in range(4))).save(tmp_path / "a.jpg", quality=95)
    expected = [0, 0, 0] if ink == 3 else [255 * (ink != n) for n in range(3)]
    assert decode(tmp_path / "a.jpg")[:, 4, 4].tolist() == pytest.approx(expected, abs=3)


def profile_of_exchanged_primaries() -> bytes:
    """An RGB profile, sRGB's but that R and G have changed places in its table of tags."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in ((b"rXYZ", b"xXYZ"), (b"gXYZ", b"rXYZ"), (b"xXYZ", b"gXYZ")):
        profile = profile.replace(old, new)
    return profile.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_colours_are_taken_by_the_profile_to_srgb(tmp_path, suffix):
    orange = Image.new("RGB", (16, 16), (230, 120, 40))
    orange.save(tmp_path / f"a{suffix}", icc_profile=profile_of_exchanged_primaries(), quality=100)
    assert decode(tmp_path / f"a{suffix}")[:, 8, 8].tolist() == pytest.approx([120, 230, 40], abs=4)
    assert decode(tmp_path / f"a{suffix}", short_side=4)[:, 2, 2].tolist() == pytest.approx([120, 230, 40], abs=4)


@pytest.mark.parametrize(("alpha", "expected"), [(0, [255, 255, 255]), (255, [120, 230, 40])])
def test_transparency_and_profile_go_together(tmp_path, alpha, expected):
    picture = Image.new("RGBA", (8, 8), (230, 120, 40, alpha))
    picture.save(tmp_path / "a.png", icc_profile=profile_of_exchanged_primaries())
    assert decode(tmp_path / "a.png")[:, 4, 4].tolist() == pytest.approx(expected, abs=3 if alpha else 0)


@pytest.mark.parametrize(
    "profile", [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), b"no profile"], ids=["sRGB", "none"]
)
def test_numbers_stay_where_the_profile_says_nothing_else(tmp_path, profile):
    Image.new("RGB", (8, 8), (230, 120, 40)).save(tmp_path / "a.png", icc_profile=profile)
    assert decode(tmp_path / "a.png")[:, 4, 4].tolist() == [230, 120, 40]


# Decoding: upright


def as_stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The array that a camera stores, from EXIF's table of where row 0 and column 0 of what is stored are seen."""
    table = "top left, top right, bottom right, bottom left, left top, right top, right bottom, left bottom"
    first_row, first_column = table.split(", ")[orientation - 1].split()
    turned_pixels = upright.swapaxes(0, 1) if first_row in ("left", "right") else upright
    turned_pixels = turned_pixels[::-1] if first_row in ("bottom", "right") else turned_pixels
    return np.ascontiguousarray(turned_pixels[:, ::-1] if first_column in ("bottom", "right") else turned_pixels)


def with_marked_corner() -> np.ndarray:
    """32 high, 48 wide, white, the upper left corner red, the upper right one blue: all in whole JPEG blocks."""
    picture = np.full((32, 48, 3), 255, np.uint8)
    picture[:16, :16] = (255, 0, 0)
    picture[:16, -16:] = (0, 0, 255)
    return picture


@pytest.mark.parametrize("short_side", [None, 32, 16], ids=["as it is", "same size", "half"])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path, orientation, name, short_side):
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
def test_short_side_sets_the_shorter_side_and_keeps_the_ratio(tmp_path_factory, width, height, short):
    path = saved(np.zeros((height, width, 3), np.uint8), tmp_path_factory.getbasetemp() / "scaled.bmp")
    _, *sides = decode(path, short_side=short).shape
    assert min(sides) == short
    for side, before in zip(sides, (height, width), strict=True):
        assert abs(side - before * short / min(width, height)) <= 0.5


@pytest.mark.parametrize("short_side", [40, 160], ids=["smaller", "larger"])
@pytest.mark.parametrize("size", [(120, 80), (80, 120)], ids=["landscape", "portrait"])
def test_a_disc_stays_round(tmp_path, size, short_side):
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
def test_a_large_jpeg_read_small_is_the_large_one_scaled(tmp_path, size, kind):
    """Decoding at 1/2, 1/4 or 1/8 must not show: compare with all pixels decoded, then scaled."""
    Image.fromarray(ramp(size[1], size[0])).convert(kind).save(tmp_path / "a.jpg", quality=95)
    picture = decode(tmp_path / "a.jpg", short_side=100)
    with Image.open(tmp_path / "a.jpg") as full_size:
        small = (round(size[0] * 100 / min(size)), round(size[1] * 100 / min(size)))
        expected = np.asarray(full_size.convert("RGB").resize(small, Image.Resampling.LANCZOS))
    assert picture.shape == (3, small[1], small[0])
    assert largest_difference(picture, expected) <= 4


@pytest.mark.parametrize(("orientation", "expected"), [(1, (240, 241)), (6, (241, 240))])
def test_a_large_jpeg_that_is_nearly_square_keeps_its_longer_side(tmp_path, orientation, expected):
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


MISSING = "there is no such file"
ABSENT = {"missing.jpg": MISSING, "no_folder/missing.jpg": MISSING, "": "directory", f"{'x' * 300}.jpg": r"\w+"}


@pytest.mark.parametrize("name", ABSENT)
def test_what_is_no_file_is_named_with_a_reason(tmp_path, name):
    with pytest.raises(UnreadablePictureError, match=f"cannot read the picture .*: .*{ABSENT[name]}") as caught:
        decode(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("suffix", [".jpeg", ".png", ".bmp", ".tiff", ".webp"])
def test_a_picture_that_is_cut_in_half_is_refused(tmp_path, suffix):
    data = saved(noise(40, 40), tmp_path / f"a{suffix}").read_bytes()
    with pytest.raises(UnreadablePictureError, match=rf"a{suffix}: .*{'' if suffix == '.webp' else 'truncated'}"):
        decode(written(tmp_path / f"a{suffix}", data[: len(data) // 2]))


def test_every_cut_of_a_jpeg_is_refused(tmp_path):
    """Never a picture whose lower part is grey; only the two bytes of the end marker are free to go."""
    data = saved(noise(16, 16), tmp_path / "a.jpg").read_bytes()
    for length in range(0, len(data) - 2, 7):
        with pytest.raises(UnreadablePictureError):
            decode(written(tmp_path / "a.jpg", data[:length]))


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = saved(noise(40, 40), tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 40 // 2 - 1)
    with pytest.raises(UnreadablePictureError, match=r"bomb\.png: .*decompression bomb"):
        decode(path)


def test_too_little_memory_is_not_taken_for_a_bad_picture(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("gan_style.images.decode.open_picture", fail)
    with pytest.raises(MemoryError):
        decode(saved(noise(2, 2), tmp_path / "a.png"))


# Ranges


def test_bytes_to_float_and_back_is_exact_for_all_256_and_black_is_minus_one_and_white_one():
    values = torch.arange(256, dtype=torch.uint8)
    floats = to_float(values)
    assert floats.dtype == torch.float32 and floats[[0, 255]].tolist() == [-1.0, 1.0]
    assert torch.equal(to_uint8(floats), values) and torch.equal(values, torch.arange(256, dtype=torch.uint8))


@given(st.floats(-1, 1, width=32))
def test_to_uint8_takes_the_nearest(value):
    assert abs(to_uint8(torch.tensor(value)).item() - (value + 1) * 127.5) <= 0.5 + 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_to_uint8_takes_every_float_type_and_clamps(dtype):
    values = torch.tensor([-300.0, -1.001, -1.0, 0.5, 1.0, 1.001, 7.0], dtype=dtype)
    assert to_uint8(values).tolist() == [0, 0, 0, 191, 255, 255, 255]


# Encoding


KINDS = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".PNG": "PNG"}
KINDS |= {".jpg": "JPEG", ".jpeg": "JPEG", ".JPEG": "JPEG", ".webp": "WEBP"}


@pytest.mark.parametrize("suffix", KINDS)
def test_the_suffix_picks_the_kind_and_pixels_come_back(tmp_path, suffix):
    """Exactly or, of a lossy kind, closely."""
    lossy = KINDS[suffix] in ("JPEG", "WEBP")
    pixels = ramp(48, 64) if lossy else noise(7, 11)
    path = written(tmp_path / f"a{suffix}", encode(to_float(torch.from_numpy(pixels).permute(2, 0, 1)), suffix))
    assert largest_difference(decode(path), pixels) <= (8 if lossy else 0)
    assert Image.open(path).format == KINDS[suffix]


def test_jpeg_keeps_the_colour_of_single_columns(tmp_path):
    """Stylized pictures have sharp coloured edges: the chroma is stored at full resolution."""
    picture = torch.zeros(3, 16, 16, dtype=torch.uint8)
    picture[0, :, ::2] = 255
    picture[2, :, 1::2] = 255
    path = written(tmp_path / "a.jpg", encode(to_float(picture), ".jpg"))
    assert (decode(path).int() - picture.int()).abs().float().mean() < 16  # chroma at a half: about 100


@pytest.mark.parametrize("suffix", [".gif", "", "png"])
def test_an_unknown_suffix_is_refused_and_the_known_ones_named(suffix):
    with pytest.raises(ValueError, match=rf"'{suffix}'.*\.jpg.*\.png"):
        encode(torch.zeros(3, 2, 2), suffix)


# Grids


def plain(height: int, width: int, value: float) -> Tensor:
    return torch.full((3, height, width), value)


def test_a_grid_lays_rows_of_pictures_on_white_without_gradients():
    sheet = grid([[plain(4, 6, -1.0), plain(4, 3, 0.0).requires_grad_()], [plain(2, 5, 0.5)]], gap=2)
    expected = torch.ones(3, 4 + 2 + 2, 6 + 2 + 3)
    expected[:, :4, :6] = -1.0
    expected[:, :4, 8:] = 0.0
    expected[:, 6:, :5] = 0.5
    assert torch.equal(sheet, expected) and not sheet.requires_grad
    assert torch.equal(grid([[plain(3, 4, 0.5)]]), plain(3, 4, 0.5))
    assert torch.equal(grid([[plain(3, 2, 0.5)] * 2] * 2, gap=0), plain(6, 4, 0.5))


def test_a_grid_scales_each_picture_to_the_height_of_its_row():
    sheet = grid([[plain(4, 4, -1.0), plain(8, 12, 0.25), plain(2, 3, 0.5)]], gap=1)
    assert sheet.shape == (3, 4, 4 + 1 + 6 + 1 + 6)
    assert sheet[:, :, 5:11].unique().tolist() == pytest.approx([0.25])
    assert sheet[:, :, 12:].unique().tolist() == pytest.approx([0.5])


# Names


def test_a_picture_is_known_by_its_name():
    assert all(is_picture(Path(name)) for name in ("a.jpg", "a.JPEG", "a.b.tiff", "a.WebP"))
    assert not any(is_picture(Path(name)) for name in ("a.gif", "a.txt", "jpg", ".jpg", ".a.jpg"))


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_lists_its_pictures_sorted_recursively_without_the_hidden(tmp_path):
    visible = ["B.PNG", "a.jpg", "deep/er/c.webp", "deep/z.bmp"]
    hidden = [".a.jpg", ".thumbnails/a.jpg", "deep/.cache/more/a.jpg", "deep/._b.png"]
    touch(tmp_path, *visible, *hidden, "notes.txt", "deep/page.html")
    (tmp_path / "a_folder.jpg").mkdir()
    assert list_pictures(tmp_path) == sorted(tmp_path / name for name in visible)


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, "photos/a.jpg", "elsewhere/deep/b.jpg", "photos/closed/c.jpg")
    photos = tmp_path / "photos"
    for name, target in (("more", "elsewhere"), ("up", "photos"), ("itself.jpg", "photos/itself.jpg")):
        (photos / name).symlink_to(tmp_path / target)
    (tmp_path / "elsewhere" / "back").symlink_to(photos)
    (photos / "another").symlink_to(photos / "closed")  # what is there already is not there twice
    assert list_pictures(photos) == [photos / "a.jpg", photos / "closed" / "c.jpg", photos / "more" / "deep" / "b.jpg"]


def test_a_folder_that_cannot_be_listed_is_warned_of(tmp_path, monkeypatch):
    touch(tmp_path, "a.jpg", "closed/c.jpg")
    scandir = os.scandir

    def guarded(path: Path) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.warns(UserWarning, match=r"closed cannot be listed and is passed over: Permission denied"):
        assert list_pictures(tmp_path) == [tmp_path / "a.jpg"]


def test_a_hidden_folder_that_is_named_itself_is_listed(tmp_path):
    touch(tmp_path, ".pictures/a.jpg")
    assert list_pictures(tmp_path / ".pictures") == [tmp_path / ".pictures" / "a.jpg"]


# Animations


def test_an_animation_shows_every_picture_for_its_time():
    pictures = [torch.full((3, 6, 8), value) for value in (-1.0, 0.0, 1.0)]
    animation = Image.open(io.BytesIO(encode_animation(pictures, [0.1, 0.2, 2.0])))
    assert (animation.format, animation.n_frames, animation.size) == ("GIF", 3, (8, 6))
    assert animation.info["loop"] == 0  # for ever
    for number, (value, seconds) in enumerate([(0, 0.1), (128, 0.2), (255, 2.0)]):
        animation.seek(number)
        assert animation.info["duration"] == 1000 * seconds
        assert np.abs(np.array(animation.convert("RGB")).astype(int) - value).max() <= 1
