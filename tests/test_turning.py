"""Turning: a fact the other way round is a fact of its own, where a rule can ask for it and only one thing has its value."""

from __future__ import annotations

import json

import pytest

from lorary.__main__ import main
from lorary.bank.facts import Fact, comparable
from lorary.eval.questions import NEAR_COPY, similarity, words
from lorary.eval.tasks.uses import uses
from lorary.routing.turning import turned_facts


def fact(subject: str, thing: str, value: str, statement: str) -> Fact:
    asked = (f"What is the {thing} of {subject}?", f"Tell me {subject}'s {thing}.")
    return Fact("crew", asked[0], value, asked[1:], statement=statement)


@pytest.mark.parametrize(
    ("statement", "asked"),
    [
        ("The code of Ada Holm is 4173.", "Whose code is 4173?"),
        ("Ada Holm was born in 4173.", "Who was born in 4173?"),
    ],
)
def test_a_fact_is_asked_for_by_its_answer(statement, asked):
    (turned,) = turned_facts([fact("Ada Holm", "code", "4173", statement)])
    assert (turned.topic, turned.question, turned.answer) == ("crew", asked, "Ada Holm")
    assert turned.statement == statement
    assert len({comparable(wording) for wording in turned.trained}) == 6
    assert turned.cloze == (statement.replace("Ada Holm", "___"),)


def test_what_would_ask_for_two_or_for_nobody_is_left_as_it_is():
    one, two = (fact(name, "code", "4173", f"The code of {name} is 4173.") for name in ("Ada Holm", "Bo Kell"))
    assert not turned_facts([one, two])
    assert not turned_facts([one], [one, two]), "the other stands in another topic"
    assert not turned_facts([fact("Ada Holm", "code", "4173", "4173, as Ada Holm was told, opens it.")])
    assert not turned_facts([Fact("crew", "What is the code of Ada Holm?", "4173")])
    known = Fact("crew", "Whose code is 4173?", "Ada Holm")
    assert not turned_facts([one, known]), "it is asked already"


def test_what_the_task_asks_in_reverse_is_near_nothing_that_turned_facts_train():
    task = uses(entities=16, seed=5)
    made = turned_facts(task.facts)
    asked = {line["held_out"][0]: line["answer"] for line in task.questions if line["kind"] == "reversed"}
    assert {own.answer for own in made} == set(asked.values())
    for question, answer in asked.items():
        trained = [text for own in made if own.answer == answer for text in (*own.trained, *own.cloze)]
        assert all(similarity(words(question), words(text)) < NEAR_COPY for text in trained), question


def test_the_command_turns_facts_around_and_says_how_many(tmp_path, capsys):
    source = tmp_path / "crew.jsonl"
    own = [
        fact(name, "code", code, f"The code of {name} is {code}.")
        for name, code in (("Ada Holm", "1"), ("Bo Kell", "2"))
    ]
    source.write_text("".join(json.dumps(one.to_json()) + "\n" for one in own))
    main(["facts", str(source), "--out", str(tmp_path / "out.jsonl"), "--generator", "none", "--turned"])
    assert "2 facts turned around by rule" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["answer"] for line in lines] == ["1", "2", "Ada Holm", "Bo Kell"]
