"""From a sample to pixels: read, judge by the header, decode. Every failure is a SampleError with its kind."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from gan_style.dataset.geometry import Change
from gan_style.dataset.header import Header, read_header, sample_error
from gan_style.dataset.layouts.labels import Label, adapted, read_labels, read_sidecars
from gan_style.dataset.layouts.masks import Mask
from gan_style.dataset.layouts.yolo import YoloLabel
from gan_style.dataset.sample import PICTURE_SUFFIXES, Sample, SampleError
from gan_style.images.decode import decode
from gan_style.images.formats import UnreadablePictureError


@dataclass(frozen=True)
class Loaded:
    """picture: uint8 (3, H, W), None for what is only passed through; sidecars: what goes with it, by
    extension (".txt"); labels: those that are labels; size: (width, height) that these are for, before any scaling.

    orientation: what was done about EXIF's: None (there was none), "applied", or "stored" (left, for the labels' sake);
    tag: EXIF's orientation that the result is to have.
    """

    sha256: str
    sidecars: Mapping[str, bytes] = field(default_factory=dict)
    labels: Mapping[str, Label] = field(default_factory=dict)
    picture: Tensor | None = None
    raw: bytes = b""
    size: tuple[int, int] = (0, 0)
    orientation: str | None = None
    tag: int = 1


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
        if sample.passthrough:
            if self.short_side is not None and sample.key.lower().endswith(PICTURE_SUFFIXES):
                raise SampleError("labels", "a mask of no picture, which cannot be scaled as one; it needs size=keep")
            return Loaded(sha256, raw=data)
        sidecars = read_sidecars(sample, self.root)
        labels = read_labels(sidecars)
        header = read_header(data, self.max_pixels)
        upright = fits_upright(sample, header, labels)
        orientation = None if header.orientation == 1 else "applied" if upright else "stored"
        picture = self._decode(data, upright)
        size = header.upright if upright else header.size
        loaded = Loaded(sha256, sidecars, labels, picture, b"", size, orientation, 1 if upright else header.orientation)
        # Labels that cannot be scaled are found before the network has worked for nothing.
        adapted(sidecars, labels, Change("", size, (picture.shape[-1], picture.shape[-2])))
        return loaded

    def _decode(self, data: bytes, upright: bool) -> Tensor:
        try:
            return decode(io.BytesIO(data), short_side=self.short_side, upright=upright)
        except UnreadablePictureError as error:
            raise sample_error(error.__cause__ or error) from error


def fits_upright(sample: Sample, header: Header, labels: Mapping[str, Label]) -> bool:
    """Whether the picture's labels were made for it upright, rather than as it is stored.

    Where they say for which size they were made (COCO, VOC, LabelMe, masks), that decides; boxes that do not say it are
    for pixels as they are stored, which is what most readers give. SampleError where COCO's size fits neither.
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
    sizes = {label.size for label in labels.values()}
    if header.size in sizes:
        return False
    if header.upright in sizes:
        return True
    placed = [label for label in labels.values() if label.in_pixels or (isinstance(label, YoloLabel) and label.rows)]
    return all(isinstance(label, Mask) for label in placed)
