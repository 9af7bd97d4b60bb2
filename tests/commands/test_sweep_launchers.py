"""What runs a sweep's jobs, with jobs that are over at once and need no torch."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from processes import REPOSITORY, wait_until
from slurm_standins import install

from gan_style.commands import launchers
from gan_style.commands.launchers import Basic, JobEnd, Joblib, SubmititSlurm, SweepJob, environment_of, run_here
from gan_style.runtime.signals import PREEMPTED, Stop

KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
PATIENT = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); time.sleep(20)"
TWICE = "import os, sys; again = os.path.exists('{0}'); open('{0}', 'a').write('x'); sys.exit(0 if again else 75)"


@pytest.fixture
def job(tmp_path):
    def make(name: str, program: str, **fields) -> SweepJob:
        (tmp_path / name).mkdir()
        return SweepJob(name, (sys.executable, "-c", program), folder=tmp_path / name, directory=tmp_path, **fields)

    return make


@pytest.fixture(params=["basic", "joblib"])
def launcher(request):
    if request.param == "basic":
        return Basic()
    pytest.importorskip("joblib", reason="not installed (the extra sweep)")
    return Joblib(n_jobs=2)


def ended(launcher, jobs, stop=None) -> dict[str, JobEnd]:
    return {item.job.name: item for item in launcher.run(jobs, stop or Stop())}


def test_a_job_that_fails_or_is_killed_takes_no_other_along(launcher, job, tmp_path):
    write = f"open('{tmp_path}/here', 'w').write(__import__('os').getcwd())"
    jobs = [job("a", write), job("b", "raise SystemExit(2)"), job("c", KILLED), job("d", "pass")]
    actual = ended(launcher, jobs)
    assert {name: first.status for name, first in actual.items()} == {"a": 0, "b": 2, "c": 137, "d": 0}
    assert (tmp_path / "here").read_text() == str(tmp_path)
    assert "SIGKILL" in actual["c"].message() and "status 2" in actual["b"].message()


def test_asked_to_stop_all_are_told_and_no_more_begin(launcher, job):
    """The last never begins; for it and for a job that was stopped there is a next time."""
    stop = Stop()
    threading.Timer(1.5, lambda: stop.ask(signal.SIGTERM)).start()
    jobs = [job(name, PATIENT) for name in "abcd"]
    begun = time.monotonic()
    actual = ended(launcher, jobs, stop)
    assert time.monotonic() - begun < 10
    assert {item.status for item in actual.values()} == {PREEMPTED} and "a" in actual and "d" not in actual


def test_what_a_job_says_is_in_its_folder(job):
    pytest.importorskip("joblib", reason="not installed (the extra sweep)")
    ended(Joblib(n_jobs=1), [job("a", "import sys; print('out'); print('err', file=sys.stderr)")])
    # a second try adds to it
    again = job("b", "print('one')")
    ended(Joblib(n_jobs=1), [again])
    ended(Joblib(n_jobs=1), [again])
    assert sorted((again.folder.parent / "a" / "job.log").read_text().split()) == ["err", "out"]
    assert (again.folder / "job.log").read_text() == "one\none\n"


def test_a_program_that_is_not_there_is_a_failure(tmp_path):
    (tmp_path / "a").mkdir()
    first = run_here(SweepJob("a", ("/nowhere/python",), folder=tmp_path / "a", directory=tmp_path), Stop())
    assert first.status == 1 and "cannot be started" in first.message()


DRIVER = """
import sys
from pathlib import Path
from gan_style.commands.launchers import Basic, SweepJob
from gan_style.runtime.signals import Stop
folder = Path(sys.argv[1])
program = '''
import signal, sys, time
from gan_style.runtime.files import locked
from pathlib import Path
def save(*_):
    time.sleep(0.3)
    open("saved", "w").close()
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
with locked(Path.cwd()):
    open("begun", "w").close()
    time.sleep(60)
'''
list(Basic().run([SweepJob("a", (sys.executable, "-c", program), folder=folder, directory=folder)], Stop()))
"""


def test_a_job_whose_sweep_was_killed_saves_itself_and_the_next_waits_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    sweep = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], cwd=REPOSITORY)
    wait_until((tmp_path / "begun").exists)
    sweep.kill()
    sweep.wait()
    command = (sys.executable, "-c", "open('saved')")
    assert run_here(SweepJob("a", command, folder=tmp_path, directory=tmp_path), Stop()).status == 0


class TestShares:
    def test_each_place_has_its_own_gpus_in_turn(self, tmp_path, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        job = SweepJob("a", (), folder=tmp_path, directory=tmp_path, devices=2)
        actual = [environment_of(place, 3, job, ["4", "5", "6", "7"]) for place in range(3)]
        assert [item["CUDA_VISIBLE_DEVICES"] for item in actual] == ["4,5", "6,7", "4,5"]
        assert all("OMP_NUM_THREADS" not in item for item in actual)

    def test_none_is_chosen_where_there_is_no_choice(self, tmp_path, monkeypatch):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))  # of 64, say
        job = SweepJob("a", (), folder=tmp_path, directory=tmp_path)
        assert environment_of(1, 3, job, ["0"]) == {"OMP_NUM_THREADS": "4"}
        cpu = SweepJob("a", (), folder=tmp_path, directory=tmp_path, takes_gpus=False)
        assert "CUDA_VISIBLE_DEVICES" not in environment_of(1, 3, cpu, ["0", "1"])

    @pytest.mark.parametrize(("gpus", "devices", "expected"), [(0, 1, 2), (4, 1, 4), (4, 2, 2), (1, 2, 1)])
    def test_as_many_at_a_time_as_the_gpus_are_enough_for(self, job, monkeypatch, gpus, devices, expected):
        joblib = pytest.importorskip("joblib", reason="not installed (the extra sweep)")
        n_jobs, parallel = [], joblib.Parallel
        monkeypatch.setattr(launchers, "visible_gpus", lambda: [str(number) for number in range(gpus)])
        monkeypatch.setattr(
            joblib, "Parallel", lambda **options: n_jobs.append(options["n_jobs"]) or parallel(**options)
        )
        jobs = [job(name, "pass", devices=devices) for name in "abcde"]
        assert {item.status for item in ended(Joblib(), jobs).values()} == {0}
        assert ended(Joblib(), jobs[:1])["a"].status == 0
        assert n_jobs == [expected, 1]


@pytest.mark.parametrize(
    ("make", "message"), [(Joblib, "hydra/launcher=joblib"), (SubmititSlurm, "hydra/launcher=submitit_slurm")]
)
def test_without_its_library_a_launcher_says_what_to_install(monkeypatch, make, message):
    monkeypatch.setattr(launchers, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"{message} needs .*gan_style\[sweep\]"):
        make()


class TestSubmitit:
    @pytest.fixture(autouse=True)
    def submitit(self):
        return pytest.importorskip("submitit", reason="not installed (the extra sweep)")

    def test_under_slurm_as_an_array_in_which_one_is_pre_empted(self, job, tmp_path, monkeypatch):
        slurm = install(tmp_path / "slurm", monkeypatch)
        launcher = SubmititSlurm(
            array_parallelism=3,
            timeout_min=30,
            partition="dev",
            gpus_per_node=2,
            cpus_per_task=4,
            mem_gb=1.5,
            account="me",
            setup=["echo ready"],
            additional_parameters={"requeue": True},
        )
        actual = ended(launcher, [job("a", TWICE.format(tmp_path / "twice")), job("b", "raise SystemExit(4)")])
        assert {name: first.status for name, first in actual.items()} == {"a": 0, "b": 4}
        assert (tmp_path / "twice").read_text() == "xx"
        script = (slurm / "script").read_text()
        options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", script, re.MULTILINE))
        expected = {"partition": "dev", "time": "30", "array": "0-1%2", "gpus-per-node": "2", "cpus-per-task": "4"}
        expected |= {"mem": "1536MB", "account": "me", "requeue": "", "signal": "USR2@120", "job-name": "gan_style"}
        assert expected.items() <= options.items() and "echo ready" in script

    def test_without_slurm_it_is_said_so(self, job, monkeypatch):
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(ValueError, match=r"hydra/launcher=submitit_slurm: .*srun"):
            ended(SubmititSlurm(), [job("a", "pass")])


@pytest.mark.parametrize(
    ("status", "message"),
    [(137, "killed by SIGKILL"), (255, "ended with status 255"), (128, "ended with status 128"), (1, "status 1")],
)
def test_every_status_has_words(job, status, message):
    assert message in JobEnd(job(str(status), "pass"), status, 1.0).message()
