"""A dataset made from in/ to out/ with a stand-in for the network."""

import json
import os
from pathlib import Path

import pytest
import torch
import torchless
from samples import files, photos, text

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


@pytest.fixture
def make_with_files(source, make, data):
    """make_with_files("a.jpg b.jpg", {name: content}, copies=2): what such files beside photos hold in the dataset.

    A content that is no text is JSON, and comes back parsed.
    """

    def call(pictures: str, contents: dict, layout: str = "folder", **options) -> dict:
        photos(source, pictures)
        for name, content in contents.items():
            text(source / name, content)
        make(layout, **options)
        parse = {name: str if isinstance(content, str) else json.loads for name, content in contents.items()}
        return {name: parse[name]((data / name).read_text()) for name in contents}

    return call


@pytest.fixture
def planned(source, tmp_path, monkeypatch):
    """The plan of 36 files in three class folders, in shards of three, and their root."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # jobs import what they unpickle
    for number in range(36):
        text(source / f"class {number % 3}" / f"{number:03d}.jpg", chr(number) * 500)
    return torchless.make_plan(str(source), tmp_path / "out", shard_size=3)


@pytest.fixture
def check_whole(planned, source, tmp_path):
    """Merge what workers have left, and compare it with what one process makes."""

    def check() -> None:
        for output in ("out", "whole"):
            torchless.make(str(source), tmp_path / output, shard_size=3)
        made = {name: data for name, data in files(tmp_path / "out").items() if "/slurm/" not in name}  # jobs' logs
        assert made == files(tmp_path / "whole")

    return check
