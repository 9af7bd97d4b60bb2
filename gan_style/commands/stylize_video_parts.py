"""What ``gan-style stylize-video`` is put together from."""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
from omegaconf import DictConfig

from gan_style.config import plain
from gan_style.runtime.device import choose_device
from gan_style.runtime.files import ensure_writable, file_hash, locked
from gan_style.runtime.provenance import config_hash
from gan_style.runtime.signals import PREEMPTED, Stop, stop_on_signals
from gan_style.stylize.controls import Controls, mixture
from gan_style.stylize.model import load_model, resolve_model
from gan_style.stylize.paint import FramePainter
from gan_style.video.camera import Page, camera_number, camera_pictures, serve
from gan_style.video.decode import Video, probe
from gan_style.video.encode import Encoding, choose_encoding, container_of
from gan_style.video.mux import comment_of, join, what_fits
from gan_style.video.run import Progress, Segments, Work
from gan_style.video.temporal import Follower, Tally

UNREADABLE = 3  # exit status: parts of the video could not be read


@dataclass
class Job:
    """A video that is to be stylized; settings: all that its result depends on (JSON types)."""

    cfg: DictConfig
    output: Path
    container: str
    video: Video
    encoding: Encoding
    painter: FramePainter
    kept: list[int]
    settings: dict[str, Any]
    note: dict[str, Any]

    @property
    def segments(self) -> Segments:
        return Segments(self.output.with_name(f"{self.output.name}.parts"))


def is_camera(source: Any) -> bool:
    """Whether input=... names a camera."""
    return str(source).startswith("camera:")


def stylize(cfg: DictConfig) -> int:
    """From file to file; the exit status."""
    if cfg.output is None:
        raise ValueError("output=... is missing; see gan-style stylize-video --help")
    source, output = Path(str(cfg.input)).expanduser(), Path(str(cfg.output)).expanduser()
    if output.resolve() == source.resolve():
        raise ValueError(f"output={output} is the input itself; results are never written over it")
    if output.is_dir():
        raise ValueError(f"output={output} is a folder; name a file in it")
    job = _job(cfg, source, output)
    if output.exists() and not cfg.overwrite:
        if comment_of(output).get("plan") == job.note["plan"]:
            print(f"{output} is finished already")
            return 0
        raise ValueError(f"output={output} is there already; overwrite=true replaces it")
    ensure_writable(output.parent, "output")
    job.segments.begin(job.settings)
    with locked(job.segments.folder, "output"), stop_on_signals() as stop:
        return _run(job, stop)


def _job(cfg: DictConfig, source: Path, output: Path) -> Job:
    container, video = container_of(output), probe(source)
    encoding = choose_encoding(
        video, container, codec=cfg.codec, crf=cfg.crf, pixels=cfg.pixels, options=plain(cfg.options)
    )
    kept, left = what_fits(video, container)
    for stream in left:
        print(f"warning: {stream} cannot be kept in {output.suffix}")
    painter, note = _painter(cfg)
    settings = {
        "input": file_hash(source),
        "checkpoint": note["checkpoint"],
        "style": dict(painter.controls.mix),
        **{name: cfg[name] for name in ("strength", "colours", "blend", "cut", "segment", "warp_error")},
        **{"codec": encoding.codec, "pixels": encoding.pixels, "options": dict(encoding.options)},
        "pyav": av.__version__,
    }
    return Job(cfg, output, container, video, encoding, painter, kept, settings, note | {"plan": config_hash(settings)})


def _painter(cfg: DictConfig) -> tuple[FramePainter, dict[str, Any]]:
    """The network at work, and what its results say of it."""
    style = plain(cfg.style)
    names = [style] if isinstance(style, str) else list(style or {})
    checkpoint = None if cfg.checkpoint is None else Path(str(cfg.checkpoint)).expanduser()
    device = choose_device(cfg.runtime.device, cfg.runtime.threads)
    if cfg.runtime.threads is not None:
        cv2.setNumThreads(cfg.runtime.threads)
    model, note = load_model(resolve_model(names, checkpoint), device)
    controls = Controls(mixture(style, model.styles), float(cfg.strength), str(cfg.colours))
    told = "+".join(f"{name} {share:g}" if share < 1 else name for name, share in controls.mix.items())
    return FramePainter(model, controls), note | {"style": told, "strength": controls.strength}


def _run(job: Job, stop: Stop) -> int:
    cfg, video, segments = job.cfg, job.video, job.segments
    length = "" if video.frames is None else f", {video.frames} frames"
    print(f"{video.path}: {video.width} x {video.height}, {float(video.rate):.5g} frames/s{length}", flush=True)
    progress = Progress(video.frames, lambda line: print(line, flush=True))
    follower = Follower(cfg.blend, cfg.cut, cfg.warp_error)
    work = Work(video, job.painter, job.encoding, segments, follower, progress, length=cfg.segment, batch=cfg.batch)
    made = work.run(stop)
    if made is None:
        print(f"stopped by {stop.reason} after {progress.done} frames, kept; the same command goes on", flush=True)
        return PREEMPTED
    _join(job, made)
    tally = sum((segments.load(number).tally for number in range(made)), Tally())
    segments.remove(made)
    print(f"{progress.line()}\n{_told(tally)}\n{job.output}", flush=True)
    return _problems(work, progress.done)


def _join(job: Job, made: int) -> None:
    segments, numbers = job.segments, range(made)
    join(
        job.output,
        job.container,
        job.video,
        job.encoding,
        (packet for number in numbers for packet in segments.load(number).packets),
        times=[time for number in numbers for time in segments.times(number)],
        kept=job.kept,
        note=json.dumps(job.note),
    )


def _told(tally: Tally) -> str:
    cuts = f"{len(tally.cuts)} scene cuts" + (f" (at frames {_listed(tally.cuts)})" if tally.cuts else "")
    means = tally.means()
    if means is None:
        return cuts
    return f"{cuts}\nwarp error (root mean square, 0 to 1): source {means[0]:.4f}, result {means[1]:.4f}"


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:12])) + (" ..." if len(numbers) > 12 else "")


def _problems(work: Work, done: int) -> int:
    """Say what could not be read; the exit status."""
    seen, expected = work.seen, work.video.frames
    words = []
    if seen.problems:
        words.append(f"{len(seen.problems)} packets could not be decoded ({seen.problems[0]})")
    if expected is not None and seen.packets < expected:
        words.append(f"it ends early: {seen.packets} of {expected} frames are in the file")
    if words:
        print(f"gan-style stylize-video: {work.video.path}: {'; '.join(words)}; {done} frames done", file=sys.stderr)
    return UNREADABLE if words else 0


def preview(cfg: DictConfig) -> int:
    """What a camera sees, stylized, as a page on this machine, until Ctrl-C."""
    number = camera_number(str(cfg.input))
    if cfg.output is not None:
        raise ValueError(f"output={cfg.output}: what a camera sees is shown and not kept; leave it out")
    pictures = camera_pictures(number, cfg.size)
    painter, _ = _painter(cfg)
    return show(pictures, painter, int(cfg.port))


def show(pictures: Iterable[Any], painter: FramePainter, port: int) -> int:
    """Serve pictures (uint8 (3, H, W) each), stylized, until they end or a signal comes."""
    page = Page()
    with serve(page, port) as address, stop_on_signals() as stop:
        print(f"{address} shows it; Ctrl-C ends", flush=True)
        for picture in pictures:
            page.show(painter(picture[None])[0])
            if stop.reason is not None:
                break
    return 0
