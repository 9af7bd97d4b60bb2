"""A dataset made from in/ to out/ with a stand-in for the network."""

from pathlib import Path

import pytest
import torch
import torchless

from gan_style.dataset.loading import Loader
from gan_style.dataset.manifest import read_manifest
from gan_style.dataset.pipeline import Batching, Gate, Pipeline
from gan_style.dataset.sampling import ChoiceSampler
from gan_style.dataset.verify import Verify


class Negative:
    """A stylizer without torch's weights: the photo's negative."""

    name, sha256 = "negative", "0"

    def __call__(self, content: torch.Tensor, *, tiled: bool = False):
        return lambda strengths: -content


@pytest.fixture
def make(tmp_path, monkeypatch):
    """make(layout, copies=..., suffix=..., size=...): the rows of what is in in/; verify-dataset finds it right."""

    def call(layout: str = "folder", *, output: str = "out", spec: str = "in", size: int | None = None, **more):
        def pipeline(root, scheme, pause):
            loader, sampler = Loader(root, 16_000_000, size, keep_color=True), ChoiceSampler(0, [1.0], (1.0, 1.0), 0.0)
            batching, gate, device = Batching(4, 2_000_000), Gate(None, 0), torch.device("cpu")
            return Pipeline(loader, sampler, [Negative()], scheme, batching, gate, None, device, {})

        with monkeypatch.context() as patch:
            patch.setattr(torchless, "Backwards", pipeline)
            merge = torchless.make(str(tmp_path / spec), tmp_path / output, layout, shard_size=3, **more)
        root = tmp_path / spec
        assert [str(difference) for difference in Verify(merge.records, root if root.is_dir() else None)()] == []
        return list(read_manifest(tmp_path / output))

    return call


@pytest.fixture
def data(tmp_path) -> Path:
    return tmp_path / "out" / "data"


@pytest.fixture
def source(tmp_path) -> Path:
    return tmp_path / "in"
