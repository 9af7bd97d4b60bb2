"""A COCO-style folder: pictures, and annotation files (JSON) that name them, with boxes, segmentations, captions."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from gan_style.dataset.journal import DATA, Row
from gan_style.dataset.layouts.folder import FolderSource
from gan_style.dataset.sample import Sample, split_of
from gan_style.runtime.files import ensure_folder, write_bytes


@dataclass(frozen=True)
class Table:
    """One annotation file: its path below the root, its content, and the folder that its file names start from."""

    path: str
    content: Mapping[str, Any]
    base: str

    def picture(self, image: Mapping[str, Any]) -> str:
        """The path of an image's file below the root."""
        name = str(image.get("file_name", ""))
        return f"{self.base}/{name}" if self.base else name


def find_tables(root: Path) -> list[str]:
    """The annotation files of a folder: annotations/*.json, or annotations.json."""
    found = [path for path in sorted((root / "annotations").glob("*.json")) if not path.name.startswith(".")]
    found += [path for path in [root / "annotations.json"] if path.is_file()]
    return [path.relative_to(root).as_posix() for path in found]


def read_table(root: Path, path: str) -> Table:
    """ValueError for a file that is no annotation file."""
    try:
        content = json.loads((root / path).read_bytes())
        images = content["images"]
        known = all(isinstance(image, dict) and "id" in image and "file_name" in image for image in images)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"input: {root / path} is no COCO annotation file ({error})") from error
    if not known:
        raise ValueError(f"input: in {root / path} some images have no id or no file_name")
    return Table(path, content, _base(root, path, images))


def _base(root: Path, path: str, images: Sequence[Mapping[str, Any]]) -> str:
    """The folder where most of the first pictures lie: of instances_train2017.json, train2017, images/train2017 ..."""
    last = PurePosixPath(path).stem.rpartition("_")[2]
    candidates = [last, f"images/{last}", "images", ""]
    names = [str(image["file_name"]) for image in images[:20]]
    hits = [sum((root / candidate / name).is_file() for name in names) for candidate in candidates]
    return candidates[hits.index(max(hits))] if max(hits, default=0) else "images" * (root / "images").is_dir()


@dataclass(frozen=True)
class CocoSource:
    """root: the folder; inline: whether each picture gets what is said of it as JSON beside it, for other layouts."""

    root: Path
    carry: Sequence[str] = ()
    inline: bool = False
    strays: bool = True
    paths: Sequence[str] = field(default_factory=list)

    def classes(self) -> None:
        """Ours to number."""

    @cached_property
    def tables(self) -> list[Table]:
        return [read_table(self.root, path) for path in self.paths]

    def facts(self) -> Mapping[str, Any]:
        sums = {path: hashlib.sha256((self.root / path).read_bytes()).hexdigest() for path in self.paths}
        return {"annotation files": sums}

    def samples(self) -> Iterator[Sample]:
        """The folder's pictures, those that no annotation file names among them; then those that are not there."""
        said = self._said()
        for sample in FolderSource(self.root, self.carry, self.strays).samples():
            if sample.key in self.paths:
                continue
            images = said.pop(sample.key, None)
            if images is not None:
                yield self._annotated(sample, images)
            elif sample.picture is not None and not sample.carried:
                yield replace(sample, picture=None, problem=("not annotated", "no annotation file names it"))
            else:
                yield sample
        for path in sorted(said):
            parts = path.split("/")
            safe = path and not path.startswith("/") and not {"", ".", ".."} & set(parts)
            problem = ("missing", "there is no such file") if safe else ("unsafe name", "absolute, or with . or ..")
            yield Sample(path or "(no name)", path if safe else "_", problem=problem)

    def _said(self) -> dict[str, list[tuple[Table, Mapping[str, Any]]]]:
        """What is said of each picture: path to [(annotation file, its image)]."""
        said: dict[str, list[tuple[Table, Mapping[str, Any]]]] = {}
        for table in self.tables:
            for image in table.content["images"]:
                said.setdefault(table.picture(image), []).append((table, image))
        return said

    def _annotated(self, sample: Sample, images: Sequence[tuple[Table, Mapping[str, Any]]]) -> Sample:
        sizes = {(image["width"], image["height"]) for _, image in images if {"width", "height"} <= image.keys()}
        if len(sizes) > 1:
            return replace(sample, picture=None, problem=("labels", f"annotation files differ in its size: {sizes}"))
        inline: dict[str, str] = {}
        for table, image in images if self.inline else ():
            name = PurePosixPath(table.path).stem.replace(".", "_")
            wanted = ["json", "coco.json"] if len(images) == 1 else [f"{name}.json"]
            wanted += [f"{name}_{number}.json" for number in range(2, len(images) + len(sample.sidecars) + 3)]
            extension = next(one for one in wanted if one not in inline and one not in sample.sidecars)
            inline[extension] = json.dumps(self._alone(table, image))
        begun = re.match(r"[A-Za-z]+", PurePosixPath(sample.key).parent.name)
        split = split_of(begun[0]) if begun else None
        labelled = next(iter(sizes), None)
        return replace(sample, label=None, split=split, inline=inline, labelled=labelled, as_stored=labelled is None)

    def _alone(self, table: Table, image: Mapping[str, Any]) -> dict[str, Any]:
        """What an annotation file says of one picture, with the categories that this needs."""
        annotations = self._annotations[table.path].get(image["id"], [])
        used = {annotation.get("category_id") for annotation in annotations}
        categories = [category for category in table.content.get("categories", []) if category["id"] in used]
        return {"image": image, "annotations": annotations, "categories": categories}

    @cached_property
    def _annotations(self) -> dict[str, dict[Any, list[Any]]]:
        found: dict[str, dict[Any, list[Any]]] = {}
        for table in self.tables:
            by_image = found.setdefault(table.path, {})
            for annotation in table.content.get("annotations", []):
                by_image.setdefault(annotation.get("image_id"), []).append(annotation)
        return found


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
