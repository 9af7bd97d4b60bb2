"""gan-style train -m: which jobs there are, where they go, and what is said of how they end.

Jobs run in this process here, which is faster; in test_sweep_launchers.py and test_sweep_for_real.py they do not.
"""

import json
import re
import shutil
import sys

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from run_files import SMOKE

from gan_style.commands import train
from gan_style.commands.launchers import Basic, JobEnd
from gan_style.commands.sweep import folder_name
from gan_style.config import CONFIG_PATH
from gan_style.runtime.files import locked

GRID = ("loss.style.weight=1,3,10", "training.seed=0,1")
NAMES = [f"loss.style.weight_{weight}+training.seed_{seed}" for weight in (1, 3, 10) for seed in (0, 1)]


@pytest.fixture
def trained(gan_style, tmp_path, monkeypatch):
    """trained("name=value", ...): the outcome of a sweep whose jobs train in this process."""

    def run(self, jobs, stop):
        for job in jobs:
            call.started.append(job.name)
            monkeypatch.setattr(sys, "argv", ["gan-style train", *job.command[3:]])
            with pytest.raises(SystemExit) as exit_:
                train.main()
            yield JobEnd(job, int(exit_.value.code or 0), 1.0)

    def call(*arguments, status=0):
        call.started = []
        return gan_style("train", "-m", *SMOKE, f"run.root={tmp_path}", *arguments, status=status)

    monkeypatch.setattr(Basic, "run", run)
    return call


@pytest.fixture
def sweep(trained, monkeypatch):
    """The same with jobs that only leave a mark."""

    def run(self, jobs, stop):
        for job in jobs:
            trained.started.append(job.name)
            job.folder.mkdir(exist_ok=True)
            (job.folder / "done").touch()
            yield JobEnd(job, 0, 1.0)

    monkeypatch.setattr(Basic, "run", run)
    monkeypatch.setattr(train, "is_finished", lambda cfg: (train.run_folder(cfg) / "done").exists())
    return trained


def folders(place):
    return sorted(path.name for path in place.iterdir() if path.is_dir())


def statuses(place) -> list[str]:
    return [job["status"] for job in json.loads((place / "summary.json").read_text())["jobs"]]


class TestGrid:
    def test_six_jobs_have_a_folder_each_and_a_second_time_nothing_is_started(self, sweep, tmp_path):
        outcome = sweep(*GRID)
        assert folders(tmp_path / "smoke") == sorted(NAMES)
        assert sweep.started == NAMES and statuses(tmp_path / "smoke") == ["finished"] * 6
        assert "6 finished" in outcome.out
        assert "6 of them finished before" in sweep(*GRID).out and sweep.started == []

    def test_a_grid_that_grows_shrinks_and_turns_keeps_its_folders(self, sweep, tmp_path):
        sweep("training.seed=0,1")
        sweep("training.seed=2,1,0", "run.sweep=smoke", "training.steps=6")
        assert sweep.started == ["training.seed_2"]
        sweep("training.seed=1,2", "loss.tv.weight=1e-4,2e-4")
        assert sweep.started[0] == "loss.tv.weight_0.0001+training.seed_1" and len(sweep.started) == 4
        sweep("loss.tv.weight=2e-4,1e-4", "training.seed=1,2")
        assert sweep.started == [] and len(folders(tmp_path / "smoke")) == 7

    def test_jobs_train_in_folders_of_their_own_and_only_what_is_unfinished_goes_on(self, trained, tmp_path):
        trained("training.seed=0,1")
        assert statuses(tmp_path / "smoke") == ["finished"] * 2
        names = ["training.seed_0", "training.seed_1"]
        for seed, name in enumerate(names):
            settings = OmegaConf.load(tmp_path / "smoke" / name / "config.yaml")
            assert (settings.run.sweep, settings.run.name, settings.training.seed) == ("smoke", name, seed)
        for path in (tmp_path / "smoke" / names[1] / "checkpoints").glob("step_00000004.pt"):
            path.unlink()
        outcome = trained("training.seed=0,1")
        assert trained.started == names[1:] and "after step 2" in outcome.out
        outcome = trained("training.seed=choice(0)", "training.steps=6")
        assert trained.started == names[:1] and "after step 4" in outcome.out

    def test_the_grid_of_an_experiment(self, sweep, tmp_path, monkeypatch):
        """As Hydra has it: hydra.sweeper.params."""
        shutil.copytree(CONFIG_PATH, tmp_path / "conf")
        text = "# @package _global_\nhydra: {sweeper: {params: {training.seed: '0,1'}}}\n"
        (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(text)
        monkeypatch.setattr("gan_style.commands.sweep.CONFIG_PATH", tmp_path / "conf")
        sweep("experiment=mine", "run.sweep=mine")
        assert folders(tmp_path / "mine") == ["training.seed_0", "training.seed_1"]

    def test_an_option_that_only_a_swept_choice_has(self, sweep, tmp_path):
        sweep("loss=choice(full)", "loss.identity.weight=0.5", "training.seed=0,1", "run.sweep=mine")
        assert len(folders(tmp_path / "mine")) == 2

    def test_a_dry_run_lists_the_jobs_and_writes_nothing(self, sweep, tmp_path):
        outcome = sweep(*GRID, "dry_run=true")
        assert sweep.started == [] and list(tmp_path.iterdir()) == []
        assert [name for name in NAMES if f"{name}:\n  -m gan_style.commands.train" in outcome.out] == NAMES

    def test_without_run_root_it_goes_to_sweeps(self, gan_style, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        outcome = gan_style("train", "-m", *SMOKE, "training.seed=0,1", "dry_run=true")
        assert "these are the jobs of sweeps/smoke" in outcome.out


class TestEnds:
    def test_one_that_fails_stops_no_other_and_is_named_and_tried_again(self, trained, tmp_path):
        outcome = trained("loss.tv.weight=-1,0", status=2)
        assert len(trained.started) == 2
        assert statuses(tmp_path / "smoke") == ["failed", "finished"]
        name = "loss.tv.weight_-1"
        assert re.search(rf"failed: +{name}: loss.tv.weight=-1; allowed", outcome.out)
        assert (tmp_path / "smoke" / name / "failure.txt").read_text().startswith("loss.tv.weight=-1; allowed")
        trained("loss.tv.weight=-1,0", status=2)
        assert trained.started == [name]

    def test_one_that_leaves_no_reason_gets_one(self, sweep, tmp_path, monkeypatch):
        monkeypatch.setattr(Basic, "run", lambda self, jobs, stop: iter([JobEnd(job, 137, 2.0) for job in jobs]))
        sweep("training.seed=0,1", status=137)
        assert "killed by SIGKILL" in (tmp_path / "smoke" / "training.seed_1" / "failure.txt").read_text()

    def test_stopped_by_max_time_the_others_still_run_and_the_status_is_75(self, trained, tmp_path):
        trained("training.seed=0,1", "training.steps=1000", "training.max_time=0.01", status=75)
        assert len(trained.started) == 2
        assert statuses(tmp_path / "smoke") == ["stopped", "stopped"]

    def test_another_s_run_in_a_job_s_folder_is_refused_and_named(self, trained, tmp_path, gan_style):
        gan_style("train", *SMOKE, f"run.root={tmp_path}/smoke", "run.name=training.seed_0", "data.flip=false")
        outcome = trained("training.seed=0,1", status=2)
        assert "choose another run.sweep" in outcome.out
        assert statuses(tmp_path / "smoke") == ["failed", "finished"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("training.seed=0,1", "run.name=same"), "run.name=same gives two jobs of the sweep one folder"),
            ("training.seed=0", "sweeps over nothing"),
            (("training.seed=0,0"), "two jobs of the sweep have the same settings"),
            (("training.seed=1,1.0", "training.steps=4"), "training.seed"),
            (("training.seed=0,1", "run.sweep=a/b"), "run.sweep='a/b'"),
            (("run.sweep=a,b",), "cannot be swept over"),
            (("hydra.job.chdir=true,false",), "hydra.job.chdir is the same for all jobs"),
            (("training.seed=interval(0,1)",), "a sweep takes values one by one"),
            (("loss.styl.weight=1,2",), "did you mean loss.style"),
            (("generator=glob(zzz*)",), "generator=glob(zzz*)"),
            (("training.seed=0,1", "hydra/launcher=slurm"), "slurm"),
            (("training.seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=0"), "n_jobs=0"),
            (("training.seed=0,1", "run.name=a/${training.seed}"), "run.name=a/0: in a sweep"),
        ],
    )
    def test_before_anything_is_written_or_started(self, sweep, tmp_path, options, message):
        assert message in sweep(*([options] if isinstance(options, str) else options), status=2).err
        assert sweep.started == [] and list(tmp_path.iterdir()) == []

    def test_the_same_sweep_twice_at_once(self, sweep, tmp_path):
        (tmp_path / "smoke").mkdir()
        with locked(tmp_path / "smoke"):
            outcome = sweep("training.seed=0,1", status=2)
        assert "choose another run.sweep" in outcome.err and sweep.started == []

    def test_names_of_one_s_own_have_what_differs_in_them(self, sweep, tmp_path):
        sweep("training.seed=0,1", "run.name=s${training.seed}")
        assert folders(tmp_path / "default") == ["s0", "s1"]


def test_an_installed_plugin_of_a_launcher_s_name_is_not_in_the_way(sweep, tmp_path):
    ConfigStore.instance().store(group="hydra/launcher", name="joblib", node={"_target_": "x", "timeout": 3})
    pytest.importorskip("joblib", reason="not installed (the extra sweep)")
    sweep("training.seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "dry_run=true")


class TestNames:
    @given(st.dictionaries(st.text(min_size=1), st.text(), max_size=5))
    def test_any_overrides_make_one_that_hydra_and_shells_read(self, overrides):
        name = folder_name(overrides)
        assert re.fullmatch(r"[\w.+-]+", name, re.ASCII) and len(name) <= 100 and name.strip(".")
        parsed = OverridesParser.create().parse_override(f"checkpoint=[sweeps/x/{name},b]")
        assert parsed.value() == [f"sweeps/x/{name}", "b"]

    def test_what_is_cut_or_replaced_ends_in_a_hash_of_the_whole(self):
        first, second = (folder_name({"data.content": "x" * 200 + end}) for end in "ab")
        assert len(first) == 100 and first[:91] == second[:91] and first != second
        assert folder_name({"data.style": "a/b"}) != folder_name({"data.style": "a:b"})
        assert folder_name({"+loss.x": "1", "training.seed": "-1"}) == "loss.x_1+training.seed_-1"
