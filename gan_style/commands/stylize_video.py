"""``gan-style stylize-video``: give a video the style that a generator has learned."""

import json
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from torch import Tensor

from gan_style.cli import command
from gan_style.commands.stylize import choose_model
from gan_style.config import plain
from gan_style.options import Runtime, SegmentationOptions, as_typed, listed, option
from gan_style.runtime.device import choose_device
from gan_style.runtime.files import ensure_writable, file_hash, identity, locked
from gan_style.runtime.progress import Progress, warn
from gan_style.runtime.provenance import config_hash
from gan_style.runtime.signals import PREEMPTED, stop_on_signals
from gan_style.stylize.controls import Controls, Regions, option_of, read_mask
from gan_style.stylize.model import find_references
from gan_style.stylize.paint import FramePainter
from gan_style.stylize.regions import find_masks, named_masks, plan_regions, region_settings

if TYPE_CHECKING:  # both need PyAV, and the first says so where it is missing
    from gan_style.video.decode import Video
    from gan_style.video.regions import TemporalMasks
    from gan_style.video.run import VideoStylizer

_NEEDED = {"av": "PyAV", "cv2": "OpenCV"}
UNREADABLE = 3  # exit status: parts of the video could not be read


@dataclass(kw_only=True)
class StylizeVideoOptions:
    checkpoint: str | None = option(path=True)
    style: Any = option(path=True)
    reference: Any = option(path=True, many=True)
    input: str = option(path=True)
    fps: float | None = option(above=0, most=1000)
    output: str | None = option(path=True)
    strength: float
    mask: Any = option(path=True)
    regions: int | None = option(2, 12)
    segmentation: SegmentationOptions
    colours: str
    codec: str
    crf: Any
    pixels: str | None
    options: dict[str, Any]
    blend: float = option(0, below=1)
    cut: float = option(above=0, most=1)
    warp_error: bool
    segment: int = option(1)
    batch: int = option(1)
    overwrite: bool
    runtime: Runtime


@command("stylize_video", StylizeVideoOptions)
def main(cfg: DictConfig) -> int:
    """Stylize a video: its sound, its times and its size are kept. The same command goes on where it was stopped.

    Status 3 where parts of it could not be read, 75 where it was asked to stop.
    """
    if cfg.crf != "auto" and (type(cfg.crf) not in (int, float) or not 0 <= cfg.crf <= 63):
        raise ValueError(f"crf={as_typed(cfg.crf)}; allowed are auto, or 0 (best) to 51, and to 63 for VP9 and AV1")
    if missing := [name for module, name in _NEEDED.items() if find_spec(module) is None]:
        raise ValueError(f"videos need {' and '.join(missing)}: pip install 'gan_style[video]'")
    if str(cfg.input).startswith("camera:"):
        raise ValueError(f"input={cfg.input}: gan-style app shows what a camera sees, stylized")
    if cfg.output is None:
        raise ValueError("output=... is missing; see gan-style stylize-video --help")
    import av

    from gan_style.video.decode import probe
    from gan_style.video.encode import choose_encoding, container_format
    from gan_style.video.mux import copyable_streams, join, read_comment
    from gan_style.video.run import Segments, VideoStylizer
    from gan_style.video.temporal import TemporalFilter

    # What is read, how it will be written, and what of it cannot be kept.
    source, output = Path(str(cfg.input)).expanduser(), Path(str(cfg.output)).expanduser()
    if identity(output) == identity(source):
        raise ValueError(f"output={output} is the input itself; results are never written over it")
    if output.is_dir():
        raise ValueError(f"output={output} is a folder; name a file in it")
    container, video = container_format(output), probe(source, cfg.fps)
    options = plain(cfg.options)
    encoding = choose_encoding(video, container, codec=cfg.codec, crf=cfg.crf, pixels=cfg.pixels, options=options)
    copied_indices, dropped_streams = copyable_streams(video, container)
    for message in (*(f"{stream} cannot be kept in {output.suffix}" for stream in dropped_streams), *_changes(video)):
        warn(message)

    # The network, and all that the result depends on.
    painter, note, region_choices, steady = _painter(cfg, video)
    hashes = [file_hash(file) for file in dict.fromkeys(file for file, _ in video.pictures) or [video.path]]
    settings = {
        "input": hashes[0] if len(hashes) == 1 else config_hash({"pictures": hashes}),
        "checkpoint": note["checkpoint"],
        "style": dict(painter.controls.mix),
        **{name: cfg[name] for name in ("strength", "colours", "blend", "cut", "segment", "warp_error")},
        **{"codec": encoding.codec, "pixels": encoding.pixels, "options": dict(encoding.options)},
        **({"fps": cfg.fps} if cfg.fps is not None else {}),
        **region_choices,
        "pyav": av.__version__,
        "state_bits": 16,
    }
    note |= {"plan": config_hash(settings)}
    if output.exists() and not cfg.overwrite:
        if read_comment(output).get("plan") == note["plan"]:
            print(f"{output} is finished already")
            return 0
        raise ValueError(f"output={output} is there already; overwrite=true replaces it")

    # Segments, one after the other, beside the output; then all of them joined with the source's other streams.
    ensure_writable(output.parent, "output")
    segments = Segments(output.with_name(f"{output.name}.parts"))
    segments.begin(settings)
    with locked(segments.folder, "output"), stop_on_signals() as stop:
        length = "" if video.frames is None else f", {video.frames} frames"
        print(f"{video.path}: {video.width} x {video.height}, {float(video.rate):.5g} frames/s{length}", flush=True)
        progress = Progress(first_step=0, steps=video.frames, batch=1, unit="frames", every=2.0)
        temporal_filter = TemporalFilter(cfg.blend, cfg.cut, cfg.warp_error)
        work = VideoStylizer(
            video, painter, encoding, segments, temporal_filter, progress, cfg.segment, cfg.batch, steady=steady
        )
        try:
            count = work.run(stop)
        finally:
            progress.close()
        if count is None:
            print(f"stopped by {stop.reason} after {progress.step} frames, kept; the same command goes on", flush=True)
            return PREEMPTED
        packets, note_text = segments.packets(count), json.dumps(note)
        join(
            output, container, video, encoding, packets, times=work.times, copied_indices=copied_indices, note=note_text
        )
        segments.remove(count)
    tally = work.tally
    frames = ", ".join(map(str, tally.cuts[:12])) + (" ..." if len(tally.cuts) > 12 else "")
    print(f"{len(tally.cuts)} scene cuts" + (f" (at frames {frames})" if tally.cuts else ""))
    if (means := tally.means()) is not None:
        print(f"warp error (root mean square, 0 to 1): source {means[0]:.4f}, result {means[1]:.4f}")
    print(output, flush=True)
    return _report_problems(work, progress.step)


def _changes(video: "Video") -> list[str]:
    """Describe what differs from the source's picture."""
    from gan_style.video.decode import missing_numbers

    changes = []
    if video.is_hdr:
        changes.append(f"{video.path} is HDR; its colours are tone-mapped to BT.709, without HDR")
    if video.tracks > 1:
        stylized = f"the one that players show is stylized ({video.width} x {video.height})"
        changes.append(f"{video.path} has {video.tracks} video tracks; {stylized}, the others are left out")
    if video.transparent:
        changes.append(f"the transparency of {video.path} is lost")
    if words := missing_numbers(video):
        changes.append(f"pictures are missing in {video.path}: {words}; those that are there follow each other")
    if video.bits > 8:
        changes.append(f"the {video.bits} bits of {video.path} become 8")
    if len(video.offsets) > 1:
        changes.append(f"{video.path} is joined from {len(video.offsets)} recordings; their times go on at the joins")
    return changes


def _painter(
    cfg: DictConfig, video: "Video"
) -> tuple[FramePainter, dict[str, Any], dict[str, Any], "TemporalMasks | None"]:
    """Return the painter, its note, what of regions results depend on, and what follows the regions."""
    segmentation = plain(cfg.segmentation)
    style, plan, regions = plan_regions(plain(cfg.style), plain(cfg.mask), cfg.regions, segmentation)
    if segmentation["masks"] is not None:
        raise ValueError(f"segmentation.masks={segmentation['masks']} is for pictures; give segmentation.network=...")
    device = choose_device(cfg.runtime.device, cfg.runtime.threads)
    if cfg.runtime.threads is not None:
        import cv2

        cv2.setNumThreads(cfg.runtime.threads)
    paintings = {} if cfg.reference is None else find_references(listed(cfg.reference))
    model, note, mix, _ = choose_model(style, plan, cfg.checkpoint, paintings, device, max_megapixels=200)
    controls = Controls(mix, float(cfg.strength), str(cfg.colours))
    mixture_text = "+".join(f"{name} {share:g}" if share < 1 else name for name, share in mix.items())
    note |= {"style": mixture_text or "+".join(plan.order), "strength": controls.strength}
    find_named = named_masks(plan, segmentation, regions, device)
    references = {name: file_hash(path) for name, path in paintings.items()}
    choices: dict[str, Any] = {"references": references} if references else {}
    if not plan.order:
        return FramePainter(model, controls), note, choices, None

    # Masks from files are those of every frame; regions are found in each, and hold still.
    files = {name: Path(str(place)).expanduser() for name, place in plan.files.items()}
    if missing := [name for name, path in files.items() if not path.is_file()]:
        raise ValueError(f"{option_of(missing[0])}={files[missing[0]]}: there is no such file")
    masks = {name: read_mask(path, option_of(name), max_megapixels=200) for name, path in files.items()}
    steady = None
    if find_named is not None:
        from gan_style.regions.segment import PictureRegions
        from gan_style.video.regions import TemporalMasks, share_clusters

        steady = TemporalMasks(find_named, cfg.cut)
        if isinstance(find_named.segmenter, PictureRegions):
            share_clusters(find_named.segmenter, video)

    def regions_of_frame(frame: Tensor) -> Regions | None:
        return find_masks(plan, lambda name, _: masks[name], steady, frame, None, mix)

    choices |= {"mask": {name: file_hash(path) for name, path in files.items()}, "order": list(plan.order)}
    choices |= region_settings(plan, segmentation, regions)
    return FramePainter(model, controls, regions_of_frame), note, choices, steady


def _report_problems(work: "VideoStylizer", frames: int) -> int:
    """Say what could not be read; the exit status."""
    report, video = work.report, work.video
    problems = []
    if report.problems:
        problems.append(f"{len(report.problems)} errors in reading it ({report.problems[0]})")
    if video.frames is not None and report.packets < video.frames:
        problems.append(f"it ends early: {report.packets} of {video.frames} frames are in the file")
    elif video.seconds is not None and report.end < video.seconds - max(0.5, float(3 / video.rate)):
        problems.append(f"it ends early: {report.end:.1f} of {video.seconds:.1f} s are in the file")
    if problems:
        print(f"gan-style stylize-video: {video.path}: {'; '.join(problems)}; {frames} frames done", file=sys.stderr)
    return UNREADABLE if problems else 0


if __name__ == "__main__":
    main()
