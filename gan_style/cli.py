"""``gan-style <command> name=value ...``"""

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from gan_style.options import FLAGS_WITH_A_WORD

COMMANDS = {
    "train": "train a generator on photos and a style",
    "search": "train with settings that are searched for, and say which are the best",
    "stylize": "give pictures the style that a generator has learned",
    "styles": "which styles there are, and a sheet of them",
    "stylize-video": "give a video such a style",
    "app": "a page on this machine to stylize photos with, for those who do not like commands",
    "make-dataset": "stylize a whole labelled dataset, restartable, in many processes",
    "verify-dataset": "read such a dataset again and say what differs from its manifest",
    "evaluate": "numbers and a report that say which model is better",
    "optimise": "give one picture the style of others without a generator (Gatys et al. 2016)",
    "study": "ask people which model is better, and analyse what they say",
    "compare": "runs side by side: a table, content against style, curves, pictures",
    "export": "a model as ONNX, or for torch.export, verified",
    "info": "what made a picture, what is in a generator, a checkpoint or a run's folder",
    "doctor": "what there is on this machine, to paste into a bug report",
}
PLAIN_WORDS = {"compare": "runs", "info": "file"}  # which option takes a command's plain words


def main() -> None:
    """Run the command that the first argument names; each lives in gan_style/commands/."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(_help())
        return
    if name == "--version":
        from gan_style import __version__

        print(__version__)
        return
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        print(f"gan-style: there is no command {name!r}{hint}\n\n{_help()}", file=sys.stderr)
        sys.exit(2)
    arguments = sys.argv[2:]
    if name in PLAIN_WORDS:
        arguments = gathered(arguments, PLAIN_WORDS[name])
    sys.argv = [f"gan-style {name}", *arguments]
    import_module(f"gan_style.commands.{name.replace('-', '_')}").main()


def gathered(arguments: Sequence[str], option: str) -> list[str]:
    """Plain words, as in ``compare runs/a runs/b``, as one option: runs=['runs/a','runs/b']; the rest as it is.

    A word is what is no flag, no flag's value, and no name=value; or what exists, whatever it looks like. Where the
    option is given by its name too there is a message and status 2.
    """
    named: list[str] = []
    own_arguments: list[str] = []
    for number, argument in enumerate(arguments):
        of_flag = number > 0 and arguments[number - 1] in FLAGS_WITH_A_WORD
        plain = not argument.startswith("-") and not of_flag and ("=" not in argument or os.path.exists(argument))
        (own_arguments if plain else named).append(argument)
    if not own_arguments:
        return named
    if any(argument.startswith(f"{option}=") for argument in named):
        print(
            f"gan-style: give {own_arguments[0]} and the like either as plain words or as {option}=[...]",
            file=sys.stderr,
        )
        sys.exit(2)
    from gan_style.config import quoted  # Hydra takes long to import

    return [*named, f"{option}=[{','.join(map(quoted, own_arguments))}]"]


def _help() -> str:
    rows = "\n".join(f"  {name:<15} {text}" for name, text in COMMANDS.items())
    return (
        "gan-style <command> name=value ...\n\nGAN-based, content-preserving style transfer. Commands:\n"
        f"{rows}\n\ngan-style <command> --help shows a command's options and their defaults."
    )


if __name__ == "__main__":
    main()
