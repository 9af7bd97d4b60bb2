"""gan-style compare, from runs' folders to its table, CSV and page."""

import csv
import json
from pathlib import Path

import pytest
from generators import make_resnet, write_file
from PIL import Image

from gan_style.runtime.checkpoint import GENERATOR_FILE

TWO_STEPS = ({"heldout/content": 2.0, "heldout/style": 4.0}, {"heldout/content": 1.0, "heldout/style": 3.0})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(6):
        Image.effect_noise((40, 32), 40 + number).convert("RGB").save(tmp_path / "photos" / f"p{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def make_run(tmp_path: Path, photos: Path):
    """A run's folder as training leaves it; values: one dict for each of the steps 10, 20, ..."""

    def make(
        name: str, *values: dict[str, float], style_weight: float = 1.0, steps: int = 20, with_samples: bool = True
    ) -> Path:
        folder = tmp_path / "sweep" / name
        (folder / "samples").mkdir(parents=True)
        (folder / "config.yaml").write_text(
            f"run: {{name: '{name}'}}\ntraining: {{steps: {steps}, batch: 4}}\n"
            f"loss: {{style: {{weight: {style_weight}}}}}\n"
            f"data: {{content: '{photos}', style: '{photos / 'p0.png'}', holdout: null, holdout_count: 2}}\n"
        )
        lines = [
            json.dumps({"step": 10 * i, **first, "images_per_second": 8.0}) for i, first in enumerate(values, start=1)
        ]
        (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
        Image.effect_noise((90, 30), 60).convert("RGB").save(folder / "samples" / "step_00000020.jpg")
        if with_samples:
            write_file(folder / GENERATOR_FILE, make_resnet(seed=len(name), width=2), step=10 * len(values))
        return folder

    return make


@pytest.fixture
def compare(gan_style, tmp_path):
    def call(*runs: Path, status=0, **options):
        listed = ",".join(map(str, runs))
        more = [f"{name}={value}" for name, value in options.items()]
        more += [f"runs=[{listed}]", f"output={tmp_path / 'out'}", "runtime.device=cpu"]
        return gan_style("compare", *more, status=status)

    return call


def rows(tmp_path):
    with open(tmp_path / "out" / "summary.csv", newline="") as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def test_a_sweep_becomes_a_table_a_page_and_a_sheet(make_run, compare, tmp_path):
    make_run("a", *TWO_STEPS, style_weight=1.0)
    make_run("b", *TWO_STEPS[::-1], style_weight=5.0)
    outcome = compare(tmp_path / "sweep")
    actual = rows(tmp_path)
    assert [actual[name]["loss.style.weight"] for name in "ab"] == ["1", "5"]
    assert [actual[name]["heldout/content"] for name in "ab"] == ["1", "2"]
    assert actual["b"]["heldout/content best"] == "1" and actual["b"]["heldout/content best step"] == "10"
    assert actual["a"]["status"] == "finished" and actual["a"]["time"] == "10"
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<img ") == 1 + (1 + 2)  # the style; one held-out photo (a fifth of six), twice made
    assert "style.weight" in outcome.out and "1*" in outcome.out


@pytest.mark.parametrize("name", ["report.html", "summary.csv"])
def test_only_the_same_command_replaces_its_results(make_run, compare, tmp_path, name):
    make_run("a", *TWO_STEPS)
    for _ in range(2):
        compare(tmp_path / "sweep", pictures=0)
    assert "overwrite=true" in compare(tmp_path / "sweep", pictures=0, size=32, status=2).err
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    (tmp_path / "out" / name).write_text("mine")
    compare(tmp_path / "sweep", pictures=0, status=2)
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {name: "mine"}
    compare(tmp_path / "sweep", pictures=0, overwrite="true")


def test_unfinished_and_failed_runs_are_shown_as_such(make_run, compare, tmp_path):
    make_run("a", *TWO_STEPS)
    make_run("b", TWO_STEPS[0])
    (make_run("c", TWO_STEPS[0], with_samples=False) / "failure.txt").write_text(
        "step 12: not a finite number: loss/style\n"
    )
    (tmp_path / "sweep" / "d").mkdir()
    (tmp_path / "sweep" / "d" / "failure.txt").write_text("data.content: no picture\n")
    compare(tmp_path / "sweep")
    status = {name: row["status"] for name, row in rows(tmp_path).items()}
    assert status == {
        "a": "finished",
        "b": "unfinished, 10 of 20",
        "c": "failed: step 12: not a finite number: loss/style",
        "d": "failed: data.content: no picture",
    }
    assert "4 runs: 1 finished, 1 unfinished, 2 failed" in (tmp_path / "out" / "report.html").read_text()


def test_a_corrupt_line_and_unreadable_settings_are_named_and_passed_over(make_run, compare, tmp_path):
    first, second = make_run("a", *TWO_STEPS), make_run("b", *TWO_STEPS)
    with open(first / "metrics.jsonl", "a") as file:
        file.write('{"step": 30, "heldout/con')
    (second / "config.yaml").write_text("a: [")
    outcome = compare(first, second)
    assert f"{first / 'metrics.jsonl'}, line 3 is corrupt" in outcome.err
    assert f"{second / 'config.yaml'} cannot be read" in outcome.err
    assert rows(tmp_path)["a"]["heldout/content"] == "1"
    assert "line 3 is corrupt" in (tmp_path / "out" / "report.html").read_text()


def test_runs_elsewhere_whose_photos_are_gone_show_their_last_samples(make_run, compare, tmp_path, photos):
    folders = [make_run(name, *TWO_STEPS) for name in "ab"]
    for path in photos.iterdir():
        path.unlink()
    assert "shows each run's own last samples" in compare(*folders).err
    assert (tmp_path / "out" / "report.html").read_text().count("<img ") == 2


def test_a_damaged_generator_leaves_a_gap(make_run, compare, tmp_path):
    folders = [make_run(name, *TWO_STEPS) for name in "ab"]
    (folders[1] / GENERATOR_FILE).write_bytes(b"junk")
    assert "damaged" in compare(*folders).err and (tmp_path / "out" / "report.html").read_text().count("<img ") == 3


def test_asked_for_photos_and_sizes(make_run, compare, tmp_path, photos):
    folder = make_run("a", *TWO_STEPS)
    compare(folder, content=photos, pictures=3, size=16)
    assert (tmp_path / "out" / "report.html").read_text().count("<img ") == 1 + 3 * 2
    compare(folder, pictures=0, overwrite="true")
    assert (tmp_path / "out" / "report.html").read_text().count("<img ") == 0


def test_a_run_that_is_named_twice_counts_once_and_two_of_one_name_are_told_apart(make_run, compare, tmp_path):
    first, second = make_run("x/r", *TWO_STEPS), make_run("y/r", *TWO_STEPS)
    compare(first, first.parent, second)
    assert list(rows(tmp_path)) == ["x/r", "y/r"]


def test_a_run_called_photo_is_beside_the_photo(make_run, compare, tmp_path):
    folders = [make_run(name, *TWO_STEPS) for name in ("photo", "b")]
    compare(*folders, pictures=1)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<img ") == 1 + 3  # the style; a photo through two runs


def test_names_that_are_no_text_are_written_as_what_they_are(make_run, compare, tmp_path):
    result = make_run("r", *TWO_STEPS)
    folder = result.rename(result.with_name("caf\udce9"))
    compare(folder.parent)
    assert "caf\\udce9" in (tmp_path / "out" / "report.html").read_text()


BAD_INPUT = {
    "no common metrics": ("no metric in common", {"a": {"loss/x": 1.0}, "b": {"loss/y": 1.0}}, {}),
    "no numbers yet": ("none of these 2 runs has left any numbers yet", {"a": None, "b": None}, {}),
    "unknown curve": ("no run has 'loss/styl'", {"a": {"loss/style": 1.0}}, {"curves": "[loss/styl]"}),
    "no such photos": ("there is no such folder or file", {"a": {"loss/style": 1.0}}, {"content": "/nowhere"}),
    "negative": ("pictures=-1", {"a": {"loss/style": 1.0}}, {"pictures": -1}),
    "too small": ("size=8", {"a": {"loss/style": 1.0}}, {"size": 8}),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_told_in_the_users_words(make_run, compare, tmp_path, case):
    message, runs, options = BAD_INPUT[case]
    folders = [make_run(name, *([values] if values else [])) for name, values in runs.items()]
    assert message in compare(*folders, **options, status=2).err
    assert not (tmp_path / "out").exists()


def test_what_is_no_run_is_named(compare, photos):
    assert f"runs={photos}" in compare(photos, status=2).err
    assert "runs=[]: one expected, or a list" in compare(status=2).err
