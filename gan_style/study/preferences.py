"""Preference rates and Bradley-Terry scores from paired comparisons by people, with confidence intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from gan_style.evaluation.metrics import NORMAL_95, Interval, wilson

FEWEST_PARTICIPANTS, FEWEST_ANSWERS = 5, 10  # below: too little to conclude; answers are those of one pair
_PRIOR = 0.5
_DRAWS = 2000
_STEPS, _SETTLED = 20_000, 1e-9


@dataclass(frozen=True)
class Vote:
    """One comparison: ``points`` is 1 where the first model was preferred, 0 where the second, 0.5 for a tie."""

    participant: str
    first: str
    second: str
    points: float


@dataclass(frozen=True)
class ModelPreference:
    """rate: share of its comparisons that a model won (None without any); score: its log strength, of mean 0."""

    name: str
    answers: int
    rate: Interval | None
    score: Interval


@dataclass(frozen=True)
class PairPreference:
    """rate: share of the comparisons of two models that the first one won (None without any).

    lead: by how much the first one's score is the higher; it also draws on what each did against other models.
    """

    first: str
    second: str
    answers: int
    rate: Interval | None
    lead: Interval


@dataclass(frozen=True)
class Preferences:
    """Results of one kind of question; models from the highest score down, in pairs the higher first."""

    answers: int
    participants: int
    models: list[ModelPreference]
    pairs: list[PairPreference]


def preferences(votes: Sequence[Vote], models: Sequence[str], *, seed: int) -> Preferences:
    """Compute rates and scores of at least two models; ``seed`` is that of the bootstrap.

    Rates: ties count half; Wilson's intervals take answers as independent. Scores: see bradley_terry and contrasts,
    whose bootstrap is over participants where there are enough of them, else over answers.
    """
    # Return (answers, K, K): how much of a win each answer is, for which model over which.
    answers = torch.zeros(len(votes), len(models), len(models), dtype=torch.float64)
    for unit, vote in zip(answers, votes, strict=True):
        first, second = models.index(vote.first), models.index(vote.second)
        unit[first, second] += vote.points
        unit[second, first] += 1.0 - vote.points
    people = sorted({vote.participant for vote in votes})
    rows = torch.tensor([people.index(vote.participant) for vote in votes], dtype=torch.long)
    by_participant = answers.new_zeros(len(people), *answers.shape[1:]).index_add(0, rows, answers)
    wins = answers.sum(dim=0)
    units = by_participant if len(people) >= FEWEST_PARTICIPANTS else answers
    order = bradley_terry(wins).argsort(descending=True, stable=True).tolist()
    pairs = list(combinations(order, 2))
    unit_vectors = torch.eye(len(models), dtype=torch.float64)
    estimates = contrasts(
        units,
        torch.stack([*(unit_vectors[i] for i in order), *(unit_vectors[i] - unit_vectors[j] for i, j in pairs)]),
        seed=seed,
    )
    scores, leads = estimates[: len(order)], estimates[len(order) :]
    games = wins + wins.T

    def count(won: Tensor, of: Tensor) -> tuple[int, Interval | None]:
        return round(of.item()), wilson(won.item(), of.item())

    of_models = [
        ModelPreference(models[i], *count(wins[i].sum(), games[i].sum()), score)
        for i, score in zip(order, scores, strict=True)
    ]
    of_pairs = [
        PairPreference(models[i], models[j], *count(wins[i, j], games[i, j]), lead)
        for (i, j), lead in zip(pairs, leads, strict=True)
    ]
    return Preferences(len(votes), len(people), of_models, of_pairs)


def bradley_terry(wins: Tensor, *, prior: float = _PRIOR) -> Tensor:
    """Return log strengths (Bradley, Terry 1952), P(i over j) = s_i / (s_i + s_j), of mean 0: (..., K, K) to (..., K).

    wins[..., i, j]: how often i was preferred to j; a tie is half a win for each. Found by the MM algorithm of Hunter
    2004, equation 3; float64. Differs from both in the prior: each pair is given ``prior`` wins either way besides
    (of two models, 1/2 is the Haldane-Anscombe correction of the logit), which keeps the scores finite where one model
    always wins or two never met. With ``prior=0`` that is the caller's care.
    """
    wins = _with_prior(wins, prior)
    won, games = wins.sum(dim=-1), wins + wins.mT
    log_strength = torch.zeros_like(won)
    for _ in range(_STEPS):
        strength = log_strength.exp()
        expected = games / (strength[..., :, None] + strength[..., None, :])
        following = (won / expected.sum(dim=-1)).log()
        following = following - following.mean(dim=-1, keepdim=True)
        settled = (following - log_strength).abs().max() < _SETTLED
        log_strength = following
        if settled:
            break
    return log_strength


def _with_prior(wins: Tensor, prior: float) -> Tensor:
    off_diagonal = 1.0 - torch.eye(wins.shape[-1], dtype=torch.float64)
    return (wins.double() + prior) * off_diagonal


def contrasts(units: Tensor, weights: Tensor, *, seed: int) -> list[Interval]:
    """Estimate weighted sums of bradley_terry's scores from each unit's wins (participant's, or answer's): (U, K, K).

    weights: (M, K); a row of a single 1 is a model's score, a 1 and a -1 the difference of two. 95 % intervals are the
    bootstrap's over units (Efron and Tibshirani 1993, section 13.3: percentiles), widened to that of the model's own
    standard error where it is the wider: resampled answers that all agree have no spread at all.
    """
    wins = units.sum(dim=0)
    values = weights @ bradley_terry(wins)
    reach = NORMAL_95 * (weights @ _covariance(wins) @ weights.T).diagonal().clamp(min=0.0).sqrt()
    low, high = values - reach, values + reach
    if len(units):
        resampled = bradley_terry(_resample(units, seed)) @ weights.T
        percentiles = resampled.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
        low, high = torch.minimum(low, percentiles[0]), torch.maximum(high, percentiles[1])
    triples = zip(values.tolist(), low.tolist(), high.tolist(), strict=True)
    return [Interval(*triple) for triple in triples]


def _resample(units: Tensor, seed: int) -> Tensor:
    """Return sums of as many units, drawn with replacement: (U, K, K) to (_DRAWS, K, K)."""
    random = torch.Generator().manual_seed(seed)
    chosen = torch.ones(_DRAWS, len(units)).multinomial(len(units), replacement=True, generator=random)
    counts = torch.zeros(_DRAWS, len(units), dtype=torch.float64)
    counts.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=torch.float64))
    return torch.einsum("du,ukl->dkl", counts, units.double())


def _covariance(wins: Tensor) -> Tensor:
    """Return the scores' covariance (K, K): the inverse information, with the prior, on scores of sum 0."""
    scores, wins = bradley_terry(wins), _with_prior(wins, _PRIOR)
    chance = torch.sigmoid(scores[:, None] - scores[None, :])
    between = (wins + wins.T) * chance * (1.0 - chance)
    return torch.linalg.pinv(torch.diag(between.sum(dim=1)) - between, hermitian=True)


def conclusions(results: Preferences) -> list[str]:
    """Say what the answers show of each pair, or that they are too few to show anything.

    A preference is shown where both the rate's interval lies beyond 1/2 and the lead's beyond 0: the first would be
    fooled by few participants who answer much, the second by other models' results.
    """
    if results.participants < FEWEST_PARTICIPANTS:
        people = "participant" if results.participants == 1 else "participants"
        return [f"too little to conclude: {results.participants} {people}, at least {FEWEST_PARTICIPANTS} are needed"]
    lines = []
    for pair in results.pairs:
        names = f"{pair.first} and {pair.second}"
        if pair.rate is None or pair.answers < FEWEST_ANSWERS:
            few = f"{pair.answers} answers on {names}, at least {FEWEST_ANSWERS} are needed"
            lines.append(f"too little to conclude: {few}")
        elif pair.rate.low > 0.5 and pair.lead.low > 0.0:
            lines.append(f"{pair.first} is preferred to {pair.second}")
        elif pair.rate.high < 0.5 and pair.lead.high < 0.0:
            lines.append(f"{pair.second} is preferred to {pair.first}")
        else:
            lines.append(f"no difference shown between {names}")
    return lines
