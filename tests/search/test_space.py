"""The space of a search: what is read of YAML, what is refused, the points of a grid, and overrides."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from gan_style.search.space import Categorical, Range, grid, override, read_space


def space_of(content: object, whole: tuple[str, ...] = ()):
    return read_space(content, lambda name: name in whole)


def test_dotted_and_nested_names_are_the_same():
    dotted = {"loss.style.weight": {"low": 1, "high": 100, "log": True}, "training.seed": [0, 1]}
    nested = {"loss": {"style": {"weight": {"low": 1, "high": 100, "log": True}}}, "training": {"seed": [0, 1]}}
    assert space_of(dotted) == space_of(nested)
    assert space_of(dotted) == {
        "loss.style.weight": Range(1.0, 100.0, log=True, whole=False),
        "training.seed": Categorical((0, 1)),
    }


def test_an_option_of_whole_numbers_has_a_range_of_them():
    found = space_of({"training.batch": {"low": 2, "high": 8}, "x": {"low": 2, "high": 8}}, whole=("training.batch",))
    assert [type(x) for x in found["training.batch"].examples()] == [int, int]
    assert [type(x) for x in found["x"].examples()] == [float, float]


def test_numbers_that_yaml_takes_for_words_are_read():
    assert space_of({"lr": {"low": "1e-5", "high": "1E-3", "log": True}})["lr"] == Range(1e-5, 1e-3, log=True)


@pytest.mark.parametrize(
    ("content", "words"),
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
def test_what_is_no_space_is_refused_in_words(content, words):
    with pytest.raises(ValueError, match=words):
        space_of(content, whole=("n",))


def test_a_grid_has_every_combination_the_last_option_fastest():
    space = space_of({"a": [1, "x"], "n": {"low": 1, "high": 3}, "s": {"low": 0, "high": 0.3, "step": 0.1}}, ("n",))
    points = grid(space)
    assert len(points) == 2 * 3 * 4
    assert points[0] == {"a": 1, "n": 1, "s": 0.0}
    assert points[1] == {"a": 1, "n": 1, "s": 0.1}
    assert points[-1] == {"a": "x", "n": 3, "s": pytest.approx(0.3)}


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
    found = read.value()
    found = found.text if hasattr(found, "text") else found
    assert type(found) is type(value) and found == value
