"""``gan-style compare``: runs side by side, from what they have left in their folders."""

import shutil
import warnings
from pathlib import Path

from omegaconf import DictConfig

from gan_style.commands import compare_parts as parts
from gan_style.comparison.table import axes_of, check_common, curve_names, make_table
from gan_style.comparison.text import as_csv, as_text
from gan_style.config import command
from gan_style.files import check_place, ensure_writable, write_text
from gan_style.pages.compare import report
from gan_style.schema_compare import check_compare


@command("compare")
def main(cfg: DictConfig) -> None:
    """Compare runs: a table, content against style, curves and pictures; finished, unfinished and failed ones alike.

    The runs' folders are given as plain words, gan-style compare runs/a sweeps/x, or as runs=[runs/a,sweeps/x].
    """
    with warnings.catch_warnings():
        told: list[str] = []
        warnings.showwarning = lambda message, *_: _tell(told, str(message))
        check_compare(cfg)
        output = Path(cfg.output).expanduser()
        check_place(output, "output")
        runs = parts.read_runs(cfg.runs)
        check_common(runs)
        names = curve_names(runs, cfg.curves)
        table = make_table(runs)
        parts.warn_of(runs)
        print(as_text(table, shutil.get_terminal_size((160, 24)).columns), flush=True)
        sheet = parts.make_sheet(cfg, runs)
        page = report(
            title="gan_style: comparison of runs",
            facts=parts.facts(runs),
            warnings=told,
            table=table,
            axes_=axes_of(table),
            curves={name: {k: run.series[name] for k, run in runs.items() if name in run.series} for name in names},
            sheet=sheet,
        )
        ensure_writable(output, "output")
        write_text(output / "summary.csv", as_csv(table))
        write_text(output / "report.html", page)
        print(f"table:  {output / 'summary.csv'}\nreport: {output / 'report.html'}")


def _tell(told: list[str], words: str) -> None:
    told.append(words)
    print(f"warning: {words}", flush=True)


if __name__ == "__main__":
    main()
