"""Pascal VOC: an XML file for each picture (Annotations/1.xml of JPEGImages/1.jpg): its name, its size, its boxes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from gan_style.dataset.geometry import Change, text_of

_X, _Y = "xmin|xmax|x|x1|x2|x3|x4|cx|w|width", "ymin|ymax|y|y1|y2|y3|y4|cy|h|height"
_PLACED = re.compile(r"<(object|part)\b.*</\1>", re.DOTALL)


@dataclass(frozen=True)
class VocLabel:
    """text: the file's, of which only what has to change is changed."""

    text: str
    root: ElementTree.Element
    encoding: str = "utf-8"

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
        """(width, height) that the file states."""
        try:
            size = int(self.root.findtext("size/width", "")), int(self.root.findtext("size/height", ""))
        except ValueError:
            return None
        return size if min(size) > 0 else None

    @property
    def in_pixels(self) -> bool:
        return self.root.find(".//bndbox") is not None or self.root.find(".//polygon") is not None

    def adapted(self, change: Change) -> bytes:
        """The picture's name now, and its size; <path> would lead back to the original."""
        name = escape(change.picture)
        text = re.sub(r"(<filename>)[^<]*(</filename>)", lambda match: match[1] + name + match[2], self.text)
        text = re.sub(r"(<path>)[^<]*(</path>)", lambda match: match[1] + name + match[2], text)
        if change.is_scaled and change.new is not None:
            text = self._with_size(text, change.new)
            text = _PLACED.sub(lambda match: _scaled(match[0], change.factors), text)
        return text.encode(self.encoding)

    def _with_size(self, text: str, size: tuple[int, int]) -> str:
        def sized(match: re.Match[str]) -> str:
            inner = re.sub(r"(<width>)[^<]*", rf"\g<1>{size[0]}", match[0])
            return re.sub(r"(<height>)[^<]*", rf"\g<1>{size[1]}", inner)

        text = re.sub(r"(<ncols>)[^<]*", rf"\g<1>{size[0]}", text)  # LabelMe's older XML
        text = re.sub(r"(<nrows>)[^<]*", rf"\g<1>{size[1]}", text)
        return re.sub(r"<size>.*?</size>", sized, text, flags=re.DOTALL)

    def annotations(self, size: tuple[int, int], names: Sequence[str]) -> list[dict[str, Any]]:
        """As COCO has them, with the class's name; VOC counts pixels from 1."""
        annotations = []
        for item in self.root.iter("object"):
            box = item.find("bndbox")
            if box is None:
                continue
            try:
                left, top, right, bottom = (float(box.findtext(side, "")) for side in ("xmin", "ymin", "xmax", "ymax"))
            except ValueError:
                continue
            placed: dict[str, Any] = {"bbox": [left, top, right - left, bottom - top]}
            annotations.append({"name": item.findtext("name", ""), **placed})
        return annotations


def _scaled(text: str, factors: tuple[float, float]) -> str:
    for tags, factor in zip((_X, _Y), factors, strict=True):

        def times(match: re.Match[str], factor: float = factor) -> str:
            return f"{match[1]}{_times(match[3], factor)}"

        text = re.sub(rf"(<({tags})>\s*)([-+\d.eE]+)", times, text)
    return text


def _times(number: str, factor: float) -> str:
    """Whole numbers stay whole: VOC's own tools read nothing else."""
    value = float(number) * factor
    return str(round(value)) if re.fullmatch(r"[-+]?\d+", number) else text_of(value)
