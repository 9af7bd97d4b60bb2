"""Frames together are what paint makes of each alone."""

import pytest
import torch

from gan_style.models.generator import ResnetGenerator
from gan_style.models.library import LibraryGenerator
from gan_style.stylize.controls import Controls
from gan_style.stylize.model import Model
from gan_style.stylize.paint import FramePainter, paint


def a_library() -> LibraryGenerator:
    return LibraryGenerator(styles=["a", "b"], width=4, blocks=1)


@pytest.mark.parametrize("kind", [lambda: ResnetGenerator(width=4, blocks=1), a_library], ids=["one style", "library"])
@pytest.mark.parametrize("colours", ["style", "luminance"])
@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_a_batch_of_frames_is_its_frames(kind, colours, strength):
    torch.manual_seed(0)
    generator = kind().eval()
    styles = tuple(getattr(generator, "styles", ("only",)))
    model = Model(generator, styles, torch.device("cpu"))
    controls = Controls({styles[0]: 1.0}, strength, colours)
    frames = torch.randint(0, 256, (3, 3, 20, 28), dtype=torch.uint8)
    made = FramePainter(model, controls)(frames)
    alone = torch.stack([paint(model, frame, controls) for frame in frames])
    assert made.dtype == torch.uint8 and made.shape == frames.shape
    assert (made.int() - alone.int()).abs().max() <= 1
    assert torch.equal(made, frames) is (strength == 0)


def test_numbers_that_are_not_finite_stop_it():
    generator = ResnetGenerator(width=2, blocks=0)
    torch.nn.init.constant_(generator.decoder[-1].bias, float("nan"))
    painter = FramePainter(Model(generator, ("only",), torch.device("cpu")), Controls({"only": 1.0}))
    with pytest.raises(ArithmeticError, match="not a finite number"):
        painter(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
