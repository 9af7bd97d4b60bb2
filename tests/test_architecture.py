"""The layers of ARCHITECTURE.md, checked on the imports of every file."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "gan_style"

# The packages and files directly below gan_style, bottom up. A module imports from lower layers and from its own
# package.
LAYERS = [
    {"demo", "functional", "options"},
    {"images"},
    {"models", "data"},
    {"losses"},
    {"evaluation", "regions"},
    {"training", "stylize", "optimise", "dataset", "search", "video"},
    {"report", "export", "app"},
    {"study"},
    {"config"},
    {"cli"},
    {"commands", "api", "transforms"},  # which cli imports by their names
]
LEVEL = {name: number for number, layer in enumerate(LAYERS) for name in layer}
RUNTIME_FROM = LEVEL["evaluation"]  # gan_style/runtime stands beside the layers, for these and those above


class Import(NamedTuple):
    """``module`` imports ``name`` (dotted), at the top of the file or inside a function."""

    module: str
    name: str
    inside_function: bool

    @property
    def package(self) -> str:
        return package(self.module)


def package(module: str) -> str:
    """ "models" for gan_style.models.blocks; "" for gan_style itself and what it holds (the version)."""
    name = [*module.split("."), ""][1]
    return name if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file() else ""


def imports_of(path: Path) -> list[Import]:
    module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
    tree = ast.parse(path.read_text(), str(path))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inner = {node for function in functions for node in ast.walk(function)}
    imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [Import(module, alias.name, node in inner) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written out in full"
            imports += [Import(module, f"{node.module}.{alias.name}", node in inner) for alias in node.names]
    return imports


IMPORTS = [item for path in sorted(PACKAGE.rglob("*.py")) for item in imports_of(path)]
OWN = [item for item in IMPORTS if item.name.split(".")[0] == "gan_style"]


def importers(*distributions: str) -> set[str]:
    """The modules that import one of these other packages."""
    return {item.module for item in IMPORTS if item.name.split(".")[0] in distributions}


def lines(imports: list[Import]) -> list[str]:
    return [f"{item.module} imports {item.name}" for item in imports]


def may_import(importer: str, imported: str) -> bool:
    if imported in ("", importer):
        return True
    if importer == "runtime":
        return False
    return LEVEL[importer] >= RUNTIME_FROM if imported == "runtime" else LEVEL[imported] < LEVEL[importer]


def test_every_package_has_a_layer():
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or list(path.glob("*.py"))}
    assert names - {"__init__", "runtime"} <= LEVEL.keys(), "give the new one a layer, here and in ARCHITECTURE.md"


def test_imports_go_downward():
    assert len(OWN) > 100
    assert lines([item for item in OWN if not may_import(item.package, package(item.name))]) == []


def test_a_package_s_own_file_imports_nothing():
    """Else importing one of its modules would pull in others."""
    holders = {item.module for item in OWN if (REPOSITORY / item.module.replace(".", "/") / "__init__.py").is_file()}
    assert holders == set()


def test_only_the_configuration_and_the_commands_know_hydra():
    packages = {package(module) for module in importers("hydra", "omegaconf")}
    assert packages <= {"config", "commands", "cli"}


def test_only_its_tracker_knows_wandb_and_imports_it_when_used():
    assert importers("wandb") == {"gan_style.runtime.wandb"}
    assert all(item.inside_function for item in IMPORTS if item.name.split(".")[0] == "wandb")


def test_mathematics_knows_no_ranks():
    folders = ("models", "losses", "data", "evaluation", "images")
    files = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).with_suffix("").parts[0] in folders]
    assert len(files) > 10
    assert [path for path in files if "torch.distributed" in path.read_text()] == []


def test_the_step_knows_no_files_no_ranks_and_no_tracker():
    imported = {item.name for item in IMPORTS if item.module == "gan_style.training.step"}
    allowed = {"collections", "dataclasses", "functools", "random", "torch", "gan_style"}
    assert {name.split(".")[0] for name in imported} <= allowed
    own = {package(name) for name in imported if name.startswith("gan_style")}
    assert own <= {"data", "images", "losses", "evaluation", "training"}


def test_the_package_imports_neither_tests_nor_tools():
    assert importers("tests", "tools", "conftest", "pytest") == set()


def test_only_the_files_of_pictures_know_pillow():
    """The dataset's headers among them: verify-dataset does without torch, which images needs."""
    modules = {module for module in importers("PIL") if package(module) != "images"}
    assert {module.removeprefix("gan_style.") for module in modules} <= {"dataset.header", "dataset.layouts.masks"}


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


@pytest.mark.parametrize("name", ["losses", "evaluation", "models.discriminator", "data", "training"])
def test_stylize_pulls_in_nothing_of_training(loaded, name):
    assert "gan_style.commands.stylize" in loaded["stylize"]
    assert [module for module in loaded["stylize"] if f"{module}.".startswith(f"gan_style.{name}.")] == []


@pytest.mark.parametrize("command", ["stylize", "train"])
@pytest.mark.parametrize(
    "name", ["wandb", "skimage", "scipy", "hypothesis", "pytest", "torchvision", "torch._dynamo", "sympy"]
)
def test_no_command_pulls_in_what_only_some_runs_use(loaded, command, name):
    assert f"gan_style.commands.{command}" in loaded[command]
    assert [module for module in loaded[command] if f"{module}.".startswith(f"{name}.")] == []


@pytest.mark.parametrize("start", ["import gan_style", "from gan_style.cli import main; main()"])
def test_the_package_and_its_help_start_without_large_imports(start):
    program = f"import sys; sys.argv = ['gan-style', '--help']; {start}; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    modules = {name.split(".")[0] for name in ast.literal_eval(done.stdout.splitlines()[-1])}
    assert "gan_style" in modules
    assert not modules & {"torch", "torchvision", "numpy", "PIL", "hydra", "omegaconf", "jinja2", "tqdm"}


def test_planning_committing_and_verifying_a_dataset_take_no_torch(loaded):
    """So that a worker's death is cheap to try, and verifying needs no GPU machine."""
    for command in ("verify_dataset", "make_dataset"):
        modules = {name.removeprefix("gan_style.").partition(".")[2] for name in loaded[command]}
        assert {"plan", "worker", "manifest", "verify"} <= modules
        assert [name for name in loaded[command] if name.split(".")[0] in ("torch", "torchvision", "pyarrow")] == []


def test_making_a_dataset_knows_nothing_of_training():
    training = ("data", "training", "stylize", "optimise")
    assert [item for item in OWN if item.package == "dataset" and package(item.name) in training] == []


def test_no_two_test_files_share_a_name():
    """pytest finds them by their base names, since tests/ is no package."""
    names = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
    assert not list((REPOSITORY / "tests").rglob("__init__.py"))
