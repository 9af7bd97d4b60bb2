"""Gatys et al. 2016: a picture's own pixels are optimised under the losses that generators are trained with.

Whose colours a result has (Gatys et al. 2016b, "Preserving Color in Neural Artistic Style Transfer"):

style       the style's, as in "Image Style Transfer Using Convolutional Neural Networks"
luminance   the transfer sees and makes luma alone, and the content's chroma is put back (their section 2.2)
histogram   the style's colours are brought to the content's before the transfer (their section 2.1)

From coarse to fine, through random views: each evaluation looks at the picture shifted, turned and mirrored, and at
the content likewise. A network's mistakes are tied to where a thing stands and how it lies; pixels that are optimised
through one view alone learn to serve the mistakes, and views that change let only what all of them agree on add up (as
for feature visualisation: Olah et al. 2017, "transformation robustness"). A small perceptual network needs that most.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from gan_style.functional import grey
from gan_style.images.color import match_colours
from gan_style.losses.objective import Objective
from gan_style.losses.style import MEAN
from gan_style.losses.term import Features, LossInputs
from gan_style.optimise.regions import GuidedRegions
from gan_style.options import as_typed

MIN_SHORT_SIDE = 16  # pixels, the short side: the deepest layers of a VGG then still see one position


@dataclass(frozen=True)
class Level:
    """One size: height and width in pixels, its share of the full size, and the evaluations spent at it."""

    height: int
    width: int
    factor: float
    evaluations: int


def plan_levels(
    height: int, width: int, *, levels: int, steps: int, shares: Sequence[float] | None = None
) -> list[Level]:
    """Return the levels from the coarsest to the full size, each of twice the side lengths of the one before.

    steps: evaluations in all; shares: of the levels, from coarse to fine, in any unit; None: all equal. ValueError, in
    the words of ``gan-style optimise``, for more levels than pixels or evaluations allow.
    """
    factors = [0.5**number for number in reversed(range(levels))]
    sizes = [(max(1, round(height * factor)), max(1, round(width * factor))) for factor in factors]
    if min(sizes[0]) < MIN_SHORT_SIDE:
        raise ValueError(
            f"the picture is {width} x {height} pixels, and at the coarsest of levels={levels} its short side is "
            f"{min(sizes[0])}; allowed is {MIN_SHORT_SIDE} and more: a larger size, or fewer levels"
        )
    weights = [1.0] * levels if shares is None else list(shares)
    ends = [round(steps * end / sum(weights)) for end in accumulate(weights)]
    counts = [end - begin for begin, end in pairwise([0, *ends])]
    if min(counts) < 1:
        split = "equal shares" if shares is None else f"shares={as_typed(shares)}"
        raise ValueError(f"steps={steps} leave no evaluation for one of levels={levels} with {split}")
    return [Level(*size, factor, count) for size, factor, count in zip(sizes, factors, counts, strict=True)]


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Scale (N, C, H, W) to (N, C, height, width), bicubic, without aliasing; values may leave their range a little."""
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bicubic", antialias=True)


def cover(images: Tensor, height: int, width: int) -> Tensor:
    """Return the middle of (N, C, H, W), scaled, not squashed, so that it just covers (height, width)."""
    ratio = max(height / images.shape[-2], width / images.shape[-1])
    scaled = resize(images, *(max(1, round(length * ratio)) for length in images.shape[-2:]))
    top, left = (scaled.shape[-2] - height) // 2, (scaled.shape[-1] - width) // 2
    return scaled[..., top : top + height, left : left + width]


ORIENTATIONS = 8  # quarter turns, and their mirror images


@dataclass(frozen=True)
class View:
    """orientation: quarter turns to the left, then mirrored from 4 on; down, right: pixels of the shift."""

    orientation: int
    down: int = 0
    right: int = 0

    def of(self, images: Tensor) -> Tensor:
        """Shift images (N, C, H, W), with what lies beyond their edges mirrored in; H and W swap in a turn."""
        return turn(_shift(images, self.down, self.right), self.orientation)


def draw_view(seed: int, evaluation: int, reach: int) -> View:
    """Return the view of one evaluation; shifts by ``reach`` pixels at most, each way."""
    rng = random.Random(f"{seed}/{evaluation}")
    return View(rng.randrange(ORIENTATIONS), rng.randint(-reach, reach), rng.randint(-reach, reach))


def turn(images: Tensor, orientation: int) -> Tensor:
    """Turn images (N, C, H, W) to one of the ORIENTATIONS."""
    images = images.rot90(orientation % 4, (2, 3))
    return images.flip(3) if orientation >= 4 else images


def _shift(images: Tensor, down: int, right: int) -> Tensor:
    """Shift pictures: what was at (y, x) is at (y + down, x + right)."""
    height, width = images.shape[2:]
    down, right = (max(1 - length, min(by, length - 1)) for by, length in ((down, height), (right, width)))
    padding = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    wider = F.pad(images, padding, mode="reflect")[:, :, max(-down, 0) :, max(-right, 0) :]
    return wider[:, :, :height, :width]


STYLE, LUMINANCE, HISTOGRAM = "style", "luminance", "histogram"
COLOURS = (STYLE, LUMINANCE, HISTOGRAM)
_FIRST_STEP = 0.01  # mean change of a value in [-1, 1], about one grey level, that L-BFGS tries first


def transfer_inputs(colours: str, content: Tensor, styles: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the content and the styles (each (1, 3, H, W) in [-1, 1], any size) as the transfer is to see them."""
    if colours == LUMINANCE:
        content = grey(content)
        luma = [match_colours(grey(style)[:, :1], content[:, :1]) for style in styles]
        return content, [plane.expand(-1, 3, -1, -1) for plane in luma]
    if colours == HISTOGRAM:
        return content, [match_colours(style, content) for style in styles]
    return content, list(styles)


def canvas_channels(colours: str) -> int:
    """Return how many channels are optimised: 1 where only luma is made."""
    return 1 if colours == LUMINANCE else 3


def assemble_result(colours: str, canvas: Tensor, content: Tensor) -> Tensor:
    """Return the picture that is shown, (1, 3, h, w) in [-1, 1], from what was optimised, (1, C, h, w).

    content: the coloured one, (1, 3, H, W). A new luma under unchanged U and V moves R, G and B alike.
    """
    if colours == LUMINANCE:
        content = resize(content, *canvas.shape[-2:])
        canvas = content + (canvas - grey(content)[:, :1])
    return canvas.clamp(-1.0, 1.0)


class NonFiniteLossError(ArithmeticError):
    """A loss term is no longer a finite number."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Hold what is optimised, and how.

    content, styles: (1, 3, H, W) in [-1, 1] on the device, at full size; style_weights: of the mean of the styles'
    statistics, None: equal; make_optimiser: given the parameters, a torch optimiser; view: given an evaluation's
    number, how it looks at the picture; None: always as it is, which a line search needs; regions: whose styles are
    compared by themselves; None: the whole picture's.
    """

    objective: Objective
    content: Tensor
    styles: Sequence[Tensor]
    style_weights: Sequence[float] | None
    levels: Sequence[Level]
    make_optimiser: Callable[[list[Tensor]], Optimizer]
    view: Callable[[int], View] | None = None
    regions: GuidedRegions | None = None

    def at(self, level: Level) -> tuple[LossInputs, list[Features]]:
        """Return content and style at a level's size, and the style's targets in each orientation that a view may have.

        The last of them are left in force: the only ones, where there are no views.
        """
        content = _laid_out(resize(self.content, level.height, level.width))
        styles = [_laid_out(resize(style, *_scale(style, level.factor))) for style in self.styles]
        masks = None
        if self.regions is not None:
            masks = F.adaptive_avg_pool2d(self.regions.content, (level.height, level.width))
        targets = []
        for orientation in range(1 if self.view is None else ORIENTATIONS):
            views = (_laid_out(turn(style, orientation)) for style in styles)
            view_masks = partial(self._style_masks, orientation)
            self.objective.set_style(MEAN, enumerate(views), self.style_weights, view_masks if self.regions else None)
            targets.append(dict(self.objective.style_targets))
        return LossInputs(content, styles[0], content, masks=masks), targets

    def _style_masks(self, orientation: int, number: int, _: Tensor) -> Tensor:
        assert self.regions is not None
        return turn(self.regions.styles[number], orientation)


def _scale(style: Tensor, factor: float) -> list[int]:
    return [max(1, round(length * factor)) for length in style.shape[-2:]]


def _laid_out(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


class Optimisation:
    """The state of an optimisation, and the iterates it goes through.

    ``canvas`` holds the pixels, (1, C, h, w) at the size of the level that is worked at; with one channel it is shown
    to the losses as grey. It is not clamped on its way: L-BFGS takes the loss for a smooth function. ``evaluation``
    counts forward and backward passes, whatever the optimiser makes of them; ``terms`` are those of the last one,
    unweighted, by name, with the weighted sum as "total"; ``last_good`` is the canvas that it looked at.
    """

    def __init__(self, problem: Problem, start: Tensor) -> None:
        """Begin at ``start``, (1, C, h, w) at the size of the coarsest level."""
        self.problem = problem
        self.evaluation = 0
        self.terms: dict[str, float] = {}
        self._enter(0, start)

    def _enter(self, number: int, canvas: Tensor) -> None:
        self.level = number
        self.canvas = canvas.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        self.last_good = canvas.detach()
        self._known: tuple[Tensor, Tensor] | None = None  # loss and gradient at last_good
        self.optimiser = self.problem.make_optimiser([self.canvas])
        self._settings = dict(self.optimiser.param_groups[0])
        self._inputs, self._targets = self.problem.at(self.problem.levels[number])

    @property
    def steps(self) -> int:
        """Count the evaluations of all levels."""
        return sum(level.evaluations for level in self.problem.levels)

    def iterates(self) -> Iterator[Tensor]:
        """Yield the canvas after each of the optimiser's steps, up to the end of the last level.

        A step takes one evaluation, or several where the optimiser searches along a line; the level's end cuts such a
        search short. NonFiniteLossError names the evaluation and the terms.
        """
        while self.evaluation < self.steps:
            if self.evaluation >= self._end():
                level = self.problem.levels[self.level + 1]
                self._enter(self.level + 1, resize(self.canvas.detach(), level.height, level.width))
            before = self.evaluation
            self._step(self._end() - self.evaluation)
            if self.evaluation == before:
                self.evaluation += 1  # it stands still, and so would the count
            if not self.canvas.isfinite().all():
                raise NonFiniteLossError(f"evaluation {self.evaluation}: not a finite number: the picture after it")
            yield self.canvas.detach()

    def _step(self, evaluations_left: int) -> None:
        """Take one step of the optimiser, of at most ``left`` evaluations."""
        group, settings = self.optimiser.param_groups[0], self._settings
        if "max_eval" in group:  # L-BFGS: one look where it stands, then along a line max_eval at most
            spared = self._known is not None and torch.equal(self.canvas, self.last_good)
            if evaluations_left == 1 and not spared:
                self._look()
                return
            group["max_eval"] = min(settings["max_eval"], evaluations_left if spared else evaluations_left - 1)
            # torch's first step moves all values together by lr: so little that the search takes long to get away
            first = not self.optimiser.state
            group["lr"] = settings["lr"] * (_FIRST_STEP * self.canvas.numel() if first else 1.0)
            group["max_iter"] = 1 if first else settings["max_iter"]  # that rate is for the first iteration alone
        self.optimiser.step(self._look)  # type: ignore[arg-type]

    def _end(self) -> int:
        """Count the evaluations up to the end of this level."""
        return sum(level.evaluations for level in self.problem.levels[: self.level + 1])

    def _look(self) -> Tensor:
        """Return the loss, the gradient in place; not computed again where a line search ended and a step begins."""
        if self._known is None or not torch.equal(self.canvas, self.last_good):
            self._known = self._evaluate()
        loss, gradient = self._known
        self.canvas.grad = gradient.clone()
        return loss

    def _evaluate(self) -> tuple[Tensor, Tensor]:
        """Forward and backward; loss and gradient as the optimiser is given them.

        That is the objective times the number of values in the canvas. The objective is made of means, so that a
        value's gradient shrinks as the picture grows, and what optimisers compare with constants (L-BFGS its curvature
        with 1e-10, Adam a gradient with eps) would drown; as a sum it is alike at all sizes.
        """
        inputs = self._seen()
        loss, parts = self.problem.objective.generator_loss(inputs, None, warming_up=False)
        self.evaluation += 1
        self.terms = self._checked(parts | {"total": loss})
        self.last_good = self.canvas.detach().clone()
        scaled = loss * self.canvas.numel()
        (gradient,) = torch.autograd.grad(scaled, self.canvas)
        inputs.fake_features = {}  # frees what the graph held
        return scaled.detach(), gradient.contiguous()

    def _seen(self) -> LossInputs:
        """Return this evaluation's inputs: the same every time, or a view of it, with targets to match."""
        picture = self.canvas.expand(-1, 3, -1, -1)
        if self.problem.view is None:
            self._inputs.fake = _laid_out(picture)
            return self._inputs
        view = self.problem.view(self.evaluation)
        self.problem.objective.style_targets = self._targets[view.orientation]
        inputs = LossInputs(_laid_out(view.of(self._inputs.content)), self._inputs.style, _laid_out(view.of(picture)))
        inputs.masks = None if self._inputs.masks is None else view.of(self._inputs.masks)
        return inputs

    def _checked(self, parts: Mapping[str, Tensor]) -> dict[str, float]:
        values = dict(zip(parts, torch.stack([part.detach().float() for part in parts.values()]).tolist(), strict=True))
        nonfinite_keys = [name for name, value in values.items() if not math.isfinite(value)]
        if nonfinite_keys:
            raise NonFiniteLossError(f"evaluation {self.evaluation}: not a finite number: {', '.join(nonfinite_keys)}")
        return values

    def state_dict(self) -> dict[str, Any]:
        """Return plain containers and tensors: all that it takes to go on as if nothing had happened."""
        return {
            "level": self.level,
            "evaluation": self.evaluation,
            "terms": dict(self.terms),
            "canvas": self.canvas.detach(),
            "last_good": self.last_good,
            "known": self._known,
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over a state_dict of the same problem."""
        self._enter(saved["level"], saved["canvas"].to(self.canvas.device))
        if saved["optimiser"] is not None:  # None: finished
            self.optimiser.load_state_dict(saved["optimiser"])
        self.evaluation, self.terms = saved["evaluation"], dict(saved["terms"])
        self.last_good = saved["last_good"].to(self.canvas.device)
        if saved["known"] is not None:
            loss, gradient = (value.to(self.canvas.device) for value in saved["known"])
            self._known = loss, gradient
