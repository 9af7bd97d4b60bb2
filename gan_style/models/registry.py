"""Rebuilding a generator from what a file says of it: a class name and plain arguments, nothing else."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from gan_style.models.generator import ResnetGenerator
from gan_style.models.library import LibraryGenerator
from gan_style.models.mobile import MobileGenerator
from gan_style.models.reference import ReferenceGenerator

GENERATORS: dict[str, type[nn.Module]] = {
    kind.__name__: kind for kind in (ResnetGenerator, LibraryGenerator, MobileGenerator, ReferenceGenerator)
}


def describe(generator: nn.Module) -> dict[str, Any]:
    """Describe a generator so that it can be rebuilt: {"class": name, "arguments": {...}}."""
    return {"class": type(generator).__name__, "arguments": generator.arguments}


def rebuild(description: Mapping[str, Any], weights: Mapping[str, Tensor], source: str) -> nn.Module:
    """Rebuild what ``describe`` described, with its weights; ValueError, naming the source, if they don't fit."""
    name = description.get("class")
    if name not in GENERATORS:
        raise ValueError(f"{source}: unknown generator {name!r}; known are {', '.join(GENERATORS)}")
    try:
        older = {"output": "tanh", "tone": False}  # what files that do not say so were written with
        if GENERATORS[name] is ReferenceGenerator:
            older |= {"encoder": "convolutions"}
        generator = GENERATORS[name](**(older | description["arguments"]))
        generator.load_state_dict(dict(weights))
    except (TypeError, KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"{source}: its weights do not fit the {name} that it describes ({error})") from error
    return generator
