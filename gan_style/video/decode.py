"""Reading a video: what it says of itself, and its frames, upright and in RGB.

A video is a file, or pictures that are shown one after the other: a folder, a pattern, or an animated WebP or AVIF,
which FFmpeg does not read.
"""

import glob
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import av.logging
import numpy as np

from gan_style.images.decode import decode
from gan_style.images.formats import UnreadablePictureError, is_picture, list_pictures, natural_order, open_picture
from gan_style.images.lossless import from_pil, on_white
from gan_style.video.hdr import HLG, PQ, to_sdr
from gan_style.video.temporal import Frame

_BT709, _BT601, _BT2020 = 1, 5, 9  # swscale's numbers of matrices
_MATRICES = {1: _BT709, 5: _BT601, 6: _BT601, 7: 7, 9: _BT2020, 10: _BT2020, 4: 4}  # by FFmpeg's AVColorSpace
_UNSPECIFIED = 2
_LIMITED, _FULL = 1, 2
_MOST_PROBLEMS = 1000  # after which a file is given up
_HD = 720  # lines from which on an untagged video is taken to be BT.709
_JUMP_BACK, _JUMP_AHEAD = 0.1, 10.0  # seconds by which times jump where recordings are joined
_RESTARTING = ("mpegts", "mpeg", "hls")  # formats whose times start anywhere, so that they may jump ahead at a join
_TICK = Fraction(1, 120_000)  # of pictures: seconds; all usual frame rates divide it, 24000/1001 too


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

    width, height: upright, in pixels; transposed, flip_x, flip_y: what makes frames upright, in this order; time_base:
    seconds of a tick; rate: frames a second on average; frames: as its header says, None where it does not; seconds:
    the same of its length; aspect: of a pixel; colours: of the result; source_colours: of the frames, which differ
    where HDR is made SDR; bits: of a value; offsets: seconds to add in each of the recordings that it is joined from;
    tracks: of video in the file, of which one is stylized; transparent: whether its first frame is, somewhere;
    pictures: where it is no file for FFmpeg, each picture with how long it is shown, in ticks.
    """

    path: Path
    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    frames: int | None
    aspect: Fraction
    colours: Colours
    source_colours: Colours
    transposed: bool = False
    flip_x: bool = False
    flip_y: bool = False
    bits: int = 8
    seconds: float | None = None
    offsets: tuple[Fraction, ...] = (Fraction(0),)
    pictures: Sequence[tuple[Path, int]] = ()
    tracks: int = 1
    transparent: bool = False

    @property
    def is_hdr(self) -> bool:
        """Return whether its frames are tone-mapped."""
        return self.source_colours.transfer in (PQ, HLG)

    @property
    def streams_of(self) -> Path | None:
        """Return the file with its other streams, if it has any."""
        return None if self.pictures else self.path


@dataclass(frozen=True)
class TimedFrame:
    """One frame, still as it was decoded; pts and duration in ticks of the video's time base."""

    number: int
    pts: int
    duration: int
    frame: Any


@dataclass
class ReadReport:
    """What reading has met: packets that should hold frames, what could not be decoded or is damaged, and the end of
    the last frame, in seconds after the first one's beginning.
    """

    packets: int = 0
    problems: list[str] = field(default_factory=list)
    end: float = 0.0


class UnreadableVideoError(ValueError):
    """A file that cannot be played; the message names it and says why."""


# Files


def open_video(path: Path) -> Any:
    """Open a container for reading. UnreadableVideoError where that cannot be."""
    if not path.is_file():
        raise UnreadableVideoError(f"input={path}: there is no such file")
    if not path.stat().st_size:
        raise UnreadableVideoError(f"input={path}: this file is empty")
    try:
        container = av.open(str(path.absolute()))  # "12:30.mp4" alone would be a protocol
    except (av.FFmpegError, ValueError) as error:
        raise UnreadableVideoError(f"input={path}: cannot read this as a video ({_message(error)})") from error
    name = container.format.name
    if name == "image2" or (name.endswith("_pipe") and name not in ("gif_pipe", "apng_pipe")):
        container.close()
        raise UnreadableVideoError(f"input={path} is a picture; gan-style stylize takes pictures")
    return container


def _message(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or error)


def is_cover(stream: Any) -> bool:
    """Return whether a stream is a picture that stands for the whole file."""
    return stream.type == "video" and bool(stream.disposition & av.stream.Disposition.attached_pic)


def video_stream(container: Any, path: Path) -> Any:
    """Find the stream that is stylized: of those that are no cover pictures the one that players show."""
    streams = [stream for stream in container.streams.video if not is_cover(stream)]
    best = container.streams.best("video")
    if streams:
        return next((stream for stream in streams if best is not None and stream.index == best.index), streams[0])
    raise UnreadableVideoError(f"input={path}: there are no pictures in this file, only sound or other data")


def probe(path: Path, fps: float | None = None) -> Video:
    """Look at a video's header and first frame. UnreadableVideoError for anything that cannot be stylized.

    path: a video's file, or a folder or pattern of pictures, which are shown ``fps`` times a second.
    """
    if not path.is_file():
        return _read_picture_sequence(path, fps)
    if fps is not None:
        raise UnreadableVideoError(f"fps={fps:g}: {path} is a video and has times of its own; leave it out")
    if is_picture(path) and (animation := _read_animation(path)) is not None:
        return animation
    with open_video(path) as container:
        stream = video_stream(container, path)
        first = next(_decode(container, stream, ReadReport(), Timeline((Fraction(0),))), None)
        if first is None:
            raise UnreadableVideoError(f"input={path}: this video has no frame that can be decoded")
        transposed, flip_x, flip_y = _display_matrix(first)
        sides = (first.height, first.width) if transposed else (first.width, first.height)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        source_colours = _colours(first)
        hdr = source_colours.transfer in (PQ, HLG)
        video = Video(
            path=path,
            width=sides[0],
            height=sides[1],
            transposed=transposed,
            flip_x=flip_x,
            flip_y=flip_y,
            time_base=stream.time_base,
            rate=Fraction(stream.average_rate or stream.guessed_rate or 25),
            frames=stream.frames or None,
            seconds=_duration(stream),
            aspect=1 / aspect if transposed else aspect,
            colours=Colours(_BT709, _LIMITED, _BT709, _BT709) if hdr else source_colours,
            source_colours=source_colours,
            tracks=sum(not is_cover(stream) for stream in container.streams.video),
            transparent=_is_transparent(first) or stream.metadata.get("alpha_mode") == "1",
            bits=max(component.bits for component in first.format.components),
        )
    return replace(video, offsets=_join_offsets(path))


def _is_transparent(frame: Any) -> bool:
    if not any(component.is_alpha for component in frame.format.components):
        return False
    return bool(frame.reformat(format="rgba").to_ndarray()[..., 3].min() < 255)


def _display_matrix(frame: Any) -> tuple[bool, bool, bool]:
    """Read the display matrix, to the next quarter turn: (transposed, flipped left to right, flipped top to bottom).

    In row vectors, (x y 1) M, with M = (a b u; c d v; x y w): so a point goes to (a x + c y, b x + d y).
    """
    for item in frame.side_data:
        if item.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(item), np.int32)[:5])
            if abs(a) + abs(d) >= abs(b) + abs(c):
                return False, a < 0, d < 0
            return True, c < 0, b < 0
    return False, False, False


def _duration(stream: Any) -> float | None:
    """Read the seconds that a stream says to last: in its header, or as Matroska's tag."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d\.\d+)", stream.metadata.get("DURATION", ""))
    return None if tag is None else int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])


def _colours(frame: Any) -> Colours:
    by_size = _BT709 if frame.height >= _HD else _BT601
    full = frame.color_range == _FULL or frame.format.name.startswith("yuvj")
    matrix, color_range = _MATRICES.get(frame.colorspace, by_size), _FULL if full else _LIMITED
    return Colours(matrix, color_range, frame.color_primaries, frame.color_trc)


# Joined recordings


class Timeline:
    """Finds where the times of a file begin anew, stream by stream, as in recordings that were joined byte by byte;
    and makes them go on there (``shift``).
    """

    def __init__(self, offsets: Sequence[Fraction], *, restarting: bool = False) -> None:
        self._offsets, self._restarting = offsets, restarting
        self._latest: dict[int, float] = {}
        self._pieces: dict[int, int] = {}

    def piece(self, packet: Any) -> int:
        """Return the number of the recording that a packet is of; it has to be called once for every packet."""
        index, when = packet.stream_index, packet.dts if packet.dts is not None else None
        if when is not None:
            seconds = float(when * packet.time_base)
            latest = self._latest.get(index, seconds)
            ahead = self._restarting and packet.stream.type in ("video", "audio") and seconds > latest + _JUMP_AHEAD
            if seconds < latest - _JUMP_BACK or ahead:
                self._pieces[index] = self._pieces.get(index, 0) + 1
            self._latest[index] = seconds
        return self._pieces.get(index, 0)

    def shift(self, packet: Any) -> None:
        """Move a packet's times to where they belong."""
        offset = self._offsets[min(self.piece(packet), len(self._offsets) - 1)]
        if offset:
            ticks = round(offset / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks


def timeline_of(video: Video, container: Any) -> Timeline:
    """Make a timeline for one pass through a video's file."""
    return Timeline(video.offsets, restarting=container.format.name in _RESTARTING)


def _join_offsets(path: Path) -> tuple[Fraction, ...]:
    """Measure the seconds to add in each of the recordings that a file is joined from; one, 0, for any other file."""
    starts: dict[int, Fraction] = {}
    ends: dict[int, Fraction] = {}
    with open_video(path) as container:
        timeline = Timeline((), restarting=container.format.name in _RESTARTING)
        streams = [stream for stream in container.streams if stream.type in ("video", "audio") and not is_cover(stream)]
        expected: dict[int, Fraction] = {}  # of each stream's next packet, whose time may not be told
        for packet in _packets(container, streams, []):
            if not packet.size:
                continue
            piece, rate = timeline.piece(packet), getattr(packet.stream, "average_rate", None)
            begin = expected.get(packet.stream_index) if packet.pts is None else packet.pts * packet.time_base
            if begin is None:
                continue
            duration = packet.duration * packet.time_base if packet.duration else 1 / rate if rate else Fraction(0)
            expected[packet.stream_index] = begin + duration
            starts[piece] = min(starts.get(piece, begin), begin)
            ends[piece] = max(ends.get(piece, begin), begin + duration)
    offsets = [Fraction(0)]
    for piece in range(1, max(starts, default=0) + 1):
        offsets.append(offsets[-1] + ends[piece - 1] - starts[piece])
    return tuple(offsets)


# Frames


def read_frames(video: Video, report: ReadReport) -> Iterator[TimedFrame]:
    """Yield frames in the order in which they are shown, with times that grow; damaged ones are passed over."""
    step = max(1, round(1 / (video.rate * video.time_base)))
    earliest, expected, first = None, 0, 0
    for number, frame in enumerate(_frames(video, report)):
        pts = expected if frame.pts is None else frame.pts
        pts = pts if earliest is None else max(pts, earliest)
        first = pts if earliest is None else first
        duration = frame.duration or step
        yield TimedFrame(number, pts, duration, frame)
        earliest, expected = pts + 1, pts + duration
        report.end = float((expected - first) * video.time_base)


def _frames(video: Video, report: ReadReport) -> Iterator[Any]:
    if video.pictures:
        yield from _picture_frames(video, report)
        return
    with open_video(video.path) as container:
        stream = video_stream(container, video.path)
        stream.thread_type = "AUTO"
        with _capture_log(report.problems):
            yield from _decode(container, stream, report, timeline_of(video, container))


@contextmanager
def _capture_log(problems: list[str]) -> Iterator[None]:
    """Add what FFmpeg logs as errors meanwhile: it conceals damage in frames, and takes a cut file for a whole one."""
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=False) as logs:
            yield
            problems += list(dict.fromkeys(f"{name}: {message.strip()}" for _, name, message in logs))
    finally:
        av.logging.set_level(None)  # before the container is closed: its threads would wait for us to log


def to_rgb(video: Video, tick: TimedFrame) -> Frame:
    """Convert a frame to uint8 (H, W, 3), upright. UnreadableVideoError where it has another size than the first."""
    frame, colours = tick.frame, video.source_colours
    size = (frame.height, frame.width) if video.transposed else (frame.width, frame.height)
    if size != (video.width, video.height):
        sizes = f"frame {tick.number} has {size[0]} x {size[1]} pixels and the first {video.width} x {video.height}"
        raise UnreadableVideoError(f"input={video.path}: {sizes}; videos that change their size are not stylized")
    has_alpha = any(component.is_alpha for component in frame.format.components) and not video.is_hdr
    values = frame.reformat(
        format="rgb48le" if video.is_hdr else "rgba" if has_alpha else "rgb24",
        src_colorspace=colours.matrix,
        src_color_range=colours.range,
        dst_color_range=_FULL,
    ).to_ndarray()
    if has_alpha:  # as of pictures, what is transparent becomes white
        colors, alpha = values[..., :3].astype(np.uint32), values[..., 3:].astype(np.uint32)
        values = ((colors * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    if video.is_hdr:
        values = to_sdr(values, colours.transfer, wide=colours.primaries == _BT2020)
    if video.transposed:
        values = values.swapaxes(0, 1)
    values = values[:: -1 if video.flip_y else 1, :: -1 if video.flip_x else 1]
    return np.ascontiguousarray(values)


def _decode(container: Any, stream: Any, report: ReadReport, timeline: Timeline) -> Iterator[Any]:
    for packet in _packets(container, [stream], report.problems):
        report.packets += packet.size > 0
        timeline.shift(packet)
        try:
            for frame in packet.decode():
                if frame.is_corrupt:
                    report.problems.append("a frame is damaged")
                yield frame
        except av.EOFError:
            return
        except av.FFmpegError as error:
            report.problems.append(_message(error))
            if len(report.problems) >= _MOST_PROBLEMS:
                return


def _packets(container: Any, streams: Sequence[Any], problems: list[str]) -> Iterator[Any]:
    """Yield packets of some streams, in the file's order, as far as they can be read."""
    packets = container.demux(streams)
    while len(problems) < _MOST_PROBLEMS:
        try:
            packet = next(packets, None)
        except av.EOFError:
            return
        except av.FFmpegError as error:
            problems.append(_message(error))
            continue
        if packet is None:
            return
        yield packet


# Pictures, one after the other


def _read_picture_sequence(path: Path, fps: float | None) -> Video:
    """Read a folder or a pattern of pictures, in the order of the numbers in their names."""
    if path.is_dir():
        files = list_pictures(path)
    elif glob.has_magic(pattern := re.sub(r"%0?\d*d", "[0-9]*", str(path))):  # f_%03d.png, FFmpeg's way, too
        files = [match for name in glob.glob(pattern, recursive=True) if is_picture(match := Path(name))]
    else:
        raise UnreadableVideoError(f"input={path}: there is no such file")
    if not files:
        raise UnreadableVideoError(f"input={path}: there are no pictures")
    if fps is None:
        raise UnreadableVideoError(f"fps=... is missing: {path} are {len(files)} pictures, which have no times")
    files.sort(key=lambda file: natural_order(str(file)))
    step = Fraction(str(fps)).limit_denominator(1001)
    ends = [round(number / step / _TICK) for number in range(len(files) + 1)]
    timed = [(file, end - begin) for file, begin, end in zip(files, ends, ends[1:], strict=False)]
    try:
        picture = decode(files[0])
    except UnreadablePictureError as error:
        raise UnreadableVideoError(f"input={path}: {error}") from error
    sizes = {file: _stored_size(file) for file in files}
    if misfits := [file for file, size in sizes.items() if size not in (None, sizes[files[0]])]:
        differs = f"{misfits[0].name} has another size than {files[0].name}"
        raise UnreadableVideoError(f"input={path}: {differs}; pictures of one size expected")
    return _of_pictures(path, timed, width=picture.shape[2], height=picture.shape[1], rate=step)


def _read_animation(path: Path) -> Video | None:
    """Read an animated WebP or AVIF; None for any other file."""
    try:
        with open_picture(path) as picture:
            if picture.format not in ("WEBP", "AVIF") or getattr(picture, "n_frames", 1) < 2:
                return None
            durations, alpha = list[int](), list[int]()
            for number in range(picture.n_frames):  # type: ignore[attr-defined]
                picture.seek(number)
                picture.load()
                if "A" in picture.getbands():
                    alpha.append(int(np.asarray(picture.getchannel("A")).min()))
                durations.append(max(1, round(picture.info.get("duration") or 100)))  # milliseconds
            width, height = picture.size
    except (OSError, ValueError, SyntaxError):
        return None  # FFmpeg's to refuse
    rate = Fraction(len(durations) * 1000, sum(durations))
    timed = [(path, int(duration / (1000 * _TICK))) for duration in durations]
    video = _of_pictures(path, timed, width=width, height=height, rate=rate)
    return replace(video, transparent=min(alpha, default=255) < 255)


def _stored_size(file: Path) -> tuple[int, int] | None:
    try:
        with open_picture(file) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError):
        return None  # met, and counted, once its turn comes


def missing_numbers(video: Video) -> str:
    """Say where the numbers in pictures' names leave out some; "" where they do not."""
    numbers = [[int(part) for part in re.findall(r"\d+", file.stem)[-1:]] for file, _ in video.pictures]
    steps = [b[0] - a[0] for a, b in pairwise(numbers) if a and b]
    if len(steps) + 1 < len(numbers) or not steps or max(steps) == min(steps) or min(steps) < 1:
        return ""
    at = next(place for place, step in enumerate(steps) if step > min(steps))
    return f"{video.pictures[at][0].name} is followed by {video.pictures[at + 1][0].name}"


def _of_pictures(path: Path, timed: Sequence[tuple[Path, int]], *, width: int, height: int, rate: Fraction) -> Video:
    matrix = _BT709 if height >= _HD else _BT601
    colours = Colours(matrix, _LIMITED, _UNSPECIFIED, _UNSPECIFIED)
    return Video(path, width, height, _TICK, rate, len(timed), Fraction(1), colours, colours, pictures=timed)


def _picture_frames(video: Video, report: ReadReport) -> Iterator[Any]:
    pts, animation = 0, video.pictures[0][0] == video.path
    source = open_picture(video.path) if animation else None
    for number, (file, duration) in enumerate(video.pictures):
        report.packets += 1
        try:
            if source is not None:
                source.seek(number)
                picture = on_white(from_pil(source)).pixels
            else:
                picture = decode(file)
        except (UnreadablePictureError, OSError, ValueError) as error:
            report.problems.append(str(error))
        else:
            frame = av.VideoFrame.from_ndarray(picture.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
            frame.pts, frame.time_base, frame.duration = pts, _TICK, duration
            yield frame
        pts += duration
    if source is not None:
        source.close()
