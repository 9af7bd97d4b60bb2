"""A training run's pictures: the sets, who decodes them, and the batches."""

import multiprocessing
import os
from collections.abc import Iterable
from functools import partial

from gan_style.commands.train_parts import Setup
from gan_style.config import plain
from gan_style.data.sets import Pictures, open_pictures
from gan_style.data.stream import Batch, Crop, PairStream, Positions, batches
from gan_style.runtime.machine import cores
from gan_style.runtime.signals import die_with

_HELD_OUT_STYLES = 4  # style pictures, of which a generator is shown some that it has not seen


def open_sets(setup: Setup) -> Pictures:
    """Find, split and (where they fit the cache) decode the pictures."""
    data = plain(setup.cfg.data)
    data["style_resize"] = data["style_resize"] or data["resize"]
    names = ("content", "style", "holdout", "holdout_count", "resize", "style_resize", "cache_mb", "max_unreadable")
    count = data["style_holdout_count"]
    held_out = (_HELD_OUT_STYLES if count is None else count) if setup.by_reference else None
    return open_pictures(**{name: data[name] for name in names}, style_holdout_count=held_out)


def workers(setup: Setup, pictures: Pictures) -> int:
    """How many processes decode and crop."""
    if setup.cfg.data.workers is not None:
        return int(setup.cfg.data.workers)
    on_this_node = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return 0 if pictures.in_memory else max(1, min(8, cores() // on_this_node))


def make_batches(setup: Setup, pictures: Pictures, first_step: int) -> Iterable[Batch]:
    """The batches from ``first_step`` to the last."""
    data, training = setup.cfg.data, setup.cfg.training
    stream = PairStream(
        pictures.content,
        list(pictures.styles.values()),
        content_crop=Crop(data.size, tuple(data.resize), data.flip),
        style_crop=Crop(data.size, tuple(data.style_resize or data.resize), data.flip),
        seed=training.seed,
        full_strength=data.full_strength if setup.styles or setup.by_reference else None,
    )
    positions = Positions(
        first_step=first_step,
        last_step=training.steps,
        batch=training.batch,
        rank=setup.ranks.rank,
        ranks=setup.ranks.count,
    )
    pinned = setup.device.type == "cuda"
    # where a server starts the workers it is their parent, and torch watches alone
    begin = partial(die_with, os.getpid()) if multiprocessing.get_start_method() == "fork" else None
    count = workers(setup, pictures)
    return batches(stream, positions, workers=count, pin_memory=pinned, begin=begin)  # type: ignore[return-value]
