"""``gan-style doctor``: what there is on this machine, in one block to paste into a bug report."""

import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
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
from gan_style.runtime.files import check_place, ensure_writable
from gan_style.runtime.provenance import git_state, installed, requirements
from gan_style.runtime.tracking.wandb import resolve_mode

BROKEN = 1  # exit status


@dataclass(frozen=True)
class Fact:
    """A line of the report."""

    name: str
    text: str
    broken: bool = False


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
    folders = [Path(folder).expanduser() for folder in cfg.folders]
    checks: list[Callable[[], Iterable[Fact]]] = [
        versions,
        extras,
        devices,
        backends,
        weights,
        lambda: tracking(cfg.wandb),
        lambda: (finding for folder in folders for finding in place(folder)),
        lambda: data(plain(cfg.data)),
    ]
    findings = [finding for check in checks for finding in _survived(check)]
    width = max(len(finding.name) for finding in findings) + 2
    print("gan-style doctor")
    for finding in findings:
        mark = "BROKEN " if finding.broken else ""
        print(f"  {finding.name + ':':<{width}}{mark}{without_home(finding.text)}")
    broken = [finding.name for finding in findings if finding.broken]
    print(f"  {len(broken)} broken: {', '.join(broken)}" if broken else "  nothing is broken")
    return BROKEN if broken else 0


def _survived(check: Callable[[], Iterable[Fact]]) -> Iterator[Fact]:
    """What a check finds; where it fails itself, that is a finding, and the next one is made."""
    try:
        yield from check()
    except Exception as error:  # whatever a broken library raises: the others are to be told of all the same
        name = getattr(check, "__name__", "a check").replace("<lambda>", "a check")
        yield Fact(name, f"failed: {type(error).__name__}: {(str(error) or '-').splitlines()[0]}", broken=True)


_LITTLE_ROOM = 2e9  # bytes; a run's checkpoints take some 200 MB, and are written before old ones go


def versions() -> Iterator[Fact]:
    """gan_style with its git state, Python, and the libraries that are always needed."""
    git = git_state()
    state = "" if git is None else f", commit {git['commit'][:12]}{' with local changes' if git['dirty'] else ''}"
    yield Fact("gan_style", f"{__version__}{state}")
    yield Fact("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    for name in requirements()[""]:
        version = installed(name)
        yield Fact(name, version or "not installed", broken=version is None)


def extras() -> Iterator[Fact]:
    """The optional libraries, by extra; one that is not there is no fault."""
    for extra, names in requirements().items():
        if extra not in ("", "dev") and names:
            listed = (f"{name} {installed(name) or 'not installed'}" for name in names)
            yield Fact(f"extra {extra}", ", ".join(listed))


def devices() -> Iterator[Fact]:
    """The CPU, and every CUDA device or Apple's; each is tried."""
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    bf16 = bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("bf16"))
    yield Fact(
        "cpu",
        f"{known.get('cpu_name', platform.machine())}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"bfloat16 {'in hardware' if bf16 else 'emulated'}",
    )
    yield from _cuda()
    mps = torch.backends.mps.is_available()
    yield Fact("mps", "available" if mps else "none")


def _cuda() -> Iterator[Fact]:
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        yield Fact("cuda", f"no device ({built})")
        return
    for number in range(torch.cuda.device_count()):
        yield _tried(number)


def _tried(number: int) -> Fact:
    """A CUDA device, and whether it computes."""
    name = f"cuda:{number}"
    try:
        properties = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        ones = torch.ones(64, 64, device=name)
        if float((ones @ ones).sum()) != 64.0**3:
            return Fact(name, f"{properties.name} computes wrong results", broken=True)
        with torch.cuda.device(number):
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    except (RuntimeError, AssertionError) as error:
        return Fact(name, str(error).splitlines()[0], broken=True)
    return Fact(
        name,
        f"{properties.name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free, CUDA {torch.version.cuda}, "
        f"capability {properties.major}.{properties.minor}, bfloat16 {'in hardware' if bf16 else 'emulated'}",
    )


def backends() -> Iterator[Fact]:
    """Those of torch.distributed."""
    if not torch.distributed.is_available():
        yield Fact("distributed", "not in this torch")
        return
    known = {
        name: getattr(torch.distributed, f"is_{name}_available", lambda: False) for name in ("gloo", "nccl", "mpi")
    }
    yield Fact("distributed", ", ".join(name for name, there in known.items() if there()) or "no backend")


def weights() -> Iterator[Fact]:
    """The perceptual networks' weights; only compact's have to be there, for they come with gan_style."""
    try:
        compact(layers=["relu3_1"])
        yield Fact("perceptual=compact", "packaged, reads well")
    except (ValueError, OSError) as error:
        yield Fact("perceptual=compact", str(error), broken=True)
    for name in ("vgg19", "vgg16"):
        path = torchvision_file(name)
        state = f"{path} ({path.stat().st_size / 1e6:.0f} MB)" if path.is_file() else f"no {path}; downloaded when used"
        yield Fact(f"perceptual={name}", state)


def tracking(mode: str) -> Iterator[Fact]:
    """How a run would track; says whether there is a key, never which."""
    try:
        yield Fact("W&B", f"wandb={mode} means {resolve_mode(mode)}")
    except ValueError as error:
        yield Fact("W&B", str(error), broken=True)


def place(folder: Path) -> Iterator[Fact]:
    """Whether files can be written there, and how much room there is; a folder that is not there is not made."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        if folder.is_dir():
            ensure_writable(folder, "folders")
        else:
            check_place(folder, "folders")
    except ValueError as error:
        yield Fact(f"folder {folder}", str(error), broken=True)
        return
    free = shutil.disk_usage(existing).free
    state = "writable" if folder.is_dir() else "not there yet, can be made"
    little = ", which is little" if free < _LITTLE_ROOM else ""
    yield Fact(f"folder {folder}", f"{state}, {free / 1e9:.1f} GB free{little}")


def data(specs: Mapping[str, Any]) -> Iterator[Fact]:
    """How many pictures the options name."""
    for name, spec in _each(specs):
        if spec is None:
            continue
        try:
            paths = find_pictures(spec, f"data.{name}")
        except ValueError as error:
            yield Fact(f"data.{name}", str(error), broken=True)
            continue
        folder = Path(spec).expanduser() if isinstance(spec, str) else None
        problem = describe_others(scan_folder(folder)[1]) if folder is not None and folder.is_dir() else None
        more = f"; {problem}" if problem else ""
        size = sum(path.stat().st_size for path in paths)
        yield Fact(f"data.{name}", f"{len(paths):,} pictures, {size / 1e6:,.1f} MB{more}")


def _each(specs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Of a library's styles each by itself."""
    for name, spec in specs.items():
        if isinstance(spec, Mapping):
            yield from ((f"{name}.{style}", value) for style, value in spec.items())
        else:
            yield name, spec


def without_home(text: str) -> str:
    """A text in which the user's folder is ~, on one line."""
    home = str(Path.home())
    text_without_home = text if home == "/" else re.sub(re.escape(home) + r"(?=[/\s)]|$)", "~", text)
    return " ".join(text_without_home.split())


if __name__ == "__main__":
    main()
