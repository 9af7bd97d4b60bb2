"""gan-style evaluate, from the command line to the table, metrics.json and the report."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

import pytest
import torch
from generators import make_library, write_file
from PIL import Image
from web_pages import WebPage

from gan_style.data.sets import split
from gan_style.evaluation.metrics import ssim
from gan_style.evaluation.suite import DEFAULT, OF_PICTURES, PHOTOS, STYLES
from gan_style.images.decode import decode, to_float
from gan_style.report.runs import read_evaluation
from gan_style.stylize.model import load_generator

FIGURES = {"content", "style", "ssim", "structure"}  # numbers under a result
FAST = ("perceptual=compact", "size=32", "calibration_pictures=4")


def paint(path: Path, seed: int, *, striped: bool = False, size: tuple[int, int] = (48, 40)) -> Path:
    """A cloudy picture or, as a style, one of reddish stripes."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(3, 1 if striped else 5, 9, generator=random)
    pixels = torch.nn.functional.interpolate(coarse[None], size[::-1], mode="nearest" if striped else "bicubic")[0]
    pixels = 0.4 * pixels + torch.tensor([0.6, 0.1, 0.0])[:, None, None] if striped else pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()).save(path)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """photos/ and styles/ with 20 pictures each, and runs/smoke, which was trained on all photos but 4."""
    place = tmp_path_factory.mktemp("evaluate")
    for number in range(20):
        paint(place / "photos" / f"{number:02}.png", number)
        paint(place / "styles" / f"s{number:02}.png", 100 + number, striped=True)
    data = (f"data.content={place}/photos", f"data.style={place}/styles", "data.holdout=null", "data.holdout_count=4")
    options = ("experiment=smoke", "training.steps=3")
    call("train", *options, *data, f"run.root={place}/runs")
    return place


def call(command: str, *arguments: str) -> str:
    """Run a command that succeeds, and give what it printed; for fixtures that several tests share."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), pytest.raises(SystemExit) as exit_:
        patch.setattr(sys, "argv", [command, *arguments])
        import_module(f"gan_style.commands.{command}").main()
    assert not exit_.value.code, printed.getvalue()
    return printed.getvalue()


@pytest.fixture(scope="module")
def usual(place, tmp_path_factory) -> tuple[str, Path]:
    """(what was printed, where it was written) with the defaults."""
    folder = tmp_path_factory.mktemp("usual")
    return call("evaluate", *FAST, f"checkpoint={place}/runs/smoke", f"output={folder}"), folder


def held_out(place: Path) -> list[str]:
    return [path.name for path in split(str(place / "photos"), None, 4)[1]]


@pytest.fixture
def evaluate(gan_style, place, tmp_path):
    """evaluate("name=value", ...): of the run, into tmp_path/out, where the options do not say otherwise."""
    defaults = (*FAST, f"checkpoint={place}/runs/smoke", f"output={tmp_path}/out")
    return lambda *options, status=0: gan_style("evaluate", *defaults, *options, status=status)


def numbers_in(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


class TestOfARun:
    def test_the_defaults_measure_it_on_what_it_has_held_out(self, usual, place):
        printed, folder = usual
        actual = numbers_in(folder)
        assert list(actual["metrics"]) == [PHOTOS, "smoke", STYLES]
        assert [Path(name).name for name in actual["pictures"]["smoke"]] == held_out(place)
        names = {name for name in actual["metrics"]["smoke"] if "/relu" not in name}
        assert names == {*DEFAULT} - {"deception"}
        assert "not computed: deception needs at least 16 content and 16 style pictures" in printed
        assert "4 content pictures, 20 style pictures, short side 32" in printed
        assert not list(folder.glob(".*"))

    def test_the_table_and_the_file_say_the_same(self, usual):
        printed, folder = usual
        actual = numbers_in(folder)["metrics"]
        lines = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
        head = next(line for line in printed.splitlines() if line.split() == [PHOTOS, "smoke", "style", "pictures"])
        assert printed.count(head) == 1
        for name in ("content", "ssim", "kid", "style/relu1_1"):
            cells = re.split(r"\s{2,}", lines[name])
            for cell, label in zip(cells[1:], (PHOTOS, "smoke", STYLES), strict=True):
                first = actual[label].get(name)
                assert (cell == "-") == (first is None)
                assert first is None or float(cell.split()[0]) == pytest.approx(first["value"], rel=1e-3, abs=1e-12)

    def test_a_mean_is_that_of_its_pictures_and_a_picture_that_of_the_generator(self, usual, place):
        actual = numbers_in(usual[1])
        pictures, generator = actual["pictures"]["smoke"], load_generator(place / "runs" / "smoke", torch.device("cpu"))
        for name, first in actual["metrics"]["smoke"].items():
            values = [numbers[name] for numbers in pictures.values() if name in numbers]
            if values:
                assert first["value"] == pytest.approx(sum(values) / len(values), rel=1e-9)
                assert first["n"] == len(values) == 4
        for name, numbers in pictures.items():
            content = to_float(decode(Path(name), short_side=32)[None])
            assert numbers["ssim"] == pytest.approx(ssim(generator(content), content).item(), abs=1e-4)

    def test_photos_are_at_the_one_end_and_style_pictures_at_the_other(self, usual):
        actual = numbers_in(usual[1])["metrics"]
        photos, styles = actual[PHOTOS], actual[STYLES]
        assert photos["content"]["value"] == photos["colour/mean"]["value"] == photos["colour/spread"]["value"] == 0
        assert photos["ssim"]["value"] == pytest.approx(1, abs=1e-6) == photos["structure"]["value"]
        for name in ("style", "kid", "frechet"):
            assert styles[name]["value"] < photos[name]["value"]
        assert styles["style"]["n"] == 10  # the half that is not compared with

    def test_settings_versions_and_facts_are_kept(self, evaluate, tmp_path):
        evaluate("max_pictures=3")
        actual = numbers_in(tmp_path / "out")
        assert actual["settings"]["size"] == 32 and actual["settings"]["max_pictures"] == 3
        assert actual["versions"]["torch"] == torch.__version__
        assert any("perceptual network compact; feature scales relu1_1" in fact for fact in actual["facts"])
        assert len(actual["pictures"][PHOTOS]) == 3

    def test_the_report_is_whole_and_shows_every_picture(self, usual, place):
        printed, folder = usual
        page = WebPage((folder / "report.html").read_text())
        results = [figure for figure in page.all("figure") if figure.get("data-label") == "smoke"]
        assert [image["title"] for image in page.all("img")[::2]] == held_out(place)
        assert len(page.all("img")) == 2 * len(results)
        assert all(json.loads(figure["data-numbers"]).keys() == FIGURES for figure in results)
        for image in page.all("img"):  # in its own proportions
            width, height = Image.open(place / "photos" / image["title"]).size
            with Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))) as figure_image:
                assert figure_image.width / figure_image.height == pytest.approx(width / height, rel=0.02)
        assert f"report:  {folder}/report.html" in printed

    def test_without_an_output_it_goes_into_the_runs_folder(self, gan_style, place):
        gan_style("evaluate", *FAST, f"checkpoint={place}/runs/smoke", "metrics=[ssim]")
        folder = place / "runs" / "smoke" / "evaluation"
        assert sorted(path.name for path in folder.iterdir()) == ["metrics.json", "report.html"]
        shutil.rmtree(folder)

    def test_the_same_command_twice_gives_the_same_numbers(self, evaluate, usual, tmp_path):
        evaluate()
        first, two = numbers_in(usual[1]), numbers_in(tmp_path / "out")
        assert (first["metrics"], first["pictures"]) == (two["metrics"], two["pictures"])


class TestWhatIsMeasured:
    @pytest.mark.parametrize("name", ["metrics.json", "report.html"])
    def test_only_the_same_command_replaces_its_results(self, evaluate, tmp_path, name):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_text("mine")
        assert "overwrite=true" in evaluate("metrics=[ssim]", "max_pictures=1", status=2).err
        assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["mine"]
        evaluate("metrics=[ssim]", "max_pictures=1", "overwrite=true")
        evaluate("metrics=[ssim]", "max_pictures=1", "runtime.threads=1")
        evaluate("metrics=[content]", "max_pictures=1", status=2)

    def test_pictures_that_were_trained_on_are_left_out_and_said(self, evaluate, place, tmp_path):
        assert "16 content pictures were trained on and are left out" in evaluate(f"content={place}/photos").out
        assert [Path(name).name for name in numbers_in(tmp_path / "out")["pictures"][PHOTOS]] == held_out(place)

    def test_a_link_to_what_was_trained_on_was_trained_on_too(self, evaluate, place, tmp_path):
        (tmp_path / "links").symlink_to(place / "photos")
        outcome = evaluate(f"content={tmp_path}/links", "metrics=[ssim]")
        assert "16 content pictures were trained on and are left out" in outcome.out

    def test_training_pictures_that_have_gone_are_a_warning(self, evaluate, place, tmp_path):
        run = tmp_path / "moved"
        run.mkdir()
        shutil.copy(place / "runs/smoke/generator.safetensors", run)
        settings = (place / "runs/smoke/config.yaml").read_text().replace(str(place / "photos"), "/nowhere/photos")
        (run / "config.yaml").write_text(settings)
        outcome = evaluate(f"checkpoint={run}", f"content={place}/photos", "metrics=[ssim]")
        assert "warning" in outcome.err and "training pictures are not there to be left out" in outcome.err
        assert len(numbers_in(tmp_path / "out")["pictures"][PHOTOS]) == 20

    def test_training_pictures_that_have_changed_are_a_warning(self, evaluate, place, tmp_path):
        """One more moves those that are held out."""
        shutil.copytree(place / "photos", tmp_path / "photos")
        shutil.copytree(place / "runs/smoke", tmp_path / "run")
        settings = (tmp_path / "run/config.yaml").read_text().replace(str(place / "photos"), str(tmp_path / "photos"))
        (tmp_path / "run/config.yaml").write_text(settings)
        outcome = evaluate(f"checkpoint={tmp_path}/run", "metrics=[ssim]")
        assert "warning" not in outcome.err
        paint(tmp_path / "photos" / "000.png", 99)
        outcome = evaluate(f"checkpoint={tmp_path}/run", "metrics=[ssim]")
        assert "warning" in outcome.err and "data.content is not what this run was trained on" in outcome.err

    def test_where_models_were_and_what_they_are_compared_with_is_kept(self, evaluate, place, tmp_path):
        evaluate("metrics=[style]")
        first = numbers_in(tmp_path / "out")
        assert first["models"] == {"smoke": {"place": str((place / "runs/smoke").resolve()), "step": 3}}
        evaluate("metrics=[style]", f"style={place}/styles/s00.png", "overwrite=true")
        assert numbers_in(tmp_path / "out")["references"]["files"] == 1 != first["references"]["files"]

    def test_the_same_pictures_by_another_path_are_the_same_protocol(self, evaluate, place, tmp_path):
        (tmp_path / "links").symlink_to(place / "photos")
        protocols = []
        for content in (f"{place}/photos", f"{tmp_path}/links", f"{place}/photos/0*.png"):
            evaluate(f"content={content}", "metrics=[ssim]", "overwrite=true")
            protocols.append(read_evaluation(tmp_path / "out" / "metrics.json", place).protocol)
        assert protocols[0] == protocols[1] != protocols[2]

    def test_a_missing_result_is_told_before_anything_is_measured(self, evaluate, place, tmp_path, monkeypatch):
        for name in held_out(place)[:-1]:
            paint(tmp_path / "made" / name, 1)
        monkeypatch.setattr("gan_style.commands.evaluate.make_suite", lambda *_: pytest.fail("measured"))
        outcome = evaluate(f"checkpoint={tmp_path}/made", f"content={place}/photos", f"style={place}/styles", status=2)
        assert "it has none for" in outcome.err

    def test_only_the_metrics_that_are_asked_for(self, evaluate, tmp_path):
        evaluate("metrics=[kid,colour/spread]")
        actual = numbers_in(tmp_path / "out")["metrics"]
        assert {*actual["smoke"]} == {"kid", "colour/spread"} and {*actual[STYLES]} == {"kid"}
        assert "<svg" not in (tmp_path / "out" / "report.html").read_text()
        evaluate("metrics=ssim", "overwrite=true")  # one needs no brackets
        assert {*numbers_in(tmp_path / "out")["metrics"]["smoke"]} == {"ssim"}

    def test_several_models_and_a_folder_of_results_beside_them(self, gan_style, evaluate, place, tmp_path):
        """Results that stylize wrote score as those that are made, but for their eight bits."""
        run = place / "runs" / "smoke"
        for name in held_out(place):
            gan_style("stylize", f"checkpoint={run}", f"input={place}/photos/{name}", f"output={tmp_path}/made/{name}")
        specs = f"checkpoint=[{run},{run}/checkpoints/best.pt,{tmp_path}/made]"
        evaluate(specs, "size=40")
        actual = numbers_in(tmp_path / "out")["metrics"]
        assert list(actual) == [PHOTOS, str(run), "smoke/best", "made", STYLES]
        for name in ("content", "style", "ssim", "structure"):
            assert actual["made"][name]["value"] == pytest.approx(actual[str(run)][name]["value"], rel=0.02)
        assert actual["made"] != actual[str(run)]
        assert '<td class="best"' in (tmp_path / "out" / "report.html").read_text()

    def test_a_generators_file_far_from_its_run_is_told_what_to_take(self, evaluate, place, tmp_path):
        shutil.copy(place / "runs/smoke/generator.safetensors", tmp_path)
        data = (f"content={place}/photos", f"style={place}/styles", "metrics=[style,ssim]")
        evaluate(f"checkpoint={tmp_path}/generator.safetensors", *data)
        assert len(numbers_in(tmp_path / "out")["pictures"][PHOTOS]) == 20

    def test_one_picture_and_one_style_are_enough_for_what_needs_no_set(self, evaluate, place, tmp_path):
        paint(tmp_path / "one.png", 7)
        outcome = evaluate(f"content={tmp_path}/one.png", f"style={place}/styles/s00.png")
        actual = numbers_in(tmp_path / "out")["metrics"]
        assert list(actual) == [PHOTOS, "smoke"]
        assert {name for name in actual["smoke"] if "/relu" not in name} == set(OF_PICTURES)
        assert actual["smoke"]["content"]["error"] is None
        for name in ("kid", "frechet", "deception"):
            assert f"not computed: {name} needs at least" in outcome.out

    def test_with_enough_pictures_every_default_metric_is_there(self, evaluate, place, tmp_path):
        for number in range(16):
            paint(tmp_path / "others" / f"{number}.png", 300 + number)
        outcome = evaluate(f"content={tmp_path}/others")
        actual = numbers_in(tmp_path / "out")["metrics"]
        assert set(DEFAULT) <= set(actual["smoke"]) and "not computed" not in outcome.out
        assert actual[PHOTOS]["deception"]["value"] < 0.5 < actual[STYLES]["deception"]["value"]
        assert actual[PHOTOS]["deception"]["n"] == 8

    def test_grey_pictures_of_several_kinds_are_pictures(self, evaluate, place, tmp_path):
        for number, mode in enumerate(("L", "LA", "1", "I;16")):
            picture = Image.open(paint(tmp_path / "grey" / f"{number}.png", 40 + number))
            (picture.convert("I").convert("I;16") if mode == "I;16" else picture.convert(mode)).save(picture.filename)
        evaluate(f"content={tmp_path}/grey", f"style={tmp_path}/grey")
        assert len(numbers_in(tmp_path / "out")["pictures"][PHOTOS]) == 4

    def test_what_cannot_be_read_is_named_and_passed_over(self, evaluate, place, tmp_path):
        """Also where it is the first, on which the features are scaled."""
        for number in range(6):
            paint(tmp_path / "mixed" / f"{number}.png", 60 + number)
        (tmp_path / "mixed" / "0.png").write_text("no picture")
        outcome = evaluate(f"content={tmp_path}/mixed", "max_unreadable=0.2", "metrics=[content,kid]")
        assert "warning: cannot read the picture" in outcome.err and "mixed/0.png" in outcome.err
        assert "1 content pictures cannot be read and are left out" in outcome.out
        actual = numbers_in(tmp_path / "out")
        assert [Path(name).name for name in actual["pictures"]["smoke"]] == [f"{n}.png" for n in range(1, 6)]
        assert actual["metrics"]["smoke"]["kid"]["n"] == 5

    def test_lpips_fid_and_artfid_take_their_place_where_their_networks_are_there(
        self, evaluate, monkeypatch, tmp_path
    ):
        parts = "gan_style.commands.evaluate"
        monkeypatch.setattr(f"{parts}.lpips", lambda device: lambda a, b: (a - b).abs().mean().reshape(1))
        monkeypatch.setattr(f"{parts}.inception", lambda weights, device: lambda x: x.mean(dim=(2, 3)))
        evaluate("metrics=[artfid]")
        actual = numbers_in(tmp_path / "out")["metrics"]
        for label in (PHOTOS, "smoke"):
            first = {name: estimate["value"] for name, estimate in actual[label].items()}
            assert first["artfid"] == pytest.approx((1 + first["lpips"]) * (1 + first["fid"]), rel=1e-9)
        assert actual[PHOTOS]["lpips"]["value"] == 0


BAD_INPUT = {
    "an unknown metric": (["metrics=[ssim,contnt]"], ["metrics: there is no metric 'contnt'", "did you mean content"]),
    "no metrics": (["metrics=[]"], ["metrics=[]", "a list of at least one"]),
    "an unknown layer": (["layers.content=[relu3_9]"], ["no layer 'relu3_9'", "did you mean relu3_"]),
    "no layers": (["layers.style=[]"], ["layers.style=[]", "at least one layer"]),
    "too few for kid": (
        ["metrics=[kid]", "content=[{a},{b}]"],
        ["metrics: kid needs at least 3 content pictures", "there are 2 and 10"],
    ),
    "too few styles for kid": (["metrics=[kid]", "style={styles}/s0[01].png"], ["kid needs at least 3", "4 and 2"]),
    "one picture only, for frechet": (["metrics=[frechet]", "content={a}"], ["frechet needs at least 2", "1 and 20"]),
    "a result that is missing": (["checkpoint={tmp}/few"], ["checkpoint={tmp}/few", "has none for"]),
    "too many that cannot be read": (
        ["content={tmp}/mixed"],
        ["content: 1 of 4 pictures cannot be read", "max_unreadable=0.05 allows", "mixed/"],
    ),
    "none that can be read": (["content={tmp}/text"], ["content: none of", "text/"]),
    "no style that can be read": (
        ["style={tmp}/text", "max_unreadable=1"],
        ["style: none of its 2 pictures can be read"],
    ),
    "a checkpoint that is none": (["checkpoint={a}"], ["a.png"]),
    "an empty list": (["checkpoint=[]"], ["checkpoint=[]", "a list of at least one"]),
    "an output below a file": (["output={a}/out"], ["output", "cannot write"]),
    "all content trained on": (["content={photos}/00.png"], ["content=", "trained on"]),
    "no such content": (["content={tmp}/nowhere"], ["content={tmp}/nowhere", "no such folder or file"]),
    "a number for content": (["content=5"], ["content=5", "a path"]),
    "a size too small": (["size=8"], ["size=8", "numbers from 16"]),
    "no pictures at most": (["max_pictures=0"], ["max_pictures=0", "from 1"]),
    "a share above one": (["max_unreadable=2"], ["max_unreadable=2", "0 to 1"]),
    "a mistyped option": (["contnt={a}"], ["no option contnt", "did you mean content"]),
    "weights that are not there": (["perceptual.weights={tmp}/none.pth"], ["perceptual.weights=", "no such file"]),
    "an unknown device": (["runtime.device=warp"], ["runtime.device=warp"]),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory) -> Path:
    """Folders that are no good."""
    tmp = tmp_path_factory.mktemp("bad")
    for name in ("text", "mixed"):
        (tmp / name).mkdir()
    for name in ("text/a.png", "text/b.jpg", "mixed/a.png", "mixed/b.png"):
        (tmp / name).write_text("no picture")
    for number, name in enumerate(("mixed/c.png", "mixed/d.png", "few/a.png", "a.png", "b.png")):
        paint(tmp / name, 80 + number)
    return tmp


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named_in_the_users_words_and_nothing_is_half_written(evaluate, place, bad, tmp_path, case):
    options, message = BAD_INPUT[case]
    places = {"tmp": bad, "a": bad / "a.png", "b": bad / "b.png"}
    places |= {"photos": place / "photos", "styles": place / "styles"}
    filled = [re.sub(r"{(\w+)}", lambda m: str(places[m[1]]), text) for text in options]
    if any(option.startswith("checkpoint=") for option in filled):
        filled += [f"style={place}/styles"] if not any(o.startswith("style=") for o in filled) else []
        photos = ",".join(str(place / "photos" / name) for name in held_out(place))
        filled += [f"content=[{photos}]"] if not any(o.startswith("content=") for o in filled) else []
    before = sorted(bad.rglob("*"))
    outcome = evaluate(*filled, status=2)
    assert "Traceback" not in outcome.err
    for word in message:
        assert re.sub(r"{(\w+)}", lambda m: str(places[m[1]]), word) in outcome.err
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(bad.rglob("*")) == before


def test_what_no_run_can_tell_is_asked_for(gan_style, place, bad):
    file = f"checkpoint={bad}/few"
    for options, missing in (
        ((file,), "content="),
        ((file, f"content={bad}/a.png"), "style="),
        ((file, f"content={bad}/a.png", f"style={place}/styles"), "output="),
        ((), "checkpoint="),
    ):
        assert f"{missing}... is missing" in gan_style("evaluate", *FAST, *options, status=2).err


def test_a_folder_of_results_in_a_strangers_project_is_one_too(evaluate, place, tmp_path):
    """Its config.yaml is none of ours."""
    (tmp_path / "config.yaml").write_text("data: /some/where\nmodel: {depth: 3}\n")
    paint(tmp_path / "results" / "a.png", 1)
    paint(tmp_path / "a.png", 2)
    evaluate(f"checkpoint={tmp_path}/results", f"content={tmp_path}/a.png", f"style={place}/styles", "metrics=[ssim]")


@pytest.mark.slow  # launches torchrun
def test_two_ranks_agree_with_one(evaluate, place, tmp_path):
    """To the bit but for what rests on the mean Gram matrices, whose sum is taken in another order."""
    for number in range(18):
        paint(tmp_path / "others" / f"{number:02}.png", 500 + number)
    (tmp_path / "others" / "03.png").write_text("no picture")  # the second rank's
    options = (f"content={tmp_path}/others", "max_unreadable=0.1")
    evaluate(*options, f"output={tmp_path}/one", "runtime.threads=1")
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*run, "-m", "gan_style.commands.evaluate", *FAST, f"checkpoint={place}/runs/smoke", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    two_ranks = subprocess.run(
        [*command, f"output={tmp_path}/two"], capture_output=True, text=True, env=environment, timeout=120
    )
    assert two_ranks.returncode == 0, two_ranks.stderr
    first, two = (numbers_in(tmp_path / name) for name in ("one", "two"))
    assert first["facts"] == two["facts"] and first["pictures"].keys() == two["pictures"].keys()
    assert set(DEFAULT) <= set(first["metrics"]["smoke"])
    for label, actual in first["metrics"].items():
        assert list(actual) == list(two["metrics"][label])
        for name, estimate in actual.items():
            if name.split("/")[0] == "style":
                assert two["metrics"][label][name] == pytest.approx(estimate, rel=1e-5)
            else:
                assert two["metrics"][label][name] == estimate, (label, name)
    for label, pictures in first["pictures"].items():
        assert list(pictures) == list(two["pictures"][label])
    for text in ("content pictures, 20 style", "report:", "03.png", "structure"):
        assert (two_ranks.stdout + two_ranks.stderr).count(text) == 1, text


def test_a_style_of_a_library_is_measured_by_its_name(evaluate, place, tmp_path):
    library = write_file(tmp_path / "library.safetensors", make_library("monet", "wave"))
    data = (f"content={place}/photos", "max_pictures=2", f"style={place}/styles", "metrics=[style]", "overwrite=true")
    for checkpoint, label in ((f"{library}#wave", "library#wave"), ("shipped:mobile#wave", "mobile#wave")):
        evaluate(*data, f"checkpoint={checkpoint}")
        assert label in numbers_in(tmp_path / "out")["metrics"]
    outcome = evaluate(*data, f"checkpoint={library}", status=2)
    assert "choose one of its styles" in outcome.err and "monet, wave" in outcome.err
    outcome = evaluate(*data, "checkpoint=shipped:mobile", status=2)
    assert "shipped:mobile#NAME: monet, wave" in outcome.err
    outcome = evaluate(*data, f"checkpoint={tmp_path}/nowhere.safetensors#wave", status=2)
    assert "there is no such file or folder" in outcome.err


def test_copies_of_trained_pictures_are_not_measured(evaluate, place, tmp_path):
    trained, held = split(str(place / "photos"), None, 4)[:2]
    folder = tmp_path / "copies"
    folder.mkdir()
    shutil.copy(trained[0], folder / "another name.png")
    shutil.copy(held[0], folder / "unseen.png")
    evaluate(f"content={folder}", "metrics=[ssim]")
    assert [Path(name).name for name in numbers_in(tmp_path / "out")["pictures"]["smoke"]] == ["unseen.png"]


def test_a_run_with_relative_paths_is_evaluated_from_another_folder(gan_style, place, tmp_path, monkeypatch):
    for name in ("photos", "styles"):
        shutil.copytree(place / name, tmp_path / "work" / name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    data = ("data.content=photos", "data.style={a: styles}", "data.holdout=null", "data.holdout_count=4")
    library = ("generator=library", "generator.width=4", "generator.blocks=1", "metrics.every=9")
    gan_style("train", "experiment=smoke", "training.steps=1", *library, *data)
    monkeypatch.chdir(tmp_path / "elsewhere")
    gan_style("evaluate", *FAST, "checkpoint=../work/runs/smoke#a", "metrics=[style]", "output=out")
    assert len(numbers_in(tmp_path / "elsewhere" / "out")["pictures"]["smoke#a"]) == 4


def test_results_of_a_class_tree_are_measured(evaluate, place, tmp_path):
    for kind, seed in (("cat", 1), ("dog", 2)):
        paint(tmp_path / "photos" / kind / "1.png", seed)
        shutil.copytree(tmp_path / "photos" / kind, tmp_path / "results" / kind)
    data = (f"content={tmp_path}/photos", f"style={place}/styles")
    evaluate(f"checkpoint={tmp_path}/results", *data, "metrics=[ssim]")
    measured = numbers_in(tmp_path / "out")["pictures"]["results"]
    assert len(measured) == 2 and all(item["ssim"] == pytest.approx(1.0) for item in measured.values())
