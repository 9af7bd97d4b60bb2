"""What calls for going back, what ends a run, and what is worth a warning."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gan_style.training.health import CollapseWarnings, Health, NonFiniteError, collapse_diagnostics, nonfinite_keys
from gan_style.training.supervisor import nonfinite_weights

GOOD = {"loss/total": 1.0, "generator/gradient": 2.0, "generator/skipped": 0.0, "discriminator/skipped": 0.0}
NAN = {"loss/tv": math.nan, "loss/total": math.inf, "generator/skipped": 1.0, "discriminator/skipped": 0.0}
SKIPPED = GOOD | {"discriminator/skipped": 1.0}  # float16's scale was too large: every number told is finite


def test_culprits_are_the_names_of_what_is_not_finite_in_order():
    assert nonfinite_keys(GOOD) == []
    assert nonfinite_keys(NAN) == ["loss/tv", "loss/total"]
    assert nonfinite_keys({"a": -math.inf, "b": 0.0, "c": 1e308}) == ["a"]


@pytest.mark.parametrize(
    ("here", "other_rank", "reported"),
    [(True, False, "weights/generator"), (False, True, "weights of another rank"), (False, False, "")],
)
def test_ranks_agree_on_weights_that_are_not_finite(make_state, here, other_rank, reported):
    """One that went back alone would wait for ever for the others, who train on (seen by tools/chaos_train.py)."""
    state, ranks = make_state(), SimpleNamespace(any=lambda mine: mine or other_rank)
    if here:
        nn.init.constant_(next(state.generator.parameters()), math.nan)
    assert nonfinite_weights(state, ranks) == reported


def test_networks_whose_weights_are_not_finite_are_named_and_the_average_is_none_of_them(make_state):
    state = make_state()
    assert state.nonfinite_networks() == []
    for network in (state.ema.network, state.discriminator):
        nn.init.constant_(next(network.parameters()), math.inf)
    assert state.nonfinite_networks() == ["weights/discriminator"]


class TestHealth:
    @pytest.mark.parametrize("patience", [1, 2, 5])
    @pytest.mark.parametrize("bad", [NAN, SKIPPED])
    def test_calls_for_going_back_after_so_many_bad_steps_in_a_row(self, patience, bad):
        health = Health(patience=patience)
        assert [health.observe(step, bad) for step in range(patience)] == [False] * (patience - 1) + [True]

    def test_a_search_for_float16s_scale_is_no_illness(self):
        searching = GOOD | {"generator/gradient": math.inf, "generator/skipped": 1.0, "generator/searching": 1.0}
        health = Health(patience=2)
        assert not any(health.observe(step, searching) for step in range(9)) and health.skipped == 0
        # on one of two ranks a loss is not finite: the mean says so
        assert [health.observe(9, searching | {"generator/searching": 0.5}) for _ in range(2)] == [False, True]
        health = Health(patience=1)
        assert health.observe(1, searching | {"loss/tv": math.nan})
        assert health.observe(2, searching | {"discriminator/skipped": 1.0})

    def test_a_number_that_trains_nothing_is_noted_and_no_illness(self):
        health = Health(patience=1)
        assert not health.observe(1, GOOD | {"loss/tv": math.nan, "gradient/style": math.inf})
        assert health.skipped == 0 and health.passing == {"loss/tv", "gradient/style"}
        assert health.observe(2, {"loss/tv": math.nan})  # nobody says that the update was made

    def test_a_good_step_starts_the_count_anew(self):
        health = Health(patience=3)
        assert not any(health.observe(step, GOOD if step % 3 == 2 else NAN) for step in range(30))
        assert (health.skipped, health.in_a_row) == (20, 0)

    def test_tells_of_the_last_bad_step_with_its_culprits(self):
        health = Health()
        health.observe(3, NAN)
        health.observe(4, GOOD)
        assert health.last == "step 3: not a finite number: loss/tv, loss/total"
        health.observe(5, SKIPPED)
        assert health.last == "step 5: not a finite number: a gradient"

    @pytest.mark.parametrize("rollbacks", [0, 1, 3])
    def test_goes_back_so_often_and_then_ends_with_a_diagnosis(self, rollbacks):
        health = Health(patience=1, rollbacks=rollbacks)
        for _ in range(rollbacks):
            health.observe(7, NAN)
            health.roll_back()
            assert health.in_a_row == 0
        health.observe(9, NAN)
        with pytest.raises(NonFiniteError, match=r"^step 9: not a finite number: loss/tv, loss/total") as error:
            health.roll_back()
        assert (f"going back {rollbacks} times" in str(error.value)) is (rollbacks > 0)


HEALTHY = {"health/saturated": 0.1, "health/spread": 0.4, "health/variety": 0.8}
WELL = {"discriminator/real": 0.5, "discriminator/fake": -0.5} | HEALTHY
# (values, the sign that they are, a little less, that is none)
SIGNS = {
    "the discriminator wins": ({"discriminator/real": 3.0, "discriminator/fake": -3.1}, {"discriminator/real": 5.4}),
    "the discriminator loses": ({"discriminator/real": -0.3, "discriminator/fake": 0.3}, {"discriminator/real": -0.9}),
    "saturation": ({"health/saturated": 0.51}, {"health/saturated": 0.5}),
    "colour collapse": ({"health/spread": 0.049}, {"health/spread": 0.05}),
    "identical results": ({"health/variety": 0.049}, {"health/variety": 0.05}),
}


class TestSigns:
    @pytest.mark.parametrize("name", SIGNS)
    def test_each_is_told_by_name_once_it_has_lasted_and_told_once(self, name):
        signs, bad = CollapseWarnings(patience=3), WELL | SIGNS[name][0]
        messages = [signs.warnings(bad) for _ in range(10)]
        assert [len(lines) for lines in messages] == [0, 0, 1, *[0] * 7]
        assert messages[2][0].startswith(f"{name}: ")

    @pytest.mark.parametrize("name", SIGNS)
    def test_just_before_the_limit_there_is_none(self, name):
        signs = CollapseWarnings(patience=1)
        assert signs.warnings(WELL | SIGNS[name][1]) == []
        assert len(signs.warnings(WELL | SIGNS[name][0])) == 1

    @pytest.mark.parametrize("name", SIGNS)
    def test_after_it_was_over_it_is_told_again(self, name):
        signs, bad = CollapseWarnings(patience=2), WELL | SIGNS[name][0]
        sequence = [bad, WELL, bad, bad, bad, WELL, bad, bad]
        assert [len(signs.warnings(values)) for values in sequence] == [0, 0, 0, 1, 0, 0, 0, 1]

    def test_several_at_once_are_all_told(self):
        worst = {"discriminator/real": 9.0, "discriminator/fake": -9.0}
        worst |= {"health/saturated": 0.9, "health/spread": 0.0, "health/variety": 0.0}
        assert len(CollapseWarnings(patience=1).warnings(worst)) == 4

    def test_what_was_not_measured_is_no_sign(self):
        """Without a discriminator, and in steps that were not audited."""
        signs = CollapseWarnings(patience=1)
        assert signs.warnings({"loss/total": 1.0}) == []
        assert signs.warnings({"loss/total": 1.0} | HEALTHY) == []

    def test_a_skipped_step_is_no_sign(self):
        signs = CollapseWarnings(patience=1)
        assert signs.warnings(dict.fromkeys(WELL, math.nan)) == []


def signs(fake: torch.Tensor, content: torch.Tensor) -> dict[str, float]:
    return {name: value.item() for name, value in collapse_diagnostics(fake, content).items()}


def test_of_results_that_are_their_photos_nothing_is_wrong(noise):
    photos = noise(4, 3, 16, 16) * 0.9
    actual = signs(photos, photos)
    assert actual["saturated"] == 0.0
    assert actual["spread"] == pytest.approx(0.9 / 3**0.5, rel=0.05)  # of a uniform distribution
    assert actual["variety"] == pytest.approx(1.0)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_saturated_is_the_share_of_values_at_the_ends(share):
    fake = torch.zeros(2, 3, 4, 8)
    fake[..., : int(8 * share)] = torch.tensor([1.0, -0.99]).view(2, 1, 1, 1)
    assert signs(fake, fake)["saturated"] == pytest.approx(share)


def test_spread_is_of_each_result_and_not_between_them():
    """Two plain pictures, black and white: each has collapsed."""
    fake = torch.stack([torch.full((3, 8, 8), -1.0), torch.full((3, 8, 8), 1.0)])
    assert signs(fake, fake)["spread"] == 0.0


def test_variety_is_zero_of_identical_results_and_half_of_results_half_as_different(noise):
    photos = noise(3, 3, 8, 8)
    assert signs(noise(1, 3, 8, 8, seed=1).expand(3, 3, 8, 8), photos)["variety"] == pytest.approx(0.0, abs=1e-6)
    assert signs(photos * 0.5 + 0.3, photos)["variety"] == pytest.approx(0.5)


def test_of_a_single_picture_variety_says_nothing(noise):
    assert signs(noise(1, 3, 8, 8), noise(1, 3, 8, 8, seed=1))["variety"] == 1.0


def test_of_identical_photos_is_finite():
    photos = torch.zeros(2, 3, 8, 8)
    assert all(value == value and abs(value) < 1e7 for value in signs(photos, photos).values())
