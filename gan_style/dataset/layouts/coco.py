"""COCO: annotation files (JSON) that name pictures, with boxes, outlines, key points, captions; wherever they lie, as
COCO ships them (annotations/instances_train2017.json), as Roboflow does (train/_annotations.coco.json), or as CVAT.
"""

import json
import mmap
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from gan_style.dataset.geometry import has_places, scaled
from gan_style.dataset.journal import DATA, Row, factors_of
from gan_style.dataset.layouts.folder import FolderLayout
from gan_style.dataset.layouts.labels import read_label
from gan_style.dataset.layouts.tables import Index, check_scaling
from gan_style.dataset.layouts.tree import Tree, split_in, splits_in
from gan_style.dataset.sample import PICTURE_SUFFIXES, Sample, join
from gan_style.runtime.files import file_hash

_IMAGES = "images/"
_NAMES = ("file_name", "coco_url")  # fields that name an image's file
_WITH_ALL_CATEGORIES = 20  # pictures, of which hardly all are damaged
_MOST_FILES = 50  # JSON files in one folder; where there are more, they are labels of single pictures


@dataclass(frozen=True)
class CocoTable:
    """One annotation file: its path below the root, its content, and which picture each of its images is, by id."""

    path: str
    content: Mapping[str, Any]
    pictures: Mapping[Any, str]

    @property
    def name(self) -> str:
        """What the JSON of one of its images is called beside the picture."""
        path = PurePosixPath(self.path)
        folder = "" if path.parent.name in ("annotations", "") else f"{path.parent.name}_"
        return re.sub(r"[^A-Za-z0-9_-]", "_", f"{folder}{path.stem}".lstrip("_"))

    @property
    def split(self) -> str | None:
        """The split that its name, or its folder's, says."""
        *folders, name = self.path.split("/")
        own_split = split_in(PurePosixPath(name).stem.replace(".", "_"))
        return next((split[0] for split in (own_split, *map(split_in, reversed(folders))) if split is not None), None)

    @property
    def annotations(self) -> Sequence[dict[str, Any]]:
        return self.content.get("annotations", [])  # type: ignore[no-any-return]

    @cached_property
    def _by_image(self) -> dict[Any, list[Any]]:
        by_image: dict[Any, list[Any]] = {}
        for annotation in self.annotations:
            by_image.setdefault(annotation.get("image_id"), []).append(annotation)
        return by_image

    def document(self, image: Mapping[str, Any]) -> dict[str, Any]:
        """What is said of one picture, with the categories that this needs; that of each of the first pictures with
        all, so that those which nothing needs are not lost.
        """
        annotations, categories = self._by_image.get(image["id"], []), self.content.get("categories", [])
        if all(image["id"] != first["id"] for first in self.content["images"][:_WITH_ALL_CATEGORIES]):
            used = {annotation.get("category_id") for annotation in annotations}
            categories = [category for category in categories if category.get("id") in used]
        return {"image": image, "annotations": annotations, "categories": categories}


def find_tables(tree: Tree) -> list[str]:
    """The annotation files of a folder, by their content."""
    candidates = []
    for folder in tree.folders:
        names = [name for name in tree.try_listing(folder).files if name.lower().endswith(".json")]
        if len(names) <= _MOST_FILES or folder.rpartition("/")[2] == "annotations":
            candidates += [path for name in names if _may_be_table(tree.root / (path := join(folder, name)))]
    return [path for path in sorted(candidates) if _is_table(tree.root / path)]


def _may_be_table(path: Path) -> bool:
    """Whether the words are in it that every annotation file has; without reading all of it into memory. One without
    a picture, such as that of an empty split, is short.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b'"images"') >= 0 and (
                len(content) < 2**20 or any(content.find(f'"{name}"'.encode()) >= 0 for name in _NAMES)
            )
    except (OSError, ValueError):
        return False


def _is_table(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    images = content.get("images") if isinstance(content, dict) else None
    return (
        isinstance(images, list)
        and all(isinstance(image, dict) for image in images)
        and (not images or any(map(_named, images)))
        and bool(content.keys() & {"annotations", "categories", "info", "licenses"})
    )


def _named(image: Mapping[str, Any]) -> str:
    """The field that names an image's file; "" where none does."""
    return next((name for name in _NAMES if isinstance(image.get(name), str)), "")


def _file_name(image: Mapping[str, Any]) -> str:
    """The file's name; of a URL its folder, too, as LVIS's readers take it."""
    value = str(image[_named(image)])
    return "/".join(value.split("/")[-2:]) if "://" in value else value


def check_neighbours(root: Path, paths: Sequence[str]) -> None:
    """ValueError for a file among COCO's annotation files that is meant to be one by its name, and is none."""
    for folder in {PurePosixPath(path).parent for path in paths if "/" in path}:
        for path in sorted((root / folder).glob("*.json")):
            relative = path.relative_to(root).as_posix()
            meant = re.match(r"(instances|captions|person_keypoints|stuff|panoptic|image_info)_", path.name)
            if relative not in paths and meant and not path.name.startswith("."):
                raise ValueError(f"input: {path} is no COCO annotation file")


class CocoLayout(FolderLayout):
    """A tree of pictures and what else belongs to them, and annotation files; paths: of these, below the root."""

    def __init__(self, root: Path, carry: Sequence[str], paths: Sequence[str], *, target: str) -> None:
        super().__init__(root, carry, kind="coco", target=target)
        self.paths = paths

    def facts(self) -> Mapping[str, Any]:
        return {"annotation files": {path: file_hash(self.root / path) for path in self.paths}}

    def doubts(self) -> list[str]:
        return []  # annotation files say what is stylized

    def check_scaling(self) -> None:
        """An annotation, or what another table says, may be what cannot be scaled."""
        check_scaling(self.tree, self.paths)
        for table in self.tables:
            for annotation in table.annotations:
                if isinstance(annotation.get("segmentation"), dict):
                    try:
                        scaled(annotation, (1.0, 1.0))
                    except (ValueError, KeyError, TypeError) as error:
                        raise ValueError(f"{table.path} cannot be scaled: {error}; it needs size=keep") from error

    def samples(self) -> Iterator[Sample]:
        """The folder's pictures, those that no annotation file names among them; then those that are not there."""
        entries: dict[str, list[tuple[CocoTable, Mapping[str, Any]]]] = {}  # of annotation files, by picture
        for table in self.tables:
            for image in table.content["images"]:
                entries.setdefault(table.pictures[image["id"]], []).append((table, image))
        for sample in self._folder_samples:
            images = entries.pop(sample.key, None)
            if sample.picture is None or sample.passthrough:
                yield sample
            elif images is None:
                yield replace(sample, picture=None, problem=("not annotated", "no annotation file names it"))
            else:
                yield self._annotated(sample, images)
        for path in sorted(entries):
            safe = path and not path.startswith("/") and not {"", ".", ".."} & set(path.split("/"))
            problem = ("missing", "there is no such file") if safe else ("unsafe name", "absolute, or with . or ..")
            yield Sample(path or "(no name)", path if safe else "_", problem=problem)

    @cached_property
    def _folder_samples(self) -> list[Sample]:
        """What the folder holds besides its annotation files. One that is called as a picture is (a.json of a.jpg) is
        not that picture's alone.
        """
        samples = []
        for sample in super().samples():
            sidecars = {name: place for name, place in sample.sidecars.items() if place.path not in self.paths}
            if sample.key not in self.paths:
                is_same = len(sidecars) == len(sample.sidecars)
                samples.append(sample if is_same else replace(sample, sidecars=sidecars))
        return samples

    @cached_property
    def tables(self) -> list[CocoTable]:
        paths = {sample.key for sample in self._folder_samples if sample.picture and not sample.passthrough}
        index = Index(dict.fromkeys(sorted(paths), ()))
        return [self._read(path, index) for path in self.paths]

    def _read(self, path: str, index: Index) -> CocoTable:
        """ValueError for a file that is no annotation file."""
        try:
            content = json.loads((self.root / path).read_bytes())
            images = content["images"]
            known = all(isinstance(image, dict) and "id" in image and _named(image) for image in images)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"input: {self.root / path} is no COCO annotation file ({error})") from error
        if not known:
            raise ValueError(f"input: in {self.root / path} some images have no id or no file_name")
        folders = _folders(path, images, index)
        return CocoTable(path, content, {image["id"]: _picture(_file_name(image), folders, index) for image in images})

    def _annotated(self, sample: Sample, images: Sequence[tuple[CocoTable, Mapping[str, Any]]]) -> Sample:
        sizes = {(image["width"], image["height"]) for _, image in images if image.get("width") and image.get("height")}
        if len(sizes) > 1:
            return replace(sample, picture=None, problem=("labels", f"annotation files differ in its size: {sizes}"))

        # What each annotation file says of it, as JSON beside it, where the output has no such files.
        inline: dict[str, str] = {}
        for table, image in images if self.made != "coco" else ():
            extensions = ["json", "coco.json"] if self._one_for_each else [f"{table.name}.json"]
            extensions += [f"{table.name}.{number}.json" for number in range(2, len(images) + len(sample.sidecars) + 3)]
            extension = next(name for name in extensions if name not in inline and name not in sample.sidecars)
            inline[extension] = json.dumps(table.document(image))

        # Its split, by a folder, or else by the first annotation file with one.
        folder = split_in(PurePosixPath(sample.key).parent.name)
        splits = [sample.split, folder[0] if folder and not folder[1] else None]
        splits += [self._splits[table.path] for table, _ in images]
        split, size = next(filter(None, splits), None), next(iter(sizes), None)
        return replace(sample, label=None, split=split, inline=inline, labelled=size, as_stored=size is None)

    @cached_property
    def _splits(self) -> Mapping[str, str | None]:
        """By annotation file; where each picture is in one of them, by whatever words tell them apart."""
        own = {table.path: table.split for table in self.tables}
        return own | (splits_in(self.paths) if self._one_for_each and not any(own.values()) else {})

    @cached_property
    def _one_for_each(self) -> bool:
        """Whether no picture is named twice, be it by two annotation files."""
        named = [table.pictures[image["id"]] for table in self.tables for image in table.content["images"]]
        return len(named) == len(set(named))


def _folders(path: str, images: Sequence[Mapping[str, Any]], index: Index) -> list[str]:
    """Where an annotation file's names may start from, the likeliest first: where most of the first pictures lie."""
    folder, stem = path.rpartition("/")[0], PurePosixPath(path).stem
    up, last, split = folder.rpartition("/")[0], stem.rpartition("_")[2], split_in(stem)
    folders = [folder, up]
    for base in ("", up):
        for word in (last, split[0] if split else last):
            folders += [join(base, word), join(base, f"images/{word}")]
    folders = list(dict.fromkeys(folder.strip("/") for folder in [*folders, join(up, "images"), "images", ""]))
    names = [_plain(_file_name(image)) for image in images[:50]]
    hits = {folder: sum(join(folder, name) in index.files for name in names) for folder in folders}
    return sorted(folders, key=lambda folder: -hits[folder])


def _picture(name: str, folders: Sequence[str], index: Index) -> str:
    """The path of an image's file below the root, however its slashes, percent signs or letters are written."""
    plain = _plain(name)
    for folder in folders:
        if (path := join(folder, plain)) in index.files:
            return path
    file = index.find(name, folders[0]) or index.find_stem(plain, folders[0])  # some leave the suffix out
    return file or (plain if name.startswith("/") else join(folders[0], plain))


def _plain(name: str) -> str:
    return re.sub(r"\A(\./)+", "", re.sub(r"[/\\]+", "/", name))


# Writing


def from_tables(tables: Sequence[CocoTable], rows: Iterable[Row], copies: int) -> dict[str, bytes]:
    """The source's annotation files, by path: ids and categories as they are, file names as they are now.

    Of several copies the first keeps its ids; those of copy c are c times (the largest id + 1) higher, in images and
    annotations. Pictures without a result are left out, and so are their annotations.
    """
    results = {(row["key"], row["copy"]): row for row in rows if row["status"] == "ok"}
    return {table.path: json.dumps(_copied(table, results, copies)).encode() for table in tables}


def _copied(table: CocoTable, results: Mapping[tuple[str, int], Row], copies: int) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    image_span, span = _span(table.content["images"]), _span(table.annotations)
    for copy in range(copies):
        rows = {identity: results.get((path, copy)) for identity, path in table.pictures.items()}
        for image in table.content["images"]:
            if (row := rows[image["id"]]) is not None:
                field, name = _named(image), _file_name(image)
                renamed = image[field].removesuffix(name) + _name(name, row["key"], row["output"])
                new = {field: renamed, "id": _shifted(image["id"], copy, image_span)}
                if factors_of(row) != (1.0, 1.0):
                    new |= {"width": row["width"], "height": row["height"]}
                images.append({**image, **new})
        for annotation in table.annotations:
            if (row := rows.get(annotation.get("image_id"))) is not None:
                new = {"image_id": _shifted(annotation["image_id"], copy, image_span)}
                new |= {"id": _shifted(annotation["id"], copy, span)} if "id" in annotation else {}
                if (mask := annotation.get("file_name")) is not None:  # of panoptic segments, called as the picture is
                    source, result = (PurePosixPath(path).stem for path in (row["key"], row["output"]))
                    folder, slash, name = mask.rpartition("/")
                    new |= {"file_name": folder + slash + name.replace(source, result, 1)}
                scale = factors_of(row)
                annotations.append({**(annotation if scale == (1.0, 1.0) else scaled(annotation, scale)), **new})
    named = {"annotations": annotations} if "annotations" in table.content else {}
    return {**table.content, "images": images, **named}


def _span(items: Sequence[Mapping[str, Any]]) -> int:
    return max((item["id"] for item in items if isinstance(item.get("id"), int)), default=0) + 1


def _shifted(number: Any, copy: int, span: int) -> Any:
    if copy == 0:
        return number
    return number + copy * span if isinstance(number, int) else f"{number}~{copy + 1}"


def _name(name: str, path: str, output: str) -> str:
    """A file name for a result, starting from where the old one did; as it was where the file is called as it was.

    One that matched only loosely (backslashes, letters' case, %20), or was absolute, becomes the path as it is.
    """
    plain = _plain(name)
    if PurePosixPath(path).stem == PurePosixPath(plain).name:  # without a suffix
        path, output = path.rpartition(".")[0], output.rpartition(".")[0]
    if path == output and (path == name or path.endswith(f"/{name}")) and not name.startswith("/"):
        return name
    base = path.removesuffix(plain) if path.endswith(plain) and not name.startswith("/") else None
    if base is None:
        same = PurePosixPath(plain).name.casefold() == PurePosixPath(path).name.casefold()
        depth = len(PurePosixPath(plain).parts) if same and not name.startswith("/") and ":" not in name else 1
        base = "/".join(path.split("/")[:-depth])
        base += "/" if base else ""
    return output.removeprefix(base) if output.startswith(base) else output


def from_classes(
    output: Path, rows: Iterable[Row], classes: Sequence[str], names: Sequence[str], warn: Callable[[str], object]
) -> dict[str, bytes]:
    """Annotation files by path: one for each split (else dataset.json), with boxes from what lies beside each result.

    An annotation without a box says which class a picture has; none is invented. Where the JSON of COCO pictures lies
    beside results, as make-dataset writes it for other layouts, they get back what is said there, ids too; of several
    annotation files, each its own. names: of classes by number, where labels have numbers alone; warn: is told of
    labels that no annotation was made of.
    """
    unknown = Counter[str]()
    contents: dict[str, _Annotations] = {}
    for row in rows:
        if row["status"] != "ok":
            continue
        split, sidecars = row["split"] or "dataset", _read_sidecars(output, row)
        statements = dict(_statements(sidecars))
        for name, statement in statements.items():
            contents.setdefault(name or split, _Annotations(classes, names)).add(row, statement, ())
        if not statements:
            labels = list(_labels(sidecars, (row["width"], row["height"]), names, unknown))
            boxes = [label for label in labels if "caption" not in label]
            captions = [label for label in labels if "caption" in label]
            contents.setdefault(split, _Annotations(classes, names)).add(row, None, boxes)
            if captions:  # in a file of their own, as COCO has it
                contents.setdefault(f"captions_{split}", _Annotations((), ())).add(row, {}, captions)
    for extension, count in (+unknown).items():
        warn(
            f"{count} files {extension} hold places in a form that is not made into COCO's annotations; they lie beside"
        )
    return {f"annotations/{name}.json": json.dumps(content.plain()).encode() for name, content in contents.items()}


class _Annotations:
    """An annotation file that grows."""

    def __init__(self, classes: Sequence[str], names: Sequence[str]) -> None:
        self.classes = classes
        self.images: dict[Any, Mapping[str, Any]] = {}
        self.annotations: dict[Any, Mapping[str, Any]] = {}
        self.categories: dict[Any, Mapping[str, Any]] = {}
        self._numbers: dict[str, int] = {}
        for name in names:
            self._category(name)

    def add(self, row: Row, statement: Mapping[str, Any] | None, labels: Sequence[Mapping[str, Any]]) -> None:
        own = statement["image"] if statement else {}
        image = {**own, "id": _free(own.get("id"), self.images), "file_name": row["output"].removeprefix(_IMAGES)}
        self.images[image["id"]] = image | {"width": row["width"], "height": row["height"]}
        for annotation in statement["annotations"] if statement else []:
            self._annotate({**annotation, "image_id": image["id"]})
        for category in statement["categories"] if statement else []:
            self.categories.setdefault(category["id"], category)
        for label in labels:
            placed = {name: value for name, value in label.items() if name not in ("name", "number")}
            if "bbox" in placed:
                placed |= {"area": round(placed["bbox"][2] * placed["bbox"][3], 6), "iscrowd": 0}
            if "name" in label or "bbox" in label:
                placed["category_id"] = self._category(label.get("name", "object"))
            self._annotate({"image_id": image["id"], **placed})
        if statement is None and row["label"] is not None and not any("name" in label for label in labels):
            self._annotate({"image_id": image["id"], "category_id": self._class(row["label"])})

    def _class(self, label: str) -> int:
        number = self.classes.index(label) + 1
        self.categories.setdefault(number, {"id": number, "name": label})
        return number

    def _category(self, name: str) -> int:
        if name not in self._numbers:
            self._numbers[name] = number = _free(None, self.categories)
            self.categories[number] = {"id": number, "name": name}
        return self._numbers[name]

    def _annotate(self, annotation: dict[str, Any]) -> None:
        annotation["id"] = _free(annotation.get("id"), self.annotations)
        self.annotations[annotation["id"]] = annotation

    def plain(self) -> dict[str, list[Any]]:
        parts = {"images": self.images, "annotations": self.annotations, "categories": self.categories}
        return {name: list(part.values()) for name, part in parts.items()}


def _free(identifier: Any, taken: Mapping[Any, Any]) -> Any:
    """The id that is wanted, unless another has it (or none is): then the next number."""
    if identifier is not None and identifier not in taken:
        return identifier
    number = len(taken) + 1
    while number in taken:
        number += 1
    return number


def _read_sidecars(output: Path, row: Row) -> dict[str, bytes]:
    """The files beside a result that are no pictures, by extension; empty where they cannot be read."""
    stem = row["output"].removesuffix(PurePosixPath(row["output"]).suffix)
    sidecars = {}
    for extension in json.loads(row["sidecars"] or "{}"):
        if not extension.lower().endswith(PICTURE_SUFFIXES):
            try:
                sidecars[extension] = (output / DATA / (stem + extension)).read_bytes()
            except OSError:
                sidecars[extension] = b""
    return sidecars


def _statements(sidecars: Mapping[str, bytes]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What JSON beside a result says, where it is of COCO's kind: (the annotation file's name, the content)."""
    for extension, content in sidecars.items():
        if not extension.endswith(".json"):
            continue
        try:
            statement = json.loads(content)
            parts = [statement["image"], *statement["annotations"], *statement["categories"]]
        except (ValueError, KeyError, TypeError):
            continue
        if all(isinstance(part, dict) for part in parts):
            name = extension.removesuffix(".json").lstrip(".").partition(".")[0]
            yield ("" if name in ("", "coco") else name), statement


def _labels(
    sidecars: Mapping[str, bytes], size: tuple[int, int], names: Sequence[str], unknown: Counter[str]
) -> Iterator[dict[str, Any]]:
    """COCO's annotations from what lies beside a result: YOLO's boxes, VOC's, LabelMe's, those of records, captions.
    unknown: counts, by extension, labels of places that none was made of.
    """
    captions = set[str]()
    for extension, content in sidecars.items():
        label = read_label(extension, content)
        annotations = label.annotations(size, names) if label is not None else []
        yield from annotations
        unknown[extension] += not annotations and label is not None and label.has_places
        if extension.lower().endswith(".json"):
            for note in _of_records(content):
                captions.add(note.get("caption", ""))
                yield note
        if extension.lower() in (".txt", ".caption") and label is None:
            yield from ({"caption": caption} for caption in {_text(content)} - captions - {""})


def _text(content: bytes) -> str:
    """A caption; nothing where it is none."""
    try:
        return content.decode("utf-8-sig").strip() if len(content) < 100_000 else ""
    except ValueError:
        return ""


def _of_records(content: bytes) -> Iterator[dict[str, Any]]:
    """Of records that tables had, what they say of a whole picture: captions, and a class where there are no boxes."""
    document = json.loads(content) if content else None
    for record in document if isinstance(document, list) else [document]:
        named = {str(name).lower(): value for name, value in record.items()} if isinstance(record, dict) else {}
        caption = named.get("text") or named.get("caption")
        if isinstance(caption, str):
            yield {"caption": caption}
        label = next((named[name] for name in ("label", "class", "category") if name in named), None)
        if isinstance(label, str | int) and not has_places(record):
            yield {"name": str(label)}
