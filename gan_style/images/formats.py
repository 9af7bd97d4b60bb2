"""THE list of picture formats: what is read and written, by suffix and by content; and the pictures in a folder.

Without torch, so that planning a dataset needs none. Content decides how a file is read, its suffix how one is written.
"""

import io
import os
import re
import warnings
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from PIL import Image, features


@dataclass(frozen=True)
class Format:
    """A kind of picture file, under Pillow's name, and what it can hold of a picture.

    longest_side: in pixels, None for practically any; deep: 16 bits a channel; metadata: EXIF, XMP and our note; save:
    Pillow's options for results that hardly differ from their pixels.
    """

    name: str
    suffixes: tuple[str, ...]
    longest_side: int | None = None
    alpha: bool = True
    deep: bool = False
    profile: bool = True
    metadata: bool = True
    save: Mapping[str, Any] = field(default_factory=dict)


_ALL_FORMATS = (
    Format(
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
        longest_side=65_500,
        alpha=False,
        save={"quality": 95, "subsampling": 0},
    ),
    Format("PNG", (".png", ".apng"), deep=True),
    Format("WEBP", (".webp",), longest_side=16_383, save={"quality": 95}),
    Format("BMP", (".bmp", ".dib"), alpha=False, profile=False, metadata=False),
    Format("TIFF", (".tif", ".tiff"), deep=True),
    Format("AVIF", (".avif",), longest_side=65_536, save={"quality": 95, "subsampling": "4:4:4"}),
    Format("HEIF", (".heic", ".heif", ".hif"), longest_side=16_384, save={"quality": 95, "chroma": 444}),
)
_HAS_HEIF = find_spec("pillow_heif") is not None
_IS_READ = {"HEIF": _HAS_HEIF, "AVIF": features.check("avif")}  # the others always are
FORMATS = tuple(kind for kind in _ALL_FORMATS if _IS_READ.get(kind.name, True))
FORMAT_OF_SUFFIX = {suffix: kind for kind in FORMATS for suffix in kind.suffixes}
READABLE_FORMATS = tuple(kind.name for kind in FORMATS)
_HEADLESS = "DIB"  # a BMP without its first 14 bytes

_HEIC_HINT = "pip install 'gan_style[heic]' to read it"
_ANIMATION_HINT = "gan-style stylize-video takes it, as a video"
# Suffixes of pictures that are not read, and what to do about it.
UNREAD_SUFFIXES = {".gif": _ANIMATION_HINT}
UNREAD_SUFFIXES |= {} if _HAS_HEIF else dict.fromkeys((".heic", ".heif", ".hif"), _HEIC_HINT)
UNREAD_SUFFIXES |= dict.fromkeys((".jp2", ".jxl", ".ico", ".pdf", ".svg", ".psd", ".tga", ".exr"), "")
# How files that are no pictures of ours begin: (offset, bytes, what they are).
_SIGNATURES = (
    (0, b"GIF8", f"a GIF ({_ANIMATION_HINT})"),
    (4, b"ftypheic", f"a HEIC picture ({_HEIC_HINT})"),
    (4, b"ftypheix", f"a HEIC picture ({_HEIC_HINT})"),
    (4, b"ftypmif1", f"a HEIF picture ({_HEIC_HINT})"),
    (4, b"ftypmsf1", f"a HEIF sequence ({_HEIC_HINT})"),
    (4, b"ftyphevc", f"a HEIF sequence ({_HEIC_HINT})"),
    (4, b"ftypavi", "an AVIF picture, which this Pillow cannot read"),
    (4, b"ftypcrx ", "a camera's raw picture (CR3)"),
    (4, b"ftyp", "a video (gan-style stylize-video takes it)"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (4, b"JXL ", "a JPEG XL picture"),
    (4, b"jP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "an XML document"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"version https://git-lfs", "a Git LFS pointer (git lfs pull fetches the picture)"),
    (0, b"/annex/objects/", "a git-annex pointer (git annex get fetches the picture)"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (0, b"\x00\x00\x01\x00", "an icon"),
    (0, b"PK\x03\x04", "a ZIP archive"),
)
_LONGEST_TEXT = 1024 * 1024  # bytes of a PNG's text or profile that Pillow unpacks; longer ones we unpack ourselves
_LONGEST_CHUNK = 64 * 1024 * 1024  # and up to here


class UnreadablePictureError(ValueError):
    """A file that cannot be decoded; the message names it and says why."""


def known_suffixes() -> str:
    return ", ".join(FORMAT_OF_SUFFIX)


def format_for(suffix: str) -> Format:
    """Return the format that a suffix (".png") stands for. ValueError where none does."""
    kind = FORMAT_OF_SUFFIX.get(suffix.lower())
    if kind is None:
        raise ValueError(f"cannot write a picture as {suffix!r}; known are {known_suffixes()}")
    return kind


def check_fits(suffix: str, height: int, width: int) -> None:
    """Raise OSError for a picture that a kind of file has no room for."""
    kind, longest = format_for(suffix), max(height, width)
    if kind.longest_side is not None and longest > kind.longest_side:
        raise OSError(f"a {kind.name} holds at most {kind.longest_side} pixels a side, and the picture has {longest}")


@contextmanager
def open_file(path: Path | IO[bytes]) -> Iterator[IO[bytes]]:
    """Open a path; pass on an open file, from its beginning."""
    if isinstance(path, Path):
        with open(path, "rb") as file:
            yield file
    else:
        path.seek(0)
        yield path


def open_picture(path: Path | IO[bytes], *, limited: bool = True) -> Image.Image:
    """Open a picture by its content, not yet decoded. Pillow's errors pass through.

    An open file has to be seekable, and stays open. limited: by ``check_size``; else the caller looks at the size.
    """
    Image.init()
    if _HAS_HEIF and "HEIF" not in Image.OPEN:
        import pillow_heif

        pillow_heif.register_heif_opener()
    file: Any = path if hasattr(path, "read") else open(path, "rb")  # noqa: SIM115 (the picture closes it)
    try:
        # Recognise the content, whatever the name says.
        file.seek(0)
        head = file.read(64)
        name = next((name for name in (*READABLE_FORMATS, _HEADLESS) if _begins_as(name, head)), None)
        if name is None:
            *kinds, last = ({"WEBP": "WebP"}.get(kind, kind) for kind in READABLE_FORMATS)
            allowed, content = f"{', '.join(kinds)} or {last}", describe_content(head)
            raise Image.UnidentifiedImageError(f"its content is not a {allowed} picture; it is {content}")

        # Let Pillow open it, without what it would refuse for its length.
        long_chunks: dict[str, Any] = {}
        source = _without_long_chunks(file, long_chunks) if name == "PNG" else file
        source.seek(0)
        picture = Image.OPEN[name][0](source, "")
        picture.info.update(long_chunks)
        if limited:
            check_size(picture.size)
        picture._exclusive_fp = file is not path  # closing the picture closes the file that we have opened
        if source is not file and file is not path:
            file.close()
        return picture
    except BaseException:
        if file is not path:
            file.close()
        raise


def check_size(size: tuple[int, int]) -> None:
    """Raise ValueError for a picture, (width, height), that Pillow, too, takes for a decompression bomb."""
    if Image.MAX_IMAGE_PIXELS is not None and size[0] * size[1] > 2 * Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"it is too large, {size[0]} x {size[1]} pixels, and could be a decompression bomb")


def _begins_as(name: str, head: bytes) -> bool:
    accept = Image.OPEN[name][1]
    return accept is None or (len(head) >= 16 and accept(head[:16]) is True)


def describe_content(head: bytes) -> str:
    """Return what a file is that begins with these bytes, in words."""
    if not head:
        return "empty"
    start = head.lstrip()
    for offset, signature, description in _SIGNATURES:
        if start[offset : offset + len(signature)].lower() == signature.lower():
            return description
    if head[257:262] == b"ustar":
        return "a tar archive"
    return "of no known kind"


@contextmanager
def unreadable_picture(path: Path | IO[bytes]) -> Iterator[None]:
    """Raise UnreadablePictureError for whatever is raised in the block, the machine's own trouble aside."""
    try:
        yield
    except (MemoryError, UnreadablePictureError):
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, bomb errors, ...
        missing = isinstance(error, FileNotFoundError)
        reason = "there is no such file" if missing else str(error) or type(error).__name__
        raise UnreadablePictureError(f"cannot read the picture {path}: {reason}") from error


def _without_long_chunks(file: IO[bytes], info: dict[str, Any]) -> IO[bytes]:
    """Return a PNG without the texts and profiles that Pillow refuses for their length, or the file itself.

    A long profile and long XMP, which editors write, go into ``info`` under Pillow's names for them; the keywords of
    other long texts under "dropped_texts".
    """
    # Go through the chunks: (position, length) of those to keep, the content of long ones into info.
    chunks, long_chunks, position = [], False, 8
    while True:
        file.seek(position)
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or kind == b"IEND":
            break
        keyword, data = _decompress(kind, file.read(length)) if kind in (b"zTXt", b"iTXt", b"iCCP") else (b"", b"")
        if len(data) <= _LONGEST_TEXT:
            chunks.append((position, 12 + length))
        elif kind == b"iCCP":
            info["icc_profile"] = data
        elif keyword == b"XML:com.adobe.xmp":
            info["xmp"] = data
        else:
            info.setdefault("dropped_texts", []).append(keyword.decode("latin-1"))
        long_chunks |= len(data) > _LONGEST_TEXT
        position += 12 + length
    if not long_chunks:
        return file

    # Write the signature, the chunks to keep, and the end.
    slim = io.BytesIO()
    for start, length in [(0, 8), *chunks, (position, 12)]:
        file.seek(start)
        slim.write(file.read(length))
    return slim


def _decompress(kind: bytes, chunk: bytes) -> tuple[bytes, bytes]:
    """Return a compressed chunk's keyword and content (PNG, 3rd edition, 11.3.3); no content where it is as it is."""
    keyword, _, rest = chunk.partition(b"\0")
    if kind == b"iTXt":
        if rest[:2] != b"\1\0":
            return keyword, b""
        rest = rest[2:].split(b"\0", 2)[-1]  # language and translated keyword
    else:
        rest = rest[1:]  # the method of compression
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(rest, _LONGEST_CHUNK)
    except zlib.error:
        return keyword, b""  # Pillow's to refuse
    if unpacker.unconsumed_tail:
        raise ValueError(f"its {kind.decode()} chunk is larger than {_LONGEST_CHUNK // 2**20} MB unpacked")
    return keyword, data


def natural_order(name: str) -> list[str | int]:
    """Return a key that sorts "10-b" after "9-a": texts and whole numbers in turn."""
    return [int(part) if number % 2 else part for number, part in enumerate(re.split("([0-9]+)", name))]


def is_picture(path: Path) -> bool:
    """Return whether the name ends as a picture's does, hidden files aside."""
    return path.suffix.lower() in FORMAT_OF_SUFFIX and not path.name.startswith(".")


def list_pictures(folder: Path) -> list[Path]:
    """Return all pictures below a folder, by name, in sorted order; hidden files and folders are passed over."""
    return scan_folder(folder)[0]


def scan_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return (pictures, all other files and broken links) below a folder, both sorted, hidden ones aside."""
    files = sorted(_walk(folder)) if folder.is_dir() else []
    pictures = [path for path, broken in files if is_picture(path) and not broken]
    return pictures, [path for path, broken in files if broken or not is_picture(path)]


def describe_others(files: Iterable[Path]) -> str | None:
    """Return a line that counts files which are not read as pictures, by kind; None where there are none."""
    kinds, broken = Counter[str](), []
    for path in files:
        if is_broken_link(path):
            broken.append(path)
        else:
            kinds[path.suffix.lower() or "without a suffix"] += 1
    parts = [
        f"{count} {kind}" + (f" ({hint})" if (hint := UNREAD_SUFFIXES.get(kind)) else "")
        for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    ]
    if broken:
        links = f"{len(broken)} broken link{'s' * (len(broken) > 1)}, such as {broken[0]}"
        parts.append(f"{links} (git annex get or dvc pull fetches what such links stand for)")
    return f"passed over: {', '.join(parts)}" if parts else None


def is_broken_link(path: Path) -> bool:
    """Return whether a path is a link to something that is not there."""
    if not path.is_symlink() or path.exists():
        return False
    return not (path.parent / path.readlink()).exists()  # as it would where too many links led here


def _walk(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield each file and whether it is a broken link.

    Links to folders are followed, each folder is entered once; one that cannot be listed is warned of.
    """
    entered: set[tuple[int, int]] = set()
    folders, links = [folder], deque[Path]()
    while folders or links:
        place = folders.pop() if folders else links.popleft()
        try:
            status = place.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(place) as listing:
                items = [(item.name, *_kind(item)) for item in listing if not item.name.startswith(".")]
        except OSError as error:
            warnings.warn(f"{place} cannot be listed and is passed over: {error.strerror or error}", stacklevel=2)
            continue
        yield from ((place / name, kind == "broken link") for name, kind, _ in items if kind in ("file", "broken link"))
        for name, kind, linked in items:
            if kind == "folder":
                (links if linked else folders).append(place / name)


def _kind(item: "os.DirEntry[str]") -> tuple[str, bool]:
    """Return ("folder", "file", "broken link" or "", whether it is a link)."""
    linked = item.is_symlink()
    try:
        return "folder" if item.is_dir() else "file" if item.is_file() else "broken link" if linked else "", linked
    except OSError:  # a link to itself
        return "broken link", True
