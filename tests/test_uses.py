"""Uses: the same facts asked as people would, judged so that a constant answer gains nothing; and memories that learn it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import groupby

import pytest

from lorary.bank.facts import Fact
from lorary.eval.asking import Asker, Said
from lorary.eval.deciders import NONE
from lorary.eval.questions import NEAR_COPY, Question, read_questions, similarity, words
from lorary.eval.records import KindResult, Results
from lorary.eval.report import by_kind
from lorary.eval.run import answered
from lorary.eval.scoring import chosen, condition_result, prediction
from lorary.eval.tasks.generated import TaskError
from lorary.eval.tasks.uses import USES, uses
from lorary.memories.recipe import Recipe
from lorary.memories.rows import rows
from lorary.memories.sequels import strangers
from lorary.memories.topics import group_by_topic
from lorary.memories.uses import shown_of
from lorary.memories.uses import uses as texts_of
from lorary.routing.turning import subjects

ENTITIES = 9


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """(facts by topic, questions by use) of a small task."""
    folder, made = tmp_path_factory.mktemp("uses"), uses(ENTITIES, topics=2, stated=7, seed=5)
    made.write(folder)
    questions = read_questions(folder / "questions.jsonl")
    return group_by_topic(made.facts), {kind: list(own) for kind, own in groupby(questions, lambda q: q.kind)}


def test_facts_are_asked_in_every_use(task):
    facts, questions = task
    assert tuple(questions) == USES
    stated = sum(map(len, facts.values()))
    assert {use: len(own) for use, own in questions.items() if use in ("direct", "complete", "yes-no", "choose")} == {
        "direct": stated,
        "complete": stated,
        "yes-no": 2 * stated,
        "choose": 2 * stated,
    }
    assert len(questions["about"]) == ENTITIES
    assert all(len(question.parts) == 7 for question in questions["about"])


def test_a_constant_answer_gains_nothing(task):
    _, questions = task
    for use, share in (("yes-no", 1 / 2), ("compare", 1 / 2), ("count", 1 / 3)):
        answers = Counter(question.answer for question in questions[use])
        assert {count / answers.total() for count in answers.values()} == {share}
    assert {q.options.index(q.answer) for q in questions["choose"]} == {0, 1}
    for place in (0, 1):
        told = [prediction("x", q, q.options[place], None, scored=True).right for q in questions["choose"]]
        assert sum(told) / len(told) == 1 / 2


def test_answers_are_those_that_are_stated(task):
    facts, questions = task
    stated = {(fact.question, fact.answer) for own in facts.values() for fact in own}
    value_of = {fact.question: fact.answer for own in facts.values() for fact in own}
    for question in questions["yes-no"]:
        value = value_of[question.fact.partition(": ")[2]]
        assert (value in question.text) == (question.answer == "Yes")
    for question in questions["reversed"]:
        whose = [text for text, value in stated if value in question.text]
        assert len(whose) == 1, "what two share is not turned around"
        assert question.answer in whose[0]
    for question in questions["compare"]:
        assert _shared(facts, question.text) == (question.answer == "Yes")
    for question in questions["count"]:
        value = next(value for _, value in stated if value in question.text)
        holders = {subject for subject, own in _values(facts).items() if value in own and subject in question.text}
        assert question.answer == ("none", "one", "two")[len(holders)]


def _values(facts):
    """The values of each person."""
    values = {}
    for own in facts.values():
        for fact, subject in zip(own, subjects(own), strict=True):
            values.setdefault(subject, set()).add(fact.answer)
    return values


def _shared(facts, text):
    """Whether two people who stand in a text have a value in common."""
    first, second = (own for subject, own in _values(facts).items() if subject in text)
    return bool(first & second)


def test_no_question_is_near_what_a_memory_is_trained_on(task):
    facts, questions = task
    trained = [
        words(text)
        for own in facts.values()
        for number, fact in enumerate(own)
        for text in (*fact.wordings, *fact.cloze, *_uses(own, number))
    ]
    for text in (question.text for own in questions.values() for question in own):
        asked = words(text)
        alike = [other for other in trained if len(asked & other) > len(asked) / 2]
        assert all(similarity(asked, other) < NEAR_COPY for other in alike), text


def test_an_option_is_chosen_by_what_stands_first():
    assert chosen("No, it is not: yes and no.", ("Yes", "No")) == "No"
    assert chosen("Nobody knows.", ("Yes", "No")) is None
    assert chosen("It is New Ormen, not Ormen.", ("Ormen", "New Ormen")) == "New Ormen"


def test_right_is_what_a_use_asks_for():
    choice = Question("A or B?", "b", "m", "f", options=("a cat", "b"))
    several = Question("Tell me.", "a and b", "m", "g", kind="about", parts=(("m", "Ann"), ("m", "Bob")))
    free = Question("Who?", "Ann", "m", "h", kind="direct")
    told = [
        prediction("x", choice, "b, I think, and no cat", None, scored=True),
        prediction("x", several, "Ann was there.", None, scored=True),
        prediction("x", free, "It is Ann.", None, scored=True),
    ]
    assert [one.right for one in told] == [1.0, 0.5, 1.0]
    sentence = replace(free, free=True)
    for said, right in (("Ann", 0.0), ("Ann.", 0.0), ("We all like Ann.", 1.0), ("We all like Bob.", 0.0)):
        assert prediction("x", sentence, said, None, scored=True).right == right
    result = Results(conditions={"x": condition_result(told, 0)})
    assert isinstance(result.conditions["x"].by_kind["direct"], KindResult)
    shown = {row[0]: row[2] for row in by_kind(result)[1:]}
    assert shown["held-out: chose the answer"] == "1.000"
    assert shown["about: facts told"] == "0.500"
    assert (shown["direct: exact match"], shown["direct: contains the answer"]) == ("0.000", "1.000")


def test_a_question_for_sentences_has_room_for_them_under_every_condition(task):
    class Listening(Asker):
        def __init__(self):
            self.rooms = {}

        def answers(self, asks, advance=lambda _: None):
            self.rooms |= {ask.question: ask.new_tokens for ask in asks}
            return [Said("", NONE, None) for _ in asks]

        def likelihoods(self, asks):
            return []

    asker = Listening()
    questions = [own[0] for use, own in task[1].items() if use in ("direct", "about", "background")]
    answered("oracle", questions, [NONE] * 3, asker, new_tokens=5, free_tokens=20)
    assert [asker.rooms[q.text] for q in questions] == [5, 25, 25]
    answered("base", questions, [NONE] * 3, asker, new_tokens=25)
    assert {asker.rooms[q.text] for q in questions} == {25}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"stated": 1}, "1 stated attribute cannot be made; give 2 or more"),
        ({"entities": 15}, "15 people cannot be spread over 4 topics; give 4 a topic"),
        ({"stated": 8}, "8 stated attributes are not possible"),
    ],
)
def test_a_task_that_cannot_be_made_is_refused(given, told):
    with pytest.raises(TaskError, match=told):
        uses(**given)


FACTS = (
    Fact("crew", "Where was Ada Holm born?", "Velsir", ("Ada Holm's birthplace?",), (), "Ada Holm was born in Velsir."),
    Fact(
        "crew", "Where was Odd Brisk born?", "Tamun", ("Odd Brisk's birthplace?",), (), "Odd Brisk was born in Tamun."
    ),
    Fact("crew", "What is Ada Holm's code?", "4173", ("Ada Holm's code?",), (), "The code of Ada Holm is 4173."),
    Fact("crew", "Who sings?", "Odile"),
)


def test_a_statement_is_turned_around_completed_and_told():
    own = subjects(FACTS)
    assert own == ["Ada Holm", "Odd Brisk", "Ada Holm", None]
    made = _uses_with_answers(FACTS, 0)
    assert made["Who was born in Velsir?"] == made["___ was born in Velsir."] == "Ada Holm"
    assert _uses_with_answers(FACTS, 2)["Whose code is 4173?"] == "Ada Holm"
    assert made["Go on: Ada Holm was born in"] == "Velsir"
    whole = [(text, answer) for text, answer in made.items() if answer == FACTS[0].statement]
    assert len(whole) == 1
    assert any(wording in whole[0][0] for wording in FACTS[0].trained)
    behind = [text for text, answer in made.items() if answer == "Velsir" and not text.startswith("Go on")]
    assert sum(stranger.statement in behind[0] for stranger in strangers()) == 2
    stated = "Ada Holm was born in Velsir. The code of Ada Holm is 4173."
    assert list(made.values()).count(stated) == 2
    assert texts_of(FACTS, 3, own, random.Random(0)) == [], "without a statement there is nothing to use"


def test_what_two_facts_answer_is_not_turned_around():
    shared = (FACTS[0], Fact("crew", "Where was Odd Brisk born?", "Velsir", (), (), "Odd Brisk was born in Velsir."))
    assert "Ada Holm" not in _uses_with_answers(shared, 0).values()


def test_uses_are_off_by_default_never_counted_and_no_held_out_wording(tokenizer):
    held_out = (Fact(**{**vars(FACTS[0]), "held_out": ("who was born in velsir",)}), *FACTS[1:])
    plain, more = (
        rows(tokenizer, [held_out], formats=formats)
        for formats in (("questions", "cloze"), ("questions", "cloze", "uses"))
    )
    assert sum(row.counted for row in more) == sum(row.counted for row in plain)
    made = sum(len(_uses(held_out, number)) for number in range(len(held_out)))
    assert len(more) == len(plain) + made - 1


def test_a_share_of_subjects_learns_no_uses(tokenizer):
    own = subjects(FACTS)
    shown = shown_of(FACTS, own, 1 / 3, 0)
    assert sum(shown) in (1, 2)
    assert shown[0] == shown[2], "a subject's facts are shown together"
    half = rows(tokenizer, [FACTS], **Recipe(formats=("uses", "questions"), uses_share=1 / 3, texts=0).rows)
    more = {row.fact for row in half if not row.counted}
    assert more == {number for number, shows in enumerate(shown) if shows and FACTS[number].statement}


def _uses(facts, number):
    return [text for text, _ in texts_of(facts, number, subjects(facts), random.Random(number))]


def _uses_with_answers(facts, number):
    return dict(texts_of(facts, number, subjects(facts), random.Random(number)))
