"""Pictures as their files hold them: with alpha, with 16 bits, with a colour profile, and as large as memory allows.

images/decode.py gives what a network learns from; this is for results that are to be as good as their source.

Pillow has no mode for colours of 16 bits, but, with a little help, gives them all: asked for the 8 high bits it decodes
a 16-bit file well; asked for the other byte order, it gives the 8 low ones. What it cannot do is write them: PNG (W3C,
3rd edition) and TIFF 6.0 are written here, a strip of rows at a time.
"""

import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from gan_style.images.decode import (
    FORMAT_BY_SUFFIX,
    READABLE_FORMATS,
    SAVE_OPTIONS,
    UnreadablePictureError,
    note_options,
    reason_of,
)

_SWAPPED = {"B": "L", "L": "B", "N": "B"}  # the last letter of a raw mode: big, little, the machine's (little) endian
DEEP_SUFFIXES = (".png", ".tif", ".tiff")  # kinds of file that can hold 16 bits
_KNOWN = {"LA;16B", *(f"{mode};16{order}" for mode in ("RGB", "RGBA") for order in "BLN")}
_TYPES = {"H": 3, "I": 4}  # of a TIFF's entry: SHORT and LONG


def is_deep(picture: Image.Image) -> bool:
    """Whether an opened, not yet decoded picture has 16 bits a channel that can be had; else Pillow's 8 are."""
    if "transparency" in picture.info:  # a single colour that is transparent, which Pillow tells of 8 bits alone
        return False
    return picture.mode.startswith("I;16") or _low_bytes(picture) is not None


def is_grey_with_alpha(picture: Image.Image) -> bool:
    """Of 16 bits: with_low_bytes makes it give high and low byte of the grey, then of alpha."""
    return any(_raw_mode(tile) == "LA;16B" for tile in picture.tile)  # type: ignore[attr-defined]


def _raw_mode(tile: Any) -> str:
    return tile.args if isinstance(tile.args, str) else str(tile.args[0])


def _low_bytes(picture: Image.Image) -> str | None:
    """The raw mode that gives the low bytes, for a picture whose raw mode gives the high ones."""
    modes = {_raw_mode(tile) for tile in getattr(picture, "tile", [])}
    if len(modes) != 1 or (mode := modes.pop()) not in _KNOWN:
        return None
    return "RGBA" if mode == "LA;16B" else mode[:-1] + _SWAPPED[mode[-1]]  # RGBA: all four bytes as they are


def with_low_bytes(picture: Image.Image) -> None:
    """Make an opened picture decode to its low bytes (or, for grey with alpha, to all four bytes of a pixel)."""
    wanted = _low_bytes(picture)
    assert wanted is not None
    picture.tile = [  # type: ignore[attr-defined]
        tile._replace(args=wanted if isinstance(tile.args, str) else (wanted, *tile.args[1:]))
        for tile in picture.tile  # type: ignore[attr-defined]
    ]


def write_deep(
    file: IO[bytes], suffix: str, pixels: np.ndarray, *, note: Mapping[str, Any] | None, profile: bytes | None
) -> None:
    """uint16 (C, H, W), C of 3 (RGB) or 4 (with alpha), as a PNG or a TIFF; profile: an ICC profile."""
    write = _write_png if suffix.lower() == ".png" else _write_tiff
    text = b"" if note is None else json.dumps(dict(note), ensure_ascii=True, allow_nan=False).encode("ascii")
    write(file, pixels, text, profile)


def _strips(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Strips of rows, (h, W, C)."""
    channels, height, width = pixels.shape
    step = max(1, _STRIP // (channels * width))
    for top in range(0, height, step):
        yield pixels[:, top : top + step].transpose(1, 2, 0)


def _differences(strip: np.ndarray) -> np.ndarray:
    """Each value less its left neighbour's, modulo 2^16, as TIFF's predictor 2 wants it."""
    differences = strip.copy()
    differences[:, 1:] -= strip[:, :-1]
    return differences


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _write_png(file: IO[bytes], pixels: np.ndarray, text: bytes, profile: bytes | None) -> None:
    channels, height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    file.write(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header))
    if profile:
        file.write(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)))
    if text:
        file.write(_chunk(b"tEXt", b"Description\0" + text))
    packer = zlib.compressobj(6)
    for strip in _strips(pixels):
        file.write(_chunk(b"IDAT", packer.compress(_filtered(strip))))
    file.write(_chunk(b"IDAT", packer.flush()) + _chunk(b"IEND", b""))


def _filtered(strip: np.ndarray) -> bytes:
    """Rows as PNG's filter 1 (Sub) has them: bytes less those of the pixel to the left, modulo 256."""
    height, _, channels = strip.shape
    raw = strip.astype(">u2").reshape(height, -1).view(np.uint8)
    rows = np.empty((height, 1 + raw.shape[1]), np.uint8)
    rows[:, 0], rows[:, 1:] = 1, raw
    rows[:, 1 + 2 * channels :] -= raw[:, : -2 * channels]
    return rows.tobytes()


def _write_tiff(file: IO[bytes], pixels: np.ndarray, text: bytes, profile: bytes | None) -> None:
    """Little-endian, Deflate with horizontal differences, its directory after the pixels."""
    channels, height, width = pixels.shape
    start = file.tell()
    file.write(b"II*\0\0\0\0\0")
    offsets, counts, rows = [], [], 0
    for strip in _strips(pixels):
        rows = rows or len(strip)
        packed = zlib.compress(_differences(strip).astype("<u2").tobytes(), 6)
        offsets.append(file.tell() - start)
        counts.append(len(packed))
        file.write(packed + b"\0" * (len(packed) % 2))
    entries: dict[int, tuple[str, list[int] | bytes]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [16] * channels),
        259: ("H", [8]),  # Deflate
        262: ("H", [2]),  # RGB
        273: ("I", offsets),
        277: ("H", [channels]),
        278: ("I", [rows]),
        279: ("I", counts),
        284: ("H", [1]),  # channels together
        317: ("H", [2]),  # horizontal differences
    }
    entries |= {270: ("s", text + b"\0")} if text else {}
    entries |= {338: ("H", [2])} if channels == 4 else {}  # alpha that the colours are not multiplied with
    entries |= {34675: ("u", profile)} if profile else {}
    place = file.tell() - start
    file.write(_directory(entries, place))
    file.seek(start + 4)
    file.write(struct.pack("<I", place))
    file.seek(0, 2)


def _directory(entries: Mapping[int, tuple[str, list[int] | bytes]], place: int) -> bytes:
    """An image file directory that lies at ``place``, with the values too long for it behind it."""
    head, beyond = struct.pack("<H", len(entries)), b""
    end = place + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        data = values if isinstance(values, bytes) else struct.pack(f"<{len(values)}{kind}", *values)
        number = _TYPES.get(kind, 2 if kind == "s" else 7)  # ASCII or UNDEFINED
        stored = data.ljust(4, b"\0")
        if len(data) > 4:
            stored = struct.pack("<I", end + len(beyond))
            beyond += data + b"\0" * (len(data) % 2)
        head += struct.pack("<HHI", tag, number, len(values)) + stored
    return head + struct.pack("<I", 0) + beyond


ALPHA_SUFFIXES = (".png", ".webp", ".tif", ".tiff")  # kinds of file that can hold transparency
PROFILE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")  # a colour profile
_RGB_MODES = ("RGB", "RGBA", "P")
_STRIP = 4_000_000  # values or pixels that are copied at once


@dataclass(frozen=True)
class Original:
    """pixels: RGB, uint8 or uint16, (3, H, W); alpha: the same type, (1, H, W), None where nothing is transparent;
    profile: the colours' ICC profile, None where the file has none; stripped: whether it had one for colours that are
    not RGB (grey, CMYK), which these pixels have no use for; frames: how many pictures the file holds, these pixels
    being the first one's.
    """

    pixels: Tensor
    alpha: Tensor | None = None
    profile: bytes | None = None
    stripped: bool = False
    frames: int = 1


def read_original(path: Path | IO[bytes], *, max_megapixels: float) -> Original:
    """Upright, with everything that ``Original`` can hold. UnreadablePictureError for anything else, or a larger one.

    Alpha that the colours are multiplied with is divided out, to 8 bits; 16-bit grey becomes RGB.
    """
    try:
        return _read(path, max_megapixels)
    except (MemoryError, UnreadablePictureError):
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, bomb errors, ...
        raise UnreadablePictureError(f"cannot read the picture {path}: {reason_of(error)}") from error


def _read(path: Path | IO[bytes], max_megapixels: float) -> Original:
    with _opened(path) as picture:
        frames = _frames_of(picture)
    return replace(_first(path, max_megapixels), frames=frames)


def _frames_of(picture: Image.Image) -> int:
    """A JPEG's further pictures, which telephones hide in it, are the same one for other uses."""
    try:
        return int(getattr(picture, "n_frames", 1)) if picture.format in ("TIFF", "PNG", "WEBP") else 1
    except Exception:  # of a damaged later page
        return 1


def _first(path: Path | IO[bytes], max_megapixels: float) -> Original:
    with _opened(path) as picture:
        if picture.width * picture.height > 1e6 * max_megapixels:
            raise ValueError(
                f"it has {picture.width} x {picture.height} pixels; max_megapixels={max_megapixels:g} allows no more "
                f"than {max_megapixels:g} million"
            )
        profile = picture.info.get("icc_profile") or None
        if not is_deep(picture):
            return _original(_shallow(picture), profile, of_rgb=picture.mode in _RGB_MODES)
        if picture.mode.startswith("I;16"):
            return _original(_grey(picture), profile, of_rgb=False)
        grey_with_alpha = is_grey_with_alpha(picture)
        values = _planes(_upright(picture)).astype(np.uint16)
    with _opened(path) as picture:
        with_low_bytes(picture)
        low = _upright(picture)
        if grey_with_alpha:  # high and low byte of grey, then of alpha
            values = _planes(low).astype(np.uint16)
            joined = values[[0, 2]] * 256 + values[[1, 3]]
            return _original(joined[[0, 0, 0, 1]], profile, of_rgb=False)
        values *= 256
        _each_strip(low, lambda rows, strip: np.add(values[:, rows], strip, out=values[:, rows]))
    return _original(values, profile, of_rgb=True)


def _original(values: np.ndarray, profile: bytes | None, *, of_rgb: bool) -> Original:
    """values: (3 or 4, H, W)."""
    return Original(*_split(values), profile if of_rgb else None, stripped=profile is not None and not of_rgb)


def _split(values: np.ndarray) -> tuple[Tensor, Tensor | None]:
    planes = torch.from_numpy(values)
    return planes[:3], planes[3:] if len(planes) == 4 else None


def _opened(path: Path | IO[bytes]) -> Image.Image:
    """As Image.open does it, but for its limit, of which there is one for the whole process."""
    Image.init()
    if hasattr(path, "seek"):
        path.seek(0)
    file: Any = path if hasattr(path, "read") else open(path, "rb")  # noqa: SIM115 (the picture closes it)
    try:
        start = file.read(16)
        for name in READABLE_FORMATS:
            factory, accept = Image.OPEN[name]
            if accept is None or accept(start) is True:
                file.seek(0)
                picture = factory(file, "")
                picture._exclusive_fp = file is not path
                return picture
    except BaseException:
        if file is not path:
            file.close()
        raise
    if file is not path:
        file.close()
    raise ValueError("its content is not a JPEG, PNG, WebP, BMP or TIFF picture")


def _upright(picture: Image.Image) -> Image.Image:
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)
    return picture


def _shallow(picture: Image.Image) -> np.ndarray:
    """uint8 (3 or 4, H, W) of a picture of any mode."""
    picture = _upright(picture)
    if picture.mode == "F":  # taken to lie in [0, 1]
        picture = picture.point(lambda v: v * 255.0 + 0.5).convert("L")
    elif picture.mode.startswith("I"):
        picture = picture.convert("I").point(lambda v: v * (1 / 257) + 0.5).convert("L")
    wanted = "RGBA" if picture.has_transparency_data else "RGB"
    return _planes(picture if picture.mode == wanted else picture.convert(wanted))


def _grey(picture: Image.Image) -> np.ndarray:
    """16-bit grey as uint16 (3, H, W)."""
    values = np.asarray(_upright(picture)).astype(np.uint16)
    return np.broadcast_to(values, (3, *values.shape)).copy()


def _planes(picture: Image.Image) -> np.ndarray:
    """(C, H, W), copied strip by strip: np.asarray alone would need the picture three times."""
    planes = np.empty((len(picture.getbands()), picture.height, picture.width), np.uint8)
    _each_strip(picture, lambda rows, strip: np.copyto(planes[:, rows], strip))
    return planes


def _each_strip(picture: Image.Image, use: Callable[[slice, np.ndarray], object]) -> None:
    for rows in _rows(picture.height, picture.width):
        strip = picture.crop((0, rows.start, picture.width, rows.stop))
        use(rows, np.asarray(strip).reshape(rows.stop - rows.start, picture.width, -1).transpose(2, 0, 1))


def _rows(height: int, width: int) -> Iterator[slice]:
    step = max(1, _STRIP // width)
    for top in range(0, height, step):
        yield slice(top, min(height, top + step))


def on_white(original: Original) -> Original:
    """Without transparency: what shows through is white."""
    if original.alpha is None:
        return original
    most = _most(original.pixels)
    pixels = torch.empty_like(original.pixels)
    for rows in _rows(*pixels.shape[1:]):
        part, share = original.pixels[:, rows].float(), original.alpha[:, rows].float() / most
        pixels[:, rows] = (part * share + most * (1.0 - share)).round().to(pixels.dtype)
    return replace(original, pixels=pixels, alpha=None)


def _most(pixels: Tensor) -> float:
    return 255.0 if pixels.dtype == torch.uint8 else 65535.0


def to_eight_bits(original: Original) -> Original:
    """16-bit values rounded to 8."""
    if original.pixels.dtype == torch.uint8:
        return original
    planes = (original.pixels, original.alpha)
    pixels, alpha = (None if plane is None else _divided(plane) for plane in planes)
    assert pixels is not None
    return replace(original, pixels=pixels, alpha=alpha)


def _divided(plane: Tensor) -> Tensor:
    divided = torch.empty(plane.shape, dtype=torch.uint8)
    for rows in _rows(*plane.shape[1:]):
        divided[:, rows] = (plane[:, rows].float() / 257.0).round().to(torch.uint8)
    return divided


def preview(original: Original, height: int) -> Tensor:
    """uint8 (3, h, w), laid on white, no higher than ``height`` pixels."""
    image = _image(on_white(to_eight_bits(original)))
    image.thumbnail((65500, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(_planes(image))


def from_pil(picture: Any) -> Original:
    """What is in Pillow's picture, upright, which is left as it is; 16 bits of grey alone. ValueError for another."""
    if not isinstance(picture, Image.Image):
        raise ValueError(f"a picture expected, or its path, or a tensor (N, 3, H, W); got {type(picture).__name__}")
    copied = picture.copy()
    profile = picture.info.get("icc_profile") or None
    if picture.mode.startswith("I;16"):
        return _original(_grey(copied), profile, of_rgb=False)
    return _original(_shallow(copied), profile, of_rgb=picture.mode in _RGB_MODES)


def to_pil(original: Original) -> Any:
    """Pillow's picture, RGB or RGBA, of 8 bits, for want of more."""
    image = _image(to_eight_bits(original))
    if original.profile:
        image.info["icc_profile"] = original.profile
    return image


def write_original(file: IO[bytes], suffix: str, original: Original, *, note: Mapping[str, Any] | None = None) -> None:
    """Write a picture as the kind of file that the suffix (".png") names, with all that this kind can hold.

    What it cannot hold (ALPHA_SUFFIXES, DEEP_SUFFIXES) is laid on white, or rounded. note: as in images.encode.
    """
    kind = FORMAT_BY_SUFFIX.get(suffix.lower())
    if kind is None:
        raise ValueError(f"cannot write a picture as {suffix!r}; known are {', '.join(FORMAT_BY_SUFFIX)}")
    if suffix.lower() not in ALPHA_SUFFIXES:
        original = on_white(original)
    if original.pixels.dtype != torch.uint8 and suffix.lower() in DEEP_SUFFIXES:
        return write_deep(file, suffix, _joined(original), note=note, profile=original.profile)
    original = to_eight_bits(original)
    options: dict[str, Any] = {**SAVE_OPTIONS.get(kind, {}), **note_options(kind, note)}
    if original.profile and suffix.lower() in PROFILE_SUFFIXES:
        options["icc_profile"] = original.profile
    if kind == "WEBP" and original.alpha is not None:
        options["exact"] = True  # colours that cannot be seen are kept, too
    _image(original).save(file, format=kind, **options)


def _joined(original: Original) -> np.ndarray:
    return (original.pixels if original.alpha is None else torch.cat([original.pixels, original.alpha])).numpy()


def _image(original: Original) -> Image.Image:
    planes = [original.pixels] if original.alpha is None else [original.pixels, original.alpha]
    height, width = original.pixels.shape[1:]
    image = Image.new("RGB" if original.alpha is None else "RGBA", (width, height))
    for rows in _rows(height, width):
        strip = torch.cat([plane[:, rows] for plane in planes]).permute(1, 2, 0)
        image.paste(Image.fromarray(strip.contiguous().numpy()), (0, rows.start))
    return image
