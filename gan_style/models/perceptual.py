"""Perceptual networks: frozen VGG (Simonyan and Zisserman 2015) and ``compact``; features by name.

The door: RGB, (N, 3, H, W) float in [-1, 1]. ImageNet normalisation happens inside and nowhere else. ReLU and
normalisation are out of place, so that a feature once returned is never overwritten.
"""

import difflib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

_MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB in [0, 1]
_STD = (0.229, 0.224, 0.225)


Scales = Mapping[str, float] | None


@dataclass(frozen=True)
class Architecture:
    """A VGG: for each block how many 3x3 convolutions of how many channels; a 2x2 max pool between blocks.

    With ``heads``, each relu layer is read through a linear 1x1 map (compact; see tools/distill_perceptual.py).
    """

    name: str
    blocks: tuple[tuple[int, int], ...]
    heads: bool = False

    def convolutions(self) -> list[tuple[str, int, int]]:
        """(name as "3_2", index in torchvision's ``features``, channels), from shallow to deep."""
        found, index = [], 0
        for block, (count, channels) in enumerate(self.blocks, start=1):
            for position in range(1, count + 1):
                found.append((f"{block}_{position}", index, channels))
                index += 2
            index += 1  # the pool
        return found

    def layers(self) -> list[str]:
        """All layer names that can be asked for, from shallow to deep."""
        kinds = ("relu",) if self.heads else ("conv", "relu")
        return [f"{kind}{name}" for name, _, _ in self.convolutions() for kind in kinds]


VGG19 = Architecture("vgg19", ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)))
VGG16 = Architecture("vgg16", ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)))
COMPACT = Architecture("compact", ((2, 16), (2, 32), (4, 80)), heads=True)

# torchvision's own files, in the hub cache's folder "checkpoints".
_TORCHVISION_FILES = {"vgg19": "vgg19-dcbb9e9d.pth", "vgg16": "vgg16-397923af.pth"}
_TORCHVISION_URL = "https://download.pytorch.org/models/"


class Perceptual(nn.Module):
    """A frozen network cut off after the deepest of ``layers``; ``forward`` gives the features asked for by name.

    ``scales`` holds for each layer the constant that its features are divided by: as given, or measured by
    ``calibrate``; 1 until then.
    """

    mean: Tensor
    std: Tensor
    form_factors: Tensor

    def __init__(self, architecture: Architecture, layers: Sequence[str], scales: Scales = None) -> None:
        super().__init__()
        check_layers(architecture, layers)
        self.architecture = architecture
        self.layers = sorted(set(layers), key=architecture.layers().index)
        self.scales_given = scales is not None
        self.scales: dict[str, float] = _checked_scales(scales, self.layers)
        deepest = self.layers[-1][-3:] if self.layers else ""
        self.features, self.heads = nn.ModuleDict(), nn.ModuleDict()
        self._path: list[tuple[str, str]] = []  # (name as "3_2", key of its convolution)
        incoming = 3
        for name, index, channels in architecture.convolutions() if deepest else ():
            self.features[str(index)] = nn.Conv2d(incoming, channels, 3, padding=1)
            if architecture.heads:
                self.heads[name] = nn.Conv2d(channels, channels, 1, bias=False)
            self._path.append((name, str(index)))
            incoming = channels
            if name == deepest:
                break
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        if architecture.heads:
            self.register_buffer("form_factors", torch.ones(len(architecture.layers())))
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Features of images (N, 3, H, W) in [-1, 1]: {layer: (N, C, h, w)}; runs no deeper than it has to."""
        unknown = set(layers) - self.scales.keys()
        if unknown:
            raise ValueError(f"layers {sorted(unknown)} were not asked for when the network was built: {self.layers}")
        missing, found = set(layers), {}
        x = (images * 0.5 + 0.5 - self.mean) / self.std
        for name, key in self._path:
            if not missing:
                break
            if name.endswith("_1") and name != "1_1":
                x = F.max_pool2d(x, 2)
            before = self.features[key](x)
            x = F.relu(before)
            for layer in missing & {f"conv{name}", f"relu{name}"}:
                found[layer] = self._read(layer, name, x if layer.startswith("relu") else before)
            missing -= found.keys()
        return found

    def _read(self, layer: str, name: str, features: Tensor) -> Tensor:
        if self.architecture.heads:
            features = self.heads[name](features)
        return features if self.scales[layer] == 1.0 else features / self.scales[layer]

    @torch.no_grad()
    def calibrate(self, images: Sequence[Tensor]) -> None:
        """Set ``scales`` so that each layer's mean activation over the given pictures is 1 (Gatys et al. 2015, sec. 2).

        images: each (1, 3, H, W) in [-1, 1]. Loss weights then mean the same whatever the scale of the weights (the
        original Caffe VGG's activations are some hundred times torchvision's). Of features that can be negative (conv
        layers) it is the mean absolute activation. compact's heads give VGG-19's features in rotated coordinates, which
        keep the root mean square but not the mean: there the root mean square is set to VGG-19's form factor (root
        mean square by mean activation, measured when compact was distilled), which amounts to the same.
        """
        power = 2 if self.architecture.heads else 1
        self.scales = dict.fromkeys(self.layers, 1.0)
        totals = dict.fromkeys(self.layers, 0.0)
        for image in images:
            for layer, features in self(image, self.layers).items():
                totals[layer] += features.float().abs().pow(power).mean().item() / len(images)
        self.scales = {
            layer: max(total ** (1 / power), 1e-12) / self._form_factor(layer) for layer, total in totals.items()
        }

    def _form_factor(self, layer: str) -> float:
        return self.form_factors[self.architecture.layers().index(layer)].item() if self.architecture.heads else 1.0


def _checked_scales(scales: Scales, layers: Sequence[str]) -> dict[str, float]:
    if scales is None:
        return dict.fromkeys(layers, 1.0)
    if not isinstance(scales, Mapping):
        raise ValueError(f"perceptual.scales={scales}: {{layer: number}}, or null to measure them, expected")
    if missing := [layer for layer in layers if layer not in scales]:
        raise ValueError(f"perceptual.scales: {', '.join(missing)} missing; give one for each of {', '.join(layers)}")
    for layer in layers:
        if isinstance(scales[layer], bool | str) or not 0 < scales[layer] < math.inf:
            raise ValueError(f"perceptual.scales.{layer}={scales[layer]}; allowed are numbers above 0")
    return {layer: float(scales[layer]) for layer in layers}


def check_layers(architecture: Architecture, layers: Sequence[str]) -> None:
    """Raise ValueError, naming the nearest, for a layer that the architecture does not have."""
    known = architecture.layers()
    for layer in layers:
        if layer not in known:
            near = difflib.get_close_matches(layer, known, n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"{architecture.name} has no layer {layer!r}{hint}; it has {', '.join(known)}, from shallow to deep"
            )


def vgg19(*, layers: Sequence[str], weights: str = "imagenet", scales: Scales = None) -> Perceptual:
    """VGG-19. weights: "imagenet" (torchvision's, through the hub cache), a path, or "random" (tests).

    scales: {layer: the constant that its features are divided by}; None: 1, until ``calibrate`` measures them.
    """
    return _vgg(VGG19, layers, weights, scales)


def vgg16(*, layers: Sequence[str], weights: str = "imagenet", scales: Scales = None) -> Perceptual:
    """VGG-16. weights: "imagenet" (torchvision's, through the hub cache), a path, or "random" (tests).

    scales: {layer: the constant that its features are divided by}; None: 1, until ``calibrate`` measures them.
    """
    return _vgg(VGG16, layers, weights, scales)


def compact(*, layers: Sequence[str], weights: str = "packaged", scales: Scales = None) -> Perceptual:
    """The small network that stands in for VGG-19 up to relu3_4; ships with gan_style, needs no download.

    weights: "packaged", a path, or "random" (tests); scales as for vgg19.
    """
    network = Perceptual(COMPACT, layers, scales)
    if weights == "packaged":
        packaged = files("gan_style") / "assets" / "perceptual" / "compact.safetensors"
        return _filled(network, load_safetensors(packaged.read_bytes()), str(packaged))
    if weights == "random":
        return network
    return _filled(network, _read_weights(Path(weights).expanduser()), weights)


def _vgg(architecture: Architecture, layers: Sequence[str], weights: str, scales: Scales) -> Perceptual:
    network = Perceptual(architecture, layers, scales)
    if weights == "random":
        return network
    path = _torchvision_file(architecture) if weights == "imagenet" else Path(weights).expanduser()
    return _filled(network, _read_weights(path), str(path))


def torchvision_file(architecture: str) -> Path:
    """Where in the hub cache torchvision's weights of "vgg19" or "vgg16" are, or would be."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _TORCHVISION_FILES[architecture]


def _torchvision_file(architecture: Architecture) -> Path:
    """torchvision's weight file in the hub cache, downloaded if it is not there yet."""
    path = torchvision_file(architecture.name)
    name = path.name
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(_TORCHVISION_URL + name, str(path), hash_prefix=path.stem.split("-")[1])
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"the weights perceptual.weights=imagenet are not on this machine and could not be downloaded ({error}). "
            f"Put torchvision's file {name} at {path}, or name a weights file with perceptual.weights=<path>, "
            f"or use perceptual=compact, which ships with gan_style and needs no download"
        ) from error
    return path


def _read_weights(path: Path) -> Mapping[str, Tensor]:
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


def _filled(network: Perceptual, weights: Mapping[str, Tensor], source: str) -> Perceptual:
    """Load what the network needs; a file that stops early is accepted if it holds every layer asked for."""
    if not isinstance(weights, Mapping):
        raise ValueError(f"perceptual.weights={source}: it holds a {type(weights).__name__}, not named weights")
    needed = network.state_dict()
    present = [name for name, index, _ in network.architecture.convolutions() if f"features.{index}.weight" in weights]
    missing = [key for key in needed if key not in weights]
    if missing and not any(key.startswith("features.") for key in missing):
        raise ValueError(f"perceptual.weights={source}: not a file of {network.architecture.name}: no {missing[0]}")
    if missing:
        end = f"it ends at relu{present[-1]}" if present else "it holds none of torchvision's features.N.weight"
        raise ValueError(
            f"layer {network.layers[-1]} lies deeper than the weights file {source} reaches: {end}. Ask for shallower "
            f"layers (loss.content.layers, loss.style.layers) or give a file that holds it (perceptual.weights)"
        )
    for key, tensor in needed.items():
        if weights[key].shape != tensor.shape:
            raise ValueError(
                f"perceptual.weights={source}: not a file of {network.architecture.name}: {key} has the shape "
                f"{tuple(weights[key].shape)}, not {tuple(tensor.shape)}"
            )
    network.load_state_dict({key: weights[key].float() for key in needed})
    return network
