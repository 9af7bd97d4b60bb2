"""An exported model beside the generator that it was made of: differences, speed, and what is too much."""

import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch import Tensor, nn

from gan_style.demo import demo_pictures
from gan_style.evaluation.metrics import ssim
from gan_style.export.graph import UINT8, ExportedGenerator
from gan_style.images.decode import decode, to_float, to_uint8
from gan_style.stylize.onnx_model import OnnxModel

SIZES = ((17, 23), (131, 94), (255, 321), (400, 333))  # height and width, none of them a multiple of 4
SPEED_SIDE, ROUNDS = 256, 3

Condition = tuple[Tensor, ...]  # a model's inputs beside the photo; pictures among them uint8 (1, 3, h, w)
Paint = Callable[[Tensor, Condition], Tensor]  # uint8 (1, 3, H, W) to the same


@dataclass(frozen=True)
class Comparison:
    """largest, average: differences in 8-bit levels, over all pictures; ssim: its mean; rates: pictures/s of 256 px."""

    largest: float
    average: float
    ssim: float
    rates: tuple[float, float]  # of PyTorch, and of the exported model

    def __str__(self) -> str:
        return (
            f"difference in 8-bit levels: at most {self.largest:.0f}, on average {self.average:.3f}; "
            f"SSIM {self.ssim:.4f}; {self.rates[1]:.2f} pictures/s of {SPEED_SIDE} x {SPEED_SIDE} "
            f"(PyTorch: {self.rates[0]:.2f})"
        )


def check_bounds(precision: str, comparison: Comparison) -> None:
    """Raise ValueError where an exported model differs from its generator by more than its precision allows."""
    bounds = {
        "float32": (comparison.largest <= 1.0, "at most 1 level anywhere"),
        "float16": (comparison.average <= 2.0, "at most 2 levels on average"),
        "int8": (comparison.ssim >= 0.97, "an SSIM of at least 0.97 on average"),
    }
    is_within, bound = bounds[precision]
    if not is_within:
        raise ValueError(
            f"precision={precision}: the exported model is too far from its generator ({comparison}); {bound}"
        )


def compare(
    reference: Paint,
    exported: Paint,
    photos: Sequence[Path],
    conditions: Sequence[Condition],
    *,
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> Comparison:
    """Run both on the photos, scaled to these heights and widths, under each of the conditions in turn."""
    differences, similarities = [], []
    for number, (height, width) in enumerate(sizes):
        picture = read_scaled(photos[number % len(photos)], height, width)
        condition = conditions[number % len(conditions)]
        first, second = (paint(picture, condition) for paint in (reference, exported))
        difference = (first.int() - second.int()).abs().float()
        differences.append((difference.max().item(), difference.mean().item()))
        similarities.append(ssim(to_float(first), to_float(second)).item())
    return Comparison(
        max(largest for largest, _ in differences),
        mean(average for _, average in differences),
        mean(similarities),
        rates(reference, exported, read_scaled(photos[0], SPEED_SIDE, SPEED_SIDE), conditions[0]),
    )


def read_scaled(path: Path, height: int, width: int) -> Tensor:
    """Read a photo as uint8 (1, 3, height, width)."""
    picture = to_float(decode(path)[None])
    scaled = nn.functional.interpolate(picture, (height, width), mode="bilinear", antialias=True)
    return to_uint8(scaled)


def rates(
    reference: Paint,
    exported: Paint,
    picture: Tensor,
    condition: Condition,
    *,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Measure pictures per second of both, alternately: the best of some rounds."""
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for index, paint in enumerate((reference, exported)):
            start = clock()
            paint(picture, condition)
            best[index] = min(best[index], clock() - start)
    return 1.0 / best[0], 1.0 / best[1]


def generator_paint(generator: nn.Module) -> Paint:
    @torch.inference_mode()
    def paint(picture: Tensor, condition: Condition) -> Tensor:
        images, *more = map(_as_floats, (picture, *condition))
        return to_uint8(generator(images.contiguous(memory_format=torch.channels_last), *more))

    return paint


def exported_paint(call: Callable[..., Tensor], pixels: str) -> Paint:
    """Paint by an exported model. call: the model on tensors; pixels: of which kind its pictures are."""

    @torch.inference_mode()
    def paint(picture: Tensor, condition: Condition) -> Tensor:
        result = call(*as_inputs((picture, *condition), pixels))
        return result.permute(0, 3, 1, 2) if pixels == UINT8 else to_uint8(result)

    return paint


def onnx_paint(model: OnnxModel) -> Paint:
    return exported_paint(lambda *inputs: torch.from_numpy(model(*(x.numpy() for x in inputs))), model.pixels)


def torch_paint(content: bytes, pixels: str) -> Paint:
    """Paint by the content of a file of torch.export."""
    return exported_paint(torch.export.load(io.BytesIO(content)).module(), pixels)


def as_inputs(values: Iterable[Tensor], pixels: str) -> list[Tensor]:
    """Turn pictures, uint8 (1, 3, H, W), into what an exported model takes; other inputs stay."""
    if pixels == UINT8:
        return [x.permute(0, 2, 3, 1).contiguous() if x.dtype == torch.uint8 else x for x in values]
    return [_as_floats(x) for x in values]


def _as_floats(x: Tensor) -> Tensor:
    return to_float(x) if x.dtype == torch.uint8 else x


def conditions_of(network: ExportedGenerator) -> list[Condition]:
    """Return what to compare a model under: single styles and a mixture at less than full strength."""
    if network.side is not None:
        references = [read_scaled(path, network.side, network.side + 45) for path in demo_pictures("styles")[:2]]
        return [(reference, torch.tensor([[strength]])) for reference in references for strength in (1.0, 0.6)]
    count = len(network.styles)
    if not count:
        return [()]
    single: list[Condition] = [(row,) for row in torch.eye(count)[:, None]]
    first, last = torch.eye(count)[[0, -1]]
    return [single[0], ((0.3 * first + 0.3 * last)[None],), *single[1:]]


def calibration_feeds(
    network: ExportedGenerator, photos: Iterable[Path], side: int = SPEED_SIDE
) -> Iterator[dict[str, np.ndarray]]:
    """Yield inputs for static quantisation: each photo, in one style after the other."""
    conditions = conditions_of(network)
    for number, path in enumerate(photos):
        inputs = as_inputs((read_scaled(path, side, side), *conditions[number % len(conditions)]), network.pixels)
        yield {name: x.numpy() for name, x in zip(network.inputs, inputs, strict=True)}
