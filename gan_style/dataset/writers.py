"""Where a shard's files go: a tree of folders (COCO's too), or one archive. Nothing is at its name before commit."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import IO, Any

from gan_style.dataset.naming import Scheme
from gan_style.dataset.plan import Shard
from gan_style.dataset.sample import Sample
from gan_style.runtime.files import AtomicFileGroup

Archive = tuple[str, int, str]  # path below data/, bytes, sha256
Files = Mapping[str, bytes]  # extension, with its dot, to content


@dataclass(frozen=True)
class Destination:
    """kind: folder, webdataset or coco; data: the folder that all is written below."""

    kind: str
    data: Path
    scheme: Scheme

    def shard_files(self, shard: Shard) -> "ShardFiles":
        """Archives are called 000012.tar, train-000012.tar: of one split each, as WebDataset's readers expect."""
        name = f"{shard.split}-{shard.number:06d}.tar" if shard.split else f"{shard.number:06d}.tar"
        return ShardFiles(self.data, self.scheme, name if self.kind == "webdataset" else None)


@dataclass(frozen=True)
class ShardFiles:
    """The files of one shard. data: the folder that outputs are named from; archive: its path below, if any."""

    data: Path
    scheme: Scheme
    archive: str | None

    def path(self, sample: Sample, copy: int, extension: str) -> str:
        """The manifest's name for a file: its path below data/, for a member behind that of its archive."""
        name = self.scheme.path(sample, copy, extension)
        return f"{self.archive}#{name}" if self.archive else name

    def writer(self, token: str) -> "FolderWriter":
        files = AtomicFileGroup(token)
        if self.archive is None:
            return FolderWriter(files, self.data, self.scheme)
        return TarWriter(files, self.data, self.scheme, self.archive)

    def remove_leftovers(self, samples: Sequence[Sample], tokens: Sequence[str]) -> None:
        """Remove the temporary files that dead writers of this shard left."""
        if not tokens:
            return  # nearly always; the paths of all files take longer to make
        paths = [self.archive] if self.archive else []
        for sample, copy in product(samples, range(self.scheme.copies)) if not self.archive else ():
            paths += [self.scheme.path(sample, copy, extension) for extension in self.scheme.extensions(sample)]
        for token in tokens:
            AtomicFileGroup.remove(token, [self.data / path for path in paths])

    def expected(self, sample: Sample, row: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
        """A row's files by extension, the picture first: (name, sha256)."""
        if row["output"] is None or row["output_sha256"] is None:
            return {}
        name = row["output"].partition("#")[2] if self.archive else row["output"]
        first = "" if sample.passthrough else self.scheme.picture_suffix(sample)
        sums = json.loads(row["sidecars"] or "{}")
        return {first: (name, row["output_sha256"])} | {
            extension: (self.scheme.path(sample, row["copy"], extension), sha256) for extension, sha256 in sums.items()
        }

    def files(self, sample: Sample, row: Mapping[str, Any]) -> dict[str, bytes] | None:
        """A row's files by extension; None unless all are what they were when they were written."""
        files = {}
        for extension, (name, sha256) in self.expected(sample, row).items():
            content = self.read(name)
            if content is None or hashlib.sha256(content).hexdigest() != sha256:
                return None
            files[extension] = content
        return files

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
        members: dict[str, tuple[int, int]] = {}
        if self.archive is not None and (self.data / self.archive).is_file():
            try:
                with tarfile.open(self.data / self.archive, "r:") as tar:
                    for member in tar:
                        members[member.name] = (member.offset_data, member.size)
            except (tarfile.TarError, OSError, ValueError):
                pass
        return members


class FolderWriter:
    """One shard's files, each by itself, below data/."""

    def __init__(self, files: AtomicFileGroup, data: Path, scheme: Scheme) -> None:
        self.files, self.data, self.scheme = files, data, scheme

    def add(self, sample: Sample, copy: int, files: Files) -> None:
        """Take the files of one copy of a sample, in the plan's order."""
        for extension, content in files.items():
            self.files.write(self.data / self.scheme.path(sample, copy, extension), content)

    def commit(self) -> list[Archive]:
        """Put everything at its final name, for good; return the archives that were written."""
        self.files.commit()
        return []

    def discard(self) -> None:
        """Remove what was not committed."""
        self.files.discard()


class TarWriter(FolderWriter):
    """One archive whose bytes follow from its members alone: in the plan's order, mtime 0, owned by root."""

    def __init__(self, files: AtomicFileGroup, data: Path, scheme: Scheme, name: str) -> None:
        super().__init__(files, data, scheme)
        self.name = name
        self._file: _Hashed | None = None
        self._tar: tarfile.TarFile | None = None

    def add(self, sample: Sample, copy: int, files: Files) -> None:
        if self._tar is None:
            self._file = _Hashed(self.files.open(self.data / self.name))
            self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)  # type: ignore[arg-type]
        for extension, content in sorted(files.items()):
            member = tarfile.TarInfo(self.scheme.path(sample, copy, extension))
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))

    def commit(self) -> list[Archive]:
        if self._tar is None or self._file is None:
            return []
        self._tar.close()
        self._file.close()
        self.files.commit()
        return [(self.name, self._file.size, self._file.hash.hexdigest())]

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()
        self.files.discard()


class _Hashed:
    """A file that knows the sha256 of what was written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.size, self.hash = file, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.size += len(data)
        return self.file.write(data)

    def tell(self) -> int:
        return self.size

    def close(self) -> None:
        self.file.close()
