"""Regions of a video's frames that hold still: each frame's are averaged with the last one's, moved along the flow."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gan_style.regions.segment import NamedMasks, PictureRegions, cluster
from gan_style.video.decode import ReadReport, Video, read_frames, to_rgb
from gan_style.video.temporal import Field, Frame, consistency_mask, flow, histogram_distance, warp

_SIDE = 256  # pixels: the short side at which regions are followed
_NEW = np.float32(0.25)  # share of a frame's own regions in those that it has, where the flow can be trusted
_LOOKED_AT = 8  # frames that a video's own regions are found in


@dataclass
class TemporalMasks:
    """Makes the masks of frames, uint8 (3, H, W), given one after the other, by name.

    cut: change of colours from which on a new scene begins (temporal.change), which owes nothing to the last frame.
    Shares are kept in whole numbers up to 255, (G h, w), so that a run that goes on makes the same.
    """

    named: NamedMasks
    cut: float
    last: Frame | None = None
    state: Frame | None = None

    def __call__(self, pixels: Tensor, classes: Path | None = None) -> dict[str, Tensor]:
        frame, last = _small(pixels.permute(1, 2, 0).numpy()), self.last
        height, width = frame.shape[:2]
        shares = F.interpolate(self.named.shares(pixels), (height, width), mode="bilinear", antialias=True)[0]
        planes: Field = shares.cpu().numpy() * np.float32(255)
        if last is not None and self.state is not None and histogram_distance(frame, last) < self.cut:
            backward = flow(frame, last)
            before = np.stack([warp(plane, backward) for plane in self.state.reshape(planes.shape)])
            share = np.where(consistency_mask(backward, flow(last, frame)), _NEW, np.float32(1))
            planes = planes * share + before * (1 - share)
        steady = planes.round().clip(0, 255).astype(np.uint8)
        self.last, self.state = frame, steady.reshape(-1, width)
        return self.named.refined(pixels, torch.from_numpy(steady)[None] / 255.0)

    def resume(self, last: Frame, state: Frame) -> None:
        """Go on after this frame, with the state that it left."""
        self.last, self.state = _small(last), state


def _small(frame: Frame) -> Frame:
    factor = min(1.0, _SIDE / min(frame.shape[:2]))
    size = [max(1, round(length * factor)) for length in frame.shape[1::-1]]
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def share_clusters(regions: PictureRegions, video: Video) -> None:
    """Let all frames of a video have the same regions: the clusters of a few frames, from all over it, together."""

    def frames() -> Iterator[Tensor]:
        step = max(1, (video.frames or 0) // _LOOKED_AT)
        for tick in islice(read_frames(video, ReadReport()), 0, None, step):
            yield torch.from_numpy(to_rgb(video, tick)).permute(2, 0, 1)

    features = [regions.describe(frame) for frame in islice(frames(), _LOOKED_AT)]
    if features:
        regions.centres = cluster(torch.cat(features, dim=1), regions.count)
