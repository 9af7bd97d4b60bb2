"""3x3 convolutions of many channels with half the multiplications: Winograd's F(4, 3), applied to columns of four."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_WIDE = 256  # channels, from which half the multiplications outweigh more additions


class WideConvolution:
    """A 3x3 convolution in float32 with padding by zeros and frozen weights (O, C, 3, 3) on a CPU.

    Of four rows of the result, each of the six sums of rows that they need is convolved with a kernel that is one row
    high (Winograd 1980; Lavin and Gray 2016, "Fast algorithms for convolutional neural networks"): 6 kernels of 3
    weights in place of 4 times 9. The rounding is about twice as large as that of the sums themselves.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.bias = bias
        self.kernels, self.adjoint = _kernels(weight), _kernels(weight.flip(2, 3).transpose(0, 1))

    @staticmethod
    def suits(weight: Tensor) -> bool:
        """Return whether a convolution with this weight is faster like this."""
        wide = min(weight.shape[:2]) >= _WIDE and weight.dtype == torch.float32 and not weight.requires_grad
        return weight.is_cpu and wide and torch.backends.mkldnn.is_available()

    def __call__(self, x: Tensor) -> Tensor:
        result: Tensor = _Convolve.apply(x, self.kernels, self.adjoint, self.bias)
        return result


class _Convolve(torch.autograd.Function):
    """The convolution, whose gradient is the one with the flipped and transposed weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: list[Tensor], adjoint: list[Tensor], bias: Tensor | None) -> Tensor:
        ctx.kernels, ctx.adjoint = kernels, adjoint
        return _convolve(x, kernels, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _Convolve.apply(gradient, ctx.adjoint, ctx.kernels, None), None, None, None


def _kernels(weight: Tensor) -> list[Tensor]:
    a, b, c = weight.double().unbind(2)
    odd, far = (a + c) / 6, a / 24 + c / 6
    kernels = (a / 4, -odd - b / 6, -odd + b / 6, far + b / 12, far - b / 12, c)
    return [rows[:, :, None].to(weight.dtype).contiguous(memory_format=torch.channels_last) for rows in kernels]


def _convolve(x: Tensor, kernels: list[Tensor], bias: Tensor | None) -> Tensor:
    height = x.shape[2]
    x = F.pad(x, (0, 0, 1, 1 + -height % 4))
    a, b, c, d, e, f = (x[:, :, row : x.shape[2] - 5 + row : 4] for row in range(6))

    # Six sums of rows, each convolved as soon as it is there. The second is in each row of the result once, as is the
    # bias that goes with it.
    def part(number: int, rows: Tensor) -> Tensor:
        return F.conv2d(rows, kernels[number], bias if number == 1 else None, padding=(0, 1))

    first = part(0, torch.add(e, c, alpha=-5).add_(a, alpha=4))
    last = part(5, torch.add(f, d, alpha=-5).add_(b, alpha=4))
    even, odd = torch.add(e, c, alpha=-4), torch.add(d, b, alpha=-4)
    second, third = part(1, even + odd), part(2, even.sub_(odd))
    even, odd = e - c, d - b
    fourth, fifth = part(3, torch.add(even, odd, alpha=2)), part(4, even.sub_(odd, alpha=2))

    # The result's rows.
    result = x.new_empty(len(x), len(kernels[0]), x.shape[2] - 2, x.shape[3])
    result = result.contiguous(memory_format=torch.channels_last)
    rows = [result[:, :, row::4] for row in range(4)]
    near, far = second + third, fourth + fifth
    torch.add(near, far, out=rows[0]).add_(first)
    torch.add(near, far, alpha=4, out=rows[2])
    near, far = second.sub_(third), fourth.sub_(fifth)
    torch.add(near, far, alpha=2, out=rows[1])
    torch.add(near, far, alpha=8, out=rows[3]).add_(last)
    return result if result.shape[2] == height else result[:, :, :height].clone()  # no view: a ReLU may write over it
