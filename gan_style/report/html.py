"""Self-contained HTML: one file that holds its pictures, styles and scripts, and that loads nothing from anywhere."""

import base64
import html
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from gan_style.images.decode import encode

_ASSETS = Path(__file__).resolve().parent / "templates"
_MIME = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
# What the browser itself is told: nothing but what the file holds.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(*, title: str, body: str, style: str = "", script: str = "") -> str:
    """A whole page around ``body`` (HTML), readable in light and dark and on a phone.

    title: plain text, escaped here. style and script: CSS and JavaScript of our own, beside the house's page.css.
    """
    assert "</style" not in style.lower() and "</script" not in script.lower()
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{asset('page.css')}\n{style}\n</style>\n</head>\n"
        f"<body>\n{body}\n" + (f"<script>\n{script}\n</script>\n" if script else "") + "</body>\n</html>\n"
    )


def asset(name: str) -> str:
    """The text of a file of gan_style/report/templates."""
    return (_ASSETS / name).read_text(encoding="utf-8")


def escape(text: str) -> str:
    """Plain text as HTML, also inside of a quoted attribute."""
    return html.escape(text, quote=True)


def data_uri(picture: Tensor | bytes, suffix: str = ".jpg") -> str:
    """A picture as what an img's src may hold: float (3, H, W) in [-1, 1], or the bytes of a file of that suffix."""
    content = picture if isinstance(picture, bytes) else encode(picture, suffix)
    return f"data:{_MIME[suffix.lower()]};base64,{base64.b64encode(content).decode('ascii')}"


def data_block(name: str, content: Any) -> str:
    """Plain containers for a script: JSON.parse(document.getElementById(name).textContent).

    No character in it can end the block or start a tag, whatever the texts inside say.
    """
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'
