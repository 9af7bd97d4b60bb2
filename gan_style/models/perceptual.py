"""Perceptual networks: frozen VGG (Simonyan and Zisserman 2015) and ``compact``; features by name.

Input: RGB, (N, 3, H, W) float in [-1, 1]. ImageNet normalisation happens inside and nowhere else, never in place; a
ReLU is in place where nobody asked for what it overwrites, so that a feature once returned is never overwritten.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.models.weights import imagenet_file, read_weights
from gan_style.models.winograd import Convolution3x3
from gan_style.options import as_typed, did_you_mean

_MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB in [0, 1]
_STD = (0.229, 0.224, 0.225)


Scales = Mapping[str, float] | None
_Convolution = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Architecture:
    """A VGG: for each block how many 3x3 convolutions of how many channels; a 2x2 max pool between blocks.

    With ``heads``, each relu layer is read through a linear 1x1 map (compact; see tools/distill/distill.py).
    """

    name: str
    blocks: tuple[tuple[int, int], ...]
    heads: bool = False

    def convolutions(self) -> list[tuple[str, int, int]]:
        """Return (name as "3_2", index in torchvision's ``features``, channels), from shallow to deep."""
        convolutions, index = [], 0
        for block, (count, channels) in enumerate(self.blocks, start=1):
            for position in range(1, count + 1):
                convolutions.append((f"{block}_{position}", index, channels))
                index += 2
            index += 1  # the pool
        return convolutions

    def layers(self) -> list[str]:
        """Return all layer names that can be asked for, from shallow to deep."""
        kinds = ("relu",) if self.heads else ("conv", "relu")
        return [f"{kind}{name}" for name, _, _ in self.convolutions() for kind in kinds]


VGG19 = Architecture("vgg19", ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)))
VGG16 = Architecture("vgg16", ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)))
COMPACT = Architecture("compact", ((2, 16), (2, 32), (4, 80), (2, 192)), heads=True)


class Perceptual(nn.Module):
    """A frozen network whose features are asked for by name, among the ``layers`` named when it was built.

    ``scales`` holds for each layer the constant that its features are divided by: as given, or measured by
    ``calibrate``; 1 until then.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, layers: Sequence[str], scales: Scales = None) -> None:
        super().__init__()
        self.name, self.layers = name, list(layers)
        self.scales_given = scales is not None
        self.scales: dict[str, float] = _checked_scales(scales, self.layers)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Compute features of images (N, 3, H, W) in [-1, 1]: {layer: (N, C, h, w)}; runs no deeper than it has to."""
        unknown = set(layers) - self.scales.keys()
        if unknown:
            raise ValueError(f"layers {sorted(unknown)} were not asked for when the network was built: {self.layers}")
        return self.extract((images * 0.5 + 0.5 - self.mean) / self.std, layers) if layers else {}

    def extract(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Compute the features of normalised pictures, divided by their scales."""
        raise NotImplementedError

    @torch.no_grad()
    def summary(self) -> str:
        """Return its name and its feature scales, as one line."""
        scales = ", ".join(f"{layer} {scale:.3g}" for layer, scale in self.scales.items())
        return f"{self.name}; feature scales {scales}"

    def calibrate(self, images: Sequence[Tensor]) -> None:
        """Set ``scales`` so that each layer's mean activation over the given pictures is 1 (Gatys et al. 2015, sec. 2).

        images: each (1, 3, H, W) in [-1, 1]. Loss weights then mean the same whatever the scale of the weights (the
        original Caffe VGG's activations are some hundred times torchvision's). Of features that can be negative it is
        the mean absolute activation.
        """
        if not images:
            raise ValueError("there is no picture to measure the perceptual features on")
        self.scales = dict.fromkeys(self.layers, 1.0)
        totals = dict.fromkeys(self.layers, 0.0)
        for image in images:
            for layer, features in self(image, self.layers).items():
                totals[layer] += self.activation(features).item() / len(images)
        self.scales = {layer: max(self.scale_of(layer, total), 1e-12) for layer, total in totals.items()}

    def activation(self, features: Tensor) -> Tensor:
        """Measure how large a picture's features are: what ``calibrate`` averages over pictures."""
        return features.float().abs().mean()

    def scale_of(self, layer: str, average: float) -> float:
        """Return the scale of a layer, given the average of ``activation``."""
        return average


class Vgg(Perceptual):
    """A VGG cut off after the deepest of ``layers``."""

    form_factors: Tensor

    def __init__(self, architecture: Architecture, layers: Sequence[str], scales: Scales = None) -> None:
        check_layers(architecture.name, architecture.layers(), layers)
        super().__init__(architecture.name, sorted(set(layers), key=architecture.layers().index), scales)
        self.architecture = architecture
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
        if architecture.heads:
            self.register_buffer("form_factors", torch.ones(len(self._path)))
        self._scaled: tuple[object, dict[str, _Convolution]] | None = None
        self.requires_grad_(False).eval()

    def extract(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        missing, features = set(layers), {}
        convolutions = self._convolutions(x)
        for name, _ in self._path:
            if not missing:
                break
            if name.endswith("_1") and name != "1_1":
                x = F.max_pool2d(x, 2)
            before = convolutions[name](x)
            if f"conv{name}" in missing:
                features[f"conv{name}"] = self._read(f"conv{name}", name, before, convolutions)
                x = F.relu(before)
            else:
                x = before.relu_()
            if f"relu{name}" in missing:
                features[f"relu{name}"] = self._read(f"relu{name}", name, x, convolutions)
            missing -= features.keys()
        return features

    def _read(self, layer: str, name: str, features: Tensor, convolutions: dict[str, _Convolution]) -> Tensor:
        if self.architecture.heads:
            return convolutions[layer](features)
        factor = self.scales[layer] / self._factor(name)
        return features if factor == 1.0 else features / factor

    def _factor(self, name: str) -> float:
        """Return the divisor of a convolution's output in its own weights: the scale of its ReLU, or else of itself."""
        if self.architecture.heads:
            return 1.0
        return self.scales.get(f"relu{name}", self.scales.get(f"conv{name}", 1.0))

    def _convolutions(self, x: Tensor) -> dict[str, _Convolution]:
        """Return convolutions by name, with the scales inside, in the type of ``x``, or of autocast: made once.

        Since ReLU and pooling keep positive factors, features come out divided by their scales at no cost, as in the
        normalised network of Gatys et al. 2015, section 2. A network that is being trained has none to keep.
        """
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        if any(parameter.requires_grad for parameter in self.parameters()):
            return dict(self._scale(dtype))
        versions = [parameter._version for parameter in self.parameters()]
        made_for = (dtype, x.device, tuple(self.scales.items()), versions)
        if self._scaled is None or self._scaled[0] != made_for:
            with torch.inference_mode(False), torch.no_grad():  # what is kept may be wanted in a backward pass
                self._scaled = (made_for, dict(self._scale(dtype)))
        return self._scaled[1]

    def _scale(self, dtype: torch.dtype) -> Iterator[tuple[str, _Convolution]]:
        before = 1.0
        for name, key in self._path:
            convolution, after = self.features[key], self._factor(name)
            assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
            weight, bias = convolution.weight * (before / after), convolution.bias / after
            yield name, Convolution3x3(weight.to(dtype), bias.to(dtype), padding=1)
            before = after
            layer = f"relu{name}"
            if self.architecture.heads and layer in self.scales:
                head = self.heads[name].weight
                assert isinstance(head, Tensor)
                yield layer, partial(F.conv2d, weight=(head / self.scales[layer]).to(dtype))

    def activation(self, features: Tensor) -> Tensor:
        return features.float().square().mean() if self.architecture.heads else super().activation(features)

    def scale_of(self, layer: str, average: float) -> float:
        """Give compact's features the root mean square that VGG-19's have where their mean activation is 1.

        Its heads give VGG-19's features in rotated coordinates, which keep the root mean square but not the mean. The
        form factor (root mean square by mean activation) was measured when compact was distilled.
        """
        if not self.architecture.heads:
            return average
        return average**0.5 / self.form_factors[self.architecture.layers().index(layer)].item()


def _checked_scales(scales: Scales, layers: Sequence[str]) -> dict[str, float]:
    if scales is None:
        return dict.fromkeys(layers, 1.0)
    if not isinstance(scales, Mapping):
        raise ValueError(f"perceptual.scales={as_typed(scales)}: {{layer: number}}, or null to measure them, expected")
    if missing := [layer for layer in layers if layer not in scales]:
        raise ValueError(f"perceptual.scales: {', '.join(missing)} missing; give one for each of {', '.join(layers)}")
    for layer in layers:
        if isinstance(scales[layer], bool | str) or not 0 < scales[layer] < math.inf:
            raise ValueError(f"perceptual.scales.{layer}={as_typed(scales[layer])}; allowed are numbers above 0")
    return {layer: float(scales[layer]) for layer in layers}


def check_layers(name: str, allowed: Sequence[str], layers: Sequence[str]) -> None:
    """Raise ValueError, naming the nearest, for a layer that the network of that name does not have."""
    for layer in layers:
        if layer not in allowed:
            hint = did_you_mean(layer, allowed)
            raise ValueError(f"{name} has no layer {layer!r}{hint}; it has {', '.join(allowed)}, from shallow to deep")


def vgg19(*, layers: Sequence[str], weights: str = "imagenet", scales: Scales = None) -> Vgg:
    """Build VGG-19. weights: "imagenet" (torchvision's, through the hub cache), a path, or "random" (tests).

    scales: {layer: the constant that its features are divided by}; None: 1, until ``calibrate`` measures them.
    """
    return _vgg(VGG19, layers, weights, scales)


def vgg16(*, layers: Sequence[str], weights: str = "imagenet", scales: Scales = None) -> Vgg:
    """Build VGG-16. weights: "imagenet" (torchvision's, through the hub cache), a path, or "random" (tests).

    scales: {layer: the constant that its features are divided by}; None: 1, until ``calibrate`` measures them.
    """
    return _vgg(VGG16, layers, weights, scales)


def compact(*, layers: Sequence[str], weights: str = "packaged", scales: Scales = None) -> Vgg:
    """Return the small network that stands in for VGG-19 up to relu4_2; ships with gan_style, needs no download.

    weights: "packaged", a path, or "random" (tests); scales as for vgg19.
    """
    network = Vgg(COMPACT, layers, scales)
    if weights == "packaged":
        packaged = files("gan_style") / "assets" / "perceptual" / "compact.safetensors"
        return _filled(network, load_safetensors(packaged.read_bytes()), str(packaged))
    if weights == "random":
        return network
    return _filled(network, read_weights(Path(weights).expanduser()), weights)


def _vgg(architecture: Architecture, layers: Sequence[str], weights: str, scales: Scales) -> Vgg:
    network = Vgg(architecture, layers, scales)
    if weights == "random":
        return network
    path = imagenet_file(architecture.name) if weights == "imagenet" else Path(weights).expanduser()
    return _filled(network, read_weights(path), str(path))


def _filled(network: Vgg, weights: Mapping[str, Tensor], source: str) -> Vgg:
    """Load what the network needs; a file that stops early is accepted if it holds every layer asked for."""
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
    if "form_factors" in needed:  # one for each layer of the file, which may go deeper than this network
        weights = {**weights, "form_factors": weights["form_factors"][: len(needed["form_factors"])]}
    for key, tensor in needed.items():
        if weights[key].shape != tensor.shape:
            raise ValueError(
                f"perceptual.weights={source}: not a file of {network.architecture.name}: {key} has the shape "
                f"{tuple(weights[key].shape)}, not {tuple(tensor.shape)}"
            )
    network.load_state_dict({key: weights[key].float() for key in needed})
    return network
