"""gan-style make-dataset and verify-dataset, from the command line to the dataset and back."""

import json
import os
import random
import shutil
import signal
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from generators import make_library, make_resnet, write_file
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from gan_style.commands import make_dataset, verify_dataset
from gan_style.commands.dataset_job import Job, device_of, with_absolute_paths
from gan_style.commands.make_dataset import check_make_dataset
from gan_style.config import CONFIG_PATH, plain
from gan_style.dataset.journal import Records
from gan_style.dataset.manifest import read_manifest
from gan_style.dataset.plan import Plan
from gan_style.images.decode import decode, to_float
from gan_style.images.metadata import read_note
from gan_style.models.generator import ResnetGenerator
from gan_style.models.reference import ReferenceGenerator
from gan_style.stylize.model import load_generator


@pytest.fixture(scope="session")
def generators(tmp_path_factory) -> list[Path]:
    """Two small random generators."""
    folder = tmp_path_factory.mktemp("generators")
    return [
        write_file(folder / f"style{seed}.safetensors", make_resnet(seed=seed, width=2), step=1) for seed in range(2)
    ]


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    """Three random styles in one generator."""
    generator = make_library("monet", "wave", "scream", seed=5, width=2)
    return write_file(tmp_path_factory.mktemp("library") / "library.safetensors", generator, step=1)


@dataclass
class Outcome:
    out: str
    err: str
    rows: list = field(default_factory=list)
    data: Path = Path()


def picture(path: Path, size: tuple[int, int], seed: int = 0, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size).save(path, **options)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes in two splits, with sizes that do and do not repeat, captions, and a mask."""
    for number in range(12):
        split, label = "train" if number % 4 else "val", f"class {number % 3}"
        size = (24, 17) if number % 2 else (20 + number, 31)
        picture(tmp_path / "in" / split / label / f"{number:02d}.png", size, number)
    (tmp_path / "in" / "train" / "class 1" / "01.txt").write_text("a caption")
    picture(tmp_path / "in" / "train" / "class 1" / "01.mask.png", (24, 17))
    return tmp_path / "in"


@pytest.fixture(scope="session")
def settings(generators) -> DictConfig:
    """Composed once: that takes longer than a small dataset."""
    with initialize_config_dir(str(CONFIG_PATH), version_base="1.3"):
        cfg = compose("make_dataset", [f"checkpoint={generators[0]}", "input=?", "output=?", "runtime.device=cpu"])
    return OmegaConf.merge(cfg, {"shard_size": 5, "manifest": "jsonl", "threads_per_worker": 1})


@pytest.fixture
def make(settings, photos, tmp_path, capsys):
    """make("out", "name=value", ...): the outcome, with the rows of the manifest in .rows and the folder in .data."""

    def call(output: str, *options: str, status: int = 0, **changed):
        places = {"input": str(photos), "output": str(tmp_path / output)} | changed
        cfg = OmegaConf.merge(settings, places, OmegaConf.from_dotlist(list(options)))
        outcome = ended(capsys, lambda: check_make_dataset(cfg) or make_dataset.make(plain(cfg)), status)
        outcome.rows = list(read_manifest(tmp_path / output))
        outcome.data = tmp_path / output / "data"
        return outcome

    return call


@pytest.fixture
def verify(tmp_path, capsys):
    def call(output: str, inputs: Path | None = None, *, repair: bool = False, status: int = 0):
        source = str(inputs) if inputs else None
        return ended(capsys, lambda: verify_dataset.verify(str(tmp_path / output), source, repairing=repair), status)

    return call


def ended(capsys, run, expected: int) -> Outcome:
    """What a command's main would make of it, which ends with the expected status."""
    try:
        status, refusal = run(), ""
    except (ValueError, OSError) as error:
        status, refusal = 2, str(error)
    captured = capsys.readouterr()
    assert status == expected, captured.err + refusal
    return Outcome(captured.out, captured.err + refusal)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_keeps_its_tree_sizes_captions_and_masks(make, verify, photos):
    outcome = make("out")
    before, after = tree(photos), tree(outcome.data)
    assert before.keys() == after.keys()
    sidecars = {name for name in before if name.endswith((".txt", ".mask.png"))}
    assert len(sidecars) == 2 and all(before[name] == after[name] for name in sidecars)
    for name in before.keys() - sidecars:
        assert before[name] != after[name]
        with Image.open(photos / name) as old, Image.open(outcome.data / name) as new:
            assert old.size == new.size
    assert {row["label"] for row in outcome.rows} == {"class 0", "class 1", "class 2"}
    assert {row["split"] for row in outcome.rows} == {"train", "val"}
    verify("out", photos)


def test_a_result_is_what_the_generator_makes_of_the_picture(make, generators, photos):
    outcome = make("out", "strength=0.25", "gate.structure_min=-5")
    name = "train/class 1/01.png"
    content = to_float(decode(photos / name)[None])
    with torch.inference_mode():
        result = load_generator(generators[0], torch.device("cpu"))(content)
    expected = result * 0.25 + content * 0.75
    difference = to_float(decode(outcome.data / name)[None]) - expected
    assert difference.abs().max() <= 1.01 / 255


def test_the_summary_counts_and_names(make, photos, tmp_path):
    (photos / "train" / "class 0" / "bad.jpg").write_text("no picture")
    assert "bad.jpg" in make("out", status=3).err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["statuses"] == {"failed": 1, "ok": 12} and summary["kinds"] == {"not a picture": 1}
    assert summary["failures"][0]["key"] == "train/class 0/bad.jpg"
    assert summary["settings"]["seed"] == 0 and summary["this_job"]["pictures_per_second"] > 0
    make("out", "max_failures=1")


def test_results_depend_neither_on_processes_nor_on_restarts_nor_on_the_order(make, photos, tmp_path):
    options = ("copies=2", "strength=[0.3,1]", "keep_fraction=0.2", "shard_size=4")
    first = make("one", *options)
    two = make("two", *options, "runtime.devices=2")
    assert tree(first.data) == tree(two.data) and first.rows == two.rows
    for index in (2, 0, 1):
        three = make("three", *options, f"shard_index={index}", "shard_count=3")
    assert tree(first.data) == tree(three.data) and first.rows == three.rows
    lost = tmp_path / "two" / ".gan_style" / "records" / "000001.json"
    lost.unlink()
    again = make("two", *options, "runtime.devices=1", "runtime.io_threads=1")
    assert tree(first.data) == tree(again.data) and first.rows == again.rows


@pytest.mark.slow  # a dozen processes that import torch, and Ray
def test_every_engine_and_number_of_workers_makes_the_same_bytes(make, tmp_path):
    """And so does a restart of one with another."""
    options = ("copies=2", "strength=[0.3,1]", "keep_fraction=0.2", "shard_size=4")
    ways = {
        "two": ("runtime.devices=2",),
        "four": ("runtime.devices=4",),
        "jobs": ("engine=slurm", "slurm.local=true", "slurm.tasks=2"),
    }
    if find_spec("ray") is not None:
        ways["actors"] = ("engine=ray", "ray.actors=2")
    first = make("one", *options)
    expected = tree(first.data)
    for name, way in ways.items():
        outcome = make(name, *options, *way)
        assert tree(outcome.data) == expected and outcome.rows == first.rows
    for name, way in zip(ways, [*list(ways.values())[1:], ()], strict=True):
        for number in (0, 2):
            (tmp_path / name / ".gan_style" / "records" / f"{number:06d}.json").unlink()
        again = make(name, *options, *way)
        assert tree(again.data) == expected and again.rows == first.rows


def test_engines_that_work_elsewhere_do_not_ask_for_a_gpu_here():
    def device(engine: str, name: str, gpus: float) -> str:
        return device_of({"engine": engine, "runtime": {"device": name}, engine: {"gpus": gpus}})

    assert device("slurm", "auto", 1) == device("ray", "auto", 0.5) == device("slurm", "cuda", 0) == "cuda"
    assert device("ray", "auto", 0) == "cpu"


def test_a_job_for_elsewhere_depends_on_no_working_folder(settings, generators, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = plain(settings) | {"output": "out", "checkpoint": ["style.safetensors"]}
    plan = Plan(Path("out/.gan_style"), {"settings": {}})
    job = with_absolute_paths(Job(cfg, Path("in"), plan, "cpu"))
    assert job.output == tmp_path / "out" and job.root == tmp_path / "in"
    assert job.plan.folder == job.records.state == tmp_path / "out" / ".gan_style"
    assert job.cfg["checkpoint"] == [str(tmp_path / "style.safetensors")]
    shipped = replace(job, cfg=cfg | {"checkpoint": None, "reference": ["a.jpg", "demo:styles"]})
    assert with_absolute_paths(shipped).cfg["checkpoint"] is None
    assert with_absolute_paths(shipped).cfg["reference"] == [str(tmp_path / "a.jpg"), "demo:styles"]
    shipped = replace(job, cfg=cfg | {"checkpoint": "shipped:mobile"})
    assert with_absolute_paths(shipped).cfg["checkpoint"] == ["shipped:mobile"]


def test_choices_follow_weights_bounds_and_shares(make, generators, photos):
    checkpoints = [str(path) for path in generators]
    options = ("copies=20", "weights=[3,1]", "strength=[0.5,0.75]", "keep_fraction=0.25")
    rows = make("out", *options, checkpoint=checkpoints).rows
    assert len(rows) == 12 * 20
    unchanged = [row for row in rows if row["style"] is None]
    styles = [row["style"] for row in rows if row["style"] is not None]
    assert 0.15 < len(unchanged) / len(rows) < 0.35
    assert 0.6 < styles.count("style0") / len(styles) < 0.9 and "style1" in styles
    strengths = [row["strength"] for row in rows if row["style"] is not None]
    assert 0.5 <= min(strengths) < 0.53 and 0.72 < max(strengths) <= 0.75
    assert len({row["output"] for row in rows}) == len(rows)
    other = make("other", *options, "seed=1", checkpoint=checkpoints).rows
    assert [row["style"] for row in rows] != [row["style"] for row in other]


def test_kept_pictures_keep_their_pixels_and_say_nothing_of_a_generator(make, photos):
    path = make("out", "keep_fraction=1").data / "val/class 0/00.png"
    assert torch.equal(decode(path), decode(photos / "val/class 0/00.png")) and read_note(path) is None


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_formats(make, suffix, kind):
    outcome = make("out", f"format={suffix}", "lossless=true")
    assert {Path(row["output"]).suffix for row in outcome.rows} == {f".{suffix}"}
    assert {Image.open(outcome.data / row["output"]).format for row in outcome.rows} == {kind}


def test_a_short_side_of_pictures_and_masks(make):
    outcome = make("out", "size=16")
    assert {min(Image.open(outcome.data / row["output"]).size) for row in outcome.rows} == {16}
    sizes = {Image.open(outcome.data / "train/class 1" / name).size for name in ("01.png", "01.mask.png")}
    assert len(sizes) == 1


def test_copies_get_names_and_sidecars_of_their_own(make):
    files = tree(make("out", "copies=2").data)
    assert files["train/class 1/01~1.txt"] == files["train/class 1/01~2.txt"] == b"a caption"
    assert "train/class 1/01~2.mask.png" in files and "train/class 1/01.png" not in files


class TestPairs:
    """pairs=FILE: which style each picture gets."""

    ROWS = (("train/class 1/01.png", "wave", 0.5), ("val/class 0/00.png", "scream", None))

    @pytest.fixture
    def pairs(self, tmp_path):
        def write(name: str, rows=self.ROWS) -> str:
            path, columns = tmp_path / name, ("content", "style", "strength")
            if path.suffix == ".csv":
                lines = [",".join(columns), *(",".join(f'"{x}"' if x is not None else "" for x in row) for row in rows)]
            else:
                lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
            path.write_text("\n".join(lines) + "\n")
            return f"pairs={path}"

        return write

    def test_each_picture_gets_its_style_and_the_others_are_skipped(self, make, verify, pairs, library, photos):
        outcomes = [make(name[:3], pairs(name), checkpoint=str(library)) for name in ("csv.csv", "jso.jsonl")]
        for outcome in outcomes:
            rows = {row["key"]: row for row in outcome.rows}
            assert len(rows) == 12
            for key, style, strength in self.ROWS:
                result = rows.pop(key)
                assert (result["status"], result["style"], result["strength"]) == ("ok", style, strength or 1.0)
            left_out = {(row["status"], row["kind"], row["output"]) for row in rows.values()}
            assert left_out == {("skipped", "no pair", None)}
        assert tree(outcomes[0].data) == tree(outcomes[1].data)
        assert "train/class 1/01.mask.png" in tree(outcomes[0].data)
        verify("csv", photos)

    def test_several_rows_are_its_copies(self, make, pairs, library, photos):
        content = str(photos / "val" / "class 0" / "00.png")  # in full, too
        rows = [(content, "scream", 0.5), (content, "monet", 1), ("train/class 1/01.png", "monet", 1)]
        outcome = make("out", pairs("p.csv", rows), "copies=2", "runtime.devices=2", checkpoint=str(library))
        result = [(row["key"], row["copy"], row["style"]) for row in outcome.rows if row["status"] == "ok"]
        assert sorted(result) == [
            ("train/class 1/01.png", 0, "monet"),
            ("val/class 0/00.png", 0, "scream"),
            ("val/class 0/00.png", 1, "monet"),
        ]
        assert "copies=1" in make("more", pairs("p.csv", rows), checkpoint=str(library), status=2).err

    def test_other_pairs_are_another_dataset(self, make, pairs, library):
        make("out", pairs("p.csv"), checkpoint=str(library))
        make("out", pairs("p.jsonl"), checkpoint=str(library))  # the same ones
        assert "pairs=" in make("out", pairs("p.csv", self.ROWS[:1]), checkpoint=str(library), status=2).err

    def test_styles_of_pictures(self, make, pairs, tmp_path):
        torch.manual_seed(0)
        generator = ReferenceGenerator(width=2, blocks=1, code=4, side=16, encoder="convolutions")
        write_file(tmp_path / "any.safetensors", generator)
        for name in ("a", "b"):
            picture(tmp_path / "paintings" / f"{name}.png", (20, 20), seed=ord(name))
        keys = [key for key, *_ in self.ROWS]
        rows = [(key, str(tmp_path / "paintings" / f"{n}.png"), 1) for key, n in zip(keys, "ba", strict=True)]
        for number, more in enumerate(([], [f"reference={tmp_path / 'paintings'}"])):
            outcome = make(f"out{number}", pairs("p.csv", rows), *more, checkpoint=str(tmp_path / "any.safetensors"))
            styles = {row["key"]: row["style"] for row in outcome.rows if row["status"] == "ok"}
            assert styles == dict(zip(keys, "ba", strict=True))

    @pytest.mark.parametrize(
        ("rows", "named"),
        [
            ([("nowhere.png", "wave", 1)], "nowhere.png"),
            ([("train/class 1/01.mask.png", "wave", 1)], "01.mask.png"),
            ([("val/class 0/00.png", "waves", 1)], "line 2"),
            ([("val/class 0/00.png", "wave", 2)], "strength"),
            ([("", "wave", 1)], "content"),
            ([], "no rows"),
        ],
    )
    def test_bad_rows_are_refused_and_nothing_is_planned(self, make, pairs, library, tmp_path, rows, named):
        for options in ([], ["dry_run=true"]):
            outcome = make("out", pairs("p.csv", rows), *options, checkpoint=str(library), status=2)
            assert named in outcome.err and "pairs" in outcome.err
        assert not (tmp_path / "out" / ".gan_style" / "plan.json").exists()

    def test_bad_files_and_options_are_refused(self, make, pairs, library, tmp_path):
        (tmp_path / "odd.csv").write_text("photo,style\na,b\n")
        (tmp_path / "odd.jsonl").write_text("[1]\n")
        (tmp_path / "odd.txt").write_text("")
        for name in ("odd.csv", "odd.jsonl", "odd.txt", "missing.csv"):
            assert name in make("out", f"pairs={tmp_path / name}", checkpoint=str(library), status=2).err
        make("out", pairs("p.csv"), "keep_fraction=0.5", checkpoint=str(library), status=2)


class TestTheGate:
    def test_low_scores_are_drawn_again_with_lower_strength_and_then_left_out(self, make):
        free = {row["key"]: row for row in make("free").rows}
        scores = sorted(row["structure"] for row in free.values())
        least = (scores[0] + scores[-1]) / 2
        rows = make("out", f"gate.structure_min={least}", "gate.tries=1").rows
        assert {row["strength"] for row in rows} == {1.0, 0.5}
        for row in rows:
            assert (row["tries"] == 2) == (free[row["key"]]["structure"] < least)
            assert (row["status"] == "ok") == (row["structure"] >= least)

    def test_what_never_passes_is_left_out_and_said_so(self, make):
        outcome = make("out", "gate.structure_min=1.1", "gate.tries=2")
        assert {(row["status"], row["kind"], row["strength"]) for row in outcome.rows} == {("skipped", "gate", 0.25)}
        assert not list(outcome.data.rglob("*.png"))


CHANGES = ["seed=1", "strength=0.5", "copies=2", "format=webp", "batch=3", "shard_size=6", "gate.structure_min=0.1"]
CHANGES += ["output_layout=webdataset", "threads_per_worker=97"]


class TestWhatWasBegun:
    def test_workers_share_the_cores_and_keep_to_the_plan(self, make, monkeypatch):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        for cores in (3, 2):
            monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: range(cores), raising=False)
            outcome = make("out", "threads_per_worker=null")
            plan = json.loads((outcome.data.parent / ".gan_style" / "plan.json").read_text())
            assert plan["settings"]["threads_per_worker"] == 3

    def test_other_settings_and_weights_are_refused_and_the_field_is_named(self, make, generators, tmp_path):
        make("out")
        for option in CHANGES:
            outcome = make("out", option, status=2)
            assert f"{option.split('=')[0]}=" in outcome.err and "was begun with" in outcome.err
        assert "checkpoint=" in make("out", checkpoint=str(generators[1]), status=2).err
        shutil.copy(generators[0], tmp_path / "elsewhere.safetensors")
        make("out", checkpoint=str(tmp_path / "elsewhere.safetensors"))

    @pytest.mark.parametrize("how", ["new", "gone", "changed"])
    def test_other_inputs_are_refused_and_one_is_named(self, make, photos, how):
        make("out")
        path = photos / "val" / "class 0" / "00.png"
        if how == "new":
            picture(photos / "val" / "class 0" / "another.png", (9, 9))
        elif how == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes() + b"more")
        assert f"1 {how} (val/class 0/" in make("out", status=2).err

    def test_one_job_of_many_looks_through_the_inputs_again(self, make, photos):
        """Millions take long; what was planned is checked file by file when it is read."""
        make("out")
        picture(photos / "val" / "class 0" / "another.png", (9, 9))
        make("out", "shard_count=2", "shard_index=1")
        assert "1 new (val/class 0/another.png)" in make("out", "shard_count=2", "shard_index=0", status=2).err

    def test_new_inputs_can_be_appended(self, make, verify, photos, tmp_path):
        before = tree(make("out").data)
        picture(photos / "train" / "new class" / "a.png", (9, 12))
        picture(photos / "train" / "class 1" / "A.png", (9, 12))
        outcome = make("out", "extend=true")
        assert len(outcome.rows) == 14
        after = tree(outcome.data)
        assert before.items() <= after.items() and len(after) == len(before) + 2
        make("out")
        verify("out", photos)
        single = make("whole")
        assert tree(single.data) == after

    def test_a_changed_input_is_not_appended(self, make, photos):
        make("out")
        (photos / "val" / "class 0" / "00.png").write_bytes(b"")
        assert "only new ones can be appended" in make("out", "extend=true", status=2).err

    def test_failures_alone_are_done_again(self, make, photos, tmp_path):
        path = photos / "train" / "class 1" / "01.png"
        good = path.read_bytes()
        path.write_bytes(b"\0" * len(good))
        first = make("out", status=3)
        times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / ".gan_style" / "records").iterdir()}
        path.write_bytes(good)
        make("out", status=3)
        second = make("out", "retry_failed=true")
        assert [row["status"] for row in second.rows] == ["ok"] * 12
        assert sum(p.stat().st_mtime_ns != t for p, t in times.items()) == 1
        unchanged = [row for row in first.rows if row["status"] == "ok"]
        assert all(row in second.rows for row in unchanged)

    def test_a_folder_with_other_files_is_refused(self, make, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_text("mine")
        assert "not make-dataset's" in make("out", status=2).err
        assert tree(tmp_path / "out") == {"mine.txt": b"mine"}


BAD = {
    "strength=2": "strength=2",
    "strength=[1,0.5]": "strength=[1",
    "size=0": "size=0",
    "size=big": "size=big",
    "copies=0": "copies=0",
    "format=gif": "format=gif",
    "engine=spark": "engine=spark",
    "shard_index=1": "shard_index=1",
    "weights=[1,2]": "weights=[1, 2]",
    "keep_fraction=1.5": "keep_fraction=1.5",
    "input=nowhere": "there is no such folder",
    "input='x-{0..2}.tar'": "3 of 3 archives are not there",
    "input_layout=coco": "annotations",
    "gate.structure_min=0.5 score=none": "gate.structure_min",
    "extend=true retry_failed=true": "one after the other",
    "engine=ray runtime.devices=2": "ray.actors=...",
    "engine=slurm slurm.tasks=0": "slurm.tasks=0",
    "slurm.more=account": "slurm.more=account",
    "style=wave": "style=wave: there is no such style",  # of a generator of one style
}


@pytest.mark.parametrize("options", BAD)
def test_bad_options_are_named_and_nothing_is_written(make, options, tmp_path):
    assert BAD[options] in make("out", *options.split(), status=2).err
    assert not (tmp_path / "out" / "data").exists()


def test_a_dry_run_says_what_is_there_and_writes_nothing(make, tmp_path):
    outcome = make("out", "dry_run=true")
    assert not (tmp_path / "out").exists()
    assert "12 pictures (train 9, val 3)" in outcome.out and "3 classes" in outcome.out


def test_equal_copies_are_warned_of(make):
    assert "copies" in make("out", "copies=2", "strength=1").err
    assert "warning" not in make("other", "copies=2", "strength=[0.5,1.0]").err


def test_an_output_inside_the_input_is_refused(make, photos):
    assert "inside" in make("in/out", status=2).err and not (photos / "out").exists()


class TestOutOfMemory:
    def test_a_batch_is_halved(self, make, monkeypatch):
        plain = ResnetGenerator.forward

        def forward(self, images):
            if len(images) > 2:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")
            return plain(self, images)

        expected = make("wanted")
        monkeypatch.setattr(ResnetGenerator, "forward", forward)
        outcome = make("out")
        assert [r["status"] for r in outcome.rows] == ["ok"] * 12
        assert tree(outcome.data).keys() == tree(expected.data).keys()

    @pytest.fixture
    def too_large(self, monkeypatch):
        """Pictures of 24 x 17 are too large for the network in one piece."""
        plain = ResnetGenerator.forward

        def forward(self, images):
            if images.shape[-2:] == (17, 24):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
            return plain(self, images)

        monkeypatch.setattr(ResnetGenerator, "forward", forward)

    def test_a_single_picture_that_does_not_fit_is_made_in_tiles(self, make, request):
        expected = make("wanted", "format=png")
        request.getfixturevalue("too_large")
        outcome = make("out", "format=png")
        assert {row["status"] for row in outcome.rows} == {"ok"}
        for name in tree(expected.data):
            if name.endswith(".png"):
                result, untiled = (decode(folder / name).int() for folder in (outcome.data, expected.data))
                assert (result - untiled).abs().max() <= 1

    def test_if_tiles_do_not_fit_either_it_is_a_failure_and_the_others_are_made(self, make, too_large, monkeypatch):
        def in_tiles(*_):
            raise torch.OutOfMemoryError("CUDA out of memory, once more.")

        monkeypatch.setattr("gan_style.stylize.paint.in_tiles", in_tiles)
        outcome = make("out", status=3)
        assert {row["status"] for row in outcome.rows if row["kind"] == "out of memory"} == {"failed"}
        assert sum(row["status"] == "ok" for row in outcome.rows) == 6

    def test_any_other_error_of_the_network_is_no_failed_row(self, make, monkeypatch):
        def forward(self, images):
            raise RuntimeError("a mistake in the code")

        monkeypatch.setattr(ResnetGenerator, "forward", forward)
        with pytest.raises(RuntimeError, match="a mistake"):
            make("out")


def test_numbers_that_are_not_finite_are_a_failure(make, monkeypatch):
    plain = ResnetGenerator.forward
    monkeypatch.setattr(ResnetGenerator, "forward", lambda self, images: plain(self, images) * float("nan"))
    outcome = make("out", status=3)
    assert {row["kind"] for row in outcome.rows} == {"not finite"}


STATES = {
    "planning": (make_dataset, "write_plan"),
    "deciding": (make_dataset, "run_here"),
    "forward": (ResnetGenerator, "forward"),
    "writing": (Records, "commit"),
    "merging": (make_dataset.Merge, "_jsonl"),
}


class TestSignals:
    """A signal in each of the command's states: status 75, and the same command goes on to the same bytes."""

    @pytest.mark.parametrize("state", STATES)
    def test_stopped_and_gone_on(self, make, monkeypatch, state):
        place, name = STATES[state]
        plain, numbers = getattr(place, name), []

        def signalled(*arguments, **more):
            if numbers:
                os.kill(os.getpid(), numbers.pop())
            return plain(*arguments, **more)

        expected = make("wanted")
        monkeypatch.setattr(place, name, signalled)
        for number in (signal.SIGTERM, signal.SIGINT):
            numbers.append(number)
            outcome = make(number.name, status=75)
            assert "the same command goes on" in outcome.err
            assert not list(outcome.data.rglob("*.part"))
            again = make(number.name)
            assert again.rows == expected.rows and tree(again.data) == tree(expected.data)


class TestTrouble:
    """The disk, not the pictures."""

    @pytest.mark.parametrize("call", ["open", "fsync", "replace"])
    def test_a_full_disk_ends_the_job_and_spoils_nothing(self, make, monkeypatch, call):
        from gan_style.runtime import files

        expected = tree(make("wanted").data)
        place = files.AtomicFileGroup if call == "open" else os
        plain, calls = getattr(place, call), []

        def full(*arguments):
            calls.append(arguments)
            if len(calls) > 12 and (call == "fsync" or "data" in str(arguments[-1])):
                raise OSError(28, "No space left on device")
            return plain(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(place, call, full)
            outcome = make("out", status=2)
        assert "No space left" in outcome.err
        assert tree(outcome.data).items() <= expected.items()
        make("out")
        assert tree(outcome.data) == expected

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_cannot_be_written_to(self, make, tmp_path):
        (tmp_path / "out").mkdir(mode=0o500)
        make("out", status=2)


class TestVerify:
    def test_every_flipped_cut_or_missing_file_is_found_and_only_its_shard_done_again(self, make, verify, tmp_path):
        layouts = {"folder": "out", "webdataset": "tars"}
        rng = random.Random(0)
        for layout, output in layouts.items():
            expected = tree(make(output, f"output_layout={layout}", "shard_size=2").data)
            verified = [p for p in (tmp_path / output).rglob("*") if p.is_file() and self.vouched_for(p)]
            for path, how in zip(rng.sample(verified, 6), ("flip", "cut", "remove") * 2, strict=True):
                good = path.read_bytes()
                place = rng.randrange(len(good))
                flipped = good[:place] + bytes([good[place] ^ 1 << rng.randrange(8)]) + good[place + 1 :]
                path.write_bytes({"flip": flipped, "cut": good[:place], "remove": b""}[how])
                if how == "remove":
                    path.unlink()
                outcome = verify(output, repair=True, status=1)
                assert "1 shards are marked" in outcome.out, (path, how, outcome.out)
                make(output, f"output_layout={layout}", "shard_size=2")
                assert tree(tmp_path / output / "data") == expected
            verify(output)

    @staticmethod
    def vouched_for(path: Path) -> bool:
        return path.parent.name in ("records", "rows") or ("data" in path.parts and path.name != "classes.txt")

    def test_files_and_rows_that_do_not_belong_there_are_found(self, make, verify, tmp_path):
        make("out")
        (tmp_path / "out" / "data" / "stranger.png").write_bytes(b"")
        manifest = tmp_path / "out" / "manifest.jsonl"
        manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-1]))
        outcome = verify("out", status=1)
        assert "stranger.png" in outcome.out and "the manifest" in outcome.out

    @pytest.mark.parametrize("how", ["emptied", "removed"])
    def test_annotations_of_a_coco_dataset_that_were_emptied_or_removed_are_found(self, make, verify, how):
        make("out", "output_layout=coco")
        verify("out")
        path = next((make("out", "output_layout=coco").data / "annotations").iterdir())
        path.unlink()
        if how == "emptied":
            path.write_text('{"images": [], "annotations": []}')
        assert path.name in verify("out", status=1).out
        make("out", "output_layout=coco")
        verify("out")

    def test_what_systems_leave_behind_is_no_difference(self, make, verify):
        data = make("out").data
        for name in (".DS_Store", "Thumbs.db", "train/._x.jpg"):
            (data / name).write_bytes(b"x")
        verify("out")

    def test_a_changed_source_or_caption_is_found(self, make, verify, photos):
        make("out")
        caption = photos / "train" / "class 1" / "01.txt"
        caption.write_text("another!!"[: len("a caption")])
        assert "01.txt" in verify("out", photos, status=1).out

    def test_what_is_no_dataset_is_refused(self, verify, photos):
        verify("in", status=2)


def test_parquet_holds_the_same_rows(make):
    pytest.importorskip("pyarrow")
    rows = make("out").rows
    assert make("out", manifest="parquet").rows == rows
    assert make("out").rows == rows


def test_from_the_command_line(gan_style, generators, photos, tmp_path):
    options = (f"checkpoint={generators[0]}", f"input={photos}", f"output={tmp_path / 'out'}", "runtime.device=cpu")
    gan_style("make_dataset", *options)
    gan_style("verify_dataset", f"output={tmp_path / 'out'}", f"input={photos}")
    refused = gan_style("make_dataset", *options, "seed=1", status=2)
    assert refused.err.startswith("gan-style make-dataset: seed=1, but")
    assert "did you mean copies?" in gan_style("make_dataset", *options, "copys=2", status=2).err
    config = gan_style("make_dataset", *options, "slurm.more={account: me, setup: [module load x]}", "--cfg", "job").out
    assert "account: me" in config and "- module load x" in config


# Libraries of styles


def test_a_librarys_styles_are_drawn_each_at_its_own_strength(make, library, photos):
    """A result is what the library makes under the row's style and strength; it says so itself, too."""
    outcome = make("out", "strength=[0.3,0.9]", checkpoint=str(library), style=["wave", "monet"], weights=[2.0, 1.0])
    assert {row["style"] for row in outcome.rows if row["status"] == "ok"} == {"wave", "monet"}
    generator = load_generator(library, torch.device("cpu"))
    for row in [item for item in outcome.rows if item["status"] == "ok"][:4]:
        condition = torch.tensor([[row["strength"] * (name == row["style"]) for name in generator.styles]])
        with torch.inference_mode():
            expected = generator(to_float(decode(photos / row["source"])[None]), condition)
        difference = to_float(decode(outcome.data / row["output"])[None]) - expected.clamp(-1, 1)
        assert difference.abs().max() < 1.6 / 127.5
        note = read_note(outcome.data / row["output"])
        assert note is not None
        assert all(note[name] == row[name] for name in ("checkpoint", "style", "strength"))
        assert note["seed"] == 0 and note["copy"] == 0


def test_without_names_all_styles_of_a_library_are_drawn(make, library):
    outcome = make("out", "copies=4", checkpoint=str(library))
    assert {row["style"] for row in outcome.rows if row["status"] == "ok"} == {"monet", "wave", "scream"}


def test_other_styles_of_the_same_library_are_another_dataset(make, library):
    make("out", checkpoint=str(library), style="wave")
    assert "checkpoint=" in make("out", checkpoint=str(library), style="monet", status=2).err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"style": "wawe"}, "style=wawe: there is no such style (did you mean wave?); known are monet, wave, scream"),
        ({"style": ["wave"], "weights": [1.0, 2.0]}, "one for each of 1 styles (wave)"),
        ({"style": {"wave": 1}}, "style={wave: 1}: one expected, or a list"),
        ({"checkpoint": []}, "checkpoint=[]: one expected, or a list"),
    ],
)
def test_what_a_library_cannot_do_is_said(make, library, changed, message):
    assert message in make("out", **{"checkpoint": str(library)} | changed, status=2).err


# Masks


@pytest.fixture
def persons(photos, tmp_path) -> dict[str, str]:
    """Class-index masks of the photos: a person in the upper half, and no one in 00.png."""
    for path in photos.rglob("[01][0-9].png"):
        classes = np.zeros(np.asarray(Image.open(path)).shape[:2], np.uint8)
        classes[: len(classes) // 2] = 15 * (path.stem != "00")
        target = tmp_path / "masks" / path.relative_to(photos).relative_to(path.relative_to(photos).parts[0])
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(classes).save(target)
    return {"masks": str(tmp_path / "masks"), "names": "voc"}


def test_outside_of_its_region_a_picture_stays_exactly_as_it_is(make, verify, photos, persons, tmp_path):
    (tmp_path / "masks" / "class 1" / "01.png").unlink()
    outcome = make("out", "max_failures=1", mask="person", segmentation=persons)
    assert "1 results have no region for style0" in outcome.err, outcome.err
    rows = {Path(row["key"]).stem: row for row in outcome.rows}
    assert rows["01"]["kind"] == "mask" and "no mask for" in rows["01"]["error"]
    assert json.loads(rows["00"]["regions"]) == {"style0": 0.0}

    def pixels(stem: str) -> list[np.ndarray]:
        paths = (photos / rows[stem]["source"], outcome.data / rows[stem]["output"])
        return [np.asarray(Image.open(path)).astype(int) for path in paths]

    assert np.array_equal(*pixels("00"))
    before, after = pixels("02")
    lower = slice(len(before) * 3 // 4, None)
    assert np.array_equal(before[lower], after[lower]) and np.abs(before[:8] - after[:8]).mean() > 1
    verify("out", photos)


@pytest.mark.parametrize("mask", [{"wave": "person", "monet": "rest"}, "auto"])
def test_a_style_for_each_region_as_stylize_has_it(make, gan_style, library, photos, persons, tmp_path, mask):
    style = ["wave", "monet"] if mask == "auto" else None
    more = {} if mask == "auto" else {"segmentation": persons}
    outcome = make("out", checkpoint=str(library), mask=mask, style=style, **more)
    row = next(row for row in outcome.rows if row["key"].endswith("02.png"))
    assert row["style"] == "wave, monet"
    assert sum(json.loads(row["regions"]).values()) == pytest.approx(1, abs=1e-4)
    options = ["mask=auto", "style=[wave,monet]"]
    if mask != "auto":
        options = ["mask={wave: person, monet: rest}", f"segmentation.masks={persons['masks']}/{row['label']}/02.png"]
        options.append("segmentation.names=voc")
    output = tmp_path / "one.png"
    arguments = [f"checkpoint={library}", f"input={photos / row['source']}", f"output={output}", "runtime.device=cpu"]
    gan_style("stylize", *arguments, *options)
    assert torch.equal(decode(output), decode(outcome.data / row["output"]))


def test_masks_by_hand_and_the_same_by_several_processes(make, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "masks")
    for path in (tmp_path / "masks").rglob("*.png"):
        Image.open(path).convert("L").save(path)
    single = make("alone", mask=str(tmp_path / "masks"))
    assert tree(make("two", "runtime.devices=2", mask=str(tmp_path / "masks")).data) == tree(single.data)
    assert "mask=" in make("alone", mask=str(photos), status=2).err, "another dataset"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mask": {"wave": "persn", "monet": "rest"}}, "mask.wave=persn: there is no such region (did you mean person"),
        ({"mask": {"wawe": "person", "monet": "rest"}}, "wawe: there is no such style (did you mean wave?)"),
        ({"mask": {"wave": "person"}, "weights": [1.0]}, "weights=[1]: mask says"),
        ({"mask": {"wave": "person"}, "style": "wave"}, "leave style out"),
        ({}, "no mask names a region"),
        ({"mask": "person", "segmentation": {"masks": "nowhere", "names": "voc"}}, "segmentation.masks=nowhere"),
    ],
)
def test_what_masks_cannot_do_is_said_before_any_work(make, library, persons, tmp_path, changed, message):
    assert message in make("out", checkpoint=str(library), **{"segmentation": persons} | changed, status=2).err
    assert not (tmp_path / "out" / "data").exists()
