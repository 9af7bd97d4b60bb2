"""What a picture's header says, read without decoding and without torch."""

import io
import warnings
from dataclasses import dataclass

from PIL import ExifTags, Image, TiffImagePlugin

from gan_style.dataset.sample import SampleError
from gan_style.images.formats import open_picture

_PNG_MARKS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
MOST_PIXELS = 178_000_000  # Pillow itself refuses more


@dataclass(frozen=True)
class Header:
    """width, height: as stored, in pixels; orientation: EXIF's, 1 (as stored) to 8; is_rich: whether it may hold more
    than 8 bits of RGB, such as transparency or a profile; is_grey: whether it has no colours; frames: how many pictures
    it holds, of which the first is read.
    """

    width: int
    height: int
    orientation: int
    is_rich: bool = False
    is_grey: bool = False
    frames: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as stored."""
        return self.width, self.height

    @property
    def upright(self) -> tuple[int, int]:
        """(width, height) once EXIF's orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else self.size


def read_header(data: bytes, max_pixels: int = MOST_PIXELS) -> Header:
    """SampleError for what does not begin as a picture of a known kind does, or claims more pixels."""
    if not data:
        raise SampleError("empty", "the file has no content")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that our own limit is for
            with open_picture(io.BytesIO(data), limited=False) as picture:
                if picture.width * picture.height > max_pixels:
                    raise SampleError(
                        "too large", f"{picture.width} x {picture.height} pixels; max_pixels={max_pixels}"
                    )
                frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)  # a camera's own extras
                return Header(*_stored_size(picture), _orientation(picture, data), *_colors(picture, data), frames)
    except (MemoryError, SampleError):
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, bomb errors, ...
        raise sample_error(error) from error


def _colors(picture: Image.Image, data: bytes) -> tuple[bool, bool]:
    """(whether it may hold more than 8 bits of RGB, whether it is grey)."""
    is_png = data[:4] == b"\x89PNG"
    is_deep = picture.mode.startswith("I") or (is_png and data[24:25] == b"\x10")
    is_deep |= isinstance(picture, TiffImagePlugin.TiffImageFile) and 16 in (picture.tag_v2.get(258) or ())
    is_rich = is_deep or picture.has_transparency_data or bool(picture.info.get("icc_profile"))
    is_grey = picture.mode in ("1", "L", "LA", "La") or picture.mode.startswith("I;16")
    return is_rich, is_grey or (is_png and data[25:26] == b"\4")  # of 16 bits it is RGBA for Pillow


def _stored_size(picture: Image.Image) -> tuple[int, int]:
    """Of a TIFF Pillow tells the size that it will have upright."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return picture.tag_v2[256], picture.tag_v2[257]  # ImageWidth, ImageLength
    return picture.size


def _orientation(picture: Image.Image, data: bytes) -> int:
    """To look for it, Pillow decodes a whole PNG; so only where it may be there."""
    if picture.format == "PNG" and not any(mark in data for mark in _PNG_MARKS):
        return 1
    orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def sample_error(error: BaseException) -> SampleError:
    """What Pillow's refusal means."""
    text = str(error) or type(error).__name__
    if isinstance(error, Image.UnidentifiedImageError):
        return SampleError("not a picture", text)
    if isinstance(error, Image.DecompressionBombError) or "too large" in text.lower():
        return SampleError("too large", text)
    if any(word in text.lower() for word in ("truncated", "unexpected end", "not enough", "incomplete")):
        return SampleError("truncated", text)
    return SampleError("damaged", text)
