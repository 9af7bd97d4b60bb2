"""Weight files of the perceptual networks: where torchvision's lie, and reading any."""

import os
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

# torchvision's own files, in the hub cache's folder "checkpoints".
_TORCHVISION_FILES = {"vgg19": "vgg19-dcbb9e9d.pth", "vgg16": "vgg16-397923af.pth"}
_TORCHVISION_URL = "https://download.pytorch.org/models/"


def torchvision_file(architecture: str) -> Path:
    """Where in the hub cache torchvision's weights of "vgg19" or "vgg16" are, or would be."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _TORCHVISION_FILES[architecture]


def imagenet_file(architecture: str) -> Path:
    """torchvision's weight file in the hub cache, downloaded if it is not there yet."""
    path = torchvision_file(architecture)
    name = path.name
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(_TORCHVISION_URL + name, str(path), hash_prefix=path.stem.split("-")[1])
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"the weights perceptual.weights=imagenet are not on this machine and could not be downloaded ({error}). "
            f"Put torchvision's file {name} at {path}, or name a weights file with perceptual.weights=<path>, "
            f"or use perceptual=compact, which ships with gan_style and needs no download"
        ) from error
    return path


def read_weights(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise ValueError(
            f"perceptual.weights={path}: there is no such file. Allowed are imagenet, random, or the path of a "
            f".safetensors or .pth file with torchvision's names; perceptual=compact needs no file"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(os.fspath(path))
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, SafetensorError, UnpicklingError) as error:
        raise ValueError(f"perceptual.weights={path}: not a readable weights file ({error})") from error
