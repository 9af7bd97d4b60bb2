"""Small generators with random weights, and their files."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from gan_style.models.generator import ResnetGenerator
from gan_style.models.library import LibraryGenerator
from gan_style.models.registry import describe
from gan_style.runtime.checkpoint import write_generator


def make_resnet(*, seed: int = 0, width: int = 4, blocks: int = 1) -> ResnetGenerator:
    torch.manual_seed(seed)
    return ResnetGenerator(width=width, blocks=blocks)


def make_library(*styles: str, seed: int = 0, width: int = 4, blocks: int = 1) -> LibraryGenerator:
    """A generator whose styles differ, as training makes them: they begin alike."""
    torch.manual_seed(seed)
    generator = LibraryGenerator(width=width, blocks=blocks, styles=list(styles))
    for parameter in generator.parameters():
        if parameter.ndim == 2:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return generator


def write_file(path: Path, generator: nn.Module, **more: Any) -> Path:
    """Write a generator's file as training does, with more facts in its description."""
    write_generator(path, generator.state_dict(), describe(generator) | more)
    return path
