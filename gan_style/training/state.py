"""Everything that training changes, in one object with one state_dict."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_style.training.ema import Ema


@dataclass
class TrainState:
    """Networks, optimisers, EMA, random state and step; beside them the settings that the step reads.

    discriminator and its optimiser are None where there is no adversarial term. ``schedule`` gives the factor on the
    optimisers' learning rates; ``clip`` is the largest allowed norm of a network's gradient (None: not clipped);
    ``random`` (on the CPU) is what DiffAugment draws from.
    """

    generator: nn.Module
    discriminator: nn.Module | None
    ema: Ema
    generator_optimiser: Optimizer
    discriminator_optimiser: Optimizer | None
    schedule: Callable[[int], float]
    random: torch.Generator
    warmup_steps: int = 0
    clip: float | None = None
    step: int = 0

    @property
    def warming_up(self) -> bool:
        """Whether the next step belongs to the content-only warm-up."""
        return self.step < self.warmup_steps

    def set_learning_rates(self) -> None:
        """Give every group its initial learning rate times the schedule's factor for this step."""
        factor = self.schedule(self.step)
        for optimiser in self._optimisers().values():
            for group in optimiser.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    @contextmanager
    def discriminator_frozen(self) -> Iterator[nn.Module | None]:
        """D neither gathers gradients nor moves its spectral-norm vectors; afterwards it is as it was."""
        if self.discriminator is None:
            yield None
            return
        self.discriminator.requires_grad_(False).eval()
        try:
            yield self.discriminator
        finally:
            self.discriminator.requires_grad_(True).train()

    def update(self, optimiser: Optimizer, loss: Tensor) -> Tensor:
        """Backward, clip, step; returns the gradient's norm before clipping, a scalar on the device."""
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.clip is not None:
            torch._foreach_mul_(gradients, (self.clip / (norm + 1e-6)).clamp(max=1.0))
        optimiser.step()
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Plain containers and tensors: all that it takes to go on as if nothing had happened."""
        return {
            "step": self.step,
            "networks": {name: network.state_dict() for name, network in self._networks().items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self._optimisers().items()},
            "ema_updates": self.ema.updates,
            "random": self.random.get_state(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over a state_dict; RuntimeError, KeyError or ValueError where it is of another architecture."""
        networks, optimisers = self._networks(), self._optimisers()
        if networks.keys() != saved["networks"].keys():
            raise ValueError(f"it holds {sorted(saved['networks'])}, this run has {sorted(networks)}")
        for name, network in networks.items():
            network.load_state_dict(saved["networks"][name])
        for name, optimiser in optimisers.items():
            settings = [{k: v for k, v in group.items() if k != "params"} for group in optimiser.param_groups]
            optimiser.load_state_dict(saved["optimisers"][name])
            for group, setting in zip(optimiser.param_groups, settings, strict=True):
                group.update(setting)  # the command's settings count, not the old run's
                group["initial_lr"] = setting.get("initial_lr", setting["lr"])
        self.ema.updates = saved["ema_updates"]
        self.random.set_state(saved["random"])
        self.step = saved["step"]

    def _networks(self) -> dict[str, nn.Module]:
        named = {"generator": self.generator, "discriminator": self.discriminator, "ema": self.ema.network}
        return {name: network for name, network in named.items() if network is not None}

    def _optimisers(self) -> dict[str, Optimizer]:
        named = {"generator": self.generator_optimiser, "discriminator": self.discriminator_optimiser}
        return {name: optimiser for name, optimiser in named.items() if optimiser is not None}
