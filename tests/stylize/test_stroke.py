"""stroke: the picture is painted smaller, and its result is enlarged along the photo's own detail."""

import pytest
import torch
from torch import Tensor, nn

from gan_style.images.decode import to_uint8
from gan_style.models.generator import ResnetGenerator
from gan_style.stylize.controls import Controls, Regions
from gan_style.stylize.model import Model
from gan_style.stylize.paint import paint

CPU = torch.device("cpu")


class Negative(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return -images


class Stripes(nn.Module):
    """Stripes of eight pixels, whatever the picture."""

    def forward(self, images: Tensor) -> Tensor:
        columns = torch.arange(images.shape[-1]) * (2 * torch.pi / 8)
        return columns.cos().expand_as(images)


def model(generator: nn.Module) -> Model:
    return Model(generator, ("it",), CPU)


def controls(stroke: float | str, **others) -> Controls:
    return Controls({"it": 1.0}, stroke=stroke, **others)


def edges(height: int = 90, width: int = 119) -> Tensor:
    """A grey picture of sharp edges, whose detail a smaller one has not."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    value = ((rows // 11 + columns // 17) % 2) * 1.2 - 0.6
    return to_uint8(value.expand(3, -1, -1))


def test_strokes_are_as_many_times_as_broad():
    plain = torch.full((3, 64, 96), 128, dtype=torch.uint8)
    result = paint(model(Stripes()), plain, controls(2.0)).float() / 127.5 - 1.0
    columns = (torch.arange(96) + 0.5) / 2 - 0.5
    torch.testing.assert_close(result[0, 32, 4:-4], (columns * (2 * torch.pi / 8)).cos()[4:-4], atol=0.08, rtol=0)


@pytest.mark.parametrize("stroke", [2.0, 3.3])
def test_the_photos_edges_stay_sharp(stroke):
    """Of a style that is known the enlarged result is nearly the one at full size: edges and all."""
    photo = edges()
    expected = paint(model(Negative()), photo, controls(1.0)).float()
    result = paint(model(Negative()), photo, controls(stroke)).float()
    assert (result - expected).abs().mean() < 1.5
    assert (result - expected).abs().amax() < 24


def test_auto_is_the_models_own_up_to_512_pixels_and_broader_beyond():
    photo = edges(512, 520)
    assert torch.equal(paint(model(Stripes()), photo, controls("auto")), paint(model(Stripes()), photo, controls(1.0)))
    assert controls("auto").reduction(1024, 3000) == 2.0


def test_tiles_make_no_difference():
    torch.manual_seed(0)
    generator, photo = ResnetGenerator(width=4, blocks=1).eval(), edges(300, 420)
    untiled, tiled = (paint(model(generator), photo, controls(2.0, tile=tile)) for tile in ("off", 64))
    assert (untiled.int() - tiled.int()).abs().max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (7, 301), (63, 2)])
def test_results_keep_any_size(size):
    assert paint(model(Negative()), edges(*size), controls(4.0)).shape == (3, *size)


def test_outside_of_a_mask_nothing_changes():
    photo = edges()
    plane = torch.zeros(1, 90, 119, dtype=torch.uint8)
    plane[..., :40] = 255
    result = paint(model(Negative()), photo, controls(2.0), regions=Regions([{"it": 1.0}], plane))
    assert torch.equal(result[..., 40:], photo[..., 40:])
    assert not torch.equal(result[..., :40], photo[..., :40])


@pytest.mark.parametrize("stroke", [0.5, 0, -1, float("nan"), float("inf"), "broad", None, True])
def test_strokes_that_there_are_not_are_refused(stroke):
    with pytest.raises(ValueError, match="stroke="):
        controls(stroke)
