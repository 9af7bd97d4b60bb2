"""Files of torch.export, read by torch.export.load, beside the generators that they were made of."""

import io

import pytest
import torch

from gan_style.export.formats import read_description, to_torch
from gan_style.export.graph import UINT8, ExportedGenerator
from gan_style.images.decode import to_float, to_uint8
from gan_style.models.library import LibraryGenerator
from gan_style.models.reference import ReferenceGenerator


@pytest.fixture
def library():
    torch.manual_seed(0)
    return LibraryGenerator(width=4, blocks=1, styles=["monet", "wave"]).eval().requires_grad_(False)


def loaded(content: bytes) -> torch.nn.Module:
    return torch.export.load(io.BytesIO(content)).module()


def test_any_size_and_batch_gives_the_generators_bytes_and_the_file_says_what_it_is(library, noise, tmp_path):
    content = to_torch(ExportedGenerator(library, UINT8), {"styles": library.styles})
    model = loaded(content)
    for batch, *size in ((1, 17, 23), (3, 40, 21), (1, 21, 40), (1, 64, 32), (1, 3, 2), (2, 1, 1)):
        photo, styles = to_uint8(noise(batch, 3, *size)), torch.full((batch, 2), 0.4)
        result = model(photo.permute(0, 2, 3, 1), styles).permute(0, 3, 1, 2)
        assert (result.int() - to_uint8(library(to_float(photo), styles)).int()).abs().max() <= 1
    (tmp_path / "model.pt2").write_bytes(content)
    assert read_description(tmp_path / "model.pt2") == {"styles": ["monet", "wave"]}
    (tmp_path / "cut.pt2").write_bytes(content[:200])
    with pytest.raises(ValueError, match="cut"):
        read_description(tmp_path / "cut.pt2")


def test_a_generator_of_any_style_takes_a_reference_and_a_strength(noise):
    torch.manual_seed(0)
    generator = ReferenceGenerator(width=4, blocks=1, code=4).eval().requires_grad_(False)
    model = loaded(to_torch(ExportedGenerator(generator), {}))
    for batch, size, reference in ((1, (17, 23), (33, 48)), (2, (9, 30), (64, 27)), (1, (32, 48), (16, 16))):
        images, references = noise(batch, 3, *size), noise(batch, 3, *reference, seed=1)
        strength = torch.linspace(1.0, 0.5, batch)[:, None]
        expected = generator(images, references, strength)
        torch.testing.assert_close(model(images, references, strength), expected, rtol=0, atol=1e-3)


def test_what_cannot_be_exported_is_named():
    with pytest.raises(ValueError, match="convolutions"):
        ExportedGenerator(ReferenceGenerator(width=4, blocks=1, code=4, encoder="convolutions"))
    with pytest.raises(ValueError, match="Conv2d"):
        ExportedGenerator(torch.nn.Conv2d(3, 3, 1))
