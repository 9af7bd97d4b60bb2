"""Building blocks shared by the networks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from gan_style.functional import RunningMoments
from gan_style.models.winograd import Convolution3x3

_WHOLE, _BAND, _LEAST_ROWS = 2**21, 2**14, 32  # values up to which there is one band; pixels and rows of a band
_ROWS = 4  # of a result that conv2d_by_rows computes side by side
_SUMMED = 2**14  # pixels whose values are summed in float32
EPSILON = 1e-5  # what keeps a flat channel's normalisation finite


class _InstanceNormOnCpu(torch.autograd.Function):
    """Instance normalisation with gradients, as batch normalisation of one sample after the other.

    The same numbers as group normalisation with one channel a group, whose backward pass in channels_last is up to
    40 times as slow in bfloat16, and 3 to 7 times in float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        result, mean, inverse = torch.empty_like(x), torch.empty_like(scale), torch.empty_like(scale)
        for n, sample in enumerate(x.split(1)):
            torch.ops.aten.native_batch_norm.out(
                sample, scale[n], shift[n], None, None, True, 0.0, EPSILON,
                out=result[n : n + 1], save_mean=mean[n], save_invstd=inverse[n],
            )  # fmt: skip
        ctx.save_for_backward(x, scale, mean, inverse)
        return result

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, scale, mean, inverse = ctx.saved_tensors
        layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        gradient = gradient.contiguous(memory_format=layout)
        of_x, of_scale, of_shift = torch.empty_like(x), torch.empty_like(scale), torch.empty_like(scale)
        for n, sample in enumerate(x.split(1)):
            torch.ops.aten.native_batch_norm_backward.out(
                gradient[n : n + 1], sample, scale[n], None, None, mean[n], inverse[n], True, EPSILON, [True] * 3,
                out0=of_x[n : n + 1], out1=of_scale[n], out2=of_shift[n],
            )  # fmt: skip
        return of_x, of_scale, of_shift


def _normalise_in_place(x: Tensor, scale: Tensor, shift: Tensor) -> None:
    """Write x, (N, C, H, W), normalised over itself; scale, shift: (N, C), in float32 where x is bfloat16 or float16.

    Means and variances are those of bands of rows, merged in float64: sums over millions of pixels in float32 lose a
    level of 256.
    """
    height, width = x.shape[2:]
    rows = max(1, _SUMMED // width)
    for n, sample in enumerate(x.split(1)):
        mean, variance = None, None  # the kernel's own, where there is one band
        if height > rows:
            moments = RunningMoments()
            for band in sample.split(rows, dim=2):
                means, variances = torch.ops.aten.batch_norm_update_stats(band, None, None, 0.0)
                count = band.shape[2] * width
                moments.merge(count, means.double(), variances.double() * count)
            mean, variance = moments.mean.to(scale), moments.variance.to(scale)
        torch.ops.aten.native_batch_norm.out(
            sample, scale[n], shift[n], mean, variance, mean is None, 0.0, EPSILON,
            out=sample, save_mean=torch.empty_like(scale[n]), save_invstd=torch.empty_like(scale[n]),
        )  # fmt: skip


def instance_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Normalise each channel of each sample, then scale and shift it: x (N, C, H, W), scale and shift (C,) or (N, C).

    As group normalisation with one channel a group: the same numbers, and, unlike torch's own instance normalisation,
    it stays in channels_last, which makes the generator's step on a CPU about a third faster. On a CPU without
    gradients x itself is overwritten, which takes a third of the time and no memory.
    """
    count, channels = x.shape[:2]
    if x.is_cpu and not torch.compiler.is_compiling():
        scale_of_each, shift_of_each = (each.expand(count, channels).contiguous() for each in (scale, shift))
        if torch.is_grad_enabled():
            normalised: Tensor = _InstanceNormOnCpu.apply(x, scale_of_each, shift_of_each)
            return normalised
        if scale.dtype == torch.promote_types(x.dtype, torch.float32):
            _normalise_in_place(x, scale_of_each, shift_of_each)
            return x
    if scale.ndim == 1:
        return F.group_norm(x, channels, scale, shift, EPSILON)
    if count == 1:
        return F.group_norm(x, channels, scale[0], shift[0], EPSILON)
    scale, shift = (one.to(x.dtype)[..., None, None] for one in (scale, shift))
    return torch.addcmul(shift, F.group_norm(x, channels, eps=EPSILON), scale)


def pad(x: Tensor, side: int | tuple[int, int, int, int], mode: str) -> Tensor:
    """Pad in x's own type; autocast on a CPU would convert x to float32, and what was padded back.

    side: of all sides, or left, right, above and below.
    """
    sides = (side,) * 4 if isinstance(side, int) else side
    if x.is_cpu and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return F.pad(x, sides, mode=mode)
    return F.pad(x, sides, mode=mode)


def in_bands(x: Tensor, side: int, mode: str, convolve: Callable[[Tensor], Tensor]) -> Tensor:
    """Pad x, (N, C, H, W), by ``side`` and convolve it; on a CPU without gradients in bands of rows: less memory.

    convolve: from padded rows to rows of the result, half, as, or twice as many. Padded as a whole, x would be there
    twice, and what a convolution needs for its work may be as large as its result. Small pictures are one band: to put
    bands together takes time.
    """
    (height, width), result = x.shape[2:], None
    band_rows = max(_LEAST_ROWS, _BAND // width // 4 * 4)
    small = x[0].numel() <= _WHOLE or height <= 2 * band_rows
    if small or not x.is_cpu or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return convolve(pad(x, side, mode))
    tops = range(0, height - side, band_rows)  # the last band has rows enough to be reflected
    for top in tops:
        bottom = height if top == tops[-1] else top + band_rows
        edges = (side, side, side if top == 0 else 0, side if bottom == height else 0)
        band = convolve(pad(x[:, :, max(0, top - side) : bottom + side], edges, mode))
        if result is None:
            rows = band.shape[2]
            shape = (band.shape[0], band.shape[1], -(-height * rows // band_rows), band.shape[3])
            result = torch.empty(shape, dtype=band.dtype, device=band.device, memory_format=torch.channels_last)
        start = top * rows // band_rows
        result[:, :, start : start + band.shape[2]] = band
    assert result is not None
    return result


class ReflectedConv2d(nn.Conv2d):
    """A square convolution without a bias, with reflection padding: (N, in, H, W) to (N, out, H/stride, W/stride)."""

    def __init__(self, incoming: int, outgoing: int, kernel: int, stride: int = 1) -> None:
        super().__init__(incoming, outgoing, kernel, stride, kernel // 2, padding_mode="reflect", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (3, 3) and self.stride == (1, 1):
            return in_bands(x, 1, "reflect", Convolution3x3(self.weight))
        return in_bands(x, self.kernel_size[0] // 2, "reflect", lambda p: F.conv2d(p, self.weight, stride=self.stride))


class InstanceNorm(nn.Module):
    """Instance normalisation (Ulyanov et al. 2016) with a learned scale and shift, (N, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return instance_norm(x, self.weight, self.bias)


class ConditionalInstanceNorm(nn.Module):
    """Instance normalisation whose scale and shift are mixed from one row for each of K styles.

    Dumoulin et al. 2017, equation 5, with the mixtures of their section 3.4. condition: the share of each row, (N, K),
    or (N, K, h, w) of any size, scaled to x's, where the shares differ from place to place.
    """

    def __init__(self, channels: int, styles: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(styles, channels))
        self.bias = nn.Parameter(torch.zeros(styles, channels))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        assert condition is not None
        condition = condition.to(self.weight.dtype)
        if condition.ndim == 2:  # in full precision, whatever autocast makes of matrix products
            scale, shift = ((condition[..., None] * table).sum(dim=1) for table in (self.weight, self.bias))
            return instance_norm(x, scale, shift)
        shares = F.interpolate(condition, x.shape[-2:], mode="bilinear", antialias=True)
        scale, shift = (torch.einsum("nkhw,kc->nchw", shares, table) for table in (self.weight, self.bias))
        return torch.addcmul(shift.to(x.dtype), F.group_norm(x, x.shape[1]), scale.to(x.dtype))


Norm = Callable[[int], nn.Module]  # channels to a normalisation, called with x and the condition, if there is one


class ConvNormRelu(nn.Sequential):
    """Reflection padding, convolution, instance normalisation, ReLU: (N, in, H, W) to (N, out, H/stride, W/stride)."""

    def __init__(
        self, incoming: int, outgoing: int, kernel: int, *, stride: int = 1, norm: Norm = InstanceNorm
    ) -> None:
        super().__init__(
            ReflectedConv2d(incoming, outgoing, kernel, stride),
            norm(outgoing),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        convolution, norm, relu = self
        result: Tensor = relu(norm(convolution(x), condition))
        return result


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity, no ReLU after the sum (Johnson et al. 2016, supplement, section 1).

    It begins as the identity: the last normalisation's scale starts at 0 (Goyal et al. 2017, section 5.1). Started at
    1, each block adds features of unit variance whether there is a use for them or not; a generator of many styles
    learns to spend that variance on one place, a spike that grows from block to block, carries the statistics of all
    later normalisations and shows as a droplet (Karras et al. 2020, StyleGAN2, section 2; measured in docs/quality.md).
    """

    def __init__(self, channels: int, *, norm: Norm = InstanceNorm) -> None:
        super().__init__()
        self.first = ConvNormRelu(channels, channels, 3, norm=norm)
        self.second = ReflectedConv2d(channels, channels, 3)
        self.norm = norm(channels)
        assert isinstance(self.norm.weight, Tensor)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        change: Tensor = self.norm(self.second(self.first(x, condition)), condition)
        return x + change if torch.is_grad_enabled() else change.add_(x)


class Upsample(nn.Sequential):
    """Nearest-neighbour doubling, then a convolution: no checkerboards (Odena et al. 2016).

    Both are done in one (fused_upsample_conv2d).
    """

    def __init__(self, incoming: int, outgoing: int, *, norm: Norm = InstanceNorm) -> None:
        super().__init__(nn.Upsample(scale_factor=2, mode="nearest"), ConvNormRelu(incoming, outgoing, 3, norm=norm))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        inner = self[1]
        assert isinstance(inner, ConvNormRelu)
        convolution, norm, relu = inner
        assert isinstance(convolution, nn.Conv2d)
        result: Tensor = relu(norm(fused_upsample_conv2d(x, convolution.weight), condition))
        return result


def fused_upsample_conv2d(x: Tensor, weight: Tensor) -> Tensor:
    """Double by nearest neighbour, pad by 1 (reflection), convolve 3x3 at once: (N, C, H, W) to (N, O, 2H, 2W).

    weight: (O, C, 3, 3). The same sums, in 4/9 of the multiplications: of three neighbours in the doubled picture two
    are copies of one pixel, so that every result's even and odd rows and columns are 2x2 convolutions of the small one
    (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?"). Padding that reflects the
    doubled picture repeats the small one's edge.
    """
    every = _halves(_halves(weight, 2), 4)  # (odd column, odd row, O, C, 2, 2)
    kernels = every.flatten(0, 2).contiguous(memory_format=torch.channels_last)

    def convolve(padded: Tensor) -> Tensor:
        result = F.conv2d(padded, kernels).permute(0, 2, 3, 1).unflatten(3, (2, 2, len(weight)))
        rows = interleave(result) if torch.compiler.is_compiling() else _Interleave.apply(result)
        return rows.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)

    if torch.compiler.is_compiling():
        return convolve(_pad_by_edges(x))
    return in_bands(x, 1, "replicate", convolve)


def interleave(parts: Tensor) -> Tensor:
    """Put the even and the odd rows and columns where they belong: (N, H + 1, W + 1, 2, 2, O) to (N, H, 2, W, 2, O)."""
    height, width = parts.shape[1] - 1, parts.shape[2] - 1
    quarters = {
        (odd, column): parts[:, odd : odd + height, column : column + width, column, odd]
        for odd in (0, 1)
        for column in (0, 1)
    }
    if torch.compiler.is_compiling():
        rows = [torch.stack([quarters[odd, 0], quarters[odd, 1]], dim=3) for odd in (0, 1)]
        return torch.stack(rows, dim=2)
    result = parts.new_empty(len(parts), height, 2, width, 2, parts.shape[-1])
    for (odd, column), quarter in quarters.items():
        result[:, :, odd, :, column] = quarter
    return result


class _Interleave(torch.autograd.Function):
    """interleave, whose gradient autograd would sum from four arrays of zeros, each as large as its input."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor) -> Tensor:
        return interleave(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        count, height, _, width, _, channels = gradient.shape
        parts = gradient.new_zeros(count, height + 1, width + 1, 2, 2, channels)
        for odd in (0, 1):
            for column in (0, 1):
                parts[:, odd : odd + height, column : column + width, column, odd] = gradient[:, :, odd, :, column]
        return parts


def _pad_by_edges(x: Tensor) -> Tensor:
    """Repeat the first and last rows and columns once: (N, C, H, W) to (N, C, H + 2, W + 2).

    torch.compile up to 2.14 expects other strides of replication padding's backward pass than it has in channels_last.
    """
    x = torch.cat([x[:, :, :1], x, x[:, :, -1:]], dim=2)
    return torch.cat([x[..., :1], x, x[..., -1:]], dim=3)


def _halves(weight: Tensor, dim: int) -> Tensor:
    """Return three neighbours' weights at two pixels of the small picture: at even places, and at odd ones."""
    first, middle, last = weight.unbind(dim)
    even, odd = torch.stack([first, middle + last], dim), torch.stack([first + middle, last], dim)
    return torch.stack([even, odd])


class FewChannels(nn.Conv2d):
    """A square convolution with reflection padding and few output channels, (N, in, H, W) to (N, out, H, W)."""

    def __init__(self, incoming: int, outgoing: int, kernel: int) -> None:
        super().__init__(incoming, outgoing, kernel, padding=kernel // 2, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        side = self.kernel_size[0] // 2
        return in_bands(x, side, "reflect", lambda padded: conv2d_by_rows(padded, self.weight, self.bias))


def conv2d_by_rows(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve without padding, as sums over rows of the kernel: (N, C, H, W) to (N, O, H - k + 1, W - k + 1).

    weight: (O, C, k, k). With three output channels most of a CPU's vector lies idle. So the kernel's k rows become k
    times as many channels of a convolution that is one row high, and a second, whose weights are zeros and ones, takes
    each row from where it belongs and adds them: the same sums in less than half the time. Where the result's height
    allows, the second makes _ROWS of its rows at a time, side by side in its channels.
    """
    rows, places = weights_by_rows(weight)
    parts = F.conv2d(x, rows.contiguous(memory_format=torch.channels_last))
    count = 1 if (x.shape[2] - weight.shape[2] + 1) % _ROWS else _ROWS
    places = torch.cat([F.pad(places, (0, 0, row, count - 1 - row)) for row in range(count)])
    places = places.contiguous(memory_format=torch.channels_last)
    result = F.conv2d(parts, places, None if bias is None else bias.repeat(count), stride=(count, 1))
    by_row = result.permute(0, 2, 3, 1).unflatten(3, (count, len(weight))).transpose(2, 3)  # (N, H, rows, W, O)
    return by_row.flatten(1, 2).permute(0, 3, 1, 2)


def weights_by_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the weights of both convolutions: (O, C, k, k) to (k O, C, 1, k) and (O, k O, k, 1)."""
    count, _, kernel, _ = weight.shape
    rows = weight.permute(2, 0, 1, 3).reshape(kernel * count, -1, 1, kernel)
    channel, row = (torch.eye(side, dtype=weight.dtype, device=weight.device) for side in (count, kernel))
    return rows, torch.einsum("ij,kl->ikjl", channel, row).reshape(count, -1, kernel, 1)  # from channel (k, j), row l


def pad_to_multiple(images: Tensor, multiple: int, *, minimum: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples and no less than the minimum."""
    height, width = images.shape[-2:]
    below, right = (max(minimum, -(-side // multiple) * multiple) - side for side in (height, width))
    return F.pad(images, (0, right, 0, below), mode="replicate") if below or right else images


def count_parameters(network: nn.Module) -> int:
    """Count the numbers that the network learns."""
    return sum(parameter.numel() for parameter in network.parameters())
