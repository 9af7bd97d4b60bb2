"""From an entry to pixels: read, judge by the header, decode. Every failure is a Trouble with its kind."""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gan_style.dataset.header import Header, read_header, trouble
from gan_style.dataset.sample import PICTURE_SUFFIXES, Entry, Trouble
from gan_style.images.decode import UnreadablePictureError, decode


@dataclass(frozen=True)
class Loaded:
    """picture: uint8 (3, H, W), None for what is only carried; beside: what goes with it, by extension (".txt").

    orientation: what was done about EXIF's: None (there was none), "applied", or "stored" (left, for the labels' sake).
    """

    sha256: str
    beside: Mapping[str, bytes]
    picture: Tensor | None = None
    raw: bytes = b""
    orientation: str | None = None


@dataclass(frozen=True)
class Loader:
    """root: the input's; max_pixels: of a picture; short_side: what it is scaled to, None to keep its size."""

    root: Path
    max_pixels: int
    short_side: int | None

    def __call__(self, entry: Entry) -> Loaded:
        """Trouble, of whatever kind, where there is no result to be had."""
        try:
            return self._load(entry)
        except MemoryError as error:
            raise Trouble("out of memory", "not enough memory to decode it") from error

    def _load(self, entry: Entry) -> Loaded:
        if entry.problem is not None:
            raise Trouble(*entry.problem)
        assert entry.picture is not None
        data = entry.picture.read(self.root)
        sha256 = hashlib.sha256(data).hexdigest()
        if entry.carried:
            if self.short_side is not None and entry.picture.path.lower().endswith(PICTURE_SUFFIXES):
                raise Trouble("labels", "a mask, which would not fit its picture any more; it needs size=keep")
            return Loaded(sha256, {}, raw=data)
        beside = {f".{extension}": place.read(self.root) for extension, place in entry.sidecars.items()}
        beside |= {f".{extension}": text.encode() for extension, text in entry.inline.items()}
        header = read_header(data, self.max_pixels)
        masks = [content for extension, content in beside.items() if extension.lower().endswith(PICTURE_SUFFIXES)]
        if self.short_side is not None:
            found = "a mask lies" if masks or entry.masks else boxes_in(beside) and "boxes or outlines lie"
            if found:
                raise Trouble("labels", f"{found} beside it, which would not fit any more; it needs size=keep")
        if header.orientation != 1:
            masks += [place.read(self.root) for place in entry.masks]
        upright = fits_upright(entry, header, masks)
        orientation = None if header.orientation == 1 else "applied" if upright else "stored"
        return Loaded(sha256, beside, self._decode(data, upright), orientation=orientation)

    def _decode(self, data: bytes, upright: bool) -> Tensor:
        try:
            return decode(io.BytesIO(data), short_side=self.short_side, upright=upright)
        except UnreadablePictureError as error:
            raise trouble(error.__cause__ or error) from error


def boxes_in(beside: Mapping[str, bytes]) -> bool:
    """Whether what lies beside a picture has places in pixels: COCO's JSON, LabelMe's, or VOC's XML."""
    return any(
        (extension.lower().endswith(".json") and _has_places(content))
        or (extension.lower().endswith(".xml") and b"<bndbox>" in content)
        for extension, content in beside.items()
    )


def _has_places(content: bytes) -> bool:
    try:
        said = json.loads(content)
        objects = [*said.get("annotations", ()), *said.get("shapes", ())]
        return any(one.get(name) for one in objects for name in ("bbox", "segmentation", "keypoints", "points"))
    except (ValueError, AttributeError, TypeError):
        return False


def fits_upright(entry: Entry, header: Header, masks: Iterable[bytes]) -> bool:
    """Whether the picture's labels were made for it upright, rather than as it is stored.

    COCO's boxes and masks are for pixels as they are stored, which is what most readers give, unless the size that COCO
    states, or the mask has, fits the upright picture alone. Trouble where COCO's fits neither.
    """
    if entry.labelled is not None:
        if entry.labelled not in (header.size, header.upright):
            size, stated = (" x ".join(map(str, pair)) for pair in (header.size, entry.labelled))
            raise Trouble("labels", f"its annotation is for {stated} pixels, but it has {size}")
        return entry.labelled != header.size
    if entry.as_stored:
        return False
    if header.orientation == 1:
        return True
    return header.size not in {_size_of(mask) for mask in masks}


def _size_of(content: bytes) -> tuple[int, int] | None:
    try:
        return read_header(content).size
    except ValueError:
        return None
