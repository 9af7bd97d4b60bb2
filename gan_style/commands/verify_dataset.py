"""``gan-style verify-dataset``: read a dataset by make-dataset again and say what differs from its manifest."""

import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from gan_style.cli import command
from gan_style.dataset.journal import STATE, Records
from gan_style.dataset.layouts.recognise import open_layout
from gan_style.dataset.plan import check_facts, check_listing, read_plan
from gan_style.dataset.verify import Verify, count_rows, repair
from gan_style.options import option

DIFFERS = 1  # exit status


@dataclass(kw_only=True)
class VerifyDatasetOptions:
    """Defaults and help are in conf/verify_dataset.yaml."""

    output: str = option(path=True)
    input: str | None = option(path=True)
    repair: bool


@command("verify_dataset", VerifyDatasetOptions)
def main(cfg: DictConfig) -> int:
    """Read everything again, against the manifest and, with input=..., the source; status 1 where something differs."""
    return verify(cfg.output, cfg.input, repairing=cfg.repair)


def verify(folder: str, source: str | None, *, repairing: bool) -> int:
    """Verify a dataset, from plain arguments."""
    output = Path(folder).expanduser()
    plan = read_plan(output / STATE)
    if plan is None:
        raise ValueError(f"output={folder}: there is no dataset by make-dataset in it")
    records, settings, root = Records(output, plan), plan.settings, None
    if source is not None:
        layout = open_layout(
            source, settings["input_layout"], target=settings["output_layout"], carry=settings["carry"]
        )
        check_facts(plan, layout.facts())
        check_listing(plan, layout.samples)
        root = layout.root
    findings = []
    for finding in Verify(records, root)():
        findings.append(finding)
        print(f"{finding.place}: {finding.problem}", flush=True)
    counts = ", ".join(f"{count} {status}" for status, count in sorted(count_rows(records).items()))
    print(f"{plan.inputs} inputs in {len(plan.shards)} shards: {counts}; {len(findings)} differences")
    if repairing and (damaged := repair(records, findings)):
        print(f"{len(damaged)} shards are marked as not done; run the same make-dataset command again")
    if findings:
        print(f"gan-style verify-dataset: {len(findings)} differences", file=sys.stderr)
    return DIFFERS if findings else 0


if __name__ == "__main__":
    main()
