"""The networks of a worker: what turns content into results, and what tells how much of its photo each result keeps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gan_style.evaluation.metrics import MIN_SIZE, structure
from gan_style.losses.content import content_loss
from gan_style.models.perceptual import compact
from gan_style.runtime.device import move_to

Scores = dict[str, list[float]]


class StrengthStylizer(Protocol):
    """name: for the manifest; sha256: of the file that it comes from."""

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    def __call__(self, content: Tensor, *, tiled: bool = False) -> Callable[[Tensor], Tensor]:
        """(N, 3, H, W) in [-1, 1] to a function of strengths (N,) in [0, 1] that gives results of the same shape.

        tiled: with less memory, in more time, the same but for rounding.
        """


@dataclass(frozen=True)
class Blend:
    """A generator of one style; what it makes is blended with its content, as sampling.BLEND says.

    in_tiles: what runs the generator tile by tile.
    """

    name: str
    sha256: str
    generator: nn.Module
    precision: torch.dtype
    in_tiles: Callable[[nn.Module, Tensor], Tensor]

    def __call__(self, content: Tensor, *, tiled: bool = False) -> Callable[[Tensor], Tensor]:
        with _autocast(content, self.precision):
            if tiled:
                result = self.in_tiles(self.generator, content)
            else:
                result = self.generator(content.contiguous(memory_format=torch.channels_last)).float()

        def at(strengths: Tensor) -> Tensor:
            share = strengths.to(content).view(-1, 1, 1, 1)
            return torch.lerp(content, result, share)

        return at


@dataclass(frozen=True)
class OfLibrary:
    """One style of a library, at the strength that it was trained for; number: the style's, of so many.

    library: gives the library when it is wanted, since that of a picture's style is made by looking at the picture;
    in_tiles: what runs it tile by tile, (generator, pictures, condition).
    """

    name: str
    sha256: str
    library: Callable[[], nn.Module]
    number: int
    count: int
    precision: torch.dtype
    in_tiles: Callable[[nn.Module, Tensor, Tensor], Tensor]

    def __call__(self, content: Tensor, *, tiled: bool = False) -> Callable[[Tensor], Tensor]:
        generator = self.library()

        def at(strengths: Tensor) -> Tensor:
            condition = content.new_zeros(len(content), self.count)
            condition[:, self.number] = strengths
            with _autocast(content, self.precision):
                if tiled:
                    return self.in_tiles(generator, content, condition)
                result: Tensor = generator(content.contiguous(memory_format=torch.channels_last), condition)
                return result.float()

        return at


@dataclass(frozen=True)
class InRegions:
    """Styles in regions of the picture, whose results are those of ``gan-style stylize``; name: the styles'.

    paint: one picture, (1, 3, H, W) in [-1, 1], at a strength, in its regions, tiled or not; to the same shape.
    """

    name: str
    sha256: str
    paint: Callable[[Tensor, float, Any, bool], Tensor]
    precision: torch.dtype

    def __call__(
        self, content: Tensor, *, tiled: bool = False, regions: Sequence[Any] = ()
    ) -> Callable[[Tensor], Tensor]:
        def at(strengths: Tensor) -> Tensor:
            with _autocast(content, self.precision):
                pictures = zip(content.split(1), strengths.tolist(), regions, strict=True)
                return torch.cat([self.paint(image, strength, part, tiled) for image, strength, part in pictures])

        return at


def _autocast(content: Tensor, precision: torch.dtype) -> torch.autocast:
    return torch.autocast(content.device.type, precision, enabled=precision != torch.float32)


def structure_scores(result: Tensor, content: Tensor) -> Scores:
    """How far edges agree, at most 1, one for each of (N, 3, H, W) in [-1, 1]; NaN where pictures are too small."""
    if min(result.shape[-2:]) < MIN_SIZE:
        return {"structure": [float("nan")] * len(result)}
    return {"structure": structure(result, content).tolist()}


def make_score(kind: str, device: Any) -> Callable[[Tensor, Tensor], Scores] | None:
    """structure: 1 where all edges stay; full: the content distance, too: content_loss on compact's features, mean over
    layers.
    """
    if kind != "full":
        return structure_scores if kind == "structure" else None
    layers = ["relu2_1", "relu3_1"]
    perceptual = move_to(compact(layers=layers), device)

    @torch.no_grad()
    def score(result: Tensor, content: Tensor) -> Scores:
        distances = [float("nan")] * len(result)
        if min(result.shape[-2:]) >= MIN_SIZE:
            features, targets = (perceptual(images, layers) for images in (result, content))
            for n in range(len(result)):
                losses = [content_loss(features[name][n : n + 1], targets[name][n : n + 1]) for name in layers]
                distances[n] = float(torch.stack(losses).mean())
        return {"content_distance": distances, **structure_scores(result, content)}

    return score
