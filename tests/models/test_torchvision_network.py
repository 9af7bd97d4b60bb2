"""torchvision's networks as the perceptual network: its own features by its names, weights files, what is refused."""

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms

from gan_style.losses.content import Content
from gan_style.losses.objective import Objective
from gan_style.losses.style import GramStyle
from gan_style.losses.term import LossInputs
from gan_style.models.torchvision_network import torchvision_network

LAYERS = ["conv1", "bn1", "layer1.0", "layer1", "layer2.0"]
SQUEEZENET = Path(__file__).parents[3] / "shared" / "weights" / "squeezenet1_1.safetensors"


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """torchvision's resnet50 with random weights, and statistics that are not those of a fresh BatchNorm."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


@pytest.fixture(scope="module", params=[".pth", ".safetensors"])
def file(request, resnet, tmp_path_factory) -> Path:
    """A file of its weights that ends behind layer2."""
    deep = ("layer3", "layer4", "fc")
    weights = {key: value for key, value in resnet.state_dict().items() if not key.startswith(deep)}
    path = tmp_path_factory.mktemp("weights") / f"resnet50{request.param}"
    save_file(weights, path) if request.param == ".safetensors" else torch.save(weights, path)
    return path


def outputs(network: nn.Module, layers: list[str], images: Tensor) -> dict[str, Tensor]:
    """What torchvision's own forward pass gives at these modules, before anything overwrites it."""
    activations: dict[str, Tensor] = {}
    modules = dict(network.named_modules())
    hooks = [
        modules[layer].register_forward_hook(lambda _, __, out, layer=layer: activations.update({layer: out.clone()}))
        for layer in layers
    ]
    preset = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    with torch.no_grad():
        network(transforms.normalize((images + 1) / 2, preset.mean, preset.std))
    for hook in hooks:
        hook.remove()
    return activations


class TestResnet50:
    def test_features_are_torchvisions_at_every_layer(self, resnet, file, noise):
        images = noise(2, 3, 64, 80)
        network = torchvision_network(model="resnet50", layers=LAYERS[::-1], weights=str(file))
        assert network.layers == LAYERS  # from shallow to deep
        expected, features = outputs(resnet, LAYERS, images), network(images, LAYERS)
        for layer in LAYERS:
            torch.testing.assert_close(features[layer], expected[layer], rtol=1e-4, atol=1e-4)
        assert features["bn1"].min() < 0  # torchvision's ReLU would have overwritten it in place

    @pytest.mark.parametrize(
        ("model", "layers", "message"),
        [
            ("resnet50", ["layer1", "layer3"], r"layer3\.0\.conv1\.weight is missing.*up to layer3"),
            ("resnet18", ["layer1"], r"not a file of resnet18: layer1\.0\.conv1\.weight has the shape"),
        ],
        ids=["it ends too early", "another network's"],
    )
    def test_a_file_that_does_not_fit_is_refused_by_name(self, file, model, layers, message):
        with pytest.raises(ValueError, match=message):
            torchvision_network(model=model, layers=layers, weights=str(file))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return torchvision_network(model="resnet18", layers=["relu", "layer1", "layer2.0"], weights="random")


class TestNetwork:
    def test_is_frozen_in_eval_and_hands_gradients_to_the_picture(self, network, noise):
        assert not any(p.requires_grad for p in network.parameters())
        assert not any(module.training for module in network.modules())
        images = noise(3, 3, 48, 48).requires_grad_()
        network(images, ["layer2.0"])["layer2.0"][1].sum().backward()
        assert images.grad is not None and images.grad[1].count_nonzero() > 0
        assert images.grad[0].count_nonzero() == images.grad[2].count_nonzero() == 0

    def test_features_do_not_depend_on_what_else_is_asked_for(self, network, noise):
        images = noise(1, 3, 48, 48)
        all_features = network(images, network.layers)
        for layer in network.layers:
            torch.testing.assert_close(network(images, [layer])[layer], all_features[layer])
        assert network(images, []) == {}

    def test_calibration_makes_the_mean_activation_of_every_layer_one(self, network, noise):
        network.calibrate([noise(1, 3, 48, 48), noise(1, 3, 64, 48, seed=1)])
        sizes = [network(x, network.layers) for x in (noise(1, 3, 48, 48), noise(1, 3, 64, 48, seed=1))]
        for layer in network.layers:
            means = [features[layer].abs().mean().item() for features in sizes]
            assert sum(means) / 2 == pytest.approx(1.0, rel=1e-5)

    def test_serves_the_losses(self, network, noise):
        terms = {
            "content": Content(weight=1.0, layers=["layer2.0"]),
            "style": GramStyle(weight=1.0, layers=["relu", "layer1"]),
        }
        objective, fake = Objective(terms, network), noise(2, 3, 48, 48).requires_grad_()
        objective.set_style("mean", [(0, noise(1, 3, 48, 64, seed=1))])
        inputs = LossInputs(noise(2, 3, 48, 48, seed=2), noise(2, 3, 48, 48, seed=3), fake)
        loss, _ = objective.generator_loss(inputs, None, warming_up=False)
        loss.backward()
        assert loss > 0 and fake.grad is not None and fake.grad.isfinite().all()
        assert objective.describe()["perceptual"] == "resnet18"

    @pytest.mark.parametrize(
        ("model", "layer", "message"),
        [
            ("resnet18", "layer9", r"resnet18 has no layer 'layer9' \(did you mean layer"),
            ("resnet18", "fc", r"'fc' of resnet18 gives \(1, 1000\).*no map"),
            ("resnet18", "avgpool", r"'avgpool' of resnet18 gives \(1, 512, 1, 1\).*no map"),
            ("convnext_tiny", "features.1.0.block.3", r"gives \(1, 24, 40, 384\).*no map"),
            ("resnet19", "layer1", r"perceptual\.model=resnet19; allowed are .*resnet18"),
            ("vit_b_16", "encoder", r"perceptual\.model=vit_b_16; allowed are"),
        ],
    )
    def test_what_gives_no_features_is_refused(self, model, layer, message):
        with pytest.raises(ValueError, match=message):
            torchvision_network(model=model, layers=[layer], weights="random")

    @pytest.mark.parametrize("weights", ["imagenet", "IMAGENET1K_V1"])
    def test_weights_by_name_are_torchvisions_file(self, weights, monkeypatch, tmp_path):
        downloads = []

        def refuse(url, target, *, hash_prefix):
            downloads.append((url, hash_prefix))
            raise OSError("not now")

        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
        with pytest.raises(ValueError, match="not now"):
            torchvision_network(model="squeezenet1_1", layers=["features.1"], weights=weights)
        url = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url
        assert downloads == [(url, url.rpartition("-")[2].removesuffix(".pth"))]


@pytest.mark.skipif(not SQUEEZENET.is_file(), reason=f"no {SQUEEZENET}")
def test_the_real_squeezenet_tells_a_photo_from_noise(noise):
    network = torchvision_network(model="squeezenet1_1", layers=["features.1", "features.7"], weights=str(SQUEEZENET))
    smooth = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    near, far = smooth + 0.02 * noise(1, 3, 64, 64), noise(1, 3, 64, 64)
    reference = network(smooth, network.layers)
    for layer in network.layers:
        near_error, far_error = (
            (network(x, [layer])[layer] - reference[layer]).square().mean().item() for x in (near, far)
        )
        assert near_error < 0.1 * far_error
