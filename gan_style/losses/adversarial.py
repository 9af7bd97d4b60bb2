"""Adversarial objectives: one function per formula, on maps of logits; and the named term that holds one of them.

real, fake: logits of the discriminator, any shape. A function returns a scalar, the mean over all logits.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.functional import AUGMENTATIONS, Generators, diff_augment

Logits = list[Tensor]


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Lim and Ye 2017 (Geometric GAN); Miyato et al. 2018, equation 16."""
    return F.relu(1.0 - real.float()).mean() + F.relu(1.0 + fake.float()).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """Miyato et al. 2018, equation 17."""
    return -fake.float().mean()


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Mao et al. 2017 (LSGAN), equation 9, with a = 0 and b = 1."""
    return 0.5 * ((real.float() - 1.0).square().mean() + fake.float().square().mean())


def least_squares_generator(fake: Tensor) -> Tensor:
    """Mao et al. 2017 (LSGAN), equation 9, with c = 1."""
    return 0.5 * (fake.float() - 1.0).square().mean()


def nonsaturating_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Goodfellow et al. 2014, equation 1, as a loss on logits."""
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def nonsaturating_generator(fake: Tensor) -> Tensor:
    """Goodfellow et al. 2014, section 3: -log D(G(x)) in place of log(1 - D(G(x)))."""
    return F.softplus(-fake.float()).mean()


def r1_penalty(logits: Logits, real: Tensor) -> Tensor:
    """Mescheder et al. 2018, equation 9, without its gamma / 2: the squared gradient of D at real pictures.

    Differs in that the squares are averaged over pixels (and summed over the three colours) where theirs are summed,
    so that it does not grow with the resolution: D here gives a map, whose sum is what is differentiated.
    """
    total = torch.stack([scale.float().sum() for scale in logits]).sum()
    (gradient,) = torch.autograd.grad(total, real, create_graph=True)
    return gradient.float().square().sum(dim=1).mean()


FORMULAS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "hinge": (hinge_discriminator, hinge_generator),
    "least_squares": (least_squares_discriminator, least_squares_generator),
    "nonsaturating": (nonsaturating_discriminator, nonsaturating_generator),
}


@dataclass(kw_only=True)
class Adversarial:
    """Both sides of the adversarial objective.

    formula: a name in FORMULAS; r1: gamma of the R1 penalty, 0 for none; augment: kinds of DiffAugment applied to what
    the discriminator sees, real and fake, in both halves of the step.
    """

    weight: float = 1.0
    formula: str = "hinge"
    r1: float = 0.0
    augment: Sequence[str] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if self.formula not in FORMULAS:
            raise ValueError(f"loss.adversarial.formula={self.formula}; allowed are {', '.join(FORMULAS)}")
        if not (math.isfinite(self.r1) and self.r1 >= 0):
            raise ValueError(f"loss.adversarial.r1={self.r1}; allowed are finite numbers from 0 (0: no penalty)")
        for kind in self.augment:
            if kind not in AUGMENTATIONS:
                raise ValueError(f"loss.adversarial.augment: {kind!r}; allowed are {', '.join(AUGMENTATIONS)}")

    def logits(
        self, discriminator: nn.Module, images: Tensor, random: Generators, condition: Tensor | None = None
    ) -> Logits:
        """The discriminator's logits for augmented pictures (N, 3, H, W); random: a generator for each.

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
        random: Generators,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of D on real and (detached) fake pictures (N, 3, H, W), R1 inside; and its parts by name.

        random: a generator for each real picture, then for each fake one. condition: of the fakes; the real pictures
        beside them have the same styles, and a pair counts as much as its fake is strong.
        Real and fake go through D together, so that spectral normalisation moves once; D has no batch statistics.
        """
        if self.r1:
            real = real.detach().requires_grad_()
        both = None if condition is None else torch.cat([condition, condition])
        judged = self.logits(discriminator, torch.cat([real, fake.detach()]), random, both)
        on_real, on_fake = ([scale.split([len(real), len(fake)])[i] for scale in judged] for i in (0, 1))
        formula = FORMULAS[self.formula][0]
        loss = torch.stack(
            [_of_samples(formula, condition, r, f) for r, f in zip(on_real, on_fake, strict=True)]
        ).mean()
        parts = {"loss": loss, "real": _mean_logit(on_real), "fake": _mean_logit(on_fake)}
        if self.r1:
            parts["r1"] = r1_penalty(on_real, real)
            loss = loss + 0.5 * self.r1 * parts["r1"]
        return loss, parts

    def generator_loss(self, fake_logits: Logits, condition: Tensor | None = None) -> Tensor:
        """The generator's side of the formula, averaged over scales; a sample counts as much as it is strong."""
        formula = FORMULAS[self.formula][1]
        return torch.stack([_of_samples(formula, condition, scale) for scale in fake_logits]).mean()


def _of_samples(formula: Callable[..., Tensor], condition: Tensor | None, *logits: Tensor) -> Tensor:
    """The formula's mean over samples, each by its strength, where there is a condition (N, K)."""
    if condition is None:
        return formula(*logits)
    each = [formula(*sample) for sample in zip(*logits, strict=True)]
    return (torch.stack(each) * condition.sum(dim=1)).mean()


def _mean_logit(logits: Logits) -> Tensor:
    return torch.stack([scale.detach().float().mean() for scale in logits]).mean()
