"""A library of styles for real time: all of the network's work is done at a quarter and at half of the resolution."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.models.blocks import ConditionalInstanceNorm, Norm
from gan_style.models.generator import DOWNSAMPLING
from gan_style.models.library import LibraryGenerator


class MobileGenerator(LibraryGenerator):
    """A library whose first layer takes patches and whose last ones give them (pixel shuffle, Shi et al. 2016).

    No layer works at full resolution. A convolution of stride 4 makes 4 ``width`` channels at a quarter, the residual
    blocks are a library's, and each pixel at half resolution becomes 2 x 2 colours.
    """

    def __init__(
        self,
        *,
        width: int = 16,
        blocks: int = 4,
        output: str = "linear",
        tone: bool = True,
        styles: Sequence[str] = (),
    ) -> None:
        super().__init__(width=width, blocks=blocks, output=output, tone=tone, styles=styles)
        norm = partial(ConditionalInstanceNorm, styles=len(styles) + 1)
        self.encoder = nn.Sequential(PatchConvolution(3, 4 * width, norm))
        self.decoder = nn.Sequential(ShuffleUpsample(4 * width, width, norm), ShuffledColours(width))


class PatchConvolution(nn.Module):
    """A convolution over 12 x 12 pixels with stride 4, normalisation, ReLU: (N, in, H, W) to (N, out, H/4, W/4)."""

    def __init__(self, incoming: int, outgoing: int, norm: Norm) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            incoming, outgoing, 3 * DOWNSAMPLING, DOWNSAMPLING, DOWNSAMPLING, padding_mode="reflect", bias=False
        )
        self.norm = norm(outgoing)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return F.relu(self.norm(self.convolution(x), condition))


class ShuffleUpsample(nn.Module):
    """A 3x3 convolution to four channels for each, which become 2 x 2 pixels: (N, in, H, W) to (N, out, 2H, 2W).

    The four begin as copies of one filter, as if the picture were doubled (Aitken et al. 2017): no checkerboard.
    """

    def __init__(self, incoming: int, outgoing: int, norm: Norm) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(incoming, 4 * outgoing, 3, padding=1, padding_mode="reflect", bias=False)
        self.norm = norm(outgoing)
        _alike_in_fours(self.convolution)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return F.relu(self.norm(F.pixel_shuffle(self.convolution(x), 2), condition))


class ShuffledColours(nn.Module):
    """A 3x3 convolution whose results are the colours of 2 x 2 pixels: (N, in, H, W) to (N, 3, 2H, 2W)."""

    def __init__(self, incoming: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(incoming, 12, 3, padding=1, padding_mode="reflect")
        _alike_in_fours(self.convolution)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.convolution(x), 2)


def _alike_in_fours(convolution: nn.Conv2d) -> None:
    """Give the four outputs that pixel shuffle makes neighbours of one filter."""
    weight = convolution.weight.data
    weight.copy_(weight[::4].repeat_interleave(4, dim=0))
