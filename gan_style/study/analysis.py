"""The analysis of a study: the numbers of each kind of question, and the same in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gan_style.study.answers import Participant, consistency_of, votes_of
from gan_style.study.preferences import Interval, Preferences, conclusions, preferences, wilson

_ASKED = {"content": "Which keeps the content better", "style": "Which carries the style better"}


@dataclass(frozen=True)
class KindReport:
    """consistency: the share of repeated questions that were answered the same way, of ``repeats`` (None of none)."""

    preferences: Preferences
    consistency: Interval | None
    repeats: int
    conclusions: list[str]


def kind_report(participants: Sequence[Participant], kind: str, *, seed: int) -> KindReport:
    """Analyse the participants' answers to one kind of question."""
    models = sorted(participants[0].models.values())
    result = preferences(votes_of(participants, kind), models, seed=seed)
    same, repeats = consistency_of(participants, kind)
    return KindReport(result, wilson(same, repeats), repeats, conclusions(result))


def report_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the report as lines for a terminal; intervals are in brackets."""
    people = report["participants"].values()
    unfinished = sum(person["answers"] < person["questions"] for person in people)
    yield f"study {report['study']}: {_count(len(people), 'participant')}" + (
        f", {unfinished} of them did not finish" if unfinished else ""
    )
    for kind, report_of_kind in report["kinds"].items():
        yield from ("", *_of_kind(_ASKED[kind], report_of_kind))


def _of_kind(asked: str, report: Mapping[str, Any]) -> Iterator[str]:
    results = report["preferences"]
    people = _count(results["participants"], "participant")
    yield f"{asked}: {_count(results['answers'], 'answer')} of {people}; 95 % intervals"
    named = [(model["name"], model) for model in results["models"]]
    paired = [(f"{pair['first']} over {pair['second']}", pair) for pair in results["pairs"]]
    width = max(len(name) for name, _ in [*named, *paired])
    yield f"  {'':<{width}}  answers  preferred                 score"
    for name, row in [*named, *paired]:
        score = row["score"] if "score" in row else row["lead"]
        yield f"  {name:<{width}}  {row['answers']:>7}  {_rate(row['rate']):<24}  {_score(score)}"
    yield f"  repeated questions answered the same: {_rate(report['consistency']).strip()} of {report['repeats']}"
    yield from (f"  {line}" for line in report["conclusions"])


def _rate(rate: Mapping[str, float] | None) -> str:
    if rate is None:
        return "-"
    return f"{100 * rate['value']:5.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"


def _score(score: Mapping[str, float]) -> str:
    value, low, high = (round(score[key], 2) + 0.0 for key in ("value", "low", "high"))  # + 0.0: no negative zero
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
