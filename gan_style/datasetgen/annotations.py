"""COCO's annotation files for what was made: the source's own with other file names, or new ones from classes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from gan_style.datasetgen.records import DATA, Row
from gan_style.datasetgen.sources.coco import Table
from gan_style.files import ensure_folder, write_bytes

_IMAGES = "images/"


def from_tables(output: Path, tables: Sequence[Table], rows: Iterable[Row], copies: int) -> None:
    """The source's annotation files: ids, boxes and segmentations as they are, file names as they are now.

    Of several copies the first keeps its ids; those of copy c are c times (the largest id + 1) higher, in images and
    annotations. Pictures without a result are left out, and so are their annotations.
    """
    made: dict[str, list[Row]] = {}
    for row in rows:
        if row["status"] == "ok":
            made.setdefault(row["key"], []).append(row)
    for table in tables:
        content = _copied(table, made, copies)
        target = output / DATA / table.path
        ensure_folder(target.parent)
        write_bytes(target, json.dumps(content).encode())


def _copied(table: Table, made: Mapping[str, Sequence[Row]], copies: int) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    said = table.content.get("annotations", [])
    image_span, span = _span(table.content["images"]), _span(said)
    for copy in range(copies):
        kept = set()
        for image in table.content["images"]:
            output = next((row["output"] for row in made.get(table.picture(image), []) if row["copy"] == copy), None)
            if output is not None:
                kept.add(image["id"])
                new = {"id": _shifted(image["id"], copy, image_span), "file_name": _below(output, table.base)}
                images.append({**image, **new})
        for annotation in said:
            if annotation.get("image_id") in kept:
                new = {"image_id": _shifted(annotation["image_id"], copy, image_span)}
                new |= {"id": _shifted(annotation["id"], copy, span)} if "id" in annotation else {}
                annotations.append({**annotation, **new})
    named = {"annotations": annotations} if "annotations" in table.content else {}
    return {**table.content, "images": images, **named}


def _span(items: Sequence[Mapping[str, Any]]) -> int:
    return max((item["id"] for item in items if isinstance(item.get("id"), int)), default=0) + 1


def _shifted(number: Any, copy: int, span: int) -> Any:
    if copy == 0:
        return number
    return number + copy * span if isinstance(number, int) else f"{number}~{copy + 1}"


def _below(path: str, base: str) -> str:
    """The path as seen from the folder that the file names start from."""
    folder = PurePosixPath(base)
    if PurePosixPath(path).is_relative_to(folder):
        return PurePosixPath(path).relative_to(folder).as_posix()
    return path


def from_classes(output: Path, rows: Iterable[Row], classes: Sequence[str]) -> None:
    """One annotation file for each split (else dataset.json), with a category for each class.

    An annotation without a box says which class a picture has; none is invented. Where a COCO picture's own JSON lies
    beside the result, as make-dataset writes it for other layouts, the picture gets back what is said there, ids too.
    """
    contents: dict[str, _Annotations] = {}
    for row in rows:
        if row["status"] == "ok":
            content = contents.setdefault(row["split"] or "dataset", _Annotations(classes))
            content.add(row, _said(output, row))
    ensure_folder(output / DATA / "annotations")
    for split, content in contents.items():
        write_bytes(output / DATA / "annotations" / f"{split}.json", json.dumps(content.plain()).encode())


class _Annotations:
    """An annotation file that grows."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        self.images: dict[Any, Mapping[str, Any]] = {}
        self.annotations: dict[Any, Mapping[str, Any]] = {}
        self.categories: dict[Any, Mapping[str, Any]] = {}

    def add(self, row: Row, said: Mapping[str, Any] | None) -> None:
        own = said["image"] if said else {}
        image = {**own, "id": _free(own.get("id"), self.images), "file_name": row["output"].removeprefix(_IMAGES)}
        self.images[image["id"]] = image | {"width": row["width"], "height": row["height"]}
        for annotation in said["annotations"] if said else []:
            self._annotate({**annotation, "image_id": image["id"]})
        for category in said["categories"] if said else []:
            self.categories.setdefault(category["id"], category)
        if not said and row["label"] is not None:
            number = self.classes.index(row["label"]) + 1
            self.categories.setdefault(number, {"id": number, "name": row["label"]})
            self._annotate({"image_id": image["id"], "category_id": number})

    def _annotate(self, annotation: dict[str, Any]) -> None:
        annotation["id"] = _free(annotation.get("id"), self.annotations)
        self.annotations[annotation["id"]] = annotation

    def plain(self) -> dict[str, list[Any]]:
        parts = {"images": self.images, "annotations": self.annotations, "categories": self.categories}
        return {name: list(part.values()) for name, part in parts.items()}


def _free(wanted: Any, taken: Mapping[Any, Any]) -> Any:
    """The id that is wanted, unless another has it (or none is): then the next number."""
    if wanted is not None and wanted not in taken:
        return wanted
    number = len(taken) + 1
    while number in taken:
        number += 1
    return number


def _said(output: Path, row: Row) -> Mapping[str, Any] | None:
    """What the JSON beside a result says, where it is of COCO's kind."""
    there = json.loads(row["sidecars"] or "{}")
    extension = next((one for one in (".coco.json", ".json") if one in there), None)
    if extension is None:
        return None
    path = PurePosixPath(row["output"]).with_suffix(extension)
    try:
        said = json.loads((output / DATA / path).read_bytes())
        parts = [said["image"], *said["annotations"], *said["categories"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return said if all(isinstance(part, dict) for part in parts) else None
