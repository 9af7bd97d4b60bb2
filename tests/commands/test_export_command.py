"""gan-style export: files that stylize as their generator does, and errors that leave no file."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from gan_style.export import formats
from gan_style.images.decode import decode
from gan_style.models.library import LibraryGenerator
from gan_style.models.reference import ReferenceGenerator
from gan_style.models.registry import describe
from gan_style.runtime.checkpoint import write_generator
from gan_style.runtime.files import file_hash


def written(path: Path, generator: torch.nn.Module) -> Path:
    """Write a generator whose numbers are all drawn at random: as they begin, styles are alike."""
    random = torch.Generator().manual_seed(3)
    state = {
        name: torch.randn(tensor.shape, generator=random) * (0.1 if tensor.ndim == 4 else 0.3)
        for name, tensor in generator.state_dict().items()
    }
    write_generator(path, state, describe(generator))
    return path


@pytest.fixture
def library(tmp_path) -> Path:
    return written(tmp_path / "library.safetensors", LibraryGenerator(width=4, blocks=1, styles=["monet", "wave"]))


@pytest.fixture
def photos(tmp_path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(2):
        Image.effect_noise((40, 33), 60 + number).convert("RGB").save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def export(gan_style, library, photos, tmp_path):
    """Return a function that runs the command; it writes tmp_path/out.onnx, unless told otherwise."""

    def call(*arguments: str, status: int = 0):
        defaults = (f"checkpoint={library}", f"photos={photos}", f"output={tmp_path / 'out.onnx'}")
        return gan_style("export", *defaults, *arguments, status=status)

    return call


def installed() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra export is not installed")


def test_a_file_paints_as_its_generator_does_and_says_where_it_is_from(export, gan_style, library, photos, tmp_path):
    installed()
    export()
    for checkpoint, folder in ((library, "generator"), (tmp_path / "out.onnx", "file")):
        arguments = (f"checkpoint={checkpoint}", "style=wave", "strength=0.8", f"input={photos}")
        gan_style("stylize", *arguments, f"output={tmp_path / folder}")
    for name in ("0.png", "1.png"):
        result, expected = (decode(tmp_path / folder / name).int() for folder in ("file", "generator"))
        assert (result - expected).abs().max() <= 1
    assert file_hash(library) in gan_style("info", f"file={tmp_path / 'out.onnx'}").out


def test_the_same_command_may_write_over_its_file_and_another_may_not(export, tmp_path):
    installed()
    export()
    content = (tmp_path / "out.onnx").read_bytes()
    export()
    assert "output" in export("style=wave", status=2).err
    assert (tmp_path / "out.onnx").read_bytes() == content
    export("style=wave", "overwrite=true")
    assert (tmp_path / "out.onnx").read_bytes() != content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["format=tflite"], ["format", "tflite", "onnx"]),
        (["precision=int4"], ["precision", "int4", "int8"]),
        (["output={folder}/out.pb"], ["output", ".onnx"]),
        (["output={folder}/library.safetensors/out.onnx"], ["output", "library.safetensors"]),
        (["output={folder}/taken.onnx"], ["output", "taken.onnx"]),
        (["output={folder}/taken.onnx", "overwrite=true"], ["output", "taken.onnx"]),
        (["format=torch", "output={folder}/out.pt2", "precision=float16"], ["precision", "float16"]),
        (["style=munch"], ["munch", "monet", "wave"]),
        (["photos={folder}/empty"], ["photos", "empty"]),
        (["precision=int8"], ["calibration"]),
        (["precision=int8", "calibration={folder}/empty"], ["calibration", "empty"]),
        (["precision=int8", "calibration={folder}/nowhere"], ["calibration", "nowhere"]),
        (["precision=int8", "calibration={folder}/damaged"], ["damaged", "cut.png"]),
        (["checkpoint=shipped:nothing"], ["checkpoint", "shipped:library"]),
        (["checkpoint={folder}/photos/0.png"], ["0.png"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_cannot_be_done_is_named_before_anything_is_written(export, photos, tmp_path, arguments, message):
    installed()
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken.onnx").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "cut.png").write_bytes((photos / "0.png").read_bytes()[:60])
    before = sorted(tmp_path.rglob("*"))
    outcome = export(*(argument.format(folder=tmp_path) for argument in arguments), status=2)
    assert all(word in outcome.err for word in message), outcome.err
    assert "Traceback" not in outcome.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_that_cannot_be_exported_is_named(export, tmp_path):
    generator = ReferenceGenerator(width=4, blocks=1, code=4, encoder="convolutions")
    outcome = export(f"checkpoint={written(tmp_path / 'reference.safetensors', generator)}", status=2)
    assert "ReferenceGenerator" in outcome.err and "convolutions" in outcome.err
    assert not (tmp_path / "out.onnx").exists()


def test_a_file_too_far_from_its_generator_is_not_left(export, tmp_path):
    """Ranges that were measured on one plain picture are wrong for every other."""
    installed()
    (tmp_path / "plain").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "plain" / "black.png")
    assert "precision" in export("precision=int8", f"calibration={tmp_path / 'plain'}", status=2).err
    assert not (tmp_path / "out.onnx").exists()


def test_without_onnxruntime_it_says_how_to_get_it_and_torch_export_works(export, monkeypatch, tmp_path):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxruntime" else object())
    outcome = export(status=2)
    assert "onnxruntime" in outcome.err and "pip install 'gan_style[export]'" in outcome.err
    export("format=torch", f"output={tmp_path / 'out.pt2'}")
    assert (tmp_path / "out.pt2").is_file()


BAD_INPUT = {
    "a file": ("{tmp}/file.txt", [], "output="),
    "a folder of other things": ("{tmp}/full", [], "overwrite=true"),
    "bytes": ("{tmp}/page", ["input=uint8"], "input=uint8"),
    "a model without styles of its own": ("{tmp}/page", ["checkpoint=shipped:any"], "checkpoint=shipped:any"),
    "no such runtime": ("{tmp}/page", ["runtime.web={tmp}/full"], "runtime.web="),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named_and_nothing_written(gan_style, tmp_path, case):
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    (tmp_path / "file.txt").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "index.html").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    output, more, message = BAD_INPUT[case]
    arguments = [f"output={output}", "format=web", "checkpoint=shipped:mobile", *more]
    assert message in gan_style("export", *(argument.format(tmp=tmp_path) for argument in arguments), status=2).err
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "full" / "index.html").read_text() == "mine"
