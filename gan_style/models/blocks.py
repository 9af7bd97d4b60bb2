"""Building blocks shared by the networks."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class InstanceNorm(nn.Module):
    """Instance normalisation (Ulyanov et al. 2016) with a learned scale and shift, (N, C, H, W) to the same.

    As group normalisation with one channel a group: the same numbers, and, unlike torch's own instance normalisation,
    it stays in channels_last, which makes the generator's step on a CPU about a third faster.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, len(self.weight), self.weight, self.bias)


class ConvNormRelu(nn.Sequential):
    """Reflection padding, convolution, instance normalisation, ReLU: (N, in, H, W) to (N, out, H/stride, W/stride)."""

    def __init__(self, incoming: int, outgoing: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(incoming, outgoing, kernel, stride, kernel // 2, padding_mode="reflect", bias=False),
            InstanceNorm(outgoing),
            nn.ReLU(),
        )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity, no ReLU after the sum (Johnson et al. 2016, supplement, section 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNormRelu(channels, channels, 3)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=False)
        self.norm = InstanceNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.second(self.first(x)))


class Upsample(nn.Sequential):
    """Nearest-neighbour doubling, then a convolution: no checkerboards (Odena et al. 2016)."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        super().__init__(nn.Upsample(scale_factor=2, mode="nearest"), ConvNormRelu(incoming, outgoing, 3))


def pad_to_multiple(images: Tensor, multiple: int, *, minimum: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples and no less than the minimum."""
    height, width = images.shape[-2:]
    below, right = (max(minimum, -(-side // multiple) * multiple) - side for side in (height, width))
    return F.pad(images, (0, right, 0, below), mode="replicate") if below or right else images


def count_parameters(network: nn.Module) -> int:
    """How many numbers the network learns."""
    return sum(parameter.numel() for parameter in network.parameters())
