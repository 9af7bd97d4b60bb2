"""Count what the design asks for: lengths, comments, names of the private dialect, class names that exist twice.

    PYTHONPATH=$PWD python tools/check/design.py [--names]

The path from the command to the loss is that of a real smoke run: the files on the call stack when a training step
computes its first Gram matrix. --names lists the dialect's names with their counts by file.
"""

import argparse
import ast
import io
import statistics
import sys
import tempfile
import tokenize
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "gan_style"
DIALECT_WORDS = """
found made one told said wanted given kept shown house room rooms floor floors door scene ruler judge riders pull pulls
wishes alone everything shaken shake caution ill_layers culprits vital settle several dispensable together twin reached
smallest marks trouble beside carried drawn crew hire elsewhere stored choices pursuits bank lessons words speaker
strangers
"""
DIALECT = set(DIALECT_WORDS.split())


def functions(tree: ast.Module) -> list[int]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [(node.end_lineno or 0) - node.lineno + 1 for node in ast.walk(tree) if isinstance(node, kinds)]


def names(tree: ast.Module) -> list[str]:
    """Every identifier as often as it is written: variables, parameters, functions, classes and attributes."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.append(node.id)
        elif isinstance(node, ast.arg):
            found.append(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(node.name)
    return found


def is_dialect(name: str) -> bool:
    return name.strip("_").lower() in DIALECT


def comments(text: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type == tokenize.COMMENT for token in tokens)


def path_to_the_loss() -> list[Path]:
    """The package's files on the call stack, the outermost first, when a training step computes a Gram matrix."""
    import torch

    from gan_style.cli import main

    path: list[Path] = []

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or path or "gram" not in frame.f_code.co_name.lower():
            return
        stack: list[FrameType] = []
        caller: FrameType | None = frame
        while caller is not None:
            stack.insert(0, caller)
            caller = caller.f_back
        if any(one.f_code.co_name == "train_step" for one in stack):
            files = dict.fromkeys(Path(one.f_code.co_filename) for one in stack)
            path.extend(file for file in files if PACKAGE in file.parents)

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["gan-style", "train", "experiment=smoke", f"run.root={folder}", "training.steps=2"]
        output, sys.stdout = sys.stdout, io.StringIO()
        sys.setprofile(look)
        try:
            main()
        except SystemExit as error:
            assert not error.code, sys.stdout.getvalue()
        finally:
            sys.setprofile(None)
            sys.stdout = output
    return path


def quantiles(values: list[int]) -> str:
    ordered = sorted(values)
    return f"{statistics.median(ordered):g} / {ordered[int(0.9 * len(ordered))]} / {ordered[-1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", action="store_true", help="list the dialect's names by file")
    arguments = parser.parse_args()

    texts = {path: path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    lines = {path: len(text.splitlines()) for path, text in texts.items()}
    total = sum(lines.values())
    used = {path: names(tree) for path, tree in trees.items()}
    dialect = {path: Counter(filter(is_dialect, found)) for path, found in used.items()}
    if arguments.names:
        for path, counts in dialect.items():
            if counts:
                print(f"{path.relative_to(PACKAGE)}: " + ", ".join(f"{k} {v}" for k, v in counts.most_common()))
        return

    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    comprehensions = sum(isinstance(n, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) for n in nodes)
    classes = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    tests = sum(len(path.read_text().splitlines()) for path in (REPOSITORY / "tests").rglob("*.py"))
    hops = path_to_the_loss()
    shares = sum(sum(counts.values()) for counts in dialect.values()), sum(map(len, used.values()))
    table = {
        "files / lines of the package": f"{len(lines)} / {total}",
        "file length, median / p90 / max": quantiles(list(lines.values())),
        "function length, median / p90 / max": quantiles([n for tree in trees.values() for n in functions(tree)]),
        "comments per 100 lines": f"{100 * sum(map(comments, texts.values())) / total:.1f}",
        "comprehensions per 1,000 lines": f"{1000 * comprehensions / total:.0f}",
        "names of the private dialect": f"{100 * shares[0] / shares[1]:.2f} % ({shares[0]} of {shares[1]})",
        "class names that exist twice": ", ".join(sorted(name for name, count in classes.items() if count > 1)) or "0",
        "*_parts.py and schema*.py": str(sum("_parts" in one.name or one.name.startswith("schema") for one in lines)),
        "from the command to the loss": f"{len(hops)} files / {sum(lines[one] for one in hops)} lines",
        "  which are": ", ".join(str(one.relative_to(PACKAGE)) for one in hops),
        "lines of tests, per line of package": f"{tests}, {tests / total:.2f}",
    }
    for name, value in table.items():
        print(f"{name + ':':<40}{value}")


if __name__ == "__main__":
    main()
