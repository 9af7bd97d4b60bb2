"""A small model of two styles, one that takes its style from a picture, and photos."""

from pathlib import Path

import pytest
import torch
from generators import write_file
from PIL import Image

from gan_style.models.library import LibraryGenerator
from gan_style.models.reference import ReferenceGenerator


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> list[Path]:
    """Generator files: styles red and blue, which differ; a model without styles of its own."""
    torch.manual_seed(0)
    generators = {
        "mine": LibraryGenerator(width=4, blocks=0, styles=["red", "blue"]),
        "any": ReferenceGenerator(width=4, blocks=0, code=4, side=32),
    }
    files = []
    for name, generator in generators.items():
        for parameter in generator.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter)
        files.append(write_file(tmp_path_factory.mktemp("runs") / f"{name}.safetensors", generator))
    return files


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.effect_noise((90, 70), 80).convert("RGB").save(path)
    return path
