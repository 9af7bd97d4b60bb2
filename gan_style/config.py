"""Configuration with Hydra: compose it, build what a node describes, quote and name options."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_style.options import as_typed, declared, did_you_mean, leaves, quoted

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent / "conf"
CONFIG_PATH = _CHECKOUT if (_CHECKOUT / "train.yaml").is_file() else _PACKAGE / "conf"

_ALLOWED_TARGETS = ("gan_style.", "torch.optim.")
# Targets that have moved: what earlier versions' files name, and what it is now. The longest beginning counts.
_MOVED: dict[str, str] = {
    "gan_style.commands.launchers_submitit": "gan_style.commands.launchers",
    "gan_style.losses.regular": "gan_style.losses.pixel",
    "gan_style.losses.stable": "gan_style.losses.stability",
}


def build(node: DictConfig, option: str, **extras: Any) -> Any:
    """Make the object that a ``_target_`` node describes; ``extras`` are arguments that the config does not hold.

    option: the node's dotted name, for messages. Raises ValueError for a target outside gan_style and torch.optim, for
    an argument that does not exist or has the wrong type, and for whatever the object itself refuses.
    """
    if not isinstance(node, DictConfig):
        raise ValueError(f"{option}={as_typed(node)}: a node with a _target_ expected; to leave it out, use ~{option}")
    target = str(node.get("_target_", ""))
    function = _allowed(target, f"{option}._target_={target}")
    node = OmegaConf.merge(node, {"_target_": current_target(target)})  # type: ignore[assignment]
    for key, value in flat(plain(node)).items():
        if key.endswith("._target_"):
            raise ValueError(f"{option}.{key}={as_typed(value)}: targets inside arguments are not built")
    arguments = {str(key): value for key, value in node.items() if not str(key).startswith("_")}
    check_arguments(function, arguments, extras, option)
    try:
        return instantiate(node, **extras, _convert_="all", _recursive_=False)
    except HydraException as error:
        if isinstance(error.__cause__, ValueError | OSError):
            raise error.__cause__ from error
        raise ValueError(f"{option}: {error}") from error


def current_target(target: str) -> str:
    """Return the name that a class or function has today, given one that a file of an earlier version may hold."""
    beginnings = [old for old in _MOVED if f"{target}.".startswith(f"{old}.")]
    if not beginnings:
        return target
    old = max(beginnings, key=len)
    return _MOVED[old] + target.removeprefix(old)


def _allowed(target: str, text: str) -> Any:
    """Return the class or function of that name, if its name and the module that defines it are both allowed."""
    refusal = ValueError(f"{text}: allowed are targets in {' and '.join(_ALLOWED_TARGETS)}")
    if not target.startswith(_ALLOWED_TARGETS):
        raise refusal  # nothing is imported for it
    try:
        function = get_object(current_target(target))
    except Exception as error:  # Hydra wraps what an import can raise in several classes of its own
        raise ValueError(f"{text}: there is no such class or function") from error
    if not f"{function.__module__}.".startswith(_ALLOWED_TARGETS):
        raise refusal
    return function


def check_arguments(function: Any, arguments: Mapping[str, Any], extras: Mapping[str, Any], option: str) -> None:
    """Check names against the signature, and plain types against its annotations or, lacking those, its defaults.

    extras: arguments that the config does not hold; option: for messages. Raises ValueError.
    """
    parameters = inspect.signature(function).parameters
    for name, value in arguments.items():
        if name not in parameters:
            known = [other for other in parameters if other not in extras]
            raise ValueError(f"there is no {option}.{name}{did_you_mean(name, known)}; allowed are {', '.join(known)}")
        expected = parameters[name].annotation
        if value is None and type(None) in get_args(expected):
            continue
        if expected not in (bool, int, float, str):
            expected = type(parameters[name].default)
            expected = float if expected is int else expected
        allowed = (int, float) if expected is float else (expected,)
        if expected in (bool, int, float, str) and type(value) not in allowed:
            raise ValueError(f"{option}.{name}={as_typed(value)}: {_KINDS[expected]} expected")
    for name, parameter in parameters.items():
        needed = parameter.default is inspect.Parameter.empty and parameter.kind is inspect.Parameter.KEYWORD_ONLY
        if needed and name not in arguments and name not in extras:
            raise ValueError(f"{option}.{name} is missing")


def takes_integers(node: DictConfig, option: str, name: str) -> bool | None:
    """Return whether a node's ``_target_`` takes whole numbers for an argument; None where it does not say."""
    target = str(node.get("_target_", ""))
    if not target:
        return None
    parameter = inspect.signature(_allowed(target, f"{option}._target_={target}")).parameters.get(name)
    types = set() if parameter is None else set(re.findall(r"\w+", str(parameter.annotation)))
    return False if "float" in types else True if "int" in types else None


def plain(node: Any) -> Any:
    """Return a config as plain containers, interpolations resolved; the form that is shown, saved and compared."""
    if not isinstance(node, DictConfig | ListConfig):
        return node
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)


def to_yaml(content: Mapping[str, Any]) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(dict(content)))


def read_yaml(path: Path) -> Any:
    """Return a YAML file's content as plain containers. ValueError for one that cannot be read."""
    try:
        return plain(OmegaConf.load(path))
    except Exception as error:  # YAML's and OmegaConf's own classes, OSError, UnicodeDecodeError
        raise ValueError(f"{path} cannot be read: {error}") from error


def compose_command(name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose another command's config of its arguments, from within a command. ValueError in the user's words."""
    try:
        return hydra.compose(name, overrides=[readable(name, argument) for argument in overrides])
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(composition_message(name, error)) from error


def flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """Return {"training.steps": 4, ...} of nested plain containers."""
    if not isinstance(content, Mapping) or not content:
        return {prefix: content}
    pairs = (flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in content.items())
    return {name: value for options in pairs for name, value in options.items()}


def options_of(name: str) -> Any:
    return OmegaConf.get_type(ConfigStore.instance().load(f"{name}_schema.yaml").node)


def readable(name: str, argument: str, *, sweeping: bool = False) -> str:
    """Return name=value as Hydra reads it: text that its grammar refuses, or takes for something else, gets quotes.

    That is so for each item of a list or a mapping: [a (1).jpg,runs/lr=1], {monet: my photo.jpg}.
    """
    if argument.startswith(("-", "~")) or "=" not in argument:
        return argument
    key, value = argument.split("=", 1)
    if value == "null" and _choices(key.lstrip("+")):
        raise ValueError(f"{argument}: {key} is a group of options; {_allowed_in(key.lstrip('+'))}")
    kind, facts = declared(options_of(name), key.lstrip("+"))
    path = bool(facts.get("path"))
    text = kind in (str, str | None)
    if (path or text) and value != value.strip():
        return f"{key}={quoted(value)}"
    return argument if _reads_as_meant(value, path=path, text=text, sweeping=sweeping) else f"{key}={_requote(value)}"


def _reads_as_meant(value: str, *, path: bool, text: bool, sweeping: bool) -> bool:
    """Return whether Hydra's grammar takes a value for what it looks like."""
    try:
        parsed = OverridesParser.create().parse_override(f"x={value}")
    except HydraException:
        return False
    if parsed.is_sweep_override():
        return sweeping
    return not any(_is_renamed(item, value, path=path, text=text) for item in leaves(parsed.value()))


def _is_renamed(item: Any, value: str, *, path: bool, text: bool) -> bool:
    """Return whether a name reads as a number that would be written otherwise: 2024_01, 1e3."""
    if not isinstance(item, int | float) or str(item) in re.split(r"[\s\[\]{},:]+", value):
        return False
    if text or not path:
        return text
    return "_" in value if isinstance(item, int) else not value.startswith("{")  # these are weights


def _requote(value: str) -> str:
    """Return a value with quotes around each part that is text."""
    inner, items = value[1:-1], _split(value[1:-1])
    if value == f"[{inner}]":
        return f"[{','.join(map(_requoted_item, items))}]"
    if value == f"{{{inner}}}" and all(":" in item for item in items):
        pairs = (item.partition(":") for item in items)
        return f"{{{','.join(f'{key.strip()}:{_requoted_item(item.strip())}' for key, _, item in pairs)}}}"
    return quoted(value)


def _requoted_item(item: str) -> str:
    return item if re.fullmatch(r"'[^'\\]*'|\"[^\"\\]*\"|-?\d+|\d+\.\d+|true|false|null", item) else _requote(item)


def _split(text: str) -> list[str]:
    """Return the items of a list or mapping; commas inside quotes and brackets do not part them."""
    items, depth, quote, begin = [], 0, "", 0
    for position, character in enumerate(text):
        opens_item = not text[begin:position].strip(" :")
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and (opens_item or text[begin:position].rstrip().endswith(":")):
            quote = character
        elif character in "[{" and (opens_item or text[begin:position].rstrip().endswith(":")):
            depth += 1
        elif character in "]}" and depth:
            depth -= 1
        elif character == "," and not depth:
            items.append(text[begin:position].strip())
            begin = position + 1
    return [*items, text[begin:].strip()]


_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a single name or text",
    list: "a list such as [a,b]",
}


def composition_message(name: str, error: BaseException) -> str:
    """Return Hydra's message, and for a key that does not exist the nearest one that does."""
    text = str(error).split("\nTo append to your config")[0]
    cause = str(error.__cause__).splitlines()[0] if error.__cause__ is not None else ""
    if unresolved := re.match(r"Interpolation key '([^']*)' not found\s+full_key: (\S+)", text):
        return f"{unresolved[2]}: ${{{unresolved[1]}}} names no option; as text write \\${{{unresolved[1]}}}"
    if merging := re.match(r"Error merging override \+*([\w.]+)=(.*)", text):
        key, value = merging[1], merging[2]
        if re.match(r"null\b", value) and "Optional" in text + cause:
            return f"{key}=null: a value is needed; a file of that name is ./null"
        kind = declared(options_of(name), key)[0]
        if is_dataclass(kind):
            return f"{key}={value}: {key} is a group of options; give one of them, {key}.NAME=..."
        kinds = {get_origin(part) or part for part in (get_args(kind) if isinstance(kind, UnionType) else (kind,))}
        if expected := [words for part, words in _KINDS.items() if part in kinds]:
            return f"{key}={value}: {expected[0]} expected"
    if missing := re.search(r"Could not (?:find|load) '(\w+)/([^']*)'", text):
        group, choice = missing.groups()
        return f"{group}={choice}: there is no such choice{did_you_mean(choice, _choices(group))}; {_allowed_in(group)}"
    unknown = re.match(r"Could not (?:override|delete from config\.?) '?([\w.@/]+)'?", text)
    if unknown is None:
        return " ".join(filter(None, [text.strip(), cause]))
    key = unknown[1]
    hint = did_you_mean(key, _known_keys(name))
    return f"there is no option {key}{hint} (gan-style {name.replace('_', '-')} --help lists all)"


def _choices(group: str) -> list[str]:
    """Return what a group of options can be; nothing for what is no group."""
    return sorted(file.stem for file in (CONFIG_PATH / group).glob("*.yaml")) if group.isidentifier() else []


def _allowed_in(group: str) -> str:
    return f"allowed are {', '.join(_choices(group))}"


def _known_keys(name: str) -> Iterator[str]:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIG_PATH), version_base="1.3"):
        cfg = hydra.compose(name)
    for key in flat(OmegaConf.to_container(cfg, resolve=False)):
        parts = key.split(".")
        yield from (".".join(parts[: i + 1]) for i in range(len(parts)))
    yield from (path.name for path in CONFIG_PATH.iterdir() if path.is_dir())
