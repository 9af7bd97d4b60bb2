"""The deception rate: how many results a classifier takes for style pictures."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

FEWEST = 8  # of photos and of style pictures, to learn from


@dataclass(frozen=True)
class StyleClassifier:
    """Logistic regression on standardised embeddings: style pictures against photos.

    The deception rate of Sanakoyeu et al. 2018 (section 4.1) is the share of results that a network trained on artists
    takes for the artist's; here the network is the perceptual one, and only its last, linear layer is trained.
    """

    mean: Tensor
    spread: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def trained(cls, photos: Tensor, styles: Tensor, *, decay: float = 0.1) -> "StyleClassifier":
        """On embeddings (m, D) of photos and (n, D) of style pictures, which count equally whatever m and n.

        Cross entropy plus ``decay`` times half the squared weights: a convex function, minimised by L-BFGS.
        """
        if min(len(photos), len(styles)) < FEWEST:
            raise ValueError(
                f"deception needs at least {FEWEST} photos and {FEWEST} style pictures to learn from; there are "
                f"{len(photos)} and {len(styles)}"
            )
        rows = torch.cat([photos, styles]).double()
        truth = torch.cat([torch.zeros(len(photos)), torch.ones(len(styles))]).to(rows)
        balance = torch.where(truth > 0, 0.5 / len(styles), 0.5 / len(photos))
        mean, spread = rows.mean(0), rows.std(0).clamp_min(1e-6)
        rows = (rows - mean) / spread
        weight, bias = rows.new_zeros(rows.shape[1]).requires_grad_(), rows.new_zeros(()).requires_grad_()
        optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            errors = F.binary_cross_entropy_with_logits(rows @ weight + bias, truth, reduction="none")
            value = (errors * balance).sum() + 0.5 * decay * weight.square().sum()
            value.backward()
            return value

        with torch.enable_grad():
            optimiser.step(loss)
        return cls(mean, spread, weight.detach(), bias.detach())

    def rate(self, rows: Tensor) -> float:
        """The share of embeddings (n, D) that are taken for style pictures."""
        logits = ((rows.double() - self.mean) / self.spread) @ self.weight + self.bias
        return (logits > 0).double().mean().item()
