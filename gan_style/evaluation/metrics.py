"""Metrics: of a result beside its content picture, one number for each pair, and of one set of pictures beside another.

Pictures are RGB, (N, 3, H, W) float in [-1, 1]; sets are compared on embeddings, vectors (n, D), one for each picture.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_style.functional import channel_moments, rgb_to_lab, rgb_to_yuv
from gan_style.losses.term import Features

_BAND_PIXELS = 4_000_000
MIN_SIZE = 11  # pixels a side, the window of SSIM


def ssim(result: Tensor, content: Tensor) -> Tensor:
    """Compute the structural similarity of luma, (N,), at most 1: Wang et al. 2004, equation 13.

    Their Gaussian window (11 pixels, sigma 1.5), K1 = 0.01, K2 = 0.03; the mean over windows that lie inside.
    """
    x, y = _lumas(result, content)
    window = _gaussian(x)
    mean_x, mean_y = _filter(x, window), _filter(y, window)
    var_x, var_y = (_filter(a * a, window) - m * m for a, m in ((x, mean_x), (y, mean_y)))
    covariance = _filter(x * y, window) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    above = (2.0 * mean_x * mean_y + c1) * (2.0 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return (above / below).mean(dim=(1, 2, 3))


def structure(result: Tensor, content: Tensor) -> Tensor:
    """Measure how far edges agree, (N,), at most 1: gradient magnitude similarity, Xue et al. 2014, equations 4 and 5.

    Of luma averaged over 2 x 2 pixels, Prewitt gradients, c = 0.0026 for luma in [0, 1]. Large pictures are measured in
    bands of rows, in little memory.
    """
    _check_sizes(result, content)
    rows, columns = (side // 2 - 2 for side in result.shape[-2:])  # of gradients
    step = max(1, _BAND_PIXELS // (4 * columns))
    bands = [slice(2 * row, 2 * (min(row + step, rows) + 2)) for row in range(0, rows, step)]
    similarities = (_gradient_similarity(result[..., band, :], content[..., band, :]) for band in bands)
    if len(bands) == 1:
        return next(similarities).mean(dim=(1, 2, 3))
    sums = torch.stack([similarity.double().sum(dim=(1, 2, 3)) for similarity in similarities])
    return (sums.sum(dim=0) / (rows * columns)).float()


def colour_drift(result: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
    """Measure how far colours move, in units of L*a*b*: (of their mean, of their spread), (N,) each.

    The distances of the two pictures' mean colours (CIE 1976 colour difference) and of their standard deviations, the
    statistics that Reinhard et al. 2001 transfer.
    """
    (mean_m, std_m), (mean_c, std_c) = (_lab_moments(x) for x in (result, content))
    return (mean_m - mean_c).norm(dim=1), (std_m - std_c).norm(dim=1)


def _gradient_similarity(result: Tensor, content: Tensor) -> Tensor:
    first, second = (_gradient_magnitude(F.avg_pool2d(rgb_to_yuv(x)[:, :1], 2)) for x in (result, content))
    c = 0.0026
    return (2.0 * first * second + c) / (first**2 + second**2 + c)


def _lumas(result: Tensor, content: Tensor) -> list[Tensor]:
    _check_sizes(result, content)
    return [rgb_to_yuv(x)[:, :1] for x in (result, content)]


def _check_sizes(result: Tensor, content: Tensor) -> None:
    if result.shape != content.shape:
        raise ValueError(f"a result of {_size(result)} pixels cannot be compared with content of {_size(content)}")
    if min(result.shape[-2:]) < MIN_SIZE:
        raise ValueError(f"a picture of {_size(result)} pixels is too small; allowed are {MIN_SIZE} a side and more")


def _size(images: Tensor) -> str:
    return f"{images.shape[-1]} x {images.shape[-2]}"


def _gaussian(like: Tensor) -> Tensor:
    offsets = torch.arange(-5.0, 6.0, dtype=like.dtype, device=like.device)
    window = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    return window / window.sum()


def _filter(x: Tensor, window: Tensor) -> Tensor:
    return F.conv2d(F.conv2d(x, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))


def _gradient_magnitude(luma: Tensor) -> Tensor:
    prewitt = torch.tensor([[1.0, 0.0, -1.0]] * 3, device=luma.device) / 3.0
    gradients = F.conv2d(luma, torch.stack([prewitt, prewitt.T])[:, None])
    return gradients.square().sum(dim=1, keepdim=True).sqrt()


def _lab_moments(images: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(rgb_to_lab(images), dim=(2, 3), correction=0)
    return mean, variance.sqrt()


FEWEST_FOR_DECEPTION = 8  # of photos and of style pictures, to learn from
FEWEST_FOR_KID = 3  # of each set: two for the unbiased estimate, one more for its standard error

NORMAL_95 = 1.959963984540054  # the 97.5 % point of the normal distribution


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error (None where it has none), measured on ``n`` pictures."""

    value: float
    error: float | None
    n: int


def embedding(features: Features) -> Tensor:
    """Return a picture's place in the perceptual network's feature space: each channel's mean and standard deviation.

    features: {layer: (N, C, H, W)}; returns (N, 2 C summed over layers), float32. The moments that make up a style in
    Huang and Belongie 2017 (AdaIN), where Inception's embedding has means alone.
    """
    return torch.cat([channel_moments(maps).flatten(1) for maps in features.values()], dim=1)


def kernel_distance(x: Tensor, y: Tensor) -> Estimate:
    """Compute KID (Binkowski et al. 2018, eq. 4): unbiased squared maximum mean discrepancy, kernel (x.y / D + 1)^3.

    x (m, D), y (n, D). Of all pictures at once, not of random subsets. The standard error is the two-sample jackknife
    (Efron and Stein 1981): one picture left out at a time, the variances over x and over y added; for sets that are
    alike it says too much rather than too little. ``n`` is m.
    """
    if min(len(x), len(y)) < FEWEST_FOR_KID:
        raise ValueError(f"kid needs at least {FEWEST_FOR_KID} pictures in each set; there are {len(x)} and {len(y)}")
    x, y = x.double(), y.double()
    within_x, within_y, between = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    within_x.fill_diagonal_(0.0)
    within_y.fill_diagonal_(0.0)
    m, n = between.shape
    term_x, term_y, cross = within_x.sum() / (m * (m - 1)), within_y.sum() / (n * (n - 1)), between.mean()
    value = term_x + term_y - 2.0 * cross
    without_x = (
        (within_x.sum() - 2.0 * within_x.sum(1)) / ((m - 1) * (m - 2))
        + term_y
        - 2.0 * (between.sum() - between.sum(1)) / ((m - 1) * n)
    )
    without_y = (
        term_x
        + (within_y.sum() - 2.0 * within_y.sum(1)) / ((n - 1) * (n - 2))
        - 2.0 * (between.sum() - between.sum(0)) / (m * (n - 1))
    )
    variance = _jackknife_variance(without_x) + _jackknife_variance(without_y)
    return Estimate(value.item(), variance.sqrt().item(), m)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def _jackknife_variance(without_one: Tensor) -> Tensor:
    count = len(without_one)
    return (count - 1) / count * (without_one - without_one.mean()).square().sum()


@dataclass(frozen=True)
class Moments:
    """Mergeable sums for a mean and a covariance: the count, the sum (D,) and the summed outer products (D, D)."""

    count: int
    total: Tensor
    outer: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> "Moments":
        """Compute the moments of embeddings (n, D)."""
        rows = rows.double()
        return cls(len(rows), rows.sum(0), rows.T @ rows)

    def merged(self, other: "Moments") -> "Moments":
        """Return the moments of both sets together."""
        return Moments(self.count + other.count, self.total + other.total, self.outer + other.outer)

    @property
    def mean(self) -> Tensor:
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """Compute the covariance with the divisor count - 1."""
        return (self.outer - self.count * torch.outer(self.mean, self.mean)) / (self.count - 1)


def frechet_distance(x: Moments, y: Moments) -> Estimate:
    """Compute the squared Frechet distance, |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)): Dowson and Landau 1982.

    Heusel et al. 2017 take it of Inception's features. It is biased upward for few pictures: compare equal n only.
    """
    if min(x.count, y.count) < 2:
        raise ValueError(f"frechet needs at least 2 pictures in each set; there are {x.count} and {y.count}")
    values, vectors = torch.linalg.eigh(x.covariance)
    root = (vectors * values.clamp_min(0.0).sqrt()) @ vectors.T
    inner = torch.linalg.eigvalsh(root @ y.covariance @ root).clamp_min(0.0).sqrt().sum()
    apart = (x.mean - y.mean).square().sum()
    value = apart + x.covariance.trace() + y.covariance.trace() - 2.0 * inner
    return Estimate(max(value.item(), 0.0), None, x.count)


@dataclass(frozen=True)
class StyleClassifier:
    """Logistic regression on standardised embeddings: style pictures against photos.

    The deception rate of Sanakoyeu et al. 2018 (section 4.1) is the share of results that a network trained on artists
    takes for the artist's; here the network is the perceptual one, and only its last, linear layer is trained.
    """

    mean: Tensor
    spread: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def trained(cls, photos: Tensor, styles: Tensor, *, decay: float = 0.1) -> "StyleClassifier":
        """Train on embeddings (m, D) of photos and (n, D) of style pictures, which count equally whatever m and n.

        Cross entropy plus ``decay`` times half the squared weights: a convex function, minimised by L-BFGS.
        """
        if min(len(photos), len(styles)) < FEWEST_FOR_DECEPTION:
            raise ValueError(
                f"deception needs at least {FEWEST_FOR_DECEPTION} photos and {FEWEST_FOR_DECEPTION} style pictures to "
                f"learn from; there are {len(photos)} and {len(styles)}"
            )
        rows = torch.cat([photos, styles]).double()
        truth = torch.cat([torch.zeros(len(photos)), torch.ones(len(styles))]).to(rows)
        balance = torch.where(truth > 0, 0.5 / len(styles), 0.5 / len(photos))
        mean, spread = rows.mean(0), rows.std(0).clamp_min(1e-6)
        rows = (rows - mean) / spread
        weight, bias = rows.new_zeros(rows.shape[1]).requires_grad_(), rows.new_zeros(()).requires_grad_()
        optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            errors = F.binary_cross_entropy_with_logits(rows @ weight + bias, truth, reduction="none")
            value = (errors * balance).sum() + 0.5 * decay * weight.square().sum()
            value.backward()
            return value

        with torch.enable_grad():
            optimiser.step(loss)
        return cls(mean, spread, weight.detach(), bias.detach())

    def rate(self, rows: Tensor) -> float:
        """Return the share of embeddings (n, D) that are taken for style pictures."""
        logits = ((rows.double() - self.mean) / self.spread) @ self.weight + self.bias
        return (logits > 0).double().mean().item()


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(wins: float, answers: float) -> Interval | None:
    """Return a rate with Wilson's 95 % score interval (Wilson 1927), or None; ``wins`` may hold halves, of ties."""
    if answers == 0:
        return None
    rate, square = wins / answers, NORMAL_95**2
    centre = (rate + square / (2 * answers)) / (1 + square / answers)
    spread = math.sqrt(rate * (1 - rate) / answers + square / (4 * answers**2)) * NORMAL_95 / (1 + square / answers)
    return Interval(rate, max(0.0, min(rate, centre - spread)), min(1.0, max(rate, centre + spread)))
