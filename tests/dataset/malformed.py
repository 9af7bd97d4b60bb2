"""Files that are no whole pictures, and odd ones that are: name to (bytes, kinds that may be given as the reason)."""

import io
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from chunks import chunk
from PIL import Image, PngImagePlugin

NOT = ("not a picture",)
DAMAGED = ("truncated", "damaged", "not a picture")
LARGE = ("too large",)


def pixels(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(kind: str, picture: Image.Image | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    (picture or Image.fromarray(pixels(40, 50))).save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, rows: bytes, *extra: bytes, end: bool = True) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    parts = [b"\x89PNG\r\n\x1a\n", header, *extra, chunk(b"IDAT", zlib.compress(rows))]
    return b"".join([*parts, chunk(b"IEND", b"") if end else b""])


def bad() -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    """(name, content, kinds)."""
    encoded_files = {
        "jpg": encoded("JPEG"),
        "progressive.jpg": encoded("JPEG", progressive=True),
        "png": encoded("PNG"),
        "webp": encoded("WEBP"),
        "lossless.webp": encoded("WEBP", lossless=True),
        "bmp": encoded("BMP"),
        "tif": encoded("TIFF"),
        "lzw.tif": encoded("TIFF", compression="tiff_lzw"),
    }
    for name, data in encoded_files.items():
        for percent in (1, 15, 40, 60, 75, 90):
            yield f"cut {percent}.{name}", data[: len(data) * percent // 100], (*DAMAGED, "empty", "too large")
        yield f"zeros.{name}", b"\0" * len(data), NOT
        yield f"head of zeros.{name}", b"\0" * 16 + data[16:], NOT
    yield "empty.jpg", b"", ("empty",)
    yield "a byte.jpg", b"\xff", NOT
    yield "text.jpg", b"no picture at all\n" * 50, NOT
    yield "page.png", b"<!doctype html><title>404</title>", NOT
    yield "noise.jpg", random.Random(0).randbytes(5000), NOT
    yield "archive.png", b"PK\x03\x04" + bytes(100), NOT
    yield "vector.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", NOT
    yield "script.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", NOT
    yield "paper.jpg", b"%PDF-1.4\n", NOT
    yield "moving.jpg", encoded("GIF"), NOT
    yield "icon.png", encoded("ICO"), NOT
    yield "plain.jpg", encoded("PPM"), NOT
    yield "heic.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", DAMAGED
    yield "two bytes.jpg", b"\xff\xd8", DAMAGED
    yield "no scan.jpg", encoded_files["jpg"][:200] + b"\xff\xd9", DAMAGED
    yield "signature.png", b"\x89PNG\r\n\x1a\n", DAMAGED
    yield "no pixels.png", png(40, 50, b"")[: 8 + 25], DAMAGED
    yield "few pixels.png", png(40, 50, bytes(1000)), DAMAGED
    yield "bad stream.png", png(40, 50, b"").replace(zlib.compress(b""), b"\x78\x9c\xff\xff\xff\xff\0\0\0\x01"), DAMAGED
    yield (
        "bad sum.png",
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0), checksum=1),
        DAMAGED,
    )
    yield "bomb.png", png(60_000, 60_000, b""), LARGE
    yield "wide bomb.png", png(2_000_000_000, 1, b""), LARGE
    yield "over the limit.png", png(5_000, 5_000, b""), LARGE
    yield "text bomb.png", png(4, 4, bytes(52), text_bomb()), (*DAMAGED, *LARGE)
    yield "no size.png", png(0, 10, b""), DAMAGED
    yield (
        "bmp bomb.bmp",
        b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 50_000, 50_000, 1, 24, *[0] * 6),
        LARGE,
    )
    yield (
        "no size.bmp",
        b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 0, 0, 1, 24, *[0] * 6),
        DAMAGED,
    )
    yield "no directory.tif", b"II*\0" + struct.pack("<I", 1 << 30), DAMAGED
    yield "loop.tif", b"II*\0" + struct.pack("<IH", 8, 0) + struct.pack("<I", 8), DAMAGED
    yield "claims.webp", b"RIFF" + struct.pack("<I", 1 << 30) + b"WEBPVP8 " + bytes(40), DAMAGED


def text_bomb() -> bytes:
    return chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9))


def odd() -> Iterator[tuple[str, bytes, tuple[int, int]]]:
    """Whole pictures of unusual kinds: (name, content, size)."""
    image = Image.fromarray(pixels(30, 20))
    for mode in ("1", "L", "P", "I;16", "LA", "RGBA"):
        yield f"{mode.replace(';', '')}.png", encoded("PNG", image.convert("L").convert(mode)), (20, 30)
    for mode in ("CMYK", "YCbCr", "I", "F"):
        yield f"{mode}.tif", encoded("TIFF", image.convert("L" if mode in "IF" else "RGB").convert(mode)), (20, 30)
    yield "one pixel.png", encoded("PNG", Image.new("RGB", (1, 1))), (1, 1)
    yield "a strip.png", encoded("PNG", Image.new("RGB", (1, 900))), (1, 900)
    yield "named otherwise.jpg", encoded("PNG", image), (20, 30)
    yield "many frames.webp", encoded("WEBP", image, save_all=True, append_images=[image] * 3), (20, 30)
    yield "turned.jpg", turned(image, 6), (30, 20)
    yield "mirrored.jpg", turned(image, 2), (20, 30)
    yield "nonsense turn.jpg", turned(image, 77), (20, 30)
    yield "bad profile.png", encoded("PNG", image, icc_profile=b"no profile"), (20, 30)
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 10_000, zip=True)
    yield "text.png", encoded("PNG", image, pnginfo=info), (20, 30)


def turned(picture: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded("JPEG", picture, exif=exif)
