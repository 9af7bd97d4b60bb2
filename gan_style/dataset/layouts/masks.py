"""Masks and other labels that are pictures: Cityscapes', DAVIS', VOC's SegmentationClass, depth, mattes, targets.

They are told from photos by their names, where a picture is called as they are but for such a word, and by looking at
them: a palette, 16 bits of grey, or few values.
"""

import io
import re
import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from PIL import Image

from gan_style.dataset.geometry import Change, Label
from gan_style.images.formats import READABLE_FORMATS


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that say of a file, or of a folder, that it holds labels (of pictures whose names lack the word).
LABEL_WORDS = word_set(
    "mask masks msk gt gts groundtruth label labels lbl seg segs segm segmentation segmentations semantic "
    "semantics instance instances panoptic depth depths disparity disp alpha matte mattes trimap trimaps "
    "annotation annotations anno annos ann anns annot annots labelids labeltrainids trainids instanceids "
    "instancetrainids polygons gtfine gtcoarse parsing saliency labeled labelled segmentationclass "
    "segmentationobject segmentationclassaug labelid target targets caption captions parts "
    "manual1 manual2 1stho 2ndho"  # DRIVE, CHASE_DB1
)
_FOLDER_WORDS = LABEL_WORDS | word_set(
    "sem inst parse edge edges contour contours normal normals flow truth xml xmls json jsons txt txts yolo "
    "bbox bboxes box boxes landmarks keypoints pts voc coco manual lesion parts objects attributes alphas"
)
# Words that say of a file that is no picture that it tells of one: 1_keypoints.json.
TELLING_WORDS = (
    LABEL_WORDS
    | _FOLDER_WORDS
    | word_set(
        "pose poses openpose points point coords coordinates info meta metadata attribute attributes atr attr attrs "
        "features embedding embeddings description text tags prompt prompts exif rle polygon polygons"
    )
)
# Words that go with those, or stand alone where a label has one of its own: 1_rgb.png and 1_depth.png.
_WITH_LABELS = word_set("color colour colored train ids id class classes object objects map maps binary l aug val 1st")
_PICTURE_WORDS = word_set(
    "image images img imgs im photo photos rgb picture pictures pic leftimg8bit input inputs sat orig original "
    "training test"  # DRIVE
)
_LIKE_PHOTOS = word_set("target targets gt normal normals groundtruth flow truth")
# Words by which folders say that one holds what the other's pictures are to become: low and high, blur and sharp.
_INPUT_WORDS = word_set(
    "input inputs source src low lowlight lq lr blur blurred blurry rain rainy haze hazy fog foggy noise noisy snow "
    "snowy degraded distorted corrupted shadow raindrop compressed raw data blurgamma lqs lrs"
)
_TARGET_WORDS = word_set(
    "target targets tgt high highlight hq hr sharp clean clear norain gt gts groundtruth reference ref output "
    "outputs original free shadowfree enhanced restored expert hqs hrs"
)
_SEPARATOR = re.compile(r"[_\-. ]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_FORMATS = [*(name for name in READABLE_FORMATS if name != "HEIF"), "GIF", "PPM"]
_GRID = 64  # so many rows and columns are looked at


def words_of(name: str) -> list[str]:
    """("gt", "fine") of "gtFine", in lower letters; with the whole words between separators."""
    parts = [part for part in _SEPARATOR.split(name) if part]
    camel = [piece.lower() for part in parts for piece in _CAMEL.split(part)]
    return [part.lower() for part in parts] + camel


@lru_cache(4096)
def is_label_folder(name: str) -> bool:
    """Whether a folder's name says that labels lie in it."""
    return bool(_FOLDER_WORDS & {re.sub(r"\d+$", "", word) for word in words_of(name)})


def may_look_like_photos(name: str) -> bool:
    return bool(_LIKE_PHOTOS & set(words_of(name)))


def is_target_of(target: str, source: str) -> bool:
    """Whether two folders' names say that one holds what the other's pictures are to become."""
    new, old = set(words_of(target)), set(words_of(source))
    return bool((new - old) & _TARGET_WORDS and (old - new) & _INPUT_WORDS)


def is_of_pairs(name: str) -> bool:
    """Whether a folder's name may be one of such a pair's."""
    return bool((_INPUT_WORDS | _TARGET_WORDS) & set(words_of(name)))


@dataclass(frozen=True)
class Core:
    """A file's stem without the words that say what it is: before + base + after; role: label, picture or ""."""

    before: str
    base: str
    after: str
    role: str


@lru_cache(65536)
def core_of(stem: str) -> Core:
    """("", "1", "_mask", "label") of 1_mask, ("mask_", "6", "", "label") of mask_6, ("", "1", "", "") of 1."""
    if not _SEPARATOR.search(stem):
        return Core("", stem, "", "")
    pieces = re.split(r"([_\-. ]+)", stem)  # words at even places
    first, last = 0, len(pieces)
    seen: set[str] = set()
    if last > 4 and pieces[-1].isdigit() and pieces[-3].lower() in LABEL_WORDS:  # 1_mask_0, the first of several
        last -= 2
    while last - 2 > first and _is_role(pieces[last - 1]):
        seen.add(pieces[last - 1].lower())
        last -= 2
    if last - 2 > first and _is_role(pieces[first]):
        seen.add(pieces[first].lower())
        first += 2
    role = "label" if seen & LABEL_WORDS else "picture" if seen & _PICTURE_WORDS else ""
    if not role:
        return Core("", stem, "", "")
    return Core("".join(pieces[:first]), "".join(pieces[first:last]), "".join(pieces[last:]), role)


def _is_role(word: str) -> bool:
    word = word.lower()
    return word in LABEL_WORDS or word in _PICTURE_WORDS or word in _WITH_LABELS


@dataclass(frozen=True)
class Mask(Label):
    """A picture of labels, whose values are what they are; or, is_photo, what its picture is to become."""

    content: bytes
    is_photo: bool = False

    @staticmethod
    def parse(extension: str, content: bytes) -> "Mask":
        """The extension (".high.png") may say that it is a target, and a look at it that it is a photo."""
        is_target = bool(_TARGET_WORDS & set(words_of(extension.rpartition(".")[0])))
        return Mask(content, is_target and not looks_like_mask(content, grey=True))

    @cached_property
    def size(self) -> tuple[int, int] | None:
        try:
            with _opened(self.content) as picture:
                return picture.size
        except Exception:  # Pillow raises nearly anything
            return None

    def adapted(self, change: Change) -> bytes:
        """Scaled as its picture was, each value of a mask that of the nearest pixel. ValueError where that cannot be
        done.
        """
        if not change.is_scaled or change.old is None or change.new is None:
            return self.content
        try:
            with _opened(self.content) as picture:
                kind, palette = picture.format or "PNG", picture.mode == "P"
                if picture.mode.startswith("I;16") and picture.mode != "I;16":
                    raise ValueError(f"a mask of kind {picture.mode}")
                new: tuple[int, ...] = change.new
                if picture.size != change.old:
                    new = tuple(
                        max(1, round(side * factor)) for side, factor in zip(picture.size, change.factors, strict=True)
                    )
                buffer = io.BytesIO()
                options: dict[str, Any] = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
                options |= {"lossless": True} if kind == "WEBP" else {}
                if palette and "transparency" in picture.info:
                    options["transparency"] = picture.info["transparency"]
                method = Image.Resampling.LANCZOS if self.is_photo else Image.Resampling.NEAREST
                picture.resize((new[0], new[1]), method).save(buffer, format=kind, **options)
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(f"a mask that cannot be scaled ({error})") from error
        return buffer.getvalue()


def _opened(content: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(content), formats=_FORMATS)


def looks_like_mask(content: bytes, *, grey: bool = False) -> bool:
    """Whether a picture's pixels are labels: a palette with few colours, 16 bits of grey, or few values.

    grey: whether any grey picture is one, beside a photo in colour (depth, a matte).
    """
    try:
        with _opened(content) as picture:
            if picture.mode in ("1", "I;16", "I;16B", "I", "F"):
                return True
            if picture.mode in ("L", "LA") and grey:
                return True
            plain = picture if picture.mode in ("P", "L", "RGB") else picture.convert("RGB")
            size = min(plain.width, _GRID), min(plain.height, _GRID)
            values = np.asarray(plain.resize(size, Image.Resampling.NEAREST))
            lossy = picture.format in ("JPEG", "WEBP")
    except Exception:  # what cannot be read is not for us to judge
        return False
    if lossy and (values.ndim == 2 or np.ptp(values.astype(int), axis=2).mean() < 4):  # grey
        return _share_near_peaks(values) >= 0.97
    if lossy:  # values wander a little
        values = (values + 8 - (values > 247) * 8) >> 4
    values = values.reshape(values.shape[0] * values.shape[1], -1)
    counts = np.sort(np.unique(values, axis=0, return_counts=True)[1])[::-1]
    most = counts[:24].sum() / counts.sum()
    return bool(len(counts) <= max(4, len(values) // 8) and most >= 0.97)


def _share_near_peaks(values: np.ndarray) -> float:
    """The share of values that are within 4 of one of four, as in a mask that was kept as JPEG."""
    counts, share = np.bincount(values.ravel(), minlength=256), 0
    for _ in range(4):
        peak = int(np.convolve(counts, np.ones(9, int), "same").argmax())
        near = slice(max(0, peak - 4), peak + 5)
        share += int(counts[near].sum())
        counts[near] = 0
    return share / values.size


def is_coloured(content: bytes) -> bool:
    """Whether a picture is one in colours, by its header."""
    try:
        with _opened(content) as picture:
            return picture.mode in ("RGB", "RGBA", "CMYK", "YCbCr")
    except Exception:
        return False
