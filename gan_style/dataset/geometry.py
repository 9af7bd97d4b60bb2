"""Labels follow their picture: boxes, outlines and key points are scaled as it was, by their fields' names."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

_X = {"x", "xmin", "xmax", "x1", "x2", "x3", "x4", "x_min", "x_max", "xtl", "xbr", "left", "right", "cx", "rx", "w"}
_X |= {"width", "imagewidth", "imgwidth", "image_width", "img_width", "all_points_x", "bbox_width", "box_width", "x0"}
_X |= {"fx", "u0", "bbox_x", "bbox_x1", "bbox_x2", "bbox_xmin", "bbox_xmax", "xc", "x_center", "bbox_w"}
_Y = {"y", "ymin", "ymax", "y1", "y2", "y3", "y4", "y_min", "y_max", "ytl", "ybr", "top", "bottom", "cy", "ry", "h"}
_Y |= {"height", "imageheight", "imgheight", "image_height", "img_height", "all_points_y", "bbox_height", "box_height"}
_Y |= {"fy", "v0", "bbox_y", "bbox_y1", "bbox_y2", "bbox_ymin", "bbox_ymax", "yc", "y_center", "bbox_h", "y0"}
_XY = {"bbox", "bboxes", "box", "boxes", "segmentation", "points", "point", "polygon", "polygons", "coordinates"}
_XY |= {"exterior", "interior", "landmarks", "vertices", "rect", "bounding_box", "bounding_boxes", "bndbox", "outline"}
_XY |= {"loc", "joints", "landmark", "corners", "quad", "poly", "contour", "contours"}  # loc: Supervisely's nodes
_XY |= {"predictionstring"}  # Kaggle's: a class and four numbers, again and again
_KEYPOINTS = re.compile(r"keypoints|.*_kpts|.*keypoints_2d")  # COCO's, and OpenPose's: x, y, visibility
# lefteye_x, x_1, CVAT's xtl1, x_left, min_x, roi.x1, upper left corner x
_OF_POINT = re.compile(
    r"(?:.*_|min|max|start|end)?([xy])(?:_?\d+|[tb][lr]\d|_?(?:left|right|top|bottom|start|end|center|centre|min|max))?"
)
_LINE = "line"  # what a list says of one picture, as it is
# Fields that say how large the picture is, and nothing of what is in it.
_SIZES = {f"{picture}{side}" for picture in ("image", "img", "image_", "img_") for side in ("width", "height")}
_ORIGINAL = ("original_width", "original_height")
_ROW_OF_NUMBERS = re.compile(r"(?<!\S)-?\d+(?:\.\d+)?(?:[\s,;]+-?\d+(?:\.\d+)?)+(?!\S)")
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"  # a pattern, as text files have it
PLACES = _XY | {"all_points_x", "encodedpixels", "rle", "bitmap"}
_CORNERS = {"xmin", "x1", "x_1", "xtl"}


class NotScalableError(ValueError):
    """Labels that cannot be scaled as their picture is."""


@dataclass(frozen=True)
class Change:
    """What became of a picture: its file's name now; (width, height) before and after, None where they are the same;
    source: its file's name before.
    """

    picture: str
    old: tuple[int, int] | None = None
    new: tuple[int, int] | None = None
    source: str = ""

    @property
    def is_scaled(self) -> bool:
        return self.old is not None and self.old != self.new

    @property
    def factors(self) -> tuple[float, float]:
        """(horizontal, vertical)."""
        if self.old is None or self.new is None:
            return 1.0, 1.0
        return self.new[0] / self.old[0], self.new[1] / self.old[1]


class Label:
    """What a file beside a picture says of it."""

    @property
    def layout(self) -> str | None:
        """The layout of datasets that such a file speaks for."""
        return None

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) of the picture that it was made for, where it says so."""
        return None

    @property
    def has_places(self) -> bool:
        """Whether it speaks of places in the picture."""
        return True

    def adapted(self, change: Change) -> bytes:
        """The file's content for the result. ValueError where it cannot be had."""
        raise NotImplementedError

    def annotations(self, size: tuple[int, int], names: Sequence[str]) -> list[dict[str, Any]]:
        """COCO's annotations, with a ``name`` for the category. names: classes by number; size: of the result."""
        return []


def decoded(content: bytes) -> tuple[str, str]:
    """A file's text, and the encoding to write it in again: UTF-8, UTF-16, or any other, byte by byte."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding), encoding.removesuffix("-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1"), "latin-1"


def box_around(xs: Sequence[float], ys: Sequence[float]) -> list[float]:
    """COCO's box: x, y, width, height."""
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def scaled(record: Any, factors: tuple[float, float]) -> Any:
    """A record (of JSON) with all that is in pixels scaled; values that all lie in [0, 1] are shares, and stay."""
    if isinstance(record, dict):
        _check_scalable(record)
        if all(name in record for name in _ORIGINAL):  # Label Studio's: the picture's sides, and places in percent
            value = record.get("value")
            lists = (name for name, item in record.items() if isinstance(item, list))
            if isinstance(value, dict):
                _check_scalable(value)
            if isinstance(value, dict) or any(str(name).endswith("labels") for name in lists):
                return record | {name: _times(record[name], factors[at]) for at, name in enumerate(_ORIGINAL)}
        return {name: _scaled_field(name, value, record, factors) for name, value in record.items()}
    if isinstance(record, list):
        return [scaled(item, factors) for item in record]
    return record


def _check_scalable(record: Mapping[str, Any]) -> None:
    """NotScalableError for a mask in a form that is not scaled: Supervisely's bitmap, Label Studio's brush."""
    for name in ("bitmap", "rle", "EncodedPixels", "encoded_pixels", "rle_mask"):
        if record.get(name) not in (None, "", "-1", [], {}):
            raise NotScalableError(f"it has a mask in run lengths or as a bitmap ({name})")
    if record.get("shape_type") == "mask":
        raise NotScalableError("it has a mask as a bitmap (LabelMe's shape_type mask)")
    if _has_numbers(record.get(_LINE)):
        raise NotScalableError("a list has rows of numbers for it, which may be pixels")


def scaled_run_lengths(mask: Mapping[str, Any], factors: tuple[float, float]) -> dict[str, Any]:
    """COCO's mask in run lengths, each pixel of the new one that of the nearest; compressed where it was."""
    try:
        import numpy as np
        from pycocotools import mask as tools
    except ImportError as error:
        raise NotScalableError("it has a mask in run lengths, which pip install pycocotools can scale") from error
    height, width = mask["size"]
    plain = isinstance(mask["counts"], list)
    values = tools.decode(tools.frPyObjects(dict(mask), height, width) if plain else dict(mask))
    new = max(1, round(height * factors[1])), max(1, round(width * factors[0]))
    rows, columns = ((np.arange(n) + 0.5) * old // n for n, old in zip(new, (height, width), strict=True))
    small = values[rows.astype(int)][:, columns.astype(int)]
    if plain:
        flat = small.ravel(order="F")
        edges = np.flatnonzero(np.diff(flat, prepend=0))
        counts: Any = np.diff(edges, prepend=0, append=len(flat)).tolist()
    else:
        counts = tools.encode(np.asfortranarray(small))["counts"].decode("ascii")
    return {**mask, "size": list(new), "counts": counts}


def _scaled_field(name: Any, value: Any, record: Mapping[str, Any], factors: tuple[float, float]) -> Any:
    key, (fx, fy) = _key_of(name), factors
    if "joints" in record and key in ("center", "scale"):  # MPII's, of a person
        return _scaled_list(value, factors, 2) if key == "center" else _times(value, math.sqrt(fx * fy))
    if key == "h_samples":  # TuSimple's y, for which lanes have x; negative where there is none
        return _times(value, fy)
    if key == "lanes" and "h_samples" in record:
        return [[x if x < 0 else _times(x, fx) for x in lane] for lane in value]
    if _holds_places(key, value):
        if isinstance(value, str):  # of a CSV: a list, or numbers in a row
            try:
                numbers = json.loads(value)
            except ValueError:
                return _ROW_OF_NUMBERS.sub(lambda row: _scaled_row(row[0], factors), value)
            return json.dumps(_scaled_field(key, numbers, {}, factors)) if isinstance(numbers, list) else value
        if isinstance(value, dict) and "counts" in value:
            return scaled_run_lengths(value, factors)
        return value if are_shares(value) else _scaled_list(value, factors, 3 if _KEYPOINTS.fullmatch(key) else 2)
    if (axis := _axis(key)) is not None:
        named = [(_key_of(name), side) for name, side in record.items()]
        sides = [side for name, side in named if _axis(name) is not None and name not in {*_SIZES, "width", "height"}]
        return value if are_shares(sides) else _times(value, factors[axis])
    if key == "size" and "path" in record and isinstance(value, list) and len(value) == 2:  # Datumaro's height, width
        return [_times(value[0], fy), _times(value[1], fx)]
    if key == "imsize" and isinstance(value, list) and len(value) in (2, 3):  # ADE20K's height, width, channels
        return [_times(value[0], fy), _times(value[1], fx), *value[2:]]
    if key == "area":
        return _times(value, fx * fy)
    if key == "r":
        return _times(value, math.sqrt(fx * fy))
    if isinstance(value, str) and value.startswith("{"):  # VIA's shapes in a CSV
        try:
            return json.dumps(scaled(json.loads(value), factors))
        except json.JSONDecodeError:
            return value
    return scaled(value, factors)


def _scaled_row(text: str, factors: tuple[float, float]) -> str:
    """Numbers with blanks or commas between them, in turn for x and y, where they are pairs."""
    parts = re.split(r"([\s,;]+)", text)  # numbers at even places
    if len(parts) % 4 != 3:
        raise NotScalableError(f"{len(parts) // 2 + 1} numbers in a row ({text[:40]})")
    return "".join(_times(part, factors[at // 2 % 2]) if at % 2 == 0 else part for at, part in enumerate(parts))


def _scaled_list(value: Any, factors: tuple[float, float], period: int) -> Any:
    """Numbers in turn for x and y (and what else a period has); lists and records of such."""
    if not isinstance(value, list):
        return scaled(value, factors)
    numbers = [isinstance(item, int | float) for item in value]
    if not all(numbers):
        return [_scaled_list(item, factors, period) for item in value]
    return [_times(number, factors[at % period]) if at % period < 2 else number for at, number in enumerate(value)]


def _holds_places(key: str, value: Any) -> bool:
    """Whether a field is one of boxes or points: CrowdHuman's hbox, fbox, vbox, too."""
    return (
        key in _XY
        or _KEYPOINTS.fullmatch(key) is not None
        or (key.endswith("box") and isinstance(value, list) and len(value) == 4)
    )


def _key_of(name: Any) -> str:
    return re.sub(r"[ .-]+", "_", str(name).strip().lower())


def _axis(key: str) -> int | None:
    """0 for a field of a place's x or width, 1 for y or height."""
    point = _OF_POINT.fullmatch(key)
    return 0 if key in _X or (point and point[1] == "x") else 1 if key in _Y or point else None


def are_shares(value: Any) -> bool:
    """Whether these are shares of the picture's sides rather than pixels: all in [0, 1], and not all whole, unless they
    are of the whole picture (0, 0, 1, 1).
    """
    numbers = list(_numbers(value))
    of_all = len(numbers) >= 4 and any(numbers)
    return all(0 <= number <= 1 for number in numbers) and (of_all or any(number % 1 for number in numbers))


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, dict):
        yield from _numbers(list(value.values()))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, str) and (number := _number(value)) is not None:
        yield number


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _times(value: Any, factor: float) -> Any:
    """A number, a list of numbers, or a number in words, times a factor; whole ones stay whole where they can."""
    if isinstance(value, list):
        return [_times(item, factor) for item in value]
    if isinstance(value, str):
        number = _number(value)
        return value if number is None else text_of(number * factor)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    product = round(value * factor, 6)
    return int(product) if product == int(product) and isinstance(value, int) else product


def text_of(number: float) -> str:
    """A number without needless digits."""
    return f"{round(number, 6):g}" if abs(number) < 1e5 else str(round(number, 3))


def scale_numbers(parts: list[str], places: Iterable[int], factors: tuple[float, float]) -> None:
    """Scale the numbers at these places among the parts of a line, in turn for x and y."""
    for number, at in enumerate(places):
        parts[at] = text_of(float(parts[at]) * factors[number % 2])


def has_places(record: Any) -> bool:
    """Whether a record (of JSON) holds places in a picture."""
    if isinstance(record, dict):
        names = {str(name).lower() for name in record}
        if {"x", "y"} <= names and {"w", "width"} & names:
            return True
        return any(_is_place(_key_of(name), value) or has_places(value) for name, value in record.items())
    return isinstance(record, list) and any(has_places(item) for item in record[:1000])


def _is_place(key: str, value: Any) -> bool:
    if key in _CORNERS:
        return value not in ([], None, "")
    if key == _LINE:
        return _has_numbers(value)
    if key == "h_samples":
        return True
    if isinstance(value, str):
        value = re.findall(r"\d+(?:\.\d+)?", value)
    return (key in PLACES or _holds_places(key, value)) and len(list(islice(_numbers(value), 2))) == 2


def _has_numbers(value: Any) -> bool:
    """Whether a text has a row of numbers that may be pixels."""
    rows = _ROW_OF_NUMBERS.findall(value) if isinstance(value, str) else []
    numbers = [[float(number) for number in re.split(r"[\s,;]+", row)] for row in rows]
    return any(len(row) >= 4 and max(row) > 1 for row in numbers)


def stated_size(record: Mapping[str, Any]) -> tuple[int, int] | None:
    """(width, height) of the picture where a record says so."""
    named = {str(name).lower(): value for name, value in record.items()}
    of_box = named.keys() & {"x", "x1", "x_1", "left", "cx", "xc", "x_center", "bbox_x"}
    of_box = set() if named.keys() & {"x2", "x_2", "right"} else of_box
    for width, height in (("imagewidth", "imageheight"), ("imgwidth", "imgheight"), ("width", "height")):
        if width == "width" and of_box:
            continue
        try:
            size = int(named[width]), int(named[height])
        except (KeyError, TypeError, ValueError):
            continue
        if min(size) > 0:
            return size
    return None
