"""Generators by name, what a model's answer means, and a model of this machine or behind a dead address."""

from __future__ import annotations

import json
import socket

import pytest

from lorary.bank.documents import Passage
from lorary.errors import LoraryError
from lorary.intake.generators import generator_named, local
from lorary.intake.generators.endpoint import EndpointError, endpoint_generator
from lorary.intake.generators.prompted import Prompted, facts_in
from lorary.intake.generators.rules import Rules
from lorary.intake.source import Generator, LeftOut

PASSAGE = Passage("The Orrin mill was built in 1894 by Ruben Aske. It grinds rye.", "mill.md")
FACT = {
    "question": "Who built the Orrin mill?",
    "questions": ["By whom was the Orrin mill built?"],
    "answer": "Ruben Aske",
    "statement": "Ruben Aske built the Orrin mill.",
}


def test_generators_by_name():
    assert generator_named("none") is None
    assert isinstance(generator_named("rules"), Rules)
    assert isinstance(generator_named("auto"), Rules)
    assert isinstance(Rules(), Generator)


def test_an_address_is_asked_by_the_endpoint_alone():
    with pytest.raises(LoraryError, match="generator 'rules' asks no server"):
        generator_named("rules", endpoint="http://127.0.0.1:1/v1")


@pytest.mark.parametrize(
    "said",
    [
        json.dumps(FACT),
        f"Sure! Here are the facts:\n```json\n{json.dumps([FACT], indent=1)}\n```",
        json.dumps({"facts": [FACT]}),
        json.dumps(FACT) + '\n{"question": "When was the mi',
        '{"odd": 1} {broken ' + json.dumps(FACT),
        json.dumps({key: FACT[key] for key in ("question", "answer", "statement", "questions")})[:-30],
        json.dumps({**FACT, "questions": "none", "more": 1}),
    ],
)
def test_an_answer_is_read_leniently(said):
    [fact] = facts_in(said, PASSAGE, "mill")
    assert (fact.question, fact.answer) == (FACT["question"], "Ruben Aske")
    assert {*fact.questions} <= {*FACT["questions"]}
    assert (fact.statement, fact.topic, fact.source) == (FACT["statement"], "mill", "mill.md")


def test_other_wordings_are_texts_and_none_stands_twice():
    given = {**FACT, "questions": [3, None, *FACT["questions"], FACT["question"].lower(), *FACT["questions"]]}
    [fact] = facts_in(json.dumps(given), PASSAGE, "mill")
    assert fact.questions == ("By whom was the Orrin mill built?",)


def test_lines_of_question_and_answer_get_the_sentence_as_their_statement():
    [fact] = facts_in("**Question:** When was the mill built?\n**Answer:** 1894.\n\nQ: And?", PASSAGE, "mill")
    assert (fact.question, fact.answer) == ("When was the mill built?", "1894")
    assert fact.statement == "The Orrin mill was built in 1894 by Ruben Aske."


def test_an_answer_that_holds_no_fact_is_told():
    [left] = Prompted(lambda turns: "I am sorry, I cannot do that.").propose(PASSAGE, (), "mill")
    assert isinstance(left, LeftOut)
    assert (left.where, left.why) == ("mill.md", "the model's answer holds no fact that can be read")


def test_a_model_is_shown_an_example_the_passage_and_in_the_second_round_what_was_missed():
    asked = []
    generator = Prompted(lambda turns: asked.append(turns) or json.dumps(FACT))
    assert len(list(generator.propose(PASSAGE, (), "mill", before="Mills stand in Orrin."))) == 1
    assert len(list(generator.propose(PASSAGE, (), "mill", missed=["It grinds rye."]))) == 1
    first, second = (turns[-1]["content"] for turns in asked)
    assert first.endswith(PASSAGE.text)
    assert "Mills stand in Orrin." in first
    assert second.endswith("Passage: It grinds rye.")
    assert [turn["role"] for turn in asked[0]] == ["user", "assistant", "user"]


def test_a_model_of_this_machine_is_asked(base, monkeypatch):
    """The pico base says letters without sense, so its answer is left out, and told."""
    monkeypatch.setattr(local, "_loaded", lambda name: base)
    [left] = generator_named("some-folder").propose(PASSAGE, (), "mill")
    assert isinstance(left, LeftOut)


def test_a_model_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(LoraryError, match="cannot be loaded"):
        generator_named(str(tmp_path / "nowhere"))


def test_an_endpoint_needs_an_address(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(EndpointError, match="needs the address"):
        generator_named("endpoint")


def test_an_address_where_nobody_answers_is_one_clear_error():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    generator = endpoint_generator(f"http://127.0.0.1:{port}/v1", "any", retries=0)
    with pytest.raises(EndpointError, match="nobody answers there; start the server"):
        list(generator.propose(PASSAGE, (), "mill"))
