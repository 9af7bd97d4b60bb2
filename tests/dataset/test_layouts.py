"""Each layout that people have, as make-dataset leaves it: what belongs to a picture follows it, and is read back as
the layout's own readers do it.
"""

import io
import itertools
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageCms
from samples import VALUES, archive, boxes_of, files, mask, members, opened, photo, photos, recognised, text, turned

from gan_style.dataset.layouts.masks import looks_like_mask
from gan_style.dataset.sampling import ChoiceSampler


def encoded(values: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format=kind)
    return buffer.getvalue()


PHOTO = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)


TREES = {
    "images first": ("images/{}/{}.jpg", "labels/{}/{}.txt", "images/{}"),
    "splits first": ("{}/images/{}.jpg", "{}/labels/{}.txt", "../{}/images"),
}


class TestYolo:
    """Read as YOLO's loaders do: the label's path is the picture's, with labels for images and .txt for its suffix."""

    @pytest.fixture(params=TREES)
    def tree(self, request, source) -> Path:
        pictures, labels, split = TREES[request.param]
        for name, number in (("train", 0), ("val", 1)):
            photo(source / pictures.format(name, "a"))
            text(source / labels.format(name, "a"), f"{number} .5 .5 .2 .4\n")
            photo(source / pictures.format(name, f"empty{name}"))
        splits = {name: split.format(name) for name in ("train", "val")}
        content = {"path": "/of/another/machine", "names": ["cat", "dog"]} | splits
        text(source / "data.yaml", yaml.safe_dump(content))
        text(source / "train.txt", "./" + pictures.format("train", "a") + "\n")
        return source

    def read(self, folder: Path) -> dict[str, list[tuple[str, str]]]:
        """{split: [(class, the line of its box)]}, by data.yaml alone."""
        content = yaml.safe_load((folder / "data.yaml").read_text())
        base, boxes = folder / content.get("path", ""), {}
        for split in ("train", "val"):
            for path in sorted((base / content[split]).glob("*.*")):
                label = Path(*("labels" if part == "images" else part for part in path.with_suffix(".txt").parts))
                for line in label.read_text().splitlines() if label.exists() else ():
                    boxes.setdefault(split, []).append((content["names"][int(line.split()[0])], line))
        return boxes

    @pytest.mark.parametrize("copies", [1, 2])
    @pytest.mark.parametrize("suffix", [None, ".png"])
    @pytest.mark.parametrize("size", [None, 15])
    def test_labels_follow(self, tree, make, data, copies, suffix, size):
        make(copies=copies, suffix=suffix, size=size)
        assert self.read(data) == {
            "train": [("cat", "0 .5 .5 .2 .4")] * copies,
            "val": [("dog", "1 .5 .5 .2 .4")] * copies,
        }
        listed = (data / "train.txt").read_text().split()
        assert len(listed) == copies and all((data / path).is_file() for path in listed)

    def test_boxes_become_cocos(self, tree, make, data):
        make("coco", copies=2, size=15)
        for split, name in (("train", "cat"), ("val", "dog")):
            path = data / "annotations" / f"{split}.json"
            assert [box for _, *box in boxes_of(path)] == [[name, [8, 4.5, 4, 6]]] * 2
            pictures = [image["file_name"] for image in json.loads(path.read_text())["images"]]
            assert len(pictures) == 4 and all((data / "images" / picture).is_file() for picture in pictures)

    def test_in_archives_each_picture_has_its_boxes(self, tree, make, data):
        rows = make("webdataset", copies=2)
        contents = members(data)
        assert sorted(value for name, value in contents.items() if name.endswith(".txt")) == (
            [b"0 .5 .5 .2 .4\n"] * 2 + [b"1 .5 .5 .2 .4\n"] * 2
        )
        assert {row["split"] for row in rows if row["status"] == "ok"} == {"train", "val"}
        assert {row["label"] for row in rows} == {None}

    def test_is_recognised(self, tree):
        inventory = recognised(tree)
        assert (inventory.layout.kind, inventory.pictures) == ("yolo", 4)
        assert inventory.splits == {"train": 2, "val": 2} and list(inventory.layout.names) == ["cat", "dog"]


XML = """<annotation><folder>x</folder><filename>a.jpg</filename><path>/home/me/a.jpg</path>
<size><width>{}</width><height>{}</height><depth>3</depth></size>
<object><name>cat</name><bndbox><xmin>4</xmin><ymin>8</ymin><xmax>20</xmax><ymax>24</ymax></bndbox></object></annotation>"""


class TestVoc:
    @pytest.fixture
    def tree(self, source) -> Path:
        photo(source / "JPEGImages" / "a.jpg")
        text(source / "Annotations" / "a.xml", XML.format(40, 30))
        mask(source / "SegmentationClass" / "a.png")
        text(source / "ImageSets" / "Main" / "train.txt", "a\n")
        return source

    @pytest.mark.parametrize("copies", [1, 2])
    @pytest.mark.parametrize("suffix", [None, ".png"])
    @pytest.mark.parametrize("size", [None, 15])
    def test_labels_follow(self, tree, make, data, copies, suffix, size):
        make(copies=copies, suffix=suffix, size=size)
        names = (data / "ImageSets" / "Main" / "train.txt").read_text().split()
        assert len(names) == copies
        scale = 1 if size is None else 2
        for name in names:
            root = ElementTree.parse(data / "Annotations" / f"{name}.xml").getroot()
            with Image.open(data / "JPEGImages" / root.findtext("filename")) as picture:
                assert picture.size == (int(root.findtext("size/width")), int(root.findtext("size/height")))
            assert root.findtext("path") == root.findtext("filename") == f"{name}{suffix or '.jpg'}"
            assert [int(side.text) * scale for side in root.find("object/bndbox")] == [4, 8, 20, 24]
            with Image.open(data / "SegmentationClass" / f"{name}.png") as labels:
                assert np.array_equal(np.asarray(labels), VALUES if scale == 1 else resized(VALUES))

    @pytest.mark.parametrize(("stated", "kept_turned"), [((40, 30), True), ((30, 40), False)])
    def test_orientation_is_applied_only_where_labels_are_upright(self, source, make, data, stated, kept_turned):
        turned(source / "a.jpg")
        text(source / "a.xml", XML.format(*stated))
        make()
        with Image.open(data / "a.jpg") as picture:
            assert picture.size == stated
            assert picture.getexif().get(0x0112, 1) == (6 if kept_turned else 1)


def resized(values: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(values).resize((20, 15), Image.Resampling.NEAREST))


SHAPES = [{"label": "cat", "points": [[4.0, 8.0], [20.0, 24.0], [8.0, 20.0]], "shape_type": "polygon"}]


class TestLabelMe:
    @pytest.fixture(autouse=True)
    def tree(self, source: Path) -> None:
        content = {"shapes": SHAPES, "imagePath": "..\\imgs\\a.jpg", "imageData": "aGVsbG8="}
        text(source / "labels" / "a.json", content | {"imageWidth": 40, "imageHeight": 30})

    @pytest.mark.parametrize("copies", [1, 2])
    @pytest.mark.parametrize("size", [None, 15])
    def test_labels_follow(self, source, make, data, copies, size):
        photo(source / "imgs" / "a.jpg")
        make(copies=copies, size=size)
        labels = sorted((data / "labels").iterdir())
        assert len(labels) == copies
        for path in labels:
            content = json.loads(path.read_text())
            picture = path.parent / content["imagePath"].replace("\\", "/")
            with Image.open(picture) as opened:
                assert opened.size == (content["imageWidth"], content["imageHeight"])
            scale = 1 if size is None else 2
            assert [[scale * side for side in point] for point in content["shapes"][0]["points"]] == SHAPES[0]["points"]
            assert content["imageData"] is None, "the original photo would be in it"

    def test_a_turned_picture_lies_as_its_labels_do(self, source, make, data):
        turned(source / "imgs" / "a.jpg")
        make()
        with Image.open(data / "imgs" / "a.jpg") as picture:
            assert picture.size == (40, 30) and picture.getexif()[0x0112] == 6


MASKS = {
    "masks": ("imgs/1.jpg", "masks/1.png"),
    "below": ("1.jpg", "masks/1.png"),
    "label": ("image/1.jpg", "label/1.png"),
    "gt": ("rgb/train/1.jpg", "gt/train/1.png"),
    "depth": ("rgb/1.jpg", "depth/1.png"),
    "carvana": ("train/0cd_01.jpg", "train_masks/0cd_01_mask.png"),
    "another word for it": ("raw/1.png", "LabeledApproved_full/1_L.png"),
    "davis": ("JPEGImages/480p/bear/00000.jpg", "Annotations/480p/bear/00000.png"),
    "cityscapes": ("leftImg8bit/train/b/b_0_0_leftImg8bit.png", "gtFine/train/b/b_0_0_gtFine_labelIds.png"),
    "color": ("leftImg8bit/train/b/b_0_0_leftImg8bit.png", "gtFine/train/b/b_0_0_gtFine_color.png"),
    "beside, _mask": ("3.jpg", "3_mask.jpg"),
    "beside, _gt": ("4.jpg", "4_gt.png"),
    "beside, mask_": ("6.jpg", "mask_6.png"),
    "beside, _label": ("10.jpg", "10_label.png"),
    "beside, of one name": ("11.jpg", "11.png"),
    "both with a word": ("image_7.jpg", "mask_7.png"),
    "png and png": ("rgb/1.png", "masks/1.png"),
    "kitti": ("training/image_2/000000.png", "training/semantic/000000.png"),
    "pets": ("images/beagle_2.jpg", "annotations/trimaps/beagle_2.png"),
    "a word that is not known": ("1.jpg", "1_superpixels.png"),
    "mvtec": ("bottle/test/crack/000.png", "bottle/ground_truth/crack/000_mask.png"),
}


@pytest.mark.parametrize("case", MASKS)
def test_masks_keep_their_values_and_follow_their_picture(source, make, data, case):
    picture, labels = MASKS[case]
    photo(source / picture)
    mask(source / labels)
    rows = make(copies=2, size=15)
    assert [row["key"] for row in rows] == [picture, picture]
    outputs = {row["output"] for row in rows}
    masks = sorted(files(data).keys() - outputs)
    assert len(masks) == 2 and {Path(path).parent for path in masks} == {Path(labels).parent}
    for path in masks:
        with Image.open(data / path) as opened:
            values = np.asarray(opened)
            assert opened.size == (20, 15) and (path.endswith(".jpg") or np.array_equal(values, resized(VALUES)))
    make("webdataset", output="tars")


def test_palettes_and_16_bits_stay(source, make, data):
    photo(source / "imgs" / "a.jpg")
    photo(source / "imgs" / "b.jpg")
    mask(source / "masks" / "a.png", np.full((30, 40), 24001, np.uint16))
    palette = Image.fromarray(VALUES).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    palette.save(source / "masks" / "b.png")
    make(size=15)
    assert np.array_equal(np.asarray(Image.open(data / "masks" / "a.png")), np.full((15, 20), 24001))
    with Image.open(data / "masks" / "b.png") as read:
        assert read.mode == "P" and np.array_equal(np.asarray(read), resized(VALUES))
        assert read.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]


@pytest.mark.parametrize(("values", "mode"), [(np.arange(1200) % 251, "L"), (np.arange(1200) % 251, "RGB")])
def test_grey_photos_of_lossy_kinds_are_no_masks(values, mode):
    grey = Image.fromarray(np.sort(values).astype(np.uint8).reshape(30, 40))
    assert not looks_like_mask(encoded(np.asarray(grey.convert(mode)), "JPEG"))
    assert looks_like_mask(encoded(np.asarray(Image.fromarray(VALUES * 100).convert(mode)), "JPEG"))


def test_pictures_of_a_kind_that_is_not_read_are_masks_in_a_folder_of_masks(source, make, data):
    photo(source / "training" / "images" / "21_training.png")
    mask(source / "training" / "1st_manual" / "vessels.gif")
    assert {row["status"] for row in make()} == {"ok", "carried"}
    place = "training/1st_manual/vessels.gif"
    assert (data / place).read_bytes() == (source / place).read_bytes()


def test_drives_masks_follow_their_pictures(source, make, data):
    for number in (21, 22):
        photo(source / "training" / "images" / f"{number}_training.tif")
        mask(source / "training" / "1st_manual" / f"{number}_manual1.gif", VALUES * 100)
    mask(source / "training" / "mask" / "21_training_mask.gif", VALUES * 50)
    assert {row["status"] for row in make(copies=2, size=15)} == {"ok"}
    for name in ("21~1", "21~2", "22~1"):
        assert Image.open(data / "training" / "images" / f"{name}_training.tif").size == (20, 15)
        with Image.open(data / "training" / "1st_manual" / f"{name}_manual1.gif") as read:
            assert np.array_equal(np.asarray(read.convert("L")), resized(VALUES * 100))
    assert (data / "training" / "mask" / "21~2_mask.gif").exists()


def test_a_mask_of_no_picture_is_not_copied_or_scaled_unsaid(source, make):
    photo(source / "images" / "1.png")
    mask(source / "masks" / "other.gif")
    mask_row = {row["status"]: row for row in make(copies=2)}["carried"]
    assert "copies" in mask_row["lost"]
    assert {row["kind"] for row in make(size=15, output="small")} == {None, "labels"}


def test_photos_of_one_name_in_class_folders_are_all_stylized(source, make):
    for label in ("cats", "masks", "depth"):
        photo(source / label / "1.jpg")
    assert {(row["status"], row["label"]) for row in make()} == {("ok", label) for label in ("cats", "masks", "depth")}


class TestImageFolder:
    """Hugging Face's: metadata names the pictures beside it."""

    @pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv", "metadata.parquet"])
    @pytest.mark.parametrize("copies", [1, 2])
    def test_captions_follow(self, source, make, data, name, copies):
        datasets = pytest.importorskip("datasets")
        photo(source / "train" / "A.JPG", format="JPEG")
        photo(source / "train" / "b.jpg")
        rows = [{"file_name": "A.JPG", "text": "a cat"}, {"file_name": "b.jpg", "text": "a dog"}]
        if name.endswith("jsonl"):
            text(source / "train" / name, "".join(json.dumps(row) + "\n" for row in rows))
        elif name.endswith("csv"):
            text(source / "train" / name, "file_name,text\nA.JPG,a cat\nb.jpg,a dog\n")
        else:
            datasets.Dataset.from_list(rows).to_parquet(source / "train" / name)
        make(copies=copies)
        assert recognised(source).layout.kind == "imagefolder"
        read = datasets.load_dataset("imagefolder", data_dir=str(data), split="train", cache_dir=str(data.parent / "c"))
        assert sorted(read["text"]) == sorted(["a cat", "a dog"] * copies)
        make("webdataset", output="tars", copies=copies)
        contents = members(data.parent.parent / "tars" / "data")
        assert sorted(v for n, v in contents.items() if n.endswith(".txt")) == [b"a cat"] * copies + [b"a dog"] * copies

    def test_boxes_are_scaled(self, make_with_files):
        objects, half = ({"bbox": [box], "categories": [0]} for box in ([4, 8, 16, 16], [2, 4, 8, 8]))
        (after,) = make_with_files(
            "a.jpg", {"metadata.jsonl": {"file_name": "a.jpg", "objects": objects}}, size=15
        ).values()
        assert after["objects"] == half


COCO = {
    "images": [{"id": 3, "file_name": "a b.jpg", "width": 40, "height": 30}],
    "annotations": [{"id": 5, "image_id": 3, "category_id": 1, "bbox": [4, 8, 16, 16], "area": 256}],
    "categories": [{"id": 1, "name": "cat"}],
}


def coco(name: str = "a b.jpg") -> dict:
    return {**COCO, "images": [{**COCO["images"][0], "file_name": name}]}


NAMED = {
    "images\\a b.jpg": "annotations.json",
    "./images/a b.jpg": "annotations.json",
    "a%20b.jpg": "annotations/instances_train.json",
    "A B.JPG": "annotations/instances_default.json",
    "/home/me/data/images/a b.jpg": "labels.json",
    "images/a b.jpg": "annotations/train/instances.json",
}


class TestCoco:
    @pytest.mark.parametrize("name", NAMED)
    def test_file_names_in_any_form_are_matched(self, source, make, data, name):
        tools = pytest.importorskip("pycocotools.coco")
        photo(source / "images" / "a b.jpg")
        text(source / NAMED[name], coco(name))
        (row,) = make(copies=1, suffix=".png", size=15, layout="coco")
        assert row["status"] == "ok", row["error"]
        read = tools.COCO(str(data / NAMED[name]))
        (image,) = read.loadImgs(read.getImgIds())
        places = [(data / NAMED[name]).parent, data, data / "images"]
        assert any((place / image["file_name"]).is_file() for place in places)
        assert not image["file_name"].startswith("/") and (image["width"], image["height"]) == (20, 15)
        assert [note["bbox"] for note in read.loadAnns(read.getAnnIds())] == [[2, 4, 8, 8]]

    def test_names_without_suffix_panoptic_masks_and_an_empty_split(self, source, make, data):
        photo(source / "train2017" / "a.jpg")
        mask(source / "panoptic_train2017" / "a.png")
        segment = {"id": 1, "category_id": 1, "bbox": [4, 8, 4, 4]}
        content = {
            "images": [{"id": 1, "file_name": "a", "width": 40, "height": 30}],
            "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": [segment]}],
            "categories": COCO["categories"],
        }
        text(source / "annotations" / "panoptic_train2017.json", content)
        text(source / "annotations" / "panoptic_val2017.json", content | {"images": [], "annotations": []})
        make("coco", copies=2, size=15)
        read = json.loads((data / "annotations" / "panoptic_train2017.json").read_text())
        assert [image["file_name"] for image in read["images"]] == ["a~1", "a~2"]
        assert [note["file_name"] for note in read["annotations"]] == ["a~1.png", "a~2.png"]
        assert all((data / "panoptic_train2017" / note["file_name"]).is_file() for note in read["annotations"])
        assert read["annotations"][1]["segments_info"][0]["bbox"] == [2, 4, 2, 2]

    def test_roboflows_arrangement(self, source, make, data):
        for split in ("train", "valid"):
            photo(source / split / "a b.jpg")
            text(source / split / "_annotations.coco.json", COCO)
        rows = make("coco", copies=2)
        assert {row["split"] for row in rows} == {"train", "valid"}
        for split in ("train", "valid"):
            content = json.loads((data / split / "_annotations.coco.json").read_text())
            assert [(data / split / image["file_name"]).is_file() for image in content["images"]] == [True, True]
            assert len({note["id"] for note in content["annotations"]}) == 2

    def test_one_labelme_file_among_annotations_stops_nothing(self, source, make):
        photo(source / "images" / "a b.jpg")
        text(source / "annotations" / "instances.json", COCO)
        text(source / "annotations" / "a b.json", {"shapes": [], "imagePath": "a b.jpg"})
        assert "ok" in {row["status"] for row in make("coco")}


TABLES = {  # the head, and a picture's line before and after
    "_annotations.csv": (
        "filename,width,height,class,xmin,ymin,xmax,ymax\n",
        "{},40,30,cat,4,8,20,24\n",
        "{},20,15,cat,2,4,10,12\n",
    ),
    "boxes.csv": ("", "{},4,8,20,24,cat\n", "{},2,4,10,12,cat\n"),
    "wider.txt": ("", "{}\n1\n4 8 16 16 0 0\n", "{}\n1\n2 4 8 8 0 0\n"),
    "boxes.txt": ("", "{}\t4\t8\t20\t24\n", "{}\t2\t4\t10\t12\n"),
    "classes.txt": ("", "{} 4,8,20,24,7\n", "{} 2,4,10,12,7\n"),
    "attributes.txt": ("", "{} 1 -1 1 0\n", "{} 1 -1 1 0\n"),
}
BOX, HALF = {"x": 4, "y": 8, "width": 16, "height": 16}, {"x": 2, "y": 4, "width": 8, "height": 8}
VIA = {"a.jpg99": {"filename": "a.jpg", "regions": [{"shape_attributes": BOX}]}}
CVAT = '<image id="0" name="a.jpg" width="40" height="30"><box label="cat" xtl="4" ytl="8" xbr="20" ybr="24"/></image>'


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_boxes_are_written_again(make_with_files, name):
    head, before, after = TABLES[name]
    result = make_with_files("a.jpg", {name: head + before.format("a.jpg")}, copies=2, size=15)
    assert result == {name: head + after.format("a~1.jpg") + after.format("a~2.jpg")}


def test_trees_of_boxes_are_written_again(make_with_files):
    before = {"via.json": VIA, "cvat.xml": f"<annotations>{CVAT}</annotations>"}
    after = make_with_files("a.jpg", before, copies=2, size=15)
    entries = {entry["filename"]: entry["regions"][0]["shape_attributes"] for entry in after["via.json"].values()}
    assert entries == {"a~1.jpg": HALF, "a~2.jpg": HALF}
    images = ElementTree.fromstring(after["cvat.xml"]).iter("image")
    described = [(entry.get("name"), entry.get("width"), entry[0].get("xbr")) for entry in images]
    assert described == [("a~1.jpg", "20", "10"), ("a~2.jpg", "20", "10")]


def test_tables_that_need_no_change_stay_byte_for_byte(make_with_files):
    before = {name: head + line.format("a.jpg") for name, (head, line, _) in TABLES.items()}
    before |= {"via.json": json.dumps(VIA), "cvat.xml": f"<annotations>{CVAT}</annotations>"}
    before |= {"README.txt": "a.jpg is a photo.\n"}
    assert make_with_files("a.jpg", before) == before


BOTH = set(itertools.product(("train", "val"), ("cat", "dog")))
SPLITS = {
    "images/{split}/{label}/1.jpg": BOTH,
    "{split}/{label}/1.jpg": BOTH,
    "flowers/{split}/{label}/1.jpg": BOTH,
    "{label}/{split}/1.jpg": BOTH,
    "seg_{split}/seg_{split}/{label}/1.jpg": BOTH,
    "{split}2017/1{label}.jpg": {("train", None), ("val", None)},
    "{label}/1{split}.jpg": {(None, "cat"), (None, "dog")},
}


@pytest.mark.parametrize("pattern", SPLITS)
def test_splits_and_classes_are_told_apart(source, pattern, make, data):
    photos(source, " ".join(pattern.format(split=split, label=label) for split, label in BOTH))
    rows = make("webdataset")
    assert {(row["split"], row["label"]) for row in rows} == SPLITS[pattern]
    for row in rows:
        assert row["split"] is None or row["output"].startswith(f"{row['split']}-")


SAMPLES = {
    "a mask of lossless kind": ({"a.webp": encoded(PHOTO, "WEBP"), "a.png": encoded(VALUES)}, "webp"),
    "input and target": ({"a.input.jpg": encoded(PHOTO, "JPEG"), "a.target.png": encoded(VALUES)}, "input.jpg"),
    "img2dataset's": ({"a.jpg": encoded(PHOTO, "JPEG"), "a.txt": b"words", "a.json": b'{"key": "a"}'}, "jpg"),
    "junk": ({"a.jpg": encoded(PHOTO, "JPEG"), "__MACOSX/._a.jpg": b"x", ".DS_Store": b"x", "._a.jpg": b"x"}, "jpg"),
}


@pytest.mark.parametrize("case", SAMPLES)
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz"])
def test_the_photo_of_a_sample_is_stylized_and_nothing_else(source, make, data, case, suffix):
    content, photo_of = SAMPLES[case]
    archive(source / f"train-0{suffix}", content)
    (row,) = make("webdataset")
    assert (row["status"], row["split"]) == ("ok", "train")
    contents, expected = members(data), {n: v for n, v in content.items() if "_" not in n and n[0] != "."}
    assert contents.pop(f"a.{photo_of}") != expected.pop(f"a.{photo_of}")
    assert contents == expected


@pytest.mark.parametrize(
    "archives",
    [
        {"imagenet-train-000000.tar": "train", "imagenet-val-000000.tar": "val"},
        {"x-trn-000.tar": "trn", "x-hold-000.tar": "hold", "x-trn-001.tar": "trn"},
        {"x_trn_v2.tar": "trn", "x_vldt_v2.tar": "vldt", "x_hldout_v2.tar": "hldout"},
        {"x-dev-0.tar": "dev", "x-valid-0.tar": "valid", "x-testing-0.tar": "testing"},
        {"fit/000.tar": "fit", "check/000.tar": "check"},
        {"000.tar": None, "001.tar": None},
        {"x-fold1-000.tar": "fold1", "x-fold2-000.tar": "fold2"},
        {"x-tr.tar": None, "x-train.tar": "train"},
    ],
)
def test_splits_of_archives_do_not_mix(source, make, archives):
    for number, name in enumerate(archives):
        archive(source / name, {f"{number}.jpg": encoded(PHOTO, "JPEG")})
    rows = make("webdataset")
    assert {int(row["key"]): row["split"] for row in rows} == dict(enumerate(archives.values()))
    splits_in = {}
    for row in rows:
        splits_in.setdefault(row["output"].partition("#")[0], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in splits_in.values())


@pytest.mark.parametrize("name", ["x.tar.zst", "val.zip", "b.7z"])
def test_an_archive_that_is_not_read_is_refused_by_name(source, name):
    archive(source / "a.tar", {"0.jpg": encoded(PHOTO, "JPEG")})
    text(source / name, "x")
    with pytest.raises(ValueError, match=name):
        opened(source, target="webdataset")


@pytest.mark.parametrize(
    ("folders", "splits", "classes"),
    [
        ("bounding_box_train bounding_box_test query", {"train": 1, "test": 1, "query": 1}, set()),
        ("train/cat train/dog hld/cat hld/dog", {"train": 2, "hld": 2}, {"cat", "dog"}),
        ("fold1/cat fold1/dog fold2/cat fold2/dog", {"fold1": 2, "fold2": 2}, {"cat", "dog"}),
        ("trn/cat trn/dog tst/cat tst/dog", {"trn": 2, "tst": 2}, {"cat", "dog"}),
        (
            " ".join(
                f"data/fold{n}/{split}/images/{label}" for n in "12" for split in ("train", "test") for label in "ab"
            ),
            {f"fold{n}-{split}": 2 for n in "12" for split in ("train", "test")},
            {"a", "b"},
        ),
        ("cat dog test", {"": 3}, {"cat", "dog", "test"}),
        ("TRAIN/a TEST/a TEST_SIMPLE/a", {"TRAIN": 1, "TEST": 1, "TEST_SIMPLE": 1}, {"a"}),
        ("trainA trainB testA testB", {"train": 2, "test": 2}, {"A", "B"}),
        ("train_horse test_horse train_zebra test_zebra", {"train": 2, "test": 2}, {"horse", "zebra"}),
        ("art_gallery train_interior train_station", {"": 3}, {"art_gallery", "train_interior", "train_station"}),
    ],
)
def test_splits_of_folders(source, folders, splits, classes):
    photos(source, " ".join(f"{folder}/{number}.jpg" for number, folder in enumerate(folders.split())))
    inventory = recognised(source)
    assert (inventory.splits, inventory.classes) == (splits, classes)


def test_pictures_of_one_name_share_their_caption_or_have_their_own(source, make, data):
    photo(source / "a.jpg")
    photo(source / "a.png")
    text(source / "a.txt", "words")
    make()
    assert files(data).keys() == {"a.jpg", "a.png", "a.txt"}
    rows = make(output="png", suffix=".png")
    folder = data.parent.parent / "png" / "data"
    assert [(folder / row["output"]).with_suffix(".txt").read_text() for row in rows] == ["words", "words"]


@pytest.mark.parametrize("name", ["a.dng", "a.ppm", "a.jxl", "a.psd", "a", "a.jpg_large"])
def test_pictures_that_are_not_read_are_failures_and_not_in_the_result(source, make, data, name):
    photo(source / "b.jpg")
    photo(source / name, format="JPEG")
    assert {row["key"]: row["status"] for row in make()} == {name: "failed", "b.jpg": "ok"}
    assert files(data).keys() == {"b.jpg"}


def test_nothing_to_stylize_is_an_error_that_names_what_is_there(source):
    text(source / "a.parquet", "x")
    text(source / "b.zip", "x")
    with pytest.raises(ValueError, match=r"\.parquet.*unpacked"):
        recognised(source).check("in")


@pytest.mark.parametrize("suffix", [".webp", ".png", ".tif"])
def test_further_frames_are_said_to_be_lost(source, make, suffix):
    source.mkdir()
    frames = [Image.fromarray(PHOTO), Image.fromarray(PHOTO[::-1].copy())]
    frames[0].save(source / f"a{suffix}", save_all=True, append_images=frames[1:])
    photo(source / f"b{suffix}")
    rows = {row["key"]: row["lost"] for row in make()}
    assert "frames" in rows[f"a{suffix}"] and rows[f"b{suffix}"] is None


class TestColor:
    """What a file holds besides 8 bits of RGB is kept where the result's format has it, and else named."""

    @pytest.fixture
    def load(self, source, data, make):
        def call(name: str, content: bytes, suffix: str | None = None):
            source.mkdir()
            (source / name).write_bytes(content)
            (row,) = make(suffix=suffix)
            return (data / row["output"]).read_bytes(), row

        return call

    def test_grey_and_profiles_stay(self, load, source, make, data):
        image_bytes, _ = load("a.jpg", encoded(PHOTO[..., 0], "JPEG"))
        assert Image.open(io.BytesIO(image_bytes)).mode == "L"
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        photo(source / "b.jpg", icc_profile=profile)
        make(output="again")
        assert Image.open(data.parent.parent / "again" / "data" / "b.jpg").info["icc_profile"] == profile

    @pytest.mark.parametrize("bands", [1, 2])
    def test_deep_grey_stays_grey(self, load, bands):
        codecs = pytest.importorskip("imagecodecs")
        values = (np.arange(30 * 40 * bands) * 25).astype(np.uint16).reshape(30, 40, bands).squeeze()
        result, _ = load("a.png", codecs.png_encode(values))
        read = codecs.png_decode(result).astype(int)
        assert read.shape == values.shape
        assert np.abs(65535 - values.astype(int) - read)[..., *[0] * (bands > 1)].max() <= 1

    @pytest.mark.parametrize("suffix", [None, ".webp", ".jpg"])
    def test_transparency_stays_where_it_can(self, load, suffix):
        alpha = np.tile(np.arange(40, dtype=np.uint8) * 6, (30, 1))
        image_bytes, row = load("a.png", encoded(np.dstack([PHOTO, alpha])), suffix)
        if suffix == ".jpg":
            assert Image.open(io.BytesIO(image_bytes)).mode == "RGB" and "transparency" in row["lost"]
        else:
            pixels = np.asarray(Image.open(io.BytesIO(image_bytes)))
            assert np.array_equal(pixels[..., 3], alpha) and row["lost"] is None

    @pytest.mark.parametrize("suffix", [None, ".webp"])
    def test_16_bits_stay_where_they_can(self, load, suffix):
        codecs = pytest.importorskip("imagecodecs")
        values = (np.arange(30 * 40 * 3, dtype=np.uint16) * 18).reshape(30, 40, 3)
        image_bytes, row = load("a.png", codecs.png_encode(values), suffix)
        if suffix is None:
            negative = 65535 - values.astype(int)
            assert np.abs(codecs.png_decode(image_bytes).astype(int) - negative).max() <= 1 and row["lost"] is None
        else:
            assert "16 bits" in row["lost"]


def test_copies_differ_while_there_are_styles_left():
    sampler = ChoiceSampler(0, [1.0, 2.0, 1.0], (1.0, 1.0), 0.0, copies=3)
    for key in map(str, range(50)):
        assert sorted(sampler.draw(key, copy).style for copy in range(3)) == [0, 1, 2]
    first = [sampler.draw(str(number), 0).style for number in range(2000)]
    assert 0.45 < first.count(1) / 2000 < 0.55, "the first follows the weights"


@pytest.mark.parametrize(("suffix", "size"), [(None, None), (None, 15), (".png", None), (".webp", None)])
def test_what_a_photo_says_of_itself_is_kept(source, make, data, suffix, size):
    exif = Image.Exif()
    exif[0x0112], exif[0x8298] = 6, "(c) me"  # Orientation, Copyright
    exif.get_ifd(0x8769).update({0x9003: "2024:05:01 10:00:00", 0xA002: 40})  # DateTimeOriginal, its width
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 0.0)})
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'
    photo(source / "a.jpg", exif=exif, xmp=xmp, dpi=(300, 300))
    turned(source / "b.jpg")  # with a box for pixels as they are stored
    text(source / "b.txt", "0 .5 .5 .2 .2\n")
    assert {row["lost"] for row in make(suffix=suffix, size=size)} == {None}
    result = data / (f"a{suffix or '.jpg'}")
    with Image.open(result) as picture:
        picture.load()
        exif_out = picture.getexif()
        assert exif_out.get(0x0112, 1) == 1 and exif_out[0x8298] == "(c) me"
        assert exif_out.get_ifd(0x8769)[0x9003] == "2024:05:01 10:00:00"
        assert exif_out.get_ifd(0x8769)[0xA002] == picture.width == (size or 30)
        assert exif_out.get_ifd(0x8825)[2] == (48.0, 8.0, 0.0)
        xmp_out = picture.info["xmp"]
        assert b'Orientation="1"' in (xmp_out if isinstance(xmp_out, bytes) else xmp_out.encode())
        if suffix != ".webp":  # in EXIF there
            assert round(picture.info["dpi"][0]) == 300
    with Image.open(result.with_stem("b")) as picture:
        assert picture.getexif()[0x0112] == 6


def test_damaged_exif_costs_no_picture(source, make):
    photo(source / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x69\x87\4\0\1\0\0\0\xff\xff\0\0")
    assert [row["status"] for row in make()] == ["ok"]


@pytest.mark.parametrize(("suffix", "side"), [(".webp", 16383), (".jpg", 65500)])
def test_a_picture_that_a_kind_of_file_has_no_room_for_is_named_and_the_others_are_made(source, make, suffix, side):
    photo(source / "a.png", width=side + 1, height=2)
    photo(source / "b.png", width=side, height=2)
    rows = {row["key"]: row for row in make(suffix=suffix)}
    assert (rows["a.png"]["kind"], rows["b.png"]["status"]) == ("not encoded", "ok")
    assert str(side) in rows["a.png"]["error"]


def test_what_a_kind_of_file_cannot_say_is_named(source, make):
    photo(source / "a.jpg", comment=b"mine", dpi=(300, 300))
    assert [row["lost"] for row in make(suffix=".webp")] == ["its texts (Comment)"]


def test_splits_in_the_names_of_files(source, make):
    splits = {f"{label}/{name}.jpg": name[:-2] for label in ("cat", "dog") for name in ("train_1", "TEST-2")}
    photos(source, " ".join(splits))
    rows = {(row["key"], row["split"], row["label"]) for row in make("webdataset")}
    assert rows == {(key, split, key[:3]) for key, split in splits.items()}


def test_what_is_hidden_is_said(source):
    photo(source / "a/1.jpg")
    photo(source / ".b/1.jpg")
    inventory = recognised(source)
    assert inventory.pictures == 1 and "1 hidden" in inventory.line() and ".b" in inventory.line()


@pytest.mark.parametrize("folder", ["img_align_celeba/img_align_celeba", "Flicker8k_Dataset", "my images"])
def test_a_folder_of_all_pictures_is_no_class(source, make, folder):
    photo(source / folder / "1.jpg")
    text(source / "captions.txt", "image,caption\n1.jpg,A dog .\n")
    assert [row["label"] for row in make("webdataset") if row["status"] == "ok"] == [None]


def test_files_that_name_no_picture_are_not_warned_of(source, make, capsys):
    photo(source / "obj_train_data/1.jpg")
    text(source / "train.txt", "data/obj_train_data/1.jpg\n")
    text(source / "obj.data", "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\n")
    make(copies=2)
    assert "obj.data" not in capsys.readouterr().out


def test_two_trees_of_masks_both_follow(source, make, data):
    """SYNTHIA's and GTA5's: GT/LABELS are labels of RGB, not of GT/COLOR."""
    photo(source / "RGB/1.png")
    for tree in ("LABELS", "COLOR"):
        mask(source / f"GT/{tree}/1.png")
    make(copies=2)
    assert files(data).keys() == {f"{folder}/1~{n}.png" for folder in ("RGB", "GT/LABELS", "GT/COLOR") for n in (1, 2)}
