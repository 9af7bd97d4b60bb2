"""gan_style/stylize/batch.py: which result goes where, and what happens to the pictures."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path, PurePath

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gan_style.images.decode import decode, to_float, to_uint8
from gan_style.models.generator import ResnetGenerator
from gan_style.stylize.batch import (
    BatchStylizer,
    PictureJob,
    check_outputs,
    plan_file,
    plan_folder,
    stylize,
    with_masks,
    with_sheets,
)
from gan_style.stylize.controls import Controls, MaskFinder
from gan_style.stylize.model import Model

CPU = torch.device("cpu")
NOTE = {"gan_style": "9.9"}


class Negative(nn.Module):
    """A style whose result is known."""

    def forward(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.float32
        assert images.abs().max() <= 1
        return -images


def run(generator: nn.Module, jobs: list[PictureJob], device: torch.device) -> Iterator[tuple[PictureJob, str | None]]:
    """In one style, in full."""
    stylizer = BatchStylizer(Model(generator, ("negative",), device), Controls({"negative": 1.0}), NOTE, {})
    return ((job, problem) for job, problem, _ in stylizer(jobs))


def noise(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def saved(path: Path, height: int = 4, width: int = 6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(height, width).permute(1, 2, 0).numpy()).save(path)
    return path


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every name below a folder, with when it was changed and what is in it."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, b"" if path.is_dir() else path.read_bytes())
        for path in [folder, *folder.rglob("*")]
    }


# One picture in memory


def test_the_generator_sees_the_picture_and_its_result_is_handed_on() -> None:
    picture = noise(5, 7)
    assert torch.equal(stylize(Negative(), picture, CPU), -to_float(picture))


def test_stylizing_leaves_the_picture_alone_and_keeps_no_gradients() -> None:
    picture, before = noise(17, 20), noise(17, 20)
    result = stylize(ResnetGenerator(width=2, blocks=1), picture, CPU)
    assert torch.equal(picture, before)
    assert not result.requires_grad


def test_a_generator_in_half_precision_gives_a_full_float_result() -> None:
    class Half(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.to(torch.bfloat16)

    assert stylize(Half(), noise(3, 3), CPU).dtype == torch.float32


# Which goes where: one picture


@pytest.mark.parametrize(
    ("name", "within"),
    [
        *((name, ".") for name in ("result.png", "result.JPG", "new/deeper/result.webp")),
        *((name, "a.jpg") for name in ("results", "new/deeper", "version.2")),
    ],
)
def test_an_output_with_a_pictures_name_is_that_file_and_any_other_a_folder(tmp_path, name, within) -> None:
    source = saved(tmp_path / "a.jpg")
    assert plan_file(source, tmp_path / name) == [PictureJob(source, tmp_path / name / within)]


def test_a_folder_that_exists_is_a_folder_whatever_it_is_called(tmp_path: Path) -> None:
    source, folder = saved(tmp_path / "a.jpg"), tmp_path / "results.png"
    folder.mkdir()
    assert plan_file(source, folder) == [PictureJob(source, folder / "a.jpg")]


@pytest.mark.parametrize("output", ["in/a.png", "in", "in/../in/a.png", "link_to_in", "link_to_in/a.png", "link.png"])
def test_a_result_over_its_own_picture_is_refused(tmp_path: Path, output: str) -> None:
    source = saved(tmp_path / "in" / "a.png")
    (tmp_path / "link_to_in").symlink_to(tmp_path / "in")
    (tmp_path / "link.png").symlink_to(source)
    with pytest.raises(ValueError, match=r"output=.* is the input itself"):
        plan_file(source, tmp_path / output)


# Which goes where: a folder


def test_the_tree_and_the_names_are_kept(tmp_path: Path) -> None:
    names = ["a.jpg", "b.png", "deep/a.jpg", "deep/er/c.webp"]
    for name in [*names, ".hidden/d.jpg"]:
        saved(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").touch()
    jobs = plan_folder(tmp_path / "in", tmp_path / "out")
    assert jobs == [PictureJob(tmp_path / "in" / name, tmp_path / "out" / name) for name in sorted(names)]


WITHIN = ["in", "in/out", "in/deep/er", "in/../in", "link_to_in", "link_to_in/out"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        *((output, r"output=.*input=.*never written into the input") for output in WITHIN),
        ("", r"output=.*input="),  # in/in/a.png would go to ./in/a.png, which is one of the inputs
        ("result.png", r"output=.*result\.png is a picture's name.*input=.*give a folder"),
    ],
)
def test_an_output_that_cannot_be_one_of_a_folder_is_refused(tmp_path: Path, output: str, message: str) -> None:
    saved(tmp_path / "in" / "a.png")
    saved(tmp_path / "in" / "in" / "a.png")
    (tmp_path / "link_to_in").symlink_to(tmp_path / "in")
    with pytest.raises(ValueError, match=message):
        plan_folder(tmp_path / "in", tmp_path / output)


@pytest.mark.parametrize("output", ["in_painted", "."])
def test_an_output_beside_or_above_the_input_is_fine_where_all_results_lie_outside(tmp_path: Path, output: str) -> None:
    source = saved(tmp_path / "in" / "a.png")
    assert plan_folder(tmp_path / "in", tmp_path / output) == [PictureJob(source, tmp_path / output / "a.png")]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match=r"input=.*there is no picture in this folder.*\.jpg"):
        plan_folder(tmp_path / "in", tmp_path / "out")


# The work


def test_each_result_is_the_stylized_picture_at_its_target(tmp_path: Path) -> None:
    saved(tmp_path / "in" / "a.png", 4, 6)
    saved(tmp_path / "in" / "deep" / "b.bmp", 9, 2)
    jobs = plan_folder(tmp_path / "in", tmp_path / "new" / "out")
    assert list(run(Negative(), jobs, CPU)) == [(job, None) for job in jobs]
    for job in jobs:
        assert torch.equal(decode(job.target), to_uint8(-to_float(decode(job.source))))


def test_a_picture_from_a_camera_held_sideways_gives_an_upright_result(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # its first row is the right-hand side of what was seen
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    list(run(nn.Identity(), plan_file(tmp_path / "a.png", tmp_path / "out"), CPU))
    result = decode(tmp_path / "out" / "a.png")
    assert result.shape == (3, 6, 4)
    assert result[0].sum(dim=0).tolist() == [0, 0, 0, 1200]


def test_an_unreadable_picture_is_reported_and_the_others_are_done(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "c.png"):
        saved(tmp_path / "in" / name)
    (tmp_path / "in" / "b.jpg").write_bytes(b"no picture")
    jobs = plan_folder(tmp_path / "in", tmp_path / "out")
    done = list(run(Negative(), jobs, CPU))
    assert [job for job, _ in done] == jobs
    assert [problem is None for _, problem in done] == [True, False, True]
    assert str(tmp_path / "in" / "b.jpg") in done[1][1]
    assert "not a JPEG" in done[1][1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]


def test_nothing_is_written_into_the_input(tmp_path: Path) -> None:
    for name in ("a.png", "deep/b.jpg", "deep/broken.png"):
        saved(tmp_path / "in" / name)
    (tmp_path / "in" / "deep" / "broken.png").write_bytes(b"no picture")
    before = snapshot(tmp_path / "in")
    list(run(Negative(), plan_folder(tmp_path / "in", tmp_path / "out"), CPU))
    assert snapshot(tmp_path / "in") == before


def test_an_old_result_is_replaced_even_where_it_is_a_second_name_of_the_input(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    os.link(source, tmp_path / "out" / "a.png")
    before = source.read_bytes()
    list(run(Negative(), plan_file(source, tmp_path / "out"), CPU))
    assert source.read_bytes() == before
    assert (tmp_path / "out" / "a.png").read_bytes() != before


@pytest.mark.parametrize("target", ["file/b.png", f"{'n' * 252}.png", "wide.webp"])
def test_a_result_that_cannot_be_written_is_named_and_the_others_are_done(tmp_path: Path, target: str) -> None:
    """Below a file; under a name of 256 bytes; wider than the 16,383 pixels that a WebP can have."""
    (tmp_path / "file").write_bytes(b"a file where a folder is wanted")
    source = saved(tmp_path / "wide.png", 2, 16_384 if target == "wide.webp" else 6)
    jobs = [PictureJob(source, tmp_path / target), PictureJob(source, tmp_path / "c.png")]
    (_, problem), (_, none) = run(Negative(), jobs, CPU)
    assert none is None and (tmp_path / "c.png").is_file()
    assert str(tmp_path / target) in problem


def test_a_disk_without_room_stops_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, write: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("gan_style.stylize.batch.write_durably", full)
    jobs = [PictureJob(saved(tmp_path / name), tmp_path / f"out_{name}") for name in ("a.png", "b.png")]
    with pytest.raises(OSError, match="No space"):
        list(run(Negative(), jobs, CPU))


def test_the_work_is_done_as_it_is_asked_for(tmp_path: Path) -> None:
    """One after the other, so that progress can be shown and an interruption keeps what is finished."""
    for name in ("a.png", "b.png"):
        saved(tmp_path / "in" / name)
    work = run(Negative(), plan_folder(tmp_path / "in", tmp_path / "out"), CPU)
    assert not (tmp_path / "out").exists()
    next(work)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


# Masks


def test_a_folder_of_masks_has_one_for_each_picture_whatever_its_kind(tmp_path: Path) -> None:
    for name in ("in/a.jpg", "in/deep/b.png", "masks/a.png", "masks/deep/b.png", "masks/deep/b.jpg"):
        saved(tmp_path / name)
    jobs = with_masks(plan_folder(tmp_path / "in", tmp_path / "out"), tmp_path / "in", {"wave": tmp_path / "masks"})
    assert [dict(job.masks) for job in jobs] == [
        {"wave": tmp_path / "masks" / "a.png"},
        {"wave": tmp_path / "masks" / "deep" / "b.png"},
    ]


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        ("JPEGImages/a.jpg", "a.png"),
        ("train2017/a.jpg", "a.png"),
        ("leftImg8bit/train/ulm/a_leftImg8bit.png", "train/ulm/a_gtFine_labelIds.png"),
    ],
)
def test_masks_lie_where_data_sets_have_them(tmp_path: Path, picture: str, mask: str) -> None:
    saved(tmp_path / mask)
    assert MaskFinder(tmp_path, "segmentation.masks")(PurePath(picture)) == tmp_path / mask


def test_two_pictures_do_not_share_a_folder_s_mask(tmp_path: Path) -> None:
    saved(tmp_path / "a.png")
    find = MaskFinder(tmp_path, "mask")
    assert find(PurePath("train/a.jpg")) == find(PurePath("train/a.png")) == tmp_path / "a.png"
    with pytest.raises(ValueError, match=r"mask=.*of train.a and of val.a\.jpg"):
        find(PurePath("val/a.jpg"))


def test_a_missing_mask_is_named_before_anything_is_done(tmp_path: Path) -> None:
    saved(tmp_path / "in" / "a.jpg")
    (tmp_path / "masks").mkdir()
    jobs = plan_folder(tmp_path / "in", tmp_path / "out")
    with pytest.raises(ValueError, match=r"mask\.wave=.*no mask for .*a\.jpg"):
        with_masks(jobs, tmp_path / "in", {"wave": tmp_path / "masks"})
    with pytest.raises(ValueError, match=r"mask=.*no such file or folder"):
        with_masks(jobs, tmp_path / "in", {"": tmp_path / "nothing.png"})


# What is written


def test_sheets_of_pictures_that_differ_in_kind_alone_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.png", "deep/a.png"):
        saved(tmp_path / "in" / name)
    jobs = with_sheets(plan_folder(tmp_path / "in", tmp_path / "out"))
    assert {job.sheet.relative_to(tmp_path / "out").as_posix() for job in jobs if job.sheet} == {
        *("a.jpg.before_after.jpg", "a.png.before_after.jpg", "b.before_after.jpg", "deep/a.before_after.jpg")
    }
    check_outputs(jobs)


@pytest.mark.parametrize("what", ["a mask", "an input", "a style's picture", "a sheet over an input", "twice"])
def test_nothing_is_written_over_what_is_read_or_written_before(tmp_path: Path, what: str) -> None:
    source, other = saved(tmp_path / "x.before_after.jpg"), saved(tmp_path / "o.png")
    jobs, references = [PictureJob(source, tmp_path / "o.png")], []
    if what == "a mask":
        jobs = [PictureJob(source, tmp_path / "o.png", {"": other})]
    elif what == "an input":
        jobs = [PictureJob(source, tmp_path / "p.png"), PictureJob(other, tmp_path / "q" / ".." / "o.png")]
    elif what == "a style's picture":
        references = [other]
    elif what == "a sheet over an input":
        jobs, what = with_sheets([PictureJob(source, tmp_path / "x.jpg")]), "an input"
    else:
        names = ("a.jpg", "a.before_after.jpg")
        folder = [PictureJob(saved(tmp_path / name), tmp_path / "out" / name) for name in names]
        jobs, what = with_sheets(folder), "would be written twice"
    with pytest.raises(ValueError, match=what):
        check_outputs(jobs, references)


SHORTAGES = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: 99 bytes"),
]


@pytest.mark.parametrize("shortage", SHORTAGES, ids=lambda error: type(error).__name__)
def test_a_picture_that_does_not_fit_in_memory_is_named_and_the_others_are_done(tmp_path: Path, shortage) -> None:
    class Small(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            if images.shape[-1] > 16:
                raise shortage
            return -images

    for name, width in (("a.png", 12), ("b.png", 40), ("c.png", 12)):
        saved(tmp_path / "in" / name, 12, width)
    outcome = [problem for _, problem in run(Small(), plan_folder(tmp_path / "in", tmp_path / "out"), CPU)]
    assert outcome[0] is outcome[2] is None
    assert "not enough memory" in outcome[1] and "b.png" in outcome[1] and "tile=512" in outcome[1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]


def test_other_troubles_of_a_network_are_not_taken_for_a_lack_of_memory(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        list(run(Broken(), [PictureJob(saved(tmp_path / "a.png"), tmp_path / "o.png")], CPU))
