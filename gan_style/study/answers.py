"""Answers of a study: read strictly from the files that its page saves, turned into votes, and analysed."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_style.study.page import KINDS, RESULTS_FORMAT, RESULTS_VERSION, decode_names
from gan_style.study.preferences import Interval, Preferences, Vote, conclusions, preferences, wilson

_POINTS = {"left": 1.0, "right": 0.0, "tie": 0.5}
_FILE = {"format", "version", "study", "participant", "sheet", "questions", "allow_ties", "models", "names", "answers"}


@dataclass(frozen=True)
class Answer:
    """Say which of two models, by name, was preferred; repeat_of: the number of the question that it repeats."""

    kind: str
    picture: int
    left: str
    right: str
    choice: str
    seconds: float
    repeat_of: int | None


@dataclass(frozen=True)
class Participant:
    """One file: what one participant answered, of how many questions."""

    path: Path
    study: str
    name: str
    models: dict[str, str]
    questions: int
    answers: list[Answer]


def read_participants(paths: Sequence[Path]) -> tuple[list[Participant], list[str]]:
    """Return the participants of one study, each once, and warnings about those who came twice: the fuller file counts.

    Raises ValueError, naming the file, for anything that is not such a file, or of another study than the first.
    """
    participants: dict[str, Participant] = {}
    warnings = []
    first: Participant | None = None
    for path in paths:
        read = read_participant(path)
        first = first or read
        if read.study != first.study:
            raise ValueError(f"{path}: answers of study {read.study}, but {first.path} is of study {first.study}")
        if read.models != first.models:
            raise ValueError(f"{path}: the same study, but other names of models than in {first.path}")
        earlier = participants.get(read.name)
        participants[read.name] = read if earlier is None or len(read.answers) > len(earlier.answers) else earlier
        if earlier is not None:
            counted = participants[read.name].path
            warnings.append(f"{path} and {earlier.path} are of the same participant; {counted} counts")
    return list(participants.values()), warnings


def read_participant(path: Path) -> Participant:
    """Read one file of answers; ValueError, naming it, for whatever a study's page would not have saved."""
    # Read the file, and whether it is of this format.
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged, or no file of answers ({error})") from error
    if not isinstance(content, dict) or content.get("format") != RESULTS_FORMAT:
        raise ValueError(f"{path}: no file of answers from a page of gan-style study")
    if content.get("version") != RESULTS_VERSION:
        raise ValueError(f"{path}: version {content.get('version')} of the format; known is {RESULTS_VERSION}")

    # Check every field.
    try:
        _expect(content.keys() == _FILE, f"its keys are {', '.join(sorted(content))}")
        for key in ("study", "participant"):
            _expect(isinstance(content[key], str) and bool(re.fullmatch("[0-9a-f]{16}", content[key])), key)
        for key in ("sheet", "questions"):
            _expect(_is_count(content[key]), key)
        _expect(type(content["allow_ties"]) is bool, "allow_ties")
        models = _models(content["models"], content["names"])
        entries = content["answers"]
        _expect(isinstance(entries, list) and len(entries) <= content["questions"], "answers")
        answers: list[Answer] = []
        for number, entry in enumerate(entries):
            answers.append(_answer(number, entry, models, answers, ties=content["allow_ties"]))
        return Participant(path, content["study"], content["participant"], models, content["questions"], answers)
    except _FlawError as flaw:
        raise ValueError(f"{path}: damaged, or changed since the page saved it: {flaw}") from flaw


class _FlawError(Exception):
    """Say what is wrong with a file's content."""


def _expect(condition: bool, flaw: str) -> None:
    if not condition:
        raise _FlawError(flaw)


def _models(identifiers: Any, block: Any) -> dict[str, str]:
    try:
        names = decode_names(block)
    except (TypeError, ValueError, RecursionError) as error:
        raise _FlawError("names") from error
    _expect(isinstance(names, dict) and isinstance(identifiers, list) and list(names) == identifiers, "models")
    texts = list(names.values())
    _expect(all(isinstance(text, str) and text and text.isprintable() for text in texts), "names")
    _expect(len(set(texts)) == len(texts) >= 2, "names")
    return names


def _answer(number: int, entry: Any, models: dict[str, str], before: Sequence[Answer], *, ties: bool) -> Answer:
    where = f"answer {number}"
    keys = {"question", "kind", "picture", "left", "right", "repeat_of", "choice", "seconds"}
    _expect(isinstance(entry, dict) and entry.keys() == keys, where)
    _expect(_is_count(entry["question"]) and entry["question"] == number, f"question of {where}")
    _expect(entry["kind"] in KINDS, f"kind of {where}")
    _expect(_is_count(entry["picture"]), f"picture of {where}")
    sides = [entry["left"], entry["right"]]
    _expect(all(isinstance(side, str) and side in models for side in sides), f"models of {where}")
    _expect(sides[0] != sides[1], f"models of {where}")
    _expect(entry["choice"] in ("left", "right") or (entry["choice"] == "tie" and ties), f"choice of {where}")
    _expect(type(entry["seconds"]) in (int, float) and 0 <= entry["seconds"] < float("inf"), f"seconds of {where}")
    left, right = (models[side] for side in sides)
    answer = Answer(entry["kind"], entry["picture"], left, right, entry["choice"], entry["seconds"], entry["repeat_of"])
    if answer.repeat_of is not None:
        _expect(_is_count(answer.repeat_of) and answer.repeat_of < number, f"repeat_of {where}")
        first = before[answer.repeat_of]
        mirrored = (first.kind, first.picture, first.right, first.left)
        is_swapped = mirrored == (answer.kind, answer.picture, answer.left, answer.right)
        _expect(first.repeat_of is None and is_swapped, f"repeat_of {where}")
    return answer


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def votes_of(participants: Sequence[Participant], kind: str) -> list[Vote]:
    """Return all answers to one kind of question, without those to repeated ones, which were counted once."""
    return [
        Vote(participant.name, answer.left, answer.right, _POINTS[answer.choice])
        for participant in participants
        for answer in participant.answers
        if answer.kind == kind and answer.repeat_of is None
    ]


def consistency_of(participants: Sequence[Participant], kind: str | None = None) -> tuple[int, int]:
    """Return (repeated questions that were answered the same way, repeated questions); of one kind, or of all."""
    pairs = [
        (answer, participant.answers[answer.repeat_of])
        for participant in participants
        for answer in participant.answers
        if answer.repeat_of is not None and kind in (None, answer.kind)
    ]
    return sum(_POINTS[again.choice] == 1.0 - _POINTS[first.choice] for again, first in pairs), len(pairs)


_TITLES = {"content": "Which keeps the content better", "style": "Which carries the style better"}


@dataclass(frozen=True)
class KindReport:
    """consistency: the share of repeated questions that were answered the same way, of ``repeats`` (None of none)."""

    preferences: Preferences
    consistency: Interval | None
    repeats: int
    conclusions: list[str]


def kind_report(participants: Sequence[Participant], kind: str, *, seed: int) -> KindReport:
    models = sorted(participants[0].models.values())
    result = preferences(votes_of(participants, kind), models, seed=seed)
    same, repeats = consistency_of(participants, kind)
    return KindReport(result, wilson(same, repeats), repeats, conclusions(result))


def report_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the report as lines for a terminal; intervals are in brackets."""
    people = report["participants"].values()
    unfinished = sum(person["answers"] < person["questions"] for person in people)
    unfinished_text = f", {unfinished} of them did not finish" if unfinished else ""
    yield f"study {report['study']}: {_count(len(people), 'participant')}{unfinished_text}"
    for kind, report_of_kind in report["kinds"].items():
        yield from ("", *_of_kind(_TITLES[kind], report_of_kind))


def _of_kind(title: str, report: Mapping[str, Any]) -> Iterator[str]:
    results = report["preferences"]
    people = _count(results["participants"], "participant")
    yield f"{title}: {_count(results['answers'], 'answer')} of {people}; 95 % intervals"
    of_models = [(model["name"], model) for model in results["models"]]
    paired = [(f"{pair['first']} over {pair['second']}", pair) for pair in results["pairs"]]
    width = max(len(name) for name, _ in [*of_models, *paired])
    yield f"  {'':<{width}}  answers  preferred                 score"
    for name, row in [*of_models, *paired]:
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
