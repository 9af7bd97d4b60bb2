"""Terms that look at pixels: total variation, identity, colour, pairs."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from gan_style.functional import rgb_to_yuv, total_variation_absolute, total_variation_squared
from gan_style.losses.term import AuxiliaryPass, LossInputs, RandomFor, Term


def identity_loss(rebuilt: Tensor, style: Tensor) -> Tensor:
    """Average the absolute difference of G(style) and style (Zhu et al. 2017, CycleGAN, section 5.2)."""
    return (rebuilt.float() - style.float()).abs().mean()


def paired_loss(fake: Tensor, style: Tensor) -> Tensor:
    """Average the absolute difference of G(x) and x's pair y (Isola et al. 2017, pix2pix, equation 3)."""
    return (fake.float() - style.float()).abs().mean()


def colour_loss(fake: Tensor, content: Tensor) -> Tensor:
    """Compare luma and chroma: L1 on Y, Huber on U and V (Chen et al. 2019, AnimeGAN, colour reconstruction loss).

    fake, content: RGB (N, 3, H, W) in [-1, 1]; Y, U and V are those of BT.601, Y in [0, 1]; means over pixels.
    """
    result, target = rgb_to_yuv(fake), rgb_to_yuv(content)
    luma = (result[:, 0] - target[:, 0]).abs().mean()
    return luma + F.huber_loss(result[:, 1], target[:, 1]) + F.huber_loss(result[:, 2], target[:, 2])


@dataclass(kw_only=True)
class SquaredVariation(Term):
    """Smoothness: total variation, squared."""

    def __call__(self, inputs: LossInputs) -> Tensor:
        return total_variation_squared(inputs.fake)


@dataclass(kw_only=True)
class AbsoluteVariation(Term):
    """Smoothness that keeps edges: total variation, absolute."""

    def __call__(self, inputs: LossInputs) -> Tensor:
        return total_variation_absolute(inputs.fake)


@dataclass(kw_only=True)
class Identity(Term):
    """A style picture should come out as it went in; costs a generator pass over the style pictures."""

    auxiliary = "rebuilt"

    def auxiliary_pass(self, content: Tensor, style: Tensor, random_for: RandomFor) -> AuxiliaryPass:
        return AuxiliaryPass(style)

    def __call__(self, inputs: LossInputs) -> Tensor:
        return identity_loss(inputs.auxiliary["rebuilt"].images, inputs.style)


@dataclass(kw_only=True)
class Colour(Term):
    """The result keeps the photo's luma and chroma."""

    def __call__(self, inputs: LossInputs) -> Tensor:
        return colour_loss(inputs.fake, inputs.content)


@dataclass(kw_only=True)
class Paired(Term):
    """The result is the style picture that belongs to the photo; with data.paired=true."""

    def __call__(self, inputs: LossInputs) -> Tensor:
        return paired_loss(inputs.fake, inputs.style)
