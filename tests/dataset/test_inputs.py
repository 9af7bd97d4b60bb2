"""Whatever lies in an input ends as documented: a row with its reason, nothing merged, nothing outside the output."""

import io
import json
import os
import struct
import tarfile
import time
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath

import malformed
import numpy as np
import pytest
import torch
import torchless
from PIL import Image
from samples import files, mask, members, opened, photo, text, turned

from gan_style.dataset.geometry import Change
from gan_style.dataset.layouts.labels import read_label
from gan_style.dataset.layouts.recognise import expand
from gan_style.dataset.loading import Loader
from gan_style.dataset.manifest import read_manifest
from gan_style.dataset.sample import Sample, SampleError

BAD, ODD = list(malformed.bad()), list(malformed.odd())


def test_every_broken_picture_is_a_row_with_its_reason_and_disturbs_no_other(tmp_path, source, make):
    source.mkdir()
    for number in range(20):
        Image.fromarray(malformed.pixels(31, 23, number)).save(
            source / f"{'acefgimnpt'[number % 10]} good {number}.png"
        )
    good_only = {row["output"]: row["output_sha256"] for row in make(output="alone")}
    for name, content, _ in BAD:
        (source / name).write_bytes(content)
    rows = {row["key"]: row for row in make()}
    assert len(BAD) >= 80 and len(rows) == len(BAD) + 20
    for name, _, kinds in BAD:
        assert rows[name]["status"] == "failed" and rows[name]["kind"] in kinds, (name, rows[name])
    assert {row["output"]: row["output_sha256"] for row in rows.values() if row["status"] == "ok"} == good_only
    assert {p.name for p in (tmp_path / "out" / "data").rglob("*")} == set(good_only)


@pytest.mark.parametrize(("name", "content", "size"), ODD, ids=[name for name, *_ in ODD])
def test_odd_pictures_are_stylized_at_their_upright_size(source, make, data, name, content, size):
    source.mkdir()
    (source / name).write_bytes(content)
    (row,) = make()
    assert row["status"] == "ok", row["error"]
    assert Image.open(data / row["output"]).size == (row["width"], row["height"]) == size


def test_sizes_from_1_to_257_are_kept(source, make):
    sizes = [(1, 1), (1, 257), (257, 1), (2, 3), (15, 16), (31, 33), (63, 65), (100, 7), (128, 127), (257, 256)]
    for width, height in sizes:
        photo(source / f"{width}x{height}.png", width, height)
    assert sorted((row["width"], row["height"]) for row in make()) == sorted(sizes)


def make_rows(source: Path, output: Path, layout: str = "folder", **options) -> list[dict]:
    """Make the dataset without torch, and read its rows."""
    torchless.make(str(source), output, layout, **options)
    return list(read_manifest(output))


def statuses(rows: list[dict]) -> dict[str, tuple[str, str | None]]:
    return {row["key"]: (row["status"], row["kind"]) for row in rows}


class TestTheFileSystem:
    def test_what_is_no_file_of_its_own(self, tmp_path, source):
        contents = {
            "deep/good.jpg": "good",
            ".hidden.jpg": "hidden",
            "moving.gif": "GIF89a",
            "labels.csv": "good.jpg,1",
        }
        for name, content in contents.items():
            text(source / name, content)
        text(tmp_path / "elsewhere.jpg", "elsewhere")
        (source / "linked.jpg").symlink_to(tmp_path / "elsewhere.jpg")
        (source / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
        (source / "deep" / "up").symlink_to(source)
        os.mkfifo(source / "pipe.jpg")
        assert statuses(make_rows(source, tmp_path / "out")) == {
            "dangling.jpg": ("failed", "missing"),
            "deep/good.jpg": ("ok", None),
            "deep/up": ("failed", "link loop"),
            "labels.csv": ("carried", None),
            "linked.jpg": ("ok", None),
            "moving.gif": ("failed", "unsupported kind"),
            "pipe.jpg": ("failed", "not a regular file"),
        }
        assert (tmp_path / "out" / "data" / "labels.csv").read_text() == "good.jpg,1"

    def test_what_cannot_be_listed_is_a_row_and_stops_nothing(self, tmp_path, source, monkeypatch):
        (source / "closed").mkdir(parents=True)
        text(source / "good.jpg", "good")
        (source / "itself").symlink_to(source / "itself")
        scandir = os.scandir

        def guarded(path):
            if str(path).endswith("closed"):
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", guarded)
        expected = {"closed": ("failed", "unreadable"), "itself": ("failed", "missing"), "good.jpg": ("ok", None)}
        assert statuses(make_rows(source, tmp_path / "out")) == expected

    @pytest.mark.parametrize("layout", ["folder", "webdataset", "coco"])
    def test_extensions_that_are_no_utf8_are_carried_like_others(self, tmp_path, source, layout):
        for name in ("photo.png", os.fsdecode(b"photo.caf\xe9.txt"), os.fsdecode(b"notes.t\xe9t")):
            text(source / name, "words")
        rows = make_rows(source, tmp_path / "out", layout)
        notes = ("skipped", "no home") if layout == "webdataset" else ("carried", None)
        assert statuses(rows) == {"photo.png": ("ok", None), "notes.t\\xe9t": notes}
        assert [len(json.loads(row["sidecars"])) for row in rows if row["key"] == "photo.png"] == [1]

    def test_a_file_that_changed_or_went_since_planning(self, tmp_path, source):
        for name in "abc":
            text(source / f"{name}.jpg", "12345")
        plan, root = torchless.make_plan(str(source), tmp_path / "out")
        text(source / "a.jpg", "123456")
        (source / "b.jpg").unlink()
        worker = torchless.make_worker(tmp_path / "out", plan, root)
        worker.process(plan.shards[0])
        assert [row["kind"] for row in worker.records.rows(plan.shards[0])] == ["changed", "missing", None]


NAMES = [
    *("dots.in.the.name.jpg", "spaces and (brackets).jpg", "  .jpg", "new\nline.jpg", "tab\t.jpg", "back\\slash.jpg"),
    *("quote'\".jpg", "per%2Ecent.jpg", "per.cent.jpg", "-dash.jpg", "~tilde~1.jpg"),
    *("a.jpg", "A.jpg", "a.JPG", "a.png"),
    *("a.jpeg", "a~1.jpg", "x" * 251 + ".jpg", "x" * 250 + "y.jpg", "é" * 120 + ".jpg", "CON.jpg", "colon:.jpg"),
    *(unicodedata.normalize("NFC", "café.jpg"), unicodedata.normalize("NFD", "café.jpg"), "🦊.jpg", "ß.jpg", "ss.jpg"),
    os.fsdecode(b"latin\xe9.jpg"),
    *("Folder/1.jpg", "folder/1.jpg", "folder/2.jpg", "x.jpg/1.jpg", "deep/" * 20 + "1.jpg"),
]


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("suffix", [None, ".webp"])
@pytest.mark.parametrize("layout", ["folder", "webdataset", "coco"])
def test_hostile_names_stay_apart_and_inside(tmp_path, source, layout, suffix, copies):
    for number, name in enumerate(NAMES):
        text(source / name, str(number))
    rows = make_rows(source, tmp_path / "out", layout, copies=copies, suffix=suffix)
    assert [row["status"] for row in rows] == ["ok"] * len(NAMES) * copies
    outputs = [row["output"].partition("#")[2] or row["output"] for row in rows]
    assert len({unicodedata.normalize("NFC", name).casefold() for name in outputs}) == len(rows)
    assert all(len(part.encode()) <= 255 and part not in ("", ".", "..") for n in outputs for part in n.split("/"))
    results = contents(tmp_path / "out" / "data")
    assert sorted(results[name] for name in outputs) == sorted(
        (b"%d" % number)[::-1] for number in range(len(NAMES)) for _ in range(copies)
    )
    if layout == "webdataset":
        keys = [PurePosixPath(name).name.partition(".")[0] for name in outputs]
        assert all(PurePosixPath(name).stem == key for name, key in zip(outputs, keys, strict=True))
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, and all members of its archives."""
    return files(folder) | members(folder)


def member(name: str, content: bytes = b"", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


GOOD = (member("good.jpg", b"good"), member("good.cls", b"3"))
ARCHIVES = {
    "up": ([member("../../evil.jpg", b"evil"), *GOOD], "unsafe name"),
    "up within": ([member("a/../../evil.jpg", b"evil"), *GOOD], "unsafe name"),
    "absolute": ([member("/tmp/evil.jpg", b"evil"), *GOOD], "unsafe name"),
    "nothing between slashes": ([member("a//evil.jpg", b"evil"), *GOOD], "unsafe name"),
    "a very long name": ([member("e" * 2000 + ".jpg", b"evil"), *GOOD], "unsafe name"),
    "a long extension": ([member("evil." + "e" * 230, b"evil"), *GOOD], "unsafe name"),
    "symbolic link": ([member("evil.jpg", type=tarfile.SYMTYPE, linkname="/etc"), *GOOD], "not a regular member"),
    "hard link": ([member("evil.jpg", type=tarfile.LNKTYPE, linkname="good.jpg"), *GOOD], "not a regular member"),
    "device": ([member("evil.jpg", type=tarfile.CHRTYPE), *GOOD], "not a regular member"),
    "block device": ([member("evil.jpg", type=tarfile.BLKTYPE), *GOOD], "not a regular member"),
    "pipe": ([member("evil.jpg", type=tarfile.FIFOTYPE), *GOOD], "not a regular member"),
    "no extension": ([member("evil", b"evil"), *GOOD], "no key"),
    "hidden": ([member(".jpg", b"evil"), *GOOD], "no key"),
    "hidden in a folder": ([member("a/.evil.jpg", b"evil"), *GOOD], "no key"),
    "doubled member": ([member("evil.jpg", b"1"), member("evil.jpg", b"2"), *GOOD], "doubled member"),
    "no picture": ([member("evil.txt", b"1"), member("evil.cls", b"2"), *GOOD], "no picture"),
    "folders": ([member("a", type=tarfile.DIRTYPE), *GOOD], None),
    "a later sample of the same key": ([member("good.jpg", b"first"), member("between.jpg", b"2"), *GOOD], None),
    "keys that differ in case": ([member("GOOD.jpg", b"first"), *GOOD], None),
    "a dot before": ([member("./a.jpg", b"1"), member("./a.cls", b"2"), *GOOD], None),
    "dots in the name": ([member("a.b.jpg", b"1"), *GOOD], None),
    "several with dots in the name": ([member("a.b.jpg", b"1"), member("a.c.jpg", b"1"), *GOOD], "several pictures"),
    "a class that leads out": ([member("a.jpg", b"1"), member("a.cls", b"../../../evil"), *GOOD], None),
    "an absolute class": ([member("a.jpg", b"1"), member("a.cls", b"/tmp/evil"), *GOOD], None),
    "a class of bytes": ([member("a.jpg", b"1"), member("a.cls", bytes(range(256))), *GOOD], None),
}


def archive(path: Path, contents) -> bytes:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in contents:
            tar.addfile(info, io.BytesIO(content))
    return path.read_bytes()


@pytest.mark.parametrize("layout", ["folder", "webdataset"])
@pytest.mark.parametrize("case", ARCHIVES)
def test_hostile_archives(tmp_path, case, layout):
    packed, kind = ARCHIVES[case]
    archive(tmp_path / "in" / "a.tar", packed)
    rows = make_rows(tmp_path / "in" / "a.tar", tmp_path / "out", layout)
    assert [row["kind"] for row in rows if row["status"] != "ok"] == ([kind] if kind else [])
    assert [row["label"] for row in rows if row["key"].startswith("good") and row["status"] == "ok"][-1] == "3"
    pictures = sum(info.name.endswith(".jpg") for info, _ in packed) if kind is None else 1
    results = contents(tmp_path / "out" / "data")
    assert sum(name.endswith(".jpg") for name in results) == pictures
    assert b"doog" in results.values() and b"live" not in results.values()
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_a_reason_that_holds_no_text_can_be_written_as_text(tmp_path):
    """Parquet refuses half surrogates, and so would keep the whole dataset from being finished."""
    archive(tmp_path / "in" / "a.tar", [member("b.t\udce9xt", b"1"), *GOOD])
    rows = make_rows(tmp_path / "in" / "a.tar", tmp_path / "out")
    (failed,) = [row for row in rows if row["kind"] == "no picture"]
    assert "t\\xe9xt" in failed["error"]
    for row in rows:
        json.dumps(row, ensure_ascii=False).encode()


def test_a_folder_of_many_files_is_listed_in_a_time_that_grows_with_their_number(tmp_path):
    for number in range(3000):
        (tmp_path / f"{number}.jpg").touch()
        (tmp_path / f"{number}.txt").touch()
    begin = time.process_time()
    samples = list(opened(tmp_path, "folder").samples())
    assert len(samples) == 3000 and all(sample.sidecars for sample in samples)
    assert time.process_time() - begin < 1.0  # 0.1 s; with the square of their number it was 2


class TestDamagedArchives:
    @pytest.mark.parametrize("at", [100, 600, 1500, 2500])
    def test_cut(self, tmp_path, at):
        tar = archive(tmp_path / "in" / "a.tar", [member(f"{n}.jpg", bytes([n]) * 700) for n in range(4)])
        (tmp_path / "in" / "a.tar").write_bytes(tar[:at])
        *rows, last = self.rows(tmp_path)
        assert last["kind"] == "damaged archive" and last["status"] == "failed"
        assert {row["status"] for row in rows if row["kind"] != "changed"} <= {"ok"}

    def test_a_damaged_header_in_the_middle_does_not_end_it_quietly(self, tmp_path):
        tar = archive(tmp_path / "in" / "a.tar", [member(f"{n}.jpg", bytes([n]) * 500) for n in range(4)])
        (tmp_path / "in" / "a.tar").write_bytes(tar[:1024] + b"\xff" * 512 + tar[1536:])
        rows = self.rows(tmp_path)
        assert [row["kind"] for row in rows] == [None, "damaged archive"]

    def test_a_claimed_size(self, tmp_path):
        info = tarfile.TarInfo("a.jpg")
        info.size = 1 << 40
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.tar").write_bytes(info.tobuf() + bytes(2048))
        assert {row["status"] for row in self.rows(tmp_path)} == {"failed"}

    def test_a_negative_size(self, tmp_path):
        head = bytearray(tarfile.TarInfo("a.jpg").tobuf())
        head[124:136] = b"\xff" * 8 + struct.pack(">i", -512)
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head[:512])
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.tar").write_bytes(bytes(head) + bytes(2048))
        assert [row["kind"] for row in self.rows(tmp_path)] == ["damaged archive"]

    @pytest.mark.parametrize("content", [b"", b"no archive", bytes(1024), b"\x1f\x8b\x08" + bytes(50)])
    def test_no_archive(self, tmp_path, content):
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.tar").write_bytes(content)
        assert {row["kind"] for row in self.rows(tmp_path)} <= {"damaged archive"}

    def rows(self, tmp_path: Path) -> list[dict]:
        archive(tmp_path / "in" / "b.tar", [member("z.jpg", b"whole")])
        *rows, last = make_rows(tmp_path / "in" / "{a,b}.tar", tmp_path / "out")
        assert last["key"] == "z" and last["status"] == "ok", "other archives are not disturbed"
        return rows


def test_braces_stand_for_what_a_shell_makes_of_them():
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("{x,y}/{1..2}") == ["x/1", "x/2", "y/1", "y/2"]
    with pytest.raises(ValueError, match="archives"):
        expand("{0..999999999}.tar")


BOTH = None  # no layout: it is not guessed at
BY_NAMES = {
    "000.tar": ("webdataset",),
    "train/000.tar val/000.tar": ("webdataset",),
    "000.tar classes.txt": ("webdataset",),
    **dict.fromkeys(
        ["cats/1.jpg", "cats/1.jpg .cache/old.tar", "x.tar/cats/1.jpg", "notes.txt"], ("folder", "classes")
    ),
    **dict.fromkeys(["backup.tar cats/1.jpg", "train/000.tar 1.JPG", "old/a.tar train/cats/1.jpg"], BOTH),
}


@pytest.mark.parametrize("names", BY_NAMES)
def test_the_layout_is_that_of_archives_or_of_pictures_or_has_to_be_told(tmp_path, names):
    for path in map(tmp_path.joinpath, names.split()):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") if path.suffix == ".tar" else open(path, "wb"):
            pass
    if BY_NAMES[names] is BOTH:
        with pytest.raises(ValueError, match=r"holds an archive .* and pictures .* say input_layout=webdataset or"):
            opened(tmp_path)
    else:
        assert opened(tmp_path).kind in BY_NAMES[names]


class TestMasks:
    """Masks that belong to a picture, beside it or in a tree of their own: they go along, and say how it lies."""

    def folder(self, root: Path, size: tuple[int, int]) -> Path:
        for name in ("a.jpg", "a_b.jpg"):
            turned(root / name, 6, width=20, height=30)
        for name in ("a_mask.png", "SegmentationClass/a.png"):
            mask(root / name, np.zeros(size[::-1], np.uint8))
        return root

    def loaded(self, root: Path, short_side: int | None = None, target: str = "folder") -> dict[str, tuple[int, int]]:
        """What becomes of each input: the picture's size."""
        layout, sizes = opened(root, target=target), {}
        for sample in layout.samples():
            sample = Sample.from_line(sample.to_line())  # as a plan keeps it
            sample_content = Loader(root, max_pixels=1000, short_side=short_side)(sample)
            sizes[sample.key] = tuple(sample_content.picture.shape[:0:-1])
            if sample.key == "a.jpg":
                assert set(sample_content.sidecars) == {".mask.png", ".SegmentationClass.png"}
        return sizes

    @pytest.mark.parametrize("target", ["folder", "webdataset", "coco"])
    @pytest.mark.parametrize("size", [(20, 30), (30, 20)])
    def test_say_whether_the_picture_is_turned(self, tmp_path, size, target):
        sizes = self.loaded(self.folder(tmp_path / "in", size), target=target)
        assert sizes == {"a.jpg": size, "a_b.jpg": (30, 20)}

    def test_of_no_picture_need_the_size_to_be_kept(self, tmp_path):
        root = self.folder(tmp_path / "in", (30, 20))
        (root / "a.jpg").unlink()
        layout = opened(root, carry=("*_mask.png",))
        (sample,) = [sample for sample in layout.samples() if "a_mask" in sample.key]
        with pytest.raises(SampleError, match="size=keep"):
            Loader(root, max_pixels=1000, short_side=10)(sample)
        assert Loader(root, max_pixels=1000, short_side=None)(sample).raw == (root / "a_mask.png").read_bytes()


PLACES = {
    "outlines": ({"segmentation": [[1, 2, 3, 4, 5, 6]]}, {"segmentation": [[0.5, 1, 1.5, 2, 2.5, 3]]}),
    "captions": ({"annotations": [{"caption": "a", "bbox": []}]}, {"annotations": [{"caption": "a", "bbox": []}]}),
    "corners": ({"xmin": 4, "ymin": 8, "label": "4"}, {"xmin": 2, "ymin": 4, "label": "4"}),
    "shares": ({"bbox": [0.5, 0.25, 0.5, 1]}, {"bbox": [0.5, 0.25, 0.5, 1]}),
    "key points": ({"keypoints": [2, 4, 2, 6, 8, 1]}, {"keypoints": [1, 2, 2, 3, 4, 1]}),
}


@pytest.mark.parametrize("case", PLACES)
def test_places_in_pixels_are_scaled_with_the_picture(case):
    content, expected = PLACES[case]
    label = read_label(".json", json.dumps(content).encode())
    assert json.loads(label.adapted(Change("a.png", (20, 30), (10, 15)))) == expected


def test_what_cannot_be_scaled_needs_the_size_to_be_kept(tmp_path):
    photo(tmp_path / "a.png", 20, 30)
    for name, content in (("json", '{"segmentation": {"counts": "abc", "size": [30, 20]}}'), ("txt", "0 12 30 8 9")):
        text(tmp_path / f"a.{name}", content)
        (sample,) = opened(tmp_path, "folder").samples()
        assert Loader(tmp_path, max_pixels=1000, short_side=None)(sample).picture.shape == (3, 30, 20)
        with pytest.raises(SampleError, match="size=keep"):
            Loader(tmp_path, max_pixels=1000, short_side=10)(sample)
        (tmp_path / f"a.{name}").unlink()


STORED, APPLIED = ((20, 30), "stored"), ((30, 20), "applied")
FACES = {
    "nothing": (None, None, APPLIED),
    "a mask as stored": ((20, 30), None, STORED),
    "a mask upright": ((30, 20), None, APPLIED),
    "a coco annotation as stored": (None, {"width": 20, "height": 30}, STORED),
    "a coco annotation upright": (None, {"width": 30, "height": 20}, APPLIED),
    "a coco annotation without a size": (None, {}, STORED),
    "a coco annotation of another size": (None, {"width": 21, "height": 30}, None),
}


class TestOrientation:
    """EXIF's rotation is applied, unless labels were made for the picture as it is stored."""

    @pytest.mark.parametrize("case", FACES)
    def test_labels_say_which_they_were_made_for(self, source, make, case):
        mask_size, coco, expected = FACES[case]
        turned(source / "a.jpg", 6, width=20, height=30)
        if mask_size:
            Image.new("L", mask_size).save(source / "a.mask.png")
        if coco is not None:
            images = [{"id": 7, "file_name": "a.jpg", **coco}]
            text(source / "annotations.json", {"images": images, "annotations": [], "categories": []})
        (row,) = [row for row in make() if row["key"] == "a.jpg"]
        if expected is None:
            assert (row["status"], row["kind"]) == ("failed", "labels")
        else:
            assert ((row["width"], row["height"]), row["orientation"]) == expected

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("stated", [False, True])
    def test_a_tiff_stays_as_it_is_stored_where_labels_ask_for_it(self, tmp_path, orientation, stated):
        """Pillow turns TIFFs on its own; boxes of COCO are for what is stored."""
        exif = Image.Exif()
        exif[0x0112] = orientation
        as_stored = malformed.pixels(6, 4)
        Image.fromarray(as_stored).save(tmp_path / "a.tif", exif=exif)
        size = {"width": 4, "height": 6} if stated else {}
        images = [{"id": 7, "file_name": "a.tif", **size}]
        text(tmp_path / "annotations.json", {"images": images, "annotations": [], "categories": []})
        samples = opened(tmp_path, "coco", target="coco").samples()
        (sample,) = [sample for sample in samples if sample.key == "a.tif"]
        loaded = Loader(tmp_path, max_pixels=1000, short_side=None)(sample)
        assert torch.equal(loaded.picture.permute(1, 2, 0), torch.from_numpy(as_stored))
        assert loaded.orientation == (None if orientation == 1 else "stored")


def test_a_source_is_listed_in_one_order_whatever_the_file_system_says(tmp_path):
    for name in ("b/1.jpg", "a/2.jpg", "a.jpg", "a/10.jpg"):
        text(tmp_path / name, "1")
    keys = [sample.key for sample in opened(tmp_path, "folder").samples()]
    assert keys == ["a/10.jpg", "a/2.jpg", "a.jpg", "b/1.jpg"]


def test_many_folders_are_not_listed_again_and_again(tmp_path, monkeypatch):
    """Where there are more of them than a small cache would hold."""
    for number in range(100):
        text(tmp_path / f"in/train/{number:03d}/1.jpg", "")
    listed = Counter()
    plain = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.update([os.fspath(path)]) or plain(path))
    layout = opened(tmp_path / "in")
    assert len(list(layout.samples())) == 100
    assert listed.total() <= 3 * len(listed)
