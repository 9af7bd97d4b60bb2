"""Inputs that mean harm, which chaos_make_dataset.py feeds to make-dataset."""

import io
import shutil
import tarfile
import unicodedata
from pathlib import Path

from chaos_dataset_runs import Draw, Run, Tree, expect, picture, tree
from PIL import Image

from gan_style.cli import TOO_MANY_FAILURES


def fuzz_pictures(run: Run, draw: Draw, wanted: Tree) -> None:
    """Twenty mutilated pictures among the good ones: a row each, the good ones as ever, under 1 GB."""
    folder = run.place / "in"
    shutil.copytree(run.given / "in", folder)
    for number in range(20):
        (folder / "class 0" / f"fuzzed {number}{draw.choice(['.jpg', '.png'])}").write_bytes(_mutilated(draw))
    run.changed = {"input": str(folder), "max_failures": 21, "copies": 1, "strength": 1.0, "shard_size": 200}
    one = run.start()
    expect(one.wait() == 0, f"status {one.status}: {one.words()[-500:]}")
    expect(one.peak < 1_000_000, f"{one.peak / 1000:.0f} MB")
    rows = {row["key"]: row for row in run.rows()}
    keys = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".txt" and ".mask" not in path.name
    }
    expect(rows.keys() == keys and len(run.rows()) == len(keys), "not one row each")
    for row in rows.values():
        expect(row["status"] in ("ok", "carried") or bool(row["kind"] and row["error"]), f"no reason: {row}")
    good = [key for key in keys if "fuzzed" not in key and "bad" not in key]
    expect(all(rows[key]["status"] in ("ok", "carried") for key in good), "a good picture failed")
    expect(run.verify().status == 0, "verify finds something")


def _mutilated(draw: Draw) -> bytes:
    buffer, size = io.BytesIO(), (draw.randint(1, 60), draw.randint(1, 60))
    kind = draw.choice(["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
    Image.effect_noise(size, 60).convert(draw.choice(["L", "RGB"])).save(buffer, kind)
    data = bytearray(buffer.getvalue())
    for _ in range(draw.randint(1, 5)):
        where, length = draw.randrange(len(data)), draw.randint(1, 30)
        how = draw.choice(["flip", "cut", "zero", "random", "insert"])
        if how == "cut":
            del data[max(1, where) :]
        elif how == "insert":
            data[where:where] = draw.randbytes(length)
        else:
            some = {"flip": bytes([data[where] ^ 255]), "zero": bytes(length), "random": draw.randbytes(length)}[how]
            data[where : where + len(some)] = some
    return bytes(data)


_PARTS = (
    "a",
    "b.c",
    "A",
    " x",
    "x ",
    "img.v2.001",
    "img.v2.002",
    "~1",
    "#",
    "%2e",
    "é",
    "日本",
    "\U0001f408",
    "-",
    "$(x)",
)


def hostile_names(run: Run, draw: Draw, wanted: Tree) -> None:
    """Names that collide or mean something to someone: nothing merged, nothing outside, every result to be found."""
    folder = run.place / "in"
    for number in range(30):
        stem = "".join(draw.choices(_PARTS, k=draw.randint(1, 4)))
        stem = unicodedata.normalize(draw.choice(["NFC", "NFD"]), stem) if number % 5 else "n" * draw.randint(180, 250)
        name = (stem + draw.choice([".jpg", ".JPG", ".png", ".jpeg"])).encode()[-255:].decode(errors="ignore")
        picture(folder / draw.choice(["a", "A", "b..", "c.d"]) / name, 9 + number, 8, number)
    _fed(run, folder, sum(path.is_file() for path in folder.rglob("*")), exact=True)


def hostile_archives(run: Run, draw: Draw, wanted: Tree) -> None:
    """Members that traverse, link, claim and repeat; at last the archive is cut."""
    folder = run.place / "in"
    folder.mkdir()
    good = io.BytesIO()
    Image.effect_noise((20, 16), 50).convert("RGB").save(good, "PNG")
    names = [
        "ok.png",
        "../up.png",
        "/abs.png",
        "a/../../b.png",
        "dup.png",
        "dup.png",
        "dup.cls",
        "x" * 300 + ".png",
        "..png",
    ]
    with tarfile.open(folder / "in-000.tar", "w") as archive:
        for name in draw.sample(names, len(names)):
            member = tarfile.TarInfo(name)
            member.size = len(good.getvalue())
            archive.addfile(member, io.BytesIO(good.getvalue()))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"link{kind.decode()}.png")
            member.type, member.linkname = kind, draw.choice(["/etc/passwd", "../../secret", "ok.png"])
            archive.addfile(member)
    if draw.number % 2:
        data = (folder / "in-000.tar").read_bytes()
        (folder / "in-000.tar").write_bytes(data[: draw.randrange(1500, len(data))])
    _fed(run, folder, 1, exact=False)


def _fed(run: Run, folder: Path, least: int, *, exact: bool) -> None:
    """Make a dataset of a folder of ours: ends as documented, changes nothing outside its output, verifies."""
    run.changed = {"input": str(folder), "max_failures": 1000, "copies": 1, "output_layout": "auto"}
    before = {path: path.lstat().st_mtime_ns for path in run.place.rglob("*")}
    one = run.start()
    one.wait()
    rows = run.rows()
    statuses = {row["status"] for row in rows}  # where all pictures fail, the run has
    documented = TOO_MANY_FAILURES if "failed" in statuses and "ok" not in statuses else 0
    expect(one.status == documented, f"status {one.status}: {one.words()[-500:]}")
    after = {path for path in run.place.rglob("*") if run.output not in (path, *path.parents)}
    expect(after - {one.log} == before.keys(), "something was written outside the output")
    outputs = [row["output"] for row in rows if row["output"] is not None]
    expect(len(rows) == least if exact else len(rows) >= least, f"{len(rows)} rows for {least} pictures")
    expect(len(set(outputs)) == len(outputs) == len({output.casefold() for output in outputs}), "outputs collide")
    expect(run.verify().status == 0, f"verify finds something: {run.started[-1].words()[-300:]}")


def sizes_and_labels(run: Run, draw: Draw, wanted: Tree) -> None:
    """Widths and heights of 1 to 257 px, captions and classes, from a folder to each layout."""
    folder, layout = run.place / "in", ("folder", "webdataset", "coco")[draw.number % 3]
    sizes = {}
    for number in range(12):
        width, height = draw.randint(1, 257), draw.randint(1, 257)
        key = f"class {number % 3}/{number}.png"
        sizes[key] = (width, height, f"class {number % 3}")
        picture(folder / key, width, height, number)
        (folder / key).with_suffix(".txt").write_text(f"{number}")
    run.changed = {"input": str(folder), "copies": 1, "output_layout": layout}
    run.finish()
    for row in run.rows():
        expect((row["width"], row["height"], row["label"]) == sizes[row["key"]], f"{row['key']}: {row}")
    expect(run.verify().status == 0, "verify finds something")
    if layout == "folder":
        captions = {name: data for name, data in tree(run.output / "data").items() if name.endswith(".txt")}
        expect(captions == {n: d for n, d in tree(folder).items() if n.endswith(".txt")}, "captions differ")
