"""A COCO-style folder: pictures, and annotation files (JSON) that name them, with boxes, segmentations, captions."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from gan_style.datasetgen.entries import Entry, split_of
from gan_style.datasetgen.sources.folder import FolderSource


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

    def entries(self) -> Iterator[Entry]:
        """The folder's pictures, those that no annotation file names among them; then those that are not there."""
        said = self._said()
        for entry in FolderSource(self.root, self.carry, self.strays).entries():
            if entry.key in self.paths:
                continue
            images = said.pop(entry.key, None)
            if images is not None:
                yield self._annotated(entry, images)
            elif entry.picture is not None and not entry.carried:
                yield replace(entry, picture=None, problem=("not annotated", "no annotation file names it"))
            else:
                yield entry
        for path in sorted(said):
            parts = path.split("/")
            safe = path and not path.startswith("/") and not {"", ".", ".."} & set(parts)
            problem = ("missing", "there is no such file") if safe else ("unsafe name", "absolute, or with . or ..")
            yield Entry(path or "(no name)", path if safe else "_", problem=problem)

    def _said(self) -> dict[str, list[tuple[Table, Mapping[str, Any]]]]:
        """What is said of each picture: path to [(annotation file, its image)]."""
        said: dict[str, list[tuple[Table, Mapping[str, Any]]]] = {}
        for table in self.tables:
            for image in table.content["images"]:
                said.setdefault(table.picture(image), []).append((table, image))
        return said

    def _annotated(self, entry: Entry, images: Sequence[tuple[Table, Mapping[str, Any]]]) -> Entry:
        sizes = {(image["width"], image["height"]) for _, image in images if {"width", "height"} <= image.keys()}
        if len(sizes) > 1:
            return replace(entry, picture=None, problem=("labels", f"annotation files differ in its size: {sizes}"))
        inline: dict[str, str] = {}
        for table, image in images if self.inline else ():
            name = PurePosixPath(table.path).stem.replace(".", "_")
            wanted = ["json", "coco.json"] if len(images) == 1 else [f"{name}.json"]
            wanted += [f"{name}_{number}.json" for number in range(2, len(images) + len(entry.sidecars) + 3)]
            extension = next(one for one in wanted if one not in inline and one not in entry.sidecars)
            inline[extension] = json.dumps(self._alone(table, image))
        begun = re.match(r"[A-Za-z]+", PurePosixPath(entry.key).parent.name)
        split = split_of(begun[0]) if begun else None
        labelled = next(iter(sizes), None)
        return replace(entry, label=None, split=split, inline=inline, labelled=labelled, as_stored=labelled is None)

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
