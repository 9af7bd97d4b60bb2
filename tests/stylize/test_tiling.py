"""gan_style/stylize/tiling.py: tiles make what the whole picture would."""

import copy
import errno
import os
import subprocess
import sys

import pytest
import torch
from generators import make_library, make_resnet, write_file
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from gan_style.functional import RunningMoments
from gan_style.models.generator import ResidualCoder, ResnetGenerator
from gan_style.models.library import LibraryGenerator
from gan_style.stylize.paint import in_tiles
from gan_style.stylize.tiling import ActivationStore, Box, TiledGenerator, boxes, clone_with_frozen_norms

CPU = torch.device("cpu")
SIZES = [(1, 1), (16, 300), (65, 131), (130, 67), (128, 192), (201, 90)]
ROUNDING = 1e-3  # of values in [-1, 1], a flat picture's included, whose rounding is amplified; 1.6e-2 are promised


@pytest.fixture(scope="module")
def single() -> ResnetGenerator:
    return make_resnet(blocks=2).eval()


@pytest.fixture(scope="module")
def library() -> LibraryGenerator:
    return make_library("monet", "wave", seed=1, blocks=2).eval()


def uneven(noise, height: int, width: int) -> Tensor:
    """A picture whose parts differ, so that statistics of a part would be wrong."""
    ramp = torch.linspace(-1, 1, width).expand(1, 3, height, width)
    return 0.5 * ramp + 0.5 * noise(1, 3, height, width) * torch.linspace(0, 1, height)[:, None]


@pytest.mark.parametrize("size", SIZES)
def test_the_tiled_result_is_that_of_the_whole_picture(single, noise, size):
    images = uneven(noise, *size)
    with torch.no_grad():
        torch.testing.assert_close(in_tiles(single, images, tile=64), single(images), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("condition", [(1.0, 0.0), (0.3, 0.4), (0.05, 0.1), (0.0, 0.0)])
def test_so_is_a_librarys_at_any_condition(library, noise, size, condition):
    images, expected = uneven(noise, *size), torch.tensor([condition])
    with torch.no_grad():
        untiled = library(images, expected)
    torch.testing.assert_close(in_tiles(library, images, expected, tile=64), untiled, rtol=0, atol=ROUNDING)


def test_statistics_of_each_tile_alone_would_be_wrong(single, noise):
    """So the tests above can fail."""
    images = uneven(noise, 128, 128)
    with torch.no_grad():
        assert (single(images)[..., :64, :64] - single(images[..., :64, :64])).abs().max() > 0.1


def test_pictures_of_a_batch_are_done_one_by_one(single, noise):
    images = noise(2, 3, 70, 80)
    result = in_tiles(single, images, tile=64)
    assert torch.equal(result[1:], in_tiles(single, images[1:], tile=64))


def canvas_of(generator: ResidualCoder, images: Tensor, shares: Tensor, conditions: Tensor, tile: int) -> Tensor:
    canvas = TiledGenerator(
        generator,
        lambda box: images[(..., *box.place)],
        *images.shape[-2:],
        CPU,
        tile,
        conditions,
        lambda box: shares[(..., *box.place)],
    )
    canvas.prepare()
    result = torch.empty_like(images)
    for box, part in canvas.tiles():
        result[(..., *box.place)] = part
    return result


@pytest.mark.parametrize("size", [(90, 131), (130, 67)])
def test_tiles_make_what_the_whole_would_where_styles_meet(library, noise, size):
    images, soft = uneven(noise, *size), torch.linspace(0, 1, size[1]).expand(1, 1, *size)
    shares, conditions = torch.cat([soft, 1 - soft], dim=1), torch.eye(3)[:2]
    untiled, tiled = (canvas_of(library, images, shares, conditions, tile) for tile in (10_000, 64))
    torch.testing.assert_close(tiled, untiled, rtol=0, atol=ROUNDING)
    single_style = in_tiles(library, images, torch.tensor([[1.0, 0.0]]))
    assert (untiled - single_style).abs().mean() > 0.01  # the other style counts


def test_a_frozen_copy_shares_the_weights_and_leaves_the_generator_as_it_was(single, noise):
    before, state = copy.deepcopy(single), [id(module) for module in single.modules()]
    in_tiles(single, noise(1, 3, 70, 70), tile=64)
    assert [id(module) for module in single.modules()] == state
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), single.parameters(), strict=True))
    assert clone_with_frozen_norms(single, {}).encoder[0][0] is not single.encoder[0][0]
    assert clone_with_frozen_norms(single, {}).encoder[0][0].weight is single.encoder[0][0].weight


def test_large_activations_lie_in_a_file(single, noise, monkeypatch):
    images = noise(1, 3, 130, 70)
    in_memory = in_tiles(single, images, tile=64)
    monkeypatch.setattr("gan_style.stylize.tiling.IN_MEMORY_BYTES", 0)
    assert torch.equal(in_tiles(single, images, tile=64), in_memory)


@settings(max_examples=20)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 90))
def test_boxes_cover_everything_once(height, width, side):
    covered = torch.zeros(height, width)
    for box in boxes(height, width, side):
        covered[box.place] += 1
    assert torch.equal(covered, torch.ones(height, width))


def test_a_box_is_cut_out_of_a_larger_one_at_any_scale():
    outer, box = Box(8, 40, 0, 24), Box(16, 32, 8, 24)
    x = torch.arange(32 * 24).reshape(1, 1, 32, 24)
    assert torch.equal(box.cut(x, outer), x[..., 8:24, 8:24])
    assert torch.equal(box.cut(x[..., ::4, ::4], outer), x[..., ::4, ::4][..., 2:6, 2:6])


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_moments_in_parts_are_those_of_the_whole(noise, offset):
    values = noise(1, 3, 40, 50) + offset
    moments = RunningMoments()
    for rows in values.split([1, 30, 9], dim=2):
        moments.add(rows)
    flat = values[0].flatten(1).double()
    torch.testing.assert_close(moments.mean, flat.mean(dim=1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(moments.variance, flat.var(dim=1, correction=0), rtol=1e-3, atol=0)


def test_weighted_moments_count_what_the_weights_say(noise):
    values, chosen = noise(1, 3, 10, 10), (torch.arange(100).reshape(1, 1, 10, 10) % 3 == 0).float()
    moments = RunningMoments()
    for rows, weights in zip(values.split(4, dim=2), chosen.split(4, dim=2), strict=True):
        moments.add(rows, weights)
    selected = values[0][:, chosen[0, 0] > 0].double()
    torch.testing.assert_close(moments.mean, selected.mean(dim=1))
    torch.testing.assert_close(moments.variance, selected.var(dim=1, correction=0))


@pytest.mark.slow  # minutes: 100 megapixels are read, painted and written
def test_a_picture_of_100_megapixels_takes_at_most_2_gb(tmp_path):
    write_file(tmp_path / "narrow.safetensors", make_resnet(width=2))
    Image.effect_noise((1000, 1000), 60).resize((10_000, 10_000)).convert("RGB").save(tmp_path / "big.jpg")
    program = (
        "import resource\n"
        "from gan_style.commands.stylize import main\n"
        "try: main()\n"
        "except SystemExit as ended: assert not ended.code\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    arguments = ["checkpoint=narrow.safetensors", "input=big.jpg", "output=out.jpg", "runtime.device=cpu"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 2_000_000  # kB


def test_a_temporary_folder_without_room_is_named_before_anything_is_written(single, noise, monkeypatch):
    """Written through mapped memory, a full disk would end the process with a signal."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gan_style.stylize.tiling.IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"needs 0\.0 GB of room .* \(No space left on device\); set TMPDIR"):
        in_tiles(single, noise(1, 3, 130, 70), tile=64)


def test_no_more_than_two_stores_take_room_at_a_time(library, noise, monkeypatch):
    """Also where several styles are measured one after the other, and then mixed."""
    alive: set[int] = set()
    most = 0

    class Counted(ActivationStore):
        def __init__(self, *arguments: int) -> None:
            nonlocal most
            super().__init__(*arguments)
            alive.add(id(self))
            most = max(most, len(alive))

        def __del__(self) -> None:
            alive.discard(id(self))

    monkeypatch.setattr("gan_style.stylize.tiling.ActivationStore", Counted)
    shares = torch.full((1, 2, 70, 130), 0.5)
    canvas_of(library, noise(1, 3, 70, 130), shares, torch.eye(3)[:2], 64)
    assert most == 2
