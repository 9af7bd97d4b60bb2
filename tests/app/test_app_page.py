"""The app in a real browser, beside the Python interface."""

import re
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image
from processes import start

import gan_style

pytest.importorskip("gradio", reason="Gradio (the extra app) is not installed")
pytestmark = pytest.mark.slow  # starts the app and a browser

PATIENCE = 120_000  # milliseconds


@pytest.fixture(scope="module")
def address(runs) -> str:
    """Where the app runs, in a process of its own."""
    process = start("cli", "app", "port=0", f"checkpoint=[{runs[0]},{runs[1]}]", "runtime.device=cpu")
    yield next(filter(None, (re.match(r"(http://127\.0\.0\.1:\d+/)", line) for line in process.stdout)))[1]
    process.terminate()
    assert process.wait(timeout=60) == 0, "a signal ends it in good order"


@pytest.fixture
def visit(chromium, address):
    """A visitor's tab; what it asked of other machines, and complained about."""
    context = chromium.new_context(
        viewport={"width": 1280, "height": 900}, accept_downloads=True, permissions=["camera"]
    )
    context.set_default_timeout(PATIENCE)
    tab, troubles = context.new_page(), []
    host = urlparse(address).netloc
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("request", lambda r: troubles.append(r.url) if r.url.startswith("http") and host not in r.url else None)
    tab.goto(address)
    tab.wait_for_selector("#result img")
    yield tab, troubles
    context.close()


def displayed_source(tab) -> list[str]:
    return tab.eval_on_selector_all("#result img", "(images) => images.map((image) => image.src)")


def changed(tab, action) -> None:
    """Wait until an action has changed the result that is shown."""
    before = displayed_source(tab)
    action()
    tab.wait_for_function(
        "(before) => { const now = [...document.querySelectorAll('#result img')].map((image) => image.src);"
        " return now.length > 1 && now.join() !== before.join(); }",
        arg=before,
    )


def choose(tab, label: str) -> None:
    tab.click(f"#styles button:has-text('{label}')")


def give(tab, *photos: Path) -> None:
    tab.set_input_files("#photos input[type=file]", [str(photo) for photo in photos])


def set_number(tab, field: str, value: float) -> None:
    box = tab.locator(f"#{field} input[type=number]")
    box.fill(str(value))
    box.press("Enter")


def result_of(tab, tmp_path: Path) -> Image.Image:
    tab.click("#save")
    return downloaded(tab, tmp_path)


def downloaded(tab, tmp_path: Path) -> Image.Image:
    tab.wait_for_selector("#results a")
    with tab.expect_download() as waiting:
        tab.locator("#results a").first.click()
    waiting.value.save_as(tmp_path / waiting.value.suggested_filename)
    return Image.open(tmp_path / waiting.value.suggested_filename)


def same(result: Image.Image, expected: Image.Image) -> None:
    np.testing.assert_array_equal(np.asarray(result), np.asarray(expected))


def test_a_photo_in_a_mixture_is_painted_and_downloaded(visit, runs, photo, tmp_path):
    tab, troubles = visit
    changed(tab, lambda: give(tab, photo))
    changed(tab, lambda: choose(tab, "mine: blue"))
    tab.click("#second input")
    changed(tab, lambda: tab.click("[role=option]:has-text('mine: red')"))
    changed(tab, lambda: set_number(tab, "share", 0.25))
    changed(tab, lambda: set_number(tab, "strength", 0.5))
    result = result_of(tab, tmp_path)
    style = {"blue": 0.75, "red": 0.25}
    same(result, gan_style.load(runs[0])(photo, style=style, strength=0.5, stroke="auto"))
    assert troubles == [], "nothing comes from elsewhere"


def test_the_style_of_a_picture(visit, runs, photo, tmp_path):
    tab, _ = visit
    painting, other = tmp_path / "painting.png", tmp_path / "other.png"
    Image.new("RGB", (40, 50), (180, 70, 20)).save(painting)
    Image.new("RGB", (40, 50), (10, 60, 160)).save(other)
    changed(tab, lambda: give(tab, photo))
    tab.click("text=Style of a picture")
    changed(tab, lambda: tab.set_input_files("#references input[type=file]", str(painting)))
    same(result_of(tab, tmp_path), gan_style.load(runs[1])(photo, reference=painting, stroke="auto"))
    tab.click("#references button[aria-label='Clear']")
    changed(tab, lambda: tab.set_input_files("#references input[type=file]", [str(painting), str(other)]))
    changed(tab, lambda: set_number(tab, "share", 0.25))
    tab.click("#save")
    tab.wait_for_selector("#results a[download*='other']")
    references, mixture = {"painting": painting, "other": other}, {"painting": 0.75, "other": 0.25}
    same(downloaded(tab, tmp_path), gan_style.load(runs[1])(photo, reference=references, style=mixture, stroke="auto"))


def test_only_where_somebody_paints(visit, photo, tmp_path):
    tab, _ = visit
    Image.effect_noise((400, 300), 80).convert("RGB").save(photo)
    changed(tab, lambda: give(tab, photo))
    tab.click("#only_here input")
    tab.wait_for_selector("#mask canvas")
    tab.wait_for_timeout(2000)  # the editor lays out its picture
    box = tab.locator("#mask canvas").first.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def stroke() -> None:
        tab.mouse.move(middle[0] - 40, middle[1])
        tab.mouse.down()
        tab.mouse.move(middle[0] + 40, middle[1], steps=8)
        tab.mouse.up()

    changed(tab, stroke)
    before, after = (np.asarray(picture).astype(int) for picture in (Image.open(photo), result_of(tab, tmp_path)))
    differs = np.abs(before - after).max(axis=2) > 0
    assert 0.002 < differs.mean() < 0.4, "where the brush was, and nowhere else"
    assert differs[140:160, 190:210].mean() > 0.5


def test_several_photos_and_one_that_is_broken(visit, photo, tmp_path):
    tab, _ = visit
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:200])
    give(tab, broken)
    tab.wait_for_selector("text=cannot read the picture broken.png")
    changed(tab, lambda: give(tab, photo))
    other = tmp_path / "other.png"
    Image.effect_noise((50, 50), 80).convert("RGB").save(other)
    changed(tab, lambda: give(tab, other))
    tab.click("#save")
    tab.wait_for_selector("#results a")
    assert "pictures.zip" in tab.inner_text("#results").replace("\n", "")
    assert tab.locator("#results a").count() == 3, "two results, and both of them in one file"


def test_the_camera_is_painted_and_a_picture_can_be_taken(visit, tmp_path):
    tab, _ = visit
    tab.click("button[role=tab]:has-text('Camera')")
    tab.click("text=Click to Access Webcam")
    tab.click("button[aria-label='capture photo']")  # begins to stream
    tab.wait_for_selector("#filmed img")
    changed(tab, lambda: tab.click("text=Take this picture"))
    assert min(result_of(tab, tmp_path).size) > 100


def test_a_hundred_megapixels_are_shown(visit, tmp_path):
    tab, _ = visit
    Image.new("L", (12500, 8000), 90).save(tmp_path / "large.png")
    changed(tab, lambda: give(tab, tmp_path / "large.png"))


def test_two_people_at_once_get_their_own_results(chromium, address, runs, tmp_path):
    tabs, photos = [], []
    for number in range(2):
        context = chromium.new_context(accept_downloads=True)
        context.set_default_timeout(PATIENCE)
        tabs.append(context.new_page())
        tabs[-1].goto(address)
        tabs[-1].wait_for_selector("#result img")
        photos.append(tmp_path / f"photo{number}.png")
        Image.effect_noise((80 + number, 60), 80).convert("RGB").save(photos[-1])
        changed(tabs[-1], lambda number=number: give(tabs[number], photos[number]))
    changed(tabs[1], lambda: choose(tabs[1], "mine: blue"))
    for tab in tabs:
        tab.click("#save")
    for tab, photo, style in zip(tabs, photos, ("red", "blue"), strict=True):
        same(downloaded(tab, tmp_path), gan_style.load(runs[0])(photo, style=style, stroke="auto"))
        tab.context.close()
