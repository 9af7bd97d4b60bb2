"""``gan-style study``: ask people which model is better, and analyse what they say."""

import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from gan_style.config import command, plain
from gan_style.data.pictures import find_pictures
from gan_style.images.decode import decode, to_float
from gan_style.images.formats import list_pictures
from gan_style.report.html import data_uri
from gan_style.runtime.checkpoint import GENERATOR_FILE, CheckpointFolder
from gan_style.runtime.device import choose_device
from gan_style.runtime.files import check_place, ensure_writable, write_bytes, write_text
from gan_style.schema import check_study
from gan_style.study.analysis import in_words, kind_report
from gan_style.study.answers import Participant, consistency_of, read_participants
from gan_style.study.design import KINDS, most_questions
from gan_style.study.page import Pictures, study_page
from gan_style.stylize.batch import stylize
from gan_style.stylize.model import load_painter, of_style

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


_OTHER_SHAPE = 0.05  # difference of the logarithms of two aspect ratios


def study_pictures(
    checkpoints: Any, content: Any, style: Any, *, size: int, style_pictures: int, device: torch.device
) -> Pictures:
    """Photos, artworks (at most ``style_pictures``) and every model's results, of a short side of ``size`` pixels.

    Prints what is done; ValueError in the user's words for whatever cannot be found or read.
    """
    models = labelled(checkpoints)
    contents = find_pictures(content, "content")
    styles = spread(find_pictures(style, "style"), style_pictures)
    finished = {label: finished_results(path, contents) for label, path in models.items() if _holds_pictures(path)}
    photos = [decode(path, short_side=size) for path in contents]
    results = {}
    for label, path in models.items():
        print(f"{label}: {len(photos)} pictures, {'as they are' if label in finished else 'stylized'}", flush=True)
        if label in finished:
            results[label] = _read(label, finished[label], photos, size)
        else:
            results[label] = _stylized(path, photos, device)
    return Pictures(
        photos=[_shown(photo) for photo in photos],
        styles=[_shown(decode(path, short_side=size)) for path in styles],
        results=results,
    )


def labelled(checkpoints: Any) -> dict[str, Path]:
    """{label: path}; a label is the name of the run or folder or, where two are called the same, what was given."""
    if not isinstance(checkpoints, list) or len(checkpoints) < 2 or not all(isinstance(c, str) for c in checkpoints):
        raise ValueError(f"checkpoints={checkpoints}: a list of two models or more expected, such as [runs/a,runs/b]")
    paths = [Path(given).expanduser() for given in checkpoints]
    if missing := [path for path in paths if not of_style(str(path))[0].exists()]:
        raise ValueError(f"checkpoints={missing[0]}: there is no such file or folder")
    names = [path.parent.name if path.name == GENERATOR_FILE else path.name for path in map(Path.absolute, paths)]
    labels = [given if names.count(name) > 1 else name for name, given in zip(names, checkpoints, strict=True)]
    if twice := _twice(labels):
        raise ValueError(f"checkpoints: {twice} is given twice")
    if odd := [label for label in labels if not label.isprintable()]:
        raise ValueError(f"checkpoints: the name {odd[0]!r} cannot be printed; rename it")
    return dict(zip(labels, paths, strict=True))


def _twice(names: Sequence[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """At most ``count`` of them, evenly spread."""
    count = min(count, len(paths))
    return [paths[(2 * number + 1) * len(paths) // (2 * count)] for number in range(count)]


def _holds_pictures(path: Path) -> bool:
    holds_generator = (path / GENERATOR_FILE).is_file() or CheckpointFolder(path / "checkpoints").paths()
    return path.is_dir() and not holds_generator and bool(list_pictures(path))


def finished_results(folder: Path, contents: Sequence[Path]) -> list[Path]:
    """The folder's picture for each content picture: the one of the same name, suffixes aside."""
    found = list_pictures(folder)
    if twice := _twice([path.stem for path in found]):
        raise ValueError(f"checkpoints={folder}: several of its pictures are called {twice}")
    if twice := _twice([path.stem for path in contents]):
        raise ValueError(f"content: several pictures are called {twice}; checkpoints={folder} is matched by name")
    by_name = {path.stem: path for path in found}
    if missing := [path.name for path in contents if path.stem not in by_name]:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise ValueError(
            f"checkpoints={folder}: this folder holds no generator, and of the content's {len(contents)} pictures no "
            f"result for {len(missing)} ({names}); results are matched by name"
        )
    return [by_name[path.stem] for path in contents]


def _read(label: str, paths: Sequence[Path], photos: Sequence[Tensor], size: int) -> list[str]:
    results = [decode(path, short_side=size) for path in paths]
    other = sum(_another_shape(result, photo) for result, photo in zip(results, photos, strict=True))
    if other:  # cropped or squashed results give themselves away
        print(f"warning: {other} of {len(paths)} pictures of {label} have another shape than their photos")
    return [_shown(result) for result in results]


def _another_shape(result: Tensor, photo: Tensor) -> bool:
    ratios = [picture.shape[-1] / picture.shape[-2] for picture in (result, photo)]
    return abs(math.log(ratios[0] / ratios[1])) > _OTHER_SHAPE


def _stylized(checkpoint: Path, photos: Sequence[Tensor], device: torch.device) -> list[str]:
    generator = load_painter(str(checkpoint), device)
    return [data_uri(stylize(generator, photo, device)) for photo in photos]


def _shown(picture: Tensor) -> str:
    """uint8 (3, H, W); all pictures are encoded alike, so that none is told by its compression."""
    return data_uri(to_float(picture))


if __name__ == "__main__":
    main()
