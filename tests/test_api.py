"""The Python interface: gan_style.load, and what it gives."""

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from generators import make_library, make_resnet, write_file
from PIL import Image, ImageCms

import gan_style
from gan_style.images.decode import decode, to_float


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """library.safetensors (monet, wave), single.safetensors and photo.png."""
    folder = tmp_path_factory.mktemp("api")
    write_file(folder / "library.safetensors", make_library("monet", "wave"))
    write_file(folder / "single.safetensors", make_resnet())
    Image.effect_noise((60, 40), 90).convert("RGB").save(folder / "photo.png")
    return folder


@pytest.fixture(scope="module")
def library(folder):
    return gan_style.load(folder / "library.safetensors", device="cpu")


def test_importing_gan_style_is_cheap():
    program = "import sys, gan_style; print(*{'torch', 'PIL', 'hydra'} & set(sys.modules), gan_style.__version__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == [gan_style.__version__]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gan_style.nothing


def test_each_kind_of_picture_gives_its_own_kind_and_the_same_result(folder, library):
    path = folder / "photo.png"
    from_path = library(path, style="monet")
    from_text, from_pil = library(str(path), style="monet"), library(Image.open(path), style="monet")
    from_bytes = library(decode(path)[None], style="monet")
    assert isinstance(from_path, Image.Image) and from_path.size == (60, 40) and from_path.mode == "RGB"
    pixels = np.asarray(from_path)
    assert np.array_equal(pixels, np.asarray(from_text)) and np.array_equal(pixels, np.asarray(from_pil))
    assert from_bytes.dtype == torch.uint8 and np.array_equal(pixels, from_bytes[0].permute(1, 2, 0).numpy())


def test_a_colour_profile_stays_with_its_picture_and_one_of_grey_does_not(folder, library, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with Image.open(folder / "photo.png") as photo:
        photo.save(tmp_path / "p.png", icc_profile=profile)
        photo.convert("L").save(tmp_path / "grey.png", icc_profile=profile)
    for options in (tmp_path / "p.png", Image.open(tmp_path / "p.png")):
        assert library(options, style="monet").info["icc_profile"] == profile
    assert "icc_profile" not in library(Image.open(tmp_path / "grey.png"), style="monet").info


def test_reading_leaves_the_programs_warnings_alone(folder, library):
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: library(folder / "photo.png", style="monet", strength=0.0), range(64)))
    assert warnings.filters == before


def test_float_tensors_and_batches(folder, library):
    pictures = to_float(torch.stack([decode(folder / "photo.png"), decode(folder / "photo.png").flip(1)]))
    result = library(pictures, style={"monet": 0.5, "wave": 0.5}, strength=0.5)
    assert result.shape == pictures.shape and result.dtype == torch.float32
    assert torch.equal(result[1:], library(pictures[1:], style={"wave": 0.5, "monet": 0.5}, strength=0.5))
    assert torch.equal(library(pictures, style="wave", strength=0.0), pictures)
    assert library(pictures[:0], style="wave").shape == (0, 3, 40, 60)


@pytest.mark.parametrize(("black", "white"), [(0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)])
def test_floats_of_another_range_are_the_same_picture_once_it_is_said(folder, library, black, white):
    picture = to_float(decode(folder / "photo.png")[None])
    other = (picture + 1) / 2 * (white - black) + black
    result = library(other, style="wave", value_range=(black, white))
    assert torch.allclose((result - black) / (white - black) * 2 - 1, library(picture, style="wave"), atol=1e-4)


@pytest.mark.parametrize(
    ("values", "message"),
    [((0.0, 255.0), "value_range"), ((0.0, 1.0), r"value_range=\(0, 1\)"), ((-1.0, float("nan")), "-1 to 1")],
)
def test_floats_that_may_mean_something_else_are_refused(library, values, message):
    picture = torch.full((1, 3, 20, 24), values[0])
    picture[..., 10:] = values[1]
    with pytest.raises(ValueError, match=message):
        library(picture, style="wave")


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_grey_floats_of_pillow_are_the_same_picture_in_every_usual_range(folder, library, white):
    grey = Image.open(folder / "photo.png").convert("L")
    floats = Image.fromarray((np.asarray(grey, np.float64) * (white / 255)).astype(np.float32))
    results = [np.asarray(library(picture, style="wave")).astype(int) for picture in (grey, floats)]
    assert np.abs(results[0] - results[1]).max() <= 6
    with pytest.raises(ValueError, match="known ranges"):
        library(Image.fromarray(np.full((8, 8), 3.0, np.float32)), style="wave")


def test_what_is_nothing_is_refused_in_words(library):
    with pytest.raises(ValueError, match="0 x 5"):
        library(Image.new("RGB", (0, 5)), style="wave")
    with pytest.raises(ValueError, match="value_range=5"):
        library(torch.zeros(1, 3, 8, 8), style="wave", value_range=5)
    with pytest.raises(ValueError, match="empty"):
        gan_style.load(" ")


@pytest.mark.parametrize("kind", [torch.uint8, torch.bool])
def test_a_mask_of_0_and_1_is_one_of_black_and_white(folder, library, kind):
    mask = torch.zeros(40, 60, dtype=torch.uint8)
    mask[:, 30:] = 1
    with warnings.catch_warnings(record=True):
        result = library(folder / "photo.png", style="wave", mask=mask.to(kind))
    assert np.array_equal(np.asarray(result), np.asarray(library(folder / "photo.png", style="wave", mask=mask * 255)))


def test_transparency_is_kept(folder, library):
    picture = Image.open(folder / "photo.png").convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    result = library(picture, style="monet")
    assert result.mode == "RGBA" and np.array_equal(np.asarray(result)[..., 3], np.asarray(picture)[..., 3])


def test_masks_of_every_kind(folder, library):
    values = np.zeros((40, 60), np.uint8)
    values[:, 30:] = 255
    Image.fromarray(values).save(folder / "mask.png")
    tensor = torch.from_numpy(values)
    masks = [folder / "mask.png", str(folder / "mask.png"), Image.fromarray(values), tensor, tensor.float() / 255]
    results = [np.asarray(library(folder / "photo.png", style="wave", mask=mask)) for mask in masks]
    assert all(np.array_equal(results[0], other) for other in results[1:])
    assert np.array_equal(results[0][:, :30], np.asarray(Image.open(folder / "photo.png"))[:, :30])
    both = library(folder / "photo.png", mask={"monet": 255 - tensor, "wave": folder / "mask.png"})
    assert not np.array_equal(np.asarray(both)[:, :30], results[0][:, :30])


def test_many_threads_get_what_one_gets(folder, library):
    pictures = [to_float(decode(folder / "photo.png")[None].roll(shift, dims=3)) for shift in range(6)]
    calls = [{"style": "monet"}, {"style": {"monet": 0.3, "wave": 0.7}}, {"style": "wave", "tile": 64}]
    jobs = [(picture, call) for picture in pictures for call in calls]
    single = [library(picture, **call) for picture, call in jobs]
    with ThreadPoolExecutor(4) as pool:
        concurrent = list(pool.map(lambda job: library(job[0], **job[1]), jobs))
    assert all(torch.equal(a, b) for a, b in zip(single, concurrent, strict=True))


def test_an_only_style_needs_no_name(folder):
    single = gan_style.load(folder / "single.safetensors")
    assert single.styles == ("single",)
    assert single(folder / "photo.png", colours="luminance", strength=0.5).size == (60, 40)


def test_styles_that_come_with_gan_style_are_loaded_by_name(folder, monkeypatch, tmp_path):
    shipped = {folder / "library.safetensors": ("monet", "wave"), folder / "single.safetensors": ("single",)}
    monkeypatch.setattr("gan_style.stylize.model.shipped", lambda: shipped)
    monkeypatch.setattr("gan_style.api.shipped", lambda: shipped)
    assert gan_style.styles() == ["monet", "single", "wave"]
    wave = gan_style.load("wave", device="cpu")
    by_file = gan_style.load(folder / "library.safetensors", device="cpu")
    assert np.array_equal(wave(folder / "photo.png"), by_file(folder / "photo.png", style="wave"))
    (tmp_path / "wave").mkdir()  # of the style's paintings, say
    monkeypatch.chdir(tmp_path)
    assert gan_style.load("wave", device="cpu").styles == ("monet", "wave")
    with pytest.raises(ValueError, match="is it a run's folder"):
        gan_style.load("./wave/", device="cpu")
    with pytest.raises(ValueError, match=r"style=monett: there is no such style \(did you mean monet\?\)"):
        gan_style.load("monett")


BAD = {
    "no style": ({}, r"style=\.\.\. is missing; known are monet, wave"),
    "strength": ({"style": "monet", "strength": 1.5}, r"strength=1\.5"),
    "mask's size": ({"style": "monet", "mask": torch.ones(3, 4)}, "mask: its size is 4 x 3 pixels"),
    "mask's shape": ({"style": "monet", "mask": torch.ones(1, 40, 60)}, r"mask: a tensor \(H, W\)"),
    "mask's style": ({"mask": {"mone": torch.ones(40, 60)}}, r"mask=mone: .*did you mean monet"),
    "no mask": ({"mask": {}}, "give a mask for each style"),
    "style twice": ({"style": "monet", "mask": {"monet": torch.ones(40, 60)}}, "leave style out"),
    "too large": ({"style": "monet", "max_megapixels": 0.001}, r"60 x 40 pixels; max_megapixels=0\.001"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_in_the_users_words(folder, library, case):
    arguments, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        library(folder / "photo.png", **arguments)


def test_what_is_no_picture_or_model_is_refused(folder, library):
    for picture, message in (
        (torch.zeros(3, 4, 4), r"\(N, 3, H, W\) expected, got \(3, 4, 4\)"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int64), r"got torch\.int64"),
        (folder / "nothing.png", "there is no such file"),
        (3, "got int"),
    ):
        with pytest.raises(ValueError, match=message):
            library(picture, style="monet")
    with pytest.raises(ValueError, match="there is no such file or folder"):
        gan_style.load("runs/nothing")


def test_regions_by_number_and_by_name(folder, library):
    photo = folder / "photo.png"
    auto = np.asarray(library(photo, style=["monet", "wave"], mask="auto"))
    assert np.array_equal(auto, np.asarray(library(photo, mask={"monet": 1, "wave": "rest"}, regions=2)))
    classes = np.zeros((40, 60), np.uint8)
    classes[:, 30:] = 15
    Image.fromarray(classes).save(folder / "classes.png")
    source = {"masks": folder / "classes.png", "names": "voc"}
    result = np.asarray(library(photo, style="wave", mask="person", segmentation=source))
    before = np.asarray(Image.open(photo).convert("RGB"))
    assert np.array_equal(result[:, :24], before[:, :24]) and not np.array_equal(result, before)
