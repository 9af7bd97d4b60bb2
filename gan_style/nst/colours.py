"""Whose colours a result has: the style's, or the content's (Gatys et al. 2016, "Preserving Color in Neural Artistic
Style Transfer").

style       the style's, as in "Image Style Transfer Using Convolutional Neural Networks"
luminance   the transfer sees and makes luma alone, and the content's chroma is put back (their section 2.2)
histogram   the style's colours are brought to the content's before the transfer (their section 2.1)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gan_style.functional import grey
from gan_style.nst.pyramid import resized

STYLE, LUMINANCE, HISTOGRAM = "style", "luminance", "histogram"
COLOURS = (STYLE, LUMINANCE, HISTOGRAM)
_SMALLEST_VARIANCE = 1e-4  # of values in [-1, 1]: a direction with less is rounding, which nothing may amplify


def check_colours(colours: str) -> None:
    """ValueError for a choice that there is not."""
    if colours not in COLOURS:
        raise ValueError(f"colours={colours}; allowed are {', '.join(COLOURS)}")


def match_colours(picture: Tensor, wanted: Tensor) -> Tensor:
    """The picture with the mean and covariance of the wanted one's channels; both (1, C, H, W) in [-1, 1].

    x A + b with A = cov(wanted)^(1/2) cov(picture)^(-1/2), the symmetric roots of Hertzmann et al. 2001 (Image
    Analogies), which Gatys et al. prefer to Cholesky's; for one channel their luma matching, (x - mean) sd / sd + mean.
    Directions in which the picture does not vary (all but one, of a grey one) stay empty. Clamped to [-1, 1].
    """
    (mean, covariance), (wanted_mean, wanted_covariance) = _moments(picture), _moments(wanted)
    transform = _power(wanted_covariance, 0.5) @ _power(covariance, -0.5)
    pixels = picture[0].flatten(1).double() - mean
    matched = (transform @ pixels + wanted_mean).to(picture.dtype)
    return matched.reshape(picture.shape).clamp(-1.0, 1.0)


def _moments(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (C, 1) and covariance (C, C) of a picture's channels over its pixels, float64."""
    pixels = picture[0].flatten(1).double()
    mean = pixels.mean(dim=1, keepdim=True)
    return mean, (pixels - mean) @ (pixels - mean).T / pixels.shape[1]


def _power(covariance: Tensor, exponent: float) -> Tensor:
    """A symmetric matrix to a power, on the directions in which it is not next to 0."""
    values, vectors = torch.linalg.eigh(covariance)
    powers = torch.where(values > _SMALLEST_VARIANCE, values.clamp_min(_SMALLEST_VARIANCE) ** exponent, 0.0)
    return vectors * powers @ vectors.T


def seen_by_the_transfer(colours: str, content: Tensor, styles: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The content and the styles (each (1, 3, H, W) in [-1, 1], any size) as the transfer is to see them."""
    if colours == LUMINANCE:
        content = grey(content)
        luma = [match_colours(grey(style)[:, :1], content[:, :1]) for style in styles]
        return content, [one.expand(-1, 3, -1, -1) for one in luma]
    if colours == HISTOGRAM:
        return content, [match_colours(style, content) for style in styles]
    return content, list(styles)


def canvas_channels(colours: str) -> int:
    """How many channels are optimised: 1 where only luma is made."""
    return 1 if colours == LUMINANCE else 3


def finished(colours: str, canvas: Tensor, content: Tensor) -> Tensor:
    """The picture that is shown, (1, 3, h, w) in [-1, 1], from what was optimised, (1, C, h, w).

    content: the coloured one, (1, 3, H, W). A new luma under unchanged U and V moves R, G and B alike.
    """
    if colours == LUMINANCE:
        content = resized(content, *canvas.shape[-2:])
        canvas = content + (canvas - grey(content)[:, :1])
    return canvas.clamp(-1.0, 1.0)
