"""The quickstart's promise, measured: minutes on two cores, style plain to see by number, content kept.

Slow (about four minutes): run by hand with  tools/test -m slow
"""

import json
import subprocess
import sys
import time

import pytest
import torch

from gan_style.demo import demo_pictures
from gan_style.evaluation.suite import content_distance
from gan_style.images.decode import decode, to_float
from gan_style.models.perceptual import compact
from gan_style.stylize.model import load_generator


@pytest.mark.slow
def test_the_quickstart_ends_within_five_minutes_with_the_style_on_held_out_photos(tmp_path):
    begin = time.monotonic()
    command = [sys.executable, "-m", "gan_style.commands.train", "experiment=quickstart", f"run.root={tmp_path}"]
    subprocess.run(command, check=True)
    assert time.monotonic() - begin <= 300
    rows = [json.loads(line) for line in (tmp_path / "quickstart" / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if "heldout/style_ratio" in row][-1]
    assert last["heldout/style_ratio"] <= 0.35
    assert_each_result_is_nearest_to_its_own_photo(load_generator(tmp_path / "quickstart", torch.device("cpu")))


@torch.no_grad()
def assert_each_result_is_nearest_to_its_own_photo(generator: torch.nn.Module) -> None:
    photos = [to_float(decode(path, short_side=256)[None])[..., :256] for path in demo_pictures("heldout")]
    perceptual = compact(layers=["relu3_2"])
    for own, photo in enumerate(photos):
        result = generator(photo)
        distances = [content_distance(perceptual, result, other, ["relu3_2"]) for other in photos]
        assert min(distances) == distances[own], distances
