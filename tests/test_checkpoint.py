"""runtime/checkpoint.py and models/registry.py: what is kept, what is fallen back to, and what is refused."""

import json
import pickle
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gan_style.models.generator import ResnetGenerator
from gan_style.models.registry import describe, rebuild
from gan_style.runtime.checkpoint import FORMAT, CheckpointFolder, read_checkpoint, read_generator, write_generator


def no_warning(text: str) -> None:
    raise AssertionError(f"warned of {text}")


def content(step: int) -> dict[str, Any]:
    return {"state": {"step": step, "weights": torch.full((50,), float(step)), "names": ["a", "b"]}, "extra": None}


def folder_with(folder: Path, *steps: int, keep: int = 10) -> CheckpointFolder:
    checkpoints = CheckpointFolder(folder, keep=keep)
    for step in steps:
        checkpoints.save(step, content(step))
    return checkpoints


def steps_of(checkpoints: CheckpointFolder) -> list[int]:
    return [int(re.search(r"\d+", path.name)[0]) for path in checkpoints.paths()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is kept


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = {
        "tensors": {dtype: torch.arange(6).to(getattr(torch, dtype)) for dtype in ("float32", "bfloat16", "int64")},
        "random": torch.get_rng_state(),
        "plain": [1, 2.5, "three", None, True, (4, 5), {"six": {7: 8}}],
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    path = CheckpointFolder(tmp_path).save(3, saved)
    found = read_checkpoint(path)
    assert found["plain"] == saved["plain"]
    assert torch.equal(found["random"], saved["random"])
    assert torch.equal(found["parameter"], saved["parameter"])
    for dtype, tensor in saved["tensors"].items():
        assert found["tensors"][dtype].dtype == tensor.dtype
        assert torch.equal(found["tensors"][dtype], tensor)


def test_an_optimiser_and_its_schedule_come_back(tmp_path: Path) -> None:
    """What a resumed run lives on: Adam's moments pass through a file that may hold no code."""
    layer = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(layer.parameters(), lr=1e-3, betas=(0.5, 0.99))
    layer(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    path = CheckpointFolder(tmp_path).save(1, {"optimiser": optimiser.state_dict()})
    found = read_checkpoint(path)["optimiser"]
    assert found["param_groups"] == optimiser.state_dict()["param_groups"]
    assert torch.equal(found["state"][0]["exp_avg"], optimiser.state_dict()["state"][0]["exp_avg"])


def test_newest_is_by_step_and_not_by_name_or_date(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 99_999_999, 5, 100_000_000, 3_000)
    assert steps_of(checkpoints) == [100_000_000, 99_999_999, 3_000, 5]


def test_other_files_in_the_folder_are_neither_listed_nor_removed(tmp_path: Path) -> None:
    others = ["best.pt", "step_1.pt", "step_00000007.pt.bak", "my_step_00000008.pt", "step_00000009.txt"]
    for name in others:
        (tmp_path / name).write_bytes(b"mine")
    checkpoints = folder_with(tmp_path, 1, 2, 3, keep=1)
    assert steps_of(checkpoints) == [3]
    assert {path.name for path in tmp_path.iterdir()} == {*others, "step_00000003.pt", "manifest.json"}


def test_saving_clears_away_what_a_killed_save_has_left(tmp_path: Path) -> None:
    (tmp_path / ".step_00000001.pt.0123456789abcdef.part").write_bytes(b"half")
    folder_with(tmp_path, 2)
    assert names(tmp_path) == ["manifest.json", "step_00000002.pt"]


def test_a_save_that_fails_leaves_all_that_was_there(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 1, 2, keep=2)
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        checkpoints.save(3, {"state": lambda: None})  # a function cannot be pickled
    assert names(tmp_path) == ["manifest.json", "step_00000001.pt", "step_00000002.pt"]
    assert checkpoints.load_newest(no_warning)[1]["state"]["step"] == 2


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_one_just_saved_is_never_the_one_removed(tmp_path: Path, keep: int) -> None:
    """A run that fell back from damaged checkpoints saves at lower steps than theirs."""
    folder_with(tmp_path, 10)
    for step in (20, 30, 40):
        (tmp_path / f"step_{step:08d}.pt").write_bytes(b"damaged")
    path = CheckpointFolder(tmp_path, keep=keep).save(15, content(15))
    assert path.exists()
    assert read_checkpoint(path)["state"]["step"] == 15


# What is fallen back to


def test_an_empty_or_missing_folder_has_no_newest(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path).load_newest(no_warning) is None
    assert CheckpointFolder(tmp_path / "missing").load_newest(no_warning) is None


DAMAGES = {
    "cut to a half": lambda data: data[: len(data) // 2],
    "cut by a byte": lambda data: data[:-1],
    "cut to ten bytes": lambda data: data[:10],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "noise": lambda data: random.Random(0).randbytes(len(data)),
    "text": lambda data: b"<html>404 not found</html>\n",
    "an instruction without its operand": lambda data: b"a.",
    "a missing middle": lambda data: data[:300] + data[900:],
    "the beginning overwritten": lambda data: bytes(64) + data[64:],
}


def damage(path: Path, kind: str) -> None:
    path.write_bytes(DAMAGES[kind](path.read_bytes()))


def test_two_damaged_ones_are_both_named_and_the_third_is_loaded(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 10, 20, 30)
    damage(tmp_path / "step_00000030.pt", "empty")
    damage(tmp_path / "step_00000020.pt", "noise")
    warnings: list[str] = []
    assert checkpoints.load_newest(warnings.append)[1]["state"]["step"] == 10
    assert [re.search(r"step_\d+", text)[0] for text in warnings] == ["step_00000030", "step_00000020"]


def test_all_damaged_is_an_error_and_never_a_fresh_start(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 10, 20)
    for path in checkpoints.paths():
        damage(path, "cut to a half")
    warnings: list[str] = []
    with pytest.raises(ValueError, match=rf"no checkpoint in {tmp_path} can be read \(2 tried\)"):
        checkpoints.load_newest(warnings.append)
    assert len(warnings) == 2


def test_any_garbage_is_a_value_error_that_names_the_file(tmp_path: Path) -> None:
    rng, path = random.Random(0), tmp_path / "step_00000001.pt"
    for start in (b"", b"\x80\x02", b"PK\x03\x04"):
        for _ in range(60):
            path.write_bytes(start + rng.randbytes(rng.randrange(200)))
            with pytest.raises(ValueError, match=re.escape(str(path))):
                read_checkpoint(path)


def test_a_missing_checkpoint_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"step_00000001\.pt"):
        read_checkpoint(tmp_path / "step_00000001.pt")


# What is refused


class Marks:
    """Makes a file when it is unpickled, as an attacker's checkpoint would."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


def save_zip(value: object, path: Path) -> None:
    torch.save(value, path)


def save_legacy(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def save_bare_pickle(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("write", [save_zip, save_legacy, save_bare_pickle])
def test_a_checkpoint_that_would_run_code_is_refused_and_nothing_has_run(tmp_path: Path, write: Any) -> None:
    marker, path = tmp_path / "marker", tmp_path / "step_00000001.pt"
    write({"format": FORMAT, "state": Marks(marker)}, path)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_checkpoint(path)
    assert not marker.exists()


def test_the_attack_of_these_tests_does_work_where_code_is_let_run(tmp_path: Path) -> None:
    save_zip({"state": Marks(tmp_path / "marker")}, tmp_path / "a.pt")
    torch.load(tmp_path / "a.pt", weights_only=False)["state"].close()
    assert (tmp_path / "marker").exists()


def test_a_generator_file_that_is_a_pickle_is_refused_and_nothing_has_run(tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    save_bare_pickle(Marks(tmp_path / "marker"), path)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_generator(path)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "foreign",
    [{"state_dict": {"w": torch.ones(1)}}, {"format": "gan_style.checkpoint/0"}, [1, 2], torch.ones(3), None],
    ids=["another project's", "another version's", "a list", "a tensor", "nothing"],
)
def test_a_foreign_checkpoint_is_refused(tmp_path: Path, foreign: object) -> None:
    path = tmp_path / "model.pt"
    torch.save(foreign, path)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} was not written by this version.*{FORMAT}"):
        read_checkpoint(path)


# Generator files


def test_a_generator_file_comes_back_as_it_was(tmp_path: Path) -> None:
    weights = {
        "a": torch.randn(4, 3, generator=torch.Generator().manual_seed(0)),
        "b.half": torch.ones(2, dtype=torch.float16),
        "c.turned": torch.arange(6.0).reshape(2, 3).t(),  # not contiguous
        "d.trained": torch.nn.Parameter(torch.zeros(1)),
        "e.none": torch.empty(0),
    }
    description = {"class": "Any", "arguments": {"width": 8, "name": "Ölbild"}, "step": 12}
    write_generator(tmp_path / "g.safetensors", weights, description)
    found, found_description = read_generator(tmp_path / "g.safetensors")
    assert found_description == description
    assert found.keys() == weights.keys()
    for name, tensor in weights.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_a_generator_s_file_is_the_same_for_the_same_weights(tmp_path: Path) -> None:
    weights, description = {"b": torch.ones(3), "a": torch.zeros(2, 2)}, {"class": "X", "arguments": {"z": 1, "a": "é"}}
    files = set()
    for _ in range(20):  # the library orders its metadata by chance
        write_generator(tmp_path / "g.safetensors", weights, description)
        files.add((tmp_path / "g.safetensors").read_bytes())
    assert len(files) == 1
    with safe_open(tmp_path / "g.safetensors", framework="pt") as file:  # the library's own reader
        assert file.metadata()["description"] == json.dumps(description)
        assert {name: file.get_tensor(name).tolist() for name in file.keys()} == {  # noqa: SIM118
            name: tensor.tolist() for name, tensor in weights.items()
        }


def test_the_loaded_weights_do_not_hang_on_the_file(tmp_path: Path) -> None:
    """A run replaces generator.safetensors while something else may have it loaded."""
    path = tmp_path / "g.safetensors"
    write_generator(path, {"a": torch.ones(1000)}, {})
    found, _ = read_generator(path)
    write_generator(path, {"a": torch.zeros(1000)}, {})
    assert torch.equal(found["a"], torch.ones(1000))


@pytest.mark.parametrize("kind", [kind for kind in DAMAGES if kind not in ("a missing middle",)])
def test_a_damaged_generator_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "g.safetensors"
    write_generator(path, {"a": torch.ones(500)}, {"class": "Any"})
    damage(path, kind)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} is damaged or not a safetensors file"):
        read_generator(path)


def test_every_cut_of_a_generator_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    write_generator(path, {"a": torch.ones(8)}, {"class": "Any"})
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_generator(path)


@pytest.mark.parametrize(
    ("metadata", "named"),
    [(None, "not named"), ({"format": "pt"}, "pt"), ({"format": "gan_style.generator/9"}, "gan_style.generator/9")],
)
def test_a_foreign_safetensors_file_is_refused(tmp_path: Path, metadata: dict[str, str] | None, named: str) -> None:
    path = tmp_path / "unet.safetensors"
    save_file({"w": torch.ones(2)}, path, metadata=metadata)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} holds no gan_style generator.*{named}"):
        read_generator(path)


@pytest.mark.parametrize("metadata", [{}, {"description": "{half of it"}], ids=["none", "cut"])
def test_a_generator_file_without_a_description_is_refused_by_name(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tmp_path / "g.safetensors"
    save_file({"w": torch.ones(2)}, path, metadata={"format": "gan_style.generator/1", **metadata})
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_generator(path)


# Rebuilding a generator


def tiny() -> ResnetGenerator:
    torch.manual_seed(0)
    return ResnetGenerator(width=2, blocks=1).eval()


def test_a_generator_is_rebuilt_from_its_file_and_does_the_same(tmp_path: Path) -> None:
    write_generator(tmp_path / "g.safetensors", tiny().state_dict(), describe(tiny()) | {"step": 7})
    weights, description = read_generator(tmp_path / "g.safetensors")
    rebuilt = rebuild(description, weights, "g.safetensors").eval()
    picture = torch.linspace(-1, 1, 3 * 16 * 20).reshape(1, 3, 16, 20)
    with torch.no_grad():
        assert torch.equal(rebuilt(picture), tiny()(picture))


def test_a_description_is_plain_json() -> None:
    description = describe(tiny())
    assert json.loads(json.dumps(description)) == description
    assert description == {
        "class": "ResnetGenerator",
        "arguments": {"width": 2, "blocks": 1, "output": "linear", "tone": True},
    }


def without_one(weights: dict[str, Any]) -> dict[str, Any]:
    return dict(list(weights.items())[1:])


@pytest.mark.parametrize(
    ("changes", "change_weights"),
    [
        ({"class": "UnknownNet"}, dict),
        ({"class": "os.system"}, dict),
        ({"class": None}, dict),
        ({"arguments": {"width": 2, "blocks": 1, "depth": 3}}, dict),
        ({"arguments": {"width": "two", "blocks": 1}}, dict),
        ({"arguments": {"width": -1, "blocks": 1}}, dict),
        ({"arguments": {"width": 4, "blocks": 1}}, dict),
        ({"arguments": {"width": 2, "blocks": 3}}, dict),
        ({}, without_one),
        ({}, lambda weights: weights | {"surplus": torch.ones(1)}),
        ({}, lambda _: {}),
    ],
    ids=[
        *("unknown class", "a class of someone else's", "no class", "unknown argument", "argument of a wrong type"),
        *("argument out of range", "other width", "more blocks", "weight missing", "weight too many", "no weights"),
    ],
)
def test_what_does_not_fit_is_an_error_that_names_the_source(changes: dict[str, Any], change_weights: Any) -> None:
    with pytest.raises(ValueError, match=r"^runs/first/generator\.safetensors: "):
        rebuild(describe(tiny()) | changes, change_weights(tiny().state_dict()), "runs/first/generator.safetensors")


def test_a_description_without_arguments_is_an_error_that_names_the_source() -> None:
    with pytest.raises(ValueError, match=r"^g\.safetensors: .*arguments"):
        rebuild({"class": "ResnetGenerator"}, tiny().state_dict(), "g.safetensors")
