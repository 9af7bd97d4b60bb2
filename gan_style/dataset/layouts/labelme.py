"""Labels in a JSON file for each picture: LabelMe's, and those of other tools that use the same names for things."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gan_style.dataset.geometry import Change, has_places, scaled, stated_size
from gan_style.dataset.layouts.objects import objects_in
from gan_style.dataset.sample import PICTURE_SUFFIXES

_PICTURES = ("imagePath", "filename", "file_name", "image", "image_path", "img_path", "name", "imageName", "image_name")


@dataclass(frozen=True)
class JsonLabel:
    """One picture's labels in a JSON object: LabelMe's shapes, Cityscapes' objects, others' boxes or outlines."""

    records: Sequence[dict[str, Any]]
    raw: bytes
    is_list: bool = False  # what a table says of one picture in several rows

    @staticmethod
    def parse(extension: str, content: bytes) -> "JsonLabel | None":
        if not extension.lower().endswith(".json"):
            return None
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            return None
        records = document if isinstance(document, list) else [document]
        if not records or not all(isinstance(record, dict) for record in records):
            return None
        return JsonLabel(records, content, isinstance(document, list))

    @property
    def content(self) -> dict[str, Any]:
        return self.records[0]

    @property
    def is_labelme(self) -> bool:
        return "shapes" in self.content and "imagePath" in self.content

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) that the file states, itself or in the part that says what the picture is."""
        parts = [self.content, *(self.content.get(name) for name in ("size", "image", "metadata"))]
        sizes = (stated_size(part) for part in parts if isinstance(part, dict))
        return next((size for size in sizes if size is not None), None)

    @property
    def in_pixels(self) -> bool:
        return has_places(list(self.records))

    def adapted(self, change: Change) -> bytes:
        """The picture's name and size now. Its bytes (LabelMe's imageData) are the original's, and go."""
        new = [_adapted(record, change) for record in self.records]
        if new == self.records:
            return self.raw
        return json.dumps(new if self.is_list else new[0], ensure_ascii=False, indent=2).encode()

    def annotations(self, size: tuple[int, int], names: Sequence[str]) -> list[dict[str, Any]]:
        """As COCO has them, with the class's name."""
        return list(objects_in(list(self.records), size))


def _adapted(content: dict[str, Any], change: Change) -> dict[str, Any]:
    record = dict(content)
    for name in _PICTURES:
        value = record.get(name)
        if isinstance(value, str) and value.lower().endswith(PICTURE_SUFFIXES):
            record[name] = value[: max(value.rfind("/"), value.rfind("\\")) + 1] + change.picture
            if record[name].startswith("/") or record[name][1:2] == ":":  # which would lead to the original
                record[name] = change.picture
    if record.get("imageData") is not None:
        record["imageData"] = None
    if isinstance(record.get("image"), dict) and isinstance(record["image"].get("file_name"), str):
        record["image"] = {**record["image"], "file_name": change.picture}
    if change.source:
        record = {name: _renamed(value, change) for name, value in record.items()}
    return scaled(record, change.factors) if change.is_scaled else record


def _renamed(value: Any, change: Change) -> Any:
    """With the result's name wherever the picture's own stands, however deep."""
    if isinstance(value, dict):
        return {name: _renamed(inner, change) for name, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, change) for inner in value]
    if isinstance(value, str) and re.split(r"[/\\]", value)[-1] == change.source:
        return value[: len(value) - len(change.source)] + change.picture
    return value
