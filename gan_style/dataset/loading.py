"""From an sample to pixels: read, judge by the header, decode. Every failure is a SampleError with its kind."""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gan_style.dataset.header import Header, read_header, sample_error
from gan_style.dataset.sample import PICTURE_SUFFIXES, Sample, SampleError
from gan_style.images.decode import decode
from gan_style.images.formats import UnreadablePictureError


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

    def __call__(self, sample: Sample) -> Loaded:
        """SampleError, of whatever kind, where there is no result to be had."""
        try:
            return self._load(sample)
        except MemoryError as error:
            raise SampleError("out of memory", "not enough memory to decode it") from error

    def _load(self, sample: Sample) -> Loaded:
        if sample.problem is not None:
            raise SampleError(*sample.problem)
        assert sample.picture is not None
        data = sample.picture.read(self.root)
        sha256 = hashlib.sha256(data).hexdigest()
        if sample.carried:
            if self.short_side is not None and sample.picture.path.lower().endswith(PICTURE_SUFFIXES):
                raise SampleError("labels", "a mask, which would not fit its picture any more; it needs size=keep")
            return Loaded(sha256, {}, raw=data)
        beside = {f".{extension}": place.read(self.root) for extension, place in sample.sidecars.items()}
        beside |= {f".{extension}": text.encode() for extension, text in sample.inline.items()}
        header = read_header(data, self.max_pixels)
        masks = [content for extension, content in beside.items() if extension.lower().endswith(PICTURE_SUFFIXES)]
        if self.short_side is not None:
            found = "a mask lies" if masks or sample.masks else boxes_in(beside) and "boxes or outlines lie"
            if found:
                raise SampleError("labels", f"{found} beside it, which would not fit any more; it needs size=keep")
        if header.orientation != 1:
            masks += [place.read(self.root) for place in sample.masks]
        upright = fits_upright(sample, header, masks)
        orientation = None if header.orientation == 1 else "applied" if upright else "stored"
        return Loaded(sha256, beside, self._decode(data, upright), orientation=orientation)

    def _decode(self, data: bytes, upright: bool) -> Tensor:
        try:
            return decode(io.BytesIO(data), short_side=self.short_side, upright=upright)
        except UnreadablePictureError as error:
            raise sample_error(error.__cause__ or error) from error


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


def fits_upright(sample: Sample, header: Header, masks: Iterable[bytes]) -> bool:
    """Whether the picture's labels were made for it upright, rather than as it is stored.

    COCO's boxes and masks are for pixels as they are stored, which is what most readers give, unless the size that COCO
    states, or the mask has, fits the upright picture alone. SampleError where COCO's fits neither.
    """
    if sample.labelled is not None:
        if sample.labelled not in (header.size, header.upright):
            size, stated = (" x ".join(map(str, pair)) for pair in (header.size, sample.labelled))
            raise SampleError("labels", f"its annotation is for {stated} pixels, but it has {size}")
        return sample.labelled != header.size
    if sample.as_stored:
        return False
    if header.orientation == 1:
        return True
    return header.size not in {_size_of(mask) for mask in masks}


def _size_of(content: bytes) -> tuple[int, int] | None:
    try:
        return read_header(content).size
    except ValueError:
        return None
