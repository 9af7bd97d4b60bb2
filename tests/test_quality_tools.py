"""tools/check: what counts as a droplet, and how far a spike carries a normalisation's statistics."""

import sys
from pathlib import Path

import numpy as np
import pytest
from generators import make_resnet, write_file
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tools" / "check"))
pytest.importorskip("scipy")
import droplets

BLUE, SAND, RED = (40, 60, 120), (210, 190, 150), (250, 20, 20)


def picture(background: tuple[int, int, int], patch: tuple[int, int, int] | None = None, side: int = 12) -> Image.Image:
    """A plain picture with a square patch at row 30, column 50."""
    pixels = np.full((80, 100, 3), background, dtype=np.uint8)
    if patch is not None:
        pixels[30 : 30 + side, 50 : 50 + side] = patch
    return Image.fromarray(pixels)


@pytest.fixture
def colors():
    """The colours of a style of blue and sand."""
    return droplets.palette([picture(BLUE, SAND, side=40)])


def test_a_blob_of_a_colour_that_nobody_has_is_a_droplet(colors):
    ((area, row, column),) = droplets.droplets(picture(SAND, RED), picture(BLUE), colors)
    assert 100 <= area <= 14 * 14
    assert abs(row - 35.5) <= 1 and abs(column - 55.5) <= 1


def test_colours_of_the_style_or_of_the_photo_there_are_none(colors):
    assert droplets.droplets(picture(SAND, BLUE), picture(BLUE), colors) == []
    assert droplets.droplets(picture(SAND, RED), picture(SAND, RED), colors) == []
    assert droplets.droplets(picture(SAND, (225, 200, 160)), picture(BLUE), colors) == []  # near to the style's sand


def test_a_few_pixels_are_no_droplet(colors):
    assert droplets.droplets(picture(SAND, RED, side=4), picture(BLUE), colors) == []


def test_a_spike_is_found_where_it_carries_the_statistics(tmp_path, noise):
    """One bright pixel on noise: at the first normalisation its energy is far above that of noise alone."""
    write_file(tmp_path / "g.safetensors", make_resnet())
    plain, spiked = noise(1, 3, 64, 64) * 0.01, noise(1, 3, 64, 64) * 0.01
    spiked[..., 32, 32] = 1.0
    of_plain, of_spiked = (droplets.spikes(tmp_path / "g.safetensors", None, [images]) for images in (plain, spiked))
    assert next(iter(of_plain)) == "encoder.0.1" and of_plain.keys() == of_spiked.keys()
    assert of_plain["encoder.0.1"] < 20 < 100 < of_spiked["encoder.0.1"]
