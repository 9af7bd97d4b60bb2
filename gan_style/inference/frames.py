"""Frames of a video, by a model and what is asked for: several at a time, where that gains anything."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gan_style.images import to_float, to_uint8
from gan_style.inference.colours import STYLE
from gan_style.inference.controls import OFF, Controls
from gan_style.inference.paint import LARGEST_WHOLE, Model, paint
from gan_style.models.library import LibraryGenerator


@dataclass(frozen=True)
class FramePainter:
    """uint8 (N, 3, H, W) on the CPU to results of the same shape and type: paint's, but for rounding."""

    model: Model
    controls: Controls

    def __call__(self, pictures: Tensor) -> Tensor:
        if self._together(pictures):
            return self._batch(pictures)
        return torch.stack([paint(self.model, picture, self.controls) for picture in pictures])

    def _together(self, pictures: Tensor) -> bool:
        whole = self.controls.tile == OFF or pictures.shape[-2] * pictures.shape[-1] <= LARGEST_WHOLE
        return len(pictures) > 1 and whole and self.controls.colours == STYLE and self.controls.strength > 0

    @torch.inference_mode()
    def _batch(self, pictures: Tensor) -> Tensor:
        model, strength = self.model, self.controls.strength
        images = to_float(pictures.to(model.device)).contiguous(memory_format=torch.channels_last)
        if isinstance(model.generator, LibraryGenerator):
            condition = model.condition(dict(self.controls.mix), strength)
            made = model.generator(images, condition.expand(len(images), -1)).float()
        else:
            made = torch.lerp(images, model.generator(images).float(), strength)
        if not made.isfinite().all():
            raise ArithmeticError("the generator's result is not a finite number")
        return to_uint8(made).cpu()
