"""``gan-style <command> name=value ...``"""

import sys
from difflib import get_close_matches
from importlib import import_module

COMMANDS = {
    "train": "train a generator on photos and a style",
    "stylize": "give pictures the style that a generator has learned",
}


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
    sys.argv = [f"gan-style {name}", *sys.argv[2:]]
    import_module(f"gan_style.commands.{name.replace('-', '_')}").main()


def _help() -> str:
    rows = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
    return (
        "gan-style <command> name=value ...\n\nGAN-based, content-preserving style transfer. Commands:\n"
        f"{rows}\n\ngan-style <command> --help shows a command's options and their defaults."
    )


if __name__ == "__main__":
    main()
