"""Training a generator that takes its style from a picture, and stylizing with pictures of the user's own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gan_style
from gan_style.checkpoint import read_generator, write_generator
from gan_style.images import read_note
from gan_style.inference.load import load_generator
from gan_style.models.generator import ResnetGenerator
from gan_style.models.reference import ReferenceGenerator
from gan_style.models.registry import describe

REFERENCE = (
    *("experiment=smoke", "perceptual.weights=random", "training.calibration_pictures=2"),
    *("generator=reference", "loss.style.target=crop", "data.style=['demo:styles', 'demo:photos']"),
)


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("reference"), *REFERENCE)


@pytest.fixture(scope="module")
def far(run, tmp_path_factory) -> Path:
    """The run's generator, with codes that count for more than they do after four steps; beside it three pictures."""
    folder = tmp_path_factory.mktemp("far")
    generator = load_generator(run, torch.device("cpu"))
    torch.manual_seed(0)
    for name, parameter in generator.named_parameters():
        if parameter.ndim == 2 and "style_encoder" not in name:
            parameter.data += 0.5 * torch.randn_like(parameter)
    write_generator(folder / "generator.safetensors", generator.state_dict(), describe(generator))
    for name, colour in (("rust", (180, 70, 20)), ("sea", (10, 60, 160))):
        Image.blend(Image.new("RGB", (70, 90), colour), Image.effect_noise((70, 90), 90).convert("RGB"), 0.3).save(
            folder / f"{name}.png"
        )
    Image.effect_noise((60, 40), 90).convert("RGB").save(folder / "photo.png")
    return folder


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def test_is_trained_and_measured_in_a_style_that_is_held_out(run):
    generator = load_generator(run, torch.device("cpu"))
    assert isinstance(generator, ReferenceGenerator)
    assert generator.side == 56  # the middle of data.resize
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = {name: value for row in rows for name, value in row.items()}
    assert last["heldout/reference_1/style"] == pytest.approx(last["heldout/style"])  # one of seven
    assert "heldout/reference_2/style" not in last
    with Image.open(run / "samples" / "step_00000004.jpg") as sheet:
        assert sheet.height == 3 * 64 + 2 * 4  # the reference, two held-out photos, and the gaps


def test_goes_on_where_it_stopped_bit_for_bit(gan_style, tmp_path):
    arguments = (*REFERENCE, "training.decay=constant")
    for steps in (2, 4):
        assert gan_style("train", *arguments, f"run.root={tmp_path}", f"training.steps={steps}").status == 0
    assert gan_style("train", *arguments, f"run.root={tmp_path / 'whole'}").status == 0
    one, two = (read_generator(root / "smoke" / "generator.safetensors")[0] for root in (tmp_path, tmp_path / "whole"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_pictures_get_the_style_of_their_reference_and_say_so(far, gan_style, tmp_path):
    made = {}
    for name in ("rust", "sea"):
        target = tmp_path / f"{name}.png"
        asked = (f"checkpoint={far}", f"reference={far / name}.png", f"input={far / 'photo.png'}", f"output={target}")
        assert gan_style("stylize", *asked).status == 0
        made[name] = pixels(target)
        assert read_note(target)["style"] == name
    assert made["rust"].shape == (40, 60, 3)
    assert abs(made["rust"] - made["sea"]).mean() > 1
    assert gan_style("stylize", *asked[:3], "strength=0", f"output={tmp_path / 'same.png'}").status == 0
    assert np.array_equal(pixels(tmp_path / "same.png"), pixels(far / "photo.png"))


def test_several_references_are_mixed_or_laid_side_by_side(far, gan_style, tmp_path):
    both = (f"checkpoint={far}", f"reference=[{far / 'rust.png'},{far / 'sea.png'}]", f"input={far / 'photo.png'}")
    left = np.zeros((40, 60), np.uint8)
    left[:, :20] = 255
    Image.fromarray(left).save(tmp_path / "left.png")
    for name, more in {
        "even": (),
        "half": ("style={rust: 0.5, sea: 0.5}",),
        "most": ("style={rust: 0.9, sea: 0.1}",),
        "rust": ("style=rust",),
        "left": (f"mask={{sea: {tmp_path / 'left.png'}}}",),
    }.items():
        outcome = gan_style("stylize", *both, *more, f"output={tmp_path / 'out' / name}.png")
        assert outcome.status == 0, outcome.err
    made = {path.stem: pixels(path) for path in (tmp_path / "out").iterdir()}
    assert np.array_equal(made["even"], made["half"])
    assert 0 < abs(made["most"] - made["rust"]).mean() < abs(made["half"] - made["rust"]).mean()
    assert np.array_equal(made["left"][:, 20:], pixels(far / "photo.png")[:, 20:])
    assert read_note(tmp_path / "out" / "most.png")["style"] == {"rust": 0.9, "sea": 0.1}


def test_tiles_make_what_the_whole_picture_makes(far, gan_style, tmp_path):
    Image.effect_noise((200, 150), 90).convert("RGB").save(tmp_path / "large.png")
    asked = (f"checkpoint={far}", f"reference={far / 'sea.png'}", f"input={tmp_path / 'large.png'}")
    for tile in ("off", "64"):
        assert gan_style("stylize", *asked, f"tile={tile}", f"output={tmp_path / tile}.png").status == 0
    assert abs(pixels(tmp_path / "off.png") - pixels(tmp_path / "64.png")).max() <= 2


def test_from_python(far, tmp_path):
    stylizer, photo = gan_style.load(far, device="cpu"), far / "photo.png"
    by_path = np.asarray(stylizer(photo, reference=far / "sea.png"))
    with Image.open(far / "sea.png") as picture:
        assert np.array_equal(by_path, np.asarray(stylizer(photo, reference=picture)))
        as_tensor = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None]
    assert np.array_equal(by_path, np.asarray(stylizer(photo, reference=as_tensor)))
    named = {"a": far / "sea.png", "b": far / "rust.png"}
    assert np.array_equal(by_path, np.asarray(stylizer(photo, reference=named, style={"a": 1.0})))
    assert not np.array_equal(by_path, np.asarray(stylizer(photo, reference=named)))
    with pytest.raises(ValueError, match=r"reference=\.\.\. is missing: this model takes its style from a picture"):
        stylizer(photo)
    with pytest.raises(ValueError, match=r"reference: a tensor of shape \(1, 3, H, W\) expected, got \(2, 3, 4, 4\)"):
        stylizer(photo, reference=torch.zeros(2, 3, 4, 4))
    other = ResnetGenerator(width=4, blocks=1)
    write_generator(tmp_path / "single.safetensors", other.state_dict(), describe(other))
    with pytest.raises(ValueError, match=r"reference=reference: this model has learned its styles \(single\)"):
        gan_style.load(tmp_path / "single.safetensors", device="cpu")(photo, reference=photo)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "reference=... is missing: this model takes its style from a picture that it is shown"),
        (("reference=nowhere.jpg",), "reference: cannot read the picture nowhere.jpg: there is no such file"),
        (("reference=[]",), "reference=[]: give a picture of the style, or several"),
        (("reference={a: b}",), "a picture, or several as [a.jpg,b.jpg], expected"),
        (("reference=[FAR/sea.png,FAR/out/sea.png]",), "have one name; rename one of them"),
        (("reference=FAR/sea.png", "style=monet"), "style=monet: there is no such style; known are sea"),
        (("reference=FAR/sea.png", "checkpoint=null", "style=sea"), "checkpoint=... is missing"),
    ],
)
def test_what_cannot_be_is_said(far, gan_style, tmp_path, arguments, words):
    arguments = [argument.replace("FAR", str(far)) for argument in arguments]
    asked = (f"checkpoint={far}", f"input={far / 'photo.png'}", f"output={tmp_path / 'o.png'}")
    outcome = gan_style("stylize", *asked, *arguments)
    assert outcome.status == 2
    assert words in outcome.err
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("loss.style.target=mean",), "loss.style.target=mean asks generator=reference for one style, whatever"),
        (("generator=slim", "data.style_holdout_count=2"), "data.style_holdout_count=2 is for gen"),
        (("generator.code=0",), "generator.code=0"),
    ],
)
def test_what_cannot_be_trained_is_said(gan_style, tmp_path, arguments, words):
    outcome = gan_style("train", *REFERENCE, f"run.root={tmp_path}", *arguments)
    assert outcome.status == 2
    assert words in outcome.err
    assert not list(tmp_path.iterdir())
