"""An array of SLURM jobs through submitit. Each is one worker over the same shards; leases keep them apart.

One that runs out of time, or is pre-empted, is queued again by submitit's checkpoint hook and goes on with what is
left: the records say what that is, so there is no state to hand over.
"""

import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gan_style.dataset.engines.local import Report, order_of, work
from gan_style.dataset.journal import Records
from gan_style.dataset.plan import Shard
from gan_style.dataset.worker import ShardWorker
from gan_style.runtime.progress import warn
from gan_style.runtime.signals import Stop

_PATIENCE = 1.0  # seconds between looks at the records; longer where there are many


@dataclass(frozen=True)
class ArrayTask:
    """What one job of the array calls; it pickles. shards: all of them, in its own order."""

    make: Callable[[int], ShardWorker]
    number: int
    shards: Sequence[Shard]
    retry: Container[int]

    def __call__(self) -> bool:
        """Do what nobody else does, and leave: a machine that waits for others' shards is paid for."""
        worker, nothing = self.make(self.number), lambda *_: None
        return work(worker, self.shards, retry=self.retry, stopped=lambda: False, report=nothing, patient=False)

    def checkpoint(self) -> Any:
        """submitit's hook, called when we are to leave: the same again does the rest."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_array(
    make: Callable[[int], ShardWorker],
    *,
    shards: Sequence[Shard],
    retry: Sequence[int],
    stop: Stop,
    report: Report,
    records: Records,
    local: bool,
    tasks: int,
    **settings: Any,
) -> bool:
    """Submit the array, and wait until all is done. False where we were stopped (the array is cancelled), or where all
    jobs ended before the shards did. ValueError for settings that submitit refuses, OSError for what a job raised.

    make: must pickle; tasks: of the array, at most; settings: see conf/make_dataset.yaml.
    """
    folder = (records.state / "slurm").absolute()
    executor = _executor(folder, local, settings)
    count = min(tasks, len(shards))
    with executor.batch():
        jobs = [
            executor.submit(ArrayTask(make, number, order_of(shards, number, count), retry[number::count]))
            for number in range(count)
        ]
    print(f"{count} jobs, from {jobs[0].job_id} on; what they say is in {folder}", flush=True)
    _wait(jobs, records, shards, bool(retry), stop, report)
    if stop.reason is not None:
        for job in jobs:
            job.cancel(check=False)
        return False
    left = records.left(shards)
    reasons = [reason for job in jobs if (reason := _reason(job, bool(left))) is not None]
    if reasons and left:
        raise OSError(f"{len(left)} shards are left; {reasons[0]}; see {folder}")
    for reason in reasons:
        warn(f"a job gave up, and the others did its work: {reason}")
    return not left


def _wait(
    jobs: Sequence[Any], records: Records, shards: Sequence[Shard], retrying: bool, stop: Stop, report: Report
) -> None:
    """Until all shards are done (as records say, which come sooner than SLURM's word), or all jobs have ended."""
    waiting = list(shards)
    while stop.reason is None:
        ended = all(job.done() for job in jobs)
        begun = time.monotonic()
        if not retrying or ended:  # those whose failures are done again have a record before they begin
            left = {shard.number for shard in records.left(waiting)}
            for shard in waiting:
                if shard.number not in left:
                    report(shard)
            waiting = [shard for shard in waiting if shard.number in left]
        report(None)
        if ended or not waiting:
            return
        time.sleep(max(_PATIENCE, 10 * (time.monotonic() - begun)))


def _reason(job: Any, missed: bool) -> str | None:
    """What a job raised, its last line; None where it raised nothing, or we need not wait to know."""
    if not missed and not job.paths.result_pickle.exists():
        return None
    error = job.exception()
    if error is None:
        return None
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(("---", "You can"))]
    traced = [line for line in lines if not line.startswith((" ", "  -"))]
    return traced[-1] if traced else type(error).__name__


def _executor(folder: Path, local: bool, settings: Mapping[str, Any]) -> Any:
    """submitit's, for SLURM or for processes on this machine."""
    if find_spec("submitit") is None:
        raise ValueError("engine=slurm needs submitit: pip install 'gan_style[slurm]'")
    import submitit

    try:
        if local:
            executor: Any = submitit.LocalExecutor(folder, max_num_timeout=settings["timeouts"])
            executor.update_parameters(timeout_min=settings["time"], gpus_per_node=settings["gpus"])
            return executor
        memory = settings["memory_gb"]
        parameters = {  # submitit's names for our settings; those that are None are left to the cluster
            "job_name": "make-dataset",
            "array_parallelism": settings["at_once"],
            "partition": settings["partition"],
            "time": settings["time"],
            "gpus_per_node": settings["gpus"] or None,
            "cpus_per_task": settings["cpus"],
            "mem": None if memory is None else f"{round(memory * 1024)}MB",
        }
        parameters = {name: value for name, value in parameters.items() if value is not None}
        executor = submitit.SlurmExecutor(folder, max_num_timeout=settings["timeouts"])
        executor.update_parameters(**parameters | dict(settings["more"] or {}))
        return executor
    except RuntimeError as error:
        raise ValueError(f"engine=slurm: {error} (slurm.local=true tries it on this machine)") from error
    except ValueError as error:
        raise ValueError(f"slurm.more: {error}") from error
