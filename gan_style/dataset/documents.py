"""What a dataset says of itself beside its pictures: classes.txt, COCO's annotation files, lists and tables with the
names of the results. All follow from the plan and the manifest's rows, and can be written again at any time.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_style.dataset.journal import DATA, Records, Row, factors_of
from gan_style.dataset.layouts.coco import CocoLayout, from_classes, from_tables
from gan_style.dataset.layouts.tables import Index, Output, rewritten
from gan_style.dataset.naming import Scheme
from gan_style.dataset.sample import Layout, Location, Sample
from gan_style.dataset.worker import copies_of
from gan_style.runtime.files import ensure_folder, write_bytes

CLASSES = "classes.txt"
_LISTED = "documents.json"  # in the state folder: their hashes


@dataclass(frozen=True)
class Documents:
    """layout: of the input; kind: of the output; rows: of all shards; warn: is told what cannot be mended."""

    layout: Layout
    kind: str
    scheme: Scheme
    records: Records
    rows: Callable[[], Iterator[Row]]
    warn: Callable[[str], object]

    def write(self) -> None:
        """Write them all, and then what their hashes are."""
        hashes = {}
        for path, content in self._contents():
            ensure_folder((self.records.output / DATA / path).parent)
            write_bytes(self.records.output / DATA / path, content)
            hashes[path] = hashlib.sha256(content).hexdigest()
        write_bytes(self.records.state / _LISTED, json.dumps(hashes, indent=1).encode())

    def _contents(self) -> Iterator[tuple[str, bytes]]:
        classes = self.records.plan.classes
        if self.kind == "webdataset" and classes:
            yield CLASSES, "".join(f"{name}\n" for name in classes).encode()
        if self.kind == "coco" and isinstance(self.layout, CocoLayout):
            yield from from_tables(self.layout.tables, self.rows(), self.scheme.copies).items()
        elif self.kind == "coco":
            yield from from_classes(self.records.output, self.rows(), classes, self.layout.names, self.warn).items()
        if self.records.plan.tables:
            index = self._index()
            for key, _, size in self.records.plan.tables:
                if key.lower().endswith(".txt"):
                    index.add_numbers(key, Location(key, size).read(self.layout.root))
            for key, name, size in self.records.plan.tables:
                content = Location(key, size).read(self.layout.root)
                yield name, rewritten(key, content, index, self.layout.root, self.warn)

    def _index(self) -> Index:
        """The results of each file that a table may name."""
        files: dict[str, list[Output]] = {}
        labels: set[str] = set()
        for sample, row in self._results():
            own = files.setdefault(sample.key, [])
            places = {ext: place.path for ext, place in sample.sidecars.items()}
            for path in places.values():
                files.setdefault(path, [])
                labels.add(path)
            if row["output"] is None:
                continue
            factors = factors_of(row)
            own.append(Output(row["output"], factors))
            for extension, path in places.items():
                files[path].append(Output(self.scheme.path(sample, row["copy"], f".{extension}"), factors))
        return Index(files, labels)

    def _results(self) -> Iterator[tuple[Sample, Row]]:
        plan = self.records.plan
        samples = (sample for sample in plan.all_samples() for _ in range(copies_of(sample, self.scheme.copies)))
        yield from zip(samples, self.rows(), strict=True)


def listed(state: Path) -> dict[str, str] | None:
    """The hashes of a dataset's documents by path; None where they are not known."""
    try:
        content: Any = json.loads((state / _LISTED).read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
