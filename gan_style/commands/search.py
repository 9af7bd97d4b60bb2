"""``gan-style search``: trains trial after trial with settings that Optuna chooses, and says which are the best."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from gan_style.commands import search_parts as parts
from gan_style.config import command
from gan_style.runtime.files import check_place, ensure_writable, locked, remove_leftovers
from gan_style.runtime.signals import PREEMPTED, Stop, stop_on_signals
from gan_style.schema_search import check_search
from gan_style.search.loop import SUMMARY_FILE, Search, closing_words
from gan_style.search.study import STUDY_FILE

NO_RESULT = 3  # exit status: every trial failed


@command("search")
def _main(cfg: DictConfig) -> int:
    """Search for the best settings of a training, or for the front between two metrics; the same command goes on.

    Whatever is no option of the search is one of gan-style train and holds for every trial:
    gan-style search experiment=monet data.content=photos/ data.style=paintings/ space=weights search.trials=20
    """
    check_search(cfg)
    folder = Path(cfg.search.root).expanduser() / cfg.search.name
    check_place(folder, "search.root, search.name")
    plan = parts.make_plan(cfg)
    print("\n".join(parts.described(plan)), flush=True)
    if cfg.dry_run:
        print("dry_run=true: stopping before the first trial; nothing was written")
        return 0
    ensure_writable(folder, "search.root, search.name")
    ensure_writable(folder / parts.LOGS, "search.root, search.name")
    with locked(folder, "search.name"), stop_on_signals() as stop:
        remove_leftovers(folder)
        return _search(cfg, folder, parts.make_search(cfg, folder, plan, stop), stop)


def _search(cfg: DictConfig, folder: Path, search: Search, stop: Stop) -> int:
    done = search.study.finished()
    print(f"{folder}: {done} of {search.trials} trials done; {cfg.search.sampler}, {STUDY_FILE}", flush=True)
    reason = search.run()
    if reason is not None:
        print(f"stopped by {reason} after {search.study.finished()} trials; the same command again goes on", flush=True)
        return PREEMPTED
    for line in closing_words(search.study, lambda number: parts.trial_folder(folder, number)):
        print(line, flush=True)
    print(f"summary: {folder / SUMMARY_FILE}; side by side: gan-style compare {folder / parts.TRIALS}", flush=True)
    return 0 if search.study.best() else NO_RESULT


def main() -> None:
    """The command, given the options of gan-style train in one list."""
    sys.argv[1:] = parts.gathered(sys.argv[1:])
    _main()


main.__doc__ = _main.__doc__

if __name__ == "__main__":
    main()
