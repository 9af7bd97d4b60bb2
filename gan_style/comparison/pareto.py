"""Which of several compromises nothing else is better than."""

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The numbers of the points that no other one dominates, from the smallest first coordinate upward.

    Less is better in both. A point dominates another if it is at most as large in both coordinates and smaller in one
    (Pareto's order); so of equal points all are in, or none.
    """
    order = sorted(range(len(points)), key=lambda number: points[number])
    found: list[int] = []
    lowest = float("inf")
    for number in order:
        if points[number][1] < lowest or (found and points[number] == points[found[-1]]):
            found.append(number)
            lowest = points[number][1]
    return found
