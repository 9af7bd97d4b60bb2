"""gan-style study, from two models and some photos to a page, and from participants' files to numbers."""

import base64
import io
import json
import shutil
from pathlib import Path

import pytest
from generators import make_resnet, write_file
from PIL import Image
from web_pages import WebPage

from gan_style.commands.study import find_models

PEOPLE = [f"{number:08x}{number:08x}" for number in range(6)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: two runs, a folder of another tool's results, photos and a painting."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("first-run", "second-run")):
        (tmp_path / "runs" / name / "samples").mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "runs" / name / "samples" / "step1.png")
        write_file(tmp_path / "runs" / name / "generator.safetensors", make_resnet(seed=seed), step=1)
    for folder, suffix, colour in (("photos", ".jpg", "red"), ("tool", ".png", "blue")):
        (tmp_path / folder).mkdir()
        for name in ("a", "b", "c (1)"):
            Image.new("RGB", (48, 32), colour).save(tmp_path / folder / f"{name}{suffix}")
    Image.effect_noise((40, 40), 60).convert("RGB").save(tmp_path / "painting.png")
    return tmp_path


MAKE = ("content=photos", "style=painting.png", "output=study.html", "size=32", "questions=8", "repeats=2")


def make(gan_style, *more: str, checkpoints: str = "[runs/first-run,runs/second-run]"):
    return gan_style("study", f"checkpoints={checkpoints}", *MAKE, *more)


def study_in(page: Path) -> dict:
    return json.loads(WebPage(page.read_text()).scripts[0])


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def test_runs_and_finished_pictures_become_one_blind_page(gan_style, place):
    before = sorted(place.rglob("*"))
    outcome = make(gan_style, checkpoints="[runs/first-run,runs/second-run/generator.safetensors,tool]")
    assert "first-run: 3 pictures, stylized" in outcome.out and "tool: 3 pictures, as they are" in outcome.out
    page = place / "study.html"
    assert sorted(place.rglob("*")) == sorted([*before, page])
    assert not any(name in page.read_text() for name in ("first-run", "second-run", "tool", "painting.png"))
    study = study_in(page)
    names = json.loads(base64.b64decode(study["names"]))
    assert sorted(names.values()) == ["first-run", "second-run", "tool"]
    results = dict(zip((names[model] for model in study["models"]), study["results"], strict=True))
    assert decoded(results["tool"][0]).getpixel((9, 9))[2] > 250
    assert all(decoded(uri).size == (48, 32) for uris in results.values() for uri in uris)
    assert results["tool"][0] not in (results["first-run"][0], results["second-run"][0])
    assert decoded(study["photos"][0]).getpixel((9, 9))[0] > 250 and len(study["styles"]) == 1


def test_from_the_page_to_numbers(gan_style, place, take_part):
    """Six people always find that the first run keeps the content; on the style they can't tell."""
    make(gan_style)

    def rule(kind, left, right):
        return "tie" if kind == "style" else ("left" if left == "first-run" else "right")

    html = (place / "study.html").read_text()
    (place / "answers").mkdir()
    for name in PEOPLE:
        (place / "answers" / f"{name}.json").write_text(json.dumps(take_part(html, name, rule)))
    shutil.copy(place / "answers" / f"{PEOPLE[0]}.json", place / "answers" / "z.json")
    outcome = gan_style("study", "results=answers", "output=numbers.json")
    assert "z.json" in outcome.err and "same participant" in outcome.err
    report = json.loads((place / "numbers.json").read_text())
    content, style = (report["kinds"][kind]["preferences"] for kind in ("content", "style"))
    assert (content["answers"], content["participants"]) == (18, 6), "3 photos each; the repeated ones are not counted"
    assert [model["name"] for model in content["models"]] == ["first-run", "second-run"]
    assert content["models"][0]["rate"]["value"] == 1.0 and style["models"][0]["rate"]["value"] == 0.5
    assert report["kinds"]["content"]["consistency"]["value"] == 1.0
    assert report["kinds"]["content"]["conclusions"] == ["first-run is preferred to second-run"]
    assert report["kinds"]["style"]["conclusions"] == ["no difference shown between first-run and second-run"]
    assert report["participants"][PEOPLE[3]] == {
        "answers": 8,
        "questions": 8,
        "repeats": 2,
        "repeats_answered_the_same": 2,
        "median_seconds": 1.5,
    }
    assert "6 participants" in outcome.out and "first-run over second-run" in outcome.out
    assert "100.0 % [82.4, 100.0]" in outcome.out, "Wilson's interval of 18 out of 18"


@pytest.mark.parametrize("name", ["study.html", "numbers.json"])
def test_only_the_same_command_replaces_its_result(gan_style, place, take_part, name):
    page = ("study", "checkpoints=[tool,runs/first-run]", *MAKE)
    if name == "numbers.json":
        gan_style(*page, "overwrite=true")
        (place / "answers").mkdir()
        answers = take_part((place / "study.html").read_text(), PEOPLE[0], lambda *_: "left")
        (place / "answers" / "a.json").write_text(json.dumps(answers))
    command = page if name == "study.html" else ("study", "results=answers", "output=numbers.json")
    (place / name).write_text("mine")
    assert "overwrite=true" in gan_style(*command, status=2).err and (place / name).read_text() == "mine"
    gan_style(*command, "overwrite=true")
    gan_style(*command)
    gan_style(*command, "seed=1", status=2)


def test_one_participants_unfinished_answers_are_too_few_and_that_is_said(gan_style, place, take_part):
    make(gan_style, "repeats=0")
    content = take_part((place / "study.html").read_text(), PEOPLE[0], lambda *_: "left")
    (place / "a.json").write_text(json.dumps(content | {"answers": content["answers"][:1]}))
    outcome = gan_style("study", "results=[a.json]")
    assert "too little to conclude: 1 participant, at least 5" in outcome.out
    assert "1 of them did not finish" in outcome.out
    assert "0 answers of 0 participants" in outcome.out


def test_more_questions_than_there_are_is_said(gan_style, place):
    outcome = make(gan_style, "questions=100")
    assert "there are only 6" in outcome.err
    assert all(len(sheet) == 6 + 2 for sheet in study_in(place / "study.html")["sheets"])


def test_results_of_another_shape_are_told(gan_style, place):
    Image.new("RGB", (32, 32)).save(place / "tool" / "a.png")
    outcome = make(gan_style, checkpoints="[tool,runs/first-run]")
    assert "1 of 3 pictures of tool have another shape" in outcome.err


BAD_INPUT = {
    "nothing": ([], "give either checkpoints="),
    "both": (["checkpoints=[a,b]", "results=a.json"], "give either checkpoints="),
    "one model": (["checkpoints=[runs/first-run]", *MAKE], "two models or more"),
    "no list": (["checkpoints=runs/first-run", *MAKE], "two models or more"),
    "the same model twice": (["checkpoints=[tool,tool]", *MAKE], "tool is given twice"),
    "a model that is not there": (["checkpoints=[tool,nowhere]", *MAKE], "nowhere: there is no such file or folder"),
    "no content": (
        ["checkpoints=[tool,runs/first-run]", "style=painting.png", "output=a.html"],
        "content=... is missing",
    ),
    "content that is not there": (
        ["checkpoints=[tool,runs/first-run]", *MAKE, "content=no"],
        "content=no: there is no",
    ),
    "a result that is missing": (["checkpoints=[tool,lacking]", *MAKE], "none for 1 of 3 content pictures"),
    "an output of another kind": (["checkpoints=[tool,runs/first-run]", *MAKE, "output=a.png"], "ends in .html"),
    "an output below a file": (
        ["checkpoints=[tool,runs/first-run]", *MAKE, "output=painting.png/a.html"],
        "output: cannot",
    ),
    "too many repeats": (["checkpoints=[tool,runs/first-run]", *MAKE, "repeats=5"], "repeats=5; allowed are 0 to half"),
    "no question": (["checkpoints=[tool,runs/first-run]", *MAKE, "questions=0"], "questions=0; allowed"),
    "results with content": (["results=a.json", "content=photos"], "content=... belongs to checkpoints"),
    "results that are not there": (["results=nowhere.json"], "nowhere.json: there is no such file"),
    "a folder without results": (["results=photos"], "results=photos: there is no .json"),
    "a foreign file": (["results=[foreign.json]"], "foreign.json: no file of answers"),
    "a damaged file": (["results=[damaged.json]"], "damaged.json: damaged"),
    "an empty list": (["results=[]"], "results=[]: one expected, or a list"),
    "an analysis to a page": (["results=a.json", "output=a.html"], "ends in .json"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named_in_the_users_words(gan_style, place, case):
    (place / "foreign.json").write_text('{"format": "another"}')
    (place / "damaged.json").write_text('{"format": "gan-style study results", ')
    shutil.copytree(place / "tool", place / "lacking")
    (place / "lacking" / "a.png").unlink()
    arguments, message = BAD_INPUT[case]
    assert message in gan_style("study", *arguments, status=2).err
    assert not list(place.glob("*.html"))


def test_labels_are_names_or_where_these_are_the_same_what_was_given(place):
    shutil.copytree(place / "runs" / "first-run", place / "old" / "first-run")
    assert list(find_models(["runs/first-run", "tool"])) == ["first-run", "tool"]
    assert list(find_models(["runs/first-run", "old/first-run", "tool"])) == ["runs/first-run", "old/first-run", "tool"]
