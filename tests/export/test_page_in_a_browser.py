"""The page of format=web in a real browser, beside the Python interface."""

import functools
import os
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
import torch
from PIL import Image

import gan_style
from gan_style.commands import export
from gan_style.export.web import read_runtime
from gan_style.models.library import LibraryGenerator
from gan_style.models.registry import describe
from gan_style.runtime.checkpoint import write_generator

pytest.importorskip("onnxscript", reason="the extra export is not installed")
pytestmark = pytest.mark.slow  # starts a browser, and fetches the runtime where GAN_STYLE_ONNXRUNTIME_WEB names none

TIMEOUT = 120_000  # milliseconds


@pytest.fixture(scope="module")
def generator_file(tmp_path_factory) -> Path:
    """Styles red, green and blue, which differ."""
    torch.manual_seed(0)
    generator = LibraryGenerator(width=4, blocks=1, styles=["red", "green", "blue"])
    for parameter in generator.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter)
    path = tmp_path_factory.mktemp("model") / "generator.safetensors"
    write_generator(path, generator.state_dict(), describe(generator))
    return path


@pytest.fixture(scope="module")
def address(generator_file, tmp_path_factory) -> str:
    """Where the page is served, as by any static host; below it in one/ a page of the style red alone."""
    folder, place = tmp_path_factory.mktemp("page"), os.environ.get("GAN_STYLE_ONNXRUNTIME_WEB")
    try:
        read_runtime(Path(place) if place else None)
    except ValueError as error:
        pytest.skip(str(error))
    photo = generator_file.parent / "photo.png"
    Image.effect_noise((40, 30), 80).convert("RGB").save(photo)
    arguments = ["gan-style export", "format=web", f"checkpoint={generator_file}", f"photos={photo}"]
    arguments += [f"runtime.web={place}"] if place else []
    for more in ([f"output={folder}"], [f"output={folder / 'one'}", "style=red"]):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as exit_:
            patch.setattr(sys, "argv", [*arguments, *more])
            export.main()
        assert not exit_.value.code
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture
def visit(chromium, address):
    """visit(width=..., page=..., color_scheme=...): a tab in which the page is ready."""
    contexts, troubles = [], []

    def open_page(width: int = 1280, page: str = "", **options):
        context = chromium.new_context(
            viewport={"width": width, "height": 780}, accept_downloads=True, permissions=["camera"], **options
        )
        contexts.append(context)
        context.set_default_timeout(TIMEOUT)
        tab, host = context.new_page(), urlparse(address).netloc
        tab.on("pageerror", lambda error: troubles.append(str(error)))
        tab.on("request", lambda r: troubles.append(r.url) if r.url.startswith("http") and host not in r.url else None)
        tab.goto(address + page)
        tab.wait_for_selector("body[data-ready]")
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == [], "no error, and nothing comes from elsewhere"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo of more than 512 pixels, with edges and smooth parts."""
    path = tmp_path / "photo.png"
    Image.effect_noise((70, 60), 80).resize((700, 602), Image.Resampling.BICUBIC).convert("RGB").save(path)
    return path


def give(tab, photo: Path, width: int) -> None:
    """Upload a photo and wait until it is painted."""
    tab.set_input_files("#file", str(photo))
    tab.wait_for_function("(width) => document.getElementById('status').textContent.startsWith(width)", arg=str(width))
    idle(tab)


def idle(tab) -> None:
    tab.wait_for_selector("#drop:not(.working)")


def set_range(tab, field: str, value: int) -> None:
    tab.evaluate(
        "([id, value]) => { const input = document.getElementById(id); input.value = value;"
        " input.dispatchEvent(new Event('input', { bubbles: true })); }",
        [field, value],
    )


def downloaded(tab, tmp_path: Path) -> np.ndarray:
    with tab.expect_download() as waiting:
        tab.click("#save")
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def difference(result: np.ndarray, expected: Image.Image) -> float:
    return float(np.abs(result - np.asarray(expected).astype(int)).mean())


def test_a_mixture_is_downloaded_with_the_python_interfaces_pixels(visit, generator_file, photo, tmp_path):
    tab, paint = visit(), gan_style.load(generator_file)
    give(tab, photo, 700)
    tab.click("#styles label:has-text('blue')")
    tab.select_option("#second", label="red")
    set_range(tab, "share", 25)
    set_range(tab, "strength", 60)
    mixture = {"blue": 0.75, "red": 0.25}
    expected = paint(photo, style=mixture, strength=0.6, stroke="auto")
    unchanged = difference(np.asarray(Image.open(photo)).astype(int), expected)
    assert difference(downloaded(tab, tmp_path), expected) < 0.5 < 6 < unchanged
    tab.click("text=Keep the photo's colours")
    expected = paint(photo, style=mixture, strength=0.6, stroke="auto", colours="luminance")
    assert difference(downloaded(tab, tmp_path), expected) < 0.5
    tab.check("[name=side][value='256']")
    expected = paint(photo, style=mixture, strength=0.6, stroke=602 / 256, colours="luminance")
    assert difference(downloaded(tab, tmp_path), expected) < 0.5
    set_range(tab, "strength", 0)
    assert difference(downloaded(tab, tmp_path), Image.open(photo)) < 0.5


def test_a_page_of_one_style(visit, generator_file, photo, tmp_path):
    tab = visit(page="one/")
    assert not tab.is_visible("#styles-field") and not tab.is_visible("#mix-field")
    give(tab, photo, 700)
    painted = gan_style.load(generator_file)(photo, style="red", stroke="auto")
    assert difference(downloaded(tab, tmp_path), painted) < 0.5
    set_range(tab, "strength", 60)
    assert difference(downloaded(tab, tmp_path), Image.blend(Image.open(photo), painted, 0.6)) < 3, "a blend"


def test_the_preview_shows_the_choice_and_so_do_the_thumbnails(visit):
    tab = visit()
    pixels = "(id) => document.querySelector(id).toDataURL()"
    before = tab.evaluate(pixels, "#after")
    tab.click("#styles label:has-text('green')")
    tab.wait_for_function("(before) => document.querySelector('#after').toDataURL() !== before", arg=before)
    thumbnails = {tab.evaluate(pixels, f"#styles label:nth-child({n}) canvas") for n in (1, 2, 3)}
    assert len(thumbnails) == 3


def test_by_keyboard(visit):
    tab = visit(360)
    tab.focus("#cut")
    tab.keyboard.press("Home")
    assert tab.evaluate("getComputedStyle(document.getElementById('after')).clipPath") == "inset(0px 0px 0px 0%)"
    tab.focus("[name=style]:checked")
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate("document.querySelector('[name=style]:checked').value") == "1"
    idle(tab)
    focused, controls = set(), {"cut", "file", "camera", "save", "strength", "second", "keep"}
    for _ in range(30):
        tab.keyboard.press("Tab")
        focused.add(tab.evaluate("document.activeElement.id"))
    assert controls <= focused


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_the_window_light_and_dark(visit, width, scheme):
    tab = visit(width, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    shade = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).slice(0, 3).map(Number)")
    assert max(shade) < 60 if scheme == "dark" else min(shade) > 200


def test_the_camera_shows_its_rate_and_a_picture_can_be_taken(visit, tmp_path):
    tab = visit()
    tab.click("#camera")
    tab.wait_for_selector("#status:has-text('frames/s')")
    tab.click("#take")
    tab.wait_for_selector("#status:has-text('painted in')")
    idle(tab)
    assert downloaded(tab, tmp_path).shape[2] == 3
    assert tab.get_attribute("#camera", "aria-pressed") == "false"


def test_it_works_without_a_network(visit, photo):
    tab = visit()
    tab.context.set_offline(True)
    tab.reload()
    tab.wait_for_selector("body[data-ready]")
    give(tab, photo, 700)


def test_what_is_no_picture_is_named_and_nothing_is_lost(visit, tmp_path):
    tab = visit()
    (tmp_path / "text.png").write_text("no picture")
    tab.set_input_files("#file", str(tmp_path / "text.png"))
    tab.wait_for_selector("#status.wrong:has-text('text.png')")
    assert tab.is_enabled("#save")
