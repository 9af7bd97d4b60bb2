"""What a file that belongs to a picture says of it, whatever tool wrote it.

JSON is in records.py, YOLO's boxes in yolo.py, masks in masks.py. Here are Pascal VOC's XML, other tools' text files
(KITTI's, DOTA's, VisDrone's, landmarks), and files that may hold pixels in a form that is not known.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np

from gan_style.dataset.geometry import NUMBER, Change, Label, box_around, decoded, scale_numbers, text_of
from gan_style.dataset.layouts.masks import Mask
from gan_style.dataset.layouts.records import JsonLabel
from gan_style.dataset.layouts.yolo import YoloLabel
from gan_style.dataset.sample import ALL_PICTURE_SUFFIXES, PICTURE_SUFFIXES, Sample, SampleError

# Tags of VOC's places, in x and in y.
_X, _Y = "xmin|xmax|x|x1|x2|x3|x4|cx|w|width", "ymin|ymax|y|y1|y2|y3|y4|cy|h|height"
_SIZE = re.compile(r"<size>.*?</size>", re.DOTALL)
_PLACED = re.compile(r"<(object|part)\b.*</\1>", re.DOTALL)

# Kinds of text files with an object in each line: what a line is, and which of its words are x, y, x, y ...
_KINDS = {
    "kitti": (re.compile(rf"[A-Za-z_]+(?:\s+{NUMBER}){{14,15}}"), range(4, 8)),
    "dota": (re.compile(rf"(?:{NUMBER}\s+){{8}}\S+(?:\s+[0-2])?"), range(8)),
    # x, y, width, height, score, category, truncation, occlusion
    "visdrone": (
        re.compile(rf"(?:{NUMBER}\s*,\s*){{4}}[01]\s*,\s*\d\d?\s*,\s*-?[0-2]\s*,\s*-?[0-2]\s*,?"),
        range(4),
    ),
    "icdar": (re.compile(rf"(?:{NUMBER}\s*,\s*){{8}}.*"), range(8)),
    "pts": (re.compile(rf"{NUMBER}[\s,]+{NUMBER}"), range(2)),  # among other lines: told by the file's suffix
}
_DOTA_HEADER = re.compile(r"(imagesource|gsd):")
_CALIBRATION = re.compile(r"(P\d|P_rect_\d+|R\w*|T\w*|S_\w+|K_\w+|D_\w+|calib_time|corner_dist):.*")
_PROJECTION = re.compile(rf"(P\d|P_rect_\d+):(\s+{NUMBER}){{12}}")  # KITTI's, from the scene to pixels
_ROW_OF_NUMBERS = re.compile(rf"(?<![\w.])(?:{NUMBER}[\s,;:|()\[\]-]+){{3,}}{NUMBER}")
_TIME = re.compile(r"\d{4}[-:/]\d\d[-:/]\d\d|\d\d?:\d\d(:\d\d)?")  # in a caption, or what EXIF says
_OPAQUE = (".xml", ".npy", ".npz", ".mat", ".h5", ".hdf5", ".flo", ".pkl", ".pickle")
_MOST_BYTES = 10_000_000


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
            problem = f"its {extension} would not fit any more: {error}; it needs size=keep"
            raise SampleError("labels", problem) from error
    return result


@dataclass(frozen=True)
class VocLabel(Label):
    """Pascal VOC: an XML file for each picture (Annotations/1.xml of JPEGImages/1.jpg): its name, its size, its boxes.

    text: the file's, of which only what has to change is changed.
    """

    text: str
    root: ElementTree.Element
    encoding: str = "utf-8"

    layout = "voc"

    @staticmethod
    def parse(extension: str, content: bytes) -> "VocLabel | None":
        if not extension.lower().endswith(".xml") or b"<!ENTITY" in content or b"<!DOCTYPE" in content:
            return None
        try:
            declared = re.match(rb"[^>]*encoding=['\"]([\w.-]+)", content)
            encoding = declared[1].decode() if declared else "utf-8"
            text = content.decode("utf-8-sig" if encoding.lower() == "utf-8" else encoding)
            root = ElementTree.fromstring(text)
        except (ValueError, LookupError, ElementTree.ParseError):
            return None
        return VocLabel(text, root, encoding) if root.tag == "annotation" else None

    @property
    def size(self) -> tuple[int, int] | None:
        try:
            size = int(self.root.findtext("size/width", "")), int(self.root.findtext("size/height", ""))
        except ValueError:
            return None
        return size if min(size) > 0 else None

    @property
    def has_places(self) -> bool:
        return self.root.find(".//bndbox") is not None or self.root.find(".//polygon") is not None

    def adapted(self, change: Change) -> bytes:
        # The picture's name now; <path> would lead back to the original.
        text = self.text
        for tag in ("filename", "path"):
            text = _with_value(text, tag, escape(change.picture))

        # Its size, also in the older XML of LabelMe, and all places.
        if change.is_scaled and change.new is not None:
            width, height = map(str, change.new)
            text = _with_value(_with_value(text, "ncols", width), "nrows", height)
            text = _SIZE.sub(lambda m: _with_value(_with_value(m[0], "width", width), "height", height), text)
            text = _PLACED.sub(lambda match: _scaled(match[0], change.factors), text)
        return text.encode(self.encoding)

    def annotations(self, size: tuple[int, int], names: Sequence[str]) -> list[dict[str, Any]]:
        """VOC counts pixels from 1."""
        annotations = []
        for item in self.root.iter("object"):
            try:
                left, top, right, bottom = (
                    float(item.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")
                )
            except ValueError:
                continue
            box = [left, top, right - left, bottom - top]
            annotations.append({"name": item.findtext("name", ""), "bbox": box})
        return annotations


def _with_value(text: str, tag: str, value: str) -> str:
    return re.sub(rf"(?<=<{tag}>)[^<]*(?=</{tag}>)", lambda _: value, text)


def _scaled(text: str, factors: tuple[float, float]) -> str:
    for tags, factor in zip((_X, _Y), factors, strict=True):
        text = re.sub(rf"(<(?:{tags})>\s*)([-+\d.eE]+)", partial(_times, factor=factor), text)
    return text


def _times(match: re.Match[str], factor: float) -> str:
    """Whole numbers stay whole: VOC's own tools read nothing else."""
    number = float(match[2]) * factor
    return match[1] + (str(round(number)) if re.fullmatch(r"[-+]?\d+", match[2]) else text_of(number))


@dataclass(frozen=True)
class TextLabel(Label):
    """kind: one of _KINDS, calibration, or unknown, for rows of numbers in another form."""

    raw: bytes
    kind: str

    @staticmethod
    def parse(extension: str, content: bytes) -> "TextLabel | None":
        """None for what is no text, and for a text without rows of numbers, such as a caption."""
        if b"\0" in content[:1000] or len(content) > _MOST_BYTES:
            return None
        try:
            kind = _kind_of(extension, decoded(content)[0])
        except ValueError:
            return None
        return TextLabel(content, kind) if kind else None

    def adapted(self, change: Change) -> bytes:
        """Names the result where it names the picture, or its mask; numbers are scaled where their form is known."""
        text, encoding = decoded(self.raw)
        text = _renamed(text, change)
        if change.is_scaled and self.kind == "unknown":
            raise ValueError("its numbers may be pixels, in a form that is not known")
        if change.is_scaled:
            text = re.sub(r"[^\r\n]+", lambda line: _scaled_line(self.kind, line[0], change.factors), text)
        return text.encode(encoding)

    def annotations(self, size: tuple[int, int], names: Sequence[str]) -> list[dict[str, Any]]:
        objects = []
        for line in decoded(self.raw)[0].splitlines():
            fields = line.split("," if self.kind in ("icdar", "visdrone") else None)
            if self.kind == "visdrone" and len(fields) > 7 and fields[4].strip() == "1":  # 0: what does not count
                objects.append({"name": fields[5].strip(), "bbox": [float(word) for word in fields[:4]]})
            elif self.kind == "kitti" and fields and fields[0] != "DontCare":
                left, top, right, bottom = map(float, fields[4:8])
                objects.append({"name": fields[0], "bbox": [left, top, right - left, bottom - top]})
            elif (self.kind == "dota" and len(fields) > 8) or (self.kind == "icdar" and len(fields) > 7):
                outline = [float(word) for word in fields[:8]]
                name = fields[8] if self.kind == "dota" else "text"
                objects.append(
                    {"name": name, "bbox": box_around(outline[::2], outline[1::2]), "segmentation": [outline]}
                )
        return objects


def _kind_of(extension: str, text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for kind in ("kitti", "dota", "visdrone", "icdar"):
        objects = [line for line in lines if kind != "dota" or not _DOTA_HEADER.match(line)]
        if objects and all(map(_KINDS[kind][0].fullmatch, objects)):
            return kind
    if any(map(_PROJECTION.fullmatch, lines)) and all(map(_CALIBRATION.fullmatch, lines)):
        return "calibration"
    if extension.lower().endswith(".pts"):
        return "pts"
    return "unknown" if any(_ROW_OF_NUMBERS.search(_TIME.sub("", line)) for line in lines) else ""


def _scaled_line(kind: str, line: str, factors: tuple[float, float]) -> str:
    """A line of a known kind: its places times the factors, in turn for x and y."""
    if kind == "dota" and line.startswith("gsd:"):  # metres a pixel
        return re.sub(NUMBER, lambda match: text_of(float(match[0]) / (factors[0] * factors[1]) ** 0.5), line)
    if kind == "calibration":
        return _scaled_projection(line, factors)
    pattern, places = _KINDS[kind]
    if kind == "pts" and not pattern.fullmatch(line.strip()):
        return line
    parts = re.split(r"([\s,]+)", line)  # words at even places
    if not parts[0]:
        parts = [parts[1] + parts[2], *parts[3:]]
    if kind == "dota" and len(parts) < 17:
        return line
    scale_numbers(parts, [2 * at for at in places], factors)
    return "".join(parts)


def _scaled_projection(line: str, factors: tuple[float, float]) -> str:
    """Of a camera's 3 x 4 projection, the rows for x and y are scaled; other matrices of a calibration stay."""
    if not _PROJECTION.fullmatch(line.strip()):
        if re.match(r"(S|K)_", line):  # of the camera itself
            raise ValueError("it states a camera's size and matrix, which are not scaled")
        return line
    parts = re.split(r"(\s+)", line.strip())  # the name, then numbers, at even places
    for at in range(8):
        parts[2 * at + 2] = f"{float(parts[2 * at + 2]) * factors[at // 4]:.12e}"
    return "".join(parts)


def _renamed(text: str, change: Change) -> str:
    """With the result's name for the picture's own, and for that of files that are called as it is (1_mask.png)."""
    if not change.source or change.source == change.picture:
        return text
    (old, suffix), new = (change.source.rpartition(".")[::2], change.picture.rpartition(".")[0])
    text = re.sub(rf"(?<![\w~-]){re.escape(change.source)}(?![\w~])", lambda _: change.picture, text)
    endings = "|".join(re.escape(ending[1:]) for ending in PICTURE_SUFFIXES if ending[1:] != suffix.lower())
    called = rf"(?<![\w~-]){re.escape(old)}(?=[_-][\w-]*\.(?:{endings}|{re.escape(suffix)})\b|\.(?:{endings})\b)"
    return text if old == new else re.sub(called, lambda _: new, text)


@dataclass(frozen=True)
class OpaqueLabel(Label):
    """An array, or XML of a kind that is not known: depth, flow, densities, points. They fit as long as their picture
    keeps its size.
    """

    raw: bytes

    @staticmethod
    def parse(extension: str, content: bytes) -> "OpaqueLabel | None":
        """None for other files, and for an array of one dimension, which says nothing of places."""
        suffix = PurePosixPath(f"_{extension}").suffix.lower()
        if suffix not in _OPAQUE:
            return None
        try:
            is_vector = suffix == ".npy" and np.load(io.BytesIO(content), allow_pickle=False).ndim == 1
        except (ValueError, OSError, EOFError):
            is_vector = False
        return None if is_vector else OpaqueLabel(content)

    def adapted(self, change: Change) -> bytes:
        if change.is_scaled:
            raise ValueError("it may hold a value for each pixel, or places, in a form that is not known")
        return self.raw
