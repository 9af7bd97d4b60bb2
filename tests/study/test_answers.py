"""Files of answers: what a page saves comes back, anything else is refused by name."""

import json

import pytest

from gan_style.study.answers import consistency_of, read_participant, read_participants, votes_of
from gan_style.study.page import StudyPictures, encode_names, study_page

MODELS = ("one model", "another <b>model</b>", "a third")
PEOPLE = [f"{number:08x}{number:08x}" for number in range(30)]


def page(*, questions: int = 8, repeats: int = 2, allow_ties: bool = True, photos: int = 4, seed: int = 0) -> str:
    uris = [f"data:image/jpeg;base64,{number:04d}" for number in range(photos)]
    pictures = StudyPictures(photos=uris, styles=uris[:1], results=dict.fromkeys(MODELS, uris))
    return study_page(pictures, title="t", questions=questions, repeats=repeats, allow_ties=allow_ties, seed=seed)[0]


def choose_left(kind: str, left: str, right: str) -> str:
    return "left"


@pytest.fixture
def save(tmp_path):
    def write(content, name: str = "a.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_what_a_page_saves_comes_back(take_part, save):
    def rule(kind, left, right):
        return {"content": "tie", "style": "right" if right == "a third" else "left"}[kind]

    read = read_participant(save(take_part(page(), PEOPLE[7], rule)))
    assert (read.name, read.questions, len(read.answers)) == (PEOPLE[7], 10, 10)
    assert sorted(read.models.values()) == sorted(MODELS)
    for answer in read.answers:
        assert answer.choice == rule(answer.kind, answer.left, answer.right)
    votes = votes_of([read], "style")
    assert len(votes) == 4, "repeats do not count twice"
    assert all(vote.points == (vote.second != "a third") for vote in votes)
    assert {vote.points for vote in votes_of([read], "content")} == {0.5}


def test_consistency_counts_the_same_preference_not_the_same_side(take_part, save):
    html = page(questions=24, repeats=8)
    order = {name: number for number, name in enumerate(MODELS)}
    rules = {
        PEOPLE[0]: lambda kind, left, right: "left" if order[left] < order[right] else "right",
        PEOPLE[1]: choose_left,
        PEOPLE[2]: lambda kind, left, right: "tie" if kind == "style" else "left",
    }
    people = [read_participant(save(take_part(html, name, rule), f"{name}.json")) for name, rule in rules.items()]
    assert [consistency_of([person]) for person in people] == [(8, 8), (0, 8), (4, 8)]
    assert consistency_of(people, "style") == (8, 12)


def test_a_participant_who_comes_twice_counts_once_with_the_fuller_file(take_part, save):
    full = take_part(page(), PEOPLE[0], choose_left)
    half = save(full | {"answers": full["answers"][:5]}, "half.json")
    other = save(take_part(page(), PEOPLE[1], choose_left), "other.json")
    people, warnings = read_participants([half, save(full, "full.json"), other])
    assert [(person.name, len(person.answers)) for person in people] == [(PEOPLE[0], 10), (PEOPLE[1], 10)]
    assert len(warnings) == 1 and "half.json" in warnings[0] and "full.json counts" in warnings[0]


def test_files_of_two_studies_are_refused_with_both_named(take_part, save):
    paths = [save(take_part(page(seed=seed), PEOPLE[seed], choose_left), f"{seed}.json") for seed in (0, 1)]
    with pytest.raises(ValueError, match=r"1\.json: answers of study .*0\.json is of study"):
        read_participants(paths)


def test_the_models_names_are_part_of_the_study(take_part, save):
    content = take_part(page(), PEOPLE[0], choose_left)
    renamed = encode_names(dict(zip(content["models"], ("x", "y", "z"), strict=True)))
    with pytest.raises(ValueError, match=r"b\.json: the same study, but other names"):
        read_participants([save(content), save(content | {"names": renamed, "participant": PEOPLE[1]}, "b.json")])


def changed(**fields):
    return lambda content: content | fields


def in_answer(number: int, **fields):
    def change(content):
        answers = [dict(answer) for answer in content["answers"]]
        answers[number] |= fields
        return content | {"answers": answers}

    return change


FLAWS = {
    "another format": (changed(format="something"), "no file of answers"),
    "another version": (changed(version=2), "version 2 of the format; known is 1"),
    "one key more": (changed(extra=1), "its keys are"),
    "a fingerprint of another kind": (changed(study="../../etc"), "study"),
    "a participant of another kind": (changed(participant=7), "participant"),
    "a truth value for a number": (changed(questions=True), "questions"),
    "more answers than questions": (changed(questions=9), "answers"),
    "names that are no base64": (changed(names="%%"), "names"),
    "names of another type": (changed(names=5), "names"),
    "names of other models": (changed(names=encode_names({"m1": "a", "m9": "b"})), "models"),
    "names that would write to the terminal": (
        changed(names=encode_names({"m1": "a", "m2": "b\x1b[2J", "m3": "c"})),
        "names",
    ),
    "two models of one name": (changed(names=encode_names({"m1": "a", "m2": "a", "m3": "c"})), "names"),
    "a question out of order": (in_answer(2, question=3), "question of answer 2"),
    "an unknown kind": (in_answer(2, kind="taste"), "kind of answer 2"),
    "an unknown model": (in_answer(0, left="m9"), "models of answer 0"),
    "a model against itself": (in_answer(0, left="m1", right="m1"), "models of answer 0"),
    "an unknown choice": (in_answer(1, choice="both"), "choice of answer 1"),
    "a choice that is a list": (in_answer(1, choice=[]), "choice of answer 1"),
    "a negative picture": (in_answer(1, picture=-1), "picture of answer 1"),
    "endless seconds": (in_answer(1, seconds=float("inf")), "seconds of answer 1"),
    "seconds that are no number": (in_answer(1, seconds=float("nan")), "seconds of answer 1"),
    "a repeat of a later question": (in_answer(1, repeat_of=5), "repeat_of answer 1"),
    "a repeat of something else": (in_answer(1, repeat_of=0), "repeat_of answer 1"),
    "an answer without a key": (lambda content: content | {"answers": [{}]}, "answer 0"),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_changed_file_is_refused_by_name_and_reason(take_part, save, flaw):
    change, message = FLAWS[flaw]
    path = save(change(take_part(page(), PEOPLE[0], choose_left)))
    with pytest.raises(ValueError) as refusal:
        read_participant(path)
    assert str(path) in str(refusal.value) and message in str(refusal.value)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "\x00\xff", "[" * 100_000, "9" * 5000])
def test_what_is_no_json_or_no_object_is_refused_by_name(save, text):
    path = save(text)
    with pytest.raises(ValueError, match=r"a\.json"):
        read_participant(path)


def test_a_tie_where_none_was_allowed_is_refused(take_part, save):
    path = save(take_part(page(allow_ties=False), PEOPLE[0], lambda *_: "tie"))
    with pytest.raises(ValueError, match="choice of answer 0"):
        read_participant(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.json: there is no such file"):
        read_participant(tmp_path / "nowhere.json")
