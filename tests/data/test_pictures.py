"""gan_style/data/pictures.py: from what the user names to pictures, with what cannot be read named and counted."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gan_style.data.pictures import (
    PairedPictures,
    PictureSet,
    UnreadablePictures,
    find_pictures,
    first_of_parts,
    held_out_split,
    middle_of_parts,
)
from gan_style.images.decode import decode
from gan_style.images.formats import UnreadablePictureError


def plain(path: Path, colour: int = 0, size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, colour, colour)).save(path)
    return path


def broken(path: Path) -> Path:
    path.write_bytes(b"this is not a picture")
    return path


# What the user names


NAMES = {  # what is there, what the user names, and the pictures that are meant, in their order
    "a folder": ("b.png a.jpg deep/c.png .hidden.png notes.txt", "", "a.jpg b.png deep/c.png"),
    "a pattern": ("deep/a3.png b1.png a9.jpg a10.jpg a2.jpg a0.png a.txt", "a*", "a0.png a10.jpg a2.jpg a9.jpg"),
    "a pattern with two stars": ("a.png deep/er/b.png c.jpg", "**/*.png", "a.png deep/er/b.png"),
    "a single picture": ("a.png", "a.png", "a.png"),
    "a picture with brackets": ("holiday[2]/a[1].png", "holiday[2]/a[1].png", "holiday[2]/a[1].png"),
    "a folder with brackets": ("holiday[2]/a[1].png", "holiday[2]", "holiday[2]/a[1].png"),
    "a folder of the home folder": ("pictures/a.png", "~/pictures", "pictures/a.png"),
    "a pattern in the home folder": ("pictures/a.png", "~/pictures/*.png", "pictures/a.png"),
    "several": ("b.png deep/a.png c.png", "c.png deep b*", "c.png deep/a.png b.png"),
    "several that overlap": ("a.png b.png", "b.png . *.png", "b.png a.png"),
}


@pytest.mark.parametrize("case", NAMES)
def test_what_a_name_stands_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """A picture that two names reach is there once, so that none is counted twice among those that can be read."""
    there, named, expected = (names.split(" ") for names in NAMES[case])
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a_folder.png").mkdir()
    for name in there:
        plain(tmp_path / name) if name.endswith(("png", "jpg")) else (tmp_path / name).touch()
    spec = [name if name.startswith("~") else f"{tmp_path}/{name}" for name in named]
    found = find_pictures(spec if len(spec) > 1 else spec[0], "data.content")
    assert found == [tmp_path / name for name in expected]


@pytest.mark.parametrize(
    ("name", "count"), [("demo:styles", 4), ("demo:styles/mosaic", 1), ("demo:heldout/chelsea", 1), ("demo:photos", 3)]
)
def test_demo_styles_are_readable_pictures(name: str, count: int) -> None:
    actual = find_pictures(name, "data.style")
    assert len(actual) == count
    assert decode(actual[0], short_side=16).shape[0] == 3


def test_demo_photographs_are_readable_and_the_held_out_ones_are_none_of_the_training_ones() -> None:
    pytest.importorskip("skimage")
    photos, held_out = (find_pictures(name, "data.content") for name in ("demo:photos", "demo:heldout"))
    assert all(decode(path, short_side=16).shape[0] == 3 for path in [*photos, *held_out])
    assert not set(photos) & set(held_out)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: str(folder), "there is no picture in this folder"),
        (lambda folder: str(folder / "missing"), "there is no such folder or file"),
        (lambda folder: str(folder / "*.png"), "no picture matches this pattern"),
        (lambda _: "demo:nothing", r"demo:nothing.*demo:photos.*demo:styles/mosaic"),
        (lambda _: "demo:styles/nothing", r"demo:styles/nothing.*demo:styles/mosaic"),
        (lambda folder: [str(plain(folder / "good" / "a.png")), str(folder / "missing")], "missing.*no such folder"),
        (lambda _: [], r"\w+"),
    ],
    ids=["empty folder", "missing", "pattern without match", "demo", "demo style", "one of a list", "empty list"],
)
def test_naming_no_picture_is_an_error_that_names_the_option(
    tmp_path: Path, make: Callable[[Path], str | list[str]], reason: str
) -> None:
    with pytest.raises(ValueError, match=rf"(?s)data\.content.*{reason}"):
        find_pictures(make(tmp_path), "data.content")


# Counting what cannot be read


def test_each_unreadable_picture_is_warned_of_once_by_name() -> None:
    watch = UnreadablePictures("data.content", total=100, limit=0.5)
    with pytest.warns(UserWarning) as caught:
        for name in ("a.jpg", "b.jpg", "a.jpg", "a.jpg", "b.jpg"):
            watch.report((name, f"cannot read {name}: truncated"))
        watch.report(("b.jpg", "cannot read b.jpg"), ("c.jpg", "cannot read c.jpg: truncated"))
        watch.report()
    texts = [str(warning.message) for warning in caught]
    assert all("truncated" in text and "data.content" in text for text in texts)
    assert len(texts) == 3 and all(name in text for name, text in zip(watch.problems, texts, strict=True))
    assert set(watch.problems) == {"a.jpg", "b.jpg", "c.jpg"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("limit", "allowed"), [(0.0, 0), (0.25, 2), (0.3, 2), (0.5, 4)])
def test_more_than_the_allowed_share_stops_the_run(limit: float, allowed: int) -> None:
    watch = UnreadablePictures("data.content", total=8, limit=limit)
    problems = [(f"{number}.jpg", "cut off") for number in range(allowed)]
    watch.report(*problems)
    for problem in problems:  # again: nothing new
        watch.report(problem)
    with pytest.raises(ValueError, match=rf"data\.content: {allowed + 1} of 8 pictures.*max_unreadable={limit:g}"):
        watch.report(("one too many.jpg", "cut off"))


def test_of_many_at_once_all_are_named_before_the_run_stops() -> None:
    watch = UnreadablePictures("data.content", total=4, limit=0.0)
    with pytest.warns(UserWarning) as caught, pytest.raises(ValueError, match=r"data\.content: 3 of 4 pictures"):
        watch.report(("a.jpg", "a is cut"), ("b.jpg", "b is cut"), ("c.jpg", "c is cut"))
    assert [str(warning.message)[0] for warning in caught] == ["a", "b", "c"]


@pytest.mark.filterwarnings("ignore")
def test_a_set_of_which_nothing_can_be_read_stops_the_run_whatever_is_allowed() -> None:
    watch = UnreadablePictures("data.style", total=2, limit=1.0)
    watch.report(("a.jpg", "cut off"))
    with pytest.raises(ValueError, match=r"data\.style: none of its 2 pictures can be read.*why this one"):
        watch.report(("b.jpg", "why this one"))


# Sets of pictures

CACHE, NO_CACHE = 1e9, 0


def picture_set(paths: list[Path], cache_bytes: float, *, limit: float = 0.5, short_side: int = 8) -> PictureSet:
    watch = UnreadablePictures("data.content", len(paths), limit)
    return PictureSet(paths, short_side=short_side, cache_bytes=cache_bytes, watch=watch)


def test_cached_and_lazy_give_the_same_pictures(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    paths = []
    for number, (height, width) in enumerate([(8, 8), (30, 17), (5, 40)]):
        pixels = torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8).numpy()
        paths.append(tmp_path / f"{number}.{('png', 'jpg', 'webp')[number]}")
        Image.fromarray(pixels).save(paths[-1])
    cached, lazy = picture_set(paths, CACHE), picture_set(paths, NO_CACHE)
    assert (cached.cached, lazy.cached) == (True, False)
    assert len(cached) == len(lazy) == 3
    for number, path in enumerate(paths):
        assert torch.equal(cached[number], lazy[number])
        assert torch.equal(lazy[number], decode(path, short_side=8))
        assert min(cached[number].shape[1:]) == 8


def test_the_cache_is_used_only_where_the_set_fits(tmp_path: Path) -> None:
    paths = [plain(tmp_path / f"{number}.png") for number in range(4)]
    likely = 4 * 8 * 12 * 3  # bytes of four RGB pictures of 8 x 12
    assert picture_set(paths, likely).cached
    assert not picture_set(paths, likely - 1).cached


def with_two_broken(folder: Path) -> list[Path]:
    """Numbers 0 to 5, each the grey of 40 times its number; 1 and 4 cannot be read."""
    paths = [plain(folder / f"{number}.png", 40 * number) for number in range(6)]
    return [broken(path) if number in (1, 4) else path for number, path in enumerate(paths)]


def test_cached_the_unreadable_are_left_out_and_names_still_fit(tmp_path: Path) -> None:
    paths = with_two_broken(tmp_path)
    with pytest.warns(UserWarning) as caught:
        pictures = picture_set(paths, CACHE)
    assert sorted(Path(name).name for name in pictures.watch.problems) == ["1.png", "4.png"]
    assert len(caught) == 2
    assert [path.name for path in pictures.paths] == ["0.png", "2.png", "3.png", "5.png"]
    assert len(pictures) == 4
    for number, path in enumerate(pictures.paths):
        assert pictures[number].unique().tolist() == [40 * int(path.stem)]


def test_lazy_an_unreadable_one_raises_and_no_neighbour_comes_in_its_place(tmp_path: Path) -> None:
    pictures = picture_set(with_two_broken(tmp_path), NO_CACHE)
    assert len(pictures) == 6
    for number, path in enumerate(pictures.paths):
        if number in (1, 4):
            with pytest.raises(UnreadablePictureError, match=path.name):
                pictures[number]
        else:
            assert pictures[number].unique().tolist() == [40 * int(path.stem)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("limit", "stops"), [(0.3, True), (0.34, False)])
def test_cached_too_many_unreadable_stop_the_run_at_once(tmp_path: Path, limit: float, stops: bool) -> None:
    with pytest.raises(ValueError, match=r"data\.content: 2 of 6 pictures cannot be read") if stops else nullcontext():
        assert len(picture_set(with_two_broken(tmp_path), CACHE, limit=limit)) == 4


def test_readable_pictures_are_not_warned_of(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture_set([plain(tmp_path / "a.png")], CACHE)


# Held out


def test_a_link_that_leads_back_to_its_own_folder_does_not_multiply_a_pattern_s_pictures(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / "one.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the end of the loop is no broken link
        for pattern in ("**/*.png", "**"):
            assert find_pictures(f"{tmp_path}/{pattern}", "data.content") == [tmp_path / "a" / "one.png"]


@given(total=st.integers(0, 200), count=st.integers(0, 60))
def test_held_out_pictures_are_apart_from_training_and_of_the_right_count(total: int, count: int) -> None:
    paths = [Path(f"{number:03d}.png") for number in range(total)]
    training, held_out = held_out_split(paths, count)
    assert len(held_out) == min(count, total // 5)
    assert sorted([*training, *held_out]) == paths  # nothing lost, nothing twice
    assert training == sorted(training)
    assert held_out == sorted(held_out)
    assert held_out_split(paths, count) == (training, held_out)


@given(total=st.integers(10, 200), count=st.integers(2, 40))
def test_held_out_pictures_are_evenly_spread(total: int, count: int) -> None:
    _, held_out = held_out_split([Path(str(number)) for number in range(total)], count)
    numbers = [int(path.name) for path in held_out]
    pace = total / len(numbers)
    assert all(abs(after - before - pace) <= 1 for before, after in pairwise(numbers))
    assert abs(numbers[0] - (total - 1 - numbers[-1])) <= 1  # the ends are treated alike


# Pairs


@pytest.mark.parametrize("cache", [NO_CACHE, CACHE], ids=["decoded as they come", "in memory"])
def test_a_pair_is_found_by_its_name_and_has_the_photos_size(tmp_path: Path, cache: float) -> None:
    photos = [plain(tmp_path / "photos" / f"{n}.png", 10 * n, (24, 16)) for n in range(3)]
    styles = [plain(tmp_path / "styles" / f"{n}.jpg", 100 + 10 * n, (48, 32)) for n in (2, 0, 1)]
    pairs = PairedPictures(*(picture_set(paths, cache, limit=1.0, short_side=16) for paths in (photos, styles)))
    assert pairs.numbers == [1, 2, 0]
    for number in range(3):
        assert pairs[number].shape == (6, 16, 24)
        assert pairs[number][0, 0, 0] == 10 * number
        assert abs(int(pairs[number][3, 5, 5]) - (100 + 10 * number)) <= 1  # JPEG


def test_pairs_of_another_shape_or_unreadable_ones_are_passed_over_by_name(tmp_path: Path) -> None:
    photos = [plain(tmp_path / "photos" / f"{n}.png", 0, (24, 16)) for n in range(3)]
    styles = [plain(tmp_path / "styles" / "0.png"), broken(tmp_path / "styles" / "1.png")]
    styles.append(plain(tmp_path / "styles" / "2.png", 0, (16, 24)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pairs = PairedPictures(*(picture_set(paths, CACHE, limit=1.0, short_side=16) for paths in (photos, styles)))
    assert pairs[0].shape == (6, 16, 24)
    for number, message in ((1, r"1\.png cannot be read"), (2, r"16 x 24 and 24 x 16 differ")):
        with pytest.raises(UnreadablePictureError, match=message):
            pairs[number]


@pytest.mark.parametrize(("choose", "expected"), [(first_of_parts, [0, 5]), (middle_of_parts, [2, 7])])
def test_equal_parts_give_one_item_each_and_never_more_than_there_are(choose, expected):
    assert choose(range(10), 2) == expected
    assert choose(range(10), 10) == list(range(10)) == choose(range(10), 99)
    assert choose([7], 3) == [7]
    assert choose([], 3) == choose(range(10), 0) == []
