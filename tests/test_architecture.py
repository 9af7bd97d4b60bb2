"""The house's rules, kept by a walk over the imports; see ARCHITECTURE.md."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "gan_style"

# Room (a file or a folder directly below gan_style) -> floor. A new room has to be given one.
FLOORS = {
    **dict.fromkeys(("images", "functional", "demo"), 0),
    **dict.fromkeys(("models", "data"), 1),
    **dict.fromkeys(("losses", "metrics"), 2),
    "evaluation": 2.5,
    **dict.fromkeys(("training", "stylize", "optimise", "dataset", "search", "video"), 3),
    "report": 3.4,
    "study": 3.6,
    **dict.fromkeys(("schema", "schema_dataset", "schema_compare", "schema_train", "config", "commands", "cli"), 4),
    "schema_search": 4,
    **dict.fromkeys(("schema_stylize", "api"), 4),
    "schema_video": 4,
    "schema_runtime": 4,
    "arguments": 4,
    "overrides": 4,
}
SERVICES = {"files", "machine", "checkpoint", "runtime", "tracking", "distributed", "provenance", "signals"}
# What may be imported from a room on the same floor, or by one service from another: ARCHITECTURE.md says so.
ALLOWED_BESIDE = {("config", "schema"), ("commands", "config"), ("commands", "schema")}
ALLOWED_BESIDE |= {("schema", "schema_dataset"), ("commands", "schema_dataset")}
ALLOWED_BESIDE |= {("schema", "schema_train"), ("commands", "schema_train")}
ALLOWED_BESIDE |= {("schema", "schema_compare"), ("commands", "schema_compare")}
ALLOWED_BESIDE |= {("schema", "schema_video"), ("commands", "schema_video"), ("schema_video", "schema_train")}
ALLOWED_BESIDE |= {(f"schema{which}", "schema_runtime") for which in ("", "_stylize", "_video", "_compare")}
ALLOWED_BESIDE |= {("schema", "schema_search"), ("commands", "schema_search")}
ALLOWED_BESIDE |= {("schema", "schema_stylize"), ("commands", "schema_stylize")}
ALLOWED_BESIDE |= {("images", "functional")}
ALLOWED_BESIDE |= {("provenance", "files"), ("config", "arguments")}
ALLOWED_BESIDE |= {("runtime", "machine"), ("distributed", "machine"), ("cli", "overrides")}
ALLOWED_BESIDE |= {("config", "overrides"), ("commands", "overrides"), ("overrides", "schema")}
ALLOWED_BESIDE |= {
    ("cli", "commands"),
    ("cli", "overrides"),
    ("runtime", "machine"),
    ("distributed", "machine"),
    ("checkpoint", "files"),
    ("tracking", "files"),
    ("distributed", "signals"),
}
HYDRA = {"hydra", "omegaconf"}


class Import(NamedTuple):
    """``module`` imports ``name`` (dotted), at the top of the file or inside a function."""

    module: str
    name: str
    inside: bool

    @property
    def room(self) -> str:
        return room(self.module)


def room(module: str) -> str:
    """gan_style.models.blocks and gan_style.models: models; gan_style itself and what it holds (the version): ""."""
    name = [*module.split("."), ""][1]
    return name if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file() else ""


def imports_of(path: Path) -> list[Import]:
    module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
    tree = ast.parse(path.read_text(), str(path))
    within_functions = {
        inner
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(outer)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written out in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found += [Import(module, name, node in within_functions) for name in names]
    return found


IMPORTS = [found for path in sorted(PACKAGE.rglob("*.py")) for found in imports_of(path)]
OWN = [found for found in IMPORTS if found.name.split(".")[0] == "gan_style"]


def told(imports: list[Import]) -> list[str]:
    return [f"{found.module} imports {found.name}" for found in imports]


def outside(found: Import) -> str:
    return found.name.split(".")[0]


def may_import(importer: str, imported: str) -> bool:
    """Whether a room may import another one."""
    if imported in ("", importer) or (importer, imported) in ALLOWED_BESIDE:
        return True  # gan_style itself holds the version and nothing else
    if importer in SERVICES:
        return False
    if imported in SERVICES:
        return FLOORS[importer] > 2
    return FLOORS[imported] < FLOORS[importer]


def test_the_walk_sees_the_house():
    assert len(IMPORTS) > 100
    assert Import("gan_style.training.step", "gan_style.data.stream.Batch", False) in IMPORTS
    assert Import("gan_style.tracking.wandb", "wandb", True) in IMPORTS


def test_every_room_has_a_floor():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or list(path.glob("*.py"))}
    assert rooms - {"__init__"} <= FLOORS.keys() | SERVICES, "give the new room a floor, here and in ARCHITECTURE.md"


def test_nothing_imports_upward_or_sideways():
    assert told([found for found in OWN if not may_import(found.room, room(found.name))]) == []


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("losses", "models", True),
        ("training", "data", True),
        ("evaluation", "losses", True),
        ("commands", "training", True),
        ("training", "checkpoint", True),
        ("losses", "evaluation", False),
        ("models", "losses", False),
        ("models", "data", False),
        ("stylize", "training", False),
        ("training", "config", False),
        ("data", "files", False),
        ("losses", "tracking", False),
        ("checkpoint", "training", False),
        ("checkpoint", "images", False),
    ],
)
def test_the_rule_of_floors_itself(importer, imported, allowed):
    assert may_import(importer, imported) is allowed


def test_package_and_room_files_import_nothing():
    """Else importing one room's file would pull in others."""
    holders = {found.module for found in OWN if (REPOSITORY / found.module.replace(".", "/") / "__init__.py").is_file()}
    assert holders == set()


def test_only_the_configuration_and_the_commands_know_hydra():
    knowing = {found.room for found in IMPORTS if outside(found) in HYDRA}
    assert knowing <= {
        "schema",
        "schema_dataset",
        "schema_compare",
        "schema_search",
        "schema_stylize",
        "schema_train",
        "schema_video",
        "schema_runtime",
        "config",
        "overrides",
        "commands",
        "cli",
    }


def test_services_know_the_standard_library_and_torch_alone():
    known = set(sys.stdlib_module_names) | {"torch", "safetensors", "gan_style"}
    strangers = [f for f in IMPORTS if f.room in SERVICES and outside(f) not in known | {"wandb"}]
    assert told(strangers) == []


def test_one_file_names_wandb_and_imports_it_only_when_used():
    found = [f for f in IMPORTS if outside(f) == "wandb"]
    assert {f.module for f in found} == {"gan_style.tracking.wandb"}
    assert all(f.inside for f in found)


def test_mathematics_knows_neither_ranks_nor_tracking_nor_training():
    rooms = ("models", "losses", "data", "functional", "images")
    forbidden = tuple(f"gan_style.{name}." for name in ("tracking", "training", "distributed"))
    assert told([f for f in OWN if f.room in rooms and f"{f.name}.".startswith(forbidden)]) == []
    files = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).with_suffix("").parts[0] in rooms]
    assert len(files) > 10 and [path for path in files if "torch.distributed" in path.read_text()] == []


def test_the_step_knows_no_files_no_ranks_and_no_tracker():
    found = {f.name for f in IMPORTS if f.module == "gan_style.training.step"}
    assert {name.split(".")[0] for name in found} <= {"collections", "dataclasses", "random", "torch", "gan_style"}
    rooms = {room(name) for name in found if name.startswith("gan_style")}
    assert rooms <= {"data", "images", "losses", "metrics", "training"}


def test_the_package_imports_neither_tests_nor_tools():
    assert told([f for f in IMPORTS if outside(f) in ("tests", "tools", "conftest", "pytest")]) == []


def test_only_images_and_the_dataset_s_headers_know_pillow():
    """verify-dataset looks at headers, and does without torch, which images needs."""
    knowing = {"gan_style.images.decode", "gan_style.images.lossless", "gan_style.dataset.header"}
    assert {f.module for f in IMPORTS if outside(f) == "PIL"} == knowing


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """What a fresh interpreter has loaded once it has imported each of these commands, one after the other."""
    program = """
import importlib, json, sys
for command in ("verify_dataset", "make_dataset", "stylize", "train"):
    importlib.import_module(f"gan_style.commands.{command}")
    print(json.dumps([command, list(sys.modules)]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    "package", ["losses", "evaluation", "models.discriminator", "models.perceptual", "data", "training"]
)
def test_stylize_pulls_in_nothing_of_training(loaded, package):
    assert "gan_style.stylize.batch" in loaded["stylize"]
    assert [name for name in loaded["stylize"] if f"{name}.".startswith(f"gan_style.{package}.")] == []


@pytest.mark.parametrize("command", ["stylize", "train"])
@pytest.mark.parametrize("package", ["wandb", "skimage", "scipy", "hypothesis", "pytest"])
def test_no_command_pulls_in_what_only_some_runs_use(loaded, command, package):
    assert f"gan_style.commands.{command}" in loaded[command]
    assert [name for name in loaded[command] if f"{name}.".startswith(f"{package}.")] == []


def test_planning_committing_and_verifying_a_dataset_take_no_torch(loaded):
    """So that a worker's death is cheap to try, and verifying needs no GPU machine."""
    parts = ("plan", "journal", "writers", "worker", "manifest", "layouts.coco", "verify", "engines.local")
    assert {f"gan_style.dataset.{part}" for part in parts} <= set(loaded["make_dataset"])
    for command in ("verify_dataset", "make_dataset"):
        assert [name for name in loaded[command] if name.split(".")[0] in ("torch", "torchvision", "pyarrow")] == []


@pytest.mark.parametrize("package", ["data", "training", "stylize", "optimise"])
def test_making_a_dataset_knows_nothing_of_training(package):
    assert [f for f in OWN if f.room == "dataset" and room(f.name) == package] == []


def test_no_two_test_files_share_a_name():
    """pytest finds them by their base names, since tests/ is no package."""
    names = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
    assert not list((REPOSITORY / "tests").rglob("__init__.py"))
