"""The generator of any style: the encoder, strength, mixtures, and the library that it becomes."""

import pytest
import torch

from gan_style.models.blocks import ConditionalInstanceNorm
from gan_style.models.library import LibraryGenerator
from gan_style.models.reference import ConvolutionEncoder, ReferenceGenerator, StatisticsEncoder
from gan_style.models.registry import describe, rebuild


@pytest.fixture
def generator() -> ReferenceGenerator:
    """With rows that differ by far, as training makes them."""
    torch.manual_seed(0)
    result = ReferenceGenerator(width=4, blocks=2, code=6, side=32)
    for module in result.modules():
        if isinstance(module, ConditionalInstanceNorm):
            module.weight.data += 0.3 * torch.randn_like(module.weight)
            module.bias.data += 0.3 * torch.randn_like(module.bias)
    return result.eval()


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (17, 16), (64, 48)])
@pytest.mark.parametrize(
    "encoder", [ConvolutionEncoder(4, 6), StatisticsEncoder(6)], ids=["convolutions", "statistics"]
)
def test_a_picture_of_any_size_has_a_code_of_one_length(noise, size, encoder):
    code = encoder(noise(2, 3, *size))
    assert code.shape == (2, 6) and code.isfinite().all()


def test_a_code_says_neither_where_nor_how_often(noise):
    """A picture, tiled, and moved round by as much as the convolutions step, has the same code."""
    torch.manual_seed(0)
    encoder, picture = ConvolutionEncoder(4, 6), noise(1, 3, 32, 48)
    code = encoder(picture)
    torch.testing.assert_close(encoder(picture.repeat(1, 1, 2, 2)), code, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(encoder(picture.repeat(1, 1, 1, 3)), code, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(encoder(picture.roll((16, -32), (2, 3))), code, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(encoder(noise(1, 3, 32, 48, seed=1)), code, rtol=1e-3)


def test_its_colours_are_in_a_code(noise):
    torch.manual_seed(0)
    encoder, grey = ConvolutionEncoder(4, 6), torch.zeros(1, 3, 8, 8)
    red = grey + torch.tensor([0.5, 0.0, 0.0])[:, None, None]
    assert (encoder(red) - encoder(grey)).abs().max() > 0.01


def test_without_strength_the_photo_comes_back_exactly(generator, noise):
    pictures, references = noise(2, 3, 21, 18), noise(2, 3, 30, 20, seed=1)
    assert torch.equal(generator(pictures, references, torch.zeros(2, 1)), pictures)


def test_full_strength_is_the_default_and_less_is_less(generator, noise):
    picture, reference = noise(1, 3, 24, 24), noise(1, 3, 30, 20, seed=1)
    full = generator(picture, reference)
    assert torch.equal(generator(picture, reference, torch.ones(1, 1)), full)
    far = [
        (generator(picture, reference, torch.tensor([[s]])) - full).abs().mean().item() for s in (0.9, 0.5, 0.2, 0.05)
    ]
    assert far == sorted(far) and far[0] > 0


def test_the_reference_counts_and_each_sample_has_its_own(generator, noise):
    pictures, references = noise(3, 3, 20, 24), noise(3, 3, 16, 32, seed=1)
    strengths = torch.tensor([[1.0], [0.6], [0.1]])
    result = generator(pictures, references, strengths)
    single = [generator(p[None], r[None], s[None]) for p, r, s in zip(pictures, references, strengths, strict=True)]
    torch.testing.assert_close(result, torch.cat(single), rtol=1e-4, atol=1e-5)
    same = generator(pictures[:1].expand(2, -1, -1, -1), references[:2])
    assert (same[0] - same[1]).abs().mean() > 1e-3


def test_mixtures_lead_from_one_style_to_the_other(generator, noise):
    picture, (first, other) = noise(1, 3, 24, 24), noise(2, 3, 16, 16, seed=1).split(1)
    codes = [generator.encode(reference) for reference in (first, other)]
    result = [generator.in_style(picture, torch.lerp(*codes, share)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert torch.equal(result[0], generator(picture, first)) and torch.equal(result[-1], generator(picture, other))
    far = [(mixed - result[0]).abs().mean().item() for mixed in result]
    assert far == sorted(far) and far[1] > 0


@pytest.mark.parametrize("strength", [1.0, 0.5, 0.1, 0.0])
def test_with_its_references_it_is_a_library_of_their_styles(generator, noise, strength):
    picture, (single, other) = noise(1, 3, 20, 24), noise(2, 3, 16, 16, seed=1).split(1)
    codes = [generator.encode(reference) for reference in (single, other)]
    library = generator.library({"one": codes[0], "other": codes[1]})
    assert library.styles == ["one", "other"]
    mixed = generator.in_style(picture, 0.25 * codes[0] + 0.75 * codes[1], torch.tensor([[strength]]))
    torch.testing.assert_close(library(picture, strength * torch.tensor([[0.25, 0.75]])), mixed, rtol=1e-4, atol=1e-5)
    first = generator.encoder[0][0].weight
    assert library.encoder[0][0].weight.data_ptr() == first.data_ptr()  # shared, not copied


def test_codes_begin_small_so_that_training_begins_with_one_style_for_all(noise):
    torch.manual_seed(0)
    fresh = ReferenceGenerator(width=4, blocks=1, code=6)
    picture, references = noise(1, 3, 24, 24), noise(2, 3, 16, 16, seed=1)
    first, other = fresh(picture.expand(2, -1, -1, -1), references)
    assert 0 < (first - other).abs().mean() < 0.2 * first.std()


def test_the_encoder_is_trained_along(generator, noise):
    generator(noise(2, 3, 24, 24), noise(2, 3, 16, 16, seed=1)).square().mean().backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in generator.style_encoder.parameters() if p.requires_grad
    )


def test_is_rebuilt_from_its_description(generator, noise):
    again = rebuild(describe(generator), generator.state_dict(), "a file").eval()
    picture, reference = noise(1, 3, 16, 16), noise(1, 3, 16, 16, seed=1)
    assert again.side == 32
    assert torch.equal(again(picture, reference), generator(picture, reference))


@pytest.mark.parametrize("wrong", [{"code": 0}, {"side": 0}])
def test_sizes_are_from_one(wrong):
    with pytest.raises(ValueError, match=r"generator\.code=.*generator\.side=.*both from 1"):
        ReferenceGenerator(**wrong)


def test_statistics_are_standardised_over_the_pictures_that_they_are_calibrated_on(noise):
    encoder = StatisticsEncoder(6)
    pictures = [noise(1, 3, 32, 40, seed=seed) * (0.2 + 0.1 * seed) for seed in range(8)]
    encoder.calibrate(pictures)
    standardised = (torch.cat([encoder.statistics(item) for item in pictures]) - encoder.mean) / encoder.deviation
    moving = standardised.std(dim=0) > 0.5  # what hardly varies is not blown up
    assert moving.float().mean() > 0.9
    torch.testing.assert_close(standardised.mean(dim=0), torch.zeros(standardised.shape[1]), atol=1e-3, rtol=0)
    torch.testing.assert_close(standardised.std(dim=0)[moving], torch.ones(int(moving.sum())), atol=1e-3, rtol=0)


def test_it_starts_from_a_library_as_the_mean_of_its_styles(noise):
    """With a code of 0 it is the library under equal shares, and with 1 at a style's place that style alone."""
    torch.manual_seed(0)
    library = LibraryGenerator(width=4, blocks=2, tone=False, styles=["a", "b"]).eval()
    for table in (table for norm in library.conditional_norms().values() for table in norm.parameters()):
        table.data += 0.3 * torch.randn_like(table)
    generator = ReferenceGenerator(width=4, blocks=2, code=6, side=32, tone=False).eval()
    generator.start_from(library)
    photo, codes = noise(1, 3, 20, 24), torch.zeros(1, 6)
    mean = library(photo, torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(generator.in_style(photo, codes), mean, atol=1e-4, rtol=1e-4)
    codes[0, 1] = 1.0
    torch.testing.assert_close(
        generator.in_style(photo, codes), library(photo, torch.tensor([[0.0, 1.0]])), atol=1e-4, rtol=1e-4
    )


def test_a_file_without_the_encoders_name_has_the_one_of_convolutions():
    generator = ReferenceGenerator(width=4, blocks=1, code=6, side=32, encoder="convolutions")
    description = describe(generator)
    arguments = {name: value for name, value in description["arguments"].items() if name != "encoder"}
    rebuilt = rebuild(description | {"arguments": arguments}, generator.state_dict(), "old file")
    assert isinstance(rebuilt.style_encoder, ConvolutionEncoder)


def test_a_picture_unlike_all_others_has_no_larger_code_than_they_have(noise):
    torch.manual_seed(0)
    encoder, picture = StatisticsEncoder(6), noise(1, 3, 32, 40)
    encoder.calibrate([0.1 * noise(1, 3, 32, 40, seed=seed) for seed in range(4)])
    encoder.head[2].weight.data *= 1000.0
    code = encoder(picture)
    assert code.detach().square().mean().sqrt().item() == pytest.approx(6.0, rel=1e-4)
