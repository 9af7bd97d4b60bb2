"""gan_style/regions and stylize/regions.py: names, segmenters, refined masks, and what a mask option means."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from gan_style.regions.names import TABLES, numbers_of, read_table
from gan_style.regions.segment import (
    MaskRegions,
    NamedMasks,
    PictureRegions,
    cluster,
    joint_bilateral_shares,
    make_segmenter,
    read_class_mask,
    refine,
)
from gan_style.stylize.regions import auto_masks, find_masks, plan_masks


def halves(height: int = 64, width: int = 96) -> torch.Tensor:
    """Bright above, dark and noisy below."""
    picture = torch.randint(0, 60, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    picture[:, : height // 2] = torch.tensor([120, 180, 250], dtype=torch.uint8)[:, None, None]
    return picture


def test_tables_have_the_numbers_of_their_data_sets():
    assert TABLES["voc"][15] == "person" and len(TABLES["voc"]) == 21
    assert TABLES["cityscapes"][23] == "sky" and TABLES["cityscapes_train"][10] == "sky"
    assert TABLES["coco_panoptic"][187] == "sky-other-merged" and TABLES["coco_panoptic"][90] == "toothbrush"
    assert len(TABLES["coco_panoptic"]) == 133


def test_a_name_is_found_however_it_is_written_and_by_what_stands_before_a_hyphen():
    assert numbers_of("Potted_Plant", TABLES["voc"], "mask") == numbers_of("pottedplant", TABLES["voc"], "mask") == [16]
    assert numbers_of("sky", TABLES["coco_panoptic"], "mask") == [187]
    assert numbers_of("wall", TABLES["coco_panoptic"], "mask") == [171, 175, 176, 177, 199]
    with pytest.raises(ValueError, match=r"mask\.monet=persn: .*did you mean person"):
        numbers_of("persn", TABLES["voc"], "mask.monet")


def test_tables_in_files(tmp_path):
    (tmp_path / "names.txt").write_text("floor\nceiling\n")
    (tmp_path / "names.json").write_text(json.dumps({"7": "lake"}))
    assert read_table(str(tmp_path / "names.txt"))[0] == {0: "floor", 1: "ceiling"}
    assert read_table(str(tmp_path / "names.json"))[0] == {7: "lake"}
    (tmp_path / "bad.json").write_text("{")
    for spec, message in {str(tmp_path / "bad.json"): "not a table of names", "vok": "did you mean voc"}.items():
        with pytest.raises(ValueError, match=message):
            read_table(spec)


def test_clusters_are_the_groups_that_there_are_from_the_top():
    features = torch.zeros(3, 6, 4)
    features[0, :3] = 5.0
    features[-2] = torch.linspace(-1, 1, 6)[:, None]
    centres = cluster(features, 2)
    assert centres[0].tolist() == pytest.approx([5.0, -0.6, 0.0]) and centres[1].tolist() == pytest.approx([0, 0.6, 0])


def test_a_band_along_an_edge_goes_to_the_sides_by_colour():
    """Two halves of a picture, and between them a region that is narrower than one with places inside."""
    image = torch.full((1, 3, 96, 96), 0.8)
    image[:, :, 48:] = -0.8
    numbers = torch.zeros(12, 12, dtype=torch.long)
    numbers[6:8], numbers[8:] = 2, 1
    shares = joint_bilateral_shares(numbers, 3, image)
    assert shares.shape == (1, 3, 24, 24) and shares.sum(dim=1).allclose(torch.ones(1, 24, 24))
    assert shares[0, 0, :12].min() > 0.99 and shares[0, 1, 12:].min() > 0.99
    assert joint_bilateral_shares(torch.zeros(2, 2, dtype=torch.long), 1, image).min() == 1


def test_the_picture_s_own_regions_are_its_two_halves():
    named = NamedMasks(PictureRegions(2), {"monet": ["1"], "wave": ["2"]})
    masks = named(halves())
    assert masks["monet"][:26].float().mean() > 250 and masks["wave"][38:].float().mean() > 250
    assert (masks["monet"].int() + masks["wave"].int() == 255).all()


def test_refined_masks_follow_the_picture_s_edge_and_are_exactly_nothing_beyond_it():
    shares = torch.zeros(1, 1, 8, 12)
    shares[:, :, :5] = 1.0  # one cell of eight rows too far
    mask = refine(halves(), shares)[0].float() / 255
    assert mask[:31].mean() > 0.9
    assert (mask[56:] == 0).all()


@pytest.mark.parametrize("kind", ["palette", "grey", "deep"])
def test_class_index_masks_are_read_as_they_are_stored(tmp_path, kind):
    numbers = np.zeros((40, 60), np.uint16)
    numbers[:20] = 15
    picture = Image.fromarray(numbers if kind == "deep" else numbers.astype(np.uint8))
    if kind == "palette":
        picture.putpalette(list(range(256)) * 3)
    picture.save(tmp_path / "a.png")
    assert torch.equal(read_class_mask(tmp_path / "a.png"), torch.from_numpy(numbers.astype(np.int32)))
    masks = NamedMasks(MaskRegions("voc"), {"wave": ["person"]})(halves(40, 60), tmp_path / "a.png")
    assert (masks["wave"][:17] == 255).all() and (masks["wave"][23:] == 0).all()


def test_panoptic_masks_are_read_with_coco_s_table(tmp_path):
    Image.fromarray(np.full((4, 6, 3), (1, 2, 0), np.uint8)).save(tmp_path / "a.png")
    table = {
        "categories": [{"id": 187, "name": "sky-other-merged"}],
        "annotations": [{"file_name": "a.png", "segments_info": [{"id": 513, "category_id": 187}]}],
    }
    (tmp_path / "t.json").write_text(json.dumps(table))
    assert (MaskRegions(str(tmp_path / "t.json"))(halves(4, 6), [[187]], tmp_path / "a.png") == 1).all()


def test_class_index_masks_of_another_shape_are_refused(tmp_path):
    Image.new("L", (30, 30)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="30 x 30 pixels, but the picture's is 96 x 64"):
        MaskRegions("voc")(halves(), [[0]], tmp_path / "a.png")


NETWORK = "lraspp_mobilenet_v3_large"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """weights(classes, predicted): weights with which the network predicts one class everywhere; an empty cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def make(classes: int, predicted: int, name: str = "weights.pth"):
        from torchvision.models.segmentation import lraspp_mobilenet_v3_large

        network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes)
        state = {key: torch.zeros_like(value) for key, value in network.state_dict().items()}
        state["classifier.high_classifier.bias"][predicted] = 20.0
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, tmp_path / name)
        return str(tmp_path / name)

    return make


@pytest.mark.parametrize("cached", [False, True])
def test_a_network_of_torchvision_sees_its_classes_by_name(weights, cached):
    if cached:
        weights(21, 15, "hub/checkpoints/lraspp_mobilenet_v3_large-d234d4ea.pth")
    source = make_segmenter(network=NETWORK, weights=None if cached else weights(21, 15))
    masks = NamedMasks(source, {"monet": ["Person"], "wave": ["dog", "cat"]})(halves())
    assert masks["monet"].min() == 255 and masks["wave"].max() == 0
    assert source(halves(), [[15], [n for n in range(21) if n != 15]]).sum(dim=1).allclose(torch.ones(1, 64, 96))
    with pytest.raises(ValueError, match="did you mean person"):
        NamedMasks(source, {"monet": ["persn"]})


def test_a_network_with_classes_of_its_own_has_a_table_of_names(weights, tmp_path):
    (tmp_path / "names.txt").write_text("lake\nmeadow\n")
    source = make_segmenter(network=NETWORK, weights=weights(2, 1), names=str(tmp_path / "names.txt"))
    assert NamedMasks(source, {"": ["meadow"]})(halves())[""].min() == 255
    with pytest.raises(ValueError, match=r"2 classes, but segmentation\.names=voc has 21"):
        make_segmenter(network=NETWORK, weights=weights(2, 1))


def test_weights_that_are_not_there_or_do_not_fit_are_named(weights, tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    (tmp_path / "text.pth").write_text("no weights")
    for network, file, message in [
        (NETWORK, None, r"could not be downloaded \(no route\).*segmentation\.weights=PATH"),
        (NETWORK, str(tmp_path / "none.pth"), r"segmentation\.weights=.*none\.pth"),
        (NETWORK, str(tmp_path / "text.pth"), r"segmentation\.weights=.*text\.pth"),
        ("fcn_resnet50", weights(21, 0), r"segmentation\.weights=.*do not fit"),
        ("fcn_resnet5", None, "did you mean fcn_resnet50"),
    ]:
        with pytest.raises(ValueError, match=message):
            make_segmenter(network=network, weights=file)
    with pytest.raises(ValueError, match=r"segmentation\.network=\.\.\."):
        make_segmenter(weights="a.pth")


def test_a_region_has_one_style():
    with pytest.raises(ValueError, match="person is given to monet and to wave"):
        NamedMasks(MaskRegions("voc"), {"monet": ["person"], "wave": ["person", "dog"]})


def test_what_mask_options_mean(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = plan_masks({"monet": "sky.png", "wave": [1, "2"], "dots": "rest"}, by_name=False)
    assert (plan.files, plan.names, plan.rest) == ({"monet": "sky.png"}, {"wave": ["1", "2"]}, "dots")
    assert plan_masks("sky", by_name=True).names == {"": ["sky"]}
    assert auto_masks(["monet", "wave"], None) == ({"monet": 1, "wave": 2}, 2)
    for options, message in {
        "sky": "mask=sky: there is no such file or folder.*numbers from the top",
        "rest": "mask=rest",
    }.items():
        with pytest.raises(ValueError, match=message):
            plan_masks(options, by_name=False)
    with pytest.raises(ValueError, match="regions=3"):
        auto_masks(["monet", "wave"], 3)
    with pytest.raises(ValueError, match=r"segmentation\.names=\.\.\. is missing"):
        make_segmenter(masks="folder")


def test_the_rest_is_what_the_others_leave_and_an_empty_region_is_warned_of(tmp_path):
    Image.new("L", (96, 64), 255).save(tmp_path / "void.png")
    plan = plan_masks({"monet": "person", "wave": "rest"}, by_name=True)
    named = NamedMasks(MaskRegions("voc"), plan.names)
    with pytest.warns(UserWarning, match=r"mask\.monet: there is no person"):
        regions = find_masks(plan, lambda *_: torch.empty(0), named, halves(), tmp_path / "void.png", {})
    assert regions is not None and regions.planes[0].max() == 0 and regions.planes[1].min() == 255
