"""``gan-style train``: puts a run together and hands it to the loop."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from gan_style.commands import train_data as data
from gan_style.commands import train_parts as parts
from gan_style.commands.sweep import sweep
from gan_style.commands.train_parts import Setup
from gan_style.commands.train_resume import MAY_CHANGE, chosen_by, lowest_of, restore, saved_state, warn_of_changes
from gan_style.commands.train_sampling import make_composite, make_sampler
from gan_style.commands.train_tracking import make_tracker, outcome
from gan_style.config import command, plain, to_yaml
from gan_style.data.sets import Pictures
from gan_style.losses.objective import Objective
from gan_style.losses.style import EACH
from gan_style.models.blocks import count_parameters
from gan_style.runtime.checkpoint import GENERATOR_FILE
from gan_style.runtime.device import advice, allocator, choose_device
from gan_style.runtime.distributed import Ranks, launch, local_device, ranks
from gan_style.runtime.files import check_place, ensure_writable, locked, remove_leftovers, write_bytes
from gan_style.runtime.provenance import changed_since, failure_noted, read_failure, record
from gan_style.runtime.signals import PREEMPTED, Stop, leave_on_signals, stop_on_signals
from gan_style.runtime.tracking.wandb import resolve_mode
from gan_style.schema_train import check_ranks, check_train
from gan_style.training.loop import Loop
from gan_style.training.state import TrainState


def _sweep(arguments: list[str]) -> int:
    return sweep(arguments, command="train", free=MAY_CHANGE, finished=_finished)


@command("train", sweep=_sweep)
def main(cfg: DictConfig) -> int:
    """Train a generator on photos and a style; the same command again resumes, and once finished does nothing.

    On several devices: runtime.devices=N, or under torchrun, python -m gan_style.commands.train with the same options.
    -m makes a sweep of several values: -m loss.style.weight=1,3 training.seed=0,1 are four jobs, in sweeps/; one after
    the other, or with hydra/launcher=joblib, submitit_local or submitit_slurm (their options: hydra.launcher.NAME).
    """
    if cfg.runtime.devices > 1 and "RANK" not in os.environ:
        return launch(cfg.runtime.devices, [sys.executable, "-m", "gan_style.commands.train", *sys.argv[1:]])
    with leave_on_signals(), _of_sweep(cfg), ranks() as group, warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", flush=True)
        # a filter with one output is laid out alike either way
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return _train(cfg, group)


@contextmanager
def _of_sweep(cfg: DictConfig) -> Iterator[None]:
    """A sweep's job has its settings in its folder from the start, and the reason where it fails before it begins."""
    if cfg.run.sweep is None or os.environ.get("RANK", "0") != "0":
        yield
        return
    folder = _folder(cfg)
    ensure_writable(folder, "run.root, run.name")
    with failure_noted(folder):
        if not (folder / "config.yaml").exists():
            write_bytes(folder / "config.yaml", to_yaml(plain(cfg)).encode())
        yield


def _folder(cfg: DictConfig) -> Path:
    return Path(cfg.run.root).expanduser() / cfg.run.name


def _finished(cfg: DictConfig) -> bool:
    """Whether the run's folder holds a whole run of these settings, so that there is nothing to start."""
    folder = _folder(cfg)
    try:
        saved = saved_state(Setup(cfg, plain(cfg), torch.device("cpu"), folder))
    except (ValueError, OmegaConfBaseException):
        return False  # the job itself says what is wrong
    return saved is not None and saved["state"]["step"] >= cfg.training.steps and read_failure(folder) is None


def _train(cfg: DictConfig, group: Ranks) -> int:
    setup = _setup(cfg, group)
    before = setup.checkpoints.paths()
    saved = group.from_first(saved_state(setup) if group.first else None)
    if saved is not None and saved["state"]["step"] >= cfg.training.steps:
        if group.first:
            print(f"{setup.folder} is finished: {saved['state']['step']} steps; a larger training.steps goes on")
        return 0
    if group.first:
        _warn_of_warmup(setup)
    changed: set[str] = set()
    objective = parts.make_objective(setup)
    state = parts.make_state(setup, objective, fresh=saved is None)
    pictures = data.open_sets(setup)
    check_ranks(cfg, group.count, len(pictures.content))
    if saved is None:
        parts.calibrate(setup, objective, pictures)
        parts.set_targets(setup, objective, pictures, objective.targets)
    else:
        restore(setup, saved, state, objective)
        if setup.ranks.first:
            changed = changed_since(setup.folder, parts.sets_of(pictures))
            warn_of_changes(changed)
        parts.set_targets(setup, objective, pictures, {EACH} & set(objective.targets))
    parts.share(setup, state)
    if group.first:
        _show(setup.settings, _sizes(setup, state, objective, pictures))
        for hint in advice(setup.device, setup.precision) if group.count == 1 else ():
            print(f"hint: {hint}", flush=True)
    if cfg.dry_run:
        if group.first:
            print("dry_run=true: stopping before step 1; nothing was written")
        return 0
    with stop_on_signals() as stop:
        lowest = None if "holdout" in changed else lowest_of(setup, saved)
        return _run(setup, state, objective, pictures, stop, lowest=lowest, before=before)


def _warn_of_warmup(setup: Setup) -> None:
    training, others = setup.cfg.training, set(map(str, setup.cfg.loss)) - {"balance", "content"}
    if 0 < training.steps <= training.warmup_steps and others:
        warnings.warn(
            f"training.steps={training.steps} ends before training.warmup_steps={training.warmup_steps} are over: "
            f"content alone is trained, no {', no '.join(sorted(others))}",
            stacklevel=2,
        )


def _setup(cfg: DictConfig, group: Ranks) -> Setup:
    settings = plain(cfg)
    check_train(cfg)
    chosen_by(settings)
    resolve_mode(cfg.tracking.wandb)  # says now what is wrong with it, not after minutes of preparation
    device = choose_device(local_device(cfg.runtime.device), cfg.runtime.threads)
    folder = _folder(cfg)
    check_place(folder, "run.root, run.name")
    return Setup(cfg, settings, device, folder, group)


def _run(
    setup: Setup,
    state: TrainState,
    objective: Objective,
    pictures: Pictures,
    stop: Stop,
    *,
    lowest: float | None,
    before: list[Path],
) -> int:
    """Train, with the run's folder to ourselves and every tracker told how it ended; the exit status.

    before: the checkpoints when one was chosen to go on from. ValueError where another process has added some since.
    """
    with _place(setup, before):
        sampler = make_sampler(setup, objective, pictures) if setup.ranks.first else None
        composite = make_composite(setup, sampler, lowest) if sampler else None
        tracker = make_tracker(setup, state.step)
        finished = False
        try:
            loop = parts.make_loop(setup, state, objective, pictures, sampler, stop, composite, tracker)
            if setup.ranks.first:
                record(setup.folder, loop.extra["provenance"], step=state.step)
            warnings.showwarning = lambda message, *_: loop.progress.say(f"warning: {message}")
            reason = loop.run(lambda first_step: data.make_batches(setup, pictures, first_step))
            finished = reason is None
            if reason is not None:
                tracker.preempted()
            elif setup.ranks.first:
                tracker.completed(outcome(setup, loop))
        finally:
            tracker.finish(failed=not finished)
    if setup.ranks.first:
        if reason is not None:
            print(f"stopped by {reason} after step {state.step}, saved; the same command again goes on", flush=True)
        else:
            _report(setup.folder, loop)
    return PREEMPTED if reason is not None else 0


@contextmanager
def _place(setup: Setup, before: list[Path]) -> Iterator[None]:
    """The run's folder, locked, cleaned of leftovers and with its settings; only the first rank writes."""
    if not setup.ranks.first:
        yield
        return
    for place in (setup.folder, setup.checkpoints.folder, setup.samples):
        ensure_writable(place, "run.root, run.name")
    with locked(setup.folder), failure_noted(setup.folder):
        if setup.checkpoints.paths() != before:
            raise ValueError(f"another process has trained {setup.folder} meanwhile; the same command again goes on")
        for place in (setup.folder, setup.samples):
            remove_leftovers(place)
        write_bytes(setup.folder / "config.yaml", to_yaml(setup.settings).encode())
        yield


def _sizes(setup: Setup, state: TrainState, objective: Objective, pictures: Pictures) -> dict[str, str]:
    """What follows from the settings, for the user to see before the first step."""
    training, content = setup.cfg.training, pictures.content
    d = f"{count_parameters(state.discriminator):,} parameters" if state.discriminator else "none (no adversarial term)"
    scales = ", ".join(f"{layer} {scale:.3g}" for layer, scale in objective.perceptual.scales.items())
    held_out = f"{len(pictures.held_out)}" + (" (trained on)" if pictures.held_out_is_trained_on else "")
    total = training.steps * training.batch
    return {
        "run": str(setup.folder),
        "device": f"{setup.device}, {training.precision}, {torch.get_num_threads()} CPU threads, "
        f"allocator {allocator()}",
        "content pictures": f"{len(content)}, {'in memory' if content.cached else 'decoded as they come'}",
        "style pictures": _style_pictures(pictures),
        "held-out pictures": held_out,
        "data workers": str(data.workers(setup, pictures)),
        "generator": f"{count_parameters(state.generator):,} parameters",
        "discriminator": d,
        "perceptual network": f"{objective.perceptual.architecture.name}; feature scales {scales}",
        "ranks": _cut(setup),
        "steps": f"{state.step} done of {training.steps}, {training.warmup_steps} of them warm-up",
        "pictures in all": f"{total:,}, {total / len(content):,.1f} epochs",
    }


def _style_pictures(pictures: Pictures) -> str:
    counts = " + ".join(f"{len(one)}{f' {name}' if name else ''}" for name, one in pictures.styles.items())
    cached = all(one.cached for one in pictures.styles.values())
    return f"{counts}, {'in memory' if cached else 'decoded as they come'}"


def _cut(setup: Setup) -> str:
    """How a batch is divided."""
    training, count = setup.cfg.training, setup.ranks.count
    each = training.batch // count
    parts = f", in {training.accumulate} parts" if training.accumulate > 1 else ""
    return f"{count}, a batch of {training.batch} is {each} for each{parts}"


def _show(settings: dict[str, Any], sizes: dict[str, str]) -> None:
    print(to_yaml(settings))
    for name, value in sizes.items():
        print(f"{name + ':':<22}{value}", flush=True)


def _report(folder: Path, loop: Loop) -> None:
    """What the user wants to know at the end."""
    measured, perceptual = loop.measured, loop.objective.perceptual.architecture.name
    if "heldout/style_ratio" in measured:
        print(
            f"style distance (Gram, {perceptual}) on held-out photos: "
            f"photo {measured['heldout/style_photo']:.4g}, result {measured['heldout/style']:.4g} "
            f"({100 * measured['heldout/style_ratio']:.1f} % of the photo's own)"
        )
    if "heldout/content" in measured:
        print(f"content distance of result to photo: {measured['heldout/content']:.4g}")
    print(f"grid (content | style | result): {loop.grid_path}")
    print(f"generator: {folder / GENERATOR_FILE}")


if __name__ == "__main__":
    main()
