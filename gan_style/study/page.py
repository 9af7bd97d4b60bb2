"""The page of a user study: which of two results keeps the content better, which carries the style better."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from gan_style.report.html import render
from gan_style.study.design import Question, make_sheet

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
    assert len(names) >= 2 and all(
        len(pictures_of_model) == len(pictures.photos) for pictures_of_model in pictures.results.values()
    )
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
        "sheets": [_packed(make_sheet(**count, random=Random(f"sheet {seed} {n}"))) for n in range(_SHEETS)],
    }
    fingerprint = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    return render("study.html", title=title, study=content | {"study": fingerprint}), fingerprint


def _packed(sheet: Sequence[Question]) -> list[list[Any]]:
    """Pack a sheet as study.js reads it: [kind, picture, left, right, repeat of]."""
    return [[q.kind, q.picture, q.left, q.right, q.repeat_of] for q in sheet]


def encode_names(names: Mapping[str, str]) -> str:
    """Encode {identifier: name} so that it cannot be read in passing; a blindfold, not a secret."""
    return base64.b64encode(json.dumps(dict(names)).encode()).decode("ascii")


def decode_names(block: str) -> Any:
    """Return what encode_names was given; ValueError for anything else."""
    return json.loads(base64.b64decode(block, validate=True))
