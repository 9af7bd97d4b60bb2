"""Other people's networks, with weights that the tests make: what they measure, and what is said where they are not."""

import pickle
import re
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gan_style.evaluation import external
from gan_style.evaluation.external import inception, lpips
from gan_style.images.decode import to_float, to_uint8

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """An empty hub cache, and no network."""

    def no_network(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    return tmp_path / "torch" / "hub" / "checkpoints"


ALEXNET = "alexnet-owt-7be5be79.pth"


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """AlexNet with random weights."""
    from torchvision.models import alexnet

    torch.manual_seed(0)
    network = alexnet(weights=None)
    network.classifier = nn.Sequential()  # 55 of the 61 million weights, and LPIPS takes none of them
    return network


@pytest.fixture(scope="module")
def measure(network, tmp_path_factory):
    """LPIPS with these weights, under torchvision's names and where torchvision keeps its own."""
    home = tmp_path_factory.mktemp("home")
    (home / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(alexnet_names(network), home / "hub" / "checkpoints" / ALEXNET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(home))
        return lpips(CPU)


def alexnet_names(network: nn.Module) -> dict[str, torch.Tensor]:
    """With a classifier that takes no room in the file: every row is the same."""
    shapes = {"1": (4096, 9216), "4": (4096, 4096), "6": (1000, 4096)}
    classifier = {f"classifier.{k}.weight": torch.zeros(1).expand(shape) for k, shape in shapes.items()}
    biases = {f"classifier.{k}.bias": torch.zeros(1).expand(shape[0]) for k, shape in shapes.items()}
    return network.state_dict() | classifier | biases


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Inception's, with random weights under torch-fidelity's names."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unfilled(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_, **__):
            pass

    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    network = Unfilled("inception", ["2048"], feature_extractor_weights_path=str(path))
    for part in network.modules():
        if isinstance(part, nn.Conv2d):  # so that something is left of the picture after so many layers
            nn.init.kaiming_normal_(part.weight)
    torch.save(network.state_dict(), path)
    return inception(str(path), CPU)


class TestLpips:
    def test_each_pair_is_measured_alone(self, measure, noise):
        pairs = [(noise(1, 3, 40, 40, seed=s), noise(1, 3, 40, 40, seed=s + 9)) for s in (0, 1)]
        first = [measure(*pair).item() for pair in pairs]
        assert [measure(*pair).item() for pair in reversed(pairs)] == first[::-1]
        assert first[0] != first[1]

    def test_is_zhangs_sum_over_layers(self, measure, network, noise):
        """Equation 1: unit length over channels, squared differences weighted by w, mean over positions, summed."""
        import torchmetrics.functional.image.lpips as library

        result, content = noise(1, 3, 64, 64, seed=1), noise(1, 3, 64, 64, seed=2)
        weights = torch.load(Path(library.__file__).parent / "lpips_models" / "alex.pth", CPU, weights_only=True)
        shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
        x, y, total = (result - shift) / scale, (content - shift) / scale, torch.zeros(())
        after = {1: 0, 4: 1, 7: 2, 9: 3, 11: 4}  # the ReLUs
        for number, layer in enumerate(network.features):
            x, y = layer(x), layer(y)
            if number in after:
                apart = (F.normalize(x, eps=1e-8) - F.normalize(y, eps=1e-8)).square()
                total += F.conv2d(apart, weights[f"lin{after[number]}.model.1.weight"]).mean()
        assert measure(result, content).shape == (1,) and measure(content, content).item() == 0
        assert measure(result, content).item() == pytest.approx(total.item(), rel=1e-4)

    def test_takes_results_that_leave_the_range(self, measure, noise):
        content = noise(1, 3, 40, 40)
        assert measure(content * 3, content) == measure((content * 3).clamp(-1, 1), content)

    def test_says_which_pictures_are_too_small(self, measure, noise):
        assert measure(noise(1, 3, 31, 40), noise(1, 3, 31, 40)) == 0
        with pytest.raises(ValueError, match="lpips: a picture of 40 x 30 pixels is too small; allowed are 31 a side"):
            measure(noise(1, 3, 30, 40), noise(1, 3, 30, 40))

    def test_without_weights_says_where_they_belong(self, hub):
        path = re.escape(str(hub / ALEXNET))
        with pytest.raises(ValueError, match=f"(?s)the metric lpips: its weights cannot be loaded.*no network.*{path}"):
            lpips(CPU)

    def test_damaged_weights_are_no_traceback(self, hub):
        hub.mkdir(parents=True)
        (hub / ALEXNET).write_bytes(b"no weights")
        with pytest.raises(ValueError, match=r"lpips: its weights cannot be loaded .*alexnet-owt-7be5be79\.pth"):
            lpips(CPU)


class TestInception:
    def test_gives_the_pooled_features_of_each_picture(self, features, noise):
        pictures = noise(2, 3, 40, 50)
        actual = features(pictures)
        assert actual.shape == (2, 2048) and actual.dtype == torch.float32 and actual.isfinite().all()
        single = features(pictures[1:])[0]
        assert (actual[1] - single).norm() < 1e-3 * (actual[1] - actual[0]).norm()
        assert not actual.requires_grad

    def test_looks_at_eight_bits_as_the_metric_is_defined(self, features, noise):
        picture = noise(1, 3, 40, 40)
        assert torch.equal(features(picture), features(to_float(to_uint8(picture))))
        assert torch.equal(features(picture * 2), features((picture * 2).clamp(-1, 1)))

    def test_without_weights_names_the_option(self):
        with pytest.raises(ValueError, match=r"(?s)the metric fid.*no network.*inception_weights=<path>"):
            inception(None, CPU)

    def test_a_file_that_is_not_there_or_of_another_network_or_would_run_code_is_refused(self, tmp_path):
        """torch-fidelity loads pickles as they are."""

        class Trap:
            def __reduce__(self):
                return Path.touch, (tmp_path / "sprung",)

        torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
        (tmp_path / "trap.pth").write_bytes(pickle.dumps(Trap(), protocol=2))
        torch.save({"fc.weight": Trap()}, tmp_path / "trap2.pth")
        for name, message in {
            "nowhere.pth": r"inception_weights=.*nowhere\.pth: there is no such file",
            "other.pth": "fid: its weights cannot be loaded .*inception_weights",
            "trap.pth": r"inception_weights=.*trap\.pth: not a readable weights file",
            "trap2.pth": r"inception_weights=.*trap2\.pth: not a readable weights file",
        }.items():
            with pytest.raises(ValueError, match=message):
                inception(str(tmp_path / name), CPU)
        assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("make", "metric", "library"),
    [(lambda: lpips(CPU), "lpips", "torchmetrics"), (lambda: inception(None, CPU), "fid", "torch-fidelity")],
)
def test_a_library_that_is_missing_is_named_with_what_installs_it(monkeypatch, make, metric, library):
    monkeypatch.setattr(external, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"the metric {metric} needs {library}: pip install 'gan_style\[metrics\]'"):
        make()
