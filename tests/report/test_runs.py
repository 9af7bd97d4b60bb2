"""What a run has left is read whatever state it is in, and nothing of it is changed."""

import json
from pathlib import Path

import pytest
import torch
from generators import make_resnet, write_file

from gan_style.report.runs import find_runs, labels, read_metrics, read_run
from gan_style.runtime.checkpoint import GENERATOR_FILE


def run_at(folder: Path, *, steps=(10, 20), generator_step=None) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("training: {steps: 20, batch: 4}\n")
    lines = [json.dumps({"step": step, "loss/content": 1.0 / step, "images_per_second": 8.0}) for step in steps]
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    if generator_step is not None:
        write_file(folder / GENERATOR_FILE, make_resnet(width=2), step=generator_step)
    return folder


SETTINGS = {"training.steps": 20, "training.batch": 4}


class TestFind:
    def test_a_sweep_stands_for_its_runs_in_the_order_of_their_numbers(self, tmp_path):
        for name in ("10-b", "9-a", "deep/er/1-c"):
            run_at(tmp_path / name)
        run_at(tmp_path / "9-a" / "inside")
        run_at(tmp_path / ".hydra")
        (tmp_path / "notes").mkdir()
        (tmp_path / "10-b" / ".hydra").mkdir()
        assert [str(path.relative_to(tmp_path)) for path in find_runs(tmp_path)] == ["9-a", "10-b", "deep/er/1-c"]
        assert find_runs(tmp_path / "9-a") == [tmp_path / "9-a"]

    def test_a_job_that_failed_before_it_began_is_one_too(self, tmp_path):
        (tmp_path / "job").mkdir()
        (tmp_path / "job" / "failure.txt").write_text("no such folder\n")
        assert find_runs(tmp_path) == [tmp_path / "job"]
        run = read_run(tmp_path / "job", {})
        assert (run.status, run.reason, run.step, run.steps) == ("failed", "no such folder", 0, None)

    @pytest.mark.parametrize("place", ["nowhere", "empty", "file", "settings_only"])
    def test_what_is_no_run_is_named(self, tmp_path, place):
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").touch()
        (tmp_path / "settings_only").mkdir()
        (tmp_path / "settings_only" / "config.yaml").touch()
        with pytest.raises(ValueError, match=f"runs=.*{place}"):
            find_runs(tmp_path / place)


class TestStatus:
    @pytest.mark.parametrize(
        ("generator_step", "status"), [(None, "unfinished"), (10, "unfinished"), (20, "finished"), (25, "finished")]
    )
    def test_a_run_is_finished_with_the_generator_of_its_last_step(self, tmp_path, generator_step, status):
        run = read_run(run_at(tmp_path / "a", generator_step=generator_step), SETTINGS)
        assert run.status == status

    def test_how_far_it_is_and_how_long_that_took(self, tmp_path):
        run = read_run(run_at(tmp_path / "a", steps=(5, 15)), SETTINGS)
        assert run.step == 15 and run.steps == 20
        assert run.seconds() == pytest.approx(15 * 4 / 8.0)
        assert run.last("loss/content") == 1 / 15 and run.last("nothing") is None

    def test_reading_changes_nothing(self, tmp_path):
        folder = run_at(tmp_path / "a", generator_step=20)
        before = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*")}
        read_run(folder, SETTINGS)
        after = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*")}
        assert before == after


class TestMetrics:
    def write(self, tmp_path, *lines):
        path = tmp_path / "metrics.jsonl"
        path.write_bytes(b"".join(line if isinstance(line, bytes) else line.encode() + b"\n" for line in lines))
        return path

    @pytest.mark.parametrize(
        "line", ['{"step": 3, "a"', "[1]", "null", '{"a": 1}', '{"step": "3"}', '{"step": -1}', "", "\\xff", "[" * 9999]
    )
    def test_a_corrupt_line_is_named_and_passed_over(self, tmp_path, line):
        path = self.write(tmp_path, '{"step": 1, "a": 1}', line, '{"step": 2, "a": 3}')
        series, problems = read_metrics(path)
        assert series == {"a": [(1, 1.0), (2, 3.0)]}
        assert len(problems) == 1 and f"{path}, line 2 is corrupt" in problems[0]

    def test_bytes_that_are_no_text_and_a_torn_end(self, tmp_path):
        series, problems = read_metrics(self.write(tmp_path, '{"step": 1, "a": 1}', b"\xff\xfe\n", b'{"step": 2, "a'))
        assert series == {"a": [(1, 1.0)]} and len(problems) == 2

    def test_many_corrupt_lines_are_counted(self, tmp_path):
        _, problems = read_metrics(self.write(tmp_path, *["x"] * 50))
        assert len(problems) == 4 and "47 more" in problems[-1]

    def test_the_later_of_two_values_counts_and_what_is_no_number_does_not(self, tmp_path):
        lines = ['{"step": 4, "a": 1, "b": NaN}', '{"step": 2, "a": 5, "c": true, "d": "x", "e": null, "f": Infinity}']
        series, problems = read_metrics(self.write(tmp_path, *lines, '{"step": 4, "a": 2}', '{"step": 5, "g": 1e999}'))
        assert series == {"a": [(2, 5.0), (4, 2.0)]} and problems == []

    def test_a_huge_whole_number_is_none_either(self, tmp_path):
        series, _ = read_metrics(self.write(tmp_path, '{"step": 1, "a": 1' + "0" * 400 + "}"))
        assert series == {}


class TestGenerator:
    def test_its_parameters_are_counted_without_its_weights(self, tmp_path):
        folder = run_at(tmp_path / "a", generator_step=7)
        actual = read_run(folder, SETTINGS).generator
        weights = make_resnet(width=2).state_dict().values()
        assert actual.parameters == sum(tensor.numel() for tensor in weights) and actual.step == 7
        assert actual.description["class"] == "ResnetGenerator"

    def test_damaged_or_foreign_it_is_a_problem_of_the_run_not_its_end(self, tmp_path):
        from safetensors.torch import save_file

        folder = run_at(tmp_path / "a")
        (folder / GENERATOR_FILE).write_bytes(b"junk")
        assert "damaged" in read_run(folder, SETTINGS).problems[0]
        save_file({"w": torch.zeros(1)}, folder / GENERATOR_FILE)
        assert "no gan_style generator" in read_run(folder, SETTINGS).problems[0]


class TestEvaluation:
    def test_the_numbers_of_evaluate_are_taken(self, tmp_path):
        folder = run_at(tmp_path / "a")
        (folder / "evaluation").mkdir()
        entry = {"value": 0.5, "error": None, "count": 3}
        content = {"metrics": {"photos": {"content": entry | {"value": 0}}, "a": {"content": entry}}}
        (folder / "evaluation" / "metrics.json").write_text(json.dumps(content))
        actual = read_run(folder, SETTINGS).evaluation
        assert actual.numbers == {"content": 0.5} and actual.step is None
        content |= {"references": {"sha256": "1"}, "models": {"a": {"place": "/x/a", "step": 7}}}
        (folder / "evaluation" / "metrics.json").write_text(json.dumps(content))
        again = read_run(folder, SETTINGS).evaluation
        assert again.step == 7 and again.protocol != actual.protocol
        old = []
        for name in ("x.png", "y.png"):
            content["pictures"] = {"photos": {name: {}}}
            (folder / "evaluation" / "metrics.json").write_text(json.dumps(content))
            old.append(read_run(folder, SETTINGS).evaluation.protocol)
        assert old[0] != old[1]  # of a file that has no fingerprint yet

    def test_of_several_models_that_of_the_run_s_own_folder_counts(self, tmp_path):
        folder = run_at(tmp_path / "a")
        (folder / "evaluation").mkdir()
        metrics = {name: {"style": {"value": value}} for name, value in (("a", 0.1), ("b", 0.2))}
        for place, numbers in ((folder / "generator.safetensors", {"style": 0.2}), ("/x/b", {})):
            models = {"a": {"place": "/x/a", "step": 1}, "b": {"place": str(place), "step": 2}}
            (folder / "evaluation" / "metrics.json").write_text(json.dumps({"metrics": metrics, "models": models}))
            assert read_run(folder, SETTINGS).evaluation.numbers == numbers

    @pytest.mark.parametrize("text", ["{", "[]", '{"metrics": 1}', '{"metrics": {"a": {"content": 5}}}'])
    def test_another_file_of_that_name_is_passed_over(self, tmp_path, text):
        folder = run_at(tmp_path / "a")
        (folder / "evaluation").mkdir()
        (folder / "evaluation" / "metrics.json").write_text(text)
        run = read_run(folder, SETTINGS)
        assert run.evaluation.numbers == {} and "passed over" in run.problems[0]


def test_labels_are_as_short_as_they_can_be(tmp_path):
    paths = [Path("/r/a/x"), Path("/r/b/x"), Path("/r/b/y"), Path("/x"), Path("/q/r/b/x")]
    assert labels(paths) == ["a/x", "r/b/x", "y", "x", "q/r/b/x"]
    assert labels([Path("/r/a"), Path("/r/b")]) == ["a", "b"]
