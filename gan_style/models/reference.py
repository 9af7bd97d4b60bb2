"""Any style, from one picture of it: (N, 3, H, W) in [-1, 1] and a reference for each to the same shape and range."""

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.functional import channel_moments, gram_matrix
from gan_style.models.blocks import ConditionalInstanceNorm, pad_to_multiple
from gan_style.models.generator import ResidualCoder
from gan_style.models.library import LibraryGenerator
from gan_style.models.perceptual import compact
from gan_style.models.tone import LEVELS, apply_tone, contrast, light, plain_color, tone_curve

ENCODERS = ("statistics", "convolutions")
_CODE_SPREAD = 0.05  # standard deviation of what a code's numbers begin by adding to scales and shifts
_CHANNELS = {"relu1_1": 16, "relu2_1": 32, "relu3_1": 80, "relu4_1": 192}  # of compact
_GRAM_CHANNELS = 56  # of these at most make a Gram matrix
_FARTHEST = 5.0  # standard deviations beyond which a style is no stranger
_LARGEST_CODE = 6.0  # root mean square of a code's numbers, at most: beyond what paintings have, results burn out


class ConvolutionEncoder(nn.Module):
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
        """Encode (N, 3, h, w) in [-1, 1], of any size from 1, as (N, D)."""
        x, moments = references, [channel_moments(references)]
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
            moments.append(channel_moments(x))
        code: Tensor = self.head(torch.cat(moments, dim=1).flatten(1))
        return code.float()


class StatisticsEncoder(nn.Module):
    """A picture's style as a code of numbers, from the statistics that style losses look at.

    Gram matrices and moments of compact's features (Gatys et al. 2016; Huang and Belongie 2017), each number
    standardised by what it is over a set of styles (``calibrate``), then two linear layers. compact's channels are in
    the order of their energy, so that of the wide layers the first make the Gram matrix.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, code: int, hidden: int = 256) -> None:
        super().__init__()
        self.perceptual = compact(layers=list(_CHANNELS))
        grams = [min(channels, _GRAM_CHANNELS) for channels in _CHANNELS.values()]
        numbers = sum(side * (side + 1) // 2 for side in grams) + 2 * sum(_CHANNELS.values())
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("deviation", torch.ones(numbers))
        self.head = nn.Sequential(nn.Linear(numbers, hidden), nn.ReLU(), nn.Linear(hidden, code))

    def forward(self, references: Tensor) -> Tensor:
        """Encode (N, 3, h, w) in [-1, 1], of any size from 1, as (N, D)."""
        standardised = (self.statistics(references) - self.mean) / self.deviation
        code: Tensor = self.head(standardised.clamp(-_FARTHEST, _FARTHEST)).float()
        size = code.square().mean(dim=1, keepdim=True).sqrt()
        return code * (_LARGEST_CODE / size.clamp_min(_LARGEST_CODE))

    @torch.no_grad()
    def statistics(self, references: Tensor) -> Tensor:
        """Compute the numbers that codes are made of, (N, numbers); of Gram matrices the roots, which vary less."""
        numbers = []
        with torch.autocast(references.device.type, enabled=False):
            images = pad_to_multiple(references.float(), 1, minimum=8)  # compact halves sides three times
            for features in self.perceptual(images, list(_CHANNELS)).values():
                gram = gram_matrix(features[:, :_GRAM_CHANNELS])
                row, column = torch.triu_indices(*gram.shape[1:], device=gram.device)
                upper = gram[:, row, column]
                numbers += [upper.sign() * upper.abs().sqrt(), channel_moments(features).flatten(1)]
        return torch.cat(numbers, dim=1)

    @torch.no_grad()
    def calibrate(self, pictures: Iterable[Tensor]) -> None:
        """Measure each number's mean and standard deviation over pictures, each (1, 3, H, W) in [-1, 1]."""
        numbers = torch.cat([self.statistics(picture) for picture in pictures])
        self.mean.copy_(numbers.mean(dim=0))
        if len(numbers) > 1:
            self.deviation.copy_(numbers.std(dim=0).clamp_min(1e-3))


class ReferenceGenerator(ResidualCoder):
    """The generator of any style: every normalisation's scale and shift are linear in the reference's code.

    After Ghiasi et al. 2017, section 3. As a library (Dumoulin et al. 2017) whose rows are the code's D numbers, what
    all styles have in common, and the photo's own, so that codes mix and strengths lead from the photo to the style.
    width, blocks: as ever; code: D; side: the length, in pixels, to which the short side of references is to be scaled,
    about that at which crops were cut from paintings in training; encoder: "statistics" (StatisticsEncoder), or
    "convolutions" (ConvolutionEncoder).
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
        encoder: str = "statistics",
    ) -> None:
        if code < 1 or side < 1:
            raise ValueError(f"generator.code={code}, generator.side={side}: both from 1")
        if encoder not in ENCODERS:
            raise ValueError(f"generator.encoder={encoder}; allowed are {', '.join(ENCODERS)}")
        super().__init__(width, blocks, partial(ConditionalInstanceNorm, styles=code + 2), output, tones=0)
        self.arguments |= {"tone": tone, "code": code, "side": side, "encoder": encoder}
        self.side, self.tone = side, tone
        self.style_encoder = StatisticsEncoder(code) if encoder == "statistics" else ConvolutionEncoder(width, code)
        for norm in self.conditional_norms().values():
            for table in (norm.weight, norm.bias):
                nn.init.normal_(table[:code], std=_CODE_SPREAD)

    def forward(self, images: Tensor, references: Tensor, strength: Tensor | None = None) -> Tensor:
        """Paint photos in the style of references, (N, 3, h, w) in [-1, 1], of any size.

        strength: (N, 1), from 0, where the result equals the photo exactly, to 1; None: 1.
        """
        codes = self.style_encoder(references) if self.training else self.encode(references)  # training needs no curves
        return self.in_style(images, codes, strength)

    def encode(self, references: Tensor) -> Tensor:
        """Encode (N, 3, h, w) in [-1, 1], of any size, as codes, whose averages are mixtures of their styles.

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
        result = self.paint(images, torch.cat([strength * codes, strength, 1.0 - strength], dim=1))
        if not self.training:  # losses look at the network's own output
            if self.tone:
                mean, deviation = light(images)
                color = plain_color(curves.unflatten(1, (LEVELS, 3)), mean)
                result = apply_tone(result, color, contrast(deviation))
            result = result.clamp(-1.0, 1.0)
        return LibraryGenerator.blend_with_photo(images, result, strength[..., None, None])

    @torch.no_grad()
    def start_from(self, library: LibraryGenerator) -> None:
        """Take over what a library of the same width and blocks has learned.

        Its convolutions and the photo's own row; what all styles have in common begins as the mean of its styles, and
        the code's first numbers as the differences from it.
        """
        size, norms = self.arguments["code"], library.conditional_norms()
        tables = {f"{name}.{kind}" for name in norms for kind in ("weight", "bias")}
        weights = {name: weight for name, weight in library.state_dict().items() if name not in {*tables, "tones"}}
        self.load_state_dict(weights, strict=False)
        for name, norm in self.conditional_norms().items():
            for table, rows in ((norm.weight, norms[name].weight), (norm.bias, norms[name].bias)):
                styles, photo = rows[:-1], rows[-1]
                table[size], table[size + 1] = styles.mean(dim=0), photo
                differences = (styles - styles.mean(dim=0))[:size]
                table[: len(differences)] = differences

    @torch.no_grad()
    def library(self, codes: Mapping[str, Tensor]) -> LibraryGenerator:
        """Return the same network with these styles, {name: (1, D)}, alone: for all that can be done with a library.

        It shares the convolutions' weights.
        """
        size = self.arguments["code"]
        rows = torch.cat([torch.cat([code[:, :size], code.new_tensor([[1.0, 0.0]])], dim=1) for code in codes.values()])
        rows = torch.cat([rows, F.one_hot(torch.tensor([rows.shape[1] - 1]), rows.shape[1]).to(rows)])
        tables = {f"{name}.{kind}" for name in self.conditional_norms() for kind in ("weight", "bias")}
        weights = {
            name: rows @ weight if name in tables else weight
            for name, weight in self.state_dict().items()
            if not name.startswith("style_encoder.")
        }
        if self.tone:
            weights["tones"] = torch.cat([code[:, size:].unflatten(1, (LEVELS, 3)) for code in codes.values()])
        with torch.device("meta"):
            shape = {name: self.arguments[name] for name in ("width", "blocks", "output", "tone")}
            generator = LibraryGenerator(**shape, styles=list(codes))
        generator.load_state_dict(weights, assign=True)
        return generator.requires_grad_(False).eval()
