"""Training a generator that takes its style from a picture, and stylizing with pictures of the user's own."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from generators import make_resnet, write_file
from PIL import Image
from run_files import SMOKE

import gan_style
from gan_style.commands.dataset_styles import StyleSource, make_stylizers
from gan_style.dataset.manifest import read_manifest
from gan_style.functional import gram_matrix
from gan_style.images.decode import decode, to_float
from gan_style.images.metadata import read_note
from gan_style.losses.style import gram_loss
from gan_style.models.perceptual import compact
from gan_style.models.reference import ReferenceGenerator
from gan_style.stylize import model as inference_load
from gan_style.stylize.model import load_generator

REFERENCE = (*SMOKE, *("generator=reference", "loss.style.target=crop", "data.style=['demo:styles', 'demo:photos']"))


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("reference"), *REFERENCE)


def grain(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """Grey noise, the same in every run, as Pillow's is not."""
    return Image.fromarray(random.normal(128, 90, (height, width)).clip(0, 255).astype(np.uint8)).convert("RGB")


@pytest.fixture(scope="module")
def far(run, tmp_path_factory) -> Path:
    """The run's generator, with codes that count for more than they do after four steps; two photos, two paintings."""
    folder = tmp_path_factory.mktemp("far")
    generator = load_generator(run, torch.device("cpu"))
    torch.manual_seed(0)
    for name, parameter in generator.named_parameters():
        if parameter.ndim == 2 and "style_encoder" not in name:
            parameter.data += 0.5 * torch.randn_like(parameter)
    write_file(folder / "generator.safetensors", generator)
    (folder / "photos").mkdir()
    (folder / "paintings").mkdir()
    random = np.random.default_rng(0)
    for number in range(2):
        grain(random, 60, 40).save(folder / "photos" / f"{number}.png")
    for name, colour in (("rust", (180, 70, 20)), ("sea", (10, 60, 160))):
        painting = Image.blend(Image.new("RGB", (70, 90), colour), grain(random, 70, 90), 0.3)
        painting.save(folder / "paintings" / f"{name}.png")
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


def test_goes_on_where_it_stopped_bit_for_bit(resumed_as_whole):
    resumed_as_whole(*REFERENCE)


@pytest.fixture
def stylize(gan_style, far, tmp_path):
    """stylize("name=value", ...): the first photo to o.png, where the options do not say otherwise."""
    defaults = (f"checkpoint={far}", f"input={far / 'photos/0.png'}", f"output={tmp_path / 'o.png'}")
    return lambda *options, status=0: gan_style("stylize", *defaults, *options, status=status)


def test_pictures_get_the_style_of_their_reference_and_say_so(stylize, far, tmp_path):
    result = {}
    for name in ("rust", "sea"):
        target = tmp_path / f"{name}.png"
        stylize(f"reference={far / 'paintings' / name}.png", f"output={target}")
        result[name] = pixels(target)
        assert read_note(target)["style"] == name
    assert result["rust"].shape == (40, 60, 3)
    assert abs(result["rust"] - result["sea"]).mean() > 1
    stylize(f"reference={far / 'paintings/sea.png'}", "strength=0")
    assert np.array_equal(pixels(tmp_path / "o.png"), pixels(far / "photos" / "0.png"))


def test_several_references_are_mixed_or_laid_side_by_side(stylize, far, tmp_path):
    both = f"reference=[{far / 'paintings/rust.png'},{far / 'paintings/sea.png'}]"
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
        stylize(both, *more, f"output={tmp_path / 'out' / name}.png")
    result = {path.stem: pixels(path) for path in (tmp_path / "out").iterdir()}
    assert np.array_equal(result["even"], result["half"])
    assert 0 < abs(result["most"] - result["rust"]).mean() < abs(result["half"] - result["rust"]).mean()
    assert np.array_equal(result["left"][:, 20:], pixels(far / "photos" / "0.png")[:, 20:])
    assert read_note(tmp_path / "out" / "most.png")["style"] == {"rust": 0.9, "sea": 0.1}


def test_from_python(far, tmp_path):
    stylizer, photo = gan_style.load(far, device="cpu"), far / "photos" / "0.png"
    by_path = np.asarray(stylizer(photo, reference=far / "paintings" / "sea.png"))
    with Image.open(far / "paintings" / "sea.png") as picture:
        assert np.array_equal(by_path, np.asarray(stylizer(photo, reference=picture)))
        as_tensor = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None]
    assert np.array_equal(by_path, np.asarray(stylizer(photo, reference=as_tensor)))
    named = {"a": far / "paintings" / "sea.png", "b": far / "paintings" / "rust.png"}
    assert np.array_equal(by_path, np.asarray(stylizer(photo, reference=named, style={"a": 1.0})))
    assert not np.array_equal(by_path, np.asarray(stylizer(photo, reference=named)))
    with pytest.raises(ValueError, match=r"reference=\.\.\. is missing: this model takes its style from a picture"):
        stylizer(photo)
    with pytest.raises(ValueError, match=r"reference: a tensor of shape \(1, 3, H, W\) expected, got \(2, 3, 4, 4\)"):
        stylizer(photo, reference=torch.zeros(2, 3, 4, 4))
    write_file(tmp_path / "single.safetensors", make_resnet())
    with pytest.raises(ValueError, match=r"reference=reference: this model has learned its styles \(single\)"):
        gan_style.load(tmp_path / "single.safetensors", device="cpu")(photo, reference=photo)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "reference=... is missing: this model takes its style from a picture that it is shown"),
        (("reference=nowhere.jpg",), "reference: cannot read the picture nowhere.jpg: there is no such file"),
        (("reference=[]",), "reference=[]: one expected, or a list"),
        (("reference={a: b}",), "reference={a: b}: one expected, or a list"),
        (("reference=[FAR/paintings/sea.png,FAR/out/sea.png]",), "there is no such file"),
        (("reference=FAR/paintings/sea.png", "style=monet"), "style=monet: there is no such style; known are sea"),
    ],
)
def test_what_cannot_be_is_said(stylize, far, tmp_path, arguments, message):
    arguments = [argument.replace("FAR", str(far)) for argument in arguments]
    assert message in stylize(*arguments, status=2).err
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("loss.style.target=mean",), "loss.style.target=mean is one style, whatever"),
        (("generator=slim", "data.style_holdout_count=2"), "data.style_holdout_count=2 is for gen"),
        (("generator.code=0",), "generator.code=0"),
        (("data.style_holdout_count=0",), "data.style_holdout_count=0; allowed are numbers from 1"),
        (
            ("+loss.more={_target_: gan_style.losses.style.GramStyle, weight: 1.0, layers: [relu1_1]}",),
            "loss.more.target=mean is one style, whatever generator=reference is shown",
        ),
    ],
)
def test_what_cannot_be_trained_is_said(gan_style, tmp_path, arguments, message):
    assert message in gan_style("train", *REFERENCE, f"run.root={tmp_path}", *arguments, status=2).err
    assert not list(tmp_path.iterdir())


# Datasets and evaluations


@pytest.fixture
def dataset(far, gan_style, tmp_path):
    """dataset("out", ...): make-dataset of two photos in the styles of a folder; (the outcome, manifest rows)."""
    shutil.copytree(far / "photos", tmp_path / "in" / "class")
    shutil.copytree(far / "paintings", tmp_path / "paintings" / "old")

    def call(output: str, *arguments: str, status: int = 0):
        options = (f"checkpoint={far}", f"input={tmp_path / 'in'}", f"output={tmp_path / output}", *arguments)
        options = (*options, "manifest=jsonl", "copies=4", "runtime.device=cpu")
        outcome = gan_style("make_dataset", *options, status=status)
        return outcome, list(read_manifest(tmp_path / output)) if status == 0 else []

    return call


def test_a_dataset_is_painted_in_the_styles_of_a_folder_as_stylize_would(dataset, far, stylize, tmp_path):
    _, rows = dataset("out", f"reference={tmp_path / 'paintings'}")
    assert {row["style"] for row in rows} == {"sea", "rust"}
    for row in rows[:5]:
        photo, painting = tmp_path / "in" / row["source"], far / "paintings" / f"{row['style']}.png"
        stylize(f"reference={painting}", f"input={photo}", "overwrite=true")
        assert (
            abs(pixels(tmp_path / "o.png") - pixels(tmp_path / "out" / "data" / row["output"])).max() <= 1
        )  # batches round
        assert read_note(tmp_path / "out" / "data" / row["output"])["style"] == row["style"]


def test_weights_and_names_choose_among_references(dataset, tmp_path):
    options = f"reference=[{tmp_path / 'paintings/old/rust.png'},{tmp_path / 'paintings/old/sea.png'}]"
    assert {row["style"] for row in dataset("one", options, "style=sea")[1]} == {"sea"}
    assert {row["style"] for row in dataset("other", options, "weights=[1,0]")[1]} == {"rust"}


def test_a_dataset_goes_on_with_the_same_references_alone(dataset, tmp_path):
    for _ in range(2):
        dataset("out", f"reference={tmp_path / 'paintings'}")
    Image.new("RGB", (60, 60), (0, 90, 0)).save(tmp_path / "paintings" / "old" / "sea.png")
    assert "checkpoint=" in dataset("out", f"reference={tmp_path / 'paintings'}", status=2)[0].err


def test_a_generator_is_read_once_however_many_styles_it_has(far, monkeypatch):
    read, load = [], inference_load.load_generator
    monkeypatch.setattr(inference_load, "load_generator", lambda path, device: read.append(path) or load(path, device))
    file, painting = far / "generator.safetensors", far / "paintings" / "sea.png"
    styles = [StyleSource(file, f"sea {number}", painting) for number in range(3)]
    assert len(make_stylizers(styles, torch.device("cpu"), torch.float32, 16_000_000)) == 3
    assert read == [file]


def test_pictures_that_do_not_fit_in_memory_are_painted_in_tiles(far):
    style = StyleSource(far / "generator.safetensors", "sea", far / "paintings" / "sea.png")
    [stylizer] = make_stylizers([style], torch.device("cpu"), torch.float32, 16_000_000)
    content = torch.rand(1, 3, 90, 70, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        untiled, tiled = (stylizer(content, tiled=tiled)(torch.tensor([0.7])) for tiled in (False, True))
    assert (untiled - tiled).abs().max() < 2 / 127.5
    assert (untiled - content).abs().max() > 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "takes its style from pictures; give one, several, or their folder"),
        (("reference=nowhere.jpg",), "cannot read the picture nowhere.jpg: there is no such file"),
        (("reference=HERE/broken.png",), "cannot read the picture"),
        (("reference={a: b}",), "reference={a: b}: one expected, or a list"),
        (("reference=HERE/paintings", "style=see"), "style=see: there is no such style (did you mean sea?)"),
        (("reference=HERE/paintings", "weights=[1]"), "one for each of 2 styles (rust, sea)"),
    ],
)
def test_what_references_cannot_do_for_a_dataset_is_said_before_anything_is_written(
    dataset, tmp_path, arguments, message
):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    outcome, _ = dataset("out", *(argument.replace("HERE", str(tmp_path)) for argument in arguments), status=2)
    assert message in outcome.err
    assert not (tmp_path / "out" / "data").exists()


def test_a_style_is_evaluated_that_a_picture_gives(far, gan_style, tmp_path):
    models = f"checkpoint=['{far}#{far / 'paintings/sea.png'}','{far}#{far / 'paintings/rust.png'}']"
    common = ("evaluate", f"content={far / 'photos'}", "perceptual=compact", "size=40", "metrics=[style]")
    options = (*common, f"style={far / 'paintings/sea.png'}", f"output={tmp_path / 'out'}")
    outcome = gan_style(*options, models)
    actual = json.loads((tmp_path / "out" / "metrics.json").read_text())
    sea, rust = (actual["metrics"][f"{far.name}#{far / 'paintings' / name}.png"] for name in ("sea", "rust"))
    assert sea["style"]["value"] != rust["style"]["value"]
    outcome = gan_style(*options, "overwrite=true", f"checkpoint={far}", status=2)
    assert f"it takes its style from a picture; name one, {far}#PICTURE" in outcome.err


def colour_distance(path: Path, other: Path) -> float:
    return float(np.abs(pixels(path).mean(axis=(0, 1)) - pixels(other).mean(axis=(0, 1))).mean())


def style_distance(path: Path, other: Path) -> float:
    """Between Gram matrices of compact's features, summed over layers."""
    network = compact(layers=["relu1_1", "relu2_1", "relu3_1"])
    with torch.no_grad():
        features = [network(to_float(decode(place)[None]), network.layers) for place in (path, other)]
    return sum(gram_loss(*(gram_matrix(values[layer]) for values in features)).item() for layer in network.layers)


def test_the_shipped_model_takes_a_style_from_a_picture_and_refining_brings_it_closer(far, gan_style, tmp_path):
    """At once colours are near; refining lowers the distance of Gram matrices, and colours may go either way."""
    photo, painting = far / "photos" / "0.png", far / "paintings" / "sea.png"
    colours, distances = [], []
    for steps in (0, 12):
        output = tmp_path / f"{steps}.png"
        gan_style("stylize", f"reference={painting}", f"refine={steps}", f"input={photo}", f"output={output}")
        assert pixels(output).shape == (40, 60, 3)
        colours.append(colour_distance(output, painting))
        distances.append(style_distance(output, painting))
    assert colours[0] < 0.7 * colour_distance(photo, painting)
    assert distances[1] < distances[0] < 0.7 * style_distance(photo, painting)


def test_a_dataset_takes_the_styles_of_a_folder_without_a_model_of_ones_own(far, gan_style, tmp_path):
    data = (f"input={far / 'photos'}", f"output={tmp_path / 'out'}", f"reference={far / 'paintings'}")
    gan_style("make_dataset", *data, "copies=2")
    rows = [row for row in read_manifest(tmp_path / "out") if row["status"] == "ok"]
    assert len(rows) == 4 and {row["style"] for row in rows} <= {"rust", "sea"}


def test_what_no_picture_gives_is_not_refined(far, gan_style, tmp_path):
    data = (f"input={far / 'photos'}", f"output={tmp_path / 'out'}")
    assert "refine=5" in gan_style("stylize", "style=wave", "refine=5", *data, status=2).err
    assert not (tmp_path / "out").exists()


def test_in_python_any_style_is_refined_on_each_picture(far):
    paint = gan_style.load("shipped:any", device="cpu")
    photo, painting = Image.open(far / "photos" / "0.png"), far / "paintings" / "rust.png"
    plain, refined = (paint(photo, reference=painting, refine=steps) for steps in (0, 2))
    assert refined.size == photo.size and refined.tobytes() != plain.tobytes()
    assert paint(photo, reference=painting).tobytes() == plain.tobytes()  # the model itself has not changed
    tensor = torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1)[None]
    same = paint(tensor, reference=painting, refine=2)[0].permute(1, 2, 0).numpy()
    assert np.abs(same.astype(int) - np.asarray(refined).astype(int)).max() <= 1
    with pytest.raises(ValueError, match="refine=-1"):
        paint(photo, reference=painting, refine=-1)
