"""Self-contained HTML: one file that holds its pictures, styles and scripts, and that loads nothing from anywhere."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import torch
from markupsafe import Markup, escape
from torch import Tensor

from gan_style.images.decode import encode_uint8, to_uint8

_THUMBNAIL_HEIGHT = 256


@dataclass(frozen=True)
class TableHead:
    """A column's title, what it means (shown when pointed at), and whether its cells are texts."""

    title: str
    meaning: str
    is_text: bool = False


@dataclass(frozen=True)
class TableCell:
    """value: the number to sort by; error: its standard error; note: a line below."""

    text: str
    value: float | None = None
    error: str = ""
    note: str = ""
    best: bool = False


@dataclass(frozen=True)
class TableRow:
    """color: the number of the run's color, None for a baseline."""

    label: str
    color: int | None
    cells: Sequence[TableCell]


@dataclass(frozen=True)
class SheetCell:
    """A picture as a data URI, None for a gap; label: "" for the photo; numbers: {metric: value} below it."""

    label: str
    color: int | None
    picture: str | None
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SheetRow:
    """A photo and what became of it; name: the photo's."""

    name: str
    cells: Sequence[SheetCell]


def render(template: str, **values: Any) -> str:
    """Return a page of gan_style/report/templates; whatever ``values`` hold is escaped, Markup aside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # tojson's own escapes keep texts from ending a script or an attribute; NaN would not be JSON
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters["breakable"] = breakable
    return environment.get_template(template).render(**values)


def breakable(name: str) -> Markup:
    """Return a name as HTML that may be broken into lines after its punctuation."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[,/#_=.])(?=.)", name, flags=re.DOTALL))


def data_uri(picture: Tensor, **options: Any) -> str:
    """Return an img's src, a JPEG: of uint8 (3, H, W), or of float in [-1, 1]; options: of encode_uint8."""
    pixels = picture if picture.dtype == torch.uint8 else to_uint8(picture)
    content = encode_uint8(pixels.cpu(), ".jpg", **options)
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}"


def thumbnail(picture: Tensor) -> str:
    """Return a picture (1, 3, H, W) in [-1, 1], scaled down to at most 256 pixels of height, as a JPEG data URI."""
    factor = min(1.0, _THUMBNAIL_HEIGHT / picture.shape[-2])
    size = (min(_THUMBNAIL_HEIGHT, picture.shape[-2]), max(1, round(picture.shape[-1] * factor)))
    small = torch.nn.functional.interpolate(picture.float(), size, mode="bilinear", antialias=True)[0]
    return data_uri(small, quality=88)
