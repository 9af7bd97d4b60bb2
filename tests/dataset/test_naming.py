"""gan_style/dataset/naming.py: a set, only smaller."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from gan_style.dataset.naming import CompactNameSet


@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_it_holds_what_was_added_and_nothing_else(added, queries):
    names, expected = CompactNameSet(), set()
    for name in added:
        assert (name in names) is (name in expected)
        names.add(name)
        expected.add(name)
    assert all((name in names) is (name in expected) for name in [*added, *queries])


def test_names_that_are_no_text_can_be_added():
    name_set = CompactNameSet()
    name_set.add("b\udce9")
    assert "b\udce9" in name_set and "b" not in name_set


def test_it_takes_few_bytes_a_name():
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        name_set = CompactNameSet()
        for number in range(50_000):
            name_set.add(f"folder/{number}.jpg")
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < 27 * 50_000
    assert all(f"folder/{number}.jpg" in name_set for number in range(0, 50_000, 997))
    assert not any(f"folder/{number}.png" in name_set for number in range(0, 50_000, 997))
