"""The image contract of the whole house, and the only file that decodes, encodes or changes ranges.

A picture in memory is RGB: uint8 of shape (3, H, W) while it waits, float32 of shape (N, 3, H, W) in [-1, 1]
wherever mathematics is done on it.
"""

import io
import json
import os
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

# Only formats that Pillow decodes itself: an EPS, say, would start Ghostscript.
READABLE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
FORMAT_BY_SUFFIX = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
_MOST_SCALED_PIXELS = 100_000_000  # a strip of 1 x 5000, say, would become 256 x 1,280,000
OTHER_PICTURE_SUFFIXES = (".gif", ".avif", ".heic", ".jp2", ".ico", ".pdf", ".svg")  # known, but not written
SAVE_OPTIONS: dict[str, dict[str, int]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
}
NOTED = "gan_style"  # a key that every note has: it tells a note of ours from another program's description
WITHOUT_NOTE = (".bmp",)  # kinds of file that hold nothing but pixels
_DESCRIPTION = ("Description", 0x010E)  # keyword of PNG's tEXt (its section 11.3.3.2), tag of EXIF's ImageDescription
_TURNED_BACK = {  # TIFF 6.0, Orientation: the transformations that undo those to upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_QUARTER_TURNS = (5, 6, 7, 8)  # orientations in which width and height change places
_LONGEST_NOTE = 32_000  # characters; what EXIF can hold in a JPEG ends at 64 KiB


class UnreadablePictureError(ValueError):
    """A file that cannot be decoded; the message names it and says why."""


def decode(path: Path | IO[bytes], *, short_side: int | None = None, upright: bool = True) -> Tensor:
    """Read a picture, from its path or an open file, as uint8 RGB (3, H, W), with transparency laid on white.

    With ``short_side`` (pixels) the picture is scaled, never squashed, so that its shorter side has that length.
    Upright, unless the pixels are wanted as they are stored. Raises UnreadablePictureError for anything that is not a
    whole picture of a known kind.
    """
    try:
        with Image.open(path, formats=READABLE_FORMATS) as picture:
            ratio, wide = max(picture.size) / min(picture.size), picture.width > picture.height
            drafted = None
            if short_side is not None and picture.mode in ("RGB", "L"):
                drafted = picture.draft(None, (short_side, short_side))  # a large JPEG is decoded at 1/2, 1/4 or 1/8
            on_its_side = upright and picture.getexif().get(ExifTags.Base.Orientation, 1) in _QUARTER_TURNS
            turned = ImageOps.exif_transpose(picture) if upright else _turned_back(picture)
            wide = turned.width > turned.height if drafted is None else wide != on_its_side
            return pil_to_tensor(_scaled(_to_rgb(turned), short_side, ratio, wide=wide))
    except MemoryError:
        raise  # the machine's trouble, not the picture's
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, bomb errors, ...
        raise UnreadablePictureError(f"cannot read the picture {path}: {reason_of(error)}") from error


def _turned_back(picture: Image.Image) -> Image.Image:
    """As it is stored: Pillow turns a TIFF upright when it is loaded, whether that is wanted or not."""
    if picture.format != "TIFF":
        return picture
    stored: int = picture.getexif().get(ExifTags.Base.Orientation, 1)
    picture.load()
    turned = picture.getexif().get(ExifTags.Base.Orientation, 1) != stored
    return picture.transpose(_TURNED_BACK[stored]) if turned and stored in _TURNED_BACK else picture


def reason_of(error: Exception) -> str:
    """Why a picture could not be read, in the user's words."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Image.UnidentifiedImageError):
        return "its content is not a JPEG, PNG, WebP, BMP or TIFF picture"
    return str(error) or type(error).__name__


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        return _deep_grey_to_rgb(picture)
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


def _deep_grey_to_rgb(picture: Image.Image) -> Image.Image:
    """16-bit grey is divided by 257 (``convert`` alone would saturate); float grey is taken to lie in [0, 1]."""
    if picture.mode == "F":
        return picture.point(lambda v: v * 255.0 + 0.5).convert("L").convert("RGB")
    return picture.convert("I").point(lambda v: v * (1 / 257) + 0.5).convert("L").convert("RGB")


def _scaled(picture: Image.Image, short_side: int | None, ratio: float, *, wide: bool) -> Image.Image:
    """ratio: of the file's long side to its short one, wide: which of them it is; a draft's own are rounded."""
    if short_side is None:
        return picture
    lengths = (short_side, round(short_side * ratio))
    if lengths[0] * lengths[1] > _MOST_SCALED_PIXELS:
        raise ValueError(f"its sides differ by a factor of {ratio:.0f}; scaled it would be {lengths[1]} pixels long")
    size = lengths[::-1] if wide else lengths
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def encode(image: Tensor, suffix: str, *, note: Mapping[str, Any] | None = None) -> bytes:
    """The bytes of a file for a float picture of shape (3, H, W) in [-1, 1]; the suffix (".png") picks the format.

    note: what made the picture (JSON types, NOTED among its keys), kept in the file's metadata where it can hold any.
    """
    return encode_uint8(to_uint8(image).cpu(), suffix, note=note)


def encode_uint8(picture: Tensor, suffix: str, *, note: Mapping[str, Any] | None = None, **options: int) -> bytes:
    """The same for uint8 (3, H, W) on the CPU; ``options`` (quality, lossless, compress_level) are Pillow's."""
    kind = FORMAT_BY_SUFFIX.get(suffix.lower())
    if kind is None:
        raise ValueError(f"cannot write a picture as {suffix!r}; known are {', '.join(FORMAT_BY_SUFFIX)}")
    buffer = io.BytesIO()
    to_pil_image(picture).save(buffer, format=kind, **SAVE_OPTIONS.get(kind, {}) | options, **note_options(kind, note))
    return buffer.getvalue()


def note_options(kind: str, note: Mapping[str, Any] | None) -> dict[str, Any]:
    """Pillow's options that put a note into a file: as JSON in ASCII, which every reader of metadata shows."""
    if note is None or kind == "BMP":
        return {}
    text = json.dumps(dict(note), ensure_ascii=True, allow_nan=False)
    if NOTED not in note or len(text) > _LONGEST_NOTE:
        raise ValueError(f"a note of {len(text)} characters; it needs the key {NOTED} and at most {_LONGEST_NOTE}")
    if kind == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text(_DESCRIPTION[0], text)
        return {"pnginfo": chunks}
    exif = Image.Exif()
    exif[_DESCRIPTION[1]] = text
    return {"exif": exif}


def read_note(path: Path | IO[bytes]) -> dict[str, Any] | None:
    """The note that ``encode`` put into a picture; None where there is none. UnreadablePictureError for no picture."""
    try:
        with Image.open(path, formats=READABLE_FORMATS) as picture:
            texts = [getattr(picture, "text", {}).get(_DESCRIPTION[0]), picture.getexif().get(_DESCRIPTION[1])]
    except MemoryError:
        raise
    except Exception as error:
        raise UnreadablePictureError(f"cannot read the picture {path}: {reason_of(error)}") from error
    return next((note for text in texts if (note := _parsed(text)) is not None), None)


def _parsed(text: Any) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and NOTED in found else None


def encode_animation(images: Sequence[Tensor], seconds: Sequence[float]) -> bytes:
    """The bytes of a GIF that repeats for ever: float pictures (3, H, W) in [-1, 1] of one size, each so long shown."""
    frames = [to_pil_image(to_uint8(image).cpu()).quantize(256) for image in images]
    times = [round(1000 * one) for one in seconds]
    buffer = io.BytesIO()
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return buffer.getvalue()


def to_float(picture: Tensor) -> Tensor:
    """uint8 in [0, 255] to float32 in [-1, 1], any shape."""
    return picture.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(image: Tensor) -> Tensor:
    """Float in [-1, 1] to uint8 in [0, 255], any shape: clamp, round, cast."""
    return image.detach().float().clamp(-1.0, 1.0).add(1.0).mul(127.5).round().to(torch.uint8)


def grid(rows: Sequence[Sequence[Tensor]], *, gap: int = 4) -> Tensor:
    """One picture (3, H, W) from rows of pictures (3, h, w) in [-1, 1]: each scaled to its row's height, on white.

    A row takes the height of its first picture; the columns are aligned to the left.
    """
    strips = [_row([_to_height(image, row[0].shape[-2]) for image in row], gap) for row in rows]
    width = max(strip.shape[-1] for strip in strips)
    sheet = torch.ones(3, sum(strip.shape[-2] + gap for strip in strips) - gap, width)
    top = 0
    for strip in strips:
        sheet[:, top : top + strip.shape[-2], : strip.shape[-1]] = strip
        top += strip.shape[-2] + gap
    return sheet


def labelled_grid(cells: Sequence[tuple[str, Tensor]], *, columns: int) -> Tensor:
    """A sheet (3, H, W) of pictures (3, h, w) in [-1, 1], ``columns`` to a row, each with its name below, on white."""
    named = [torch.cat([image.detach().float().cpu(), _label(name, image.shape[-1])], dim=1) for name, image in cells]
    return grid([named[start : start + columns] for start in range(0, len(named), columns)])


def _label(text: str, width: int, height: int = 24) -> Tensor:
    """Black on white, (3, height, width) in [-1, 1]; what is too long is cut off."""
    strip = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(strip).text((2, 4), text, fill="black", font=ImageFont.load_default(15))
    return to_float(pil_to_tensor(strip))


def _to_height(image: Tensor, height: int) -> Tensor:
    image = image.detach().float().cpu()
    if image.shape[-2] == height:
        return image
    size = (height, max(1, round(image.shape[-1] * height / image.shape[-2])))
    scaled = torch.nn.functional.interpolate(image[None], size, mode="bilinear", antialias=True)
    return scaled[0]


def _row(images: Sequence[Tensor], gap: int) -> Tensor:
    white = torch.ones(3, images[0].shape[-2], gap)
    parts = [part for image in images for part in (image, white)]
    return torch.cat(parts[:-1], dim=-1)


def is_picture(path: Path) -> bool:
    """Whether the name ends as a picture's does, hidden files aside."""
    return path.suffix.lower() in FORMAT_BY_SUFFIX and not path.name.startswith(".")


def list_pictures(folder: Path) -> list[Path]:
    """All pictures below a folder, by name, in sorted order; hidden files and folders are passed over."""
    return [path for path in _visible_files(folder) if is_picture(path)]


def list_others(folder: Path) -> list[Path]:
    """The same for pictures of kinds that are not read (GIF, HEIC, ...)."""
    return [path for path in _visible_files(folder) if path.suffix.lower() in OTHER_PICTURE_SUFFIXES]


def _visible_files(folder: Path) -> list[Path]:
    return sorted(_walk(folder)) if folder.is_dir() else []


def _walk(folder: Path) -> Iterator[Path]:
    """Links to folders are followed, each folder is entered once; one that cannot be listed is warned of."""
    entered: set[tuple[int, int]] = set()
    folders, links = [folder], deque[Path]()
    while folders or links:
        place = folders.pop() if folders else links.popleft()
        try:
            here = place.stat()
            if (here.st_dev, here.st_ino) in entered:
                continue
            entered.add((here.st_dev, here.st_ino))
            with os.scandir(place) as found:
                items = [(item.name, *_kind(item)) for item in found if not item.name.startswith(".")]
        except OSError as error:
            warnings.warn(f"{place} cannot be listed and is passed over: {error.strerror or error}", stacklevel=2)
            continue
        yield from (place / name for name, kind, _ in items if kind == "file")
        for name, kind, linked in items:
            if kind == "folder":
                (links if linked else folders).append(place / name)


def _kind(item: "os.DirEntry[str]") -> tuple[str, bool]:
    """("folder", "file" or "", whether it is a link)."""
    try:
        return "folder" if item.is_dir() else "file" if item.is_file() else "", item.is_symlink()
    except OSError:  # a link to itself
        return "", True
