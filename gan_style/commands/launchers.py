"""What runs a sweep's jobs: one after the other, several at a time, or on a SLURM cluster. See conf/hydra/launcher/.

Not Hydra's plugins of these names: in theirs a job that is killed takes the others along (joblib's processes), or hides
how they ended (submitit's first error is raised), and one that leaves with status 75 counts as done. The names and the
options are theirs.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from gan_style.runtime.machine import cores
from gan_style.runtime.process import await_folder, run_process
from gan_style.runtime.provenance import FAILURE_FILE
from gan_style.runtime.signals import PREEMPTED, Stop, stop_on_signals

LOG_FILE = "job.log"
_LOOK_EVERY = 0.2  # seconds, at the jobs of submitit, which asks SLURM itself less often


@dataclass(frozen=True)
class SweepJob:
    """A command line and its folder. directory: where it is run; devices: processes that it starts.

    takes_gpus: whether it takes the first GPUs that it sees.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    directory: Path
    devices: int = 1
    takes_gpus: bool = True


@dataclass(frozen=True)
class JobEnd:
    """A job's end. status: as a shell has it, 128 + its signal for a killed one; problem: the launcher's own."""

    job: SweepJob
    status: int
    seconds: float
    problem: str | None = None

    def message(self) -> str:
        """Explain the failure, where the job has left no reason."""
        if self.problem is not None:
            return self.problem
        if self.status - 128 in set(signal.Signals):
            return f"killed by {signal.Signals(self.status - 128).name} (out of memory?); see {LOG_FILE}"
        return f"it ended with status {self.status} and left no reason; see {LOG_FILE}"


class Launcher(Protocol):
    def run(self, jobs: Sequence[SweepJob], stop: Stop) -> Iterator[JobEnd]:
        """Start all, and yield each when it has ended. Once ``stop`` is asked no more are started, and those that run
        are to save themselves and end; those that never began are not yielded."""


class Basic:
    """Run one job after the other; what they print goes to the terminal."""

    def run(self, jobs: Sequence[SweepJob], stop: Stop) -> Iterator[JobEnd]:
        for job in jobs:
            if stop.reason is None:
                yield run_here(job, stop)


class Joblib:
    """Several at a time on this machine, each with its share of the GPUs and of the cores, and a log in its folder.

    n_jobs: at a time; -1: one for each core; None: as many as the GPUs are enough for, or 2 without any. joblib hands
    them out, to threads: each waits for a process.
    """

    def __init__(self, *, n_jobs: int | None = None) -> None:
        check_installed("joblib", "joblib")
        if n_jobs == 0:
            raise ValueError("hydra.launcher.n_jobs=0; allowed are 1, 2, ..., -1 for one a core, or null")
        self.n_jobs = n_jobs

    def run(self, jobs: Sequence[SweepJob], stop: Stop) -> Iterator[JobEnd]:
        import joblib

        gpus, devices = visible_gpus(), max(job.devices for job in jobs)
        parallel = joblib.effective_n_jobs(self.n_jobs or max(1, len(gpus) // devices) if gpus else self.n_jobs or 2)
        count = min(parallel, len(jobs))
        places: SimpleQueue[int] = SimpleQueue()
        for place in range(count):
            places.put(place)

        def run_job(job: SweepJob) -> JobEnd | None:
            place = places.get()
            try:
                share = environment_of(place, count, job, gpus)
                return run_here(job, stop, environment=share, logged=True) if stop.reason is None else None
            finally:
                places.put(place)

        pool = joblib.Parallel(n_jobs=count, backend="threading", batch_size=1, return_as="generator_unordered")
        yield from filter(None, pool(joblib.delayed(run_job)(job) for job in jobs))


def check_installed(library: str, launcher: str) -> None:
    """Raise ValueError where a launcher's library is not there."""
    if find_spec(library) is None:
        raise ValueError(f"hydra/launcher={launcher} needs {library}: pip install 'gan_style[sweep]'")


def visible_gpus() -> list[str]:
    """List the GPUs as CUDA_VISIBLE_DEVICES names them."""
    import torch

    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [str(number) for number in range(torch.cuda.device_count())]
    return setting.split(",")[: len(devices)] if setting else devices


def environment_of(place: int, places: int, job: SweepJob, gpus: Sequence[str]) -> dict[str, str]:
    """Return the variables of a job in one of so many places: its GPUs, in turn, and its part of the cores."""
    own_cores = max(1, cores() // (places * job.devices))
    share = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(own_cores)}
    if job.takes_gpus and len(gpus) > job.devices:
        job_gpus = [gpus[(place * job.devices + number) % len(gpus)] for number in range(job.devices)]
        share["CUDA_VISIBLE_DEVICES"] = ",".join(job_gpus)
    return share


def run_here(
    job: SweepJob, stop: Stop, *, environment: Mapping[str, str] | None = None, logged: bool = False
) -> JobEnd:
    """Run a job as a process of this machine, and wait for it; logged: what it says goes to its folder.

    A job that a killed sweep has left is asked to save itself by the system; it is waited for.
    """
    begun = time.monotonic()
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        await_folder(job.folder)
        (job.folder / FAILURE_FILE).unlink(missing_ok=True)
        log = job.folder / LOG_FILE if logged else None
        _, status = run_process(job.command, lambda: stop.reason, log=log, environment=environment, cwd=job.directory)
    except (OSError, ValueError) as error:
        return JobEnd(job, 1, time.monotonic() - begun, f"it cannot be started: {error}")
    return JobEnd(job, status, time.monotonic() - begun)


# SLURM, through submitit


@dataclass(frozen=True)
class Task:
    """A job as submitit calls it on another machine; it pickles. halt: a file that says not to go on."""

    job: SweepJob
    halt: Path

    def __call__(self) -> tuple[int, float]:
        """Run the job; return its status and seconds. Status 75 queues it again, unless the sweep was stopped."""
        with stop_on_signals() as stop:
            ended = run_here(self.job, stop, logged=True)
        if ended.status == PREEMPTED and not self.halt.exists():
            # Call submitit's own handler, which stores the task, queues the job again, and ends the process.
            from submitit import JobEnvironment

            try:
                signal.raise_signal(signal.Signals[f"SIG{JobEnvironment.USR_SIG}"])
            except subprocess.SubprocessError as error:
                raise SystemExit(f"the job could not be queued again: {error}") from error
        return ended.status, ended.seconds

    def checkpoint(self) -> Any:
        """Return what is to be called once the job is queued again (submitit's hook)."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass(kw_only=True)
class SubmititSlurm:
    """A SLURM cluster's queue. For what each option means see its file in conf/; None leaves one to the cluster."""

    array_parallelism: int = 256
    timeout_min: int = 60
    max_num_timeout: int = 100
    signal_delay_s: int = 120
    name: str = "gan_style"
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    mem_gb: float | None = None
    partition: str | None = None
    qos: str | None = None
    account: str | None = None
    constraint: str | None = None
    setup: Sequence[str] | None = None
    additional_parameters: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        check_installed("submitit", "submitit_slurm")

    def run(self, jobs: Sequence[SweepJob], stop: Stop) -> Iterator[JobEnd]:
        """See Launcher. What submitit itself says and keeps is in .submitit in the sweep's folder."""
        # Submit all as one array.
        folder = jobs[0].folder.parent / ".submitit"
        halt, executor = folder / "halt", self._executor(folder)
        halt.unlink(missing_ok=True)
        with executor.batch():
            handles = [executor.submit(Task(job, halt)) for job in jobs]
        running = list(zip(jobs, handles, strict=True))
        for job, handle in running:
            print(f"{job.name}: submitted as {handle.job_id}", flush=True)

        # Wait for each; asked to stop, have none queued again and cancel all, which tells them to save themselves.
        while running:
            if stop.reason is not None and not halt.exists():
                halt.touch()
                for _, handle in running:
                    handle.cancel(check=False)
            ended = [pair for pair in running if pair[1].done()]
            running = [pair for pair in running if pair not in ended]
            yield from (_read_end(job, handle, stop) for job, handle in ended)
            time.sleep(_LOOK_EVERY)

    def _executor(self, folder: Path) -> Any:
        import submitit

        parameters = {name: value for name, value in asdict(self).items() if value is not None}
        timeouts = parameters.pop("max_num_timeout")
        parameters |= {"time": parameters.pop("timeout_min"), "job_name": parameters.pop("name")}
        if self.mem_gb is not None:
            parameters["mem"] = f"{round(parameters.pop('mem_gb') * 1024)}MB"
        try:
            executor = submitit.SlurmExecutor(folder, max_num_timeout=timeouts)
            executor.update_parameters(**parameters)
        except (RuntimeError, ValueError, TypeError) as error:
            raise ValueError(f"hydra/launcher=submitit_slurm: {error}") from error
        return executor


def _read_end(job: SweepJob, handle: Any, stop: Stop) -> JobEnd:
    """Read a job's end from what its task has left; one that left nothing where we stop was cancelled.

    A cluster's disks may be slow to show it: submitit waits for it a while.
    """
    if stop.reason is not None and not handle.paths.result_pickle.exists():
        return JobEnd(job, PREEMPTED, 0.0)
    error = handle.exception()
    if error is None:
        status, seconds = handle.result()
        return JobEnd(job, status, seconds)
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return JobEnd(job, 1, 0.0, f"submitit's task failed: {lines[-1].strip()}; see {handle.paths.stderr}")
