"""``gan-style train``: puts a run together, and holds its loop."""

import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from gan_style.cli import command
from gan_style.commands.sweep import sweep
from gan_style.commands.train_setup import (
    TrainSetup,
    by_reference,
    calibrate,
    check_train_regions,
    distribute,
    final_result,
    make_batches,
    make_composite,
    make_objective,
    make_sampler,
    make_state,
    make_supervisor,
    make_tracker,
    measure_styles,
    open_sets,
    picture_files,
    set_targets,
    worker_count,
)
from gan_style.config import current_target, flat, plain, read_yaml, to_yaml
from gan_style.data.sets import Pictures
from gan_style.losses.objective import Objective
from gan_style.losses.style import EACH
from gan_style.models.blocks import count_parameters
from gan_style.options import SEEDS, Runtime, as_typed, differences, may_change, option
from gan_style.report.runs import CONFIG_FILE
from gan_style.runtime.checkpoint import GENERATOR_FILE
from gan_style.runtime.device import advice, allocator, choose_device
from gan_style.runtime.distributed import Ranks, launch, local_device, ranks
from gan_style.runtime.files import check_place, ensure_writable, locked, remove_leftovers, write_bytes
from gan_style.runtime.progress import warn
from gan_style.runtime.provenance import changed_since, note_failure, read_failure, record
from gan_style.runtime.signals import PREEMPTED, Stop, leave_on_signals, stop_on_signals
from gan_style.runtime.wandb import MODES, resolve_mode
from gan_style.training.sampling import composite_weights
from gan_style.training.schedule import Schedule
from gan_style.training.state import TrainState
from gan_style.training.step import Precision, train_step
from gan_style.training.supervisor import Supervisor

_STYLE_NOT_LEARNED = 0.85  # of the photo's own style distance is left

# Options: defaults and help are in conf/train.yaml.


@dataclass(kw_only=True)
class RunOptions:
    name: str
    root: str
    sweep: str | None


@dataclass(kw_only=True)
class TrainingOptions:
    steps: int = option(1, may_change=True)
    batch: int = option(1)
    accumulate: int = option(1, may_change=True)
    recompute: bool = option(may_change=True)
    warmup_steps: int = option(0)
    seed: int = option(*SEEDS)
    start: str | None = option(path=True)
    precision: str = option(choices=("float32", "bfloat16", "float16", "auto"))
    decay: str
    hold: float
    clip: float | None = option(above=0, below=inf)
    ema_decay: float
    log_every: int = option(1, may_change=True)
    sample_every: int = option(1, may_change=True)
    checkpoint_every: int = option(1, may_change=True)
    keep_checkpoints: int = option(1, may_change=True)
    keep_every: int | None = option(1, may_change=True)
    max_time: float | None = option(above=0, below=inf, may_change=True)
    skip_patience: int = option(1, may_change=True)
    rollbacks: int = option(0, may_change=True)
    calibration_pictures: int = option(0)
    audit_every: int = option(0)


@dataclass(kw_only=True)
class MetricsOptions:
    every: int = option(1)
    names: list[str]
    best: Any


@dataclass(kw_only=True)
class RegionsOptions:
    names: list[str] | None
    content: str | None = option(path=True)
    style: str | None = option(path=True)
    classes: str | None = option(path=True)


@dataclass(kw_only=True)
class DataOptions:
    content: Any = option(path=True, required=True)
    style: Any = option(path=True, required=True)
    paired: bool | None
    regions: RegionsOptions
    holdout: Any = option(path=True)
    holdout_count: int = option(0)
    style_holdout_count: int | None = option(1)
    sample_size: int = option(16, may_change=True)
    size: int = option(16)
    resize: tuple[int, int]
    style_resize: tuple[int, int] | None
    flip: bool
    recolour: float = option(0, 1)
    full_strength: float = option(0, 1)
    cache_mb: float = option(0, may_change=True)
    workers: int | None = option(0, may_change=True)
    max_unreadable: float = option(0, 1, may_change=True)


@dataclass(kw_only=True)
class OptimiserOptions:
    generator: Any
    discriminator: Any
    style_rows: float = option(0)


@dataclass(kw_only=True)
class TrackingOptions:
    wandb: str = option(choices=MODES)
    project: str
    name: str
    group: str | None
    tags: list[str]
    notes: str | None
    artifacts: bool


@dataclass(kw_only=True)
class TrainRuntime(Runtime):
    devices: int = option(1)
    compile: bool


@dataclass(kw_only=True)
class TrainOptions:
    run: RunOptions = option(may_change=True)
    training: TrainingOptions
    metrics: MetricsOptions = option(may_change=True)
    data: DataOptions
    generator: Any
    discriminator: Any
    perceptual: Any
    loss: dict[str, Any]
    optimiser: OptimiserOptions
    tracking: TrackingOptions = option(may_change=True)
    runtime: TrainRuntime = option(may_change=True)
    dry_run: bool = option(may_change=True)


def _drop_leftovers(cfg: DictConfig) -> None:
    """Remove what an experiment sets of loss terms that loss=... does not have, and say so."""
    for name, term in list(cfg.loss.items()):
        if name != "balance" and isinstance(term, DictConfig) and "_target_" not in term:
            print(f"note: loss.{name} of the experiment is left out: this loss=... has no such term", flush=True)
            with open_dict(cfg.loss):
                del cfg.loss[name]


def check_train(cfg: Any) -> None:
    """Check what fits together. ValueError in the user's words."""
    # Name and sizes.
    training, data = cfg.training, cfg.data
    if not str(cfg.run.name).strip(" ./"):
        raise ValueError(f"run.name={cfg.run.name!r}; give a name, which the run's folder gets")
    for name in ("resize", "style_resize"):
        bounds = None if data[name] is None else list(data[name])
        if bounds is not None and not (len(bounds) == 2 and data.size <= bounds[0] <= bounds[1]):
            raise ValueError(f"data.{name}={as_typed(bounds)}; two lengths, from data.size={data.size} upward")

    # Loss weights, their balance, and learning rates.
    if cfg.loss.get("balance") is not None and not 0 < training.audit_every <= training.warmup_steps:
        raise ValueError(
            f"training.audit_every={training.audit_every}: loss.balance needs audits in the warm-up; allowed are 1 to "
            f"training.warmup_steps={training.warmup_steps}"
        )
    if training.warmup_steps and "content" not in cfg.loss:
        raise ValueError(f"training.warmup_steps={training.warmup_steps} needs loss.content; set it to 0")
    weights = [term.get("weight") for name, term in cfg.loss.items() if name != "balance" and isinstance(term, Mapping)]
    if weights and not any(weights) and None not in weights:
        raise ValueError("all loss weights are 0, so nothing would be trained; give at least one loss.NAME.weight")
    for name, node in cfg.optimiser.items():
        if isinstance(node, Mapping) and node.get("lr") == 0:
            raise ValueError(f"optimiser.{name}.lr=0 trains nothing; allowed are numbers above 0")

    # Styles, and pairs of photo and style picture.
    check_styles(cfg)
    if data.paired and (isinstance(data.style, Mapping) or by_reference(cfg)):
        raise ValueError("data.paired=true is for one style and generator=resnet or slim; leave it null")
    if data.paired and (data.recolour or data.style_resize):
        raise ValueError("data.paired=true needs data.style_resize=null and data.recolour=0")
    guided = [str(name) for name, term in cfg.loss.items() if isinstance(term, Mapping) and term.get("guided")]
    single = not (data.paired or isinstance(data.style, Mapping) or by_reference(cfg))
    check_train_regions(data.regions, guided, one_style=single)
    for name, term in cfg.loss.items():
        if str(term.get("_target_", "") if isinstance(term, Mapping) else "").endswith(".Paired") and not data.paired:
            raise ValueError(f"loss.{name} compares with the photo's own style picture: it needs data.paired=true")


def check_styles(cfg: Any) -> None:
    """Check that the generator fits data.style: several styles need names, references a generator that sees them."""
    # Several styles by name.
    is_library = isinstance(cfg.data.style, Mapping)
    takes_library = str(cfg.generator.get("_target_", "")).endswith((".LibraryGenerator", ".MobileGenerator"))
    if is_library and not cfg.data.style:
        raise ValueError("data.style={} names no style; write data.style={monet: FOLDER, wave: PICTURE}")
    if is_library and not takes_library:
        names = ", ".join(map(str, cfg.data.style))
        raise ValueError(f"data.style names styles ({names}); use generator=library or generator=mobile")
    if takes_library and not is_library:
        got = as_typed(cfg.data.style)
        raise ValueError(f"data.style={got}: this generator needs names, data.style={{monet: FOLDER, wave: PICTURE}}")
    for name in cfg.data.style if is_library else ():
        if not re.fullmatch(r"[A-Za-z0-9_-]+", str(name)):
            raise ValueError(f"data.style: {name!r} is no name for a style; allowed are letters, digits, - and _")

    # References that are held out.
    count = cfg.data.style_holdout_count
    if count is not None and not by_reference(cfg):
        raise ValueError(f"data.style_holdout_count={count} is for generator=reference; leave it null")


@command("train", TrainOptions, sweep=lambda args: sweep(args, command="train", finished=is_finished))
def main(cfg: DictConfig) -> int:
    """Train a generator on photos and a style; the same command again resumes, and once finished does nothing.

    On several devices: runtime.devices=N, or under torchrun, python -m gan_style.commands.train with the same options.
    -m makes a sweep of several values: -m loss.style.weight=1,3 training.seed=0,1 are four jobs, in sweeps/; one after
    the other, or with hydra/launcher=joblib or submitit_slurm (their options: hydra.launcher.NAME).
    """
    if cfg.runtime.devices > 1 and "RANK" not in os.environ:
        return launch(cfg.runtime.devices, [sys.executable, "-m", "gan_style.commands.train", *sys.argv[1:]])
    with leave_on_signals(), _failure_of_sweep_noted(cfg), ranks() as group:
        # a filter with one output is laid out alike either way
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return _train(cfg, group)


def _train(cfg: DictConfig, group: Ranks) -> int:
    """Train as the options say, from the newest checkpoint on if there is one; return the exit status."""
    # Check what can be checked before anything is computed.
    _drop_leftovers(cfg)
    check_train(cfg)
    resolve_mode(cfg.tracking.wandb)
    settings, folder = plain(cfg), run_folder(cfg)
    _ranking(settings)
    check_place(folder, "run.root, run.name")
    device = choose_device(local_device(cfg.runtime.device), cfg.runtime.threads)
    setup = TrainSetup(cfg, settings, device, folder, group)

    # Choose the checkpoint to go on from.
    checkpoints_before = setup.checkpoints.paths()
    saved = group.from_first(read_saved(setup) if group.first else None)
    if saved is not None and saved["state"]["step"] >= cfg.training.steps:
        group.say(f"{folder} is finished: {saved['state']['step']} steps; a larger training.steps goes on")
        return 0
    if group.first:
        training, other_terms = cfg.training, set(map(str, cfg.loss)) - {"balance", "content"}
        if 0 < training.steps <= training.warmup_steps and other_terms:
            end = f"training.steps={training.steps} ends within training.warmup_steps={training.warmup_steps}"
            warnings.warn(f"{end}: content alone is trained, no {', no '.join(sorted(other_terms))}", stacklevel=2)

    # Build the networks and find the pictures.
    objective = make_objective(setup)
    state = make_state(setup, objective, fresh=saved is None)
    pictures = open_sets(setup)
    check_ranks(cfg, group.count, len(pictures.content))

    # Measure what the objective needs to know of the pictures, or restore what was measured at the start.
    changed: set[str] = set()
    if saved is None:
        calibrate(setup, objective, pictures)
        set_targets(setup, objective, pictures, objective.targets)
        measure_styles(setup, state, pictures)
    else:
        try:
            state.load_state_dict(saved["state"])
            objective.load_state_dict(saved["objective"], device)
        except (RuntimeError, KeyError, ValueError) as error:
            raise ValueError(f"the checkpoint in {folder} is of another architecture: {error}") from error
        group.say(f"resuming {folder} after step {state.step}")
        if group.first:
            _warn_of_rising_rate(saved["config"]["training"], cfg.training, state.step)
            changed = changed_since(folder, picture_files(pictures))
            _warn_of_changed_pictures(changed)
        set_targets(setup, objective, pictures, {EACH} & set(objective.targets))
    distribute(setup, state)

    # Show the settings and what follows from them.
    group.say(to_yaml(settings))
    for name, value in _sizes(setup, state, objective, pictures).items():
        group.say(f"{name + ':':<22}{value}")
    for hint in advice(device, setup.precision) if group.count == 1 else ():
        group.say(f"hint: {hint}")
    if cfg.dry_run:
        group.say("dry_run=true: stopping before step 1; nothing was written")
        return 0

    # Train, with the run's folder to ourselves and every tracker told how it ended.
    lowest = None if "holdout" in changed else _lowest_composite(setup, saved)
    with stop_on_signals() as stop, _own_folder(setup, checkpoints_before):
        supervisor = _run(setup, state, objective, pictures, stop, lowest)
    if supervisor.stopped_by is not None:
        reason = supervisor.stopped_by
        group.say(f"stopped by {reason} after step {state.step}, saved; the same command again goes on")
        return PREEMPTED
    if group.first:
        _report(folder, supervisor)
    return 0


def _run(
    setup: TrainSetup,
    state: TrainState,
    objective: Objective,
    pictures: Pictures,
    stop: Stop,
    lowest: float | None,
) -> Supervisor:
    """Train to the last step, or until somebody asks to stop; return the supervisor, which knows how it went."""
    # Build what watches over the run and writes its results.
    sampler = make_sampler(setup, objective, pictures) if setup.ranks.first else None
    composite = make_composite(setup, sampler, lowest) if sampler else None
    tracker = make_tracker(setup, state.step)
    finished = False
    try:
        supervisor = make_supervisor(setup, state, objective, pictures, sampler, stop, composite, tracker)
        if setup.ranks.first:
            record(setup.folder, supervisor.extra["provenance"], step=state.step)

        # Train. Numbers that are not finite lead back to a checkpoint, and from there once more through the batches.
        precision, training = Precision(setup.device, setup.precision), True
        try:
            while training:
                for batch in make_batches(setup, pictures, state.step, stop):
                    audit = supervisor.audit_due()
                    scalars = train_step(state, batch.to(setup.device), objective, precision, audit=audit)
                    if not supervisor.after_step(batch, scalars):
                        break
                training = supervisor.rolled_back()
        finally:
            supervisor.close()

        # Tell the trackers how it ended.
        finished = supervisor.stopped_by is None
        if not finished:
            tracker.preempted()
        elif setup.ranks.first:
            tracker.completed(final_result(setup, supervisor))
    finally:
        tracker.finish(failed=not finished)
    return supervisor


# The run's folder


def run_folder(cfg: DictConfig) -> Path:
    return Path(cfg.run.root).expanduser() / cfg.run.name


@contextmanager
def _own_folder(setup: TrainSetup, checkpoints_before: list[Path]) -> Iterator[None]:
    """Lock the run's folder, clean it of leftovers, and write its settings; the first rank alone writes.

    ValueError where another process has added checkpoints since one was chosen to go on from.
    """
    if not setup.ranks.first:
        yield
        return
    for folder in (setup.folder, setup.checkpoints.folder, setup.samples):
        ensure_writable(folder, "run.root, run.name")
    with locked(setup.folder), note_failure(setup.folder):
        if setup.checkpoints.paths() != checkpoints_before:
            raise ValueError(f"another process has trained {setup.folder} meanwhile; the same command again goes on")
        for folder in (setup.folder, setup.samples):
            remove_leftovers(folder)
        write_bytes(setup.folder / CONFIG_FILE, to_yaml(setup.settings).encode())
        yield


@contextmanager
def _failure_of_sweep_noted(cfg: DictConfig) -> Iterator[None]:
    """Keep a sweep's job's settings in its folder from the start, and the reason where it fails before it begins."""
    if cfg.run.sweep is None or os.environ.get("RANK", "0") != "0":
        yield
        return
    folder = run_folder(cfg)
    ensure_writable(folder, "run.root, run.name")
    with note_failure(folder):
        if not (folder / CONFIG_FILE).exists():
            write_bytes(folder / CONFIG_FILE, to_yaml(plain(cfg)).encode())
        yield


# Going on where a run was stopped


def read_saved(setup: TrainSetup) -> dict[str, Any] | None:
    """Return the newest checkpoint, if there is one. ValueError where it is of a run with other settings."""
    newest = setup.checkpoints.load_newest(warn=warnings.warn)
    if newest is None:
        _check_results_are_own(setup)
        return None
    if differing := _differing(newest[1]["config"], setup.settings):
        lines = "\n  ".join(differing)
        other = "run.name" if setup.cfg.run.sweep is None else "run.sweep"
        raise ValueError(f"{setup.folder} holds a run with other settings; choose another {other}.\n  {lines}")
    return newest[1]


def _check_results_are_own(setup: TrainSetup) -> None:
    """Raise ValueError where a run without checkpoints has left results that are not of these settings."""
    results = [path for path in (setup.folder / GENERATOR_FILE, *setup.samples.glob("*.jpg")) if path.exists()]
    if not results:
        return
    try:
        differing = _differing(read_yaml(setup.folder / CONFIG_FILE), setup.settings)
    except (ValueError, LookupError, TypeError, AttributeError):
        differing = ["its config.yaml is missing or damaged"]
    if differing:
        lines = "\n  ".join(differing)
        problem = f"{results[0]} is the result of another run, whose checkpoints are gone"
        raise ValueError(f"{problem}; choose another run.name, or move {setup.folder} away.\n  {lines}")


def _differing(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Describe the settings that may not change when a run goes on, and did."""
    lines = differences(_comparable(old), _comparable(new))
    # The order of several styles is that of the generator's weights.
    specs = [settings["data"]["style"] for settings in (old, new)]
    before, now = ([str(name) for name in spec] if isinstance(spec, dict) else [] for spec in specs)
    if before != now and sorted(before) == sorted(now):
        lines.append(f"order of data.style: {', '.join(before)} there, {', '.join(now)} here")
    return lines


def _comparable(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings that may not change, by dotted name, with the present names of classes that have moved."""
    items = [(key, value) for key, value in flat(settings).items() if not may_change(TrainOptions, key)]
    return {key: current_target(value) if key.endswith("._target_") else value for key, value in items}


def is_finished(cfg: DictConfig) -> bool:
    """Return whether the run's folder holds a whole run of these settings, so that a sweep need not start it."""
    try:
        saved = read_saved(TrainSetup(cfg, plain(cfg), torch.device("cpu"), run_folder(cfg)))
    except (ValueError, OmegaConfBaseException):
        return False  # the job itself says what is wrong
    return saved is not None and saved["state"]["step"] >= cfg.training.steps and read_failure(run_folder(cfg)) is None


def _ranking(settings: dict[str, Any]) -> tuple[Any, int]:
    """Return what the best checkpoint is chosen by: the metrics' weights, and the size of the held-out pictures."""
    metrics = settings["metrics"]
    return composite_weights(metrics["best"], metrics["names"]), settings["data"]["sample_size"]


def _lowest_composite(setup: TrainSetup, saved: dict[str, Any] | None) -> float | None:
    """Return the run's lowest composite so far; None where it was measured otherwise."""
    if saved is None or "metrics" not in saved["config"]:
        return None
    return saved["lowest"] if _ranking(saved["config"]) == _ranking(setup.settings) else None


# Checks, warnings and what is shown


def check_ranks(cfg: Any, count: int, pictures: int) -> None:
    """Raise ValueError where a batch cannot be cut for so many ranks, or there are no pictures for all."""
    parts = count * cfg.training.accumulate
    if cfg.training.batch % parts:
        among = f"{count} ranks x training.accumulate={cfg.training.accumulate}"
        raise ValueError(f"training.batch={cfg.training.batch} for {among}; allowed are multiples of {parts}")
    if pictures < count:
        raise ValueError(f"data.content: {pictures} pictures for {count} ranks; there have to be as many at least")


def _warn_of_rising_rate(before: Mapping[str, Any], now: Any, step: int) -> None:
    """Warn where more steps stretch a decay that has begun, so that learning rates are higher again than they were."""
    rates = [Schedule(now.decay, steps, now.hold)(step) for steps in (before["steps"], now.steps)]
    if rates[1] > 1.01 * rates[0]:
        rise = f"{rates[1] / rates[0]:.3g} times what they were" if rates[0] else "above 0 again, where they had ended"
        rates_are = f"after step {step} learning rates are {rise} under training.steps={before['steps']}"
        warnings.warn(f"training.steps={now.steps} stretches the decay: {rates_are}", stacklevel=2)


def _warn_of_changed_pictures(changed: set[str]) -> None:
    """Warn of the sets of pictures that are others than when the run was last here."""
    consequences = {
        "content": "from here on others may be held out, and the rest come in another order",
        "holdout": "numbers and samples are of other pictures from here on, and the best checkpoint is chosen anew",
        "style": "the discriminator is shown the new ones; targets of the style loss stay what they were",
    }
    if "content" in changed:
        del consequences["holdout"]  # which is a part of it
    for name, consequence in consequences.items():
        if name in changed:
            differs = f"data.{name} is not what this run was trained on before (files were added, removed or changed)"
            warnings.warn(f"{differs}: {consequence}", stacklevel=2)


def _sizes(setup: TrainSetup, state: TrainState, objective: Objective, pictures: Pictures) -> dict[str, str]:
    """Return what follows from the settings, for the user to see before the first step."""
    training, content, count = setup.cfg.training, pictures.content, setup.ranks.count
    dtype = str(setup.precision).removeprefix("torch.")
    precision = f"{setup.device}, {dtype}, {torch.get_num_threads()} CPU threads, allocator {allocator()}"
    d = f"{count_parameters(state.discriminator):,} parameters" if state.discriminator else "none (no adversarial term)"
    styles = " + ".join(f"{len(style)}{f' {name}' if name else ''}" for name, style in pictures.styles.items())
    parts = f", in {training.accumulate} parts" if training.accumulate > 1 else ""
    total = training.steps * training.batch
    in_memory = {True: "in memory", False: "decoded as they come"}
    return {
        "run": str(setup.folder),
        "device": precision,
        "content pictures": f"{len(content)}, {in_memory[content.cached]}",
        "style pictures": f"{styles}, {in_memory[all(style.cached for style in pictures.styles.values())]}",
        "held-out pictures": f"{len(pictures.held_out)}{' (trained on)' if pictures.held_out_is_trained_on else ''}",
        "data workers": str(worker_count(setup, pictures)),
        "generator": f"{count_parameters(state.generator):,} parameters",
        "discriminator": d,
        "perceptual network": objective.perceptual.summary(),
        "ranks": f"{count}, a batch of {training.batch} is {training.batch // count} for each{parts}",
        "steps": f"{state.step} done of {training.steps}, {training.warmup_steps} of them warm-up",
        "pictures in all": f"{total:,}, {total / len(content):,.1f} epochs",
    }


def _report(folder: Path, supervisor: Supervisor) -> None:
    measured, perceptual = supervisor.measured, supervisor.objective.perceptual.name
    if "heldout/style_ratio" in measured:
        photo, result, ratio = (measured[f"heldout/{name}"] for name in ("style_photo", "style", "style_ratio"))
        distances = f"photo {photo:.4g}, result {result:.4g} ({100 * ratio:.1f} % of the photo's own)"
        print(f"style distance (Gram, {perceptual}) on held-out photos: {distances}")
        if ratio > _STYLE_NOT_LEARNED:
            warn(
                "hardly any of the style was learned; train for longer (training.steps), or weigh it more "
                "(loss.style.weight; share/style in metrics.jsonl says how much of the gradient it has)"
            )
    if "heldout/content" in measured:
        print(f"content distance of result to photo: {measured['heldout/content']:.4g}")
    print(f"grid (content | style | result): {supervisor.grid_path}")
    print(f"generator: {folder / GENERATOR_FILE}")


if __name__ == "__main__":
    main()
