"""``gan-style search``: trains trial after trial with settings that Optuna chooses, and says which are the best."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, IntegerNode, OmegaConf

from gan_style.cli import command
from gan_style.commands.train import TrainOptions, check_train
from gan_style.config import CONFIG_PATH, build, compose_command, flat, plain, read_yaml, takes_integers
from gan_style.losses.objective import content_layers, style_layers
from gan_style.options import as_typed, check_options, did_you_mean, listed, option
from gan_style.report.table import better_end, is_measurement_setting
from gan_style.runtime.files import check_place, ensure_writable, locked, remove_leftovers
from gan_style.runtime.process import last_line
from gan_style.runtime.progress import warn
from gan_style.runtime.provenance import read_failure
from gan_style.runtime.signals import PREEMPTED, Stop, stop_on_signals
from gan_style.search.loop import SUMMARY_FILE, Search, ShouldPrune, TrainingEnd, closing_lines, train
from gan_style.search.space import Categorical, Dimension, grid, override, read_space
from gan_style.search.study import PRUNERS, SAMPLERS, STUDY_FILE, Pruning, SearchPlan, Study
from gan_style.training.sampling import PREFIX, composite_weights, measurable

NO_RESULT = 3  # exit status: every trial failed
DIRECTIONS = ("auto", "minimise", "maximise")
TRIALS, LOGS = "trials", "logs"
_OWN = ("space", "search", "train", "dry_run", "hydra")  # the roots of conf/search.yaml
_SETS = ("run", "dry_run")  # what the search sets for every trial itself
_OF_NO_BEARING = ("run.", "tracking.", "runtime.", "dry_run", "data.workers", "data.cache_mb")
_OF_SCALES = ("data.size", "data.resize", "training.calibration_pictures")  # of features, measured by each trial
TRAIN_COMMAND = (sys.executable, "-m", "gan_style.commands.train")

# Options: defaults and help are in conf/search.yaml.


@dataclass(kw_only=True)
class SearchOptions:
    name: str
    root: str
    trials: int | None = option(1)
    metric: Any = option(many=True, required=True)
    direction: Any = option(many=True)
    sampler: str = option(choices=SAMPLERS)
    startup: int = option(0)
    seed: int
    pruner: str = option(choices=PRUNERS)
    pruner_startup: int = option(1)
    pruner_warmup: int = option(0)


@dataclass(kw_only=True)
class SearchCommandOptions:
    space: Any = option(path=True, required=True)
    search: SearchOptions
    train: list[str]
    dry_run: bool


@command("search", SearchCommandOptions)
def _main(cfg: DictConfig) -> int:
    """Search for the best settings of a training, or for the front between two metrics; the same command goes on.

    Whatever is no option of the search is one of gan-style train and holds for every trial:
    gan-style search experiment=monet data.content=photos/ data.style=paintings/ space=weights search.trials=20
    """
    # Check what fits together, and every option of every trial.
    search = cfg.search
    if not str(search.name).strip(" ./"):
        raise ValueError(f"search.name={search.name!r}; give a name, which the search's folder gets")
    if search.trials is None and search.sampler != "grid":
        raise ValueError(f"search.trials=null needs search.sampler=grid; with {search.sampler} give a number")
    if (count := len(listed(search.metric))) > 1 and search.pruner != "none":
        raise ValueError(f"search.pruner={search.pruner} needs one search.metric, not {count}; use search.pruner=none")
    folder = Path(search.root).expanduser() / search.name
    check_place(folder, "search.root, search.name")
    plan = make_plan(cfg)
    show_plan(plan)
    if cfg.dry_run:
        print("dry_run=true: stopping before the first trial; nothing was written")
        return 0

    # Run trials in the search's folder, which is ours alone meanwhile.
    if not (folder / STUDY_FILE).exists() and (other := [n for n in (SUMMARY_FILE, TRIALS) if (folder / n).exists()]):
        raise ValueError(f"search.name: {folder / other[0]} is there already, and no search; give another name")
    ensure_writable(folder, "search.root, search.name")
    ensure_writable(folder / LOGS, "search.root, search.name")
    with locked(folder, "search.name"), stop_on_signals() as stop:
        remove_leftovers(folder)
        loop = make_search(cfg, folder, plan, stop)
        study = loop.study
        print(f"{folder}: {study.finished()} of {loop.trials} trials done; {plan.sampler}, {STUDY_FILE}", flush=True)
        reason = loop.run()

    # Say how it ended.
    if reason is not None:
        print(f"stopped by {reason} after {study.finished()} trials; the same command again goes on", flush=True)
        return PREEMPTED
    for line in closing_lines(study, lambda number: folder / TRIALS / f"{number:04}"):
        print(line, flush=True)
    print(f"summary: {folder / SUMMARY_FILE}; side by side: gan-style compare {folder / TRIALS}", flush=True)
    return 0 if study.best() else NO_RESULT


def join_train_options(arguments: Sequence[str]) -> list[str]:
    """Join arguments that are no option of the search, and no flag, to one: train=['data.content=photos/', ...]."""
    is_own = re.compile(rf"-|[~+]*({'|'.join(_OWN)})([.=@]|$)")
    options = [argument for argument in arguments if "=" in argument or argument.startswith("~")]
    passed_on = [argument for argument in options if not is_own.match(argument)]
    own_arguments = [argument for argument in arguments if argument not in passed_on]
    return [*own_arguments, override("train", list(passed_on))] if passed_on else own_arguments


def main() -> None:
    """Run the command, given the options of gan-style train in one list."""
    sys.argv[1:] = join_train_options(sys.argv[1:])
    _main()


main.__doc__ = _main.__doc__


def make_plan(cfg: DictConfig) -> SearchPlan:
    """Make the plan, with every option checked against gan-style train. ValueError in the user's words."""
    base = list(cfg.train)
    for argument in base:
        if argument.lstrip("+~").split(".")[0] == "run":
            raise ValueError(f"{argument}: the search names its trials' runs itself, in search.root/search.name")
    settings = compose_command("train", base)
    space = read_space(_space_content(cfg.space), partial(_is_whole, settings))
    names = {argument.split("=", 1)[0].lstrip("+~") for argument in base}
    for name in space:
        if name.split(".")[0] in _SETS:
            raise ValueError(f"space.{name}: the search sets this for every trial itself")
        if name in names:
            raise ValueError(f"{name} is in the space and on the command line; give it in one place")
    _try_examples(space, base)
    if settings.training.max_time is not None:
        raise ValueError("training.max_time belongs to a single run; a search ends when it has its trials")
    if cfg.search.sampler == "grid":
        grid(space)
    search, every = cfg.search, settings.metrics.every
    return SearchPlan(
        space=space,
        metrics=_metrics(search.metric, search.direction, settings),
        sampler=search.sampler,
        startup=search.startup,
        seed=search.seed,
        settings={name: x for name, x in flat(plain(settings)).items() if not name.startswith(_OF_NO_BEARING)},
        pruning=Pruning(search.pruner, search.pruner_startup, max(search.pruner_warmup, every)),
    )


def _space_content(space: Any) -> Any:
    """Read the space: from a file, from one in conf/spaces, or as it is given."""
    if not isinstance(space, str):
        return plain(space)
    spaces = {path.stem: path for path in (CONFIG_PATH / "spaces").glob("*.yaml")}
    path = spaces.get(space, Path(space).expanduser())
    if not path.is_file():
        raise ValueError(f"space={space}: there is no such file, and conf/spaces has {', '.join(sorted(spaces))}")
    try:
        return read_yaml(path)
    except ValueError as error:
        raise ValueError(f"space={as_typed(space)}: {error}") from error


def _is_whole(settings: DictConfig, name: str) -> bool:
    """Return whether an option takes whole numbers: by its type, what is built of it, or else its default."""
    parent, _, key = name.rpartition(".")
    place = OmegaConf.select(settings, parent) if parent else settings
    if not isinstance(place, DictConfig) or key not in place:
        return False  # said to be unknown when it is tried
    is_whole, node, value = takes_integers(place, parent, key), place._get_node(key), place[key]
    if is_whole is not None:
        return is_whole
    return isinstance(node, IntegerNode) or (isinstance(value, int) and not isinstance(value, bool))


def _try_examples(space: dict[str, Dimension], base: list[str]) -> None:
    """Check that gan-style train takes the ends of each range and each choice."""
    examples = {name: dimension.examples() for name, dimension in space.items()}
    for number in range(max(map(len, examples.values()))):
        values = {name: choices[number % len(choices)] for name, choices in examples.items()}
        try:
            cfg = compose_command("train", [*base, *(override(name, value) for name, value in values.items())])
            check_options(TrainOptions, cfg)
            check_train(cfg)
        except ValueError as error:
            raise ValueError(f"space: {error}") from error


def _metrics(metrics: Any, direction: Any, settings: DictConfig) -> dict[str, str]:
    names, directions = listed(metrics), listed(direction)
    if len(set(names)) < len(names):
        raise ValueError(f"search.metric={as_typed(names)}: a metric is given twice")
    directions *= len(names) if len(directions) == 1 else 1
    if len(directions) != len(names) or set(directions) - set(DIRECTIONS):
        allowed = f"{', '.join(DIRECTIONS)}, or one for each metric"
        raise ValueError(f"search.direction={as_typed(direction)}; allowed are {allowed}")

    # Check that each is measured, as far as is known before anything is trained.
    terms = [build(node, f"loss.{name}") for name, node in settings.loss.items() if name != "balance"]
    held_out = measurable(settings.metrics.names, content_layers(terms), style_layers(terms))
    weights = composite_weights(plain(settings.metrics.best), settings.metrics.names) or {}
    composite = ["composite"] if any(name in held_out for name in weights) else []
    held_out = [*held_out, *(["style_ratio"] if "style" in held_out else []), *composite]
    losses = [*(str(term) for term in settings.loss if term != "balance"), "total"]
    for name in names:
        for prefix, choices, source in ((PREFIX, held_out, "metrics.names, metrics.best"), ("loss/", losses, "loss")):
            what = name.removeprefix(prefix)
            inner = what.partition("/")[2]  # of one of a library's styles no numbers of several parts are told
            is_known = what in choices or not ("/" in inner and inner in choices)
            if name.startswith(prefix) and not (is_known and any(part in choices for part in _parts(what))):
                hint = did_you_mean(name, [prefix + metric for metric in choices])
                allowed = ", ".join(prefix + metric for metric in choices)
                raise ValueError(f"search.metric={name} is not measured{hint}. By {source} there are {allowed}")
    return {name: direction_of(name) if d == "auto" else d for name, d in zip(names, directions, strict=True)}


def _parts(what: str) -> list[str]:
    """Return colour/mean, style/relu1_1, monet/style as a whole, without what is before, without what comes after."""
    return [what, what.partition("/")[2], what.rpartition("/")[0], *what.split("/")]


def direction_of(name: str) -> str:
    better = "lower" if name.startswith("loss/") else ""
    if name.startswith(PREFIX):
        ends = [better_end(PREFIX + part) for part in _parts(name.removeprefix(PREFIX))]
        better = next(filter(None, ends), "")
    if not better:
        raise ValueError(
            f"search.metric={name}: no end is known to be better; say search.direction=minimise or maximise"
        )
    return {"lower": "minimise", "higher": "maximise"}[better]


def make_search(cfg: DictConfig, folder: Path, plan: SearchPlan, stop: Stop) -> Search:
    """Build the search: its study, and trainings that are processes, each in a run's folder with a log beside it."""
    study, base = Study(folder, plan), list(cfg.train)
    names = {argument.split("=", 1)[0] for argument in base}

    def log(number: int) -> Path:
        return folder / LOGS / f"{number:04}.log"

    def run(number: int, overrides: Sequence[str], should_prune: ShouldPrune) -> TrainingEnd:
        place = folder / TRIALS / f"{number:04}"
        settings = {"run.root": str(place.parent.absolute()), "run.name": place.name}
        of_tracking = {"tracking.group": cfg.search.name, "tracking.name": f"{number} {' '.join(overrides)}"}
        settings |= {key: value for key, value in of_tracking.items() if key not in names}
        command = [*TRAIN_COMMAND, *base, *overrides, *(override(key, value) for key, value in settings.items())]
        return train(command, place, log(number), should_prune=should_prune, stopped=lambda: stop.reason)

    return Search(
        study=study,
        trials=study.limit(cfg.search.trials),
        folder=folder,
        train=run,
        why=lambda number: read_failure(folder / TRIALS / f"{number:04}") or last_line(log(number)),
        stopped=lambda: stop.reason,
        say=partial(print, flush=True),
    )


def show_plan(plan: SearchPlan) -> None:
    for name, direction in plan.metrics.items():
        print(f"{'metric:':<12}{name}, {direction}")
    for name, dimension in plan.space.items():
        print(f"{'space:':<12}{name}: {_range_text(dimension)}", flush=True)
    measured_by = [name for name in plan.space if is_measurement_setting(name) or name.startswith(_OF_SCALES)]
    if measured_by and any(name.startswith(PREFIX) for name in plan.metrics):
        warn(f"trials differ in {', '.join(measured_by)}, so held-out numbers are of different scales")


def _range_text(dimension: Dimension) -> str:
    if isinstance(dimension, Categorical):
        return ", ".join(map(str, dimension.values))
    kind = "whole numbers" if dimension.whole else "numbers"
    step = f", in steps of {dimension.step:g}" if dimension.step else ""
    return f"{kind} from {dimension.low:g} to {dimension.high:g}{step}{', logarithmic' if dimension.log else ''}"


if __name__ == "__main__":
    main()
