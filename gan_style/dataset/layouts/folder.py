"""A folder tree of pictures, of any depth: the class is the folder that a picture lies in, below its split if any.

What belongs to a picture, be it beside it or in a tree of its own, is found by layouts/tree.py; what files say of many
pictures (metadata.jsonl, _annotations.csv, data.yaml) by layouts/tables.py.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from gan_style.dataset.layouts.masks import is_label_folder
from gan_style.dataset.layouts.statements import Statements, read_statements
from gan_style.dataset.layouts.tables import OPAQUE_SUFFIXES, TABLE_SUFFIXES, check_scaling
from gan_style.dataset.layouts.tree import Match, Matches, Tree, split_of_file, stem_of
from gan_style.dataset.sample import (
    ALL_PICTURE_SUFFIXES,
    NO_HOME,
    OTHER_PICTURE_SUFFIXES,
    PICTURE_SUFFIXES,
    Layout,
    Location,
    Sample,
    join,
    printable,
    some,
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CLASSLESS = ("yolo", "voc", "labelme", "cityscapes", "davis")  # layouts whose folders are no classes


class FolderLayout(Layout):
    """root: the folder; kind: the layout's name; carry: patterns of pictures that are copied and never stylized; made:
    the output's layout; names: of the classes by number, for YOLO.

    Hidden files and folders are passed over, and so is what systems leave behind.
    """

    def __init__(
        self,
        root: Path,
        carry: Sequence[str] = (),
        *,
        kind: str = "folder",
        target: str = "folder",
        names: Sequence[str] = (),
    ) -> None:
        self.root, self.kind, self.made, self.names = root, kind, target, names
        self.tree = Tree(root, carry, pairs=kind not in ("folder", "classes"))

    def check_scaling(self) -> None:
        check_scaling(self.tree)

    def doubts(self) -> list[str]:
        hidden = sorted(self.tree.passed_over)
        doubts = [f"{len(hidden)} hidden passed over ({some(hidden)})"] if hidden else []
        return doubts + [
            f"not sure whether {second}/ holds what the pictures in {first}/ are to become: both are stylized, and "
            f"carry=['{second}/*'] copies one"
            for first, second in self.tree.doubtful_pairs()[:3]
        ]

    def samples(self) -> Iterator[Sample]:
        """Sorted by the parts of their paths."""
        yield from self._folder("", frozenset())

    @cached_property
    def _statements(self) -> Statements:
        """What tables say of single pictures."""
        return read_statements(self.tree)

    def _folder(self, path: str, above: frozenset[tuple[int, int]]) -> Iterator[Sample]:
        try:
            listing = self.tree.listing(path)
        except OSError as error:
            if not path:
                raise
            yield Sample(path, path, problem=("unreadable", f"this folder cannot be listed: {error.strerror or error}"))
            return
        if listing.identity in above:
            yield Sample(path, path, problem=("link loop", "this folder links to one that it lies in"))
            return
        split, parts = self.tree.split_and_label(path)
        label = None
        if parts and self.kind not in _CLASSLESS:  # a class is a line of classes.txt
            label = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", printable("/".join(parts)))
        owners = [owner for owner in self.tree.picture_folders_of(path) if not self.tree.is_label_path(owner)]
        orphaned = not owners and self._are_orphaned_masks(path)
        matches = Matches() if owners else self.tree.matches(path)
        taken = matches.taken.union(*(self.tree.matches(owner).taken for owner in owners))
        for name in sorted([*listing.folders, *listing.files]):
            full = join(path, name)
            if name not in listing.files:
                yield from self._folder(full, above | {listing.identity})
            elif full in taken and not self._says_the_class(name, label):
                continue
            elif self.tree.is_picture(full) and not self.tree.is_carried(full) and not owners and not orphaned:
                by_name = split is None and self.tree.names_say_splits(path) and full not in self._statements.splits
                file_split = split_of_file(name) if by_name else split
                yield self._picture(full, file_split, label, matches.sidecars.get(name, {}), matches.shapes.get(name))
            else:
                yield self._other(full, split, label, is_mask=orphaned)

    def _are_orphaned_masks(self, path: str) -> bool:
        """Whether a folder holds masks, though no pictures are called as they are: one that is called as labels are, or
        as a picture beside it is (ADE20K's instances).
        """
        above, _, own = path.rpartition("/")
        of_picture = path and any(PurePosixPath(name).stem == own for name in self.tree.try_listing(above).files)
        if not (of_picture or any(map(is_label_folder, path.split("/")))):
            return False
        names = [name for name in self.tree.listing(path).files if name.lower().endswith(ALL_PICTURE_SUFFIXES)][:5]
        return bool(names) and all(self.tree.looks_like_mask(join(path, name)) for name in names)

    def _says_the_class(self, name: str, label: str | None) -> bool:
        """A .cls in the folder of a class, where each result gets one that says the folder's."""
        return self.made == "webdataset" and label is not None and PurePosixPath(name).suffix.lower() == ".cls"

    def _picture(
        self,
        path: str,
        split: str | None,
        label: str | None,
        matches: Mapping[str, Match],
        shape: tuple[str, str, str] | None,
    ) -> Sample:
        folder, _, name = path.rpartition("/")
        size, problem = self.tree.size_of(path)
        before, base, after = shape or ("", stem_of(name), "")
        sidecars: dict[str, Location] = {}
        paths: dict[str, tuple[str, str, str]] = {"": (folder, before, after)} if shape else {}
        for extension, place in matches.items():
            if extension == "cls" and self._says_the_class("1.cls", label):
                continue
            sidecar_size, error = self.tree.size_of(place.path)
            problem = problem or (error and (error[0], f"its .{extension}: {error[1]}"))
            sidecars[extension] = Location(place.path, sidecar_size)
            where = place.path.rpartition("/")[0], place.before, place.after
            if shape or where != (folder, "", f".{extension}"):
                paths[extension] = where
        if problem is not None:
            return Sample(path, path, split=split, problem=problem)
        sample = Sample(path, join(folder, base), Location(path, size), split, label, sidecars, paths=paths)
        return self._statements.applied(sample, inline=self.made != "folder")

    def _other(self, path: str, split: str | None, label: str | None, *, is_mask: bool) -> Sample:
        """A file that belongs to no picture, or a picture that is not stylized. is_mask: its folder's pictures are."""
        sample, suffix = Sample(path, path, split=split), PurePosixPath(path).suffix.lower()
        size, problem = self.tree.size_of(path)
        is_mask = suffix in PICTURE_SUFFIXES or (is_mask and suffix in OTHER_PICTURE_SUFFIXES)
        if problem is None and not is_mask and not self.tree.is_carried(path):
            if suffix in OTHER_PICTURE_SUFFIXES:
                problem = ("unsupported kind", f"{suffix} pictures are not read")
            elif self.tree.holds_picture(path):
                why = "a picture, by its bytes, whose name does not end as those of pictures do"
                problem = ("unsupported kind", why)
        if problem is None and self.made == "webdataset":
            problem = NO_HOME
            if self._says_the_class(path, label):
                problem = ("no home", "the folder says the class")
            elif is_mask:
                problem = ("labels", "no picture is called as this mask is, and samples have no other place for it")
            elif path in self._statements.read:
                problem = ("no home", "what it says of each picture goes with that picture")
        if problem is not None:
            return replace(sample, problem=problem)
        most = 1_000_000_000 if suffix in (*TABLE_SUFFIXES, *OPAQUE_SUFFIXES) else 10_000_000
        table = size < most and suffix not in ALL_PICTURE_SUFFIXES
        return replace(sample, picture=Location(path, size), passthrough=True, table=table)
