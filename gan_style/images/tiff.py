"""TIFFs that Pillow does not read, or not rightly: more than 8 bits, floats, separate planes, premultiplied alpha.

And writing those of 16 bits.
"""

import io
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ALPHA_BY_HAND = (1, 2)  # ExtraSamples (TIFF 6.0, section 18): premultiplied, and not; 0 is no transparency at all
# The values of floats have no range of their own. A picture's brightest value says which one is meant; between these
# ranges nobody can tell a dark picture from one with values beyond white.
_FLOAT_RANGES = ((0.0, 1.0), (16.0, 255.0), (4096.0, 65535.0))
_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_OVERSHOOT = 0.05  # of the range: what resampling may add at edges


@dataclass
class TiffPixels:
    """planes: uint8 or uint16, (3 or 4, H, W), RGB and alpha, as stored; orientation: TIFF's, 1 to 8; pages: how many
    the file holds; profile: of its colours (ICC), if any; is_rgb: whether these are RGB; lost: what is not in the
    planes any more, in words.
    """

    planes: np.ndarray
    orientation: int
    pages: int
    profile: bytes | None
    is_rgb: bool
    lost: list[str] = field(default_factory=list)


def read_tiff(file: IO[bytes], *, check_size: Callable[[tuple[int, int]], object]) -> TiffPixels | None:
    """Read a TIFF's first page; None where Pillow reads it as well, and of any other file.

    check_size: is given (width, height) before anything is decoded, and raises ValueError for too large a picture.
    ValueError, naming the kind, for one that cannot be read rightly. tifffile's own errors pass through.
    """
    file.seek(0)
    if file.read(4) not in _MAGIC:
        return None
    import tifffile  # takes a tenth of a second, and few files need it

    file.seek(0)
    with tifffile.TiffFile(file, name="picture.tif") as tiff:
        page: Any = tiff.pages.first
        if _is_plain(page):
            return None
        width, height = page.imagewidth, page.imagelength
        check_size((width, height))
        kind = _kind(page)
        subsampling = page.tags.valueof(530, default=(2, 2))
        is_ycbcr = page.photometric == 6 and page.bitspersample == 8 and subsampling == (1, 1)
        if (page.photometric not in (0, 1, 2, 5) and not is_ycbcr) or page.imagedepth > 1:
            raise ValueError(f"{kind} is not read")

        # Values, channels last, whatever the file's order is.
        values = page.asarray()
        if page.planarconfig == 2 and page.samplesperpixel > 1:
            values = np.moveaxis(values, 0, -1)
        values = values.reshape(height, width, page.samplesperpixel)
        lost: list[str] = []
        values = _to_unsigned(values, page, kind, lost)
        white = np.iinfo(values.dtype).max

        # Colours and alpha, by what the file says that its samples are.
        color_count = {5: 4, 2: 3, 6: 3}.get(int(page.photometric), 1)
        if values.shape[-1] < color_count:
            raise ValueError(f"{kind} is not read")
        extra = [int(sample) for sample in page.extrasamples][: values.shape[-1] - color_count]
        alpha_at = next((color_count + n for n, sample in enumerate(extra) if sample in _ALPHA_BY_HAND), None)
        alpha = None if alpha_at is None else values[..., alpha_at : alpha_at + 1]
        if (more := values.shape[-1] - color_count - (alpha is not None)) > 0:
            lost.append(f"its {more} channels besides colours and alpha")
        colors = values[..., :color_count]
        if page.photometric == 0:
            colors = white - colors
        if alpha is not None and alpha_at is not None and extra[alpha_at - color_count] == 1:
            colors = _unmultiply(colors, alpha, white)
        if page.photometric == 5:
            colors = _from_cmyk(colors, white)
        if is_ycbcr:
            ycbcr = Image.frombytes("YCbCr", (width, height), np.ascontiguousarray(colors).tobytes())
            colors = np.asarray(ycbcr.convert("RGB"))
        rgb = np.broadcast_to(colors, (height, width, 3)) if color_count == 1 else colors
        planes = np.moveaxis(rgb if alpha is None else np.concatenate([rgb, alpha], axis=-1), -1, 0)
        orientation = page.tags.valueof(274, default=1)
        return TiffPixels(
            np.ascontiguousarray(planes),
            orientation if orientation in range(1, 9) else 1,
            len(tiff.pages),
            page.tags.valueof(34675),
            page.photometric == 2,
            lost,
        )


def _is_plain(page: Any) -> bool:
    """Return whether Pillow decodes this kind rightly: colours and alpha of 8 bits, whole numbers, together."""
    bits = page.bitspersample
    is_plain_ycbcr = page.photometric == 6 and page.compression == 1  # of which Pillow 12.3 reads too much
    is_common = bits <= 8 and page.samplesperpixel <= {0: 2, 1: 2}.get(page.photometric, 4) and page.planarconfig != 2
    return is_common and page.sampleformat in (1, 4) and not is_plain_ycbcr


def _kind(page: Any) -> str:
    formats = {1: "unsigned", 2: "signed", 3: "float", 5: "complex", 6: "complex"}
    photometric = getattr(page.photometric, "name", str(page.photometric))
    order = "separate planes" if page.planarconfig == 2 else "samples together"
    return (
        f"a TIFF of {page.samplesperpixel} x {page.bitspersample} bits "
        f"({formats.get(int(page.sampleformat), 'unknown')}, {photometric}, {order})"
    )


def _to_unsigned(values: np.ndarray, page: Any, kind: str, lost: list[str]) -> np.ndarray:
    """Convert values to uint8, or to uint16 where they have more than 8 bits."""
    if values.dtype.kind in "fi":
        lowest, highest = float(values.min()), float(values.max())
        ranges = (*_FLOAT_RANGES[:2], (4096.0, 32767.0)) if values.dtype == np.int16 else _FLOAT_RANGES
        white = white_of_numbers(lowest, highest, ranges)
        if white is None:
            allowed = f"0 to 1, 0 to 255 and 0 to {ranges[-1][1]:g}"
            values_text = f"values from {lowest:g} to {highest:g}"
            raise ValueError(f"{kind} with {values_text} is not read; known ranges are {allowed}")
        numbers = "floats" if values.dtype.kind == "f" else "signed numbers"
        lost.append(f"its {8 * values.dtype.itemsize}-bit {numbers} (they are rounded to 16 bits)")
        return _scale(values, 65535.0 / white)
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    bits = int(page.bitspersample)
    if values.dtype.kind != "u" or bits > 32:
        raise ValueError(f"{kind} is not read")
    if bits <= 8:
        return values if bits == 8 else np.round(values * (255.0 / (2**bits - 1))).astype(np.uint8)
    if bits > 16:
        lost.append(f"its {bits} bits (they are rounded to 16)")
    return values if bits == 16 else _scale(values, 65535.0 / (2**bits - 1))


def white_of_numbers(
    lowest: float, highest: float, ranges: Sequence[tuple[float, float]] = _FLOAT_RANGES
) -> float | None:
    """Return which number means white in a picture of floats, by its darkest and brightest; None where none fits."""
    white = next((white for low, white in ranges if low <= highest <= white * (1 + _OVERSHOOT)), None)
    return white if white is not None and lowest >= -_OVERSHOOT * white else None  # None for what is no number, too


def _scale(values: np.ndarray, factor: float) -> np.ndarray:
    scaled = np.empty(values.shape, np.uint16)
    for row, out in zip(values, scaled, strict=True):  # row by row: doubles of a large picture would not fit
        out[:] = np.round(np.clip(row.astype(np.float64) * factor, 0, 65535))
    return scaled


def _unmultiply(colours: np.ndarray, alpha: np.ndarray, white: int) -> np.ndarray:
    divided = np.empty_like(colours)
    for row, share, out in zip(colours, alpha, divided, strict=True):
        out[:] = np.round(np.minimum(row * (float(white) / np.maximum(share, 1)), white))
    return divided


def _from_cmyk(inks: np.ndarray, white: int) -> np.ndarray:
    """Convert as Pillow does: each ink takes its share of what black has left."""
    rgb = np.empty((*inks.shape[:2], 3), inks.dtype)
    for row, out in zip(inks, rgb, strict=True):
        remaining = white - row.astype(np.float64)
        out[:] = np.round(remaining[:, :3] * remaining[:, 3:] / white)
    return rgb


def write_tiff(file: IO[bytes], pixels: np.ndarray, options: Mapping[str, Any]) -> None:
    """Write uint16 (H, W), or (H, W, 2 to 4), grey or RGB, and alpha; options: Pillow's exif, dpi and icc_profile."""
    import tifffile

    grey = pixels.ndim == 2 or pixels.shape[-1] == 2
    exif = Image.Exif()
    exif.load(options.get("exif", b""))
    directories = {int(tag): values for tag in _DIRECTORIES if (values := exif.get_ifd(tag))}
    tags = [
        (tag, *typed, True) for tag, value in exif.items() if tag not in directories and (typed := _tag_type(value))
    ]
    whole = io.BytesIO()
    tifffile.imwrite(
        whole,
        pixels,
        byteorder="<",
        photometric="minisblack" if grey else "rgb",
        compression="zlib",
        predictor=True,
        extrasamples=["unassalpha"] if pixels.ndim > 2 and pixels.shape[-1] in (2, 4) else None,
        iccprofile=options.get("icc_profile"),
        resolution=options.get("dpi"),
        resolutionunit="inch" if options.get("dpi") else None,
        # tifffile writes no directories of EXIF; the tag before each holds its place, and becomes it below
        extratags=tags + [(tag - 1, "I", 1, 0, True) for tag in directories],
        metadata=None,
        software=False,
    )
    whole.seek(0)
    with tifffile.TiffFile(whole) as tiff:
        places = {tag: tiff.pages.first.tags[tag - 1].offset for tag in directories}
    for tag, values in directories.items():
        end = whole.seek(0, 2)
        offset = end + end % 2
        directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\x08\0\0\0")
        directory.update(values)
        whole.write(b"\0" * (end % 2) + directory.tobytes(offset))
        whole.seek(places[tag])
        whole.write(struct.pack("<HHII", tag, 4, 1, offset))  # LONG, one of them
    file.write(whole.getbuffer())


def _tag_type(value: Any) -> tuple[str, int, Any] | None:
    """Return a tag's value as tifffile takes it: type, count, value; None for what it has no type for."""
    if isinstance(value, str):
        return "s", 0, value
    if isinstance(value, bytes):
        return "B", len(value), value
    numbers = value if isinstance(value, tuple) else (value,)
    if numbers and all(isinstance(number, int) for number in numbers):
        return ("I" if max(numbers) > 65535 else "H"), len(numbers), value
    if numbers and all(isinstance(number, int | float) for number in numbers):
        return "d", len(numbers), value
    return None
