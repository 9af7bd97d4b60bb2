"""Videos for tests, made with PyAV; whoever imports this skips where it is not installed."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

av = pytest.importorskip("av", reason="videos need PyAV: pip install 'gan_style[video]'")
pytest.importorskip("cv2", reason="videos need OpenCV: pip install 'gan_style[video]'")

TICK = Fraction(1, 30000)  # seconds
RATE = Fraction(30000, 1001)


def smooth_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 (H, W, 3): blurred noise about a colour of its own."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, max(2, height // 6), max(2, width // 6), generator=random) * 1.2 - 0.6
    colour = torch.rand(1, 3, 1, 1, generator=random) * 2.0 - 1.0
    picture = F.interpolate(coarse + colour, (height, width), mode="bicubic")[0].clamp(-1.0, 1.0)
    return ((picture + 1.0) * 127.5).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def write_clip(
    path: Path,
    *,
    frames: int = 8,
    size: tuple[int, int] = (64, 48),
    pictures: int = 1,
    times: list[int] | None = None,
    sound: bool = True,
    pixels: str = "yuv420p",
) -> Path:
    """A video of pictures that are panned by a pixel a frame in both directions, and a tone.

    pictures: each shown for an equal part of the frames; times: of the frames, in TICKs.
    """
    (width, height), ticks = size, times or [1001 * number for number in range(frames)]
    pictures_shown = [smooth_picture(height + frames, width + frames, seed) for seed in range(pictures)]
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=RATE, options={"crf": "10"})
        video.width, video.height, video.pix_fmt = width, height, pixels
        video.codec_context.time_base = TICK
        tone = file.add_stream("aac", rate=8000, layout="mono") if sound else None
        for number, pts in enumerate(ticks):
            large = pictures_shown[number * pictures // frames]
            cut = large[number : number + height, number : number + width].copy()
            frame = av.VideoFrame.from_ndarray(cut, format="rgb24")
            frame.pts, frame.time_base = pts, TICK
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if tone is not None:
            add_tone(file, tone)
    return path


def add_frames(
    file, codec: str, pictures: list[np.ndarray], kind: str = "yuv420p", *, pixel_format: str = "rgb24", **options
):
    """A track of pictures, numbered from 0 on; returns it."""
    video = file.add_stream(codec, rate=25, options=options)
    video.height, video.width, video.pix_fmt = *pictures[0].shape[:2], kind
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format=pixel_format)
        frame.pts = number
        file.mux(video.encode(frame))
    file.mux(video.encode(None))
    return video


def add_tone(file, stream) -> None:
    """A second of a tone."""
    rate = stream.rate
    wave = (torch.arange(rate).mul(0.3).sin() * 9000).short()[None].numpy()
    heard = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
    heard.sample_rate, heard.pts, heard.time_base = rate, 0, Fraction(1, rate)
    file.mux([*stream.encode(heard), *stream.encode(None)])


def frame_times(path: Path) -> list[Fraction]:
    """When each frame is shown, in seconds, exactly."""
    with av.open(str(path)) as file:
        return [frame.pts * frame.time_base for frame in file.decode(video=0)]


def sound_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    """The sound as it is stored: when, and what."""
    with av.open(str(path)) as file:
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in file.demux(audio=0) if packet.size]
