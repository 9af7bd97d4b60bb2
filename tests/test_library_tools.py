"""What the tools do to a library before it ships."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "tools"))
import ship_library

from gan_style.models.library import LibraryGenerator


@pytest.mark.parametrize("scale", [0.0, 0.85, 1.0])
def test_a_style_that_is_set_back_is_at_its_full_strength_what_it_was_at_less(noise, scale):
    torch.manual_seed(0)
    generator = LibraryGenerator(width=4, blocks=1, styles=["monet", "wave"])
    for parameter in generator.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    photo, wave = noise(1, 3, 24, 20), torch.tensor([[0.0, 1.0]])
    monet = torch.tensor([[1.0, 0.0]])
    with torch.no_grad():
        wanted, other = generator.paint(photo, generator.shares(scale * wave)), generator(photo, monet)
        ship_library.set_back(generator, {"wave": scale})
        assert torch.allclose(generator.paint(photo, generator.shares(wave)), wanted, atol=1e-5)
        assert torch.equal(generator(photo, monet), other)
