"""A shard's samples to results: threads read, decode and encode (Pillow leaves the interpreter free), we feed the
network with pictures of one size.

Which pictures share a batch follows from the shard alone: sums on a batch may differ in their last bits from those on
another, and results must not depend on workers or restarts.
"""

import functools
import io
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

import torch
from torch import Tensor

from gan_style.dataset.geometry import Change
from gan_style.dataset.layouts.labels import adapted
from gan_style.dataset.loading import Loaded, Loader
from gan_style.dataset.naming import Scheme
from gan_style.dataset.networks import StrengthStylizer
from gan_style.dataset.sample import Sample, SampleError
from gan_style.dataset.sampling import Choice, ChoiceSampler
from gan_style.dataset.worker import SKIPPED, SampleResult, copies_of, passed_through
from gan_style.images.decode import encode_uint8, to_float, to_uint8
from gan_style.images.formats import check_fits, format_for
from gan_style.images.lossless import Original, lost_in, on_white, to_eight_bits, white_level, write_original
from gan_style.images.metadata import save_options
from gan_style.runtime.machine import is_shortage
from gan_style.runtime.provenance import picture_note

_NO_PAIR = SampleError("no pair", "no row of pairs=... is for it")
_MOST_PENDING_PIXELS = 32_000_000  # decoded pictures that wait for others of their size


@dataclass(frozen=True)
class Batching:
    """size: pictures in a batch; pixels: in a batch of large pictures, which has one at least."""

    size: int
    pixels: int

    def most(self, picture: Tensor) -> int:
        return max(1, min(self.size, self.pixels // (picture.shape[-1] * picture.shape[-2])))


@dataclass(frozen=True)
class Item:
    """One copy of one picture, on its way."""

    number: int
    copy: int
    sample: Sample
    loaded: Loaded
    choice: Choice

    @property
    def picture(self) -> Tensor:
        assert self.loaded.picture is not None
        return self.loaded.picture


class Groups:
    """Items of one style and size, until they are a batch."""

    def __init__(self, batching: Batching) -> None:
        self.batching = batching
        self._groups: dict[tuple[int, int, int], list[Item]] = {}  # in the order in which each was begun
        self._pixels = 0

    def add(self, item: Item) -> Iterator[list[Item]]:
        """The batches that are to be made now: a full one; the oldest ones, while too much waits."""
        _, height, width = item.picture.shape
        key = (item.choice.style, height, width)
        group = self._groups.setdefault(key, [])
        group.append(item)
        self._pixels += height * width
        if len(group) == self.batching.most(item.picture):
            yield self._take(key)
        while self._pixels > _MOST_PENDING_PIXELS:
            yield self._take(next(iter(self._groups)))

    def rest(self) -> Iterator[list[Item]]:
        while self._groups:
            yield self._take(next(iter(self._groups)))

    def _take(self, key: tuple[int, int, int]) -> list[Item]:
        group = self._groups.pop(key)
        self._pixels -= len(group) * key[1] * key[2]
        return group


Score = Callable[[Tensor, Tensor], Mapping[str, Sequence[float]]]  # (results, content) to {column: one for each}
_LARGEST_WHOLE = 4_000_000  # pixels; larger pictures are painted in tiles
_WRITTEN_AHEAD = 32  # results that may wait to be encoded


@dataclass(frozen=True)
class Gate:
    """least: the structure score that a result must reach; tries: how often strength is halved to get there."""

    least: float | None
    tries: int


@dataclass
class Result:
    """What the network made of an item: uint8 (3, H, W), or why it did not; row: columns of the manifest."""

    row: dict[str, object]
    picture: Tensor | None = None


@dataclass
class Clock:
    """Seconds that the network worked, pictures that it made."""

    busy: float = 0.0
    pictures: int = 0


@dataclass
class Pipeline:
    """encoding: options by suffix, see images.encode_uint8; threads: that read, decode and encode.

    find_regions: where in a picture, uint8 or uint16 (3, H, W), which style is wanted, with their shares of it.
    """

    loader: Loader
    sampler: ChoiceSampler
    stylizers: Sequence[StrengthStylizer]
    scheme: Scheme
    batching: Batching
    gate: Gate
    score: Score | None
    device: torch.device
    encoding: Mapping[str, Mapping[str, int]]
    threads: int = 2
    find_regions: Callable[[Sample, Tensor], tuple[Any, Mapping[str, float]]] | None = None
    clock: Clock = field(default_factory=Clock)

    def __call__(self, samples: Sequence[tuple[int, Sample]]) -> Iterator[SampleResult]:
        """All copies of all samples, in the order in which they are ready."""
        encoded: deque[Future[SampleResult]] = deque()
        with (
            ThreadPoolExecutor(self.threads, thread_name_prefix="pictures") as pool,
            ThreadPoolExecutor(1, thread_name_prefix="network") as network,
        ):
            try:
                for result in self._results(samples, pool, network):
                    encoded.append(pool.submit(result))
                    while encoded and (encoded[0].done() or len(encoded) > _WRITTEN_AHEAD):
                        yield encoded.popleft().result()
                while encoded:
                    yield encoded.popleft().result()
            finally:
                network.shutdown(wait=True, cancel_futures=True)
                pool.shutdown(wait=True, cancel_futures=True)

    def _results(
        self, samples: Sequence[tuple[int, Sample]], pool: ThreadPoolExecutor, network: ThreadPoolExecutor
    ) -> Iterator[Callable[[], SampleResult]]:
        """For each copy what remains to be done, for a thread.

        The network has a thread of its own, and works on one batch while the results before it are written.
        """
        groups, stylized = Groups(self.batching), deque[tuple[list[Item], Future[list[Result]]]]()

        def stylize(batches: Iterable[list[Item]]) -> Iterator[Callable[[], SampleResult]]:
            """Give the network batches; all but the last are waited for."""
            for batch in batches:
                stylized.append((batch, network.submit(self._stylize, batch)))
                if len(stylized) > 1:
                    yield from oldest()

        def oldest() -> Iterator[Callable[[], SampleResult]]:
            batch, results = stylized.popleft()
            for item, result in zip(batch, results.result(), strict=True):
                yield functools.partial(self._encode, item, result)

        for number, sample, loaded in self._loaded(samples, pool):
            if isinstance(loaded, SampleError):
                yield from _failures(number, loaded, range(copies_of(sample, self.scheme.copies)))
            elif sample.passthrough:
                yield functools.partial(passed_through, number, sample, loaded.sha256, loaded.raw, self.scheme)
            else:
                choices = [self.sampler.draw(sample.key, copy) for copy in range(self.scheme.copies)]
                yield from _failures(number, _NO_PAIR, [copy for copy, choice in enumerate(choices) if choice is None])
                for copy, choice in enumerate(choices):
                    if choice is None:
                        continue
                    item = Item(number, copy, sample, loaded, choice)
                    if choice.keep:
                        result = Result({"status": "ok", "strength": 0.0}, item.picture)
                        yield functools.partial(self._encode, item, result)
                    else:
                        yield from stylize(groups.add(item))
        yield from stylize(groups.rest())
        if stylized:
            yield from oldest()

    def _loaded(
        self, samples: Sequence[tuple[int, Sample]], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[int, Sample, Loaded | SampleError]]:
        """In order, some ahead of where we are."""
        ahead: deque[tuple[int, Sample, Future[Loaded | SampleError]]] = deque()
        waiting = iter(samples)
        while True:
            while len(ahead) < 2 * self.batching.size + self.threads and (following := next(waiting, None)) is not None:
                ahead.append((*following, pool.submit(self._load, following[1])))
            if not ahead:
                return
            number, sample, future = ahead.popleft()
            yield number, sample, future.result()

    def _load(self, sample: Sample) -> Loaded | SampleError:
        stylized = sample.picture is not None and sample.problem is None and not sample.passthrough
        if stylized and self.sampler.draw(sample.key, 0) is None:
            return _NO_PAIR  # without a look at it
        try:
            loaded = self.loader(sample)
            if self.find_regions is None or loaded.picture is None:
                return loaded
            regions, shares = self.find_regions(sample, loaded.picture)
            return replace(loaded, regions=regions, shares=shares)
        except SampleError as error:
            return error

    def _stylize(self, batch: Sequence[Item]) -> list[Result]:
        begun = time.perf_counter()
        results = self._results_of(batch)
        self.clock.busy += time.perf_counter() - begun
        self.clock.pictures += len(batch)
        return results

    def _results_of(self, batch: Sequence[Item], *, tiled: bool = False) -> list[Result]:
        """Where memory does not suffice, the halves of the batch; then a picture's tiles; only then it fails."""
        height, width = batch[0].picture.shape[1:]
        tiled = tiled or height * width > _LARGEST_WHOLE
        try:
            return self._network(batch, tiled=tiled)
        except (MemoryError, RuntimeError) as error:
            if not is_shortage(error):
                raise
            message = str(error).partition("\n")[0] or "no memory"
        half = len(batch) // 2  # here, where the error does not keep what filled the memory
        if half:
            return [*self._results_of(batch[:half]), *self._results_of(batch[half:])]
        return [Result(_failed("out of memory", message))] if tiled else self._results_of(batch, tiled=True)

    @torch.inference_mode()
    def _network(self, batch: Sequence[Item], *, tiled: bool) -> list[Result]:
        stylizer = self.stylizers[batch[0].choice.style]
        content = self._content(batch)
        regions = [item.loaded.regions for item in batch if item.loaded.regions is not None]
        more: dict[str, Any] = {"regions": regions} if regions else {}
        at = stylizer(content, tiled=tiled, **more)
        strengths = torch.tensor([item.choice.strength for item in batch], device=self.device)
        painted = at(strengths)
        scores, tries = self._scores(painted, content), [1] * len(batch)
        for _ in range(self.gate.tries if self.gate.least is not None else 0):
            low = self._under(scores)
            if not low:
                break
            strengths[low] /= 2
            again = at(strengths)
            painted[low] = again[low]
            scores = self._scores(painted, content)
            tries = [count + (number in low) for number, count in enumerate(tries)]
        rejected, whole = self._under(scores), painted.sum((1, 2, 3)).isfinite().tolist()
        del at, content  # which large pictures need no memory for any more
        pictures = [
            to_uint16(result) if item.picture.dtype == torch.uint16 else to_uint8(result).cpu()
            for item, result in zip(batch, painted if all(whole) else painted.nan_to_num(), strict=True)
        ]
        results = []
        for number, item in enumerate(batch):
            row: dict[str, object] = {"checkpoint": stylizer.sha256, "style": stylizer.name, "status": "ok"}
            row |= {"strength": float(strengths[number]), "tries": tries[number]}
            if shares := item.loaded.shares:  # a mask without a name is that of the style that was drawn
                named = {name or stylizer.name: round(share, 6) for name, share in shares.items()}
                row["regions"] = json.dumps(named)
            row |= {column: _number(values[number]) for column, values in scores.items()}
            if not whole[number]:
                row |= _failed("not finite", "the network's result holds numbers that are not finite")
            elif number in rejected:
                row |= {"status": "skipped", "kind": "gate"}
                row["error"] = f"structure {row['structure']} is under gate.structure_min={self.gate.least:g}"
            results.append(Result(row, pictures[number] if row["status"] == "ok" else None))
        return results

    def _content(self, batch: Sequence[Item]) -> Tensor:
        """(N, 3, H, W) in [-1, 1]."""
        if all(item.picture.dtype == torch.uint8 for item in batch):
            return to_float(torch.stack([item.picture for item in batch]).to(self.device))
        parts = [item.picture.float() / (white_level(item.picture) / 2) - 1 for item in batch]
        return torch.stack(parts).to(self.device)

    def _scores(self, results: Tensor, content: Tensor) -> Mapping[str, Sequence[float]]:
        return self.score(results, content) if self.score is not None else {}

    def _under(self, scores: Mapping[str, Sequence[float]]) -> list[int]:
        """Which results the gate does not let through; a picture too small for a score passes."""
        if self.gate.least is None:
            return []
        return [number for number, score in enumerate(scores["structure"]) if score < self.gate.least]

    def _encode(self, item: Item, result: Result) -> SampleResult:
        """Write a result as a file's bytes, with its labels."""
        row = result.row | {"source_sha256": item.loaded.sha256, "orientation": item.loaded.orientation}
        if result.picture is None:
            return SampleResult(item.number, item.copy, row)
        suffix = self.scheme.picture_suffix(item.sample)
        height, width = result.picture.shape[1:]
        name = PurePosixPath(self.scheme.path(item.sample, item.copy, suffix)).name
        try:
            if suffix in item.loaded.sidecars:
                raise SampleError("name", f"a {suffix} lies beside it already")
            row |= {"width": width, "height": height}
            row |= {"source_width": item.loaded.size[0], "source_height": item.loaded.size[1]}
            change = Change(name, item.loaded.size, (width, height), source=item.sample.file_name)
            sidecars = adapted(item.loaded.sidecars, item.loaded.labels, change)
            data, lost = self._encoded(item, result, suffix)
        except SampleError as error:
            return SampleResult(item.number, item.copy, row | _failed(error.kind, str(error)))
        except (OSError, ValueError, MemoryError) as error:  # WebP, say, ends at 16,383 pixels
            message = str(error) or type(error).__name__
            return SampleResult(item.number, item.copy, row | _failed("not encoded", message))
        lost += ["its other frames or pages (the first is stylized)"] * (item.loaded.frames > 1)
        row["lost"] = " | ".join(lost) or None
        return SampleResult(item.number, item.copy, row, {suffix: data, **sidecars})

    def _encoded(self, item: Item, result: Result, suffix: str) -> tuple[bytes, list[str]]:
        """A file's bytes, and what the source holds and they do not, in words."""
        assert result.picture is not None
        row: dict[str, Any] = result.row
        options = dict[str, Any](self.encoding.get(suffix.lower(), {}))
        note = None  # what made it; nothing where the picture was kept as it is
        if "checkpoint" in row:
            made_by = {name: row[name] for name in ("checkpoint", "style", "strength")}
            note = picture_note(**made_by, seed=self.sampler.seed, copy=item.copy)
        picture, rich_original, metadata = result.picture, item.loaded.rich_original, item.loaded.metadata
        check_fits(suffix, *picture.shape[1:])
        if rich_original is None and not item.loaded.grey:
            lost = save_options(metadata, format_for(suffix), note)[1]
            return encode_uint8(picture, suffix, note=note, metadata=metadata, **options), lost
        original = replace(rich_original or Original(picture), pixels=picture, metadata=metadata)
        lost = lost_in(original, suffix)
        kind = format_for(suffix)
        if original.alpha is not None and not kind.alpha:
            original = on_white(original)
        if item.loaded.grey:
            original = replace(original, pixels=grey_of(original.pixels))
        if original.pixels.dtype == torch.uint16 and kind.deep:
            file = io.BytesIO()
            write_original(file, suffix, original, note=note)
            return file.getvalue(), lost
        original = to_eight_bits(original)
        pixels = original.pixels
        if original.alpha is not None:
            pixels = torch.cat([pixels, original.alpha])
            options |= {"exact": True} if kind.name == "WEBP" else {}
        if original.profile and kind.profile:
            options["icc_profile"] = original.profile
        return encode_uint8(pixels, suffix, note=note, metadata=original.metadata, **options), lost


def grey_of(pixels: Tensor) -> Tensor:
    """uint8 or uint16 (1, H, W) of (3, H, W): luma, ITU-R BT.601."""
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    return (pixels.float() * weights).sum(0, keepdim=True).round().to(pixels.dtype)


def to_uint16(image: Tensor) -> Tensor:
    """Float in [-1, 1] to uint16."""
    values = image.detach().float().cpu().clamp(-1.0, 1.0).add_(1.0).mul_(32767.5).round_().to(torch.int32)
    return values.to(torch.uint16)


def _failures(number: int, error: SampleError, copies: Iterable[int]) -> Iterator[Callable[[], SampleResult]]:
    row = _failed(error.kind, str(error))
    row["status"] = "skipped" if error.kind in SKIPPED else "failed"
    yield from (functools.partial(SampleResult, number, copy, dict(row)) for copy in copies)


def _failed(kind: str, message: str) -> dict[str, object]:
    return {"status": "failed", "kind": kind, "error": message}


def _number(value: float) -> float | None:
    """None for what JSON cannot hold."""
    return round(value, 6) if value == value and abs(value) != float("inf") else None
