"""Rates, Bradley-Terry scores and their intervals, against closed forms, scipy, and simulated participants."""

import math
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import binomtest

from gan_style.study.preferences import Vote, bradley_terry, conclusions, contrasts, preferences, wilson

FIRST_OVER_SECOND = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
counts = st.integers(1, 200)


def two(first: float, second: float) -> torch.Tensor:
    """How often the first of two models won, and the second."""
    return torch.tensor([[0.0, first], [second, 0.0]], dtype=torch.float64)


def logit(rate: float) -> float:
    return math.log(rate / (1 - rate))


class TestWilson:
    @given(wins=st.integers(0, 300), losses=st.integers(0, 300).filter(bool))
    def test_agrees_with_scipy(self, wins, losses):
        actual = wilson(wins, wins + losses)
        expected = binomtest(wins, wins + losses).proportion_ci(0.95, method="wilson")
        assert (actual.low, actual.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert actual.value == wins / (wins + losses)

    @pytest.mark.parametrize(
        ("wins", "answers", "low", "high"),
        [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
    )
    def test_gives_the_published_values(self, wins, answers, low, high):
        """Newcombe 1998, table I, method 3."""
        actual = wilson(wins, answers)
        assert (actual.low, actual.high) == pytest.approx((low, high), abs=5e-5)

    def test_of_no_answers_is_nothing(self):
        assert wilson(0, 0) is None


class TestBradleyTerry:
    @given(first=counts, second=counts)
    def test_of_two_models_the_difference_is_the_logit_of_the_rate(self, first, second):
        high, low = bradley_terry(two(first, second), prior=0.0).tolist()
        assert high - low == pytest.approx(logit(first / (first + second)), abs=1e-7)
        assert high + low == pytest.approx(0.0, abs=1e-12)

    @given(first=st.integers(0, 200), second=st.integers(0, 200))
    def test_the_prior_is_half_a_win_each_way(self, first, second):
        high, low = bradley_terry(two(first, second)).tolist()
        assert high - low == pytest.approx(math.log((first + 0.5) / (second + 0.5)), abs=1e-7)

    def test_finds_the_strengths_that_the_wins_were_made_from(self):
        truth = torch.tensor([1.3, 0.2, -0.4, -1.1], dtype=torch.float64)
        chance = torch.sigmoid(truth[:, None] - truth[None, :])
        games = torch.tensor([[0, 50, 20, 7], [50, 0, 9, 31], [20, 9, 0, 0], [7, 31, 0, 0]])
        assert bradley_terry(games * chance, prior=0.0).tolist() == pytest.approx(truth.tolist(), abs=1e-6)

    @pytest.mark.parametrize("seed", range(3))
    def test_maximises_the_likelihood(self, seed):
        wins = torch.randint(0, 12, (5, 5), generator=torch.Generator().manual_seed(seed)).double()
        counted = ((wins + 0.5) * (1 - torch.eye(5))).numpy()

        def loss(scores):
            import numpy as np

            return (counted * np.logaddexp(0, scores[None, :] - scores[:, None])).sum()

        best = minimize(loss, [0.0] * 5, tol=1e-10).x
        assert bradley_terry(wins).tolist() == pytest.approx((best - best.mean()).tolist(), abs=1e-4)

    def test_is_the_same_in_a_batch_and_in_any_order(self):
        wins = torch.randint(0, 9, (4, 3, 3), generator=torch.Generator().manual_seed(1)).double()
        batched = bradley_terry(wins)
        for first, scores in zip(wins, batched, strict=True):
            torch.testing.assert_close(bradley_terry(first), scores, atol=1e-7, rtol=0)
        order = [2, 0, 1]
        torch.testing.assert_close(bradley_terry(wins[:, order][:, :, order]), batched[:, order], atol=1e-7, rtol=0)

    def test_stays_finite_where_one_always_wins_and_where_two_never_met(self):
        wins = torch.zeros(4, 4)
        wins[0, 1:3] = 1000.0
        scores = bradley_terry(wins)
        assert scores.isfinite().all()
        assert scores[0] > scores[3] > scores[1] and scores[1].item() == pytest.approx(scores[2].item(), abs=1e-6)


class TestContrasts:
    def test_of_answers_that_all_agree_the_interval_is_that_of_the_corrected_logit(self):
        """Its variance is 1 / (a + 1/2) + 1 / (b + 1/2) (Gart and Zweifel 1967); resampling would give no width."""
        units = two(1, 0).expand(30, 2, 2)
        (lead,) = contrasts(units, FIRST_OVER_SECOND, seed=0)
        reach = 1.959964 * math.sqrt(1 / 30.5 + 1 / 0.5)
        assert (lead.low, lead.high) == pytest.approx((math.log(61) - reach, math.log(61) + reach), abs=1e-4)

    def test_without_answers_is_the_priors(self):
        (lead,) = contrasts(torch.zeros(0, 2, 2, dtype=torch.float64), FIRST_OVER_SECOND, seed=0)
        assert lead.value == 0.0 and lead.high == -lead.low == pytest.approx(1.959964 * 2, abs=1e-4)

    def test_participants_who_each_have_a_mind_of_their_own_make_it_wider(self):
        one_minded = torch.stack([two(50, 0)] * 4 + [two(0, 50)] * 2)
        undecided = torch.stack([two(33, 17)] * 4 + [two(34, 16)] * 2)
        (wide,), (narrow,) = (contrasts(units, FIRST_OVER_SECOND, seed=0) for units in (one_minded, undecided))
        assert wide.value == pytest.approx(narrow.value, abs=0.05)
        assert wide.low < 0.0 < narrow.low

    def test_the_same_seed_gives_the_same_interval(self):
        units = torch.stack([two(n, 10 - n) for n in range(10)])
        assert contrasts(units, FIRST_OVER_SECOND, seed=1) == contrasts(units, FIRST_OVER_SECOND, seed=1)
        assert contrasts(units, FIRST_OVER_SECOND, seed=1) != contrasts(units, FIRST_OVER_SECOND, seed=2)


def simulated(scores: dict[str, float], *, participants: int, each: int, seed: int) -> list[Vote]:
    """Answers drawn from the Bradley-Terry model, on random pairs."""
    random = Random(seed)
    votes = []
    for person in range(participants):
        for _ in range(each):
            first, second = random.sample(sorted(scores), 2)
            chance = 1 / (1 + math.exp(scores[second] - scores[first]))
            votes.append(Vote(f"person {person}", first, second, float(random.random() < chance)))
    return votes


class TestPreferences:
    def test_counts_ties_as_half_and_orders_models_by_score(self):
        votes = [Vote("p", "a", "b", 0.0), Vote("p", "b", "a", 0.5), Vote("q", "c", "b", 0.0), Vote("q", "b", "c", 1.0)]
        actual = preferences(votes, ["a", "b", "c"], seed=0)
        assert (actual.answers, actual.participants) == (4, 2)
        assert [model.name for model in actual.models] == ["b", "a", "c"]
        assert [(model.answers, model.rate.value) for model in actual.models] == [(4, 0.875), (2, 0.25), (2, 0.0)]
        rates = {(pair.first, pair.second): pair.rate and pair.rate.value for pair in actual.pairs}
        assert rates == {("b", "a"): 0.75, ("b", "c"): 1.0, ("a", "c"): None}

    def test_scores_add_up_to_zero_and_leads_are_their_differences(self):
        actual = preferences(
            simulated({"a": 1, "b": 0, "c": 0.3}, participants=6, each=20, seed=1), ["a", "b", "c"], seed=0
        )
        score = {model.name: model.score.value for model in actual.models}
        assert sum(score.values()) == pytest.approx(0.0, abs=1e-9)
        for pair in actual.pairs:
            assert pair.lead.value == pytest.approx(score[pair.first] - score[pair.second], abs=1e-9)

    @pytest.mark.parametrize("participants", [3, 12], ids=["bootstrap over answers", "bootstrap over participants"])
    def test_intervals_hold_the_truth_about_as_often_as_they_say(self, participants):
        """Of 40 simulated studies 38 are expected; fewer than 34 come by chance once in 300 times."""
        truth = {"a": 0.4, "b": -0.4}
        held = 0
        for seed in range(40):
            votes = simulated(truth, participants=participants, each=120 // participants, seed=seed)
            actual = {model.name: model.score for model in preferences(votes, ["a", "b"], seed=seed).models}
            held += actual["a"].low <= truth["a"] <= actual["a"].high
        assert held >= 34


class TestConclusions:
    def conclusions_of(self, votes: list[Vote], models: str = "ab") -> list[str]:
        return conclusions(preferences(votes, list(models), seed=0))

    def test_names_the_better_one(self):
        votes = simulated({"a": -1.0, "b": 1.0}, participants=8, each=20, seed=0)
        assert self.conclusions_of(votes) == ["b is preferred to a"]

    def test_says_so_where_nothing_is_shown(self):
        votes = [Vote(str(n % 6), "a", "b", float(n % 4 < 2)) for n in range(48)]
        assert self.conclusions_of(votes) == ["no difference shown between a and b"]

    def test_does_not_take_few_people_who_answer_much_for_many(self):
        """Four of six always prefer a: Wilson's interval of 200 of 300 answers is [0.61, 0.72], but six are few."""
        votes = [Vote(str(n % 6), "a", "b", float(n % 6 < 4)) for n in range(300)]
        actual = preferences(votes, ["a", "b"], seed=0)
        assert actual.pairs[0].rate.low > 0.6
        assert conclusions(actual) == ["no difference shown between a and b"]

    def test_says_plainly_that_there_is_too_little(self):
        assert "too little to conclude: 0 participants" in self.conclusions_of([])[0]
        few_people = [Vote(str(n % 4), "a", "b", 1.0) for n in range(100)]
        assert "too little to conclude: 4 participants, at least 5" in self.conclusions_of(few_people)[0]
        few_answers = [Vote(str(n), "a", "b", 1.0) for n in range(9)]
        assert "too little to conclude: 9 answers on a and b, at least 10" in self.conclusions_of(few_answers)[0]
        never_met = [Vote(str(n % 6), "a", "b", 1.0) for n in range(60)]
        assert sum("0 answers" in line for line in self.conclusions_of(never_met, "abc")) == 2
