"""What gan-style train measures as it goes, and the best checkpoint that it keeps."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from run_files import assert_same

from gan_style.evaluation.suite import OF_PICTURES
from gan_style.runtime.checkpoint import read_checkpoint, read_generator
from gan_style.stylize.model import load_generator

SMOKE = ("experiment=smoke", "perceptual.weights=random", "training.decay=constant", "training.audit_every=0")


@pytest.fixture
def train(gan_style, tmp_path):
    """train("name", "option=value", ...) -> (outcome, the run's folder)."""

    def call(name, *options, status=0):
        outcome = gan_style("train", *SMOKE, f"run.root={tmp_path}", f"run.name={name}", *options, status=status)
        return outcome, tmp_path / name

    return call


def measured(run: Path) -> dict[int, dict[str, float]]:
    """{step: the held-out pictures' numbers}."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    actual = {}
    for row in rows:
        if numbers := {name: value for name, value in row.items() if name.startswith("heldout/")}:
            assert row["step"] not in actual
            actual[row["step"]] = numbers
    return actual


def best(run: Path) -> dict:
    return read_checkpoint(run / "checkpoints" / "best.pt")


@pytest.mark.parametrize(("every", "steps"), [(2, [2, 4, 5]), (9, [5])])
def test_rows_are_written_when_they_are_due_and_after_the_last_step(train, every, steps):
    seldom = ("training.log_every=9", "training.sample_every=9", "training.checkpoint_every=9", "training.steps=5")
    outcome, run = train("a", f"metrics.every={every}", *seldom)
    actual = measured(run)
    assert list(actual) == steps
    for numbers in actual.values():
        assert {f"heldout/{name}" for name in (*OF_PICTURES, "style_ratio", "style_photo", "composite")} <= set(numbers)
    assert len(list((run / "samples").iterdir())) == 1  # grids keep their own time
    last = actual[5]
    assert f"({100 * last['heldout/style_ratio']:.1f} % of the photo's own)" in outcome.out


def test_only_the_metrics_that_are_asked_for(train):
    _, run = train("a", "metrics.names=[ssim,structure]", "metrics.best={ssim:1,structure:3}")
    for numbers in measured(run).values():
        assert set(numbers) == {"heldout/ssim", "heldout/structure", "heldout/composite"}
        expected = (1 - numbers["heldout/ssim"]) + 3 * (1 - numbers["heldout/structure"])
        assert numbers["heldout/composite"] == pytest.approx(expected, rel=1e-6)


def test_what_has_no_loss_term_is_not_measured_and_its_weight_is_said_not_to_count(train):
    outcome, run = train("a", "~loss.style")
    assert "warning: metrics.best.style: there is no such loss term; it is not counted" in outcome.err
    for numbers in measured(run).values():
        assert "heldout/style" not in numbers
        assert numbers["heldout/composite"] == numbers["heldout/content"]


@pytest.mark.parametrize("weights", ["{content:1}", "{ssim:1,content:0.1}"])
def test_the_best_checkpoint_is_that_of_the_lowest_composite(train, weights):
    """Which is neither the first nor the last: the warm-up comes nearer to the content, what follows leaves it."""
    options = ("training.steps=8", "training.warmup_steps=3", "metrics.every=1", "training.ema_decay=0")
    options += ("loss.content.layers=[relu3_2]", "loss.style.layers=[relu1_1,relu2_1,relu3_1,relu3_3]")
    options += ("loss.style.relative=false", "loss.style.weight=0.3")
    _, run = train("a", *options, f"metrics.best={weights}", "optimiser.generator.lr=0.01")
    composites = {step: numbers["heldout/composite"] for step, numbers in measured(run).items()}
    lowest = min(composites, key=lambda step: composites[step])
    saved = best(run)
    assert 1 < lowest < 8, composites
    assert saved["step"] == saved["state"]["step"] == lowest
    assert saved["lowest"] == composites[lowest]
    newest = read_checkpoint(run / "checkpoints" / "step_00000008.pt")
    assert newest["lowest"] == composites[lowest]


def test_the_best_checkpoint_holds_the_weights_of_its_step(train):
    _, run = train("a", "training.checkpoint_every=1", "training.keep_checkpoints=9", "metrics.every=1")
    saved = best(run)
    regular = read_checkpoint(run / "checkpoints" / f"step_{saved['step']:08d}.pt")
    assert_same(saved["state"]["networks"], regular["state"]["networks"])


def test_the_best_checkpoint_outlives_the_others(train):
    _, run = train("a", "training.checkpoint_every=1", "training.keep_checkpoints=1", "training.steps=6")
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "best.pt",
        "manifest.json",
        "step_00000006.pt",
    ]


def test_a_run_that_goes_on_remembers_what_was_lowest(train):
    """It was in the first part: one that had forgotten would take the best of the second."""
    options = ("metrics.every=1", "metrics.best={content:1}", "optimiser.generator.lr=0.01", "training.ema_decay=0")
    _, single = train("whole", *options, "training.steps=4")
    _, parts = train("parts", *options, "training.steps=2")
    outcome, parts = train("parts", *options, "training.steps=4")
    assert "after step 2" in outcome.out
    assert measured(single) == measured(parts)
    first, two = best(single), best(parts)
    assert first["step"] <= 2
    assert (first["step"], first["lowest"]) == (two["step"], two["lowest"])


def test_the_lowest_of_another_composite_does_not_count(train):
    """Of the content alone it would be out of reach for content and style together."""
    _, run = train("a", "training.steps=2", "metrics.every=1", "metrics.best={ssim:0}")
    assert best(run)["lowest"] == 0
    train("a", "training.steps=4", "metrics.every=1", "metrics.best={content:1}")
    later = {step: numbers["heldout/composite"] for step, numbers in measured(run).items() if step > 2}
    assert best(run)["lowest"] == min(later.values()) and best(run)["step"] in later


def test_none_is_kept_on_demand(train):
    _, run = train("a", "metrics.best=null")
    assert not (run / "checkpoints" / "best.pt").exists()
    assert all("heldout/composite" not in numbers for numbers in measured(run).values())
    assert measured(run)


def test_the_best_checkpoint_can_be_stylized_from(train, gan_style, tmp_path):
    _, run = train("a")
    Image.effect_noise((40, 32), 60).convert("RGB").save(tmp_path / "photo.png")
    path = run / "checkpoints" / "best.pt"
    gan_style("stylize", f"checkpoint={path}", f"input={tmp_path}/photo.png", f"output={tmp_path}/out.png")
    with Image.open(tmp_path / "out.png") as result:
        assert result.size == (40, 32)
    loaded = load_generator(path, torch.device("cpu")).state_dict()
    assert_same(dict(loaded), dict(best(run)["state"]["networks"]["ema"]))


def test_the_best_checkpoint_is_never_resumed_from(train):
    _, run = train("a", "training.steps=2")
    for path in (run / "checkpoints").glob("step_*.pt"):
        path.unlink()
    assert (run / "checkpoints" / "best.pt").is_file()
    outcome, _ = train("a", "training.steps=2")
    assert "resuming" not in outcome.out and "after step" not in outcome.out
    assert sorted(measured(run)) == [2]


def test_measuring_changes_nothing_of_the_training(train):
    """Neither weights nor optimisers nor any random stream."""
    augmented = ("loss.adversarial.augment=[colour,translation]", "training.steps=4", "training.checkpoint_every=9")
    runs = [train(f"every{every}", f"metrics.every={every}", *augmented)[1] for every in (1, 100)]
    assert_same(*(read_checkpoint(run / "checkpoints" / "step_00000004.pt")["state"] for run in runs))
    assert_same(*(read_generator(run / "generator.safetensors")[0] for run in runs))
    assert measured(runs[0])[4] == measured(runs[1])[4]


def test_a_composite_may_change_when_a_run_goes_on_and_its_metrics_too(train):
    train("a", "training.steps=2")
    outcome, run = train("a", "training.steps=4", "metrics.names=[content,ssim]", "metrics.best={ssim:1}")
    assert "after step 2" in outcome.out
    assert set(measured(run)[4]) >= {"heldout/ssim", "heldout/content"} and "heldout/style" not in measured(run)[4]


TWO = "data.style={flow: 'demo:styles/flow', tiles: 'demo:styles/mosaic'}"


def test_each_style_of_a_library_is_measured_by_its_own_pictures_whatever_the_target(train):
    actual = [
        measured(train(target, "generator=library", TWO, f"loss.style.target={target}", "training.steps=1")[1])[1]
        for target in ("mean", "each")
    ]
    for style in ("flow", "tiles"):
        of_mean, of_each = (item[f"heldout/{style}/style_photo"] for item in actual)
        assert of_each == pytest.approx(of_mean, rel=1e-4)
    assert actual[0]["heldout/flow/style_photo"] != pytest.approx(actual[0]["heldout/tiles/style_photo"], rel=0.01)


def test_a_term_that_only_watches_another_picture_is_no_yardstick(train):
    watch = "+loss.watch={_target_: gan_style.losses.style.GramStyle, weight: 0.0, layers: [relu1_1], target: TARGET}"
    actual = [
        measured(train(str(number), "training.steps=1", *more)[1])[1]["heldout/style_photo"]
        for number, more in enumerate(([], [watch.replace("TARGET", "'demo:styles/mosaic'")]))
    ]
    assert actual[0] == pytest.approx(actual[1], rel=1e-4)
