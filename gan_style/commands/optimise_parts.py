"""The parts of an optimisation, each built from its settings; ``optimise.py`` says in which order."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.optim import Optimizer

from gan_style.config import build, plain
from gan_style.demo import PREFIX, demo_pictures
from gan_style.images import decode, to_float
from gan_style.losses.adversarial import Adversarial
from gan_style.losses.objective import Objective, check_mean_weights, check_terms, content_layers, style_layers
from gan_style.losses.regular import Identity
from gan_style.losses.stable import Stability
from gan_style.losses.style import MEAN, Style
from gan_style.nst.colours import canvas_channels, seen_by_the_transfer
from gan_style.nst.optimise import Optimisation, Problem
from gan_style.nst.pyramid import SMALLEST, Level, covering, plan_levels, resized
from gan_style.nst.views import draw_view
from gan_style.runtime import placed

_NOISE = 0.3  # standard deviation of the noise to start from, for values in [-1, 1]: about a photo's


def find_picture(name: Any, option: str) -> Path:
    """The one file that a path or a demo name stands for."""
    if not isinstance(name, str):
        raise ValueError(f"{option}={name}: a picture's path expected; quote a number: {option}='\"{name}\"'")
    if name.startswith(PREFIX):
        found = demo_pictures(name.removeprefix(PREFIX))
        if len(found) > 1:
            raise ValueError(f"{option}={name} are {len(found)} pictures; name one, such as {name}/{found[0].stem}")
        return found[0]
    path = Path(name).expanduser()
    if path.is_dir():
        raise ValueError(f"{option}={name} is a folder; give a picture")
    if not path.is_file():
        raise ValueError(f"{option}={name}: there is no such file")
    return path


def make_objective(cfg: DictConfig, device: torch.device) -> Objective:
    """The named terms, and the perceptual network cut off after the deepest layer that they ask for."""
    nodes = {str(name): node for name, node in cfg.loss.items()}
    if nodes.pop("balance", None) is not None:
        raise ValueError("loss.balance finds weights while a generator is trained; here it has to be null")
    terms = {name: build(node, f"loss.{name}") for name, node in nodes.items()}
    check_terms(terms)
    for name, term in terms.items():
        if isinstance(term, Adversarial | Identity | Stability):
            raise ValueError(f"loss.{name} needs networks that are trained; leave it out with ~loss.{name}")
        if isinstance(term, Style) and term.target != MEAN:
            raise ValueError(f"loss.{name}.target={term.target}; here the only one is {MEAN}, of style=...")
    if not any(term.weight for term in terms.values()):
        raise ValueError("all loss weights are 0: there is nothing to optimise")
    torch.manual_seed(cfg.seed)  # of perceptual.weights=random
    layers = [*content_layers(terms.values()), *style_layers(terms.values())]
    return Objective(terms, placed(build(cfg.perceptual, "perceptual", layers=layers), device))


def make_levels(cfg: DictConfig, content: Tensor) -> list[Level]:
    shares = plain(cfg.shares)
    if shares is not None:
        check_mean_weights(shares, cfg.levels, "shares", "level")
    return plan_levels(*content.shape[-2:], levels=cfg.levels, steps=cfg.steps, shares=shares)


def load_styles(cfg: DictConfig, content: Tensor, paths: list[Path]) -> list[Tensor]:
    """Each (1, 3, H, W) in [-1, 1] on the content's device, as large as style_scale asks."""
    short_side = round(cfg.style_scale * min(content.shape[-2:]))
    if short_side * 0.5 ** (cfg.levels - 1) < SMALLEST:
        raise ValueError(
            f"with style_scale={cfg.style_scale:g} and levels={cfg.levels} the styles' short side is "
            f"{short_side * 0.5 ** (cfg.levels - 1):g} pixels at the coarsest level; allowed is {SMALLEST} and more"
        )
    return [load_picture(cfg, path, short_side, content.device) for path in paths]


def load_picture(cfg: DictConfig, path: Path, short_side: int | None, device: torch.device) -> Tensor:
    """A picture, (1, 3, H, W) in [-1, 1] on the device."""
    picture = decode(path, short_side=short_side)
    height, width = picture.shape[1:]
    if height * width > cfg.max_megapixels * 1e6:
        raise ValueError(
            f"{path} would be worked at with {width} x {height} = {height * width / 1e6:.1f} megapixels, more than "
            f"max_megapixels={cfg.max_megapixels:g}; give a smaller size (short side in pixels), or a larger limit"
        )
    return to_float(picture[None].to(device))


def make_optimisation(
    cfg: DictConfig, objective: Objective, content: Tensor, styles: list[Tensor], levels: list[Level]
) -> Optimisation:
    content, styles = seen_by_the_transfer(cfg.colours, content, styles)
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
    )
    return Optimisation(problem, _start(cfg, content, styles[0], levels[0])[:, : canvas_channels(cfg.colours)])


def _start(cfg: DictConfig, content: Tensor, style: Tensor, level: Level) -> Tensor:
    """The picture to start from, (1, 3, h, w) at the coarsest level's size."""
    if cfg.init == "noise":
        random = torch.Generator().manual_seed(cfg.seed)  # on the CPU: the same on every device
        return torch.randn(1, 3, level.height, level.width, generator=random).to(content.device) * _NOISE
    fit = resized if cfg.init == "content" else covering
    return fit(content if cfg.init == "content" else style, level.height, level.width)


def _optimiser_maker(node: DictConfig, views: int | None) -> Callable[[list[Tensor]], Optimizer]:
    make = build(node, "method")

    def made(parameters: list[Tensor]) -> Optimizer:
        try:
            optimiser: Optimizer = make(parameters)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"method: {error}") from error
        if views is not None and "max_eval" in optimiser.param_groups[0]:
            raise ValueError(
                f"views={views} shows each evaluation another view, and L-BFGS compares evaluations; give method=adam, "
                f"or views=null"
            )
        for name in ("history_size", "max_iter"):  # which L-BFGS does not check
            if optimiser.param_groups[0].get(name, 1) < 1:
                raise ValueError(f"method.{name}={optimiser.param_groups[0][name]}; allowed are numbers from 1")
        if (search := optimiser.param_groups[0].get("line_search_fn")) not in (None, "strong_wolfe"):
            raise ValueError(f"method.line_search_fn={search}; allowed are strong_wolfe, or null for none")
        return optimiser

    return made
