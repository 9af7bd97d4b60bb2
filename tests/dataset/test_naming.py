"""gan_style/dataset/naming.py: a set, only smaller."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from gan_style.dataset.naming import CompactNameSet


@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_it_holds_what_was_added_and_nothing_else(added, asked):
    found, known = CompactNameSet(), set()
    for name in added:
        assert (name in found) is (name in known)
        found.add(name)
        known.add(name)
    assert all((name in found) is (name in known) for name in [*added, *asked])


def test_names_that_are_no_text_can_be_added():
    found = CompactNameSet()
    found.add("b\udce9")
    assert "b\udce9" in found and "b" not in found


def test_it_takes_few_bytes_a_name():
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        found = CompactNameSet()
        for number in range(200_000):
            found.add(f"folder/{number}.jpg")
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < 27 * 200_000
    assert all(f"folder/{number}.jpg" in found for number in range(0, 200_000, 997))
    assert not any(f"folder/{number}.png" in found for number in range(0, 200_000, 997))
