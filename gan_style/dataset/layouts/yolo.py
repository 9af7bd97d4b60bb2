"""YOLO: a text file of boxes for each picture (labels/train/1.txt of images/train/1.jpg), and data.yaml, which names
classes and says where the splits lie. Boxes are shares of the picture's sides, so that they fit whatever its size is.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gan_style.dataset.geometry import NUMBER, Change, Label, box_around

_LINE = re.compile(rf"\s*\d+(?:\.0*)?(?:\s+{NUMBER}){{4,}}\s*")
_SPLITS = ("train", "val", "test", "minival")


class ClassNames(tuple[str, ...]):
    """The classes by number. key_points: (how many, numbers of each) where rows are poses."""

    key_points: tuple[int, int] | None = None


@dataclass(frozen=True)
class YoloLabel(Label):
    """rows: class, then numbers: a box (x, y of its middle, width, height), or an outline, or a box and key points."""

    rows: Sequence[Sequence[float]]
    raw: bytes

    @staticmethod
    def parse(extension: str, content: bytes) -> "YoloLabel | None":
        """None for any text that is no list of boxes; an empty file is one of none."""
        if not extension.lower().endswith(".txt") or len(content) > 10_000_000:
            return None
        try:
            lines = [line for line in content.decode("utf-8-sig").splitlines() if line.strip()]
        except ValueError:
            return None
        if not all(_LINE.fullmatch(line) for line in lines):
            return None
        return YoloLabel([[float(word) for word in line.split()] for line in lines], content)

    @property
    def layout(self) -> str | None:
        return "yolo" if self.rows else None

    @property
    def has_places(self) -> bool:
        return bool(self.rows)

    @property
    def in_shares(self) -> bool:
        """Some write pixels in the same form."""
        return all(0 <= value <= 1 for row in self.rows for value in row[1:5])

    def adapted(self, change: Change) -> bytes:
        if change.is_scaled and not self.in_shares:
            raise ValueError("its numbers are pixels in an order that is not known")
        return self.raw

    def annotations(self, size: tuple[int, int], names: Sequence[str]) -> list[dict[str, Any]]:
        """With the class's number for a name where it has none."""
        if not self.in_shares:
            return []
        annotations = []
        count, width_of_one = getattr(names, "key_points", None) or (0, 0)
        for row in self.rows:
            number, values = int(row[0]), row[1:]
            name = names[number] if number < len(names) else str(number)
            placed: dict[str, Any] = {"name": name, "number": number}
            is_pose = count > 0 and len(values) >= 4 + count * width_of_one
            if len(values) > 5 and len(values) % 2 == 0 and not is_pose:  # an outline
                xs, ys = ([value * side for value in values[at::2]] for at, side in enumerate(size))
                outline = [side for point in zip(xs, ys, strict=True) for side in point]
                placed["bbox"] = box_around(xs, ys)
                placed["segmentation"] = [[round(side, 6) for side in outline]]
            else:
                x, y, width, height = values[:4]
                if is_pose:
                    points = [values[at : at + width_of_one] for at in range(4, 4 + count * width_of_one, width_of_one)]
                    parts = [(x * size[0], y * size[1], int(seen[0]) if seen else 2) for x, y, *seen in points]
                    placed["keypoints"] = [round(part, 6) for point in parts for part in point]
                    placed["num_keypoints"] = sum(seen > 0 for _, _, seen in parts)
                shares = (x - width / 2, y - height / 2, width, height)
                placed["bbox"] = [share * size[at % 2] for at, share in enumerate(shares)]
            placed["bbox"] = [round(side, 6) for side in placed["bbox"]]
            annotations.append(placed)
        return annotations


def read_yaml(path: Path) -> dict[str, Any] | None:
    """data.yaml's content, None for any other file."""
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig")) if path.stat().st_size < 10_000_000 else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    known = isinstance(content, dict) and "names" in content and any(name in content for name in _SPLITS)
    return content if known else None


def names_in(content: dict[str, Any]) -> ClassNames:
    """The classes by number, of a list or of {0: name}."""
    names, shape = content["names"], content.get("kpt_shape")
    if isinstance(names, dict):
        numbers = {int(number): str(name) for number, name in names.items() if str(number).isdigit()}
        names = [numbers.get(number, str(number)) for number in range(max(numbers, default=-1) + 1)]
    classes = ClassNames(str(name) for name in names or [])
    if isinstance(shape, list) and len(shape) == 2 and all(isinstance(side, int) and side > 0 for side in shape):
        classes.key_points = (shape[0], shape[1])
    return classes


def rewritten_yaml(content: dict[str, Any], path: str, root: Path) -> tuple[bytes | None, list[str]]:
    """data.yaml for the result: without ``path``, which may lead to the originals, and splits relative to the file.

    path: the file's, below the root. Returns None where nothing has to change, and the splits that lie outside.
    """
    import yaml  # type: ignore[import-untyped]

    here = (root / path).parent.resolve()
    changed = {name: value for name, value in content.items() if name != "path"}
    outside: list[str] = []
    for name, places in _splits_in(content, path, root).items():
        moved = [Path(os.path.relpath(place, here)).as_posix() if place else value for value, place in places]
        outside += [value for value, place in places if place is None]
        changed[name] = moved[0] if isinstance(content[name], str) else moved
    if changed == content:
        return None, outside
    return yaml.safe_dump(changed, sort_keys=False, allow_unicode=True).encode(), outside


def split_places(root: Path, path: str) -> list[tuple[str, str]]:
    """(split, the folder or file below the root that holds its pictures) by data.yaml; path: the file's."""
    splits, top = _splits_in(read_yaml(root / path) or {}, path, root), root.resolve()
    return [
        (split, place.relative_to(top).as_posix()) for split, places in splits.items() for _, place in places if place
    ]


def _splits_in(content: dict[str, Any], path: str, root: Path) -> dict[str, list[tuple[str, Path | None]]]:
    """The paths of each split, as they are written, and where they are below the root; None where they are not."""
    here = base = (root / path).parent
    if content.get("path"):  # what they are relative to
        stated = here / Path(str(content["path"])).expanduser()
        base = stated if stated.exists() and stated.resolve().is_relative_to(root.resolve()) else here
    listed = {name: [value] if isinstance(value := content.get(name), str) else value for name in _SPLITS}
    return {
        name: [(str(value), _locate(str(value), base, here, root)) for value in values]
        for name, values in listed.items()
        if isinstance(values, list) and values != [] and values != [""]
    }


def _locate(value: str, base: Path, here: Path, root: Path) -> Path | None:
    """A split's path below the root, also where its beginning is that of another place."""
    path = Path(value).expanduser()
    if path.is_absolute():  # of another machine, or of where the dataset lay before
        places = [path, *(root.joinpath(*path.parts[at:]) for at in range(1, len(path.parts)))]
    else:
        trimmed = [part for part in PurePosixPath(value).parts if part != ".."]
        places = [base / path, *(folder.joinpath(*trimmed) for folder in (base, here, here.parent))]
    resolved = (place.resolve() for place in places if place.exists())
    return next((place for place in resolved if place.is_relative_to(root.resolve())), None)
