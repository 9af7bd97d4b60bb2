"""Who is told of a training run: its trackers, and what they are told in the end."""

import warnings
from typing import Any

from gan_style.commands.train_parts import Setup
from gan_style.runtime.checkpoint import BEST_FILE, GENERATOR_FILE, read_checkpoint
from gan_style.runtime.tracking.base import Dispensable, Result, Several, Tracker
from gan_style.runtime.tracking.jsonl import JsonlTracker
from gan_style.runtime.tracking.wandb import WandbTracker, resolve_mode
from gan_style.training.loop import Loop
from gan_style.training.sampling import PREFIX


def make_tracker(setup: Setup, step: int) -> Several:
    """metrics.jsonl always, and W&B by its mode; a server that auto cannot reach is not worth a run.

    Only the first rank tracks.
    """
    if not setup.ranks.first:
        return Several([])
    mode, wandb = _of_wandb(setup)
    trackers: list[Tracker] = [JsonlTracker(setup.folder / "metrics.jsonl", last_step=step)]
    if wandb is not None:
        trackers.insert(0, Dispensable(wandb, "W&B", lambda words: warnings.warn(words, stacklevel=2)))
    print(f"{'tracking:':<22}metrics.jsonl, W&B {mode}", flush=True)
    return Several(trackers)


def _of_wandb(setup: Setup) -> tuple[str, WandbTracker | None]:
    """The mode that it came to, and the tracker."""
    tracking = setup.settings["tracking"]
    mode = resolve_mode(tracking["wandb"])
    if mode == "disabled":
        return mode, None
    arguments: dict[str, Any] = {name: value for name, value in tracking.items() if name != "wandb"}
    arguments |= {"folder": setup.folder, "config": setup.settings}
    try:
        return mode, WandbTracker(mode=mode, **arguments)
    except ConnectionError as error:
        if tracking["wandb"] != "auto":
            raise
        warnings.warn(f"{error}; tracking offline", stacklevel=2)
        return "offline", WandbTracker(mode="offline", **arguments)


def outcome(setup: Setup, loop: Loop) -> Result:
    """What a finished run has come to; the first rank alone knows."""
    sampler, best = loop.sampler, setup.checkpoints.folder / BEST_FILE
    best_step = _step_of(best) if loop.composite is not None else None
    lowest = loop.composite.lowest if loop.composite is not None else None
    return Result(
        step=loop.state.step,
        generator=setup.folder / GENERATOR_FILE,
        best=best if best_step is not None else None,
        best_step=best_step,
        best_values={} if lowest is None else {f"{PREFIX}composite": lowest},
        columns=("content", "style", "result"),
        rows=lambda: [] if sampler is None else sampler.rows(sampler.results(loop.state.ema.network)),
    )


def _step_of(checkpoint: Any) -> int | None:
    """None where there is none that can be read."""
    try:
        return int(read_checkpoint(checkpoint)["step"])
    except (ValueError, OSError, KeyError):
        return None
