"""A plain training step, as published style transfer trainers write it: what bench_train.py compares with.

Everything is NCHW and float32. The generator runs once for each half of the step; real and fake pictures go through the
discriminator one after the other; the photo, the fake and the style pictures all go through the perceptual network to
its deepest layer, the style pictures in every step; plain Adam, an EMA in a loop over parameters, ``.item()`` for every
number that is logged. So do pytorch/examples (fast_neural_style), AnimeGANv2 and pix2pix, each most of it. Weights,
data, loss terms and their weights are those of our step, so the losses have to be ours.
"""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.data.stream import Batch
from gan_style.losses.objective import Objective
from gan_style.models.perceptual import Vgg
from gan_style.training.state import TrainState

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _layer(incoming: int, outgoing: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.ReflectionPad2d(kernel // 2),
        nn.Conv2d(incoming, outgoing, kernel, stride, bias=False),
        nn.InstanceNorm2d(outgoing, affine=True),
    ]


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_layer(channels, channels, 3), nn.ReLU(), *_layer(channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def plain_generator(width: int, blocks: int) -> nn.Module:
    """Johnson et al. 2016 with resize-convolutions, of stock modules; the output is linear, as ours."""
    return nn.Sequential(
        *(*_layer(3, width, 9), nn.ReLU()),
        *(*_layer(width, 2 * width, 3, 2), nn.ReLU()),
        *(*_layer(2 * width, 4 * width, 3, 2), nn.ReLU()),
        *(_Residual(4 * width) for _ in range(blocks)),
        *(nn.Upsample(scale_factor=2), *_layer(4 * width, 2 * width, 3), nn.ReLU()),
        *(nn.Upsample(scale_factor=2), *_layer(2 * width, width, 3), nn.ReLU()),
        *(nn.ReflectionPad2d(4), nn.Conv2d(width, 3, 9)),
    )


def copied(generator: nn.Module) -> nn.Module:
    """The plain generator with the weights of one of ours (a ResnetGenerator)."""
    arguments = generator.arguments
    assert isinstance(arguments, dict)
    plain = plain_generator(arguments["width"], arguments["blocks"]).to(next(generator.parameters()).device)
    with torch.no_grad():
        for theirs, ours in zip(plain.parameters(), generator.parameters(), strict=True):
            theirs.copy_(ours)
    return plain


class PlainFeatures(nn.Module):
    """VGG's layers up to the deepest that is asked for, all of which are kept; scales as ours has them."""

    def __init__(self, network: Vgg) -> None:
        super().__init__()
        if network.architecture.heads:
            raise ValueError("--perceptual compact has no published counterpart; the reference takes VGG's layers")
        self.scales = dict(network.scales)
        self.steps = nn.ModuleList()
        self.names = [name for name, _, _ in network.architecture.convolutions()][: len(network.features)]
        for convolution in network.features.values():
            self.steps.append(copy.deepcopy(convolution).to(memory_format=torch.contiguous_format))  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        mean, std = (torch.tensor(one, device=images.device).view(1, 3, 1, 1) for one in (_MEAN, _STD))
        x, found = ((images + 1) / 2 - mean) / std, {}
        for name, convolution in zip(self.names, self.steps, strict=True):
            if name.endswith("_1") and name != "1_1":
                x = F.max_pool2d(x, 2)
            x = F.relu(convolution(x))
            if f"relu{name}" in self.scales:
                found[f"relu{name}"] = x / self.scales[f"relu{name}"]
        return found


def gram(features: Tensor) -> Tensor:
    """As in pytorch/examples: a view, a transpose, bmm; divided by positions, since ours is."""
    count, channels, height, width = features.shape
    flat = features.view(count, channels, height * width)
    return flat.bmm(flat.transpose(1, 2)) / (height * width)


class Reference:
    """The plain step on copies of our weights; ``step`` returns the losses by our names, as numbers."""

    def __init__(self, state: TrainState, objective: Objective) -> None:
        assert state.discriminator is not None and objective.adversarial is not None
        self.generator = copied(state.generator)
        self.ema = copy.deepcopy(self.generator)
        self.discriminator = copy.deepcopy(state.discriminator).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        assert isinstance(objective.perceptual, Vgg)
        self.features = PlainFeatures(objective.perceptual)
        self.objective = objective  # for its settings: layers and weights
        self.decay, self.clip, self.updates = state.ema.decay, state.clip, 0
        rates = {name: one.param_groups[0] for name, one in state.optimisers().items()}
        self.optimisers = {
            name: torch.optim.Adam(network.parameters(), lr=rates[name]["lr"], betas=rates[name]["betas"])
            for name, network in (("generator", self.generator), ("discriminator", self.discriminator))
        }
        self.seen: dict[str, Tensor] = {}

    def step(self, batch: Batch) -> dict[str, float]:
        """D, then G."""
        losses: dict[str, float] = {}
        for part in self.parts(batch).values():
            losses |= part() or {}
        return losses

    def parts(self, batch: Batch) -> Mapping[str, Callable[[], dict[str, float] | None]]:
        """The step cut into parts, to be called in this order."""
        return {
            "generator forward, for D": lambda: self._generate_for_d(batch),
            "discriminator": self._discriminator_half,
            "generator forward": self._generate,
            "discriminator, asked by G": self._ask,
            "style targets": self._set_targets,
            "perceptual forward": self._look,
            "losses, perceptual backward": self._judge,
            "generator backward": self._generator_backward,
            "optimisers": self._update,
            "EMA": self._average,
        }

    def _generate_for_d(self, batch: Batch) -> None:
        self.seen = {"content": batch.content.float() / 127.5 - 1, "style": batch.style.float() / 127.5 - 1}
        with torch.no_grad():  # and once more in its own half
            self.seen["old fake"] = self.generator(self.seen["content"])

    def _discriminator_half(self) -> dict[str, float]:
        self.discriminator.requires_grad_(True).train()
        self.optimisers["discriminator"].zero_grad()
        on_real = self.discriminator(self.seen["style"])[0]
        self.discriminator.eval()  # its spectral norm moves once a step, as ours
        on_fake = self.discriminator(self.seen["old fake"])[0]
        loss = F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()
        loss.backward()
        self._step("discriminator", self.discriminator)
        return {"discriminator/loss": loss.item()}

    def _generate(self) -> None:
        self.seen["fake"] = self.generator(self.seen["content"])
        self.seen["leaf"] = self.seen["fake"].detach().requires_grad_()

    def _ask(self) -> dict[str, float]:
        self.discriminator.requires_grad_(False)
        loss = -self.discriminator(self.seen["leaf"])[0].mean()
        (self.objective.weights["adversarial"] * loss).backward()
        return {"loss/adversarial": loss.item()}

    @torch.no_grad()
    def _set_targets(self) -> None:
        of_style = self.features(self.seen["style"])
        self.targets = {name: gram(one).mean(0, keepdim=True) for name, one in of_style.items()}

    def _look(self) -> None:
        self.of_fake = self.features(self.seen["leaf"])
        with torch.no_grad():
            self.of_content = self.features(self.seen["content"])

    def _judge(self) -> dict[str, float]:
        terms, leaf, losses = self.objective.terms, self.seen["leaf"], {}
        losses["content"] = _mean(
            F.mse_loss(self.of_fake[n], self.of_content[n])
            for n in terms["content"].layers  # type: ignore[attr-defined]
        )
        style = terms["style"]
        losses["style"] = _mean(
            (gram(self.of_fake[n]) - self.targets[n]).pow(2).mean()
            / (self.targets[n].pow(2).mean() if style.relative else 1.0)  # type: ignore[attr-defined]
            for n in style.layers  # type: ignore[attr-defined]
        )
        down, right = leaf[:, :, 1:] - leaf[:, :, :-1], leaf[:, :, :, 1:] - leaf[:, :, :, :-1]
        losses["tv"] = down.pow(2).mean() + right.pow(2).mean()
        sum(self.objective.weights[name] * loss for name, loss in losses.items()).backward()  # type: ignore[union-attr]
        return {f"loss/{name}": loss.item() for name, loss in losses.items()}

    def _generator_backward(self) -> None:
        self.optimisers["generator"].zero_grad()
        self.seen["fake"].backward(self.seen["leaf"].grad)

    def _update(self) -> None:
        self._step("generator", self.generator)

    def _step(self, name: str, network: nn.Module) -> None:
        if self.clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), self.clip, foreach=False)
        self.optimisers[name].step()

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for mine, theirs in zip(self.ema.parameters(), self.generator.parameters(), strict=True):
            mine.mul_(decay).add_(theirs, alpha=1 - decay)


def _mean(losses: "object") -> Tensor:
    return torch.stack(list(losses)).mean()  # type: ignore[call-overload]
