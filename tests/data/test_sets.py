"""gan_style/data/pictures.py: the style pictures with the numbers under which the stream tells of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gan_style.data.pictures import UnreadablePictures
from gan_style.data.sets import Pictures, load, open_pictures, split
from gan_style.data.stream import Crop, PairStream
from gan_style.images.decode import decode, to_float

pytestmark = pytest.mark.filterwarnings("ignore:too few content pictures")

CPU = torch.device("cpu")
BROKEN = b"this is not a picture"
OPTIONS = {"holdout": None, "holdout_count": 0, "resize": (16, 16), "style_resize": (16, 24)}
OPTIONS |= {"cache_mb": 1.0, "max_unreadable": 0.5}


def grey(path: Path, level: int = 0, width: int = 16) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (width, 16), (level,) * 3).save(path)
    return path


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Pictures]:
    """Six styles, each of one tone, 40 times its place in the folder; those in ``broken`` cannot be read."""

    def make(*, broken: tuple[int, ...] = (), **changed: Any) -> Pictures:
        for number in range(6):
            path = grey(tmp_path / "style" / f"{number}.png", 40 * number, 20 + number)
            if number in broken:
                path.write_bytes(BROKEN)
        content = grey(tmp_path / "photo.png")
        return open_pictures(content=str(content), style=str(tmp_path / "style"), **OPTIONS | changed)

    return make


def tone(picture: torch.Tensor) -> int:
    (value,) = ((picture + 1) * 127.5).round().unique().tolist()
    return round(value / 40)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cache_mb", [100.0, 0.0])
@pytest.mark.parametrize("broken", [(), (0,), (1, 4), (5,)])
def test_style_pictures_bear_the_numbers_that_the_stream_tells(
    opened, broken: tuple[int, ...], cache_mb: float
) -> None:
    pictures = opened(broken=broken, cache_mb=cache_mb)
    tones = {number: tone(picture) for number, picture in pictures.style_pictures(CPU)}
    assert sorted(tones.values()) == [number for number in range(6) if number not in broken]
    crop = Crop(16, (16, 16))
    stream = PairStream(pictures.content, list(pictures.styles.values()), content_crop=crop, style_crop=crop, seed=0)
    draws = [stream[position] for position in range(12)]
    assert {index: tone(to_float(style)) for _, style, index, *_ in draws} == tones


def test_style_pictures_are_whole_and_in_the_middle_of_the_range_of_crops(opened) -> None:
    pictures = opened()
    for number, (place, picture) in enumerate(pictures.style_pictures(CPU)):
        assert place == number
        assert torch.equal(picture[0], to_float(decode(pictures.style_paths[number], short_side=20)))
    assert [picture.shape[2] for _, picture in pictures.style_pictures(CPU, 18)] == [18] * 6


@pytest.mark.filterwarnings("ignore")
def test_an_unreadable_one_leaves_its_number_out_and_is_reported(opened, tmp_path: Path) -> None:
    paths = opened(broken=(1, 3), cache_mb=0.0).style_paths
    watch = UnreadablePictures("data.style", len(paths), limit=0.5)
    assert [number for number, _ in load(paths, 16, CPU, watch)] == [0, 2, 4, 5]
    assert set(watch.problems) == {str(tmp_path / "style" / "1.png"), str(tmp_path / "style" / "3.png")}


@pytest.mark.filterwarnings("ignore")
def test_for_a_photo_that_cannot_be_read_another_is_measured(tmp_path: Path) -> None:
    photos = [grey(tmp_path / f"{number}.png", 30 * number) for number in range(8)]
    style = grey(tmp_path / "style" / "s.png")

    def tones(count: int) -> list[int]:
        options = OPTIONS | {"cache_mb": 0.0, "max_unreadable": 1.0}
        pictures = open_pictures(content=str(tmp_path / "*.png"), style=str(style), **options)
        crops = pictures.content_crops(count, Crop(16, (16, 16), flip=False), 3, CPU)
        return [round((crop.mean().item() + 1) * 127.5 / 30) for crop in crops]

    (first,) = tones(1)
    photos[first].write_bytes(BROKEN)
    (second,) = tones(1)
    assert second != first
    for count in range(1, 9):
        assert len(set(tones(count))) == len(tones(count)) == min(count, 7)
    for photo in photos:
        photo.write_bytes(BROKEN)
    with pytest.raises(ValueError, match=r"data\.content: none of its 8 pictures can be read"):
        tones(3)


def test_style_pictures_are_held_out_where_that_is_asked_for(opened) -> None:
    complete, cut = opened(), opened(style_holdout_count=3)  # never more than a fifth of them
    assert complete.held_out_styles == [] and len(complete.style_paths) == 6
    assert len(cut.held_out_styles) == 1
    assert sorted([*cut.style_paths, *cut.held_out_styles]) == complete.style_paths


def test_where_style_pictures_are_too_few_some_are_both(tmp_path: Path) -> None:
    only = grey(tmp_path / "one.png")
    with pytest.warns(UserWarning, match="1 style pictures are too few to hold any out"):
        pictures = open_pictures(content=str(only), style=str(only), **OPTIONS, style_holdout_count=4)
    assert pictures.held_out_styles == pictures.style_paths == [only]


def test_fewer_held_out_pictures_than_asked_for_are_said(tmp_path: Path) -> None:
    for number in range(6):
        grey(tmp_path / f"{number}.png")
    with pytest.warns(UserWarning, match=r"data\.holdout_count=6: 1 of 6"):
        training, held_out, _ = split(str(tmp_path), None, 6)
    assert len(training) == 5 and len(held_out) == 1


def test_a_set_that_is_too_small_to_hold_out_what_is_asked_for_is_said(tmp_path: Path) -> None:
    for number in range(3):
        grey(tmp_path / f"{number}.png")
    with pytest.warns(UserWarning, match=r"data\.holdout_count=6"):
        pictures = open_pictures(content=str(tmp_path), style=str(tmp_path), **OPTIONS | {"holdout_count": 6})
    assert pictures.held_out_is_trained_on
