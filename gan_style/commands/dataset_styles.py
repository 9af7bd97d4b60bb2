"""The styles that make-dataset draws from, of which files and of which pictures, and the masks that say where which is
wanted; networks are only loaded to paint.
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from gan_style.dataset.sample import Sample, SampleError
from gan_style.dataset.sampling import strength_range
from gan_style.images.formats import is_picture
from gan_style.options import as_typed, listed
from gan_style.runtime.files import file_hash

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from gan_style.stylize.controls import MaskFinder, Regions
    from gan_style.stylize.regions import MaskPlan

_CACHED_REFERENCES = 64  # references whose codes are kept; any other is looked at again
_TILE = 512  # side of the tiles in which large pictures are painted


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
    """List the styles to draw from, with their weights."""
    from gan_style.stylize.controls import mixture, unknown_style
    from gan_style.stylize.model import find_references

    # Masks by style choose the styles; weights and pairs would, too.
    style, plan, _ = plan_of(cfg)
    by_style = plan.by_style
    if by_style:
        for option in ("weights", "pairs"):
            if cfg[option] is not None:
                raise ValueError(
                    f"{option}={as_typed(cfg[option])}: mask says which style is where; leave {option} out"
                )
        mixture(style, (), masked=True)

    # List what the files can paint, and of that the styles that are asked for.
    wanted_names = list(plan.order) if by_style else listed(style)
    references = {} if cfg["reference"] is None else find_references(listed(cfg["reference"]))
    files = _files(cfg, wanted_names, together=by_style)
    sources = [source for path in files for source in _styles_of(path, references)]
    if references and not any(source.reference for source in sources):
        raise ValueError(
            f"reference={next(iter(references.values()))}: what {', '.join(map(str, files))} can paint was learned in "
            "training; give a checkpoint of generator=reference"
        )
    style_names = [source.style for source in sources if source.style]
    for name in wanted_names:
        if name not in style_names:
            raise unknown_style(name, style_names or ["none, since the checkpoints are of one style each"])
    if wanted_names:
        sources = [source for name in wanted_names for source in sources if source.style == name]
    if by_style and len(models := dict.fromkeys(str(source.path) for source in sources)) > 1:
        raise ValueError(f"mask={{{', '.join(plan.order)}}}: {' and '.join(models)} have them; one model is needed")

    # Weigh them.
    weights = cfg["weights"] or [1.0] * len(sources)
    if len(weights) != len(sources) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        names = ", ".join(source.style or str(source.path) for source in sources)
        raise ValueError(
            f"weights={as_typed(weights)}: one for each of {len(sources)} styles ({names}), from 0, not all 0, expected"
        )
    return [replace(source, weight=weight) for source, weight in zip(sources, weights, strict=True)]


def listed_references(cfg: Mapping[str, Any]) -> list[str] | None:
    """List what ``reference``, or else ``pairs``, names, once for all workers: a folder may change meanwhile.

    ValueError where there is none.
    """
    from gan_style.stylize.model import find_references

    if cfg["reference"] is None:
        styles = [row["style"] for row in _rows(cfg["pairs"])] if cfg["pairs"] else []
        return list(dict.fromkeys(style for style in styles if _is_reference(style))) or None
    references = list(find_references(listed(cfg["reference"])).values())
    if missing := [path for path in references if not path.is_file()]:
        raise ValueError(f"reference: cannot read the picture {missing[0]}: there is no such file")
    return [str(path) for path in references]


def read_pairs(cfg: Mapping[str, Any], root: Path) -> dict[str, list[tuple[int, float | None]]] | None:
    """Read the file of pairs: for each content's key its copies' styles, by their numbers, and strengths.

    ValueError, with the line, for what cannot be understood, and for more rows of a content than there are copies.
    """
    from gan_style.stylize.controls import unknown_style

    if cfg["pairs"] is None:
        return None
    styles = find_styles(cfg)
    numbers = {source.style or _style_name(source.path): number for number, source in enumerate(styles)}
    by_path = {_absolute(source.reference): n for n, source in enumerate(styles) if source.reference is not None}
    pairs: dict[str, list[tuple[int, float | None]]] = {}
    for row in _rows(cfg["pairs"]):
        number = numbers.get(row["style"], by_path.get(_absolute(row["style"])))
        if number is None:
            raise unknown_style(row["style"], list(numbers), f"pairs={cfg['pairs']}, line {row['line']}: style")
        pairs.setdefault(_key(row["content"], root), []).append((number, row["strength"]))
    for key, copies in pairs.items():
        if len(copies) > cfg["copies"]:
            raise ValueError(f"pairs={cfg['pairs']}: {key} has {len(copies)} rows, but copies={cfg['copies']}")
    return pairs


def _rows(place: str) -> Iterator[dict[str, Any]]:
    """Yield each row's content, style, strength or None, and line."""
    path = Path(place).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"pairs={place}: cannot read it ({error})") from error

    # Read rows with their line numbers, by the file's kind.
    rows: Iterator[tuple[int, Any]]
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows = ((reader.line_num, row) for row in reader)
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        rows = ((number, _json(line)) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    else:
        raise ValueError(f"pairs={place}: a file .csv or .jsonl expected")

    # Check each row.
    empty = True
    for line, row in rows:
        empty, where = False, f"pairs={place}, line {line}"
        if not isinstance(row, dict) or not {"content", "style"} <= row.keys() <= {"content", "style", "strength"}:
            columns = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
            raise ValueError(f"{where}: the columns content, style and perhaps strength expected, got {columns}")
        content, style, strength = row["content"], row["style"], row.get("strength")
        if not (isinstance(content, str) and content and isinstance(style, str) and style):
            raise ValueError(f"{where}: content={content}, style={style}; both have to be there")
        try:
            strength = None if strength in (None, "") else strength_range(float(strength))[0]
        except (TypeError, ValueError):
            raise ValueError(f"{where}: strength={as_typed(strength)}; a number from 0 to 1 expected") from None
        yield {"content": content, "style": style, "strength": strength, "line": line}
    if empty:
        raise ValueError(f"pairs={place}: it has no rows")


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line


def _key(content: str, root: Path) -> str:
    """Return the picture's path below the input, also where it is given from the working folder, or in full."""
    path = Path(content).expanduser()
    if (path.is_absolute() or not (root / path).exists()) and _absolute(path).is_relative_to(_absolute(root)):
        path = _absolute(path).relative_to(_absolute(root))
    return path.as_posix()


def _is_reference(style: str) -> bool:
    return is_picture(Path(style)) and Path(style).expanduser().is_file()


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(Path(path).expanduser()))


def fingerprint(source: StyleSource, sha256: str) -> list[Any]:
    """Return what binds a plan: the files' contents (the generator's by its hash), the weight, the style's name."""
    reference = [] if source.reference is None else [file_hash(source.reference)]
    return [sha256, source.weight, *([source.style] * bool(source.style)), *reference]


def check_references(styles: Sequence[StyleSource], max_pixels: int) -> None:
    """Raise ValueError for one that cannot be read: it would be found out with half the work done."""
    from gan_style.stylize.model import read_references

    for source in styles:
        if source.reference is not None:
            read_references({source.style: source.reference}, max_megapixels=max_pixels / 1e6)


def make_stylizers(
    styles: "list[StyleSource]", device: Any, precision: Any, max_pixels: int, regions: "MaskPlan | None" = None
) -> list[Any]:
    """Build a stylizer for each style, or one for all, where masks by style say which is where (regions)."""
    import torch

    from gan_style.dataset.networks import Blend, InRegions, OfLibrary
    from gan_style.stylize.controls import Controls
    from gan_style.stylize.model import Model, library_of, load_generator
    from gan_style.stylize.paint import in_tiles, paint

    # Load each file once; of references those that were used last are kept.
    paths = dict.fromkeys(source.path for source in styles)
    files: dict[Path, tuple[str, Any]] = {path: (file_hash(path), load_generator(path, device)) for path in paths}

    @lru_cache(_CACHED_REFERENCES)
    def generator_of(sources: tuple[StyleSource, ...]) -> Any:
        generator = files[sources[0].path][1]
        references = {source.style: source.reference for source in sources if source.reference is not None}
        return library_of(generator, references, device, max_megapixels=max_pixels / 1e6) if references else generator

    # Everywhere: wrap each style's generator.
    def make(source: StyleSource) -> Any:
        sha256, generator = files[source.path]
        if not source.style:
            return Blend(_style_name(source.path), sha256, generator, precision, in_tiles)
        names = [source.style] if source.reference is not None else list(generator.styles)
        library, number = partial(generator_of, (source,)), names.index(source.style)
        return OfLibrary(source.style, sha256, library, number, len(names), precision, in_tiles)

    if regions is None:
        return [make(source) for source in styles]

    # In regions, as stylize paints them.
    by_style = regions.by_style

    def painted(sources: tuple[StyleSource, ...], image: Any, strength: float, masks: Any, tiled: bool) -> Any:
        generator = generator_of(sources)
        model = Model(generator, tuple(getattr(generator, "styles", ("",))), device)
        mixes = masks.mixes if by_style else [{sources[0].style: 1.0}]
        controls = Controls({}, strength, tile=_TILE if tiled else "off")
        try:
            result = paint(model, image[0], controls, regions=replace(masks, mixes=mixes))
        except ArithmeticError:
            return torch.full_like(image, torch.nan)
        return result[None].to(image)

    groups = [tuple(styles)] if by_style else [(source,) for source in styles]
    names = [", ".join(source.style or _style_name(source.path) for source in group) for group in groups]
    return [
        InRegions(name, files[group[0].path][0], partial(painted, group), precision)
        for name, group in zip(names, groups, strict=True)
    ]


def _files(cfg: Mapping[str, Any], names: list[str], *, together: bool) -> list[Path]:
    from gan_style.stylize.model import any_style_model, find_generator, resolve_model, shipped

    if paths := listed(cfg["checkpoint"]):
        return [find_generator(Path(path).expanduser()) for path in paths]
    if cfg["reference"] is not None:
        return [any_style_model()]
    if together:
        return [resolve_model(names, None)]
    names = names or [name for styles in shipped().values() for name in styles]
    return list(dict.fromkeys(resolve_model([name], None) for name in names)) or [resolve_model([], None)]


def _styles_of(path: Path, references: Mapping[str, Path]) -> list[StyleSource]:
    """List the styles of a file: a library's, or those of the references; "" for a generator of one style."""
    from gan_style.runtime.checkpoint import read_checkpoint, read_header

    content = read_checkpoint(path)["generator"] if path.suffix == ".pt" else read_header(path)[0]
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


def plan_of(cfg: Mapping[str, Any]) -> "tuple[Any, MaskPlan, int | None]":
    """Understand style, mask and regions: the style, where masks do not name it, the plan, and the regions' count."""
    from gan_style.stylize.regions import plan_regions

    return plan_regions(cfg["style"], cfg["mask"], cfg["regions"], cfg["segmentation"])


def check_regions(cfg: Mapping[str, Any]) -> None:
    """Raise ValueError, before any work, for names that nobody knows, and for what is not there."""
    import torch

    make_region_finder(cfg, torch.device("cpu"))


def mask_settings(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that results depend on, by name; nothing without masks."""
    from gan_style.stylize.regions import region_settings

    _, plan, count = plan_of(cfg)
    if not plan.order:
        return {}
    files = {style: str(place) for style, place in plan.files.items()}
    return {"mask": {"order": list(plan.order), "files": files, **region_settings(plan, cfg["segmentation"], count)}}


def absolute_options(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same options for a process with another working folder: those that name styles' files, and masks."""

    def absolute(path: str) -> str:
        return path if path.startswith(("demo:", "shipped:")) else str(Path(path).expanduser().absolute())

    _, plan, _ = plan_of(cfg)
    files = {style: absolute(str(place)) for style, place in plan.files.items()}
    mask = (dict(cfg["mask"]) | files if isinstance(cfg["mask"], Mapping) else files[""]) if files else cfg["mask"]
    segmentation = {
        name: absolute(str(value)) if name != "network" and Path(str(value)).expanduser().exists() else value
        for name, value in cfg["segmentation"].items()
    }
    checkpoints, references = map(absolute, listed(cfg["checkpoint"])), map(absolute, listed(cfg["reference"]))
    styles = {"checkpoint": list(checkpoints) or None, "reference": list(references) or None}
    return {**cfg, **styles, "mask": mask, "segmentation": segmentation}


@dataclass(frozen=True)
class RegionFinder:
    """Find a picture's regions; files and classes: of masks by hand, by style, and of class-index masks."""

    plan: "MaskPlan"
    named: Any
    files: "Mapping[str, MaskFinder]"
    classes: "MaskFinder | None"
    max_pixels: int

    def __call__(self, sample: Sample, pixels: "Tensor") -> "tuple[Regions, dict[str, float]]":
        """Find the regions of uint8 or uint16 (3, H, W), and each style's share of it. SampleError without a mask."""
        from gan_style.images.lossless import Original, to_eight_bits
        from gan_style.stylize.controls import option_of, read_mask
        from gan_style.stylize.regions import find_masks

        def read(style: str, path: Path) -> "Tensor":
            return read_mask(path, option_of(style), max_megapixels=self.max_pixels / 1e6)

        assert sample.picture is not None
        picture = PurePath(sample.picture.member or sample.picture.path)
        try:
            plan = replace(self.plan, files={style: find(picture) for style, find in self.files.items()})
            classes = None if self.classes is None else self.classes(picture)
            pixels = to_eight_bits(Original(pixels)).pixels
            regions = find_masks(plan, read, self.named, pixels, classes, {}, warn=False)
        except ValueError as error:
            raise SampleError("mask", str(error)) from error
        assert regions is not None
        shares = regions.planes.float().mean(dim=(1, 2)) / 255
        return regions, dict(zip(self.plan.order, shares.tolist(), strict=True))


def make_region_finder(cfg: Mapping[str, Any], device: "torch.device") -> RegionFinder | None:
    """Build it; None without masks. ValueError, in the user's words, for what is not there."""
    from gan_style.stylize.controls import MaskFinder, option_of
    from gan_style.stylize.regions import named_masks

    _, plan, count = plan_of(cfg)
    find_named = named_masks(plan, cfg["segmentation"], count, device)
    if not plan.order:
        return None
    files = {style: MaskFinder(Path(str(place)).expanduser(), option_of(style)) for style, place in plan.files.items()}
    folder = cfg["segmentation"]["masks"]
    classes = None if folder is None else MaskFinder(Path(folder).expanduser(), "segmentation.masks")
    return RegionFinder(plan, find_named, files, classes, cfg["max_pixels"])
