"""The endless stream of training pairs: every draw follows from (seed, position), not from workers or restarts."""

import random
import signal
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from gan_style.data.pictures import MaskedPictures, PairedPictures, PictureSet
from gan_style.images.formats import UnreadablePictureError

_PATIENCE = 100  # unreadable pictures in a row before a draw gives up
_TIMEOUT = 2.0  # seconds without a batch after which it is looked whether somebody asks to stop


@dataclass
class Crop:
    """Scale the short side to a length drawn from ``resize`` (pixels), cut a square of ``size``, flip half of them.

    recolour: the share of crops whose colours are changed (``recoloured``).
    """

    size: int
    resize: tuple[int, int]
    flip: bool = True
    recolour: float = 0.0

    def __call__(self, picture: Tensor, rng: random.Random) -> Tensor:
        """Crop uint8 (C, H, W) to uint8 (C, size, size), never squashed."""
        short = rng.randint(*self.resize)
        factor = short / min(picture.shape[1:])
        height, width = (max(short, round(side * factor)) for side in picture.shape[1:])
        side = self.size / factor  # the crop, measured in the picture's own pixels
        top = rng.randint(0, height - self.size) / factor
        left = rng.randint(0, width - self.size) / factor
        cut = _cut(picture, top, left, side)
        if cut.shape[1:] != (self.size, self.size):
            cut = F.interpolate(cut[None], (self.size, self.size), mode="bilinear", antialias=True)[0]
        cut = cut.flip(-1) if self.flip and rng.random() < 0.5 else cut
        return recoloured(cut, rng) if self.recolour and rng.random() < self.recolour else cut


def recoloured(picture: Tensor, rng: random.Random) -> Tensor:
    """Exchange and mix the channels of a picture, uint8 (3, H, W), and change its contrast and its light, at random."""
    mixture = torch.eye(3)[rng.sample(range(3), 3)] * 0.7
    for row in mixture:
        shares = torch.tensor([rng.expovariate(1.0) for _ in range(3)])
        row += 0.3 * shares / shares.sum()
    values = torch.einsum("ij,jhw->ihw", mixture, picture.float())
    mean = values.mean()
    changed = (values - mean) * rng.uniform(0.6, 1.4) + mean + rng.uniform(-40.0, 40.0)
    return changed.round().clamp(0.0, 255.0).byte()


def _cut(picture: Tensor, top: float, left: float, side: float) -> Tensor:
    """Cut a square to whole pixels, so that only what is kept has to be resized."""
    length = min(max(1, round(side)), *picture.shape[1:])
    row = min(round(top), picture.shape[1] - length)
    column = min(round(left), picture.shape[2] - length)
    return picture[:, row : row + length, column : column + length]


@dataclass
class Batch:
    """content, style: uint8 (N, 3, S, S); style_index: int64 (N,), which of the style set's pictures style is cut from;
    positions: where each sample stands in the stream, which is what its random draws follow from; unreadable: (option,
    name, reason) of pictures that were passed over; condition: float32 (N, K), for a library of K styles: how much of
    each its sample is given, which is the style of the style picture beside it, at some strength; K is 1 where that
    picture is a reference; masks: uint8 (N, R, S, S), where in the content its regions are.
    """

    content: Tensor
    style: Tensor
    style_index: Tensor
    positions: list[int]
    unreadable: list[tuple[str, str, str]]
    condition: Tensor | None = None
    masks: Tensor | None = None

    def pin_memory(self) -> "Batch":
        """Pin the batch's memory; the DataLoader calls it."""
        return self._each(Tensor.pin_memory)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in self.tensors().items()}
        return replace(self, **changed)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that there are, by name; the first dimension of each is the samples'."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def split(self, count: int) -> "list[Batch]":
        """Split into ``count`` batches of equal size, in order; the first carries what was unreadable."""
        size = len(self.positions) // count
        parts = [slice(start, start + size) for start in range(0, size * count, size)]
        batches = [self._each(itemgetter(part)) for part in parts]
        return [
            replace(batch, positions=self.positions[part], unreadable=[] if part.start else self.unreadable)
            for part, batch in zip(parts, batches, strict=True)
        ]


Pair = tuple[Tensor, Tensor, int, int, list[tuple[str, str, str]], Tensor | None, Tensor | None]


class PairStream(Dataset[Pair]):
    """Position (0, 1, 2, ... without end) to a content and a style crop, and to the content's masks, if it has any.

    Each set is gone through in a new random order every epoch of its own; the style's order knows nothing of the
    content's (unpaired training), unless the content is PairedPictures, whose style pictures are cut as their photos.
    Of several styles each comes up once in as many positions, in random order.

    full_strength: None for one style alone; for a library, or references, the share of samples at strength 1; the
    others' are drawn evenly from [0, 1).
    """

    def __init__(
        self,
        content: PictureSet | PairedPictures | MaskedPictures,
        styles: Sequence[PictureSet],
        *,
        content_crop: Crop,
        style_crop: Crop,
        seed: int,
        full_strength: float | None = None,
    ) -> None:
        self.content, self.styles = content, list(styles)
        self.crops = {"content": content_crop, "style": style_crop}
        self.seed, self.full_strength = seed, full_strength

    def __getitem__(self, position: int) -> Pair:
        problems: list[tuple[str, str, str]] = []
        content, number = self._draw("content", self.content, position, position, problems)
        if isinstance(self.content, PairedPictures):
            return content[:3], content[3:], self.content.numbers[number], position, problems, None, None
        turn, place = divmod(position, len(self.styles))
        which = _order(self.seed, "styles", turn, len(self.styles))[place]
        style, index = self._draw("style", self.styles[which], turn, position, problems)
        index += sum(map(len, self.styles[:which]))
        masks = content[3:] if isinstance(self.content, MaskedPictures) else None
        return content[:3], style, index, position, problems, self._condition(which, position), masks

    def _condition(self, which: int, position: int) -> Tensor | None:
        if self.full_strength is None:
            return None
        rng = random.Random(f"{self.seed}/strength/{position}")
        strength = 1.0 if rng.random() < self.full_strength else rng.random()
        return torch.zeros(len(self.styles)).index_fill(0, torch.tensor(which), strength)

    def _draw(
        self,
        role: str,
        pictures: PictureSet | PairedPictures | MaskedPictures,
        turn: int,
        position: int,
        problems: list[tuple[str, str, str]],
    ) -> tuple[Tensor, int]:
        """Draw a crop, and return it with its picture's number; turn: how often the set was drawn from before."""
        rng, crop = random.Random(f"{self.seed}/{role}/{position}"), self.crops[role]
        for attempt in range(min(_PATIENCE, len(pictures))):
            epoch, place = divmod(turn, len(pictures))
            number = _order(self.seed, role, epoch, len(pictures))[(place + attempt) % len(pictures)]
            try:
                return crop(pictures[number], rng), number
            except UnreadablePictureError as error:
                problems.append((pictures.watch.option, str(pictures.paths[number]), str(error)))
        raise ValueError(f"{pictures.watch.option}: {attempt + 1} pictures in a row cannot be read: {problems[-1][2]}")


@lru_cache(maxsize=64)
def _order(seed: int, role: str, epoch: int, count: int) -> Sequence[int]:
    order = array("I", range(count))  # four bytes each: every worker of every rank keeps some of them
    random.Random(f"{seed}/{role}/epoch {epoch}").shuffle(order)
    return order


class Positions(Sampler[list[int]]):
    """Batches of positions for the steps from ``first_step`` up to ``last_step`` (excluded).

    Of each step's ``batch`` positions rank ``rank`` of ``ranks`` takes its part, so that all ranks together see what
    one would see alone.
    """

    def __init__(self, *, first_step: int, last_step: int, batch: int, rank: int = 0, ranks: int = 1) -> None:
        self.first_step, self.last_step, self.batch = first_step, last_step, batch
        self.part = batch // ranks
        self.offset = rank * self.part

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.last_step):
            start = step * self.batch + self.offset
            yield list(range(start, start + self.part))

    def __len__(self) -> int:
        return max(0, self.last_step - self.first_step)


def collate(pairs: Sequence[Pair]) -> Batch:
    """Stack pairs into a batch."""
    content, style, index, positions, problems, *others = zip(*pairs, strict=True)
    unreadable = [item for group in problems for item in group]
    pictures = (torch.stack(content), torch.stack(style), torch.tensor(index))
    condition, masks = (None if tensors[0] is None else torch.stack(tensors) for tensors in others)
    return Batch(*pictures, list(positions), unreadable, condition, masks)


def _collate_in_worker(pairs: Sequence[Pair]) -> Batch:
    """Stack pairs into a batch where the main process can read it, while an error still has a way there.

    torch would do so in a thread of the worker, whose error nobody hears of, and the main process waits for ever.
    """
    batch = collate(pairs)
    try:
        for tensor in batch.tensors().values():
            tensor.share_memory_()
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"no room for a batch in shared memory, /dev/shm ({error}): give it more (docker run --shm-size=8g), or "
            f"decode in the training process with data.workers=0"
        ) from error
    return batch


class _StalledError(Exception):
    """A batch does not come, although it is on its way or being decoded, and somebody asks to stop."""


@contextmanager
def _interrupted_if(hopeless: Callable[[], bool]) -> Iterator[None]:
    """Raise _StalledError in the block once that is so, where the system has timers, and in the main thread.

    The loader's own timeout does not help where a worker has sent a batch and stalls before it is fetched.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def look(*_: object) -> None:
        if hopeless():
            raise _StalledError

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 2 * _TIMEOUT, _TIMEOUT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _kill_workers(batches: object) -> None:
    """End the processes of a loader's iterator, which are past hearing of anything else, and would be waited for."""
    for worker in getattr(batches, "_workers", ()):
        with suppress(RuntimeError):  # torch's, that a worker was killed
            worker.kill()
            worker.join(_TIMEOUT)


def interruptible(loader: DataLoader[Pair], stopping: Callable[[], bool], patience: float) -> Iterator[Batch]:
    """Yield a loader's batches; end early where none comes for ``patience`` seconds while somebody asks to stop.

    An error of a worker is raised with its own last line, as ValueError where it has died.
    """
    batches, waiting_since = iter(loader), time.monotonic()

    def out_of_patience() -> bool:
        return stopping() and time.monotonic() - waiting_since > patience

    try:
        while True:
            try:
                with _interrupted_if(out_of_patience):
                    batch = next(batches)
            except StopIteration:
                return
            except _StalledError:
                _kill_workers(batches)
                return
            except ValueError as error:
                raise ValueError(str(error).strip().splitlines()[-1].removeprefix("ValueError: ")) from None
            except RuntimeError as error:
                if "DataLoader worker" in str(error):
                    raise ValueError(
                        f"a process that decodes pictures has died ({str(error).splitlines()[0]}): memory was short, "
                        f"or shared memory (/dev/shm; docker run --shm-size=8g); data.workers=0 needs none of it"
                    ) from error
                if "timed out after" not in str(error):
                    raise
                if out_of_patience():
                    _kill_workers(batches)
                    return
                continue
            yield batch
            waiting_since = time.monotonic()
    finally:
        # torch ends its workers when the iterator is freed. An error's traceback may keep it until the process exits,
        # which then waits for them for ever. (Without this private method only that would come back.)
        if hasattr(batches, "_shutdown_workers"):
            batches._shutdown_workers()


def _begin(then: Callable[[], None] | None, _: int) -> None:
    """Ignore a launcher's signals, which reach the whole group: without workers the run could not be saved."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2"):  # Windows has the first two
        if hasattr(signal, name):
            signal.signal(signal.Signals[name], signal.SIG_IGN)
    if then is not None:
        then()


def batches(
    stream: PairStream, positions: Positions, *, workers: int, pin_memory: bool, begin: Callable[[], None] | None = None
) -> DataLoader[Pair]:
    """Make a loader of Batch; ``begin`` is called first in each worker. A random generator of its own keeps it off
    the global one.
    """
    return DataLoader(
        stream,
        batch_sampler=positions,
        num_workers=workers,
        collate_fn=_collate_in_worker if workers else collate,
        timeout=_TIMEOUT if workers else 0,
        pin_memory=pin_memory,
        worker_init_fn=partial(_begin, begin),
        generator=torch.Generator().manual_seed(0),
    )
