"""gan_style/dataset/naming.py: a set, only smaller."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_style.dataset import naming
from gan_style.dataset.naming import CompactNameSet


@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)), st.sampled_from([1, 2, 3, 7, 1000]))
def test_it_holds_what_was_added_and_nothing_else(added, asked, recent):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(naming, "_RECENT", recent)
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


def test_it_takes_eight_bytes_a_name_and_few_places_to_look(monkeypatch):
    monkeypatch.setattr(naming, "_RECENT", 1000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        found = CompactNameSet()
        for number in range(200_000):
            found.add(f"folder/{number}.jpg")
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < 9 * 200_000 + 200_000  # and 1,000 in a set
    assert len(found._packed) <= 8
    assert all(f"folder/{number}.jpg" in found for number in range(0, 200_000, 997))
    assert not any(f"folder/{number}.png" in found for number in range(0, 200_000, 997))
