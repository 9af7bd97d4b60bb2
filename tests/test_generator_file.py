"""Generator files (runtime/checkpoint.py) and what is rebuilt of them (models/registry.py)."""

import json
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
from gan_style.runtime.checkpoint import read_generator, write_generator

DAMAGES = {
    "cut to a half": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "noise": lambda data: random.Random(0).randbytes(len(data)),
    "text": lambda data: b"<html>404 not found</html>\n",
    "an instruction without its operand": lambda data: b"a.",
    "the beginning overwritten": lambda data: bytes(64) + data[64:],
}


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
    actual, found_description = read_generator(tmp_path / "g.safetensors")
    assert found_description == description
    assert actual.keys() == weights.keys()
    for name, tensor in weights.items():
        assert actual[name].dtype == tensor.dtype
        assert torch.equal(actual[name], tensor)


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
    actual, _ = read_generator(path)
    write_generator(path, {"a": torch.zeros(1000)}, {})
    assert torch.equal(actual["a"], torch.ones(1000))


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_generator_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "g.safetensors"
    write_generator(path, {"a": torch.ones(500)}, {"class": "Any"})
    path.write_bytes(DAMAGES[kind](path.read_bytes()))
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
    problem = "unknown generator" if "class" in changes else "its weights do not fit the ResnetGenerator"
    with pytest.raises(ValueError, match=rf"^runs/first/generator\.safetensors: {problem}"):
        rebuild(describe(tiny()) | changes, change_weights(tiny().state_dict()), "runs/first/generator.safetensors")


def test_a_description_without_arguments_is_an_error_that_names_the_source() -> None:
    with pytest.raises(ValueError, match=r"^g\.safetensors: .*arguments"):
        rebuild({"class": "ResnetGenerator"}, tiny().state_dict(), "g.safetensors")
