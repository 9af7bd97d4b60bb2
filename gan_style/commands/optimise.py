"""``gan-style optimise``: give one picture the style of others by optimising its pixels (Gatys et al. 2016)."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.optim import Optimizer

from gan_style.cli import command
from gan_style.config import build, flat, plain, to_yaml
from gan_style.demo import PREFIX, demo_pictures
from gan_style.images.decode import decode, to_float
from gan_style.images.formats import FORMAT_OF_SUFFIX, UnreadablePictureError, known_suffixes
from gan_style.images.lossless import Original, lost_in, on_white, read_original
from gan_style.losses.adversarial import Adversarial
from gan_style.losses.objective import Objective, check_mean_weights, check_terms, content_layers, style_layers
from gan_style.losses.style import MEAN, GatysStyle, GramStyle, Style
from gan_style.optimise.optimise import (
    COLOURS,
    MIN_SHORT_SIDE,
    Level,
    Optimisation,
    Problem,
    assemble_result,
    canvas_channels,
    cover,
    draw_view,
    plan_levels,
    resize,
    transfer_inputs,
)
from gan_style.optimise.regions import GuidedRegions, clustered_regions, read_regions
from gan_style.optimise.run import Record, run_to_end
from gan_style.options import SEEDS, Runtime, as_typed, listed, may_change, option
from gan_style.runtime.device import choose_device, in_full_float32, move_to
from gan_style.runtime.files import check_place, ensure_writable, file_hash
from gan_style.runtime.progress import Progress, duration, warn
from gan_style.stylize.model import find_generator, load_painter, of_style

AUTO = "auto"
_STARTS = CONTENT, NOISE, STYLE = ("content", "noise", "style")
_LEVELS, _STEPS, _STYLE_SCALE = (3, 1), (300, 20), (1.0, None)  # of null; then where a generator's result is improved
_GENERATORS_STYLE_SIDE = 288  # pixels, of the short side of the pictures that the generators that ship learned from
_MOST_MEGAPIXELS = 200.0  # of the content's file, before it is scaled
_NOISE_DEVIATION = 0.3  # standard deviation of the noise to start from, for values in [-1, 1]: about a photo's


# The pictures may change their names: they are compared by their files' contents.
@dataclass(kw_only=True)
class OptimiseOptions:
    content: Any = option(path=True, required=True, may_change=True)
    style: Any = option(path=True, many=True, required=True, may_change=True)
    style_weights: Any
    regions: Any
    masks: Any = option(path=True, many=True, may_change=True)
    output: str = option(path=True, may_change=True)
    size: int | None = option(16)
    max_megapixels: float = option(above=0, below=inf, may_change=True)
    style_scale: float | None = option(above=0, below=inf)
    levels: int | None = option(1)
    shares: Any
    steps: int | None = option(1)
    init: str = option(path=True)
    seed: int = option(*SEEDS)
    views: int | None = option(0)
    colours: str = option(choices=COLOURS)
    calibrate: bool
    perceptual: Any
    loss: dict[str, Any]
    method: Any
    save_every: int = option(0, may_change=True)
    gif: Any = option(path=True, may_change=True)
    log_every: int = option(1, may_change=True)
    checkpoint_every: int = option(1, may_change=True)
    overwrite: bool = option(may_change=True)
    runtime: Runtime = option(may_change=True)
    dry_run: bool = option(may_change=True)


@command("optimise", OptimiseOptions)
def main(cfg: DictConfig) -> int:
    """Give one picture the style of others; the same command again goes on, and once finished does nothing."""
    device = choose_device(cfg.runtime.device, cfg.runtime.threads)
    in_full_float32()

    # What is read and written; an earlier command's state, if there is one.
    improves = _generator_file(cfg.init) is not None
    cfg.levels = _LEVELS[improves] if cfg.levels is None else cfg.levels
    cfg.steps = _STEPS[improves] if cfg.steps is None else cfg.steps
    cfg.style_scale = _STYLE_SCALE[improves] if cfg.style_scale is None else cfg.style_scale
    styles = listed(cfg.style)
    if cfg.style_weights is not None:
        check_mean_weights(plain(cfg.style_weights), len(styles), "style_weights", "style")
    inputs = [find_picture(cfg.content, "content"), *(find_picture(style, "style") for style in styles)]
    masks = _masks(cfg, len(inputs))
    record = _record(cfg, inputs, masks)
    saved = None if cfg.overwrite else record.load()
    if saved is not None and saved["finished"] and record.output.exists():
        print(f"{record.output} is finished; overwrite=true makes it anew")
        return 0
    frames = list(saved["frames"]) if saved is not None else []
    record.check_replaceable(frames, overwrite=cfg.overwrite)
    for message in lost_in(record.content, record.output.suffix):
        warn(f"{record.output} is without {message}")

    # The optimisation, from its parts, where it begins or goes on.
    objective = make_objective(cfg, device)
    content = load_picture(cfg, inputs[0], cfg.size, device, record.content)
    shares = plain(cfg.shares)
    if shares is not None:
        check_mean_weights(shares, cfg.levels, "shares", "level")
    levels = plan_levels(*content.shape[-2:], levels=cfg.levels, steps=cfg.steps, shares=shares)
    pictures = load_styles(cfg, content, inputs[1:])
    regions = None
    if masks:
        regions = read_regions(content, pictures, masks)
    elif cfg.regions is not None:
        regions = clustered_regions(content, pictures, 3 if cfg.regions == AUTO else cfg.regions)
    optimisation = make_optimisation(cfg, objective, content, pictures, levels, regions)
    if saved is not None:
        optimisation.load_state_dict(saved["optimisation"])
        print(f"going on after evaluation {optimisation.evaluation}, from {record.state_path}")

    # Show the settings and what follows from them.
    print(to_yaml(plain(cfg)))
    sizes = {
        "device": f"{device}, {torch.get_num_threads()} CPU threads",
        "sizes (evaluations)": ", ".join(f"{x.width} x {x.height} ({x.evaluations})" for x in levels),
        "styles": ", ".join(f"{style.shape[-1]} x {style.shape[-2]}" for style in pictures),
        "perceptual network": objective.perceptual.summary(),
    }
    for name, value in sizes.items():
        print(f"{name + ':':<22}{value}", flush=True)
    if cfg.dry_run:
        print("dry_run=true: stopping before the first evaluation; nothing was written")
        return 0

    # Optimise.
    for name, path in (("output", record.output), ("gif", record.animation or record.output)):
        ensure_writable(path.parent, name)
    terms = {name: name for name in ("total", *objective.terms)}
    first, begin = optimisation.evaluation, time.monotonic()
    progress = Progress(first_step=first, steps=optimisation.steps, batch=1, terms=terms, unit="evaluations")
    try:
        run_to_end(
            optimisation,
            record,
            to_picture=partial(assemble_result, cfg.colours, content=content),
            tell=progress.update,
            frames=frames,
            tell_every=cfg.log_every,
            picture_every=cfg.save_every,
            state_every=cfg.checkpoint_every,
        )
    finally:
        progress.close()
    count = optimisation.evaluation - first
    print(f"{record.output}: {count} evaluations in {duration(time.monotonic() - begin)}")
    if record.animation is not None:
        print(f"animation: {record.animation}")
    return 0


def _masks(cfg: DictConfig, pictures: int) -> list[Path]:
    """Return the class-index masks of the content and of each style, if any. ValueError for regions that cannot be."""
    regions = cfg.regions
    if regions not in (None, AUTO) and not (type(regions) is int and 2 <= regions <= 12):
        raise ValueError(f"regions={as_typed(regions)}; allowed are null, auto (3), or how many, from 2 to 12")
    masks = listed(cfg.masks)
    if not masks:
        return []
    if regions is not None:
        raise ValueError(f"regions={as_typed(regions)} and masks={as_typed(masks)}: give one of them")
    if len(masks) != pictures:
        raise ValueError(f"masks={as_typed(plain(cfg.masks))}: {pictures} expected, of the content and of each style")
    return [find_picture(mask, "masks") for mask in masks]


def _record(cfg: DictConfig, inputs: list[Path], masks: list[Path]) -> Record:
    """Plan what is written and where, once it is clear that it can be and destroys no input."""
    output = Path(cfg.output).expanduser()
    if output.is_dir() or output.suffix.lower() not in FORMAT_OF_SUFFIX:
        raise ValueError(f"output={cfg.output}: give a picture's name; known are {known_suffixes()}")
    try:
        content = read_original(inputs[0], max_megapixels=_MOST_MEGAPIXELS)
    except UnreadablePictureError as error:
        raise ValueError(f"content: {error}") from error
    record = Record(output, _fingerprint(plain(cfg), inputs, masks), content, _animation(cfg, output))
    record.check_apart([*inputs, *masks])
    for name, path in (("output", output), ("gif", record.animation or output)):
        check_place(path.parent, name)
    return record


def _animation(cfg: DictConfig, output: Path) -> Path | None:
    if cfg.gif is None or cfg.gif is False:
        return None
    if cfg.gif is not True and not str(cfg.gif).lower().endswith(".gif"):
        raise ValueError(f"gif={as_typed(cfg.gif)}; allowed are true, null, or a name that ends in .gif")
    if not cfg.save_every:
        raise ValueError(f"gif={as_typed(cfg.gif)} shows pictures on the way, and save_every=0 keeps none")
    return output.with_suffix(".gif") if cfg.gif is True else Path(cfg.gif).expanduser()


def _fingerprint(settings: dict[str, Any], inputs: list[Path], masks: list[Path]) -> dict[str, Any]:
    """Return all that the result depends on, by dotted name."""
    if settings["regions"] is None:
        settings = {name: value for name, value in settings.items() if name != "regions"}  # as states of before
    lasting = {key: value for key, value in flat(settings).items() if not may_change(OptimiseOptions, key)}
    generator = _generator_file(settings["init"])
    if generator is not None:
        lasting["init (sha256 of the generator)"] = file_hash(generator)[:16]
    digests = [file_hash(path)[:16] for path in inputs]
    if masks:
        lasting["masks (sha256 of the files)"] = [file_hash(path)[:16] for path in masks]
    return lasting | {"content (sha256 of the file)": digests[0], "style (sha256 of the files)": digests[1:]}


def find_picture(name: Any, option: str) -> Path:
    """Return the one file that a path or a demo name stands for."""
    if not isinstance(name, str):
        raise ValueError(f"{option}={as_typed(name)}: a picture's path expected")
    if name.startswith(PREFIX):
        pictures = demo_pictures(name.removeprefix(PREFIX))
        if len(pictures) > 1:
            hint = f"name one, such as {name}/{pictures[0].stem}"
            raise ValueError(f"{option}={name} are {len(pictures)} pictures; {hint}")
        return pictures[0]
    path = Path(name).expanduser()
    if path.is_dir():
        raise ValueError(f"{option}={name} is a folder; give a picture")
    if not path.is_file():
        raise ValueError(f"{option}={name}: there is no such file")
    return path


def make_objective(cfg: DictConfig, device: torch.device) -> Objective:
    """Return the named terms, and the perceptual network cut off after the deepest layer that they ask for."""
    nodes = {str(name): node for name, node in cfg.loss.items()}
    if nodes.pop("balance", None) is not None:
        raise ValueError("loss.balance finds weights while a generator is trained; here it has to be null")
    terms = {name: build(node, f"loss.{name}") for name, node in nodes.items()}
    check_terms(terms)
    for name, term in terms.items():
        if isinstance(term, Adversarial) or term.auxiliary is not None:
            raise ValueError(f"loss.{name} needs networks that are trained; leave it out with ~loss.{name}")
        if isinstance(term, Style) and term.target != MEAN:
            raise ValueError(f"loss.{name}.target={as_typed(term.target)}; here the only one is {MEAN}, of style=...")
    if not any(term.weight for term in terms.values()):
        raise ValueError("all loss weights are 0: there is nothing to optimise")
    if cfg.method.get("lr") == 0:
        raise ValueError("method.lr=0 changes nothing; allowed are numbers above 0")
    torch.manual_seed(cfg.seed)  # of perceptual.weights=random
    layers = [*content_layers(terms.values()), *style_layers(terms.values())]
    return Objective(terms, move_to(build(cfg.perceptual, "perceptual", layers=layers), device))


def load_styles(cfg: DictConfig, content: Tensor, paths: list[Path]) -> list[Tensor]:
    """Load each style, (1, 3, H, W) in [-1, 1], on the content's device, as large as style_scale asks."""
    side = min(content.shape[-2:])
    short_side = _GENERATORS_STYLE_SIDE if cfg.style_scale is None else round(cfg.style_scale * side)
    if (coarsest := short_side * 0.5 ** (cfg.levels - 1)) < MIN_SHORT_SIDE:
        settings = f"style_scale={as_typed(cfg.style_scale)} and levels={cfg.levels}"
        raise ValueError(
            f"{settings}: styles have {coarsest:g} pixels at the coarsest; allowed are {MIN_SHORT_SIDE} on"
        )
    return [load_picture(cfg, path, short_side, content.device) for path in paths]


def load_picture(
    cfg: DictConfig, path: Path, short_side: int | None, device: torch.device, original: Original | None = None
) -> Tensor:
    """Load a picture, (1, 3, H, W) in [-1, 1] on the device; of an original of 16 bits with all of them."""
    deep = original if original is not None and original.pixels.dtype != torch.uint8 else None
    pixels = decode(path, short_side=short_side) if deep is None else on_white(deep).pixels
    height, width = pixels.shape[-2:]
    if deep is not None and short_side is not None:
        factor = short_side / min(height, width)
        height, width = (max(1, round(length * factor)) for length in (height, width))
    if height * width > cfg.max_megapixels * 1e6:
        megapixels = f"{width} x {height} = {height * width / 1e6:.1f} megapixels"
        raise ValueError(f"{path}: {megapixels}, more than max_megapixels={cfg.max_megapixels:g}; give a smaller size")
    if deep is None:
        return to_float(pixels[None].to(device))
    return resize(pixels.float()[None] / 32767.5 - 1.0, height, width).clamp(-1.0, 1.0).to(device)


def make_optimisation(
    cfg: DictConfig,
    objective: Objective,
    content: Tensor,
    styles: list[Tensor],
    levels: list[Level],
    regions: GuidedRegions | None = None,
) -> Optimisation:
    for name, term in objective.terms.items() if regions is not None else ():
        if isinstance(term, GramStyle | GatysStyle):
            term.guided = True
        elif isinstance(term, Style):
            raise ValueError(f"loss.{name}: regions and masks are for Gram matrices (GramStyle, GatysStyle) alone")
    # A generator's result takes on the colours that are asked for as a style does.
    painted = [] if cfg.init in _STARTS else [_painted(cfg.init, content)]
    content, pictures = transfer_inputs(cfg.colours, content, [*styles, *painted])
    styles = pictures[: len(styles)]
    if cfg.calibrate and not objective.perceptual.scales_given:
        objective.perceptual.calibrate([content, *styles])
    problem = Problem(
        objective=objective,
        content=content,
        styles=styles,
        style_weights=plain(cfg.style_weights),
        levels=levels,
        make_optimiser=_optimiser_maker(cfg.method, cfg.views),
        view=None if cfg.views is None else partial(draw_view, cfg.seed, reach=cfg.views),
        regions=regions,
    )
    start = _start(cfg, {CONTENT: content, STYLE: styles[0]}.get(cfg.init, pictures[-1]), levels[0])
    return Optimisation(problem, start[:, : canvas_channels(cfg.colours)])


def _generator_file(init: str) -> Path | None:
    """Return the file of the generator whose result is to be improved; None where there is none."""
    if init in _STARTS:
        return None
    try:
        return find_generator(of_style(init)[0])
    except ValueError as error:
        raise _init_error(init, error) from error


def _init_error(init: str, error: ValueError) -> ValueError:
    """Make an error of a generator one of ``init``, which says what else there is."""
    reason = str(error).removeprefix("checkpoint=").removeprefix(f"{init}: ")
    return ValueError(f"init={init}: {reason}; allowed are {', '.join(_STARTS)}, or a generator")


@torch.no_grad()
def _painted(init: str, content: Tensor) -> Tensor:
    """Return what the generator that ``init`` names makes of the content, (1, 3, H, W) in [-1, 1]."""
    try:
        painter = load_painter(init, content.device)
    except ValueError as error:
        raise _init_error(init, error) from error
    painted: Tensor = painter(content.contiguous(memory_format=torch.channels_last))
    return painted.clamp(-1.0, 1.0)


def _start(cfg: DictConfig, picture: Tensor, level: Level) -> Tensor:
    """Return the picture to start from, or noise, (1, 3, h, w) at the coarsest level's size."""
    if cfg.init == NOISE:
        random = torch.Generator().manual_seed(cfg.seed)  # on the CPU: the same on every device
        return torch.randn(1, 3, level.height, level.width, generator=random).to(picture.device) * _NOISE_DEVIATION
    return (cover if cfg.init == STYLE else resize)(picture, level.height, level.width)


def _optimiser_maker(node: DictConfig, views: int | None) -> Callable[[list[Tensor]], Optimizer]:
    make = build(node, "method")

    def make_checked(parameters: list[Tensor]) -> Optimizer:
        try:
            optimiser: Optimizer = make(parameters)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"method: {error}") from error
        if views is not None and "max_eval" in optimiser.param_groups[0]:
            raise ValueError(f"views={views} is for method=adam: L-BFGS compares evaluations of one view")
        for name in ("history_size", "max_iter"):  # which L-BFGS does not check
            if optimiser.param_groups[0].get(name, 1) < 1:
                raise ValueError(f"method.{name}={optimiser.param_groups[0][name]}; allowed are numbers from 1")
        if (search := optimiser.param_groups[0].get("line_search_fn")) not in (None, "strong_wolfe"):
            raise ValueError(f"method.line_search_fn={as_typed(search)}; allowed are strong_wolfe, or null for none")
        return optimiser

    return make_checked


if __name__ == "__main__":
    main()
