"""Labels, captions, masks and boxes in each layout, there and back, read by those who read such datasets."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torchless
import yaml
from samples import archive, files, mask, members, opened, photo, text

from gan_style.dataset.manifest import read_manifest
from gan_style.dataset.verify import Verify

CLASSES = ("cats", "dogs", "foxes")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes in two splits, with a caption and a mask each, a VOC file, a table."""
    for number, (split, label) in enumerate(itertools.product(("train", "val"), CLASSES)):
        place = tmp_path / "folder" / split / label
        for picture in range(2):
            name = f"{number}-{picture}"
            photo(place / f"{name}.jpg", 8, 9)
            text(place / f"{name}.txt", f"a caption for {name}")
            mask(place / f"{name}.mask.png", np.full((9, 8), number, np.uint8))
    text(tmp_path / "folder" / "labels.csv", "train/cats/0-0.jpg,cats\n")
    text(tmp_path / "folder/Annotations/0-0.xml", "<annotation><filename>0-0.jpg</filename></annotation>")
    return tmp_path / "folder"


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Pictures in two folders, each with an annotation file that has ids, boxes and segmentations; captions besides."""
    root = tmp_path / "coco"
    categories = [{"id": 7, "name": "cat", "supercategory": "animal"}, {"id": 18, "name": "dog"}]
    for split, first in (("train2017", 100), ("val2017", 200)):
        (root / split).mkdir(parents=True)
        images, annotations = [], []
        for number in range(first, first + 3):
            (root / split / f"{number:012d}.jpg").write_bytes(b"%d" % number)
            images.append({"id": number, "file_name": f"{number:012d}.jpg", "width": 640, "height": 480, "licence": 3})
            for part in range(2):
                box = [1.5 + part, 2.25, 30.0, 40.125]
                shape = [[1.5, 2.25, 31.5, 2.25, 31.5, 42.375]]
                note = {"id": 10 * number + part, "image_id": number, "category_id": 7 + 11 * part, "bbox": box}
                annotations.append(note | {"area": 600.0, "iscrowd": 0, "segmentation": shape})
        content = {"info": {"year": 2017}, "images": images, "annotations": annotations, "categories": categories}
        text(root / "annotations" / f"instances_{split}.json", content)
        captions = [{"id": number, "image_id": number, "caption": "words"} for number in range(first, first + 3)]
        text(root / "annotations" / f"captions_{split}.json", {"images": images, "annotations": captions})
    return root


def make_dataset(source: Path | str, output: Path, layout: str, **more) -> list[dict]:
    merge = torchless.make(str(source), output, layout, **more)
    root = Path(source) if Path(source).is_dir() else None
    assert list(Verify(merge.records, root)()) == []
    return list(read_manifest(output))


def backwards(contents: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data[::-1] if name.endswith(".jpg") else data for name, data in contents.items()}


def test_folder_to_folder_changes_pictures_alone(folder, tmp_path):
    make_dataset(folder, tmp_path / "out", "folder")
    assert files(tmp_path / "out" / "data") == backwards(files(folder))


def test_webdataset_reads_the_archives(folder, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    rows = make_dataset(folder, tmp_path / "out", "webdataset", shard_size=5)
    names = (tmp_path / "out" / "data" / "classes.txt").read_text().split()
    assert tuple(names) == CLASSES
    source_files, count = files(folder), 0
    for split in ("train", "val"):
        archives = sorted(str(path) for path in (tmp_path / "out" / "data").glob(f"{split}-*.tar"))
        assert len(archives) == 2
        for sample in webdataset.WebDataset(archives, shardshuffle=False):
            key = sample["__key__"]
            assert key.split("/")[:2] == [split, names[int(sample["cls"])]]
            assert sample["jpg"] == source_files[f"{key}.jpg"][::-1]
            assert (sample["txt"], sample["mask.png"]) == (source_files[f"{key}.txt"], source_files[f"{key}.mask.png"])
            count += 1
    assert count == 12
    strays = {row["key"]: (row["status"], row["kind"]) for row in rows if row["status"] != "ok"}
    assert strays == {"labels.csv": ("skipped", "no home")}
    first = members(tmp_path / "out" / "data")
    assert first["train/cats/0-0.xml"] == source_files["Annotations/0-0.xml"]
    assert json.loads(first["train/cats/0-0.labels.json"]) == {"0": "train/cats/0-0.jpg", "1": "cats"}


def test_archives_back_to_folders(folder, tmp_path):
    make_dataset(folder, tmp_path / "tars", "webdataset")
    make_dataset(tmp_path / "tars" / "data", tmp_path / "out", "folder")
    expected = {name: data for name, data in files(folder).items() if name.count("/") == 2}
    result = files(tmp_path / "out" / "data")
    added = ("train/cats/0-0.labels.json", "train/cats/0-0.xml")  # of the table, and of Annotations/
    assert {name: data for name, data in result.items() if not name.endswith(".cls") and name not in added} == expected


def numbered(classes: list[str]) -> dict[str, bytes]:
    """Name samples 0000, 0001 ...: a picture and the number of its class."""
    samples = {}
    for number, name in enumerate(classes):
        samples |= {f"{number:04d}.jpg": b"picture", f"{number:04d}.cls": name.encode()}
    return samples


def test_archives_with_numbers_for_classes_become_class_folders(tmp_path):
    archive(tmp_path / "in" / "train-000.tar", numbered(["0", "1", "0", "1"]))
    make_dataset(str(tmp_path / "in" / "train-{000..000}.tar"), tmp_path / "out", "folder")
    pictures = {name for name in files(tmp_path / "out" / "data") if name.endswith(".jpg")}
    assert pictures == {"train/0/0000.jpg", "train/1/0001.jpg", "train/0/0002.jpg", "train/1/0003.jpg"}


NUMBERED = {
    "names in another order than the alphabet's": (["dog", "cat"], ["0", "1", "1"], ["dog", "cat", "cat"]),
    "bare numbers, more than ten": (None, [str(n) for n in range(12)], [str(n) for n in range(12)]),
    "names that no sample has": (["a", "b", "c"], ["2"], ["c"]),
    "a number beyond the names": (["a"], ["0", "57"], ["a", "57"]),
    "words": (None, ["cat", "10", "cat"], ["cat", "10", "cat"]),
    "a strange digit": (["a", "b", "c"], ["\u00b2", "1"], ["\u00b2", "b"]),
    "a name with a line separator in it": (["a\u2028b", "c"], ["0", "1"], ["a\u2028b", "c"]),
}


@pytest.mark.parametrize("case", NUMBERED)
def test_numbers_mean_the_same_in_the_archives_that_are_made(tmp_path, case):
    names, numbers, labels = NUMBERED[case]
    archive(tmp_path / "in" / "000.tar", numbered(numbers))
    if names is not None:
        (tmp_path / "in" / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    source = tmp_path / "in"
    for output in ("once", "twice"):
        assert [row["label"] for row in make_dataset(source, tmp_path / output, "webdataset")] == labels
        source = tmp_path / output / "data"
        written = [data.decode() for name, data in members(source).items() if name.endswith(".cls")]
        assert written == numbers
        there = source / "classes.txt"
        assert (there.read_text(encoding="utf-8").split("\n")[:-1] if there.exists() else None) == names
    rows = make_dataset(source, tmp_path / "folders", "folder")
    assert [row["label"] for row in rows] == labels


def test_a_stale_cls_in_a_class_folder_does_not_contradict_the_folder(tmp_path):
    for label in ("cats", "dogs", "a\nb"):
        text(tmp_path / "in" / label / f"{len(label)}{label[0]}.jpg", "picture")
    text(tmp_path / "in/cats/4c.cls", "1")
    text(tmp_path / "in/cats/4c.txt", "a caption")
    rows = make_dataset(tmp_path / "in", tmp_path / "out", "webdataset")
    contents = members(tmp_path / "out" / "data")
    results = {row["label"]: row["output"].partition("#")[2] for row in rows if row["status"] == "ok"}
    assert results.keys() == {"cats", "dogs", "a\\x0ab"}
    names = (tmp_path / "out" / "data" / "classes.txt").read_text().split("\n")
    for label, output in results.items():
        assert names[int(contents[output.replace(".jpg", ".cls")])] == label
    (skipped,) = [row for row in rows if row["status"] != "ok"]
    assert (skipped["key"], skipped["kind"]) == ("cats/4c.cls", "no home") and "folder" in skipped["error"]
    make_dataset(tmp_path / "in", tmp_path / "plain", "folder")
    assert (tmp_path / "plain" / "data" / "cats" / "4c.cls").read_text() == "1"


def test_a_cls_that_is_no_class_is_carried_over_and_verifies(tmp_path):
    """Found by tools/chaos_make_dataset.py: the label was cut, and verify-dataset took it for another one."""
    archive(tmp_path / "in" / "000.tar", {"a.jpg": b"picture", "a.cls": b"x" * 5000})
    rows = make_dataset(tmp_path / "in", tmp_path / "out", "webdataset")
    assert [row["label"] for row in rows] == [None]
    assert members(tmp_path / "out" / "data")["a.cls"] == b"x" * 5000


def test_archives_to_archives_carry_every_member(folder, tmp_path):
    make_dataset(folder, tmp_path / "tars", "webdataset")
    make_dataset(tmp_path / "tars" / "data", tmp_path / "out", "webdataset", shard_size=3)
    assert members(tmp_path / "out" / "data") == backwards(members(tmp_path / "tars" / "data"))


def test_coco_to_coco_changes_file_names_alone(coco, tmp_path):
    make_dataset(coco, tmp_path / "out", "coco", suffix=".webp")
    new_annotations = tmp_path / "out" / "data" / "annotations"
    for path in (coco / "annotations").iterdir():
        old, new = (json.loads((place / path.name).read_text()) for place in (path.parent, new_annotations))
        for image in old["images"]:
            image["file_name"] = image["file_name"].replace(".jpg", ".webp")
        assert new == old
    assert (tmp_path / "out" / "data" / "val2017" / "000000000201.webp").read_bytes() == b"102"


def test_pycocotools_reads_it_and_copies_have_ids_of_their_own(coco, tmp_path, capsys):
    tools = pytest.importorskip("pycocotools.coco")
    make_dataset(coco, tmp_path / "out", "coco", copies=3)
    new = tools.COCO(str(tmp_path / "out" / "data" / "annotations" / "instances_train2017.json"))
    old = tools.COCO(str(coco / "annotations" / "instances_train2017.json"))
    assert len(new.getImgIds()) == 9 and len(new.getAnnIds()) == 18
    assert set(old.getImgIds()) < set(new.getImgIds())
    for image in new.loadImgs(new.getImgIds()):
        assert (tmp_path / "out" / "data" / "train2017" / image["file_name"]).is_file()
        boxes = [annotation["bbox"] for annotation in new.loadAnns(new.getAnnIds(image["id"]))]
        assert boxes == [[1.5, 2.25, 30, 40.125], [2.5, 2.25, 30, 40.125]]
    old_mask, new_mask = (read.annToMask(read.loadAnns(read.getAnnIds(100))[0]) for read in (old, new))
    assert new_mask.sum() == old_mask.sum()


def test_failed_and_unannotated_pictures_are_left_out_of_cocos_files(coco, tmp_path):
    (coco / "train2017" / "000000000101.jpg").unlink()
    (coco / "train2017" / "stranger.jpg").write_bytes(b"stranger")
    rows = {row["key"]: row for row in make_dataset(coco, tmp_path / "out", "coco")}
    assert rows["train2017/000000000101.jpg"]["kind"] == "missing"
    stranger = rows["train2017/stranger.jpg"]
    assert (stranger["status"], stranger["kind"]) == ("skipped", "not annotated")
    new = json.loads((tmp_path / "out" / "data" / "annotations" / "instances_train2017.json").read_text())
    assert [image["id"] for image in new["images"]] == [100, 102]
    assert {note["image_id"] for note in new["annotations"]} == {100, 102}


@pytest.mark.parametrize("between", ["webdataset", "folder"])
def test_coco_through_another_layout_and_back(coco, tmp_path, between):
    for path in (coco / "annotations").glob("captions*"):
        path.unlink()
    for path in (coco / "annotations").glob("*"):  # a category that nothing has, and not in the order of numbers
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"categories": [{"id": 90, "name": "hat"}, *content["categories"]]}))
    make_dataset(coco, tmp_path / "between", between)
    result = (members if between == "webdataset" else files)(tmp_path / "between" / "data")
    sidecar = json.loads(result["train2017/000000000100.json"])
    assert sidecar["image"]["id"] == 100 and [note["id"] for note in sidecar["annotations"]] == [1000, 1001]
    make_dataset(tmp_path / "between" / "data", tmp_path / "out", "coco")
    new = [json.loads(path.read_text()) for path in (tmp_path / "out" / "data" / "annotations").iterdir()]
    old = [json.loads(path.read_text()) for path in (coco / "annotations").iterdir()]
    for name in ("annotations", "categories"):
        merged = [{item["id"]: item for content in contents for item in content[name]} for contents in (old, new)]
        assert merged[0] == merged[1]
    assert {image["id"] for content in new for image in content["images"]} == {100, 101, 102, 200, 201, 202}
    assert [content["categories"] for content in new] == [content["categories"] for content in old]


def test_several_annotation_files_survive_archives(coco, tmp_path):
    make_dataset(coco, tmp_path / "tars", "webdataset")
    make_dataset(tmp_path / "tars" / "data", tmp_path / "out", "coco")
    for path in (coco / "annotations").iterdir():
        new = json.loads((tmp_path / "out/data/annotations" / path.name).read_text())
        assert new["annotations"] == json.loads(path.read_text())["annotations"]


def test_nothing_that_is_said_of_a_coco_picture_overwrites_another(coco, tmp_path):
    """A JSON of its own beside the picture; two images of one file in one annotation file."""
    for path in (coco / "annotations").glob("*"):
        if path.name != "instances_train2017.json":
            path.unlink()
    (coco / "train2017" / "000000000100.json").write_text('{"shapes": []}')
    table = coco / "annotations" / "instances_train2017.json"
    content = json.loads(table.read_text())
    content["images"].append({**content["images"][1], "id": 999})
    content["annotations"].append({"id": 1, "image_id": 999, "caption": "the second"})
    table.write_text(json.dumps(content))
    make_dataset(coco, tmp_path / "between", "folder")
    result = files(tmp_path / "between" / "data" / "train2017")
    assert result["000000000100.json"] == b'{"shapes": []}'
    assert json.loads(result["000000000100.instances_train2017.json"])["image"]["id"] == 100
    sidecars = [json.loads(result[f"000000000101.instances_train2017{number}.json"]) for number in ("", ".2")]
    assert [entry["image"]["id"] for entry in sidecars] == [101, 999]
    assert sidecars[1]["annotations"] == [{"id": 1, "image_id": 999, "caption": "the second"}]
    make_dataset(tmp_path / "between" / "data", tmp_path / "out", "coco")
    (new,) = [json.loads(path.read_text()) for path in (tmp_path / "out" / "data" / "annotations").iterdir()]
    assert {note["id"] for note in new["annotations"] if note["image_id"] == 100} == {1000, 1001}


def test_masks_among_cocos_annotations_are_carried(coco, tmp_path):
    (coco / "annotations" / "panoptic_train2017").mkdir()
    (coco / "annotations" / "panoptic_train2017" / "000000000100.png").write_bytes(b"a mask")
    carry = yaml.safe_load((Path(__file__).parents[2] / "conf" / "make_dataset.yaml").read_text())["carry"]
    source = opened(coco, "coco", target="coco", carry=carry)
    passed = [sample.key for sample in source.samples() if sample.passthrough]
    assert passed == ["annotations/panoptic_train2017/000000000100.png"]


@pytest.mark.parametrize("kind", ["folder", "webdataset"])
def test_classes_become_coco_categories_without_boxes(folder, tmp_path, kind):
    tools = pytest.importorskip("pycocotools.coco")
    source = folder
    if kind == "webdataset":
        make_dataset(folder, tmp_path / "tars", "webdataset")
        source = tmp_path / "tars" / "data"
    make_dataset(source, tmp_path / "out", "coco")
    read = tools.COCO(str(tmp_path / "out" / "data" / "annotations" / "val.json"))
    for image in read.loadImgs(read.getImgIds()):
        (note,) = read.loadAnns(read.getAnnIds(image["id"]))
        assert read.loadCats(note["category_id"])[0]["name"] in image["file_name"] and "bbox" not in note
        assert (tmp_path / "out" / "data" / "images" / image["file_name"]).is_file()
    assert len(read.getImgIds()) == 6


def test_what_is_no_annotation_file_is_named(coco, tmp_path):
    (coco / "annotations" / "instances_val2017.json").write_text("{}")
    with pytest.raises(ValueError, match=r"instances_val2017\.json is no COCO annotation file"):
        make_dataset(coco, tmp_path / "out", "coco")
