"""The kinds of harm that chaos_make_dataset.py does to a run of make-dataset; each ends with the run's comparison."""

import builtins
import errno
import functools
import io
import os
import shutil
import signal
import tarfile
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from chaos_dataset_runs import Draw, Run, Tree, check_equal, check_kept, check_visible, expect, picture, tree
from PIL import Image

POINTS = (  # (function, what the path holds, which call, when)
    ("write", "/.gan_style/", 1, "in"),
    ("replace", "plan-000", 1, "before"),
    ("replace", "plan.json", 1, "after"),
    ("write", "/data/", 2, "in"),
    ("fsync", "/data/", 2, "before"),
    ("fsync", "/data/", 2, "after"),
    ("replace", "/data/", 1, "before"),
    ("replace", "/data/", 2, "after"),
    ("write", "/rows/", 2, "in"),
    ("replace", "/rows/", 2, "after"),
    ("write", "/records/", 2, "in"),
    ("fsync", "/records/", 2, "before"),
    ("replace", "/records/", 2, "before"),
    ("unlink", "/leases/", 2, "before"),
    ("replace", "manifest", 1, "before"),
)
_ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)


def at(call: str, place: str, nth: int, when: str, act: Callable[[], None]) -> None:
    """``act`` before, after or, for "write", in the nth call of os.CALL on a path that holds PLACE."""
    seen = 0

    def hit(path: str) -> bool:
        nonlocal seen
        seen += place in path + "/"
        return place in path + "/" and seen == nth

    def path_of(argument: Any) -> str:
        return os.readlink(f"/proc/self/fd/{argument}") if isinstance(argument, int) else str(argument)

    def trapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **more: Any) -> Any:
            struck = hit(path_of(arguments[-1]))
            if struck and when == "before":
                act()
            result = function(*arguments, **more)
            if struck and when != "before":
                act()
            return result

        return wrapped

    plain_open = builtins.open

    def opened(path: Any, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        file = plain_open(path, mode, *arguments, **more)
        return _half_writing(file, act) if mode in ("wb", "xb") and hit(os.fspath(path)) else file

    if call == "write":
        builtins.open = opened  # type: ignore[assignment]
    else:
        setattr(os, call, trapped(getattr(os, call)))


def _half_writing(file: Any, act: Callable[[], None]) -> Any:
    plain = file.write

    def write(data: bytes) -> int:
        plain(data[: len(data) // 2])
        file.flush()
        act()
        return int(plain(data[len(data) // 2 :]))

    proxy: Any = SimpleNamespace(write=write, flush=file.flush, fileno=file.fileno, close=file.close, tell=file.tell)

    class Halves:
        def __enter__(self) -> Any:
            return proxy

        def __exit__(self, *_: object) -> None:
            file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(proxy, name)

    return Halves()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_point(run: Run, draw: Draw, wanted: Tree) -> None:
    call, place, nth, when = POINTS[draw.number % len(POINTS)]
    one = run.start(functools.partial(at, call, place, nth, when, _die))
    status = one.wait()
    expect(status == -signal.SIGKILL or run.workers > 1, f"the point was not reached: status {status}")
    check_visible(run, wanted)
    done = run.done()
    run.finish()
    check_equal(run, wanted)
    check_kept(run, done)


def kill_at_random(run: Run, draw: Draw, wanted: Tree, most: int = 3) -> None:
    """At most one shard of each worker is done again after each kill."""
    for _ in range(most):
        one = run.start()
        time.sleep(draw.uniform(0.05, 1.2))
        one.kill()
        check_visible(run, wanted)
        done = run.done()
    run.finish()
    check_equal(run, wanted)
    check_kept(run, done)


def kill_storm(run: Run, draw: Draw, wanted: Tree) -> None:
    kill_at_random(run, draw, wanted, most=10)


def kill_one_worker(run: Run, draw: Draw, wanted: Tree) -> None:
    """It does not come back, and the other does all."""
    run.workers = 2
    one = run.start()
    until = time.monotonic() + 30
    while len(one.children()) < 2 and time.monotonic() < until and not one.poll():
        time.sleep(0.005)
    time.sleep(draw.uniform(0.0, 0.4))
    children = one.children()
    if children:
        os.kill(draw.choice(children), signal.SIGKILL)
    expect(one.wait() == 0, f"status {one.status}: {one.words()[-300:]}")
    check_equal(run, wanted)


def change_counts(run: Run, draw: Draw, wanted: Tree) -> None:
    """Other numbers of processes, threads and jobs after each kill."""
    for _ in range(3):
        one = run.start(runtime__devices=draw.choice([1, 2, 3]), runtime__io_threads=draw.choice([1, 2, 4]))
        time.sleep(draw.uniform(0.1, 0.8))
        one.kill()
        check_visible(run, wanted)
    for index in draw.sample(range(2), 2):
        run.finish(shard_index=index, shard_count=2)
    check_equal(run, wanted)


def two_at_once(run: Run, draw: Draw, wanted: Tree) -> None:
    jobs = [run.start(), run.start()]
    if draw.number % 2:
        time.sleep(draw.uniform(0.1, 0.6))
        jobs[0].kill()
    statuses = [job.wait() for job in jobs]
    expect(statuses[1] == 0 and statuses[0] in (0, -signal.SIGKILL), f"statuses {statuses}: {jobs[1].words()[-300:]}")
    check_equal(run, wanted)


CHANGES = {
    "checkpoint": {},
    "strength": {"strength": 0.5},
    "seed": {"seed": 1},
    "copies": {"copies": 3},
    "format": {"format": "webp"},
    "batch": {"batch": 2},
    "shard_size": {"shard_size": 5},
    "input": {},
}


def change_fingerprint(run: Run, draw: Draw, wanted: Tree) -> None:
    run.finish()
    name = list(CHANGES)[draw.number % len(CHANGES)]
    changed: dict[str, Any] = dict(CHANGES[name])
    if name == "checkpoint":
        changed["checkpoint"] = str(run.given / "style1.safetensors")
    if name == "input":
        changed["input"] = str(run.place / "changed")
        shutil.copytree(run.given / "in", run.place / "changed")
        (run.place / "changed" / "class 0" / "00.txt").write_text("another")
    one = run.start(**changed)
    expect(one.wait() == 2, f"status {one.status}")
    expect(name in one.words(), f"{name} is not named: {one.words()[-300:]}")
    check_equal(run, wanted)


def disk_error(run: Run, draw: Draw, wanted: Tree) -> None:
    number = _ERRORS[draw.number % len(_ERRORS)]

    def act() -> None:
        raise OSError(number, os.strerror(number))

    call, when = draw.choice([("write", "in"), ("fsync", "before"), ("replace", "before")])
    place = draw.choice(["/data/", "/rows/", "/records/"])
    run.workers = 1
    one = run.start(functools.partial(at, call, place, draw.choice([1, 2]), when, act))
    expect(one.wait() == 2, f"status {one.status}: {one.words()[-300:]}")
    expect(os.strerror(number) in one.words(), f"it does not say why: {one.words()[-300:]}")
    check_visible(run, wanted)
    done = run.done()
    run.finish()
    check_equal(run, wanted)
    check_kept(run, done)


def stop_by_signal(run: Run, draw: Draw, wanted: Tree) -> None:
    """At a random time, to the process or, as schedulers do, to all of the group."""
    one = run.start()
    while "looking through" not in one.words() and not one.poll():
        time.sleep(0.002)
    time.sleep(draw.uniform(0.0, 0.9))
    number, begun = (signal.SIGTERM, signal.SIGINT)[draw.number % 2], time.monotonic()
    if draw.number % 4 < 2:
        one.signal(number)
    elif not one.poll():
        os.killpg(one.pid, number)
    status = one.wait()
    expect(status in (0, 75), f"status {status}: {one.words()[-300:]}")
    expect(time.monotonic() - begun < 10, "it took longer than 10 s")
    check_visible(run, wanted)
    expect(not list(run.output.rglob("data/**/*.part")), "parts are left")
    run.finish()
    check_equal(run, wanted)


def damage(run: Run, draw: Draw, wanted: Tree) -> None:
    run.finish()
    files = [p for p in run.output.rglob("*") if p.is_file() and p.parent.name in ("records", "rows")]
    files += [p for p in (run.output / "data").rglob("*") if p.is_file() and p.name != "classes.txt"]
    path, how = draw.choice(sorted(files)), draw.choice(["flip", "cut", "remove"])
    good = path.read_bytes()
    where = draw.randrange(len(good))
    flipped = good[:where] + bytes([good[where] ^ 1 << draw.randrange(8)]) + good[where + 1 :]
    path.write_bytes({"flip": flipped, "cut": good[:where], "remove": b""}[how])
    if how == "remove":
        path.unlink()
    done = run.done()
    found = run.verify(repairing=True)
    expect(found.status == 1 and "1 shards are marked" in found.words(), f"{how} {path.name}: {found.words()[-300:]}")
    again = set(done) - set(run.done())
    run.finish()
    check_equal(run, wanted)
    check_kept(run, {name: when for name, when in done.items() if name not in again and path.name != name})
    expect(run.verify().status == 0, "verify still finds something")


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
        if path.suffix != ".txt" and ".mask" not in path.name
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
    expect(one.wait() == 0, f"status {one.status}: {one.words()[-500:]}")
    after = {path for path in run.place.rglob("*") if run.output not in (path, *path.parents)}
    expect(after - {one.log} == before.keys(), "something was written outside the output")
    rows = run.rows()
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
