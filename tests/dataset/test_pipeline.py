"""The network works while results are read, encoded and written."""

import threading

import torch
import torchless
from PIL import Image

from gan_style.dataset.loading import Loader
from gan_style.dataset.pipeline import Batching, Gate, Pipeline
from gan_style.dataset.sampling import ChoiceSampler


def test_the_network_has_one_thread_which_is_not_that_of_who_takes_the_results(source, tmp_path):
    source.mkdir()
    for number in range(6):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(source / f"{number}.png")
    plan, root = torchless.make_plan(str(source), tmp_path / "out", shard_size=6)
    threads = []

    class Stylizer:
        name, sha256 = "same", "0"

        def __call__(self, content, *, tiled=False):
            threads.append(threading.get_ident())
            return lambda strengths: content

    loader, sampler = Loader(root, 16_000_000, None, keep_color=True), ChoiceSampler(0, [1.0], (1.0, 1.0), 0.0)
    scheme, batching, device = torchless.scheme_of(plan), Batching(2, 2_000_000), torch.device("cpu")
    pipeline = Pipeline(loader, sampler, [Stylizer()], scheme, batching, Gate(None, 0), None, device, {})
    results = list(pipeline(list(enumerate(plan.samples(plan.shards[0])))))

    assert sorted(result.number for result in results) == [0, 1, 2, 3, 4, 5]
    assert len(threads) == 3 and len(set(threads)) == 1 and threading.get_ident() not in threads
    assert pipeline.clock.pictures == 6
