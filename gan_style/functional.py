"""Pure functions on pictures and features: no state, per sample, float32 also under autocast."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

RandomGenerators = Sequence[torch.Generator]  # one for each sample


def gram_matrix(features: Tensor) -> Tensor:
    """Compute the Gram matrix of each sample, averaged over positions: G = F F^T / (H W).

    features: (N, C, H, W), any float type; returns (N, C, C), float32. Gatys et al. 2016, equation 3, differs in that
    theirs is a sum over positions; the mean makes it independent of the resolution. All in float32, where it takes
    features beyond 1e16 for a sum to overflow.
    """
    positions = features.shape[-2] * features.shape[-1]
    with torch.autocast(features.device.type, enabled=False):
        rows = features.float().permute(0, 2, 3, 1).flatten(1, 2)  # in channels_last nothing is copied
        gram: Tensor = _Gram.apply(rows)
        return gram / positions


def by_region(features: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Weigh the features (N, C, h, w) of each picture for each of its regions: (N R, C, h, w), region after region.

    masks: (N, R, H, W) in [0, 1], brought to the features' size by averaging; divided by their means they are the
    squares of Gatys et al. 2017's guidance channels (section 4.1). The Gram matrix of region r is then the mean of
    f f^T over the region. Returns the regions' shares of the picture, (N R, 1, 1), too.
    """
    masks = F.adaptive_avg_pool2d(masks, (features.shape[-2], features.shape[-1]))
    shares = masks.mean(dim=(2, 3), keepdim=True)
    guidance = (masks / shares.clamp_min(1e-12)).sqrt()
    return (features[:, None] * guidance[:, :, None]).flatten(0, 1), shares.view(-1, 1, 1)


class _Gram(torch.autograd.Function):
    """F^T F of F (N, positions, C), whose gradient is one product, F (G + G^T), where autograd makes two.

    With rows for positions a third to a half of the time that torch.bmm(flat, flat.transpose(1, 2)) takes on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        if rows.shape[2] >= 128:
            return _products(rows.transpose(1, 2), rows.transpose(1, 2))
        return torch.bmm(rows.transpose(1, 2), rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        return _products(rows, gradient + gradient.transpose(1, 2))


def _products(a: Tensor, b: Tensor) -> Tensor:
    """A B^T of each sample, (N, K, M) and (N, L, M) to (N, K, L).

    On CPUs by oneDNN's kernels, which torch.bmm uses for 16 bits alone: on AMD's twice as fast as MKL's in float32.
    """
    on_cpu = a.is_cpu and a.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    if not on_cpu or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return torch.bmm(a, b.transpose(1, 2))
    pairs = zip(a, b, strict=True)
    return torch.stack([torch.ops.mkldnn._linear_pointwise(x, y, None, "none", [], "") for x, y in pairs])


def centred_gram_matrix(features: Tensor) -> Tensor:
    """Compute the Gram matrix of features from which each channel's mean is removed: their covariance over positions.

    features: (N, C, H, W); returns (N, C, C), float32. Liu et al. 2024 (AnimeGANv3, "style_loss_decentralization"):
    what is left is how features vary together, while a picture's overall tone no longer counts.
    """
    features = features.float()
    return gram_matrix(features - features.mean(dim=(2, 3), keepdim=True))


def channel_moments(features: Tensor) -> Tensor:
    """Compute each channel's mean and standard deviation over positions: (N, C, H, W) to (N, C, 2), float32.

    Huang and Belongie 2017 (AdaIN), equations 5 and 6 with their epsilon of 1e-5 under the root.
    """
    variance, mean = torch.var_mean(features.float(), dim=(2, 3), correction=0)
    return torch.stack([mean, (variance + 1e-5).sqrt()], dim=2)


def weighted_mean(values: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Compute the mean of tensors of one shape; with weights (not all 0, in any unit) the weighted one."""
    if weights is None:
        return torch.stack(list(values)).mean(dim=0)
    total = torch.stack([weight * value for value, weight in zip(values, weights, strict=True)]).sum(dim=0)
    return total / sum(weights)


def total_variation_squared(images: Tensor) -> Tensor:
    """Average the squared difference of neighbours, (N, C, H, W) to a scalar (Johnson et al. 2016, section 3.2)."""
    down, right = _neighbour_differences(images)
    return down.square().mean() + right.square().mean()


def total_variation_absolute(images: Tensor) -> Tensor:
    """Average the absolute difference of neighbours, (N, C, H, W) to a scalar (Rudin et al. 1992, anisotropic)."""
    down, right = _neighbour_differences(images)
    return down.abs().mean() + right.abs().mean()


def _neighbour_differences(images: Tensor) -> tuple[Tensor, Tensor]:
    images = images.float()
    return images[..., 1:, :] - images[..., :-1, :], images[..., 1:] - images[..., :-1]


# ITU-R BT.601, for R'G'B' and Y' in [0, 1]; U and V are then in [-0.436, 0.436] and [-0.615, 0.615].
_YUV_FROM_RGB = (
    (0.299, 0.587, 0.114),
    (-0.14713, -0.28886, 0.436),
    (0.615, -0.51499, -0.10001),
)


def rgb_to_yuv(images: Tensor) -> Tensor:
    """Convert RGB in [-1, 1], (N, 3, H, W), to YUV (BT.601) with Y in [0, 1]; float32."""
    matrix = torch.tensor(_YUV_FROM_RGB).to(images.device, non_blocking=True)
    with torch.autocast(images.device.type, enabled=False):
        return torch.einsum("yc,nchw->nyhw", matrix, images.float() * 0.5 + 0.5)


# CIE XYZ of linear sRGB under D65 (IEC 61966-2-1), each row divided by the white point's own coordinate.
_XYZ_FROM_RGB = (
    (0.412453 / 0.95047, 0.357580 / 0.95047, 0.180423 / 0.95047),
    (0.212671, 0.715160, 0.072169),
    (0.019334 / 1.08883, 0.119193 / 1.08883, 0.950227 / 1.08883),
)


def rgb_to_lab(images: Tensor) -> Tensor:
    """Convert sRGB in [-1, 1], (N, 3, H, W), to CIE 1976 L*a*b* under D65: L in [0, 100], a, b about +-100; float32."""
    rgb = (images.float() * 0.5 + 0.5).clamp(0.0, 1.0)
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).pow(2.4), rgb / 12.92)
    matrix = torch.tensor(_XYZ_FROM_RGB).to(images.device, non_blocking=True)
    with torch.autocast(images.device.type, enabled=False):
        xyz = torch.einsum("yc,nchw->nyhw", matrix, linear)
    root = torch.where(xyz > 0.008856, xyz.clamp_min(1e-6).pow(1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = root.unbind(1)
    return torch.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Return the inverse of rgb_to_lab, (N, 3, H, W); what lies outside of sRGB is clamped to [-1, 1]; float32."""
    lightness, a, b = lab.float().unbind(1)
    y = (lightness + 16.0) / 116.0
    root = torch.stack([y + a / 500.0, y, y - b / 200.0], dim=1)
    xyz = torch.where(root > 0.008856 ** (1 / 3), root.pow(3), (root - 16 / 116) / 7.787)
    matrix = torch.linalg.inv(torch.tensor(_XYZ_FROM_RGB, dtype=torch.float64)).float().to(lab.device)
    with torch.autocast(lab.device.type, enabled=False):
        linear = torch.einsum("yc,nchw->nyhw", matrix, xyz).clamp(0.0, 1.0)
    rgb = torch.where(linear > 0.0031308, 1.055 * linear.clamp_min(1e-6).pow(1 / 2.4) - 0.055, 12.92 * linear)
    return (rgb * 2.0 - 1.0).clamp(-1.0, 1.0)


def luma(images: Tensor) -> Tensor:
    """Compute BT.601 luma in [0, 1] of RGB in [-1, 1]: (N, 3, H, W) to (N, 1, H, W); float32."""
    red, green, blue = images.float().unbind(1)
    r, g, b = _YUV_FROM_RGB[0]
    return (r * red + g * green + b * blue).mul(0.5).add(0.5)[:, None]


def grey(images: Tensor) -> Tensor:
    """Take the colours away: BT.601 luma in all three channels; (N, 3, H, W) in [-1, 1] to the same, float32."""
    return (rgb_to_yuv(images)[:, :1] * 2.0 - 1.0).expand_as(images)


def guided_gain(guide: Tensor, values: Tensor, window: int, epsilon: float) -> Tensor:
    """Compute how steeply values follow the guide around each position: a_k of the guided filter.

    He et al. 2010, equation 5: the covariance of guide (N, 1, H, W) and values (N, C, H, W) in windows of that side
    (odd), divided by the guide's variance plus epsilon. Returns (N, C, H, W).
    """
    guide_mean, mean = window_mean(guide, window), window_mean(values, window)
    covariance = window_mean(guide * values, window) - guide_mean * mean
    return covariance / (window_mean(guide.square(), window) - guide_mean.square() + epsilon)


def window_mean(values: Tensor, window: int) -> Tensor:
    """Average (N, C, H, W) over a square of this side (odd) around each place; at a border over what is there."""
    half = window // 2
    rows = F.avg_pool2d(values, (window, 1), 1, (half, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, window), 1, (0, half), count_include_pad=False)


def scaled_part(small: Tensor, rows: slice, columns: slice, height: int, width: int) -> Tensor:
    """Return a part, (1, C, h, w), of a small picture (1, C, h', w') scaled up to height and width, bicubic."""
    y = (torch.arange(rows.start, rows.stop, device=small.device) + 0.5) * (2.0 / height) - 1.0
    x = (torch.arange(columns.start, columns.stop, device=small.device) + 0.5) * (2.0 / width) - 1.0
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
    return F.grid_sample(small.float(), grid, mode="bicubic", padding_mode="border", align_corners=False)


def smooth_edges(images: Tensor, threshold: float = 0.6) -> Tensor:
    """Blur pictures along their edges and nowhere else: (N, 3, H, W) in [-1, 1] to the same, float32.

    Chen et al. 2018 (CartoonGAN), section 3.2: edges are found, dilated (5 x 5), and smoothed with a Gaussian (5 x 5).
    Differs in that an edge is where Sobel's gradient of luma, |x| + |y|, exceeds the threshold, which is what Canny's
    detector begins with: its thinning is undone by the dilation.
    """
    padded = F.pad(luma(images), (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=images.device)
    offsets = torch.arange(-2.0, 3.0, device=images.device)
    bell = torch.exp(-0.5 * (offsets / 1.1).square())  # OpenCV's width for 5 taps
    kernel = (bell[:, None] * bell).expand(3, 1, 5, 5) / bell.sum().square()
    with torch.autocast(images.device.type, enabled=False):
        gradient = F.conv2d(padded, torch.stack([across, across.T])[:, None]).abs().sum(dim=1, keepdim=True)
        near_edge = F.max_pool2d((gradient > threshold).float(), 5, stride=1, padding=2)
        smooth = F.conv2d(F.pad(images.float(), (2, 2, 2, 2), mode="replicate"), kernel, groups=3)
    return torch.where(near_edge > 0, smooth, images.float())


def diff_augment(images: Tensor, kinds: Iterable[str], random: RandomGenerators) -> Tensor:
    """Apply DiffAugment (Zhao et al. 2020, section 3): differentiable augmentation, drawn for each sample from its own.

    images: (N, 3, H, W) in [-1, 1]; kinds among AUGMENTATIONS, applied in the given order; random: N generators on the
    CPU, so that a sample's draws depend neither on the device nor on how the batch is cut.
    """
    for kind in kinds:
        images = AUGMENTATIONS[kind](images, random)
    return images


def _uniform(images: Tensor, random: RandomGenerators) -> Tensor:
    """Draw one number in [0, 1) per sample, (N, 1, 1, 1)."""
    draws = [torch.rand(1, 1, 1, generator=generator) for generator in random]
    return torch.stack(draws).to(images.device, non_blocking=True)


def _integers(low: int, high: int, random: RandomGenerators) -> Tensor:
    """Draw one integer from ``low`` up to ``high`` (excluded) per sample, (N, 1)."""
    return torch.stack([torch.randint(low, high, (1,), generator=generator) for generator in random])


def _augment_colour(images: Tensor, random: RandomGenerators) -> Tensor:
    """Change brightness by +-0.5, saturation 0..2 and contrast 0.5..1.5, as in the paper's appendix."""
    images = images + (_uniform(images, random) - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * (_uniform(images, random) * 2.0) + grey
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (_uniform(images, random) + 0.5) + mean


def _augment_translation(images: Tensor, random: RandomGenerators) -> Tensor:
    """Shift by up to an eighth of each side; what comes in is zero (grey)."""
    rows = _shifted_index(images, images.shape[2], random)
    columns = _shifted_index(images, images.shape[3], random)
    padded = F.pad(images, (1, 1, 1, 1))
    sample = torch.arange(images.shape[0], device=images.device)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _shifted_index(images: Tensor, length: int, random: RandomGenerators) -> Tensor:
    """Draw for each sample the source index of each row (or column), (N, length), in a picture padded by one."""
    reach = length // 8
    shift = _integers(-reach, reach + 1, random)
    index = torch.arange(length)[None] + shift + 1
    return index.clamp(0, length + 1).to(images.device, non_blocking=True)


def _augment_cutout(images: Tensor, random: RandomGenerators) -> Tensor:
    """Set a rectangle of half of each side to zero (grey); it may reach over the edge."""
    inside_rows = _inside_cut(images, images.shape[2], random)[:, None, :, None]
    inside_columns = _inside_cut(images, images.shape[3], random)[:, None, None, :]
    return images * ~(inside_rows & inside_columns)


def _inside_cut(images: Tensor, length: int, random: RandomGenerators) -> Tensor:
    size = length // 2
    start = _integers(0, length + 1, random) - size // 2
    index = torch.arange(length)[None]
    return ((index >= start) & (index < start + size)).to(images.device, non_blocking=True)


AUGMENTATIONS: dict[str, Callable[[Tensor, RandomGenerators], Tensor]] = {
    "colour": _augment_colour,
    "translation": _augment_translation,
    "cutout": _augment_cutout,
}


@dataclass
class RunningMoments:
    """Mean and variance of each channel, of values that come in parts: Chan et al. 1979 (merging), in float64."""

    weight: float = 0.0
    mean: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))
    squares: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))  # of the differences from it

    def add(self, x: Tensor, weights: Tensor | None = None) -> None:
        """Take in x: (1, C, h, w); weights: (1, 1, h, w), of each position, from 0."""
        values = x[0].flatten(1).float()  # under autocast 16 bits would be too few
        if weights is None:
            count = float(values.shape[1])
            variance, mean = torch.var_mean(values, dim=1, correction=0)
            squares = variance.double() * count
        else:
            share = weights[0].flatten(1).double()
            count = float(share.sum())
            mean = (values * share).sum(dim=1) / max(count, 1e-12)
            squares = ((values - mean[:, None]).square() * share).sum(dim=1)
        if count > 0:
            self.merge(count, mean.double().cpu(), squares.double().cpu())

    def merge(self, count: float, mean: Tensor, squares: Tensor) -> None:
        """Add values known by their count, mean and sum of squared differences from it; both (C,), in float64."""
        total, apart = self.weight + count, mean - self.mean
        self.squares = self.squares + squares + apart.square() * (self.weight * count / total)
        self.mean = self.mean + apart * (count / total)
        self.weight = total

    @property
    def variance(self) -> Tensor:
        return self.squares / max(self.weight, 1e-12)
