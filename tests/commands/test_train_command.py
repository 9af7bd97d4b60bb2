"""gan-style train, from the command line to the files that it leaves."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from processes import finish, start
from run_files import SMOKE, assert_same, rows, steps_in

from gan_style.commands import train as train_command
from gan_style.losses.style import Style
from gan_style.models.perceptual import Perceptual
from gan_style.runtime.checkpoint import CheckpointFolder, read_checkpoint, read_generator
from gan_style.runtime.device import fastest_precision
from gan_style.runtime.files import locked
from gan_style.runtime.tracking import JsonlTracker
from gan_style.stylize.model import load_generator


def test_a_run_leaves_what_the_readme_promises(smoke, tmp_path):
    outcome, run = smoke(), tmp_path / "smoke"
    assert steps_in(run) == [1, 2, 3, 4]
    assert sorted(path.name for path in (run / "samples").iterdir()) == ["step_00000002.jpg", "step_00000004.jpg"]
    with Image.open(run / "samples" / "step_00000004.jpg") as sheet:
        assert sheet.height == 64 + 4 + 64  # two held-out photos with a short side of 64, and the gap
    saved = [path.name for path in CheckpointFolder(run / "checkpoints").paths()]
    assert saved == ["step_00000004.pt", "step_00000002.pt"]
    assert "steps: 4" in (run / "config.yaml").read_text()
    generator = load_generator(run, torch.device("cpu"))
    assert generator(torch.zeros(1, 3, 9, 7)).shape == (1, 3, 9, 7)
    assert not list(run.rglob("*.part"))
    assert "of the photo's own" in outcome.out
    assert "generator:            " in outcome.out  # derived sizes are shown


def test_a_finished_run_says_so_and_does_nothing(smoke, finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    assert "finished: 4 steps" in smoke().out
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*")}


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("training.warmup_steps=3",),
        ("data.style=demo:styles", "loss.style.target=each"),
        ("data.style=demo:styles", "loss.style.target=each", "loss.style.grey=true", "training.audit_every=1"),
        ("perceptual.scales={relu1_1:0.5,relu2_1:0.4,relu3_1:0.3,relu4_1:0.2,relu4_2:0.1}",),
        (
            "perceptual=torchvision",
            "perceptual.model=squeezenet1_1",
            "loss.style.layers=[features.1,features.3]",
            "loss.content.layers=[features.4]",
        ),
    ],
    ids=["after the warm-up", "within the warm-up", "target each", "grey and audited", "given scales", "torchvision"],
)
def test_going_on_with_more_steps_equals_a_run_that_never_stopped(resumed_as_whole, options):
    resumed_as_whole(*SMOKE, "loss.adversarial.augment=[colour]", *options)


def test_a_dry_run_shows_everything_and_writes_nothing(smoke, tmp_path):
    outcome = smoke("dry_run=true", root=tmp_path / "runs")
    assert "stopping before step 1" in outcome.out
    assert "discriminator:" in outcome.out
    assert not (tmp_path / "runs").exists()


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_taken(smoke, finished):
    newest = finished / "checkpoints" / "step_00000004.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    outcome = smoke()
    assert f"{newest} is damaged" in outcome.err
    assert "after step 2" in outcome.out
    assert steps_in(finished) == [1, 2, 3, 4]
    for path in newest.parent.iterdir():
        path.write_bytes(b"")
    assert "no checkpoint in" in smoke(status=2).err  # and no start from scratch


def test_a_run_with_other_settings_is_refused_and_the_difference_named(smoke, finished):
    outcome = smoke("loss.style.weight=7", "training.steps=8", status=2)
    assert "loss.style.weight" in outcome.err
    assert "7" in outcome.err


def test_the_step_of_a_number_that_is_not_finite_is_exact_though_nothing_was_logged_since(smoke, tmp_path, monkeypatch):
    monkeypatch.setattr("gan_style.losses.pixel.total_variation_squared", lambda images: images.mean() * float("inf"))
    seldom = ("training.checkpoint_every=9", "training.log_every=9", "training.sample_every=9", "training.steps=9")
    outcome = smoke(*seldom, "training.skip_patience=3", status=4)
    assert "step 4: not a finite number: generator/gradient, loss/tv" in outcome.err  # the third in a row
    assert [f"step {step}: not a finite number" in outcome.err for step in range(1, 6)] == [0, 1, 1, 1, 0]


def test_weights_that_are_not_finite_are_never_saved(smoke, tmp_path):
    options = ("training.checkpoint_every=1", "training.clip=null")
    smoke(*options, "training.steps=2")
    outcome = smoke(*options, "run.name=broken", "optimiser.generator.lr=1.0e+38", status=4)
    assert "step 1: not a finite number: weights/generator" in outcome.err
    assert not list((tmp_path / "broken" / "checkpoints").iterdir())
    assert_newest_checkpoint_is_good(tmp_path / "smoke", step=2)


def assert_newest_checkpoint_is_good(run: Path, step: int) -> None:
    state = read_checkpoint(CheckpointFolder(run / "checkpoints").paths()[0])["state"]
    assert state["step"] == step
    assert all(tensor.isfinite().all() for weights in state["networks"].values() for tensor in weights.values())
    assert load_generator(run, torch.device("cpu")) is not None


def described(run: Path) -> dict[str, Any]:
    """What a run's generator file says of its objective."""
    return read_generator(run / "generator.safetensors")[1]["objective"]


def test_removing_the_adversarial_term_trains_without_a_discriminator(smoke, tmp_path):
    assert "none (no adversarial term)" in smoke("~loss.adversarial").out
    networks = read_checkpoint(tmp_path / "smoke/checkpoints/step_00000004.pt")["state"]["networks"]
    assert set(networks) == {"generator", "ema"}


def test_another_loss_leaves_out_what_an_experiment_sets_of_terms_that_it_lacks_and_says_so(gan_style, tmp_path):
    options = ("experiment=quickstart", "loss=perceptual", f"run.root={tmp_path}", "dry_run=true")
    assert "loss.adversarial" in gan_style("train", *options).out.splitlines()[0]


def test_precision_auto_is_the_faster_one_and_is_shown(smoke, tmp_path):
    outcome = smoke("training.precision=auto", "runtime.device=cpu")
    dtype = str(fastest_precision(torch.device("cpu"))).removeprefix("torch.")
    assert [line for line in outcome.out.splitlines() if line.startswith("device:") and f"cpu, {dtype}," in line]


def test_every_setting_of_every_term_trains(smoke, tmp_path):
    terms = ("loss=full", "loss.adversarial.formula=least_squares", "loss.adversarial.r1=1", "loss.style.target=each")
    more = ("loss.adversarial.augment=[colour,translation,cutout]", "discriminator.receptive_field=16")
    smoke(*terms, *more, "training.precision=bfloat16", "training.audit_every=1")
    assert {"loss/identity", "loss/colour", "discriminator/r1", "share/identity"} <= rows(tmp_path / "smoke")[-1].keys()


@pytest.mark.parametrize("kind", Style.__subclasses__())
@pytest.mark.parametrize("target", ["mean", "each", "demo:styles/mosaic"])
def test_every_kind_of_style_trains_with_every_target(smoke, tmp_path, kind, target):
    options = (f"loss.style._target_=gan_style.losses.style.{kind.__name__}", f"loss.style.target={target}")
    more = ("loss.style.grey=true", "data.style=demo:styles", "training.steps=2")
    outcome = smoke(*options, *more)
    assert f"computing the style's statistics ({target})" in outcome.out
    assert "of the photo's own" in outcome.out  # measured by Gram matrices whatever was trained on
    rows = logged(tmp_path / "smoke")
    assert rows[2]["loss/style"] > 0
    targets = read_checkpoint(tmp_path / "smoke/checkpoints/step_00000002.pt")["objective"]["style_targets"]
    row_counts = {len(statistics) for statistics in targets.values()}
    assert row_counts == (set() if target == "each" else {1})  # a row for every picture would be much to keep


def test_the_losses_of_gatys_train_on_the_layers_that_compact_has(smoke, tmp_path):
    """conf/loss/gatys.yaml asks for VGG up to relu5_1."""
    layers = ("loss.content.layers=[relu4_2]", "loss.style.layers=[relu1_1,relu2_1,relu3_1,relu4_1]")
    smoke("loss=gatys", *layers)
    assert logged(tmp_path / "smoke")[4].keys() >= {"loss/content", "loss/style"}


def logged(run: Path) -> dict[int, dict[str, float]]:
    """The training's numbers by step."""
    return {row["step"]: row for row in rows(run)}


@pytest.mark.parametrize(("every", "expected"), [(0, []), (1, [1, 2, 3, 4, 5]), (2, [2, 4]), (9, [])])
def test_audits_are_logged_when_they_are_due_and_change_nothing(smoke, tmp_path, every, expected):
    """Also between the steps that are logged anyway."""
    options = ("training.steps=5", "training.log_every=9", "training.warmup_steps=1")
    for name, interval in (("plain", 0), ("audited", every)):
        smoke(*options, f"training.audit_every={interval}", root=tmp_path / name)
    rows = logged(tmp_path / "audited" / "smoke")
    assert sorted(rows) == sorted({*expected, 5})
    for step in expected:
        terms = {"content", "style", "tv"} | ({"adversarial"} if step > 1 else set())
        assert sum(rows[step][f"share/{name}"] for name in terms) == pytest.approx(1, rel=1e-4)
        assert all(rows[step][f"gradient/{name}"] > 0 for name in terms)
    assert not [key for key in rows[5] if key.startswith("share/")] or 5 in expected
    assert_same(*(read_generator(tmp_path / x / "smoke" / "generator.safetensors")[0] for x in ("plain", "audited")))


@pytest.mark.parametrize("change", ["a picture more", "another cache"])
def test_targets_of_each_style_picture_stay_with_their_pictures_when_a_run_goes_on(smoke, tmp_path, change):
    """Cached, a set leaves out what cannot be read; not cached, it keeps its number: other numbers either way."""
    (tmp_path / "styles").mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), (80 * number, 128, 0)).save(tmp_path / "styles" / f"b{number}.png")
    if change == "another cache":
        (tmp_path / "styles" / "a.png").write_text("no picture")
    moments = "loss.style._target_=gan_style.losses.style.MomentStyle"  # small enough for a cache that is too small
    each = (moments, "loss.style.target=each", f"data.style={tmp_path / 'styles'}", "data.max_unreadable=0.5")
    smoke(*each)
    if change == "a picture more":
        Image.new("RGB", (64, 64), "blue").save(tmp_path / "styles" / "a.png")
    cache = ("data.cache_mb=0.02",) if change == "another cache" else ()
    outcome = smoke(*each, *cache, "training.steps=8")
    assert "computing the style's statistics (each)" in outcome.out  # anew, so that rows and numbers are of one set
    assert not read_checkpoint(tmp_path / "smoke/checkpoints/step_00000008.pt")["objective"]["style_targets"]


class TestBalance:
    OPTIONS = ("loss.balance={content:1,style:2,adversarial:1}", "training.warmup_steps=2", "training.audit_every=1")

    def test_finds_weights_in_the_warm_up_that_give_the_shares_of_the_logged_gradients_and_keep_their_sum(
        self, smoke, tmp_path
    ):
        outcome, run = smoke(*self.OPTIONS), tmp_path / "smoke"
        rows, weights = logged(run), described(run)["weights"]
        printed = "  ".join(f"loss.{name}.weight={weights[name]:.4g}" for name in ("content", "style", "adversarial"))
        assert f"balanced after 2 audits, for the rest of the run: {printed}" in outcome.out
        for step in (2, 4):
            saved = read_checkpoint(run / "checkpoints" / f"step_{step:08d}.pt")["objective"]
            assert saved["weights"] == weights and saved["balance"]["settled"]
        assert weights["tv"] == 0.1  # not in the balance
        loss = OmegaConf.load(run / "config.yaml").loss

        configured = {name: loss[name].weight for name in ("content", "style", "adversarial")}
        norms = {name: (rows[1][f"gradient/{name}"] + rows[2][f"gradient/{name}"]) / 2 for name in configured}
        total = sum(configured[name] * norm for name, norm in norms.items())
        for name, share in {"content": 0.25, "style": 0.5, "adversarial": 0.25}.items():
            assert weights[name] * norms[name] / total == pytest.approx(share, rel=1e-4)
        assert rows[2]["loss/total"] == pytest.approx(configured["content"] * rows[2]["loss/content"], rel=1e-6)
        terms = [name.removeprefix("loss/") for name in rows[4] if name.startswith("loss/") and "total" not in name]
        trained = sum(weights[name] * rows[4][f"loss/{name}"] for name in terms)
        assert rows[4]["loss/total"] == pytest.approx(trained, rel=1e-5)

    def test_takes_the_audits_within_the_warm_up_alone(self, smoke, tmp_path):
        """Of steps 2, 4, 6 ... the first two lie in a warm-up of 5."""
        options = ("training.warmup_steps=5", "training.audit_every=2", "training.steps=8")
        outcome = smoke(*self.OPTIONS, *options)
        assert "balanced after 2 audits" in outcome.out and outcome.out.count("balanced after") == 1
        saved = read_checkpoint(tmp_path / "smoke" / "checkpoints" / "step_00000008.pt")["objective"]
        rows = logged(tmp_path / "smoke")
        for name, norm in saved["balance"]["norms"].items():
            expected = (rows[2][f"gradient/{name}"] + rows[4][f"gradient/{name}"]) / 2
            assert norm == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(
        ("warmup", "shares"),
        [
            *((1, "{content:1,style:2,adversarial:1}"), (2, "{content:3,tv:1}")),
            *((3, "{content:1,style:2,adversarial:1}"), (3, "{content:3,tv:1}")),
        ],
    )
    def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(self, resumed_as_whole, warmup, shares):
        """Stopped after step 2: after the warm-up, at its end, within it."""
        options = (f"training.warmup_steps={warmup}", "training.audit_every=1", f"loss.balance={shares}")
        resumed_as_whole(*SMOKE, *options, "loss.adversarial.augment=[colour]")

    def test_of_a_term_without_a_gradient_ends_in_words(self, smoke, tmp_path, monkeypatch):
        monkeypatch.setattr("gan_style.losses.pixel.total_variation_squared", lambda images: images.sum() * 0.0)
        options = ("loss.balance={content:1,tv:1}", "training.audit_every=1")
        assert "loss.balance: the gradient of tv was 0 all through the warm-up" in smoke(*options, status=2).err
        assert not list(tmp_path.rglob("*.pt"))

    def test_of_other_shares_is_another_run(self, smoke, tmp_path):
        smoke(*self.OPTIONS)
        changed = ("loss.balance={content:2,style:2,adversarial:1}", "training.steps=8")
        assert "loss.balance.content: 1 there, 2 here" in smoke(*self.OPTIONS, *changed, status=2).err


def test_given_feature_scales_are_used_as_they_are(smoke, tmp_path, monkeypatch):
    def calibrate(*_: object) -> None:
        raise AssertionError("there is nothing to measure")

    monkeypatch.setattr(Perceptual, "calibrate", calibrate)
    scales = {"relu1_1": 0.5, "relu2_1": 2.0, "relu3_1": 3.0, "relu4_1": 4.0, "relu4_2": 5.0}
    options = ",".join(f"{layer}:{scale}" for layer, scale in scales.items())
    outcome = smoke(f"perceptual.scales={{{options}}}")
    assert "feature scales relu1_1 0.5, relu2_1 2, relu3_1 3, relu4_1 4, relu4_2 5" in outcome.out
    assert described(tmp_path / "smoke")["scales"] == scales
    assert read_checkpoint(tmp_path / "smoke/checkpoints/step_00000004.pt")["objective"]["scales"] == scales


def test_measured_feature_scales_are_kept_with_the_results(smoke, tmp_path):
    outcome = smoke()
    scales = described(tmp_path / "smoke")["scales"]
    assert scales.keys() == {"relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2"}
    assert "feature scales " + ", ".join(f"{layer} {scale:.3g}" for layer, scale in scales.items()) in outcome.out
    smoke(f"perceptual.scales={{{','.join(f'{layer}:{scale}' for layer, scale in scales.items())}}}", "run.name=b")
    assert_same(*(read_generator(tmp_path / name / "generator.safetensors")[0] for name in ("smoke", "b")))


AUDITS = "training.audit_every=1"

BAD_INPUT = {
    "data.content={tmp}/nowhere": ["data.content=", "no such folder"],
    "data.style={tmp}/empty": ["data.style=", "no picture in this folder"],
    "data.content={tmp}/mixed": ["fake.jpg", "not a JPEG", "data.max_unreadable=0.05"],
    "training.stpes=3": ["there is no option training.stpes", "did you mean training.steps?"],
    "trainning.steps=3": ["trainning"],
    "generator=slimm": ["slimm"],
    "experiment=nothing": ["nothing"],
    "training.steps=many": ["training.steps=many"],
    "data.flip=perhaps": ["data.flip=perhaps"],
    "data.resize=[1,2,3,x]": ["data.resize"],
    "run=3": ["run=3"],
    "generator.widht=3": ["generator.widht", "did you mean generator.width?"],
    "loss.content.layers=relu3_1": ["loss.content.layers=relu3_1", "[relu3_1]"],
    "loss.style.layers=relu3_1": ["loss.style.layers=relu3_1", "[relu3_1]"],
    "loss.style.layers=[]": ["loss.style.layers=[]"],
    "loss.content.layers=[relu3_9]": ["no layer 'relu3_9' (did you mean relu3_"],
    "loss.adversarial.formula=wgan": ["loss.adversarial.formula=wgan", "hinge"],
    "loss.adversarial.augment=[blur]": ["loss.adversarial.augment", "cutout"],
    "loss.tv.weight=-1": ["loss.tv.weight=-1", "finite numbers from 0"],
    "data.content=": ["data.content", "empty"],
    "data.style=[a,'']": ["data.style", "empty"],
    "data.content=null": ["data.content=null"],
    "training.steps=1.5": ["training.steps=1.5: a whole number"],
    "training.recompute=maybe": ["training.recompute=maybe: true or false"],
    "run.root=[a,b]": ["run.root=[a,b]: a single"],
    "data.content=[a,null]": ["data.content=[a, null]"],
    "loss.style.weight=null": ["loss.style.weight=null: a number"],
    "loss=null": ["loss=null", "default"],
    "loss=defalt": ["loss=defalt", "did you mean default?", "perceptual"],
    "loss=[a]": ["loss=a", "default"],
    "run.root=${nothing}": ["run.root", "nothing"],
    "photo.jpg": ["photo.jpg", "name=value"],
    "--dry_run": ["dry_run=", "without --"],
    "-run.name=a": ["run.name=a", "without -"],
    "training.STEPS=3": ["training.STEPS", "did you mean training.steps?"],
    "loss=GATYS": ["loss=GATYS", "did you mean gatys?"],
    "~photo.jpg": ["photo.jpg"],
    "discriminator.receptive_field=64": ["discriminator.receptive_field=64", "70"],
    "optimiser.generator._target_=torch.nn.ReLU": ["optimiser.generator._target_", "torch.optim"],
    "~loss.stile": ["loss.stile"],
    "training.accumulate=3": ["training.batch=2", "multiples of 3"],
    "training.accumulate=0": ["training.accumulate=0"],
    "runtime.devices=0": ["runtime.devices=0"],
    "training.max_time=0": ["training.max_time=0", "above 0"],
    "training.max_time=nan": ["training.max_time=nan"],
    "training.skip_patience=0": ["training.skip_patience=0"],
    "training.rollbacks=-1": ["training.rollbacks=-1"],
    "training.keep_every=0": ["training.keep_every=0"],
    "training.precision=float8": ["float8", "float16"],
    "loss.adversarial.weight=0 loss.content.weight=0 loss.style.weight=0 loss.tv.weight=0": ["loss"],
    "optimiser.generator.lr=0": ["optimiser.generator.lr=0"],
    "data.size=100": ["data.resize=[48, 64]", "data.size=100"],
    "data.resize=[48,64,80]": ["data.resize=[48, 64, 80]; two lengths"],
    "data.style_resize=[48]": ["data.style_resize=[48]; two lengths"],
    "data.style={}": ["data.style={} names no style"],
    "data.size=32 data.resize=[32,32]": ["34 pixels", "discriminator"],
    "perceptual.weights={tmp}/none.pth": ["perceptual.weights=", "no such file"],
    "runtime.device=warp": ["runtime.device=warp"],
    "run.root={tmp}/text/a.jpg": ["run.root", "cannot write"],
    "data.style=demo:styles/cubism": ["demo:styles/cubism", "demo:styles/mosaic"],
    "data.content=123": ["data.content=123", "a path"],
    "loss.tv=null": ["~loss.tv"],
    "optimiser.generator.betas=0.5": ["optimiser.generator"],
    "optimiser.generator.lr=-1": ["optimiser.generator", "-1"],
    "training.seed=99999999999999999999": ["training.seed", "64 bits"],
    "run.name=": ["run.name"],
    "data.workers=-1": ["data.workers=-1"],
    "training.clip=nan": ["training.clip=nan"],
    "tracking.wandb=online": ["tracking.wandb=online", "needs a key"],
    "tracking.wandb=maybe": ["tracking.wandb=maybe", "offline"],
    "training.audit_every=-1": ["training.audit_every=-1", "from 0"],
    "metrics.every=0": ["metrics.every=0", "numbers from 1"],
    "metrics.best={content:-1}": ["metrics.best.content=-1", "finite numbers from 0"],
    f"loss.balance=3 {AUDITS}": ["loss.balance=3", "{content: 1, style: 2}"],
    f"loss.balance=[1,2] {AUDITS}": ["loss.balance=[1, 2]", "{content: 1, style: 2}"],
    f"loss.balance={{nosuch:1,style:1}} {AUDITS}": ["loss.balance names nosuch", "adversarial, content, style, tv"],
    "loss.balance={content:1,style:1} training.warmup_steps=3 training.audit_every=4": [
        *("loss.balance", "training.warmup_steps=3", "training.audit_every=4", "1 to training.warmup_steps")
    ],
    "loss.balance={content:1,style:1} training.audit_every=0": ["loss.balance", "training.audit_every=0"],
    f"loss.balance={{content:1,style:1}} training.warmup_steps=0 {AUDITS}": ["loss.balance", "training.warmup_steps=0"],
    "perceptual.scales={relu1_1:1}": ["perceptual.scales", "relu2_1, relu3_1, relu4_1, relu4_2 missing"],
    "loss.style.target=each data.cache_mb=0.001": ["style target each", "data.cache_mb=0.001", "MomentStyle", "mean"],
    "loss.style.target=paired": ["style target (mean, each, or a picture)=paired"],
}


@pytest.mark.parametrize("options", BAD_INPUT)
def test_bad_input_is_named_in_the_users_words_and_leaves_nothing(smoke, tmp_path, options):
    for folder in ("empty", "text", "mixed"):
        (tmp_path / folder).mkdir()
    for name in ("text/a.jpg", "mixed/fake.jpg"):
        (tmp_path / name).write_text("no picture at all")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "mixed" / "good.png")
    outcome = smoke(*options.replace("{tmp}", str(tmp_path)).split(), root=tmp_path / "runs", status=2)
    *warnings, message = outcome.err.splitlines()
    assert message.startswith("gan-style train: ") and all(line.startswith("warning: ") for line in warnings)
    assert not [word for word in BAD_INPUT[options] if word not in outcome.err]
    assert not (tmp_path / "runs").exists()


def test_missing_options_are_named(gan_style):
    assert "data.content=... is missing" in gan_style("train", "experiment=monet", status=2).err


def test_an_unwritable_value_of_hydras_grammar_is_taken_as_it_stands(smoke, tmp_path):
    folder = tmp_path / "my photos (1), old"
    folder.mkdir()
    write_pictures(folder, 2)
    smoke(f"data.content={folder}")


def test_a_run_whose_last_checkpoint_is_there_has_its_result_too(smoke, tmp_path, monkeypatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gan_style.training.supervisor.write_generator", killed)
        smoke("training.checkpoint_every=9", status=130)
    smoke("training.checkpoint_every=9")
    assert read_generator(tmp_path / "smoke" / "generator.safetensors")[1]["step"] == 4


EXITS = {
    "SIGTERM": (lambda: os.kill(os.getpid(), signal.SIGTERM), 75),
    "SIGINT": (lambda: os.kill(os.getpid(), signal.SIGINT), 75),
    "an error": (lambda: (_ for _ in ()).throw(OSError("the disk is gone")), 2),
    "the end": (lambda: None, 0),
}


@pytest.mark.parametrize("name", EXITS)
def test_every_exit_tells_the_trackers(smoke, tmp_path, monkeypatch, name):
    happen, status = EXITS[name]
    messages, finish = [], JsonlTracker.finish
    monkeypatch.setattr(JsonlTracker, "preempted", lambda self: messages.append("preempted"))
    ending = lambda self, *, failed: (messages.append(failed), finish(self, failed=failed))  # noqa: E731
    monkeypatch.setattr(JsonlTracker, "finish", ending)
    monkeypatch.setattr("gan_style.training.supervisor.Progress.update", lambda *_: happen())
    smoke(status=status)
    assert messages == (["preempted", True] if status == 75 else [status != 0])


def test_a_second_process_on_the_same_run_is_refused_and_a_dead_one_holds_nothing(smoke, tmp_path):
    (tmp_path / "smoke").mkdir()
    with locked(tmp_path / "smoke"):
        assert "another process works in" in smoke(status=2).err
    smoke()


def write_pictures(folder: Path, count: int, name: str = "") -> None:
    for number in range(count):
        Image.new("RGB", (80, 64), (20 * number, 90, 30)).save(folder / f"{name}{number}.png")


def test_pictures_held_out_are_not_trained_on(smoke, tmp_path):
    outcome = smoke("data.content=[demo:photos,demo:heldout]")
    assert "2 pictures of data.holdout" in outcome.err
    assert "content pictures:     3" in outcome.out


def test_pictures_that_are_held_out_by_another_path_are_not_trained_on(smoke, tmp_path):
    write_pictures(tmp_path, 4)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "3.png").symlink_to(tmp_path / "3.png")
    options = (f"data.content={tmp_path}/*.png", f"data.holdout={tmp_path}/links/3.png")
    outcome = smoke(*options, "dry_run=true")
    assert "1 pictures of data.holdout" in outcome.err and "content pictures:     3" in outcome.out


@pytest.mark.parametrize("name", ["content", "style", "holdout"])
def test_a_run_whose_pictures_have_changed_goes_on_and_says_so(smoke, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    write_pictures(folder, 4)
    smoke(f"data.{name}={folder}")
    assert "is not what this run" not in smoke(f"data.{name}={folder}", "training.steps=5").err
    Image.new("RGB", (90, 64), (20, 90, 130)).save(folder / "3.png")
    outcome = smoke(f"data.{name}={folder}", "training.steps=6")
    assert f"warning: data.{name} is not what this run was trained on before" in outcome.err
    assert outcome.err.count("is not what this run") == 1


@pytest.mark.parametrize("remembered", [True, False])
def test_the_best_of_other_held_out_pictures_is_forgotten(smoke, tmp_path, monkeypatch, remembered):
    write_pictures(tmp_path, 4, "photo")
    write_pictures(tmp_path, 2, "held")
    lowest, make = [], train_command.make_composite
    monkeypatch.setattr(train_command, "make_composite", lambda *a: lowest.append(a[2]) or make(*a))
    options = (f"data.content={tmp_path}/photo*.png", f"data.holdout={tmp_path}/held*.png")
    smoke(*options, "metrics.every=1")
    if not remembered:
        Image.new("RGB", (80, 64), (0, 200, 0)).save(tmp_path / "held9.png")
    smoke(*options, "metrics.every=1", "training.steps=5")
    assert lowest[0] is None and (lowest[1] is not None) is remembered


def test_an_unreadable_picture_does_not_make_the_data_others(gan_style, smoke, tmp_path):
    write_pictures(tmp_path, 10)
    (tmp_path / "5.png").write_bytes(b"no picture")
    settings = (f"data.content={tmp_path}/*.png", "data.holdout=null", "data.holdout_count=2")
    settings = (*settings, "data.max_unreadable=0.5")
    smoke(*settings)
    assert "is not what this run" not in smoke(*settings, "training.steps=5", "data.cache_mb=0").err
    options = (f"checkpoint={tmp_path}/smoke", "metrics=[ssim]", "size=32", f"output={tmp_path}/evaluation")
    assert "is not what this run" not in gan_style("evaluate", "perceptual.weights=random", *options).err


def test_a_run_that_another_process_has_trained_meanwhile_is_not_gone_back_upon(smoke, tmp_path, monkeypatch):
    calibrate = train_command.calibrate

    def meanwhile(*arguments):
        monkeypatch.setattr(train_command, "calibrate", calibrate)
        assert finish(start("commands.train", *SMOKE, f"run.root={tmp_path}"))[0] == 0
        calibrate(*arguments)

    monkeypatch.setattr(train_command, "calibrate", meanwhile)
    assert "another process has trained" in smoke("training.steps=5", status=2).err
    smoke("training.steps=5")
    assert steps_in(tmp_path / "smoke") == [1, 2, 3, 4, 5]


def test_a_run_that_is_all_warm_up_says_so(smoke, tmp_path):
    outcome = smoke("training.warmup_steps=9")
    message = "ends within training.warmup_steps=9: content alone is trained, no adversarial, no style"
    assert message in outcome.err
    assert message[:30] not in smoke("run.name=other").err


def test_features_are_scaled_alike_whatever_the_seed(smoke, tmp_path):
    scales = []
    for seed in "01":
        smoke("perceptual.weights=packaged", f"training.seed={seed}", f"run.name={seed}", "training.steps=1")
        scales.append(described(tmp_path / seed)["scales"])
    assert scales[0] == scales[1] and scales[0]


def test_a_moved_run_goes_on(smoke, finished):
    finished.rename(finished.with_name("other"))
    assert "after step 4" in smoke("run.name=other", "training.steps=6").out
