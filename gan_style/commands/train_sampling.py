"""What a training run shows and measures while it goes on, built from its settings."""

import warnings
from collections.abc import Sequence
from itertools import islice

import torch

from gan_style.commands.train_parts import Setup, target_pictures
from gan_style.data.pictures import UnreadablePictures
from gan_style.data.sets import Pictures, load
from gan_style.evaluation.suite import Ruler
from gan_style.losses.objective import Objective, Term, content_layers, mean_gram, style_layers
from gan_style.losses.scene import Features
from gan_style.losses.style import CROP, EACH, MEAN, Style
from gan_style.training.sampling import (
    Composite,
    LibrarySampler,
    ReferenceSampler,
    Sampler,
    composite_weights,
    measurable,
)


def make_sampler(setup: Setup, objective: Objective, pictures: Pictures) -> Sampler | LibrarySampler:
    """The held-out pictures, and what their results are measured by; for many styles in each of them."""
    contents = pictures.held_out_pictures(setup.device, setup.cfg.data.sample_size)
    if setup.by_reference:
        return _reference_sampler(setup, objective, pictures, contents)
    if not setup.styles:
        return _sampler(setup, objective, pictures, contents, None)
    each = enumerate(setup.styles)
    return LibrarySampler({name: _sampler(setup, objective, pictures, contents, row) for row, name in each})


def _reference_sampler(
    setup: Setup, objective: Objective, pictures: Pictures, contents: list[torch.Tensor]
) -> ReferenceSampler:
    """In the styles of paintings that are held out, too: each measured by its own Gram matrices."""
    paths, layers = pictures.held_out_styles, style_layers(objective.terms.values())
    watch = UnreadablePictures("data.style", len(paths), limit=1.0)
    by_style = {}
    for number, reference in load(paths, pictures.style_short_side, setup.device, watch):
        grams = mean_gram(objective.perceptual, [reference], layers) if layers else {}
        by_style[f"reference_{number + 1}"] = Sampler(contents, [reference], _ruler(setup, objective, grams))
    return ReferenceSampler(by_style)


def _sampler(
    setup: Setup, objective: Objective, pictures: Pictures, contents: list[torch.Tensor], row: int | None
) -> Sampler:
    """row: which of a library's styles."""
    terms = list(objective.terms.values())
    layers, target = style_layers(terms), _yardstick(terms)
    name = None if row is None else setup.styles[row]
    grams = objective.style_grams(target, row if target == MEAN else None) if name is None or target != EACH else {}
    if layers and not grams:  # other statistics than colour Gram matrices, or from other layers
        whole = (picture for _, picture in target_pictures(setup, target, pictures, name))
        grams = mean_gram(objective.perceptual, whole, layers)
    of_style = pictures.style_pictures(setup.device, setup.cfg.data.sample_size, name)
    styles = [picture for _, picture in islice(of_style, len(contents))]
    return Sampler(contents, styles, _ruler(setup, objective, grams))


def _yardstick(terms: Sequence[Term]) -> str:
    """The style target that held-out results are measured by: of what is trained on, the whole set before a picture."""
    styles = [term for term in terms if isinstance(term, Style) and term.target != CROP]
    trained = [term.target for term in styles if term.weight] or [term.target for term in styles]
    return next((target for target in (MEAN, EACH, *trained) if target in trained), MEAN)


def _ruler(setup: Setup, objective: Objective, grams: Features) -> Ruler:
    """Which of metrics.names can be measured, by these Gram matrices."""
    of_content = content_layers(objective.terms.values())
    names = measurable(setup.cfg.metrics.names, of_content, grams)
    return Ruler(objective.perceptual, names, of_content, list(grams), [], grams)


def make_composite(setup: Setup, sampler: Sampler | LibrarySampler, lowest: float | None) -> Composite | None:
    """What chooses the best checkpoint. lowest: of the run so far."""
    weights = composite_weights(setup.settings["metrics"]["best"], setup.settings["metrics"]["names"])
    if weights is None:
        return None
    if missing := [name for name in weights if name not in sampler.ruler.names]:
        warnings.warn(f"metrics.best.{missing[0]}: there is no such loss term; it is not counted", stacklevel=2)
    known = {name: weight for name, weight in weights.items() if name not in missing}
    return Composite(known, lowest) if known else None
