"""What is borne out by a passage: an answer that stands in it, a statement that says no more, a question that names something."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorary.bank.documents import Passage
from lorary.bank.facts import Fact
from lorary.intake.checking import kept, uncovered, why_not
from lorary.intake.making import ROUNDS, facts_of
from lorary.intake.source import Source

PASSAGE = "The Orrin mill was built in 1894 by Ruben Aske. It grinds rye for the bakers of Halverstad."
SOUND = Fact(
    "mill", "Who built the Orrin mill?", "Ruben Aske", statement="Ruben Aske built the Orrin mill.", source="a.md"
)


def test_a_sound_fact_stays():
    assert why_not(SOUND, PASSAGE) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"answer": "Ruben Asker", "statement": "Ruben Asker built it."}, "the answer does not stand in the passage"),
        ({"answer": "It", "statement": "It grinds rye."}, "the answer is a pronoun"),
        ({"statement": "The Orrin mill was built."}, "the statement does not hold the answer"),
        ({"statement": None}, "the statement does not hold the answer"),
        ({"statement": "Ruben Aske built the Orrin mill in 1912."}, "the statement says more than the passage"),
        ({"statement": "Ruben Aske from Lund built the Orrin mill."}, "the statement says more than the passage"),
        ({"question": "Who painted London bridges?"}, "the question names nothing of the passage"),
        ({"question": "What did Ruben Aske build at Orrin?"}, "the question gives the answer away"),
        ({"question": "Who built it?"}, "the question points at what it does not name"),
        ({"question": "When did they build the Orrin mill?"}, "the question points at what it does not name"),
    ],
)
def test_what_is_not_borne_out_is_dropped_with_its_reason(changes, reason):
    assert (why_not(replace(SOUND, **changes), PASSAGE) or "").startswith(reason)


def test_doubles_are_dropped_and_told():
    double = replace(SOUND, question="Who was it that built the Orrin mill?")
    checked = kept([SOUND, double])
    assert checked.facts == [SOUND]
    assert [left.why for left in checked.left_out] == ["another fact says the same"]


def test_a_wording_with_two_answers_goes_and_a_contradiction_is_told():
    year = Fact("mill", "When was the Orrin mill built?", "1894", ("In which year did Aske build it?",), source="a.md")
    other = Fact("mill", "When was the Orrin mill built?", "1901", source="a.md")
    checked = kept([year, other])
    assert [fact.question for fact in checked.facts] == ["In which year did Aske build it?"]
    [left] = checked.left_out
    assert (left.why, left.what) == ("the source answers the question in two ways", f"{other.question} 1901 / 1894")


def test_what_the_source_held_already_is_never_touched():
    checked = kept([replace(SOUND, answer="Ruben Aske Jr")], known=[SOUND])
    assert checked.facts == []
    assert kept([SOUND], known=[SOUND]).facts == []


def test_sentences_that_no_fact_tells_of():
    assert uncovered(PASSAGE, [SOUND]) == ["It grinds rye for the bakers of Halverstad."]


class Asked:
    """Proposes one fact a round, and keeps what it was asked."""

    def __init__(self):
        self.missed = []

    def propose(self, passage, covered, topic, *, before="", missed=()):
        self.missed.append(list(missed))
        if not missed:
            return [SOUND]
        statement = "The Orrin mill grinds rye."
        return [
            SOUND,
            Fact(topic, "What does the Orrin mill grind?", "rye", statement=statement, source=passage.source),
        ]


def test_a_second_round_asks_for_what_is_not_covered():
    generator = Asked()
    checked = facts_of(Source("mill", (Passage(PASSAGE, "a.md"),)), generator)
    assert generator.missed == [[], ["It grinds rye for the bakers of Halverstad."]]
    assert len(generator.missed) == ROUNDS
    assert [fact.answer for fact in checked.facts] == ["Ruben Aske", "rye"]
