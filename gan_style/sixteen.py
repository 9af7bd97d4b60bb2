"""Pictures of 16 bits a channel: Pillow has no such mode for colours, but, with a little help, gives them all.

Asked for the 8 high bits it decodes a 16-bit file well; asked for the other byte order, it gives the 8 low ones. What
it cannot do is write them: PNG (W3C, 3rd edition) and TIFF 6.0 are written here, a strip of rows at a time.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np
from PIL import Image

_SWAPPED = {"B": "L", "L": "B", "N": "B"}  # the last letter of a raw mode: big, little, the machine's (little) endian
DEEP_SUFFIXES = (".png", ".tif", ".tiff")  # kinds of file that can hold 16 bits
_KNOWN = {"LA;16B", *(f"{mode};16{order}" for mode in ("RGB", "RGBA") for order in "BLN")}
_STRIP = 4_000_000  # values that are written at once
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
