"""Perceptual networks: torchvision's features by name, weights files and their troubles, calibration."""

import itertools
import math
import re
import urllib.error
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms.v2 import functional as transforms

from gan_style.demo import demo_pictures
from gan_style.functional import gram_matrix
from gan_style.images.decode import decode, to_float
from gan_style.losses.content import content_loss
from gan_style.losses.style import gram_loss
from gan_style.models import perceptual
from gan_style.models.perceptual import COMPACT, Perceptual, compact, vgg16, vgg19

SHALLOW = ["relu1_1", "conv2_1", "relu2_2"]
PACKAGED = Path(str(files("gan_style"))) / "assets" / "perceptual" / "compact.safetensors"
needs_packaged = pytest.mark.skipif(not PACKAGED.is_file(), reason=f"compact is not distilled yet: no {PACKAGED}")


def torchvision_features(name: str) -> nn.Sequential:
    """torchvision's own ``features`` with random weights under which no layer dies or explodes."""
    with torch.device("meta"):
        features = torchvision.models.get_model(name, weights=None).features
    features = features.to_empty(device="cpu").requires_grad_(False)
    random = torch.Generator().manual_seed(0)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, generator=random)
            nn.init.normal_(layer.bias, std=0.1, generator=random)
    return features


def state_of(features: nn.Module) -> dict[str, Tensor]:
    return {f"features.{key}": tensor for key, tensor in features.state_dict().items()}


def named_outputs(features: nn.Sequential, images: Tensor) -> dict[str, Tensor]:
    """Each layer's output by name; a copy goes into each layer, since torchvision's ReLU works in place."""
    weights = torchvision.models.VGG19_Weights.IMAGENET1K_V1.transforms()
    x = transforms.normalize((images + 1) / 2, weights.mean, weights.std)
    actual, block, position = {}, 1, 0
    for layer in features:
        x = layer(x.clone())
        if isinstance(layer, nn.Conv2d):
            position += 1
            actual[f"conv{block}_{position}"] = x
        elif isinstance(layer, nn.ReLU):
            actual[f"relu{block}_{position}"] = x
        else:
            block, position = block + 1, 0
    return actual


@pytest.fixture(scope="module", params=["vgg19", "vgg16"])
def known(request, tmp_path_factory) -> tuple[str, nn.Sequential, Path]:
    """(name, torchvision's features, the file they are saved in)."""
    features = torchvision_features(request.param)
    path = tmp_path_factory.mktemp("weights") / f"{request.param}.pth"
    torch.save(state_of(features), path)
    return request.param, features, path


@pytest.fixture(scope="module")
def short_features() -> nn.Sequential:
    """VGG-19 up to relu2_2: small enough to be saved again and again."""
    return torchvision_features("vgg19")[:9]


class TestFeatures:
    def test_are_torchvisions_at_every_named_layer(self, known, noise):
        name, features, path = known
        images = noise(2, 3, 40, 36)
        expected = named_outputs(features, images)
        network = getattr(perceptual, name)(layers=list(expected), weights=str(path))
        result = network(images, list(expected))
        assert torch.equal(images, noise(2, 3, 40, 36))
        assert result.keys() == expected.keys() == set(network.architecture.layers())
        for layer in expected:
            size = expected[layer].abs().max()
            assert size > 0.1  # so that the comparison means something
            torch.testing.assert_close(result[layer] / size, expected[layer] / size, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("layers", [["conv1_1"], ["relu2_1"], ["relu3_1", "relu1_2"]])
    def test_do_not_depend_on_what_else_is_asked_for(self, noise, layers):
        torch.manual_seed(0)
        network = vgg19(layers=["relu3_1", "conv1_1", "relu1_2", "relu2_1"], weights="random")
        all_features, some = network(noise(1, 3, 16, 16), network.layers), network(noise(1, 3, 16, 16), layers)
        assert some.keys() == set(layers)
        assert all(torch.equal(some[layer], all_features[layer]) for layer in layers)

    def test_run_no_deeper_than_they_have_to(self, noise):
        network = vgg19(layers=["relu3_1", "relu3_2"], weights="random")
        multiplications = 16 * 16 * (3 * 64 + 64 * 64) + 8 * 8 * (64 * 128 + 128 * 128) + 4 * 4 * 128 * 256
        for layers, products in (([], 0), (["relu3_1"], 9 * multiplications)):
            with FlopCounterMode(display=False) as counter:
                network(noise(1, 3, 16, 16), layers)
            assert counter.get_total_flops() == 2 * products

    def test_of_compact_are_read_through_linear_heads(self, noise):
        torch.manual_seed(0)
        network = compact(layers=["relu1_2", "relu2_1"], weights="random")
        x = (noise(1, 3, 16, 16) * 0.5 + 0.5 - network.mean) / network.std
        x = network.features["2"](network.features["0"](x).clamp(min=0)).clamp(min=0)
        expected = torch.einsum("oi,nihw->nohw", network.heads["1_2"].weight[..., 0, 0], x)
        torch.testing.assert_close(network(noise(1, 3, 16, 16), ["relu1_2"])["relu1_2"], expected)
        x = network.features["5"](nn.functional.max_pool2d(x, 2)).clamp(min=0)
        expected = network.heads["2_1"](x)
        torch.testing.assert_close(network(noise(1, 3, 16, 16), ["relu2_1"])["relu2_1"], expected)

    @pytest.mark.parametrize("make", [vgg19, compact])
    def test_scales_inside_the_weights_divide_every_feature(self, noise, make):
        layers = ["relu1_1", "relu2_1", "relu2_2"] + (["conv1_1", "conv3_1"] if make is vgg19 else [])
        torch.manual_seed(0)
        network = make(layers=layers, weights="random")
        plain = {layer: features.clone() for layer, features in network(noise(1, 3, 24, 24), layers).items()}
        network.scales = {layer: 0.01 * 7**number for number, layer in enumerate(layers)}
        for layer, features in network(noise(1, 3, 24, 24), layers).items():
            torch.testing.assert_close(features * network.scales[layer], plain[layer], rtol=1e-5, atol=1e-6)

    def test_follow_weights_that_are_loaded_later(self, noise):
        first, second = (vgg19(layers=["relu1_1"], weights="random") for _ in range(2))
        before = first(noise(1, 3, 8, 8), ["relu1_1"])["relu1_1"]
        first.load_state_dict(second.state_dict())
        after = first(noise(1, 3, 8, 8), ["relu1_1"])["relu1_1"]
        assert torch.equal(after, second(noise(1, 3, 8, 8), ["relu1_1"])["relu1_1"]) and not torch.equal(after, before)

    def test_looked_at_without_gradients_have_them_afterwards_and_the_network_gathers_none(self, noise):
        network = vgg19(layers=["relu2_1"], weights="random")
        with torch.inference_mode():
            network(noise(1, 3, 16, 16), ["relu2_1"])
        images = noise(1, 3, 16, 16).requires_grad_()
        network(images, ["relu2_1"])["relu2_1"].sum().backward()
        assert images.grad.count_nonzero() > 0 and all(p.grad is None for p in network.parameters())

    def test_of_a_network_that_learns_reach_its_weights(self, noise):
        network = compact(layers=["relu1_2"], weights="random").requires_grad_(True)
        network(noise(1, 3, 8, 8), ["relu1_2"])["relu1_2"].square().sum().backward()
        assert all(p.grad is not None and p.grad.count_nonzero() > 0 for p in network.features.parameters())

    def test_under_autocast_are_those_of_weights_in_that_type(self, noise):
        network = vgg19(layers=["relu1_2"], weights="random")
        exact = network(noise(1, 3, 16, 16), ["relu1_2"])["relu1_2"]
        with torch.autocast("cpu", torch.bfloat16):
            half = network(noise(1, 3, 16, 16), ["relu1_2"])["relu1_2"]
        assert half.dtype == torch.bfloat16 and exact.dtype == torch.float32
        torch.testing.assert_close(half.float(), exact, rtol=0.05, atol=0.02 * exact.max().item())

    def test_layer_that_was_not_asked_for_at_first_is_refused_by_name(self, noise):
        """relu1_1 lies on the way to relu2_1, relu3_1 beyond it."""
        network = vgg19(layers=["relu2_1"], weights="random")
        for layer in ("relu3_1", "relu1_1"):
            with pytest.raises(ValueError, match=rf"{layer}.*not asked for.*relu2_1"):
                network(noise(1, 3, 16, 16), [layer])


class TestNetwork:
    @pytest.mark.parametrize(
        ("layers", "convolutions"),
        [
            (["conv1_1"], [(3, 64)]),
            (["relu2_1", "relu1_1"], [(3, 64), (64, 64), (64, 128)]),
            (["conv3_1"], [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256)]),
            ([], []),
        ],
    )
    def test_ends_at_the_deepest_layer_asked_for(self, layers, convolutions):
        network = vgg19(layers=layers, weights="random")
        shapes = [tuple(p.shape[1::-1]) for p in network.parameters() if p.dim() == 4]
        assert shapes == convolutions
        assert sum(p.numel() for p in network.parameters()) == sum(i * o * 9 + o for i, o in convolutions)

    @pytest.mark.parametrize("build", [vgg19, vgg16, compact])
    def test_is_frozen_and_in_eval(self, build):
        network = build(layers=["relu1_2"], weights="random")
        assert list(network.parameters()) and not any(p.requires_grad for p in network.parameters())
        assert not any(module.training for module in network.modules())

    @pytest.mark.parametrize(
        ("build", "layer", "suggestion"),
        [
            (vgg19, "relu3_5", r" \(did you mean relu3_4\?"),
            (vgg19, "rellu2_1", r" \(did you mean relu2_1\?"),
            (vgg16, "relu_3_3", r" \(did you mean relu3_3\?"),
            (compact, "relu3_5", r" \(did you mean relu3_4\?"),
            *((vgg16, "relu3_4", ".*relu1_1"), (compact, "conv1_1", ".*relu1_1"), (compact, "relu4_3", ".*relu1_1")),
        ],
    )
    def test_unknown_layer_is_refused_with_the_nearest(self, build, layer, suggestion):
        with pytest.raises(ValueError, match=rf"{build.__name__} has no layer '{layer}'{suggestion}"):
            build(layers=["relu1_1", layer], weights="random")


class TestWeightsFiles:
    @pytest.mark.parametrize("kind", ["zip .pth", "legacy .pth", ".safetensors", "half .safetensors"])
    def test_are_read_in_every_kind_that_torchvision_and_users_have(self, tmp_path, short_features, noise, kind):
        """torchvision's VGG files of 2017 are in the format from before torch 1.6, without a zip around it."""
        weights, path = state_of(short_features), tmp_path / f"vgg19.{kind.split('.')[1]}"
        if kind.startswith("half"):
            weights = {key: tensor.half() for key, tensor in weights.items()}
        if path.suffix == ".pth":
            torch.save(weights, path, _use_new_zipfile_serialization=kind.startswith("zip"))
        else:
            save_file(weights, path)
        result = vgg19(layers=["relu2_2"], weights=str(path))(noise(1, 3, 16, 16), ["relu2_2"])["relu2_2"]
        expected = named_outputs(short_features, noise(1, 3, 16, 16))["relu2_2"]
        assert result.dtype == torch.float32
        tolerance = 1e-2 if kind.startswith("half") else 1e-5
        torch.testing.assert_close(result, expected, rtol=0, atol=tolerance * expected.abs().max().item())

    def test_that_stop_early_serve_the_layers_they_hold(self, tmp_path, short_features):
        path = tmp_path / "short.pth"
        torch.save(state_of(short_features[:6]), path)  # conv1_1, conv1_2 and conv2_1
        assert vgg19(layers=["relu2_1"], weights=str(path)).layers == ["relu2_1"]
        with pytest.raises(ValueError, match=r"relu2_2 lies deeper than.*short\.pth.*it ends at relu2_1"):
            vgg19(layers=["relu1_1", "relu2_2"], weights=str(path))

    def test_of_a_compact_that_ended_at_relu3_4_serve_the_layers_they_hold(self, tmp_path, noise):
        path = tmp_path / "three blocks.safetensors"
        before = compact(layers=["relu3_4"], weights="random")
        before.form_factors.copy_(torch.linspace(1.5, 2.5, 8))
        save_file(before.state_dict(), path)
        network = compact(layers=["relu2_1", "relu3_4"], weights=str(path))
        expected = before(noise(1, 3, 16, 16), ["relu3_4"])["relu3_4"]
        assert torch.equal(network(noise(1, 3, 16, 16), ["relu3_4"])["relu3_4"], expected)
        assert torch.equal(network.form_factors, before.form_factors)
        assert torch.equal(compact(layers=["relu1_2"], weights=str(path)).form_factors, before.form_factors[:2])
        with pytest.raises(ValueError, match=r"relu4_1 lies deeper than.*three blocks.*it ends at relu3_4"):
            compact(layers=["relu3_2", "relu4_1"], weights=str(path))

    def test_are_not_changed_by_being_read(self, tmp_path, short_features):
        torch.save(state_of(short_features), tmp_path / "short.pth")
        before = (tmp_path / "short.pth").read_bytes()
        for parameter in vgg19(layers=["relu2_2"], weights=str(tmp_path / "short.pth")).parameters():
            parameter.zero_()
        assert (tmp_path / "short.pth").read_bytes() == before

    @pytest.mark.parametrize("build", [vgg19, vgg16, compact])
    def test_missing_file_is_named(self, tmp_path, build):
        path = tmp_path / "none.pth"
        with pytest.raises(ValueError, match=rf"perceptual\.weights={re.escape(str(path))}: there is no such file"):
            build(layers=["relu1_1"], weights=str(path))

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".txt"])
    @pytest.mark.parametrize("content", [b"not weights at all\n", b"", b"<html>404</html>" * 100])
    def test_file_that_holds_no_weights_is_named(self, tmp_path, suffix, content):
        path = tmp_path / f"notes{suffix}"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"perceptual\.weights={re.escape(str(path))}"):
            vgg19(layers=["relu1_1"], weights=str(path))

    @pytest.mark.parametrize(
        "content",
        [
            {"classifier.weight": torch.zeros(3)},
            {"features.0.weight": torch.zeros(16, 3, 3, 3), "features.0.bias": torch.zeros(16)},
            {"state_dict": {"features.0.weight": torch.zeros(64, 3, 3, 3)}},
            *([torch.zeros(3)], torch.zeros(3)),
            {"features.0.weight": Path("/")},  # anything but tensors and plain containers could run code
        ],
        ids=["other names", "other widths", "nested", "a list", "a tensor", "code"],
    )
    def test_weights_of_something_else_are_refused_naming_the_option(self, tmp_path, content):
        path = tmp_path / "other.pth"
        torch.save(content, path)
        with pytest.raises(ValueError, match=r"perceptual\.weights") as refusal:
            vgg19(layers=["relu1_1"], weights=str(path))
        assert str(path) in str(refusal.value)


class TestImagenet:
    FILES = (("vgg19", "vgg19-dcbb9e9d.pth"), ("vgg16", "vgg16-397923af.pth"))

    @pytest.mark.parametrize(("name", "file"), FILES)
    def test_without_a_network_the_message_says_what_to_do(self, tmp_path, monkeypatch, name, file):
        """The file's name and address are torchvision's."""
        downloads = []

        def refuse(url, target, *, hash_prefix):
            downloads.append((url, hash_prefix))
            raise urllib.error.URLError("no network")

        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
        with pytest.raises(ValueError) as refusal:
            getattr(perceptual, name)(layers=["relu1_1"])
        place = f"{file} at {tmp_path / 'checkpoints' / file}"
        for part in ("perceptual.weights=imagenet", place, "perceptual=compact", "no network"):
            assert part in str(refusal.value)
        url = torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
        assert downloads == [(url, url.rpartition("-")[2].removesuffix(".pth"))]

    def test_file_in_the_hub_folder_is_loaded(self, tmp_path, monkeypatch, short_features, noise):
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        path = tmp_path / "checkpoints" / "vgg19-dcbb9e9d.pth"
        path.parent.mkdir()
        torch.save(state_of(short_features), path)
        result = vgg19(layers=["relu2_1"])(noise(1, 3, 16, 16), ["relu2_1"])["relu2_1"]
        torch.testing.assert_close(result, named_outputs(short_features, noise(1, 3, 16, 16))["relu2_1"])


class TestCalibration:
    LAYERS = ("relu1_1", "relu2_1", "relu2_2")
    WITH_CONV = ("relu1_1", "conv2_1", "relu2_2")

    def network(self, build: Callable[..., Perceptual] = vgg19, layers: Sequence[str] = WITH_CONV) -> Perceptual:
        torch.manual_seed(0)
        return build(layers=layers, weights="random")

    def test_gives_each_layer_of_compact_the_root_mean_square_of_its_form_factor(self, noise):
        network, pictures = self.network(compact, self.LAYERS), [noise(1, 3, 16, 16, seed=seed) for seed in range(3)]
        network.form_factors.copy_(torch.linspace(1.5, 2.5, 4))  # relu1_1, relu1_2, relu2_1, relu2_2
        network.calibrate(pictures)
        for layer in self.LAYERS:
            squares = [network(picture, [layer])[layer].square().mean().item() for picture in pictures]
            expected = 1.5 + COMPACT.layers().index(layer) / 3
            assert (sum(squares) / 3) ** 0.5 == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(("build", "power"), [(vgg19, 1), (compact, 2)])
    def test_counts_every_picture_alike_whatever_its_size(self, noise, build, power):
        """By the mean of a VGG's features, and the root mean square of compact's."""
        layers = self.WITH_CONV if build is vgg19 else self.LAYERS
        network, small, large = self.network(build, layers), noise(1, 3, 16, 16) * 0.1, noise(1, 3, 40, 32, seed=1)
        network.features["0"].weight *= 1000.0
        by_hand = {}
        for layer in layers:
            means = [network(x, [layer])[layer].double().abs().pow(power).mean().item() for x in (small, large)]
            by_hand[layer] = (sum(means) / 2) ** (1 / power)
        network.calibrate([small, large])
        assert network.scales == pytest.approx(by_hand, rel=1e-5)

    @pytest.mark.parametrize("build", [vgg19, compact])
    def test_twice_is_as_good_as_once(self, noise, build):
        network, pictures = self.network(build, self.LAYERS), [noise(1, 3, 16, 16)]
        network.calibrate(pictures)
        once = dict(network.scales)
        network.calibrate(pictures)
        assert network.scales == once

    def test_survives_a_layer_that_is_silent(self, noise):
        for build in (vgg19, compact):
            network = self.network(build, self.LAYERS)
            for parameter in network.parameters():
                parameter.zero_()
            network.calibrate([noise(1, 3, 16, 16)])
            assert all(features.count_nonzero() == 0 for features in network(noise(1, 3, 16, 16), self.LAYERS).values())


class TestGivenScales:
    @pytest.mark.parametrize("build", [vgg19, vgg16, compact])
    def test_are_what_the_features_are_divided_by(self, noise, build):
        options = {"relu2_1": 4, "relu1_1": 0.25, "relu3_1": 7.0}  # in any order, and more than are needed
        networks = []
        for scales in (None, options):
            torch.manual_seed(0)
            networks.append(build(layers=["relu1_1", "relu2_1"], weights="random", scales=scales))
        raw, scaled = (network(noise(1, 3, 16, 16), ["relu1_1", "relu2_1"]) for network in networks)
        for layer, features in raw.items():
            torch.testing.assert_close(scaled[layer], features / options[layer])
        assert networks[1].scales == {"relu1_1": 0.25, "relu2_1": 4.0}
        assert [network.scales_given for network in networks] == [False, True]

    @pytest.mark.parametrize("build", [vgg19, vgg16, compact])
    @pytest.mark.parametrize("value", [None, 0, -2.5, math.nan, math.inf, "one"])
    def test_that_cannot_be_are_refused_naming_the_option(self, build, value):
        scales = {"relu2_1": 1.0} | ({} if value is None else {"relu1_1": value})
        missing = ": relu1_1 missing; give one for each of relu1_1, relu2_1"
        message = missing if value is None else f".relu1_1={value}; allowed are numbers above 0"
        with pytest.raises(ValueError, match=re.escape(f"perceptual.scales{message}")):
            build(layers=["relu2_1", "relu1_1"], weights="random", scales=scales)


@pytest.fixture
def whole_vgg() -> str:
    """The path of the real VGG-19's weights up to relu5_4; skips the test where they are not."""
    path = Path(__file__).parents[3] / "shared" / "weights" / "vgg19_relu5_4.safetensors"
    if not path.is_file():
        pytest.skip(f"the real VGG-19 is not at {path}")
    return str(path)


@needs_packaged
@pytest.mark.parametrize("layer", ["relu1_1", "relu2_1", "relu3_1", "relu3_4", "relu4_1", "relu4_2"])
def test_compact_sees_styles_and_contents_as_vgg19_does(whole_vgg, layer):
    """Distances of all pairs of nine pictures correlate by 0.97 or more (a random compact: by less than 0.8)."""
    paths = [path for name in ("styles", "photos", "heldout") for path in demo_pictures(name)]
    pictures = [to_float(decode(path, short_side=160)[None, :, :96, :96]) for path in paths]
    distances = []
    for network in (vgg19(layers=[layer], weights=whole_vgg), compact(layers=[layer])):
        features = [network(picture, [layer])[layer] for picture in pictures]
        pairs = [(features[i], features[j]) for i, j in itertools.combinations(range(len(features)), 2)]
        contents = [content_loss(a, b).log() for a, b in pairs]
        styles = [gram_loss(gram_matrix(a), gram_matrix(b)).log() for a, b in pairs]
        distances.append(torch.tensor([contents, styles]))
    for of_vgg, of_compact in zip(*distances, strict=True):
        assert torch.corrcoef(torch.stack([of_vgg, of_compact]))[0, 1] > 0.97


@needs_packaged
@pytest.mark.parametrize("layer", ["relu1_1", "relu2_1", "relu3_2", "relu3_3", "relu4_1", "relu4_2"])
def test_calibrated_compact_gives_losses_of_the_size_of_vgg19s(whole_vgg, layer):
    """So that weights mean the same on both: within a factor of 2; without form factors it would be 2 to 30."""
    photos, styles = (
        [decode(p, short_side=160)[None, :, :96, :96] for p in demo_pictures(n)] for n in ("photos", "styles")
    )
    sizes = []
    for network in (vgg19(layers=[layer], weights=whole_vgg), compact(layers=[layer])):
        network.calibrate([to_float(photo) for photo in photos])
        actual = [[network(to_float(picture), [layer])[layer] for picture in pictures] for pictures in (photos, styles)]
        pairs = list(itertools.product(*actual))
        contents = [content_loss(a, b).log() for a, b in pairs]
        grams = [gram_loss(gram_matrix(a), gram_matrix(b)).log() for a, b in pairs]
        sizes.append(torch.tensor([contents, grams]).mean(dim=1))
    assert (sizes[1] - sizes[0]).abs().max() < math.log(2)


@needs_packaged
def test_packaged_compact_holds_every_layer_it_promises(noise):
    network = compact(layers=COMPACT.layers())
    result = network(noise(1, 3, 32, 32), COMPACT.layers())
    assert list(result) == COMPACT.layers()
    assert all(features.isfinite().all() and features.std() > 0 for features in result.values())
    assert (network.form_factors > 1).all()  # a root mean square is at least the mean, and VGG's features are sparse
    assert PACKAGED.stat().st_size < 2_000_000  # small enough to ship
