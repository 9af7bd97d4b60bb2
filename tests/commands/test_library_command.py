"""Training many styles in one generator, and beginning with another run's weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from run_files import SMOKE

from gan_style.commands.train import check_styles
from gan_style.runtime.checkpoint import read_generator
from gan_style.stylize.model import load_generator

LIBRARY = (*SMOKE, "generator=library", "data.style={flow: 'demo:styles/flow', tiles: 'demo:styles/mosaic'}")


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("library"), *LIBRARY)


def test_a_library_is_trained_and_measured_style_by_style(run):
    generator = load_generator(run, torch.device("cpu"))
    assert generator.styles == ["flow", "tiles"]
    assert generator(torch.zeros(1, 3, 9, 7), torch.tensor([[0.5, 0.5]])).shape == (1, 3, 9, 7)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = {name: value for row in rows for name, value in row.items()}
    for name in ("content", "style", "style_ratio"):
        each = [last[f"heldout/{style}/{name}"] for style in ("flow", "tiles")]
        assert last[f"heldout/{name}"] == pytest.approx(sum(each) / 2)
    assert last["heldout/flow/style"] != last["heldout/tiles/style"]


def test_the_sheet_shows_every_photo_in_every_style_below_the_styles(run):
    with Image.open(run / "samples" / "step_00000004.jpg") as sheet:
        assert sheet.height == 3 * 64 + 2 * 4  # the styles, two held-out photos, and the gaps
        columns = (sheet.width + 4) / 3 - 4  # nothing, or a photo; flow; tiles
        assert columns == int(columns)


def test_a_library_goes_on_where_it_stopped_bit_for_bit(resumed_as_whole):
    resumed_as_whole(*LIBRARY)


def test_styles_in_another_order_are_another_run(run, gan_style, tmp_path):
    """Their order is that of the generator's rows: the one style would go on under the other's name."""
    shutil.copytree(run, tmp_path / "smoke")
    again = "data.style={tiles: 'demo:styles/mosaic', flow: 'demo:styles/flow'}"
    outcome = gan_style("train", *LIBRARY[:-1], again, f"run.root={tmp_path}", "training.steps=9", status=2)
    assert "order of data.style: flow, tiles there, tiles, flow here" in outcome.err


def test_a_run_begins_with_another_runs_weights(run, gan_style, tmp_path):
    """With hardly any learning rate they are also what it ends with."""
    still = ("optimiser.generator.lr=1e-12", f"training.start={run}", f"run.root={tmp_path}")
    gan_style("train", *LIBRARY, *still)
    before, after = (read_generator(folder / "generator.safetensors")[0] for folder in (run, tmp_path / "smoke"))
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=1e-5, atol=1e-6)  # an average of equals


def test_it_goes_on_without_those_once_it_has_its_own(run, gan_style, tmp_path):
    shutil.copytree(run, tmp_path / "source")
    begun = (*LIBRARY, f"training.start={tmp_path / 'source'}", f"run.root={tmp_path}", "training.decay=constant")
    gan_style("train", *begun, "training.steps=1")
    shutil.rmtree(tmp_path / "source")
    gan_style("train", *begun, "training.steps=2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("data.style=demo:styles/flow",), "data.style=demo:styles/flow: this generator needs names"),
        (("generator=slim",), "data.style names styles (flow, tiles); use generator=library or"),
        (("data.style={flow: nowhere}",), "data.style.flow=nowhere: there is no such folder or file"),
        (("data.full_strength=1.5",), "data.full_strength=1.5; allowed are 0 to 1"),
        (("training.start=nowhere",), "training.start: checkpoint=nowhere: there is no such file or folder"),
        (("training.start=RUN", "generator.width=5"), "styles=['flow', 'tiles'], this run's is"),
    ],
)
def test_what_cannot_be_is_said(run, gan_style, tmp_path, arguments, message):
    arguments = [argument.replace("RUN", str(run)) for argument in arguments]
    assert message in gan_style("train", *LIBRARY, f"run.root={tmp_path}", *arguments, status=2).err
    assert not list(tmp_path.iterdir())


def test_a_styles_name_has_to_fit_where_names_are_written():
    """An experiment's file can hold names that a command line cannot."""
    node = {"data": {"style": {"a b": "x"}}, "generator": {"_target_": "gan_style.models.library.LibraryGenerator"}}
    with pytest.raises(ValueError, match=r"data\.style: 'a b' is no name for a style; allowed are letters"):
        check_styles(OmegaConf.create(node))
