"""A tree of folders: which files are pictures, which belong to which picture, wherever they lie, and what is a split.

What belongs to a picture lies beside it (1.txt, 1_mask.png) or in a tree of its own that mirrors the pictures'
(labels/train/1.txt of images/train/1.jpg, gtFine, Annotations, masks below the pictures, train_masks beside train).
"""

import os
import re
import stat
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property, lru_cache
from itertools import count
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from gan_style.dataset.layouts.masks import (
    TELLING_WORDS,
    core_of,
    is_coloured,
    is_label_folder,
    is_of_pairs,
    is_target_of,
    looks_like_mask,
    may_look_like_photos,
    word_set,
    words_of,
)
from gan_style.dataset.sample import ALL_PICTURE_SUFFIXES, PICTURE_SUFFIXES, join
from gan_style.images.formats import open_picture

JUNK = re.compile(
    r"(?i)\A(\..*|thumbs\.db|ehthumbs\.db|desktop\.ini|icon\r|__macosx|@eadir|\$recycle\.bin|lost\+found)\Z"
)
_KNOWN_JUNK = ("._", ".DS_Store", ".git", ".cache", ".huggingface")
_MOST_FOLDERS, _MOST_BESIDE = 3000, 60  # folders that are looked at for trees that mirror each other; siblings of one
_MOST_LISTED = 500_000  # files in the listings that are kept
_LOOKED_AT = 3  # pictures of a folder that are looked at to tell masks from photos
_LONGEST_ENDING = 50  # letters of a file's name after its picture's
_IMAGE_FOLDERS = word_set("images image imgs img jpegimages jpgs jpg pictures pics photos leftimg8bit data rgb frames")
SPLITS = word_set(
    "train training trn val valid validation vld dev eval evaluation test testing tst trainval minival hold holdout "
    "heldout query gallery unlabeled unlabelled pred"
)
_TRAIN = frozenset(("train", "training", "trn", "trainval"))
_MOST_WORDS = 10  # by which names are told apart that say no split; of more (hashes, say) each is its own


class Listing(NamedTuple):
    """The names of what lies in one folder, sorted; files: a set that keeps its order."""

    folders: Sequence[str]
    files: Mapping[str, None]
    identity: tuple[int, int]


class Match(NamedTuple):
    """A file that belongs to a picture: its path below the root; the text before and after the picture's base name."""

    path: str
    before: str
    after: str


@dataclass
class Matches:
    """shapes: of pictures whose own names hold more than the base: (text before, base, text after)."""

    sidecars: dict[str, dict[str, Match]] = field(default_factory=dict)
    shapes: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)  # paths


class Rule(NamedTuple):
    """Labels lie in ``labels`` where their pictures lie in ``pictures``: parts of paths, which may be empty."""

    labels: tuple[str, ...]
    pictures: tuple[str, ...]


class Tree:
    """A folder's tree, read folder by folder. carry: patterns of pictures that are never stylized; pairs: whether two
    folders may be inputs and targets by their names (low, high).
    """

    def __init__(self, root: Path, carry: Sequence[str] = (), *, pairs: bool = True) -> None:
        self.root, self._pairs = root, pairs
        patterns = [f"(?:{translate(f'*/{pattern}')})" for pattern in carry]  # for the end of "/a/b.png"
        self._carry = re.compile("|".join(patterns)) if patterns else None
        self.passed_over: set[str] = set()  # hidden files and folders
        self._listings: dict[str, Listing] = {}  # those that were asked for last
        self._files_listed = 0
        self.matches = lru_cache(8)(self._matches)
        self.split_of_level = lru_cache(1024)(self._split_of_level)
        self.names_say_splits = lru_cache(1024)(self._names_say_splits)

    def listing(self, path: str) -> Listing:
        """OSError where it cannot be listed. Hidden files, and what systems leave (Thumbs.db), are passed over."""
        listing = self._listings.pop(path, None)
        if listing is None:
            listing = self._read_listing(path)
            self._files_listed += len(listing.files) + 1
        self._listings[path] = listing
        while self._files_listed > _MOST_LISTED and len(self._listings) > 1:
            self._files_listed -= len(self._listings.pop(next(iter(self._listings))).files) + 1
        return listing

    def _read_listing(self, path: str) -> Listing:
        here = os.stat(self.root / path)
        folders: list[str] = []
        files: list[str] = []
        with os.scandir(self.root / path) as entries:
            for item in entries:
                if item.name.startswith(".") and not item.name.startswith(_KNOWN_JUNK):
                    self.passed_over.add(join(path, item.name))
                if not JUNK.match(item.name):
                    (folders if is_folder(item) else files).append(item.name)
        return Listing(sorted(folders), dict.fromkeys(sorted(files)), (here.st_dev, here.st_ino))

    def try_listing(self, path: str) -> Listing:
        """The same; nothing where it cannot be listed."""
        try:
            return self.listing(path)
        except OSError:
            return Listing([], {}, (0, 0))

    def is_carried(self, path: str) -> bool:
        return self._carry is not None and self._carry.match(f"/{path.lstrip('/')}") is not None

    def is_picture(self, path: str) -> bool:
        """Whether a file is a picture by its name, be it a photo or a mask."""
        return path.lower().endswith(PICTURE_SUFFIXES)

    def pictures(self, path: str) -> list[str]:
        """The names of a folder's pictures."""
        return [name for name in self.try_listing(path).files if self.is_picture(name)]

    def size_of(self, path: str) -> tuple[int, tuple[str, str] | None]:
        """A file's bytes, and what is wrong with it."""
        try:
            status = os.stat(f"{self.root}/{path}")
        except OSError as error:
            return 0, ("missing", f"{error.strerror}: a link that leads nowhere?")
        if not stat.S_ISREG(status.st_mode):
            return 0, ("not a regular file", "a pipe, a socket or a device")
        return status.st_size, None

    def holds_picture(self, path: str) -> bool:
        """Whether a file begins as pictures do, whatever it is called."""
        try:
            open_picture(self.root / path).close()
        except Exception:  # Pillow raises nearly anything
            return False
        return True

    # Which folders mirror which

    @cached_property
    def folders(self) -> list[str]:
        """Folders with files, the top ones first; of a large tree some."""
        folders: list[str] = []
        waiting, seen = deque([("", 0)]), set()
        while waiting and len(folders) < _MOST_FOLDERS:
            path, depth = waiting.popleft()
            listing = self.try_listing(path)
            if listing.identity in seen:
                continue
            seen.add(listing.identity)
            if listing.files:
                folders.append(path)
            if depth < 8:
                waiting.extend((join(path, name), depth + 1) for name in listing.folders[:200])
        return folders

    @cached_property
    def rules(self) -> list[Rule]:
        """Which trees of labels mirror which trees of pictures, from the folders looked at."""
        known = set(self.folders)
        rules: dict[Rule, None] = {}
        for path in self.folders:
            parts = tuple(path.split("/")) if path else ()
            if any(_replaced(parts, rule.labels, rule.pictures) & known for rule in rules):
                continue
            for rule in self._rules_of(parts, known):
                rules[rule] = None
        # Where labels lie in two trees of one picture tree both are rules; a tree of labels is no tree of pictures.
        labels = {rule.labels for rule in rules}
        return [rule for rule in rules if rule.pictures not in labels or not rule.pictures]

    def _rules_of(self, parts: tuple[str, ...], known: set[str]) -> Iterator[Rule]:
        """The rules by which a folder's files are labels of another folder's pictures."""
        path = "/".join(parts)
        files, pictures = self.try_listing(path).files, self.pictures(path)
        masks_of_masks: list[Rule] = []
        spans = [(at, at + width) for width in (1, 2, 3) for at in range(len(parts) - width, -1, -1)]
        for first, last in spans:
            before, labels, after = parts[:first], parts[first:last], parts[last:]
            named = any(map(is_label_folder, labels))

            # Targets, beside their inputs.
            sources = self._sources_of(before, labels[0], after) if not named and len(labels) == 1 else []
            if sources:
                yield from (Rule(labels, (source,)) for source in sources)
                return

            # What is neither called as labels are nor looks like them; pictures with their labels beside them.
            if not named and len(pictures) == len(files) and not self._are_masks(path, pictures, strictly=True):
                continue
            like_photos = any(map(may_look_like_photos, labels))
            if named and pictures and not like_photos and not self._are_masks(path, pictures):
                continue
            if not named and (0 < len(pictures) < len(files) or len(labels) > 1):
                continue

            # The folders whose pictures are called as these files are.
            has_rules = False
            for other in self._others(before, labels[0]):
                place = "/".join([*before, *other, *after])
                if _of_other_splits(labels, other) or place not in known or place == path:
                    continue
                if not self._mirror(place, path):
                    continue
                if pictures and self._are_masks(place, self.pictures(place), strictly=True):
                    masks_of_masks.append(Rule(labels, other))
                    continue
                has_rules = True
                yield Rule(labels, other)
            if has_rules:
                return
        yield from masks_of_masks[:1]  # where there are no photos that they might belong to

    def _sources_of(self, before: tuple[str, ...], name: str, after: tuple[str, ...]) -> list[str]:
        """The folders beside one of targets that hold their inputs, as all names, and their files', say."""
        siblings = self._with_pictures("/".join(before)) if self._pairs and is_of_pairs(name) else []
        if name not in siblings or not all(map(is_of_pairs, siblings)):
            return []
        places = {source: "/".join([*before, source, *after]) for source in siblings if is_target_of(name, source)}
        return [source for source, place in places.items() if self._mirror(place, "/".join([*before, name, *after]))]

    def _with_pictures(self, path: str) -> list[str]:
        """Which of a folder's folders hold pictures, and are no labels by their names."""
        names = [name for name in self.try_listing(path).folders[:_MOST_BESIDE] if not is_label_folder(name)]
        return [name for name in names if self._holds_pictures(join(path, name))]

    def doubtful_pairs(self) -> list[tuple[str, str]]:
        """Two folders beside each other that may be inputs and targets: by their pictures' names, or by their own."""
        doubtful = []
        paths = [PurePosixPath(path) for path in self.folders[:200]]
        for parent in dict.fromkeys(str(above).strip(".") for path in paths for above in path.parents):
            folders = [join(parent, name) for name in self._with_pictures(parent)]
            if len(folders) != 2 or any(map(self.is_label_path, folders)):
                continue
            first, second = folders
            names = [self._first_stems(path) for path in folders]
            alike = len(names[0]) > 1 and names[0] == names[1] and not self.split_of_level(parent)
            if is_target_of(first, second):
                first, second = second, first
            if not any(self.label_folders_of(first)) and (alike or is_target_of(second, first)):
                doubtful.append((first, second))
        return doubtful

    def _first_stems(self, path: str, inner: str = "") -> set[str]:
        """What files in a folder, or else in the first one below, are called."""
        listing = self.try_listing(join(path, inner) if inner else path)
        if not listing.files and listing.folders and inner.count("/") < 5:
            return self._first_stems(path, join(inner, listing.folders[0]))
        return {join(inner, stem_of(name)) for name in listing.files}

    def _others(self, before: tuple[str, ...], name: str) -> Iterator[tuple[str, ...]]:
        """What may stand in a path for a folder of labels: nothing, its siblings, and the folders in those."""
        yield ()
        above = "/".join(before)
        siblings = [sibling for sibling in self.try_listing(above).folders if sibling != name][:_MOST_BESIDE]
        for sibling in siblings:
            if not is_label_folder(sibling) or self._has_photos(join(above, sibling)):
                yield (sibling,)
        for sibling in siblings if len(siblings) <= 10 else ():
            for inner in self.try_listing(join(above, sibling)).folders[:10]:
                if not is_label_folder(inner):
                    yield (sibling, inner)

    def _has_photos(self, path: str) -> bool:
        """Whether a folder that is called as labels are holds photos, or leads to them."""
        folders = [path, *(join(path, name) for name in self.try_listing(path).folders[:5])]
        pictures = ((folder, self.pictures(folder)) for folder in folders)
        return any(names and not self._are_masks(folder, names) for folder, names in pictures)

    def _are_masks(self, path: str, names: Sequence[str], *, strictly: bool = False) -> bool:
        """Whether some of a folder's pictures look like masks; not strictly: grey ones, too (depth, mattes)."""
        looked_at = names[:: max(1, len(names) // _LOOKED_AT)][:_LOOKED_AT]
        return bool(names) and all(self.looks_like_mask(join(path, name), grey=not strictly) for name in looked_at)

    def looks_like_mask(self, path: str, *, grey: bool = False) -> bool:
        content = self.read(path)
        return content is not None and looks_like_mask(content, grey=grey)

    def read(self, path: str) -> bytes | None:
        """A file's content; None where it cannot be read, or is too large to be looked at."""
        size, problem = self.size_of(path)
        try:
            return (self.root / path).read_bytes() if problem is None and size < 100_000_000 else None
        except OSError:
            return None

    def _mirror(self, pictures: str, labels: str) -> bool:
        """Whether most files of one of two folders are called as those of the other."""
        names, files = self.pictures(pictures), list(self.try_listing(labels).files)
        if not names or not files:
            return False
        matches = match(names, [(name, labels) for name in files], same_folder=False)
        return len(matches.sidecars) >= max(1, min(len(names), len(files)) / 2)

    def label_folders_of(self, path: str) -> list[tuple[str, str]]:
        """Where labels of a folder's pictures may lie: (folder, the name of its tree)."""
        parts = tuple(path.split("/")) if path else ()
        labels = {
            place: rule.labels[-1]
            for rule in self.rules
            for place in sorted(_replaced(parts, rule.pictures, rule.labels))
            if place != path and (self.root / place).is_dir()
        }
        return list(labels.items())

    def picture_folders_of(self, path: str) -> list[str]:
        """The folders whose pictures a folder's files may be labels of; none for one that holds no labels."""
        parts = tuple(path.split("/")) if path else ()
        return sorted(
            place
            for place in set().union(*(_replaced(parts, rule.labels, rule.pictures) for rule in self.rules))
            if place != path and (self.root / place).is_dir()
        )

    def is_label_path(self, path: str) -> bool:
        """Whether a path leads through a tree of labels."""
        return bool(self.picture_folders_of(path))

    # What belongs to a folder's pictures

    def _matches(self, path: str) -> Matches:
        listing = self.try_listing(path)
        pictures = [name for name in listing.files if self.is_picture(name) and not self.is_carried(join(path, name))]
        files_here = [(name, path) for name in listing.files]
        matches = match(pictures, files_here, same_folder=True)
        # Two pictures of one name beside each other: one may be the other's mask.
        self._add_masks_of_the_same_name(path, pictures, matches)
        taken = {PurePosixPath(path).name for path in matches.taken}
        photos = [name for name in pictures if name not in taken]
        for folder, tree in self.label_folders_of(path):
            files = [(name, folder) for name in self.try_listing(folder).files]
            is_plain = is_label_folder(tree) or not any(is_label_folder(rule.labels[-1]) for rule in self.rules)
            _merge(matches, match(photos, files, same_folder=False), tree, is_plain=is_plain)
        return matches

    def _add_masks_of_the_same_name(self, path: str, pictures: Sequence[str], matches: Matches) -> None:
        stems = _grouped(pictures, stem_of)
        for names in [names for names in stems.values() if len(names) > 1]:
            looked = {name: self.looks_like_mask(join(path, name)) for name in names}
            photos = [name for name in names if not looked[name]]
            if len(photos) != 1:
                coloured = [name for name in names if is_coloured(self.read(join(path, name)) or b"")]
                photos = coloured if not photos and len(coloured) == 1 else photos
                if len(photos) != 1:
                    continue
            for name in names:
                if name != photos[0]:
                    suffix = PurePosixPath(name).suffix
                    matches.sidecars.setdefault(photos[0], {})[f"mask{suffix}"] = Match(join(path, name), "", suffix)
                    matches.taken.add(join(path, name))
                    matches.sidecars.pop(name, None)
        # A word that is not known, behind a picture's name, and a look at what it is: 1_superpixels.png.
        for name in pictures:
            ending = re.search(r"[_\-. ][A-Za-z]+\.[^.]*\Z", name)
            owners = stems.get(name[: ending.start()], ()) if ending else ()
            paths = [join(path, owner) for owner in (name, *owners)]
            if not ending or len(owners) != 1 or matches.taken & set(paths):
                continue
            if self.looks_like_mask(paths[0]) and not self.looks_like_mask(paths[1]):
                matches.sidecars.setdefault(owners[0], {})[ending[0][1:]] = Match(paths[0], "", ending[0])
                matches.taken.add(paths[0])

    # Splits and classes

    def _split_of_level(self, path: str) -> Mapping[str, tuple[str, str]]:
        """Of a folder whose folders are splits: name to (split, what is left of the name); else empty."""
        names = [name for name in self.try_listing(path).folders if not self.is_label_path(join(path, name))]
        names = [name for name in names if self._holds_pictures(join(path, name))] or names
        splits = {name: split for name in names if (split := split_in(name)) is not None}
        if not splits:
            return {}
        rests = {rest for _, rest in splits.values()}
        of_training = {rest for split, rest in splits.values() if split.lower() in _TRAIN}
        are_letters = rests <= {"A", "B", "C", "D"}
        if len(rests) > 1 and not are_letters:  # bounding_box_train, bounding_box_test, query
            splits = {name: split for name, split in splits.items() if split[1] in of_training | {""}}
            if of_training and any(split.lower() not in _TRAIN for split, _ in splits.values()):
                # TRAIN, TEST and TEST_SIMPLE: a split of its own.
                splits |= {name: (name, "") for name in names if name not in splits and split_in(name) is not None}
        # One that holds the same classes as a split does is a split, whatever it is called.
        classes = {name: {*self.try_listing(join(path, name)).folders} for name in names}
        known = [classes[name] for name in splits]
        splits |= {
            name: (name, "")
            for name in names
            if name not in splits
            and any(len(classes[name] & split) > len(classes[name] | split) / 2 for split in known)
        }
        kinds = {split.lower() in _TRAIN for split, _ in splits.values()}
        if len(splits) == len(names) or (len(splits) > 1 and kinds == {True, False}):
            is_class = are_letters or len(of_training) > 1  # trainA, testA; train_horse, test_horse
            return {name: (split, rest if is_class else "") for name, (split, rest) in splits.items()}
        return {}

    def _names_say_splits(self, path: str) -> bool:
        """Whether the names of a folder's pictures say their splits: train_1.jpg, test_2.jpg."""
        splits = {split and split.lower() in _TRAIN for split in map(split_of_file, self.pictures(path))}
        return splits == {True, False}

    def _holds_pictures(self, path: str, depth: int = 4) -> bool:
        if any(map(self.is_picture, self.try_listing(path).files)):
            return True
        inner = self.try_listing(path).folders[:5] if depth else ()
        return any(self._holds_pictures(join(path, name), depth - 1) for name in inner)

    @cached_property
    def _picture_trees(self) -> set[str]:
        """Folders that are where pictures lie, by the rules: labels of several folders are of classes, or splits."""
        labels = Counter(rule.labels for rule in self.rules)
        lone_folders = {
            rule.pictures[0]
            for rule in self.rules
            if (len(rule.pictures) == 1 and labels[rule.labels] == 1)
            or (rule.pictures and is_target_of(rule.labels[0], rule.pictures[0]))
        }
        parts = {part for rule in self.rules for part in rule.pictures}
        return lone_folders | {part for part in parts if part.lower() in _IMAGE_FOLDERS}

    def is_picture_tree(self, path: str, name: str) -> bool:
        """Whether a folder is only where pictures lie (images/, img2dataset's 00000/), rather than a class."""
        if name in self._picture_trees:
            return True
        listing = self.try_listing(path)
        if name.isdigit() and {f"{name}.parquet", f"{name}_stats.json"} & listing.files.keys():
            return True
        words = {re.sub(r"\d+$", "", word) for word in words_of(name)}
        if not words & (_IMAGE_FOLDERS | {"dataset"}):  # images, img_align_celeba, Flicker8k_Dataset
            return False
        siblings = [name for name in listing.folders if not is_label_folder(name)]
        return all(sibling == name or not self._holds_pictures(join(path, sibling)) for sibling in siblings)

    def split_and_label(self, path: str) -> tuple[str | None, list[str]]:
        """The split of a folder's pictures, and the folders that are its class: ("train", ["cats"]) of train/cats."""
        split: str | None = None
        label: list[str] = []
        here = ""
        for name in path.split("/") if path else ():
            level = self.split_of_level(here)
            if name in level:
                own, letter = level[name]
                split = own if split is None or own.lower() == split.lower() else f"{split}-{own}"  # fold1/train
                label = [] if not self._is_class(here, label) else label
                label += [letter] if letter else []
            elif (
                split is not None
                and (split_in(name) or ("",))[0].lower() == split.lower()
                and list(self.try_listing(here).folders) == [name]
            ):
                pass  # seg_train/seg_train
            elif not self.is_picture_tree(here, name):
                label = [*label, name]
            here = join(here, name)
        return split, label

    def _is_class(self, path: str, label: Sequence[str]) -> bool:
        """Whether folders above a split tell classes apart: cats/train, dogs/train, and not flowers/train alone."""
        parts = path.split("/")
        tops = [self.try_listing("/".join(parts[:at])).folders for at in range(len(parts))]
        return bool(label) and any(len([name for name in names if not is_label_folder(name)]) > 1 for names in tops)


def match(pictures: Sequence[str], files: Iterable[tuple[str, str]], *, same_folder: bool) -> Matches:
    """Which files belong to which of one folder's pictures, by their names; files: (name, folder).

    A file belongs to the picture of the longest stem that its name begins with, up to a dot, or up to another separator
    where what follows says that it is a label; or to that of the same name without such words (mask_6.png of 6.jpg).
    same_folder: in the pictures' own folder, where pictures are labels only if their names say so.
    """
    roles = ("label", "picture") if not same_folder else ("picture",)
    stems = _grouped(pictures, stem_of)
    photos = [name for name in pictures if core_of(stem_of(name)).role in roles]
    cores = _grouped(photos, lambda name: core_of(stem_of(name)).base)
    matches = Matches()
    for name, folder in files:
        is_picture = name.lower().endswith(ALL_PICTURE_SUFFIXES)
        if same_folder and is_picture and core_of(stem_of(name)).role != "label":
            continue
        placed = _placed(name, stems, cores, same_folder=same_folder, is_picture=is_picture)
        if placed is None or (same_folder and placed[0] == [name]):
            continue
        owners, before, after, base = placed
        for owner in owners:
            if same_folder and owner == name:
                continue
            if base is not None:
                core = core_of(stem_of(owner))
                matches.shapes[owner] = (core.before, core.base, core.after)
            sidecars = matches.sidecars.setdefault(owner, {})
            sidecars[_free(_key(before, after), sidecars)] = Match(join(folder, name), before, after)
            matches.taken.add(join(folder, name))
    labels = {PurePosixPath(path).name for path in matches.taken} if same_folder else set()
    for name in labels & matches.sidecars.keys():  # a picture that is another's label has none of its own
        del matches.sidecars[name]
    return matches


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups


def _placed(
    name: str, stems: Mapping[str, list[str]], cores: Mapping[str, list[str]], *, same_folder: bool, is_picture: bool
) -> tuple[list[str], str, str, str | None] | None:
    """(pictures, text before their base, text after it, the base where it is not their stem) for a label's name."""
    own = stem_of(name)
    if own == name in stems and not same_folder:  # Stanford Dogs' XML
        return stems[name], "", "", None
    for at in range(len(name) - 1, 0, -1):
        if name[at] not in "._- " or name[:at] not in stems or len(name) - at > _LONGEST_ENDING:
            continue
        ending = name[at:]
        if name[at] == "." and is_picture and same_folder and name[:at] == own:
            continue  # the picture itself, or another of its name
        if name[at] != "." and not _is_ending(ending, same_folder=same_folder, is_picture=is_picture):
            continue
        owners = stems[name[:at]]
        exact = [owner for owner in owners if name.startswith(f"{owner}.")]
        if exact:  # 1.jpg.json
            return exact, "", "*" + name[len(exact[0]) :], None
        return owners, "", ending, None
    core = core_of(own)
    suffix = name[len(own) :]
    if core.role == "label" and core.base in stems:
        return stems[core.base], core.before, core.after + suffix, None
    if core.role and core.base in cores:
        return cores[core.base], core.before, core.after + suffix, core.base
    if not core.role and own in cores:  # 1.png of 1_image.jpg
        return cores[own], "", suffix, own
    base, _, word = own.rpartition("_")
    if not same_folder and not is_picture and base in cores and word.isalpha():  # 1_camera.json of 1_leftImg8bit.png
        return cores[base], "", own[len(base) :] + suffix, base
    return None


def _is_ending(ending: str, *, same_folder: bool, is_picture: bool) -> bool:
    """Whether what follows a picture's stem and is no suffix says that this is its label: _mask, and not _2."""
    parts = words_of(PurePosixPath(ending).stem if "." in ending else ending)
    if same_folder and not is_picture and parts and set(parts) <= TELLING_WORDS:
        return True
    if same_folder:
        return bool(parts) and core_of(f"x{PurePosixPath(ending).stem}").role == "label"
    return bool(parts) and not parts[0][0].isdigit()


def _key(before: str, after: str) -> str:
    """The extension that a sidecar has where it lies beside its picture: "txt", "mask.png"."""
    ending = after.lstrip("*") or ("" if before else ".xml")  # what has no suffix is XML
    if not before and ending.startswith("."):
        return ending[1:]
    stem, _, suffix = (before + ending).rpartition(".")
    parts = [word for word in re.split(r"[_\-. ]+", stem) if word]
    return ".".join(["_".join(parts), suffix] if parts else [suffix])


def _free(key: str, taken: Container[str]) -> str:
    """The key, with a number before it where another file has it."""
    return next(name for number in count(1) if (name := f"{number}.{key}" if number > 1 else key) not in taken)


def _merge(matches: Matches, more: Matches, tree: str, *, is_plain: bool) -> None:
    """Add what lies in a tree of labels; its name tells a mask from the picture: masks.png. is_plain: whether other
    files have no need for it (label_2/1.txt, beside calib/1.txt).
    """
    for picture, additions in more.sidecars.items():
        sidecars = matches.sidecars.setdefault(picture, {})
        for key, place in additions.items():
            is_unique = "." in key or (is_plain and not f".{key}".lower().endswith(ALL_PICTURE_SUFFIXES))
            with_tree = f"{_word(tree)}.{key}"
            sidecars[_free(key if is_unique and key not in sidecars else with_tree, sidecars)] = place
    matches.taken |= more.taken
    matches.shapes |= {picture: shape for picture, shape in more.shapes.items() if picture not in matches.shapes}


def _word(tree: str) -> str:
    """A folder's name as a part of an extension."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", tree)[:40] or "label"


def split_in(name: str) -> tuple[str, str] | None:
    """("train", "") of train, ("train", "seg") of seg_train, ("train", "A") of trainA, ("train", "") of train2017."""
    pieces = [piece for piece in re.split(r"[_\-. ]+|(?<=[a-z])(?=[A-Z0-9])|(?<=[0-9])(?=[A-Za-z])", name) if piece]
    places = [at for at, piece in enumerate(pieces) if piece.lower() in SPLITS]
    if not places:
        fold = re.search(r"(?i)(?<![a-z])fold[_\-. ]?\d+", name)
        return (fold[0], "") if fold else None
    at = places[-1] if len(places) == 1 or pieces[places[0]].lower() not in _TRAIN else places[0]
    ignored = _IMAGE_FOLDERS | {"set", "split", "folder", "dir", "dataset"}
    rest = [piece for number, piece in enumerate(pieces) if number != at]
    rest = [piece for piece in rest if not piece.isdigit() and piece.lower() not in ignored]
    return pieces[at], "_".join(rest)


def split_of_file(name: str) -> str | None:
    """The split that the first or last word of a file's name is: train_1.jpg, 1_test.jpg."""
    words = re.split(r"[_\-. ]+", stem_of(name))
    return next((word for word in (words[0], words[-1]) if word.lower() in SPLITS), None)


def _of_other_splits(labels: Sequence[str], pictures: Sequence[str]) -> bool:
    """Whether folders' names say that labels are of one split, and pictures of another (test_gt, training_images)."""
    kinds = []
    for parts in (labels, pictures):
        splits = [split[0].lower() for part in parts if (split := split_in(part)) is not None]
        kinds.append({"train" if split in _TRAIN else split[:2] for split in splits})
    return bool(kinds[0] and kinds[1] and not kinds[0] & kinds[1])


def splits_in(names: Sequence[str]) -> dict[str, str | None]:
    """The split of each name. Where several say none, it is the words in which they differ ("a", "b" of x-a-000 and
    x-b-001), so that what somebody kept apart stays apart.
    """
    parts = {name: name.split("/")[::-1] for name in names}  # the last one, and then those above
    splits = {name: next((split[0] for part in parts[name] if (split := split_in(part))), None) for name in names}
    words = {name: tuple(re.findall(r"[^\W\d_]+", name)) for name, split in splits.items() if split is None}
    families = set(words.values())
    if 1 < len(families) <= _MOST_WORDS:
        shared = set.intersection(*map(set, families))
        splits |= {name: "-".join(word for word in own if word not in shared) or None for name, own in words.items()}
    return splits


def _replaced(parts: tuple[str, ...], old: tuple[str, ...], new: tuple[str, ...]) -> set[str]:
    """All paths in which one stretch is another; where the old one is empty, the new one is put in somewhere."""
    width = len(old)
    return {
        "/".join([*parts[:at], *new, *parts[at + width :]])
        for at in range(len(parts) - width + 1)
        if parts[at : at + width] == old
    }


def stem_of(name: str) -> str:
    """A file's name without its suffix, as pathlib has it."""
    at = name.rfind(".")
    return name[:at] if 0 < at < len(name) - 1 else name


def is_folder(item: "os.DirEntry[str]") -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link to itself, say; the file's row will tell
        return False
