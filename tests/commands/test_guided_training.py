"""gan-style train loss=guided: style by region, with masks of the photos and of the style pictures."""

from pathlib import Path

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
def options(tmp_path) -> dict[str, str]:
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
    return {
        "data.content": f"{tmp_path}/photos",
        "data.style": f"{tmp_path}/styles",
        "data.regions.names": "[sky,rest]",
        "data.regions.content": f"{tmp_path}/photos_masks",
        "data.regions.style": f"{tmp_path}/styles_masks",
        "data.regions.classes": f"{tmp_path}/names.txt",
        "run.root": f"{tmp_path}/runs",
        "training.steps": "1",
    }


def train(gan_style, options: dict[str, str], *, status: int = 0, **changes: str):
    changed = options | {name.replace("__", "."): value for name, value in changes.items()}
    return gan_style("train", *TINY, *(f"{name}={value}" for name, value in changed.items()), status=status)


@pytest.mark.parametrize("more", [{}, {"data.cache_mb": "0", "data.workers": "1"}, {"data.regions.style": "auto"}])
def test_trains_four_steps_and_resumes_to_the_bit(resumed_as_whole, options, more):
    run = resumed_as_whole(*TINY, *(f"{name}={value}" for name, value in (options | more).items()))
    assert [row["step"] for row in rows(run) if row.get("loss/style", 0) > 0] == [2, 3, 4]
    targets = read_checkpoint(run / "checkpoints" / "step_00000004.pt")["objective"]["style_targets"]
    assert {len(target) for target in targets.values()} == {2}  # regions


def test_micro_batches_have_their_own_masks(gan_style, tmp_path, options):
    for count in ("1", "2"):
        train(gan_style, options, run__name=count, training__steps="2", training__accumulate=count)
    first, second = (rows(tmp_path / "runs" / count)[-1]["loss/style"] for count in ("1", "2"))
    assert first == pytest.approx(second, rel=1e-4)


def test_a_region_that_no_photo_has_is_warned_of(gan_style, tmp_path, options):
    for path in (tmp_path / "photos_masks").iterdir():
        Image.new("L", (60, 48)).save(path)
    assert "no photo has sky" in train(gan_style, options).err


def refused(gan_style, options: dict[str, str], **changes: str) -> str:
    return train(gan_style, options, **changes, status=2).err


class TestRefusals:
    @pytest.mark.parametrize("cache_mb", ["2000", "0"])
    def test_a_photo_without_a_mask(self, gan_style, tmp_path, options, cache_mb):
        for path in (tmp_path / "photos_masks").glob("1.*"):
            path.unlink()
        message = refused(gan_style, options, data__cache_mb=cache_mb, data__workers="0")
        assert "data.regions.content" in message and "photos/1.png" in message
        assert not (tmp_path / "runs" / "default" / "metrics.jsonl").read_text()

    def test_a_style_picture_without_a_mask(self, gan_style, tmp_path, options):
        (tmp_path / "styles_masks" / "0.png").unlink()
        assert "data.regions.style" in refused(gan_style, options)

    def test_a_region_that_no_style_picture_has(self, gan_style, tmp_path, options):
        for path in (tmp_path / "styles_masks").iterdir():
            Image.new("L", (60, 48)).save(path)
        assert "no style picture has the region sky" in refused(gan_style, options)

    def test_a_mask_of_another_shape(self, gan_style, tmp_path, options):
        Image.new("L", (48, 60)).save(tmp_path / "photos_masks" / "0.png")
        message = refused(gan_style, options, data__holdout_count="0")
        assert "data.regions.content" in message and "48 x 60" in message

    @pytest.mark.parametrize(
        ("changes", "word"),
        [
            ({"data__regions__names": "null"}, "data.regions.names"),
            ({"data__regions__names": "[skye,rest]"}, "did you mean sky"),
            ({"data__regions__names": "[sky,sky]"}, "each once"),
            ({"data__regions__content": "null"}, "data.regions.content is missing"),
            ({"data__regions__content": "auto"}, "data.regions.content=auto"),
            ({"data__regions__style": "null"}, "data.regions.style is missing"),
            ({"data__regions__classes": "vocc"}, "data.regions.classes=vocc"),
            ({"loss__style__guided": "false"}, "no loss term is guided"),
            ({"loss__style___target_": "gan_style.losses.style.MomentStyle"}, "loss.style: guided=true"),
            ({"data__paired": "true"}, "unpaired"),
            ({"generator": "reference", "loss__style__target": "crop"}, "data.regions is for one style"),
        ],
    )
    def test_options_that_do_not_fit_together(self, gan_style, tmp_path, options, changes, word):
        assert word in refused(gan_style, options, **changes)
        assert not Path(tmp_path / "runs" / "default" / "checkpoints").exists() or "did you mean" in word
