"""gan_style/images/tiff.py: TIFFs written by tifffile come out with the values that went in, or are refused by kind."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from gan_style.images.decode import decode
from gan_style.images.formats import UnreadablePictureError
from gan_style.images.lossless import read_original, write_original

RGB16 = np.random.default_rng(0).integers(0, 65536, (33, 47, 3)).astype(np.uint16)


def write(path: Path, values: np.ndarray, **options: object) -> Path:
    tifffile.imwrite(path, values, **options)
    return path


def read(path: Path) -> np.ndarray:
    return read_original(path, max_megapixels=1).pixels.numpy().transpose(1, 2, 0)


@pytest.mark.parametrize(
    ("compression", "predictor"),
    [(None, False), ("packbits", False), *itertools.product(("zlib", "lzw", "zstd"), (False, True))],
)
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_16_bit_colours_are_what_was_written(tmp_path, compression, predictor, planar, byteorder):
    values = RGB16.transpose(2, 0, 1) if planar else RGB16
    options = {"planarconfig": "separate" if planar else "contig", "compression": compression, "predictor": predictor}
    path = write(tmp_path / "a.tif", values, photometric="rgb", byteorder=byteorder, **options)
    assert np.array_equal(read(path), RGB16)
    assert np.abs(decode(path).numpy().transpose(1, 2, 0) - RGB16 / 257.0).max() <= 0.5


@pytest.mark.parametrize("channels", [1, 4])
def test_16_bit_grey_and_alpha_are_what_was_written(tmp_path, channels):
    values = np.concatenate([RGB16, RGB16[::-1]], axis=2)[..., :channels].squeeze()
    more = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    path = write(tmp_path / "a.tif", values, photometric="rgb" if channels == 4 else "minisblack", **more)
    assert np.array_equal(read(path), RGB16 if channels == 4 else np.stack([values] * 3, axis=2))
    alpha = read_original(path, max_megapixels=1).alpha
    assert np.array_equal(alpha[0], values[..., 3]) if channels == 4 else alpha is None


def test_signed_values_are_bright_up_to_the_highest_that_there_is(tmp_path):
    values = (RGB16 >> 1).astype(np.int16)
    path = write(tmp_path / "a.tif", values, photometric="rgb")
    assert np.abs(read(path) - values * (65535 / 32767)).max() <= 0.5


@pytest.mark.parametrize(("photometric", "colours"), [("rgb", 3), ("minisblack", 1)])
def test_channels_besides_the_colours_are_named(tmp_path, photometric, colours):
    values = np.random.default_rng(0).integers(0, 256, (20, 30, colours + 3), np.uint8)
    path = write(tmp_path / "a.tif", values, photometric=photometric, extrasamples=["unspecified"] * 3)
    assert np.array_equal(read(path), np.broadcast_to(values[..., :colours], (20, 30, 3)))
    assert "3 channels" in read_original(path, max_megapixels=1).lost[0]


@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_8_bit_planes_tiles_and_bigtiff_are_read(tmp_path, tile):
    values = (RGB16 >> 8).astype(np.uint8)
    planes = write(tmp_path / "a.tif", values.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", tile=tile)
    big = write(tmp_path / "b.tif", RGB16, photometric="rgb", bigtiff=True, tile=tile)
    assert np.array_equal(read(planes), values) and np.array_equal(read(big), RGB16)
    assert np.array_equal(decode(planes).numpy().transpose(1, 2, 0), values)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("planar", [False, True])
def test_premultiplied_alpha_is_divided_out_and_keeps_its_bits(tmp_path, deep, planar):
    most = 65535 if deep else 255
    alpha = np.linspace(most // 4, most, 33 * 47).reshape(33, 47, 1)
    colours = RGB16 / 65535.0 * most
    premultiplied = np.concatenate([colours * alpha / most, alpha], axis=2).round()
    premultiplied = premultiplied.astype(np.uint16 if deep else np.uint8)
    values = premultiplied.transpose(2, 0, 1) if planar else premultiplied
    order = {"planarconfig": "separate" if planar else "contig"}
    path = write(
        tmp_path / "a.tif", values, photometric="rgb", extrasamples=["assocalpha"], compression="zlib", **order
    )
    original = read_original(path, max_megapixels=1)
    assert original.pixels.dtype == (torch.uint16 if deep else torch.uint8)
    assert np.array_equal(original.alpha[0].numpy(), premultiplied[..., 3])
    assert np.abs(original.pixels.numpy().transpose(1, 2, 0) - colours).max() <= 4


@pytest.mark.parametrize(("kind", "most"), [*itertools.product("efd", (1.0, 255.0)), ("f", 65535.0), ("d", 65535.0)])
def test_floats_of_each_usual_range_keep_their_grey(tmp_path, kind, most):
    grey = np.linspace(0, most, 256).reshape(16, 16).astype(kind)
    path = write(tmp_path / "a.tif", grey, photometric="minisblack")
    expected = grey.astype(np.float64) / most * 255
    assert np.abs(decode(path)[0].numpy() - expected).max() <= 0.51
    assert "float" in read_original(path, max_megapixels=1).lost[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((8, 8), 5.0, np.float32), "0 to 255"),
        (np.full((8, 8), -3.0, np.float32), "-3"),
        (np.full((8, 8), np.nan, np.float32), "float"),
        (np.full((8, 8), -5, np.int16), "16 bits.*signed"),
        (np.zeros((8, 8), np.complex64), "complex"),
    ],
)
def test_what_cannot_be_read_rightly_is_refused_with_its_kind(tmp_path, values, message):
    path = write(tmp_path / "a.tif", values, photometric="minisblack")
    for reader in (decode, lambda place: read_original(place, max_megapixels=1)):
        with pytest.raises(UnreadablePictureError, match=f"a.tif.*{message}"):
            reader(path)


def test_other_depths_are_scaled_to_white(tmp_path):
    most = write(tmp_path / "a.tif", np.full((8, 8), 2**32 - 1, np.uint32), photometric="minisblack")
    white = write(tmp_path / "b.tif", np.zeros((8, 8), np.uint16), photometric="miniswhite")
    assert read(most).min() == 65535 and read(white).min() == 65535


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_deep_pictures_as_pillow_turns_shallow_ones(tmp_path, orientation):
    tag = [(274, "H", 1, orientation, True)]
    deep = write(tmp_path / "a.tif", RGB16, photometric="rgb", extratags=tag)
    shallow = write(tmp_path / "b.tif", (RGB16 >> 8).astype(np.uint8), photometric="rgb", extratags=tag)
    assert np.array_equal(read(deep) >> 8, read(shallow))
    assert decode(deep).shape == decode(shallow).shape


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_cut_file_is_refused(tmp_path, compression):
    path = write(tmp_path / "a.tif", RGB16, photometric="rgb", compression=compression)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UnreadablePictureError, match=r"a\.tif"):
        read_original(path, max_megapixels=1)


def test_a_large_one_is_refused_before_it_is_decoded(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((1001, 1000), np.uint16), photometric="minisblack", compression="zlib")
    with pytest.raises(UnreadablePictureError, match="1000 x 1001 pixels; max_megapixels=1 "):
        read_original(path, max_megapixels=1)


@pytest.mark.parametrize("options", [{}, {"imagej": True}, {"ome": True}])
def test_a_description_of_pages_that_are_not_in_the_result_is_left_out(tmp_path, options):
    pages = (RGB16 >> 8).astype(np.uint8)[None].repeat(5, axis=0)
    original = read_original(write(tmp_path / "a.tif", pages, photometric="rgb", **options), max_megapixels=1)
    with open(tmp_path / "b.tif", "wb") as file:
        write_original(file, ".tif", original)
    assert np.array_equal(tifffile.imread(tmp_path / "b.tif"), pages[0])
