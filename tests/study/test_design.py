"""A participant's questions: random, but balanced."""

import math
from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gan_style.study.page import KINDS, Question, make_sheet, most_questions


@st.composite
def sheets(draw) -> tuple[dict[str, int], list[Question]]:
    count = {"models": draw(st.integers(2, 5)), "pictures": draw(st.integers(1, 9))}
    count["questions"] = draw(st.integers(1, most_questions(**count)))
    count["repeats"] = draw(st.integers(0, count["questions"] // 2))
    return count, make_sheet(**count, random=Random(draw(st.integers(0, 99))))


def spread(values: list, possible: int) -> int:
    """How far apart the most and the least frequent of all possible values are."""
    actual = Counter(values)
    return max(actual.values()) - (min(actual.values()) if len(actual) == possible else 0)


def pair(question: Question) -> frozenset:
    return frozenset((question.left, question.right))


@given(sheets())
def test_pairs_pictures_and_sides_come_equally_often_and_nothing_comes_twice(design):
    count, sheet = design
    for kind in KINDS:
        questions = [question for question in sheet if question.kind == kind and question.repeat_of is None]
        if not questions:
            continue
        assert len({(pair(question), question.picture) for question in questions}) == len(questions)
        assert spread([pair(question) for question in questions], math.comb(count["models"], 2)) <= 1
        assert spread([question.picture for question in questions], count["pictures"]) <= 1
        for item in {pair(question) for question in questions}:
            assert spread([question.left for question in questions if pair(question) == item], 2) <= 1


@given(sheets())
def test_as_many_as_asked_for_the_two_kinds_in_turn(design):
    count, sheet = design
    assert sum(question.repeat_of is None for question in sheet) == count["questions"]
    assert len(sheet) == count["questions"] + count["repeats"]
    kinds = [question.kind for question in sheet]
    assert kinds == [KINDS[place % 2] for place in range(len(sheet))]


@given(sheets())
def test_repeats_ask_an_earlier_question_again_with_its_sides_swapped(design):
    _, sheet = design
    again = [(place, question) for place, question in enumerate(sheet) if question.repeat_of is not None]
    for place, question in again:
        first = sheet[question.repeat_of]
        assert question.repeat_of < place and first.repeat_of is None
        assert (first.kind, first.picture, first.right, first.left) == (
            question.kind,
            question.picture,
            question.left,
            question.right,
        )
    assert len({question.repeat_of for _, question in again}) == len(again)


def test_over_many_participants_every_cell_and_every_side_come_about_equally_often():
    """Each of 3 * 4 cells is expected 200 * 10 / 12 = 167 times; 5 standard deviations of a binomial are 62."""
    sheets = [make_sheet(models=3, pictures=4, questions=20, repeats=0, random=Random(n)) for n in range(200)]
    questions = [question for sheet in sheets for question in sheet if question.kind == "style"]
    cells = Counter((pair(question), question.picture) for question in questions)
    assert len(cells) == 12 and all(abs(times - 167) < 62 for times in cells.values())
    sides = Counter((question.left, question.right) for question in questions)
    assert len(sides) == 6 and all(abs(times - 333) < 84 for times in sides.values())
    first = Counter(sheet[0].picture for sheet in sheets)
    assert all(abs(times - 50) < 31 for times in first.values()), "the first picture is as random"
