"""Generators: (N, 3, H, W) in [-1, 1] to the same shape and range, for any H and W from 1 upward."""

import torch
from torch import Tensor, nn

from gan_style.models.blocks import ConvNormRelu, ResidualBlock, Upsample, pad_to_multiple

_DOWNSAMPLING = 4
_SMALLEST = 16  # below this the reflection padding of the innermost layers has nothing to reflect


class ResnetGenerator(nn.Module):
    """Residual encoder-decoder of Johnson et al. 2016 with instance normalisation (Ulyanov et al. 2016).

    Differs from Johnson et al. in that the two upsampling layers are resize-convolutions.

    width: channels at full resolution (twice as many at a half, four times at a quarter); blocks: residual blocks.
    """

    def __init__(self, *, width: int = 32, blocks: int = 5) -> None:
        super().__init__()
        if width < 1 or blocks < 0:
            raise ValueError(f"generator.width={width}, generator.blocks={blocks}: width from 1, blocks from 0")
        self.arguments = {"width": width, "blocks": blocks}
        self.encoder = nn.Sequential(
            ConvNormRelu(3, width, 9),
            ConvNormRelu(width, 2 * width, 3, stride=2),
            ConvNormRelu(2 * width, 4 * width, 3, stride=2),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(4 * width) for _ in range(blocks)))
        self.decoder = nn.Sequential(
            Upsample(4 * width, 2 * width),
            Upsample(2 * width, width),
            nn.Conv2d(width, 3, 9, padding=4, padding_mode="reflect"),
        )

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        x = pad_to_multiple(images, _DOWNSAMPLING, minimum=_SMALLEST)
        x = self.decoder(self.blocks(self.encoder(x)))
        return torch.tanh(x)[..., :height, :width]
