"""Writing frames: which encoder with which settings, and the packets that it makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from gan_style.video.decode import Video
from gan_style.video.temporal import Frame

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_USUAL = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "mpeg4", "mjpeg", "prores_ks", "ffv1")  # named in messages
_GOOD_CRF = {"libx264": 18, "libx265": 20, "libvpx-vp9": 24, "libsvtav1": 24}  # hardly to be told from the original
_BITS_PER_PIXEL = 0.25  # of a codec without a constant quality: as much as it takes to look good
_SPECIAL = {"libx265": {"x265-params": "log-level=error"}}


@dataclass(frozen=True)
class Encoding:
    """How results are encoded: an encoder's name, its pixel format, its private options, and its bits a second."""

    codec: str
    pixels: str
    options: Mapping[str, str]
    bit_rate: int


def container_format(output: Path) -> str:
    """Return FFmpeg's name of the kind of file that a suffix stands for."""
    kind = CONTAINERS.get(output.suffix.lower())
    if kind is None:
        raise ValueError(f"output={output}: cannot write {output.suffix or 'this'}; known are {', '.join(CONTAINERS)}")
    return kind


def choose_encoding(
    video: Video, container: str, *, codec: str, crf: Any, pixels: str | None, options: Mapping[str, Any]
) -> Encoding:
    """Choose and check the encoder's settings. ValueError in the user's words for what this build of FFmpeg cannot do.

    crf: "auto", or a number for codecs that know it; pixels: a pixel format, None for the codec's most usual one.
    """
    context = _encoder(codec, container)
    private_options = {option.name for option in context.supported_options.private}
    if unknown := sorted(set(options) - private_options):
        allowed = ", ".join(sorted(private_options))
        raise ValueError(f"options.{unknown[0]}: {codec} has no such option; it has {allowed}")
    chosen = {name: str(value) for name, value in (_SPECIAL.get(codec, {}) | dict(options)).items()}
    if crf != "auto" and "crf" not in private_options:
        raise ValueError(f"crf={crf}: {codec} has no constant quality; leave it out, or choose another codec")
    if "crf" in private_options:
        chosen.setdefault("crf", str(_GOOD_CRF.get(codec, 20) if crf == "auto" else crf))
    formats = [layout.name for layout in context.codec.video_formats or []]
    bit_rate = 0 if "crf" in private_options else int(_BITS_PER_PIXEL * video.width * video.height * video.rate)
    encoding = Encoding(codec, _pixels(video, codec, pixels, formats), chosen, bit_rate)
    _try(video, encoding)
    return encoding


def _encoder(codec: str, container: str) -> Any:
    usable = [name for name in _USUAL if _context_of(name) is not None and _can_hold(name, container)]
    context = _context_of(codec)
    if context is None:
        raise ValueError(f"codec={codec}: there is no such video encoder here; there are {', '.join(usable)}")
    if not _can_hold(codec, container):
        raise ValueError(f"codec={codec}: a {container} file cannot hold it; it can hold {', '.join(usable)}")
    return context


def _context_of(codec: str) -> Any:
    try:
        context = av.CodecContext.create(codec, "w")
    except (av.FFmpegError, ValueError):
        return None
    return context if context.type == "video" else None


def _can_hold(codec: str, container: str) -> bool:
    with av.open("/dev/null", "w", format=container) as nothing:
        return codec in nothing.supported_codecs


def _pixels(video: Video, codec: str, pixels: str | None, formats: Sequence[str]) -> str:
    """Choose 4:2:0 where the sides allow it, which plays everywhere; 4:4:4 for odd sides."""
    if pixels is not None and pixels not in formats:
        raise ValueError(f"pixels={pixels}: {codec} cannot; it can do {', '.join(formats)}")
    even = video.width % 2 == video.height % 2 == 0
    usual = ("yuv420p", "yuvj420p", "yuv422p10le") if even else ("yuv444p", "yuvj444p", "yuv444p10le")
    name = pixels or next((name for name in formats if name in usual), formats[0])
    layout = av.VideoFormat(name, video.width, video.height)
    halved = (layout.chroma_width() < video.width, layout.chroma_height() < video.height)
    if any(half and side % 2 for half, side in zip(halved, (video.width, video.height), strict=True)):
        size = f"the video has {video.width} x {video.height} pixels"
        raise ValueError(f"pixels={name} of {codec} needs even sides, and {size}; codec=libx264 takes any")
    return name


def _try(video: Video, encoding: Encoding) -> None:
    """Raise ValueError where the encoder does not take these settings: it says so when it is opened."""
    if encoding.codec == "libsvtav1" and min(video.width, video.height) < 64:  # it would crash
        raise ValueError(f"codec=libsvtav1 needs 64 pixels a side; the video has {video.width} x {video.height}")
    context = configure(av.CodecContext.create(encoding.codec, "w"), video, encoding)
    try:
        context.open()
    except (av.FFmpegError, ValueError) as error:
        settings = f"codec={encoding.codec} with pixels={encoding.pixels} and {dict(encoding.options)}"
        size, reason = f"{video.width} x {video.height} pixels", getattr(error, "strerror", "") or error
        raise ValueError(f"{settings} cannot encode {size} here ({reason})") from error


def configure(context: Any, video: Video, encoding: Encoding) -> Any:
    """Give an encoder's context its settings. It counts frames: their times are none of its business."""
    context.width, context.height, context.pix_fmt = video.width, video.height, encoding.pixels
    context.framerate = video.rate.limit_denominator(1001)
    context.time_base = 1 / context.framerate
    context.sample_aspect_ratio = video.aspect
    context.bit_rate = encoding.bit_rate
    context.options = dict(encoding.options)
    context.colorspace = video.colours.matrix  # swscale's number of a matrix is FFmpeg's tag for it
    context.color_range = _range(video, encoding)
    context.color_primaries, context.color_trc = video.colours.primaries, video.colours.transfer
    context.flags |= av.codec.context.Flags.global_header
    return context


def _range(video: Video, encoding: Encoding) -> int:
    return 2 if encoding.pixels.startswith("yuvj") else video.colours.range


@dataclass(frozen=True)
class EncodedPacket:
    """A packet as plain values: times in ticks, and its bytes."""

    pts: int
    duration: int
    key: bool
    data: bytes


class Encoder:
    """Encodes frames of one segment; a new one begins with a key frame and needs nothing of what was before."""

    def __init__(self, video: Video, encoding: Encoding) -> None:
        self.video, self.encoding = video, encoding
        self._context = configure(av.CodecContext.create(encoding.codec, "w"), video, encoding)
        self._times: list[tuple[int, int]] = []
        self._packets: list[EncodedPacket] = []

    def add(self, picture: Frame, pts: int, duration: int) -> None:
        """Add a result, shown from ``pts`` on."""
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            format=self.encoding.pixels,
            src_color_range=2,
            dst_colorspace=self.video.colours.matrix,
            dst_color_range=_range(self.video, self.encoding),
        )
        frame.pts, frame.time_base = len(self._times), self._context.time_base
        self._times.append((pts, duration))
        self._take(self._context.encode(frame))

    def finish(self) -> list[EncodedPacket]:
        """Return all packets, in the order in which they are decoded."""
        self._take(self._context.encode(None))
        return self._packets

    def _take(self, packets: Sequence[Any]) -> None:
        for packet in packets:
            pts, duration = self._times[packet.pts]
            self._packets.append(EncodedPacket(pts, duration, packet.is_keyframe, bytes(packet)))


def decode_times(display_times: Sequence[int]) -> list[int]:
    """Return when packets are to be decoded, of the times at which they are shown (all different), in decoding order.

    Growing, and never later than shown: the sorted times, delayed by as many packets as the order needs. Before the
    first they have the last ones' distances, so that they span as much time as the frames: files tell their length so.
    """
    ordered = sorted(display_times)
    rank = {pts: number for number, pts in enumerate(ordered)}
    delay = max((number - rank[pts] for number, pts in enumerate(display_times)), default=0)
    early = [ordered[0] - (ordered[-1] - ordered[number - delay - 1]) for number in range(delay)]
    return early + ordered[: len(ordered) - delay]
