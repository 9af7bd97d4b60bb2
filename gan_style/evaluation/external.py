"""Metrics on other people's networks, through the libraries that keep them; for where their weights are at hand."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_style.images.decode import to_uint8
from gan_style.runtime.machine import first_line

_EXTRA = "pip install 'gan_style[metrics]'"
_SMALLEST_FOR_ALEXNET = 31  # pixels a side


def lpips(device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """Load LPIPS on AlexNet (Zhang et al. 2018, equation 1), from torchmetrics; AlexNet's weights from torchvision.

    The function takes a result and its content, (1, 3, H, W) in [-1, 1], and gives (1,). ValueError where the library
    or the weights are missing.
    """
    _needs("lpips", "torchmetrics")
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    network = _load(
        "lpips",
        lambda: LearnedPerceptualImagePatchSimilarity(net_type="alex"),
        f"AlexNet's weights belong at {Path(torch.hub.get_dir()) / 'checkpoints' / 'alexnet-owt-7be5be79.pth'}",
    ).to(device)

    def measure(result: Tensor, content: Tensor) -> Tensor:
        if min(content.shape[-2:]) < _SMALLEST_FOR_ALEXNET:
            raise ValueError(
                f"lpips: a picture of {content.shape[-1]} x {content.shape[-2]} pixels is too small; "
                f"allowed are {_SMALLEST_FOR_ALEXNET} a side and more"
            )
        network.reset()  # it would add up all pictures
        value: Tensor = network(result.clamp(-1.0, 1.0), content)
        return value.reshape(1)

    return measure


def inception(weights: str | None, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Load the 2048 pooled features of the Inception network that FID is defined on (Heusel et al. 2017).

    weights: a file, such as ArtFID's Inception trained on paintings in torch-fidelity's names; None: its own, from the
    hub cache or downloaded. The function takes (N, 3, H, W) in [-1, 1] and gives (N, 2048).
    """
    _needs("fid", "torch_fidelity")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    if weights is not None and not Path(weights).expanduser().is_file():
        raise ValueError(f"inception_weights={weights}: there is no such file")
    path = str(Path(weights).expanduser()) if weights is not None else None
    if path is not None:
        # ValueError for a file that would run code: torch-fidelity loads whatever it is given.
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises what pickle, zipfile and itself think of
            raise ValueError(f"inception_weights={path}: not a readable weights file ({first_line(error)})") from error
    network = _load(
        "fid",
        lambda: FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=path),
        "give the file of torch-fidelity's Inception as inception_weights=<path>",
    ).to(device)

    def measure(images: Tensor) -> Tensor:
        features: Tensor = network(to_uint8(images))[0]
        return features

    return measure


def _needs(metric: str, library: str) -> None:
    if find_spec(library) is None:
        raise ValueError(f"the metric {metric} needs {library.replace('_', '-')}: {_EXTRA}")


def _load(metric: str, make: Callable[[], Any], hint: str) -> Any:
    try:
        network: nn.Module = make()
    except (
        Exception
    ) as error:  # these libraries download as they build: URLError, RuntimeError, KeyError, zip errors ...
        raise ValueError(f"the metric {metric}: its weights cannot be loaded ({first_line(error)}); {hint}") from error
    return network.eval().requires_grad_(False)
