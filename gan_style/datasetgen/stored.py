"""What lies in an output, read back."""

import hashlib
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gan_style.datasetgen.entries import Entry
from gan_style.datasetgen.names import Scheme


@dataclass(frozen=True)
class Stored:
    """The files of one shard. data: the folder that outputs are named from; archive: its path below, if any."""

    data: Path
    scheme: Scheme
    archive: str | None

    def expected(self, entry: Entry, row: Mapping[str, Any]) -> dict[str, str]:
        """The names of a row's files, to their sha256: the picture first."""
        if row["output"] is None:
            return {}
        stem = self.scheme.stem(entry, row["copy"])
        name = row["output"].partition("#")[2] if self.archive else row["output"]
        sums = json.loads(row["sidecars"] or "{}")
        return {name: row["output_sha256"]} | {stem + extension: sha256 for extension, sha256 in sums.items()}

    def files(self, entry: Entry, row: Mapping[str, Any]) -> dict[str, bytes] | None:
        """A row's files by extension; None unless all are what they were when they were written."""
        stem, found = self.scheme.stem(entry, row["copy"]), {}
        for name, sha256 in self.expected(entry, row).items():
            content = self.read(name)
            if content is None or hashlib.sha256(content).hexdigest() != sha256:
                return None
            found[name.removeprefix(stem)] = content
        return found

    def read(self, name: str) -> bytes | None:
        """A file's content, None where there is none to be read."""
        try:
            if self.archive is None:
                return (self.data / name).read_bytes()
            offset, size = self.members[name]
            with open(self.data / self.archive, "rb") as file:
                file.seek(offset)
                return file.read(size)
        except (OSError, KeyError):
            return None

    @cached_property
    def members(self) -> dict[str, tuple[int, int]]:
        """(offset, size) of the archive's members by name; as many as can be read where it is damaged."""
        found: dict[str, tuple[int, int]] = {}
        if self.archive is not None and (self.data / self.archive).is_file():
            try:
                with tarfile.open(self.data / self.archive, "r:") as tar:
                    for member in tar:
                        found[member.name] = (member.offset_data, member.size)
            except (tarfile.TarError, OSError, ValueError):
                pass
        return found
