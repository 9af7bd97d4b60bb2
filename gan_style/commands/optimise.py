"""``gan-style optimise``: give one picture the style of others by optimising its pixels (Gatys et al. 2016)."""

import hashlib
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from gan_style.commands import optimise_parts as parts
from gan_style.config import command, flat, plain, to_yaml
from gan_style.files import check_place, ensure_writable
from gan_style.images import FORMAT_BY_SUFFIX
from gan_style.losses.objective import check_mean_weights
from gan_style.nst.colours import check_colours, finished
from gan_style.nst.loop import Every, Loop
from gan_style.nst.optimise import Optimisation
from gan_style.nst.record import Record
from gan_style.runtime import choose_device, in_full_float32
from gan_style.schema import check_optimise
from gan_style.training.progress import Progress, duration

# What may change when an optimisation goes on; the pictures are compared by their files' contents.
_MAY_CHANGE = (
    *("content", "style", "output", "save_every", "gif", "log_every", "checkpoint_every", "overwrite", "dry_run"),
    *("max_megapixels", "runtime.device", "runtime.threads"),
)


@command("optimise")
def main(cfg: DictConfig) -> int:
    """Give one picture the style of others; the same command again goes on, and once finished does nothing."""
    check_optimise(cfg)
    check_colours(cfg.colours)
    device = choose_device(cfg.runtime.device, cfg.runtime.threads)
    in_full_float32()
    inputs = _inputs(cfg)
    record = _record(cfg, inputs)
    saved = None if cfg.overwrite else record.load()
    if saved is not None and saved["finished"] and record.output.exists():
        print(f"{record.output} is finished; overwrite=true makes it anew")
        return 0
    objective = parts.make_objective(cfg, device)
    content = parts.load_picture(cfg, inputs[0], cfg.size, device)
    levels = parts.make_levels(cfg, content)
    styles = parts.load_styles(cfg, content, inputs[1:])
    optimisation = parts.make_optimisation(cfg, objective, content, styles, levels)
    if saved is not None:
        optimisation.load_state_dict(saved["optimisation"])
        print(f"going on after evaluation {optimisation.evaluation}, from {record.state_path}")
    _show(plain(cfg), optimisation, device)
    if cfg.dry_run:
        print("dry_run=true: stopping before the first evaluation; nothing was written")
        return 0
    _run(cfg, optimisation, record, content, saved["frames"] if saved is not None else [])
    return 0


def _inputs(cfg: DictConfig) -> list[Path]:
    """The content, then the styles."""
    styles = plain(cfg.style)
    styles = styles if isinstance(styles, list) else [styles]
    if not styles:
        raise ValueError("style=[]: give at least one picture")
    if cfg.style_weights is not None:
        check_mean_weights(plain(cfg.style_weights), len(styles), "style_weights", "style")
    return [parts.find_picture(cfg.content, "content"), *(parts.find_picture(style, "style") for style in styles)]


def _record(cfg: DictConfig, inputs: list[Path]) -> Record:
    """What is to be written and where, once it is clear that it can be and destroys no input."""
    output = Path(cfg.output).expanduser()
    if output.is_dir() or output.suffix.lower() not in FORMAT_BY_SUFFIX:
        raise ValueError(f"output={cfg.output}: give a picture's name; known are {', '.join(FORMAT_BY_SUFFIX)}")
    record = Record(output, _fingerprint(plain(cfg), inputs), _animation(cfg, output))
    record.check_apart(inputs)
    for option, path in (("output", output), ("gif", record.animation or output)):
        check_place(path.parent, option)
    return record


def _animation(cfg: DictConfig, output: Path) -> Path | None:
    if cfg.gif is None or cfg.gif is False:
        return None
    if cfg.gif is not True and not str(cfg.gif).lower().endswith(".gif"):
        raise ValueError(f"gif={cfg.gif}; allowed are true, null, or a name that ends in .gif")
    if not cfg.save_every:
        raise ValueError(f"gif={cfg.gif} shows the pictures on the way, and save_every=0 keeps none; set save_every")
    return output.with_suffix(".gif") if cfg.gif is True else Path(cfg.gif).expanduser()


def _fingerprint(settings: dict[str, Any], inputs: list[Path]) -> dict[str, Any]:
    """All that the result depends on, by dotted name."""
    found = {key: value for key, value in flat(settings).items() if key not in _MAY_CHANGE}
    digests = [hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in inputs]
    return found | {"content (sha256 of the file)": digests[0], "style (sha256 of the files)": digests[1:]}


def _show(settings: dict[str, Any], optimisation: Optimisation, device: torch.device) -> None:
    """The settings and what follows from them, for the user to see before the first evaluation."""
    print(to_yaml(settings))
    problem, network = optimisation.problem, optimisation.problem.objective.perceptual
    levels = ", ".join(f"{one.width} x {one.height} ({one.evaluations})" for one in problem.levels)
    sizes = {
        "device": f"{device}, {torch.get_num_threads()} CPU threads",
        "sizes (evaluations)": levels,
        "styles": ", ".join(f"{style.shape[-1]} x {style.shape[-2]}" for style in problem.styles),
        "perceptual network": f"{network.architecture.name}; feature scales "
        + ", ".join(f"{layer} {scale:.3g}" for layer, scale in network.scales.items()),
    }
    for name, value in sizes.items():
        print(f"{name + ':':<22}{value}", flush=True)


def _run(cfg: DictConfig, optimisation: Optimisation, record: Record, content: Tensor, frames: list[int]) -> None:
    for option, path in (("output", record.output), ("gif", record.animation or record.output)):
        ensure_writable(path.parent, option)
    names = {name: name for name in ("total", *optimisation.problem.objective.terms)}
    first = optimisation.evaluation
    progress = Progress(first_step=first, steps=optimisation.steps, batch=1, terms=names, unit="evaluations")
    every = Every(tell=cfg.log_every, picture=cfg.save_every, state=cfg.checkpoint_every)
    shown = partial(finished, cfg.colours, content=content)
    begin = time.monotonic()
    try:
        Loop(optimisation, record, every, shown, progress.update, list(frames)).run()
    finally:
        progress.close()
    made = optimisation.evaluation - first
    print(f"{record.output}: {made} evaluations in {duration(time.monotonic() - begin)}")
    if record.animation is not None:
        print(f"animation: {record.animation}")


if __name__ == "__main__":
    main()
