"""``gan-style doctor``: what there is on this machine, in one block to paste into a bug report."""

import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from omegaconf import DictConfig

from gan_style import __version__
from gan_style.cli import command
from gan_style.config import plain
from gan_style.data.pictures import find_pictures
from gan_style.images.formats import describe_others, scan_folder
from gan_style.models.perceptual import compact
from gan_style.models.weights import torchvision_file
from gan_style.options import option
from gan_style.runtime.device import fastest_precision
from gan_style.runtime.files import check_place, ensure_writable
from gan_style.runtime.machine import first_line
from gan_style.runtime.provenance import git_state, installed_version, requirements
from gan_style.runtime.wandb import resolve_mode

BROKEN = 1  # exit status
_LITTLE_ROOM = 2e9  # bytes; a run's checkpoints take some 200 MB, and are written before old ones go


@dataclass(kw_only=True)
class CheckedData:
    content: Any = option(path=True)
    style: Any = option(path=True)


@dataclass(kw_only=True)
class DoctorOptions:
    data: CheckedData
    folders: list[str] = option(path=True)
    wandb: str


@command("doctor", DoctorOptions)
def main(cfg: DictConfig) -> int:
    """Look at versions, devices, weights, tracking, disk and data; status 1 where something that is needed is broken.

    Nothing is downloaded or left behind, and no key, user's or host's name is shown.
    """
    checks: dict[str, Callable[[], str]] = {
        "gan_style": own_version,
        "python": lambda: f"{platform.python_version()}, {platform.system()} {platform.machine()}",
    }
    checks |= {name: partial(required_version, name) for name in requirements()[""]}
    for extra, names in requirements().items():
        if extra not in ("", "dev") and names:
            checks[f"extra {extra}"] = partial(optional_versions, names)
    checks |= {"cpu": cpu} | {f"cuda:{number}": partial(cuda, number) for number in range(torch.cuda.device_count())}
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        checks["cuda"] = lambda: f"no device ({built})"
    checks |= {
        "mps": lambda: "available" if torch.backends.mps.is_available() else "none",
        "distributed": backends,
        "perceptual=compact": packaged_weights,
        **{f"perceptual={name}": partial(downloaded_weights, name) for name in ("vgg19", "vgg16")},
        "W&B": lambda: f"wandb={cfg.wandb} means {resolve_mode(cfg.wandb)}",
        **{f"folder {folder}": partial(place, Path(folder).expanduser()) for folder in cfg.folders},
    }
    for name, spec in plain(cfg.data).items():
        of_styles = {f"data.{name}.{style}": value for style, value in spec.items()} if isinstance(spec, dict) else {}
        for option_name, value in (of_styles or {f"data.{name}": spec}).items():
            if value is not None:
                checks[option_name] = partial(pictures, value, option_name)

    # A check returns what it finds, or raises an error: then that is broken, and the others are made all the same.
    width, broken = max(map(len, checks)) + 2, []
    print("gan-style doctor")
    for name, check in checks.items():
        try:
            text = check()
        except Exception as error:  # whatever a broken library raises
            kind = "" if isinstance(error, ValueError | RuntimeError) else f"failed: {type(error).__name__}: "
            text = f"BROKEN {kind}{first_line(error)}"
            broken.append(name)
        print(f"  {name + ':':<{width}}{without_home(text)}")
    print(f"  {len(broken)} broken: {', '.join(broken)}" if broken else "  nothing is broken")
    return BROKEN if broken else 0


def own_version() -> str:
    git = git_state()
    state = "" if git is None else f", commit {git['commit'][:12]}{' with local changes' if git['dirty'] else ''}"
    return f"{__version__}{state}"


def required_version(name: str) -> str:
    version = installed_version(name)
    if version is None:
        raise ValueError("not installed")
    return version


def optional_versions(names: Iterable[str]) -> str:
    return ", ".join(f"{name} {installed_version(name) or 'not installed'}" for name in names)


def cpu() -> str:
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return (
        f"{features.get('cpu_name', platform.machine())}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{_bfloat16(torch.device('cpu'))}"
    )


def _bfloat16(device: torch.device) -> str:
    return f"bfloat16 {'in hardware' if fastest_precision(device) == torch.bfloat16 else 'emulated'}"


def cuda(number: int) -> str:
    """Describe a CUDA device, tried with a product whose value is known."""
    properties = torch.cuda.get_device_properties(number)
    free, total = torch.cuda.mem_get_info(number)
    ones = torch.ones(64, 64, device=f"cuda:{number}")
    if float((ones @ ones).sum()) != 64.0**3:
        raise ValueError(f"{properties.name} computes wrong results")
    with torch.cuda.device(number):
        bfloat16 = _bfloat16(torch.device("cuda", number))
    return (
        f"{properties.name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free, CUDA {torch.version.cuda}, "
        f"capability {properties.major}.{properties.minor}, {bfloat16}"
    )


def backends() -> str:
    if not torch.distributed.is_available():
        return "not in this torch"
    names = ("gloo", "nccl", "mpi")
    checks = {name: getattr(torch.distributed, f"is_{name}_available", lambda: False) for name in names}
    return ", ".join(name for name, is_available in checks.items() if is_available()) or "no backend"


def packaged_weights() -> str:
    """Read the perceptual network that comes with gan_style; its weights alone have to be there."""
    compact(layers=["relu3_1"])
    return "packaged, reads well"


def downloaded_weights(name: str) -> str:
    path = torchvision_file(name)
    return f"{path} ({path.stat().st_size / 1e6:.0f} MB)" if path.is_file() else f"no {path}; downloaded when used"


def place(folder: Path) -> str:
    """Describe whether files can be written there, and the room that there is; no folder is made."""
    check_place(folder, "folders")
    if folder.is_dir():
        ensure_writable(folder, "folders")
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    state = "writable" if folder.is_dir() else "not there yet, can be made"
    return f"{state}, {free / 1e9:.1f} GB free{', which is little' if free < _LITTLE_ROOM else ''}"


def pictures(spec: Any, option_name: str) -> str:
    paths = find_pictures(spec, option_name)
    folder = Path(spec).expanduser() if isinstance(spec, str) else None
    passed_over = describe_others(scan_folder(folder)[1]) if folder is not None and folder.is_dir() else None
    size = sum(path.stat().st_size for path in paths)
    return f"{len(paths):,} pictures, {size / 1e6:,.1f} MB{f'; {passed_over}' if passed_over else ''}"


def without_home(text: str) -> str:
    """Return a text in which the user's folder is ~, on one line."""
    home = str(Path.home())
    text_without_home = text if home == "/" else re.sub(re.escape(home) + r"(?=[/\s)]|$)", "~", text)
    return " ".join(text_without_home.split())


if __name__ == "__main__":
    main()
