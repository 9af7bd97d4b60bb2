"""Pictures, masks, texts and archives for made-up datasets; what make-dataset sees in them and has made of them."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from gan_style.dataset.layouts.recognise import Inventory, open_layout


def photo(path: Path, width: int = 40, height: int = 30, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(str(path))).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)


def photos(folder: Path, names: str) -> None:
    """Write photos of names that are separated by blanks."""
    for name in names.split():
        photo(folder / name)


def turned(path: Path, orientation: int = 6, **options) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo(path, exif=exif, **options)


def text(path: Path, content: str | dict | list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


VALUES = np.zeros((30, 40), np.uint8)
VALUES[:, 20:], VALUES[:9] = 1, 2


def mask(path: Path, values: np.ndarray = VALUES) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def archive(path: Path, content: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = {".tgz": "gz", ".gz": "gz", ".bz2": "bz2", ".xz": "xz", ".txz": "xz"}.get(path.suffix, "")
    with tarfile.open(path, f"w:{packed}") as tar:
        for name, part in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(part)
            tar.addfile(info, io.BytesIO(part))


def members(folder: Path) -> dict[str, bytes]:
    """Read all archives of a folder."""
    contents = {}
    for path in sorted(folder.rglob("*.tar")):
        with tarfile.open(path) as tar:
            contents |= {member.name: tar.extractfile(member).read() for member in tar}
    return contents


def files(folder: Path) -> dict[str, bytes]:
    """Read all files below a folder but locks."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def opened(folder: Path, kind: str = "auto", *, target: str = "folder", carry: tuple[str, ...] = ()):
    return open_layout(str(folder), kind, target=target, carry=list(carry))


def recognised(folder: Path) -> Inventory:
    inventory = Inventory(opened(folder))
    list(inventory.watch(inventory.layout.samples()))
    return inventory


def boxes_of(annotations: Path) -> list[tuple[str, str, list[float]]]:
    """Read (picture, category, box) of each annotation of a COCO file."""
    content = json.loads(annotations.read_text())
    pictures = {image["id"]: image["file_name"] for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    return [(pictures[a["image_id"]], names[a["category_id"]], a["bbox"]) for a in content["annotations"]]
