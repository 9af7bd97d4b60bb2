"""Labels in other tools' text files (KITTI's, DOTA's, VisDrone's, landmarks), and files that may hold pixels in a form
that is not known, which fit their picture as long as that keeps its size.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from gan_style.dataset.geometry import Change, text_of
from gan_style.dataset.sample import PICTURE_SUFFIXES

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_KITTI = re.compile(rf"[A-Za-z_]+(?:\s+{_NUMBER}){{14,15}}")
_DOTA = re.compile(rf"(?:{_NUMBER}\s+){{8}}\S+(?:\s+[0-2])?")
# x, y, width, height, score, category, truncation, occlusion
_VISDRONE = re.compile(rf"(?:{_NUMBER}\s*,\s*){{4}}[01]\s*,\s*\d\d?\s*,\s*-?[0-2]\s*,\s*-?[0-2]\s*,?")
_CALIBRATION = re.compile(r"(P\d|P_rect_\d+|R\w*|T\w*|S_\w+|K_\w+|D_\w+|calib_time|corner_dist):.*")
_PROJECTION = re.compile(rf"(P\d|P_rect_\d+):(\s+{_NUMBER}){{12}}")  # KITTI's, from the scene to pixels
_ICDAR = re.compile(rf"(?:{_NUMBER}\s*,\s*){{8}}.*")
_POINT = re.compile(rf"{_NUMBER}[\s,]+{_NUMBER}")
_ROW_OF_NUMBERS = re.compile(rf"(?<![\w.])(?:{_NUMBER}[\s,;:|()\[\]-]+){{3,}}{_NUMBER}")
_TIME = re.compile(r"\d{4}[-:/]\d\d[-:/]\d\d|\d\d?:\d\d(:\d\d)?")  # in a caption, or what EXIF says
_OPAQUE = (".xml", ".npy", ".npz", ".mat", ".h5", ".hdf5", ".flo", ".pkl", ".pickle")
_MOST_BYTES = 10_000_000


@dataclass(frozen=True)
class TextLabel:
    """raw: the file's bytes; kind: kitti, calibration, dota, visdrone, icdar, pts, or unknown, for rows of numbers in
    another form.
    """

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

    size, in_pixels = None, True

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
        """As COCO has them, of the boxes that are known."""
        objects = []
        for line in decoded(self.raw)[0].splitlines():
            fields = line.split() if self.kind not in ("icdar", "visdrone") else line.split(",")
            if self.kind == "visdrone" and len(fields) > 7 and fields[4].strip() == "1":  # 0: what does not count
                objects.append({"name": fields[5].strip(), "bbox": [float(word) for word in fields[:4]]})
            if self.kind == "icdar":
                fields = [*fields[:8], "text"]
            if self.kind == "kitti" and fields and fields[0] != "DontCare":
                left, top, right, bottom = map(float, fields[4:8])
                objects.append({"name": fields[0], "bbox": [left, top, right - left, bottom - top]})
            elif self.kind in ("dota", "icdar") and len(fields) >= 9:
                xs, ys = ([float(word) for word in fields[at:8:2]] for at in (0, 1))
                box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
                outline = [float(word) for word in fields[:8]]
                objects.append({"name": fields[8], "bbox": box, "segmentation": [outline]})
        return objects


def _kind_of(extension: str, text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and all(map(_KITTI.fullmatch, lines)):
        return "kitti"
    headless = [line for line in lines if not re.match(r"(imagesource|gsd):", line)]
    if headless and all(map(_DOTA.fullmatch, headless)):
        return "dota"
    if any(map(_PROJECTION.fullmatch, lines)) and all(map(_CALIBRATION.fullmatch, lines)):
        return "calibration"
    if lines and all(map(_VISDRONE.fullmatch, lines)):
        return "visdrone"
    if lines and all(map(_ICDAR.fullmatch, lines)):
        return "icdar"
    if extension.lower().endswith(".pts"):
        return "pts"
    return "unknown" if any(_ROW_OF_NUMBERS.search(_TIME.sub("", line)) for line in lines) else ""


def decoded(content: bytes) -> tuple[str, str]:
    """A file's text, and the encoding to write it in again: UTF-8, UTF-16, or any other, byte by byte."""
    for encoding in ("utf-16",) if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig",):
        try:
            return content.decode(encoding), encoding.removesuffix("-sig")
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1"), "latin-1"


def _scaled_line(kind: str, line: str, factors: tuple[float, float]) -> str:
    """A line of a known kind: its places times the factors, in turn for x and y."""
    if kind == "dota" and line.startswith("gsd:"):  # metres a pixel
        return re.sub(_NUMBER, lambda match: text_of(float(match[0]) / (factors[0] * factors[1]) ** 0.5), line)
    if kind == "calibration":
        return _scaled_projection(line, factors)
    if kind == "pts" and not _POINT.fullmatch(line.strip()):
        return line
    first, last = {"kitti": (4, 8), "dota": (0, 8), "visdrone": (0, 4), "icdar": (0, 8), "pts": (0, 2)}[kind]
    parts = re.split(r"([\s,]+)", line)  # words at even places
    if not parts[0]:
        parts = [parts[1] + parts[2], *parts[3:]]
    if kind == "dota" and len(parts) < 17:
        return line
    for at in range(first, last):
        parts[2 * at] = text_of(float(parts[2 * at]) * factors[at % 2])
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
class OpaqueLabel:
    """An array, or XML of a kind that is not known: depth, flow, densities, points. raw: the file's bytes."""

    raw: bytes

    @staticmethod
    def parse(extension: str, content: bytes) -> "OpaqueLabel | None":
        """None for other files, and for an array of one dimension, which says nothing of places."""
        suffix = PurePosixPath(f"_{extension}").suffix.lower()
        if suffix not in _OPAQUE or (suffix == ".npy" and _dimensions(content) == 1):
            return None
        return OpaqueLabel(content)

    size, in_pixels = None, True

    def adapted(self, change: Change) -> bytes:
        if change.is_scaled:
            raise ValueError("it may hold a value for each pixel, or places, in a form that is not known")
        return self.raw

    def annotations(self, size: tuple[int, int], names: Sequence[str]) -> list[dict[str, Any]]:
        return []


def _dimensions(content: bytes) -> int:
    """Of an array in NumPy's format, by its header; 0 where it cannot be read."""
    try:
        return int(np.load(io.BytesIO(content), allow_pickle=False).ndim)
    except (ValueError, OSError, EOFError):
        return 0
