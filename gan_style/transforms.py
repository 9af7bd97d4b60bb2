"""Style as data augmentation, after Geirhos et al. 2019, "ImageNet-trained CNNs are biased towards texture"."""

import hashlib
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from gan_style.models.library import LibraryGenerator
from gan_style.models.reference import ReferenceGenerator
from gan_style.options import as_typed
from gan_style.stylize.controls import unknown_style
from gan_style.stylize.model import (
    any_style_model,
    find_references,
    open_model,
    read_references,
    resolve_model,
    shipped,
    with_references,
)
from gan_style.stylize.onnx_model import ONNX_SUFFIX

_HASHED = 4096  # values of a picture that its draws follow from, evenly spread over it
_CACHED = 2**16  # pixels that a CPU stylizes at once
_OVERSHOOT = 0.25  # beyond [0, 1] in which float pixels may lie, as after a bicubic resize


class RandomStyle(v2.Transform):
    """Stylize pictures at random, for torchvision.transforms.v2 pipelines; what is no picture stays as it is.

    Takes Pillow pictures, tensors and tv_tensors.Image (..., C, H, W) of uint8 or of floats in [0, 1], in whatever
    sample structure they are, and gives the same type and size back; boxes, masks, key points and labels are passed
    through. Each picture of a batch (N, C, H, W) has draws of its own; the frames of a tv_tensors.Video
    (..., T, C, H, W), and several pictures of one sample, share theirs. Pictures that are not drawn are untouched.

    styles: names to draw from, None for all that the model has.
    strength: (low, high), or a number, drawn uniformly: 0 is the picture itself, 1 the style in full.
    p: how likely a picture is stylized.
    mixtures: how likely a stylized picture has a mixture of two styles, in shares drawn uniformly.
    references: pictures, or their folders, whose styles are drawn instead, by a model that takes its style from a
        picture; "monet.jpg" is then the style monet.
    checkpoint: a run's folder or a generator's file; None for the models that ship.
    seed: None to draw from torch's global generator, as torchvision does; a number, and draws follow from it, the
        epoch (set_epoch) and the picture's own pixels alone, whatever the order, batches or workers.

    The network follows the pictures to their device and gives no gradients. ValueError for bad arguments and pictures.
    """

    def __init__(
        self,
        styles: Sequence[str] | str | None = None,
        *,
        strength: tuple[float, float] | float = (0.5, 1.0),
        p: float = 0.5,
        mixtures: float = 0.0,
        references: str | Path | Sequence[str | Path] | None = None,
        checkpoint: str | Path | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.strength = (strength, strength) if isinstance(strength, int | float) else tuple(strength)
        if len(self.strength) != 2 or not 0 <= self.strength[0] <= self.strength[1] <= 1:
            raise ValueError(
                f"strength={as_typed(strength)}; a number from 0 to 1, or two, the smaller one first, expected"
            )
        for name, probability in (("p", p), ("mixtures", mixtures)):
            if not 0 <= probability <= 1:
                raise ValueError(f"{name}={as_typed(probability)}; allowed are 0 to 1")
        self.p, self.mixtures, self.seed = p, mixtures, seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by workers that are running already

        # The network, and which of its styles are drawn
        names = [styles] if isinstance(styles, str) else None if styles is None else list(styles)
        self.generator, self._known = _open(names, references, checkpoint)
        self.styles = list(self._known) if names is None else names
        if not self.styles:
            raise ValueError("styles=[]: name one at least, or leave it out to draw from all")
        for name in self.styles:
            if name not in self._known:
                raise unknown_style(name, self._known, "styles")

    def set_epoch(self, epoch: int) -> None:
        """Draw anew from here on, with a seed: the same picture has other styles in another epoch, in all workers."""
        self._epoch.fill_(epoch)

    def train(self, mode: bool = True) -> "RandomStyle":
        """Follow the module that it is part of, except for the network, which is never trained."""
        super().train(mode)
        self.generator.eval()
        return self

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw "condition" (N, K): how much of each style the N pictures of the sample's first input have."""
        pictures = [item for item in flat_inputs if _is_picture(item)]
        if not pictures:
            return {}
        keys = self._keys(_as_batch(pictures[0]))
        return {"condition": torch.tensor([self._draw(key) for key in keys]).view(-1, len(self._known))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Stylize an input as ``make_params`` has drawn, if it is a picture."""
        if not _is_picture(inpt):
            return inpt
        batch, condition = _as_batch(inpt), params["condition"]
        if len(batch) != len(condition):
            raise ValueError(f"{len(batch)} pictures beside {len(condition)} others in a sample; as many expected")
        rows = condition.sum(dim=1).nonzero()[:, 0]
        if not len(rows) or not batch.numel():
            return inpt

        # A CPU takes a large batch in pieces whose features stay in its cache
        at_once = max(1, _CACHED // batch[0, :, 0].numel()) if batch.device.type == "cpu" else len(rows)
        result = batch.clone()
        for part in rows.split(at_once):
            chosen = part.to(batch.device)
            result[chosen] = self._stylize(batch[chosen], condition[part])
        if isinstance(inpt, Tensor):
            return tv_tensors.wrap(result.view(inpt.shape), like=inpt)
        return v2.functional.to_pil_image(result[0, 0], mode=inpt.mode)

    def _keys(self, batch: Tensor) -> list[str]:
        """Return what the draws of each of N pictures, (N, T, C, H, W), follow from besides seed and epoch."""
        if self.seed is None:
            return [str(number) for number in torch.randint(2**62, (len(batch),)).tolist()]
        values = batch.flatten(1)
        values = _to_uint8(values[:, :: max(1, values.shape[1] // _HASHED)]).cpu()
        return [hashlib.sha256(picture.numpy().tobytes()).hexdigest() for picture in values]

    def _draw(self, key: str) -> list[float]:
        """Draw how much of each style a picture has: all 0 to leave it as it is."""
        draw = random.Random(f"{self.seed} {int(self._epoch)} {key}")
        condition = dict.fromkeys(self._known, 0.0)
        if draw.random() < self.p:
            strength = draw.uniform(*self.strength)
            share = draw.random() if draw.random() < self.mixtures and len(self.styles) > 1 else 1.0
            styles = draw.sample(self.styles, min(2, len(self.styles)))
            for style, part in zip(styles, (share, 1.0 - share), strict=False):
                condition[style] += strength * part
        return list(condition.values())

    @torch.no_grad()
    def _stylize(self, batch: Tensor, condition: Tensor) -> Tensor:
        """Run the network on (N, T, C, H, W) of uint8 or floats in [0, 1], C with or without an alpha channel."""
        frames, channels = batch.shape[1], batch.shape[2]
        colors, alpha = batch.flatten(0, 1).split([channels - 1 + channels % 2, 1 - channels % 2], dim=1)
        condition = condition.to(batch.device).repeat_interleave(frames, dim=0)
        if next(self.generator.parameters()).device != batch.device:
            self.generator.to(batch.device)

        # As the network has it: RGB in [-1, 1]
        images = v2.functional.to_dtype(colors, torch.float32, scale=True).expand(-1, 3, -1, -1) * 2.0 - 1.0
        images = images.contiguous(memory_format=torch.channels_last)
        if isinstance(self.generator, LibraryGenerator):
            results = self.generator(images, condition)
        else:
            results = torch.lerp(images, self.generator(images), condition[..., None, None])
        results = (results.float() + 1.0) / 2.0

        # And as the picture was: grey or not, its type, its alpha channel
        results = v2.functional.rgb_to_grayscale(results) if colors.shape[1] == 1 else results
        results = _to_uint8(results) if batch.dtype == torch.uint8 else results.to(batch.dtype)
        return torch.cat([results, alpha], dim=1).unflatten(0, (-1, frames))


def _open(
    styles: list[str] | None, references: str | Path | Sequence[str | Path] | None, checkpoint: str | Path | None
) -> tuple[nn.Module, tuple[str, ...]]:
    """Load a generator that is called on pictures and, if it has several styles, a condition; and their names."""
    place, cpu = None if checkpoint is None else Path(checkpoint).expanduser(), torch.device("cpu")
    if place is not None and place.suffix == ONNX_SUFFIX:
        raise ValueError(f"checkpoint={checkpoint}: an ONNX file is no generator; give that itself")
    if references is None:
        default = max(shipped().values(), key=len, default=())
        model, _ = open_model(resolve_model(styles or default, place), cpu)
        if isinstance(model.generator, ReferenceGenerator):
            raise ValueError(
                f"references=... is missing: {checkpoint} takes its style from pictures; give their folder"
            )
    else:
        model, _ = open_model(any_style_model() if place is None else resolve_model([], place), cpu)
        specs = [references] if isinstance(references, str | Path) else references
        files = find_references([str(spec) for spec in specs])
        model = with_references(model, read_references(files, max_megapixels=math.inf))
    return model.generator, model.styles


def _is_picture(item: Any) -> bool:
    return not isinstance(item, tv_tensors.TVTensor) or isinstance(item, tv_tensors.Image | tv_tensors.Video)


def _as_batch(picture: Any) -> Tensor:
    """View a picture, a batch or a video as (N, T, C, H, W). ValueError for what no pixels are."""
    if not isinstance(picture, Tensor):
        if picture.mode not in ("L", "LA", "RGB", "RGBA"):
            raise ValueError(f"a Pillow picture of mode {picture.mode}; convert it first, as with v2.RGB()")
        return v2.functional.pil_to_tensor(picture)[None, None]
    if picture.ndim < 3 or picture.shape[-3] not in (1, 2, 3, 4):
        raise ValueError(f"pictures (..., C, H, W) of 1 to 4 channels expected, got a tensor {tuple(picture.shape)}")
    if picture.dtype != torch.uint8 and not picture.is_floating_point():
        raise ValueError(f"pictures of uint8 or of floats in [0, 1] expected, got {picture.dtype}")
    pixels = picture.as_subclass(Tensor).detach()
    if pixels.is_floating_point() and pixels.numel():
        low, high = pixels.aminmax()
        if not (low >= -_OVERSHOOT and high <= 1.0 + _OVERSHOOT):
            raise ValueError(f"floats from {low:g} to {high:g}; in [0, 1] expected: put RandomStyle before Normalize")
    frames = pixels.shape[-4] if isinstance(picture, tv_tensors.Video) and picture.ndim > 3 else 1
    return pixels.reshape(-1, frames, *pixels.shape[-3:])


def _to_uint8(values: Tensor) -> Tensor:
    return values if values.dtype == torch.uint8 else (values.float().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
