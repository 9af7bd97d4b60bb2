"""Random views: each evaluation looks at the picture shifted, turned and mirrored, and at the content likewise.

A network's mistakes are tied to where a thing stands and how it lies; pixels that are optimised through one view alone
learn to serve the mistakes, and views that change let only what all of them agree on add up (as for feature
visualisation: Olah et al. 2017, "transformation robustness"). A small perceptual network needs that most.
"""

import random
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

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
    """The view of one evaluation; shifts by ``reach`` pixels at most, each way."""
    rng = random.Random(f"{seed}/{evaluation}")
    return View(rng.randrange(ORIENTATIONS), rng.randint(-reach, reach), rng.randint(-reach, reach))


def turned(images: Tensor, orientation: int) -> Tensor:
    """Images (N, C, H, W) in one of the ORIENTATIONS."""
    images = images.rot90(orientation % 4, (2, 3))
    return images.flip(3) if orientation >= 4 else images


def _shifted(images: Tensor, down: int, right: int) -> Tensor:
    """What was at (y, x) is at (y + down, x + right)."""
    height, width = images.shape[2:]
    down, right = (max(1 - length, min(by, length - 1)) for by, length in ((down, height), (right, width)))
    padding = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    wider = F.pad(images, padding, mode="reflect")[:, :, max(-down, 0) :, max(-right, 0) :]
    return wider[:, :, :height, :width]
