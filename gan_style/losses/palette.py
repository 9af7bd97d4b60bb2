"""The palette term: colours that the style does not have cost, by how far they are from those that it has."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_style.losses.style import EACH, MEAN, StyleTerm
from gan_style.losses.term import LossInputs

PIXELS = "pixels"  # the feature that is the picture itself
LEVELS = 33  # of each channel, 8 of 255 apart


def color_shares(images: Tensor) -> Tensor:
    """Compute which share of the pixels has which colour: (N, 3, H, W) in [-1, 1] to (N, L, L, L), by R, G and B.

    Colours are rounded to L = LEVELS levels of each channel.
    """
    levels = ((images.float().clamp(-1.0, 1.0) * 0.5 + 0.5) * (LEVELS - 1)).round().long()
    cells = (levels[:, 0] * LEVELS + levels[:, 1]) * LEVELS + levels[:, 2]
    shares = [torch.bincount(of_picture.flatten(), minlength=LEVELS**3) for of_picture in cells]
    return torch.stack(shares).view(-1, LEVELS, LEVELS, LEVELS) / cells[0].numel()


def distance_to_colors(present: Tensor) -> Tensor:
    """Compute how far each colour is from the nearest that is present: (N, L, L, L) bool to float, in units of [-1, 1].

    The exact Euclidean distance, channel after channel (Felzenszwalb and Huttenlocher 2012, equation 3).
    """
    levels = torch.linspace(-1.0, 1.0, LEVELS, device=present.device)
    squares = (levels[:, None] - levels).square()
    distance = torch.where(present, 0.0, 100.0)
    for channel in (1, 2, 3):
        lines = distance.movedim(channel, -1)
        distance = (lines[..., None, :] + squares).amin(dim=-1).movedim(-1, channel)
    return distance.sqrt()


@dataclass(kw_only=True)
class Palette(StyleTerm):
    """The result's colours are the style's: those farther than ``margin`` from all of them cost what is beyond it.

    For each pixel of the result, averaged over 3 x 3, the distance to the nearest colour of the style, less ``margin``
    (both in units of [-1, 1]); the mean over pixels. Gram matrices hardly see a small spot of a strong colour of the
    photo's, which this term does; how much there is of each of the style's colours is left alone (histogram losses,
    Risser et al. 2017, ask for the style's whole distribution). Samples between styles, or between photo and style,
    have no part in it: their colours are neither's.
    """

    margin: float = 0.15
    _costs: tuple[Tensor, Tensor] | None = field(default=None, init=False, repr=False)  # of a target that stays

    statistic = staticmethod(color_shares)

    @property
    def style_features(self) -> list[str]:
        return [PIXELS]

    def __call__(self, inputs: LossInputs) -> Tensor:
        # Take each sample's style; a sample that has not one style alone has no weight.
        fake, target = inputs.fake, inputs.style_targets[self.key(PIXELS)]
        weights = torch.ones(len(fake), device=fake.device)
        costs = self.costs(target[inputs.style_index] if self.target == EACH else target)
        if inputs.condition is not None:
            strength, style = inputs.condition.float().max(dim=1)
            weights = (strength > 0.999).float()
            costs = costs[style] if self.target == MEAN else costs

        # Look each pixel's cost up in the cube of colours, between its nodes linearly.
        with torch.autocast(fake.device.type, enabled=False):
            colors = F.avg_pool2d(fake.float(), 3, stride=1).clamp(-1.0, 1.0)
            places = colors.flip(1).permute(0, 2, 3, 1)[:, None]  # grid_sample's x is the last dimension, B
            cubes = costs[:, None].expand(len(fake), -1, -1, -1, -1)
            losses = F.grid_sample(cubes, places, align_corners=True, padding_mode="border").mean(dim=(1, 2, 3, 4))
            return (losses * weights).mean()

    def costs(self, target: Tensor) -> Tensor:
        """Compute what each colour costs, (N, L, L, L), by the shares that colours have of the style: once for each."""
        if self._costs is None or self._costs[0] is not target:
            self._costs = target, (distance_to_colors(target > 0) - self.margin).clamp_min(0.0)
        return self._costs[1]
