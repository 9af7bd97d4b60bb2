"""The field's recipes in conf/experiment: each trains on tiny pictures with all its terms, and resumes to the bit."""

import shutil

import pytest
from run_files import rows

from gan_style.demo import demo_pictures
from gan_style.runtime.checkpoint import read_checkpoint

TINY = (
    "perceptual=compact",  # the recipes with VGG-16 and VGG-19 take the same layers of it, but for relu4_3 and relu4_4
    "perceptual.weights=random",
    "generator.width=4",
    "discriminator=patch34",
    "discriminator.width=4",
    "data.size=40",
    "data.resize=[40,48]",
    "data.style_resize=null",
    "data.sample_size=32",
    "training.batch=2",
    "training.warmup_steps=0",
    "training.log_every=1",
    "training.calibration_pictures=1",
    "tracking.wandb=disabled",
)
RECIPES = {
    "fast_neural_style": (["loss.style.layers=[relu1_2,relu2_2]"], {"content", "style", "tv"}),
    "cartoongan": (["loss.content.layers=[relu2_2]"], {"adversarial", "content", "style", "tv"}),
    "animeganv2": (
        ["loss.content.layers=[relu2_2]", "loss.style.layers=[relu2_2]"],
        {"adversarial", "content", "style", "colour", "tv"},
    ),
    "cut": (["generator.blocks=5", "loss.patch_nce.patches=16"], {"adversarial", "patch_nce"}),
    "pix2pix": ([], {"adversarial", "paired"}),
}


@pytest.fixture
def pictures(tmp_path) -> tuple[str, str]:
    """Photos, and style pictures of the same names (here the same pictures)."""
    folders = tmp_path / "photos", tmp_path / "styles"
    for folder in folders:
        folder.mkdir()
    for number, path in enumerate(demo_pictures("photos")):
        for folder in folders:
            shutil.copy(path, folder / f"{number}{path.suffix}")
    return f"data.content={folders[0]}", f"data.style={folders[1]}"


@pytest.mark.parametrize("recipe", RECIPES)
def test_trains_four_steps_and_resumes_to_the_bit(resumed_as_whole, pictures, recipe):
    options, terms = RECIPES[recipe]
    run = resumed_as_whole(f"experiment={recipe}", *TINY, *options, *pictures)
    last = rows(run)[-1]
    assert {key.removeprefix("loss/") for key in last if key.startswith("loss/")} == terms | {"total"}
    saved = read_checkpoint(run / "checkpoints" / "step_00000004.pt")["state"]["networks"]
    assert ("projection" in saved) is (recipe == "cut")


class TestPairs:
    @pytest.fixture
    def refused(self, gan_style, tmp_path, pictures):
        """refused("name=value", ...): why pix2pix does not begin."""
        arguments = ("experiment=pix2pix", *TINY, *pictures, "training.steps=1", f"run.root={tmp_path / 'runs'}")
        return lambda *options: gan_style("train", *arguments, *options, status=2).err

    def test_a_photo_without_a_partner_is_named(self, refused, tmp_path):
        for path in (tmp_path / "styles").glob("1.*"):
            path.unlink()
        message = refused()
        assert "data.paired=true: 1 of " in message and "photos/1." in message

    def test_two_partners_are_refused(self, refused, tmp_path):
        first = next((tmp_path / "styles").glob("0.*"))
        (tmp_path / "styles" / "more").mkdir()
        shutil.copy(first, tmp_path / "styles" / "more" / first.name)
        assert "'0' comes 2 times in data.style" in refused()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("data.paired=null", "needs data.paired=true"),
            ("generator=library data.style={a:x}", "data.paired=true is for one style"),
            *(("data.style_resize=[64,96]", "data.style_resize"), ("data.recolour=0.5", "data.recolour")),
        ],
    )
    def test_what_does_not_go_with_pairs_is_refused(self, refused, options, message):
        assert message in refused(*options.split())
