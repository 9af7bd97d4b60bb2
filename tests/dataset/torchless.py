"""A dataset made without torch: results are their sources' bytes backwards. Run as a program it can kill itself.

python torchless.py INPUT OUTPUT LAYOUT SHARD_SIZE [CALL PLACE NUMBER WHEN | WORKERS PAUSE]
"""

import builtins
import functools
import hashlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from gan_style.dataset.engines.local import run_here, run_processes
from gan_style.dataset.geometry import Change
from gan_style.dataset.journal import DATA, STATE, Records, only_one
from gan_style.dataset.layouts.labels import adapted, read_labels, read_sidecars
from gan_style.dataset.layouts.recognise import open_layout
from gan_style.dataset.manifest import Documents, Merge
from gan_style.dataset.naming import Names, Scheme, among_images, in_folders, make_scheme
from gan_style.dataset.plan import Plan, check_listing, check_settings, read_plan, write_plan
from gan_style.dataset.sample import Sample, SampleError
from gan_style.dataset.worker import SKIPPED, SampleResult, ShardWorker, copies_of, passed_through
from gan_style.dataset.writers import Destination
from gan_style.runtime.signals import stop_on_signals


class Backwards:
    """A maker whose result is the source's bytes, backwards."""

    def __init__(self, root: Path, scheme: Scheme, pause: float = 0.0) -> None:
        """pause: seconds that each shard takes at least."""
        self.root, self.scheme, self.pause = root, scheme, pause

    def __call__(self, samples: Sequence[tuple[int, Sample]]) -> Iterator[SampleResult]:
        time.sleep(self.pause)
        for number, sample in reversed(samples):  # results may come in any order
            for copy in range(copies_of(sample, self.scheme.copies)):
                yield self._result_of(number, sample, copy)

    def _result_of(self, number: int, sample: Sample, copy: int) -> SampleResult:
        try:
            if sample.problem is not None:
                raise SampleError(*sample.problem)
            data = sample.picture.read(self.root)
            sidecars = read_sidecars(sample, self.root)
        except SampleError as error:
            status = "skipped" if error.kind in SKIPPED else "failed"
            return SampleResult(number, copy, {"status": status, "kind": error.kind, "error": str(error)})
        sha256 = hashlib.sha256(data).hexdigest()
        if sample.passthrough:
            return passed_through(number, sample, sha256, data, self.scheme)
        suffix = self.scheme.picture_suffix(sample)
        change = Change(Path(self.scheme.path(sample, copy, suffix)).name, source=sample.file_name)
        files = {suffix: data[::-1], **adapted(sidecars, read_labels(sidecars), change)}
        return SampleResult(number, copy, {"status": "ok", "source_sha256": sha256}, files)


def make_plan(
    source_of: str, output: Path, target: str = "folder", shard_size: int = 4, copies: int = 1, **settings: object
) -> tuple[Plan, Path]:
    """The plan that is there, checked, or a new one; and the input's root."""
    layout = open_layout(source_of, "auto", target=target, carry=["*.mask.png"])
    scheme = make_scheme(copies, settings.get("suffix"), layout.kind, target)
    namer = {
        "folder": in_folders if layout.kind == "webdataset" else None,
        "coco": None if layout.kind == "coco" else among_images,
    }.get(target)
    settings = {"format": "keep", "copies": copies, "input_layout": layout.kind, "output_layout": target, **settings}
    with only_one(output / STATE / "plan.lock"):
        plan = read_plan(output / STATE)
        if plan is None:
            names = Names(scheme, namer) if namer else Names(scheme)
            classes = layout.classes() if target == "webdataset" else None
            facts = layout.facts()
            plan = write_plan(output / STATE, layout.samples(), settings, names, shard_size, facts, classes=classes)
        else:
            check_settings(plan, settings)
            check_listing(plan, layout.samples)
    return plan, layout.root


def scheme_of(plan: Plan) -> Scheme:
    settings = plan.settings
    return make_scheme(settings["copies"], settings.get("suffix"), settings["input_layout"], settings["output_layout"])


def make_worker(output: Path, plan: Plan, root: Path, pause: float = 0.0) -> ShardWorker:
    scheme, records = scheme_of(plan), Records(output, plan)
    records.prepare()
    destination = Destination(plan.settings["output_layout"], output / DATA, scheme)
    return ShardWorker(records, destination, Backwards(root, scheme, pause), seed=0)


class Making:
    """Pickles, for processes of their own."""

    def __init__(self, output: Path, plan: Plan, root: Path, pause: float = 0.0) -> None:
        self.arguments = (output, plan, root, pause)

    def __call__(self, number: int = 0) -> ShardWorker:
        return make_worker(*self.arguments)


def make(
    source: str,
    output: Path,
    layout: str = "folder",
    shard_size: int = 4,
    workers: int = 1,
    pause: float = 0.0,
    **more: object,
) -> Merge | None:
    """All of it, to the manifest; None where a signal stopped it."""
    plan, root = make_plan(source, output, layout, shard_size, **more)
    making = Making(output, plan, root, pause)
    run = run_here if workers == 1 else functools.partial(run_processes, count=workers)
    with stop_on_signals() as stop:
        if not run(making, plan.shards, retry=(), stop=stop, report=lambda shard: None):
            return None
    merge = Merge(Records(output, plan))
    with only_one(merge.records.state / "merge.lock"):
        merge.tidy()
        merge.manifest("jsonl")
        opened = open_layout(source, "auto", target=layout, carry=["*.mask.png"])
        Documents(opened, layout, scheme_of(plan), merge.records, merge.each_row, print).write()
    return merge


def kill_at(call: str, place: str, number: int, when: str) -> None:
    """Die before, after or, for "write", in the NUMBERth call of os.CALL on a path that holds PLACE."""
    module, name = (builtins, "open") if call == "write" else (os, call)
    plain, calls = getattr(module, name), iter(range(1, 10**9))

    def trapped(*arguments, **more):
        path = arguments[0] if call == "write" else arguments[-1]
        path = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fspath(path)
        counts = call != "write" or arguments[1:2] in (("wb",), ("xb",))
        hit = counts and place in path + "/" and next(calls) == number
        if hit and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = plain(*arguments, **more)
        if hit and call == "write":
            result.write(b"a part")
            result.flush()
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(module, name, trapped)


if __name__ == "__main__":
    argv = sys.argv[1:]
    if len(argv) == 8:
        kill_at(argv[4], argv[5], int(argv[6]), argv[7])
    workers, pause = (int(argv[4]), float(argv[5])) if len(argv) == 6 else (1, 0.0)
    merge = make(argv[0], Path(argv[1]), argv[2], int(argv[3]), workers, pause)
    sys.exit(0 if merge else 75)
