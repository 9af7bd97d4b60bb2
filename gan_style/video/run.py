"""From a video's frames to its segments: decode, stylize in batches, follow from frame to frame, encode, keep.

Segments are kept beside the output until all are there: each written whole or not at all.
"""

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_style.options import differences
from gan_style.runtime.files import ensure_folder, remove_leftovers, write_durably, write_json
from gan_style.runtime.progress import Progress, warn
from gan_style.runtime.signals import Stop
from gan_style.video.decode import ReadReport, TimedFrame, Video, read_frames, to_rgb
from gan_style.video.encode import EncodedPacket, Encoder, Encoding
from gan_style.video.regions import TemporalMasks
from gan_style.video.temporal import Field, Frame, TemporalFilter, WarpErrors

PLAN = "plan.json"


@dataclass(frozen=True)
class Segment:
    """What was made of so many frames: packets in decoding order, what was measured, what the next one goes on from.

    last: the last result, in steps of 1/256; regions: the state of TemporalMasks, where there is one.
    """

    frames: int
    packets: Sequence[EncodedPacket]
    tally: WarpErrors
    last: Field
    regions: Frame | None = None


class Segments:
    """The folder of an output's segments, numbered from 0, each a file of numpy's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Make the folder, or go on in it. ValueError where it is of other settings (JSON types)."""
        path = self.folder / PLAN
        if path.is_file():
            if lines := differences(json.loads(path.read_text(encoding="utf-8")), settings):
                problem = f"{self.folder} holds a part of this video made with other settings"
                hint = "give them again, or remove the folder to begin anew."
                raise ValueError("\n  ".join([f"{problem}; {hint}", *lines]))
            return
        ensure_folder(self.folder)
        write_json(path, settings)

    def save(self, number: int, segment: Segment) -> None:
        """Keep a segment, for good, whole or not at all."""
        record = {
            "frames": segment.frames,
            "tally": segment.tally.as_plain(),
            "packets": [[p.pts, p.duration, p.key, len(p.data)] for p in segment.packets],
        }
        texts = {"record": json.dumps(record).encode(), "data": b"".join(packet.data for packet in segment.packets)}
        arrays: dict[str, Any] = {name: np.frombuffer(text, np.uint8) for name, text in texts.items()}
        arrays["last"] = (segment.last * 256).astype(np.uint16)
        if segment.regions is not None:
            arrays["regions"] = segment.regions
        write_durably(self._path(number), lambda file: np.savez_compressed(file, **arrays))

    def load(self, number: int) -> Segment | None:
        """Load a segment; None where it is not there, or not whole."""
        try:
            with np.load(self._path(number)) as file:
                arrays = {name: file[name] for name in file.files}
                record, data, start = json.loads(arrays["record"].tobytes()), arrays["data"].tobytes(), 0
        except (OSError, EOFError, ValueError, LookupError, RuntimeError, zipfile.BadZipFile, zlib.error):
            return None
        packets = []
        for pts, duration, key, size in record["packets"]:
            packets.append(EncodedPacket(pts, duration, key, data[start : start + size]))
            start += size
        last, tally = arrays["last"] / np.float32(256), WarpErrors(**record["tally"])
        return Segment(record["frames"], packets, tally, last, arrays.get("regions"))

    def packets(self, count: int) -> Iterator[EncodedPacket]:
        """Yield the packets of so many segments that are there, with one segment in memory at a time."""
        for number in range(count):
            segment = self.load(number)
            assert segment is not None
            yield from segment.packets

    def remove(self, count: int) -> None:
        """Remove all segments and the folder, once the output is there, but no files of other names, which are told."""
        remove_leftovers(self.folder)
        for path in (*map(self._path, range(count)), self.folder / PLAN, self.folder / ".lock"):
            path.unlink(missing_ok=True)
        if names := sorted(path.name for path in self.folder.iterdir()):
            warn(f"{self.folder} stays: files in it are not of this video's segments, such as {names[0]}")
        else:
            self.folder.rmdir()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.npz"


Painter = Callable[[Tensor], Tensor]  # uint8 (N, 3, H, W) on the CPU to the same


@dataclass
class VideoStylizer:
    """Makes a video's segments.

    temporal_filter: blends each result with the last; progress: counts frames; length: frames of a
    segment; batch: frames that the painter is given together; steady: follows the regions that the painter uses, if
    any. ``report`` tells what was read; ``times``, of all packets in decoding order, and ``tally`` are of all segments.
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
    times: list[int] = field(default_factory=list)
    tally: WarpErrors = field(default_factory=WarpErrors)

    def run(self, stop: Stop) -> int | None:
        """Make every segment that is not there; how many there are, or None where it was asked to stop.

        A segment that is there is read through, and costs no more than decoding.
        """
        stream = read_frames(self.video, self.report)
        before: tuple[TimedFrame, Segment] | None = None  # the last frame that is there, where it was not made just now
        for number in count():
            part = islice(stream, self.length)
            existing = self.segments.load(number)
            if existing is None:
                segment, before = self._make(number, part, before), None
                if segment is None:
                    return number
            else:
                segment, frames = existing, 0
                for tick in part:
                    frames, before = frames + 1, (tick, existing)
                self.progress.skip(frames)
                if frames != existing.frames:
                    raise ValueError(f"{self.segments.folder}: segment {number} is of another video; remove the folder")
            self.times += [packet.pts for packet in segment.packets]
            self.tally += segment.tally
            if segment.frames < self.length:
                return number + 1
            if stop.reason is not None and existing is None:
                return None
        raise AssertionError

    def _make(
        self, number: int, part: Iterator[TimedFrame], before: tuple[TimedFrame, Segment] | None
    ) -> Segment | None:
        """Make and keep one segment; None where the video has ended before it."""
        if before is not None:
            last, segment = before
            self.temporal_filter.last_source = to_rgb(self.video, last)
            self.temporal_filter.last_result = segment.last
            if self.steady is not None and segment.regions is not None:
                self.steady.resume(self.temporal_filter.last_source, segment.regions)
        self.temporal_filter.tally = WarpErrors()
        encoder, frames = Encoder(self.video, self.encoding), 0
        while batch := list(islice(part, self.batch)):
            sources = [to_rgb(self.video, tick) for tick in batch]
            for tick, source, result in zip(batch, sources, stylize_frames(self.painter, sources), strict=True):
                encoder.add(self.temporal_filter(tick.number, source, result), tick.pts, tick.duration)
            frames += len(batch)
            self.progress.update(self.progress.step + len(batch))
        if not frames:
            return None
        last_result, tally = self.temporal_filter.last_result, self.temporal_filter.tally
        assert last_result is not None
        regions = None if self.steady is None else self.steady.state
        segment = Segment(frames, encoder.finish(), tally, last_result, regions)
        self.segments.save(number, segment)
        return segment


def stylize_frames(painter: Painter, frames: list[Frame]) -> list[Frame]:
    pictures = torch.stack([torch.from_numpy(frame) for frame in frames]).permute(0, 3, 1, 2)
    return list(painter(pictures).permute(0, 2, 3, 1).contiguous().numpy())
