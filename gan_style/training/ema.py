"""Exponential moving average of the generator's weights."""

import copy

import torch
from torch import nn


class Ema:
    """Keeps ``network``, a copy whose weights follow the trained ones: w_ema <- w_ema + (1 - decay) (w - w_ema).

    The decay grows with the number of updates, min(decay, (1 + n) / (10 + n)), so that a short run's average does not
    remember its random start.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"training.ema_decay={decay}; allowed are 0 (no averaging) up to, but not including, 1")
        self.decay = decay
        self.updates = 0
        self.network = copy.deepcopy(network).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move one step towards the trained weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1.0 - decay)
        for mine, theirs in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(theirs)
