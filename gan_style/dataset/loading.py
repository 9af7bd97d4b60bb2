"""From a sample to pixels: read, judge by the header, decode. Every failure is a SampleError with its kind."""

import hashlib
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_style.dataset.geometry import Change, Label
from gan_style.dataset.header import Header, read_header, sample_error
from gan_style.dataset.layouts.labels import adapted, read_labels, read_sidecars
from gan_style.dataset.layouts.masks import Mask
from gan_style.dataset.sample import ALL_PICTURE_SUFFIXES, Sample, SampleError
from gan_style.images.decode import decode
from gan_style.images.formats import UnreadablePictureError, open_picture
from gan_style.images.lossless import Original, read_original, white_level
from gan_style.images.metadata import Metadata, read_metadata, read_tiff_metadata, with_orientation

_PNG_TEXTS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")


@dataclass(frozen=True)
class Loaded:
    """picture: uint8 (3, H, W), None for what is only passed through; sidecars: what goes with it, by
    extension (".txt"); labels: those that are labels; size: (width, height) that these are for, before any scaling.

    orientation: what was done about EXIF's: None (there was none), "applied", or "stored" (left, for the labels' sake);
    metadata: what else the file says, with the orientation that the result is to have. rich_original: what the file
    holds besides 8 bits of RGB; grey: whether it has no colours; frames: how many pictures it holds. regions: where
    which style is wanted, None for everywhere; shares: {style: of the picture that is its}.
    """

    sha256: str
    sidecars: Mapping[str, bytes] = field(default_factory=dict)
    labels: Mapping[str, Label] = field(default_factory=dict)
    picture: Tensor | None = None
    raw: bytes = b""
    size: tuple[int, int] = (0, 0)
    orientation: str | None = None
    metadata: Metadata = field(default_factory=Metadata)
    rich_original: Original | None = None
    grey: bool = False
    frames: int = 1
    regions: Any = None
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Loader:
    """root: the input's; max_pixels: of a picture; short_side: what it is scaled to, None to keep its size; keep_color:
    whether transparency, 16 bits, the profile and grey are kept.
    """

    root: Path
    max_pixels: int
    short_side: int | None
    keep_color: bool = False

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
            if self.short_side is not None and sample.key.lower().endswith(ALL_PICTURE_SUFFIXES):
                raise SampleError("labels", "a mask of no picture, which cannot be scaled as one; it needs size=keep")
            return Loaded(sha256, raw=data)
        sidecars = read_sidecars(sample, self.root)
        labels = read_labels(sidecars)
        header = read_header(data, self.max_pixels)
        upright = fits_upright(sample, header, labels)
        original = None
        try:
            if self.keep_color and header.is_rich:
                original = self._rich_original(data, upright or header.orientation == 1)
            if original is None or self.short_side is not None:
                picture = decode(io.BytesIO(data), short_side=self.short_side, upright=upright)
            else:
                picture = displayable(original)
        except UnreadablePictureError as error:
            raise sample_error(error.__cause__ or error) from error
        loaded = Loaded(
            sha256,
            sidecars,
            labels,
            picture,
            size=header.upright if upright else header.size,
            orientation=None if header.orientation == 1 else "applied" if upright else "stored",
            metadata=_metadata(data, picture.shape[2], picture.shape[1], 1 if upright else header.orientation),
            rich_original=original,
            grey=self.keep_color and header.is_grey,
            frames=header.frames,
        )
        # Labels that cannot be scaled are found before the network has worked for nothing.
        adapted(sidecars, labels, Change("", loaded.size, (picture.shape[-1], picture.shape[-2])))
        return loaded

    def _rich_original(self, data: bytes, is_upright: bool) -> Original:
        """All that the file holds; of pixels that are not upright, or are scaled, the profile alone."""
        original = read_original(io.BytesIO(data), max_megapixels=self.max_pixels / 1e6)
        if self.short_side is None and is_upright:
            return replace(original, metadata=Metadata())
        lost = ["its transparency"] * (original.alpha is not None)
        lost += ["its 16 bits"] * (original.pixels.dtype == torch.uint16)
        return Original(torch.empty(3, 0, 0, dtype=torch.uint8), profile=original.profile, lost=tuple(lost))


def _metadata(data: bytes, width: int, height: int, orientation: int) -> Metadata:
    """What a file says of a result of this size; EXIF that is damaged is no reason to lose the picture."""
    try:
        with warnings.catch_warnings(), open_picture(io.BytesIO(data), limited=False) as picture:
            warnings.simplefilter("ignore")  # of EXIF that is cut off
            if picture.format == "PNG" and not any(chunk in data for chunk in _PNG_TEXTS):
                return Metadata(dpi=picture.info.get("dpi"))  # without decoding all of it
            if picture.format == "TIFF":
                metadata = read_tiff_metadata(io.BytesIO(data), (width, height))
            else:
                metadata = read_metadata(picture, (width, height))
            return with_orientation(metadata, orientation)
    except MemoryError:
        raise
    except Exception:  # Pillow raises nearly anything
        return with_orientation(Metadata(), orientation)


def displayable(original: Original) -> Tensor:
    """What the network sees of a picture, uint8 or uint16 (3, H, W): white where nothing is to be seen."""
    if original.alpha is None:
        return original.pixels
    white = torch.full_like(original.pixels.to(torch.int32), int(white_level(original.pixels)))
    seen = torch.where(original.alpha.to(torch.int32) > 0, original.pixels.to(torch.int32), white)
    return seen.to(original.pixels.dtype)


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
    return all(isinstance(label, Mask) for label in labels.values() if label.has_places)
