"""Labels in a JSON file for each picture, whatever tool wrote it, and their boxes and outlines as COCO has them."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gan_style.dataset.geometry import Change, Label, are_shares, box_around, has_places, scaled, stated_size
from gan_style.dataset.sample import PICTURE_SUFFIXES

_PICTURES = ("imagePath", "filename", "file_name", "image", "image_path", "img_path", "name", "imageName", "image_name")
# Fields of a box: its corners, or its corner and its sides; for each the first that are there.
_CORNERS = (
    *(("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"), ("x1", "y1", "x2", "y2")),
    *(("x_1", "y_1", "x_2", "y_2"), ("xtl", "ytl", "xbr", "ybr"), ("left", "top", "right", "bottom")),
    ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"),
)
_SIDES = (
    *(("x", "y", "width", "height"), ("x", "y", "w", "h"), ("x_1", "y_1", "width", "height")),
    *(("left", "top", "width", "height"), ("bbox_x", "bbox_y", "bbox_width", "bbox_height")),
    ("bbox_x", "bbox_y", "bbox_w", "bbox_h"),
)
_BOXES = ("bbox", "bounding_box", "fbox")  # x, y, width, height, as COCO and Hugging Face have them
_OUTLINES = ("points", "polygon", "exterior", "segmentation", "vertices")
_NAMES = (
    *("label", "class", "category", "class_name", "label_name", "category_name", "classtitle", "name", "tag"),
    *("labelname", "displayname", "class_id", "category_id", "label_id"),
)


@dataclass(frozen=True)
class JsonLabel(Label):
    """One picture's labels in a JSON object (LabelMe's shapes, Cityscapes' objects, others' boxes or outlines), or,
    is_list, what a table says of the picture in several rows.
    """

    records: Sequence[dict[str, Any]]
    raw: bytes
    is_list: bool = False

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
    def layout(self) -> str | None:
        fields = self.records[0].keys()
        if {"shapes", "imagePath"} <= fields:
            return "labelme"
        return "cityscapes" if {"objects", "imgHeight"} <= fields else None

    @property
    def size(self) -> tuple[int, int] | None:
        """What the file states, itself or in the part that says what the picture is."""
        first = self.records[0]
        parts = [first, *(first.get(name) for name in ("size", "image", "metadata"))]
        sizes = (stated_size(part) for part in parts if isinstance(part, dict))
        return next((size for size in sizes if size is not None), None)

    @property
    def has_places(self) -> bool:
        return has_places(list(self.records))

    def adapted(self, change: Change) -> bytes:
        """The picture's name and size now. Its bytes (LabelMe's imageData) are the original's, and go."""
        new = [_adapted(record, change) for record in self.records]
        if new == self.records:
            return self.raw
        return json.dumps(new if self.is_list else new[0], ensure_ascii=False, indent=2).encode()

    def annotations(self, size: tuple[int, int], names: Sequence[str]) -> list[dict[str, Any]]:
        return list(_objects_in(list(self.records), size))


def _adapted(content: dict[str, Any], change: Change) -> dict[str, Any]:
    record = dict(content)
    for name in _PICTURES:
        value = record.get(name)
        if isinstance(value, str) and value.lower().endswith(PICTURE_SUFFIXES):
            folder = value[: max(value.rfind("/"), value.rfind("\\")) + 1]
            is_absolute = folder.startswith("/") or folder[1:2] == ":"  # which would lead to the original
            record[name] = change.picture if is_absolute else folder + change.picture
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


def _objects_in(record: Any, size: tuple[int, int], name: str | None = None) -> Iterator[dict[str, Any]]:
    """The objects of a record (of JSON), each with a box, an outline where it has one, and a ``name``, which the
    nearest field around it says. size: (width, height) of the picture, for what is in shares of it.
    """
    if isinstance(record, list):
        for item in record:
            yield from _objects_in(item, size, name)
    if not isinstance(record, dict):
        return
    fields = {str(key).strip().lower(): _parsed(value) for key, value in record.items()}

    # VIA's: a shape, and what it is beside it.
    if isinstance(shape := fields.get("shape_attributes", fields.get("region_shape_attributes")), dict):
        attributes = fields.get("region_attributes")
        texts = attributes.values() if isinstance(attributes, dict) else ()
        label = next((value for value in texts if isinstance(value, str)), name)
        yield from _placed({**shape, "name": None}, size, label)
        return

    # Label Studio's, in percent.
    value = inner if isinstance(inner := fields.get("value"), dict) and inner else fields
    if "original_width" in fields and (value is not fields or any(key.endswith("labels") for key in fields)):
        shares = {key: part / 100 if isinstance(part, int | float) else part for key, part in value.items()}
        if "points" in value:
            shares["points"] = [[side / 100 for side in point] for point in value["points"]]
        lists = [labels for key, labels in value.items() if key.endswith("labels") and isinstance(labels, list)]
        yield from _placed(shares, size, next((label for labels in lists for label in labels), name))
        return

    # Hugging Face's columns.
    labels = [str(fields[key]) for key in _NAMES if isinstance(fields.get(key), str | int)]
    name = next((label for label in labels if not label.lower().endswith(PICTURE_SUFFIXES)), name)
    boxes = fields.get("bbox")
    if isinstance(boxes, list) and boxes and all(isinstance(box, list) for box in boxes):
        lists = [fields[key] for key in ("categories", *_NAMES) if isinstance(fields.get(key), list)]
        names = lists[0] if lists else []
        for at, box in enumerate(boxes):
            yield from _placed({"bbox": box}, size, str(names[at]) if at < len(names) else name)
        return

    # A record that is an object, or holds some; CreateML's boxes lie around their middle.
    if placed := list(_placed(fields, size, name)):
        yield from placed
        return
    if isinstance(center := fields.pop("coordinates", None), dict):
        for item in _objects_in(center, size, name):
            x, y, width, height = item["bbox"]
            yield {**item, "bbox": [x - width / 2, y - height / 2, width, height]}
    for value in fields.values():
        yield from _objects_in(value, size, name)


def _parsed(value: Any) -> Any:
    """The value of a cell that holds JSON: "[10, 12, 8, 6]"."""
    if not isinstance(value, str) or not value.startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _placed(fields: Mapping[str, Any], size: tuple[int, int], name: str | None) -> Iterator[dict[str, Any]]:
    """The object that fields of one record are, if any: its box, perhaps its outline, and its name."""
    points, outline = _points(fields), {}
    if len(points) == 2 and fields.get("shape_type") == "circle":  # LabelMe's: its middle, and where it ends
        (x, y), (x2, y2) = points
        radius = ((x2 - x) ** 2 + (y2 - y) ** 2) ** 0.5
        box = [x - radius, y - radius, 2 * radius, 2 * radius]
    elif len(points) > 1:
        if are_shares([list(point) for point in points]):
            points = [(x * size[0], y * size[1]) for x, y in points]
        box = box_around([x for x, _ in points], [y for _, y in points])
        outline = {"segmentation": [[side for point in points for side in point]]} if len(points) > 2 else {}
    else:
        box = _box(fields, size)
        if are_shares(box):
            box = [side * size[at % 2] for at, side in enumerate(box)]
        box = [round(side, 6) for side in box]
    if box:
        yield {"bbox": box, **outline} | ({} if name is None else {"name": name})


def _box(fields: Mapping[str, Any], size: tuple[int, int]) -> list[float]:
    """Whatever form it has: two corners, an ellipse, a corner and the sides, a list; empty where there is none."""
    for names in _CORNERS:
        if corners := _numbers([fields.get(name) for name in names]):
            left, top, right, bottom = corners
            return [left, top, right - left, bottom - top]
    if ellipse := _numbers([fields.get(name) for name in ("cx", "cy", "rx", "ry")]):
        x, y, width, height = ellipse
        return [x - width, y - height, 2 * width, 2 * height]
    for names in _SIDES:
        if sides := _numbers([fields.get(name) for name in names]):
            return sides
    lists = (fields[name] for name in _BOXES if isinstance(fields.get(name), list) and len(fields[name]) == 4)
    box = next((_numbers(box) for box in lists if all(isinstance(side, int | float) for side in box)), [])
    if box and max(box) > 1 and any(box[at] + box[at + 2] > size[at] + 1 for at in (0, 1)):
        return []  # not in that order, then
    return box


def _points(fields: Mapping[str, Any]) -> list[tuple[float, ...]]:
    """Of an outline, in whatever form: pairs, numbers in turn, "1,2;3,4", or two lists."""
    xs, ys = fields.get("all_points_x"), fields.get("all_points_y")
    if isinstance(xs, list) and isinstance(ys, list):
        return list(zip(xs, ys, strict=False))
    for name in _OUTLINES:
        value = fields.get(name)
        if isinstance(value, dict):  # ADE20K's two lists
            xs, ys, value = value.get("x"), value.get("y"), value.get("exterior")
            if isinstance(xs, list) and isinstance(ys, list):
                value = list(map(list, zip(xs, ys, strict=False)))
        if isinstance(value, str):
            value = [pair.split(",") for pair in value.split(";")]
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
            value = value[0]
        if isinstance(value, list) and len(value) >= 6 and all(isinstance(side, int | float) for side in value):
            value = [value[at : at + 2] for at in range(0, len(value) - 1, 2)]
        if isinstance(value, list) and all(isinstance(point, dict) and {"x", "y"} <= point.keys() for point in value):
            value = [(point["x"], point["y"]) for point in value]
        try:
            points = [(float(x), float(y)) for x, y in value or ()]
        except (TypeError, ValueError):
            continue
        if points:
            return list(points)
    return []


def _numbers(values: Sequence[Any]) -> list[float]:
    """The values as numbers; empty where one is none."""
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError):
        return []
