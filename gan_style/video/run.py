"""From a video's frames to its segments: decode, stylize in batches, follow from frame to frame, encode, keep."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice

import torch
from torch import Tensor

from gan_style.signals import Stop
from gan_style.video.encode import Encoder, Encoding
from gan_style.video.flow import Frame
from gan_style.video.follow import Follower, Tally
from gan_style.video.progress import Progress
from gan_style.video.segments import Segment, Segments
from gan_style.video.source import Seen, Tick, Video, rgb, ticks

Painter = Callable[[Tensor], Tensor]  # uint8 (N, 3, H, W) on the CPU to the same


@dataclass
class Work:
    """A video on its way into segments.

    length: frames of a segment; batch: frames that the painter is given together; follower: what leads from one result
    to the next. ``seen`` tells what was read.
    """

    video: Video
    painter: Painter
    encoding: Encoding
    segments: Segments
    follower: Follower
    progress: Progress
    length: int
    batch: int
    seen: Seen = field(default_factory=Seen)

    def run(self, stop: Stop) -> int | None:
        """Make every segment that is not there; how many there are, or None where it was asked to stop.

        A segment that is there is read through, and costs no more than decoding.
        """
        stream, before = ticks(self.video, self.seen), None
        for number in count():
            part = islice(stream, self.length)
            there = self.segments.frames(number)
            if there is None:
                frames = self._make(number, part, before)
                before = None
            else:
                frames, last = _through(part)
                before = (last, number)
                self.progress.passed(frames)
            if there not in (None, frames):
                raise ValueError(f"{self.segments.folder}: segment {number} is of another video; remove the folder")
            if frames < self.length:
                return number + (frames > 0)
            if stop.reason is not None and there is None:
                return None
        raise AssertionError

    def _make(self, number: int, part: Iterator[Tick], before: tuple[Tick | None, int] | None) -> int:
        """One segment; how many frames it has (0: the video has ended, and nothing is kept)."""
        if before is not None and before[0] is not None:
            self.follower.last_source = rgb(self.video, before[0])
            self.follower.last_result = self.segments.last(before[1])
        self.follower.tally = Tally()
        encoder, frames = Encoder(self.video, self.encoding), 0
        while batch := list(islice(part, self.batch)):
            sources = [rgb(self.video, tick) for tick in batch]
            for tick, source, result in zip(batch, sources, stylized(self.painter, sources), strict=True):
                encoder.add(self.follower(tick.number, source, result), tick.pts, tick.duration)
            frames += len(batch)
            self.progress.add(len(batch))
        if frames:
            assert self.follower.last_result is not None
            segment = Segment(frames, encoder.finish(), self.follower.tally)
            self.segments.save(number, segment, self.follower.last_result)
        return frames


def _through(part: Iterator[Tick]) -> tuple[int, Tick | None]:
    """How many frames, and the last one."""
    frames, last = 0, None
    for tick in part:
        frames, last = frames + 1, tick
    return frames, last


def stylized(painter: Painter, frames: list[Frame]) -> list[Frame]:
    """Results of frames of one size, made together."""
    pictures = torch.stack([torch.from_numpy(frame) for frame in frames]).permute(0, 3, 1, 2)
    return list(painter(pictures).permute(0, 2, 3, 1).contiguous().numpy())
