"""Loss weights from target shares of the gradient norm at the generator's output."""

import math
from collections.abc import Mapping
from typing import Any


class Balance:
    """Find weights under which the named terms' gradients have the target shares; then they stay.

    shares: {term: target share}, positive, in any unit. What is shared is each term's weight times the norm of its
    gradient at the generator's output, averaged over the audits of the warm-up. The sum over terms stays what the
    configured weights make it, so that terms outside the balance keep their place.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        self.shares = dict(shares)
        self.norms: dict[str, float] = dict.fromkeys(self.shares, 0.0)
        self.audits = 0
        self.settled = False

    def observe(self, norms: Mapping[str, float]) -> None:
        """Take in one audit: the norm of each term's gradient at the generator's output, unweighted."""
        self.audits += 1
        for name in self.norms:
            self.norms[name] += (norms[name] - self.norms[name]) / self.audits

    def freeze_weights(self, configured: Mapping[str, float]) -> dict[str, float]:
        """Compute the weights of the balanced terms. ValueError for a term whose gradient was always 0."""
        self.settled = True
        if not self.audits:
            raise ValueError("loss.balance: no audit in the warm-up found gradients that are finite numbers")
        if still := [name for name, norm in self.norms.items() if norm == 0.0]:
            raise ValueError(f"loss.balance: the gradient of {', '.join(still)} was 0 all through the warm-up")
        total = sum(configured[name] * norm for name, norm in self.norms.items())
        whole = sum(self.shares.values())
        return {name: share / whole * total / self.norms[name] for name, share in self.shares.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured so far."""
        return {"norms": dict(self.norms), "audits": self.audits, "settled": self.settled}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over what an earlier part of the run measured."""
        self.norms, self.audits, self.settled = dict(saved["norms"]), saved["audits"], saved["settled"]


def check_shares(shares: Mapping[str, float], weights: Mapping[str, float]) -> None:
    """Raise ValueError, naming the option, for shares that no weights could give. weights: those of all terms."""
    if unknown := sorted(shares.keys() - weights.keys()):
        raise ValueError(f"loss.balance names {', '.join(unknown)}; the loss terms are {', '.join(weights)}")
    if len(shares) < 2:
        raise ValueError(f"loss.balance={dict(shares)}: give shares for at least two terms, or null for no balance")
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < math.inf:
            raise ValueError(f"loss.balance.{name}={share}; allowed are numbers above 0, relative to each other")
    if not any(weights[name] for name in shares):
        raise ValueError("loss.balance keeps the sum of the weighted gradients, so at least one needs a weight above 0")
