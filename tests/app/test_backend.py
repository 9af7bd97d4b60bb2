"""What the app does, without its page."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import gan_style
from gan_style.app.backend import PREVIEW_PIXELS, Backend, Settings
from gan_style.images.formats import UnreadablePictureError
from gan_style.images.metadata import read_note


@pytest.fixture(scope="module")
def backend(runs, tmp_path_factory) -> Backend:
    return Backend(runs, tmp_path_factory.mktemp("backend"), torch.device("cpu"), max_megapixels=110)


RED = Settings(["mine: red"])


def painted(backend, photo, settings) -> np.ndarray:
    ((path, message),) = backend.results([photo], settings)
    assert path is not None, message
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def expected(runs, photo, **options) -> np.ndarray:
    return np.asarray(gan_style.load(runs[0])(photo, **options)).astype(int)


def test_ships_with_styles_and_lists_own_runs_beside_them(backend, runs):
    assert set(gan_style.styles()) < set(backend.styles)
    assert {"mine: red", "mine: blue"} <= set(backend.styles)
    assert backend.partners("mine: red") == ["mine: blue"], "only styles of one model can be mixed"


def test_results_are_those_of_the_python_interface(backend, runs, photo):
    results = painted(backend, photo, RED)
    np.testing.assert_array_equal(results, expected(runs, photo, style="red", stroke="auto"))
    mixed = replace(
        RED, styles=["mine: red", "mine: blue"], share=0.25, strength=0.5, colours="luminance", stroke="as trained"
    )
    style = {"red": 0.75, "blue": 0.25}
    np.testing.assert_array_equal(
        painted(backend, photo, mixed), expected(runs, photo, style=style, strength=0.5, colours="luminance")
    )


def test_a_result_says_what_made_it_and_has_the_photo_s_kind_of_file(backend, photo):
    ((path, _),) = backend.results([photo], RED)
    assert path.name == "photo_red.png"
    assert read_note(path)["style"] == {"red": 1.0}


def test_a_large_photo_is_previewed_as_broadly_as_it_will_be_painted(backend, tmp_path):
    """The same strokes, small and large: a preview differs from the scaled result by what scaling does."""
    large = Image.effect_noise((60, 80), 80).resize((1500, 2000), Image.Resampling.BICUBIC).convert("RGB")
    large.save(tmp_path / "large.png")
    photo = backend.open(tmp_path / "large.png")
    assert photo.size == (2000, 1500)
    assert 0.95 * PREVIEW_PIXELS < photo.preview[0].numel() < 1.05 * PREVIEW_PIXELS
    preview = backend.preview(photo, RED).float()
    result = torch.from_numpy(painted(backend, tmp_path / "large.png", RED)).permute(2, 0, 1).float()
    scaled = torch.nn.functional.interpolate(result[None], preview.shape[1:], mode="bilinear", antialias=True)[0]
    assert (preview - scaled).abs().mean() < 5


def test_outside_of_what_is_painted_the_photo_stays_as_it_is(backend, photo):
    mask = torch.zeros(35, 45, dtype=torch.uint8)
    mask[:, 30:] = 255
    before = np.asarray(Image.open(photo)).astype(int)
    result = painted(backend, photo, replace(RED, mask=mask))
    np.testing.assert_array_equal(result[:, :58], before[:, :58])
    assert np.abs(result[:, 64:] - before[:, 64:]).mean() > 5
    opened = backend.open(photo)
    preview = backend.preview(opened, replace(RED, mask=mask))
    assert torch.equal(preview[..., :58], opened.preview[..., :58])


def test_a_picture_s_style_and_two_mixed(backend, runs, photo, tmp_path):
    paintings = []
    for name, colour in (("rust", (180, 70, 20)), ("sea", (10, 60, 160))):
        Image.new("RGB", (40, 50), colour).save(tmp_path / f"{name}.png")
        paintings.append(tmp_path / f"{name}.png")
    result = painted(backend, photo, Settings(references=paintings, share=0.25))
    target = gan_style.load(runs[1])(
        photo, reference={path.stem: path for path in paintings}, style={"rust": 0.75, "sea": 0.25}, stroke="auto"
    )
    np.testing.assert_array_equal(result, np.asarray(target).astype(int))


def test_what_cannot_be_read_is_named_and_the_others_are_painted(backend, photo, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photo.read_bytes()[:200])
    with pytest.raises(UnreadablePictureError) as problem:
        backend.open(broken)
    assert "broken.jpg" in str(problem.value) and str(tmp_path) not in str(problem.value)
    results = list(backend.results([broken, photo, photo], RED))
    assert [path and path.name for path, _ in results] == [None, "photo_red.png", "photo_red_2.png"]
    assert "broken.jpg" in results[0][1]


def test_a_hundred_megapixels_are_opened_and_more_than_allowed_refused(backend, tmp_path):
    Image.new("L", (12500, 8000), 90).save(tmp_path / "large.png")
    photo = backend.open(tmp_path / "large.png")
    assert photo.size == (8000, 12500) and photo.preview[0].numel() < 1.05 * PREVIEW_PIXELS
    small = Backend([], backend.folder, torch.device("cpu"), max_megapixels=50)
    with pytest.raises(UnreadablePictureError, match="max_megapixels=50"):
        small.open(tmp_path / "large.png")


def test_wishes_that_cannot_be_met_are_refused(backend, photo):
    with pytest.raises(ValueError, match="choose a style"):
        backend.preview(backend.open(photo), Settings())
    without = Backend([], backend.folder, torch.device("cpu"), max_megapixels=50)
    without.reference_model = None
    with pytest.raises(ValueError, match="from a picture"):
        without.preview(without.open(photo), Settings(references=[photo]))


def test_a_camera_s_picture_is_painted_small_by_the_quickest_model_that_has_the_style(backend):
    picture = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = gan_style.load("shipped:mobile")(picture[None], style="monet")[0]
    assert torch.equal(backend.frame(picture, Settings(["monet"])), expected)
    assert backend.frame(picture, Settings(["mine: red"]), side=20).shape == (3, 20, 30)
