"""torchvision's segmentation networks: images in, scores of classes out."""

import inspect
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_style.models.weights import read_weights
from gan_style.options import did_you_mean

NETWORKS = (
    *("lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"),
    *("deeplabv3_resnet50", "deeplabv3_resnet101", "fcn_resnet50", "fcn_resnet101"),
)
PREFERRED_SIDE = 520  # pixels: the short side that torchvision trained and measured them at


class SegmentationNetwork(nn.Module):
    """A frozen network of torchvision behind the contract for images."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Score (N, 3, H, W) in [-1, 1]: (N, classes, H, W), before a softmax."""
        scores: Tensor = self.network((images * 0.5 + 0.5 - self.mean) / self.std)["out"]
        return scores


def segmentation_network(name: str, weights: str = "default") -> tuple[SegmentationNetwork, int]:
    """Build one of NETWORKS, and say how many classes it knows.

    weights: "default", torchvision's for COCO with the classes of Pascal VOC, through the hub cache; or the path of a
    state_dict. ValueError for what is not there, or does not fit.
    """
    from torchvision.models import get_model_builder, get_model_weights

    # Get the weights.
    if name not in NETWORKS:
        hint = did_you_mean(name, NETWORKS)
        raise ValueError(
            f"segmentation.network={name}: there is no such network{hint}; known are {', '.join(NETWORKS)}"
        )
    if weights == "default":
        file = get_model_weights(name).DEFAULT
        try:
            state = file.get_state_dict(map_location="cpu", check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"segmentation.network={name}: its weights are not on this machine and could not be downloaded "
                f"({error}). Put {file.url} into {torch.hub.get_dir()}/checkpoints, or name the file with "
                "segmentation.weights=PATH"
            ) from error
    else:
        state = read_weights(Path(weights).expanduser(), "segmentation.weights")

    # Build the network with as many classes as the last layer has biases.
    state = {key: value for key, value in state.items() if not key.startswith("aux_classifier.")}
    last = [value for key, value in state.items() if key.startswith("classifier.") and value.ndim == 1][-1:]
    classes = len(last[0]) if last else 21
    builder = get_model_builder(name)
    more = {"aux_loss": False} if "aux_loss" in inspect.signature(builder).parameters else {}
    network = builder(weights=None, weights_backbone=None, num_classes=classes, **more)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"segmentation.weights={weights}: they do not fit {name}: {str(error).splitlines()[-1].strip()}"
        ) from error
    return SegmentationNetwork(network), classes
