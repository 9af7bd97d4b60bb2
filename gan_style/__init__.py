"""gan_style: GAN-based, content-preserving style transfer.

import gan_style
painted = gan_style.load("runs/mine")("photo.jpg", strength=0.7)
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load", "styles"]


def __getattr__(name: str) -> Any:
    """Import the Python interface (gan_style/api.py), which takes torch, when it is asked for."""
    if name in ("load", "styles"):
        return getattr(import_module("gan_style.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
