"""Small builders that several test files share."""

import base64
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor

from gan_style.data.stream import Batch
from gan_style.losses.adversarial import Adversarial
from gan_style.losses.content import Content
from gan_style.losses.objective import Objective, content_layers, style_layers
from gan_style.losses.pixel import SquaredVariation
from gan_style.losses.style import EACH, MEAN, GramStyle
from gan_style.models.discriminator import PatchDiscriminator
from gan_style.models.generator import ResnetGenerator
from gan_style.models.perceptual import compact
from gan_style.training.schedule import Schedule
from gan_style.training.state import Ema, TrainState

settings.register_profile(
    "tests",
    deadline=None,
    max_examples=30,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],  # says more of the machine than of the test
)
settings.load_profile("tests")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a script's background, and in all that it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)  # tiny networks: threads would only wait for each other, and sums keep their order


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Set back what a command that runs in this process has set."""
    yield
    torch.set_num_threads(1)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Uniform in [-1, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1.0


@pytest.fixture(name="noise")
def noise_fixture() -> Callable[..., Tensor]:
    return noise


@pytest.fixture(scope="session")
def real_vgg() -> str:
    """The path of the real VGG-19's weights up to relu3_4; skips the test where they are not."""
    path = Path(__file__).parents[2] / "shared" / "weights" / "vgg19_relu3_4.safetensors"
    if not path.is_file():
        pytest.skip(f"the real VGG-19 is not at {path}")
    return str(path)


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """A batch of uint8 noise of the given seed, which as the stream's batch of that number has its positions.

    Its styles are numbers 0, 1, 0, 1, ... of a set.
    """

    def make(seed: int = 0, count: int = 2, size: int = 24) -> Batch:
        shape, random = (count, 3, size, size), torch.Generator().manual_seed(seed)
        content, style = (torch.randint(0, 256, shape, dtype=torch.uint8, generator=random) for _ in range(2))
        return Batch(content, style, torch.arange(count) % 2, list(range(seed * count, (seed + 1) * count)), [])

    return make


@pytest.fixture
def make_objective() -> Callable[..., Objective]:
    """Content, style and total variation over a small random network; more terms by name, or None to leave one out.

    The style targets "mean" and "each" are those of two pictures, numbers 0 and 1.
    """

    def make(*, style_target: str = MEAN, balance: Any = None, **terms: Any) -> Objective:
        torch.manual_seed(3)
        default = {
            "adversarial": Adversarial(weight=0.5),
            "content": Content(weight=1.0, layers=["relu2_1"]),
            "style": GramStyle(weight=1.0, layers=["relu1_1", "relu2_1"], target=style_target),
            "tv": SquaredVariation(weight=0.1),
        }
        used = {name: term for name, term in (default | terms).items() if term is not None}
        layers = [*content_layers(used.values()), *style_layers(used.values())]
        objective = Objective(used, compact(layers=layers, weights="random"), balance)
        for target in {MEAN, EACH} & set(objective.targets):
            objective.set_style(target, enumerate([noise(1, 3, 24, 24, seed=5), noise(1, 3, 32, 20, seed=6)]))
        return objective

    return make


@pytest.fixture
def make_state() -> Callable[..., TrainState]:
    """Tiny networks with Adam, their weights drawn from ``seed``; keyword arguments replace fields of the state."""

    def make(
        *, seed: int = 0, adversarial: bool = True, optimiser: Any = torch.optim.Adam, **fields: Any
    ) -> TrainState:
        torch.manual_seed(seed)
        generator = ResnetGenerator(width=4, blocks=1)
        torch.nn.init.ones_(generator.blocks[0].norm.weight)  # at 0, where it begins, its convolutions learn nothing
        discriminator = PatchDiscriminator(receptive_field=16, width=4) if adversarial else None
        default = {
            "generator": generator,
            "discriminator": discriminator,
            "ema": Ema(generator, 0.99),
            "generator_optimiser": optimiser(generator.parameters(), lr=1e-3),
            "discriminator_optimiser": optimiser(discriminator.parameters(), lr=1e-3) if discriminator else None,
            "schedule": Schedule("linear", 8, 0.25),
        }
        return TrainState(**(default | fields))

    return make


@pytest.fixture
def take_part() -> Callable[..., dict[str, Any]]:
    """What a study's page saves of a participant (16 hex digits), who answers by a rule: (kind, left, right) -> choice.

    left and right are the models' names. Written after the page's script, and compared with it in the slow test.
    """

    def answer(html: str, participant: str, rule: Callable[[str, str, str], str]) -> dict[str, Any]:
        block = re.search(r'<script type="application/json" id="study">(.*?)</script>', html, re.DOTALL)
        assert block is not None
        study = json.loads(block[1])
        names = json.loads(base64.b64decode(study["names"]))
        sheet = int(participant[:8], 16) % len(study["sheets"])
        answers = []
        for number, (kind, picture, *sides, again) in enumerate(study["sheets"][sheet]):
            left, right = (study["models"][side] for side in sides)
            answers.append({"question": number, "kind": kind, "picture": picture, "left": left, "right": right})
            answers[-1] |= {"repeat_of": again, "choice": rule(kind, names[left], names[right]), "seconds": 1.5}
        copied = {key: study[key] for key in ("format", "version", "study", "allow_ties", "models", "names")}
        return copied | {"participant": participant, "sheet": sheet, "questions": len(answers), "answers": answers}

    return answer


@pytest.fixture(scope="session")
def chromium():
    """A Chromium: the one that GAN_STYLE_CHROMIUM names, one on the PATH, or Playwright's own; else the test skips."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright (the extra dev) is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    with playwright.sync_playwright() as library:
        actual = os.environ.get("GAN_STYLE_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
        path = actual or library.chromium.executable_path
        if not Path(path).is_file():
            pytest.skip(f"no Chromium: none on the PATH, nor at {path}; GAN_STYLE_CHROMIUM=... can name one")
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = library.chromium.launch(executable_path=path, args=["--no-sandbox", *camera])
        yield browser
        browser.close()
