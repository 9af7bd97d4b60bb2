"""Reading, encoding and joining videos."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import TICK, av, frame_times, smooth_picture, write_clip
from hypothesis import given
from hypothesis import strategies as st

from gan_style.video.decode import ReadReport, probe, read_frames, to_rgb
from gan_style.video.encode import EncodedPacket, Encoder, choose_encoding, decode_times
from gan_style.video.mux import join, read_comment
from gan_style.video.run import Segment, Segments
from gan_style.video.temporal import WarpErrors


def pictures_of(path):
    video = probe(path)
    return [to_rgb(video, tick) for tick in read_frames(video, ReadReport())]


class TestReading:
    def test_tells_what_is_there(self, tmp_path):
        video = probe(write_clip(tmp_path / "clip.mp4", frames=9, size=(64, 48)))
        assert (video.width, video.height, video.frames, video.rate) == (64, 48, 9, Fraction(30000, 1001))
        assert video.time_base == TICK and video.aspect == 1 and not (video.transposed or video.flip_x or video.flip_y)

    def test_frames_are_the_pictures(self, tmp_path):
        smooth = smooth_picture(48 + 8, 64 + 8)
        actual = pictures_of(write_clip(tmp_path / "clip.mp4"))
        assert len(actual) == 8
        for number, picture in enumerate(actual):
            expected = smooth[number : number + 48, number : number + 64]
            assert np.abs(picture.astype(int) - expected).mean() < 6

    def test_have_times_that_grow_even_where_the_file_has_none(self, tmp_path):
        with av.open(str(write_clip(tmp_path / "clip.mp4", frames=6))) as source:
            unpack = av.BitStreamFilterContext("h264_mp4toannexb", source.streams.video[0])
            raw = b"".join(bytes(part) for p in source.demux(video=0) if p.size for part in unpack.filter(p))
        (tmp_path / "raw.h264").write_bytes(raw)
        actual = list(read_frames(probe(tmp_path / "raw.h264"), ReadReport()))
        times = [tick.pts for tick in actual]
        assert len(times) == 6 and times == sorted(set(times))


COLOURS = [(matrix, limits) for matrix in (1, 5, 9) for limits in (1, 2)]


@pytest.mark.parametrize(("matrix", "limits"), COLOURS)
def test_colours_come_back_as_they_went_in(tmp_path, matrix, limits):
    """BT.709, BT.601 and BT.2020, limited and full range: read right, written the same way, and labelled so."""
    video = probe(write_clip(tmp_path / "clip.mp4", sound=False))
    video = replace(video, colours=replace(video.colours, matrix=matrix, range=limits))
    encoding = choose_encoding(video, "mp4", codec="libx264", crf=1, pixels="yuv444p", options={})
    encoder = Encoder(video, encoding)
    sent = np.zeros((48, 64, 3), np.uint8)
    for place, colour in enumerate([(200, 30, 60), (10, 220, 40), (20, 40, 250), (255, 255, 255)]):
        sent[:, 16 * place : 16 * place + 16] = colour
    encoder.add(sent, 0, 1001)
    join(tmp_path / "o.mp4", "mp4", video, encoding, encoder.finish(), times=[0], copied_indices=[], note="{}")
    (actual,) = pictures_of(tmp_path / "o.mp4")
    assert (probe(tmp_path / "o.mp4").colours.matrix, probe(tmp_path / "o.mp4").colours.range) == (matrix, limits)
    assert np.abs(actual.astype(int) - sent)[:, [4, 20, 36, 52]].max() <= 5


class TestDecodeTimes:
    def test_of_packets_in_the_order_of_showing_are_their_own(self):
        assert decode_times([0, 5, 7]) == [0, 5, 7]

    def test_lag_by_as_many_as_the_order_needs(self):
        """I P B B, as libx264 sends: the second B is decoded last but shown third."""
        assert decode_times([0, 30, 10, 20]) == [-10, 0, 10, 20]

    @given(st.lists(st.integers(0, 10**6), unique=True, max_size=30), st.randoms())
    def test_grow_are_never_late_and_span_as_much(self, times, random):
        random.shuffle(times)
        actual = decode_times(times)
        assert all(when <= presented for when, presented in zip(actual, times, strict=True))
        assert actual == sorted(set(actual))
        assert not times or actual[-1] - actual[0] == max(times) - min(times)


class TestEncoding:
    @pytest.fixture
    def video(self, tmp_path):
        return probe(write_clip(tmp_path / "clip.mp4", sound=False))

    def choose(self, video, container="mp4", **changed):
        options = {"codec": "libx264", "crf": "auto", "pixels": None, "options": {}}
        return choose_encoding(video, container, **options | changed)

    @pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "mpeg4", "ffv1", "mjpeg"])
    def test_keeps_number_and_times_of_frames_whatever_the_codec(self, video, tmp_path, codec):
        if codec not in av.codecs_available:
            pytest.skip(f"this build of FFmpeg has no {codec}")
        encoding = self.choose(video, "matroska", codec=codec)
        packets = []
        for segment in range(2):
            encoder = Encoder(video, encoding)
            for number in range(5):
                pts = 3003 * (5 * segment + number)  # whole milliseconds, which is all that Matroska knows
                encoder.add(smooth_picture(48, 64, number), pts - pts % 30, 3000)
            packets += encoder.finish()
            assert packets[5 * segment].key
        target, times = tmp_path / "o.mkv", [item.pts for item in packets]
        join(target, "matroska", video, encoding, packets, times=times, copied_indices=[], note="{}")
        assert frame_times(target) == [time * TICK for time in sorted(times)]

    def test_takes_odd_sides_where_the_codec_can(self, tmp_path):
        video = probe(write_clip(tmp_path / "odd.mp4", size=(63, 47), pixels="yuv444p", sound=False))
        assert self.choose(video).pixels == "yuv444p"
        for changed in ({"codec": "mpeg4"}, {"pixels": "yuv420p"}):
            with pytest.raises(ValueError, match=r"even sides.*63 x 47"):
                self.choose(video, **changed)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"codec": "nonsense"}, r"codec=nonsense: there is no such video encoder here; there are libx264, "),
            ({"codec": "aac"}, "no such video encoder"),
            ({"container": "webm"}, r"codec=libx264: a webm file cannot hold it; it can hold .*libvpx-vp9"),
            ({"codec": "mpeg4", "crf": 20}, "crf=20: mpeg4 has no constant quality"),
            ({"pixels": "rgb24"}, r"pixels=rgb24: libx264 cannot; it can do yuv420p"),
            ({"options": {"speed": 1}}, r"options.speed: libx264 has no such option; it has .*preset"),
            ({"options": {"preset": "sluggish"}}, "cannot encode 64 x 48 pixels here"),
        ],
    )
    def test_says_what_cannot_be_and_what_can(self, video, changed, message):
        with pytest.raises(ValueError, match=message):
            self.choose(video, **changed)


class TestSegments:
    def test_are_there_only_whole(self, tmp_path):
        segments = Segments(tmp_path / "o.mp4.parts")
        segments.begin({"crf": 18})
        last = smooth_picture(9, 7).astype(np.float32) * (255 / 256)
        packets = [EncodedPacket(5, 1, True, b"abc"), EncodedPacket(6, 1, False, b"de")]
        segment = Segment(2, packets, WarpErrors(1, 0.5, 0.25, [1]), last)
        segments.save(0, segment)
        assert segments.load(1) is None
        loaded = segments.load(0)
        assert (loaded.frames, loaded.packets, loaded.tally) == (2, packets, segment.tally)
        np.testing.assert_array_equal(loaded.last, last)
        (file,) = (tmp_path / "o.mp4.parts").glob("0*")
        file.write_bytes(file.read_bytes()[:-9])
        assert segments.load(0) is None

    def test_belong_to_one_set_of_settings(self, tmp_path):
        segments = Segments(tmp_path / "parts")
        segments.begin({"crf": 18, "blend": 0.5})
        segments.begin({"blend": 0.5, "crf": 18})
        with pytest.raises(ValueError, match=r"other settings[\s\S]*crf: 18 there, 20 here$"):
            segments.begin({"crf": 20, "blend": 0.5})
        segments.remove(0)
        assert not (tmp_path / "parts").exists()

    def test_other_files_in_their_folder_stay_and_are_told(self, tmp_path, capsys):
        segments = Segments(tmp_path / "parts")
        segments.begin({})
        (tmp_path / "parts" / "000000.bin").write_bytes(b"of an older version")
        segments.remove(1)
        assert [path.name for path in (tmp_path / "parts").iterdir()] == ["000000.bin"]
        assert "000000.bin" in capsys.readouterr().err


def test_a_name_with_a_colon_is_a_file(tmp_path, monkeypatch):
    write_clip(tmp_path / "clip.mp4").rename(tmp_path / "12:30.mp4")
    monkeypatch.chdir(tmp_path)
    assert probe(Path("12:30.mp4")).frames == 8 and read_comment(Path("12:30.mp4")) == {}
