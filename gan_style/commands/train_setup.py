"""Build the parts of a training run from its options; ``train.py`` says in which order."""

import math
import multiprocessing
import os
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_style.config import build, plain
from gan_style.data.pictures import MaskedPictures, PairedPictures, PictureSet, UnreadablePictures, find_pictures
from gan_style.data.sets import Pictures, load, open_pictures
from gan_style.data.stream import Batch, Crop, PairStream, Positions, batches, interruptible
from gan_style.evaluation.suite import MetricSuite
from gan_style.images.decode import to_uint8
from gan_style.losses.objective import Objective, check_terms, content_layers, mean_gram, style_layers
from gan_style.losses.style import CROP, EACH, MEAN, StyleTerm
from gan_style.losses.term import Features
from gan_style.models.library import LibraryGenerator
from gan_style.models.reference import ReferenceGenerator, StatisticsEncoder
from gan_style.models.registry import describe
from gan_style.models.tone import tone_curve
from gan_style.options import as_typed
from gan_style.regions.names import REST, numbers_of
from gan_style.regions.segment import MaskRegions, PictureRegions, Segmenter, refine
from gan_style.runtime.checkpoint import BEST_FILE, GENERATOR_FILE, CheckpointFolder, read_checkpoint
from gan_style.runtime.device import compile_network, fastest_precision, move_to
from gan_style.runtime.distributed import Ranks
from gan_style.runtime.machine import cores
from gan_style.runtime.progress import Progress
from gan_style.runtime.provenance import fingerprint, provenance, style_name
from gan_style.runtime.signals import Stop, die_with
from gan_style.runtime.tracking import METRICS_FILE, FinalResult, JsonlTracker, MultiTracker, Tracker
from gan_style.runtime.wandb import WandbTracker, resolve_mode
from gan_style.stylize.controls import AUTO, MaskFinder
from gan_style.stylize.model import load_generator
from gan_style.training.health import Health
from gan_style.training.sampling import (
    PREFIX,
    Composite,
    LibrarySampler,
    ReferenceSampler,
    Sampler,
    composite_weights,
    measurable,
)
from gan_style.training.schedule import Schedule
from gan_style.training.state import Ema, TrainState
from gan_style.training.supervisor import Intervals, Supervisor


@dataclass(frozen=True)
class RegionMasks:
    """Finds a picture's regions, uint8 (R, H, W), nowhere more than 255 in all.

    groups: the numbers of each region's classes, None for what the others leave; find: gives the class-index mask of a
    picture, where the segmenter reads one; ``seen``: the numbers of the regions that some picture had so far.
    """

    segmenter: Segmenter
    groups: Sequence[Sequence[int] | None]
    find: MaskFinder | None = None
    seen: set[int] = field(default_factory=set)

    def __call__(self, path: Path, pixels: Tensor) -> Tensor:
        """Find the regions of uint8 (3, H, W). ValueError without a mask, and for one that cannot be the picture's."""
        shares = self.segmenter(pixels, [group or [] for group in self.groups], self.classes(path)).cpu()
        if None in self.groups:
            shares[:, self.groups.index(None)] = 1.0 - shares.sum(dim=1)
        masks = refine(pixels, shares)
        self.seen.update(masks.flatten(1).any(dim=1).nonzero().flatten().tolist())
        return masks

    def classes(self, path: Path) -> Path | None:
        """Return a picture's class-index mask, where the segmenter reads one; ValueError where there is none."""
        return None if self.find is None else self.find(path.relative_to(path.anchor))

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return the names of the regions that no picture had so far."""
        return [name for number, name in enumerate(names) if number not in self.seen]


def make_region_masks(regions: Any, role: str) -> RegionMasks:
    """Build it from data.regions; role: content or style. ValueError for unknown names and for what is not there."""
    names, place = list(map(str, regions.names)), str(regions[role])
    if place == AUTO:
        groups: list[list[int] | None] = [[number] for number in range(1, len(names) + 1)]
        return RegionMasks(PictureRegions(len(names)), groups)
    option = f"data.regions.{role}"
    segmenter = MaskRegions(regions.classes, option, "data.regions.classes")
    class_names = segmenter.names
    groups = [None if name.lower() == REST else numbers_of(name, class_names, "data.regions.names") for name in names]
    numbers = [number for group in groups for number in group or ()]
    if twice := [number for number in numbers if numbers.count(number) > 1]:
        raise ValueError(f"data.regions.names={names}: {class_names[twice[0]]} is in two of them")
    return RegionMasks(segmenter, groups, MaskFinder(Path(place).expanduser(), option))


def check_train_regions(regions: Any, guided: Sequence[str], *, one_style: bool) -> None:
    """Raise ValueError where data.regions and the loss terms do not fit together. guided: names of the guided terms."""
    names = regions.names
    if names is None:
        if guided:
            raise ValueError(f"loss.{guided[0]} is guided by regions: give data.regions.names, such as [sky,rest]")
        if options := [name for name in ("content", "style", "classes") if regions[name] is not None]:
            raise ValueError(f"data.regions.{options[0]}={regions[options[0]]}: data.regions.names is missing")
        return
    if not guided:
        raise ValueError(f"data.regions.names={list(names)}: no loss term is guided by regions; see loss=guided")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"data.regions.names={list(names)}: give at least one name, each once")
    if missing := [name for name in ("content", "style", "classes") if regions[name] is None]:
        raise ValueError(f"data.regions.names={list(names)}: data.regions.{missing[0]} is missing")
    if regions.content == AUTO:
        raise ValueError(f"data.regions.content={AUTO}: photos need class-index masks; {AUTO} is for style pictures")
    if not one_style:
        raise ValueError("data.regions is for one style, generator=resnet or slim, and unpaired pictures")


_ENCODER_PICTURES = 2000  # at most, that the encoder's statistics are standardised by
_TONE_PICTURES = 100  # of a style, at most, that its tone curve is measured on
_PATIENCE, _PATIENCE_OF_RANKS = 3.0, 20.0  # seconds to wait for a batch when somebody asks to stop
_STYLES_HELD_OUT = 4  # by default, for a generator that is shown references
_WITHOUT_EFFECT = ("run", "tracking", "runtime", "dry_run")  # groups that do not change a result


@dataclass(frozen=True)
class TrainSetup:
    """Hold what every part is built from; ``settings`` is the config as plain containers."""

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
    def samples(self) -> Path:
        return self.folder / "samples"

    @property
    def styles(self) -> list[str]:
        """Return the names of several styles; [] for one style alone."""
        style = self.settings["data"]["style"]
        return [str(name) for name in style] if isinstance(style, dict) else []

    @property
    def precision(self) -> torch.dtype:
        name = self.cfg.training.precision
        dtype: torch.dtype = fastest_precision(self.device) if name == "auto" else getattr(torch, name)
        return dtype


def by_reference(cfg: Any) -> bool:
    """Return whether the generator is shown a picture whose style is to be taken."""
    return str(cfg.generator.get("_target_", "")).endswith(".ReferenceGenerator")


# Pictures


def open_sets(setup: TrainSetup) -> Pictures:
    """Find, split and (where they fit the cache) decode the pictures."""
    data = plain(setup.cfg.data)
    data["style_resize"] = data["style_resize"] or data["resize"]
    names = ("content", "style", "holdout", "holdout_count", "resize", "style_resize", "cache_mb", "max_unreadable")
    count = data["style_holdout_count"]
    held_out = (_STYLES_HELD_OUT if count is None else count) if by_reference(setup.cfg) else None
    return open_pictures(**{name: data[name] for name in names}, style_holdout_count=held_out)


def picture_files(pictures: Pictures) -> dict[str, list[Path]]:
    """Return the files of each set by its name, readable or not."""
    style = [path for style in pictures.styles.values() for path in style.all_paths]
    return {"content": pictures.content.all_paths, "style": style, "holdout": pictures.held_out}


def worker_count(setup: TrainSetup, pictures: Pictures) -> int:
    if setup.cfg.data.workers is not None:
        return int(setup.cfg.data.workers)
    ranks_on_this_node = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return 0 if pictures.in_memory else max(1, min(8, cores() // ranks_on_this_node))


def make_batches(setup: TrainSetup, pictures: Pictures, first_step: int, stop: Stop | None = None) -> Iterable[Batch]:
    """Yield the batches from ``first_step`` to the last; fewer where one does not come and somebody asks to stop."""
    data, training = setup.cfg.data, setup.cfg.training
    styles = list(pictures.styles.values())
    content: PictureSet | PairedPictures | MaskedPictures = pictures.content
    if data.paired:
        content = PairedPictures(pictures.content, styles[0])
    elif data.regions.names:
        region_masks = make_region_masks(data.regions, "content")
        for path in pictures.content.paths:
            region_masks.classes(path)
        content = MaskedPictures(pictures.content, region_masks)
        if pictures.content.cached and (missing := region_masks.missing(data.regions.names)):
            warnings.warn(f"data.regions.content={data.regions.content}: no photo has {missing[0]}", stacklevel=2)
    stream = PairStream(
        content,
        styles,
        content_crop=Crop(data.size, tuple(data.resize), data.flip),
        style_crop=Crop(data.size, tuple(data.style_resize or data.resize), data.flip, data.recolour),
        seed=training.seed,
        full_strength=data.full_strength if setup.styles or by_reference(setup.cfg) else None,
    )
    positions = Positions(
        first_step=first_step,
        last_step=training.steps,
        batch=training.batch,
        rank=setup.ranks.rank,
        ranks=setup.ranks.count,
    )
    pinned = setup.device.type == "cuda"
    # Where a server starts the workers it is their parent, and torch watches alone.
    begin = partial(die_with, os.getpid()) if multiprocessing.get_start_method() == "fork" else None
    count = worker_count(setup, pictures)
    loader = batches(stream, positions, workers=count, pin_memory=pinned, begin=begin)
    # A rank that leaves by itself costs all the steps since the last checkpoint, so it waits for longer.
    patience = _PATIENCE if setup.ranks.count == 1 else _PATIENCE_OF_RANKS
    return interruptible(loader, lambda: stop is not None and stop.reason is not None, patience)


# The objective


def make_objective(setup: TrainSetup) -> Objective:
    """Build the named terms, and the perceptual network up to the deepest layer that they ask for."""
    torch.manual_seed(setup.cfg.training.seed)
    nodes = {str(name): node for name, node in setup.cfg.loss.items()}
    balance = nodes.pop("balance", None)
    if balance is not None and not isinstance(balance, DictConfig):
        raise ValueError(f"loss.balance={as_typed(balance)}: shares, {{content: 1, style: 2}}, or null, expected")
    terms = {name: build(node, f"loss.{name}") for name, node in nodes.items()}
    check_terms(terms)
    for name, term in terms.items() if by_reference(setup.cfg) else ():
        if isinstance(term, StyleTerm) and term.target not in (CROP, EACH):
            raise ValueError(
                f"loss.{name}.target={term.target} is one style, whatever generator=reference is shown; allowed are "
                "crop (of what it is shown) and each (of the whole picture that this is cut from)"
            )
    layers = [*content_layers(terms.values()), *style_layers(terms.values())]
    perceptual = move_to(build(setup.cfg.perceptual, "perceptual", layers=layers), setup.device)
    return Objective(terms, perceptual, plain(balance))


def calibrate(setup: TrainSetup, objective: Objective, pictures: Pictures) -> None:
    """Scale the perceptual features on content pictures that are the same for all seeds, so that their runs compare."""
    training, data = setup.cfg.training, setup.cfg.data
    if training.calibration_pictures and not objective.perceptual.scales_given:
        crop = Crop(data.size, tuple(data.resize), flip=False)
        crops = pictures.content_crops(training.calibration_pictures, crop, seed=0, device=setup.device)
        objective.perceptual.calibrate(list(crops))


def set_targets(setup: TrainSetup, objective: Objective, pictures: Pictures, targets: Iterable[str]) -> None:
    needed = objective.bytes_of_each() * len(pictures.style_paths) / 1e6 if EACH in targets else 0
    if needed > (limit := setup.cfg.data.cache_mb):
        raise ValueError(
            f"the style target {EACH} would keep {needed:.3g} MB, more than data.cache_mb={limit:g}: use the target "
            f"{MEAN}, shallower or fewer layers, MomentStyle (which is small), or a larger data.cache_mb"
        )
    for target in targets:
        setup.ranks.say(f"computing the style's statistics ({target}) ...")
        if setup.styles and target == MEAN:
            objective.set_library(target, {n: pictures.style_pictures(setup.device, name=n) for n in setup.styles})
        elif target == MEAN and setup.cfg.data.regions.names:
            _set_guided_style(setup, objective, pictures)
        else:
            objective.set_style(target, _target_pictures(setup, target, pictures))


def _set_guided_style(setup: TrainSetup, objective: Objective, pictures: Pictures) -> None:
    """Compute the statistics of the style pictures' regions; ValueError for a region that none of them has."""
    regions, paths = setup.cfg.data.regions, pictures.style_paths
    region_masks = make_region_masks(regions, "style")

    def masks(number: int, picture: torch.Tensor) -> torch.Tensor:
        return region_masks(paths[number], to_uint8(picture.cpu())[0])[None].to(setup.device) / 255.0

    objective.set_style(MEAN, pictures.style_pictures(setup.device), masks=masks)
    if missing := region_masks.missing(regions.names):
        raise ValueError(f"data.regions.style={regions.style}: no style picture has the region {missing[0]}")


def measure_styles(setup: TrainSetup, state: TrainState, pictures: Pictures) -> None:
    """Measure what the generator itself has to know of the styles: their tone curves, or its encoder's statistics."""
    networks = (state.generator, state.ema.network)
    encoder = getattr(state.generator, "style_encoder", None)
    if isinstance(encoder, StatisticsEncoder):
        encoder.calibrate(picture for _, picture in islice(pictures.style_pictures(setup.device), _ENCODER_PICTURES))
        state.ema.network.get_submodule("style_encoder").load_state_dict(encoder.state_dict())
    if getattr(state.generator, "tones", None) is None:
        return
    names: list[str | None] = [*setup.styles] or [None]
    styles = [pictures.style_pictures(setup.device, name=name) for name in names]
    curves = [tone_curve(picture for _, picture in islice(style, _TONE_PICTURES)) for style in styles]
    for network in networks:
        network.get_buffer("tones").copy_(torch.stack(curves))


def _target_pictures(
    setup: TrainSetup, target: str, pictures: Pictures, name: str | None = None
) -> Iterable[tuple[int, torch.Tensor]]:
    """Yield the pictures whose statistics a target is: those of the style set, or one picture by its path."""
    if target in (MEAN, EACH):
        return pictures.style_pictures(setup.device, name=name)
    option = f"style target ({MEAN}, {EACH}, or a picture)"
    paths = find_pictures(target, option)
    watch = UnreadablePictures(option, len(paths), limit=setup.cfg.data.max_unreadable)
    return load(paths, pictures.style_short_side, setup.device, watch)


# Networks and optimisers


def make_state(setup: TrainSetup, objective: Objective, *, fresh: bool) -> TrainState:
    """Build all that training changes, at step 0. fresh: no checkpoint will be loaded into it."""
    cfg, training = setup.cfg, setup.cfg.training
    torch.manual_seed(training.seed)
    of_style: dict[str, Any] = {"styles": setup.styles} if setup.styles else {}
    if by_reference(setup.cfg):
        # About the short side that style crops are cut from.
        of_style = {"side": round(sum(cfg.data.style_resize or cfg.data.resize) / 2)}
    generator = move_to(build(cfg.generator, "generator", **of_style), setup.device)
    if training.start is not None and fresh:
        _load_start(Path(training.start).expanduser(), generator)
    discriminator = None
    if objective.adversarial is not None:
        of_styles = {"styles": len(setup.styles)} if setup.styles else {}
        discriminator = move_to(build(cfg.discriminator, "discriminator", **of_styles), setup.device)
        if cfg.data.size < discriminator.smallest:
            raise ValueError(
                f"data.size={cfg.data.size} is smaller than what the discriminator looks at, {discriminator.smallest} "
                "pixels; use discriminator=patch34, fewer discriminator.scales, or a larger data.size"
            )
    projection = objective.make_projection(generator)
    # float16 alone needs its gradients scaled, each optimiser's by a scaler of its own.
    networks = {"generator": generator, "discriminator": discriminator}
    scaled = [name for name, network in networks.items() if network is not None and training.precision == "float16"]
    return TrainState(
        generator=generator,
        discriminator=discriminator,
        ema=Ema(generator, training.ema_decay),
        generator_optimiser=_make_optimiser(cfg, "generator", generator, projection),
        discriminator_optimiser=_make_optimiser(cfg, "discriminator", discriminator) if discriminator else None,
        schedule=Schedule(training.decay, training.steps, training.hold),
        seed=training.seed,
        accumulate=training.accumulate,
        scalers={name: torch.amp.GradScaler(setup.device.type, init_scale=2.0**12) for name in scaled},
        warmup_steps=training.warmup_steps,
        clip=training.clip,
        projection=projection,
    )


def _load_start(path: Path, generator: nn.Module) -> None:
    try:
        source = load_generator(path, torch.device("cpu"))
    except ValueError as error:
        raise ValueError(f"training.start: {error}") from error
    saved, built = describe(source), describe(generator)
    of_one_shape = all(saved["arguments"].get(n) == built["arguments"][n] for n in ("width", "blocks", "output"))
    if isinstance(source, LibraryGenerator) and isinstance(generator, ReferenceGenerator) and of_one_shape:
        return generator.start_from(source)
    if saved | {"arguments": saved["arguments"] | {"tone": built["arguments"]["tone"]}} != built:
        start, new = (
            f"{x['class']} with {', '.join(f'{k}={v}' for k, v in x['arguments'].items())}" for x in (saved, built)
        )
        raise ValueError(f"training.start={path}: its generator is {start}, this run's is {new}")
    tones = {name: tensor for name, tensor in generator.state_dict().items() if name == "tones"}  # of this run's styles
    generator.load_state_dict(source.state_dict() | tones)


def _make_optimiser(cfg: DictConfig, name: str, network: nn.Module, projection: nn.Module | None = None) -> Optimizer:
    make = build(cfg.optimiser[name], f"optimiser.{name}")
    # Of a library's styles each sees but a share of the samples: its rows of scales and shifts learn faster.
    norms = network.conditional_norms().values() if isinstance(network, LibraryGenerator) else ()
    rows = [row for norm in norms for row in norm.parameters()]
    trained = (parameter for parameter in network.parameters() if parameter.requires_grad)
    parameters = [parameter for parameter in trained if not any(parameter is row for row in rows)]
    parameters += projection.parameters() if projection is not None else []
    try:
        optimiser: Optimizer = make([{"params": parameters}, {"params": rows}] if rows else parameters)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"optimiser.{name}: {error}") from error
    for group in optimiser.param_groups[1:]:
        group["lr"] *= cfg.optimiser.style_rows
    return optimiser


def distribute(setup: TrainSetup, state: TrainState) -> None:
    """Let ranks train the networks together; after a checkpoint has been loaded into them.

    The generator that is trained is compiled, or saves memory, where that is asked for; its average never is.
    """
    state.generator.recompute = setup.cfg.training.recompute
    if setup.cfg.runtime.compile:
        compile_network(state.generator, option="runtime.compile=true")
    if setup.ranks.count > 1:
        networks = {"generator": state.generator, "discriminator": state.discriminator, "projection": state.projection}
        state.parallel = {
            name: setup.ranks.shared(network) for name, network in networks.items() if network is not None
        }


# Samples and metrics of held-out pictures


def make_sampler(setup: TrainSetup, objective: Objective, pictures: Pictures) -> Sampler | LibrarySampler:
    """Build what shows and measures the results of the held-out pictures, of several styles in each of them."""
    contents = pictures.held_out_pictures(setup.device, setup.cfg.data.sample_size)
    if by_reference(setup.cfg):
        # Build samplers in the styles of held-out paintings, each measured by its own Gram matrices.
        paths, layers = pictures.held_out_styles, style_layers(objective.terms.values())
        watch = UnreadablePictures("data.style", len(paths), limit=1.0)
        samplers = {}
        for number, reference in load(paths, pictures.style_short_side, setup.device, watch):
            grams = mean_gram(objective.perceptual, [reference], layers) if layers else {}
            samplers[f"reference_{number + 1}"] = Sampler(contents, [reference], _metrics(setup, objective, grams))
        return ReferenceSampler(samplers)
    if not setup.styles:
        return _sampler(setup, objective, pictures, contents, None)
    numbers = range(len(setup.styles))
    return LibrarySampler({setup.styles[n]: _sampler(setup, objective, pictures, contents, n) for n in numbers})


def _sampler(
    setup: TrainSetup,
    objective: Objective,
    pictures: Pictures,
    contents: list[torch.Tensor],
    style: int | None,
) -> Sampler:
    """Build the sampler of one style; of which of several, ``style`` says."""
    terms = list(objective.terms.values())
    # Of the style targets that are trained on, measure by the whole set before a picture.
    style_terms = [term for term in terms if isinstance(term, StyleTerm) and term.target != CROP]
    targets = [term.target for term in style_terms if term.weight] or [term.target for term in style_terms]
    layers, target = style_layers(terms), next((x for x in (MEAN, EACH, *targets) if x in targets), MEAN)
    name = None if style is None else setup.styles[style]
    is_shared = name is None or target != EACH
    grams = objective.style_grams(target, style if target == MEAN else None) if is_shared else {}
    if layers and not grams:  # other statistics than colour Gram matrices, or from other layers
        whole = (picture for _, picture in _target_pictures(setup, target, pictures, name))
        grams = mean_gram(objective.perceptual, whole, layers)
    of_style = pictures.style_pictures(setup.device, setup.cfg.data.sample_size, name)
    styles = [picture for _, picture in islice(of_style, len(contents))]
    return Sampler(contents, styles, _metrics(setup, objective, grams))


def _metrics(setup: TrainSetup, objective: Objective, grams: Features) -> MetricSuite:
    """Build the suite of those of metrics.names that can be measured, by these Gram matrices."""
    of_content = content_layers(objective.terms.values())
    names = measurable(setup.cfg.metrics.names, of_content, grams)
    return MetricSuite(objective.perceptual, names, of_content, list(grams), [], grams)


def make_composite(setup: TrainSetup, sampler: Sampler | LibrarySampler, lowest: float | None) -> Composite | None:
    """Build what chooses the best checkpoint. lowest: of the run so far."""
    weights = composite_weights(setup.settings["metrics"]["best"], setup.settings["metrics"]["names"])
    if weights is None:
        return None
    if missing := [name for name in weights if name not in sampler.suite.names]:
        warnings.warn(f"metrics.best.{missing[0]}: there is no such loss term; it is not counted", stacklevel=2)
    measured = {name: weight for name, weight in weights.items() if name not in missing}
    return Composite(measured, lowest) if measured else None


# Tracking


def make_tracker(setup: TrainSetup, step: int) -> MultiTracker:
    """Build metrics.jsonl's tracker, and W&B's by its mode; only the first rank tracks."""
    if not setup.ranks.first:
        return MultiTracker()
    arguments = dict(setup.settings["tracking"])
    requested_mode = arguments.pop("wandb")
    mode, optional = resolve_mode(requested_mode), dict[str, Tracker]()
    make_wandb = partial(WandbTracker, **arguments, folder=setup.folder, config=setup.settings)
    try:
        optional = {} if mode == "disabled" else {"W&B": make_wandb(mode=mode)}
    except ImportError as error:
        if requested_mode != "auto":
            raise ValueError(f"{error}, or use tracking.wandb=disabled") from error
        warnings.warn(f"{error}; tracking with {METRICS_FILE} alone", stacklevel=2)
        mode = "disabled"
    except ConnectionError as error:
        if requested_mode != "auto":
            raise
        warnings.warn(f"{error}; tracking offline", stacklevel=2)  # a server out of reach is not worth a run
        mode, optional = "offline", {"W&B": make_wandb(mode="offline")}
    metrics = JsonlTracker(setup.folder / METRICS_FILE, last_step=step)
    print(f"{'tracking:':<22}{METRICS_FILE}, W&B {mode}", flush=True)
    return MultiTracker([metrics], optional, lambda message: warnings.warn(message, stacklevel=2))


def final_result(setup: TrainSetup, supervisor: Supervisor) -> FinalResult:
    """Return what a finished run tells its trackers; the first rank alone knows it."""
    sampler, best = supervisor.sampler, setup.checkpoints.folder / BEST_FILE
    best_step, lowest = None, None
    if supervisor.composite is not None:
        lowest = supervisor.composite.lowest
        try:
            best_step = int(read_checkpoint(best)["step"])
        except (ValueError, OSError, KeyError):
            best_step = None  # there is none that can be read
    return FinalResult(
        step=supervisor.state.step,
        generator=setup.folder / GENERATOR_FILE,
        best=best if best_step is not None else None,
        best_step=best_step,
        best_values={} if lowest is None else {f"{PREFIX}composite": lowest},
        columns=("content", "style", "result"),
        rows=lambda: [] if sampler is None else sampler.rows(sampler.results(supervisor.state.ema.network)),
    )


# The supervisor


def make_supervisor(
    setup: TrainSetup,
    state: TrainState,
    objective: Objective,
    pictures: Pictures,
    sampler: Sampler | LibrarySampler | None,
    stop: Stop,
    composite: Composite | None,
    tracker: Tracker,
) -> Supervisor:
    training = setup.cfg.training
    extra = {"config": setup.settings, "generator": describe(state.generator)}
    if setup.ranks.first:  # which alone saves anything
        extra["provenance"] = provenance(
            settings={name: value for name, value in setup.settings.items() if name not in _WITHOUT_EFFECT},
            seed=training.seed,
            style=style_name(setup.settings["data"]["style"]),
            data={name: fingerprint(paths) for name, paths in picture_files(pictures).items()},
        )
    return Supervisor(
        state=state,
        objective=objective,
        device=setup.device,
        intervals=Intervals(
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
