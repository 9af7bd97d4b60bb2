"""What runs a sweep's jobs: one after the other, several at a time, or on a cluster. See conf/hydra/launcher/.

Not Hydra's plugins of these names: in theirs a job that is killed takes the others along (joblib's processes), or hides
how they ended (submitit's first error is raised), and one that leaves with status 75 counts as done. The names and the
options are theirs.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Protocol

from gan_style.runtime.machine import cores
from gan_style.runtime.provenance import FAILURE_FILE
from gan_style.runtime.signals import PREEMPTED, Stop, stop_on_signals

LOG_FILE = "job.log"
_LOOK = 0.05  # seconds between looks at a process
_LOOK_AT_QUEUE = 0.2  # and at the jobs of submitit, which asks SLURM itself less often


@dataclass(frozen=True)
class SweepJob:
    """A command line and its folder. here: where it is run; devices: processes that it starts.

    takes_gpus: whether it takes the first GPUs that it sees.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    here: Path
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
        """Why it failed, where it says nothing itself."""
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
    """One after the other; what they say goes to the terminal."""

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
    """ValueError where a launcher's library is not there."""
    if find_spec(library) is None:
        raise ValueError(f"hydra/launcher={launcher} needs {library}: pip install 'gan_style[sweep]'")


def visible_gpus() -> list[str]:
    """As CUDA_VISIBLE_DEVICES names them."""
    import torch

    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [str(number) for number in range(torch.cuda.device_count())]
    return setting.split(",")[: len(devices)] if setting else devices


def environment_of(place: int, places: int, job: SweepJob, gpus: Sequence[str]) -> dict[str, str]:
    """What differs for a job in one of so many places: its GPUs, in turn, and its part of the cores."""
    own_cores = max(1, cores() // (places * job.devices))
    share = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(own_cores)}
    if job.takes_gpus and len(gpus) > job.devices:
        own = [gpus[(place * job.devices + number) % len(gpus)] for number in range(job.devices)]
        share["CUDA_VISIBLE_DEVICES"] = ",".join(own)
    return share


def run_here(
    job: SweepJob, stop: Stop, *, environment: Mapping[str, str] | None = None, logged: bool = False
) -> JobEnd:
    """Run a job as a process of this machine, and wait for it. Asked to stop, it is asked to (SIGTERM).

    It begins when nobody else works on it: the process inherits the lock on its folder, and so holds it for as long as
    it lives, even where we are killed. logged: what it says goes to its folder instead of the terminal.
    """
    begun = time.monotonic()
    job.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        lock = stack.enter_context(_only_one(job.folder, stop))
        if lock is None:
            return JobEnd(job, PREEMPTED, time.monotonic() - begun)
        (job.folder / FAILURE_FILE).unlink(missing_ok=True)
        log = stack.enter_context(open(job.folder / LOG_FILE, "ab")) if logged else None
        try:
            process = subprocess.Popen(
                job.command,
                cwd=job.here,
                env=os.environ | dict(environment or {}),
                stdout=log,
                stderr=log,
                pass_fds=[lock.fileno()],
            )
        except OSError as error:
            return JobEnd(job, 1, time.monotonic() - begun, f"it cannot be started: {error}")
        return JobEnd(job, _await(process, stop), time.monotonic() - begun)


@contextmanager
def _only_one(folder: Path, stop: Stop) -> Iterator[IO[bytes] | None]:
    """The open lock of a job's folder, once nobody else holds it; None where we are asked to stop before."""
    import fcntl  # sweeps need a POSIX system, training itself does not

    with open(folder / ".job.lock", "ab") as file:
        is_reported = False
        while stop.reason is None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not is_reported:
                    print(f"{folder.name}: another process is still at work on it; waiting for its end", flush=True)
                is_reported = True
                time.sleep(_LOOK)
                continue
            yield file
            return
        yield None


def _await(process: "subprocess.Popen[bytes]", stop: Stop) -> int:
    is_reported = False
    while process.poll() is None:
        if stop.reason is not None and not is_reported:
            process.send_signal(signal.SIGTERM)
            is_reported = True
        time.sleep(_LOOK)
    return 128 - process.returncode if process.returncode < 0 else process.returncode


# submitit: SLURM, and processes of this machine that stand for it


@dataclass(frozen=True)
class Task:
    """A job as submitit calls it, on another machine as may be; it pickles. halt: a file that says not to go on."""

    job: SweepJob
    halt: Path

    def __call__(self) -> tuple[int, float]:
        """Its status and seconds. One that leaves with status 75 is queued again, unless the sweep was stopped."""
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
        """submitit's hook: what is to be called once the job is queued again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Submitit:
    """What both have in common. cluster: submitit's name; at_once: jobs that are in its hands at a time."""

    def __init__(self, cluster: str, *, at_once: int | None, timeouts: int, parameters: dict[str, Any]) -> None:
        check_installed("submitit", f"submitit_{cluster}")
        self.cluster, self.at_once, self.timeouts = cluster, at_once, timeouts
        self.parameters = {name: value for name, value in parameters.items() if value is not None}

    def run(self, jobs: Sequence[SweepJob], stop: Stop) -> Iterator[JobEnd]:
        """See Launcher. What submitit itself says and keeps is in .submitit in the sweep's folder."""
        folder = jobs[0].folder.parent / ".submitit"
        halt, waiting = folder / "halt", list(jobs)
        running: list[tuple[SweepJob, Any]] = []
        executor = self._executor(folder)
        halt.unlink(missing_ok=True)
        while running or (waiting and stop.reason is None):
            if stop.reason is None:
                count = len(waiting) if self.at_once is None else self.at_once - len(running)
                some, waiting = waiting[:count], waiting[count:]
                running += _submitted(executor, [Task(job, halt) for job in some])
            elif not halt.exists():
                halt.touch()
                for _, handle in running:
                    handle.cancel(check=False)
            ended = [pair for pair in running if pair[1].done()]
            running = [pair for pair in running if pair not in ended]
            yield from (_ended(job, handle, stop, self.cluster) for job, handle in ended)
            time.sleep(_LOOK_AT_QUEUE)

    def _executor(self, folder: Path) -> Any:
        import submitit

        make = {"slurm": submitit.SlurmExecutor, "local": submitit.LocalExecutor}[self.cluster]
        try:
            executor = make(folder, max_num_timeout=self.timeouts)
            executor.update_parameters(**self.parameters)
        except (RuntimeError, ValueError, TypeError) as error:
            raise ValueError(f"hydra/launcher=submitit_{self.cluster}: {error}") from error
        return executor


def _submitted(executor: Any, tasks: Sequence[Task]) -> list[tuple[SweepJob, Any]]:
    """Each job with submitit's handle of it; SLURM is given them as one array."""
    if not tasks:
        return []
    with executor.batch():
        handles = [executor.submit(task) for task in tasks]
    for task, handle in zip(tasks, handles, strict=True):
        print(f"{task.job.name}: submitted as {handle.job_id}", flush=True)
    return [(task.job, handle) for task, handle in zip(tasks, handles, strict=True)]


def _ended(job: SweepJob, handle: Any, stop: Stop, cluster: str) -> JobEnd:
    """How a job has ended, from what its task has left; one that left nothing was killed, or, where we stop, cancelled.

    A cluster's disks may be slow to show it: submitit waits for it a while.
    """
    here = handle.paths.result_pickle.exists()
    if not here and stop.reason is not None:
        return JobEnd(job, PREEMPTED, 0.0)
    if not here and cluster == "local":
        return JobEnd(job, 1, 0.0, f"its task was killed; see {handle.paths.stderr}")
    error = handle.exception()
    if error is None:
        status, seconds = handle.result()
        return JobEnd(job, status, seconds)
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return JobEnd(job, 1, 0.0, f"submitit's task failed: {lines[-1].strip()}; see {handle.paths.stderr}")


class SubmititLocal(Submitit):
    """Processes of this machine in the place of a cluster. For what each option means see its file in conf/."""

    def __init__(
        self,
        *,
        array_parallelism: int = 2,
        timeout_min: int = 60,
        max_num_timeout: int = 100,
        signal_delay_s: int = 120,
        gpus_per_node: int = 0,
    ) -> None:
        parameters = {"timeout_min": timeout_min, "gpus_per_node": gpus_per_node, "signal_delay_s": signal_delay_s}
        super().__init__("local", at_once=array_parallelism, timeouts=max_num_timeout, parameters=parameters)


class SubmititSlurm(Submitit):
    """A SLURM cluster's queue. For what each option means see its file in conf/; None leaves one to the cluster."""

    def __init__(
        self,
        *,
        array_parallelism: int = 256,
        timeout_min: int = 60,
        max_num_timeout: int = 100,
        signal_delay_s: int = 120,
        name: str = "gan_style",
        cpus_per_task: int | None = None,
        gpus_per_node: int | None = None,
        mem_gb: float | None = None,
        partition: str | None = None,
        qos: str | None = None,
        account: str | None = None,
        constraint: str | None = None,
        setup: Sequence[str] | None = None,
        additional_parameters: dict[str, Any] | None = None,
    ) -> None:
        resources = {"time": timeout_min, "cpus_per_task": cpus_per_task, "gpus_per_node": gpus_per_node}
        queue = {"job_name": name, "array_parallelism": array_parallelism, "signal_delay_s": signal_delay_s}
        queue |= {"partition": partition, "qos": qos, "account": account, "constraint": constraint}
        more = {"setup": setup, "additional_parameters": additional_parameters}
        memory = {"mem": None if mem_gb is None else f"{round(mem_gb * 1024)}MB"}
        parameters: dict[str, Any] = {**resources, **queue, **memory, **more}
        super().__init__("slurm", at_once=None, timeouts=max_num_timeout, parameters=parameters)
