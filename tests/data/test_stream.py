"""gan_style/data/stream.py: crops, and a stream of pairs that follows from (seed, position) alone."""

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from gan_style.data.pictures import MaskedPictures, PairedPictures, PictureSet, UnreadablePictures
from gan_style.data.stream import Batch, Crop, PairStream, Positions, batches, collate, interruptible, recoloured

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one core

# Crops


def two_ramps(height: int, width: int) -> Tensor:
    """Red rises by 2 a column, green by 2 a row."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([2 * x, 2 * y, 0 * x]).to(torch.uint8)


def slopes(crop: Tensor) -> tuple[float, float]:
    """How fast red rises by columns and green by rows, away from the border."""
    inner = crop[:, 3:-3, 3:-3].float()
    across = (inner[0, :, -1] - inner[0, :, 0]).mean() / (inner.shape[2] - 1)
    down = (inner[1, -1, :] - inner[1, 0, :]).mean() / (inner.shape[1] - 1)
    return across.item(), down.item()


@pytest.mark.parametrize("shape", [(100, 120), (120, 60), (64, 64), (17, 90), (1, 9), (9, 1)])
@pytest.mark.parametrize(("size", "resize"), [(32, (32, 32)), (32, (40, 90)), (7, (7, 300))])
def test_a_crop_is_a_square_of_the_given_size(shape: tuple[int, int], size: int, resize: tuple[int, int]) -> None:
    rng = random.Random(0)
    for _ in range(5):
        crop = Crop(size, resize)(two_ramps(*shape), rng)
        assert crop.shape == (3, size, size)
        assert crop.dtype == torch.uint8


@pytest.mark.parametrize("shape", [(100, 120), (120, 100), (60, 120), (125, 50)])
@pytest.mark.parametrize("short", [32, 40, 50, 64, 130])
def test_a_crop_is_scaled_alike_in_both_directions_and_never_squashed(shape: tuple[int, int], short: int) -> None:
    """A slope of 2 a pixel becomes 2 / factor in both directions, wherever the crop lies."""
    rng = random.Random(short)
    expected = 2 * min(shape) / short
    whole_pixels = 0.5 / (32 * min(shape) / short)  # a crop is cut at whole pixels of the picture, then scaled
    for _ in range(5):
        across, down = slopes(Crop(32, (short, short), flip=False)(two_ramps(*shape), rng))
        assert across == pytest.approx(down, abs=0.05)  # the border pixels are rounded to whole bytes
        assert across == pytest.approx(expected, rel=whole_pixels + 0.03)


def test_without_scaling_a_crop_is_a_part_of_the_picture_exactly() -> None:
    crop = Crop(16, (50, 50), flip=False)(two_ramps(50, 80), random.Random(3))
    left, top = crop[0, 0, 0].item() // 2, crop[1, 0, 0].item() // 2
    assert torch.equal(crop, two_ramps(50, 80)[:, top : top + 16, left : left + 16])


def test_small_pictures_are_scaled_up_to_fill_the_crop() -> None:
    crop = Crop(64, (64, 64), flip=False)(two_ramps(10, 10), random.Random(0))
    assert crop.shape == (3, 64, 64)
    assert slopes(crop) == pytest.approx((2 * 10 / 64, 2 * 10 / 64), abs=0.05)
    assert crop[0].max() == 18  # the whole picture is in it: 2 * 9 at its right border


@pytest.mark.parametrize("picture", [0, 77, 255])
def test_scaling_keeps_a_plain_colour(picture: int) -> None:
    plain = torch.full((3, 23, 31), picture, dtype=torch.uint8)
    assert Crop(16, (16, 90))(plain, random.Random(1)).unique().tolist() == [picture]


def test_the_short_side_is_drawn_from_the_whole_range() -> None:
    rng, crop = random.Random(0), Crop(32, (40, 80), flip=False)
    factors = [2 / slopes(crop(two_ramps(100, 120), rng))[0] for _ in range(200)]
    assert min(factors) == pytest.approx(0.4, abs=0.02)
    assert max(factors) == pytest.approx(0.8, abs=0.03)
    assert np.mean(factors) == pytest.approx(0.6, abs=0.04)  # uniform: sd of the mean 0.008


def test_every_part_of_the_picture_can_be_drawn() -> None:
    rng, crop = random.Random(0), Crop(20, (50, 50), flip=False)
    corners = [crop(two_ramps(50, 120), rng)[:2, 0, 0].tolist() for _ in range(300)]
    lefts, tops = ({value // 2 for value in values} for values in zip(*corners, strict=True))
    assert tops == set(range(31))
    assert (min(lefts), max(lefts)) == (0, 100)


def test_half_of_the_crops_are_flipped_left_to_right() -> None:
    rng, crop = random.Random(0), Crop(32, (32, 32))
    flipped = sum(slopes(crop(two_ramps(32, 32), rng))[0] < 0 for _ in range(400))
    assert 150 <= flipped <= 250  # five standard deviations
    assert all(slopes(crop(two_ramps(32, 32), rng))[1] > 0 for _ in range(20))  # never upside down


def test_nothing_is_flipped_where_that_is_off() -> None:
    rng, crop = random.Random(0), Crop(32, (32, 32), flip=False)
    assert all(torch.equal(crop(two_ramps(32, 32), rng), two_ramps(32, 32)) for _ in range(30))


# The stream


def colour_set(
    folder: Path, role: str, count: int, *, broken: tuple[int, ...] = (), cache_bytes: float = 1e9
) -> PictureSet:
    """Pictures of one colour: red tells the number, the rest is noise enough to tell crops apart."""
    paths = [folder / f"{role}{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 18, 3), np.uint8)
        pixels[..., 0] = number
        Image.fromarray(pixels).save(path)
        if number in broken:
            path.write_bytes(path.read_bytes()[:60])
    watch = UnreadablePictures(f"data.{role}", count, 1.0)
    return PictureSet(paths, short_side=12, cache_bytes=cache_bytes, watch=watch)


def number_of(crop: Tensor) -> int:
    (number,) = crop[0].unique().tolist()
    return number


def stream_of(content: Any, *styles: PictureSet, seed: int = 0, short: int = 8, **options: Any) -> PairStream:
    crop = Crop(8, (8, short))
    return PairStream(content, styles, content_crop=crop, style_crop=crop, seed=seed, **options)


MakeStream = Callable[..., PairStream]


@pytest.fixture
def make_stream(tmp_path: Path) -> MakeStream:
    def make(seed: int = 0, content: int = 7, style: int = 3, **options: Any) -> PairStream:
        sets = colour_set(tmp_path, "content", content, **options), colour_set(tmp_path, "style", style)
        return stream_of(*sets, seed=seed, short=12)

    return make


def collected(stream: PairStream, first: int, last: int, *, workers: int = 0, batch: int = 3) -> list[Batch]:
    positions = Positions(first_step=first, last_step=last, batch=batch)
    return list(batches(stream, positions, workers=workers, pin_memory=False))


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x.content, y.content)
        and torch.equal(x.style, y.style)
        and torch.equal(x.style_index, y.style_index)
        and x.positions == y.positions
        and x.unreadable == y.unreadable
        for x, y in zip(a, b, strict=True)
    )


def test_a_batch_is_of_crops_as_bytes(make_stream: MakeStream) -> None:
    (batch,) = collected(make_stream(), 0, 1, batch=4)
    assert batch.content.shape == batch.style.shape == (4, 3, 8, 8)
    assert batch.content.dtype == batch.style.dtype == torch.uint8
    assert batch.style_index.shape == (4,) and batch.style_index.dtype == torch.int64
    assert batch.unreadable == []


def test_a_batch_says_which_of_the_set_its_styles_are_cut_from(make_stream: MakeStream) -> None:
    for workers in (0, 2):
        for batch in collected(make_stream(style=5), 0, 4, batch=4, workers=workers):
            assert batch.style_index.tolist() == [number_of(crop) for crop in batch.style]


@pytest.mark.parametrize("cache_bytes", [1e9, 0])
@pytest.mark.filterwarnings("ignore:cannot read")
def test_also_where_one_that_cannot_be_read_was_passed_over(tmp_path: Path, cache_bytes: float) -> None:
    """A cached set leaves it out, so that those after it move up: the numbers are those of the set as it then is."""
    content = colour_set(tmp_path, "content", 2)
    style = colour_set(tmp_path, "style", 5, broken=(2,), cache_bytes=cache_bytes)
    stream = stream_of(content, style)
    indices = set()
    for batch in collected(stream, 0, 5, batch=2):
        for crop, index in zip(batch.style, batch.style_index.tolist(), strict=True):
            assert style.paths[index].name == f"style{number_of(crop)}.png"
            indices.add(index)
    assert indices == ({0, 1, 2, 3} if cache_bytes else {0, 1, 3, 4})


def test_a_batch_goes_to_a_device_whole() -> None:
    """The meta device stands for a GPU: what is there has no values, and nothing may be left behind."""
    picture = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    batch = Batch(picture, picture + 1, torch.tensor([3]), [7], [("o", "a", "r")])
    moved = batch.to(torch.device("meta"))
    assert moved.content.is_meta and moved.style.is_meta and moved.style_index.is_meta
    assert moved.unreadable == [("o", "a", "r")] and moved.positions == [7]
    stayed = batch.to(torch.device("cpu"))
    assert torch.equal(stayed.style, picture + 1) and stayed.style_index.tolist() == [3]


def test_an_item_follows_from_seed_and_position_alone(make_stream: MakeStream) -> None:
    first, two = make_stream(seed=5), make_stream(seed=5)
    forwards = [first[position] for position in range(20)]
    random.seed(123)
    torch.manual_seed(123)
    backwards = [two[position] for position in reversed(range(20))]
    for (content, style, index, *_), other in zip(forwards, reversed(backwards), strict=True):
        assert torch.equal(content, other[0])
        assert torch.equal(style, other[1])
        assert index == other[2]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_started_in_the_middle_goes_on_as_if_never_stopped(make_stream: MakeStream, workers: int) -> None:
    uninterrupted = collected(make_stream(), 0, 8)
    assert same(collected(make_stream(), 5, 8, workers=workers), uninterrupted[5:])


def test_different_seeds_give_different_orders_and_cut_the_same_picture_differently(make_stream: MakeStream) -> None:
    streams = [collected(make_stream(seed=seed), 0, 4) for seed in (0, 1)]
    orders = [[number_of(crop) for batch in stream for crop in batch.content] for stream in streams]
    assert orders[0] != orders[1]
    first, two = (make_stream(seed=seed, content=1, style=1) for seed in (0, 1))
    assert not any(torch.equal(first[position][0], two[position][0]) for position in range(5))


def test_the_batch_size_only_cuts_the_stream_differently(make_stream: MakeStream) -> None:
    by_two, by_three = collected(make_stream(), 0, 6, batch=2), collected(make_stream(), 0, 4, batch=3)
    assert torch.equal(torch.cat([b.content for b in by_two]), torch.cat([b.content for b in by_three]))


def test_each_epoch_visits_each_picture_exactly_once_in_an_order_of_its_own(make_stream: MakeStream) -> None:
    stream = make_stream(content=7, style=3)
    content = [number_of(stream[position][0]) for position in range(28)]
    style = [number_of(stream[position][1]) for position in range(27)]
    content_epochs = [content[start : start + 7] for start in range(0, 28, 7)]
    style_epochs = [style[start : start + 3] for start in range(0, 27, 3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in content_epochs)
    assert all(sorted(epoch) == list(range(3)) for epoch in style_epochs)
    assert len({tuple(epoch) for epoch in content_epochs}) == 4
    assert len({tuple(epoch) for epoch in style_epochs}) > 1


def test_the_order_of_the_styles_knows_nothing_of_the_contents(make_stream: MakeStream) -> None:
    """Two sets of one size: were the orders one, every content would meet the same style in every epoch."""
    stream = make_stream(content=5, style=5)
    pairs = Counter((number_of(stream[p][0]), number_of(stream[p][1])) for p in range(100))
    assert len(pairs) > 18  # 25 kinds of pair; with one order there would be 5


def test_a_picture_is_cropped_anew_in_every_epoch(make_stream: MakeStream) -> None:
    stream = make_stream(content=1, style=1)
    assert not any(torch.equal(stream[0][0], stream[position][0]) for position in range(1, 5))


class Endless(Dataset[Any]):
    """Its second batch never comes."""

    def __getitem__(self, position: int) -> Any:
        time.sleep(1000 * position)
        picture = torch.zeros(3, 4, 4, dtype=torch.uint8)
        return picture, picture, 0, position, [], None, None


def test_waiting_for_a_batch_ends_where_somebody_asks_to_stop() -> None:
    positions = Positions(first_step=0, last_step=2, batch=1)
    loader = batches(Endless(), positions, workers=1, pin_memory=False)  # type: ignore[arg-type]
    begin = time.monotonic()
    assert len(list(interruptible(loader, lambda: True, patience=1.0))) == 1
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_draws_on_no_global_random_state(make_stream: MakeStream, workers: int) -> None:
    stream = make_stream()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()
    collected(stream, 0, 3, workers=workers)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), before[2], strict=True))


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [(0, 2, [[0, 1, 2], [3, 4, 5]]), (3, 4, [[9, 10, 11]]), (5, 3, [])],  # the last of a run that is finished
)
def test_positions_are_those_of_the_steps(first: int, last: int, expected: list[list[int]]) -> None:
    positions = Positions(first_step=first, last_step=last, batch=3)
    assert list(positions) == expected and len(positions) == len(expected)


def test_collate_keeps_the_problems_and_the_number_of_every_pair() -> None:
    picture, problems = torch.zeros(3, 2, 2, dtype=torch.uint8), [[("o", "a", "r")], [], [("o", "b", "r")]]
    pairs = zip((4, 0, 4), (11, 12, 13), problems, strict=True)
    batch = collate([(picture, picture, index, position, unread, None, None) for index, position, unread in pairs])
    assert batch.unreadable == [("o", "a", "r"), ("o", "b", "r")]
    assert batch.style_index.tolist() == [4, 0, 4] and batch.positions == [11, 12, 13]


# Pictures that cannot be read, found on the way


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_picture_is_replaced_by_another_of_the_set_and_reported(
    tmp_path: Path, make_stream: MakeStream, workers: int
) -> None:
    stream = make_stream(content=5, broken=(2,), cache_bytes=0)
    epochs, reported = [], []
    for batch in collected(stream, 0, 3, batch=5, workers=workers):  # three epochs of the content
        epochs.append([number_of(crop) for crop in batch.content])
        reported.append(batch.unreadable)
    for epoch in epochs:
        counts = Counter(epoch)
        assert set(counts) == {0, 1, 3, 4}  # every good one is there, and one of them twice
        assert sum(counts.values()) == 5
    for problems in reported:
        ((option, name, reason),) = problems
        assert option == "data.content"
        assert name == str(tmp_path / "content2.png")
        assert name in reason


def test_good_draws_are_the_same_with_and_without_a_broken_picture_in_the_set(make_stream: MakeStream) -> None:
    """The broken one's neighbours stay where they are."""
    with_broken = collected(make_stream(content=5, broken=(2,), cache_bytes=0), 0, 5, batch=1)
    intact = collected(make_stream(content=5, cache_bytes=0), 0, 5, batch=1)
    pairs = enumerate(zip(intact, with_broken, strict=True))
    differing = [step for step, (a, b) in pairs if not torch.equal(a.content, b.content)]
    assert differing == [step for step, batch in enumerate(with_broken) if batch.unreadable]
    assert len(differing) == 1


@pytest.mark.parametrize("broken", [(), (0,)], ids=["alone", "and one of the others"])
def test_a_set_of_which_nothing_can_be_read_ends_the_stream_naming_the_option(tmp_path: Path, broken: tuple) -> None:
    """Counted are only the pictures of its own set."""
    content = colour_set(tmp_path, "content", 2, broken=broken, cache_bytes=0)
    stream = stream_of(content, colour_set(tmp_path, "style", 2, broken=(0, 1), cache_bytes=0))
    for position in (0, 1):  # one of the two meets the broken content first
        with pytest.raises(ValueError, match=r"data\.style: 2 pictures in a row cannot be read.*style[01]\.png"):
            stream[position]


# Several styles


def library_stream(folder: Path, full_strength: float | None, counts: tuple[int, ...] = (4, 1, 2)) -> PairStream:
    styles = [colour_set(folder, f"style{which}_", count) for which, count in enumerate(counts)]
    return stream_of(colour_set(folder, "content", 3), *styles, full_strength=full_strength)


def test_each_style_comes_up_once_in_as_many_positions_and_its_pictures_equally_often(tmp_path: Path) -> None:
    stream = library_stream(tmp_path, 1.0)
    pairs = [stream[position] for position in range(24)]
    which = [int(condition.argmax()) for *_, condition, _ in pairs if condition is not None]
    assert all(sorted(which[start : start + 3]) == [0, 1, 2] for start in range(0, 24, 3))
    assert len({tuple(which[start : start + 3]) for start in range(0, 24, 3)}) > 1
    assert Counter(index for _, _, index, *_ in pairs) == {0: 2, 1: 2, 2: 2, 3: 2, 4: 8, 5: 4, 6: 4}


def test_a_condition_is_the_style_of_the_picture_beside_it(tmp_path: Path) -> None:
    batch = collate([library_stream(tmp_path, 0.5)[position] for position in range(30)])
    assert batch.condition is not None and batch.condition.shape == (30, 3)
    of_picture = torch.bucketize(batch.style_index, torch.tensor([3, 4, 6]))
    assert torch.equal(batch.condition.argmax(dim=1), of_picture)
    assert (batch.condition.count_nonzero(dim=1) == 1).all()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_of_samples_at_full_strength(tmp_path: Path, share: float) -> None:
    """Of 300 the standard error is at most 0.03; the others lie evenly in [0, 1)."""
    stream = library_stream(tmp_path, share)
    conditions = [stream._condition(0, position) for position in range(300)]
    strengths = torch.stack([item for item in conditions if item is not None])[:, 0]
    assert abs((strengths == 1.0).float().mean() - share) < 0.1
    others = strengths[strengths < 1.0]
    assert len(others) == 0 or abs(others.mean() - 0.5) < 0.1
    assert not len(others) or (others.min() < 0.1 and others.max() > 0.9)


def test_one_style_alone_has_no_condition_but_a_library_of_one_has(tmp_path: Path) -> None:
    single, library = library_stream(tmp_path, None, (5,)), library_stream(tmp_path, 1.0, (5,))
    for position in range(7):
        assert single[position][-2] is None
        assert torch.equal(library[position][-2], torch.ones(1))
        assert torch.equal(single[position][1], library[position][1])  # and nothing else is drawn otherwise


def test_a_condition_is_cut_and_moved_with_its_batch(tmp_path: Path) -> None:
    batch = collate([library_stream(tmp_path, 0.5)[position] for position in range(4)])
    first, second = batch.split(2)
    assert torch.equal(torch.cat([first.condition, second.condition]), batch.condition)
    assert batch.to(torch.device("meta")).condition.is_meta


def test_recoloured_crops_keep_their_structure_and_change_their_colours():
    """Each channel is a mixture of the three, so grey stays grey, and the order of its levels stays."""
    grey = torch.randint(60, 180, (1, 8, 8), dtype=torch.uint8).expand(3, 8, 8)
    result = recoloured(grey, random.Random(3)).int()
    assert (result - result[:1]).abs().max() <= 1
    order = grey[0].flatten().argsort(stable=True)
    assert (result[0].flatten()[order].diff() >= 0).all()
    picture = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    pictures = [recoloured(picture, random.Random(seed)) for seed in (1, 1, 2)]
    assert torch.equal(pictures[0], pictures[1]) and not torch.equal(pictures[0], pictures[2])


# Pairs and masks


def noise_set(folder: Path, *, negative: bool = False, cache_bytes: float = 1e9) -> PictureSet:
    """Three pictures of noise, or their negatives in the other order."""
    folder.mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(255 - noise if negative else noise).save(folder / f"{number}.png")
    paths = sorted(folder.iterdir(), reverse=negative)
    watch = UnreadablePictures(f"data.{folder.name}", 3, 0.0)
    return PictureSet(paths, short_side=40, cache_bytes=cache_bytes, watch=watch)


def test_a_style_picture_is_cut_and_turned_as_its_photo(tmp_path: Path) -> None:
    """Each photo's style picture is its negative: so are the crops, at every position."""
    content, styles = noise_set(tmp_path / "content"), noise_set(tmp_path / "style", negative=True)
    crop = Crop(24, (24, 40))
    stream = PairStream(PairedPictures(content, styles), [styles], content_crop=crop, style_crop=crop, seed=3)
    indices = set()
    for position in range(12):
        photo, style, index, *_ = stream[position]
        assert (photo.int() + style.int() - 255).abs().max() <= 2  # rounded once for the rows, once for the columns
        indices.add(index)
    assert indices == {0, 1, 2}


@pytest.mark.parametrize("cache_bytes", [1e9, 0])
def test_masks_are_cut_and_turned_as_their_photo(tmp_path: Path, cache_bytes: float) -> None:
    """Each photo's masks are its own red and green."""
    pictures = noise_set(tmp_path / "content", cache_bytes=cache_bytes)
    masked = MaskedPictures(pictures, lambda path, pixels: pixels[:2])
    crop = Crop(24, (24, 40))
    stream = PairStream(masked, [pictures], content_crop=crop, style_crop=crop, seed=3)
    batch = collate([stream[position] for position in range(12)])
    assert batch.content.shape == (12, 3, 24, 24) and batch.masks is not None
    assert torch.equal(batch.masks, batch.content[:, :2])
    assert torch.equal(torch.cat([part.masks for part in batch.split(4)]), batch.masks)  # type: ignore[misc]
