"""Wide convolutions: the same sums as torch's, and the same gradients."""

import pytest
import torch
from torch.nn import functional as F

from gan_style.models.winograd import WideConvolution


@pytest.mark.parametrize("height", [1, 4, 6, 7, 13])
@pytest.mark.parametrize("with_bias", [True, False])
def test_is_the_convolution_at_any_height(noise, height, with_bias):
    x, weight = noise(2, 3, height, 5).double(), noise(4, 3, 3, 3, seed=1).double()
    bias = noise(4, seed=2).double() if with_bias else None
    result = WideConvolution(weight, bias)(x)
    torch.testing.assert_close(result, F.conv2d(x, weight, bias, padding=1))
    assert not result._is_view()  # a ReLU may write over it


def test_has_the_gradients_that_differences_give(noise):
    x, weight = noise(1, 2, 6, 3).double().requires_grad_(), noise(3, 2, 3, 3, seed=1).double()
    assert torch.autograd.gradcheck(WideConvolution(weight, noise(3).double()), x)
    assert torch.autograd.gradgradcheck(WideConvolution(weight, noise(3).double()), x)


def test_rounds_little_more_than_the_convolution_in_float32_and_keeps_the_layout(noise):
    x, weight = noise(1, 256, 9, 8).to(memory_format=torch.channels_last), noise(256, 256, 3, 3, seed=1) / 48
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    result, direct = WideConvolution(weight, None)(x), F.conv2d(x, weight, padding=1)
    assert result.is_contiguous(memory_format=torch.channels_last)
    off = [(values - exact).square().mean().sqrt() for values in (result, direct)]
    assert off[0] < 5 * off[1] and off[0] < 1e-5 * exact.std()


def test_suits_wide_frozen_weights_in_float32_alone():
    suited = torch.zeros(256, 256, 3, 3)
    assert WideConvolution.suits(suited)
    assert not any(WideConvolution.suits(weight) for weight in (suited[:128], suited[:, :128], suited.bfloat16()))
    assert not WideConvolution.suits(suited.requires_grad_())
