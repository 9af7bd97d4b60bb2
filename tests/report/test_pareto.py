"""The front of compromises, against the definition itself."""

from hypothesis import given
from hypothesis import strategies as st

from gan_style.report.table import front

SMALL = st.integers(0, 6).map(float)  # so that ties are common


def dominates(a, b):
    return a[0] <= b[0] and a[1] <= b[1] and a != b


@given(st.lists(st.tuples(SMALL, SMALL), max_size=30))
def test_it_is_what_nothing_dominates(points):
    by_force = {i for i, p in enumerate(points) if not any(dominates(other, p) for other in points)}
    assert set(front(points)) == by_force
    assert [points[i] for i in front(points)] == sorted(points[i] for i in by_force)


def test_by_hand():
    assert front([(2, 2), (1, 3), (3, 1), (3, 3), (2, 2)]) == [1, 0, 4, 2]
    assert front([]) == [] and front([(5, 5)]) == [0]
