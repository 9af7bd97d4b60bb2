"""Reading a video: what it says of itself, and its frames, upright and in RGB."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from gan_style.video.temporal import Frame

_BT709, _BT601, _BT2020 = 1, 5, 9  # swscale's numbers of matrices
_MATRICES = {1: _BT709, 5: _BT601, 6: _BT601, 7: 7, 9: _BT2020, 10: _BT2020, 4: 4}  # by FFmpeg's AVColorSpace
_UNSPECIFIED = 2
_LIMITED, _FULL = 1, 2
_MOST_PROBLEMS = 1000  # after which a file is given up
_HD = 720  # lines from which on an untagged video is taken to be BT.709


@dataclass(frozen=True)
class Colours:
    """How a video's YUV is meant, in FFmpeg's numbers: matrix and range as swscale has them, the others as tags."""

    matrix: int
    range: int
    primaries: int
    transfer: int


@dataclass(frozen=True)
class Video:
    """What a video says of itself.

    width, height: upright, in pixels; turn: quarter turns, anticlockwise, that make it so; time_base: seconds of a
    tick; rate: frames a second on average; frames: as its header says, None where it does not; aspect: of a pixel.
    """

    path: Path
    width: int
    height: int
    turn: int
    time_base: Fraction
    rate: Fraction
    frames: int | None
    aspect: Fraction
    colours: Colours


@dataclass(frozen=True)
class Tick:
    """One frame, still as it was decoded; pts and duration in ticks of the video's time base."""

    number: int
    pts: int
    duration: int
    frame: Any


@dataclass
class Seen:
    """What reading has met: packets that should hold frames, and why some could not be decoded."""

    packets: int = 0
    problems: list[str] = field(default_factory=list)


class UnreadableVideoError(ValueError):
    """A file that cannot be played; the message names it and says why."""


def open_video(path: Path) -> Any:
    """The container, open for reading. UnreadableVideoError where that cannot be."""
    if not path.is_file():
        raise UnreadableVideoError(f"input={path}: there is no such file")
    try:
        container = av.open(str(path.absolute()))  # "12:30.mp4" alone would be a protocol
    except (av.FFmpegError, ValueError) as error:
        raise UnreadableVideoError(f"input={path}: cannot read this as a video ({_reason(error)})") from error
    if container.format.name == "image2" or container.format.name.endswith("_pipe"):
        container.close()
        raise UnreadableVideoError(f"input={path} is a picture; gan-style stylize takes pictures")
    return container


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or error)


def video_stream(container: Any, path: Path) -> Any:
    """The stream that is stylized: the first that is no cover picture."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise UnreadableVideoError(f"input={path}: there are no pictures in this file, only sound or other data")


def probe(path: Path) -> Video:
    """Look at a video's header and first frame. UnreadableVideoError for anything that cannot be stylized."""
    with open_video(path) as container:
        stream = video_stream(container, path)
        first = next(_decoded(container, stream, Seen()), None)
        if first is None:
            raise UnreadableVideoError(f"input={path}: this video has no frame that can be decoded")
        turn = round(first.rotation / 90) % 4
        sides = (first.width, first.height) if turn % 2 == 0 else (first.height, first.width)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        return Video(
            path=path,
            width=sides[0],
            height=sides[1],
            turn=turn,
            time_base=stream.time_base,
            rate=Fraction(stream.average_rate or stream.guessed_rate or 25),
            frames=stream.frames or None,
            aspect=aspect if turn % 2 == 0 else 1 / aspect,
            colours=_colours(first),
        )


def _colours(frame: Any) -> Colours:
    by_size = _BT709 if frame.height >= _HD else _BT601
    full = frame.color_range == _FULL or frame.format.name.startswith("yuvj")
    return Colours(
        _MATRICES.get(frame.colorspace, by_size), _FULL if full else _LIMITED, frame.color_primaries, frame.color_trc
    )


def ticks(video: Video, seen: Seen) -> Iterator[Tick]:
    """A video's frames, in the order in which they are shown, with times that grow; what is damaged is passed over."""
    step = max(1, round(1 / (video.rate * video.time_base)))
    earliest, due = None, 0
    with open_video(video.path) as container:
        stream = video_stream(container, video.path)
        stream.thread_type = "AUTO"
        for number, frame in enumerate(_decoded(container, stream, seen)):
            pts = due if frame.pts is None else frame.pts
            pts = pts if earliest is None else max(pts, earliest)
            duration = frame.duration or step
            yield Tick(number, pts, duration, frame)
            earliest, due = pts + 1, pts + duration


def rgb(video: Video, tick: Tick) -> Frame:
    """A frame as uint8 (H, W, 3), upright. UnreadableVideoError where it has another size than the first."""
    frame, colours = tick.frame, video.colours
    size = (frame.height, frame.width) if video.turn % 2 else (frame.width, frame.height)
    if size != (video.width, video.height):
        raise UnreadableVideoError(
            f"input={video.path}: frame {tick.number} has {size[0]} x {size[1]} pixels and the first {video.width} x "
            f"{video.height}; videos that change their size are not stylized"
        )
    planes = frame.reformat(
        format="rgb24", src_colorspace=colours.matrix, src_color_range=colours.range, dst_color_range=_FULL
    )
    return np.ascontiguousarray(np.rot90(planes.to_ndarray(), video.turn))


def _decoded(container: Any, stream: Any, seen: Seen) -> Iterator[Any]:
    packets = container.demux(stream)
    while len(seen.problems) < _MOST_PROBLEMS:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            seen.packets += packet.size > 0
            yield from packet.decode()
        except av.EOFError:
            return
        except av.FFmpegError as error:
            seen.problems.append(_reason(error))
