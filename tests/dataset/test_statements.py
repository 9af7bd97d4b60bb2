"""What lists and tables say of pictures, in outputs that have no place for such files: splits that no folder says,
labels of each picture, COCO's boxes.
"""

import json

import numpy as np
import pytest
from PIL import Image
from samples import boxes_of, mask, members, opened, photo, photos, recognised, text

LISTS = {
    "VOC's": {f"ImageSets/Main/{n}.txt": t for n, t in (("train", "a\n"), ("val", "b\n"), ("trainval", "a\nb\n"))},
    "with classes": {"train.txt": "images/a.jpg 0\n", "val.txt": "images/b.jpg 1\n"},
    "in other words": {"x.trainImages.txt": "a.jpg\n", "x.valImages.txt": "b.jpg\n"},
    "CelebA's": {"list_eval_partition.txt": "a.jpg 0\nb.jpg 1\n"},
    "CelebA's on Kaggle": {"list_eval_partition.csv": "image_id,partition\na.jpg,0\nb.jpg,1\n"},
    "a column": {"all.csv": "file,split,species\na.jpg,train,cat\nb.jpg,val,dog\n"},
}


@pytest.mark.parametrize("case", LISTS)
@pytest.mark.parametrize("target", ["webdataset", "coco"])
def test_splits_by_lists_do_not_mix(source, make, data, case, target):
    photos(source, "images/a.jpg images/b.jpg")
    for name, content in LISTS[case].items():
        text(source / name, content)
    rows = {row["key"]: row["split"] for row in make(target) if row["status"] == "ok"}
    assert rows == {"images/a.jpg": "train", "images/b.jpg": "val"}
    if target == "coco":
        for split, name in (("train", "a"), ("val", "b")):
            images = json.loads((data / f"annotations/{split}.json").read_text())["images"]
            assert [image["file_name"] for image in images] == [f"{name}.jpg"]


def test_numbered_pictures_in_lists(source, make, data):
    """CUB-200: splits, classes and boxes by numbers; classes.txt numbers something else."""
    photos(source, "images/001.Black/B.jpg images/002.White/W.jpg")
    text(source / "images.txt", "1 001.Black/B.jpg\n2 002.White/W.jpg\n")
    text(source / "train_test_split.txt", "1 0\n2 1\n")
    text(source / "classes.txt", "1 001.Black\n2 002.White\n")
    text(source / "image_class_labels.txt", "1 7\n2 8\n")
    rows = [row for row in make("webdataset", copies=2) if row["status"] == "ok"]
    assert {(row["key"][-5:], row["split"]) for row in rows} == {("B.jpg", "test"), ("W.jpg", "train")}
    assert json.loads(members(data)["images/001.Black/B~2.image_class_labels.json"])["label"] == "7"
    make(output="tree", copies=2)
    tree = data.parent.parent / "tree/data"
    assert (tree / "classes.txt").read_text() == (source / "classes.txt").read_text()


BOX = [10.0, 12.0, 8.0, 6.0]
VIA = {
    "shape_attributes": {"name": "rect", "x": 10, "y": 12, "width": 8, "height": 6},
    "region_attributes": {"c": "cat"},
}
CVAT = '<image name="a.jpg" width="40" height="30"><box label="cat" xtl="10" ytl="12" xbr="18" ybr="18"/></image>'
CREATE = {"label": "cat", "coordinates": {"x": 14, "y": 15, "width": 8, "height": 6}}
PERCENT = {"x": 25, "y": 40, "width": 20, "height": 20, "rectanglelabels": ["cat"]}
STUDIO = {"original_width": 40, "original_height": 30, "value": PERCENT}
TABLES = {
    "via.json": {"a.jpg123": {"filename": "a.jpg", "size": 123, "regions": [VIA]}},
    "annotations.xml": f"<annotations>{CVAT}</annotations>",
    "createml.json": [{"image": "a.jpg", "annotations": [CREATE]}],
    "studio.json": [{"data": {"image": "/data/upload/1/a.jpg"}, "annotations": [{"result": [STUDIO]}]}],
    "boxes.csv": "image,label,x_1,y_1,width,height\na.jpg,cat,10,12,8,6\n",
    "wheat.csv": 'image_id,bbox,class\na,"[10.0, 12.0, 8.0, 6.0]",cat\n',
    "via.csv": (
        "filename,file_size,region_count,region_id,region_shape_attributes,region_attributes\n"
        'a.jpg,123,1,0,"{""name"":""rect"",""x"":10,""y"":12,""width"":8,""height"":6}","{""c"":""cat""}"\n'
    ),
    "openimages.csv": "ImageID,Label,XMin,XMax,YMin,YMax\na,cat,0.25,0.45,0.4,0.6\nb,dog,.1,.2,.1,.2\n",
    "bdd.json": [{"name": "a.jpg", "labels": [{"category": "cat", "box2d": {"x1": 10, "y1": 12, "x2": 18, "y2": 18}}]}],
    "people.odgt": '{"ID": "a", "gtboxes": [{"tag": "cat", "fbox": [10, 12, 8, 6]}]}\n',
    "fiftyone.json": {"labels": {"a": [{"label": "cat", "bounding_box": [0.25, 0.4, 0.2, 0.2]}]}},
    "ade.json": [{"filename": "a.jpg", "object": [{"name": "cat", "polygon": {"x": [10, 18, 18], "y": [12, 12, 18]}}]}],
    "short.json": [{"image": "a.jpg", "label": [PERCENT | {"original_width": 40, "original_height": 30}]}],
    "corners.csv": "image,xmin,ymin,xmax,ymax\na.jpg,10,12,18,18\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_boxes_of_tables_become_cocos(source, make, data, name):
    photo(source / "images/a.jpg")
    photo(source / "images/b.jpg")
    text(source / name, TABLES[name])
    make("coco")
    boxes = [box for picture, *box in boxes_of(data / "annotations/dataset.json") if picture == "a.jpg"]
    assert boxes == [["object" if name == "corners.csv" else "cat", pytest.approx(BOX)]]


def test_labelboxes_outlines_become_cocos_and_boxes_have_none(source, make, data):
    photo(source / "a.jpg")
    outline = {"name": "dog", "polygon": [{"x": 10, "y": 12}, {"x": 18, "y": 12}, {"x": 18, "y": 18}]}
    box = {"name": "cat", "bounding_box": {"top": 12, "left": 10, "height": 6, "width": 8}}
    record = {"data_row": {"external_id": "a.jpg"}, "projects": {"p": {"labels": [{"objects": [outline, box]}]}}}
    text(source / "export.ndjson", json.dumps(record) + "\n")
    make("coco")
    assert boxes_of(data / "annotations/dataset.json") == [("a.jpg", "dog", BOX), ("a.jpg", "cat", BOX)]
    annotations = json.loads((data / "annotations/dataset.json").read_text())["annotations"]
    assert [item.get("segmentation") for item in annotations] == [[[10, 12, 18, 12, 18, 18]], None]


def test_places_that_do_not_become_cocos_are_said(source, make, capsys):
    photo(source / "a.jpg")
    text(source / "boxes.txt", "a.jpg 10,12,18,18,0\n")
    make("coco")
    assert ".boxes.json" in capsys.readouterr().out


def test_captions_of_lists(source, make, data):
    photos(source, "images/a.jpg images/b.jpg")
    text(source / "tokens.txt", "a.jpg#0\tA child .\na.jpg#1\tA girl .\nb.jpg#0\tA dog .\n")
    text(source / "captions.txt", 'image,caption\na.jpg,"Two, three ."\n')
    make("webdataset")
    contents = members(data)
    assert [record["text"] for record in json.loads(contents["images/a.tokens.json"])] == ["A child .", "A girl ."]
    assert json.loads(contents["images/a.captions.json"])["caption"] == "Two, three ."
    make("coco", output="coco")
    content = json.loads((data.parent.parent / "coco/data/annotations/captions_dataset.json").read_text())
    captions = {annotation["caption"] for annotation in content["annotations"]}
    assert captions == {"A child .", "A girl .", "Two, three .", "A dog ."}


BOXES, KINDS = "image_name,label,x1,y1,x2,y2\na.jpg,3,{}\n", "image_name kind count size weight\na.jpg {}\n"
LISA = "Filename;Upper left corner X;Upper left corner Y;Lower right corner X;Lower right corner Y;frame\na.jpg;{};7\n"
GTSRB = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\na.jpg;{};3\n"
FASHION = "1\nimage_name clothes_type landmark_visibility_1 landmark_location_x_1 landmark_location_y_1\na.jpg 4 2 {}\n"
SHARES = "image\tXmin\tYmin\tXmax\tYmax\na.jpg\t{}\n"
SCALED = {  # what a file says of a.jpg: its form, its places before, and once the picture is scaled by a half
    "corners": ("list.csv", "filename,xmin,ymin,xmax,ymax,class\na.jpg,{},cat\n", "10,12,18,18", "5,6,9,9"),
    "corners by numbers": ("list.csv", "image_id,x1,y1,x2,y2,label\na,{},cat\n", "10,12,18,18", "5,6,9,9"),
    "the picture last": ("list.csv", "class,x_min,y_min,x_max,y_max,img\ncat,{},a.jpg\n", "10,12,18,18", "5,6,9,9"),
    "sides": ("list.csv", "image,left,top,right,bottom\na.jpg,{}\n", "10.5,12,18,18", "5.25,6,9,9"),
    "in a cell": ("list.csv", 'image,bbox\na.jpg,"[{}]"\n', "10, 12, 18, 18", "5, 6, 9, 9"),
    "shares": ("list.tsv", SHARES, ".25\t.4\t.45\t.6", ".25\t.4\t.45\t.6"),
    "shares: all of it": ("list.tsv", SHARES, "0\t0\t1\t1", "0\t0\t1\t1"),
    "a class before the box": ("list.txt", BOXES, "10,12,18,18", "5,6,9,9"),
    "numbers that are no places": ("list.txt", KINDS, "2 20 30 40", "2 20 30 40"),
    "numbers in fives, with commas": ("list.txt", "a.jpg {}\n", "10,12,18,18,0 2,2,8,8,1", "5,6,9,9,0 1,1,4,4,1"),
    "a word behind four numbers": ("list.txt", "a.jpg {} cat\nb.jpg {} dog\n", "2 2 8 8", "1 1 4 4"),
    "landmarks": ("list.txt", "a.jpg {}\n", "10 12 20 12 14 16 10 20 18 20", "5 6 10 6 7 8 5 10 9 10"),
    "landmarks in columns": ("list.csv", "image_id,lefteye_x,lefteye_y\na.jpg,{}\n", "10,12", "5,6"),
    "Tiny ImageNet's": ("val_annotations.txt", "a.jpg\tn01\t{}\n", "10\t12\t18\t18", "5\t6\t9\t9"),
    "DeepFashion's landmarks": ("list.txt", FASHION, "10 12", "5 6"),
    "LISA's": ("list.csv", LISA, "10;12;18;18", "5;6;9;9"),
    "GTSRB's": ("list.csv", GTSRB, "40;30;10;12;18;18", "20;15;5;6;9;9"),
}


@pytest.mark.parametrize("case", SCALED)
def test_places_in_lists_are_scaled(make_with_files, case):
    name, form, before, after = SCALED[case]
    pictures = "a.jpg b.jpg" if "b.jpg" in form else "a.jpg"
    assert make_with_files(pictures, {name: form.replace("{}", before)}, size=15) == {name: form.replace("{}", after)}


def test_keys_and_ids_of_copies_are_their_own(make_with_files):
    """VIA's list of keys names the copies; CVAT's ids are unique, though one has the digits of another's and more."""
    images = "".join(f'<image id="{number}" name="{name}.jpg"/>' for name, number in (("a", 1), ("b", 1001)))
    before = {
        "via.json": {"_via_img_metadata": TABLES["via.json"], "_via_image_id_list": ["a.jpg123"]},
        "annotations.xml": f"<annotations>{images}</annotations>",
    }
    after = make_with_files("a.jpg b.jpg", before, copies=2)
    via = after["via.json"]
    assert via["_via_image_id_list"] == list(via["_via_img_metadata"]) == ["a~1.jpg123", "a~2.jpg123"]
    ids = [part.split('"')[1] for part in after["annotations.xml"].split("<image id=")[1:]]
    assert len(ids) == len(set(ids)) == 4


def test_json_lines_of_any_suffix(make_with_files):
    line = '{{"ID": "{}", "gtboxes": [{{"hbox": {}}}]}}\n'
    after = "".join(line.format(f"a~{n}", [5, 6, 4, 3]) for n in (1, 2))
    assert make_with_files("a.jpg", {"people.odgt": line.format("a", [10, 12, 8, 6])}, copies=2, size=15) == {
        "people.odgt": after
    }


def test_lvis_names_pictures_by_their_url(make_with_files):
    url = "http://images.cocodataset.org/train2017/{}.jpg"
    annotation = {"id": 1, "image_id": 1, "bbox": [10, 12, 8, 6], "category_id": 1}
    image = {"id": 1, "coco_url": url.format(1), "width": 40, "height": 30}
    content = {"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "cat"}], "info": {}}
    (after,) = make_with_files("train2017/1.jpg", {"lvis_v1_train.json": content}, "coco", copies=2, size=15).values()
    assert [image["coco_url"] for image in after["images"]] == [url.format("1~1"), url.format("1~2")]
    assert {tuple(annotation["bbox"]) for annotation in after["annotations"]} == {(5, 6, 4, 3)}
    assert len({image["id"] for image in after["images"]}) == 2


@pytest.mark.parametrize("width", [2, 3])
def test_yolos_poses_become_cocos(source, make, data, width):
    photo(source / "images/train/a.jpg")
    points = [[0.45, 0.45, 2][:width], [0.55, 0.55, 1][:width]]
    row = " ".join(map(str, [0, 0.35, 0.5, 0.2, 0.2, *points[0], *points[1]]))
    text(source / "labels/train/a.txt", row + "\n")
    text(source / "data.yaml", f"train: images/train\nkpt_shape: [2, {width}]\nnames: [cat]\n")
    make("coco")
    (annotation,) = json.loads((data / "annotations/train.json").read_text())["annotations"]
    assert annotation["bbox"] == pytest.approx(BOX)
    assert annotation["keypoints"] == pytest.approx([18, 13.5, 2, 22, 16.5, 1 if width == 3 else 2])


def test_folders_of_img2dataset_are_no_classes(source, make):
    for part in ("00000", "00001"):
        photo(source / part / f"{part}0000.jpg")
        text(source / f"{part}_stats.json", {"count": 1})
    assert {row["label"] for row in make("webdataset")} == {None}


def test_a_list_means_the_photo_where_a_mask_is_called_as_it_is(source, make, data):
    for split in ("training", "validation"):
        photo(source / f"images/{split}/{split}_1.jpg")
        mask(source / f"annotations/{split}/{split}_1.png")
    text(source / "sceneCategories.txt", "training_1 airport\nvalidation_1 bar\n")
    make("webdataset")
    labels = members(data)["images/training/training_1.sceneCategories.json"]
    assert json.loads(labels)["label"] == "airport"


def test_labels_of_one_split_are_not_those_of_another(source, make, data):
    """ICDAR: pictures of both splits are called alike; eight numbers and a text are scaled."""
    for split, caption in (("training", "Hello"), ("test", "Bye, bye")):
        photo(source / f"ch4_{split}_images/img_1.jpg")
        text(source / f"ch4_{split}_gt/gt_img_1.txt", f"10,12,18,12,18,18,10,18,{caption}\n")
    make("webdataset", size=15)
    assert {name: content.decode() for name, content in members(data).items() if name.endswith("txt")} == {
        "ch4_training_images/img_1.gt.txt": "5,6,9,6,9,9,5,9,Hello\n",
        "ch4_test_images/img_1.gt.txt": "5,6,9,6,9,9,5,9,Bye, bye\n",
    }


def test_masks_three_folders_deep_follow(source, make, data):
    """BDD100K: labels/sem_seg/masks/train of images/100k/train."""
    for split in ("train", "val"):
        photo(source / f"images/100k/{split}/{split}.jpg")
        mask(source / f"labels/sem_seg/masks/{split}/{split}.png")
    make(copies=2)
    names = sorted(path.name for path in (data / "labels").rglob("*.png"))
    assert names == ["train~1.png", "train~2.png", "val~1.png", "val~2.png"]


@pytest.mark.parametrize("form", ["folders", "lists"])
def test_data_yaml_says_the_splits(source, make, form):
    for name in ("fit", "check"):
        photo(source / f"{name}/images/{name}.jpg")
        text(source / f"{name}/labels/{name}.txt", "0 .5 .5 .2 .2\n")
        text(source / f"{name}.txt", f"./{name}/images/{name}.jpg\n")
    places = {"folders": ("../fit/images", "../check/images"), "lists": ("fit.txt", "check.txt")}[form]
    text(source / "data.yaml", f"train: {places[0]}\nval: {places[1]}\nnames: [cat]\n")
    rows = {row["key"]: row["split"] for row in make("webdataset") if row["status"] == "ok"}
    assert rows == {"check/images/check.jpg": "val", "fit/images/fit.jpg": "train"}


@pytest.mark.parametrize(("form", "names"), [("instances_{}", ("train", "val")), ("boxes_{}", ("fit", "check"))])
def test_cocos_files_are_splits_also_in_words_of_their_own(source, make, form, names):
    for number, name in enumerate(names, 1):
        photo(source / f"images/{name}.jpg")
        image = {"id": number, "file_name": f"{name}.jpg"}
        text(source / f"annotations/{form.format(name)}.json", {"images": [image], "annotations": [], "categories": []})
    splits = {row["key"]: row["split"] for row in make("webdataset")}
    assert splits == {f"images/{name}.jpg": name for name in names}


def test_lists_among_annotations_follow(source, make_with_files):
    """Oxford's pets: annotations/list.txt, among what carry names."""
    for name in ("cat_1", "dog_2"):
        mask(source / f"annotations/trimaps/{name}.png")
    before = {"annotations/list.txt": "cat_1 1 1 1\ndog_2 2 2 1\n"}
    (after,) = make_with_files("images/cat_1.jpg images/dog_2.jpg", before, copies=2).values()
    assert [line.split()[0] for line in after.splitlines()] == ["cat_1~1", "cat_1~2", "dog_2~1", "dog_2~2"]


def test_names_without_suffix_in_lists_of_json(source, make, data):
    """Food-101; its classes are not called after images/, though meta/ lies beside it."""
    photos(source, "images/pie/1.jpg images/sushi/2.jpg")
    text(source / "meta/train.json", {"pie": ["pie/1"]})
    rows = make(copies=2)
    assert {row["label"] for row in rows if row["status"] == "ok"} == {"pie", "sushi"}
    assert json.loads((data / "meta/train.json").read_text()) == {"pie": ["pie/1~1", "pie/1~2"]}


def test_numbers_of_all_pictures_in_one_folder_name_them(make_with_files):
    """CIFAR-10 on Kaggle: train and test beside each other."""
    before = {"trainLabels.csv": "id,label\n1,frog\n2,cat\n", "years.csv": "year,count\n1,1\n9,2\n"}
    after = make_with_files("train/1.png train/2.png test/3.png test/4.png", before, copies=2)
    assert after["trainLabels.csv"] == "id,label\n1~1,frog\n1~2,frog\n2~1,cat\n2~2,cat\n"
    assert after["years.csv"] == before["years.csv"]


PAIRS = [("low", "high"), ("blur", "sharp"), ("rain", "clean"), ("hazy", "GT"), ("lq", "gt"), ("LR", "HR")]


@pytest.mark.parametrize("form", ["{pair}/{name}.png", "our485/{pair}/{name}.png", "{pair}/train/{name}.png"])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_targets_by_the_names_of_two_folders_are_copied(source, make, data, pair, form):
    photos(source, " ".join(form.format(pair=folder, name=name) for folder in pair for name in (1, 2)))
    assert opened(source).kind in ("pairs", "masks")
    rows = make(copies=2)
    assert {row["key"] for row in rows} == {form.format(pair=pair[0], name=name) for name in (1, 2)}
    target = form.format(pair=pair[1], name="1")
    assert (data / target.replace(".png", "~2.png")).read_bytes() == (source / target).read_bytes()
    make("webdataset", output="archives")
    own, name = form.format(pair=pair[0], name=1), f"{pair[1]}.png"
    assert members(data.parent.parent / "archives/data")[own.replace("png", name)] == (source / target).read_bytes()


def test_one_target_of_two_inputs_follows_both_and_is_scaled_as_photos_are(source, make, data):
    photos(source, "train/GOPR1/blur/1.png train/GOPR1/blur_gamma/1.png train/GOPR1/sharp/1.png")
    rows = make(size=15)
    assert {row["key"] for row in rows} == {f"train/GOPR1/{folder}/1.png" for folder in ("blur", "blur_gamma")}
    expected = Image.open(source / "train/GOPR1/sharp/1.png").resize((20, 15), Image.Resampling.LANCZOS)
    for row in rows:
        target = Image.open(data / row["output"].replace("blur_gamma", "sharp").replace("blur", "sharp"))
        assert target.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("folders", "is_doubtful"),
    [
        (("x", "y"), True),  # called alike, two folders
        (("x", "y", "z"), False),
        (("trainA", "trainB"), False),
        (("A", "B"), True),
        (("rain", "norain"), True),  # the names say it, but the pictures have others
    ],
)
def test_pairs_that_nothing_says_are_doubted(source, folders, is_doubtful):
    for folder in folders:
        for name in (1, 2):
            photo(source / folder / f"{'' if folder != 'norain' else 'norain-'}{name}.png")
    inventory = recognised(source)
    assert inventory.pictures == 2 * len(folders)  # all are stylized
    assert ("carry=" in inventory.line()) is is_doubtful


@pytest.mark.parametrize("kind", ["folder", "classes"])
def test_layouts_without_pairs_stylize_both(source, kind):
    photos(source, "low/1.png high/1.png")
    assert [sample.key for sample in opened(source, kind).samples()] == ["high/1.png", "low/1.png"]


def test_kittis_boxes_and_projections_are_scaled(source, make, data):
    """A point's pixel by the scaled projection is its old one, scaled; other matrices and metres stay."""
    photo(source / "training/image_2/000000.png")
    text(source / "training/label_2/000000.txt", "Car 0 0 -1.5 10 12 18 18 1.6 1.8 3.9 2.8 1.5 8.4 0.01\n")
    projection = np.array([[700, 0, 20, 44], [0, 710, 15, 2], [0, 0, 1, 0.003]])
    rest = "R0_rect: 1 0 0 0 1 0 0 0 1\nTr_velo_to_cam: 1 0 0 5 0 1 0 6 0 0 1 7\n"
    numbers = " ".join(f"{number:.12e}" for number in projection.ravel())
    text(source / "training/calib/000000.txt", f"P2: {numbers}\n{rest}")
    make(size=15)
    assert (data / "training/label_2/000000.txt").read_text().split()[4:9] == ["5", "6", "9", "9", "1.6"]
    line, _, left = (data / "training/calib/000000.txt").read_text().partition("\n")
    scaled, point = np.array(line.split()[1:], float).reshape(3, 4), [1, 2, 30, 1]
    assert left == rest
    old, new = (matrix @ point for matrix in (projection, scaled))
    assert new[:2] / new[2] == pytest.approx(old[:2] / old[2] / 2)
    make("webdataset", output="archives")
    suffixes = {name.partition(".")[2] for name in members(data.parent.parent / "archives/data")}
    assert suffixes == {"png", "txt", "calib.txt"}
