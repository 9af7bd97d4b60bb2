"""Boxes and outlines in records of whatever tool wrote them, as COCO has them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gan_style.dataset.geometry import are_shares
from gan_style.dataset.sample import PICTURE_SUFFIXES

_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("x_1", "y_1", "x_2", "y_2"),
    ("xtl", "ytl", "xbr", "ybr"),
    ("left", "top", "right", "bottom"),
    ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"),
)
_SIDES = (
    ("x", "y", "width", "height"),
    ("x", "y", "w", "h"),
    ("x_1", "y_1", "width", "height"),
    ("left", "top", "width", "height"),
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
    ("bbox_x", "bbox_y", "bbox_w", "bbox_h"),
)
_OUTLINES = ("points", "polygon", "exterior", "segmentation", "vertices")
_BOXES = ("bbox", "bounding_box", "fbox")  # x, y, width, height, as COCO and Hugging Face have them
_NAMES = (
    *("label", "class", "category", "class_name", "label_name", "category_name", "classtitle", "name", "tag"),
    *("labelname", "displayname", "class_id", "category_id", "label_id"),
)


def objects_in(record: Any, size: tuple[int, int], name: str | None = None) -> Iterator[dict[str, Any]]:
    """The objects of a record (of JSON), each with a box, an outline where it has one, and a ``name``, which the
    nearest field around it says. size: (width, height) of the picture, for what is in shares of it.
    """
    if isinstance(record, list):
        for item in record:
            yield from objects_in(item, size, name)
    if not isinstance(record, dict):
        return
    fields = {str(key).strip().lower(): _parsed(value) for key, value in record.items()}
    if isinstance(shape := fields.get("shape_attributes", fields.get("region_shape_attributes")), dict):  # VIA's
        said = [value for value in _dict(fields.get("region_attributes")).values() if isinstance(value, str)]
        yield from _named(_placed({**shape, "name": None}, size), said[0] if said else name)
        return
    value = _dict(fields.get("value")) or fields
    if "original_width" in fields and (value is not fields or any(key.endswith("labels") for key in fields)):
        # Label Studio's, in percent.
        shares = {key: part / 100 if isinstance(part, int | float) else part for key, part in value.items()}
        if "points" in value:
            shares["points"] = [[side / 100 for side in point] for point in value["points"]]
        labels = [label for key, names in value.items() if key.endswith("labels") for label in _list(names)]
        yield from _named(_placed(shares, size), labels[0] if labels else name)
        return
    said = [str(fields[key]) for key in _NAMES if isinstance(fields.get(key), str | int)]
    name = next((value for value in said if not value.lower().endswith(PICTURE_SUFFIXES)), name)
    lists = fields.get("bbox")
    if isinstance(lists, list) and lists and all(isinstance(box, list) for box in lists):  # Hugging Face's columns
        names: list[Any] = next(
            (fields[key] for key in ("categories", *_NAMES) if isinstance(fields.get(key), list)), []
        )
        for at, box in enumerate(lists):
            yield from _named(_placed({"bbox": box}, size), str(names[at]) if at < len(names) else name)
        return
    if (placed := _placed(fields, size)) is not None:
        yield from _named(placed, name)
        return
    if isinstance(center := fields.pop("coordinates", None), dict):  # CreateML's
        for box in objects_in(center, size, name):
            x, y, width, height = box["bbox"]
            yield {**box, "bbox": [x - width / 2, y - height / 2, width, height]}
    for value in fields.values():
        yield from objects_in(value, size, name)


def _parsed(value: Any) -> Any:
    """The value of a cell that holds JSON: "[10, 12, 8, 6]"."""
    if not isinstance(value, str) or not value.startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _named(placed: dict[str, Any] | None, name: str | None) -> Iterator[dict[str, Any]]:
    if placed is not None:
        yield {**placed, "name": name} if name is not None else placed


def _placed(fields: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any] | None:
    """The box, and the outline, that fields of one record are."""
    points = _points(fields)
    if len(points) == 2 and fields.get("shape_type") == "circle":  # LabelMe's: its middle, and where it ends
        (x, y), (x2, y2) = points
        radius = ((x2 - x) ** 2 + (y2 - y) ** 2) ** 0.5
        return {"bbox": [x - radius, y - radius, 2 * radius, 2 * radius]}
    if len(points) > 1:
        if are_shares([list(point) for point in points]):
            points = [(x * size[0], y * size[1]) for x, y in points]
        xs, ys = [x for x, _ in points], [y for _, y in points]
        outline = {"segmentation": [[side for point in points for side in point]]} if len(points) > 2 else {}
        return {"bbox": [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)], **outline}
    box: list[float] = next((corners for names in _CORNERS if (corners := _numbers(fields, names))), [])
    if box:
        box[2:] = [box[2] - box[0], box[3] - box[1]]
    elif ellipse := _numbers(fields, ("cx", "cy", "rx", "ry")):
        x, y, width, height = ellipse
        box = [x - width, y - height, 2 * width, 2 * height]
    else:
        box = next((sides for names in _SIDES if (sides := _numbers(fields, names))), [])
    if not box:
        box = next((sides for name in _BOXES if (sides := _four(fields.get(name)))), [])
        if not box or (max(box) > 1 and any(box[at] + box[at + 2] > size[at] + 1 for at in (0, 1))):
            return None  # not in that order, then
    if are_shares(box):
        box = [side * size[at % 2] for at, side in enumerate(box)]
    return {"bbox": [round(side, 6) for side in box]}


def _points(fields: Mapping[str, Any]) -> list[tuple[float, ...]]:
    """Of an outline, in whatever form: pairs, numbers in turn, "1,2;3,4", or two lists."""
    xs, ys = fields.get("all_points_x"), fields.get("all_points_y")
    if isinstance(xs, list) and isinstance(ys, list):
        return list(zip(xs, ys, strict=False))
    for name in _OUTLINES:
        value = fields.get(name)
        if (
            isinstance(value, dict) and isinstance(value.get("x"), list) and isinstance(value.get("y"), list)
        ):  # ADE20K's
            value = list(map(list, zip(value["x"], value["y"], strict=False)))
        value = value.get("exterior") if isinstance(value, dict) else value
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


def _four(value: Any) -> list[float]:
    return [float(side) for side in value] if isinstance(value, list) and len(value) == 4 and _plain(value) else []


def _plain(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _numbers(fields: Mapping[str, Any], names: Sequence[str]) -> list[float]:
    try:
        return [float(fields[name]) for name in names]
    except (KeyError, TypeError, ValueError):
        return []
