"""Style losses: a statistic of a perceptual network's features, and how far it is from the style's."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_style.functional import by_region, centred_gram_matrix, channel_moments, gram_matrix, weighted_mean
from gan_style.losses.term import Features, LossInputs, Term

MEAN, EACH, CROP = "mean", "each", "crop"


def gram_loss(gram: Tensor, target: Tensor) -> Tensor:
    """Average the squared difference of Gram matrices (N, C, C), means over positions; target may be (1, C, C)."""
    return (gram - target).square().mean()


def gatys_style_loss(gram: Tensor, target: Tensor) -> Tensor:
    """Compute E_l of Gatys et al. 2016, equation 4; mean over the batch.

    Theirs divides sums over positions by 2 N_l M_l; with Gram matrices that are means over positions the M_l is in
    them already, each picture's own, and what is left is a quarter of gram_loss.
    """
    return 0.25 * gram_loss(gram, target)


def moments_loss(moments: Tensor, target: Tensor) -> Tensor:
    """Add squared differences of means and of standard deviations (N, C, 2); mean over channels.

    Huang and Belongie 2017 (AdaIN), equation 13, differs in that theirs are norms over channels: means keep layers of
    different width comparable.
    """
    return (moments - target).square().sum(dim=2).mean()


@dataclass(kw_only=True)
class StyleTerm(Term):
    """A term that compares the result with a ``statistic`` of the style pictures' features.

    target: "mean" (of the statistic over the style set), "each" (the statistic of the style picture that stands beside
    the content picture in the batch), or the path of one picture: all computed once, before step 1; or "crop" (of the
    style crop itself, in each step), for a generator that is shown it, and where style pictures are very many.
    grey: the style pictures are looked at without their colours, so that texture is asked for and their colours are
    not (Chen et al. 2019, AnimeGAN, equation 5); best with a term that keeps the photo's colours, such as ``colour``.
    """

    target: str = MEAN
    grey: bool = False

    def key(self, feature: str) -> str:
        """Name the target of a feature, such as a layer at a scale; terms that want the same share it."""
        return f"{self.statistic.__name__}/{'grey' if self.grey else 'colour'}/{feature}/{self.target}"

    def statistics(self, feature: str, features: Tensor, masks: Tensor | None) -> Features:
        """Compute what a target is the mean of, by key."""
        return {self.key(feature): self.statistic(features)}

    @staticmethod
    @abstractmethod
    def statistic(features: Tensor, /) -> Tensor:
        """Compute the statistic of features (N, C, H, W), per sample."""


@dataclass(kw_only=True)
class Style(StyleTerm):
    """The result has the style: a ``distance`` of ``statistic``s of features, averaged over ``layers``.

    layer_weights: one for each layer, in any unit, for a weighted mean (w_l of Gatys et al. 2016, equation 5, brought
    to the sum 1); None: all equal.
    relative: each layer's distance is divided by the mean square of its target: styles of strong textures, whose
    statistics are large, then weigh as much as others, and layers alike. What a library of styles needs. Of a crop,
    which may be nearly plain, it is the mean of its own and the photo's.
    style_weights: how much the styles of a library weigh, by name, such as {wave: 3}; 1 for those that are not named.
    scales: the picture is looked at in these sizes, from above 0 to 1, by the same layers, which then see strokes of
    other widths (Snelgrove 2017; Gatys et al. 2017, section 6); the mean over all.
    guided: each region of the picture (``masks``) has Gram matrices of its own, compared with those of the style
    pictures' same region; the sum of their distances, weighted by the regions' areas (Gatys et al. 2017, section 4).
    """

    layers: Sequence[str]
    layer_weights: Sequence[float] | None = None
    relative: bool = False
    style_weights: Mapping[str, float] | None = None
    scales: Sequence[float] = (1.0,)
    guided: bool = False

    @property
    def style_features(self) -> list[str]:
        """Name the features that the term needs: LAYER, or LAYER@SCALE of the picture made smaller."""
        return [layer if scale == 1.0 else f"{layer}@{scale:g}" for scale in self.scales for layer in self.layers]

    def __call__(self, inputs: LossInputs) -> Tensor:
        losses = []
        for name in self.style_features:
            # Take the result's features and the style's statistic: of its picture, its regions, at its strength.
            features, target = inputs.fake_features[name], inputs.style_targets[self.key(name)]
            target = target[inputs.style_index] if self.target == EACH else target
            if self.guided:
                assert inputs.masks is not None
                features, areas = by_region(features, inputs.masks)
                target = (target / inputs.style_targets[self.areas_key(name)]).repeat(len(inputs.masks), 1, 1)
            if inputs.condition is not None:
                target = self._at_strength(target, inputs.content_features[name], inputs.condition)
            statistic = self.statistic(features)

            # Scale both sides for relative distances, styles' weights and regions' areas.
            if self.relative:  # distances are squares, so that scaling both sides divides by a mean square
                size = target.square().mean(dim=(1, 2), keepdim=True)
                if self.target == CROP and name in inputs.content_features:
                    with torch.no_grad():
                        photo = self.statistic(inputs.content_features[name])
                    size = 0.5 * (size + photo.square().mean(dim=(1, 2), keepdim=True))
                scale = size.clamp_min(1e-12).rsqrt()
                statistic, target = statistic * scale, target * scale
            if self.style_weights and inputs.condition is not None:
                scale = self._weights_of_samples(inputs.styles, inputs.condition).sqrt()
                statistic, target = statistic * scale, target * scale
            if self.guided:  # the mean over regions becomes their sum, weighted by area
                scale = (areas * len(areas) / len(inputs.fake)).sqrt()
                statistic, target = statistic * scale, target * scale
            losses.append(self.distance(statistic, target))
        weights = None if self.layer_weights is None else list(self.layer_weights) * len(self.scales)
        return weighted_mean(losses, weights)

    def _weights_of_samples(self, styles: Sequence[str], condition: Tensor) -> Tensor:
        """Compute each sample's weight (N, 1, 1): that of its style, or of its mixture the mean by shares."""
        weights = condition.new_tensor([(self.style_weights or {}).get(name, 1.0) for name in styles])
        shares = condition / condition.sum(dim=1, keepdim=True).clamp_min(1e-6)
        return (shares @ weights)[:, None, None]

    def _at_strength(self, targets: Tensor, photo: Tensor, condition: Tensor) -> Tensor:
        """Compute the target of each sample: on the straight line from the photo's own statistic to the style's.

        targets: one (1, ...), one for each sample (N, ...), or, where the target is the mean, one for each style.
        """
        with torch.no_grad(), torch.autocast(targets.device.type, enabled=False):
            condition = condition.float()
            strength = condition.sum(dim=1)
            if self.target == MEAN:
                towards = torch.einsum("nk,kij->nij", condition, targets)
            else:
                towards = strength[:, None, None] * targets
            return towards + (1.0 - strength)[:, None, None] * self.statistic(photo)

    def key(self, feature: str) -> str:
        return super().key(feature) + ("/guided" if self.guided else "")

    def areas_key(self, feature: str) -> str:
        """Name the regions' areas, which the target of a guided term is a sum over."""
        return f"{self.key(feature)}/areas"

    def statistics(self, feature: str, features: Tensor, masks: Tensor | None) -> Features:
        """Compute what a target is the mean of, by key: of a guided term, statistics times areas, and the areas."""
        if not self.guided:
            return super().statistics(feature, features, masks)
        assert masks is not None
        regions, areas = by_region(features, masks)
        return {self.key(feature): areas * self.statistic(regions), self.areas_key(feature): areas}

    @staticmethod
    @abstractmethod
    def distance(fake: Tensor, target: Tensor, /) -> Tensor:
        """Compute the distance of two statistics, a scalar."""


@dataclass(kw_only=True)
class GramStyle(Style):
    """Gram matrices, means over positions: gram_loss (Gatys et al. 2016, section 2.2)."""

    statistic = staticmethod(gram_matrix)
    distance = staticmethod(gram_loss)


@dataclass(kw_only=True)
class GatysStyle(Style):
    """Gram matrices with the normalisation of Gatys et al. 2016: gatys_style_loss; the sum of the w_l is 1."""

    statistic = staticmethod(gram_matrix)
    distance = staticmethod(gatys_style_loss)


@dataclass(kw_only=True)
class CentredGramStyle(Style):
    """Gram matrices of mean-removed features: gram_loss (Liu et al. 2024, AnimeGANv3)."""

    statistic = staticmethod(centred_gram_matrix)
    distance = staticmethod(gram_loss)


@dataclass(kw_only=True)
class MomentStyle(Style):
    """Each channel's mean and standard deviation: moments_loss (Huang and Belongie 2017, AdaIN)."""

    statistic = staticmethod(channel_moments)
    distance = staticmethod(moments_loss)
