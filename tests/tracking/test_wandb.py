"""Weights & Biases without a server: what an offline run's file holds, read back; which mode; what is refused."""

import json
import os
import socket
import sys
import time
import urllib.request
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import offline_file
import pytest
import torch
import wandb
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from processes import wait_until
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from gan_style.commands import train
from gan_style.images.decode import decode
from gan_style.runtime import wandb as tracking
from gan_style.runtime.tracking import FinalResult, MultiTracker
from gan_style.runtime.wandb import WandbTracker, resolve_mode

CONFIG = {"training": {"steps": 4}, "data": {"resize": [48, 64]}, "loss": {"style": {"weight": 0.1}}, "x": None}


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def tracker(folder: Path, **options: Any) -> WandbTracker:
    folder.mkdir(exist_ok=True)
    settings = {"mode": "offline", "project": "p", "name": "3 loss.style.weight=0.1", "config": CONFIG}
    return WandbTracker(**(settings | {"folder": folder} | options))


def files(folder: Path) -> list[list[Any]]:
    """The records of each start, in their order; the library's process may write the last ones after finish."""
    paths = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    wait_until(lambda: all(of_kind(offline_file.records(path), "exit") for path in paths))
    return [offline_file.records(path) for path in paths]


def of_kind(records: list[Any], kind: str) -> list[Any]:
    return [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]


def result(folder: Path, *, best_step: int | None) -> FinalResult:
    (folder / "generator.safetensors").write_bytes(b"generator")
    (folder / "best.pt").write_bytes(b"best")
    pictures = [[torch.full((3, 4, 6), 40 * row + 10 * column).byte() for column in range(3)] for row in range(2)]
    return FinalResult(
        step=4,
        generator=folder / "generator.safetensors",
        best=None if best_step is None else folder / "best.pt",
        best_step=best_step,
        best_values={} if best_step is None else {"heldout/composite": 0.4},
        columns=("content", "style", "result"),
        rows=lambda: pictures,
    )


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after step 2 and has gone on to step 4."""
    folder = tmp_path_factory.mktemp("run")
    grid = folder / "grid.jpg"
    grid.write_bytes((Path(__file__).parents[2] / "gan_style/assets/styles/flow.jpg").read_bytes())
    for first in (1, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", None)  # nobody can be asked anything
            single = tracker(folder, group="weights", tags=["a", "b"], notes="why")
        for step in (first, first + 1):
            single.scalars(step, {"loss/style": 1.0 / step})
            single.picture(step, "samples", grid)
            single.scalars(step, {"heldout/content": step / 8})
        single.preempted() if first == 1 else single.completed(result(folder, best_step=2))
        single.finish(failed=first == 1)
    return folder


def test_history_is_one_line_over_the_step_axis(resumed):
    first, second = files(resumed)
    rows = offline_file.history(first) + offline_file.history(second)
    assert [row["step"] for row in rows] == [row["_step"] for row in rows] == [1, 2, 3, 4]
    assert [row["loss/style"] for row in rows] == [1.0, 0.5, 1 / 3, 0.25]
    assert [row["heldout/content"] for row in rows] == [0.125, 0.25, 0.375, 0.5]
    for records in (first, second):
        (metric,) = of_kind(records, "metric")
        assert (metric.glob_name, metric.step_metric) == ("*", "step")


def test_a_resume_keeps_id_group_name_and_tags(resumed):
    runs = [of_kind(records, "run")[0] for records in files(resumed)]
    assert {run.run_id for run in runs} == {(resumed / "wandb_id").read_text()}
    for run in runs:
        assert (run.project, run.run_group, run.notes) == ("p", "weights", "why")
        assert (run.display_name, list(run.tags)) == ("3 loss.style.weight=0.1", ["a", "b"])
    assert of_kind(files(resumed)[0], "preempting") and not of_kind(files(resumed)[1], "preempting")
    assert [of_kind(records, "exit")[0].exit_code for records in files(resumed)] == [1, 0]


def test_the_config_is_plain_nested_values(resumed):
    assert [offline_file.config(records) for records in files(resumed)] == [CONFIG, CONFIG]


def test_grids_are_pictures_of_their_step(resumed):
    rows = offline_file.history(files(resumed)[1])
    assert [row["samples/_type"] for row in rows] == ["image-file"] * 2
    names = [path.name for path in resumed.glob("wandb/offline-run-*/files/media/images/samples_*")]
    assert sorted(name.split("_")[1] for name in names) == ["1", "2", "3", "4"]


def test_the_final_pictures_are_a_table(resumed):
    row = offline_file.history(files(resumed)[1])[-1]
    assert (row["results/_type"], row["results/nrows"], row["results/ncols"]) == ("table-file", 2, 3)
    (table,) = [item for item in of_kind(files(resumed)[1], "artifact") if item.type == "run_table"]
    table_files = {entry.path: Path(entry.local_path) for entry in table.manifest.contents}
    content = json.loads(table_files["results.table.json"].read_text())
    assert content["columns"] == ["content", "style", "result"]
    shades = [[int(decode(table_files[cell["path"]]).unique()) for cell in row] for row in content["data"]]
    assert shades == [[0, 10, 20], [40, 50, 60]]


def test_the_summary_has_the_last_and_the_best(resumed):
    actual = offline_file.summary(files(resumed)[1])
    expected = {"final/step": 4, "best/step": 2, "best/heldout/composite": 0.4, "loss/style": 0.25, "step": 4}
    assert {name: actual[name] for name in expected} == expected


def artifacts(folder: Path) -> dict[str, tuple[str, bytes]]:
    """{aliases: (the file's name, what it holds)} of the models."""
    models = [item for item in of_kind(files(folder)[-1], "artifact") if item.type == "model"]
    by_alias = {" ".join(sorted(set(item.aliases) - {"latest"})): item.manifest.contents[0] for item in models}
    return {aliases: (entry.path, Path(entry.local_path).read_bytes()) for aliases, entry in by_alias.items()}


def test_the_best_and_the_last_are_artifacts_that_outlive_their_files(resumed):
    (resumed / "generator.safetensors").write_bytes(b"of a longer run")
    assert artifacts(resumed) == {"best": ("best.pt", b"best"), "last": ("generator.safetensors", b"generator")}
    assert resumed in Path(of_kind(files(resumed)[-1], "artifact")[-1].manifest.contents[0].local_path).parents


@pytest.mark.parametrize(("best_step", "expected"), [(4, "best last"), (None, "last")])
def test_a_last_step_that_is_the_best_has_both_aliases(tmp_path, best_step, expected):
    first = tracker(tmp_path)
    first.completed(result(tmp_path, best_step=best_step))
    first.finish(failed=False)
    assert artifacts(tmp_path) == {expected: ("generator.safetensors", b"generator")}


def test_two_runs_in_one_process_leave_nothing_in_each_other(tmp_path):
    before = dict(os.environ)
    first, two = tracker(tmp_path / "one", name="one"), tracker(tmp_path / "two", name="two", group="other")
    assert wandb.run is None and dict(os.environ) == before
    for step in (1, 2):
        first.scalars(step, {"of/one": 1.0})
        two.scalars(step, {"of/two": 2.0})
    first.finish(failed=False)
    two.scalars(3, {"of/two": 2.0})
    two.finish(failed=False)
    assert wandb.run is None and dict(os.environ) == before
    for name, steps in (("one", [1, 2]), ("two", [1, 2, 3])):
        (records,) = files(tmp_path / name)
        rows = offline_file.history(records)
        assert [row["step"] for row in rows] == steps
        assert {key for row in rows for key in row if key.startswith("of/")} == {f"of/{name}"}
        assert of_kind(records, "run")[0].display_name == name
    assert len({(tmp_path / name / "wandb_id").read_text() for name in ("one", "two")}) == 2


def test_after_going_back_the_steps_are_told_again(tmp_path):
    first = tracker(tmp_path)
    for step in (1, 2, 3):
        first.scalars(step, {"loss/style": 9.0})
    first.rewind(1)
    for step in (2, 3):
        first.scalars(step, {"loss/style": 1.0})
    first.finish(failed=False)
    rows = [row for row in offline_file.history(files(tmp_path)[0]) if "loss/style" in row]
    assert [(row["step"], row["loss/style"]) for row in rows] == [(1, 9.0), (2, 9.0), (3, 9.0), (2, 1.0), (3, 1.0)]


def test_a_resumed_run_goes_on_behind_wandbs_own_count(tmp_path, monkeypatch):
    """After going back that is ahead of the step, and W&B drops what comes before it without a word."""
    tracker(tmp_path).finish(failed=False)
    steps_logged = []
    monkeypatch.setattr(wandb.Run, "starting_step", 1401)
    monkeypatch.setattr(wandb.Run, "log", lambda self, values, step: steps_logged.append((values["step"], step)))
    again = tracker(tmp_path)
    for step in (901, 902, 1200):
        again.scalars(step, {"loss/style": 1.0})
    again.rewind(1000)
    again.scalars(1001, {"loss/style": 1.0})
    again.finish(failed=False)
    assert [step for step, _ in steps_logged] == [901, 902, 1200, 1001]
    counts = [count for _, count in steps_logged]
    assert counts[0] >= 1401 and counts == sorted(set(counts))


def test_auto_is_offline_without_a_key_and_online_with_one(monkeypatch, tmp_path):
    assert resolve_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert resolve_mode("auto") == "online"
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert resolve_mode("auto") == "online"
    (tmp_path / "netrc").write_text("machine elsewhere.example login user password secret\n")
    assert resolve_mode("auto") == "offline"


def test_the_environments_mode_decides_in_place_of_auto_only(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_mode("auto") == "disabled"
    assert resolve_mode("offline") == "offline"


@pytest.mark.parametrize("by", ["option", "environment"])
def test_online_without_a_key_is_refused_and_never_prompts(monkeypatch, by):
    monkeypatch.setenv("WANDB_MODE", "online" if by == "environment" else "")
    with pytest.raises(ValueError, match="needs a key"):
        resolve_mode("auto" if by == "environment" else "online")


def test_a_server_out_of_reach_is_a_connection_error_that_names_the_way_out(tmp_path, monkeypatch):
    def unreachable(**_: object) -> None:
        raise wandb.errors.CommError("no route to the server")

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: nullcontext())
    monkeypatch.setattr(wandb, "init", unreachable)
    with pytest.raises(ConnectionError, match="no route to the server; offline needs no server"):
        tracker(tmp_path, mode="online")


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match=r"tracking\.wandb=dryrun; allowed are auto, online, offline, disabled"):
        resolve_mode("dryrun")


@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_a_server_out_of_reach_is_said_within_seconds(tmp_path, monkeypatch, kind):
    """A port that nobody listens on; and one where somebody does, but never answers."""
    monkeypatch.setattr(tracking, "PROBE_TIMEOUT", 1.0)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if kind == "silent":
            listener.listen()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(ConnectionError, match=r"is out of reach .*; offline needs no server"):
            tracker(tmp_path, mode="online")
    assert time.monotonic() - started < 5.0
    assert not (tmp_path / "wandb_id").exists()


def test_a_tracker_that_fails_is_left_alone_and_said_so_once(tmp_path):
    class Failing:
        def scalars(self, step: int, values: Any) -> None:
            raise BrokenPipeError("its process has gone")

    output: list[str] = []
    first = MultiTracker(optional={"W&B": Failing()}, warn=output.append)  # type: ignore[arg-type]
    for step in range(3):
        first.scalars(step, {})
    first.completed(FinalResult(1, tmp_path))
    first.finish(failed=False)
    assert output == ["W&B has failed and is left alone: its process has gone"]


def test_a_sweep_s_agent_chooses_the_id(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "chosen")
    tracker(tmp_path).finish(failed=False)
    assert (tmp_path / "wandb_id").read_text() == "chosen"


def agent_command(sweep: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """What an agent would run for these values, put together by the library itself."""
    filled = create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
    arguments = create_sweep_command(sweep["command"])
    place = arguments.index("${args_no_hyphens}")
    return [*arguments[:place], *filled["args_no_hyphens"], *arguments[place + 1 :]]


def test_the_sweep_file_s_command_trains(monkeypatch, capsys, tmp_path):
    """Its own parameters, at their lowest, through gan-style train as far as dry_run goes."""
    content = OmegaConf.to_container(
        OmegaConf.load(Path(__file__).parents[2] / "tools" / "wandb_sweep.yaml"), resolve=False
    )
    assert isinstance(content, dict) and content["metric"]["name"] == "heldout/composite"
    values = {name: first.get("min", first.get("values", [None])[0]) for name, first in content["parameters"].items()}
    assert None not in values.values()
    command = agent_command(content, values)
    assert command[:4] == ["${env}", "python", "-m", "gan_style.commands.train"]
    assert all(OverridesParser.create().parse_override(word) for word in command[4:])
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    options = ["dry_run=true", "perceptual.weights=random", "training.calibration_pictures=1", f"run.root={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["train", *command[4:], *options])
    with pytest.raises(SystemExit) as exit_:
        train.main()
    out = capsys.readouterr().out
    assert exit_.value.code == 0, out
    assert f"{tmp_path}/abc123" in out and "weight: 0.05" in out and "dry_run=true: stopping before step 1" in out
