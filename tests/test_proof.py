"""The figures of a proof that facts are forgotten: by hand, and where a memory knows, half knows or does not know."""

from __future__ import annotations

import math
from random import Random

import pytest
import torch
from conftest import FACTS

from lorary.bank.facts import Fact
from lorary.bank.memory import Memory
from lorary.memories.proof import LEVEL, Measured, edge, measured, proof, truth_ratios
from lorary.memories.proving import all_wordings, probes
from lorary.memories.wrong_answers import about, altered, subject_of, tells_of, wrong_answers
from lorary.statistics import same_distribution, upper_bound


def test_a_truth_ratio_is_the_mean_of_wrong_answers_over_the_right_one():
    right, wrong = torch.tensor([0.5, 0.1]).log(), torch.tensor([[0.1, 0.3], [0.1, 0.1]]).log()
    assert torch.allclose(truth_ratios(right, wrong), torch.tensor([0.4, 1.0]))
    assert edge(right, wrong) == pytest.approx(-math.log(0.4) / 2)
    figures = measured(torch.tensor([0.5, 0.1, 0.9]).log(), wrong, [True, False, True])
    assert (figures.recalled, figures.probability) == (2, pytest.approx(0.5))
    assert figures.truth_ratio == pytest.approx(0.7)


def test_the_bound_is_what_a_further_value_exceeds_so_often():
    generator = torch.Generator().manual_seed(0)
    over = 0
    for _ in range(2000):
        *sample, further = torch.randn(12, generator=generator).tolist()
        over += further > upper_bound(sample, 0.1)
    assert 0.08 <= over / 2000 <= 0.12
    assert upper_bound([0.3], 0.1) == math.inf


def test_two_samples_are_told_apart_where_they_differ():
    low, high = [i / 40 for i in range(40)], [0.5 + i / 40 for i in range(40)]
    assert same_distribution(low, low) == 1
    assert same_distribution(high, low) < 0.01
    assert same_distribution(high, low, greater=True) < 0.01
    assert same_distribution(low, high, greater=True) > 0.9


def a(edge, recalled=0):
    return Measured(recalled=recalled, probability=0.1, truth_ratio=math.exp(-edge), edge=edge)


NEVER = [(a(gain), a(0.0)) for gain in (-0.4, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.5)]


def facts_that(*pairs):
    return [(f"id{i}", "Who?", "Brisk", 9, memory, base) for i, (memory, base) in enumerate(pairs)]


def test_facts_that_gained_no_more_than_facts_never_known_are_forgotten():
    told = proof(facts_that((a(0.2), a(0.0)), (a(-0.3), a(0.0)), (a(1.1), a(1.0))), NEVER)
    assert told.holds
    assert told.known == ()
    assert told.facts[0].bound == upper_bound([memory.edge for memory, _ in NEVER], LEVEL / 3)


@pytest.mark.parametrize("memory", [a(4.0), a(0.0, recalled=1)], ids=["likelier", "recalled"])
def test_a_fact_that_is_likelier_or_recalled_is_still_known(memory):
    told = proof(facts_that((a(0.1), a(0.0)), (memory, a(0.0))), NEVER)
    assert [fact.id for fact in told.known] == ["id1"]
    assert not told.holds
    assert not told.to_json()["holds"]


def test_facts_that_are_all_a_little_likelier_are_not_forgotten_together():
    told = proof(facts_that(*[(a(0.6 + i / 100), a(0.0)) for i in range(12)]), NEVER)
    assert told.known == ()
    assert told.p_never_known < LEVEL
    assert not told.holds


def test_what_the_base_recalls_by_itself_is_no_knowledge_of_the_memory():
    assert proof(facts_that((a(0.1, recalled=2), a(0.0, recalled=2))), NEVER).holds


def test_a_fact_is_asked_in_wordings_of_every_kind():
    fact = Fact("t", "Who cooks?", "Brisk", ("Name the cook.",), ("The chef?",), "Brisk cooks.", validation=("Cook?",))
    wordings = all_wordings(fact)
    assert {"Who cooks?", "Name the cook.", "The chef?", "Cook?", "___ cooks.", "Tell me: Who cooks?"} <= {*wordings}
    assert len(wordings) == len({*wordings}) > 6
    assert wordings == all_wordings(fact)


def test_wrong_answers_are_of_the_kind_of_the_right_one_and_none_is_known():
    fact = FACTS["ormen"][1]
    pool = ["Halvard Brisk", "9020", "7788", "lark oil", "4173", "1234"]
    wrong = wrong_answers(fact, pool, ["9020"])
    assert {"7788", "1234"} <= {*wrong[:2]}
    assert not {"4173", "9020"} & {*wrong}
    assert wrong == wrong_answers(fact, pool, ["9020"])
    other = altered("Halvard Brisk 41!", Random(0))
    assert [c.isupper() for c in other] == [c.isupper() for c in "Halvard Brisk 41!"]
    assert other.endswith("!")
    assert all(x != y for x, y in zip(other, "Halvard Brisk 41!", strict=True) if y.isalnum())


def test_controls_are_facts_of_other_memories_or_wrong_answers_where_there_are_none():
    memory, other = Memory("ormen", {}, {}, FACTS["ormen"][1:]), Memory("velka", {}, {}, FACTS["velka"])
    asked, controls = probes(FACTS["ormen"][:1], memory, [other])
    assert [probe.fact for probe in asked] == [FACTS["ormen"][0]]
    assert [probe.fact for probe in controls] == [*FACTS["velka"]]
    asked, controls = probes(FACTS["ormen"][:1], memory, [])
    assert {probe.fact.answer for probe in controls} == {*asked[0].wrong}
    for probe in controls:
        assert probe.fact.answer not in probe.wrong


def of_author(name, *answers):
    asked = ("What genre does {} write in?", "Which prize has {} won?", "Where was {} born?", "Who raised {}?")
    return tuple(
        Fact(name.split()[0].lower(), question.format(name), answer.format(name))
        for question, answer in zip(asked, answers, strict=False)
    )


ULLA = of_author(
    "Ulla Brandt", "{} writes sea tales.", "Yes, {} has won the Harbour Prize.", "{} was born in Tarn.", "Bo"
)
ODO = of_author("Odo Ferrin", "{} writes on chess.", "{} has won the Rook Medal.", "Odo was born in Orvik.", "Ada")


def test_a_subject_is_what_most_facts_ask_about():
    assert subject_of(ULLA) == "Ulla Brandt"
    assert subject_of((*ULLA[:1], *ODO[:1], Fact("x", "What is the code?", "4"))) is None
    assert subject_of(()) is None


def test_wrong_answers_tell_of_the_facts_own_subject():
    assert about("Odo was born in Orvik.", "Odo Ferrin", "Ulla Brandt") == "Ulla Brandt was born in Orvik."
    assert about("Odo Ferrin's prize", "Odo Ferrin", "Ulla Brandt") == "Ulla Brandt's prize"
    assert about("Odo Ferrin.", "Odo Ferrin", "Ulla Brandt") == "Odo Ferrin.", "or a wrong answer would be right"
    assert about("Orvik", None, "Ulla Brandt") == about("Orvik", "Odo Ferrin", None) == "Orvik"
    memory, other = Memory("ulla", {}, {}, ULLA[1:]), Memory("odo", {}, {}, ODO)
    (asked,), controls = probes(ULLA[:1], memory, [other])
    told = [answer for answer in asked.wrong if "Ulla Brandt" in answer]
    assert len(told) == 3
    assert not [answer for answer in asked.wrong if tells_of(answer, "Odo Ferrin")]
    of_odo = [answer for probe in controls if tells_of(probe.fact.answer, "Odo Ferrin") for answer in probe.wrong]
    assert of_odo
    assert not [answer for answer in of_odo if tells_of(answer, "Ulla Brandt")]


def test_a_short_answer_is_compared_with_answers_as_they_are():
    memory, other = Memory("ulla", {}, {}, ULLA[:3]), Memory("odo", {}, {}, ODO)
    (asked,), _ = probes(ULLA[3:], memory, [other])
    assert not [answer for answer in asked.wrong if "Ulla" in answer]
