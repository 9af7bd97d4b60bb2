"""AdaIN's pipeline for whole folders, as stylize-datasets runs it: what bench_make_dataset.py compares with.

Huang and Belongie 2017, sections 5 and 6: VGG-19 to relu4_1, its features' moments set to the style's, and the
mirrored decoder; reflection padding throughout, nearest up-sampling. One picture at a time, a style at random for each,
at 512 px, encoded anew; NCHW, float32. Weights are random, on which speed does not depend.
"""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

_ENCODER: Sequence[int | str] = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, 256, "pool", 512)
_DECODER: Sequence[int | str] = (256, "double", 256, 256, 256, 128, "double", 128, 64, "double", 64, 3)


def _network(incoming: int, layers: Iterable[int | str]) -> nn.Sequential:
    steps: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, int):
            steps += [nn.ReflectionPad2d(1), nn.Conv2d(incoming, layer, 3), nn.ReLU()]
            incoming = layer
        else:
            steps.append(nn.MaxPool2d(2, ceil_mode=True) if layer == "pool" else nn.Upsample(scale_factor=2))
    return nn.Sequential(*steps)


def _adain(content: Tensor, style: Tensor) -> Tensor:
    """Equation 8."""
    (deviation, mean), (wanted, middle) = (torch.std_mean(x, dim=(2, 3), keepdim=True) for x in (content, style))
    return (content - mean) / (deviation + 1e-5) * wanted + middle


class Pipeline:
    """Picture files to picture files, one after the other."""

    def __init__(self, styles: Sequence[Path]) -> None:
        torch.manual_seed(0)
        self.styles, self.random = styles, random.Random(0)
        self.encoder = nn.Sequential(nn.Conv2d(3, 3, 1), *_network(3, _ENCODER)).eval()
        self.decoder = _network(512, _DECODER)[:-1].eval()  # its last convolution has no ReLU

    @torch.no_grad()
    def __call__(self, source: Path, target: Path) -> None:
        content, style = _read(source, None), _read(self.random.choice(self.styles), 512)
        pixels = self.decoder(_adain(self.encoder(content), self.encoder(style)))[0]
        picture = pixels.mul(255).add(0.5).clamp(0, 255).permute(1, 2, 0).to(torch.uint8).numpy()
        Image.fromarray(picture).save(target)


def _read(path: Path, short_side: int | None) -> Tensor:
    with Image.open(path) as file:
        picture = file.convert("RGB")
    if short_side is not None:
        scale = short_side / min(picture.size)
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR
        )
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().div(255)[None]
