"""What training changes and keeps: averaging, schedules, the state's round trip, the progress line."""

import copy
import io
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from run_files import assert_same
from torch import nn

from gan_style.functional import AUGMENTATIONS
from gan_style.losses.adversarial import Adversarial
from gan_style.training.schedule import DECAYS, Schedule
from gan_style.training.state import Ema
from gan_style.training.step import Precision, train_step

FLOAT32 = Precision(torch.device("cpu"))


class TestEma:
    @pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 0.999])
    def test_follows_the_scalar_formula(self, decay):
        network = nn.Linear(1, 1)
        nn.init.constant_(network.weight, 5.0)
        ema, expected = Ema(network, decay), 5.0
        for n in range(20):
            nn.init.constant_(network.weight, float(n**2))
            ema.update(network)
            now = min(decay, (1 + n) / (10 + n))
            expected = now * expected + (1 - now) * n**2
            assert ema.network.weight.item() == pytest.approx(expected, rel=1e-5)
        assert ema.updates == 20

    def test_without_decay_is_the_network_itself(self):
        network = nn.Linear(2, 2)
        ema = Ema(network, 0.0)
        nn.init.normal_(network.weight)
        ema.update(network)
        assert torch.equal(ema.network.weight, network.weight)

    def test_is_a_copy_that_does_not_learn(self):
        network = nn.Linear(2, 2)
        ema = Ema(network.train(), 0.9)
        assert ema.network.weight.data_ptr() != network.weight.data_ptr()
        assert not any(parameter.requires_grad for parameter in ema.network.parameters())
        assert all(parameter.requires_grad for parameter in network.parameters())
        assert network.training and not ema.network.training

    def test_takes_over_buffers_as_they_are(self):
        network = nn.BatchNorm1d(2)
        ema = Ema(network, 0.9)
        network.running_mean += 3.0
        network.num_batches_tracked += 7
        ema.update(network)
        assert torch.equal(ema.network.running_mean, torch.full((2,), 3.0)) and ema.network.num_batches_tracked == 7

    @pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, math.nan])
    def test_refuses_a_decay_that_averages_nothing(self, decay):
        with pytest.raises(ValueError, match=r"training\.ema_decay="):
            Ema(nn.Linear(1, 1), decay)


class TestSchedule:
    @pytest.mark.parametrize(
        ("decay", "hold", "factors"),
        [
            *(
                ("constant", 0.5, [1, 1, 1, 1, 1]),
                ("linear", 0.5, [1, 1, 1, 0.5, 0]),
                ("cosine", 0.5, [1, 1, 1, 0.5, 0]),
            ),
            ("linear", 0, [1, 0.75, 0.5, 0.25, 0]),
            ("cosine", 0, [1, 0.5 + 0.125**0.5, 0.5, 0.5 - 0.125**0.5, 0]),
            *((decay, 1, [1, 1, 1, 1]) for decay in DECAYS),
        ],
    )
    def test_holds_and_then_decays_to_the_end(self, decay, hold, factors):
        schedule = Schedule(decay, 100, hold)
        assert [schedule(25 * n) for n in range(len(factors))] == pytest.approx(factors, abs=1e-12)

    @given(steps=st.integers(1, 500), hold=st.floats(0, 1), decay=st.sampled_from(list(DECAYS)))
    def test_never_rises_and_trains_at_every_step(self, steps, hold, decay):
        factors = [Schedule(decay, steps, hold)(step) for step in range(steps)]
        assert factors[0] == 1.0
        assert all(0 < later <= earlier for earlier, later in itertools.pairwise(factors))

    def test_unknown_decay_is_refused_with_those_that_are(self):
        with pytest.raises(ValueError, match=r"training\.decay=exponential; allowed are constant, linear, cosine"):
            Schedule("exponential", 10)

    @pytest.mark.parametrize("hold", [-0.1, 1.1, math.nan])
    def test_hold_is_a_share(self, hold):
        with pytest.raises(ValueError, match=r"training\.hold="):
            Schedule("linear", 10, hold)


class TestRoundTrip:
    """Through a file, loaded without running code, as a checkpoint is."""

    TERMS = (("adversarial", Adversarial(augment=list(AUGMENTATIONS), r1=1.0)),)

    def steps(self, state, objective, make_batch, count: int) -> list[dict[str, torch.Tensor]]:
        return [train_step(state, make_batch(state.step), objective, FLOAT32) for _ in range(count)]

    def through_a_file(self, saved):
        torch.save(saved, buffer := io.BytesIO())
        buffer.seek(0)
        return torch.load(buffer, weights_only=True)

    @pytest.mark.parametrize("adversarial", [True, False])
    @pytest.mark.parametrize("fused", [True, False], ids=["fused", "for loop"])
    @pytest.mark.parametrize("saved_after", [1, 3])
    def test_goes_on_as_if_nothing_had_happened(
        self, make_state, make_objective, make_batch, adversarial, fused, saved_after
    ):
        def adam(parameters, lr):
            return torch.optim.Adam(parameters, lr=lr, betas=(0.5, 0.99), fused=fused)

        terms = dict(self.TERMS) if adversarial else {"adversarial": None}
        fields = {"adversarial": adversarial, "optimiser": adam, "warmup_steps": 2, "clip": 1.0}
        objective, going_on = make_objective(**terms), make_state(seed=0, **fields)
        self.steps(going_on, objective, make_batch, saved_after)
        saved = self.through_a_file(going_on.state_dict())
        resumed = make_state(seed=1, **fields)  # of other weights
        resumed.load_state_dict(saved)
        for first, other in zip(
            self.steps(going_on, objective, make_batch, 3), self.steps(resumed, objective, make_batch, 3), strict=True
        ):
            assert_same(first, other)
        assert_same(going_on.state_dict(), resumed.state_dict())
        assert_same(going_on.ema.network.state_dict(), resumed.ema.network.state_dict())
        assert_same(going_on.generator.state_dict(), resumed.generator.state_dict())

    def test_also_in_a_state_that_has_trained_before(self, make_state, make_objective, make_batch):
        objective, first, second = make_objective(), make_state(seed=0), make_state(seed=1)
        self.steps(first, objective, make_batch, 1)
        self.steps(second, objective, make_batch, 4)
        second.load_state_dict(self.through_a_file(first.state_dict()))
        assert_same(self.steps(first, objective, make_batch, 2), self.steps(second, objective, make_batch, 2))

    def test_takes_the_optimisers_settings_of_the_new_command(self, make_state, make_objective, make_batch):
        """Schedules, rates and betas are settings, not state: a longer run stretches the decay."""
        old, new = make_state(schedule=Schedule("linear", 4, 0.0)), make_state(schedule=Schedule("linear", 8, 0.0))
        objective = make_objective()
        self.steps(old, objective, make_batch, 3)
        for group in new.generator_optimiser.param_groups:
            group.update(lr=4e-3, betas=(0.1, 0.2))
        new.load_state_dict(self.through_a_file(old.state_dict()))
        self.steps(new, objective, make_batch, 1)
        (group,), (other,) = (x.param_groups for x in (new.generator_optimiser, new.discriminator_optimiser))
        assert group["lr"] == pytest.approx(4e-3 * (1 - 3 / 8)) and group["betas"] == (0.1, 0.2)
        assert other["lr"] == pytest.approx(1e-3 * (1 - 3 / 8))

    def test_of_another_architecture_is_refused(self, make_state):
        with_d, without_d = make_state(), make_state(adversarial=False)
        with pytest.raises(ValueError, match=r"it holds .*discriminator"):
            without_d.load_state_dict(copy.deepcopy(with_d.state_dict()))
        wider = make_state()
        wider.generator = nn.Conv2d(3, 3, 1)
        with pytest.raises(RuntimeError):
            wider.load_state_dict(copy.deepcopy(with_d.state_dict()))
