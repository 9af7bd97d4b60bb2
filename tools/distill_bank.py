"""The pictures that compact learns from, each with what VGG-19 makes of it: computed beforehand, learned from often.

A crop and what became of it (disturbed, or on the way to a style: distill_pursuits.py) belong together, since a content
loss looks at the change between the two; and which way it pushes the result is what an optimiser follows.
"""

import random
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from distill_pursuits import LAYERS, Features
from torch import Tensor
from torch.nn import functional as F

from gan_style.models.perceptual import Perceptual

CONTENT_LAYER = "relu3_2"  # whose content loss the gradients are of: the one that every loss here takes by default


@dataclass(frozen=True)
class Goal:
    """The teacher, its leading directions as 1x1 convolutions (kept, C, 1, 1), and what these leave.

    sizes: the mean square of the student's features that the projection leaves, where the teacher's is 1; dtype: what
    the passes of teacher and student are computed in, features and losses being float32 in any case.
    """

    teacher: Perceptual
    project: Features
    sizes: dict[str, float]
    dtype: torch.dtype = torch.float32

    def passes(self, device: str) -> AbstractContextManager[object]:
        return torch.autocast(torch.device(device).type, self.dtype, enabled=self.dtype != torch.float32)

    def projected(self, features: Features) -> Features:
        return {layer: F.conv2d(features[layer], self.project[layer]) for layer in LAYERS}


@dataclass
class Lesson:
    """Results and then their crops (2N, 3, S, S); the features wanted of all; how much the teacher's change, and how
    its content loss does.

    wanted: (2N, kept, h, w) by layer; changes: (N, h, w) by layer, the mean square over all of its channels; gradients:
    (N, 3, S, S), of a root mean square of 1.
    """

    pictures: Tensor
    wanted: Features
    changes: Features
    gradients: Tensor


def content_gradients(change: Tensor, results: Tensor, keep_graph: bool = False) -> Tensor:
    """Of each result's content loss, the mean square of a change of features (N, C, h, w), to the result: (N, 3, S, S).

    results: what the change was computed from, requiring gradients; keep_graph: for a loss on the gradients, whose own
    gradient to the network's weights is wanted.
    """
    losses = change.square().mean((1, 2, 3))
    return torch.autograd.grad(losses.sum(), results, create_graph=keep_graph)[0].float()


def seen(features: Features) -> Features:
    """What is compared: of the full-size layers every second position in each direction, which saves memory."""
    return {layer: one[:, :, ::2, ::2] if layer.startswith("relu1") else one for layer, one in features.items()}


class Parts:
    """Features of one batch after the other, kept in float16, and joined layer by layer."""

    def __init__(self, before: Features | None = None) -> None:
        self._parts = {layer: [one] for layer, one in (before or {}).items()}

    def add(self, features: Features) -> None:
        for layer, one in features.items():
            self._parts.setdefault(layer, []).append(one.to("cpu", torch.float16))

    def joined(self) -> Features:
        return {layer: torch.cat(self._parts.pop(layer)) for layer in list(self._parts)}


class Bank:
    """Crops, results made of them, and what the teacher says of them: 0.9 MB for each picture of 96 pixels."""

    def __init__(self, crops: Tensor, goal: Goal, device: str) -> None:
        self.goal, self.device = goal, device
        self.crops = crops.to(torch.float16)
        self.results, self.parents = self.crops[:0], torch.zeros(0, dtype=torch.long)
        self.newest = 0  # the first result of those added last
        of_crops = Parts()
        for chunk in self.crops.split(16):
            of_crops.add(goal.projected(self._features(self._given(chunk))))
        self.of_crops = of_crops.joined()
        self.of_results: Features = {}
        self.changes: Features = {}
        self.gradients = self.results

    def add(self, results: list[Tensor], parents: list[int]) -> None:
        """Results (3, S, S), of the crops of these numbers."""
        results = [one.to(torch.float16) for one in results]
        projected, changes, gradients = Parts(self.of_results), Parts(self.changes), [self.gradients]
        for start in range(0, len(results), 8):
            chunk, crops = torch.stack(results[start : start + 8]), self.crops[parents[start : start + 8]]
            chunk = self._given(chunk).requires_grad_()
            made, kept = self._features(chunk), self._features(self._given(crops))
            change = {layer: made[layer] - kept[layer] for layer in LAYERS}
            pushed = content_gradients(change[CONTENT_LAYER], chunk)
            sizes = pushed.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-30)
            projected.add(self.goal.projected({layer: one.detach() for layer, one in made.items()}))
            changes.add({layer: one.detach().square().mean(1) for layer, one in change.items()})
            gradients.append((pushed / sizes).to("cpu", torch.float16))
        self.gradients = torch.cat(gradients)
        self.of_results, self.changes = projected.joined(), changes.joined()
        self.newest = len(self.results)
        self.results = torch.cat([self.results, torch.stack(results)])
        self.parents = torch.cat([self.parents, torch.tensor(parents)])

    def save(self, path: Path) -> None:
        """The pictures, without features: for another distillation."""
        torch.save({"crops": self.crops, "results": self.results, "parents": self.parents}, path)

    def lesson(self, count: int, rng: random.Random) -> Lesson:
        """Some results by chance, with their crops; a third of those added last, which say the most of the student."""
        first = [self.newest if rng.random() < 1 / 3 else 0 for _ in range(count)]
        chosen = torch.tensor([rng.randrange(start, len(self.results)) for start in first])
        parents = self.parents[chosen]
        wanted = {k: torch.cat([self.of_results[k][chosen], self.of_crops[k][parents]]) for k in LAYERS}
        return Lesson(
            pictures=self._given(torch.cat([self.results[chosen], self.crops[parents]])),
            wanted={layer: self._given(one) for layer, one in wanted.items()},
            changes={layer: self.changes[layer][chosen].to(self.device, torch.float32) for layer in LAYERS},
            gradients=self._given(self.gradients[chosen]),
        )

    def _features(self, pictures: Tensor) -> Features:
        with self.goal.passes(self.device):
            features = seen(self.goal.teacher(pictures, LAYERS))
        return {layer: one.float() for layer, one in features.items()}

    def _given(self, kept: Tensor) -> Tensor:
        return kept.to(self.device, torch.float32).contiguous(memory_format=torch.channels_last)
