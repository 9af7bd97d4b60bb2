"""What turns content into results: a library by its own strength, a generator of one style by blending pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


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
    """A generator of one style; what it makes is blended with its content, as choices.BLEND says.

    in_tiles: what runs the generator tile by tile.
    """

    name: str
    sha256: str
    generator: nn.Module
    precision: torch.dtype
    in_tiles: Callable[[nn.Module, Tensor], Tensor]

    def __call__(self, content: Tensor, *, tiled: bool = False) -> Callable[[Tensor], Tensor]:
        with torch.autocast(content.device.type, self.precision, enabled=self.precision != torch.float32):
            if tiled:
                result = self.in_tiles(self.generator, content)
            else:
                result = self.generator(content.contiguous(memory_format=torch.channels_last)).float()

        def at(strengths: Tensor) -> Tensor:
            share = strengths.to(content).view(-1, 1, 1, 1)
            if tiled:
                return torch.lerp(content, result, share)
            return result * share + content * (1.0 - share)

        return at


@dataclass(frozen=True)
class OfLibrary:
    """One style of a library, at the strength that it was trained for; number: the style's.

    in_tiles: what runs the generator tile by tile, (generator, pictures, condition).
    """

    name: str
    sha256: str
    generator: nn.Module
    number: int
    count: int
    precision: torch.dtype
    in_tiles: Callable[[nn.Module, Tensor, Tensor], Tensor]

    def __call__(self, content: Tensor, *, tiled: bool = False) -> Callable[[Tensor], Tensor]:
        def at(strengths: Tensor) -> Tensor:
            condition = content.new_zeros(len(content), self.count)
            condition[:, self.number] = strengths
            with torch.autocast(content.device.type, self.precision, enabled=self.precision != torch.float32):
                if tiled:
                    return self.in_tiles(self.generator, content, condition)
                result: Tensor = self.generator(content.contiguous(memory_format=torch.channels_last), condition)
                return result.float()

        return at


@dataclass(frozen=True)
class OfReference:
    """The style of a picture; library: gives a library of that style alone, when it is wanted."""

    name: str
    sha256: str
    library: Callable[[], nn.Module]
    precision: torch.dtype
    in_tiles: Callable[[nn.Module, Tensor, Tensor], Tensor]

    def __call__(self, content: Tensor, *, tiled: bool = False) -> Callable[[Tensor], Tensor]:
        single = OfLibrary(self.name, self.sha256, self.library(), 0, 1, self.precision, self.in_tiles)
        return single(content, tiled=tiled)


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
            with torch.autocast(content.device.type, self.precision, enabled=self.precision != torch.float32):
                pictures = zip(content.split(1), strengths.tolist(), regions, strict=True)
                return torch.cat([self.paint(image, strength, part, tiled) for image, strength, part in pictures])

        return at
