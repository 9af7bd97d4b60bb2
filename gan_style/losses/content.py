"""Content losses on the features of a perceptual network."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from gan_style.functional import weighted_mean
from gan_style.losses.term import LossInputs, Term


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Average the squared difference of features (N, C, H, W): Johnson et al. 2016, equation 2."""
    return F.mse_loss(features.float(), target.float())


def absolute_content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Average the absolute difference of features (N, C, H, W): Chen et al. 2018 (CartoonGAN), equation 4."""
    return (features.float() - target.float()).abs().mean()


def gatys_content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Compute equation 1 of Gatys et al. 2016: half the summed squared difference of features (N, C, H, W).

    Mean over the batch. It grows with the picture's size.
    """
    return 0.5 * (features.float() - target.float()).square().sum(dim=(1, 2, 3)).mean()


@dataclass(kw_only=True)
class Content(Term):
    """The result keeps the content: content_loss, averaged over ``layers``.

    layer_weights: one for each layer, in any unit, for a weighted mean; None: all equal.
    """

    layers: Sequence[str]
    layer_weights: Sequence[float] | None = None
    distance = staticmethod(content_loss)

    @property
    def content_features(self) -> list[str]:
        return list(self.layers)

    def __call__(self, inputs: LossInputs) -> Tensor:
        losses = [self.distance(inputs.fake_features[layer], inputs.content_features[layer]) for layer in self.layers]
        return weighted_mean(losses, self.layer_weights)


@dataclass(kw_only=True)
class GatysContent(Content):
    """The same with the normalisation of Gatys et al. 2016: gatys_content_loss."""

    distance = staticmethod(gatys_content_loss)


@dataclass(kw_only=True)
class AbsoluteContent(Content):
    """The same by absolute differences: absolute_content_loss."""

    distance = staticmethod(absolute_content_loss)
