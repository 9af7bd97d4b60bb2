"""The output: segments joined, and everything else that was in the source, copied."""

import heapq
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from gan_style.runtime.files import write_durably
from gan_style.video.decode import Timeline, Video, is_cover, open_video, timeline_of, video_stream
from gan_style.video.encode import EncodedPacket, Encoding, configure, decode_times

_TIMED = ("mp4", "mov")  # with timecode tracks, which cannot be copied
_COVERS = ("mp4", "matroska")  # which can hold a picture that stands for the whole
# How metadata begin that tell of the source's file and encoding, and not of the result's.
_OF_OLD_FILE = (
    *("encoder", "rotate", "duration", "vendor_id", "bps", "number_of_", "_"),
    *("major_brand", "minor_version", "compatible_brands"),
)


def copyable_streams(video: Video, container: str) -> tuple[list[int], list[str]]:
    """Return the numbers of the source's other streams that such a file can hold, and what it cannot, in words."""
    copied_indices: list[int] = []
    dropped: list[str] = []
    if video.streams_of is None:
        return copied_indices, dropped
    with open_video(video.streams_of) as source:
        stylized = video_stream(source, video.path)
        for stream in source.streams:
            another_track = stream.type == "video" and not is_cover(stream)  # not stylized: players might show it
            # A camera's time of beginning, and chapters' titles in MP4, are written anew from what is passed on.
            is_timecode = container in _TIMED and stream.type == "data" and "timecode" in stream.metadata
            is_bin_data = stream.type == "data" and stream.name == "bin_data"
            is_titles = is_bin_data and stream.frames == len(source.chapters()) > 0
            if stream.index == stylized.index or another_track or is_timecode or is_titles:
                continue
            if container in _COVERS if is_cover(stream) else _can_hold(stream, container):
                copied_indices.append(stream.index)
            else:
                context = getattr(stream, "codec_context", None)
                kind = "cover picture" if is_cover(stream) else stream.type
                codec = f", {context.name}" if context is not None else ""
                dropped.append(f"stream {stream.index} ({kind}{codec})")
    return copied_indices, dropped


def _can_hold(stream: Any, container: str) -> bool:
    """Try in memory: a container tells what it cannot hold when its header is written."""
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError, TypeError):
        return False
    return True


def join(
    output: Path,
    container: str,
    video: Video,
    encoding: Encoding,
    packets: Iterable[EncodedPacket],
    *,
    times: Sequence[int],
    copied_indices: Iterable[int],
    note: str,
) -> None:
    """Write the output, whole or not at all.

    packets: of all segments, in decoding order, and when they are shown (times, in ticks); copied_indices: of
    copyable_streams; note: the file's comment. Times are the source's, tick by tick where the container can hold that.
    """
    timed = zip(packets, decode_times(times), strict=True)
    write_durably(output, lambda file: _write(Path(file.name), container, video, encoding, timed, copied_indices, note))


def _write(
    path: Path,
    container: str,
    video: Video,
    encoding: Encoding,
    timed: Iterable[tuple[EncodedPacket, int]],
    copied_indices: Iterable[int],
    note: str,
) -> None:
    options = {"movflags": "+faststart"} if container in _TIMED else {}
    with ExitStack() as opened:
        source = None if video.streams_of is None else opened.enter_context(open_video(video.streams_of))
        target = opened.enter_context(av.open(str(path.absolute()), "w", format=container, options=options))

        # Streams in the source's order; a cover is a stream of its own, or in Matroska an attachment.
        streams: dict[int, Any] = {}
        covers: list[Any] = []
        stylized = None if source is None else video_stream(source, video.path).index
        for stream in [None] if source is None else source.streams:
            if stream is None or stream.index == stylized:
                streams[-1] = target.add_stream(encoding.codec, rate=video.rate.limit_denominator(1001))
                configure(streams[-1].codec_context, video, encoding)
                streams[-1].time_base = video.time_base
                if stream is not None:
                    _describe(streams[-1], stream)
            elif stream.index in copied_indices and is_cover(stream):
                with open_video(video.path) as file:
                    picture = next(bytes(packet) for packet in file.demux(file.streams[stream.index]) if packet.size)
                if container == "matroska":
                    kind = stream.codec_context.name.replace("mjpeg", "jpeg")
                    name = stream.metadata.get("filename", f"cover.{kind.replace('jpeg', 'jpg')}")
                    target.add_attachment(name, stream.metadata.get("mimetype", f"image/{kind}"), picture)
                else:
                    cover = av.Packet(picture)
                    cover.stream = target.add_stream_from_template(stream)
                    cover.stream.disposition = stream.disposition
                    cover.pts, cover.dts, cover.is_keyframe = 0, 0, True
                    covers.append(cover)
            elif stream.index in copied_indices:
                streams[stream.index] = target.add_stream_from_template(stream)
                _describe(streams[stream.index], stream)
        target.metadata.update((_portable_metadata(source.metadata) if source is not None else {}) | {"comment": note})
        if source is not None:
            target.set_chapters(source.chapters())

        # Packets of all streams, by their times.
        pictures = _packets(timed, streams.pop(-1), video.time_base)
        copied = iter(()) if source is None else _copy_packets(source, streams, timeline_of(video, source))
        for packet in covers:
            target.mux(packet)
        for _, packet in heapq.merge(pictures, copied, key=lambda pair: pair[0]):
            target.mux(packet)


def _describe(stream: Any, source: Any) -> None:
    """Copy a stream's language, title and role; not what tells of its old encoding."""
    stream.metadata.update(_portable_metadata(source.metadata))
    stream.disposition = source.disposition


def _portable_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if not key.lower().startswith(_OF_OLD_FILE)}


def _packets(
    timed: Iterable[tuple[EncodedPacket, int]], stream: Any, time_base: Fraction
) -> Iterator[tuple[float, Any]]:
    for coded, when in timed:
        packet = av.Packet(coded.data)
        packet.stream, packet.time_base = stream, time_base
        packet.pts, packet.dts, packet.duration, packet.is_keyframe = coded.pts, when, coded.duration, coded.key
        yield float(when * time_base), packet


def _copy_packets(source: Any, streams: Mapping[int, Any], timeline: Timeline) -> Iterator[tuple[float, Any]]:
    """Yield packets of other streams as they are, in the file's order; what cannot be read ends them."""
    if not streams:
        return
    packets, latest = source.demux([source.streams[index] for index in streams]), float("-inf")
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            return  # the pictures' reader has said that the file is damaged
        if packet is None:
            return
        timeline.shift(packet)
        when = packet.pts if packet.dts is None else packet.dts
        if packet.size and when is not None:
            latest = max(latest, float(when * packet.time_base))
            packet.stream = streams[packet.stream_index]
            yield latest, packet


def read_comment(path: Path) -> dict[str, Any]:
    """Read the note that ``join`` has put into a file, from JSON; {} where there is none."""
    try:
        with av.open(str(path.absolute())) as container:
            texts = [text for key, text in container.metadata.items() if key.lower() == "comment"]
            note = json.loads(texts[0]) if texts else {}
    except (av.FFmpegError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}
