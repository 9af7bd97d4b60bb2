"""Loss weights from target shares: the shares come out, the sum of weighted gradients stays, nonsense is refused."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gan_style.losses.adversarial import Adversarial
from gan_style.losses.content import Content
from gan_style.losses.objective import Balance, Objective, check_shares
from gan_style.losses.pixel import SquaredVariation
from gan_style.losses.style import GramStyle
from gan_style.losses.term import LossInputs
from gan_style.models.perceptual import compact

NAMES = ("content", "style", "tv")
positive = st.floats(1e-3, 1e3)
three = st.lists(positive, min_size=3, max_size=3).map(lambda values: dict(zip(NAMES, values, strict=True)))


def settled(shares: dict, norms: dict, configured: dict) -> dict[str, float]:
    balance = Balance(shares)
    balance.observe(norms)
    return balance.freeze_weights(configured)


class TestSettle:
    def test_follows_the_hand_worked_example(self):
        """Pulls of 2 * 1 and 1 * 4 add up to 6; of these content is to have a third and style two thirds."""
        weights = settled({"content": 1, "style": 2}, {"content": 1.0, "style": 4.0}, {"content": 2.0, "style": 1.0})
        assert weights == {"content": pytest.approx(2.0), "style": pytest.approx(1.0)}
        weights = settled({"content": 5, "style": 1}, {"content": 1.0, "style": 4.0}, {"content": 2.0, "style": 1.0})
        assert weights == {"content": pytest.approx(5.0), "style": pytest.approx(0.25)}

    @given(shares=three, norms=three, configured=three, unit=positive)
    def test_gives_the_target_shares_and_keeps_the_sum_of_pulls(self, shares, norms, configured, unit):
        weights = settled(shares, norms, configured)
        gradients = {name: weights[name] * norms[name] for name in NAMES}
        before = sum(configured[name] * norms[name] for name in NAMES)
        assert sum(gradients.values()) == pytest.approx(before, rel=1e-9)
        for name in NAMES:
            target = shares[name] / sum(shares.values())
            assert gradients[name] / sum(gradients.values()) == pytest.approx(target, rel=1e-9)
        in_other_units = settled({name: unit * share for name, share in shares.items()}, norms, configured)
        assert in_other_units == pytest.approx(weights, rel=1e-9)

    def test_gives_a_term_of_weight_zero_its_share(self):
        weights = settled({"content": 1, "style": 3}, {"content": 2.0, "style": 0.5}, {"content": 1.0, "style": 0.0})
        assert weights == {"content": pytest.approx(0.25), "style": pytest.approx(3.0)}

    def test_without_any_audit_says_so_and_blames_no_term(self):
        with pytest.raises(ValueError, match="no audit in the warm-up found gradients that are finite"):
            Balance({"content": 1, "style": 2}).freeze_weights({"content": 1.0, "style": 1.0})

    def test_leaves_terms_outside_the_balance_alone(self):
        weights = settled(
            {"content": 1, "style": 1}, {"content": 1.0, "style": 1.0, "tv": 9.0}, dict.fromkeys(NAMES, 1)
        )
        assert weights == {"content": 1.0, "style": 1.0}

    def test_takes_the_mean_over_all_audits(self):
        balance = Balance({"content": 1, "style": 1})
        for norm in (1.0, 2.0, 6.0):
            balance.observe({"content": norm, "style": 2 * norm, "tv": 7.0})
        assert balance.norms == {"content": pytest.approx(3.0), "style": pytest.approx(6.0)}
        assert balance.audits == 3 and not balance.settled
        assert balance.freeze_weights({"content": 1.0, "style": 1.0}) == {"content": pytest.approx(1.5), "style": 0.75}
        assert balance.settled

    def test_refuses_a_term_that_pulled_at_nothing(self):
        with pytest.raises(ValueError, match=r"loss\.balance: the gradient of tv, style was 0 all through the warm-up"):
            settled(
                {"tv": 1, "content": 2, "style": 1},
                {"content": 1.0, "style": 0.0, "tv": 0.0},
                dict.fromkeys(NAMES, 1.0),
            )

    def test_accepts_a_term_that_pulled_once(self):
        balance = Balance({"content": 1, "style": 1})
        for norm in (0.0, 0.0, 3.0):
            balance.observe({"content": 1.0, "style": norm})
        assert balance.freeze_weights({"content": 1.0, "style": 1.0}) == pytest.approx({"content": 1.0, "style": 1.0})


def test_what_was_measured_goes_through_json_and_on():
    shares = {"content": 2, "style": 3}
    uninterrupted, first, second = Balance(shares), Balance(shares), Balance(shares)
    audits = [{"content": 0.5, "style": 0.75}, {"content": 1.5, "style": 0.25}, {"content": 0.1, "style": 0.9}]
    for norms in audits:
        uninterrupted.observe(norms)
    first.observe(audits[0])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for norms in audits[1:]:
        second.observe(norms)
    assert second.state_dict() == uninterrupted.state_dict()
    weights = {"content": 1.0, "style": 1.0}
    assert second.freeze_weights(weights) == uninterrupted.freeze_weights(weights)
    first.load_state_dict(second.state_dict())
    assert first.settled and first.audits == 3


class TestShares:
    WEIGHTS = (("adversarial", 1.0), ("content", 1.0), ("style", 0.0), ("tv", 0.0))

    @pytest.mark.parametrize(
        ("shares", "message"),
        [
            (
                {"content": 1, "stile": 1},
                r"loss\.balance names stile; the loss terms are adversarial, content, style, tv",
            ),
            ({"content": 1}, r"loss\.balance=\{'content': 1\}: give shares for at least two terms, or null"),
            ({}, r"loss\.balance=\{\}: give shares for at least two terms"),
            ({"content": 1, "style": 0}, r"loss\.balance\.style=0; allowed are numbers above 0"),
            ({"content": 1, "style": -0.5}, r"loss\.balance\.style=-0\.5;"),
            ({"content": math.nan, "style": 1}, r"loss\.balance\.content=nan;"),
            ({"content": math.inf, "style": 1}, r"loss\.balance\.content=inf;"),
            ({"content": True, "style": 1}, r"loss\.balance\.content=true;"),
            ({"content": "much", "style": 1}, r"loss\.balance\.content=much;"),
            ({"content": None, "style": 1}, r"loss\.balance\.content=null;"),
            ({"style": 1, "tv": 1}, r"loss\.balance keeps the sum .* at least one needs a weight above 0"),
        ],
    )
    def test_that_cannot_be_are_refused_naming_the_option(self, shares, message):
        with pytest.raises(ValueError, match=message):
            check_shares(shares, dict(self.WEIGHTS))

    @pytest.mark.parametrize("shares", [{"content": 1, "style": 2.5}, {"adversarial": 0.1, "tv": 7}])
    def test_that_can_be_are_not(self, shares):
        check_shares(shares, dict(self.WEIGHTS))

    def test_are_checked_when_the_objective_is_made(self):
        terms = {"content": Content(weight=1.0, layers=["relu1_1"]), "tv": SquaredVariation(weight=1.0)}
        with pytest.raises(ValueError, match=r"loss\.balance names style"):
            Objective(terms, compact(layers=["relu1_1"], weights="random"), {"content": 1, "style": 1})


def test_an_objective_trains_with_its_own_weights_until_they_are_balanced_and_then_with_those(make_objective, noise):
    objective = make_objective(
        adversarial=Adversarial(weight=0.5),
        content=Content(weight=2.0, layers=["relu1_1"]),
        style=GramStyle(weight=4.0, layers=["relu1_1"]),
        balance={"style": 3, "content": 1},
    )
    assert objective.weights == {"adversarial": 0.5, "content": 2.0, "style": 4.0, "tv": 0.1}
    inputs = LossInputs(*(noise(1, 3, 16, 16, seed=seed) for seed in range(3)))
    objective.balance.observe({"content": 1.0, "style": 0.5})
    loss, parts = objective.generator_loss(inputs, None, warming_up=False)
    torch.testing.assert_close(loss, 2.0 * parts["content"] + 4.0 * parts["style"] + 0.1 * parts["tv"])
    balanced = {"adversarial": 0.5, "content": 1.0, "style": 6.0, "tv": 0.1}
    assert objective.settle_balance() == pytest.approx(balanced)
    assert objective.weights == pytest.approx(balanced) == objective.describe()["weights"]
    loss, _ = objective.generator_loss(inputs, None, warming_up=False)
    torch.testing.assert_close(loss, 1.0 * parts["content"] + 6.0 * parts["style"] + 0.1 * parts["tv"])
