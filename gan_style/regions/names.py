"""What the numbers of class-index masks mean: tables of names, and the classes that a name stands for."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan_style.options import did_you_mean

_VOC = (  # the 21 classes of Pascal VOC 2012, and of torchvision's segmentation networks
    "background aeroplane bicycle bird boat bottle bus car cat chair cow dining_table dog horse motorbike person "
    "potted_plant sheep sofa train tv_monitor"
)
_CITYSCAPES = (  # labelIds, from 0
    "unlabeled ego_vehicle rectification_border out_of_roi static dynamic ground road sidewalk parking rail_track "
    "building wall fence guard_rail bridge tunnel pole polegroup traffic_light traffic_sign vegetation terrain sky "
    "person rider car truck bus caravan trailer train motorcycle bicycle"
)
_CITYSCAPES_TRAIN = (  # trainIds, from 0
    "road sidewalk building wall fence pole traffic_light traffic_sign vegetation terrain sky person rider car truck "
    "bus train motorcycle bicycle"
)
_COCO_PANOPTIC = (  # category ids; a number says where the next names begin to count
    "1 person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant 13 stop_sign "
    "parking_meter bench bird cat dog horse sheep cow elephant bear zebra giraffe 27 backpack umbrella 31 handbag tie "
    "suitcase frisbee skis snowboard sports_ball kite baseball_bat baseball_glove skateboard surfboard tennis_racket "
    "bottle 46 wine_glass cup fork knife spoon bowl banana apple sandwich orange broccoli carrot hot_dog pizza donut "
    "cake chair couch potted_plant bed 67 dining_table 70 toilet 72 tv laptop mouse remote keyboard cell_phone "
    "microwave oven toaster sink refrigerator 84 book clock vase scissors teddy_bear hair_drier toothbrush 92 banner "
    "blanket 95 bridge 100 cardboard 107 counter 109 curtain 112 door-stuff 118 floor-wood flower 122 fruit 125 gravel "
    "128 house 130 light 133 mirror-stuff 138 net 141 pillow 144 platform playingfield 147 railroad river road 151 "
    "roof 154 sand sea shelf 159 snow 161 stairs 166 tent 168 towel 171 wall-brick 175 wall-stone wall-tile wall-wood "
    "water-other 180 window-blind window-other 184 tree-merged fence-merged ceiling-merged sky-other-merged "
    "cabinet-merged table-merged floor-other-merged pavement-merged mountain-merged grass-merged dirt-merged "
    "paper-merged food-other-merged building-other-merged rock-merged wall-other-merged rug-merged"
)


def _table(names: str) -> dict[int, str]:
    table, number = {}, 0
    for word in names.split():
        if word.isdigit():
            number = int(word)
        else:
            table[number] = word.replace("_", " ")
            number += 1
    return table


REST = "rest"  # what no other region has

TABLES: Mapping[str, Mapping[int, str]] = {
    "voc": _table(_VOC),
    "cityscapes": _table(_CITYSCAPES),
    "cityscapes_train": _table(_CITYSCAPES_TRAIN),
    "coco_panoptic": _table(_COCO_PANOPTIC),
}


def read_table(spec: str, option: str = "segmentation.names") -> tuple[dict[int, str], dict[str, dict[int, int]]]:
    """Read a table of names: one of TABLES, or a file.

    A file is text with a name a line, counted from 0; JSON with a list of names or {number: name}; or COCO's JSON, with
    its categories and, where it is of panoptic masks, its annotations. Returns {number: name} and, of annotations,
    {mask's file name: {segment's id: number}}. ValueError for anything else.
    """
    if spec in TABLES:
        return dict(TABLES[spec]), {}
    path = Path(spec).expanduser()
    option = f"{option}={spec}"
    if not path.is_file():
        raise ValueError(f"{option}: neither one of {', '.join(TABLES)} nor a file{did_you_mean(spec.lower(), TABLES)}")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() != ".json":
            return dict(enumerate(line.strip() for line in text.splitlines())), {}
        return _from_json(json.loads(text))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        allowed = "text with a name a line, or JSON with a list, {number: name} or COCO's categories"
        raise ValueError(f"{option}: not a table of names ({error}); known are {allowed}") from error


def _from_json(content: Any) -> tuple[dict[int, str], dict[str, dict[int, int]]]:
    if isinstance(content, list):
        return {number: str(name) for number, name in enumerate(content)}, {}
    if "categories" not in content:
        return {int(number): str(name) for number, name in content.items()}, {}
    segments = {
        row["file_name"]: {segment["id"]: segment["category_id"] for segment in row["segments_info"]}
        for row in content.get("annotations", [])
        if "segments_info" in row
    }
    return {row["id"]: row["name"] for row in content["categories"]}, segments


def numbers_of(name: str, table: Mapping[int, str], option: str) -> list[int]:
    """List the classes that a name stands for: those called so, or so with more behind a hyphen (sky-other-merged).

    Neither case nor spaces nor underscores matter. ValueError, with the nearest names, for a name without a class.
    """
    plain_name = _plain(name)
    heads = {number: [_plain(label), *_heads(label)] for number, label in table.items()}
    numbers = [number for number, labels in heads.items() if plain_name in labels]
    if not numbers:
        allowed = ", ".join([REST, *table.values()])
        hint = did_you_mean(name.lower(), table.values(), most=3)
        raise ValueError(f"{option}={name}: there is no such region{hint}; known are {allowed}")
    return numbers


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9-]", "", name.lower())


def _heads(name: str) -> list[str]:
    """Yield "wall", "wall-other" of wall-other-merged."""
    parts = _plain(name).split("-")
    return ["-".join(parts[:count]) for count in range(1, len(parts))]
