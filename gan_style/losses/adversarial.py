"""Adversarial objectives by name, and the named term that holds one of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.functional import AUGMENTATIONS, RandomGenerators, diff_augment, grey, smooth_edges
from gan_style.options import as_typed

Logits = Sequence[Tensor]  # a map for each scale


@dataclass(frozen=True)
class Formula:
    """An adversarial objective on maps of logits: what D loses on real ones and on fake ones, and what G loses on its.

    Each is a function of logits of any shape and returns their mean, a scalar.
    """

    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Compute D's loss."""
        return self.real(real) + self.fake(fake)


FORMULAS = {
    # Lim and Ye 2017 (Geometric GAN); Miyato et al. 2018, equations 16 and 17.
    "hinge": Formula(
        real=lambda logits: F.relu(1.0 - logits.float()).mean(),
        fake=lambda logits: F.relu(1.0 + logits.float()).mean(),
        generator=lambda logits: -logits.float().mean(),
    ),
    # Mao et al. 2017 (LSGAN), equation 9, with a = 0, b = 1 and c = 1.
    "least_squares": Formula(
        real=lambda logits: 0.5 * (logits.float() - 1.0).square().mean(),
        fake=lambda logits: 0.5 * logits.float().square().mean(),
        generator=lambda logits: 0.5 * (logits.float() - 1.0).square().mean(),
    ),
    # Goodfellow et al. 2014, equation 1, as a loss on logits; of G their section 3, -log D(G(x)).
    "nonsaturating": Formula(
        real=lambda logits: F.softplus(-logits.float()).mean(),
        fake=lambda logits: F.softplus(logits.float()).mean(),
        generator=lambda logits: F.softplus(-logits.float()).mean(),
    ),
}

# Style pictures that lack something of the style, which D is to tell from it, too.
NEGATIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "edges": smooth_edges,  # Chen et al. 2018 (CartoonGAN), section 3.2: cartoons without their clear edges
    "grey": grey,  # Chen et al. 2019 (AnimeGAN), the grayscale adversarial loss
    "grey_edges": lambda images: smooth_edges(grey(images)),  # the same, its edge-promoting part
}


def r1_penalty(logits: Logits, real: Tensor) -> Tensor:
    """Compute equation 9 of Mescheder et al. 2018, without its gamma / 2: the squared gradient of D at real pictures.

    Differs in that the squares are averaged over pixels (and summed over the three colours) where theirs are summed,
    so that it does not grow with the resolution: D here gives a map, whose sum is what is differentiated.
    """
    total = torch.stack([scale.float().sum() for scale in logits]).sum()
    (gradient,) = torch.autograd.grad(total, real, create_graph=True)
    return gradient.float().square().sum(dim=1).mean()


@dataclass(kw_only=True)
class Adversarial:
    """Both sides of the adversarial objective.

    formula: a name in FORMULAS; r1: gamma of the R1 penalty, 0 for none; augment: kinds of DiffAugment applied to what
    the discriminator sees, real and fake, in both halves of the step; negatives: {name in NEGATIVES: weight}, more
    pictures that count as fake, by their weight: L_D = E[real(D(y))] + E[fake(D(G(x)))] + sum_k w_k E[fake(D(k(y)))]
    (Chen et al. 2018, CartoonGAN, equation 3, with the edge-smoothed cartoons alone and w = 1).
    """

    weight: float = 1.0
    formula: str = "hinge"
    r1: float = 0.0
    augment: Sequence[str] = field(default_factory=tuple)
    negatives: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.formula not in FORMULAS:
            raise ValueError(f"loss.adversarial.formula={self.formula}; allowed are {', '.join(FORMULAS)}")
        if not (math.isfinite(self.r1) and self.r1 >= 0):
            raise ValueError(f"loss.adversarial.r1={self.r1}; allowed are finite numbers from 0 (0: no penalty)")
        for kind in self.augment:
            if kind not in AUGMENTATIONS:
                raise ValueError(f"loss.adversarial.augment: {kind!r}; allowed are {', '.join(AUGMENTATIONS)}")
        for kind, weight in (self.negatives or {}).items():
            if kind not in NEGATIVES:
                raise ValueError(f"loss.adversarial.negatives: {kind!r}; allowed are {', '.join(NEGATIVES)}")
            if isinstance(weight, bool | str) or not 0 < weight < math.inf:
                raise ValueError(f"loss.adversarial.negatives.{kind}={as_typed(weight)}; allowed are numbers above 0")

    @property
    def roles(self) -> list[str]:
        """Name the sets of pictures that D sees in its half, in order: each needs random generators of its own."""
        return ["real", "fake", *(self.negatives or ())]

    def logits(
        self, discriminator: nn.Module, images: Tensor, random: RandomGenerators, condition: Tensor | None = None
    ) -> Logits:
        """Compute the discriminator's logits for augmented pictures (N, 3, H, W); random: a generator for each.

        condition: for a library of styles (N, K), of which D is told the styles, and not how strong they are.
        """
        augmented = diff_augment(images, self.augment, random)
        if condition is None:
            return discriminator(augmented)
        return discriminator(augmented, condition / condition.sum(dim=1, keepdim=True).clamp_min(1e-6))

    def discriminator_loss(
        self,
        discriminator: nn.Module,
        real: Tensor,
        fake: Tensor,
        random: RandomGenerators,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of D on real and (detached) fake pictures (N, 3, H, W), R1 inside; and its parts by name.

        random: a generator for each picture of each of ``roles``. condition: of the fakes; the real pictures beside
        them have the same styles, and a pair counts as much as its fake is strong.
        All go through D together, so that spectral normalisation moves once; D has no batch statistics.
        """
        if self.r1:
            real = real.detach().requires_grad_()
        negatives = self.negatives or {}
        images = [real, fake.detach(), *(NEGATIVES[kind](real.detach()) for kind in negatives)]
        conditions = None if condition is None else condition.repeat(len(images), 1)
        by_scale = self.logits(discriminator, torch.cat(images), random, conditions)
        on_real, on_fake, *on_negatives = zip(*(scale.split(len(real)) for scale in by_scale), strict=True)

        formula = FORMULAS[self.formula]
        losses = [_of_samples(formula.discriminator, condition, r, f) for r, f in zip(on_real, on_fake, strict=True)]
        loss = torch.stack(losses).mean()
        parts = {"real": _mean_logit(on_real), "fake": _mean_logit(on_fake)}
        for (kind, weight), logits in zip(negatives.items(), on_negatives, strict=True):
            loss = loss + weight * torch.stack([_of_samples(formula.fake, condition, scale) for scale in logits]).mean()
            parts[kind] = _mean_logit(logits)
        parts["loss"] = loss
        if self.r1:
            parts["r1"] = r1_penalty(on_real, real)
            loss = loss + 0.5 * self.r1 * parts["r1"]
        return loss, parts

    def generator_loss(self, fake_logits: Logits, condition: Tensor | None = None) -> Tensor:
        """Compute the generator's side of the formula, averaged over scales; samples count by their strength."""
        formula = FORMULAS[self.formula].generator
        return torch.stack([_of_samples(formula, condition, scale) for scale in fake_logits]).mean()


def _of_samples(formula: Callable[..., Tensor], condition: Tensor | None, *logits: Tensor) -> Tensor:
    """Compute the formula's mean over samples, each by its strength, where there is a condition (N, K)."""
    if condition is None:
        return formula(*logits)
    each = [formula(*sample) for sample in zip(*logits, strict=True)]
    return (torch.stack(each) * condition.sum(dim=1)).mean()


def _mean_logit(logits: Logits) -> Tensor:
    return torch.stack([scale.detach().float().mean() for scale in logits]).mean()
