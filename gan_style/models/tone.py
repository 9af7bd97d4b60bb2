"""The tone stage: gives a result back the light and the contrast of its photo, which instance normalisation discards.

Instance normalisation makes a network blind to its input's mean and contrast: a photo at a hundredth of its brightness
comes out like the photo itself, a plain black picture like a plain white one. So these two numbers are measured on the
input and applied to the output: a picture without contrast becomes the style's colour of the same level (dark for
black, light for white), a picture of much contrast is what the network makes of it, and what lies between is between.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from gan_style.functional import luma

LEVELS = 5  # colours of a tone curve, from the darkest fifth of a style's pixels to the lightest
HALF_CONTRAST = 0.05  # deviation of luma in [0, 1] at which a result is half the network's; most photos: 0.1 to 0.3


def tone_curve(pictures: Iterable[Tensor]) -> Tensor:
    """Compute a style's tone curve (LEVELS, 3): the colour of each fifth of its pixels, from dark to light.

    Of a picture it is the one of its own colours that is nearest to the fifth's mean: the mean of many hues is a grey
    that the style need not have. pictures: each (1, 3, H, W) in [-1, 1], of any sizes; the curve is the mean over
    pictures, in [-1, 1].
    """
    curves = []
    for picture in pictures:
        colors = picture[0].flatten(1).float().T
        order = luma(picture).flatten().argsort()
        curves.append(torch.stack([_nearest_to_mean(fifth) for fifth in colors[order].tensor_split(LEVELS)]))
    return torch.stack(curves).nanmean(dim=0)


def _nearest_to_mean(colors: Tensor) -> Tensor:
    """Return the color (3,) of (M, 3) that is nearest to their mean; of none, M = 0, not a number."""
    mean = colors.mean(dim=0)
    return colors[(colors - mean).square().sum(dim=1).argmin()] if len(colors) else mean


def light(images: Tensor) -> tuple[Tensor, Tensor]:
    """Measure the mean and the standard deviation of luma in [0, 1] of each picture: (N, 3, H, W) to (N,), (N,)."""
    values = luma(images)
    mean = values.mean(dim=(1, 2, 3), keepdim=True)
    variance = (values - mean).square().mean(dim=(1, 2, 3))  # var_mean takes twenty times as long
    return mean.flatten(), variance.sqrt()


def contrast(deviation: Tensor) -> Tensor:
    """Compute how much of a result is the network's: 0 for a plain picture, 0.10 at a deviation of 0.028, 0.94 at 0.1.

    A smooth sky of 25 levels (0.028) stays smooth, as a network that normalises it makes stripes of the steps between
    levels. It never stops rising, so that no photo comes out as light as the same one dimmed; of the darkest the linear
    part sees to that.
    """
    ratio = deviation / HALF_CONTRAST
    odds = ratio**4 + ratio / 50.0
    return odds / (1.0 + odds)


def plain_color(curves: Tensor, mean: Tensor) -> Tensor:
    """Interpolate tone curves (N, LEVELS, 3) at levels of luma (N,) in [0, 1]: (N, 3).

    Each fifth's colour stands at its middle, but the darkest at black: there is no level below which it gets no darker.
    """
    position = (mean * LEVELS - 0.5).clamp(1.0, LEVELS - 1.0) + ((mean * LEVELS - 1.5) / 1.5).clamp(-1.0, 0.0)
    levels = torch.arange(LEVELS, device=curves.device, dtype=position.dtype)
    weights = (1.0 - (position[:, None] - levels).abs()).clamp_min(0.0)  # linear interpolation
    return (weights[..., None] * curves).sum(dim=1)


def apply_tone(images: Tensor, color: Tensor, share: Tensor) -> Tensor:
    """Blend a result (N, 3, H, W) with its plain colour (N, 3), or a map of it (N, 3, H, W), by its contrast (N,)."""
    color = color if color.ndim == 4 else color[..., None, None]
    return torch.lerp(color.to(images.dtype), images, share[:, None, None, None].to(images.dtype))
