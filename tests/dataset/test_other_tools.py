"""What other annotation tools and well-known sets leave beside pictures: after copies=2 and size=15 (half of 30) each
file names the results, and its places fit them; where that cannot be, it is refused or said.
"""

import json
from contextlib import nullcontext
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from samples import VALUES, boxes_of, mask, opened, photo, photos, recognised, text

BOX, HALF = [10, 12, 8, 6], [5, 6, 4, 3]

WFLW = "10 12 14 12 18 18 8 10 20 20 0 1 img/{}.jpg\n"

# Places of pictures that are numbered: CVAT's of a video, and Visual Genome's
TRACK = '<track id="0" label="c"><box frame="0" xtl="10" ytl="12" xbr="18" ybr="18" outside="0"/></track>'
REGIONS = [{"id": n, "regions": [{"x": 10, "y": 12, "width": 8, "height": 6, "image_id": n}]} for n in (1, 2)]


class TestTables:
    def test_names_without_suffix_in_a_column(self, make_with_files):
        """Open Images' ImageID; Kaggle's id; boxes in a cell."""
        before = {
            "boxes.csv": "ImageID,Label,XMin,XMax\n0a1,/m/1,0.25,0.5\n",
            "wheat.csv": 'image_id,width,height,bbox\n0a1,40,30,"[10.0, 12.0, 8.0, 6.0]"\n',
            "breeds.csv": "id,breed\n0a1,cat\n0b2,dog\n",
        }
        wheat = '0a1~{},20,15,"[5.0, 6.0, 4.0, 3.0]"\n'
        assert make_with_files("train/0a1.jpg train/0b2.jpg", before, copies=2, size=15) == {
            "boxes.csv": "ImageID,Label,XMin,XMax\n0a1~1,/m/1,0.25,0.5\n0a1~2,/m/1,0.25,0.5\n",
            "wheat.csv": "image_id,width,height,bbox\n" + wheat.format(1) + wheat.format(2),
            "breeds.csv": "id,breed\n0a1~1,cat\n0a1~2,cat\n0b2~1,dog\n0b2~2,dog\n",
        }

    def test_numbers_that_are_no_names_stay(self, make_with_files):
        before = {"classes.csv": "id,class\n1,cat\n", "notes.csv": "year,count\n1,10\n2,20\n9,1\n8,3\n7,2\n"}
        assert make_with_files("1.jpg 2.jpg 3.jpg 4.jpg", before, copies=2) == before

    def test_imagenets_lists_and_boxes(self, source, make_with_files):
        for name in ("n01_1", "n01_2"):
            photo(source / f"Data/train/n01/{name}.JPEG", format="JPEG")
        boxes = "ImageId,PredictionString\nn01_1,n01 10 12 8 6 n01 2 2 4 4\nn01_2,n01 2 2 4 4\n"
        before = {"ImageSets/train_cls.txt": "n01/n01_1 1\nn01/n01_2 2\n", "solution.csv": boxes}
        after = make_with_files("", before, copies=2, size=15)
        assert after["ImageSets/train_cls.txt"].split()[:4] == ["n01/n01_1~1", "1", "n01/n01_1~2", "1"]
        assert after["solution.csv"].splitlines()[1] == "n01_1~1,n01 5 6 4 3 n01 1 1 2 2"

    def test_flickrs_captions(self, make_with_files):
        before = {
            "results.csv": 'image_name| comment_number| comment\n1_a.jpg| 0| Two "men" , one old\n',
            "Flickr8k.token.txt": "1_a.jpg#0\tA child .\n1_a.jpg#1\tA girl .\n",
        }
        after = make_with_files("images/1_a.jpg", before, copies=2)
        assert after["results.csv"].splitlines()[1:] == [f'1_a~{n}.jpg| 0| Two "men" , one old' for n in (1, 2)]
        lines = after["Flickr8k.token.txt"].splitlines()
        assert [line.split("\t")[0] for line in lines] == [f"1_a~{n}.jpg#{at}" for at in (0, 1) for n in (1, 2)]

    def test_numbered_pictures(self, make_with_files, data):
        """CUB-200: names once, then numbers alone; copies get numbers of their own."""
        before = {
            "images.txt": "1 001.Black/B_1.jpg\n2 002.White/W_1.jpg\n",
            "bounding_boxes.txt": "1 10.0 12.0 8.0 6.0\n2 4.0 6.0 8.0 10.0\n",
            "train_test_split.txt": "1 0\n2 1\n",
            "parts/part_locs.txt": "1 1 10.0 12.0 1\n1 2 0.0 0.0 0\n2 1 4.0 6.0 1\n",
        }
        after = make_with_files("images/001.Black/B_1.jpg images/002.White/W_1.jpg", before, copies=2, size=15)
        names, boxes, splits, parts = ([line.split() for line in after[name].splitlines()] for name in before)
        names = dict(names)
        assert len(names) == 4 and all((data / "images" / name).is_file() for name in names.values())
        for number, *box in boxes:
            assert list(map(float, box)) == ([5, 6, 4, 3] if "B_1" in names[number] else [2, 3, 4, 5])
        assert {" ".join(part[1:]) for part in parts if "B_1" in names[part[0]]} == {"1 5 6 1", "2 0 0 0"}
        by_class = {names[number].split("/")[0]: split for number, split in splits}
        assert by_class == {"001.Black": "0", "002.White": "1"}

    def test_lists_of_two_columns_and_counted_ones(self, source, make_with_files, data):
        """DAVIS: from the root, picture and mask; CelebA: first how many."""
        for name in ("00000", "00001"):
            mask(source / f"Annotations/bear/{name}.png")
        line = "/JPEGImages/bear/{0}.jpg /Annotations/bear/{0}.png\n"
        before = {
            "ImageSets/train.txt": line.format("00000") + line.format("00001"),
            "attributes.txt": "2\nMale Young\nbear/00000.jpg -1 1\nbear/00001.jpg 1 1\n",
        }
        after = make_with_files("JPEGImages/bear/00000.jpg JPEGImages/bear/00001.jpg", before, copies=2)
        stems = [f"0000{at}~{n}" for at in (0, 1) for n in (1, 2)]
        assert after["ImageSets/train.txt"] == "".join(map(line.format, stems))
        assert all((data / path[1:]).is_file() for path in after["ImageSets/train.txt"].split())
        counted = after["attributes.txt"].splitlines()
        assert counted[0] == "4" and [line.split()[0] for line in counted[2:]] == [f"bear/{stem}.jpg" for stem in stems]

    @pytest.mark.parametrize(
        ("name", "content", "more"),
        [
            ("other/gt/gt.txt", "1,1,10,12,8,6,0,7,1\n", {"size": 15}),  # MOT's, without its frames
            ("labels.txt", "3\n1\n", {"copies": 2}),  # by order
            ("annos.mat", "MATLAB 5.0", {"copies": 2}),
            ("table.xlsx", "PK", {"copies": 2, "size": 15}),
            ("one.json", {"image": "1.jpg", "score": 3}, {"copies": 2, "size": 15}),  # of one picture that is two now
            ("list.html", "<img src=1.jpg>", {"copies": 2}),
            ("annotations.xml", f"<annotations>{TRACK}</annotations>", {"copies": 2}),
            ("regions.json", REGIONS, {"copies": 2}),
        ],
    )
    def test_what_names_no_picture_is_said(self, source, make, capsys, name, content, more):
        photos(source, "img/1.jpg img/2.jpg")
        text(source / name, content)
        assert {row["status"] for row in make(**more)} == {"ok", "carried"}
        assert name in capsys.readouterr().out


class TestJson:
    def test_keys_and_ids_without_suffix(self, make_with_files):
        """Kvasir's boxes and FiftyOne's labels by key; Datumaro's items, which name their picture deeper."""
        box, half = ({"xmin": x, "ymin": 1.2 * x, "xmax": 2 * x, "ymax": 2.2 * x} for x in (10, 5))
        item = {"id": "cju1", "annotations": [{"bbox": BOX}], "image": {"path": "cju1.jpg", "size": [30, 40]}}
        before = {
            "boxes.json": {name: {"height": 30, "width": 40, "bbox": [box]} for name in ("cju1", "cju2")},
            "labels.json": {"classes": ["a", "b"], "labels": {"cju1": 0, "cju2": 1}},
            "default.json": {"items": [item]},
        }
        after = make_with_files("images/cju1.jpg images/cju2.jpg", before, copies=2, size=15)
        boxes = after["boxes.json"]
        assert boxes["cju1~2"] == {"height": 15, "width": 20, "bbox": [half]} and len(boxes) == 4
        assert after["labels.json"]["labels"] == {"cju1~1": 0, "cju1~2": 0, "cju2~1": 1, "cju2~2": 1}
        assert after["default.json"]["items"] == [
            {"id": f"cju1~{n}", "annotations": [{"bbox": HALF}], "image": {"path": f"cju1~{n}.jpg", "size": [15, 20]}}
            for n in (1, 2)
        ]

    def test_records_by_number(self, source, make_with_files):
        mask(source / "a_mask.png")
        before = {"all.json": {"7": {"image": "a.jpg", "mask": "a_mask.png"}, "8": {"image": "b.jpg"}}}
        records = make_with_files("a.jpg b.jpg", before, copies=2)["all.json"].values()
        assert [record["image"] for record in records] == ["a~1.jpg", "a~2.jpg", "b~1.jpg", "b~2.jpg"]
        assert [record.get("mask") for record in records][:2] == ["a~1_mask.png", "a~2_mask.png"]

    def test_label_studios_percents_uploads_and_local_files(self, make_with_files):
        value = {"x": 25.0, "y": 30.0, "width": 10.5, "height": 20, "rectanglelabels": ["c"]}
        sides, halved = ({"original_width": x, "original_height": y} for x, y in ((40, 30), (20, 15)))
        uploaded = {"image": "/data/upload/1/1f2e3d4c-a.jpg"}
        before = {
            "project.json": [{"data": uploaded, "annotations": [{"result": [sides | {"value": value}]}]}],
            "min.json": [{"image": "/data/local-files/?d=images/b.jpg", "label": [sides | value]}],
        }
        after = make_with_files("images/a.jpg images/b.jpg", before, copies=2, size=15)
        for number, task in enumerate(after["project.json"], 1):
            assert task["data"]["image"] == f"./images/a~{number}.jpg"
            assert task["annotations"][0]["result"] == [halved | {"value": value}]
        assert after["min.json"][1] == {"image": "./images/b~2.jpg", "label": [halved | value]}

    def test_vias_shapes_in_a_csv_and_labelboxs_lines(self, make_with_files):
        cell = '"{{""name"": ""rect"", ""x"": {}, ""y"": {}, ""width"": {}, ""height"": {}}}"\n'
        record = {"data_row": {"external_id": "a.jpg"}}
        record["objects"] = [{"bounding_box": {"top": 12, "left": 10, "height": 6, "width": 8}}]
        head = "filename,region_shape_attributes\n"
        before = {"via.csv": f"{head}a.jpg,{cell.format(*BOX)}", "export.ndjson": json.dumps(record) + "\n"}
        after = make_with_files("a.jpg", before, copies=2, size=15)
        assert after["via.csv"] == head + "".join(f"a~{n}.jpg,{cell.format(*HALF)}" for n in (1, 2))
        second = json.loads(after["export.ndjson"].splitlines()[1])
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
            # VisDrone's, where a score of 0 is a region that does not count
            ("annotations/1.txt", "10,12,8,6,1,4,0,1\n2,2,8,8,0,0,0,0\n", "5,6,4,3,1,4,0,1\n1,1,4,4,0,0,0,0\n"),
            ("annotations/1.txt", "10,12,8,6,1,4,0,1,\n2,2,8,8,0,0,0,0,\n", "5,6,4,3,1,4,0,1,\n1,1,4,4,0,0,0,0,\n"),
        ],
    )
    def test_places_in_texts_are_scaled(self, make_with_files, name, content, expected):
        assert make_with_files("images/1.jpg", {name: content}, size=15) == {name: expected}

    def test_boxes_become_cocos(self, source, make, data):
        labels = (KITTI, DOTA, "10,12,8,6,1,4,0,1\n2,2,8,8,0,0,0,0\n", "10,12,8,6,1,4,0,1,\n2,2,8,8,0,0,0,0,\n")
        for number, label in enumerate(labels):
            photo(source / f"images/{number}.jpg")
            text(source / f"{'labels' if number < 2 else 'annotations'}/{number}.txt", label)
        make("coco")
        assert boxes_of(data / "annotations/dataset.json") == [
            ("0.jpg", "Car", [10, 12, 10, 10]),
            ("1.jpg", "plane", [10, 12, 10, 10]),
            ("2.jpg", "4", BOX),
            ("3.jpg", "4", BOX),
        ]

    @pytest.mark.parametrize("name", ["calib/1.txt", "depth/1.npy", "images/1.mat", "images/1.flo", "page/1.xml"])
    def test_what_cannot_be_scaled_is_refused_and_else_follows(self, source, make, data, name):
        photo(source / "images/1.jpg")
        page = "<page><line points='1,2 3,4'/></page>"
        text(source / name, page if name.endswith("xml") else "P2: 721.5 0 609.5 44.8 0\n")
        assert [row["status"] for row in make(copies=2)] == ["ok", "ok"]
        assert (data / name.replace("1.", "1~2.")).read_bytes() == (source / name).read_bytes()
        assert {row["kind"] for row in make(size=15, output="small")} == {"labels"}

    def test_a_vector_or_a_time_of_day_is_no_place_in_pixels(self, source, make):
        photo(source / "1.jpg")
        np.save(source / "1.npy", np.ones(8))
        text(source / "1.txt", "taken 2021-03-04 10:11:12, at 5")
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

    def test_photos_that_are_numbered_are_photos(self, source):
        photos(source, "depth_1.jpg depth_2.jpg mask_1.jpg")
        assert recognised(source).pictures == 3


class TestRunLengths:
    @pytest.mark.parametrize("form", ["compressed", "plain"])
    def test_cocos_are_scaled(self, make_with_files, form):
        tools = pytest.importorskip("pycocotools.mask")
        square = np.zeros((30, 40), np.uint8, order="F")
        square[10:20, 10:30] = 1
        packed = tools.encode(square)
        packed["counts"] = packed["counts"].decode()
        if form == "plain":
            edges = np.flatnonzero(np.diff(square.ravel(order="F"), prepend=0))
            packed["counts"] = np.diff(edges, prepend=0, append=square.size).tolist()
        image = {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}
        annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 10], "segmentation": packed}
        content = {"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "c"}]}
        (after,) = make_with_files("images/a.jpg", {"annotations/a.json": content}, "coco", size=15).values()
        new = after["annotations"][0]["segmentation"]
        assert isinstance(new["counts"], list) == (form == "plain") and new["size"] == [15, 20]
        small = tools.decode(tools.frPyObjects(new, 15, 20) if form == "plain" else new)
        assert np.array_equal(small, square[1::2, 1::2])


def test_mots_boxes_and_sizes_are_scaled(source, make_with_files, capsys):
    """Of frames that are numbered, in a file that names none of them; VisDrone's sequences likewise."""
    places = ("train/MOT17-02/img1/{:06d}.jpg", "sequences/uav1/{:07d}.jpg")
    pictures = " ".join(place.format(number) for place in places for number in (1, 2))
    before = {
        "train/MOT17-02/gt/gt.txt": "1,1,10,12,8,6,1,1,1\n2,1,11,12,8,6,1,1,0.5\n",
        "train/MOT17-02/seqinfo.ini": "[Sequence]\nframeRate=30\nimWidth=40\nimHeight=30\n",
        "annotations/uav1.txt": "1,0,10,12,8,6,1,4,0,0\n",
    }
    assert make_with_files(pictures, before, size=15, copies=2) == {
        "train/MOT17-02/gt/gt.txt": "1,1,5,6,4,3,1,1,1\n2,1,5.5,6,4,3,1,1,0.5\n",
        "train/MOT17-02/seqinfo.ini": "[Sequence]\nframeRate=30\nimWidth=20\nimHeight=15\n",
        "annotations/uav1.txt": "1,0,5,6,4,3,1,4,0,0\n",
    }
    assert "gt.txt" in capsys.readouterr().out  # copies have no numbers of their own
    opened(source).check_scaling()


def test_cvats_cuboids_are_scaled(make_with_files, data):
    sides = [f"{axis}{corner}{face}" for face in (1, 2) for corner in ("tl", "bl", "tr", "br") for axis in "xy"]
    cuboid = "".join(f' {side}="{10 if side[0] == "x" else 12}"' for side in sides)
    image = f'<image id="0" name="frame_000000.png"><cuboid label="c"{cuboid} /></image>'
    make_with_files("images/frame_000000.png", {"annotations.xml": f"<annotations>{image}</annotations>"}, size=15)
    (moved,) = ElementTree.parse(data / "annotations.xml").iter("cuboid")
    assert {side: moved.get(side) for side in sides} == {side: "5" if side[0] == "x" else "6" for side in sides}


SQUARE = {"polygon": [{"x": [10, 20], "y": [12, 20]}]}
EARTH = {"geometry": {"coordinates": [[[10.1, 12.2]]]}, "properties": {"image_id": "1.jpg"}}
FRAME = {"file_path": "img/1.jpg", "transform_matrix": [[1, 0], [0, 1]]}
RUNS = '<annotations><image name="1.jpg"><mask rle="3, 4" left="1" top="1"/></image></annotations>'
REFUSED = {
    "run lengths in a table": ("train.csv", "ImageId,EncodedPixels\n1.jpg,1 3 10 5\n"),
    "CVAT's run lengths": ("cvat.xml", RUNS),
    "Label Studio's run lengths": ("brush.json", [{"image": "1.jpg", "label": [{"format": "rle", "rle": [0, 1]}]}]),
    "CVAT's tracks": ("tracks.xml", f"<annotations>{TRACK}</annotations>"),
    "WFLW's numbers before a picture's name": ("list.txt", WFLW.format("1")),
    "NeRF's cameras": ("transforms.json", {"fl_x": 700.0, "cx": 20.0, "w": 40, "frames": [FRAME]}),
    "numbers for pictures": ("regions.json", REGIONS),
    "SUN RGB-D's, in a folder beside the picture's": ("annotation/index.json", {"frames": [SQUARE]}),
    "places on the earth": ("x.geojson", {"type": "FeatureCollection", "features": [EARTH]}),
}
SCALABLE = {
    "Tiny ImageNet's boxes behind a word": ("val_annotations.txt", "1.jpg\tn01\t10\t12\t18\t18\n"),
    "FUNSD's, which names no picture within": ("annotations/1.json", {"form": [{"box": [10, 12, 18, 18]}]}),
    'settings, with a "box" that is a number': ("meta.json", {"classes": [{"title": "cat", "config": {"box": 1}}]}),
}


@pytest.mark.parametrize("case", [*REFUSED, *SCALABLE])
def test_what_cannot_be_scaled_is_refused_before_work_begins(source, case):
    name, content = (REFUSED | SCALABLE)[case]
    photos(source, "img/1.jpg img/2.jpg")
    text(source / name, content)
    with nullcontext() if case in SCALABLE else pytest.raises(ValueError, match=f"{name.split('/')[-1]}.*size=keep"):
        opened(source).check_scaling()


def test_supervisely_nodes_are_scaled_and_labelmes_bitmaps_refused(source, make_with_files, make, data):
    nodes = {"classTitle": "person", "geometryType": "graph", "nodes": {"1": {"loc": [10, 12]}}}
    content = {"size": {"height": 30, "width": 40}, "objects": [nodes]}
    (after,) = make_with_files("ds1/img/a.jpg", {"ds1/ann/a.jpg.json": content}, size=15).values()
    (moved,) = after["objects"]
    assert moved["nodes"] == {"1": {"loc": [5, 6]}}
    shape = {"label": "m", "shape_type": "mask", "points": [[10, 12], [17, 19]], "mask": "iVBORw0KGgo="}
    text(source / "ds1/ann/a.jpg.json", {"shapes": [shape], "imagePath": "a.jpg", "imageWidth": 40, "imageHeight": 30})
    (row,) = make(size=15, output="refused")
    assert row["status"] == "failed" and row["kind"] == "labels"


def test_key_points_of_other_tools_are_scaled(make_with_files):
    """OpenPose's beside its picture; MPII's joints with the person's middle and size; TuSimple's lanes, a line each."""
    lane = '{"lanes": [[-2, %d], [%d, -2]], "h_samples": [%d, %d], "raw_file": "a.jpg"}\n'
    before = {
        "a_keypoints.json": {"people": [{"pose_keypoints_2d": [10, 12, 0.9, 18, 18, 0.5]}]},
        "mpii.json": [{"image": "a.jpg", "joints": [[10, 12], [18, 18]], "scale": 3.0, "center": [10, 12]}],
        "lanes.json": lane % (10, 20, 10, 12) + (lane % (10, 20, 10, 12)).replace("a.jpg", "b.jpg"),
    }
    assert make_with_files("a.jpg b.jpg", before, size=15) == {
        "a_keypoints.json": {"people": [{"pose_keypoints_2d": [5, 6, 0.9, 9, 9, 0.5]}]},
        "mpii.json": [{"image": "a.jpg", "joints": [[5, 6], [9, 9]], "scale": 1.5, "center": [5, 6]}],
        "lanes.json": lane % (5, 10, 5, 6) + (lane % (5, 10, 5, 6)).replace("a.jpg", "b.jpg"),
    }


def test_numbers_before_a_pictures_name_stay(make_with_files):
    after = WFLW.format("1~1") + WFLW.format("1~2")
    assert make_with_files("img/1.jpg", {"list.txt": WFLW.format("1")}, copies=2) == {"list.txt": after}


def test_files_in_other_encodings_are_written_in_theirs(source, make, data):
    photos(source, "a.jpg b.jpg")
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
    ((_, *box),) = boxes_of(data.parent.parent / "coco/data/annotations/dataset.json")
    assert box == ["dog", BOX]


def test_cameras_in_pixels_are_scaled(make_with_files):
    """Cityscapes' beside each picture."""
    name = "camera/a_camera.json"
    before = {name: {"intrinsic": {"fx": 700.0, "fy": 710.0, "u0": 20.0, "v0": 15.0}}}
    after = make_with_files("leftImg8bit/a_leftImg8bit.png", before, size=15)
    assert after[name]["intrinsic"] == {"fx": 350, "fy": 355, "u0": 10, "v0": 7.5}
