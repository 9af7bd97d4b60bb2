"""Generators as files of torch.export, with a description of where they come from."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gan_style.export.graph import ExportedGenerator, traced

TORCH_SUFFIX = ".pt2"
_DESCRIPTION = "gan_style.json"


def to_torch(network: ExportedGenerator, description: Mapping[str, Any]) -> bytes:
    """Return the content of a .pt2 file, which torch.export.load reads: batch, height and width are dynamic."""
    file = io.BytesIO()
    torch.export.save(traced(network), file, extra_files={_DESCRIPTION: json.dumps(dict(description))})
    return file.getvalue()


def read_description(path: Path) -> dict[str, Any]:
    """Return what such a file says of itself, without running anything of it. ValueError for any other file."""
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(_DESCRIPTION))
            return dict(json.loads(archive.read(name)))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or was not written by gan-style export") from error
