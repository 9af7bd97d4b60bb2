"""Real pictures without downloads: photographs from scikit-image's wheel, artworks painted by tools/paint_styles.py."""

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

PREFIX = "demo:"
_TRAINING = ("astronaut.png", "motorcycle_left.png", "rocket.jpg")
_HELD_OUT = ("chelsea.png", "coffee.png")


def demo_pictures(name: str) -> list[Path]:
    """List the files of "demo:photos", "demo:heldout", "demo:styles", or one of their pictures: "demo:styles/NAME".

    Raises ValueError for an unknown name, or where scikit-image (the extra "demo") is not installed.
    """
    folder, _, picture = name.partition("/")
    photos = {"photos": _TRAINING, "heldout": _HELD_OUT}
    style_folder = Path(str(files("gan_style") / "assets" / "styles"))
    styles = [path for path in sorted(style_folder.iterdir()) if path.stem[0] not in "._"]
    if folder in photos and picture in ("", *(Path(file).stem for file in photos[folder])):
        return [_photo_folder() / file for file in photos[folder] if picture in ("", Path(file).stem)]
    if folder == "styles" and picture in ("", *(path.stem for path in styles)):
        return [path for path in styles if picture in ("", path.stem)]
    allowed = [*photos, "styles", *(f"{name}/{Path(file).stem}" for name in photos for file in photos[name])]
    allowed += [f"styles/{path.stem}" for path in styles]
    raise ValueError(f"{PREFIX}{name} is not known; allowed are {', '.join(PREFIX + item for item in allowed)}")


def _photo_folder() -> Path:
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise ValueError("the demo photographs come with scikit-image: pip install 'gan_style[demo]'")
    return Path(package.origin).parent / "data"
