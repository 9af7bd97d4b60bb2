"""What a result keeps of its content picture, by pixels: one number for each pair, for evaluation only.

result and content are RGB, (N, 3, H, W) float in [-1, 1], of the same size.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_style.functional import rgb_to_lab, rgb_to_yuv

MIN_SIZE = 11  # pixels a side, the window of SSIM


def ssim(result: Tensor, content: Tensor) -> Tensor:
    """Structural similarity of luma, (N,), at most 1: Wang et al. 2004, equation 13.

    Their Gaussian window (11 pixels, sigma 1.5), K1 = 0.01, K2 = 0.03; the mean over windows that lie inside.
    """
    x, y = _lumas(result, content)
    window = _gaussian(x)
    mean_x, mean_y = _filtered(x, window), _filtered(y, window)
    var_x, var_y = (_filtered(a * a, window) - m * m for a, m in ((x, mean_x), (y, mean_y)))
    covariance = _filtered(x * y, window) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    above = (2.0 * mean_x * mean_y + c1) * (2.0 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return (above / below).mean(dim=(1, 2, 3))


def structure(result: Tensor, content: Tensor) -> Tensor:
    """Measure how far edges agree, (N,), at most 1: gradient magnitude similarity, Xue et al. 2014, equations 4 and 5.

    Of luma averaged over 2 x 2 pixels, Prewitt gradients, c = 0.0026 for luma in [0, 1].
    """
    first, second = (_gradient_magnitude(F.avg_pool2d(x, 2)) for x in _lumas(result, content))
    c = 0.0026
    return ((2.0 * first * second + c) / (first**2 + second**2 + c)).mean(dim=(1, 2, 3))


def colour_drift(result: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
    """Measure how far colours move, in units of L*a*b*: (of their mean, of their spread), (N,) each.

    The distances of the two pictures' mean colours (CIE 1976 colour difference) and of their standard deviations, the
    statistics that Reinhard et al. 2001 transfer.
    """
    (mean_m, std_m), (mean_c, std_c) = (_lab_moments(x) for x in (result, content))
    return (mean_m - mean_c).norm(dim=1), (std_m - std_c).norm(dim=1)


def _lumas(result: Tensor, content: Tensor) -> list[Tensor]:
    if result.shape != content.shape:
        raise ValueError(f"a result of {_size(result)} pixels cannot be compared with content of {_size(content)}")
    if min(result.shape[-2:]) < MIN_SIZE:
        raise ValueError(f"a picture of {_size(result)} pixels is too small; allowed are {MIN_SIZE} a side and more")
    return [rgb_to_yuv(x)[:, :1] for x in (result, content)]


def _size(images: Tensor) -> str:
    return f"{images.shape[-1]} x {images.shape[-2]}"


def _gaussian(like: Tensor) -> Tensor:
    offsets = torch.arange(-5.0, 6.0, dtype=like.dtype, device=like.device)
    window = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    return window / window.sum()


def _filtered(x: Tensor, window: Tensor) -> Tensor:
    return F.conv2d(F.conv2d(x, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))


def _gradient_magnitude(luma: Tensor) -> Tensor:
    prewitt = torch.tensor([[1.0, 0.0, -1.0]] * 3, device=luma.device) / 3.0
    gradients = F.conv2d(luma, torch.stack([prewitt, prewitt.T])[:, None])
    return gradients.square().sum(dim=1, keepdim=True).sqrt()


def _lab_moments(images: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(rgb_to_lab(images), dim=(2, 3), correction=0)
    return mean, variance.sqrt()
