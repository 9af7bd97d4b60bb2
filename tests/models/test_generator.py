"""The generators: any size in, the same size and range out."""

import copy

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from gan_style.models import blocks
from gan_style.models.blocks import (
    ConvNormRelu,
    FewChannels,
    InstanceNorm,
    ReflectedConv2d,
    ResidualBlock,
    Upsample,
    conv2d_by_rows,
    count_parameters,
    fused_upsample_conv2d,
    instance_norm,
    pad,
    pad_to_multiple,
)
from gan_style.models.generator import ResnetGenerator
from gan_style.models.tone import light


@pytest.fixture(scope="module")
def generator() -> ResnetGenerator:
    torch.manual_seed(0)
    return ResnetGenerator(width=4, blocks=1)


@given(height=st.integers(1, 40), width=st.integers(1, 40))
@example(height=1, width=1)
def test_keeps_any_size(generator, height, width):
    assert generator(torch.zeros(2, 3, height, width)).shape == (2, 3, height, width)


@pytest.mark.parametrize("output", ["linear", "tanh"])
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_stays_within_the_range(noise, scale, output):
    torch.manual_seed(0)
    generator = ResnetGenerator(width=4, blocks=1, output=output).eval()
    for parameter in generator.parameters():
        parameter.data *= scale
    result = generator(noise(2, 3, 20, 20))
    assert result.isfinite().all() and result.abs().max() <= 1.0
    assert result.std() > 0  # it says something


def test_a_residual_block_begins_as_the_identity(noise):
    x = noise(1, 4, 12, 12)
    assert torch.equal(ResidualBlock(4)(x), x)


def test_a_sample_is_made_from_itself_alone(generator, noise):
    pictures = noise(3, 3, 20, 24)
    one_by_one = torch.cat([generator(picture[None]) for picture in pictures])
    torch.testing.assert_close(generator(pictures), one_by_one, rtol=1e-4, atol=1e-5)


def test_is_the_same_in_training_and_in_use_but_for_tone_and_range(generator, noise):
    in_use = copy.deepcopy(generator).eval()
    photo = noise(1, 3, 20, 20)
    expected = generator.with_tone(generator(photo), *light(photo))
    assert torch.equal(in_use(photo), expected)
    plain = ResnetGenerator(width=4, blocks=1, output="tanh", tone=False)
    assert torch.equal(plain(photo), copy.deepcopy(plain).eval()(photo))


def test_padding_does_not_show_on_sizes_that_need_none(generator, noise):
    """The result of a size that is a multiple of four is that of the layers alone."""
    picture = noise(1, 3, 24, 20)
    layers = nn.Sequential(generator.encoder, generator.blocks, generator.decoder)
    assert torch.equal(generator(picture), layers(picture))


def test_every_parameter_is_learned(noise):
    generator = ResnetGenerator(width=4, blocks=1)
    nn.init.ones_(generator.blocks[0].norm.weight)  # at 0, where it begins, it learns first and alone
    generator(noise(2, 3, 20, 20)).square().sum().backward()
    silent = [name for name, parameter in generator.named_parameters() if not parameter.grad.any()]
    generator.zero_grad()
    assert silent == []


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_instance_normalisation_is_torchs_own_and_keeps_the_layout(noise, layout):
    norm, own = InstanceNorm(5), nn.InstanceNorm2d(5, affine=True)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2.0, 5))
        norm.bias.copy_(torch.linspace(-1.0, 1.0, 5))
    own.load_state_dict(norm.state_dict())
    x, y = (noise(2, 5, 6, 7).contiguous(memory_format=layout).requires_grad_() for _ in range(2))
    result, expected = norm(x), own(y)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)
    assert result.is_contiguous(memory_format=layout)
    (result * torch.arange(7)).sum().backward()
    (expected * torch.arange(7)).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("of_samples", [False, True], ids=["one scale for all", "a scale for each sample"])
def test_gradients_of_instance_normalisation_are_those_of_its_formula(noise, dtype, tolerance, layout, of_samples):
    def formula(x, scale, shift):
        scale, shift = (item[..., None, None] for item in (scale, shift))
        centred = x - x.mean((2, 3), keepdim=True)
        return scale * centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt() + shift

    x = (3 * noise(2, 5, 9, 7) + 1).to(dtype).contiguous(memory_format=layout)
    scale, shift, gradient = (noise(2, 5), noise(2, 5), noise(2, 5, 9, 7).flip(2).to(dtype))
    inputs = [x, *(item if of_samples else item[0] for item in (scale, shift))]
    ours = [item.clone().requires_grad_() for item in inputs]
    exact = [item.double().requires_grad_() for item in inputs]
    result = instance_norm(*ours)
    assert result.is_contiguous(memory_format=layout) and result.dtype == dtype
    actual = [result, *torch.autograd.grad(result, ours, gradient)]
    expected = formula(*exact)
    expected = [expected, *torch.autograd.grad(expected, exact, gradient.double())]
    with torch.no_grad():
        actual.append(instance_norm(*inputs))
    for item, other in zip(actual, [*expected, expected[0]], strict=True):
        assert (item.double() - other).abs().max() <= tolerance * other.abs().max()


def test_padding_keeps_bfloat16_under_autocast(noise):
    x = noise(1, 4, 6, 7).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        padded = pad(x, 2, "reflect")
    assert padded.dtype == torch.bfloat16
    assert torch.equal(padded, nn.functional.pad(x, (2,) * 4, mode="reflect"))


def parameters_by_hand(width: int, blocks: int) -> int:
    """Kernels without biases, two numbers for each normalised channel, and the last layer's kernel with its bias."""

    def layer(incoming: int, outgoing: int, kernel: int) -> int:
        return incoming * outgoing * kernel**2 + 2 * outgoing

    w = width
    encoder = layer(3, w, 9) + layer(w, 2 * w, 3) + layer(2 * w, 4 * w, 3)
    decoder = layer(4 * w, 2 * w, 3) + layer(2 * w, w, 3) + w * 3 * 81 + 3
    return encoder + blocks * 2 * layer(4 * w, 4 * w, 3) + decoder


@pytest.mark.parametrize(("width", "blocks"), [(32, 5), (16, 5), (4, 0)])
def test_has_the_parameters_of_the_paper(width, blocks):
    assert count_parameters(ResnetGenerator(width=width, blocks=blocks)) == parameters_by_hand(width, blocks)


@pytest.mark.parametrize("arguments", [{"width": 0}, {"blocks": -1}])
def test_refuses_what_cannot_be_built(arguments):
    (name, value), *_ = arguments.items()
    with pytest.raises(ValueError, match=rf"generator\.{name}={value}"):
        ResnetGenerator(**arguments)


class TestBlocks:
    def test_conv_norm_relu_gives_the_asked_mean_and_deviation_before_the_relu(self, noise):
        torch.manual_seed(0)
        block = ConvNormRelu(3, 4, 3)
        normalised = block[1](block[0](noise(2, 3, 16, 16)))
        torch.testing.assert_close(normalised.mean(dim=(2, 3)), torch.zeros(2, 4), rtol=0, atol=1e-5)
        torch.testing.assert_close(normalised.var(dim=(2, 3), correction=0), torch.ones(2, 4), rtol=1e-3, atol=0)

    def test_upsample_doubles_the_size_before_it_convolves(self, noise):
        torch.manual_seed(0)
        block = Upsample(4, 2)
        features = noise(1, 4, 5, 6)
        doubled = features.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        torch.testing.assert_close(block(features), block[1](doubled))

    @given(height=st.integers(1, 30), width=st.integers(1, 30), multiple=st.integers(1, 8), least=st.integers(1, 20))
    def test_padding_reaches_the_next_multiple_and_repeats_the_edge(self, height, width, multiple, least):
        least = least * multiple
        picture = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(0))
        padded = pad_to_multiple(picture, multiple, minimum=least)
        expected = [max(least, next(n for n in range(side, side + 9) if n % multiple == 0)) for side in (height, width)]
        assert list(padded.shape[2:]) == expected
        rows = torch.arange(expected[0]).clamp(max=height - 1)
        columns = torch.arange(expected[1]).clamp(max=width - 1)
        assert torch.equal(padded, picture[:, :, rows][..., columns])


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_doubled_convolution_is_doubling_padding_and_convolution(noise, size):
    x, weight = noise(2, 3, *size).double(), noise(4, 3, 3, 3, seed=1).double()
    doubled = F.pad(F.interpolate(x, scale_factor=2, mode="nearest"), (1, 1, 1, 1), mode="reflect")
    torch.testing.assert_close(fused_upsample_conv2d(x, weight), F.conv2d(doubled, weight))


def test_doubled_convolution_has_the_gradients_that_differences_give(noise):
    x, weight = noise(1, 2, 3, 2).double().requires_grad_(), noise(2, 2, 3, 3, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(fused_upsample_conv2d, (x, weight))


@pytest.mark.parametrize(
    ("size", "kernel", "count"), [((9, 9), 9, 3), ((12, 17), 9, 3), ((7, 5), 3, 2), ((4, 4), 1, 1)]
)
def test_convolution_by_rows_is_the_convolution(noise, size, kernel, count):
    x, weight = noise(2, 5, *size).double(), noise(count, 5, kernel, kernel, seed=1).double()
    bias = noise(count, seed=2).double()
    torch.testing.assert_close(conv2d_by_rows(x, weight, bias), F.conv2d(x, weight, bias))
    torch.testing.assert_close(conv2d_by_rows(x, weight, None), F.conv2d(x, weight))


def test_convolution_by_rows_has_the_gradients_that_differences_give(noise):
    x, weight = noise(1, 2, 5, 4).double().requires_grad_(), noise(2, 2, 3, 3, seed=1).double().requires_grad_()
    bias = noise(2, seed=2).double().requires_grad_()
    assert torch.autograd.gradcheck(conv2d_by_rows, (x, weight, bias))


def test_the_last_layer_is_a_convolution_by_other_means(noise):
    """The same names, the same random start, the same result, in any memory format: files of earlier versions fit."""
    torch.manual_seed(0)
    ours = FewChannels(4, 3, 9)
    torch.manual_seed(0)
    stock = nn.Conv2d(4, 3, 9, padding=4, padding_mode="reflect")
    assert all(torch.equal(value, stock.state_dict()[name]) for name, value in ours.state_dict().items())
    x = noise(2, 4, 11, 14)
    torch.testing.assert_close(ours(x), stock(x), rtol=1e-5, atol=1e-5)
    laid_out = ours(x.contiguous(memory_format=torch.channels_last))
    assert laid_out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(laid_out, stock(x), rtol=1e-5, atol=1e-5)


def test_upsample_is_still_read_from_files_of_two_modules():
    """A doubling without weights, then the convolution: generators of earlier versions have these names."""
    assert list(Upsample(4, 2).state_dict()) == ["1.0.weight", "1.1.weight", "1.1.bias"]


def test_recomputing_changes_no_gradient_and_keeps_less(noise):
    torch.manual_seed(0)
    generator, saved = ResnetGenerator(width=4, blocks=2), {}
    gradients = {}
    for recompute in (False, True):
        generator.recompute, sizes = recompute, []
        generator.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            result = generator(noise(2, 3, 32, 32))
        saved[recompute] = sum(sizes)
        result.square().sum().backward()
        gradients[recompute] = [parameter.grad.clone() for parameter in generator.parameters()]
    assert all(torch.equal(first, two) for first, two in zip(*gradients.values(), strict=True))
    assert saved[True] < 0.2 * saved[False]


@pytest.mark.parametrize("height", [64, 129, 132, 133, 200])
def test_few_channels_without_gradients_are_those_with_them(noise, height, monkeypatch):
    """Without, tall pictures are done band by band."""
    monkeypatch.setattr(blocks, "_WHOLE", 0)
    monkeypatch.setattr(blocks, "_BAND", 0)
    network = FewChannels(4, 3, 9)
    x = noise(2, 4, height, 11)
    with torch.no_grad():
        banded = network(x)
    torch.testing.assert_close(banded, network(x))


@pytest.mark.parametrize("height", [65, 96, 97, 131])
@pytest.mark.parametrize("stride", [1, 2])
def test_without_gradients_a_convolution_goes_through_tall_pictures_in_bands(noise, height, stride, monkeypatch):
    monkeypatch.setattr(blocks, "_WHOLE", 0)
    monkeypatch.setattr(blocks, "_BAND", 0)
    convolution, x = ReflectedConv2d(4, 5, 3, stride), noise(2, 4, height, 6)
    with torch.no_grad():
        in_bands = convolution(x)
    torch.testing.assert_close(in_bands, convolution(x))


def test_a_large_pictures_statistics_are_exact_and_it_is_written_over(noise):
    """Sums of squares over so many pixels in float32 would be off by a level of 256."""
    x = (1.5 + 0.3 * noise(1, 3, 700, 500)).to(memory_format=torch.channels_last)
    expected = F.instance_norm(x.double(), eps=1e-5).float()
    with torch.no_grad():
        result = instance_norm(x, torch.ones(3), torch.zeros(3))
    torch.testing.assert_close(result, expected, rtol=0, atol=3e-5)
    assert result.data_ptr() == x.data_ptr()
