"""Launchers of sweeps through submitit: SLURM, and processes of this machine that stand for it."""

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_style.commands.launchers import Ended, Job, check_installed, run_here
from gan_style.runtime.signals import PREEMPTED, Stop, stop_on_signals

_LOOK = 0.2  # seconds between looks at the jobs; submitit asks SLURM itself less often


@dataclass(frozen=True)
class Task:
    """A job as submitit calls it, on another machine as may be; it pickles. halt: a file that says not to go on."""

    job: Job
    halt: Path

    def __call__(self) -> tuple[int, float]:
        """Its status and seconds. One that leaves with status 75 is queued again, unless the sweep was stopped."""
        with stop_on_signals() as stop:
            ended = run_here(self.job, stop, logged=True)
        if ended.status == PREEMPTED and not self.halt.exists():
            _queue_again()
        return ended.status, ended.seconds

    def checkpoint(self) -> Any:
        """submitit's hook: what is to be called once the job is queued again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _queue_again() -> None:
    """Call submitit's own handler, which stores the task, queues the job again, and ends the process.

    Where SLURM refuses, as it may be queueing the job again by itself, the process ends without a result.
    """
    from submitit import JobEnvironment

    try:
        signal.raise_signal(signal.Signals[f"SIG{JobEnvironment.USR_SIG}"])
    except subprocess.SubprocessError as error:
        raise SystemExit(f"the job could not be queued again: {error}") from error


class Submitit:
    """What both have in common. cluster: submitit's name; at_once: jobs that are in its hands at a time."""

    def __init__(self, cluster: str, *, at_once: int | None, timeouts: int, parameters: dict[str, Any]) -> None:
        check_installed("submitit", f"submitit_{cluster}")
        self.cluster, self.at_once, self.timeouts = cluster, at_once, timeouts
        self.parameters = {name: value for name, value in parameters.items() if value is not None}

    def run(self, jobs: Sequence[Job], stop: Stop) -> Iterator[Ended]:
        """See Launcher. What submitit itself says and keeps is in .submitit in the sweep's folder."""
        folder = jobs[0].folder.parent / ".submitit"
        halt, waiting = folder / "halt", list(jobs)
        running: list[tuple[Job, Any]] = []
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
            time.sleep(_LOOK)

    def _executor(self, folder: Path) -> Any:
        import submitit

        make = {"slurm": submitit.SlurmExecutor, "local": submitit.LocalExecutor}[self.cluster]
        try:
            executor = make(folder, max_num_timeout=self.timeouts)
            executor.update_parameters(**self.parameters)
        except (RuntimeError, ValueError, TypeError) as error:
            raise ValueError(f"hydra/launcher=submitit_{self.cluster}: {error}") from error
        return executor


def _submitted(executor: Any, tasks: Sequence[Task]) -> list[tuple[Job, Any]]:
    """Each job with submitit's handle of it; SLURM is given them as one array."""
    if not tasks:
        return []
    with executor.batch():
        handles = [executor.submit(task) for task in tasks]
    for task, handle in zip(tasks, handles, strict=True):
        print(f"{task.job.name}: submitted as {handle.job_id}", flush=True)
    return [(task.job, handle) for task, handle in zip(tasks, handles, strict=True)]


def _ended(job: Job, handle: Any, stop: Stop, cluster: str) -> Ended:
    """How a job has ended, from what its task has left; one that left nothing was killed, or, where we stop, cancelled.

    A cluster's disks may be slow to show it: submitit waits for it a while.
    """
    here = handle.paths.result_pickle.exists()
    if not here and stop.reason is not None:
        return Ended(job, PREEMPTED, 0.0)
    if not here and cluster == "local":
        return Ended(job, 1, 0.0, f"its task was killed; see {handle.paths.stderr}")
    error = handle.exception()
    if error is None:
        status, seconds = handle.result()
        return Ended(job, status, seconds)
    words = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return Ended(job, 1, 0.0, f"submitit's task failed: {words[-1].strip()}; see {handle.paths.stderr}")


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
