"""``gan-style evaluate``: numbers and a report that say which model is better."""

import warnings
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gan_style.commands import evaluate_parts as parts
from gan_style.commands.evaluate_parts import Setup
from gan_style.config import command
from gan_style.data.pictures import UnreadablePictures
from gan_style.distributed import Ranks, ranks
from gan_style.files import check_place, ensure_writable, write_bytes, write_text
from gan_style.inference.evaluate import Judge
from gan_style.metrics.evaluation import PHOTOS, STYLES, summary
from gan_style.schema import check_evaluate


@command("evaluate")
def main(cfg: DictConfig) -> int:
    """Measure models on pictures that they were not trained on, between two ends: the photos and the style pictures.

    Under torchrun every rank measures its share of the pictures.
    """
    with ranks() as group, warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: _say(group, f"warning: {message}")
        check_evaluate(cfg)
        setup = parts.make_setup(cfg)
        check_place(setup.output, "output")
        models = parts.open_models(setup)
        judge = parts.make_judge(setup, group, lambda words: _say(group, words))
        ensure_writable(setup.output, "output")
        table, sets = _measure(setup, judge, models)
        if group.first:
            _write(setup, judge, models, table, sets)
    return 0


def _say(group: Ranks, words: str) -> None:
    if group.first:
        print(words, flush=True)


def _measure(setup: Setup, judge: Judge, models: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    of_style, of_content = (
        UnreadablePictures(option, len(paths), setup.cfg.max_unreadable, "max_unreadable")
        for option, paths in (("style", setup.styles), ("content", setup.contents))
    )
    reference, rest = judge.styles(setup.styles, of_style)
    sets = judge.contents(setup.contents, models, of_content)
    for watch in (of_content, of_style):
        if watch.problems:
            setup.facts.append(f"{len(watch.problems)} {watch.option} pictures cannot be read and are left out")
    if rest.embeddings or rest.numbers:
        sets[STYLES] = rest
    return summary(sets, reference, setup.names), sets


def _write(setup: Setup, judge: Judge, models: dict[str, Any], table: dict[str, Any], sets: dict[str, Any]) -> None:
    for fact in setup.facts:
        print(fact)
    print(parts.as_text(table))
    write_bytes(setup.output / "metrics.json", parts.as_json(setup, table, sets).encode())
    page: Path = setup.output / "report.html"
    results = {name: measured for name, measured in sets.items() if name not in (PHOTOS, STYLES)}
    write_text(page, parts.make_report(setup, judge, models, table, results))
    print(f"numbers: {setup.output / 'metrics.json'}\nreport:  {page}")


if __name__ == "__main__":
    main()
