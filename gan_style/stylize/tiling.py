"""A picture of any size through a generator, tile by tile, with the result that the whole picture would have.

Instance normalisation needs statistics of the whole picture, and those of each layer depend on the layers before it. So
the network's stages (ResidualCoder.stages) are gone through one after the other, all tiles each time: for each of a
stage's normalisations once, to sum up its statistics, with those before it frozen; then once more to keep what the
stage makes, in a file where it is large. Each tile is taken with a margin wider than its stage can see, and the margin
of the result is dropped: so neighbours agree to rounding where they meet, and there is nothing to feather.

Where several styles meet, each has its statistics measured as if it had the picture to itself; frozen, a normalisation
is a scale and a shift for each channel, and these are mixed by the masks. So deep inside its mask a style's result is
that of the whole picture in this style.

A generator with some of its normalisations frozen has the same weights in a module tree of its own: so a generator
holds no state, and threads may share one.
"""

import copy
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.functional import RunningMoments
from gan_style.models.blocks import ConditionalInstanceNorm, InstanceNorm
from gan_style.models.generator import DOWNSAMPLING, MIN_INPUT_SIZE, ResidualCoder

MARGIN = 16  # pixels of the picture; a stage sees at most 11 (its masks', scaled to a quarter, included)
SMALLEST_TILE = 64
IN_MEMORY_BYTES = 2**28  # bytes of activations; more are kept in a file
_EPSILON = 1e-5  # under the root; group_norm's own

Rows = Mapping[str, Tensor]  # a normalisation's name -> (P, 2, C): for each of P conditions its scale and its shift


@dataclass(frozen=True)
class Box:
    """Rows top to bottom and columns left to right, the ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def place(self) -> tuple[slice, slice]:
        """Return what to index the last two dimensions with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def divided(self, by: int) -> "Box":
        return Box(self.top // by, self.bottom // by, self.left // by, self.right // by)

    def grown(self, margin: int, height: int, width: int) -> "Box":
        """Grow the box by a margin, as far as the picture goes."""
        return Box(
            max(0, self.top - margin),
            min(height, self.bottom + margin),
            max(0, self.left - margin),
            min(width, self.right + margin),
        )

    def clipped(self, height: int, width: int) -> "Box":
        return Box(self.top, min(height, self.bottom), self.left, min(width, self.right))

    def cut(self, x: Tensor, outer: "Box") -> Tensor:
        """Cut this box's part from x (..., h, w), which is of a larger box, at any scale."""
        by = x.shape[-1] / outer.width
        sides = (self.top - outer.top, self.bottom - outer.top, self.left - outer.left, self.right - outer.left)
        return x[(..., *Box(*(round(side * by) for side in sides)).place)]


def boxes(height: int, width: int, side: int) -> list[Box]:
    """Cut a picture into tiles, row by row."""
    starts = [(top, left) for top in range(0, height, side) for left in range(0, width, side)]
    return [Box(top, top + side, left, left + side).clipped(height, width) for top, left in starts]


class _FrozenNorm(nn.Module):
    """A normalisation with known statistics: a scale and a shift; shares (1, P, h, w) mix them from P rows."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, x: Tensor, shares: Tensor | None = None) -> Tensor:
        if shares is None:
            scale, shift = self.rows[0][..., None, None]
        else:
            shares = F.interpolate(shares, x.shape[-2:], mode="bilinear", antialias=True)
            scale, shift = torch.einsum("nphw,ptc->tnchw", shares, self.rows)
        return torch.addcmul(shift, x, scale)


class NormReached(Exception):  # noqa: N818 (not an error)
    """End a pass at the normalisation that it is to measure; x: what goes into that."""

    def __init__(self, name: str, x: Tensor) -> None:
        super().__init__(name)
        self.name, self.x = name, x


class _UnmeasuredNorm(nn.Module):
    """A normalisation whose statistics are still to be measured: a pass ends there."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor, shares: Tensor | None = None) -> Tensor:
        raise NormReached(self.name, x)


def clone_with_frozen_norms(module: nn.Module, rows: Rows, name: str = "") -> nn.Module:
    """Copy a module tree, its normalisations frozen or yet to be measured; all weights are shared, and none changes."""
    if isinstance(module, InstanceNorm | ConditionalInstanceNorm):
        return _FrozenNorm(rows[name]) if name in rows else _UnmeasuredNorm(name)
    copied = copy.copy(module)
    children = module._modules.items()
    copied._modules = {
        key: child and clone_with_frozen_norms(child, rows, f"{name}.{key}" if name else key) for key, child in children
    }
    return copied


def frozen_row(norm: nn.Module, condition: Tensor | None, moments: RunningMoments, device: torch.device) -> Tensor:
    """Return (1, 2, C): the scale and shift that a normalisation amounts to under one condition, (1, K)."""
    if isinstance(norm, ConditionalInstanceNorm):
        assert condition is not None
        gain, offset = ((condition.to(table) @ table)[0].double().cpu() for table in (norm.weight, norm.bias))
    else:
        assert isinstance(norm, InstanceNorm)
        gain, offset = norm.weight.double().cpu(), norm.bias.double().cpu()
    scale = gain / (moments.variance + _EPSILON).sqrt()
    return torch.stack([scale, offset - moments.mean * scale])[None].float().to(device)


class ActivationStore:
    """Activations (C, h, w) of a whole picture, in float32; in a file that vanishes with the store where they are many.

    The file is mapped only while a part is read or written, so that it does not count as resident memory.
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        self._shape = (height, width, channels)
        size = 4 * height * width * channels
        self._array = np.empty(self._shape, np.float32) if size <= IN_MEMORY_BYTES else None
        if self._array is None:
            self._file = tempfile.TemporaryFile(prefix="gan_style-")  # noqa: SIM115 (lives as long as the store)
            _reserve(self._file, size)

    def _open(self) -> np.ndarray:
        if self._array is not None:
            return self._array
        return np.memmap(self._file, np.float32, "r+", shape=self._shape)

    def write(self, box: Box, x: Tensor) -> None:
        self._open()[box.place] = x[0].permute(1, 2, 0).float().cpu().numpy()

    def read(self, box: Box) -> Tensor:
        """Return (1, C, h, w), in channels_last."""
        return torch.from_numpy(np.array(self._open()[box.place])).permute(2, 0, 1)[None]


def _reserve(file: IO[bytes], size: int) -> None:
    """Take the room on the disk now: where it is missing, a write to mapped memory would kill the process."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    except OSError as error:
        raise OSError(
            f"a picture this large needs {2 * size / 1e9:.1f} GB of room in the folder for temporary files, "
            f"{tempfile.gettempdir()} ({error.strerror}); set TMPDIR to another folder"
        ) from error


Read = Callable[[Box], Tensor]


@dataclass
class TiledGenerator:
    """A generator that is run tile by tile, with the statistics of the whole picture.

    content: a part of the picture, (1, 3, h, w) in [-1, 1]; height, width: the picture's; conditions: (P, K), what the
    normalisations are given in each of P regions, None for a generator without; shares: a part of the map (1, P, h, w)
    that says which region is how much where, summing to 1, None where P is 1; tile: of what side, in pixels.
    """

    generator: ResidualCoder
    content: Read
    height: int
    width: int
    device: torch.device
    tile: int
    conditions: Tensor | None = None
    shares: Read | None = None

    def __post_init__(self) -> None:
        self._height, self._width = (
            max(MIN_INPUT_SIZE, -(-side // DOWNSAMPLING) * DOWNSAMPLING) for side in (self.height, self.width)
        )  # as pad_to_multiple has it
        side = max(SMALLEST_TILE, self.tile) // DOWNSAMPLING * DOWNSAMPLING
        self._boxes = boxes(self._height, self._width, side)
        self._last = len(self.generator.stages) - 1

    @torch.inference_mode()
    def prepare(self) -> None:
        """Measure all statistics; it takes about three times as long as the tiles themselves."""
        conditions: Sequence[Tensor | None] = [None] if self.conditions is None else list(self.conditions[:, None])
        measured = []
        for condition in conditions:
            self._inner: ActivationStore | None = None  # its room is given back before the next one takes some
            rows, self._inner = self._measure(condition)
            measured.append(rows)
        self._rows = {name: torch.cat([rows[name] for rows in measured]) for name in measured[0]}
        if len(measured) > 1:
            self._inner = None
            for number in range(self._last):
                self._inner = self._store_stage(number, self._inner, self._rows, self.shares)

    def _measure(self, condition: Tensor | None) -> tuple[Rows, ActivationStore | None]:
        """Measure the rows of all normalisations under one condition; with them what goes into the last stage."""
        rows: dict[str, Tensor] = {}
        inner: ActivationStore | None = None
        for number in range(self._last + 1):
            while (statistics := self._statistics(number, inner, rows)) is not None:
                name, moments = statistics
                rows[name] = frozen_row(self.generator.get_submodule(name), condition, moments, self.device)
            if number < self._last:
                inner = self._store_stage(number, inner, rows, None)
        return rows, inner

    def _statistics(self, number: int, inner: ActivationStore | None, rows: Rows) -> tuple[str, RunningMoments] | None:
        """Return the name and statistics of a stage's first normalisation without rows; None where all have theirs."""
        moments, name = RunningMoments(), None
        for box, outer, x in self._inputs(number, inner):
            try:
                self._stage(number, rows)(x, None)
            except NormReached as stopped:
                moments.add(box.cut(stopped.x, outer))
                name = stopped.name
            else:
                break
        return None if name is None else (name, moments)

    def _store_stage(
        self, number: int, inner: ActivationStore | None, rows: Rows, shares: Read | None
    ) -> ActivationStore:
        stage, store = self._stage(number, rows), None
        for box, outer, x in self._inputs(number, inner):
            y = box.cut(stage(x, self._shares(shares, outer)), outer)
            if store is None:
                store = ActivationStore(y.shape[1], self._height // DOWNSAMPLING, self._width // DOWNSAMPLING)
            store.write(box.divided(DOWNSAMPLING), y)
        assert store is not None
        return store

    @torch.inference_mode()
    def tiles(self) -> Iterator[tuple[Box, Tensor]]:
        """Yield the tiles of the result, (1, 3, h, w) in [-1, 1] on the device, as often as they are asked for."""
        stage = self._stage(self._last, self._rows)
        for box, outer, x in self._inputs(self._last, self._inner):
            output = box.cut(stage(x, self._shares(self.shares, outer)), outer)
            inside = box.clipped(self.height, self.width)
            yield inside, output[..., : inside.height, : inside.width]

    def _stage(self, number: int, rows: Rows) -> Callable[[Tensor, Tensor | None], Tensor]:
        network = clone_with_frozen_norms(self.generator, rows)
        assert isinstance(network, ResidualCoder)
        return network.stages[number]

    def _inputs(self, number: int, inner: ActivationStore | None) -> Iterator[tuple[Box, Box, Tensor]]:
        """Yield for each tile its box, the one with a margin around it, and what goes into the stage there."""
        for box in self._boxes:
            outer = box.grown(MARGIN, self._height, self._width)
            x = self._padded(self.content, outer) if inner is None else inner.read(outer.divided(DOWNSAMPLING))
            yield box, outer, x.to(self.device).contiguous(memory_format=torch.channels_last)

    def _shares(self, shares: Read | None, box: Box) -> Tensor | None:
        return None if shares is None else self._padded(shares, box).to(self.device)

    def _padded(self, read: Read, box: Box) -> Tensor:
        """Return a part of the picture as pad_to_multiple continues it."""
        inside = box.clipped(self.height, self.width)
        missing = (0, box.width - inside.width, 0, box.height - inside.height)
        return F.pad(read(inside), missing, mode="replicate") if any(missing) else read(inside)
