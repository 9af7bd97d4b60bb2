"""gan-style search: what is refused, what it prints and leaves, and that interrupting it changes neither."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import finish, start, wait_until

from gan_style.commands import search
from gan_style.runtime.process import await_folder

HERE = Path(__file__).parent
TRAINING = ("experiment=smoke", "perceptual.weights=random")
SPACE = "space={loss.style.weight: {low: 0.1, high: 10, log: true}, training.seed: [0, 1]}"


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr(search, "TRAIN_COMMAND", (sys.executable, str(HERE / "stub_training.py")))


@pytest.fixture
def run(gan_style, tmp_path):
    """run("name=value", ...): three trials in tmp_path / "default", where the options do not say otherwise."""
    defaults = (*TRAINING, "search.trials=3", f"search.root={tmp_path}")
    return lambda *options, status=0: gan_style("search", *defaults, *options, status=status)


def starts(folder: Path) -> dict[str, list[str]]:
    return {path.parent.name: path.read_text().splitlines() for path in sorted(folder.glob("trials/*/starts.txt"))}


def begin(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "search_driver.py"), *TRAINING, SPACE, f"search.root={tmp_path}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def await_step(folder: Path, trial: int) -> None:
    wait_until((folder / "trials" / f"{trial:04}" / "saved").exists)


@pytest.mark.parametrize("name", ["summary.json", "trials/0000/config.yaml"])
def test_a_folder_of_something_else_is_left_alone(run, stub, tmp_path, name):
    (tmp_path / "default" / name).parent.mkdir(parents=True)
    (tmp_path / "default" / name).write_text("mine")
    assert "search.name" in run(SPACE, status=2).err
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["mine"]


def test_a_search_prints_its_best_and_leaves_a_summary(run, stub, tmp_path):
    outcome = run(SPACE, "search.name=s")
    assert "3 trials: 3 complete, 0 pruned, 0 failed" in outcome.out
    summary = json.loads((tmp_path / "s" / "summary.json").read_text())
    weights = [row["parameters"]["loss.style.weight"] for row in summary["trials"]]
    expected = [(weight - 1) ** 2 + 1 / 4 for weight in weights]
    assert [row["values"]["heldout/composite"] for row in summary["trials"]] == pytest.approx(expected)
    best = expected.index(min(expected))
    assert summary["best"] == [best]
    output = f"best: trial {best}, heldout/composite {min(expected):.4g}: loss.style.weight={weights[best]}"
    assert output in outcome.out
    again = run(SPACE, "search.name=s")
    assert "3 of 3 trials done" in again.out and f"best: trial {best}," in again.out
    assert starts(tmp_path / "s") == {f"{n:04}": ["start 0", "end"] for n in range(3)}


@pytest.mark.parametrize(
    ("number", "status", "count"),
    [pytest.param(signal.SIGKILL, -9, 8, marks=pytest.mark.slow), (signal.SIGTERM, 75, 3)],
)  # eight trials with a kill take as long as all other tests of this file
def test_an_interrupted_search_ends_with_as_many_trials(tmp_path, number, status, count):
    """TrainingEnd in its third trial: that one goes on where it was, and none is run again."""
    folder, options = tmp_path / "default", (f"search.trials={count}", "training.steps=5")
    process = begin(tmp_path, *options)
    await_step(folder, 2)
    process.send_signal(number)
    assert process.wait(60) == status
    output = process.stdout.read()
    assert ("the same command again goes on" in output) == (status == 75), output
    await_folder(folder / "trials" / "0002", patience=20.0)  # the training saved itself, though the search was killed
    assert starts(folder)["0002"][-1].startswith("stopped")
    status, output = finish(begin(tmp_path, *options))
    assert status == 0, output
    for line in (f"2 of {count} trials done", f"{count} trials: {count} complete", "best: trial"):
        assert line in output
    actual = starts(folder)
    assert len(actual) == count
    step = int(actual["0002"][1].split()[1])
    assert 1 <= step < 5 and actual.pop("0002") == ["start 0", f"stopped {step}", f"start {step}", "end"]
    assert set(map(tuple, actual.values())) == {("start 0", "end")}
    assert [row["state"] for row in json.loads((folder / "summary.json").read_text())["trials"]] == ["complete"] * count


def test_two_metrics_print_a_front(run, stub):
    outcome = run(SPACE, "search.metric=[heldout/content,heldout/style]")
    assert "Pareto front of heldout/content and heldout/style, 3 of 3 trials:" in outcome.out  # style is 1 / content


def test_a_crash_ends_one_trial_and_not_the_search(run, stub):
    space = "space={loss.style.weight: [1.0, 2.0], loss.tv.weight: [12, 13]}"
    grid = ("search.sampler=grid", "search.trials=null")
    outcome = run(space, *grid)
    assert "4 trials: 2 complete, 0 pruned, 2 failed" in outcome.out
    assert "trial 1 failed: an unlucky number" in outcome.out
    assert "best: trial 0, heldout/composite 0.25: loss.style.weight=1.0 loss.tv.weight=12" in outcome.out
    only = run(space.replace("[12, 13]", "[13]"), *grid, "search.name=failing", status=3)
    assert "no trial was completed" in only.out


@pytest.mark.slow  # trainings in processes of their own
def test_a_bad_trial_is_ended_early_by_the_pruner(run, stub, tmp_path):
    options = ("search.sampler=grid", "search.pruner=median", "search.pruner_startup=2", "training.steps=23")
    outcome = run("space={loss.style.weight: [1.0, 1.5, 5.0]}", *options, "metrics.every=2")
    assert "3 trials: 2 complete, 1 pruned, 0 failed" in outcome.out
    last = starts(tmp_path / "default")["0002"][-1]
    assert last.startswith("stopped") and int(last.split()[1]) < 23


def test_every_trial_has_its_name_group_and_folder(run, stub, tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(search, "train", lambda command, *_, **__: commands.append(command) or sys.exit(9))
    run(SPACE, "search.name=a b", status=9)
    (command,) = commands
    assert command[2:4] == list(TRAINING)
    assert command[-4:-1] == [f"run.root='{tmp_path}/a b/trials'", "run.name='0000'", "tracking.group='a b'"]
    assert command[-1].startswith("tracking.name='0 loss.style.weight=")


def test_a_dry_run_shows_the_space_and_writes_nothing(run, tmp_path):
    outcome = run("space=weights", "dry_run=true")
    assert "nothing was written" in outcome.out
    assert "loss.style.weight: numbers from 0.05 to 3, logarithmic" in outcome.out
    assert not list(tmp_path.iterdir())


def test_the_space_may_be_a_file(run, tmp_path):
    place = tmp_path / "my space.yaml"
    place.write_text("loss.style.weight: {low: 1, high: 100, log: true}\ntraining:\n  batch: {low: 2, high: 4}\n")
    outcome = run(f"space={place}", "dry_run=true")
    assert "training.batch: whole numbers from 2 to 4" in outcome.out
    assert "loss.style.weight: numbers from 1 to 100, logarithmic" in outcome.out


def test_what_is_built_says_which_numbers_it_takes(run):
    """A weight of 1 in an experiment is no whole number for that."""
    outcome = run("loss.style.weight=1", "space={loss.tv.weight: {low: 1, high: 4}}", "dry_run=true")
    assert "loss.tv.weight: numbers from 1 to 4" in outcome.out, outcome.err
    outcome = run("space={generator.blocks: {low: 1, high: 4}}", "dry_run=true")
    assert "generator.blocks: whole numbers from 1 to 4" in outcome.out, outcome.err


def test_a_space_that_changes_the_ruler_is_told(run):
    outcome = run("space={data.size: [32, 48], training.seed: [0, 1]}", "dry_run=true")
    assert "warning: trials differ in data.size, so" in outcome.err, outcome.out
    assert "warning" not in run("space=weights", "dry_run=true").err
    assert "warning" not in run("space={data.size: [32, 48]}", "search.metric=loss/total", "dry_run=true").err


BAD = [
    (("space={loss.stile.weight: [1, 2]}",), r"no option loss.stile.weight \(did you mean loss.style.weight\?"),
    (("space={training.sed: [1, 2]}",), r"did you mean training.seed\?"),
    (("space=weights", "loss.stile.weight=2"), r"no option loss.stile.weight \(did you mean loss.style.weight\?"),
    (("space=weights", "search.trails=2"), r"there is no option search.trails \(did you mean search.trials\?"),
    (("space={}",), "options with their values or ranges expected"),
    ((), r"space=... is missing"),
    (("space=wieghts",), r"space=wieghts: there is no such file, and conf/spaces has weights"),
    (("space={training.seed: [0, 1.5]}",), "1.5"),
    (("space={training.batch: [2, 0]}",), r"training.batch=0; allowed are numbers from 1"),
    (("space={training.precision: [float32, float8]}",), "training.precision=float8; allowed are"),
    (("space={generator: [slim, slimm]}",), "slimm"),
    (("space={run.name: [a, b]}",), "the search sets this for every trial itself"),
    (("space={training.seed: [0, 1]}", "training.seed=3"), "training.seed is in the space and on the command line"),
    (("space=weights", "run.name=x"), "run.name=x: the search names its trials' runs itself"),
    (("space=weights", "training.max_time=9"), "training.max_time belongs to a single run"),
    (("space=weights", "search.sampler=grid"), "grid needs values that can be counted"),
    (("space=weights", "search.sampler=tpa"), "search.sampler=tpa; allowed are tpe, random, grid"),
    (("space=weights", "search.trials=0"), "search.trials=0; allowed are numbers from 1"),
    (("space=weights", "search.trials=null"), "search.trials=null needs search.sampler=grid"),
    (("space=weights", "search.pruner=hyper"), "search.pruner=hyper; allowed are none, median, halving"),
    (
        ("space=weights", "search.pruner=median", "search.metric=[heldout/content,heldout/style]"),
        r"search.pruner=median needs one search.metric, not 2; use search.pruner=none",
    ),
    (("space=weights", "search.metric=heldout/stile"), r"is not measured \(did you mean heldout/style\?"),
    (("space=weights", "search.metric=heldout/composite", "metrics.best=null"), "heldout/composite is not measured"),
    (
        ("space={loss.tv.weight: [0.1, 1]}", "~loss.style", "search.metric=heldout/style"),
        "heldout/style is not measured",
    ),
    (("space=weights", "metrics.names=[ssim]"), "heldout/composite is not measured"),
    (
        ("space=weights", "search.metric=heldout/monet/colour/mean", "search.direction=minimise"),
        "heldout/monet/colour/mean is not measured",
    ),
    (("space=weights", "search.metric=loss/warp"), "search.metric=loss/warp is not measured"),
    (("space=weights", "search.metric=heldout/colour/mean"), "say search.direction=minimise or maximise"),
    (("space=weights", "search.metric=[heldout/ssim,heldout/ssim]"), "a metric is given twice"),
    (("space=weights", "search.direction=up"), "search.direction=up; allowed are auto, minimise, maximise"),
    (("space=weights", "search.name="), "search.name.*is empty"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[" ".join(options) or "nothing" for options, _ in BAD])
def test_bad_input_is_refused_before_anything_starts(run, tmp_path, options, message):
    outcome = run(*options, status=2)
    assert re.search(message, outcome.err), outcome.err
    assert not list(tmp_path.iterdir())


def test_without_optuna_the_message_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "pip install 'gan_style[search]'" in run("space=weights", status=2).err


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        *(("heldout/composite", "minimise"), ("heldout/ssim", "maximise"), ("heldout/style/relu1_1", "minimise")),
        *(("heldout/style_ratio", "minimise"), ("loss/total", "minimise"), ("heldout/structure", "maximise")),
    ],
)
def test_auto_knows_which_end_of_a_metric_is_good(metric, direction):
    assert search.direction_of(metric) == direction


def test_options_of_train_are_told_from_those_of_the_search():
    options = ["space=weights", "search.trials=3", "--cfg", "job", "data.content=my photos/a=b.jpg", "~loss.tv", "+x=1"]
    assert search.join_train_options(options) == [
        *("space=weights", "search.trials=3", "--cfg", "job"),
        "train=['data.content=my photos/a=b.jpg','~loss.tv','+x=1']",
    ]
    assert search.join_train_options(["space=weights"]) == ["space=weights"]


@pytest.mark.slow  # ten trainings of four steps: two minutes on one core
def test_real_trainings_interrupted_end_with_eight(tmp_path):
    options = (*TRAINING, SPACE, f"search.root={tmp_path}", "search.trials=8", "training.checkpoint_every=1")
    process = start("commands.search", *options)
    wait_until((tmp_path / "default" / "trials" / "0003" / "metrics.jsonl").exists, process, seconds=300)
    process.kill()
    process.communicate()
    status, output = finish(start("commands.search", *options), seconds=900)
    assert status == 0, output
    assert "8 trials: 8 complete, 0 pruned, 0 failed" in output and "best: trial" in output
    assert len(list((tmp_path / "default" / "trials").iterdir())) == 8
