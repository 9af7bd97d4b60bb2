"""Exported files, read by onnx.checker and run by onnxruntime, beside the generators that they were made of."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from gan_style.export.formats import to_onnx
from gan_style.export.graph import FLOAT, UINT8, ExportedGenerator
from gan_style.export.verify import generator_paint, onnx_paint
from gan_style.images.decode import to_float, to_uint8
from gan_style.models.generator import ResnetGenerator
from gan_style.models.library import LibraryGenerator
from gan_style.models.mobile import MobileGenerator
from gan_style.models.reference import ReferenceGenerator
from gan_style.stylize.onnx_model import OnnxModel

onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
pytest.importorskip("onnxruntime", reason="the extra export is not installed")
pytest.importorskip("onnxscript", reason="the extra export is not installed")

STYLES = ["monet", "wave", "scream"]


def randomised(generator: nn.Module) -> nn.Module:
    """Draw all numbers at random: as they begin, blocks do nothing and styles are alike."""
    random = torch.Generator().manual_seed(3)
    for tensor in (*generator.parameters(), *generator.buffers()):
        tensor.data = torch.randn(tensor.shape, generator=random) * (0.1 if tensor.ndim == 4 else 0.3)
    return generator.eval().requires_grad_(False)


def export(network: ExportedGenerator, **options) -> bytes:
    description = {"styles": network.styles, "input": network.pixels}
    return to_onnx(network, description, **options)


@pytest.fixture(scope="module")
def library() -> nn.Module:
    return randomised(LibraryGenerator(width=4, blocks=1, styles=STYLES))


@pytest.fixture(scope="module")
def content(library) -> bytes:
    return export(ExportedGenerator(library))


def test_the_file_is_valid_and_tells_nothing_of_this_machine(content):
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert b".py" not in content and b"site-packages" not in content
    shapes = {
        value.name: [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    image = ["batch", 3, "height", "width"]
    assert shapes == {"image": image, "styles": ["batch", len(STYLES)], "result": image}


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (5, 3), (16, 16), (17, 23), (66, 131)], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_any_size_and_batch_gives_the_generators_numbers(library, content, noise, size, batch):
    images = noise(batch, 3, *size)
    styles = torch.rand(batch, len(STYLES), generator=torch.Generator().manual_seed(1)) / len(STYLES)
    result = OnnxModel(content)(images.numpy(), styles.numpy())
    torch.testing.assert_close(torch.from_numpy(result), library(images, styles), rtol=0, atol=1e-4)


def test_a_mobile_generator_gives_the_same_numbers_and_fits_in_int8(noise):
    generator = randomised(MobileGenerator(width=4, blocks=1, styles=STYLES))
    network = ExportedGenerator(generator)
    images, styles = noise(2, 3, 25, 30), torch.eye(3)[:2]
    result = OnnxModel(export(network))(images.numpy(), styles.numpy())
    torch.testing.assert_close(torch.from_numpy(result), generator(images, styles), rtol=0, atol=1e-4)
    feeds = [{"image": noise(1, 3, 32, 32, seed=seed).numpy(), "styles": styles[:1].numpy()} for seed in range(3)]
    small = export(network, precision="int8", calibration=feeds)
    assert "QuantizeLinear" in {node.op_type for node in onnx.load_from_string(small).graph.node}
    assert abs(OnnxModel(small)(images.numpy(), styles.numpy()) - result).mean() < 0.1


def test_half_precision_takes_half_the_room(library, content, noise):
    half = export(ExportedGenerator(library), precision="float16")
    images, styles = noise(1, 3, 18, 33), torch.eye(3)[1:2]
    result = torch.from_numpy(OnnxModel(half)(images.numpy(), styles.numpy()))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, library(images, styles), rtol=0, atol=0.05)
    weights = {tensor.data_type for tensor in onnx.load_from_string(half).graph.initializer if len(tensor.dims) == 4}
    assert weights == {onnx.TensorProto.FLOAT16}


def test_without_strength_the_photo_is_what_it_was(content, noise):
    images = noise(1, 3, 9, 7)
    assert (torch.from_numpy(OnnxModel(content)(images.numpy(), torch.zeros(1, 3).numpy())) == images).all()


def test_bytes_go_in_and_come_out_where_one_style_is_fixed(library, noise):
    wave = torch.tensor([[0.0, 1.0, 0.0]])
    model = OnnxModel(export(ExportedGenerator(library, UINT8, wave)))
    photo = to_uint8(noise(2, 3, 21, 18))
    assert model.inputs == ("image",)
    result = torch.from_numpy(model(photo.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    expected = to_uint8(library(to_float(photo), wave.expand(2, -1)))
    assert result.dtype == torch.uint8
    assert (result.int() - expected.int()).abs().max() <= 1


def test_a_model_of_one_style_takes_pictures_alone(noise):
    generator = randomised(ResnetGenerator(width=4, blocks=1))
    model = OnnxModel(export(ExportedGenerator(generator)))
    images = noise(1, 3, 30, 19)
    torch.testing.assert_close(torch.from_numpy(model(images.numpy())), generator(images), rtol=0, atol=1e-4)


@pytest.mark.parametrize("pixels", [FLOAT, pytest.param(UINT8, marks=pytest.mark.slow)])  # traces the network anew
def test_a_generator_of_any_style_takes_a_reference_of_another_size(noise, pixels):
    torch.manual_seed(0)
    generator = ReferenceGenerator(width=4, blocks=1, code=4).eval().requires_grad_(False)
    model = OnnxModel(export(ExportedGenerator(generator, pixels)))
    assert model.inputs == ("image", "reference", "strength")
    paint, expected = onnx_paint(model), generator_paint(generator)
    for size, reference in (((17, 23), (61, 48)), ((64, 40), (32, 32)), ((9, 90), (70, 27))):
        picture, condition = to_uint8(noise(1, 3, *size)), to_uint8(noise(1, 3, *reference, seed=1))
        for strength in (1.0, 0.4):
            inputs = picture, (condition, torch.tensor([[strength]]))
            assert (paint(*inputs).int() - expected(*inputs).int()).abs().max() <= 1


def test_running_a_file_takes_no_torch(content, tmp_path):
    (tmp_path / "model.onnx").write_bytes(content)
    program = """
import sys
from pathlib import Path
import numpy as np
from gan_style.stylize.onnx_model import OnnxModel
model = OnnxModel(Path(sys.argv[1]))
image = np.zeros((1, 3, 8, 9), np.float32)
assert model(image, np.eye(len(model.styles), dtype=np.float32)[:1]).shape == image.shape
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "model.onnx")], check=True, timeout=120)


def test_what_is_no_export_is_refused(tmp_path, content):
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    foreign = onnx.load_from_string(content)
    del foreign.metadata_props[:]
    (tmp_path / "foreign.onnx").write_bytes(foreign.SerializeToString())
    for name in ("cut.onnx", "foreign.onnx"):
        with pytest.raises(ValueError, match=name):
            OnnxModel(tmp_path / name)
