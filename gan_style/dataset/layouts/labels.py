"""What a file that belongs to a picture says of it, whatever tool wrote it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from gan_style.dataset.geometry import Change
from gan_style.dataset.layouts.labelme import JsonLabel
from gan_style.dataset.layouts.masks import Mask
from gan_style.dataset.layouts.text import OpaqueLabel, TextLabel
from gan_style.dataset.layouts.voc import VocLabel
from gan_style.dataset.layouts.yolo import YoloLabel
from gan_style.dataset.sample import ALL_PICTURE_SUFFIXES, Sample, SampleError


class Label(Protocol):
    """size: (width, height) of the picture that it was made for, where it says so; in_pixels: whether it has places."""

    @property
    def size(self) -> tuple[int, int] | None: ...

    @property
    def in_pixels(self) -> bool: ...

    def adapted(self, change: Change) -> bytes:
        """The file's content for the result. ValueError where it cannot be had."""

    def annotations(self, size: tuple[int, int], names: Sequence[str]) -> list[dict[str, Any]]:
        """COCO's annotations, with a ``name`` for the category. names: classes by number; size: of the result."""


def read_label(extension: str, content: bytes) -> Label | None:
    """The labels in a file, by its extension (".txt", ".mask.png") and content; None where it holds something else."""
    if extension.lower().endswith(ALL_PICTURE_SUFFIXES):
        return Mask.parse(extension, content)
    kinds = (VocLabel, JsonLabel, YoloLabel, OpaqueLabel, TextLabel)
    return next((label for kind in kinds if (label := kind.parse(extension, content)) is not None), None)


def read_sidecars(sample: Sample, root: Path) -> dict[str, bytes]:
    """What goes with a picture, by extension (".txt")."""
    sidecars = {f".{extension}": place.read(root) for extension, place in sample.sidecars.items()}
    return sidecars | {f".{extension}": text.encode() for extension, text in sample.inline.items()}


def read_labels(sidecars: Mapping[str, bytes]) -> dict[str, Label]:
    labels = {extension: read_label(extension, content) for extension, content in sidecars.items()}
    return {extension: label for extension, label in labels.items() if label is not None}


def adapted(sidecars: Mapping[str, bytes], labels: Mapping[str, Label], change: Change) -> dict[str, bytes]:
    """The files that go with a result. SampleError where one of them would no longer fit it."""
    result = dict(sidecars)
    for extension, label in labels.items():
        try:
            result[extension] = label.adapted(change)
        except ValueError as error:
            raise SampleError(
                "labels", f"its {extension} would not fit any more: {error}; it needs size=keep"
            ) from error
    return result
