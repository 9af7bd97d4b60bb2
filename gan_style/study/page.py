"""The page of a user study: its questions, in random order and balanced within each sheet, and its pictures."""

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, zip_longest
from random import Random
from typing import Any

from gan_style.report.html import render

KINDS = ("content", "style")  # which result keeps the content better; which carries the style better


@dataclass(frozen=True)
class Question:
    """Which of two models' results for one picture; models and pictures are numbers from 0.

    repeat_of: the number, in the sheet, of the earlier question that this one asks again with its sides swapped.
    """

    kind: str
    picture: int
    left: int
    right: int
    repeat_of: int | None = None


def most_questions(models: int, pictures: int) -> int:
    """Return how many different questions there are: both kinds of each pair of models on each picture."""
    return len(KINDS) * math.comb(models, 2) * pictures


def make_sheet(*, models: int, pictures: int, questions: int, repeats: int, random: Random) -> list[Question]:
    """Draw one participant's questions, the two kinds in turn; ``repeats`` of them are asked again, later and swapped.

    Among the ``questions`` of a kind no picture and pair comes twice, and how often each pair, each picture, and each
    side of a pair come differs by one at most. Needs 1 <= questions <= most_questions, 0 <= repeats <= questions / 2.
    """
    assert 1 <= questions <= most_questions(models, pictures) and 0 <= repeats <= questions // 2
    counts = ((questions + 1) // 2, questions // 2)
    again = ((repeats + 1) // 2, repeats // 2)
    if counts[0] > counts[1]:
        again = again[::-1]  # the kind with one question more has one repeat less
    parts = [
        _with_repeats(_draw_balanced(kind, models, pictures, count, random), repeated, random)
        for kind, count, repeated in zip(KINDS, counts, again, strict=True)
    ]
    return _in_turn(parts)


def _draw_balanced(kind: str, models: int, pictures: int, count: int, random: Random) -> list[Question]:
    """Walk diagonally through the table of pairs and pictures, whose rows and columns are in random order.

    Every lcm(pairs, pictures) steps the walk would meet its own beginning, and moves on by one picture instead; so it
    visits each cell once before any twice, and pairs and pictures each in turn.
    """
    pairs = list(combinations(range(models), 2))
    order = list(range(pictures))
    swapped = [random.random() < 0.5 for _ in pairs]  # at the pair's first question; from then on in turn
    random.shuffle(pairs)
    random.shuffle(order)
    period = math.lcm(len(pairs), pictures)
    questions = []
    for step in range(count):
        row, turn = step % len(pairs), step // len(pairs)
        left, right = pairs[row] if swapped[row] == bool(turn % 2) else pairs[row][::-1]
        questions.append(Question(kind, order[(step + step // period) % pictures], left, right))
    random.shuffle(questions)
    return questions


def _with_repeats(questions: list[Question], repeats: int, random: Random) -> list[tuple[Question, int | None]]:
    """Return questions of one kind, each with the place (among ``questions``) of the one that it repeats.

    Repeated are some of the first half; they come again in the last quarter.
    """
    again = random.sample(range((len(questions) + 1) // 2), repeats)
    head = math.ceil(len(questions) * 3 / 4)
    tail: list[tuple[Question, int | None]] = [(question, None) for question in questions[head:]]
    tail += [(replace(questions[i], left=questions[i].right, right=questions[i].left), i) for i in again]
    random.shuffle(tail)
    return [*((question, None) for question in questions[:head]), *tail]


def _in_turn(parts: list[list[tuple[Question, int | None]]]) -> list[Question]:
    """Interleave the kinds; places within a kind become places in the whole sheet."""
    mixed = [entry for entry in chain.from_iterable(zip_longest(*parts)) if entry is not None]
    places: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for place, (question, again) in enumerate(mixed):
        if again is None:
            places[question.kind].append(place)
    return [
        replace(question, repeat_of=None if again is None else places[question.kind][again])
        for question, again in mixed
    ]


RESULTS_FORMAT, RESULTS_VERSION = "gan-style study results", 1
_SHEETS = 128  # of questions in different random order; a participant's random number picks one of them


@dataclass(frozen=True)
class StudyPictures:
    """The pictures of the page as data URIs: results[model] holds one for each photo, in the photos' order."""

    photos: Sequence[str]
    styles: Sequence[str]
    results: Mapping[str, Sequence[str]]


def study_page(
    pictures: StudyPictures, *, title: str, questions: int, repeats: int, allow_ties: bool, seed: int
) -> tuple[str, str]:
    """Return (HTML, fingerprint of the study). The same arguments give the same page.

    The models' names stand in it only as base64 of JSON, and their order is shuffled, so that neither the page nor a
    look at its source tells a participant which model is which; their answers carry that block back to the analysis.
    See design.make_sheet for ``questions`` and ``repeats``.
    """
    names = list(pictures.results)
    assert len(names) >= 2 and {len(results) for results in pictures.results.values()} == {len(pictures.photos)}
    Random(f"models {seed}").shuffle(names)
    identifiers = {f"m{number}": name for number, name in enumerate(names, start=1)}
    count = {"models": len(names), "pictures": len(pictures.photos), "questions": questions, "repeats": repeats}
    content = {
        "format": RESULTS_FORMAT,
        "version": RESULTS_VERSION,
        "title": title,
        "allow_ties": allow_ties,
        "models": list(identifiers),
        "names": encode_names(identifiers),
        "photos": list(pictures.photos),
        "styles": list(pictures.styles),
        "results": [list(pictures.results[name]) for name in names],
        # as study.js reads them
        "sheets": [
            [[q.kind, q.picture, q.left, q.right, q.repeat_of] for q in make_sheet(**count, random=random)]
            for random in (Random(f"sheet {seed} {number}") for number in range(_SHEETS))
        ],
    }
    fingerprint = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    return render("study.html", title=title, study=content | {"study": fingerprint}), fingerprint


def encode_names(names: Mapping[str, str]) -> str:
    """Encode {identifier: name} so that it cannot be read in passing; a blindfold, not a secret."""
    return base64.b64encode(json.dumps(dict(names)).encode()).decode("ascii")


def decode_names(block: str) -> Any:
    """Return what encode_names was given; ValueError for anything else."""
    return json.loads(base64.b64decode(block, validate=True))
