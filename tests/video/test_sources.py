"""gan_style/video/decode.py and mux.py: joins, display matrices, HDR, covers, damage, pictures one after another."""

import struct
from io import BytesIO

import numpy as np
import pytest
from clips import add_frames, add_tone, av, smooth_picture, sound_packets, write_clip
from PIL import Image

from gan_style.video.decode import ReadReport, UnreadableVideoError, missing_numbers, probe, read_frames, to_rgb
from gan_style.video.encode import Encoder, choose_encoding
from gan_style.video.hdr import HLG, PQ, to_sdr
from gan_style.video.mux import copyable_streams, join, read_comment


def copied(video, target, container, note="{}"):
    """The video, encoded anew, with what fits of its other streams; what reading has met, and what does not fit."""
    encoding = choose_encoding(video, container, codec="libx264", crf=10, pixels=None, options={})
    encoder, report = Encoder(video, encoding), ReadReport()
    for tick in read_frames(video, report):
        encoder.add(to_rgb(video, tick), tick.pts, tick.duration)
    packets = encoder.finish()
    copied_streams, dropped = copyable_streams(video, container)
    times = [packet.pts for packet in packets]
    join(target, container, video, encoding, packets, times=times, copied_indices=copied_streams, note=note)
    return report, dropped


def first_picture(video):
    return to_rgb(video, next(read_frames(video, ReadReport())))


@pytest.mark.parametrize("sizes", [((64, 48), (128, 96)), ((128, 96), (64, 48))], ids=["second", "first"])
def test_the_track_that_players_show_is_stylized_and_alone_in_the_result(tmp_path, sizes):
    with av.open(str(tmp_path / "two.mp4"), "w") as file:
        streams = [file.add_stream("libx264", rate=25, options={"crf": "1"}) for _ in sizes]
        for stream, (width, height) in zip(streams, sizes, strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.disposition = av.stream.Disposition.default
        for number in range(12):
            for stream, (width, height) in zip(streams, sizes, strict=True):
                frame = av.VideoFrame.from_ndarray(smooth_picture(height, width, number), format="rgb24")
                frame.pts = number
                file.mux(stream.encode(frame))
        file.mux([packet for stream in streams for packet in stream.encode(None)])
    video = probe(tmp_path / "two.mp4")
    assert (video.width, video.height, video.tracks) == (128, 96, 2)
    _, dropped = copied(video, tmp_path / "o.mp4", "mp4")
    with av.open(str(tmp_path / "o.mp4")) as file:
        assert [(stream.type, stream.width) for stream in file.streams] == [("video", 128)] and not dropped


def test_what_a_container_cannot_hold_is_named_and_the_comment_is_kept(tmp_path):
    video = probe(write_clip(tmp_path / "clip.mp4"))
    assert copyable_streams(video, "mp4") == ([1], [])
    assert copyable_streams(video, "webm") == ([], ["stream 1 (audio, aac)"])
    copied(video, tmp_path / "o.mp4", "mp4", note='{"a": 1}')
    assert read_comment(tmp_path / "o.mp4") == {"a": 1} and read_comment(tmp_path / "clip.mp4") == {}
    with pytest.raises(UnreadableVideoError, match="no such file"):
        probe(tmp_path / "none.mp4")


def test_a_cameras_timecode_is_made_anew_and_does_not_keep_the_file_from_being_written(tmp_path):
    """Copied, its track ends the writing of mov and mp4 once all frames are done."""
    with av.open(str(tmp_path / "t.mov"), "w") as file:
        file.metadata["timecode"] = "10:20:30:05"
        add_frames(file, "libx264", [smooth_picture(48, 64, number) for number in range(3)])
    video = probe(tmp_path / "t.mov")
    assert copyable_streams(video, "mov") == copyable_streams(video, "mp4") == ([], [])
    copied(video, tmp_path / "o.mov", "mov")
    with av.open(str(tmp_path / "o.mov")) as result:
        assert [stream.type for stream in result.streams] == ["video", "data"]
        assert result.streams[1].metadata["timecode"] == "10:20:30:05"


# Joined recordings


@pytest.mark.parametrize("container", ["ts", "vob"])
def test_recordings_joined_byte_by_byte_go_on_at_the_join(tmp_path, container):
    with av.open(str(tmp_path / f"a.{container}"), "w") as file:
        tone = file.add_stream("mp2", rate=32000, layout="mono")
        add_frames(file, "mpeg2video", [smooth_picture(48, 64, number) for number in range(25)])
        add_tone(file, tone)
    data = (tmp_path / f"a.{container}").read_bytes()
    (tmp_path / f"t.{container}").write_bytes(data + data + data)
    first, three = (probe(tmp_path / f"{name}.{container}") for name in "at")
    assert len(first.offsets) == 1 and len(three.offsets) == 3
    single, times = ([float(tick.pts * v.time_base) for tick in read_frames(v, ReadReport())] for v in (first, three))
    assert len(times) == 3 * len(single)
    for number in range(3):
        piece = times[number * len(single) : (number + 1) * len(single)]
        assert [time - piece[0] for time in piece] == pytest.approx([time - single[0] for time in single], abs=1e-4)
    joins = [times[number * len(single)] - times[number * len(single) - 1] for number in (1, 2)]
    assert joins == pytest.approx([0.04, 0.04], abs=0.1)

    # The sound goes on with the pictures, every packet of it.
    copied(three, tmp_path / "o.mkv", "matroska")
    of_one, of_three = sound_packets(tmp_path / f"a.{container}"), sound_packets(tmp_path / "o.mkv")
    assert [data for _, data in of_three] == [data for _, data in of_one] * 3
    heard_at = [float(time) for time, _ in of_three]
    assert heard_at == sorted(heard_at) and heard_at[-1] - heard_at[0] == pytest.approx(3, abs=0.3)


# What a player shows


def with_matrix(path, a, b, c, d):
    """The header's display matrix replaced (ISO 14496-12, 8.3.2), its translation left at 0."""
    data = bytearray(write_clip(path, frames=3, sound=False).read_bytes())
    start = data.index(b"tkhd") + 44
    data[start : start + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((-1, 0, 0, 1), lambda x: x[:, ::-1]),  # a selfie camera's
        ((1, 0, 0, -1), lambda x: x[::-1]),
        ((-1, 0, 0, -1), lambda x: x[::-1, ::-1]),
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),
        ((0, -1, 1, 0), lambda x: np.rot90(x, 1)),
        ((0, 1, 1, 0), lambda x: x.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda x: x.swapaxes(0, 1)[::-1, ::-1]),
    ],
)
def test_the_whole_display_matrix_is_applied(tmp_path, matrix, expected):
    straight, turned = (probe(with_matrix(tmp_path / f"{m[0]}{m[1]}.mp4", *m)) for m in ((1, 0, 0, 1), matrix))
    frames = [first_picture(video) for video in (straight, turned)]
    assert frames[1].shape[:2] == (turned.height, turned.width)
    assert np.abs(expected(frames[0]).astype(int) - frames[1]).mean() < 2


def nits_in_pq(nits):
    power = (np.asarray(nits, np.float64) / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def test_pq_is_tone_mapped_where_dark_light_stays_and_highlights_keep_their_order():
    nits = np.array([0.0, 5.0, 20.0, 50.0, 203.0, 400.0, 1000.0])
    signal = np.round(nits_in_pq(nits) * 65535).astype(np.uint16)
    sdr = to_sdr(np.repeat(signal[None, :, None], 3, axis=2), PQ, wide=True)[0]
    assert (np.ptp(sdr.astype(int), axis=1) <= 1).all(), "greys stay grey"
    expected = (nits[:4] / 203) ** (1 / 2.4) * 255
    assert np.abs(sdr[:4, 0] - expected).max() <= 2
    assert (np.diff(sdr[:, 0].astype(int)) > 0).all() and sdr[-1, 0] >= 254 and sdr[4, 0] < 240


def test_hlg_s_reference_white_is_bright_and_not_burned_out():
    white, black = to_sdr(np.array([[[round(0.75 * 65535)] * 3, [0] * 3]], np.uint16), HLG, wide=True)[0, :, 0]
    assert 210 < white < 245 and black == 0


@pytest.mark.parametrize(("transfer", "name"), [(PQ, "smpte2084"), (HLG, "arib-std-b67")])
def test_an_hdr_video_becomes_one_of_bt709(tmp_path, transfer, name):
    with av.open(str(tmp_path / "hdr.mp4"), "w") as file:
        stream = file.add_stream("libx265", rate=25, options={"x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, transfer, 9, 1
        ramp = np.linspace(0, 0.7, 64) * 65535
        picture = np.repeat(np.repeat(ramp[None, :, None], 64, axis=0), 3, axis=2).astype(np.uint16)
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb48le")
            frame = frame.reformat(format="yuv420p10le", dst_colorspace=9, src_color_range=2, dst_color_range=1)
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    video = probe(tmp_path / "hdr.mp4")
    assert video.is_hdr and video.bits == 10
    values = first_picture(video)
    assert (values == 255).mean() < 0.05 and (np.diff(values[32, :, 1].astype(int)) >= -1).all()
    copied(video, tmp_path / "o.mp4", "mp4")
    with av.open(str(tmp_path / "o.mp4")) as file:
        frame = next(file.decode(video=0))
        assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (1, 1, 1)


# Covers


def with_cover(path, container):
    picture = BytesIO()
    Image.new("RGB", (30, 30), "red").save(picture, "PNG")
    with av.open(str(path), "w") as file, av.open(str(write_clip(path.with_name("plain.mp4")))) as source:
        if container == "mkv":
            file.add_attachment("cover.png", "image/png", picture.getvalue())
        streams = [file.add_stream_from_template(stream) for stream in source.streams]
        if container == "mp4":
            cover = file.add_stream("png", rate=1)
            cover.width, cover.height, cover.pix_fmt = 30, 30, "rgb24"
            cover.disposition = av.stream.Disposition.attached_pic
            packet = av.Packet(picture.getvalue())
            packet.stream, packet.pts, packet.dts = cover, 0, 0
            file.start_encoding()
            file.mux(packet)
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                file.mux(packet)
    return picture.getvalue()


@pytest.mark.parametrize("before", ["mp4", "mkv"])
@pytest.mark.parametrize("after", ["mp4", "mkv"])
def test_a_cover_is_kept(tmp_path, before, after):
    picture = with_cover(tmp_path / f"c.{before}", before)
    video = probe(tmp_path / f"c.{before}")
    _, dropped = copied(video, tmp_path / f"o.{after}", {"mkv": "matroska"}.get(after, after))
    assert dropped == []
    with av.open(str(tmp_path / f"o.{after}")) as file:
        covers = [s for s in file.streams.video if s.disposition & av.stream.Disposition.attached_pic]
        assert len(covers) == 1 and len(file.streams) == 3
        assert [bytes(packet) for packet in file.demux(covers[0]) if packet.size] == [picture]
    assert len(sound_packets(tmp_path / f"o.{after}")) == len(sound_packets(tmp_path / "plain.mp4"))


@pytest.mark.parametrize("container", ["mov", "webm"])
def test_a_cover_that_has_no_place_is_named(tmp_path, container):
    with_cover(tmp_path / "c.mkv", "mkv")
    _, dropped = copyable_streams(probe(tmp_path / "c.mkv"), container)
    assert any("cover" in message for message in dropped)


# Damage


def test_a_cut_matroska_file_is_known_to_end_early(tmp_path):
    data = write_clip(tmp_path / "whole.mkv", frames=60).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    for name, complete in (("whole", True), ("cut", False)):
        video, report = probe(tmp_path / f"{name}.mkv"), ReadReport()
        count = len(list(read_frames(video, report)))
        assert (report.problems == [] and report.end > video.seconds - 0.1) == complete and (count == 60) == complete


def test_concealed_damage_counts(tmp_path):
    data = bytearray(write_clip(tmp_path / "a.mp4", frames=60, sound=False).read_bytes())
    start = data.index(b"mdat") + 2000
    for place in range(start, len(data) * 3 // 4, 997):
        data[place] ^= 0x55
    (tmp_path / "b.mp4").write_bytes(data)
    report = ReadReport()
    list(read_frames(probe(tmp_path / "b.mp4"), report))
    assert report.problems


# Pictures, one after the other


@pytest.mark.parametrize("named", ["folder", "pattern", "FFmpeg's pattern"])
def test_a_folder_or_pattern_of_pictures_is_a_video(tmp_path, named):
    (tmp_path / "frames").mkdir()
    for number in range(12):
        Image.fromarray(smooth_picture(48, 64, number)).save(tmp_path / "frames" / f"f{number}.png")
    place = tmp_path / "frames" / {"folder": "", "pattern": "f*.png", "FFmpeg's pattern": "f%d.png"}[named]
    video = probe(place, fps=24)
    actual = list(read_frames(video, ReadReport()))
    assert (video.width, video.height, video.frames, video.rate) == (64, 48, 12, 24)
    assert [tick.pts * video.time_base * 24 for tick in actual] == list(range(12))  # exactly
    for number in (1, 2, 10):  # by number: f2 before f10
        assert np.array_equal(to_rgb(video, actual[number]), smooth_picture(48, 64, number))
    with pytest.raises(UnreadableVideoError, match="fps"):
        probe(place)


def test_missing_numbers_are_named_and_other_sizes_refused_before_it_begins(tmp_path):
    for number in (1, 2, 3, 7, 8):
        Image.new("RGB", (64, 48)).save(tmp_path / f"f{number:03}.png")
    assert missing_numbers(probe(tmp_path, fps=24)) == "f003.png is followed by f007.png"
    (tmp_path / "f003.png").unlink()
    (tmp_path / "f001.png").unlink()
    (tmp_path / "f008.png").unlink()
    assert missing_numbers(probe(tmp_path, fps=24)) == "", "every fifth of a video"
    Image.new("RGB", (32, 48)).save(tmp_path / "f012.png")
    with pytest.raises(UnreadableVideoError, match=r"f012\.png has another size"):
        probe(tmp_path, fps=24)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mov"])
def test_transparency_becomes_white_and_is_told(tmp_path, suffix):
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[:, 32:] = (200, 40, 40, 255)
    path = tmp_path / f"a{suffix}"
    if suffix == ".mov":
        with av.open(str(path), "w") as file:
            add_frames(file, "png", [pixels] * 2, "rgba", pixel_format="rgba")
    else:
        pictures = [Image.fromarray(pixels), Image.fromarray(np.roll(pixels, 4, axis=0) // 2 * 2)]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, disposal=2, lossless=True)
    video = probe(path)
    frame = first_picture(video)
    assert (frame[:, :30] == 255).all() and np.abs(frame[:, 34:].astype(int) - (200, 40, 40)).max() <= 2
    assert video.transparent


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".avif"])
def test_animations_are_videos_with_their_own_times(tmp_path, suffix):
    pictures = [Image.fromarray(smooth_picture(48, 64, number)) for number in range(4)]
    durations = [100, 300, 50, 150]
    options = {"lossless": True} if suffix == ".webp" else {}
    pictures[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=pictures[1:], duration=durations, **options)
    video = probe(tmp_path / f"a{suffix}")
    actual = list(read_frames(video, ReadReport()))
    times = [round(float(tick.pts * video.time_base) * 1000) for tick in actual]
    assert [time - times[0] for time in times] == [0, 100, 400, 450]
    for number, tick in enumerate(actual):
        assert np.abs(to_rgb(video, tick).astype(int) - smooth_picture(48, 64, number)).mean() < 12
    copied(video, tmp_path / "o.mp4", "mp4")
    with av.open(str(tmp_path / "o.mp4")) as file:
        assert [round(float(frame.time) * 1000) for frame in file.decode(video=0)] == [0, 100, 400, 450]
