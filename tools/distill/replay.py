"""The replay buffer: pictures to learn from, each with the teacher's features, computed once and used often.

A crop and a result made of it (perturbed, or painted: on_policy.py) belong together, since a content loss looks at the
change between the two, and an optimiser follows that loss's gradient.
"""

import random
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_style.models.perceptual import Perceptual

CONTENT_LAYERS = ("relu3_2", "relu4_2")  # whose content loss has its gradient matched, where the layer is learned
Features = dict[str, Tensor]


@dataclass(frozen=True)
class Target:
    """The teacher, built with the layers to learn, and the projection of each on its leading directions.

    projections: 1x1 convolutions (kept, C, 1, 1); mean_squares: of the projected features, where the teacher's is 1;
    dtype: of the forward passes of teacher and student; features and losses are float32 in any case.
    """

    teacher: Perceptual
    projections: Features
    mean_squares: dict[str, float]
    dtype: torch.dtype = torch.float32

    @property
    def layers(self) -> list[str]:
        return self.teacher.layers

    @property
    def content_layers(self) -> list[str]:
        return [layer for layer in CONTENT_LAYERS if layer in self.layers]

    def autocast(self, device: str) -> AbstractContextManager[object]:
        return torch.autocast(torch.device(device).type, self.dtype, enabled=self.dtype != torch.float32)

    def project(self, features: Features) -> Features:
        return {layer: F.conv2d(features[layer], self.projections[layer]) for layer in self.layers}


@dataclass
class Batch:
    """N results followed by their N crops, (2N, 3, S, S), and what the student is to reproduce.

    features: projected, (2N, kept, h, w) by layer; changes: mean squares over all of the teacher's channels, (N, h, w)
    by layer; gradients: of the content loss at each content layer, (N, 3, S, S) with a root mean square of 1.
    """

    pictures: Tensor
    features: Features
    changes: Features
    gradients: Features


def content_gradients(change: Tensor, results: Tensor, differentiable: bool = False) -> Tensor:
    """Return the gradient of each result's content loss, the mean square of a change of features, to the result.

    change: (N, C, h, w), computed from results (N, 3, S, S), which require gradients; differentiable: keep the graph,
    for a loss on the gradients.
    """
    losses = change.square().mean((1, 2, 3))
    return torch.autograd.grad(losses.sum(), results, create_graph=differentiable, retain_graph=True)[0].float()


def subsample(features: Features) -> Features:
    """Keep every second position in each direction of the full-size layers, which saves memory."""
    return {layer: one[:, :, ::2, ::2] if layer.startswith("relu1") else one for layer, one in features.items()}


class ReplayBuffer:
    """Crops, results made of them, and the teacher's features of both, in float16 on the CPU."""

    def __init__(self, crops: Tensor, target: Target, device: str) -> None:
        self.target, self.device = target, device
        self.crops = crops.to(torch.float16)
        self.results, self.parents = self.crops[:0], torch.zeros(0, dtype=torch.long)
        self.newest = 0  # index of the first result of the last addition
        self.of_results, self.changes, self.gradients = _Columns(), _Columns(), _Columns()
        self.of_crops = _Columns()
        for chunk in self.crops.split(16):
            with torch.no_grad():
                self.of_crops.append(target.project(self._features(self._on_device(chunk))))
        self.of_crops.join()

    def add(self, results: list[Tensor], parents: list[int]) -> None:
        """Add results (3, S, S) made of the crops with these indices."""
        results = [result.to(torch.float16) for result in results]
        for start in range(0, len(results), 8):
            chunk = self._on_device(torch.stack(results[start : start + 8])).requires_grad_()
            of_results = self._features(chunk)
            with torch.no_grad():
                of_crops = self._features(self._on_device(self.crops[parents[start : start + 8]]))
            change = {layer: of_results[layer] - of_crops[layer] for layer in self.target.layers}
            gradients = {layer: content_gradients(change[layer], chunk) for layer in self.target.content_layers}
            self.gradients.append({layer: _normalised(gradient) for layer, gradient in gradients.items()})
            self.of_results.append(self.target.project({layer: one.detach() for layer, one in of_results.items()}))
            self.changes.append({layer: one.detach().square().mean(1) for layer, one in change.items()})
        for column in (self.of_results, self.changes, self.gradients):
            column.join()
        self.newest = len(self.results)
        self.results = torch.cat([self.results, torch.stack(results)])
        self.parents = torch.cat([self.parents, torch.tensor(parents)])

    def save(self, path: Path) -> None:
        """Write the pictures, without features: for another distillation."""
        torch.save({"crops": self.crops, "results": self.results, "parents": self.parents}, path)

    def sample(self, count: int, rng: random.Random) -> Batch:
        """Draw results with their crops; a third of the draws are from the last addition alone."""
        first = [self.newest if rng.random() < 1 / 3 else 0 for _ in range(count)]
        chosen = torch.tensor([rng.randrange(start, len(self.results)) for start in first])
        parents = self.parents[chosen]
        features = {
            layer: torch.cat([self.of_results[layer][chosen], self.of_crops[layer][parents]])
            for layer in self.target.layers
        }
        return Batch(
            pictures=self._on_device(torch.cat([self.results[chosen], self.crops[parents]])),
            features={layer: self._on_device(one) for layer, one in features.items()},
            changes={layer: self.changes[layer][chosen].to(self.device, torch.float32) for layer in self.target.layers},
            gradients={layer: self._on_device(self.gradients[layer][chosen]) for layer in self.target.content_layers},
        )

    def _features(self, pictures: Tensor) -> Features:
        with self.target.autocast(self.device):
            features = subsample(self.target.teacher(pictures, self.target.layers))
        return {layer: one.float() for layer, one in features.items()}

    def _on_device(self, pictures: Tensor) -> Tensor:
        return pictures.to(self.device, torch.float32).contiguous(memory_format=torch.channels_last)


def _normalised(gradients: Tensor) -> Tensor:
    return gradients / gradients.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-30)


@dataclass
class _Columns:
    """A float16 tensor for each layer, which grows by chunks; readable after ``join``."""

    tensors: Features = field(default_factory=dict)
    chunks: dict[str, list[Tensor]] = field(default_factory=dict)

    def append(self, features: Features) -> None:
        for layer, one in features.items():
            self.chunks.setdefault(layer, []).append(one.to("cpu", torch.float16))

    def join(self) -> None:
        for layer in list(self.chunks):
            self.tensors[layer] = torch.cat(
                [*([self.tensors[layer]] if layer in self.tensors else []), *self.chunks.pop(layer)]
            )

    def __getitem__(self, layer: str) -> Tensor:
        return self.tensors[layer]
