"""From coarse to fine: the sizes at which a picture is optimised one after the other, and how pictures get there.

Random views: each evaluation looks at the picture shifted, turned and mirrored, and at the content likewise. A
network's mistakes are tied to where a thing stands and how it lies; pixels that are optimised through one view
alone learn to serve the mistakes, and views that change let only what all of them agree on add up (as for feature
visualisation: Olah et al. 2017, "transformation robustness"). A small perceptual network needs that most.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from torch import Tensor
from torch.nn import functional as F

MIN_SHORT_SIDE = 16  # pixels, the short side: the deepest layers of a VGG then still see one position


@dataclass(frozen=True)
class Level:
    """One size: height and width in pixels, its share of the full size, and the evaluations spent at it."""

    height: int
    width: int
    factor: float
    evaluations: int


def plan_levels(
    height: int, width: int, *, levels: int, steps: int, shares: Sequence[float] | None = None
) -> list[Level]:
    """Return the levels from the coarsest to the full size, each of twice the side lengths of the one before.

    steps: evaluations in all; shares: of the levels, from coarse to fine, in any unit; None: all equal. ValueError, in
    the words of ``gan-style optimise``, for more levels than pixels or evaluations allow.
    """
    factors = [0.5**number for number in reversed(range(levels))]
    sizes = [(max(1, round(height * factor)), max(1, round(width * factor))) for factor in factors]
    if min(sizes[0]) < MIN_SHORT_SIDE:
        raise ValueError(
            f"the picture is {width} x {height} pixels, and at the coarsest of levels={levels} its short side is "
            f"{min(sizes[0])}; allowed is {MIN_SHORT_SIDE} and more: a larger size, or fewer levels"
        )
    weights = [1.0] * levels if shares is None else list(shares)
    ends = [round(steps * end / sum(weights)) for end in accumulate(weights)]
    counts = [end - begin for begin, end in pairwise([0, *ends])]
    if min(counts) < 1:
        split = "equal shares" if shares is None else f"shares={shares}"
        raise ValueError(f"steps={steps} leave no evaluation for one of levels={levels} with {split}")
    return [Level(*size, factor, count) for size, factor, count in zip(sizes, factors, counts, strict=True)]


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """(N, C, H, W) to (N, C, height, width), bicubic, without aliasing; values may leave their range a little."""
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bicubic", antialias=True)


def covering(images: Tensor, height: int, width: int) -> Tensor:
    """Return the middle of (N, C, H, W), scaled, not squashed, so that it just covers (height, width)."""
    ratio = max(height / images.shape[-2], width / images.shape[-1])
    scaled = resized(images, *(max(1, round(length * ratio)) for length in images.shape[-2:]))
    top, left = (scaled.shape[-2] - height) // 2, (scaled.shape[-1] - width) // 2
    return scaled[..., top : top + height, left : left + width]


ORIENTATIONS = 8  # quarter turns, and their mirror images


@dataclass(frozen=True)
class View:
    """orientation: quarter turns to the left, then mirrored from 4 on; down, right: pixels of the shift."""

    orientation: int
    down: int = 0
    right: int = 0

    def of(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), shifted, with what lies beyond their edges mirrored in; H and W swap in a turn."""
        return turned(_shifted(images, self.down, self.right), self.orientation)


def draw_view(seed: int, evaluation: int, reach: int) -> View:
    """Return the view of one evaluation; shifts by ``reach`` pixels at most, each way."""
    rng = random.Random(f"{seed}/{evaluation}")
    return View(rng.randrange(ORIENTATIONS), rng.randint(-reach, reach), rng.randint(-reach, reach))


def turned(images: Tensor, orientation: int) -> Tensor:
    """Images (N, C, H, W) in one of the ORIENTATIONS."""
    images = images.rot90(orientation % 4, (2, 3))
    return images.flip(3) if orientation >= 4 else images


def _shifted(images: Tensor, down: int, right: int) -> Tensor:
    """Shift pictures: what was at (y, x) is at (y + down, x + right)."""
    height, width = images.shape[2:]
    down, right = (max(1 - length, min(by, length - 1)) for by, length in ((down, height), (right, width)))
    padding = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    wider = F.pad(images, padding, mode="reflect")[:, :, max(-down, 0) :, max(-right, 0) :]
    return wider[:, :, :height, :width]
