"""Make small datasets of each layout into each layout, and read every label back: the table of docs/datasets.md.

    PYTHONPATH=$PWD python tools/check/dataset_matrix.py

The network is a stand-in (a negative); all else is what make-dataset does. Boxes are compared as shares of the
picture's sides, masks by their values' shares, captions and classes as they are. Exit status 1 where a label differs.
"""

import io
import itertools
import json
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image

from gan_style.dataset.journal import DATA, STATE, Records
from gan_style.dataset.layouts.recognise import open_layout
from gan_style.dataset.loading import Loader
from gan_style.dataset.manifest import Documents, Merge
from gan_style.dataset.naming import Names, among_images, in_folders, make_scheme
from gan_style.dataset.pipeline import Batching, Gate, Pipeline
from gan_style.dataset.plan import write_plan
from gan_style.dataset.sampling import ChoiceSampler
from gan_style.dataset.verify import Verify
from gan_style.dataset.worker import ShardWorker
from gan_style.dataset.writers import Destination
from gan_style.runtime.files import ensure_folder

OUTPUTS = ("folder", "webdataset", "coco")
BOX = (0.1, 0.2, 0.5, 0.6)  # left, top, right, bottom, as shares
Labels = Counter[tuple[object, ...]]


class Negative:
    """A stand-in for a stylizer."""

    name, sha256 = "negative", "0"

    def __call__(self, content: torch.Tensor, *, tiled: bool = False) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda strengths: -content


def photo(path: Path, width: int = 40, height: int = 30) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def mask(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((30, 40), np.uint8)
    values[:, 20:] = 1
    Image.fromarray(values).save(path)


def text(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def classes(root: Path) -> Labels:
    for split, name in itertools.product(("train", "val"), ("cat", "dog")):
        photo(root / split / name / f"{split}{name}.jpg")
    return Counter(("class", name) for _ in range(2) for name in ("cat", "dog"))


def yolo(root: Path) -> Labels:
    left, top, right, bottom = BOX
    for number, split in enumerate(("train", "val")):
        photo(root / "images" / split / f"{split}.jpg")
        line = f"{number} {(left + right) / 2} {(top + bottom) / 2} {right - left} {bottom - top}\n"
        text(root / "labels" / split / f"{split}.txt", line)
    text(root / "data.yaml", "train: images/train\nval: images/val\nnames: [cat, dog]\n")
    return Counter(("box", name, BOX) for name in ("cat", "dog"))


def voc(root: Path) -> Labels:
    sides = dict(zip(("xmin", "ymin", "xmax", "ymax"), (4, 6, 20, 18), strict=True))
    box = "".join(f"<{name}>{value}</{name}>" for name, value in sides.items())
    size = "<size><width>40</width><height>30</height></size>"
    photo(root / "JPEGImages" / "a.jpg")
    content = f"<filename>a.jpg</filename>{size}<object><name>cat</name><bndbox>{box}</bndbox></object>"
    text(root / "Annotations" / "a.xml", f"<annotation>{content}</annotation>")
    return Counter([("box", "cat", BOX)])


def labelme(root: Path) -> Labels:
    photo(root / "a.jpg")
    shapes = [{"label": "cat", "points": [[4, 6], [20, 18]], "shape_type": "rectangle"}]
    text(root / "a.json", {"shapes": shapes, "imagePath": "a.jpg", "imageWidth": 40, "imageHeight": 30})
    return Counter([("box", "cat", BOX)])


def coco(root: Path) -> Labels:
    photo(root / "train2017" / "a.jpg")
    images = [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}]
    notes = [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [4, 6, 16, 12], "area": 192, "iscrowd": 0}]
    table = {"images": images, "annotations": notes, "categories": [{"id": 7, "name": "cat"}]}
    text(root / "annotations" / "instances_train2017.json", table)
    said = [{"id": 5, "image_id": 1, "caption": "words"}]
    text(root / "annotations" / "captions_train2017.json", {"images": images, "annotations": said})
    return Counter([("box", "cat", BOX), ("caption", "words")])


def masks(root: Path) -> Labels:
    for name in ("a", "b"):
        photo(root / "images" / f"{name}.jpg")
        mask(root / "masks" / f"{name}.png")
    return Counter([("mask", (0.5, 0.5))] * 2)


def cityscapes(root: Path) -> Labels:
    photo(root / "leftImg8bit" / "train" / "b" / "b_0_1_leftImg8bit.png")
    mask(root / "gtFine" / "train" / "b" / "b_0_1_gtFine_labelIds.png")
    outline = [{"label": "cat", "polygon": [[4, 6], [20, 6], [20, 18]]}]
    text(
        root / "gtFine" / "train" / "b" / "b_0_1_gtFine_polygons.json",
        {"imgWidth": 40, "imgHeight": 30, "objects": outline},
    )
    return Counter([("mask", (0.5, 0.5)), ("box", "cat", BOX)])


def davis(root: Path) -> Labels:
    photo(root / "JPEGImages" / "480p" / "bear" / "00000.jpg")
    mask(root / "Annotations" / "480p" / "bear" / "00000.png")
    return Counter([("mask", (0.5, 0.5))])


def imagefolder(root: Path) -> Labels:
    photo(root / "train" / "a.jpg")
    objects = {"bbox": [[4, 6, 16, 12]], "categories": ["cat"]}
    text(root / "train" / "metadata.jsonl", {"file_name": "a.jpg", "text": "words", "objects": objects})
    return Counter([("box", "cat", BOX), ("caption", "words")])


def pairs(root: Path) -> Labels:
    photo(root / "input" / "a.jpg")
    mask(root / "target" / "a.png")
    return Counter([("mask", (0.5, 0.5))])


def webdataset(root: Path) -> Labels:
    photo(root / "a.jpg")
    content = {"a.jpg": (root / "a.jpg").read_bytes(), "a.txt": b"words", "a.cls": b"cat"}
    (root / "a.jpg").unlink()
    with tarfile.open(root / "train-000.tar.gz", "w:gz") as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return Counter([("class", "cat"), ("caption", "words")])


INPUTS = (classes, yolo, voc, labelme, coco, masks, cityscapes, davis, imagefolder, pairs, webdataset)


def make(source: Path, output: Path, kind: str, copies: int, suffix: str | None, size: int | None) -> Merge:
    """All that make-dataset does, around the negative."""
    layout = open_layout(str(source), "auto", target=kind, carry=[])
    scheme = make_scheme(copies, suffix, layout.kind, kind)
    wanted = in_folders if (layout.kind, kind) == ("webdataset", "folder") else lambda sample: sample.name
    wanted = among_images if kind == "coco" and layout.kind != "coco" else wanted
    settings = {"copies": copies, "format": suffix[1:] if suffix else "keep"}
    settings |= {"input_layout": layout.kind, "output_layout": kind}
    numbered = layout.classes() if kind == "webdataset" else None
    names = Names(scheme, wanted)
    ensure_folder(output / STATE)
    plan = write_plan(output / STATE, layout.samples(), settings, names, 4, layout.facts(), classes=numbered)
    records = Records(output, plan)
    records.prepare()
    loader, choices = Loader(layout.root, 10**6, size), ChoiceSampler(0, [1.0], (1.0, 1.0), 0.0)
    cpu = torch.device("cpu")
    pipeline = Pipeline(loader, choices, [Negative()], scheme, Batching(4, 10**6), Gate(None, 0), None, cpu, {})
    worker = ShardWorker(records, Destination(kind, output / DATA, scheme), pipeline, seed=0)
    for shard in plan.shards:
        worker.process(shard)
    merge = Merge(records)
    merge.manifest("jsonl")
    Documents(layout, kind, scheme, records, merge.each_row, print).write()
    return merge


def read(data: Path, kind: str) -> Labels:
    """The labels in a dataset, by a reader of its own: of pictures, what lies where their layout has it."""
    found: Labels = Counter()
    if kind == "coco":
        for path in data.rglob("*.json"):
            content = json.loads(path.read_text())
            if "images" in content:
                found.update(read_coco(content))
        found.update(label for path in data.rglob("*.png") for label in read_mask(path.read_bytes()))
        return found
    contents = {path.relative_to(data).as_posix(): path.read_bytes() for path in data.rglob("*") if path.is_file()}
    if kind == "webdataset":
        names = contents["classes.txt"].decode().split("\n") if "classes.txt" in contents else []
        contents = dict(members(data))
        found.update(
            ("class", names[int(v)] if v.isdigit() else v.decode()) for n, v in contents.items() if n.endswith(".cls")
        )
    pictures = {}
    for name, content in contents.items():
        if name.endswith((".jpg", ".png")) and not list(read_mask(content)):
            pictures[PurePosixPath(name).stem.removesuffix("_leftImg8bit")] = Image.open(io.BytesIO(content)).size
    for name, content in contents.items():
        stem = PurePosixPath(name).name.split(".")[0].partition("_gtFine")[0]
        found.update(read_file(name, content, pictures.get(stem), contents))
    folders = [PurePosixPath(name).parent.name for name in contents if name.endswith((".jpg", ".png"))]
    found.update(("class", name) for name in folders if kind == "folder" and name in ("cat", "dog"))
    return found


def members(data: Path) -> Iterator[tuple[str, bytes]]:
    for path in data.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                yield member.name, file.read()


def read_file(
    name: str, content: bytes, size: tuple[int, int] | None, contents: dict[str, bytes]
) -> Iterator[tuple[object, ...]]:
    """The labels in one file."""
    if name.endswith(".png"):
        yield from read_mask(content)
    elif name.endswith(".txt") and "metadata" not in name:
        for line in content.decode().splitlines():
            words = line.split()
            if len(words) == 5:
                x, y, w, h = map(float, words[1:])
                yield box(["cat", "dog"][int(words[0])], (x - w / 2, y - h / 2, x + w / 2, y + h / 2), (1, 1))
            elif line == "words":
                yield "caption", "words"
    elif name.endswith(".xml") and size is not None:
        for one in ElementTree.fromstring(content).iter("object"):
            sides = tuple(float(one.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
            yield box(one.findtext("name", ""), sides, size)
    elif name.endswith((".json", ".jsonl")):
        for record in map(json.loads, content.decode().splitlines() if name.endswith("l") else [content]):
            if "metadata" in name:
                picture = contents[str(PurePosixPath(name).parent / record["file_name"])]
                yield "caption", record["text"]
                yield from read_objects(record, Image.open(io.BytesIO(picture)).size)
            elif size is not None:
                yield from read_json(record, size)


def read_json(record: dict, size: tuple[int, int]) -> Iterator[tuple[object, ...]]:
    """The labels in a JSON file beside a picture."""
    for one in record.get("shapes", record.get("objects", [])) if "bbox" not in record.get("objects", {}) else []:
        points = one.get("points", one.get("polygon"))
        xs, ys = zip(*points, strict=True)
        yield box(one["label"], (min(xs), min(ys), max(xs), max(ys)), size)
    if isinstance(record.get("objects"), dict):
        yield from read_objects(record, size)
    if "annotations" in record:
        yield from read_coco({**record, "images": [record["image"]]})


def read_objects(record: dict, size: tuple[int, int]) -> Iterator[tuple[object, ...]]:
    for (x, y, w, h), name in zip(record["objects"]["bbox"], record["objects"]["categories"], strict=True):
        yield box(name, (x, y, x + w, y + h), size)


def read_coco(content: dict) -> Iterator[tuple[object, ...]]:
    names = {one["id"]: one["name"] for one in content.get("categories", [])}
    sizes = {one["id"]: (one["width"], one["height"]) for one in content["images"]}
    for note in content["annotations"]:
        if "bbox" in note:
            x, y, w, h = note["bbox"]
            yield box(names[note["category_id"]], (x, y, x + w, y + h), sizes[note["image_id"]])
        elif "caption" in note:
            yield "caption", note["caption"]
        else:
            yield "class", names[note["category_id"]]


def read_mask(content: bytes) -> Iterator[tuple[object, ...]]:
    picture = Image.open(io.BytesIO(content))
    if picture.mode == "L" and picture.format == "PNG":
        values = np.asarray(picture)
        if values.max() <= 1:
            yield "mask", tuple(round(float((values == value).mean()), 1) for value in (0, 1))


def box(name: str, sides: tuple[float, ...], size: tuple[int, int]) -> tuple[object, ...]:
    width, height = size
    shares = (side / (height if at % 2 else width) for at, side in enumerate(sides))
    return "box", name, tuple(round(share, 1) for share in shares)


def main() -> int:
    differences = 0
    print("| input | " + " | ".join(OUTPUTS) + " |\n|---|" + "---|" * len(OUTPUTS))
    for build in INPUTS:
        cells = []
        for kind in OUTPUTS:
            good, bad = 0, []
            for copies, suffix, size in itertools.product((1, 2), (None, ".png"), (None, 32, 15)):
                with tempfile.TemporaryDirectory() as folder:
                    source, output = Path(folder, "in"), Path(folder, "out")
                    source.mkdir()
                    wanted = build(source)
                    merge = make(source, output, kind, copies, suffix, size)
                    found = read(output / DATA, kind)
                    problems = [str(one) for one in Verify(merge.records, source)()]
                missing = {label: count * copies for label, count in wanted.items() if found[label] < count * copies}
                if missing or problems:
                    bad.append(f"copies={copies} format={suffix} size={size}: {missing} of {dict(found)} {problems}")
                else:
                    good += 1
            differences += len(bad)
            cells.append(f"{good} of {good + len(bad)}")
            for line in bad[:3]:
                print(f"  {build.__name__} to {kind}: {line}", file=sys.stderr)
        print(f"| {build.__name__} | " + " | ".join(cells) + " |", flush=True)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
