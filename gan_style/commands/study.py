"""``gan-style study``: ask people which model is better, and analyse what they say."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gan_style.cli import command
from gan_style.config import plain
from gan_style.data.pictures import find_pictures, middle_of_parts
from gan_style.images.decode import decode
from gan_style.options import SEEDS, Runtime, as_typed, listed, option
from gan_style.report.html import data_uri
from gan_style.report.outputs import FolderOutputs, holds_outputs, model_labels
from gan_style.runtime.device import choose_device
from gan_style.runtime.files import check_place, ensure_writable, write_json, write_text
from gan_style.runtime.progress import warn
from gan_style.runtime.provenance import check_replaceable, marked_page, options_mark
from gan_style.study.answers import Participant, consistency_of, kind_report, read_participants, report_lines
from gan_style.study.page import KINDS, StudyPictures, most_questions, study_page
from gan_style.stylize.batch import stylize
from gan_style.stylize.model import load_painter

_LARGE_PAGE = 100_000_000  # bytes; browsers on phones give up somewhere above
_OTHER_SHAPE = 0.05  # difference of the logarithms of two aspect ratios


@dataclass(kw_only=True)
class StudyOptions:
    checkpoints: Any = option(path=True, many=True)
    content: Any = option(path=True)
    style: Any = option(path=True)
    size: int = option(16)
    questions: int = option(1)
    repeats: int = option(0)
    allow_ties: bool
    style_pictures: int = option(1)
    title: str
    results: Any = option(path=True, many=True)
    output: str | None = option(path=True)
    overwrite: bool
    seed: int = option(*SEEDS)
    runtime: Runtime


@command("study", StudyOptions)
def main(cfg: DictConfig) -> None:
    """Write a page that asks people which of several models is better, or analyse the answers that it saved."""
    check_combination(cfg)
    mark = options_mark("study", plain(cfg))
    output = None if cfg.output is None else Path(cfg.output).expanduser()
    if output is not None:
        check_replaceable([(output, lambda: mark)], overwrite=cfg.overwrite)
    if cfg.results is None:
        write_page(cfg, mark)
    else:
        analyse(listed(cfg.results), output=output, seed=cfg.seed, mark=mark)


def check_combination(cfg: DictConfig) -> None:
    if (cfg.checkpoints is None) == (cfg.results is None):
        raise ValueError("give either checkpoints=[a,b], to write a page, or results=[a.json], to read its answers")
    needed = {"content": cfg.content, "style": cfg.style, "output": cfg.output}
    if cfg.checkpoints is not None and (missing := [name for name, value in needed.items() if value is None]):
        raise ValueError(f"{missing[0]}=... is missing: checkpoints=... needs {', '.join(needed)}")
    if cfg.results is not None and (useless := [name for name in ("content", "style") if needed[name] is not None]):
        raise ValueError(f"{useless[0]}=... belongs to checkpoints=...; results=... needs none")
    suffix = ".html" if cfg.results is None else ".json"
    if cfg.output is not None and not str(cfg.output).lower().endswith(suffix):
        raise ValueError(f"output={cfg.output}; allowed is a name that ends in {suffix}")
    if 2 * cfg.repeats > cfg.questions:
        raise ValueError(f"repeats={cfg.repeats}; allowed are 0 to half of questions={cfg.questions}")


def write_page(cfg: DictConfig, mark: str) -> None:
    """Write the page with photos, artworks and every model's results, all of one short side."""
    output, size = Path(cfg.output).expanduser(), cfg.size
    check_place(output.parent, "output")
    device = choose_device(cfg.runtime.device, cfg.runtime.threads)

    # Find models, photos and artworks; a folder of finished results is a model, too.
    models = find_models(listed(cfg.checkpoints))
    contents = find_pictures(plain(cfg.content), "content")
    styles = middle_of_parts(find_pictures(plain(cfg.style), "style"), cfg.style_pictures)
    finished = {
        label: FolderOutputs(Path(spec).expanduser(), "checkpoints").match(contents)
        for label, spec in models.items()
        if holds_outputs(Path(spec).expanduser())
    }

    # Read or make each model's results; all are encoded alike, so that none is told by its compression.
    photos = [decode(path, short_side=size) for path in contents]
    results = {}
    for label, spec in models.items():
        print(f"{label}: {len(photos)} pictures, {'as they are' if label in finished else 'stylized'}", flush=True)
        if label not in finished:
            generator = load_painter(spec, device)
            results[label] = [data_uri(stylize(generator, photo, device)) for photo in photos]
            continue
        read = [decode(finished[label][path], short_side=size) for path in contents]
        aspects = [[math.log(x.shape[-1] / x.shape[-2]) for x in pictures] for pictures in (read, photos)]
        reshaped = sum(abs(result - photo) > _OTHER_SHAPE for result, photo in zip(*aspects, strict=True))
        if reshaped:  # cropped or squashed results give themselves away
            warn(f"{reshaped} of {len(read)} pictures of {label} have another shape than their photos")
        results[label] = [data_uri(result) for result in read]
    artworks = [data_uri(decode(path, short_side=size)) for path in styles]
    pictures = StudyPictures([data_uri(photo) for photo in photos], artworks, results)

    # There are only so many different questions.
    questions, repeats, possible = cfg.questions, cfg.repeats, most_questions(len(models), len(photos))
    if questions > possible:
        limit = f"of {len(models)} models and {len(photos)} pictures there are only {possible}"
        warn(f"questions={questions}, but {limit}")
        questions, repeats = possible, min(repeats, possible // 2)

    # Write the page.
    html, fingerprint = study_page(
        pictures, title=cfg.title, questions=questions, repeats=repeats, allow_ties=cfg.allow_ties, seed=cfg.seed
    )
    ensure_writable(output.parent, "output")
    write_text(output, marked_page(html, mark))
    length, of_pair = output.stat().st_size, questions / len(KINDS) / math.comb(len(models), 2)
    print(
        f"{output} ({length / 1e6:.1f} MB), study {fingerprint}: each participant is asked {questions} questions and "
        f"{repeats} of them again; {of_pair:.3g} questions of each kind on each pair of models.\n"
        f"Give the page to participants, collect the files that they save, and run gan-style study results=[...]"
    )
    if length > _LARGE_PAGE:
        warn("so large a page may not open on a phone; a smaller size or fewer content pictures help")


def find_models(checkpoints: Sequence[str]) -> dict[str, str]:
    """Return {label: what was given}. ValueError for fewer than two, and for labels that cannot be told or printed."""
    if len(checkpoints) < 2:
        raise ValueError(f"checkpoints={as_typed(checkpoints)}: two models or more expected, such as [runs/a,runs/b]")
    labels = model_labels(checkpoints, "checkpoints")
    if odd := [label for label in labels if not label.isprintable()]:
        raise ValueError(f"checkpoints: the name {odd[0]!r} cannot be printed; rename it")
    return dict(zip(labels, checkpoints, strict=True))


def analyse(results: Sequence[str], *, output: Path | None, seed: int, mark: str) -> None:
    """Print what the answers say, of files or folders of them, and write the numbers where they are wanted."""
    paths: dict[Path, None] = {}
    for path in (Path(name).expanduser() for name in results):
        inside = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"results={path}: there is no .json file in this folder")
        paths |= dict.fromkeys(inside)
    participants, messages = read_participants(list(paths))
    for message in messages:
        warn(message)
    report = {
        "format": "gan-style study analysis",
        "version": 1,
        "study": participants[0].study,
        "participants": {participant.name: _summary(participant) for participant in participants},
        "kinds": {kind: asdict(kind_report(participants, kind, seed=seed)) for kind in KINDS},
    }
    print("\n".join(report_lines(report)))
    if output is not None:
        ensure_writable(output.parent, "output")
        write_json(output, report | {"result": mark}, allow_nan=False)
        print(output)


def _summary(participant: Participant) -> dict[str, Any]:
    same, repeated = consistency_of([participant])
    seconds = sorted(answer.seconds for answer in participant.answers)
    return {
        "answers": len(participant.answers),
        "questions": participant.questions,
        "repeats": repeated,
        "repeats_answered_the_same": same,
        "median_seconds": seconds[len(seconds) // 2] if seconds else None,
    }


if __name__ == "__main__":
    main()
