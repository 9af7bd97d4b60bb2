"""options.py: what is declared of a command's options, and what their values are checked against."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
from omegaconf import OmegaConf

from gan_style.options import as_typed, check_options, declared, may_change, option


@dataclass(kw_only=True)
class Inner:
    share: float = option(0, 1)
    rate: float | None = option(above=0, below=math.inf, may_change=True)


@dataclass(kw_only=True)
class Options:
    count: int = option(1)
    kind: str = option(choices=("a", "b"))
    content: Any = option(path=True, required=True)
    inner: Inner
    free: Inner = option(may_change=True)


def settings(**changed: Any) -> dict[str, Any]:
    inner = {"share": 0.5, "rate": None}
    return {"count": 1, "kind": "a", "content": "x", "inner": inner, "free": inner} | changed


def test_what_is_within_its_range_passes():
    check_options(Options, settings())
    check_options(Options, settings(inner={"share": 0, "rate": 1e-9}))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"count": 0}, "count=0; allowed are numbers from 1"),
        ({"kind": "c"}, "kind=c; allowed are a, b"),
        ({"content": None}, "content=null: a value is needed"),
        ({"content": ["a", None]}, "content=[a, null]"),
        ({"inner": {"share": 1.5, "rate": None}}, "inner.share=1.5; allowed are 0 to 1"),
        ({"inner": {"share": math.nan, "rate": None}}, "inner.share=nan"),
        ({"inner": {"share": 0, "rate": 0}}, "inner.rate=0; allowed are numbers above 0, or null"),
        ({"inner": {"share": 0, "rate": math.inf}}, "inner.rate=inf"),
    ],
)
def test_what_is_not_is_named_with_what_is_allowed(changed, message):
    with pytest.raises(ValueError) as refusal:
        check_options(Options, settings(**changed))
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (["a", 1, 2.0, None], "[a, 1, 2, null]"),
        ({"a": 0.5, "b": [False]}, "{a: 0.5, b: [false]}"),
        (OmegaConf.create({"a": ["b", None]}), "{a: [b, null]}"),
        ("it's", "it's"),
    ],
)
def test_messages_show_values_as_a_command_line_has_them(value, text):
    assert as_typed(value) == text


@pytest.mark.parametrize("empty", ["", "  ", ["a", ""], {"one": ""}, {"one": ["a", " "]}])
def test_an_empty_text_is_refused_wherever_it_stands(empty):
    """As a path it would be the current folder: a shell variable that is not set."""
    with pytest.raises(ValueError, match=r"content=.* is empty"):
        check_options(Options, settings(content=empty))


def test_what_is_declared_of_an_option():
    assert declared(Options, "inner.share")[0] is float
    assert declared(Options, "content")[1] == {"path": True, "required": True}
    assert declared(Options, "inner.nothing") == declared(Options, "count.more") == (None, {})


def test_a_group_that_may_change_holds_for_all_in_it():
    names = ("count", "inner.share", "inner.rate", "free", "free.share", "free.share.more", "nothing")
    assert [name for name in names if may_change(Options, name)] == [
        "inner.rate",
        "free",
        "free.share",
        "free.share.more",
    ]
