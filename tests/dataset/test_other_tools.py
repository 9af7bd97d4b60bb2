"""What other annotation tools and well-known sets leave beside pictures: after copies=2 and size=15 (half of 30) each
file names the results, and its places fit them; where that cannot be, it is refused or said.
"""

import csv
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from samples import VALUES, mask, photo, text

from gan_style.dataset.layouts.recognise import Inventory, open_layout

BOX, HALF = [10, 12, 8, 6], [5, 6, 4, 3]


def rows_of(path, delimiter=","):
    return list(csv.reader(path.read_text().splitlines(), delimiter=delimiter))


class TestTables:
    def test_names_without_suffix_in_a_column(self, source, make, data):
        """Open Images' ImageID; Kaggle's id; boxes in a cell."""
        for name in ("0a1", "0b2"):
            photo(source / f"train/{name}.jpg")
        text(source / "boxes.csv", "ImageID,Label,XMin,XMax\n0a1,/m/1,0.25,0.5\n0b2,/m/2,0.1,0.2\n")
        text(source / "wheat.csv", 'image_id,width,height,bbox\n0a1,40,30,"[10.0, 12.0, 8.0, 6.0]"\n')
        text(source / "breeds.csv", "id,breed\n0a1,cat\n0b2,dog\n")
        make(copies=2, size=15)
        assert rows_of(data / "boxes.csv")[1:3] == [[f"0a1~{n}", "/m/1", "0.25", "0.5"] for n in (1, 2)]
        assert rows_of(data / "wheat.csv")[1] == ["0a1~1", "20", "15", "[5.0, 6.0, 4.0, 3.0]"]
        kinds = [["0a1~1", "cat"], ["0a1~2", "cat"], ["0b2~1", "dog"], ["0b2~2", "dog"]]
        assert rows_of(data / "breeds.csv")[1:] == kinds

    def test_numbers_that_are_no_names_stay(self, source, make, data):
        for name in ("1", "2", "3", "4"):
            photo(source / f"{name}.jpg")
        text(source / "classes.csv", "id,class\n1,cat\n")
        text(source / "notes.csv", "year,count\n1,10\n2,20\n9,1\n8,3\n7,2\n")
        make(copies=2)
        assert all((data / name).read_text() == (source / name).read_text() for name in ("classes.csv", "notes.csv"))

    def test_imagenets_lists_and_boxes(self, source, make, data):
        for name in ("n01_1", "n01_2"):
            photo(source / f"Data/train/n01/{name}.JPEG", format="JPEG")
        text(source / "ImageSets/train_cls.txt", "n01/n01_1 1\nn01/n01_2 2\n")
        text(source / "solution.csv", "ImageId,PredictionString\nn01_1,n01 10 12 8 6 n01 2 2 4 4\nn01_2,n01 2 2 4 4\n")
        make(copies=2, size=15)
        assert (data / "ImageSets/train_cls.txt").read_text().split()[:4] == ["n01/n01_1~1", "1", "n01/n01_1~2", "1"]
        assert rows_of(data / "solution.csv")[1] == ["n01_1~1", "n01 5 6 4 3 n01 1 1 2 2"]

    def test_flickrs_captions(self, source, make, data):
        photo(source / "images/1_a.jpg")
        text(source / "results.csv", 'image_name| comment_number| comment\n1_a.jpg| 0| Two "men" , one old\n')
        text(source / "Flickr8k.token.txt", "1_a.jpg#0\tA child .\n1_a.jpg#1\tA girl .\n")
        make(copies=2)
        captions = [[f"1_a~{n}.jpg", " 0", ' Two "men" , one old'] for n in (1, 2)]
        assert rows_of(data / "results.csv", "|")[1:] == captions
        lines = (data / "Flickr8k.token.txt").read_text().splitlines()
        assert [line.split("\t")[0] for line in lines] == [f"1_a~{n}.jpg#{at}" for at in (0, 1) for n in (1, 2)]

    def test_numbered_pictures(self, source, make, data):
        """CUB-200: names once, then numbers alone; copies get numbers of their own."""
        for name in ("001.Black/B_1", "002.White/W_1"):
            photo(source / f"images/{name}.jpg")
        text(source / "images.txt", "1 001.Black/B_1.jpg\n2 002.White/W_1.jpg\n")
        text(source / "bounding_boxes.txt", "1 10.0 12.0 8.0 6.0\n2 4.0 6.0 8.0 10.0\n")
        text(source / "train_test_split.txt", "1 0\n2 1\n")
        text(source / "parts/part_locs.txt", "1 1 10.0 12.0 1\n1 2 0.0 0.0 0\n2 1 4.0 6.0 1\n")
        make(copies=2, size=15)
        names = dict(line.split() for line in (data / "images.txt").read_text().splitlines())
        assert len(names) == 4 and all((data / "images" / name).is_file() for name in names.values())
        for line in (data / "bounding_boxes.txt").read_text().splitlines():
            number, *box = line.split()
            assert list(map(float, box)) == ([5, 6, 4, 3] if "B_1" in names[number] else [2, 3, 4, 5])
        parts = [line.split() for line in (data / "parts/part_locs.txt").read_text().splitlines()]
        assert {" ".join(part[1:]) for part in parts if "B_1" in names[part[0]]} == {"1 5 6 1", "2 0 0 0"}
        splits = dict(line.split() for line in (data / "train_test_split.txt").read_text().splitlines())
        by_class = {names[number].split("/")[0]: split for number, split in splits.items()}
        assert by_class == {"001.Black": "0", "002.White": "1"}

    def test_lists_of_two_columns_and_counted_ones(self, source, make, data):
        """DAVIS: from the root, picture and mask; CelebA: first how many."""
        for name in ("00000", "00001"):
            photo(source / f"JPEGImages/bear/{name}.jpg")
            mask(source / f"Annotations/bear/{name}.png")
        lines = [f"/JPEGImages/bear/0000{n}.jpg /Annotations/bear/0000{n}.png" for n in (0, 1)]
        text(source / "ImageSets/train.txt", "\n".join(lines) + "\n")
        text(source / "attributes.txt", "2\nMale Young\nbear/00000.jpg -1 1\nbear/00001.jpg 1 1\n")
        make(copies=2)
        listed = [line.split() for line in (data / "ImageSets/train.txt").read_text().splitlines()]
        stems = [f"0000{at}~{n}" for at in (0, 1) for n in (1, 2)]
        assert listed == [[f"/JPEGImages/bear/{stem}.jpg", f"/Annotations/bear/{stem}.png"] for stem in stems]
        assert all((data / path[1:]).is_file() for line in listed for path in line)
        counted = (data / "attributes.txt").read_text().splitlines()
        assert counted[0] == "4" and [line.split()[0] for line in counted[2:]] == [f"bear/{stem}.jpg" for stem in stems]

    @pytest.mark.parametrize(
        ("name", "content", "more"),
        [
            ("other/gt/gt.txt", "1,1,10,12,8,6,0,7,1\n", {"size": 15}),  # MOT's, without its frames
            ("labels.txt", "3\n1\n", {"copies": 2}),  # by order
            ("annos.mat", "MATLAB 5.0", {"copies": 2}),
        ],
    )
    def test_what_names_no_picture_is_said(self, source, make, capsys, name, content, more):
        for number in (1, 2):
            photo(source / f"img/{number}.jpg")
        text(source / name, content)
        make(**more)
        assert name in capsys.readouterr().out


class TestJson:
    def test_keys_and_ids_without_suffix(self, source, make, data):
        """Kvasir's boxes and FiftyOne's labels by key; Datumaro's items, which name their picture deeper."""
        for name in ("cju1", "cju2"):
            photo(source / f"images/{name}.jpg")
        side = {"height": 30, "width": 40}
        box = {"xmin": 10, "ymin": 12, "xmax": 20, "ymax": 22}
        text(source / "boxes.json", {name: side | {"bbox": [box]} for name in ("cju1", "cju2")})
        text(source / "labels.json", {"classes": ["a", "b"], "labels": {"cju1": 0, "cju2": 1}})
        item = {"id": "cju1", "annotations": [{"bbox": BOX}], "image": {"path": "cju1.jpg", "size": [30, 40]}}
        text(source / "default.json", {"items": [item]})
        make(copies=2, size=15)
        boxes = json.loads((data / "boxes.json").read_text())
        half = {"xmin": 5, "ymin": 6, "xmax": 10, "ymax": 11}
        assert boxes["cju1~2"] == {"height": 15, "width": 20, "bbox": [half]} and len(boxes) == 4
        labels = json.loads((data / "labels.json").read_text())["labels"]
        assert labels == {"cju1~1": 0, "cju1~2": 0, "cju2~1": 1, "cju2~2": 1}
        items = json.loads((data / "default.json").read_text())["items"]
        assert items == [
            {"id": f"cju1~{n}", "annotations": [{"bbox": HALF}], "image": {"path": f"cju1~{n}.jpg", "size": [15, 20]}}
            for n in (1, 2)
        ]

    def test_records_by_number(self, source, make, data):
        photo(source / "a.jpg")
        photo(source / "b.jpg")
        text(source / "all.json", {"7": {"image": "a.jpg", "mask": "a_mask.png"}, "8": {"image": "b.jpg"}})
        mask(source / "a_mask.png")
        make(copies=2)
        records = json.loads((data / "all.json").read_text()).values()
        assert [record["image"] for record in records] == ["a~1.jpg", "a~2.jpg", "b~1.jpg", "b~2.jpg"]
        assert [record.get("mask") for record in records][:2] == ["a~1_mask.png", "a~2_mask.png"]

    def test_label_studios_percents_uploads_and_local_files(self, source, make, data):
        photo(source / "images/a.jpg")
        photo(source / "images/b.jpg")
        value = {"x": 25.0, "y": 30.0, "width": 10.5, "height": 20, "rectanglelabels": ["c"]}
        sides = {"original_width": 40, "original_height": 30}
        annotations = [{"result": [sides | {"value": value}]}]
        uploaded = {"image": "/data/upload/1/1f2e3d4c-a.jpg"}
        text(source / "project.json", [{"data": uploaded, "annotations": annotations}])
        text(source / "min.json", [{"image": "/data/local-files/?d=images/b.jpg", "label": [sides | value]}])
        make(copies=2, size=15)
        halved = {"original_width": 20, "original_height": 15}
        for number, task in enumerate(json.loads((data / "project.json").read_text()), 1):
            assert task["data"]["image"] == f"./images/a~{number}.jpg"
            assert task["annotations"][0]["result"] == [halved | {"value": value}]
        second = json.loads((data / "min.json").read_text())[1]
        assert second == {"image": "./images/b~2.jpg", "label": [halved | value]}

    def test_vias_shapes_in_a_csv_and_labelboxs_lines(self, source, make, data):
        photo(source / "a.jpg")
        shape = {"name": "rect", "x": 10, "y": 12, "width": 8, "height": 6}
        quoted = json.dumps(shape).replace('"', '""')
        text(source / "via.csv", f'filename,region_shape_attributes\na.jpg,"{quoted}"\n')
        objects = [{"bounding_box": {"top": 12, "left": 10, "height": 6, "width": 8}}]
        text(source / "export.ndjson", json.dumps({"data_row": {"external_id": "a.jpg"}, "objects": objects}) + "\n")
        make(copies=2, size=15)
        for number, (name, cell) in enumerate(rows_of(data / "via.csv")[1:], 1):
            assert name == f"a~{number}.jpg"
            assert json.loads(cell) == {"name": "rect", "x": 5, "y": 6, "width": 4, "height": 3}
        second = json.loads((data / "export.ndjson").read_text().splitlines()[1])
        assert second["data_row"]["external_id"] == "a~2.jpg"
        assert second["objects"] == [{"bounding_box": {"top": 6, "left": 5, "height": 3, "width": 4}}]


PTS = "version: 1\nn_points: 2\n{{\n{}\n{}\n}}\n"
KITTI = "Car 0.00 0 -1.57 10.00 12.00 20.00 22.00 1.57 1.73 4.15 1.00 1.75 13.22 1.62\n"
DOTA = "imagesource:GoogleEarth\ngsd:0.5\n10.0 12.0 20.0 12.0 20.0 22.0 10.0 22.0 plane 0\n"


class TestLabelsOfOnePicture:
    @pytest.mark.parametrize(
        ("name", "content", "expected"),
        [
            ("labels/1.txt", KITTI, KITTI.replace("10.00 12.00 20.00 22.00", "5 6 10 11")),
            ("labelTxt/1.txt", DOTA, "imagesource:GoogleEarth\ngsd:1\n5 6 10 6 10 11 5 11 plane 0\n"),
            ("images/1.pts", PTS.format("10 12", "20 22"), PTS.format("5 6", "10 11")),
        ],
    )
    def test_places_in_texts_are_scaled(self, source, make, data, name, content, expected):
        photo(source / "images/1.jpg")
        text(source / name, content)
        make(size=15)
        assert (data / name).read_text() == expected

    def test_boxes_become_cocos(self, source, make, data):
        for name, label in (("1", KITTI), ("2", DOTA)):
            photo(source / f"images/{name}.jpg")
            text(source / f"labels/{name}.txt", label)
        make("coco")
        table = json.loads((data / "annotations/dataset.json").read_text())
        names = {item["id"]: item["name"] for item in table["categories"]}
        boxes = {names[item["category_id"]]: item["bbox"] for item in table["annotations"]}
        assert boxes == {"Car": [10, 12, 10, 10], "plane": [10, 12, 10, 10]}

    @pytest.mark.parametrize("name", ["calib/1.txt", "depth/1.npy", "images/1.mat", "images/1.flo", "page/1.xml"])
    def test_what_cannot_be_scaled_is_refused_and_else_follows(self, source, make, data, name):
        photo(source / "images/1.jpg")
        page = "<page><line points='1,2 3,4'/></page>"
        text(source / name, page if name.endswith("xml") else "P2: 721.5 0 609.5 44.8 0\n")
        assert [row["status"] for row in make(copies=2)] == ["ok", "ok"]
        assert (data / name.replace("1.", "1~2.")).read_bytes() == (source / name).read_bytes()
        assert {row["kind"] for row in make(size=15, output="small")} == {"labels"}

    def test_a_vector_is_no_label_in_pixels(self, source, make):
        photo(source / "1.jpg")
        np.save(source / "1.npy", np.ones(8))
        assert [row["status"] for row in make(size=15)] == ["ok"]

    def test_names_within_are_the_results(self, source, make, data):
        """Penn-Fudan's text and ADE20K's JSON name their picture, and its mask."""
        photo(source / "PNGImages/F1.png")
        mask(source / "PedMasks/F1_mask.png")
        label = 'file : "P/PNGImages/F1.png"\nbox : (10, 12) - (20, 22)\nmask : "P/PedMasks/F1_mask.png"\n'
        text(source / "Annotation/F1.txt", label)
        photo(source / "A_1.jpg")
        text(source / "A_1.json", {"annotation": {"filename": "A_1.jpg", "object": []}})
        make(copies=2)
        second = (data / "Annotation/F1~2.txt").read_text()
        assert "PNGImages/F1~2.png" in second and "PedMasks/F1~2_mask.png" in second
        assert json.loads((data / "A_1~2.json").read_text())["annotation"]["filename"] == "A_1~2.jpg"


class TestMasks:
    def test_several_of_one_picture(self, source, make, data):
        for name in ("1", "2"):
            photo(source / f"{name}.jpg")
            for number in range(2):
                mask(source / f"{name}_mask_{number}.png")
        make(copies=2, size=15)
        for name in ("1~1_mask_0", "1~2_mask_1", "2~2_mask_0"):
            assert np.array_equal(np.unique(np.asarray(Image.open(data / f"{name}.png"))), np.unique(VALUES))

    def test_of_a_folder_called_as_its_picture(self, source, make):
        photo(source / "A_1.jpg")
        mask(source / "A_1/instance_000_A_1.png")
        statuses = {row["key"]: row["status"] for row in make()}
        assert statuses == {"A_1.jpg": "ok", "A_1/instance_000_A_1.png": "carried"}

    def test_photos_that_are_numbered_are_photos(self, source, make):
        for name in ("depth_1", "depth_2", "mask_1"):
            photo(source / f"{name}.jpg")
        inventory = Inventory(open_layout(str(source), "auto", target="folder", carry=[]))
        assert len(list(inventory.watch(inventory.layout.samples()))) == inventory.pictures == 3


class TestRunLengths:
    @pytest.fixture
    def square(self):
        values = np.zeros((30, 40), np.uint8, order="F")
        values[10:20, 10:30] = 1
        return values

    @pytest.mark.parametrize("form", ["compressed", "plain"])
    def test_cocos_are_scaled(self, source, make, data, square, form):
        tools = pytest.importorskip("pycocotools.mask")
        packed = tools.encode(square)
        packed["counts"] = packed["counts"].decode()
        if form == "plain":
            edges = np.flatnonzero(np.diff(square.ravel(order="F"), prepend=0))
            packed["counts"] = np.diff(edges, prepend=0, append=square.size).tolist()
        photo(source / "images/a.jpg")
        image = {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}
        annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 10], "segmentation": packed}
        categories = [{"id": 1, "name": "c"}]
        text(source / "annotations/a.json", {"images": [image], "annotations": [annotation], "categories": categories})
        make("coco", size=15)
        new = json.loads((data / "annotations/a.json").read_text())["annotations"][0]["segmentation"]
        assert isinstance(new["counts"], list) == (form == "plain") and new["size"] == [15, 20]
        small = tools.decode(tools.frPyObjects(new, 15, 20) if form == "plain" else new)
        assert np.array_equal(small, square[1::2, 1::2])

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("train.csv", "ImageId,EncodedPixels\na.jpg,1 3 10 5\n"),
            ("cvat.xml", '<annotations><image name="a.jpg"><mask rle="3, 4" left="1" top="1"/></image></annotations>'),
            ("brush.json", '[{"image": "a.jpg", "label": [{"format": "rle", "rle": [0, 1]}]}]'),
        ],
    )
    def test_others_are_refused_before_work_begins(self, source, name, content):
        photo(source / "a.jpg")
        text(source / name, content)
        layout = open_layout(str(source), "auto", target="folder", carry=[])
        with pytest.raises(ValueError, match=f"{name}.*size=keep"):
            layout.check_scaling()


def test_mots_boxes_and_sizes_are_scaled(source, make, data, capsys):
    """Of frames that are numbered, in a file that names none of them; VisDrone's sequences likewise."""
    for number in (1, 2):
        photo(source / f"train/MOT17-02/img1/{number:06d}.jpg")
        photo(source / f"sequences/uav1/{number:07d}.jpg")
    text(source / "train/MOT17-02/gt/gt.txt", "1,1,10,12,8,6,1,1,1\n2,1,11,12,8,6,1,1,0.5\n")
    text(source / "train/MOT17-02/seqinfo.ini", "[Sequence]\nframeRate=30\nimWidth=40\nimHeight=30\n")
    text(source / "annotations/uav1.txt", "1,0,10,12,8,6,1,4,0,0\n")
    open_layout(str(source), "auto", target="folder", carry=[]).check_scaling()
    make(size=15, copies=2)
    assert (data / "train/MOT17-02/gt/gt.txt").read_text() == "1,1,5,6,4,3,1,1,1\n2,1,5.5,6,4,3,1,1,0.5\n"
    assert (data / "annotations/uav1.txt").read_text() == "1,0,5,6,4,3,1,4,0,0\n"
    lines = (data / "train/MOT17-02/seqinfo.ini").read_text().splitlines()
    assert lines == ["[Sequence]", "frameRate=30", "imWidth=20", "imHeight=15"]
    assert "gt.txt" in capsys.readouterr().out  # copies have no numbers of their own


def test_columns_of_lists_are_scaled_by_their_names(source, make, data):
    """DeepFashion's landmarks; a list with commas whose class stands before the box."""
    photo(source / "img/a.jpg")
    names = "image_name clothes_type landmark_visibility_1 landmark_location_x_1 landmark_location_y_1"
    text(source / "Anno/list_landmarks.txt", f"1\n{names}\nimg/a.jpg 4 2 10 12\n")
    text(source / "boxes.txt", "image_name,label,x1,y1,x2,y2\na.jpg,3,10,12,18,18\n")
    text(source / "kinds.txt", "image_name kind count size weight\nimg/a.jpg 2 20 30 40\n")
    make(size=15)
    assert (data / "Anno/list_landmarks.txt").read_text() == f"1\n{names}\nimg/a.jpg 4 2 5 6\n"
    assert (data / "boxes.txt").read_text().splitlines()[1] == "a.jpg,3,5,6,9,9"
    assert (data / "kinds.txt").read_text() == (source / "kinds.txt").read_text()


def test_cvats_cuboids_are_scaled_and_its_tracks_refused(source, make, data, capsys):
    photo(source / "images/frame_000000.png")
    sides = [f"{axis}{corner}{face}" for face in (1, 2) for corner in ("tl", "bl", "tr", "br") for axis in "xy"]
    cuboid = "".join(f' {side}="{10 if side[0] == "x" else 12}"' for side in sides)
    image = f'<image id="0" name="frame_000000.png"><cuboid label="c"{cuboid} /></image>'
    text(source / "annotations.xml", f"<annotations>{image}</annotations>")
    make(size=15)
    (moved,) = ElementTree.parse(data / "annotations.xml").iter("cuboid")
    assert {side: moved.get(side) for side in sides} == {side: "5" if side[0] == "x" else "6" for side in sides}
    track = '<track id="0" label="c"><box frame="0" xtl="10" ytl="12" xbr="18" ybr="18" outside="0"/></track>'
    text(source / "annotations.xml", f"<annotations>{track}</annotations>")
    with pytest.raises(ValueError, match=r"annotations\.xml"):
        open_layout(str(source), "auto", target="folder", carry=[]).check_scaling()
    make(copies=2, output="copies")
    assert "annotations.xml" in capsys.readouterr().out


def test_supervisely_nodes_are_scaled_and_labelmes_bitmaps_refused(source, make, data):
    photo(source / "ds1/img/a.jpg")
    nodes = {"classTitle": "person", "geometryType": "graph", "nodes": {"1": {"loc": [10, 12]}}}
    text(source / "ds1/ann/a.jpg.json", {"size": {"height": 30, "width": 40}, "objects": [nodes]})
    make(size=15)
    (moved,) = json.loads((data / "ds1/ann/a.jpg.json").read_text())["objects"]
    assert moved["nodes"] == {"1": {"loc": [5, 6]}}
    shape = {"label": "m", "shape_type": "mask", "points": [[10, 12], [17, 19]], "mask": "iVBORw0KGgo="}
    text(source / "ds1/ann/a.jpg.json", {"shapes": [shape], "imagePath": "a.jpg", "imageWidth": 40, "imageHeight": 30})
    (row,) = make(size=15, output="refused")
    assert row["status"] == "failed" and row["kind"] == "labels"


def test_label_studios_short_form_and_labelboxes_outlines_become_cocos(source, make, data):
    photo(source / "a.jpg")
    box = {"x": 25, "y": 40, "width": 20, "height": 20, "rectanglelabels": ["cat"]}
    text(source / "studio.json", [{"image": "a.jpg", "label": [{**box, "original_width": 40, "original_height": 30}]}])
    outline = {"name": "dog", "polygon": [{"x": 10, "y": 12}, {"x": 18, "y": 12}, {"x": 18, "y": 18}]}
    record = {"data_row": {"external_id": "a.jpg"}, "projects": {"p": {"labels": [{"objects": [outline]}]}}}
    text(source / "export.ndjson", json.dumps(record) + "\n")
    make("coco")
    content = json.loads((data / "annotations/dataset.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    outlines = {names[item["category_id"]]: item.get("segmentation") for item in content["annotations"]}
    assert outlines == {"cat": None, "dog": [[10, 12, 18, 12, 18, 18]]}
    assert all(item["bbox"] == [10, 12, 8, 6] for item in content["annotations"])


def test_key_points_of_other_tools_are_scaled(source, make, data):
    """OpenPose's beside its picture; MPII's joints with the person's middle and size; TuSimple's lanes, a line each."""
    for name in ("a", "b"):
        photo(source / f"{name}.jpg")
    text(source / "a_keypoints.json", {"people": [{"pose_keypoints_2d": [10, 12, 0.9, 18, 18, 0.5]}]})
    text(source / "mpii.json", [{"image": "a.jpg", "joints": [[10, 12], [18, 18]], "scale": 3.0, "center": [10, 12]}])
    lanes = [{"lanes": [[-2, 10], [20, -2]], "h_samples": [10, 12], "raw_file": f"{name}.jpg"} for name in "ab"]
    text(source / "lanes.json", "".join(json.dumps(record) + "\n" for record in lanes))
    make(size=15)
    pose = json.loads((data / "a_keypoints.json").read_text())
    assert pose == {"people": [{"pose_keypoints_2d": [5, 6, 0.9, 9, 9, 0.5]}]}
    (person,) = json.loads((data / "mpii.json").read_text())
    assert person == {"image": "a.jpg", "joints": [[5, 6], [9, 9]], "scale": 1.5, "center": [5, 6]}
    lanes = [json.loads(line) for line in (data / "lanes.json").read_text().splitlines()]
    assert lanes == [{"lanes": [[-2, 5], [10, -2]], "h_samples": [5, 6], "raw_file": f"{name}.jpg"} for name in "ab"]


def test_columns_in_other_words_are_scaled(source, make, data):
    """LISA's and GTSRB's, with semicolons."""
    photo(source / "a.png")
    lisa = "Filename;Upper left corner X;Upper left corner Y;Lower right corner X;Lower right corner Y;frame\n"
    text(source / "box.csv", f"{lisa}d/a.png;10;12;18;18;7\n")
    gtsrb = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
    text(source / "gt.csv", f"{gtsrb}a.png;40;30;10;12;18;18;3\n")
    make(size=15)
    assert (data / "box.csv").read_text() == f"{lisa}d/a.png;5;6;9;9;7\n"
    assert (data / "gt.csv").read_text() == f"{gtsrb}a.png;20;15;5;6;9;9;3\n"


def test_numbers_before_a_pictures_name_are_refused_once_scaled(source, make, data):
    """WFLW's."""
    photo(source / "images/a.jpg")
    text(source / "list.txt", "10 12 14 12 18 18 8 10 20 20 0 1 images/a.jpg\n")
    make(copies=2)
    lines = (data / "list.txt").read_text().splitlines()
    assert lines == [f"10 12 14 12 18 18 8 10 20 20 0 1 images/a~{n}.jpg" for n in (1, 2)]
    with pytest.raises(ValueError, match="list"):
        open_layout(str(source), "auto", target="folder", carry=[]).check_scaling()


def test_files_in_other_encodings_are_written_in_theirs(source, make, data):
    for name in ("a", "b"):
        photo(source / f"{name}.jpg")
    (source / "boxes.csv").write_bytes("image,xmin,ymin,xmax,ymax,class\na.jpg,10,12,18,18,été\n".encode("latin-1"))
    (source / "a.txt").write_bytes("10,12,18,12,18,18,10,18,été\n".encode("latin-1"))
    box = "<bndbox><xmin>10</xmin><ymin>12</ymin><xmax>18</xmax><ymax>18</ymax></bndbox>"
    head = '<?xml version="1.0" encoding="gb2312"?>'
    label = f"{head}<annotation><filename>b.jpg</filename><object><name>猫</name>{box}</object></annotation>"
    (source / "b.xml").write_bytes(label.encode("gb2312"))
    make(size=15)
    assert (data / "boxes.csv").read_bytes().decode("latin-1").splitlines()[1] == "a.jpg,5,6,9,9,été"
    assert (data / "a.txt").read_bytes().decode("latin-1") == "5,6,9,6,9,9,5,9,été\n"
    half = "<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    assert (data / "b.xml").read_bytes().decode("gb2312") == label.replace(box, half)


def test_what_cannot_be_opened_or_copied_is_said(source, make, capsys):
    """A table of Excel; a JSON of one picture that has two copies now. A caption with a time of day is no table."""
    photo(source / "a.jpg")
    text(source / "a.txt", "taken 2021-03-04 10:11:12, at 5")
    (source / "table.xlsx").write_bytes(b"PK")
    text(source / "one.json", {"image": "a.jpg", "score": 3})
    rows = make(copies=2)
    out = capsys.readouterr().out
    assert "table.xlsx" in out and "one.json" in out
    assert {row["status"] for row in make(size=15, output="scaled")} == {"ok", "carried"} and len(rows) == 4


def test_labels_without_a_suffix_follow(source, make, data):
    """Stanford Dogs' XML."""
    photo(source / "Images/n01-Chihuahua/n01_7.jpg")
    box = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    form = f"<annotation><filename>{{}}</filename><object><name>dog</name>{box}</object></annotation>"
    text(source / "Annotation/n01-Chihuahua/n01_7", form.format("n01_7", 10, 12, 18, 18))
    make(copies=2, size=15)
    for n in (1, 2):
        assert (data / f"Annotation/n01-Chihuahua/n01_7~{n}").read_text() == form.format(f"n01_7~{n}.jpg", 5, 6, 9, 9)
    make("coco", output="coco")
    content = json.loads((data.parent.parent / "coco/data/annotations/dataset.json").read_text())
    assert [annotation["bbox"] for annotation in content["annotations"]] == [BOX]


def test_cameras_in_pixels_are_scaled_or_refused(source, make, data):
    """Cityscapes' beside each picture; NeRF's for all."""
    photo(source / "leftImg8bit/a_leftImg8bit.png")
    text(source / "camera/a_camera.json", {"intrinsic": {"fx": 700.0, "fy": 710.0, "u0": 20.0, "v0": 15.0}})
    make(size=15)
    camera = json.loads((data / "camera/a_camera.json").read_text())
    assert camera["intrinsic"] == {"fx": 350, "fy": 355, "u0": 10, "v0": 7.5}
    frame = {"file_path": "leftImg8bit/a_leftImg8bit.png", "transform_matrix": [[1, 0], [0, 1]]}
    text(source / "transforms.json", {"fl_x": 700.0, "cx": 20.0, "w": 40, "frames": [frame]})
    with pytest.raises(ValueError, match=r"transforms\.json"):
        open_layout(str(source), "auto", target="folder", carry=[]).check_scaling()
