"""Pictures, masks, texts and archives for made-up datasets."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def photo(path: Path, width: int = 40, height: int = 30, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(str(path))).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)


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
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            contents |= {member.name: tar.extractfile(member).read() for member in tar}
    return contents
