"""3x3 convolutions in float32 on CPUs with half the multiplications: Winograd's F(4, 3), applied to columns of four."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# From this many channels (the fewer of both sides, the more of both) and values of a sample on, half the
# multiplications outweigh more additions.
_FEWER, _MORE, _VALUES = 64, 80, 2**16
_KERNELS_FROM_ROWS = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)


class Convolution3x3:
    """A 3x3 convolution with padding by zeros and weights (O, C, 3, 3), by Winograd's sums where these are faster.

    Of four rows of the result, each of the six sums of rows that they need is convolved with a kernel that is one row
    high (Winograd 1980; Lavin and Gray 2016, "Fast algorithms for convolutional neural networks"): 6 kernels of 3
    weights in place of 4 times 9. The rounding is about twice as large as that of the sums themselves. The kernels are
    made once for an object: where weights change, make one for each pass.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, padding: int = 0) -> None:
        self.weight, self.bias, self.padding = weight, bias, padding

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W) to (N, O, H + 2 padding - 2, W + 2 padding - 2)."""
        if self._is_faster_by_rows(x):
            return self.by_rows(x)
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)

    def by_rows(self, x: Tensor) -> Tensor:
        """Convolve by Winograd's sums. The bias is taken for a constant: it gets no gradient."""
        result: Tensor = _ConvolveByRows.apply(x, self.weight, self)
        return result

    def _is_faster_by_rows(self, x: Tensor) -> bool:
        if not x.is_cpu or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
            return False
        if not x.dtype == self.weight.dtype == torch.float32 or not torch.backends.mkldnn.is_available():
            return False
        fewer, more = sorted(self.weight.shape[:2])
        constant_bias = self.bias is None or not self.bias.requires_grad
        return constant_bias and fewer >= _FEWER and more >= _MORE and x[0].numel() >= _VALUES

    @cached_property
    def kernels(self) -> list[Tensor]:
        """Make the six kernels, each (O, C, 1, 3)."""
        rows = self.weight.detach().permute(2, 0, 3, 1)  # (3, O, 3, C): kernels come out in channels_last
        kernels = torch.tensordot(rows.new_tensor(_KERNELS_FROM_ROWS), rows, dims=1)
        return [kernel.transpose(1, 2)[:, :, None] for kernel in kernels]

    @cached_property
    def adjoint(self) -> "Convolution3x3":
        """Make the convolution that takes the gradient of the result to that of the input."""
        return Convolution3x3(self.weight.detach().flip(2, 3).transpose(0, 1), padding=2 - self.padding)


class _ConvolveByRows(torch.autograd.Function):
    """The convolution, with gradients for the input and the weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, convolution: Convolution3x3) -> Tensor:
        ctx.convolution = convolution
        ctx.save_for_backward(*((x, weight) if ctx.needs_input_grad[1] else ()))
        return _convolve(x, convolution)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        needs_input, needs_weight, _ = ctx.needs_input_grad
        if not needs_weight:
            return ctx.convolution.adjoint.by_rows(gradient), None, None
        x, weight = ctx.saved_tensors
        by_rows = needs_input and not torch.is_grad_enabled()  # a gradient of this gradient needs the weights in it
        input_gradient, weight_gradient, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, [1, 1], [ctx.convolution.padding] * 2, [1, 1], False, [0, 0], 1,
            [needs_input and not by_rows, True, False],
        )  # fmt: skip
        if by_rows:
            input_gradient = ctx.convolution.adjoint.by_rows(gradient)
        return input_gradient, weight_gradient, None


def _convolve(x: Tensor, convolution: Convolution3x3) -> Tensor:
    side, height = convolution.padding, x.shape[2] + 2 * convolution.padding - 2
    missing = -height % 4
    if side or missing:
        x = F.pad(x, (0, 0, side, side + missing))
    a, b, c, d, e, f = (x[:, :, row : x.shape[2] - 5 + row : 4] for row in range(6))

    # Six sums of rows, each convolved as soon as it is there. The second is in each row of the result once, as is the
    # bias that goes with it.
    def part(number: int, rows: Tensor) -> Tensor:
        bias = convolution.bias if number == 1 else None
        return F.conv2d(rows, convolution.kernels[number], bias, padding=(0, side))

    first = part(0, torch.add(e, c, alpha=-5).add_(a, alpha=4))
    last = part(5, torch.add(f, d, alpha=-5).add_(b, alpha=4))
    even, odd = torch.add(e, c, alpha=-4), torch.add(d, b, alpha=-4)
    second, third = part(1, even + odd), part(2, even.sub_(odd))
    even, odd = e - c, d - b
    fourth, fifth = part(3, torch.add(even, odd, alpha=2)), part(4, even.sub_(odd, alpha=2))

    # The result's rows.
    shape = (len(x), first.shape[1], height + missing, first.shape[3])
    result = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    rows = [result[:, :, row::4] for row in range(4)]
    near, far = second + third, fourth + fifth
    torch.add(near, far, out=rows[0]).add_(first)
    torch.add(near, far, alpha=4, out=rows[2])
    near, far = second.sub_(third), fourth.sub_(fifth)
    torch.add(near, far, alpha=2, out=rows[1])
    torch.add(near, far, alpha=8, out=rows[3]).add_(last)
    return result[:, :, :height].clone() if missing else result  # no view: a ReLU may write over it
