"""The styles that make-dataset draws from: of which files, and of which pictures; networks are only loaded to paint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from gan_style.runtime.files import file_hash

_CACHED_REFERENCES = 64  # references whose codes are kept; any other is looked at again


@dataclass(frozen=True)
class StyleSource:
    """A style to draw: a generator's file, and of a library which of its styles ("" for one of one style).

    reference: the picture that a generator takes this style from.
    """

    path: Path
    style: str
    reference: Path | None = None
    weight: float = 1.0


def find_styles(cfg: Mapping[str, Any]) -> list[StyleSource]:
    """The styles to draw from, with their weights."""
    from gan_style.stylize.model import find_references

    wanted_names = _listed(cfg["style"], "style", "a name or a list of names")
    references = {} if cfg["reference"] is None else find_references(_given_references(cfg))
    files = _files(cfg, wanted_names)
    sources = [source for path in files for source in _styles_of(path, references)]
    if references and not any(source.reference for source in sources):
        raise ValueError(
            f"reference={next(iter(references.values()))}: what {', '.join(map(str, files))} can paint was learned in "
            "training; give a checkpoint of generator=reference"
        )
    if wanted_names:
        _check_known(wanted_names, [source.style for source in sources if source.style])
        sources = [source for name in wanted_names for source in sources if source.style == name]
    weights = cfg["weights"] or [1.0] * len(sources)
    if len(weights) != len(sources) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        named = ", ".join(source.style or str(source.path) for source in sources)
        raise ValueError(
            f"weights={weights}: one for each of {len(sources)} styles ({named}), from 0, not all 0, expected"
        )
    return [replace(source, weight=weight) for source, weight in zip(sources, weights, strict=True)]


def listed_references(cfg: Mapping[str, Any]) -> list[str] | None:
    """The pictures that ``reference`` names, once for all who work on a dataset: a folder may change meanwhile.

    ValueError where there is none.
    """
    from gan_style.stylize.model import find_references

    if cfg["reference"] is None:
        return None
    references = list(find_references(_given_references(cfg)).values())
    if missing := [path for path in references if not path.is_file()]:
        raise ValueError(f"reference: cannot read the picture {missing[0]}: there is no such file")
    return [str(path) for path in references]


def fingerprint(source: StyleSource, sha256: str) -> list[Any]:
    """What a plan is bound to: the files' contents (the generator's by its hash), the weight, the style's name."""
    reference = [] if source.reference is None else [file_hash(source.reference)]
    return [sha256, source.weight, *([source.style] * bool(source.style)), *reference]


def check_references(styles: Sequence[StyleSource], max_pixels: int) -> None:
    """ValueError for one that cannot be read: it would be found out when it is first drawn, with half the work done."""
    from gan_style.stylize.model import read_references

    for source in styles:
        if source.reference is not None:
            read_references({source.style: source.reference}, max_megapixels=max_pixels / 1e6)


def absolute(cfg: Mapping[str, Any]) -> dict[str, list[str] | None]:
    """The options that name the styles' files, for a process with another working folder."""
    given_paths = {"checkpoint": _given_checkpoints(cfg), "reference": _given_references(cfg)}
    return {
        option: [str(Path(path).expanduser().absolute()) for path in paths] or None
        for option, paths in given_paths.items()
    }


def make_stylizers(styles: list[StyleSource], device: Any, precision: Any, max_pixels: int) -> list[Any]:
    """Each generator's file is loaded once."""
    from gan_style.dataset.stylizers import Blend, OfLibrary, OfReference
    from gan_style.stylize.model import library_of, load_generator
    from gan_style.stylize.paint import in_tiles

    files = {
        path: (file_hash(path), load_generator(path, device))
        for path in dict.fromkeys(source.path for source in styles)
    }

    @lru_cache(_CACHED_REFERENCES)
    def look(path: Path, name: str, reference: Path) -> Any:
        generator: Any = files[path][1]
        return library_of(generator, {name: reference}, device, max_megapixels=max_pixels / 1e6)

    def make(source: StyleSource) -> Any:
        sha256, generator = files[source.path]
        if source.reference is not None:
            return OfReference(
                source.style, sha256, partial(look, source.path, source.style, source.reference), precision, in_tiles
            )
        if not source.style:
            return Blend(_style_name(source.path), sha256, generator, precision, in_tiles)
        names: list[str] = generator.styles  # type: ignore[assignment]
        return OfLibrary(source.style, sha256, generator, names.index(source.style), len(names), precision, in_tiles)

    return [make(source) for source in styles]


def _check_known(names: list[str], known: list[str]) -> None:
    from gan_style.stylize.controls import unknown_style

    for name in names:
        if name not in known:
            raise unknown_style(name, known or ["none, since the checkpoints are of one style each"])


def _files(cfg: Mapping[str, Any], names: list[str]) -> list[Path]:
    from gan_style.stylize.model import find_generator, resolve_model, shipped

    paths = _given_checkpoints(cfg)
    if paths:
        return [find_generator(Path(path).expanduser()) for path in paths]
    return (
        list(dict.fromkeys(resolve_model([name], None) for name in names))
        or list(shipped())
        or [
            resolve_model([], None)  # says that there is none
        ]
    )


def _given_checkpoints(cfg: Mapping[str, Any]) -> list[str]:
    return _listed(cfg["checkpoint"], "checkpoint", "a path or a list of paths")


def _given_references(cfg: Mapping[str, Any]) -> list[str]:
    return _listed(cfg["reference"], "reference", "a picture, a folder of pictures, or a list of them")


def _listed(value: Any, option: str, expected: str) -> list[str]:
    values = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise ValueError(f"{option}={value}: {expected} expected")
    return values


def _styles_of(path: Path, references: Mapping[str, Path]) -> list[StyleSource]:
    """Of a library its styles; of a generator that takes its style from pictures theirs; "" for one of one style."""
    from gan_style.runtime.checkpoint import read_checkpoint, read_generator

    content = read_checkpoint(path)["generator"] if path.suffix == ".pt" else read_generator(path)[1]
    if content.get("class") == "ReferenceGenerator":
        if not references:
            raise ValueError(
                f"reference=... is missing: {path} takes its style from pictures; give one, several, or their folder"
            )
        return [StyleSource(path, name, reference) for name, reference in references.items()]
    names = content.get("arguments", {}).get("styles")
    return [StyleSource(path, name) for name in names] if names else [StyleSource(path, "")]


def _style_name(path: Path) -> str:
    return path.parent.name if path.name == "generator.safetensors" else path.stem
