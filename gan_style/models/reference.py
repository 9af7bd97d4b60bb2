"""Any style, from one picture of it: (N, 3, H, W) in [-1, 1] and a reference for each to the same shape and range."""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.functional import channel_moments
from gan_style.models.blocks import ConditionalInstanceNorm
from gan_style.models.generator import ResidualCoder
from gan_style.models.library import LibraryGenerator
from gan_style.models.tone import LEVELS, apply_tone, contrast, light, plain_color, tone_curve

_CODE_SPREAD = 0.05  # standard deviation of what a code's numbers begin by adding to scales and shifts


class StyleEncoder(nn.Module):
    """A picture's style as a code of numbers: how much there is of what, and neither where, nor how often.

    Each channel's mean and standard deviation (the statistics of AdaIN, Huang and Belongie 2017), here of the picture's
    own colours and of convolutions that are trained along with the generator (Ghiasi et al. 2017, "Exploring the
    structure of a real-time, arbitrary neural artistic stylization network", whose encoder is an Inception network that
    has been trained before). Pictures go on at their edges where they began: so one and its tiling have one code.
    """

    def __init__(self, width: int, code: int) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 4 * width, 4 * width]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(incoming, outgoing, 3, 2, 1, padding_mode="circular") for incoming, outgoing in pairwise(widths)
        )
        self.head = nn.Sequential(nn.Linear(2 * sum(widths), 2 * code), nn.ReLU(), nn.Linear(2 * code, code))
        for layer in (*self.convolutions, self.head[0], self.head[2]):
            assert isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # with torch's own, codes hardly differ at first
            nn.init.zeros_(layer.bias)

    def forward(self, references: Tensor) -> Tensor:
        """(N, 3, h, w) in [-1, 1], of any size from 1, to (N, D)."""
        x, found = references, [channel_moments(references)]
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
            found.append(channel_moments(x))
        code: Tensor = self.head(torch.cat(found, dim=1).flatten(1))
        return code.float()


class ReferenceGenerator(ResidualCoder):
    """The generator of any style: every normalisation's scale and shift are linear in the reference's code.

    After Ghiasi et al. 2017, section 3. As a library (Dumoulin et al. 2017) whose rows are the code's D numbers, what
    all styles have in common, and the photo's own, so that codes mix and strengths lead from the photo to the style.
    width, blocks: as ever; code: D; side: the length, in pixels, to which the short side of references is to be scaled,
    about that at which crops were cut from paintings in training.
    """

    def __init__(
        self,
        *,
        width: int = 32,
        blocks: int = 5,
        output: str = "linear",
        tone: bool = True,
        code: int = 64,
        side: int = 256,
    ) -> None:
        if code < 1 or side < 1:
            raise ValueError(f"generator.code={code}, generator.side={side}: both from 1")
        super().__init__(width, blocks, partial(ConditionalInstanceNorm, styles=code + 2), output, tones=0)
        self.arguments |= {"tone": tone, "code": code, "side": side}
        self.side, self.tone = side, tone
        self.style_encoder = StyleEncoder(width, code)
        for norm in self._norms().values():
            for table in (norm.weight, norm.bias):
                nn.init.normal_(table[:code], std=_CODE_SPREAD)

    def forward(self, images: Tensor, references: Tensor, strength: Tensor | None = None) -> Tensor:
        """references: (N, 3, h, w) in [-1, 1], of any size; strength: (N, 1), from 0, where the result equals the photo
        exactly, to 1; None: 1.
        """
        codes = self.style_encoder(references) if self.training else self.encode(references)  # training needs no curves
        return self.in_style(images, codes, strength)

    def encode(self, references: Tensor) -> Tensor:
        """(N, 3, h, w) in [-1, 1], of any size, to codes, whose averages are mixtures of their styles.

        (N, D), and, with a tone stage, each reference's tone curve behind it: (N, D + 3 LEVELS).
        """
        codes: Tensor = self.style_encoder(references)
        if not self.tone:
            return codes
        curves = torch.stack([tone_curve([reference[None]]).flatten() for reference in references])
        return torch.cat([codes, curves.to(codes)], dim=1)

    def in_style(self, images: Tensor, codes: Tensor, strength: Tensor | None = None) -> Tensor:
        """Run the network for references that have been encoded, or for mixtures of them."""
        codes, curves = codes.split([self.arguments["code"], codes.shape[1] - self.arguments["code"]], dim=1)
        strength = codes.new_ones(len(codes), 1) if strength is None else strength.to(codes)
        made = self.paint(images, torch.cat([strength * codes, strength, 1.0 - strength], dim=1))
        if not self.training:  # losses look at the network's own output
            if self.tone:
                mean, deviation = light(images)
                color = plain_color(curves.unflatten(1, (LEVELS, 3)), mean)
                made = apply_tone(made, color, contrast(deviation))
            made = made.clamp(-1.0, 1.0)
        return LibraryGenerator.faded(images, made, strength[..., None, None])

    @torch.no_grad()
    def library(self, codes: Mapping[str, Tensor]) -> LibraryGenerator:
        """The same network with these styles, {name: (1, D)}, alone: for all that can be done with a library.

        It shares the convolutions' weights.
        """
        size = self.arguments["code"]
        rows = torch.cat([torch.cat([code[:, :size], code.new_tensor([[1.0, 0.0]])], dim=1) for code in codes.values()])
        rows = torch.cat([rows, F.one_hot(torch.tensor([rows.shape[1] - 1]), rows.shape[1]).to(rows)])
        tables = {f"{name}.{kind}" for name in self._norms() for kind in ("weight", "bias")}
        weights = {
            name: rows @ weight if name in tables else weight
            for name, weight in self.state_dict().items()
            if not name.startswith("style_encoder.")
        }
        if self.tone:
            weights["tones"] = torch.cat([code[:, size:].unflatten(1, (LEVELS, 3)) for code in codes.values()])
        with torch.device("meta"):
            shape = {name: self.arguments[name] for name in ("width", "blocks", "output", "tone")}
            made = LibraryGenerator(**shape, styles=list(codes))
        made.load_state_dict(weights, assign=True)
        return made.requires_grad_(False).eval()

    def _norms(self) -> dict[str, ConditionalInstanceNorm]:
        return {name: one for name, one in self.named_modules() if isinstance(one, ConditionalInstanceNorm)}
