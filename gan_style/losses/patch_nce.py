"""PatchNCE: a place of the result is to be told from others by what the photo shows at the same place."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.functional import RandomGenerators
from gan_style.losses.term import AuxiliaryPass, Features, LossInputs, RandomFor, Term
from gan_style.models.generator import ResnetGenerator


def patch_nce_loss(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Cross entropy of finding each query's own key among the P keys of its picture: Park et al. 2020 (CUT), eq. 3, 4.

    queries, keys: (N, P, C), of unit length along C; of query s, key s is the positive and all others are negatives:
    l = -log(exp(q_s k_s / t) / sum_p exp(q_s k_p / t)). Returns the mean over queries, where theirs is a sum.
    """
    with torch.autocast(queries.device.type, enabled=False):
        similarity = torch.bmm(queries.float(), keys.float().transpose(1, 2)) / temperature
    positives = torch.arange(similarity.shape[1], device=similarity.device).repeat(len(similarity))
    return F.cross_entropy(similarity.flatten(0, 1), positives)


class PatchProjection(nn.ModuleDict):
    """Apply to each layer the two-layer network H_l of Park et al. 2020: (N, P, C_l) to unit length (N, P, D)."""

    def __init__(self, channels: dict[str, int], width: int) -> None:
        super().__init__()
        for layer, incoming in channels.items():
            self[layer.replace(".", "_")] = nn.Sequential(
                nn.Linear(incoming, width), nn.ReLU(), nn.Linear(width, width)
            )

    def forward(self, samples: Features) -> Features:
        return {layer: F.normalize(self[layer.replace(".", "_")](x).float(), dim=2) for layer, x in samples.items()}


@dataclass(kw_only=True)
class PatchNCE(Term):
    """The result keeps the photo's content, place by place, in the generator's own encoder (Park et al. 2020, CUT).

    layers: of the generator: image, encoder.N, blocks.N; patches: places drawn of each layer; temperature: of the
    softmax; width: of the projections; identity: the weight of the same loss of G(y) and y, beside 1 for G(x) and x, so
    that L = PatchNCE(x) + identity PatchNCE(y) (their equation 5; 0 as in FastCUT: no pass over the style pictures).
    """

    layers: Sequence[str]
    patches: int = 256
    temperature: float = 0.07
    width: int = 256
    identity: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.layers, str) or not self.layers:
            raise ValueError(
                f"PatchNCE takes a list of layers, such as [image, encoder.1, blocks.0], got {self.layers}"
            )
        if self.patches < 2 or self.width < 1:
            raise ValueError(f"PatchNCE takes patches from 2 and width from 1, got {self.patches} and {self.width}")
        if not self.temperature > 0 or not self.identity >= 0:
            raise ValueError(
                f"PatchNCE takes a temperature above 0 and identity from 0, got {self.temperature} and {self.identity}"
            )

    @property
    def auxiliary(self) -> str | None:
        return "rebuilt" if self.identity else None

    def auxiliary_pass(self, content: Tensor, style: Tensor, random_for: RandomFor) -> AuxiliaryPass:
        return AuxiliaryPass(style)

    def projection(self, generator: nn.Module) -> PatchProjection:
        if not isinstance(generator, ResnetGenerator):
            raise ValueError("PatchNCE needs a generator of one style: generator=resnet or generator=slim")
        with torch.no_grad():
            features = generator.features(torch.zeros(1, 3, 32, 32), self.layers)
        return PatchProjection({layer: value.shape[1] for layer, value in features.items()}, self.width)

    def __call__(self, inputs: LossInputs) -> Tensor:
        loss = self._compare(inputs, inputs.fake, inputs.content, "patches")
        if self.identity:
            rebuilt = inputs.auxiliary["rebuilt"].images
            loss = loss + self.identity * self._compare(inputs, rebuilt, inputs.style, "patches of style")
        return loss

    def _compare(self, inputs: LossInputs, fake: Tensor, original: Tensor, role: str) -> Tensor:
        """Compute the loss of what the generator made of pictures, at places drawn for each layer and sample."""
        generator, projection, random_for = inputs.generator, inputs.projection, inputs.random_for
        assert isinstance(generator, ResnetGenerator) and projection is not None and random_for is not None
        features = generator.features(fake, self.layers)
        with torch.no_grad():
            targets = generator.features(original, self.layers)

        # The same places of both; their projections in one pass.
        random, samples = random_for(role), {}
        for layer in self.layers:
            places = random_places(features[layer], random, self.patches)
            samples[layer] = torch.cat([take(features[layer], places), take(targets[layer], places)])
        losses = []
        for projected in projection(samples).values():
            queries, keys = projected.chunk(2)
            losses.append(patch_nce_loss(queries, keys.detach(), self.temperature))
        return torch.stack(losses).mean()


def random_places(features: Tensor, random: RandomGenerators, count: int) -> Tensor:
    """Draw up to ``count`` different places of each sample's features (N, C, h, w): their numbers (N, P)."""
    positions = features.shape[2] * features.shape[3]
    drawn = [torch.randperm(positions, generator=generator)[:count] for generator in random]
    return torch.stack(drawn).to(features.device, non_blocking=True)


def take(features: Tensor, places: Tensor) -> Tensor:
    """Take the features (N, C, h, w) at each sample's places (N, P): (N, P, C)."""
    rows = features.flatten(2).transpose(1, 2)
    return rows.gather(1, places[..., None].expand(-1, -1, rows.shape[2]))
