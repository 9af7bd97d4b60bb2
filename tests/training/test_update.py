"""Updates that are not finite are left out, float16's losses are scaled, and nothing is felt of either elsewhere."""

import copy
import functools
import math
from typing import Any

import pytest
import torch
from run_files import assert_same
from torch import Tensor, nn

from gan_style.losses.adversarial import Adversarial
from gan_style.losses.pixel import SquaredVariation
from gan_style.training.state import TrainState
from gan_style.training.step import Precision, train_step

FLOAT32 = Precision(torch.device("cpu"))
FLOAT16 = Precision(torch.device("cpu"), torch.float16)
OPTIMISERS = {
    "fused Adam": functools.partial(torch.optim.Adam, lr=0.1, fused=True),
    "Adam": functools.partial(torch.optim.Adam, lr=0.1, fused=False),
    "AdamW": functools.partial(torch.optim.AdamW, lr=0.1, fused=True),
    "RMSprop": functools.partial(torch.optim.RMSprop, lr=0.1),
    "SGD with momentum": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9),
}
BAD = {
    "loss nan": lambda x: x.sum() * math.nan,
    "loss inf": lambda x: x.sum() + math.inf,
    "loss inf, gradient zero": lambda x: x.sum() * 0.0 + math.inf,
    "loss nan, of one part": lambda x: x.sum() + math.nan,
    "gradient nan": lambda x: (x - x.detach()).sum().abs().sqrt(),
    "gradient inf": lambda x: (x - x.detach() + 1e-45).sum().sqrt() * 1e38 * 10,
    "gradient of one weight": lambda x: x[0, 0] * math.inf,
}


def snapshot(state: TrainState) -> dict[str, Any]:
    """Weights, moments and counts, as they are now."""
    return copy.deepcopy(
        {
            "weights": [parameter.detach() for parameter in state.generator.parameters()],
            "optimiser": state.generator_optimiser.state_dict()["state"],
        }
    )


@pytest.fixture(params=OPTIMISERS)
def small(request, make_state) -> TrainState:
    """A state whose generator is a linear layer, after an update."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    state = make_state(
        adversarial=False, generator=layer, generator_optimiser=OPTIMISERS[request.param]([*layer.parameters()])
    )
    good_update(state)
    return state


def update(state: TrainState, losses: list[Tensor]) -> dict[str, Tensor]:
    """Update the generator by the sum of losses."""
    state.zero_grad("generator")
    return state.clip_and_step("generator", [state.backward("generator", loss) for loss in losses])


def good_update(state: TrainState) -> dict[str, Tensor]:
    return update(state, [state.generator(torch.ones(4, 3)).square().mean()])


class TestSkipping:
    @pytest.mark.parametrize("kind", BAD)
    @pytest.mark.parametrize("clip", [None, 1.0])
    def test_leaves_weights_moments_and_counts_as_they_are_and_says_so(self, small, kind, clip):
        small.clip = clip
        before = snapshot(small)
        parts = [small.generator(torch.ones(4, 3)).square().mean(), BAD[kind](small.generator(torch.ones(1, 3)))]
        messages = update(small, parts)
        assert_same(snapshot(small), before)
        assert messages["skipped"].item() == 1.0 and not messages["gradient"].isfinite()

    def test_is_forgotten_with_the_next_update(self, small):
        """The run goes on as one that never saw the bad loss."""
        other = copy.deepcopy(small)
        update(small, [BAD["loss nan"](small.generator(torch.ones(1, 3)))])
        for state in (small, other):
            assert good_update(state)["skipped"].item() == 0.0
        assert_same(snapshot(small), snapshot(other))

    def test_never_leaves_out_a_finite_update(self, small):
        before = snapshot(small)
        messages = good_update(small)
        assert messages["skipped"].item() == 0.0 and messages["gradient"] > 0
        assert not all(map(torch.equal, snapshot(small)["weights"], before["weights"]))

    def test_of_very_large_finite_gradients_is_clipping(self, small):
        small.clip = 1.0
        messages = update(small, [small.generator(torch.ones(1, 3)).sum() * 1e15])
        assert messages["skipped"].item() == 0.0
        assert all(parameter.isfinite().all() for parameter in small.generator.parameters())

    def test_of_one_network_leaves_the_other_to_train(self, make_state, make_objective, make_batch, monkeypatch):
        """A term of G that is no number says nothing against D, and the EMA stays where G is."""
        monkeypatch.setattr(SquaredVariation, "__call__", lambda self, inputs: inputs.fake.mean() * math.nan)
        state = make_state(optimiser=functools.partial(torch.optim.Adam, fused=True))
        before = {name: copy.deepcopy(getattr(state, name).state_dict()) for name in ("generator", "discriminator")}
        scalars = train_step(state, make_batch(), make_objective(), FLOAT32)
        assert (scalars["generator/skipped"].item(), scalars["discriminator/skipped"].item()) == (1.0, 0.0)
        assert_same(dict(state.generator.state_dict()), dict(before["generator"]))
        discriminator = state.discriminator.state_dict()
        assert not all(torch.equal(discriminator[key], tensor) for key, tensor in before["discriminator"].items())
        assert state.ema.network.state_dict().keys() == before["generator"].keys()
        for key, tensor in state.ema.network.state_dict().items():
            torch.testing.assert_close(tensor, before["generator"][key])
        assert state.step == 1


class TestClip:
    def test_is_torchs_clip_and_reports_the_norm_from_before(self, make_state, noise):
        torch.manual_seed(0)
        layer = nn.Linear(3, 3)
        other, data = copy.deepcopy(layer), noise(4, 3)
        state = make_state(clip=0.1)
        state.generator_optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
        norm = update(state, [layer(data).square().sum()])["gradient"]
        other(data).square().sum().backward()
        expected = nn.utils.clip_grad_norm_(other.parameters(), 0.1)
        assert norm.item() == pytest.approx(expected.item(), rel=1e-6) and norm > 0.1
        for mine, theirs in zip(layer.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad)

    def test_forgets_the_gradient_of_the_step_before(self, make_state, noise):
        layer, state = nn.Linear(3, 1, bias=False), make_state()
        state.generator_optimiser = torch.optim.SGD(layer.parameters(), lr=0.0)
        for _ in range(2):
            update(state, [layer(torch.ones(1, 3)).sum()])
        assert torch.equal(layer.weight.grad, torch.ones(1, 3))


def can_train_in_float16() -> str | None:
    """None, or why this torch cannot."""
    try:
        with torch.autocast("cpu", torch.float16):
            loss = nn.Conv2d(3, 3, 3)(torch.zeros(1, 3, 8, 8)).float().sum()
        torch.amp.GradScaler("cpu").scale(loss).backward()
    except (RuntimeError, TypeError) as error:
        return f"float16 on the CPU: {error}"
    return None


@pytest.fixture
def half(make_state):
    """A state with a scaler for each optimiser."""
    if (reason := can_train_in_float16()) is not None:
        pytest.skip(reason)

    def make(scale: float = 2.0**12, **fields: Any) -> TrainState:
        scalers = {name: torch.amp.GradScaler("cpu", init_scale=scale) for name in ("generator", "discriminator")}
        return make_state(scalers=scalers, **fields)

    return make


class TestFloat16:
    TERMS = (("adversarial", Adversarial(r1=1.0)),)

    def test_gives_the_losses_and_the_gradients_of_float32(self, half, make_state, make_objective, make_batch):
        """float16 has eleven bits, and each half is unscaled once: else norms would be 4096 times too large."""
        objective = make_objective(**dict(self.TERMS))
        actual = [
            train_step(state, make_batch(), objective, precision)
            for state, precision in ((make_state(), FLOAT32), (half(), FLOAT16))
        ]
        assert actual[1].keys() - actual[0].keys() == {"generator/searching", "discriminator/searching"}
        for name, value in actual[0].items():
            assert actual[1][name].item() == pytest.approx(value.item(), rel=0.03, abs=0.01), name
        assert actual[1]["generator/skipped"] == actual[1]["discriminator/skipped"] == 0

    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_trains(self, half, make_objective, make_batch, accumulate):
        state = half(accumulate=accumulate, clip=1.0, schedule=lambda step: 5.0)
        objective = make_objective(adversarial=None, style=None, tv=None)
        state.discriminator = state.discriminator_optimiser = None
        losses = [train_step(state, make_batch(), objective, FLOAT16)["loss/total"].item() for _ in range(30)]
        assert losses[-1] < 0.7 * losses[0]

    def test_halves_the_scale_of_the_network_that_overflowed_alone(self, half, make_objective, make_batch):
        state = half()
        state.scalers["generator"] = torch.amp.GradScaler("cpu", init_scale=2.0**127)  # no gradient stays finite
        before = copy.deepcopy(state.generator.state_dict())
        scalars = train_step(state, make_batch(), make_objective(), FLOAT16)
        assert (scalars["generator/skipped"].item(), scalars["discriminator/skipped"].item()) == (1.0, 0.0)
        assert_same(dict(state.generator.state_dict()), dict(before))
        scales = {name: scaler.get_scale() for name, scaler in state.scalers.items()}
        assert scales == {"generator": 2.0**126, "discriminator": 2.0**12}

    @pytest.mark.parametrize("loss", [1.0, math.nan, math.inf])
    @pytest.mark.parametrize("scale", [2.0**127, 1.0])
    def test_searching_is_a_scale_that_is_too_large_for_finite_losses(self, half, loss, scale):
        state = half(scale=scale)
        out = state.generator(torch.zeros(1, 3, 8, 8)).sum()
        steep = (out - out.detach() + 1e-45).sqrt() * 1e38  # finite, but for its gradient
        messages = update(state, [steep if loss == 1.0 else out * 0.0 + loss])
        assert messages["skipped"] == 1.0
        assert messages["searching"] == float(loss == 1.0 and scale > 1.0)

    def test_an_audit_sees_gradients_that_float16_alone_would_lose(self, make_objective):
        """Divided by 1e6 a term's gradient lies below float16's smallest number; scaled as in training it does not."""
        objective = make_objective(adversarial=None)
        picture = torch.rand(1, 3, 24, 24, requires_grad=True)
        with torch.autocast("cpu", torch.float16):
            part = nn.Conv2d(3, 4, 3)(picture).float().mean() * 1e-6
        plain = objective.gradient_norms({"x": part}, [picture])["x"].item()
        scaled = objective.gradient_norms({"x": part}, [picture], torch.tensor(2.0**14))["x"].item()
        larger = objective.gradient_norms({"x": part}, [picture], torch.tensor(2.0**17))["x"].item()
        assert plain < 0.5 * scaled
        assert scaled == pytest.approx(larger, rel=0.02) and scaled > 0

    def test_an_audit_of_a_term_that_the_scale_is_too_large_for_is_measured_without(self, make_objective):
        objective = make_objective(adversarial=None)
        picture = torch.rand(1, 3, 24, 24, requires_grad=True)
        part = (picture * 1e15).sum()
        expected = 1e15 * math.sqrt(picture.numel())
        assert objective.gradient_norms({"x": part}, [picture], torch.tensor(2.0**100))["x"].item() == pytest.approx(
            expected, rel=1e-4
        )

    def test_scales_come_back_with_the_state(self, half, make_objective, make_batch):
        state, objective = half(scale=2.0**127), make_objective()
        for _ in range(3):
            train_step(state, make_batch(state.step), objective, FLOAT16)
        resumed = half()
        resumed.load_state_dict(copy.deepcopy(state.state_dict()))
        scales = {name: scaler.get_scale() for name, scaler in resumed.scalers.items()}
        assert scales == {name: scaler.get_scale() for name, scaler in state.scalers.items()}
        assert scales["generator"] < 2.0**127
        for item in (state, resumed):
            train_step(item, make_batch(item.step), objective, FLOAT16)
        assert_same(snapshot(state), snapshot(resumed))
