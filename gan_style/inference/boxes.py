"""Parts of a picture, and statistics of values that come in parts."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


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
        """To index the last two dimensions with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def divided(self, by: int) -> "Box":
        return Box(self.top // by, self.bottom // by, self.left // by, self.right // by)

    def grown(self, margin: int, height: int, width: int) -> "Box":
        """By a margin, as far as the picture goes."""
        return Box(
            max(0, self.top - margin),
            min(height, self.bottom + margin),
            max(0, self.left - margin),
            min(width, self.right + margin),
        )

    def clipped(self, height: int, width: int) -> "Box":
        return Box(self.top, min(height, self.bottom), self.left, min(width, self.right))

    def cut(self, x: Tensor, outer: "Box") -> Tensor:
        """This box's part of x (..., h, w), which is of a larger box, at any scale."""
        by = x.shape[-1] / outer.width
        sides = (self.top - outer.top, self.bottom - outer.top, self.left - outer.left, self.right - outer.left)
        return x[(..., *Box(*(round(side * by) for side in sides)).place)]


def boxes(height: int, width: int, side: int) -> list[Box]:
    """A picture cut into tiles, row by row."""
    starts = [(top, left) for top in range(0, height, side) for left in range(0, width, side)]
    return [Box(top, top + side, left, left + side).clipped(height, width) for top, left in starts]


@dataclass
class Moments:
    """Mean and variance of each channel, of values that come in parts: Chan et al. 1979 (merging), in float64."""

    weight: float = 0.0
    mean: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))
    squares: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))  # of the differences from it

    def add(self, x: Tensor, weights: Tensor | None = None) -> None:
        """x: (1, C, h, w); weights: (1, 1, h, w), of each position, from 0."""
        values = x[0].flatten(1).float()  # under autocast 16 bits would be too few
        if weights is None:
            count = float(values.shape[1])
            variance, mean = torch.var_mean(values, dim=1, correction=0)
            squares = variance.double() * count
        else:
            share = weights[0].flatten(1).double()
            count = float(share.sum())
            mean = (values * share).sum(dim=1) / max(count, 1e-12)
            squares = ((values - mean[:, None]).square() * share).sum(dim=1)
        if count > 0:
            self._merge(count, mean.double().cpu(), squares.double().cpu())

    def _merge(self, count: float, mean: Tensor, squares: Tensor) -> None:
        total, apart = self.weight + count, mean - self.mean
        self.squares = self.squares + squares + apart.square() * (self.weight * count / total)
        self.mean = self.mean + apart * (count / total)
        self.weight = total

    @property
    def variance(self) -> Tensor:
        return self.squares / max(self.weight, 1e-12)
