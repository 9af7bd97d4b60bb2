"""The page of a study: self-contained, blind, and in a real browser all of what it promises."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from web_pages import WebPage, check_self_contained

from gan_style.images.decode import to_uint8
from gan_style.report.html import data_uri
from gan_style.study.answers import read_participant
from gan_style.study.page import StudyPictures, decode_names, study_page

HOSTILE = "</script><script>alert(1)</script>\" onload='x' & https://example.com/"
MODELS = ("secret-model-one", HOSTILE)


def picture(seed: int) -> str:
    return data_uri(torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1)


def make(**options: Any) -> tuple[str, str]:
    pictures = StudyPictures(
        photos=[picture(number) for number in range(4)],
        styles=[picture(9)],
        results={name: [picture(20 + 10 * model + n) for n in range(4)] for model, name in enumerate(MODELS)},
    )
    default = {"title": "Comparing", "questions": 8, "repeats": 2, "allow_ties": True, "seed": 0}
    return study_page(pictures, **(default | options))


def test_the_page_loads_nothing_from_anywhere():
    html, _ = make()
    check_self_contained(html)
    assert not re.search(r"\bfetch\b|sendBeacon", html)


def test_neither_names_nor_their_order_stand_in_the_page():
    html, _ = make()
    assert not any(part in html for part in ("secret-model", "alert(1)", "example.com"))
    identified = [decode_names(json.loads(WebPage(make(seed=n)[0]).scripts[0])["names"]) for n in range(10)]
    assert all(sorted(names.values()) == sorted(MODELS) for names in identified)
    assert {names["m1"] for names in identified} == set(MODELS), "which model is the first one depends on the seed"


def test_hostile_texts_stay_texts():
    html, _ = make(title=HOSTILE)
    read = WebPage(html)
    assert len([tag for tag, _ in read.tags if tag == "script"]) == 2
    assert html.count("</script") == 2
    assert json.loads(read.scripts[0])["title"] == HOSTILE
    assert HOSTILE in read.text, "in the page's title, escaped"


def test_every_result_is_there_once_under_its_model():
    html, _ = make()
    study = json.loads(WebPage(html).scripts[0])
    names = decode_names(study["names"])
    for identifier, results in zip(study["models"], study["results"], strict=True):
        model = MODELS.index(names[identifier])
        assert results == [picture(20 + 10 * model + n) for n in range(4)]
    assert study["photos"] == [picture(n) for n in range(4)] and study["styles"] == [picture(9)]


def test_the_same_study_is_the_same_page_and_any_change_another_fingerprint():
    html, fingerprint = make()
    assert make() == (html, fingerprint) and re.fullmatch("[0-9a-f]{16}", fingerprint)
    others = {make(**change)[1] for change in ({"seed": 1}, {"title": "x"}, {"questions": 7}, {"allow_ties": False})}
    assert len(others | {fingerprint}) == 5


def test_participants_are_asked_in_different_orders():
    sheets = json.loads(WebPage(make()[0]).scripts[0])["sheets"]
    assert len(sheets) > 100 and len({json.dumps(sheet) for sheet in sheets}) > 0.95 * len(sheets)


def test_every_control_has_a_name_and_every_picture_an_alternative_text():
    read = WebPage(make()[0])
    assert all("alt" in a for tag, a in read.tags if tag == "img")
    assert ("html", {"lang": "en"}) in read.tags
    labelled = {a.get("for") for tag, a in read.tags if tag == "label"}
    assert all(a["id"] in labelled for tag, a in read.tags if tag == "textarea")
    assert all("aria-label" in a for tag, a in read.tags if tag == "progress")


def test_a_picture_as_a_data_uri_is_the_picture():
    import base64
    import io

    from PIL import Image

    red = torch.tensor([1.0, -1.0, -1.0]).view(3, 1, 1).expand(3, 5, 7)
    kind, content = data_uri(red).split(",")
    assert kind == "data:image/jpeg;base64"
    decoded = Image.open(io.BytesIO(base64.b64decode(content)))
    assert decoded.size == (7, 5) and decoded.getpixel((3, 3)) == pytest.approx((255, 0, 0), abs=2)
    assert data_uri(to_uint8(red)) == data_uri(red)


# ----------------------------------------------------------------------------------------------- in a real browser

KEYS = {"left": "ArrowLeft", "right": "ArrowRight", "tie": "ArrowDown"}
ANSWERS = ("left", "right", "tie", "right", "left", "left", "tie", "right", "right", "left")
SETTLED = 300  # milliseconds; see SETTLE_MS in study.js


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.html"
    path.write_text(make()[0], encoding="utf-8")
    return path


@pytest.fixture
def visit(chromium, study):
    """A participant's tab, and what it asked for or complained about besides the file itself."""
    context = chromium.new_context(viewport={"width": 390, "height": 844}, accept_downloads=True)
    tab, troubles = context.new_page(), []
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("console", lambda message: troubles.append(message.text))
    tab.on("request", lambda r: troubles.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None)
    tab.goto(study.as_uri())
    yield tab, troubles
    context.close()


def press(tab, key: str) -> None:
    tab.wait_for_timeout(SETTLED)
    tab.keyboard.press(key)


@pytest.mark.slow  # starts a browser, and waits between the answers as a person would
def test_a_participant_answers_by_keyboard_reloads_undoes_and_saves(visit, study, tmp_path, take_part):
    tab, troubles = visit
    tab.keyboard.press("Enter")  # Start has the focus
    assert tab.inner_text("#count") == "1 of 10"
    press(tab, "Backspace")
    assert tab.inner_text("#count") == "1 of 10", "nothing to undo yet"
    for choice in ANSWERS[:4]:
        press(tab, KEYS[choice])
    press(tab, KEYS["left"])
    press(tab, "Backspace")  # that was a slip
    assert tab.inner_text("#count") == "5 of 10"

    displayed = tab.get_attribute("#left img", "src")
    tab.reload()
    assert tab.inner_text("#count") == "5 of 10"
    assert tab.get_attribute("#left img", "src") == displayed

    for choice in ANSWERS[4:]:
        assert tab.is_visible("#asking")
        press(tab, KEYS[choice])
    assert tab.is_visible("#done") and "all 10" in tab.inner_text("#done-text")
    with tab.expect_download() as waiting:
        tab.click("#download")
    saved = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(saved)

    content = json.loads(saved.read_text())
    assert content == json.loads(tab.input_value("#answers"))
    assert saved.name == f"gan-style-study-{content['study']}-{content['participant']}.json"
    read = read_participant(saved)
    assert tuple(answer.choice for answer in read.answers) == ANSWERS
    assert all(0.2 < answer.seconds < 60 for answer in read.answers)
    pending = iter(ANSWERS)
    expected = take_part(study.read_text(), content["participant"], lambda *_: next(pending))
    for content_answer, answer in zip(content["answers"], expected["answers"], strict=True):
        assert content_answer | {"seconds": 1.5} == answer
    assert content | {"answers": None} == expected | {"answers": None}
    assert troubles == []


@pytest.mark.slow  # starts a browser
def test_each_question_shows_what_it_says(visit, study):
    tab, _ = visit
    data = json.loads(WebPage(study.read_text()).scripts[0])
    tab.click("#start")
    participant = tab.evaluate("JSON.parse(Object.values(localStorage)[0]).participant")
    for kind, number, left, right, _ in data["sheets"][int(participant[:8], 16) % len(data["sheets"])]:
        assert kind in tab.inner_text("#question")
        assert (
            tab.get_attribute("#reference img", "src") == {"content": data["photos"][number], "style": picture(9)}[kind]
        )
        assert tab.get_attribute("#left img", "src") == data["results"][left][number]
        assert tab.get_attribute("#right img", "src") == data["results"][right][number]
        assert tab.evaluate("[...document.querySelectorAll('#asking img')].every((image) => image.alt)")
        press(tab, "ArrowLeft")


@pytest.mark.slow  # starts a browser
def test_clicks_pause_copy_and_the_next_person(visit):
    tab, troubles = visit
    tab.click("#start")
    tab.wait_for_timeout(SETTLED)
    tab.dblclick("#right")
    assert tab.inner_text("#count") == "2 of 10", "a double click is one answer"
    tab.wait_for_timeout(SETTLED)
    tab.click("#tie")
    tab.click("#stop")
    assert "2 of 10" in tab.inner_text("#done-text")
    assert len(json.loads(tab.input_value("#answers"))["answers"]) == 2
    tab.click("#copy")
    assert "Copied" in tab.inner_text("#copied")
    tab.click("#go-on")
    assert tab.inner_text("#count") == "3 of 10"
    before = tab.evaluate("Object.values(localStorage)[0]")
    tab.click("#stop")
    tab.on("dialog", lambda dialog: dialog.accept())
    tab.click("#again")
    assert tab.is_visible("#intro")
    tab.click("#start")
    assert tab.inner_text("#count") == "1 of 10"
    stored_value = json.loads(tab.evaluate("Object.values(localStorage)[0]"))
    assert stored_value["answers"] == [] and stored_value["participant"] != json.loads(before)["participant"]
    assert troubles == []


@pytest.mark.slow  # starts a browser
@pytest.mark.parametrize("stored_value", ["no json", "{}", '{"participant": "x", "answers": []}', "null"])
def test_what_is_kept_but_not_ours_is_passed_over(visit, stored_value):
    tab, troubles = visit
    tab.click("#start")
    tab.evaluate("(kept) => localStorage.setItem(Object.keys(localStorage)[0], kept)", stored_value)
    tab.reload()
    assert tab.is_visible("#intro")
    assert troubles == []


@pytest.mark.slow  # starts a browser
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844), (844, 390)])
def test_a_question_fits_the_window(chromium, study, width, height):
    tab = chromium.new_page(viewport={"width": width, "height": height})
    tab.goto(study.as_uri())
    tab.click("#start")
    size = tab.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert size[0] <= width and size[1] <= height
    tab.close()
