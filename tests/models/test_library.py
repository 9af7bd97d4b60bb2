"""The generator of many styles: conditions, mixtures, strength."""

import itertools

import pytest
import torch
from torch import Tensor

from gan_style.models.blocks import ConditionalInstanceNorm, InstanceNorm
from gan_style.models.generator import ResnetGenerator
from gan_style.models.library import LibraryGenerator
from gan_style.models.registry import describe, rebuild
from gan_style.models.tone import contrast, light, plain_color

STYLES = ["monet", "wave", "scream"]


@pytest.fixture
def library() -> LibraryGenerator:
    """With rows that differ, as training makes them."""
    torch.manual_seed(0)
    generator = LibraryGenerator(width=4, blocks=2, styles=STYLES)
    assert generator.tones is not None
    generator.tones.uniform_(-1.0, 1.0)
    for module in generator.modules():
        if isinstance(module, ConditionalInstanceNorm):
            module.weight.data += 0.5 * torch.randn_like(module.weight)
            module.bias.data += 0.5 * torch.randn_like(module.bias)
    return generator.eval()


def single(library: LibraryGenerator, row: Tensor) -> ResnetGenerator:
    """An independent implementation of one condition: rows mixed by hand, in the single style's generator."""
    generator = ResnetGenerator(width=4, blocks=2, tone=False).to(row.dtype)
    weights = {
        name: row @ weight if weight.ndim <= 2 and len(weight) == len(row) else weight
        for name, weight in library.state_dict().items()
        if name != "tones"
    }
    generator.load_state_dict(weights)
    return generator.eval()


@pytest.mark.parametrize("condition", [[1, 0, 0], [0, 0, 1], [0.25, 0.75, 0], [0.3, 0.2, 0.1], [0, 0.2, 0]])
@pytest.mark.parametrize("count", [1, 2])
def test_a_condition_mixes_rows_of_scale_and_shift(library, noise, condition, count):
    """What is missing from 1 is the photo's own row, the last; and so much of the photo's pixels is left."""
    library = library.double()
    pictures, row = noise(count, 3, 20, 24).double(), torch.tensor(condition, dtype=torch.float64)
    strength = row.sum(dim=0, keepdim=True)
    result = single(library, torch.cat([row, 1.0 - strength])).paint(pictures, None)
    if strength:
        colors = torch.stack([plain_color(curve.expand(count, -1, -1), light(pictures)[0]) for curve in library.tones])
        color = torch.einsum("k,knc->nc", (row / strength).to(colors), colors).double()
        share = contrast(light(pictures)[1])[:, None, None, None].double()
        result = torch.lerp(color[..., None, None], result, share).clamp(-1, 1)
    expected = strength * result + (1.0 - strength) * pictures
    torch.testing.assert_close(library(pictures, row.expand(count, 3)), expected, rtol=1e-4, atol=1e-5)


def test_without_strength_the_photo_comes_back_exactly(library, noise):
    pictures = noise(2, 3, 21, 18)
    assert torch.equal(library(pictures, torch.zeros(2, 3)), pictures)


def test_results_change_evenly_with_strength(library, noise):
    """No jump anywhere: twice as small a step of strength changes the result about half as much."""
    picture = noise(1, 3, 24, 24)

    @torch.no_grad()
    def largest_change(steps: int) -> float:
        strengths = torch.linspace(0, 1, steps + 1)
        result = [library(picture, torch.tensor([[s, 0.0, 0.0]])) for s in strengths]
        return max(float((a - b).abs().mean()) for a, b in itertools.pairwise(result))

    assert largest_change(80) < 0.6 * largest_change(40)


def test_samples_of_a_batch_have_conditions_of_their_own(library, noise):
    pictures, conditions = noise(3, 3, 20, 20), torch.tensor([[1.0, 0, 0], [0, 0.4, 0.1], [0, 0, 0]])
    one_by_one = torch.cat([library(p[None], c[None]) for p, c in zip(pictures, conditions, strict=True)])
    torch.testing.assert_close(library(pictures, conditions), one_by_one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (5, 6), (24, 20), (48, 40)])
def test_a_map_that_is_the_same_everywhere_is_a_condition_for_the_whole(library, noise, size):
    picture, condition = noise(1, 3, 24, 20), torch.tensor([[0.5, 0.2, 0.1]])
    as_map = condition[..., None, None].expand(1, 3, *size)
    torch.testing.assert_close(library(picture, as_map), library(picture, condition), rtol=1e-4, atol=1e-5)


def test_where_a_map_is_empty_the_photo_is_untouched(library, noise):
    picture, condition = noise(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    condition[:, 1, :, :16] = 1.0
    result = library(picture, condition)
    assert torch.equal(result[..., 16:], picture[..., 16:])
    assert not torch.isclose(result[..., :16], picture[..., :16]).all(dim=1).any()


def test_keeps_any_size(library, noise):
    for size in ((1, 1), (3, 50), (17, 16)):
        assert library(noise(1, 3, *size), torch.tensor([[1.0, 0, 0]])).shape == (1, 3, *size)


def test_a_norm_of_equal_rows_is_instance_normalisation(noise):
    features = noise(2, 5, 6, 7)
    conditional = ConditionalInstanceNorm(5, 3)
    torch.testing.assert_close(conditional(features, torch.tensor([[0.2, 0.3, 0.5]] * 2)), InstanceNorm(5)(features))


@pytest.mark.parametrize("styles", [[], ["monet", "monet"]])
def test_styles_are_named_once_each(styles):
    with pytest.raises(ValueError, match=r"generator=library.*data\.style=\{monet"):
        LibraryGenerator(styles=styles)


def test_is_rebuilt_with_the_names_of_its_styles(library, noise):
    again = rebuild(describe(library), library.state_dict(), "a file").eval()
    condition = torch.tensor([[0.0, 1.0, 0.0]])
    assert again.styles == STYLES
    assert torch.equal(again(noise(1, 3, 16, 16), condition), library(noise(1, 3, 16, 16), condition))
