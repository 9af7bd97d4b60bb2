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
    """Return the path in the hub cache of torchvision's weights of "vgg19" or "vgg16", there or not."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _TORCHVISION_FILES[architecture]


def imagenet_file(architecture: str) -> Path:
    """Return torchvision's weight file in the hub cache, downloaded if it is not there yet."""
    return downloaded(_TORCHVISION_URL + _TORCHVISION_FILES[architecture])


def downloaded(url: str) -> Path:
    """Return where in the hub cache torchvision's file of this address is, downloaded if it is not there yet."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    name = path.name
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.split("-")[1])
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"the weights perceptual.weights=imagenet are not on this machine and could not be downloaded ({error}). "
            f"Put torchvision's file {name} at {path}, or name a weights file with perceptual.weights=<path>, "
            f"or use perceptual=compact, which ships with gan_style and needs no download"
        ) from error
    return path


def read_weights(path: Path, option: str = "perceptual.weights") -> Mapping[str, Tensor]:
    """Read named weights, .safetensors or torch's own files. ValueError, naming the option, for anything else."""
    if not path.is_file():
        others = "imagenet, random, or " if option == "perceptual.weights" else ""
        hint = "; perceptual=compact needs no file" if option == "perceptual.weights" else ""
        raise ValueError(
            f"{option}={path}: there is no such file. Allowed are {others}the path of a .safetensors or .pth file with "
            f"torchvision's names{hint}"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(os.fspath(path))
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, SafetensorError, UnpicklingError) as error:
        raise ValueError(f"{option}={path}: not a readable weights file ({error})") from error
    if not isinstance(weights, Mapping):
        raise ValueError(f"{option}={path}: it holds a {type(weights).__name__}, not named weights")
    return weights
