"""Everything that training changes, in one object with one state_dict."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from gan_style.models.reference import ReferenceGenerator


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
        for averaged, trained in zip(self.network.buffers(), network.buffers(), strict=True):
            averaged.copy_(trained)


@dataclass
class TrainState:
    """Networks, optimisers, EMA and step; beside them the settings that the step reads.

    discriminator and its optimiser are None where there is no adversarial term; ``projection`` is what a loss term
    trains along with the generator, by its optimiser. ``schedule`` gives the factor on the optimisers' learning rates,
    ``lr_backoff`` one more, which a roll-back lowers; ``clip`` is the largest allowed norm of a network's gradient
    (None: not clipped); ``seed`` is what random draws follow from; ``accumulate`` is into how
    many micro-batches a batch is cut. ``parallel`` holds the networks as ranks share them; ``scalers`` scale float16's
    losses, one for each optimiser.
    """

    generator: nn.Module
    discriminator: nn.Module | None
    ema: Ema
    generator_optimiser: Optimizer
    discriminator_optimiser: Optimizer | None
    schedule: Callable[[int], float]
    seed: int = 0
    warmup_steps: int = 0
    clip: float | None = None
    accumulate: int = 1
    step: int = 0
    lr_backoff: float = 1.0
    parallel: Mapping[str, DistributedDataParallel] = field(default_factory=dict)
    scalers: Mapping[str, torch.amp.GradScaler] = field(default_factory=dict)
    projection: nn.Module | None = None

    @property
    def warming_up(self) -> bool:
        """Return whether the next step belongs to the content-only warm-up."""
        return self.step < self.warmup_steps

    @property
    def by_reference(self) -> bool:
        """Return whether the generator is shown the style pictures, each beside the photo that is to get its style."""
        return isinstance(self.generator, ReferenceGenerator)

    def wrapped(self, name: str) -> nn.Module:
        """Return the network to call in a training step: in DistributedDataParallel where there are several ranks."""
        network: nn.Module = self.parallel.get(name) or getattr(self, name)
        return network

    @staticmethod
    def gradient_sync(network: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        """Let ranks exchange gradients once a step, with the last micro-batch's."""
        if isinstance(network, DistributedDataParallel) and not last:
            return network.no_sync()
        return nullcontext()

    def set_learning_rates(self) -> None:
        """Give every group its initial learning rate times the factors for this step."""
        factor = self.schedule(self.step) * self.lr_backoff
        for optimiser in self.optimisers().values():
            for group in optimiser.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    @contextmanager
    def discriminator_frozen(self) -> Iterator[nn.Module | None]:
        """Freeze D: it neither gathers gradients nor moves its spectral-norm vectors; afterwards it is as it was."""
        if self.discriminator is None:
            yield None
            return
        self.discriminator.requires_grad_(False).eval()
        try:
            yield self.discriminator
        finally:
            self.discriminator.requires_grad_(True).train()

    def zero_grad(self, name: str) -> None:
        """Forget the gradients of a network, "generator" or "discriminator"."""
        self.optimisers()[name].zero_grad(set_to_none=True)

    def backward(self, name: str, loss: Tensor) -> Tensor:
        """Add a loss's gradients to those of a network; return whether the loss is finite, on the device.

        A loss that is not finite makes its gradients so: with them all ranks learn of it, and all skip the update.
        """
        finite, scaler = loss.detach().isfinite(), self.scalers.get(name)
        (scaler.scale(loss) if scaler else loss).backward(torch.where(finite, 1.0, math.nan))
        return finite

    def clip_and_step(self, name: str, finite_losses: Sequence[Tensor]) -> dict[str, Tensor]:
        """Clip a network's gradients and update its weights; an update that is not finite is skipped.

        finite_losses: what ``backward`` returned. Returns scalars on the device: "gradient", the norm before clipping,
        and "skipped" (0, 1); for float16 also "searching" (0, 1): skipped with finite losses and a scale that can be
        lowered, which is how it is found.
        """
        optimiser, scaler, scale = self.optimisers()[name], self.scalers.get(name), self.loss_scale(name)
        if scaler:
            scaler.unscale_(optimiser)
        gradients = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.clip is not None:
            factor = (self.clip / (norm + 1e-6)).clamp(max=1.0)
            factor = torch.where(norm.isfinite(), factor, 1.0)  # NaN stays where it is, to be found
            torch._foreach_mul_(gradients, factor)
        skipped = ~norm.isfinite()
        _step(optimiser, skipped)
        scalars = {"gradient": norm, "skipped": skipped.float()}
        if scaler and scale is not None:
            scaler.update()
            scalars["searching"] = (skipped & torch.stack(list(finite_losses)).all() & (scale > 1.0)).float()
        return scalars

    def loss_scale(self, name: str) -> Tensor | None:
        """Return the factor of a network's losses for float16's sake, on the device; None where there is none."""
        scaler, network = self.scalers.get(name), getattr(self, name)
        return scaler.scale(torch.ones((), device=next(network.parameters()).device)) if scaler else None

    def nonfinite_gradients(self) -> list[str]:
        """Name the parameters whose gradient in the last step is not finite, as "generator.encoder.0.0.weight"."""
        networks = {name: network for name, network in self._networks().items() if name != "ema"}
        return [
            f"{name}.{parameter_name}"
            for name, network in networks.items()
            for parameter_name, parameter in network.named_parameters()
            if parameter.grad is not None and not parameter.grad.isfinite().all()
        ]

    def nonfinite_networks(self) -> list[str]:
        """Name the networks whose weights are not finite, as "weights/generator"."""
        names = []
        for name, network in self._networks().items():
            norms = [] if name == "ema" else list(torch._foreach_norm(list(network.parameters())))
            if norms and not torch.stack(norms).isfinite().all():
                names.append(f"weights/{name}")
        return names

    def state_dict(self) -> dict[str, Any]:
        """Return plain containers and tensors: all that it takes to go on as if nothing had happened.

        No random state: every draw follows from the seed and a sample's position.
        """
        return {
            "step": self.step,
            "networks": {name: network.state_dict() for name, network in self._networks().items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers().items()},
            "scalers": {name: scaler.state_dict() for name, scaler in self.scalers.items()},
            "ema_updates": self.ema.updates,
            "caution": self.lr_backoff,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over a state_dict; RuntimeError, KeyError or ValueError where it is of another architecture."""
        networks, optimisers = self._networks(), self.optimisers()
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
        for name, scaler in self.scalers.items():
            scaler.load_state_dict(saved["scalers"][name])
        self.ema.updates = saved["ema_updates"]
        self.lr_backoff = saved["caution"]
        self.step = saved["step"]

    def _networks(self) -> dict[str, nn.Module]:
        networks = {"generator": self.generator, "discriminator": self.discriminator, "ema": self.ema.network}
        networks["projection"] = self.projection
        return {name: network for name, network in networks.items() if network is not None}

    def optimisers(self) -> dict[str, Optimizer]:
        """Return the optimisers by the name of their network."""
        optimisers = {"generator": self.generator_optimiser, "discriminator": self.discriminator_optimiser}
        return {name: optimiser for name, optimiser in optimisers.items() if optimiser is not None}


def _step(optimiser: Optimizer, skipped: Tensor) -> None:
    """Step, or leave weights and moments as they are: decided on the device where the optimiser can (fused ones)."""
    if not getattr(optimiser, "_step_supports_amp_scaling", False):
        if not skipped.item():  # other optimisers make the host wait here
            optimiser.step()
        return
    optimiser.found_inf = skipped.float()  # type: ignore[attr-defined]
    optimiser.grad_scale = None  # type: ignore[attr-defined]
    try:
        optimiser.step()
    finally:
        del optimiser.found_inf, optimiser.grad_scale  # type: ignore[attr-defined]
