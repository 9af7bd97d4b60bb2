"""The patch discriminator: what one logit sees, and what it does not."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gan_style.models.discriminator import PatchDiscriminator


def make(**arguments) -> PatchDiscriminator:
    torch.manual_seed(0)
    return PatchDiscriminator(**{"width": 4} | arguments)


def seen_by_the_middle_logit(discriminator: PatchDiscriminator, picture: Tensor, scale: int) -> tuple[int, int]:
    """Height and width of the region of the picture that one logit's gradient reaches."""
    picture = picture.clone().requires_grad_()
    logits = discriminator(picture)[scale]
    (gradient,) = torch.autograd.grad(logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2], picture)
    receptive = gradient[0].abs().sum(dim=0) > 0
    rows, columns = (receptive.any(dim=d).nonzero() for d in (1, 0))
    return int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)


@pytest.mark.parametrize("field", [16, 34, 70, 142])
def test_a_logit_sees_exactly_its_receptive_field(noise, field):
    size = 2 * field + 40  # so that the middle patch does not touch the border
    assert seen_by_the_middle_logit(make(receptive_field=field), noise(1, 3, size, size), 0) == (field, field)


def test_each_further_scale_sees_twice_as_far(noise):
    discriminator, picture = make(receptive_field=16, scales=3), noise(1, 3, 192, 192)
    areas = [seen_by_the_middle_logit(discriminator, picture, scale) for scale in range(3)]
    assert areas == [(16, 16), (32, 32), (64, 64)]
    assert discriminator.smallest == 64


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_gives_a_map_of_logits_for_each_scale(noise, scales):
    """Convolutions of kernel 4 and padding 1 halve the side (stride 2) or shorten it by one (stride 1)."""
    logits = make(receptive_field=34, scales=scales)(noise(2, 3, 140, 200))
    expected = [(2, 1, 140 // 2**n // 2 // 2 - 2, 200 // 2**n // 2 // 2 - 2) for n in range(scales)]
    assert [tuple(scale.shape) for scale in logits] == expected


def test_a_further_scale_judges_the_shrunken_picture(noise):
    discriminator, picture = make(receptive_field=16, scales=2).eval(), noise(1, 3, 32, 32)
    shrunken = picture.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5))
    torch.testing.assert_close(discriminator(picture)[1], discriminator.by_scale[1](shrunken))


@pytest.mark.parametrize("training", [True, False])
def test_a_sample_is_judged_from_itself_alone(noise, training):
    discriminator = make(receptive_field=16, scales=2).train(training)
    pictures = noise(3, 3, 32, 32).requires_grad_()
    logits = torch.cat([scale[1].flatten() for scale in discriminator(pictures)])
    (gradient,) = torch.autograd.grad(logits.square().sum(), pictures)
    assert gradient[1].count_nonzero() > 0
    assert gradient[0].count_nonzero() == gradient[2].count_nonzero() == 0


def test_every_convolution_comes_to_a_spectral_norm_of_one(noise):
    discriminator = make(receptive_field=34, scales=2)
    for layer in convolutions(discriminator):  # far from one at first
        layer.parametrizations.weight.original.data *= 7.0
    for _ in range(100):
        discriminator(noise(1, 3, 68, 68))
    largest = [torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in convolutions(discriminator)]
    assert largest == pytest.approx([1.0] * 8, abs=0.05)


def test_judging_in_eval_moves_no_buffer(noise):
    discriminator = make(receptive_field=16)
    discriminator.eval()(noise(1, 3, 32, 32))
    before = [buffer.clone() for buffer in discriminator.buffers()]
    discriminator(noise(1, 3, 32, 32))
    assert before and all(torch.equal(a, b) for a, b in zip(before, discriminator.buffers(), strict=True))
    discriminator.train()(noise(1, 3, 32, 32))  # while in training they do move
    assert not all(torch.equal(a, b) for a, b in zip(before, discriminator.buffers(), strict=True))


@pytest.mark.parametrize("field", [0, 64, 71])
def test_an_unknown_receptive_field_is_refused_with_those_that_are(field):
    with pytest.raises(ValueError, match=rf"discriminator\.receptive_field={field}; allowed are 16, 34, 70, 142"):
        make(receptive_field=field)


@pytest.mark.parametrize("arguments", [{"width": 0}, {"scales": 0}])
def test_refuses_what_cannot_be_built(arguments):
    (name, value), *_ = arguments.items()
    with pytest.raises(ValueError, match=rf"discriminator\.{name}={value}"):
        make(**arguments)


def convolutions(discriminator: PatchDiscriminator) -> list[nn.Conv2d]:
    actual = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d)]
    assert all(parametrize.is_parametrized(layer, "weight") for layer in actual)
    return actual


def test_tells_styles_apart_by_projection(noise):
    """Miyato and Koyama 2018, equation 7: the logit grows by the inner product of features and embedding."""
    discriminator, pictures = make(receptive_field=16, styles=3, scales=2).eval(), noise(2, 3, 32, 32)
    styles = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
    logits = zip(discriminator(pictures), discriminator(pictures, styles), strict=True)
    for scale, (plain, projected) in enumerate(logits):
        features = discriminator.by_scale[scale][:-1](pictures if not scale else nn.functional.avg_pool2d(pictures, 2))
        agreement = torch.einsum("nchw,ck,nk->nhw", features, discriminator.embeddings[scale].weight, styles)
        inner = agreement.unfold(1, 4, 1).unfold(2, 4, 1).mean(dim=(3, 4))  # logits that see no border
        torch.testing.assert_close((projected - plain)[:, 0, 1:-1, 1:-1], inner)


def test_a_discriminator_of_one_style_has_no_embeddings(noise):
    assert not list(make(receptive_field=16).embeddings)
    discriminator = make(receptive_field=16, styles=2).eval()
    picture = noise(1, 3, 32, 32)
    torch.testing.assert_close(discriminator(picture)[0], discriminator(picture, torch.zeros(1, 2))[0])
