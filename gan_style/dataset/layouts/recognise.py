"""What an input is: its layout, by its files, and how many of which there are."""

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice, product
from pathlib import Path, PurePosixPath

from gan_style.dataset.layouts.coco import CocoLayout, check_neighbours, find_tables
from gan_style.dataset.layouts.folder import FolderLayout
from gan_style.dataset.layouts.labels import read_label
from gan_style.dataset.layouts.masks import words_of
from gan_style.dataset.layouts.tables import YAML
from gan_style.dataset.layouts.tree import Tree, is_folder
from gan_style.dataset.layouts.webdataset import WebDatasetLayout
from gan_style.dataset.layouts.yolo import names_in, read_yaml
from gan_style.dataset.sample import (
    ALL_PICTURE_SUFFIXES,
    ARCHIVE_SUFFIXES,
    CONTAINER_SUFFIXES,
    PICTURE_SUFFIXES,
    Layout,
    Sample,
    join,
    some,
)

# The names of input_layout; those but webdataset and coco are folders, told apart by what lies in them.
FOLDERS = ("folder", "classes", "yolo", "voc", "labelme", "cityscapes", "davis", "masks", "pairs", "imagefolder")
LAYOUTS = (*FOLDERS, "webdataset", "coco")
_NOT_READ = (".tar.zst", ".tar.lz4", ".zip", ".7z", ".rar")
_OF_PICTURES = CONTAINER_SUFFIXES - {".npz", ".npy", ".mat", ".pkl", ".pickle", ".h5", ".hdf5"}  # mostly labels
_BRACES = re.compile(r"\{([^{}]*)\}")
_MOST_ARCHIVES = 10_000_000
_LOOKED_INTO = 1000  # folders, and files in each, to tell archives from pictures
# YOLO's, with a name in each line.
_LISTS_OF_CLASSES = (
    "classes.txt",
    "obj.names",
    "_darknet.labels",
    "labels.txt",
    "predefined_classes.txt",
    "classes.names",
)
_MOST_LABELS = 200  # that are read to tell what wrote them


def output_kind(input_kind: str, option: str) -> str:
    """The output's layout; option: auto for the input's, which for any tree is folder."""
    if option != "auto":
        return option
    return "folder" if input_kind in FOLDERS else input_kind


def open_layout(spec: str, layout: str, *, target: str, carry: Sequence[str]) -> Layout:
    """layout: one of LAYOUTS, or auto; target: the output's. ValueError where there is nothing."""
    path, is_auto = Path(spec).expanduser(), layout == "auto"
    is_archive = is_auto and not path.is_dir() and spec.lower().endswith((*ARCHIVE_SUFFIXES, "}"))
    if layout == "webdataset" or is_archive:
        return _archives(spec, path)
    if path.is_file():
        raise ValueError(f"input={spec}: a folder, or .tar archives, expected; unpack this file first")
    if not path.is_dir():
        raise ValueError(f"input={spec}: there is no such folder")
    tree = Tree(path, carry)
    if tables := find_tables(tree) if is_auto or layout == "coco" else []:
        check_neighbours(path, tables)
        return CocoLayout(path, carry, tables, target=output_kind("coco", target))
    if layout == "coco":
        raise ValueError(f"input={spec}: no JSON file in this folder is one of COCO's annotations")
    if is_auto:
        archive, picture = _seen(path)
        if archive is not None and picture is not None:
            raise ValueError(
                f"input={spec}: holds an archive ({archive}) and pictures ({picture}); say input_layout=webdataset or "
                f"input_layout=folder"
            )
        if archive is not None:
            return _archives(spec, path)
        layout = _kind_of(tree)
    names = _class_names(tree) if layout == "yolo" else []
    return FolderLayout(path, carry, kind=layout, target=output_kind(layout, target), names=names)


def _kind_of(tree: Tree) -> str:
    """Which of FOLDERS a tree is, by what belongs to its first pictures."""
    files = (name for path in tree.folders for name in tree.try_listing(path).files)
    if any(re.fullmatch(r"metadata\.(jsonl|csv|parquet)", name) for name in files):
        return "imagefolder"
    labels: Counter[str] = Counter()
    for path in [folder for folder in tree.folders if not tree.is_label_path(folder)][:60]:
        matches = tree.matches(path)
        photos = [name for name in tree.pictures(path) if join(path, name) not in matches.taken]
        for name in photos[: _MOST_LABELS // 10]:
            sidecars = matches.sidecars.get(name, {}).values()
            labels.update({kind for place in sidecars if (kind := _label_kind(tree, place.path))})
            labels["pictures"] += 1
    files = (join(path, name) for path in tree.folders[:20] for name in islice(tree.try_listing(path).files, 200))
    if any(read_yaml(tree.root / path) for path in files if path.endswith(YAML)):
        return "yolo"
    for kind in ("yolo", "voc", "labelme", "cityscapes"):
        if labels[kind] >= max(1, labels["pictures"] / 5):
            return kind
    if labels["masks"] or labels["pairs"]:
        if any(rule.pictures[-1:] == ("JPEGImages",) and rule.labels == ("Annotations",) for rule in tree.rules):
            return "davis"
        return "masks" if labels["masks"] >= labels["pairs"] else "pairs"
    has_classes = any(tree.split_and_label(path)[1] for path in tree.folders)
    return "classes" if has_classes else "folder"


def _label_kind(tree: Tree, path: str) -> str | None:
    """Which layout a label speaks for."""
    if path.lower().endswith(ALL_PICTURE_SUFFIXES):
        pair = {"target", "targets", "output", "outputs"} & set(words_of(path.rpartition(".")[0].replace("/", "_")))
        return "pairs" if pair or not tree.looks_like_mask(path, grey=True) else "masks"
    content = tree.read(path)
    label = read_label(PurePosixPath(path).suffix, content) if content is not None else None
    return None if label is None else label.layout


def _class_names(tree: Tree) -> Sequence[str]:
    """YOLO's classes by number, from data.yaml, or a file with a name in each line."""
    for path in tree.folders[:50]:
        for name in tree.try_listing(path).files:
            if name.endswith(YAML) and (content := read_yaml(tree.root / join(path, name))) is not None:
                return names_in(content)
    for path, name in product(tree.folders, _LISTS_OF_CLASSES):
        if name in tree.try_listing(path).files:
            text = (tree.root / join(path, name)).read_text(encoding="utf-8-sig", errors="replace")
            return [line.strip() for line in text.splitlines() if line.strip()]
    return []


class Inventory:
    """Counts what a layout was found to hold."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.splits: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()
        self.others: Counter[str] = Counter()
        self.classes: set[str] = set()
        self.pictures = self.masks = 0

    def watch(self, samples: Iterator[Sample]) -> Iterator[Sample]:
        for sample in samples:
            self._count(sample)
            yield sample

    def _count(self, sample: Sample) -> None:
        if sample.problem is not None:
            self.problems[sample.problem[0]] += 1
        elif sample.passthrough:
            suffix = PurePosixPath(sample.key).suffix.lower() or "no suffix"
            if suffix in PICTURE_SUFFIXES:
                self.masks += 1
            else:
                self.others[suffix] += 1
        else:
            self.pictures += 1
            self.splits[sample.split or ""] += 1
            if sample.label is not None and len(self.classes) < 1_000_000:
                self.classes.add(sample.label)
            of = "targets" if self.layout.kind == "pairs" else "masks"
            for extension in (*sample.sidecars, *sample.inline):
                is_mask = f".{extension}".lower().endswith(ALL_PICTURE_SUFFIXES)
                self.labels[f"{of} ({extension})" if is_mask else f".{extension} files"] += 1

    def line(self) -> str:
        """What was recognised, for people: one line."""
        splits = ", ".join(f"{name or 'no split'} {count}" for name, count in sorted(self.splits.items()))
        parts = [f"{self.pictures} pictures" + (f" ({splits})" if set(self.splits) - {""} else "")]
        parts += [f"{len(self.classes)} classes ({some(sorted(self.classes))})"] if self.classes else []
        parts += [f"{count} {what}" for what, count in self.labels.most_common(8)]
        parts += [f"{self.masks} masks of no picture, copied as they are"] if self.masks else []
        packed = {suffix: count for suffix, count in self.others.items() if suffix in _OF_PICTURES}
        parts += [f"{count} {suffix} files, in which no picture is stylized" for suffix, count in packed.items()]
        others = ", ".join(f"{count} {suffix}" for suffix, count in self.others.most_common(5))
        parts += [f"{self.others.total()} other files ({others})"] if self.others.total() else []
        parts += [f"{count} not stylized: {kind}" for kind, count in self.problems.most_common()]
        return f"input_layout={self.layout.kind}: {'; '.join([*parts, *self.layout.doubts()])}"

    def check(self, spec: str) -> None:
        """ValueError where there is nothing to stylize."""
        if self.pictures:
            return
        if not (self.problems or self.others or self.masks):
            raise ValueError(f"input={spec}: there is nothing in it")
        containers = {suffix: count for suffix, count in self.others.items() if suffix in CONTAINER_SUFFIXES}
        hint = "; what such files hold has to be unpacked first" if containers else ""
        raise ValueError(f"input={spec}: there is no picture in it that can be stylized; {self.line()}{hint}")


def _seen(root: Path) -> tuple[str | None, str | None]:
    """(an archive at the top or in a folder there, a picture beside it or deeper); without an archive no picture."""
    archive = next((name for name in _files(root, "", depth=2) if name.lower().endswith(ARCHIVE_SUFFIXES)), None)
    if archive is None:
        return None, None
    pictures = (name for name in _files(root, "", depth=4) if name.lower().endswith(PICTURE_SUFFIXES))
    return archive, next(pictures, None)


def _files(root: Path, folder: str, depth: int) -> Iterator[str]:
    """Paths below the root so many folders deep, of each folder but the top only the beginning."""
    try:
        with os.scandir(root / folder) as entries:
            some = islice(entries, _LOOKED_INTO) if folder else entries
            items = sorted((is_folder(item), item.name) for item in some if not item.name.startswith("."))
    except OSError:  # its row will tell
        return
    yield from (f"{folder}{name}" for is_one, name in items if not is_one)
    for name in [name for is_one, name in items if is_one][: _LOOKED_INTO // 10 if depth > 1 else 0]:
        yield from _files(root, f"{folder}{name}/", depth - 1)


def _archives(spec: str, path: Path) -> WebDatasetLayout:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*.*") if not file.name.startswith("."))
        paths = [file for file in files if file.name.lower().endswith(ARCHIVE_SUFFIXES)]
        if others := [file for file in files if file.name.lower().endswith(_NOT_READ)]:
            raise ValueError(f"input={spec}: {others[0]} is not read; unpack it, or make a .tar of it")
    else:
        paths = [Path(name) for name in expand(str(path))]
    if not paths:
        raise ValueError(f"input={spec}: there is no .tar in this folder")
    missing = [archive for archive in paths if not archive.is_file()]
    if missing:
        raise ValueError(f"input={spec}: {len(missing)} of {len(paths)} archives are not there, such as {missing[0]}")
    root = path if path.is_dir() else Path(os.path.commonpath([archive.parent for archive in paths]))
    return WebDatasetLayout(root, [archive.relative_to(root).as_posix() for archive in paths])


def expand(pattern: str) -> list[str]:
    """ "a-{000..002}.tar" and "{x,y}.tar" to the names that they stand for, as a shell would."""
    parts = _BRACES.split(pattern)
    alternatives = [[part] if number % 2 == 0 else _choices(part) for number, part in enumerate(parts)]
    if (count := math.prod(map(len, alternatives))) > _MOST_ARCHIVES:
        raise ValueError(f"input={pattern}: stands for {count} archives; up to {_MOST_ARCHIVES} are read")
    return ["".join(chosen) for chosen in product(*alternatives)]


def _choices(inside: str) -> list[str]:
    match = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if match is None:
        return inside.split(",")
    first, last = int(match[1]), int(match[2])
    if last - first > _MOST_ARCHIVES:
        raise ValueError(f"input: {{{inside}}} stands for {last - first + 1} archives; up to {_MOST_ARCHIVES} are read")
    width = max(len(match[1]), len(match[2])) if match[1].startswith("0") or match[2].startswith("0") else 0
    return [f"{number:0{width}d}" for number in range(first, last + 1)]
