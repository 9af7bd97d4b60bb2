"""3x3 convolutions by Winograd's sums: the same numbers as torch's, and the same gradients."""

import pytest
import torch
from torch.nn import functional as F

from gan_style.models.winograd import Convolution3x3


@pytest.mark.parametrize("height", [1, 3, 4, 6, 7, 13])
@pytest.mark.parametrize(("padding", "with_bias"), [(1, True), (1, False), (0, False), (2, False)])
def test_is_the_convolution_at_any_height(noise, height, padding, with_bias):
    rows = height if padding else height + 2  # as many as the kernel has, at least
    x, weight = noise(2, 3, rows, 5).double(), noise(4, 3, 3, 3, seed=1).double()
    bias = noise(4, seed=2).double() if with_bias else None
    result = Convolution3x3(weight, bias, padding).by_rows(x)
    torch.testing.assert_close(result, F.conv2d(x, weight, bias, padding=padding))
    assert not result._is_view()  # a ReLU may write over it


@pytest.mark.parametrize("padding", [0, 1])
def test_has_the_gradients_that_differences_give(noise, padding):
    x, weight = noise(1, 2, 6, 5).double().requires_grad_(), noise(3, 2, 3, 3, seed=1).double()
    frozen = Convolution3x3(weight, noise(3).double(), padding)
    assert torch.autograd.gradcheck(frozen.by_rows, x) and torch.autograd.gradgradcheck(frozen.by_rows, x)

    def trained(x, weight):
        return Convolution3x3(weight, padding=padding).by_rows(x)

    weight.requires_grad_()
    assert torch.autograd.gradcheck(trained, (x, weight)) and torch.autograd.gradgradcheck(trained, (x, weight))


def test_rounds_little_more_than_the_convolution_in_float32_and_keeps_the_layout(noise):
    x, weight = noise(1, 256, 18, 16).to(memory_format=torch.channels_last), noise(256, 256, 3, 3, seed=1) / 48
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    result, direct = Convolution3x3(weight, padding=1)(x), F.conv2d(x, weight, padding=1)
    assert result.is_contiguous(memory_format=torch.channels_last)
    off = [(values - exact).square().mean().sqrt() for values in (result, direct)]
    assert 0 < off[0] < 5 * off[1] and off[0] < 1e-5 * exact.std()


def test_sums_by_rows_where_that_is_faster(noise, monkeypatch):
    used = []
    monkeypatch.setattr(Convolution3x3, "by_rows", lambda self, x: used.append(x.shape))

    def uses(x, outgoing=128, **options):
        used.clear()
        Convolution3x3(torch.zeros(outgoing, x.shape[1], 3, 3, **options))(x)
        return bool(used)

    large = torch.zeros(1, 128, 32, 32)
    assert uses(large) and uses(large, outgoing=64) and uses(large.expand(4, -1, -1, -1)[:, :96])
    assert not uses(large, outgoing=32) and not uses(large[..., :8])
    assert not uses(large.bfloat16(), dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert not uses(large)
