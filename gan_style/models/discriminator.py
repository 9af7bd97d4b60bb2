"""Discriminators: (N, 3, H, W) in [-1, 1] to maps of logits, one map for each scale."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

# Receptive field in pixels -> convolutions of stride 2, for kernels of 4 and two closing layers of stride 1.
_STRIDED_LAYERS = {16: 1, 34: 2, 70: 3, 142: 4}


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017) with spectral normalisation (Miyato et al. 2018) and no batch statistics.

    receptive_field: of one logit, in pixels: 16, 34, 70 or 142; width: channels of the first layer; scales: how many
    copies look at the picture at full, half, quarter ... size (Wang et al. 2018, pix2pixHD); styles: how many it tells
    apart, by projection (Miyato and Koyama 2018, equation 7, at each position), 0 for none: then it is told of none.
    """

    def __init__(self, *, receptive_field: int = 70, width: int = 64, scales: int = 1, styles: int = 0) -> None:
        super().__init__()
        if receptive_field not in _STRIDED_LAYERS:
            allowed = ", ".join(map(str, _STRIDED_LAYERS))
            raise ValueError(f"discriminator.receptive_field={receptive_field}; allowed are {allowed}")
        if width < 1 or scales < 1:
            raise ValueError(f"discriminator.width={width}, discriminator.scales={scales}: both from 1")
        self.smallest = receptive_field * 2 ** (scales - 1)
        strided = _STRIDED_LAYERS[receptive_field]
        self.by_scale = nn.ModuleList(_patch_network(strided, width) for _ in range(scales))
        inner = width * min(2**strided, 8)
        self.embeddings = nn.ModuleList(
            spectral_norm(nn.Linear(styles, inner, bias=False)) for _ in range(scales if styles else 0)
        )

    def forward(self, images: Tensor, styles: Tensor | None = None) -> list[Tensor]:
        """Return logits, (N, 1, h, w) for each scale, the full one first; styles: (N, K), the share of each style."""
        logits = []
        for number, network in enumerate(self.by_scale):
            if number:
                images = F.avg_pool2d(images, 2)
            *inner, last = network.children()
            features = images
            for layer in inner:
                features = layer(features)
            logits.append(last(features))
            if styles is not None and self.embeddings:
                embedded = self.embeddings[number](styles)[..., None, None]
                agreement = (features * embedded).sum(dim=1, keepdim=True)
                logits[-1] = logits[-1] + F.avg_pool2d(agreement, 4, 1, 1, count_include_pad=False)
        return logits


def _patch_network(strided: int, width: int) -> nn.Sequential:
    widths = [3, *(width * min(2**i, 8) for i in range(strided + 1))]
    layers: list[nn.Module] = []
    for number, (incoming, outgoing) in enumerate(pairwise(widths)):
        stride = 2 if number < strided else 1
        layers += [spectral_norm(nn.Conv2d(incoming, outgoing, 4, stride, 1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 4, 1, 1)))
