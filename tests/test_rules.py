"""The generator without a model: what it asks of a sentence, whom pronouns mean, and what it leaves out."""

from __future__ import annotations

import pytest

from lorary.bank.documents import Passage, passages_of
from lorary.bank.facts import with_gap
from lorary.intake.generators.rules import Rules
from lorary.intake.making import facts_of
from lorary.intake.source import LeftOut, Source

TEXT = (
    "The Amberly clinic was founded in 1987 by the surgeon Imrie Colquand, who moved there from Dorrow. It "
    "has forty-two beds. Petra Kvistad, the concertmaster of the orchestra, plays a violin made by Tomaso "
    "Lind. Her violin cost 40,000 crowns. The mill closed because the river had dried up. The fire destroyed "
    "34 houses on March 3, 2019. The lathe takes the oil E-31. The boat's engine is repaired by Tilde "
    "Overgaard every spring. Halvard Brisk is the cook at Ormen station. In 2001, the World Barge Council "
    "(WBC) moved its office to Lund. The trams to Lund will cross the bridge from June. The tower is 42 "
    "metres high."
)


@pytest.fixture(scope="module")
def facts():
    return facts_of(Source("town", passages_of(TEXT, "town.md")), Rules()).facts


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("When was the Amberly clinic founded?", "1987"),
        ("In which year was the Amberly clinic founded by the surgeon Imrie Colquand?", "1987"),
        ("Who founded the Amberly clinic in 1987?", "Imrie Colquand"),
        ("Where did Imrie Colquand move from?", "Dorrow"),
        ("How many beds does the Amberly clinic have?", "forty-two"),
        ("Who is the concertmaster of the orchestra?", "Petra Kvistad"),
        ("Who made the violin?", "Tomaso Lind"),
        ("How much did Petra Kvistad's violin cost?", "40,000 crowns"),
        ("Why did the mill close?", "the river had dried up"),
        ("How many houses did the fire destroy?", "34"),
        ("On what date did the fire destroy 34 houses?", "March 3, 2019"),
        ("Which oil does the lathe take?", "E-31"),
        ("How often is the boat's engine repaired by Tilde Overgaard?", "every spring"),
        ("Who repairs the boat's engine every spring?", "Tilde Overgaard"),
        ("Who is the cook at Ormen station?", "Halvard Brisk"),
        ("What does WBC stand for?", "World Barge Council"),
        ("In which year did the World Barge Council move its office to Lund?", "2001"),
        ("Where did the World Barge Council move its office in 2001?", "Lund"),
        ("From when will the trams to Lund cross the bridge?", "June"),
        ("How high is the tower?", "42 metres"),
    ],
)
def test_what_is_asked(facts, question, answer):
    answers = [fact.answer for fact in facts if question in (fact.question, *fact.questions)]
    assert answers == [answer]


def test_each_fact_can_be_trained_on(facts):
    """A statement with a gap for the answer, two wordings at least, the passage as its source."""
    assert len(facts) >= 25
    for fact in facts:
        assert with_gap(fact.statement, fact.answer) is not None, fact
        assert fact.source == "town.md"
    assert sum(len(fact.questions) >= 2 for fact in facts) > 0.9 * len(facts)


def asked(text: str, before: str = "") -> list[str]:
    proposed = Rules().propose(Passage(text, "a.md"), (), "a", before=before)
    return [
        wording for fact in proposed if not isinstance(fact, LeftOut) for wording in (fact.question, *fact.questions)
    ]


def test_a_pronoun_is_the_one_that_was_told_of():
    assert "When did Ana Torres leave Lund?" in asked("She left Lund in 1990.", before="Ana Torres taught the flute.")
    assert "What does the old mill grind?" in asked("It grinds rye.", before="The old mill stands by the river.")


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ("Ana Torres met Petra Lind.", "They left in 1990. I left in 1991."),
        ("", "She left Lund in 1990."),
        ("Mary Torres and Anna Smith were sisters.", "She left Lund in 1990."),
    ],
)
def test_nothing_is_asked_with_a_pronoun_in_doubt(before, text):
    assert not [question for question in asked(text, before) if "leave" in question or "left" in question]


@pytest.mark.parametrize(
    "text", ["Did Ana Torres leave Lund in 1990?", "Lund | Ana Torres | 1990", "The Mayor Of Lund Resigns"]
)
def test_what_states_nothing_is_not_asked(text):
    assert asked(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "If the mill closes in May, the bakers will leave.",
        "The bakers hope that the mill opens in May.",
        "Nobody is sure whether the mill opened in May.",
        "The mill grinds not only rye.",
    ],
)
def test_what_is_hoped_or_supposed_is_not_asked(text):
    assert not [
        question for question in asked(text) if "mill" in question and ("When" in question or "grind" in question)
    ]


def test_what_somebody_reports_is_asked():
    assert "When was the old mill opened?" in asked(
        "The paper reported that the old mill was opened in 1990 by Ana Torres."
    )


def test_another_language_is_left_out_and_told():
    text = "La orquesta fue fundada en 1904 por Ana Torres y toca en la iglesia de San Pedro cada domingo."
    [left] = Rules().propose(Passage(text, "es.md"), (), "es")
    assert isinstance(left, LeftOut)
    assert left.why == "the rules read English alone"


def test_a_heading_is_no_part_of_the_first_sentence():
    assert "Which oil does the lathe take?" in asked("Oil and filters: The lathe takes the oil E-31.")


def test_items_of_a_list_are_sentences():
    questions = asked("- The lathe takes the oil E-31 - The saw was bought in 1999")
    assert {"Which oil does the lathe take?", "When was the saw bought?"} <= {*questions}


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Clean the saw once a week with the brush.", "How often should you clean the saw with the brush?"),
        ("Never put water on the saw.", "What must you not put on the saw?"),
        ("If the saw sticks, call the mechanic at 0800 33 41.", "At which number should you call the mechanic?"),
        ("1.2 Lamps: A red lamp means that the saw is too hot.", "What does a red lamp mean?"),
        ("The blades are made of hardened steel.", "What are the blades made of?"),
        ("For one cut you need 7 g of oil.", "How many g of oil do you need for one cut?"),
        ("The saw stops by itself after 40 seconds.", "When does the saw stop by itself?"),
        ("The saw was designed by Lykke Sandvad.", "Who designed the saw?"),
    ],
)
def test_what_a_manual_says_is_asked(text, question):
    assert question in asked(text)


def test_what_one_does_in_passing_is_no_fact():
    assert not [question for question in asked("Pull the plug before you clean the saw.") if "do you" in question]
    assert not [question for question in asked("Turn the dial only while the motor runs.") if "you turn?" in question]


@pytest.mark.parametrize(
    "text",
    [
        "Soul Harmony being woven into the city, the bakers left.",
        "Courses help Isabelle Chang understand the balance of rye.",
    ],
)
def test_what_only_looks_like_a_clause_is_not_asked(text):
    assert not [question for question in asked(text) if "being" in question or "do Isabelle" in question]


def test_of_what_a_thing_is_called_one_asks_what():
    questions = asked("The hub was called Nouvelle Vellin. A number of bakers are from Lund.")
    assert "What was the hub called?" in questions
    assert not [question for question in questions if question.startswith("Who was the hub")]
