"""``gan-style doctor``: what there is on this machine, in one block to paste into a bug report."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from omegaconf import DictConfig

from gan_style.commands import doctor_parts as parts
from gan_style.commands.doctor_parts import Finding
from gan_style.config import command, plain

BROKEN = 1  # exit status


@command("doctor")
def main(cfg: DictConfig) -> int:
    """Look at versions, devices, weights, tracking, disk and data; status 1 where something that is needed is broken.

    Nothing is downloaded or left behind, and no key, user's or host's name is shown.
    """
    folders = [Path(folder).expanduser() for folder in cfg.folders]
    checks: list[Callable[[], Iterable[Finding]]] = [
        parts.versions,
        parts.extras,
        parts.devices,
        parts.backends,
        parts.weights,
        lambda: parts.tracking(cfg.wandb),
        lambda: (finding for folder in folders for finding in parts.place(folder)),
        lambda: parts.data(plain(cfg.data)),
    ]
    findings = [finding for check in checks for finding in _survived(check)]
    width = max(len(finding.name) for finding in findings) + 2
    print("gan-style doctor")
    for finding in findings:
        mark = "BROKEN " if finding.broken else ""
        print(f"  {finding.name + ':':<{width}}{mark}{parts.without_home(finding.text)}")
    broken = [finding.name for finding in findings if finding.broken]
    print(f"  {len(broken)} broken: {', '.join(broken)}" if broken else "  nothing is broken")
    return BROKEN if broken else 0


def _survived(check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What a check finds; where it fails itself, that is a finding, and the next one is made."""
    try:
        yield from check()
    except Exception as error:  # whatever a broken library raises: the others are to be told of all the same
        name = getattr(check, "__name__", "a check").replace("<lambda>", "a check")
        yield Finding(name, f"failed: {type(error).__name__}: {(str(error) or '-').splitlines()[0]}", broken=True)


if __name__ == "__main__":
    main()
