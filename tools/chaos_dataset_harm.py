"""The kinds of harm that chaos_make_dataset.py does to a run of make-dataset; each ends with the run's comparison."""

import builtins
import errno
import functools
import os
import shutil
import signal
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from chaos_dataset_runs import Draw, Run, Tree, check_equal, check_kept, check_visible, expect

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


CHANGES: dict[str, dict[str, Any]] = {
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
    changed = dict(CHANGES[name])
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
