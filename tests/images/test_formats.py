"""gan_style/images/formats.py: which files are pictures, by name and by content; what is passed over is counted."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan_style.images.decode import decode
from gan_style.images.formats import (
    FORMAT_OF_SUFFIX,
    UnreadablePictureError,
    describe_others,
    is_picture,
    list_pictures,
    scan_folder,
)
from gan_style.images.lossless import Original, lost_in, read_original, write_original

PIXELS = np.random.default_rng(0).integers(0, 255, (32, 48, 3)).astype(np.uint8)


def encoded(kind: str, **options: object) -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".jpg", ".jpe", ".JFIF", ".mpo", ".apng", ".dib", ".tif", ".avif", ".heic", ".hif"])
def test_every_listed_suffix_is_a_picture_that_is_read_and_written(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with open(path, "w+b") as file:
        write_original(file, suffix, Original(decode(io.BytesIO(encoded("PNG")))))
    assert is_picture(path) and list_pictures(tmp_path) == [path]
    assert np.abs(decode(path).numpy().transpose(1, 2, 0).astype(int) - PIXELS).mean() < 8
    with Image.open(path) as opened:
        assert opened.format in (FORMAT_OF_SUFFIX[suffix.lower()].name, "DIB")


def originals_pixels(path: Path) -> torch.Tensor:
    return read_original(path, max_megapixels=1).pixels


@pytest.mark.parametrize("kind", ["PNG", "HEIF", "AVIF", "WEBP", "TIFF", "BMP", "DIB"])
def test_the_content_says_how_a_file_is_read_whatever_its_name(tmp_path, kind):
    (tmp_path / "a.jpg").write_bytes(encoded(kind))
    pixels = decode(tmp_path / "a.jpg")
    assert torch.equal(originals_pixels(tmp_path / "a.jpg"), pixels)
    if kind in ("HEIF", "AVIF", "WEBP"):
        assert pixels.shape == (3, 32, 48)
    else:
        assert np.array_equal(pixels.permute(1, 2, 0), PIXELS)


@pytest.mark.parametrize("read", [decode, originals_pixels])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"no picture at all\n" * 50, "its content is not a JPEG, PNG, WebP"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n%%EOF\n", "its content is not a JPEG, PNG, WebP"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"/annex/objects/SHA256E-s1--0\n", "git-annex"),
        (b"  <svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<!doctype html><title>404</title>", "web page"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "stylize-video"),
        (b"\xff\x0a", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"GIF89a", "stylize-video"),
        (b"\x89PNG\r\n\x1a\nno more", ""),
    ],
)
def test_what_is_no_picture_is_called_what_it_is(tmp_path, read, content, message):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UnreadablePictureError, match=rf"a\.jpg: .*{message}"):
        read(tmp_path / "a.jpg")


def test_files_that_are_passed_over_are_counted_by_kind_and_broken_links_named(tmp_path):
    for name in ("a.png", "b.gif", "c.gif", "d.JXL", "e", "deep/f.txt", ".hidden.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "g.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "h.jpg").symlink_to(tmp_path / "h.jpg")
    pictures, others = scan_folder(tmp_path)
    assert pictures == [tmp_path / "a.png"] and len(others) == 7
    message = describe_others(others)
    assert message is not None
    for part in ("2 .gif", "1 .jxl", "1 without a suffix", "1 .txt", "2 broken links", str(tmp_path / "g.jpg")):
        assert part in message
    assert describe_others([]) is None


def test_without_the_extra_heic_files_are_named_with_what_to_install(tmp_path):
    import subprocess
    import sys

    (tmp_path / "a.heic").write_bytes(encoded("HEIF"))
    (tmp_path / "b.jpg").write_bytes(encoded("HEIF"))
    program = f"""
import sys
sys.modules["pillow_heif"] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "pillow_heif" else find(name, *rest)
from pathlib import Path
from gan_style.images.formats import describe_others, open_picture, scan_folder
print(describe_others(scan_folder(Path({str(tmp_path)!r}))[1]))
try:
    open_picture(Path({str(tmp_path / "b.jpg")!r}))
except OSError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    first, second = done.stdout.splitlines()
    assert "1 .heic" in first and "gan_style[heic]" in first and "HEIC" in second and "gan_style[heic]" in second


def test_ten_bits_of_a_heic_are_said_to_become_eight(tmp_path):
    import pillow_heif

    deep = (PIXELS.astype(np.uint16) * 257).tobytes()
    heif = pillow_heif.from_bytes(mode="RGB;16", size=(48, 32), data=deep)
    heif.save(tmp_path / "a.heic", quality=90)
    original = read_original(Path(tmp_path / "a.heic"), max_megapixels=1)
    assert any("bits" in line for line in lost_in(original, ".heic"))
