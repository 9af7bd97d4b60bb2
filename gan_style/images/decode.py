"""The image contract of the whole package, and the only file that decodes, encodes or changes ranges.

A picture in memory is RGB: uint8 of shape (3, H, W) while it waits, float32 of shape (N, 3, H, W) in [-1, 1]
wherever mathematics is done on it.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms, ImageDraw, ImageFont, ImageOps
from torch import Tensor
from torch.nn import functional as F

from gan_style.images.formats import (
    check_fits,
    check_size,
    format_for,
    open_file,
    open_picture,
    unreadable_picture,
)
from gan_style.images.metadata import Metadata, save_options
from gan_style.images.tiff import read_tiff, white_of_numbers

_MOST_SCALED_PIXELS = 100_000_000  # a strip of 1 x 5000, say, would become 256 x 1,280,000
_QUARTER_TURNS = (5, 6, 7, 8)  # orientations in which width and height change places


def decode(path: Path | IO[bytes], *, short_side: int | None = None, upright: bool = True) -> Tensor:
    """Read a picture, from its path or an open file, as uint8 sRGB (3, H, W), with transparency laid on white.

    With ``short_side`` (pixels) the picture is scaled, never squashed, so that its shorter side has that length.
    Upright, unless the pixels are wanted as they are stored. Raises UnreadablePictureError for anything that is not a
    whole picture of a known kind.
    """
    with unreadable_picture(path):
        if (deep := _deep_tiff(path, upright)) is not None:
            ratio = max(deep.size) / min(deep.size)
            return _to_tensor(_scale(_to_rgb(deep), short_side, ratio, wide=deep.width > deep.height))
        with open_picture(path) as picture:
            ratio, wide = max(picture.size) / min(picture.size), picture.width > picture.height
            drafted = None
            if short_side is not None and picture.mode in ("RGB", "L"):
                drafted = picture.draft(None, (short_side, short_side))  # a large JPEG is decoded at 1/2, 1/4 or 1/8
            on_its_side = upright and picture.getexif().get(ExifTags.Base.Orientation, 1) in _QUARTER_TURNS
            turned = ImageOps.exif_transpose(picture) if upright else _turned_back(picture)
            wide = turned.width > turned.height if drafted is None else wide != on_its_side
            return _to_tensor(_scale(_to_rgb(turned), short_side, ratio, wide=wide))


def _deep_tiff(path: Path | IO[bytes], upright: bool) -> Image.Image | None:
    """Return a TIFF of a kind that Pillow does not read rightly, as RGB or RGBA of 8 bits; None for all others."""
    with open_file(path) as file:
        tiff = read_tiff(file, check_size=check_size)
    if tiff is None:
        return None
    planes = turn_upright(tiff.planes, tiff.orientation) if upright else tiff.planes
    if planes.dtype == np.uint16:
        planes = np.round(planes / np.float32(257.0)).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(np.moveaxis(planes, 0, -1)))
    picture.info["icc_profile"] = tiff.profile if tiff.is_rgb else None
    return picture


def turn_upright(planes: np.ndarray, orientation: int) -> np.ndarray:
    """Return (C, H, W) as EXIF's orientation, 1 to 8, means it; a view."""
    if orientation in _QUARTER_TURNS:
        planes = planes.swapaxes(1, 2)
    if orientation in (3, 4, 7, 8):
        planes = planes[:, ::-1]
    if orientation in (2, 3, 6, 7):
        planes = planes[:, :, ::-1]
    return planes


def _turned_back(picture: Image.Image) -> Image.Image:
    """Return a picture as it is stored: Pillow always turns a TIFF upright when it is loaded."""
    if picture.format != "TIFF":
        return picture
    orientation: int = picture.getexif().get(ExifTags.Base.Orientation, 1)
    picture.load()
    exif = picture.getexif()
    if exif.get(ExifTags.Base.Orientation, 1) == orientation:
        return picture
    exif[ExifTags.Base.Orientation] = {6: 8, 8: 6}.get(orientation, orientation)  # a quarter turn the other way
    return ImageOps.exif_transpose(picture)


def _to_tensor(picture: Image.Image) -> Tensor:
    """Return a picture's RGB, uint8 (3, H, W); importing torchvision for it would take as long as importing torch."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _to_pil(picture: Tensor) -> Image.Image:
    pixels = picture.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels[..., 0] if len(picture) == 1 else pixels)


def to_srgb(picture: Image.Image) -> Image.Image:
    """Convert RGB (also with alpha) or CMYK to sRGB by the picture's own ICC profile.

    As it is where the file has none, or one that says sRGB or cannot be used.
    """
    profile = picture.info.get("icc_profile")
    if not profile or picture.mode not in ("RGB", "RGBA", "CMYK"):
        return picture
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return picture
        mode = "RGB" if picture.mode == "CMYK" else picture.mode
        converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture
    return picture if converted is None else converted


def _to_rgb(picture: Image.Image) -> Image.Image:
    picture = to_srgb(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        return deep_to_grey(picture).convert("RGB")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


def deep_to_grey(picture: Image.Image) -> Image.Image:
    """Make 8-bit grey of 16 bits, divided by 257 (``convert`` alone saturates), or of floats of any usual range."""
    if picture.mode != "F":
        return picture.convert("I").point(lambda v: v * (1 / 257) + 0.5).convert("L")
    lowest, highest = (float(value) for value in picture.getextrema())  # type: ignore[arg-type]
    white = white_of_numbers(lowest, highest)
    if white is None:
        raise ValueError(f"floats from {lowest:g} to {highest:g}; known ranges are 0 to 1, 0 to 255 and 0 to 65535")
    factor = 255.0 / white
    return picture.point(lambda v: v * factor + 0.5).convert("L")


def _scale(picture: Image.Image, short_side: int | None, ratio: float, *, wide: bool) -> Image.Image:
    """Scale. ratio: of the file's long side to its short one, wide: which of them it is; a draft's own are rounded."""
    if short_side is None:
        return picture
    lengths = (short_side, round(short_side * ratio))
    if lengths[0] * lengths[1] > _MOST_SCALED_PIXELS:
        raise ValueError(f"its sides differ by a factor of {ratio:.0f}; scaled it would be {lengths[1]} pixels long")
    size = lengths[::-1] if wide else lengths
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def encode(image: Tensor, suffix: str, *, note: Mapping[str, Any] | None = None) -> bytes:
    """Encode a float picture (3, H, W) in [-1, 1] as the bytes of a file; the suffix (".png") picks the format.

    note: what made the picture (JSON types, NOTED among its keys), kept in the file's metadata where it can hold any.
    """
    return encode_uint8(to_uint8(image).cpu(), suffix, note=note)


def encode_uint8(
    picture: Tensor,
    suffix: str,
    *,
    note: Mapping[str, Any] | None = None,
    metadata: Metadata | None = None,
    **options: Any,
) -> bytes:
    """Encode uint8 (3, H, W) on the CPU; ``options`` (quality, lossless, compress_level) are Pillow's.

    metadata: what else the file is to say.
    """
    kind, buffer = format_for(suffix), io.BytesIO()
    check_fits(suffix, *picture.shape[1:])
    noted, _ = save_options(metadata or Metadata(), kind, note)
    _to_pil(picture).save(buffer, format=kind.name, **{**kind.save, **options, **noted})
    return buffer.getvalue()


def encode_animation(images: Sequence[Tensor], seconds: Sequence[float], *, comment: str | None = None) -> bytes:
    """Encode a GIF that repeats for ever: float pictures (3, H, W) in [-1, 1] of one size, each so long shown."""
    comments = {} if comment is None else {"comment": comment.encode("ascii")}
    frames = [_to_pil(to_uint8(image).cpu()).quantize(256) for image in images]
    times = [round(1000 * duration) for duration in seconds]
    buffer = io.BytesIO()
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, **comments)
    return buffer.getvalue()


def to_float(picture: Tensor) -> Tensor:
    """Convert uint8 in [0, 255] to float32 in [-1, 1], any shape."""
    return picture.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(image: Tensor) -> Tensor:
    """Convert float in [-1, 1] to uint8 in [0, 255], any shape: clamp, round, cast."""
    return image.detach().float().clamp(-1.0, 1.0).add_(1.0).mul_(127.5).round_().to(torch.uint8)


def grid(rows: Sequence[Sequence[Tensor]], *, gap: int = 4) -> Tensor:
    """Make one picture (3, H, W) from rows of pictures (3, h, w) in [-1, 1]: each scaled to its row's height, on white.

    A row takes the height of its first picture; the columns are aligned to the left.
    """
    strips = []
    for row in rows:
        height, images = row[0].shape[-2], [image.detach().float().cpu() for image in row]
        for number, image in enumerate(images):
            if image.shape[-2] != height:
                size = (height, max(1, round(image.shape[-1] * height / image.shape[-2])))
                images[number] = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
        strips.append(torch.cat([F.pad(image, (0, gap), value=1.0) for image in images], dim=-1)[..., : -gap or None])
    width = max(strip.shape[-1] for strip in strips)
    padded = [F.pad(strip, (0, width - strip.shape[-1], 0, gap), value=1.0) for strip in strips]
    return torch.cat(padded, dim=1)[:, : -gap or None]


def labelled_grid(cells: Sequence[tuple[str, Tensor]], *, columns: int) -> Tensor:
    """Make a sheet (3, H, W) of pictures (3, h, w) in [-1, 1], ``columns`` to a row, each above its name."""
    labelled = [
        torch.cat([image.detach().float().cpu(), _label(name, image.shape[-1])], dim=1) for name, image in cells
    ]
    return grid([labelled[start : start + columns] for start in range(0, len(labelled), columns)])


def _label(text: str, width: int, height: int = 24) -> Tensor:
    """Write black on white, (3, height, width) in [-1, 1]; what is too long is cut off."""
    strip = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(strip).text((2, 4), text, fill="black", font=ImageFont.load_default(15))
    return to_float(_to_tensor(strip))
