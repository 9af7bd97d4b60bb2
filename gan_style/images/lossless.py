"""Pictures as their files hold them: with alpha, 16 bits, a colour profile and metadata, and as large as memory allows.

images/decode.py gives what a network learns from; this is for results that are to be as good as their source. Pillow
has no mode for colours of 16 bits: tifffile has them for TIFF, imagecodecs for PNG.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import imagecodecs
import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from gan_style.images.decode import deep_to_grey, to_srgb, turn_upright
from gan_style.images.formats import FORMATS, Format, format_for, open_file, open_picture, unreadable_picture
from gan_style.images.metadata import Metadata, read_metadata, read_tiff_metadata, save_options
from gan_style.images.tiff import read_tiff, write_tiff

_RGB_MODES = ("RGB", "RGBA", "P", "RGBa")
_LOST_INKS = "its four inks (CMYK, which become sRGB)"
STRIP_PIXELS = 4_000_000  # pixels that are copied at once


@dataclass(frozen=True)
class Original:
    """pixels: RGB, uint8 or uint16, (3, H, W); alpha: the same type, (1, H, W), None where nothing is transparent;
    profile: the colours' ICC profile, None where the file has none; metadata: what else the file says; lost: what was
    in the file and is not here, in words.
    """

    pixels: Tensor
    alpha: Tensor | None = None
    profile: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)
    lost: tuple[str, ...] = ()


def read_original(path: Path | IO[bytes], *, max_megapixels: float) -> Original:
    """Read a picture, upright, with everything that ``Original`` can hold.

    UnreadablePictureError for anything else, or a larger one. Premultiplied alpha is divided out;
    grey becomes RGB.
    """
    with unreadable_picture(path), open_file(path) as file:
        if (original := _read_tiff(file, max_megapixels)) is not None:
            return original
        with open_picture(file, limited=False) as picture:
            _check_size(picture.size, max_megapixels)
            if picture.format == "PNG":
                file.seek(24)  # where its bit depth stands
                if file.read(1) == b"\x10":
                    return _read_deep_png(picture, file)
            return _read_shallow(picture, file)


def _check_size(size: tuple[int, int], max_megapixels: float) -> None:
    if size[0] * size[1] > 1e6 * max_megapixels:
        raise ValueError(f"it has {size[0]} x {size[1]} pixels; max_megapixels={max_megapixels:g} allows fewer")


def _read_tiff(file: IO[bytes], max_megapixels: float) -> Original | None:
    """Return a TIFF of a kind that Pillow does not read rightly; None for all others."""
    tiff = read_tiff(file, check_size=lambda size: _check_size(size, max_megapixels))
    if tiff is None:
        return None
    planes = turn_upright(tiff.planes, tiff.orientation)
    metadata = read_tiff_metadata(file, (planes.shape[2], planes.shape[1]))
    lost = [*tiff.lost, *_lost_pages(tiff.pages, "TIFF")]
    return _original(planes, tiff.profile, metadata, lost, of_rgb=tiff.is_rgb)


def _read_deep_png(picture: Image.Image, file: IO[bytes]) -> Original:
    """Return a PNG of 16 bits: Pillow reads what it says, imagecodecs its pixels."""
    lost = [*_lost_pages(_pages_of(picture), "PNG"), *_lost_texts(picture)]
    picture.load()  # the end of the file may say more
    orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    file.seek(0)
    values = imagecodecs.png_decode(file.read())
    values = values.reshape(*values.shape[:2], -1)
    grey, transparent = values.shape[-1] < 3, values.shape[-1] in (2, 4)
    if grey:
        values = values[..., [0, 0, 0, 1] if transparent else [0, 0, 0]]
    planes = turn_upright(np.moveaxis(values, -1, 0), orientation)
    metadata = read_metadata(picture, (planes.shape[2], planes.shape[1]))
    return _original(planes, picture.info.get("icc_profile"), metadata, lost, of_rgb=not grey)


def _read_shallow(picture: Image.Image, file: IO[bytes]) -> Original:
    """Read whatever Pillow decodes to 8 bits a channel."""
    kind, mode, profile = str(picture.format), picture.mode, picture.info.get("icc_profile")
    lost = [*_lost_pages(_pages_of(picture), kind), *_lost_texts(picture)]
    if (bits := _bit_depth_of_iso(picture, file)) > 8:
        lost.append(f"its {bits} bits (they are rounded to 8)")
    if mode == "CMYK":  # whose profile is used up in converting them
        profile, lost = None, [*lost, _LOST_INKS]
    planes = _shallow(picture)
    size = (planes.shape[2], planes.shape[1])
    metadata = read_tiff_metadata(file, size) if kind == "TIFF" else read_metadata(picture, size)
    return _original(planes, profile, metadata, lost, of_rgb=mode in _RGB_MODES)


def _pages_of(picture: Image.Image) -> int:
    """Count the pages; further pictures in a JPEG or a HEIC are the same one for other uses, and count for none."""
    try:
        return 1 if picture.format in ("JPEG", "MPO", "HEIF") else int(getattr(picture, "n_frames", 1))
    except Exception:  # of a damaged later page
        return 1


def _lost_pages(pages: int, kind: str) -> list[str]:
    if pages <= 1:
        return []
    if kind == "TIFF":
        return [f"all but the first of its {pages} pages"]
    return [f"all but the first of its {pages} frames (gan-style stylize-video takes them, as a video)"]


def _lost_texts(picture: Image.Image) -> list[str]:
    dropped = picture.info.get("dropped_texts")
    return [f"its texts ({', '.join(dropped)}), which are longer than a megabyte"] if dropped else []


def _bit_depth_of_iso(picture: Image.Image, file: IO[bytes]) -> int:
    """Read the bit depth of HEIC and AVIF, which Pillow gives with 8 bits whatever they have."""
    if picture.format == "HEIF":
        return int(picture.info.get("bit_depth") or 8)
    if picture.format != "AVIF":
        return 8
    file.seek(0)
    box = file.read(4096).partition(b"av1C")[2]  # AV1 in ISO base media files, 2.3: a version, a profile, then flags
    return 8 if len(box) < 3 or not box[2] & 0x40 else 12 if box[2] & 0x20 else 10


def _original(
    values: np.ndarray, profile: bytes | None, metadata: Metadata, lost: list[str], *, of_rgb: bool
) -> Original:
    """Build an Original of (3 or 4, H, W); a profile of colours that are not RGB (grey, CMYK) has no use any more."""
    planes = torch.from_numpy(np.ascontiguousarray(values))
    if profile and not of_rgb:
        lost = [*lost, "its colour profile, which is not one of RGB"]
    alpha = planes[3:] if len(planes) == 4 else None
    return Original(planes[:3], alpha, profile or None if of_rgb else None, metadata, tuple(lost))


def _shallow(picture: Image.Image) -> np.ndarray:
    """Return uint8 (3 or 4, H, W), upright, of a picture of any mode."""
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode == "F" or picture.mode.startswith("I"):
        picture = deep_to_grey(picture)
    if picture.mode == "CMYK":
        picture = to_srgb(picture)
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    return _planes(picture if picture.mode == mode else picture.convert(mode))


def _planes(picture: Image.Image) -> np.ndarray:
    """Return (C, H, W), copied strip by strip: np.asarray alone would need the picture three times."""
    planes = np.empty((len(picture.getbands()), picture.height, picture.width), np.uint8)
    for rows in _rows(picture.height, picture.width):
        strip = np.asarray(picture.crop((0, rows.start, picture.width, rows.stop)))
        planes[:, rows] = strip.reshape(rows.stop - rows.start, picture.width, -1).transpose(2, 0, 1)
    return planes


def _rows(height: int, width: int) -> Iterator[slice]:
    step = max(1, STRIP_PIXELS // width)
    for top in range(0, height, step):
        yield slice(top, min(height, top + step))


def on_white(original: Original) -> Original:
    """Lay on white: what shows through is white, and nothing is transparent."""
    if original.alpha is None:
        return original
    white = white_level(original.pixels)
    pixels = torch.empty_like(original.pixels)
    for rows in _rows(*pixels.shape[1:]):
        part, share = original.pixels[:, rows].float(), original.alpha[:, rows].float() / white
        pixels[:, rows] = (part * share + white * (1.0 - share)).round().to(pixels.dtype)
    return replace(original, pixels=pixels, alpha=None)


def white_level(pixels: Tensor) -> float:
    """Return the value of white in uint8 or uint16."""
    return 255.0 if pixels.dtype == torch.uint8 else 65535.0


def to_eight_bits(original: Original) -> Original:
    if original.pixels.dtype == torch.uint8:
        return original

    def divided(plane: Tensor) -> Tensor:
        rounded = torch.empty(plane.shape, dtype=torch.uint8)
        for rows in _rows(*plane.shape[1:]):
            rounded[:, rows] = (plane[:, rows].float() / 257.0).round().to(torch.uint8)
        return rounded

    alpha = None if original.alpha is None else divided(original.alpha)
    return replace(original, pixels=divided(original.pixels), alpha=alpha)


def preview(original: Original, height: int, width: int = 65_500) -> Tensor:
    """Return uint8 (3, h, w), laid on white, no higher than ``height`` and no wider than ``width`` pixels."""
    image = _image(on_white(to_eight_bits(original)))
    image.thumbnail((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(_planes(image))


def from_pil(picture: Any) -> Original:
    """Return what is in a picture of Pillow, upright; it is left as it is. ValueError for anything else."""
    if not isinstance(picture, Image.Image):
        raise ValueError(f"a picture expected, or its path, or a tensor (N, 3, H, W); got {type(picture).__name__}")
    if not all(picture.size):
        raise ValueError(f"a picture of {picture.width} x {picture.height} pixels: there is nothing in it")
    copied = picture.copy()
    is_cmyk = picture.mode == "CMYK"
    profile = None if is_cmyk else picture.info.get("icc_profile") or None
    if picture.mode.startswith("I;16"):
        ImageOps.exif_transpose(copied, in_place=True)
        values = np.asarray(copied).astype(np.uint16)
        planes = np.broadcast_to(values, (3, *values.shape))
    else:
        planes = _shallow(copied)
    metadata = read_metadata(copied, (planes.shape[2], planes.shape[1]))
    return _original(planes, profile, metadata, [_LOST_INKS] * is_cmyk, of_rgb=picture.mode in _RGB_MODES)


def to_pil(original: Original) -> Any:
    """Return Pillow's picture, RGB or RGBA, of 8 bits, for want of more; what its file said is in its ``info``."""
    image, metadata = _image(to_eight_bits(original)), original.metadata
    info = {"icc_profile": original.profile, "exif": metadata.exif, "xmp": metadata.xmp, "dpi": metadata.dpi}
    image.info.update({name: value for name, value in info.items() if value})
    return image


def lost_in(original: Original, suffix: str) -> list[str]:
    """Return what a kind of file cannot hold of a picture, in words, and what was lost when it was read."""
    kind, lost = format_for(suffix), list(original.lost)
    if original.alpha is not None and not kind.alpha:
        lost.append(f"its transparency (it is laid on white); {_suffixes_with('alpha')} keep it")
    if original.pixels.dtype == torch.uint16 and not kind.deep:
        lost.append(f"its 16 bits (they are rounded to 8); {_suffixes_with('deep')} keep them")
    if original.profile is not None and not kind.profile:
        lost.append(f"its colour profile; {_suffixes_with('profile')} keep it")
    return lost + save_options(original.metadata, kind)[1]


def _suffixes_with(ability: str) -> str:
    return ", ".join(kind.suffixes[0] for kind in FORMATS if getattr(kind, ability))


def write_original(file: IO[bytes], suffix: str, original: Original, *, note: Mapping[str, Any] | None = None) -> None:
    """Write a picture as the kind of file that the suffix (".png") names, with all that this kind can hold.

    What it cannot hold (``lost_in``) is laid on white, rounded, or left out. note: as in images.decode.encode.
    """
    kind = format_for(suffix)
    if not kind.alpha:
        original = on_white(original)
    options, _ = save_options(original.metadata, kind, note)
    if original.profile and kind.profile:
        options["icc_profile"] = original.profile
    if original.pixels.dtype == torch.uint16 and kind.deep:
        _write_deep(file, kind, original, options)
        return
    original = to_eight_bits(original)
    if kind.name == "WEBP" and original.alpha is not None:
        options["exact"] = True  # colours that cannot be seen are kept, too
    _image(original).save(file, format=kind.name, **{**kind.save, **options})


def _write_deep(file: IO[bytes], kind: Format, original: Original, options: Mapping[str, Any]) -> None:
    """Write 16 bits a channel, which Pillow cannot write, RGB or (one plane) grey."""
    planes = original.pixels if original.alpha is None else torch.cat([original.pixels, original.alpha])
    pixels = np.ascontiguousarray(np.moveaxis(planes.numpy(), 0, -1) if len(planes) > 1 else planes[0].numpy())
    if kind.name == "TIFF":
        write_tiff(file, pixels, options)
        return
    # Pillow writes a PNG of one pixel; what that says besides its pixels goes behind the header of ours.
    one_pixel = io.BytesIO()
    Image.new("RGB", (1, 1)).save(one_pixel, "PNG", **options)
    spoken, end = one_pixel.getvalue(), 33  # of signature and header
    data = imagecodecs.png_encode(pixels, level=6)
    file.write(data[:end] + spoken[end : spoken.index(b"IDAT") - 4])
    file.write(memoryview(data)[end:])


def _image(original: Original) -> Image.Image:
    planes = [original.pixels] if original.alpha is None else [original.pixels, original.alpha]
    height, width = original.pixels.shape[1:]
    image = Image.new("RGB" if original.alpha is None else "RGBA", (width, height))
    for rows in _rows(height, width):
        strip = torch.cat([plane[:, rows] for plane in planes]).permute(1, 2, 0)
        image.paste(Image.fromarray(strip.contiguous().numpy()), (0, rows.start))
    return image
