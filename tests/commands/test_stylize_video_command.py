"""gan-style stylize-video, from the command line to the file that it writes."""

import importlib
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import RATE, TICK, av, frame_times, smooth_picture, sound_packets, write_clip
from generators import make_resnet, write_file
from PIL import Image
from processes import finish, start, wait_until

import gan_style as gan_style_package


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_file(tmp_path / "g.safetensors", make_resnet(width=2, blocks=0), step=1)


def pictures_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]).astype(int)


def options(model: Path, source: Path, output: Path, *more: str) -> list[str]:
    return [f"checkpoint={model}", f"input={source}", f"output={output}", "runtime.threads=1", *more]


@pytest.fixture
def paint(gan_style, model):
    """paint(source, target, "name=value", ...): what the command prints."""
    return lambda *arguments, status=0: gan_style("stylize_video", *options(model, *arguments), status=status)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_sound_frames_and_times_are_kept(paint, tmp_path, suffix):
    source, target = write_clip(tmp_path / "clip.mp4", frames=11), tmp_path / f"o{suffix}"
    outcome = paint(source, target, "segment=4", "batch=3")
    assert frame_times(target) == frame_times(source)
    assert sound_packets(target) == sound_packets(source) != []
    with av.open(str(target)) as file:
        video = file.streams.video[0]
        assert (video.width, video.height, video.average_rate, video.time_base) == (64, 48, RATE, TICK)
    assert "frames/s" in outcome.out and "0 scene cuts" in outcome.out and "warp error" in outcome.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "g.safetensors", target.name]


def test_the_pictures_are_the_generator_s(paint, tmp_path):
    from gan_style.stylize.batch import stylize

    source, target = write_clip(tmp_path / "clip.mp4", frames=5), tmp_path / "o.mp4"
    paint(source, target, "crf=1", "pixels=yuv444p")
    generator = make_resnet(width=2, blocks=0).eval()
    for photo, actual in zip(pictures_of(source), pictures_of(target), strict=True):
        picture = torch.from_numpy(photo.astype(np.uint8)).permute(2, 0, 1)
        expected = (stylize(generator, picture, torch.device("cpu")) + 1) * 127.5
        assert np.abs(actual - expected.permute(1, 2, 0).numpy()).mean() < 3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_variable_frame_rate_is_kept(paint, tmp_path, suffix):
    times = [0, 1020, 3000, 3990, 9000, 9990, 30000, 31020, 33000]
    source, target = write_clip(tmp_path / f"clip{suffix}", frames=9, times=times), tmp_path / f"o{suffix}"
    paint(source, target, "segment=3")
    assert frame_times(target) == frame_times(source) == [time * TICK for time in times]


def test_scene_cuts_are_noticed_also_between_segments(paint, tmp_path):
    source = write_clip(tmp_path / "clip.mp4", frames=12, pictures=3, sound=False)
    outcome = paint(source, tmp_path / "o.mp4", "segment=4", "blend=0.5")
    assert "2 scene cuts (at frames 4, 8)" in outcome.out, outcome.err


def test_strength_0_is_the_video_itself(paint, tmp_path):
    source, target = write_clip(tmp_path / "clip.mp4", frames=4), tmp_path / "o.mp4"
    paint(source, target, "strength=0", "crf=1", "pixels=yuv444p")
    assert np.abs(pictures_of(target) - pictures_of(source)).mean() < 2


def test_frames_get_the_style_of_a_picture_and_another_picture_makes_another_video(gan_style, tmp_path):
    source, target = write_clip(tmp_path / "clip.mp4", frames=3), tmp_path / "o.mp4"
    for name, color in (("rust", (180, 70, 20)), ("sea", (10, 60, 160))):
        noise = Image.effect_noise((70, 90), 90).convert("RGB")
        Image.blend(Image.new("RGB", (70, 90), color), noise, 0.3).save(tmp_path / f"{name}.png")
    arguments = ("stylize_video", f"input={source}", f"output={target}", "crf=1", "pixels=yuv444p", "runtime.threads=1")
    gan_style(*arguments, f"reference={tmp_path / 'rust.png'}")
    frame = Image.fromarray(pictures_of(source)[1].astype("uint8"))
    still = np.asarray(gan_style_package.load("shipped:any")(frame, reference=tmp_path / "rust.png")).astype(int)
    assert np.abs(pictures_of(target)[1] - still).mean() < 4
    gan_style(*arguments, f"reference={tmp_path / 'sea.png'}", status=2)  # the earlier result is kept


def test_blending_makes_results_flicker_less(paint, tmp_path):
    source, errors = write_clip(tmp_path / "clip.mp4", frames=10, sound=False), []
    for blend in (0.0, 0.8):
        target = tmp_path / f"{blend}.mp4"
        outcome = paint(source, target, f"blend={blend}", "segment=4")
        errors.append(float(outcome.out.split("result ")[1].split()[0]))
    assert errors[1] < 0.5 * errors[0]


def interrupted(arguments: list[str], parts: Path, number: int, sent: int) -> int:
    """Start the command in a process of its own, send a signal once a segment is there; its status."""
    process = start("cli", "stylize-video", *arguments)
    wait_until((parts / f"{number:06}.npz").is_file, process)
    process.send_signal(sent)
    return finish(process)[0]


def test_stopped_and_killed_it_goes_on_and_nothing_is_made_twice(paint, gan_style, model, tmp_path, monkeypatch):
    source, target = write_clip(tmp_path / "clip.mp4", frames=24, pictures=2), tmp_path / "o.mp4"
    arguments = options(model, source, target, "segment=1", "batch=1", "blend=0.5", "+options.preset=ultrafast")
    parts = tmp_path / "o.mp4.parts"
    assert interrupted(arguments, parts, 1, signal.SIGTERM) == 75
    assert not target.exists() and list(parts.glob("0*.npz"))
    there = len(list(parts.glob("0*.npz")))
    assert interrupted(arguments, parts, there + 1, signal.SIGKILL) == -signal.SIGKILL
    assert not target.exists()
    (parts / "000001.npz").write_bytes(b"damaged")
    result = [path.stat().st_mtime_ns for path in sorted(parts.glob("0*.npz")) if path.stem != "000001"]
    run = importlib.import_module("gan_style.video.run")
    batches, before = [], run.stylize_frames
    monkeypatch.setattr(
        run, "stylize_frames", lambda painter, frames: batches.append(len(frames)) or before(painter, frames)
    )
    refused = gan_style("stylize_video", *arguments, "crf=30", status=2)
    assert "made with other settings" in refused.err and "crf" in refused.err
    outcome = gan_style("stylize_video", *arguments)
    assert sum(batches) == 24 - len(result)
    assert frame_times(target) == frame_times(source) and not parts.exists()
    uninterrupted = paint(source, tmp_path / "w.mp4", *arguments[4:])
    assert "1 scene cuts (at frames 12)" in uninterrupted.out and "1 scene cuts (at frames 12)" in outcome.out
    assert uninterrupted.out.splitlines()[-2] == outcome.out.splitlines()[-2]  # the warp errors
    apart = np.abs(pictures_of(target) - pictures_of(tmp_path / "w.mp4"))
    assert apart.mean() < 0.5  # libx264's threads do not always find the same


def test_finished_it_does_nothing_and_another_s_file_is_not_replaced(paint, gan_style, tmp_path):
    source, target = write_clip(tmp_path / "clip.mp4", frames=3), tmp_path / "o.mp4"
    paint(source, target)
    first = target.read_bytes()
    again = paint(source, target)
    assert "finished already" in again.out and target.read_bytes() == first
    other = paint(source, target, "crf=30", status=2)
    assert "overwrite=true" in other.err and target.read_bytes() == first
    paint(source, target, "crf=30", "overwrite=true")
    assert target.read_bytes() != first
    with av.open(str(target)) as file:
        note = json.loads(file.metadata["comment"])
    assert note["strength"] == 1.0 and len(note["checkpoint"]) == 64
    outcome = gan_style("info", f"file={target}")
    assert "strength" in outcome.out and note["checkpoint"] in outcome.out
    gan_style("info", f"file={source}", status=2)


def test_what_cannot_be_kept_is_said(paint, tmp_path):
    source, target = write_clip(tmp_path / "clip.mp4", frames=3), tmp_path / "o.webm"
    outcome = paint(source, target, "codec=libvpx-vp9")
    assert "warning: stream 1 (audio, aac) cannot be kept in .webm" in outcome.err


def test_a_truncated_video_is_done_as_far_as_it_goes_and_the_status_tells(paint, tmp_path):
    with av.open(str(tmp_path / "whole.mp4"), "w", options={"movflags": "faststart"}) as file:
        video = file.add_stream("libx264", rate=25, options={"crf": "1", "bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(20):
            file.mux(video.encode(av.VideoFrame.from_ndarray(smooth_picture(48, 64, number), format="rgb24")))
        file.mux(video.encode(None))
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 6 // 10])
    outcome = paint(tmp_path / "cut.mp4", tmp_path / "o.mp4", status=3)
    assert "of 20 frames" in outcome.err or "errors in reading it" in outcome.err
    assert 2 < len(frame_times(tmp_path / "o.mp4")) < 20


CLASSES = ("segmentation.masks=x/", "segmentation.names=voc")
BAD_INPUT = {
    "no such file": ("{tmp}/none.mp4", "{tmp}/o.mp4", [], "there is no such file"),
    "a picture": ("{tmp}/picture.png", "{tmp}/o.mp4", [], "is a picture; gan-style stylize takes pictures"),
    "no video": ("{tmp}/text.mp4", "{tmp}/o.mp4", [], "cannot read this as a video"),
    "sound alone": ("{tmp}/sound.m4a", "{tmp}/o.mp4", [], "only sound"),
    "no frames": ("{tmp}/empty.mp4", "{tmp}/o.mp4", [], "no frame that can be decoded"),
    "a truncated file": ("{tmp}/cut.mp4", "{tmp}/o.mp4", [], "cannot read this as a video"),
    "the input itself": ("{clip}", "{clip}", [], "never written over"),
    "a folder": ("{clip}", "{tmp}", [], "is a folder"),
    "no output": ("{clip}", "null", [], "output=... is missing"),
    "an unknown container": ("{clip}", "{tmp}/o.txt", [], "known are .mp4"),
    "a codec that does not fit": ("{clip}", "{tmp}/o.webm", [], "it can hold"),
    "an unknown style": ("{clip}", "{tmp}/o.mp4", ["style=monett"], "there is no such style"),
    "a list of styles": ("{clip}", "{tmp}/o.mp4", ["style=[a,b]"], "style=[a, b]"),
    "times of a video": ("{clip}", "{tmp}/o.mp4", ["fps=24"], "fps=24"),
    "too much blending": ("{clip}", "{tmp}/o.mp4", ["blend=1"], "blend=1"),
    "no frames in a segment": ("{clip}", "{tmp}/o.mp4", ["segment=0"], "segment=0"),
    "a quality that is none": ("{clip}", "{tmp}/o.mp4", ["crf=best"], "crf=best"),
    "regions in a folder": ("{clip}", "{tmp}/o.mp4", ["mask=person", *CLASSES], "segmentation.masks"),
    "a mask that is not there": ("{clip}", "{tmp}/o.mp4", ["mask=nothing.png"], "mask=nothing.png"),
    "a region that there is not": ("{clip}", "{tmp}/o.mp4", ["mask=9", "regions=2"], "mask=9"),
    "a camera": ("camera:0", "{tmp}/o.mp4", [], "gan-style app"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named_in_the_users_words(paint, tmp_path, case):
    clip = write_clip(tmp_path / "clip.mp4", frames=3)
    Image.new("RGB", (20, 20)).save(tmp_path / "picture.png")
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:-900])
    with av.open(str(clip)) as source, av.open(str(tmp_path / "sound.m4a"), "w", format="mp4") as sound:
        copied = sound.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = copied
                sound.mux(packet)
    data = clip.read_bytes()
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    (tmp_path / "empty.mp4").write_bytes(data[:start] + bytes(end - start) + data[end:])
    before = sorted(tmp_path.iterdir())
    source, output, more, message = BAD_INPUT[case]
    places = {"tmp": tmp_path, "clip": clip}
    outcome = paint(source.format(**places), output.format(**places), *more, status=2)
    assert message in outcome.err
    assert sorted(tmp_path.iterdir()) == before


def test_without_the_libraries_it_says_what_to_install(paint, tmp_path, monkeypatch):
    command = importlib.import_module("gan_style.commands.stylize_video")
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "av" else object())
    outcome = paint(tmp_path / "clip.mp4", tmp_path / "o.mp4", status=2)
    assert "videos need PyAV: pip install 'gan_style[video]'" in outcome.err


@pytest.mark.parametrize("mask", ["1", "[1,2]"])
def test_with_regions_a_video_made_in_two_runs_is_that_of_one(paint, tmp_path, monkeypatch, mask):
    from gan_style.video.run import Segments

    source = write_clip(tmp_path / "clip.mp4", frames=6, sound=False)
    # lossless: what is compared is what was encoded (with losses libx264 reads memory that it has not written, and its
    # bytes differ from run to run, as MALLOC_PERTURB_ shows)
    more = ["segment=3", "crf=0", f"mask={mask}", "regions=2"]
    paint(source, tmp_path / "a.mp4", *more)
    with monkeypatch.context() as patch:
        patch.setattr(Segments, "remove", lambda self, count: None)  # so that a part can be taken away
        paint(source, tmp_path / "b.mp4", *more)
    (tmp_path / "b.mp4").unlink()
    (tmp_path / "b.mp4.parts" / "000001.npz").unlink()
    paint(source, tmp_path / "b.mp4", *more)
    assert not (tmp_path / "b.mp4.parts").exists()
    assert np.array_equal(pictures_of(tmp_path / "a.mp4"), pictures_of(tmp_path / "b.mp4"))


def test_outside_of_a_mask_a_video_is_the_source(paint, tmp_path):
    source = write_clip(tmp_path / "clip.mp4", frames=3, sound=False)
    mask = np.zeros((48, 64), np.uint8)
    mask[:, :20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    more = [f"mask={tmp_path / 'mask.png'}", "codec=ffv1", "pixels=bgr0"]
    paint(source, tmp_path / "o.mkv", *more)
    before, after = pictures_of(source), pictures_of(tmp_path / "o.mkv")
    assert np.array_equal(before[:, :, 20:], after[:, :, 20:])
    assert np.abs(before[:, :, :20] - after[:, :, :20]).mean() > 2
