"""What a file says about its picture besides pixels: EXIF, XMP, resolution, texts; and our note of what made it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from PIL import ExifTags, Image, PngImagePlugin

from gan_style.images.formats import Format, open_picture, unreadable_picture

NOTED = "gan_style"  # a key that every note has: it tells a note of ours from another program's description
_LONGEST_NOTE = 32_000  # characters; what EXIF can hold in a JPEG ends at 64 KiB
_LONGEST_SEGMENT = 65_533  # bytes of a JPEG's segment, less its length
_XMP_KEYWORD, _OWN_KEYWORD = "XML:com.adobe.xmp", "gan_style"  # of PNG's texts
_DESCRIPTION, _HISTORY = 0x010E, 0x9213  # EXIF's ImageDescription, ImageHistory: our note, and where the first is taken
_MAKER_NOTE = 0x927C
_XMP_TAG, _PHOTOSHOP_TAG = 700, 34377
_RESOLUTION_TAGS = (0x011A, 0x011B, 0x0128)
_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# Tags of a TIFF's or EXIF's main directory that say how its own pixels lie, which are written anew.
_OF_PIXELS = {
    *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281, 284, 288, 289, 290),
    *(291, 292, 293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 332, 333, 334, 336, 337, 338, 339),
    *(340, 341, 342, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 34675, 37724, 50341),
    *(_XMP_TAG, _PHOTOSHOP_TAG, *_RESOLUTION_TAGS, 50838, 50839),
}
# Descriptions by which tifffile, ImageJ and OME say how the pixels of a TIFF lie.
_LAYOUT = re.compile(r'(?s)\s*(\{"shape": |ImageJ=|<\?xml[^>]*>.*?<OME )')
# PNG's predefined keywords (3rd edition, 11.3.3.1) that EXIF has a tag for.
_TAG_OF_KEYWORD = {"Description": _DESCRIPTION, "Author": 0x013B, "Copyright": 0x8298, "Software": 0x0131}


@dataclass(frozen=True)
class Metadata:
    """exif: as EXIF has it, without orientation and thumbnail; xmp: the packet; dpi: pixels per inch, across and down;
    texts: of PNG by keyword, and a JPEG's comment; iptc: the record of a JPEG's Photoshop block.
    """

    exif: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    iptc: bytes = b""


def with_orientation(metadata: Metadata, orientation: int) -> Metadata:
    """Return metadata of upright pixels as they are of pixels that lie as EXIF's orientation says."""
    if orientation == 1:
        return metadata
    exif = Image.Exif()
    exif.load(metadata.exif)
    exif[ExifTags.Base.Orientation] = orientation
    xmp = re.sub(rb"(tiff:Orientation(?:=\"|>))1", rb"\g<1>%d" % orientation, metadata.xmp)
    return replace(metadata, exif=exif.tobytes(), xmp=xmp)


def read_metadata(picture: Image.Image, size: tuple[int, int]) -> Metadata:
    """Return what an opened picture, already decoded, says; size: its (width, height) once upright.

    Our own note is left out: it tells of what made the source.
    """
    info = picture.info
    texts = {str(key): str(text) for key, text in getattr(picture, "text", {}).items()}
    if isinstance(info.get("comment"), bytes) and picture.format in ("JPEG", "MPO"):
        texts["Comment"] = info["comment"].decode("utf-8", "replace")
    texts = {
        key: text
        for key, text in texts.items()
        if key != _XMP_KEYWORD and not key.startswith("Raw profile type") and parsed_note(text) is None
    }
    dpi, photoshop = info.get("dpi"), info.get("photoshop")
    iptc = photoshop.get(0x0404) if isinstance(photoshop, dict) else None
    return Metadata(
        exif=_as_upright(picture.getexif(), size),
        xmp=_without_orientation(info.get("xmp") or b""),
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and all(value > 0 for value in dpi) else None,
        texts=texts,
        iptc=iptc if isinstance(iptc, bytes) else b"",
    )


def read_tiff_metadata(file: IO[bytes], size: tuple[int, int]) -> Metadata:
    """Read the same of a TIFF, whatever its pixels. None of a BigTIFF, whose directory Pillow's EXIF does not read."""
    file.seek(0)
    if file.read(4) in (b"II+\0", b"MM\0+"):
        return Metadata()
    directory = Image.Exif()
    file.seek(0)
    directory.load_from_fp(file)  # type: ignore[no-untyped-call]
    across, down, unit = (directory.get(tag) for tag in _RESOLUTION_TAGS)
    per_inch = {2: 1.0, 3: 2.54}.get(unit or 2)
    dpi = None if not (across and down and per_inch) else (float(across) * per_inch, float(down) * per_inch)
    return Metadata(_as_upright(directory, size), _without_orientation(directory.get(_XMP_TAG, b"")), dpi)


def _without_orientation(xmp: Any) -> bytes:
    """Return an XMP packet of pixels that are upright now."""
    packet = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    return re.sub(rb"(tiff:Orientation(?:=\"|>))[2-8]", rb"\g<1>1", packet)


def _as_upright(source: Image.Exif, size: tuple[int, int]) -> bytes:
    """Return EXIF, or a TIFF's directory, as it holds for upright pixels of this size."""
    upright = Image.Exif()
    for tag, value in source.items():
        of_pixels = tag in _OF_PIXELS or (tag == _DESCRIPTION and _LAYOUT.match(str(value)))
        if not of_pixels and tag not in _DIRECTORIES and parsed_note(value) is None:
            upright[tag] = value
    for directory in _DIRECTORIES:
        if values := dict(source.get_ifd(directory)):
            if directory == ExifTags.IFD.Exif:
                lengths = zip((ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight), size, strict=True)
                values |= {tag: length for tag, length in lengths if tag in values}
                if ExifTags.IFD.Interop in values:
                    values[ExifTags.IFD.Interop] = dict(source.get_ifd(ExifTags.IFD.Interop))
            upright.get_ifd(directory).update(values)
    return upright.tobytes() if len(upright) or any(upright.get_ifd(directory) for directory in _DIRECTORIES) else b""


def save_options(
    metadata: Metadata, kind: Format, note: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Return Pillow's options that put metadata and a note into a file, and what this kind cannot hold, in words."""
    text = None if note is None else _as_text(note)
    if not kind.metadata:
        fields = {"EXIF": metadata.exif, "XMP": metadata.xmp, "texts": metadata.texts, "IPTC": metadata.iptc}
        lost = [f"its {name}" for name, value in fields.items() if value]
        return {"dpi": metadata.dpi} if metadata.dpi else {}, lost
    exif = Image.Exif()
    lost = []
    if metadata.exif:
        exif.load(metadata.exif)
    options: dict[str, Any] = {}

    # Texts: a PNG has all of them, EXIF has tags for some.
    if kind.name == "PNG":
        options["pnginfo"] = _png_texts(metadata, text)
    else:
        for keyword, tag in _TAG_OF_KEYWORD.items():
            if keyword in metadata.texts and tag not in exif:
                exif[tag] = metadata.texts[keyword]
        homeless = [key for key in metadata.texts if key not in _TAG_OF_KEYWORD]
        if kind.name == "JPEG" and "Comment" in homeless:
            options["comment"] = metadata.texts["Comment"].encode()
            homeless.remove("Comment")
        if homeless:
            lost.append(f"its texts ({', '.join(homeless)})")
        if text is not None:
            exif[_HISTORY if _DESCRIPTION in exif else _DESCRIPTION] = text

    # XMP, IPTC and resolution, where each kind has them.
    if metadata.xmp and kind.name == "JPEG" and len(metadata.xmp) + 29 > _LONGEST_SEGMENT:
        lost.append(f"its XMP of {len(metadata.xmp)} bytes")
    elif metadata.xmp and kind.name == "TIFF":
        exif[_XMP_TAG] = metadata.xmp
    elif metadata.xmp and kind.name != "PNG":
        options["xmp"] = metadata.xmp
    if metadata.iptc and kind.name == "JPEG" and len(metadata.iptc) + 26 < _LONGEST_SEGMENT:
        padded = metadata.iptc + b"\0" * (len(metadata.iptc) % 2)
        segment = b"Photoshop 3.0\0008BIM\x04\x04\0\0" + len(metadata.iptc).to_bytes(4, "big") + padded
        options["extra"] = b"\xff\xed" + (len(segment) + 2).to_bytes(2, "big") + segment
    elif metadata.iptc:
        lost.append("its IPTC record")
    if metadata.dpi and kind.name in ("JPEG", "PNG", "TIFF"):
        options["dpi"] = metadata.dpi
    elif metadata.dpi:
        for tag, value in zip(_RESOLUTION_TAGS, (*metadata.dpi, 2), strict=True):  # 2: inches
            exif[tag] = value

    # EXIF last, once all is in it; the maker's own note is what makes one too long for a JPEG.
    if len(exif) or any(exif.get_ifd(directory) for directory in _DIRECTORIES):
        content = exif.tobytes()
        if kind.name == "JPEG" and len(content) > _LONGEST_SEGMENT:
            exif.get_ifd(ExifTags.IFD.Exif).pop(_MAKER_NOTE, None)
            content = exif.tobytes()
            lost.append("the camera maker's note in its EXIF")
        if kind.name == "JPEG" and len(content) > _LONGEST_SEGMENT:
            exif = Image.Exif()
            if text is not None:
                exif[_DESCRIPTION] = text
            content = exif.tobytes()
            lost.append("its EXIF, which is too long")
        options["exif"] = content
    return options, lost


def _png_texts(metadata: Metadata, note: str | None) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    for keyword, text in metadata.texts.items():
        try:
            text.encode("latin-1")
            chunks.add_text(keyword, text, zip=len(text) > 1024)
        except UnicodeEncodeError:
            chunks.add_itxt(keyword, text, zip=len(text) > 1024)
    if note is not None:
        chunks.add_text(_OWN_KEYWORD if "Description" in metadata.texts else "Description", note)
    if metadata.xmp:
        chunks.add_itxt(_XMP_KEYWORD, metadata.xmp.decode("utf-8", "replace"))
    return chunks


def _as_text(note: Mapping[str, Any]) -> str:
    """Return a note as JSON in ASCII, which every reader of metadata shows."""
    text = json.dumps(dict(note), ensure_ascii=True, allow_nan=False)
    if NOTED not in note or len(text) > _LONGEST_NOTE:
        raise ValueError(f"a note of {len(text)} characters; it needs the key {NOTED} and at most {_LONGEST_NOTE}")
    return text


def read_note(path: Path | IO[bytes]) -> dict[str, Any] | None:
    """Return the note that was put into a picture; None where there is none. UnreadablePictureError for no picture."""
    with unreadable_picture(path), open_picture(path) as picture:
        exif = picture.getexif()
        texts = getattr(picture, "text", {})
        places = [texts.get("Description"), texts.get(_OWN_KEYWORD), exif.get(_DESCRIPTION), exif.get(_HISTORY)]
    return next((note for text in places if (note := parsed_note(text)) is not None), None)


def parsed_note(text: Any) -> dict[str, Any] | None:
    """Return the note that a text is; None for any other text."""
    try:
        content = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and NOTED in content else None
