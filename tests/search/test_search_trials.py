"""Trial after trial, with formulas in place of trainings: what is tried, pruned, counted, kept and found to be best."""

import itertools
import json
import warnings

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from gan_style.report.table import front
from gan_style.search.loop import closing_lines
from gan_style.search.space import Categorical, Range, grid, override, read_space
from gan_style.search.study import Pruning, Study


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def bowl(number, values):
    return {1: {"heldout/composite": (values["x"] - 0.3) ** 2 + values["n"]}}


def tried(study: Study) -> list[tuple]:
    return [(trial.number, trial.state, dict(trial.parameters), trial.values) for trial in study.trials()]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_an_interrupted_search_tries_what_one_in_a_piece_does(make_plan, make_search, tmp_path, sampler):
    plan = make_plan(sampler=sampler)
    (tmp_path / "whole").mkdir()
    single = make_search(plan, bowl, folder=tmp_path / "whole")
    assert single.run() is None
    for stop_at in (2, 5, 6):
        parts = make_search(plan, bowl, stop_reason=lambda number, at=stop_at: "SIGTERM" if number == at else "")
        assert parts.run() == "SIGTERM"
        assert [trial.state for trial in parts.study.trials()] == ["complete"] * stop_at + ["running"]
    parts = make_search(plan, bowl)
    assert parts.run() is None
    assert tried(parts.study) == tried(single.study)
    assert len({str(trial.parameters) for trial in parts.study.trials()}) == 8
    assert len(parts.study.trials()) == parts.study.finished() == 8
    assert parts.run() is None and parts.study.finished() == 8  # complete: nothing more


def test_other_seeds_try_other_values(make_plan, make_search, tmp_path):
    actual = []
    for seed in (0, 1):
        (folder := tmp_path / str(seed)).mkdir()
        search = make_search(make_plan(seed=seed), bowl, 3, folder=folder)
        search.run()
        actual.append([trial.parameters["x"] for trial in search.study.trials()])
    assert not set(actual[0]) & set(actual[1])


def test_a_small_space_is_tried_once_and_not_over_and_over(make_plan, make_search):
    """Four points: each is trained once, whatever the sampler draws, and the search ends when all have been."""
    trained = []

    def formula(number, values):
        trained.append(tuple(values.values()))
        return {1: {"heldout/composite": float(values["n"])}}

    space = {"n": Range(1, 2, whole=True), "flag": Categorical((True, False))}
    search = make_search(make_plan(space=space), formula, 60)
    assert search.run() is None
    assert sorted(trained) == [(1, False), (1, True), (2, False), (2, True)]
    assert {trial.values for trial in search.study.trials() if trial.parameters["n"] == 1} == {(1.0,)}
    assert search.study.best()[0].parameters["n"] == 1


def test_values_lie_in_their_ranges_with_their_types(make_plan, make_search):
    space = {
        "log": Range(1e-4, 1e2, log=True),
        "step": Range(0.0, 1.0, step=0.25),
        "n": Range(2, 9, whole=True),
        "kind": Categorical((1, True, 1.0, "1", None, ["relu1_1", "relu2_1"])),
    }
    search = make_search(make_plan(space=space, sampler="random"), lambda *_: {1: {"heldout/composite": 0.0}}, 24)
    search.run()
    values = [trial.parameters for trial in search.study.trials()]
    assert all(1e-4 <= item["log"] <= 1e2 and item["step"] * 4 % 1 == 0 for item in values)
    assert 5 < sum(item["log"] < 0.1 for item in values) < 19  # half of them: even in the logarithm
    assert {item["n"] for item in values} == set(range(2, 10)) and all(type(item["n"]) is int for item in values)
    kinds = {(type(item["kind"]).__name__, str(item["kind"])) for item in values}
    assert kinds == {(type(x).__name__, str(x)) for x in space["kind"].values}


def test_a_grid_is_tried_point_by_point_and_only_once(make_plan, make_search):
    space = {"n": Range(1, 3, whole=True), "kind": Categorical(("a", None)), "s": Range(0.0, 0.3, step=0.1)}
    plan = make_plan(space=space, sampler="grid")
    ask = lambda number: "SIGTERM" if number == 7 else ""  # noqa: E731
    assert make_search(plan, lambda n, v: {1: {"heldout/composite": n}}, 100, stop_reason=ask).run() == "SIGTERM"
    search = make_search(plan, lambda n, v: {1: {"heldout/composite": n}}, 100)
    assert search.run() is None
    points = [tuple(trial.parameters.values()) for trial in search.study.trials()]
    assert points == list(itertools.product([1, 2, 3], ["a", None], [0.0, 0.1, 0.2, 0.3]))
    assert make_search(plan, bowl, None).trials == 24
    assert make_search(plan, bowl, 5).trials == 5


@pytest.mark.parametrize(("direction", "best"), [("minimise", 3), ("maximise", 5)])
def test_the_best_is_the_best(make_plan, make_search, direction, best):
    values = [4.0, 2.0, 3.0, 1.0, 5.0, 9.0, 2.5, 8.0]
    search = make_search(
        make_plan(metrics={"heldout/composite": direction}), lambda n, _: {1: {"heldout/composite": values[n]}}
    )
    search.run()
    assert [trial.number for trial in search.study.best()] == [best]
    message = "\n".join(closing_lines(search.study, lambda number: f"trials/{number}"))
    assert "8 trials: 8 complete, 0 pruned, 0 failed" in message
    assert f"best: trial {best}, heldout/composite {values[best]:g}: x=" in message and f"(trials/{best})" in message
    summary = json.loads((search.folder / "summary.json").read_text())
    assert summary["best"] == [best]
    assert [row["values"]["heldout/composite"] for row in summary["trials"]] == values


def test_several_metrics_have_a_front(make_plan, make_search):
    points = [(3.0, 1.0), (1.0, 3.0), (2.0, 2.0), (2.0, 2.5), (4.0, 4.0), (0.5, 9.0), (3.5, 0.9), (1.0, 3.5)]
    metrics = {"heldout/content": "minimise", "heldout/style": "minimise"}
    search = make_search(make_plan(metrics=metrics), lambda n, _: {1: dict(zip(metrics, points[n], strict=True))})
    search.run()
    assert [trial.number for trial in search.study.best()] == front(points) == [5, 1, 2, 0, 6]
    lines = list(closing_lines(search.study, lambda number: f"trials/{number}"))
    assert lines[1] == "Pareto front of heldout/content and heldout/style, 5 of 8 trials:"
    assert lines[2].startswith("  trial 5, heldout/content 0.5  heldout/style 9: x=")


def test_a_trial_that_fails_is_counted_and_ends_nothing(make_plan, make_search):
    def formula(number, values):
        if number == 1:
            raise OSError
        return {1: {"heldout/composite": float("nan") if number == 2 else 1.0}}

    search = make_search(make_plan(), formula, 4)
    assert search.run() is None
    trials = search.study.trials()
    assert [trial.state for trial in trials] == ["complete", "failed", "failed", "complete"]
    assert trials[1].reason == "why 1" and "not a finite number" in trials[2].reason
    assert "  trial 1 failed: why 1" in list(closing_lines(search.study, str))


def test_a_metric_that_is_not_measured_ends_the_search_in_words(make_plan, make_search):
    search = make_search(make_plan(), lambda *_: {1: {"loss/total": 1.0, "loss/tv": 1.0}})
    with pytest.raises(
        ValueError, match="heldout/composite: trial 0 measured no such thing; it measured loss/total, l"
    ):
        search.run()


def test_median_ends_what_is_worse_than_half_of_the_others_at_the_same_step(make_plan, make_search):
    """Values at step 10: 1, 2, 3 (median 2 of complete trials); 2.5 is worse, 1.5 is not."""
    level = [1.0, 2.0, 3.0, 2.5, 1.5, 9.0]
    rows = lambda n, _: {step: {"heldout/composite": level[n], "other": 0.0} for step in (5, 10, 15)}  # noqa: E731
    pruning = Pruning("median", startup=3, warmup=10)
    search = make_search(make_plan(pruning=pruning), rows, 6)
    search.run()
    assert [trial.state for trial in search.study.trials()] == [*["complete"] * 3, "pruned", "complete", "pruned"]
    assert search.study.trials()[3].reason == "stopped at step 10, heldout/composite 2.5"


def test_halving_keeps_the_best_quarter(make_plan, make_search):
    """After ``warmup`` steps each trial ends but those among the best quarter (one, of up to seven) so far."""
    level = [1.0, 2.0, 3.0, 4.0, 0.5, 5.0]
    rows = lambda n, _: {step: {"heldout/composite": level[n]} for step in (1, 4, 16, 64, 100)}  # noqa: E731
    search = make_search(make_plan(pruning=Pruning("halving", warmup=4)), rows, 6)
    search.run()
    states = [trial.state for trial in search.study.trials()]
    assert states == ["complete", "pruned", "pruned", "pruned", "complete", "pruned"]
    assert search.study.trials()[1].reason == "stopped at step 4, heldout/composite 2"


def test_a_resumed_trial_reports_no_step_twice(make_plan, make_search):
    plan = make_plan(pruning=Pruning("median", startup=1))
    first, second = make_search(plan, bowl).study, make_search(plan, bowl).study
    running = first.next()
    assert first.report(5, 1.0) is False
    again = second.next()
    assert (again.number, again.parameters) == (running.number, running.parameters)
    assert second.report(5, 1.0) is False and second.report(6, 1.0) is False  # Optuna would warn


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"space": {"x": Range(-2.0, 1.0)}}, r"space.x: .*low=-1.0.* there, .*low=-2.0.* here"),
        ({"metrics": {"heldout/style": "minimise"}}, "search.metric: .*composite.* there, .*style.* here"),
        ({"metrics": {"a": "minimise", "b": "minimise"}}, "search.metric"),
        ({"sampler": "random"}, "search.sampler: tpe there, random here"),
        ({"settings": {"training.steps": 5}}, "training.steps: 4 there, 5 here"),
    ],
)
def test_a_folder_belongs_to_one_search(make_plan, tmp_path, changed, message):
    plan = {"settings": {"training.steps": 4}}
    Study(tmp_path, make_plan(**plan))
    with pytest.raises(ValueError, match=rf"holds another search; choose another search.name.\n(.*\n)*  {message}"):
        Study(tmp_path, make_plan(**(plan | changed)))


def test_more_trials_or_another_pruner_go_on(make_plan, make_search):
    make_search(make_plan(), bowl, 3).run()
    search = make_search(make_plan(pruning=Pruning("median")), bowl, 5)
    search.run()
    assert search.study.finished() == 5


def test_a_damaged_file_is_named(make_plan, tmp_path):
    (tmp_path / "study.db").write_bytes(b"no database " * 500)
    with pytest.raises(ValueError, match=r"study.db cannot be read .*choose another search.name"):
        Study(tmp_path, make_plan())


def test_a_folder_may_have_any_name(make_plan, tmp_path):
    folder = tmp_path / "what? 100% #1 ü"
    folder.mkdir()
    Study(folder, make_plan()).next()
    assert (folder / "study.db").is_file() and len(Study(folder, make_plan()).trials()) == 1


def space_of(content: object, integers: tuple[str, ...] = ()):
    return read_space(content, lambda name: name in integers)


def test_dotted_and_nested_names_are_the_same():
    dotted = {"loss.style.weight": {"low": 1, "high": 100, "log": True}, "training.seed": [0, 1]}
    nested = {"loss": {"style": {"weight": {"low": 1, "high": 100, "log": True}}}, "training": {"seed": [0, 1]}}
    assert space_of(dotted) == space_of(nested)
    assert space_of(dotted) == {
        "loss.style.weight": Range(1.0, 100.0, log=True, whole=False),
        "training.seed": Categorical((0, 1)),
    }


def test_an_option_of_whole_numbers_has_a_range_of_them():
    actual = space_of(
        {"training.batch": {"low": 2, "high": 8}, "x": {"low": 2, "high": 8}}, integers=("training.batch",)
    )
    assert [type(x) for x in actual["training.batch"].examples()] == [int, int]
    assert [type(x) for x in actual["x"].examples()] == [float, float]


def test_numbers_that_yaml_takes_for_words_are_read():
    assert space_of({"lr": {"low": "1e-5", "high": "1E-3", "log": True}})["lr"] == Range(1e-5, 1e-3, log=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "space={}: options with their values or ranges expected"),
        ([1], "options with their values or ranges expected"),
        (None, "options with their values or ranges expected"),
        ({"a": {}}, r"space.a={}: a list of values, or a range"),
        ({"a": 3}, r"space.a=3: a list of values, or a range"),
        ({"a": []}, r"space.a=\[\]: give at least one value"),
        ({"a": [1, 2, 1]}, "space.a: 1 is given twice"),
        ({"a.b": [1], "a": {"b": [2]}}, "space.a.b is given twice"),
        ({"a": {"low": 1}}, r"space.a.high is missing"),
        ({"a": {"low": 2, "high": 1}}, r"space.a: low=2 is above high=1"),
        ({"a": {"low": 0, "high": 1, "log": True}}, r"space.a: log=true needs a low above 0, not 0"),
        ({"a": {"low": 0, "high": 1, "logg": True}}, r"there is no space.a.logg \(did you mean log\?"),
        ({"a": {"low": 0, "high": 1, "log": 1}}, r"space.a.log=1; allowed are true and false"),
        ({"a": {"low": "x", "high": 1}}, r"space.a.low=x; allowed are finite numbers"),
        ({"a": {"low": float("nan"), "high": 1}}, r"space.a.low=nan; allowed are finite numbers"),
        ({"a": {"low": True, "high": 1}}, r"space.a.low=true; allowed are finite numbers"),
        ({"a": {"low": 0, "high": 1, "step": 0}}, r"space.a.step=0; allowed are numbers above 0"),
        ({"a": {"low": 0, "high": 1, "step": 2}}, r"space.a.step=2; allowed are numbers above 0, up to .* = 1"),
        ({"a": {"low": 1, "high": 9, "step": 2, "log": True}}, "do not go together"),
        ({"n": {"low": 0.5, "high": 1}}, r"space.n.low=0.5; the option takes whole numbers"),
    ],
)
def test_what_is_no_space_is_refused_in_words(content, message):
    with pytest.raises(ValueError, match=message):
        space_of(content, integers=("n",))


@pytest.mark.parametrize("content", [{"low": 0, "high": 1}, {"low": 1, "high": 8, "log": True}])
def test_a_grid_of_a_continuous_range_is_refused(content):
    with pytest.raises(ValueError, match=r"space.a: search.sampler=grid needs values that can be counted"):
        grid(space_of({"b": [1, 2], "a": content}))


def test_a_grid_beyond_reason_is_refused():
    with pytest.raises(ValueError, match="the grid has 1,000,000 points; allowed are 10,000"):
        grid(space_of({"a": {"low": 1, "high": 1000}, "b": {"low": 1, "high": 1000}}, ("a", "b")))


VALUES = [0.1, 1e-5, 2.0, -3, True, None, "slim", "null", "true", "1", "", "a b", "it's", "a,b", "x=y", "p\\'q\\"]
VALUES += [
    "${a}",
    ["relu1_1", "relu2_1"],
    [],
    {"content": 1, "style": 2.5},
    [1, [2, None]],
    "demo:styles/flow",
    "1e5",
    "inf",
]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_an_override_is_read_as_the_value_that_it_was_made_of(value):
    """By Hydra's own parser, types included."""
    read = OverridesParser.create().parse_override(override("a.b", value))
    assert not read.is_sweep_override()
    actual = read.value()
    actual = actual.text if hasattr(actual, "text") else actual
    assert type(actual) is type(value) and actual == value
