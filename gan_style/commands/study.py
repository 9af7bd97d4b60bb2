"""``gan-style study``: ask people which model is better, and analyse what they say."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gan_style.commands.study_pictures import study_pictures
from gan_style.commands.study_report import in_words, kind_report
from gan_style.config import command, plain
from gan_style.files import check_place, ensure_writable, write_bytes, write_text
from gan_style.pages.answers import Participant, consistency_of, read_participants
from gan_style.pages.design import KINDS, most_questions
from gan_style.pages.study import study_page
from gan_style.runtime import choose_device
from gan_style.schema import check_study

_LARGE_PAGE = 100_000_000  # bytes; browsers on phones give up somewhere above


@command("study")
def main(cfg: DictConfig) -> None:
    """Write a page that asks people which of several models is better, or analyse the answers that it saved."""
    check_study(cfg)
    if cfg.results is None:
        _write_page(cfg)
    else:
        _analyse(_result_files(plain(cfg.results)), output=cfg.output, seed=cfg.seed)


def _write_page(cfg: DictConfig) -> None:
    output = Path(cfg.output).expanduser()
    check_place(output.parent, "output")
    pictures = study_pictures(
        plain(cfg.checkpoints),
        plain(cfg.content),
        plain(cfg.style),
        size=cfg.size,
        style_pictures=cfg.style_pictures,
        device=choose_device(cfg.runtime.device, cfg.runtime.threads),
    )
    count = {"models": len(pictures.results), "pictures": len(pictures.photos)}
    questions, repeats = _as_many_as_there_are(cfg.questions, cfg.repeats, **count)
    html, fingerprint = study_page(
        pictures, title=cfg.title, questions=questions, repeats=repeats, allow_ties=cfg.allow_ties, seed=cfg.seed
    )
    ensure_writable(output.parent, "output")
    write_text(output, html)
    _say_what_was_written(output, fingerprint, questions=questions, repeats=repeats, models=count["models"])


def _as_many_as_there_are(questions: int, repeats: int, models: int, pictures: int) -> tuple[int, int]:
    most = most_questions(models, pictures)
    if questions <= most:
        return questions, repeats
    print(f"warning: questions={questions}, but of {models} models and {pictures} pictures there are only {most}")
    return most, min(repeats, most // 2)


def _say_what_was_written(output: Path, fingerprint: str, *, questions: int, repeats: int, models: int) -> None:
    size = output.stat().st_size
    of_pair = questions / len(KINDS) / math.comb(models, 2)
    print(
        f"{output} ({size / 1e6:.1f} MB), study {fingerprint}: each participant is asked {questions} questions and "
        f"{repeats} of them again; {of_pair:.3g} questions of each kind on each pair of models.\n"
        f"Give the page to participants, collect the files that they save, and run gan-style study results=[...]"
    )
    if size > _LARGE_PAGE:
        print("warning: so large a page may not open on a phone; a smaller size or fewer content pictures help")


def _result_files(results: Any) -> list[Path]:
    given = [results] if isinstance(results, str) else results
    if not isinstance(given, list) or not given or not all(isinstance(one, str) for one in given):
        raise ValueError(f"results={results}: a list of .json files, or a folder of them, expected")
    paths: dict[Path, None] = {}
    for path in (Path(one).expanduser() for one in given):
        inside = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"results={path}: there is no .json file in this folder")
        paths |= dict.fromkeys(inside)
    return list(paths)


def _analyse(paths: Sequence[Path], *, output: str | None, seed: int) -> None:
    participants, warnings = read_participants(paths)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    report = {
        "format": "gan-style study analysis",
        "version": 1,
        "study": participants[0].study,
        "participants": {participant.name: _of_participant(participant) for participant in participants},
        "kinds": {kind: asdict(kind_report(participants, kind, seed=seed)) for kind in KINDS},
    }
    print("\n".join(in_words(report)))
    if output is not None:
        _write_json(Path(output).expanduser(), report)


def _of_participant(participant: Participant) -> dict[str, Any]:
    same, repeated = consistency_of([participant])
    seconds = sorted(answer.seconds for answer in participant.answers)
    return {
        "answers": len(participant.answers),
        "questions": participant.questions,
        "repeats": repeated,
        "repeats_answered_the_same": same,
        "median_seconds": seconds[len(seconds) // 2] if seconds else None,
    }


def _write_json(path: Path, report: Mapping[str, Any]) -> None:
    ensure_writable(path.parent, "output")
    write_bytes(path, json.dumps(report, indent=2, allow_nan=False).encode() + b"\n")
    print(path)


if __name__ == "__main__":
    main()
