"""Read class-index masks: pictures whose values are numbers of classes."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan_style.images.formats import open_picture, reason_of


def read_class_mask(path: Path, option: str = "segmentation.masks") -> Tensor:
    """Read the numbers of a mask, int32 (H, W), as they are stored.

    Of a palette its indices (Pascal VOC), of grey its values (8 or 16 bits: Cityscapes), of colours COCO's panoptic
    R + 256 G + 65536 B. ValueError, naming the option, for anything else.
    """
    try:
        with open_picture(path) as picture:
            kind, values = picture.mode, np.asarray(picture)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises nearly anything
        raise ValueError(f"{option}={path}: cannot read it: {reason_of(error)}") from error
    if kind == "RGB":
        values = values.astype(np.int32) @ np.array([1, 256, 65536], dtype=np.int32)
    elif values.ndim != 2 or kind not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
        raise ValueError(f"{option}={path}: a picture of kind {kind}; indices, grey or RGB expected")
    return torch.from_numpy(values.astype(np.int32))
