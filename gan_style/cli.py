"""``gan-style <command> name=value ...``: run a command, show its help, and turn errors into messages and statuses.

Hydra is imported where a command is run, so that help and a misspelled command are there at once.
"""

import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from gan_style.options import FLAGS_WITH_A_WORD, check_options, declared, did_you_mean, keep_tildes_of_names, quoted
from gan_style.runtime.machine import first_line, has_lost_neighbour, is_shortage, keep_freed_memory

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
LOST_NEIGHBOUR = 1  # of a rank, whose launcher then looks for the status of the one that failed by itself
USER_ERROR, TOO_MANY_FAILURES, NON_FINITE, INTERRUPTED = 2, 3, 4, 130
_FULL = "HYDRA_FULL_ERROR"
_SWEEP = {"-m", "--multirun"}


def main() -> None:
    """Run the command that the first argument names; each lives in gan_style/commands/."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(_overview())
        return
    if name == "--version":
        from gan_style import __version__

        print(__version__)
        return
    if name not in COMMANDS:
        print(f"gan-style: there is no command {name!r}{did_you_mean(name, COMMANDS)}\n", file=sys.stderr)
        print(_overview(), file=sys.stderr)
        sys.exit(USER_ERROR)
    arguments = sys.argv[2:]
    if name in PLAIN_WORDS:
        arguments = join_plain_words(arguments, PLAIN_WORDS[name])
    sys.argv = [f"gan-style {name}", *arguments]
    import_module(f"gan_style.commands.{name.replace('-', '_')}").main()


def join_plain_words(arguments: Sequence[str], option: str) -> list[str]:
    """Join plain words, as in ``compare runs/a runs/b``, as one option: runs=['runs/a','runs/b']; the rest as it is.

    A word is what is no flag, no flag's value, and no name=value; or what exists, whatever it looks like. Where the
    option is given by its name too there is a message and status 2.
    """
    options: list[str] = []
    own_arguments: list[str] = []
    for number, argument in enumerate(arguments):
        of_flag = number > 0 and arguments[number - 1] in FLAGS_WITH_A_WORD
        plain = not argument.startswith("-") and not of_flag and ("=" not in argument or os.path.exists(argument))
        (own_arguments if plain else options).append(argument)
    if not own_arguments:
        return options
    if any(argument.startswith(f"{option}=") for argument in options):
        message = f"give {own_arguments[0]} and the like either as plain words or as {option}=[...]"
        print(f"gan-style: {message}", file=sys.stderr)
        sys.exit(USER_ERROR)
    return [*options, f"{option}=[{','.join(map(quoted, own_arguments))}]"]


def _overview() -> str:
    rows = "\n".join(f"  {name:<15} {text}" for name, text in COMMANDS.items())
    return (
        "gan-style <command> name=value ...\n\nGAN-based, content-preserving style transfer. Commands:\n"
        f"{rows}\n\ngan-style <command> --help shows a command's options and their defaults."
    )


def command(
    name: str, options: type, *, sweep: Callable[[list[str]], int] | None = None
) -> Callable[[Callable[[Any], int | None]], Callable[[], None]]:
    """Make a function of its config the main program of ``gan-style NAME``, configured by conf/NAME.yaml.

    options: the dataclass that the config is checked against. sweep: what -m does with the other arguments, in place of
    Hydra's own; it gives the status.

    The process ends with the function's status (None: 0), or with a message in the user's words and status 2 (bad
    input), 4 (numbers no longer finite) or 130 (stopped by Ctrl-C). HYDRA_FULL_ERROR=1 shows the whole trace instead.
    """

    from hydra.core.config_store import ConfigStore

    from gan_style.config import CONFIG_PATH, readable
    from gan_style.runtime.progress import warn

    ConfigStore.instance().store(name=f"{name}_schema", node=options)

    def decorate(function: Callable[[Any], int | None]) -> Callable[[], None]:
        def main() -> None:
            statuses: list[int] = []  # one for each job of a sweep, else a single one
            in_full = os.environ.get(_FULL) == "1"
            keep_freed_memory()
            for stream in (sys.stdout, sys.stderr):  # a file's name may hold bytes that are no text
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(errors="backslashreplace")

            def job(cfg: Any) -> None:
                with _errors_in_words(name, statuses, in_full), _full_errors(in_full):  # as ranks are to find it
                    check_options(options, cfg)
                    keep_tildes_of_names(options, cfg)
                    statuses.append(function(cfg) or 0)
                if statuses[-1] == INTERRUPTED:
                    sys.exit(INTERRUPTED)  # ends a sweep too

            # Without its full errors Hydra prints its own words and exits before we are asked.
            in_words = _errors_in_words(name, statuses, in_full)
            with warnings.catch_warnings(), in_words, _terminated_as_an_exit(), _full_errors(True):
                warnings.showwarning = lambda message, *_: warn(str(message))
                if {"-h", "--help"} & set(sys.argv[1:]):
                    print(_help(name, function.__doc__ or ""), flush=True)
                    sys.exit(0)
                is_sweep = not _SWEEP.isdisjoint(sys.argv)
                _check_words(name, sys.argv[1:])
                sys.argv[1:] = [readable(name, argument, sweeping=is_sweep) for argument in sys.argv[1:]]
                if is_sweep and sweep is not None:
                    with _full_errors(in_full):
                        statuses.append(sweep([argument for argument in sys.argv[1:] if argument not in _SWEEP]))
                else:
                    from hydra import main as hydra_main

                    hydra_main(config_path=str(CONFIG_PATH), config_name=name, version_base="1.3")(job)()
            sys.exit(max(statuses, default=0))

        main.__doc__ = function.__doc__
        return main

    return decorate


def _check_words(name: str, arguments: Sequence[str]) -> None:
    """Raise ValueError for --input photo.jpg and plain words, which Hydra meets with words of its own."""
    from gan_style.config import options_of

    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, _, value = argument.lstrip("-").partition("=")
        key = option.replace("-", "_")
        if argument.startswith("-") and declared(options_of(name), key)[0] is not None:
            following = arguments[arguments.index(argument) + 1 :]
            dashes = argument[: len(argument) - len(argument.lstrip("-"))]
            raise ValueError(f"{argument}: write {key}={value or next(iter(following), '...')}, without {dashes}")
        if not argument.startswith(("-", "~")) and "=" not in argument and before not in FLAGS_WITH_A_WORD:
            help_command = f"gan-style {name.replace('_', '-')} --help"
            raise ValueError(f"{argument!r} is no option: they are written name=value; see {help_command}")


@contextmanager
def _full_errors(full: bool) -> Iterator[None]:
    """Set how Hydra, and a process that is started meanwhile, shows errors."""
    before = os.environ.get(_FULL, "0")
    os.environ[_FULL] = "1" if full else "0"
    try:
        yield
    finally:
        os.environ[_FULL] = before


@contextmanager
def _terminated_as_an_exit() -> Iterator[None]:
    """Have SIGTERM raise SystemExit where the program is, so that whatever must be finished is."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _help(name: str, purpose: str) -> str:
    """Write help: the command's purpose, its groups, and its root config with every option's default and comment."""
    from gan_style.config import CONFIG_PATH

    lines = (CONFIG_PATH / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    options = "\n".join(_without_blocks(lines, ("defaults:", "hydra:")))
    groups = {path.name: sorted(file.stem for file in path.glob("*.yaml")) for path in CONFIG_PATH.iterdir()}
    used = [group for group in sorted(groups) if any(line.startswith(f"  - {group}:") for line in lines)]
    group_lines = "\n".join(f"  {group}: {', '.join(groups[group])}" for group in used)
    paragraphs = (
        f"gan-style {name.replace('_', '-')} name=value ...\n\n{purpose}",
        group_lines and f"Groups (group=choice; their options are in conf/<group>/):\n{group_lines}",
        f"Options and their defaults (??? must be given):\n{options.strip()}",
        "--cfg job shows the configuration that a command line amounts to; --hydra-help shows Hydra's own flags.",
    )
    return "\n\n".join(filter(None, paragraphs))


def _without_blocks(lines: list[str], heads: tuple[str, ...]) -> Iterator[str]:
    """Yield lines of YAML without some top-level blocks and without the comment that opens the file."""
    inside = False
    for number, line in enumerate(lines):
        if line[:1] not in (" ", ""):
            inside = line.startswith(heads)
        if not inside and not (number == 0 and line.startswith("#")):
            yield line


@contextmanager
def _errors_in_words(name: str, statuses: list[int], in_full: bool) -> Iterator[None]:
    """Turn what the block raises into a message on stderr and a status; with ``in_full`` let it pass."""
    try:
        yield
    except BrokenPipeError:  # the reader has gone: gan-style train --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        statuses.append(1)
    except (Exception, KeyboardInterrupt) as error:
        message = error_message(name, error)
        if message is None or in_full:
            raise
        rank = os.environ.get("RANK", "0")
        prefix = f"gan-style {name.replace('_', '-')}" + (f" [rank {rank}]" if rank != "0" else "")
        print(f"{prefix}: {message[0]}", file=sys.stderr)
        statuses.append(message[1])


def error_message(name: str, error: BaseException) -> tuple[str, int] | None:
    """Return what a command says of an error, and its exit status; None for a fault of ours."""
    from hydra.errors import HydraException
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    from gan_style.config import composition_message

    if isinstance(error, KeyboardInterrupt):
        return "stopped; the same command again goes on from the last checkpoint, if there is one", INTERRUPTED
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}=... is missing; see gan-style {name.replace('_', '-')} --help", USER_ERROR
    if isinstance(error, HydraException | OmegaConfBaseException):
        return composition_message(name, error), USER_ERROR
    if is_shortage(error):
        return f"not enough memory ({first_line(error)}); give it less", USER_ERROR
    if isinstance(error, ArithmeticError) and not isinstance(error, ZeroDivisionError | OverflowError):
        return str(error), NON_FINITE
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        full = "; free some space, and give the same command again" * (error.errno == errno.ENOSPC)
        return f"{error.filename}: {error.strerror}{full}", USER_ERROR
    if isinstance(error, ValueError | OSError):
        return str(error), USER_ERROR
    if has_lost_neighbour(error):
        return "another rank has ended; so this one ends, too", LOST_NEIGHBOUR
    return None


if __name__ == "__main__":
    main()
