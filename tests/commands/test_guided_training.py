"""gan-style train loss=guided: style by region, with masks of the photos and of the style pictures."""

import numpy as np
import pytest
from PIL import Image
from run_files import rows

from gan_style.demo import demo_pictures
from gan_style.runtime.checkpoint import read_checkpoint

TINY = (
    "loss=guided",
    "generator=slim",
    "generator.width=4",
    "discriminator=patch34",
    "discriminator.width=4",
    "perceptual=compact",
    "perceptual.weights=random",
    "loss.content.layers=[relu2_1]",
    "loss.style.layers=[relu1_1,relu2_1]",
    "data.size=40",
    "data.resize=[40,48]",
    "data.sample_size=32",
    "training.batch=2",
    "training.warmup_steps=1",
    "training.decay=constant",
    "training.log_every=1",
    "training.calibration_pictures=1",
    "tracking.wandb=disabled",
)


@pytest.fixture
def options(tmp_path) -> list[str]:
    """Photos and style pictures with sky (1) in their upper half, and masks that say so."""
    for number, path in enumerate(demo_pictures("photos")):
        with Image.open(path) as picture:
            small = picture.convert("RGB").resize((60, 48))
        mask = np.zeros((48, 60), np.uint8)
        mask[:24] = 1
        for folder in ("photos", "styles"):
            for place, image in ((folder, small), (f"{folder}_masks", Image.fromarray(mask))):
                (tmp_path / place).mkdir(exist_ok=True)
                image.save(tmp_path / place / f"{number}.png")
    (tmp_path / "names.txt").write_text("ground\nsky\n")
    return [
        *(f"data.content={tmp_path}/photos", f"data.style={tmp_path}/styles"),
        *("data.regions.names=[sky,rest]", f"data.regions.classes={tmp_path}/names.txt"),
        *(f"data.regions.content={tmp_path}/photos_masks", f"data.regions.style={tmp_path}/styles_masks"),
        *(f"run.root={tmp_path}/runs", "training.steps=1"),
    ]


@pytest.fixture
def train(gan_style, options):
    """train("name=value", ...): a step of training with these options, where others are not given."""
    return lambda *changes, status=0: gan_style("train", *TINY, *options, *changes, status=status)


@pytest.mark.parametrize("more", [[], ["data.cache_mb=0", "data.workers=1"], ["data.regions.style=auto"]])
def test_trains_four_steps_and_resumes_to_the_bit(resumed_as_whole, options, more):
    run = resumed_as_whole(*TINY, *options, *more)
    assert [row["step"] for row in rows(run) if row.get("loss/style", 0) > 0] == [2, 3, 4]
    targets = read_checkpoint(run / "checkpoints" / "step_00000004.pt")["objective"]["style_targets"]
    assert {len(target) for target in targets.values()} == {2}  # regions


def test_micro_batches_have_their_own_masks(train, tmp_path):
    for count in "12":
        train(f"run.name={count}", "training.steps=2", f"training.accumulate={count}")
    first, second = (rows(tmp_path / "runs" / count)[-1]["loss/style"] for count in "12")
    assert first == pytest.approx(second, rel=1e-4)


def test_a_region_that_no_photo_has_is_warned_of(train, tmp_path):
    for path in (tmp_path / "photos_masks").iterdir():
        Image.new("L", (60, 48)).save(path)
    assert "no photo has sky" in train().err


class TestRefusals:
    @pytest.mark.parametrize("cache_mb", ["2000", "0"])
    def test_a_photo_without_a_mask(self, train, tmp_path, cache_mb):
        for path in (tmp_path / "photos_masks").glob("1.*"):
            path.unlink()
        message = train(f"data.cache_mb={cache_mb}", "data.workers=0", status=2).err
        assert "data.regions.content" in message and "photos/1.png" in message
        assert not (tmp_path / "runs" / "default" / "metrics.jsonl").read_text()

    def test_a_style_picture_without_a_mask(self, train, tmp_path):
        (tmp_path / "styles_masks" / "0.png").unlink()
        assert "data.regions.style" in train(status=2).err

    def test_a_region_that_no_style_picture_has(self, train, tmp_path):
        for path in (tmp_path / "styles_masks").iterdir():
            Image.new("L", (60, 48)).save(path)
        assert "no style picture has the region sky" in train(status=2).err

    def test_a_mask_of_another_shape(self, train, tmp_path):
        Image.new("L", (48, 60)).save(tmp_path / "photos_masks" / "0.png")
        message = train("data.holdout_count=0", status=2).err
        assert "data.regions.content" in message and "48 x 60" in message

    @pytest.mark.parametrize(
        ("changes", "word"),
        [
            ("data.regions.names=null", "data.regions.names"),
            ("data.regions.names=[skye,rest]", "did you mean sky"),
            ("data.regions.names=[sky,sky]", "each once"),
            ("data.regions.content=null", "data.regions.content is missing"),
            ("data.regions.content=auto", "data.regions.content=auto"),
            ("data.regions.style=null", "data.regions.style is missing"),
            ("data.regions.classes=vocc", "data.regions.classes=vocc"),
            ("loss.style.guided=false", "no loss term is guided"),
            ("loss.style._target_=gan_style.losses.style.MomentStyle", "loss.style: guided=true"),
            ("data.paired=true", "unpaired"),
            ("generator=reference loss.style.target=crop", "data.regions is for one style"),
        ],
    )
    def test_options_that_do_not_fit_together(self, train, tmp_path, changes, word):
        assert word in train(*changes.split(), status=2).err
        assert not (tmp_path / "runs" / "default" / "checkpoints").exists() or "did you mean" in word
