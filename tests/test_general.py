"""General questions stand for all that no fact states: a question nearer to one of them than to its fact asks elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from lorary.answering import answer
from lorary.answering.general import GAP, elsewhere, general_questions, unnamed
from lorary.answering.judging import Draft, gather
from lorary.answering.sources import DEFAULTS, logistic, probabilities
from lorary.base.prompts import prompt
from lorary.routing.policy import Policy
from lorary.routing.proper_names import without_names

STATED, ELSEWHERE = "Who cooks the food at Velka station?", "Which language does Velka station speak?"


@pytest.fixture
def gathered(composite):
    """Questions → the evidence of each, as if its memory had said "Brisk"."""
    route = answer(composite, STATED, policy=Policy(t_gate=0.0), max_new_tokens=2).route

    def of(*questions):
        drafts = [Draft(text, prompt(composite.tokenizer, text), route, "Brisk", 0.9) for text in questions]
        return route, gather(composite, drafts)

    return of


def test_an_encoder_that_cannot_be_hashed_is_asked_once(encoder):
    asked = []

    @dataclass
    class Own:
        name: str = "own"
        dimension: int = encoder.dimension

        def encode(self, sentences):
            asked.append(len(sentences))
            return encoder.encode(sentences)

    own, bare = Own(), encoder.encode([unnamed(general_questions()[0]), "they eat their bread"])
    told = [elsewhere(own, bare) for _ in range(2)]
    assert torch.equal(*told)
    assert torch.equal(told[0], elsewhere(encoder, bare))
    assert asked == [len(general_questions())]


def test_every_general_question_has_one_gap_and_none_stands_twice():
    assert all(question.count(GAP) == 1 for question in general_questions())
    assert len({question.lower() for question in general_questions()}) == len(general_questions())


def test_without_its_gap_a_general_question_reads_as_one_about_a_name_does_without_it():
    for question in general_questions():
        assert unnamed(question) == without_names(question.replace(GAP, "Velka"), frozenset({"velka"}))


def test_the_nearest_general_question_counts_but_not_the_question_itself():
    class Axes:
        """An encoder whose general questions lie in a plane, the first on an axis."""

        name, dimension = "axes", 2

        def encode(self, sentences):
            angles = torch.linspace(0, 1.5, len(sentences))
            return torch.stack([angles.cos(), angles.sin()], dim=-1)

    asked = torch.tensor([[1.0, 0.0], [0.6, -0.8]])
    itself, apart = elsewhere(Axes(), asked).tolist()
    angles = torch.linspace(0, 1.5, len(general_questions())).cos()
    assert itself == pytest.approx(float(angles[angles < 0.97].max()), abs=1e-6)
    assert apart == pytest.approx(0.6, abs=1e-6)


def test_a_question_for_what_nothing_states_is_asked_elsewhere_and_one_for_a_fact_is_not(gathered):
    _, (stated, other) = gathered(STATED, ELSEWHERE)
    assert other.lookup.elsewhere > other.lookup.asked
    assert stated.lookup.elsewhere < stated.lookup.asked


def test_what_is_asked_elsewhere_is_less_likely_answered_and_what_no_general_question_is_near_to_is_not_touched(
    gathered,
):
    route, (stated, foreign) = gathered(STATED, "Wer kocht das Essen auf der Station Velka?")
    assert foreign.features(route)["elsewhere"] == pytest.approx(max(foreign.lookup.elsewhere - 0.4, 0) / 0.2)
    shares = []
    for near in (0.0, 0.4, 0.6, 0.8):
        evidence = replace(stated, lookup=replace(stated.lookup, elsewhere=near))
        shares.append(probabilities(DEFAULTS, route, evidence))
    assert shares[0] == shares[1]
    assert shares[1]["memory"] > shares[2]["memory"] > shares[3]["memory"]
    assert shares[1]["base"] < shares[2]["base"] < shares[3]["base"]


def test_coefficients_of_an_older_composite_take_no_notice_of_it(gathered):
    route, (stated,) = gathered(STATED)
    older = {name: {k: v for k, v in own.items() if k != "elsewhere"} for name, own in DEFAULTS.items()}
    features = stated.features(route)
    assert logistic(features, older["memory"]) == logistic(features | {"elsewhere": 9.0}, older["memory"])
