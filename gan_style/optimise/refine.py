"""Refine a reference's style on the photo that it is painted on: a few steps on its scales and shifts, no pixels."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.losses.content import Content
from gan_style.losses.objective import Objective
from gan_style.losses.style import MEAN, GramStyle
from gan_style.losses.term import LossInputs
from gan_style.models.generator import MIN_INPUT_SIZE
from gan_style.models.library import LibraryGenerator
from gan_style.models.perceptual import compact
from gan_style.options import as_typed

_SIDE = 256  # pixels, of the photo's short side while it is refined on
_LEARNING_RATE = 0.02
_STYLE_LAYERS = ["relu1_1", "relu2_1", "relu3_1", "relu4_1"]
_CONTENT_LAYERS = ["relu3_1", "relu3_3", "relu4_2"]
_CONTENT = Content(weight=0.3, layers=_CONTENT_LAYERS)
_STYLE = GramStyle(weight=10.0, layers=_STYLE_LAYERS, layer_weights=[0.3, 1.0, 1.0, 2.0], relative=True)


@dataclass(frozen=True)
class Refiner:
    """Adam on a style's row of scales and shifts, under content and style losses of the network ``compact``.

    What an encoder has guessed of a style that it never saw is corrected on the photo at hand. The generator stays a
    generator: results are as coherent as before, and of any size.

    references: {name: (1, 3, H, W) in [-1, 1]}, of any size; steps: from 1, for each of them.
    """

    references: Mapping[str, Tensor]
    steps: int

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or self.steps < 0:
            raise ValueError(f"refine={as_typed(self.steps)}; a number of steps, from 0, expected")
        if not self.references:
            hint = "gan-style optimise init=shipped:library#STYLE improves a result of another style"
            raise ValueError(f"refine={self.steps} is for a picture's style, reference=..., and there is none; {hint}")

    def __call__(self, generator: nn.Module, photo: Tensor) -> LibraryGenerator:
        """Return a copy of the library of the references' styles, refined on a photo (1, 3, H, W) in [-1, 1]."""
        with torch.inference_mode(False), torch.enable_grad():
            library = copy.deepcopy(generator)
            assert isinstance(library, LibraryGenerator)
            device = next(library.parameters()).device
            photo = _scale(photo, device)
            condition = torch.eye(len(self.references), device=device)

            # The losses, on features whose mean activation on this photo is 1
            perceptual = compact(layers=[*_STYLE_LAYERS, *_CONTENT_LAYERS]).to(device)
            perceptual.calibrate([photo])
            objective = Objective({"content": _CONTENT, "style": _STYLE}, perceptual)
            references = {name: [(0, _scale(picture, device))] for name, picture in self.references.items()}
            objective.set_library(MEAN, references)

            # A few steps on the rows of each style in turn; the others' have no gradient
            rows = [row.requires_grad_() for norm in library.conditional_norms().values() for row in norm.parameters()]
            library.train()
            for row_condition in condition.split(1):
                optimiser = torch.optim.Adam(rows, lr=_LEARNING_RATE, betas=(0.8, 0.99))
                for step in range(self.steps):
                    optimiser.param_groups[0]["lr"] = _LEARNING_RATE * (1.0 - step / self.steps)
                    fake = library(photo, row_condition)
                    inputs = LossInputs(photo, photo, fake, condition=row_condition)
                    loss, _ = objective.generator_loss(inputs, None, warming_up=False)
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
        return library.requires_grad_(False).eval()


def _scale(picture: Tensor, device: torch.device) -> Tensor:
    """Scale to a short side of at most _SIDE pixels."""
    factor = min(1.0, _SIDE / min(picture.shape[-2:]))
    size = [max(MIN_INPUT_SIZE, round(side * factor)) for side in picture.shape[-2:]]
    return F.interpolate(picture.to(device).clone(), size, mode="bilinear", antialias=True)
