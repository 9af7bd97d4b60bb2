"""Paint one picture, or several frames of a video, by a model and what is asked for.

Nothing here keeps a state: threads may share a model.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.functional import RunningMoments, guided_gain, luma, scaled_part
from gan_style.images.color import LAB, LUMINANCE, STYLE, LabMatch, with_luma_of
from gan_style.images.decode import to_float, to_uint8
from gan_style.models.generator import ResidualCoder
from gan_style.models.library import LibraryGenerator
from gan_style.options import as_typed
from gan_style.stylize.controls import AUTO, OFF, Controls, Regions
from gan_style.stylize.model import Model, OnnxGenerator
from gan_style.stylize.tiling import Box, TiledGenerator, boxes

LARGEST_WHOLE = 4_000_000  # pixels; tile=auto cuts what is larger
AUTO_TILE = 512  # of tile=auto's tiles
_WHOLE_SIDE = 2**30  # a side that no picture has
_ENLARGED_SIDE = 1024  # of the parts in which a small result is enlarged
_FLAT = 1e-3  # variance of luma in [0, 1] below which a window has no edge

# Parts of the result, (1, 3, h, w) in [-1, 1], as often as it is called.
Outputs = Callable[[], Iterator[tuple[Box, Tensor]]]


@torch.inference_mode()
def paint(
    model: Model, pixels: Tensor, controls: Controls, *, alpha: Tensor | None = None, regions: Regions | None = None
) -> Tensor:
    """Stylize a picture, (3, H, W), to a result of the same size and type, on the CPU.

    pixels: uint8, uint16, or float in [-1, 1]; alpha: (1, H, W), where it is 0 the network sees white, since nobody
    knows what is stored there; regions: where anything is to be changed, None for everywhere. Where nothing is, the
    result equals the picture exactly. ArithmeticError for a network whose result is not finite.
    """
    height, width = pixels.shape[-2:]
    if regions is not None:
        regions.check_size(height, width)
    source = _Source(model, pixels, alpha, controls, regions)
    if controls.strength == 0 or 0 in (height, width):
        return pixels.clone()

    # The network's output, as a whole or tile by tile; strength and regions are in it.
    outputs = source.outputs()

    # Colours to be matched are measured over the whole picture first.
    match = source.lab_match(outputs) if controls.colours == LAB else None

    # Part by part: the colours that are asked for, and the photo itself outside of the regions.
    result = torch.empty_like(pixels, device="cpu")
    for box, output in outputs():
        photo, cover = source.photo(box), source.cover(box)
        if not output.isfinite().all():
            raise ArithmeticError("the generator's result is not a finite number")
        if controls.colours == LUMINANCE:
            output = with_luma_of(output, photo)
        if match is not None:
            output = match(output, photo, cover)
        if cover is not None:
            output = torch.where(cover == 0, photo, output)
        result[(slice(None), *box.place)] = _as_type(output[0], pixels.dtype).cpu()
    return result


def in_tiles(generator: nn.Module, images: Tensor, condition: Tensor | None = None, *, tile: int = AUTO_TILE) -> Tensor:
    """Run a generator on (N, 3, H, W) in [-1, 1] with little memory: picture by picture, tile by tile.

    condition: (N, K), a library's. Same shape and range, on the images' device.
    """
    output = torch.empty_like(images, dtype=torch.float32)
    for number in range(len(images)):
        condition_here = None if condition is None else condition[number : number + 1]
        model = Model(generator, tuple(getattr(generator, "styles", ("",))), images.device)
        source = _Source(model, images[number], None, Controls({}, tile=tile), None)
        for box, part in source.tiled(condition_here)():
            output[(number, slice(None), *box.place)] = part[0]
    return output


def _as_float(pixels: Tensor) -> Tensor:
    if pixels.dtype == torch.uint16:
        return pixels.to(torch.float32).div_(32767.5).sub_(1.0)
    return to_float(pixels) if pixels.dtype == torch.uint8 else pixels.float()


def _as_type(image: Tensor, kind: torch.dtype) -> Tensor:
    if kind == torch.uint8:
        return to_uint8(image)
    image = image.float().clamp(-1.0, 1.0)
    return image.add(1.0).mul(32767.5).round().to(torch.int32).to(kind) if kind == torch.uint16 else image.to(kind)


@dataclass(frozen=True)
class _Source:
    """The inputs of ``paint``, part by part."""

    model: Model
    pixels: Tensor
    alpha: Tensor | None
    controls: Controls
    regions: Regions | None

    def photo(self, box: Box) -> Tensor:
        """Return the picture as it is, (1, 3, h, w), in channels_last."""
        pixels = self.pixels[(slice(None), *box.place)][None]
        return _as_float(pixels.to(self.model.device, memory_format=torch.channels_last))

    def network_input(self, box: Box) -> Tensor:
        """Make the network's input, (1, 3, h, w): white where nothing can be seen."""
        photo = self.photo(box)
        if self.alpha is None:
            return photo
        return torch.where(self._visible(box), photo, 1.0)

    def cover(self, box: Box) -> Tensor | None:
        return None if self.regions is None else self.regions.cover(box).to(self.model.device)

    @property
    def whole(self) -> Box:
        return Box(0, self.pixels.shape[-2], 0, self.pixels.shape[-1])

    @property
    def tile(self) -> int | None:
        """Return the tiles' side; None for the picture as a whole."""
        if self.controls.tile == OFF:
            return None
        if self.controls.tile == AUTO:
            large = self.whole.height * self.whole.width > LARGEST_WHOLE
            return AUTO_TILE if large and isinstance(self.model.generator, ResidualCoder) else None
        if not isinstance(self.model.generator, ResidualCoder):
            raise ValueError(
                f"tile={as_typed(self.controls.tile)}: this generator cannot be taken tile by tile; allowed is off"
            )
        return int(self.controls.tile)

    def outputs(self) -> Outputs:
        """Run the network. A multi-style generator knows strength and regions itself; others are blended after it."""
        if self.controls.reduction(self.whole.height, self.whole.width) > 1.0:
            return self._broad()
        generator, strength = self.model.generator, self.controls.strength
        if isinstance(generator, OnnxGenerator) and generator.styles:
            return self._exported(strength)
        if not isinstance(generator, LibraryGenerator):
            output = self._at_once(None) if self.tile is None else self.tiled(None)
            return self._blended(output, strength)
        if self.regions is not None:
            return self._in_regions(generator, self.regions)
        condition = self.model.condition(dict(self.controls.mix), strength)
        return self._at_once(condition) if self.tile is None else self.tiled(condition)

    def _broad(self) -> Outputs:
        """Paint with broad strokes: the picture made smaller, and its result enlarged.

        What is too fine for the small picture comes from the photo: its luma's detail, with the gain that luma has in
        the small result around that place (the linear model of the guided filter: He et al. 2010, equation 5).
        """
        reduction = self.controls.reduction(self.whole.height, self.whole.width)
        size = [max(1, round(side / reduction)) for side in self.pixels.shape[-2:]]

        # The small picture and its result
        small = replace(
            self,
            pixels=resize(self.pixels, size),
            alpha=None if self.alpha is None else resize(self.alpha, size),
            controls=replace(self.controls, stroke=1.0),
            regions=None if self.regions is None else replace(self.regions, planes=resize(self.regions.planes, size)),
        )
        output = torch.empty(1, 3, *size, device=self.model.device)
        for box, part in small.outputs()():
            output[(..., *box.place)] = part

        # How luma and the result's colours go together in 5 x 5 windows
        guide = luma(small.network_input(small.whole))
        gain = guided_gain(guide, output, window=5, epsilon=_FLAT)

        def parts() -> Iterator[tuple[Box, Tensor]]:
            for box in boxes(self.whole.height, self.whole.width, self.tile or _ENLARGED_SIDE):
                size = self.whole.height, self.whole.width
                base, level, slope = (scaled_part(x, *box.place, *size) for x in (output, guide, gain))
                yield box, (base + slope * (luma(self.network_input(box)) - level)).clamp(-1.0, 1.0)

        return parts

    def _at_once(self, condition: Tensor | None) -> Outputs:
        content = self.network_input(self.whole).contiguous(memory_format=torch.channels_last)
        arguments = (content,) if condition is None else (content, condition)
        output = self.model.generator(*arguments).float()
        return lambda: iter([(self.whole, output)])

    def tiled(self, condition: Tensor | None) -> Outputs:
        generator = self.model.generator
        assert isinstance(generator, ResidualCoder)
        light = self._light()
        if condition is None:
            tiled = self._tiled_generator(generator)
            return lambda: ((box, generator.with_tone(output, *light)) for box, output in tiled.tiles())
        assert isinstance(generator, LibraryGenerator)
        tiled = self._tiled_generator(generator, generator.shares(condition))
        strength = condition.sum()

        def parts() -> Iterator[tuple[Box, Tensor]]:
            for box, output in tiled.tiles():
                output = generator.with_tone(output, *light, condition)
                yield box, generator.blend_with_photo(self.network_input(box), output, strength)

        return parts

    def _light(self) -> tuple[Tensor, Tensor]:
        """Measure the mean and standard deviation of the photo's luma, (1,) each, tile by tile."""
        moments = RunningMoments()
        for box in boxes(self.whole.height, self.whole.width, self.tile or _WHOLE_SIDE):
            moments.add(luma(self.network_input(box)))
        mean, deviation = moments.mean, moments.variance.sqrt()
        return mean.float().to(self.model.device), deviation.float().to(self.model.device)

    def _in_regions(self, generator: LibraryGenerator, regions: Regions) -> Outputs:
        """Blend styles in the network's own features; the last region is the one that is left as it is."""
        strength = self.controls.strength
        conditions = [self.model.condition(dict(mix), strength) for mix in (*regions.mixes, {})]
        tiled = self._tiled_generator(generator, generator.shares(torch.cat(conditions)), regions)
        light, mixes = self._light(), torch.cat(conditions)

        def parts() -> Iterator[tuple[Box, Tensor]]:
            for box, output in tiled.tiles():
                condition = torch.einsum("nphw,pk->nkhw", regions.shares(box).to(mixes), mixes)
                output = generator.with_tone(output, *light, condition)
                yield box, generator.blend_with_photo(self.photo(box), output, strength * regions.cover(box).to(output))

        return parts

    def _tiled_generator(
        self, generator: ResidualCoder, conditions: Tensor | None = None, regions: Regions | None = None
    ) -> TiledGenerator:
        tiled = TiledGenerator(
            generator,
            self.network_input,
            self.whole.height,
            self.whole.width,
            self.model.device,
            self.tile or _WHOLE_SIDE,
            conditions,
            None if regions is None else regions.shares,
        )
        tiled.prepare()
        return tiled

    def _exported(self, strength: float) -> Outputs:
        """Run an export of a multi-style generator, which knows strength, but no regions: only blended after it."""
        if self.regions is not None and any(mix != self.controls.mix for mix in self.regions.mixes):
            raise ValueError("mask={...}: an exported model has no styles by region; give one mask, or its generator")
        output = self._at_once(self.model.condition(dict(self.controls.mix), strength))
        return self._blended(output, 1.0)

    def _blended(self, output: Outputs, strength: float) -> Outputs:
        """Blend the result of a generator of one style, which knows no strength, with the picture."""
        if strength == 1 and self.regions is None:
            return output

        def parts() -> Iterator[tuple[Box, Tensor]]:
            for box, part in output():
                cover = self.cover(box)
                amount = torch.tensor(strength).to(part) if cover is None else strength * cover
                yield box, torch.lerp(self.photo(box), part, amount)

        return parts

    def lab_match(self, parts: Outputs) -> LabMatch:
        match = LabMatch()
        for box, output in parts():
            match.add(output, self.photo(box), self._color_weights(box))
        return match

    def _color_weights(self, box: Box) -> Tensor | None:
        """Weigh each pixel for the result's colours: in the regions, and where something can be seen."""
        cover = self.cover(box)
        if self.alpha is None:
            return cover
        visible = self._visible(box).float()
        return visible if cover is None else cover * visible

    def _visible(self, box: Box) -> Tensor:
        assert self.alpha is not None
        return self.alpha[(slice(None), *box.place)][None].to(self.model.device).float() > 0


def resize(pixels: Tensor, size: Sequence[int]) -> Tensor:
    """Scale (C, H, W) of any type to a size, with antialiasing."""
    smaller = F.interpolate(pixels[None].float(), list(size), mode="bilinear", antialias=True)[0]
    return smaller if pixels.is_floating_point() else smaller.round().to(torch.int32).to(pixels.dtype)


@dataclass(frozen=True)
class FramePainter:
    """Paints frames, uint8 (N, 3, H, W) on the CPU, to the same shape and type: several at a time where possible.

    regions: finds those of a frame, in the frames' order; None: everywhere.
    """

    model: Model
    controls: Controls
    regions: Callable[[Tensor], Regions | None] | None = None

    def __call__(self, pictures: Tensor) -> Tensor:
        if self.regions is not None:
            return torch.stack([paint(self.model, p, self.controls, regions=self.regions(p)) for p in pictures])
        if self._can_batch(pictures):
            return self._batch(pictures)
        return torch.stack([paint(self.model, picture, self.controls) for picture in pictures])

    def _can_batch(self, pictures: Tensor) -> bool:
        whole = self.controls.tile == OFF or pictures.shape[-2] * pictures.shape[-1] <= LARGEST_WHOLE
        plain = self.controls.colours == STYLE and self.controls.stroke == 1
        return len(pictures) > 1 and whole and plain and self.controls.strength > 0

    @torch.inference_mode()
    def _batch(self, pictures: Tensor) -> Tensor:
        model, strength = self.model, self.controls.strength
        images = to_float(pictures.to(model.device)).contiguous(memory_format=torch.channels_last)
        if getattr(model.generator, "styles", None):
            condition = model.condition(dict(self.controls.mix), strength)
            output = model.generator(images, condition.expand(len(images), -1)).float()
        else:
            output = torch.lerp(images, model.generator(images).float(), strength)
        if not output.isfinite().all():
            raise ArithmeticError("the generator's result is not a finite number")
        return to_uint8(output).cpu()
