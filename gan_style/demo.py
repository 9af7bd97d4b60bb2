"""Real pictures without downloads: photographs from scikit-image's wheel, artworks painted by tools/paint_styles.py."""

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

PREFIX = "demo:"
_TRAINING = ("astronaut.png", "motorcycle_left.png", "rocket.jpg")
_HELD_OUT = ("chelsea.png", "coffee.png")


def demo_pictures(name: str) -> list[Path]:
    """The files behind "demo:photos", "demo:heldout", "demo:styles" or "demo:styles/NAME".

    Raises ValueError for an unknown name, or where scikit-image (the extra "demo") is not installed.
    """
    styles = {path.stem: path for path in sorted(_style_folder().iterdir()) if path.stem[0] not in "._"}
    known = {"photos": _TRAINING, "heldout": _HELD_OUT}
    if name in known:
        return [_photo_folder() / file for file in known[name]]
    if name == "styles":
        return list(styles.values())
    if name.startswith("styles/") and name.removeprefix("styles/") in styles:
        return [styles[name.removeprefix("styles/")]]
    allowed = [*known, "styles", *(f"styles/{style}" for style in styles)]
    raise ValueError(f"{PREFIX}{name} is not known; allowed are {', '.join(PREFIX + item for item in allowed)}")


def _style_folder() -> Path:
    return Path(str(files("gan_style") / "assets" / "styles"))


def _photo_folder() -> Path:
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise ValueError("the demo photographs come with scikit-image: pip install 'gan_style[demo]'")
    return Path(package.origin).parent / "data"
