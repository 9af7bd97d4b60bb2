"""The plan of a dataset: its inputs in fixed shards and the settings that its results follow from, written once.

A line of JSON for each input, in files that are cut by shard; plan.json, written last, says where each shard's lines
lie and what their hash is. So a worker reads the lines of its shard alone, and what is left to do is decided without
looking at any input.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from gan_style.dataset.naming import Names
from gan_style.dataset.sample import Sample
from gan_style.runtime.files import remove_leftovers, write_bytes, write_durably

FORMAT = "gan_style.dataset/1"
_FILE = "plan.json"


@dataclass(frozen=True)
class Shard:
    """A stretch of a plan's file: what one worker does in one go, whoever it is."""

    number: int
    file: str
    offset: int
    size: int
    count: int
    split: str | None
    sha256: str


@dataclass(frozen=True)
class Plan:
    """folder: where it lies; settings: all that the results follow from, by the names of their options."""

    folder: Path
    content: Mapping[str, Any]

    @property
    def settings(self) -> Mapping[str, Any]:
        return dict(self.content["settings"])

    @property
    def classes(self) -> list[str]:
        """What numbers in a .cls mean: places here; a class that its .cls itself names need not be among them."""
        return list(self.content["classes"])

    @property
    def tables(self) -> list[tuple[str, str, int]]:
        """(path in the input, path below data/, bytes) of what is written when all results have their names."""
        return [(key, name, size) for key, name, size in self.content.get("tables", ())]

    @property
    def about(self) -> str:
        """What was recognised when it was planned, for people."""
        return str(self.content.get("about", ""))

    @property
    def inputs(self) -> int:
        return sum(part["inputs"] for part in self.content["parts"])

    @cached_property
    def shards(self) -> list[Shard]:
        shards: list[Shard] = []
        for part in self.content["parts"]:
            offset = 0
            for size, count, split, sha256 in part["shards"]:
                shards.append(Shard(len(shards), part["file"], offset, size, count, split, sha256))
                offset += size
        return shards

    @cached_property
    def identity(self) -> str:
        """Of the settings; with a shard's own hash, what a record belongs to."""
        return _digest(json.dumps(self.settings, sort_keys=True).encode())

    def samples(self, shard: Shard) -> list[Sample]:
        """A shard's inputs. ValueError where the plan's file was damaged."""
        with open(self.folder / shard.file, "rb") as file:
            file.seek(shard.offset)
            lines = file.read(shard.size)
        if _digest(lines) != shard.sha256:
            raise ValueError(f"the plan {self.folder / shard.file} is damaged at shard {shard.number}")
        return [Sample.from_line(line) for line in lines.splitlines()]

    def all_samples(self) -> Iterator[Sample]:
        for shard in self.shards:
            yield from self.samples(shard)


def read_plan(folder: Path) -> Plan | None:
    """The plan of a folder, None where there is none. ValueError for one that is damaged or of another version."""
    try:
        content = json.loads((folder / _FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"the plan {folder / _FILE} is damaged ({error}); remove the output to start over") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"the plan {folder / _FILE} was not written by this version of gan_style ({FORMAT})")
    if content.get("sum") != _sum(content):
        raise ValueError(f"the plan {folder / _FILE} is damaged; remove the output to start over")
    return Plan(folder, content)


def write_plan(
    folder: Path,
    samples: Iterable[Sample],
    settings: Mapping[str, Any],
    names: Names,
    shard_size: int,
    facts: Mapping[str, Any],
    before: Plan | None = None,
    classes: Sequence[str] | None = None,
    about: Callable[[], str] = lambda: "",
) -> Plan:
    """Name the samples, cut them into shards of one split each, and write all that down; ``before`` is extended.

    facts: what is said of the inputs besides, by name; classes: names for the numbers in the inputs' own .cls files,
    None to number the samples' labels; about: asked, once all are known, what they are, in a line for people.
    """
    # What was planned before.
    parts, tables, class_names, listing = list[Any](), list[Any](), list[str](), Fingerprint()
    if before:
        parts += before.content["parts"]
        tables += before.content.get("tables", ())
        class_names += before.classes
        for sample in before.all_samples():
            listing.add(sample)

    # The samples, by shard.
    file, shards, labels = f"plan-{len(parts):03d}.jsonl", list[Any](), set[str]()

    def write(target: IO[bytes]) -> None:
        for shard in _cut(samples, shard_size):
            lines = []
            for sample in shard:
                listing.add(sample)
                if sample.label is not None:
                    labels.add(sample.label)
                named = names.give(sample)
                lines.append(named.to_line())
                if named.table and named.picture:
                    tables.append([named.key, named.name, named.picture.size])
            content = b"".join(lines)
            target.write(content)
            shards.append([len(content), len(shard), shard[0].split, _digest(content)])

    remove_leftovers(folder)
    write_durably(folder / file, write)
    content = {
        "format": FORMAT,
        "settings": dict(settings),
        "listing": listing.digest(),
        "about": about(),
        "tables": tables,
        "facts": dict(facts),
        "classes": class_names + sorted(labels - set(class_names)) if classes is None else list(classes),
        "parts": [*parts, {"file": file, "inputs": sum(shard[1] for shard in shards), "shards": shards}],
    }
    content["sum"] = _sum(content)
    write_bytes(folder / _FILE, json.dumps(content).encode())
    return Plan(folder, content)


def _cut(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """Shards of one split each, also where splits take turns."""
    begun: dict[str | None, list[Sample]] = {}
    for sample in samples:
        shard = begun.setdefault(sample.split, [])
        shard.append(sample)
        if len(shard) == size:
            yield begun.pop(sample.split)
    yield from begun.values()


class Fingerprint:
    """What inputs there are: a hash in which neither their order nor the names of their results matter."""

    def __init__(self) -> None:
        self._sum, self.count = 0, 0

    def add(self, sample: Sample) -> None:
        line = sample.to_line(name="")
        self._sum = (self._sum + int.from_bytes(hashlib.sha256(line).digest(), "big")) % 2**256
        self.count += 1

    def digest(self) -> str:
        return f"{self._sum:064x}"


def check_settings(plan: Plan, settings: Mapping[str, Any]) -> None:
    """ValueError, naming the first that differs, unless these are the settings that the plan was made with."""
    for name in {**plan.settings, **settings}:
        old, new = plan.settings.get(name), json.loads(json.dumps(settings.get(name)))
        if old != new:
            raise ValueError(
                f"{name}={_short(new)}, but {plan.folder.parent} was begun with {name}={_short(old)}; "
                f"give the same, or another output"
            )


def check_facts(plan: Plan, facts: Mapping[str, Any]) -> None:
    """ValueError, naming it, for anything that is said of the inputs otherwise than when they were planned."""
    for name, old in plan.content["facts"].items():
        if facts.get(name) != old:
            raise ValueError(f"input: its {name} changed since {plan.folder.parent} was planned; choose another output")


def check_listing(plan: Plan, samples: Callable[[], Iterable[Sample]]) -> None:
    """ValueError, saying what differs, unless the inputs are those that were planned. Looks at all of them."""
    listing = Fingerprint()
    for sample in samples():
        listing.add(sample)
    if listing.digest() != plan.content["listing"]:
        new, changed, gone = differences(plan, samples())
        extend = ", or give extend=true to append the new ones" if new and not changed and not gone else ""
        raise ValueError(
            f"input: differs from what {plan.folder.parent} was planned with: {_examples(new, 'new')}, "
            f"{_examples(changed, 'changed')}, {_examples(gone, 'gone')}; restore it, choose another output{extend}"
        )


def new_samples(plan: Plan, samples: Iterable[Sample]) -> list[Sample]:
    """Those that are not planned yet. ValueError where a planned one has changed or gone."""
    new, changed, gone = differences(plan, samples)
    if changed or gone:
        raise ValueError(
            f"extend=true: {_examples([*changed], 'changed')} and {_examples(gone, 'gone')} of the inputs that "
            f"{plan.folder.parent} was planned with; only new ones can be appended"
        )
    return new


def differences(plan: Plan, samples: Iterable[Sample]) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """(new, changed, gone) of the inputs now against those of the plan."""
    old = {sample.key: replace(sample, name="") for sample in plan.all_samples()}
    new, changed = [], []
    for sample in samples:
        known = old.pop(sample.key, None)
        if known is None:
            new.append(sample)
        elif known != Sample.from_line(sample.to_line(name="")):
            changed.append(sample)
    return new, changed, list(old.values())


def _examples(samples: list[Sample], how: str) -> str:
    return f"{len(samples)} {how}" + (f" ({samples[0].key}{', ...' if len(samples) > 1 else ''})" if samples else "")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 200 else f"{text[:200]}..."


def _sum(content: Mapping[str, Any]) -> str:
    return _digest(json.dumps({key: value for key, value in content.items() if key != "sum"}).encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
