"""Any convolutional classification network of torchvision as the perceptual network, with torchvision's layer names."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision.models
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from gan_style.models.perceptual import Perceptual, Scales, check_layers
from gan_style.models.weights import downloaded, read_weights

_TOKENS = ("vit_*", "swin*", "maxvit*")  # transformers, whose layers are no maps (N, C, H, W)
_TRIAL = (96, 160)  # pixels of the picture that shows whether layers are maps


class TorchvisionNetwork(Perceptual):
    """A frozen network of torchvision.models, in evaluation mode; BatchNorm uses its own statistics.

    ``layers`` are names of modules or nodes, as torchvision.models.feature_extraction has them: "layer1" is what the
    last operation in layer1 gives. For each set of layers that is asked for, an extractor is made that ends at the
    deepest; they share their weights.
    """

    def __init__(self, model: str, network: nn.Module, layers: Sequence[str], scales: Scales = None) -> None:
        nodes = get_graph_node_names(network, suppress_diff_warning=True)[1]
        parts = [node.split(".") for node in nodes]
        depth = {".".join(part[:end]): place for place, part in enumerate(parts) for end in range(1, len(part) + 1)}
        if any(layer not in depth for layer in layers):
            layer_names = [name for name in depth if name.count(".") < 2 and name in dict(network.named_modules())]
            check_layers(model, [*layer_names, *set(layers) & depth.keys()], layers)
        super().__init__(model, sorted(set(layers), key=depth.__getitem__), scales)
        self.network = network
        self._extractors: dict[tuple[str, ...], nn.Module] = {}
        self.requires_grad_(False).eval()
        self._check_maps()

    def extract(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        used = tuple(layer for layer in self.layers if layer in layers)
        if used not in self._extractors:
            self._extractors[used] = _extractor(self.network, used)
        features: dict[str, Tensor] = self._extractors[used](x)
        return {layer: value / self.scales[layer] for layer, value in features.items()}

    @torch.no_grad()
    def _check_maps(self) -> None:
        """Raise ValueError for layers that do not give maps (N, C, H, W): vectors, or channels in the last place."""
        for layer, features in self(torch.zeros(1, 3, *_TRIAL), self.layers).items():
            height, width = features.shape[-2:] if features.ndim == 4 else (0, 1)
            if abs(width / max(height, 1) - _TRIAL[1] / _TRIAL[0]) > 0.5:
                raise ValueError(
                    f"layer {layer!r} of {self.name} gives {tuple(features.shape)} for a picture of {_TRIAL[0]} x "
                    f"{_TRIAL[1]} pixels, which is no map (N, C, H, W) of features; take an earlier layer"
                )


def _extractor(network: nn.Module, layers: Sequence[str]) -> nn.Module:
    """Cut the network after the deepest of these layers; no ReLU in place, so that nothing returned is overwritten."""
    extractor = create_feature_extractor(network, list(layers), suppress_diff_warning=True)
    assert isinstance(extractor, fx.GraphModule)
    for node in extractor.graph.nodes:
        if node.op == "call_function" and node.kwargs.get("inplace"):
            node.kwargs = node.kwargs | {"inplace": False}
    extractor.recompile()
    return extractor.eval()


def torchvision_network(
    *, model: str, layers: Sequence[str], weights: str = "imagenet", scales: Scales = None
) -> TorchvisionNetwork:
    """Return a classification network of torchvision by its name, such as resnet50 or squeezenet1_1.

    weights: "imagenet" (torchvision's default), one of torchvision's names (IMAGENET1K_V1; both through the hub cache),
    a path, or "random" (tests); scales as for vgg19. A file needs to hold no more than the layers up to the deepest.
    """
    names = torchvision.models.list_models(module=torchvision.models, exclude=_TOKENS)
    if model not in names:
        raise ValueError(f"perceptual.model={model}; allowed are {', '.join(names)}")
    network = torchvision.models.get_model(model, weights=None).eval()
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    built = TorchvisionNetwork(model, network, layers, scales)
    if weights != "random":
        _load(built, weights)
    return built


def _load(built: TorchvisionNetwork, weights: str) -> None:
    """Give the network the weights of a file, or of torchvision's by name."""
    published = {entry.name: entry for entry in torchvision.models.get_model_weights(built.name)}
    if weights == "imagenet":
        path = downloaded(torchvision.models.get_model_weights(built.name).DEFAULT.url)
    elif weights in published:
        path = downloaded(published[weights].url)
    else:
        path = Path(weights).expanduser()
    weights_of_file = read_weights(path)
    needed = _extractor(built.network, built.layers).state_dict() if built.layers else {}
    for key, tensor in needed.items():
        if key not in weights_of_file:
            raise ValueError(
                f"perceptual.weights={path}: {key} is missing, which perceptual.model={built.name} needs up to "
                f"{built.layers[-1]}; give torchvision's file of that network, or shallower layers"
            )
        if weights_of_file[key].shape != tensor.shape:
            raise ValueError(
                f"perceptual.weights={path}: not a file of {built.name}: {key} has the shape "
                f"{tuple(weights_of_file[key].shape)}, not {tuple(tensor.shape)}"
            )
    built.network.load_state_dict({key: weights_of_file[key] for key in needed}, strict=False)
