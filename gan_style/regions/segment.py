"""Segmenters: which part of a picture is what. By its own features, by a network of torchvision, by class-index masks.

A segmenter is asked for groups of classes, and gives for each group how much of it is where: (1, G, h, w) in [0, 1],
at a size of its own, the groups together nowhere more than 1.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.functional import guided_gain, luma, scaled_part, window_mean
from gan_style.images.decode import to_float
from gan_style.images.formats import UnreadablePictureError, open_picture, unreadable_picture
from gan_style.models.perceptual import compact
from gan_style.models.weights import read_weights
from gan_style.options import did_you_mean
from gan_style.regions.names import numbers_of, read_table

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
        hint, allowed = did_you_mean(name, NETWORKS), ", ".join(NETWORKS)
        raise ValueError(f"segmentation.network={name}: there is no such network{hint}; known are {allowed}")
    if weights == "default":
        file = get_model_weights(name).DEFAULT
        try:
            state = file.get_state_dict(map_location="cpu", check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:
            missing = f"its weights are not on this machine and could not be downloaded ({error})"
            hint = f"put {file.url} into {torch.hub.get_dir()}/checkpoints, or give segmentation.weights=PATH"
            raise ValueError(f"segmentation.network={name}: {missing}; {hint}") from error
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
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(f"segmentation.weights={weights}: they do not fit {name}: {reason}") from error
    return SegmentationNetwork(network), classes


Groups = Sequence[Sequence[int]]  # the numbers of the classes in each group
Names = dict[int, str]


class Segmenter(Protocol):
    """names: of its classes, by number."""

    names: Names

    def __call__(self, pixels: Tensor, groups: Groups, classes: Path | None = None) -> Tensor:
        """Segment uint8 (3, H, W). classes: the picture's class-index mask, for a segmenter that reads them."""
        ...


_SIDE = 256  # pixels: the short side at which pictures are clustered
_LAYERS = ("relu3_4", "relu4_2")
_COLOUR, _ROWS, _COLUMNS = 1.0, 0.5, 0.25  # weights beside the two layers' features, which have length 1 each
_RESTARTS, _ITERATIONS = 5, 40
_AROUND, _ALIKE = 6, 0.2  # how far settled places are looked for, in half cells; a difference of colours in [-1, 1]


@dataclass
class PictureRegions:
    """The picture's own regions, without any names: k-means on perceptual features, colour and position.

    count: of regions, which are numbered from 1, from the top of the picture to its bottom; centres: (R, D), those of
    another picture, for regions that are the same ones (the frames of a video); None: each picture has its own.
    """

    count: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    centres: Tensor | None = None

    def __post_init__(self) -> None:
        self.names: Names = {number: str(number) for number in range(1, self.count + 1)}
        self._network = compact(layers=_LAYERS).to(self.device)

    def __call__(self, pixels: Tensor, groups: Groups, classes: Path | None = None) -> Tensor:
        features = self.describe(pixels)
        centres = cluster(features, self.count) if self.centres is None else self.centres
        shares = self.shares(pixels, features, centres)
        return torch.stack([shares[:, [number - 1 for number in group]].sum(dim=1) for group in groups], dim=1)

    @torch.inference_mode()
    def describe(self, pixels: Tensor) -> Tensor:
        """Describe each place of uint8 (3, H, W): compact's features around it, its colour, and where it is.

        Returns (D, h, w), an eighth of the shrunken picture's size, whose columns' Euclidean distances are clustered.
        """
        image = shrink(pixels, _SIDE).to(self.device)
        features = self._network(image, _LAYERS)
        size = features[_LAYERS[-1]].shape[-2:]
        parts = []
        for layer in _LAYERS:
            pooled = F.avg_pool2d(F.adaptive_avg_pool2d(features[layer], size), 3, 1, 1, count_include_pad=False)
            parts.append(F.normalize(pooled.float(), dim=1))
        rows, columns = (torch.linspace(-1.0, 1.0, length, device=image.device) for length in size)
        place = torch.stack(torch.meshgrid(_ROWS * rows, _COLUMNS * columns, indexing="ij"))[None]
        return torch.cat([*parts, _COLOUR * F.adaptive_avg_pool2d(image, size), place], dim=1)[0]

    def shares(self, pixels: Tensor, features: Tensor, centres: Tensor) -> Tensor:
        """Share a picture, uint8 (3, H, W), among the centres, (R, D), of its features: (1, R, 2 h, 2 w)."""
        nearest = torch.cdist(features.flatten(1).T, centres.to(features)).argmin(dim=1).view(features.shape[1:])
        return joint_bilateral_shares(nearest, len(centres), shrink(pixels, _SIDE).to(features.device))


def cluster(features: Tensor, count: int) -> Tensor:
    """Find the centres, (count, D), of the clusters of (D, h, w), those highest in the picture first.

    k-means (Lloyd 1982), begun as k-means++ does (Arthur and Vassilvitskii 2007): the best of a few tries.
    """
    points = features.flatten(1).T
    count = min(count, len(points))
    random = torch.Generator().manual_seed(0)  # on the CPU: the same on every device
    best, least = points[:count], float("inf")
    for _ in range(_RESTARTS):
        # Centres far from each other
        centres = points[torch.randint(len(points), (1,), generator=random)]
        for _ in range(count - 1):
            distances = torch.cdist(points, centres).square().amin(dim=1).cpu()
            weights = distances if distances.sum() > 0 else torch.ones_like(distances)
            centres = torch.cat([centres, points[torch.multinomial(weights, 1, generator=random)]])

        # Moved to the means of what is nearest to them, until they stay
        for _ in range(_ITERATIONS):
            nearest = F.one_hot(torch.cdist(points, centres).argmin(dim=1), count).to(points)
            means = (nearest.T @ points) / nearest.sum(dim=0).clamp_min(1.0)[:, None]
            moved = torch.where(nearest.any(dim=0)[:, None], means, centres)
            if torch.equal(moved, centres):
                break
            centres = moved
        inertia = torch.cdist(points, centres).amin(dim=1).square().sum().item()
        if inertia < least:
            best, least = centres, inertia
    return best[best[:, -2].argsort()]  # the last two are the row and the column


def joint_bilateral_shares(numbers: Tensor, count: int, image: Tensor) -> Tensor:
    """Decide by colour where regions, numbered (h, w) from 0, end: features there are of both sides, and like a third.

    Places whose neighbours are all of their own region stay in it. Others, and bands too narrow to have such places,
    take from those around, the more the nearer and the more alike in image, (1, 3, H, W): a joint
    bilateral filter (Petschnigg et al. 2004). Returns shares, (1, count, 2 h, 2 w).
    """
    size = (2 * numbers.shape[0], 2 * numbers.shape[1])
    regions = F.one_hot(numbers, count).permute(2, 0, 1)[None].float()
    inner = F.avg_pool2d(regions, 3, 1, 1, count_include_pad=False) > 1.0 - 1e-4
    regions, settled_shares = (F.interpolate(x.float(), size) for x in (regions, inner))
    colours = F.adaptive_avg_pool2d(image, size)

    # The weights of the places around each, from their distance and colour
    width = 2 * _AROUND + 1
    around = F.unfold(colours, width, padding=_AROUND).unflatten(1, (3, -1))
    alike = (around - colours.flatten(2)[:, :, None]).square().sum(dim=1) / (2.0 * _ALIKE**2)
    steps = torch.arange(-_AROUND, _AROUND + 1, device=image.device)
    distance = (steps[:, None].square() + steps.square()).flatten() / (2.0 * (_AROUND / 2.0) ** 2)
    weights = torch.exp(-alike - distance[:, None])
    sums = (F.unfold(settled_shares, width, padding=_AROUND).unflatten(1, (count, -1)) * weights[:, None]).sum(dim=2)

    # Places that have nothing settled around keep what they are
    total = sums.sum(dim=1, keepdim=True)
    filled = torch.where(total > 1e-6, sums / total.clamp_min(1e-6), regions.flatten(2)).unflatten(2, size)
    return torch.where(settled_shares.amax(dim=1, keepdim=True) > 0, settled_shares, filled)


def shrink(pixels: Tensor, side: int) -> Tensor:
    """Return uint8 (3, H, W) as (1, 3, h, w) in [-1, 1], with a short side of at most so many pixels."""
    factor = min(1.0, side / min(pixels.shape[-2:]))
    size = [max(1, round(length * factor)) for length in pixels.shape[-2:]]
    scaled = F.interpolate(pixels[None], size, mode="bilinear", antialias=True) if factor < 1.0 else pixels[None]
    return to_float(scaled)


@dataclass
class NetworkRegions:
    """Find regions with a network of torchvision; weights: "default" (hub cache) or a path; table: names."""

    network: str
    weights: str = "default"
    table: str | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        self._network, classes = segmentation_network(self.network, self.weights)
        self._network.to(self.device)
        self.names, _ = read_table(self.table or "voc")
        if classes != len(self.names):
            table = f"segmentation.names={self.table or 'voc'} has {len(self.names)} names"
            raise ValueError(f"segmentation.weights={self.weights}: {classes} classes, but {table}; give as many")

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, groups: Groups, classes: Path | None = None) -> Tensor:
        scores = self._network(shrink(pixels, PREFERRED_SIDE).to(self.device)).softmax(dim=1)
        order = list(self.names)
        return torch.stack([scores[:, [order.index(n) for n in group]].sum(dim=1) for group in groups], dim=1).cpu()


@dataclass
class MaskRegions:
    """Read regions from class-index masks that somebody else has made; table: the names of their numbers.

    option, table_option: how messages call the masks and the table.
    """

    table: str
    option: str = "segmentation.masks"
    table_option: str = "segmentation.names"

    def __post_init__(self) -> None:
        self.names, self._segments = read_table(self.table, self.table_option)

    def __call__(self, pixels: Tensor, groups: Groups, classes: Path | None = None) -> Tensor:
        assert classes is not None
        numbers = read_class_mask(classes, self.option)
        check_proportions(numbers, pixels, f"{self.option}={classes}")
        if self._segments:  # of a panoptic mask, whose segments have their classes in COCO's table
            if classes.name not in self._segments:
                raise ValueError(f"{self.table_option}={self.table}: it says nothing of {classes.name}")
            segments, numbers = numbers, torch.full_like(numbers, -1)
            for segment, category in self._segments[classes.name].items():
                numbers[segments == segment] = category
        shares = [torch.isin(numbers, torch.tensor(list(group)).to(numbers)) for group in groups]
        return torch.stack(shares)[None].float()


def make_segmenter(
    *,
    network: str | None = None,
    weights: str | None = None,
    masks: Any = None,
    names: str | None = None,
    regions: int = 3,
    device: torch.device | None = None,
) -> Segmenter:
    """Build what options ask for; masks: where class-index masks are, if any. ValueError for what is not there."""
    device = device or torch.device("cpu")
    if network is not None and masks is not None:
        raise ValueError(f"segmentation.network={network} and segmentation.masks={masks}: give one of them")
    if network is not None:
        return NetworkRegions(network, weights or "default", names, device)
    if weights is not None:
        raise ValueError(f"segmentation.weights={weights}: say with segmentation.network=... which network's they are")
    if masks is not None:
        if names is None:
            raise ValueError(f"segmentation.masks={masks}: segmentation.names=... is missing, the names of its classes")
        return MaskRegions(names)
    if names is not None:
        raise ValueError(f"segmentation.names={names}: give segmentation.masks=... or segmentation.network=..., too")
    return PictureRegions(regions, device)


def read_class_mask(path: Path, option: str = "segmentation.masks") -> Tensor:
    """Read the numbers of a mask, int32 (H, W), as they are stored.

    Of a palette its indices (Pascal VOC), of grey its values (8 or 16 bits: Cityscapes), of colours COCO's panoptic
    R + 256 G + 65536 B. ValueError, naming the option, for anything else.
    """
    try:
        with unreadable_picture(path), open_picture(path) as picture:
            kind, values = picture.mode, np.asarray(picture)
    except UnreadablePictureError as error:
        raise ValueError(f"{option}: {error}") from error
    if kind == "RGB":
        values = values.astype(np.int32) @ np.array([1, 256, 65536], dtype=np.int32)
    elif values.ndim != 2 or kind not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
        raise ValueError(f"{option}={path}: a picture of kind {kind}; indices, grey or RGB expected")
    return torch.from_numpy(values.astype(np.int32))


def check_proportions(mask: Tensor, picture: Tensor, name: str) -> None:
    """Raise ValueError for a mask, (h, w), that cannot be of this picture, (..., H, W)."""
    (h, w), (height, width) = mask.shape, picture.shape[-2:]
    if abs(h * width - w * height) > max(height, width, h, w):
        sizes = f"its size is {w} x {h} pixels, but the picture's is {width} x {height}"
        raise ValueError(f"{name}: {sizes}; they have to agree, or be in proportion")


_EDGE_SIDE = 512  # pixels: the short side at which edges are looked for
_FLAT = 1e-4  # variance of luma in [0, 1] below which a window has no edge
_SOFTEST = 0.1  # less of a region than this is none of it, so that a mask's outside is exactly 0
_STRIP_ROWS = 512  # of the full size that are worked at together


@dataclass(frozen=True)
class NamedMasks:
    """Make masks, {key: uint8 (H, W)}, of the regions that are called by these names: {key: names}."""

    segmenter: Segmenter
    names: Mapping[str, Sequence[str]]

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown name, and for one that is wanted twice."""
        owners: dict[int, str] = {}
        for key, numbers in self.groups.items():
            for number in numbers:
                if owners.setdefault(number, key) != key:
                    name = self.segmenter.names[number]
                    raise ValueError(f"mask: {name} is given to {owners[number]} and to {key}; it can have one style")

    @property
    def groups(self) -> dict[str, list[int]]:
        """Return the numbers of the classes that each key stands for."""
        option = {key: f"mask.{key}" if key else "mask" for key in self.names}
        return {
            key: sorted({number for name in names for number in numbers_of(name, self.segmenter.names, option[key])})
            for key, names in self.names.items()
        }

    def __call__(self, pixels: Tensor, classes: Path | None = None) -> dict[str, Tensor]:
        """Return the masks of uint8 (3, H, W). classes: its class-index mask, where the segmenter reads them."""
        return self.refined(pixels, self.shares(pixels, classes))

    def shares(self, pixels: Tensor, classes: Path | None = None) -> Tensor:
        """Compute each key's share of each place, (1, G, h, w) in [0, 1], at the segmenter's own size."""
        return self.segmenter(pixels, list(self.groups.values()), classes)

    def refined(self, pixels: Tensor, shares: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.names, refine(pixels, shares), strict=True))


@torch.inference_mode()
def refine(pixels: Tensor, shares: Tensor) -> Tensor:
    """Bring coarse shares (1, R, h, w) to the size of a picture, uint8 (3, H, W), and to its edges: uint8 (R, H, W).

    The guided filter of He et al. 2010, guided by luma: fitted to a smaller picture, with windows as wide as a cell of
    the shares, and applied to the full size (He and Sun 2015, "Fast Guided Filter"). Nowhere more than 255 in all.
    """
    height, width = pixels.shape[-2:]
    shares = shares.cpu().float()
    shares = torch.cat([shares, 1.0 - shares.sum(dim=1, keepdim=True)], dim=1)

    # In each window shares are a linear function of luma
    guide = luma(shrink(pixels, _EDGE_SIDE))
    coarse = F.interpolate(shares, guide.shape[-2:], mode="bilinear", antialias=True)
    window = 2 * max(1, round(guide.shape[-1] / shares.shape[-1])) + 1
    gain = guided_gain(guide, coarse, window, _FLAT)
    offset = window_mean(window_mean(coarse, window) - gain * window_mean(guide, window), window)
    gain = window_mean(gain, window)

    # Applied to the luma of the full size, a strip at a time; what is faint is dropped
    masks = torch.empty(shares.shape[1] - 1, height, width, dtype=torch.uint8)
    for top in range(0, height, _STRIP_ROWS):
        strip = (slice(top, min(height, top + _STRIP_ROWS)), slice(0, width))
        slope, level = (scaled_part(x, *strip, height, width) for x in (gain, offset))
        values = slope * luma(to_float(pixels[(slice(None), *strip)][None])) + level
        values = ((values - _SOFTEST) / (1.0 - 2.0 * _SOFTEST)).clamp(0.0, 1.0)
        values = values / values.sum(dim=1, keepdim=True).clamp_min(1e-6)
        ends = values.cumsum(dim=1).mul(255.0).round().to(torch.uint8)  # rounded so that they still sum to 255
        masks[(slice(None), *strip)] = ends.diff(dim=1, prepend=torch.zeros_like(ends[:, :1]))[0, :-1]
    return masks
