"""The parts of a training run, each built from its settings; ``train.py`` says in which order."""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer

from gan_style.config import build, plain
from gan_style.data.pictures import UnreadablePictures, find_pictures
from gan_style.data.sets import Pictures, load
from gan_style.data.stream import Crop
from gan_style.losses.objective import Objective, Term, check_terms, content_layers, style_layers
from gan_style.losses.style import CROP, EACH, MEAN, Style
from gan_style.models.registry import describe
from gan_style.runtime.checkpoint import CheckpointFolder
from gan_style.runtime.device import compiled, placed
from gan_style.runtime.distributed import Ranks
from gan_style.runtime.provenance import fingerprint, provenance, style_name
from gan_style.runtime.signals import Stop
from gan_style.runtime.tracking.base import Tracker
from gan_style.schema_train import by_reference
from gan_style.stylize.model import load_generator
from gan_style.training.ema import Ema
from gan_style.training.health import Health
from gan_style.training.loop import Every, Loop
from gan_style.training.progress import Progress
from gan_style.training.sampling import Composite, LibrarySampler, Sampler
from gan_style.training.schedule import Schedule
from gan_style.training.state import TrainState
from gan_style.training.step import Precision

_OF_NO_BEARING = ("run", "tracking", "runtime", "dry_run")  # settings that do not change a result


@dataclass(frozen=True)
class Setup:
    """What every part is built from; ``settings`` is the config as plain containers."""

    cfg: DictConfig
    settings: dict[str, Any]
    device: torch.device
    folder: Path
    ranks: Ranks = field(default_factory=Ranks)
    started: float = field(default_factory=time.monotonic)

    @property
    def checkpoints(self) -> CheckpointFolder:
        training = self.cfg.training
        return CheckpointFolder(self.folder / "checkpoints", training.keep_checkpoints, training.keep_every)

    @property
    def styles(self) -> list[str]:
        """The names of a library's styles; [] for one style alone."""
        style = self.settings["data"]["style"]
        return [str(name) for name in style] if isinstance(style, dict) else []

    @property
    def by_reference(self) -> bool:
        """Whether the generator is shown a picture of the style that is wanted."""
        return by_reference(self.cfg)

    @property
    def precision(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.cfg.training.precision)
        return dtype

    @property
    def samples(self) -> Path:
        return self.folder / "samples"


def make_objective(setup: Setup) -> Objective:
    """The named terms, and the perceptual network cut off after the deepest layer that they ask for."""
    torch.manual_seed(setup.cfg.training.seed)
    nodes = {str(name): node for name, node in setup.cfg.loss.items()}
    balance = nodes.pop("balance", None)
    if balance is not None and not isinstance(balance, DictConfig):
        raise ValueError(f"loss.balance={balance}: shares by term, such as {{content: 1, style: 2}}, or null, expected")
    terms = {name: build(node, f"loss.{name}") for name, node in nodes.items()}
    check_terms(terms)
    if setup.by_reference:
        _check_shown(terms)
    layers = [*content_layers(terms.values()), *style_layers(terms.values())]
    perceptual = placed(build(setup.cfg.perceptual, "perceptual", layers=layers), setup.device)
    return Objective(terms, perceptual, plain(balance))


def _check_shown(terms: Mapping[str, Term]) -> None:
    """A generator that is shown a picture of the style has to be asked for that picture's style."""
    for name, term in terms.items():
        if isinstance(term, Style) and term.target not in (CROP, EACH):
            raise ValueError(
                f"loss.{name}.target={term.target} asks generator=reference for one style, whatever it is shown; "
                "allowed are crop (of what it is shown) and each (of the whole picture that this is cut from)"
            )


def make_state(setup: Setup, objective: Objective, *, fresh: bool) -> TrainState:
    """Networks, optimisers and all that training changes, at step 0; fresh: no checkpoint will be loaded into them."""
    cfg, training = setup.cfg, setup.cfg.training
    torch.manual_seed(training.seed)
    generator = placed(build(cfg.generator, "generator", **_given(setup)), setup.device)
    if training.start is not None and fresh:
        _start_from(Path(training.start).expanduser(), generator)
    discriminator = _discriminator(setup) if objective.adversarial is not None else None
    return TrainState(
        generator=generator,
        discriminator=discriminator,
        ema=Ema(generator, training.ema_decay),
        generator_optimiser=_optimiser(cfg, "generator", generator),
        discriminator_optimiser=_optimiser(cfg, "discriminator", discriminator) if discriminator else None,
        schedule=Schedule(training.decay, training.steps, training.hold),
        seed=training.seed,
        accumulate=training.accumulate,
        scalers=_scalers(setup, discriminator is not None),
        warmup_steps=training.warmup_steps,
        clip=training.clip,
    )


def _start_from(path: Path, generator: nn.Module) -> None:
    """Give the generator the weights of another run's."""
    try:
        source = load_generator(path, torch.device("cpu"))
    except ValueError as error:
        raise ValueError(f"training.start: {error}") from error
    there, here = describe(source), describe(generator)
    if there != here:
        raise ValueError(f"training.start={path}: its generator is {_words(there)}, this run's is {_words(here)}")
    generator.load_state_dict(source.state_dict())


def _words(description: dict[str, Any]) -> str:
    return f"{description['class']} with " + ", ".join(f"{k}={v}" for k, v in description["arguments"].items())


def _given(setup: Setup) -> dict[str, Any]:
    """What the generator is told of the style pictures."""
    return {"side": _style_side(setup)} if setup.by_reference else _many(setup, setup.styles)


def _many(setup: Setup, styles: Any) -> dict[str, Any]:
    """What networks are told of a library's styles; nothing where there is one style alone."""
    return {"styles": styles} if setup.styles else {}


def _scalers(setup: Setup, adversarial: bool) -> dict[str, torch.amp.GradScaler]:
    """float16 alone needs its gradients scaled; each optimiser by its own."""
    names = (["generator"] + ["discriminator"] * adversarial) if setup.cfg.training.precision == "float16" else []
    return {name: torch.amp.GradScaler(setup.device.type, init_scale=2.0**12) for name in names}


def share(setup: Setup, state: TrainState) -> None:
    """Let ranks train the networks together; after a checkpoint has been loaded into them.

    The generator that is trained is compiled, or saves memory, where that is asked for; its average never is.
    """
    state.generator.recompute = setup.cfg.training.recompute
    if setup.cfg.runtime.compile:
        compiled(state.generator, option="runtime.compile=true")
    if setup.ranks.count > 1:
        networks = {"generator": state.generator, "discriminator": state.discriminator}
        state.parallel = {name: setup.ranks.shared(one) for name, one in networks.items() if one is not None}


def _discriminator(setup: Setup) -> nn.Module:
    given = _many(setup, len(setup.styles))
    network: nn.Module = placed(build(setup.cfg.discriminator, "discriminator", **given), setup.device)
    if setup.cfg.data.size < network.smallest:
        raise ValueError(
            f"data.size={setup.cfg.data.size} is smaller than what the discriminator looks at, {network.smallest} "
            f"pixels; use discriminator=patch34, fewer discriminator.scales, or a larger data.size"
        )
    return network


def _optimiser(cfg: DictConfig, name: str, network: nn.Module) -> Optimizer:
    make = build(cfg.optimiser[name], f"optimiser.{name}")
    try:
        optimiser: Optimizer = make(network.parameters())
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"optimiser.{name}: {error}") from error
    return optimiser


def _style_side(setup: Setup) -> int:
    """About the short side that style crops are cut from."""
    return round(sum(setup.cfg.data.style_resize or setup.cfg.data.resize) / 2)


def calibrate(setup: Setup, objective: Objective, pictures: Pictures) -> None:
    """Scale the perceptual features on content pictures, the same whatever the seed: held-out numbers of runs that
    differ in it alone are of one scale.
    """
    training, data = setup.cfg.training, setup.cfg.data
    if training.calibration_pictures and not objective.perceptual.scales_given:
        crop = Crop(data.size, tuple(data.resize), flip=False)
        crops = pictures.content_crops(training.calibration_pictures, crop, seed=0, device=setup.device)
        objective.perceptual.calibrate(list(crops))


def set_targets(setup: Setup, objective: Objective, pictures: Pictures, targets: Iterable[str]) -> None:
    """Compute the style's statistics for these targets."""
    if EACH in targets:
        _check_memory(objective.bytes_of_each() * len(pictures.style_paths), setup.cfg.data.cache_mb)
    for target in targets:
        if setup.ranks.first:
            print(f"computing the style's statistics ({target}) ...", flush=True)
        if setup.styles and target == MEAN:
            objective.set_library(target, (pictures.style_pictures(setup.device, name=n) for n in setup.styles))
        else:
            objective.set_style(target, target_pictures(setup, target, pictures))


def _check_memory(needed: int, cache_mb: float) -> None:
    if needed > cache_mb * 1e6:
        raise ValueError(
            f"the style target {EACH} would keep {needed / 1e6:.3g} MB, more than data.cache_mb={cache_mb:g}: use "
            f"the target {MEAN}, shallower or fewer layers, MomentStyle (which is small), or a larger data.cache_mb"
        )


def target_pictures(
    setup: Setup, target: str, pictures: Pictures, name: str | None = None
) -> Iterable[tuple[int, torch.Tensor]]:
    if target in (MEAN, EACH):
        return pictures.style_pictures(setup.device, name=name)
    option = f"style target ({MEAN}, {EACH}, or a picture)"
    paths = find_pictures(target, option)
    watch = UnreadablePictures(option, len(paths), limit=setup.cfg.data.max_unreadable)
    return load(paths, pictures.style_short_side, setup.device, watch)


def origin(setup: Setup, pictures: Pictures) -> dict[str, Any]:
    """Where the run's result comes from: versions, code, data, seed, and the settings that bear on it."""
    settings = {name: value for name, value in setup.settings.items() if name not in _OF_NO_BEARING}
    return provenance(
        settings=settings,
        seed=setup.cfg.training.seed,
        style=style_name(setup.settings["data"]["style"]),
        data={name: fingerprint(paths) for name, paths in sets_of(pictures).items()},
    )


def sets_of(pictures: Pictures) -> dict[str, list[Path]]:
    """The files of each set, readable or not."""
    style = [path for one in pictures.styles.values() for path in one.given]
    return {"content": pictures.content.given, "style": style, "holdout": pictures.held_out}


def make_loop(
    setup: Setup,
    state: TrainState,
    objective: Objective,
    pictures: Pictures,
    sampler: Sampler | LibrarySampler | None,
    stop: Stop,
    composite: Composite | None,
    tracker: Tracker,
) -> Loop:
    """Everything, ready to run."""
    training = setup.cfg.training
    extra = {"config": setup.settings, "generator": describe(state.generator)}
    if setup.ranks.first:  # which alone saves anything
        extra["provenance"] = origin(setup, pictures)
    return Loop(
        state=state,
        objective=objective,
        precision=Precision(setup.device, setup.precision),
        every=Every(
            log=training.log_every,
            sample=training.sample_every,
            metrics=setup.cfg.metrics.every,
            checkpoint=training.checkpoint_every,
            audit=training.audit_every,
            last=training.steps,
        ),
        folder=setup.folder,
        checkpoints=setup.checkpoints,
        sampler=sampler,
        tracker=tracker,
        progress=Progress(first_step=state.step, steps=training.steps, batch=training.batch),
        watches=pictures.watches,
        extra=extra,
        composite=composite,
        ranks=setup.ranks,
        stop=stop,
        health=Health(training.skip_patience, training.rollbacks),
        deadline=setup.started + (training.max_time or math.inf),
    )
