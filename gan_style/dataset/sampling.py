"""What is drawn for each picture: from (seed, key, copy) alone, so that neither order, workers nor restarts matter."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gan_style.dataset.sample import printable
from gan_style.options import as_typed

BLEND = "result * strength + photo * (1 - strength), in [-1, 1], before rounding"  # what strength means, for the plan


@dataclass(frozen=True)
class Choice:
    """keep: left as it is; else the number of the style and the strength in [0, 1]."""

    keep: bool
    style: int
    strength: float


@dataclass(frozen=True)
class ChoiceSampler:
    """weights: of the styles, in any unit; strength: (least, most), drawn uniformly; keep_fraction: of pictures.

    copies: of each picture. With a strength that is always the same only their styles tell them apart: no style is
    drawn twice then, as long as there are others.
    pairs: for each picture's key the style and the strength (None to draw it) of its copies, which are not drawn then.
    """

    seed: int
    weights: Sequence[float]
    strength: tuple[float, float]
    keep_fraction: float
    copies: int = 1
    pairs: Mapping[str, Sequence[tuple[int, float | None]]] | None = None

    def draw(self, key: str, copy: int) -> Choice | None:
        """Return what is made of a copy of a picture; None for one that the pairs leave out."""
        keep, style, strength = (self._uniform(key, copy, role) for role in ("keep", "style", "strength"))
        if keep < self.keep_fraction:
            return Choice(True, 0, 0.0)
        least, most = self.strength
        if self.pairs is not None:
            pairs = self.pairs.get(printable(key), ())
            number, given = pairs[copy] if copy < len(pairs) else (None, None)
            amount = least + (most - least) * strength if given is None else given
            return None if number is None else Choice(False, number, amount)
        number = self._style(style)
        if self.copies > 1 and least == most:
            order = self._order(key)
            number = order[copy] if copy < len(order) else number
        return Choice(False, number, least + (most - least) * strength)

    def _order(self, key: str) -> list[int]:
        """All styles with a weight, one drawn after the other: a race of exponential variables with these rates."""
        times = {
            number: -math.log1p(-self._uniform(key, 0, f"style {number}")) / weight
            for number, weight in enumerate(self.weights)
            if weight > 0
        }
        return sorted(times, key=lambda number: times[number])

    def _style(self, share: float) -> int:
        """The first style at which the weights add up to more than this share of their sum."""
        cumulative, threshold = 0.0, share * sum(self.weights)
        for number, weight in enumerate(self.weights):
            cumulative += weight
            if threshold < cumulative:
                return number
        return max(number for number, weight in enumerate(self.weights) if weight > 0)

    def _uniform(self, key: str, copy: int, role: str) -> float:
        """In [0, 1), in steps of 2**-53."""
        text = f"{self.seed}\0{copy}\0{role}\0{key}".encode("utf-8", "surrogatepass")
        return (int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 11) * 2.0**-53


def strength_range(strength: Any) -> tuple[float, float]:
    """(least, most) of a number or a list of two. ValueError for anything else."""
    pair = (strength, strength) if isinstance(strength, int | float) else strength
    try:
        least, most = (float(value) for value in pair)
    except (TypeError, ValueError):
        raise ValueError(f"strength={as_typed(strength)}; a number, or two such as [0.5,1.0], expected") from None
    if not 0 <= least <= most <= 1:
        raise ValueError(f"strength={as_typed(strength)}; allowed are 0 to 1, the smaller one first")
    return least, most
