"""From a video's frames to its segments: decode, stylize in batches, follow from frame to frame, encode, keep.

Segments are kept beside the output until all are there: each written whole or not at all.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import torch
from torch import Tensor

from gan_style.options import differences
from gan_style.runtime.files import AtomicFileGroup, ensure_folder, write_json
from gan_style.runtime.progress import Progress
from gan_style.runtime.signals import Stop
from gan_style.video.decode import ReadReport, TimedFrame, Video, read_frames, to_rgb
from gan_style.video.encode import EncodedPacket, Encoder, Encoding
from gan_style.video.regions import TemporalMasks
from gan_style.video.temporal import Field, Frame, TemporalFilter, WarpErrors

PLAN = "plan.json"
_SUFFIXES = ("json", "png", "bin", "regions.png")  # of a segment's files; the last where there are regions


@dataclass(frozen=True)
class Segment:
    """What was made of so many frames: packets in decoding order, and what was measured."""

    frames: int
    packets: Sequence[EncodedPacket]
    tally: WarpErrors


class Segments:
    """The folder of an output's segments, numbered from 0.

    A segment is there if its record (.json) is, and its packets (.bin) are as long as that says. Its last result
    (.png) is what the next segment goes on from.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Make the folder, or go on in it. ValueError where it is of other settings (JSON types)."""
        path = self.folder / PLAN
        if path.is_file():
            if lines := differences(json.loads(path.read_text(encoding="utf-8")), settings):
                there = f"{self.folder} holds a part of this video made with other settings"
                hint = "give them again, or remove the folder to begin anew."
                raise ValueError("\n  ".join([f"{there}; {hint}", *lines]))
            return
        ensure_folder(self.folder)
        write_json(path, settings)

    def frames(self, number: int) -> int | None:
        """Return how many frames a segment holds; None where it is not there, or not whole."""
        record = self._record(number)
        if record is None or not self._path(number, "png").is_file():
            return None
        data = self._path(number, "bin")
        whole = data.is_file() and hashlib.sha256(data.read_bytes()).hexdigest() == record["sha256"]
        return int(record["frames"]) if whole else None

    def save(self, number: int, segment: Segment, last: Field, regions: Frame | None = None) -> None:
        """Keep a segment, for good; last: its last result, in steps of 1/256; regions: the state of TemporalMasks."""
        data = b"".join(packet.data for packet in segment.packets)
        record = {
            "frames": segment.frames,
            "tally": segment.tally.as_plain(),
            "packets": [[p.pts, p.duration, p.key, len(p.data)] for p in segment.packets],
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        picture = bytes(imagecodecs.png_encode((last * 256).astype(np.uint16), level=1))
        group = AtomicFileGroup("segment")
        if regions is not None:
            group.write(self._path(number, "regions.png"), bytes(imagecodecs.png_encode(regions, level=1)))
        for suffix, content in (("bin", data), ("png", picture), ("json", json.dumps(record).encode())):
            group.write(self._path(number, suffix), content)  # the record last: it says that the others are there
        group.commit()

    def load(self, number: int) -> Segment:
        """Load a segment that is there."""
        record = self._record(number)
        assert record is not None
        data, packets, start = self._path(number, "bin").read_bytes(), [], 0
        for pts, duration, key, size in record["packets"]:
            packets.append(EncodedPacket(pts, duration, key, data[start : start + size]))
            start += size
        return Segment(record["frames"], packets, WarpErrors(**record["tally"]))

    def times(self, number: int) -> list[int]:
        """Return when the packets of a segment that is there are shown; no more is read."""
        record = self._record(number)
        assert record is not None
        return [packet[0] for packet in record["packets"]]

    def last(self, number: int) -> Field:
        """Load the last result of a segment that is there."""
        values = imagecodecs.png_decode(self._path(number, "png").read_bytes())
        return np.asarray(values / np.float32(256), dtype=np.float32)

    def regions(self, number: int) -> Frame:
        """Load the regions of the last frame of a segment that is there, as they were saved."""
        return np.asarray(imagecodecs.png_decode(self._path(number, "regions.png").read_bytes()))

    def remove(self, count: int) -> None:
        """Remove all segments and the folder, once the output is there, but no files of other names."""
        for number in range(count):
            for suffix in _SUFFIXES:
                self._path(number, suffix).unlink(missing_ok=True)
        AtomicFileGroup.remove("segment", [self._path(count, suffix) for suffix in _SUFFIXES])
        for name in (PLAN, ".lock"):
            (self.folder / name).unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _record(self, number: int) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads(self._path(number, "json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record

    def _path(self, number: int, suffix: str) -> Path:
        return self.folder / f"{number:06}.{suffix}"


Painter = Callable[[Tensor], Tensor]  # uint8 (N, 3, H, W) on the CPU to the same


@dataclass
class VideoStylizer:
    """Makes a video's segments.

    temporal_filter: blends each result with the last; progress: counts frames; length: frames of a
    segment; batch: frames that the painter is given together; steady: follows the regions that the painter uses, if
    any. ``report`` tells what was read.
    """

    video: Video
    painter: Painter
    encoding: Encoding
    segments: Segments
    temporal_filter: TemporalFilter
    progress: Progress
    length: int
    batch: int
    steady: TemporalMasks | None = None
    report: ReadReport = field(default_factory=ReadReport)

    def run(self, stop: Stop) -> int | None:
        """Make every segment that is not there; how many there are, or None where it was asked to stop.

        A segment that is there is read through, and costs no more than decoding.
        """
        stream, before = read_frames(self.video, self.report), None
        for number in count():
            part = islice(stream, self.length)
            kept_frames = self.segments.frames(number)
            if kept_frames is None:
                frames = self._make(number, part, before)
                before = None
            else:
                frames, last = 0, None
                for tick in part:
                    frames, last = frames + 1, tick
                before = (last, number)
                self.progress.skip(frames)
            if kept_frames not in (None, frames):
                raise ValueError(f"{self.segments.folder}: segment {number} is of another video; remove the folder")
            if frames < self.length:
                return number + (frames > 0)
            if stop.reason is not None and kept_frames is None:
                return None
        raise AssertionError

    def _make(self, number: int, part: Iterator[TimedFrame], before: tuple[TimedFrame | None, int] | None) -> int:
        """Make one segment; return how many frames it has (0: the video has ended, and nothing is kept)."""
        if before is not None and before[0] is not None:
            self.temporal_filter.last_source = to_rgb(self.video, before[0])
            self.temporal_filter.last_result = self.segments.last(before[1])
            if self.steady is not None:
                self.steady.resume(self.temporal_filter.last_source, self.segments.regions(before[1]))
        self.temporal_filter.tally = WarpErrors()
        encoder, frames = Encoder(self.video, self.encoding), 0
        while batch := list(islice(part, self.batch)):
            sources = [to_rgb(self.video, tick) for tick in batch]
            for tick, source, result in zip(batch, sources, stylize_frames(self.painter, sources), strict=True):
                encoder.add(self.temporal_filter(tick.number, source, result), tick.pts, tick.duration)
            frames += len(batch)
            self.progress.update(self.progress.step + len(batch))
        if frames:
            assert self.temporal_filter.last_result is not None
            segment = Segment(frames, encoder.finish(), self.temporal_filter.tally)
            regions = None if self.steady is None else self.steady.state
            self.segments.save(number, segment, self.temporal_filter.last_result, regions)
        return frames


def stylize_frames(painter: Painter, frames: list[Frame]) -> list[Frame]:
    """Stylize frames of one size together."""
    pictures = torch.stack([torch.from_numpy(frame) for frame in frames]).permute(0, 3, 1, 2)
    return list(painter(pictures).permute(0, 2, 3, 1).contiguous().numpy())
