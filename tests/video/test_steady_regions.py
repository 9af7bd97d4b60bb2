"""gan_style/video/regions.py: regions that hold still from frame to frame, and go along with what moves."""

from itertools import pairwise

import numpy as np
import torch
from clips import smooth_picture

from gan_style.regions.segment import NamedMasks
from gan_style.video.regions import TemporalMasks


class Flickering:
    """The left half, and in each frame other cells beside it, by chance."""

    def __init__(self) -> None:
        self.names = {1: "left"}
        self.random = torch.Generator().manual_seed(0)

    def __call__(self, pixels, groups, classes=None):
        shares = (torch.arange(24) < 12).float().expand(1, 1, 16, 24)
        return (shares + (torch.rand(shares.shape, generator=self.random) < 0.2)).clamp(max=1)


def frames(count: int, shift: int) -> list[torch.Tensor]:
    wide = smooth_picture(64, 96 + count * shift)
    cuts = [wide[:, n * shift : n * shift + 96].copy() for n in range(count)]
    return [torch.from_numpy(cut).permute(2, 0, 1) for cut in cuts]


def test_masks_flicker_less_than_their_segmenter():
    plain, flickering = (NamedMasks(Flickering(), {"a": ["left"]}) for _ in range(2))
    steady = TemporalMasks(flickering, 1)
    changes = []
    for masks in (plain, steady):
        planes = [masks(frame)["a"].float() for frame in frames(8, 0)]
        changes.append(np.mean([(a - b).abs().mean() for a, b in pairwise(planes[3:])]))
    assert changes[1] < 0.4 * changes[0]


def test_what_has_moved_takes_its_region_along_and_a_cut_ends_that():
    class Once(Flickering):
        calls = 0

        def __call__(self, pixels, groups, classes=None):
            self.calls += 1
            return (torch.arange(96) < 48).float().expand(1, 1, 64, 96) * (self.calls == 1)

    steady = TemporalMasks(NamedMasks(Once(), {"a": ["left"]}), cut=1.0)
    first, second = frames(2, 8)
    steady(first)
    steady(second)
    assert steady.state is not None
    assert steady.state[16:48, 8:34].mean() > 150 and steady.state[16:48, 50:80].mean() < 30
    steady.cut = 0.0
    steady(first)
    assert steady.state.max() == 0
