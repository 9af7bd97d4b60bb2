"""``gan-style train``: wires a run together and hands it to the loop."""

import os
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from gan_style.checkpoint import CheckpointFolder
from gan_style.config import build, command, flat, plain, to_yaml
from gan_style.data.pictures import UnreadablePictures, find_pictures
from gan_style.data.sets import Pictures, load, open_pictures
from gan_style.data.stream import Crop, PairStream, Positions, batches
from gan_style.files import check_place, ensure_writable, write_bytes
from gan_style.losses.objective import Objective, check_terms, content_layers, mean_gram, style_layers
from gan_style.losses.perceptual import MEAN
from gan_style.models.blocks import count_parameters
from gan_style.models.registry import describe
from gan_style.runtime import choose_device, placed
from gan_style.schema import check_train
from gan_style.tracking.base import Several, Tracker
from gan_style.tracking.jsonl import JsonlTracker
from gan_style.tracking.wandb import WandbTracker, resolve_mode
from gan_style.training.ema import Ema
from gan_style.training.loop import GENERATOR_FILE, Every, Loop
from gan_style.training.progress import Progress
from gan_style.training.sampling import Sampler
from gan_style.training.schedule import Schedule
from gan_style.training.state import TrainState
from gan_style.training.step import Precision

# What may change when a run goes on; anything else would make it another run.
_MAY_CHANGE = (
    *("training.steps", "training.log_every", "training.sample_every", "training.checkpoint_every"),
    *("training.keep_checkpoints", "data.workers", "data.cache_mb", "tracking.", "runtime.", "dry_run"),
)


@command("train")
def main(cfg: DictConfig) -> int:
    """Train a generator on photos and a style; the same command again resumes, and once finished does nothing."""
    warnings.showwarning = _plain_warning
    settings = plain(cfg)
    check_train(cfg)
    device = choose_device(cfg.runtime.device, cfg.runtime.threads)
    folder = Path(cfg.run.root).expanduser() / cfg.run.name
    check_place(folder, "run.root, run.name")
    checkpoints = CheckpointFolder(folder / "checkpoints", keep=cfg.training.keep_checkpoints)
    saved = _saved(checkpoints, settings, folder)
    if saved is not None and saved["state"]["step"] >= cfg.training.steps:
        print(f"{folder} is finished: {saved['state']['step']} steps; a larger training.steps goes on")
        return 0
    torch.manual_seed(cfg.training.seed)
    objective, perceptual_scales = _objective(cfg), saved["scales"] if saved else None
    pictures = _pictures(cfg)
    placed(objective.perceptual, device)
    _calibrate(cfg, objective, pictures, device, perceptual_scales)
    state = _state(cfg, objective, device)
    if saved is not None:
        _restore(state, saved, folder)
    _show(settings, _sizes(cfg, state, objective, pictures, device, folder))
    if cfg.dry_run:
        print("dry_run=true: stopping before step 1; nothing was written")
        return 0
    for place in (folder, checkpoints.folder, folder / "samples"):
        ensure_writable(place, "run.root, run.name")
    sampler = _sampler(cfg, objective, pictures, device)
    write_bytes(folder / "config.yaml", to_yaml(settings).encode())
    tracker = _tracker(cfg, settings, folder, state.step)
    failed = True
    try:
        loop = _loop(cfg, settings, state, objective, pictures, sampler, tracker, folder, checkpoints, device)
        loop.run(_batches(cfg, pictures, state.step, device))
        loop.progress.close()
        failed = False
    finally:
        tracker.finish(failed=failed)
    _report(folder, loop)
    return 0


def _plain_warning(message: Warning | str, *details: Any, **more: Any) -> None:
    print(f"warning: {message}", flush=True)


def _saved(checkpoints: CheckpointFolder, settings: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint, if there is one and it is of a run with the same settings."""
    found = checkpoints.load_newest(warn=warnings.warn)
    if found is None:
        return None
    old, new = flat(found[1]["config"]), flat(settings)
    keys = [key for key in {**old, **new} if not key.startswith(_MAY_CHANGE)]
    differing = [f"{key}: {old.get(key)} there, {new.get(key)} here" for key in keys if old.get(key) != new.get(key)]
    if differing:
        listed = "\n  ".join(differing)
        raise ValueError(f"{folder} holds a run with other settings; choose another run.name.\n  {listed}")
    return found[1]


def _objective(cfg: DictConfig) -> Objective:
    terms = {str(name): build(node, f"loss.{name}") for name, node in cfg.loss.items()}
    check_terms(terms)
    layers = [*content_layers(terms.values()), *style_layers(terms.values())]
    return Objective(terms, build(cfg.perceptual, "perceptual", layers=layers))


def _pictures(cfg: DictConfig) -> Pictures:
    data = plain(cfg.data)
    data["style_resize"] = data["style_resize"] or data["resize"]
    names = ("content", "style", "holdout", "holdout_count", "resize", "style_resize", "cache_mb", "max_unreadable")
    return open_pictures(**{name: data[name] for name in names})


def _calibrate(
    cfg: DictConfig, objective: Objective, pictures: Pictures, device: torch.device, scales: dict[str, float] | None
) -> None:
    """Scale the perceptual features (or take the scales of the run that goes on), then fix the style's targets."""
    if scales is not None:
        objective.perceptual.scales = dict(scales)
    elif cfg.training.calibration_pictures:
        crop = Crop(cfg.data.size, tuple(cfg.data.resize), flip=False)
        count, seed = cfg.training.calibration_pictures, cfg.training.seed
        objective.perceptual.calibrate(list(pictures.content_crops(count, crop, seed, device)))
    if objective.fixed_targets:
        print(f"computing the style's Gram matrices ({', '.join(objective.fixed_targets)}) ...", flush=True)
    for target in objective.fixed_targets:
        if target == MEAN:
            objective.set_style(target, pictures.style_pictures(device))
        else:
            paths = find_pictures(target, "loss.style.target")
            watch = UnreadablePictures("loss.style.target", len(paths), limit=0.0)
            objective.set_style(target, load(paths, pictures.style_short_side, device, watch))


def _state(cfg: DictConfig, objective: Objective, device: torch.device) -> TrainState:
    training = cfg.training
    torch.manual_seed(training.seed)
    generator = placed(build(cfg.generator, "generator"), device)
    optimiser = build(cfg.optimiser.generator, "optimiser.generator")(generator.parameters())
    discriminator, discriminator_optimiser = None, None
    if objective.adversarial is not None:
        discriminator = placed(build(cfg.discriminator, "discriminator"), device)
        if cfg.data.size < discriminator.smallest:
            raise ValueError(
                f"data.size={cfg.data.size} is smaller than what the discriminator looks at, {discriminator.smallest} "
                f"pixels; use discriminator=patch34, fewer discriminator.scales, or a larger data.size"
            )
        make_optimiser = build(cfg.optimiser.discriminator, "optimiser.discriminator")
        discriminator_optimiser = make_optimiser(discriminator.parameters())
    return TrainState(
        generator=generator,
        discriminator=discriminator,
        ema=Ema(generator, training.ema_decay),
        generator_optimiser=optimiser,
        discriminator_optimiser=discriminator_optimiser,
        schedule=Schedule(training.decay, training.steps, training.hold),
        random=torch.Generator().manual_seed(training.seed),
        warmup_steps=training.warmup_steps,
        clip=training.clip,
    )


def _restore(state: TrainState, saved: dict[str, Any], folder: Path) -> None:
    try:
        state.load_state_dict(saved["state"])
    except (RuntimeError, KeyError, ValueError) as error:
        raise ValueError(f"the checkpoint in {folder} is of another architecture: {error}") from error
    print(f"resuming {folder} after step {state.step}")


def _workers(cfg: DictConfig, pictures: Pictures) -> int:
    if cfg.data.workers is not None:
        return int(cfg.data.workers)
    return 0 if pictures.in_memory else min(8, os.cpu_count() or 1)


def _sizes(
    cfg: DictConfig, state: TrainState, objective: Objective, pictures: Pictures, device: torch.device, folder: Path
) -> dict[str, str]:
    """What follows from the settings, for the user to see before the first step."""
    training, content, style = cfg.training, pictures.content, pictures.style
    d = f"{count_parameters(state.discriminator):,} parameters" if state.discriminator else "none (no adversarial term)"
    scales = ", ".join(f"{layer} {scale:.3g}" for layer, scale in objective.perceptual.scales.items())
    held_out = f"{len(pictures.held_out)}" + (" (trained on)" if pictures.held_out_is_trained_on else "")
    total = training.steps * training.batch
    return {
        "run": str(folder),
        "device": f"{device}, {training.precision}, {torch.get_num_threads()} CPU threads",
        "content pictures": f"{len(content)}, {'in memory' if content.cached else 'decoded as they come'}",
        "style pictures": f"{len(style)}, {'in memory' if style.cached else 'decoded as they come'}",
        "held-out pictures": held_out,
        "data workers": str(_workers(cfg, pictures)),
        "generator": f"{count_parameters(state.generator):,} parameters",
        "discriminator": d,
        "perceptual network": f"{objective.perceptual.architecture.name}; feature scales {scales}",
        "steps": f"{state.step} done of {training.steps}, {training.warmup_steps} of them warm-up",
        "pictures in all": f"{total:,}, {total / len(content):,.1f} epochs",
    }


def _show(settings: dict[str, Any], sizes: dict[str, str]) -> None:
    print(to_yaml(settings))
    for name, value in sizes.items():
        print(f"{name + ':':<22}{value}", flush=True)


def _sampler(cfg: DictConfig, objective: Objective, pictures: Pictures, device: torch.device) -> Sampler:
    terms = list(objective.terms.values())
    fixed = objective.fixed_targets
    grams = objective.style_grams[fixed[0]] if fixed else {}
    if style_layers(terms) and not grams:  # only paired targets: measured against the set's mean
        grams = mean_gram(objective.perceptual, pictures.style_pictures(device), style_layers(terms))
    size = cfg.data.sample_size
    contents = pictures.held_out_pictures(device, size)
    styles = list(islice(pictures.style_pictures(device, size), len(contents)))
    return Sampler(contents, styles, objective.perceptual, grams, content_layers(terms))


def _tracker(cfg: DictConfig, settings: dict[str, Any], folder: Path, step: int) -> Tracker:
    trackers: list[Tracker] = [JsonlTracker(folder / "metrics.jsonl", last_step=step)]
    mode = resolve_mode(cfg.tracking.wandb)
    if mode != "disabled":
        trackers.append(
            WandbTracker(mode=mode, project=cfg.tracking.project, name=cfg.run.name, config=settings, folder=folder)
        )
    print(f"{'tracking:':<22}metrics.jsonl, W&B {mode}", flush=True)
    return Several(trackers)


def _loop(
    cfg: DictConfig,
    settings: dict[str, Any],
    state: TrainState,
    objective: Objective,
    pictures: Pictures,
    sampler: Sampler,
    tracker: Tracker,
    folder: Path,
    checkpoints: CheckpointFolder,
    device: torch.device,
) -> Loop:
    training = cfg.training
    every = Every(training.log_every, training.sample_every, training.checkpoint_every, training.steps)
    return Loop(
        state=state,
        objective=objective,
        precision=Precision(device, getattr(torch, training.precision)),
        every=every,
        folder=folder,
        checkpoints=checkpoints,
        sampler=sampler,
        tracker=tracker,
        progress=Progress(first_step=state.step, steps=training.steps, batch=training.batch),
        watches=pictures.watches,
        extra={
            "config": settings,
            "generator": describe(state.generator),
            "scales": dict(objective.perceptual.scales),
        },
    )


def _batches(cfg: DictConfig, pictures: Pictures, first_step: int, device: torch.device) -> Any:
    data = cfg.data
    stream = PairStream(
        pictures.content,
        pictures.style,
        content_crop=Crop(data.size, tuple(data.resize), data.flip),
        style_crop=Crop(data.size, tuple(data.style_resize or data.resize), data.flip),
        seed=cfg.training.seed,
    )
    positions = Positions(first_step=first_step, last_step=cfg.training.steps, batch=cfg.training.batch)
    return batches(stream, positions, workers=_workers(cfg, pictures), pin_memory=device.type == "cuda")


def _report(folder: Path, loop: Loop) -> None:
    """What the user wants to know at the end."""
    distances, perceptual = loop.distances, loop.objective.perceptual.architecture.name
    if "heldout/style_ratio" in distances:
        print(
            f"style distance (Gram, {perceptual}) on held-out photos: "
            f"photo {distances['heldout/style_distance_photo']:.4g}, result {distances['heldout/style_distance']:.4g} "
            f"({100 * distances['heldout/style_ratio']:.1f} % of the photo's own)"
        )
    if "heldout/content_distance" in distances:
        print(f"content distance of result to photo: {distances['heldout/content_distance']:.4g}")
    print(f"grid (content | style | result): {loop.grid_path}")
    print(f"generator: {folder / GENERATOR_FILE}")


if __name__ == "__main__":
    main()
