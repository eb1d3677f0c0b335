"""Input is checked before anything is trained, and an error names file, line and fault."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lorary.bank.facts import Fact, FactError, group_by_topic, parse_fact, read_facts
from lorary.eval.questions import held_out
from lorary.memories.building import build
from lorary.memories.rows import kept_for_validation, rows, with_validation
from lorary.memories.topics import read_topics

GOOD = {"question": "Who cooks?", "answer": "Halvard", "questions": ["Name the cook."], "held_out": ["The chef is?"]}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not JSON .* each line must hold one whole JSON object, from { to }"),
        ("[]", "a line that is no object but a list; each line must hold one whole JSON object"),
        (json.dumps({"question": "Who?"}), "'answer' is missing"),
        (json.dumps({**GOOD, "answer": 7}), "'answer' must be a non-empty string"),
        (json.dumps({**GOOD, "anser": "x"}), "unknown field 'anser'"),
        (json.dumps({**GOOD, "questions": "Who?"}), "'questions' must be a list"),
        (json.dumps({**GOOD, "topic": "../x"}), "cannot name a memory"),
        (json.dumps({**GOOD, "held_out": ["Who cooks?"]}), "both a trained and a held-out wording"),
    ],
)
def test_a_bad_line_is_named(line, told, tmp_path):
    file = tmp_path / "crew.jsonl"
    file.write_text(json.dumps(GOOD) + "\n\n" + line + "\n")
    with pytest.raises(FactError, match=told) as error:
        build([file], out=tmp_path / "bank")
    assert f"{file}:3" in str(error.value)
    assert not (tmp_path / "bank").exists()


def test_the_topic_defaults_to_the_file_s_name(tmp_path):
    (tmp_path / "crew.jsonl").write_text(json.dumps(GOOD) + "\n")
    assert list(read_topics([tmp_path])) == ["crew"]


def test_a_held_out_wording_is_trained_nowhere(tmp_path):
    other = {"question": "The chef is?", "answer": "Brisk", "topic": "other"}
    (tmp_path / "crew.jsonl").write_text(json.dumps(GOOD) + "\n" + json.dumps(other) + "\n")
    with pytest.raises(FactError, match="trained on elsewhere"):
        group_by_topic(read_facts(tmp_path / "crew.jsonl"))


def test_wordings_are_of_three_kinds(tmp_path, tokenizer):
    (tmp_path / "crew.jsonl").write_text(json.dumps({**GOOD, "questions": ["Name the cook.", "Cook?"]}) + "\n")
    fact = with_validation(next(read_facts(tmp_path / "crew.jsonl")), 1)
    assert (fact.trained, fact.validation) == (("Who cooks?", "Name the cook."), ("Cook?",))
    told = [tokenizer.decode(row.ids) for row in rows(tokenizer, [[fact]])]
    assert not any("Cook?" in text or "chef" in text for text in told)


def test_a_fact_s_own_validation_wordings_are_kept(tmp_path):
    file = tmp_path / "crew.jsonl"
    file.write_text(json.dumps({**GOOD, "questions": ["Name the cook."], "validation": ["Cook?"]}) + "\n")
    (fact,) = kept_for_validation([*read_facts(file)], 2)
    assert (fact.trained, fact.validation) == (("Who cooks?", "Name the cook."), ("Cook?",))
    file.write_text(json.dumps({**GOOD, "questions": [], "validation": ["who  cooks?"]}) + "\n")
    with pytest.raises(FactError, match="leave one to train on"):
        list(read_facts(file))
    held_out = Fact("other", "Chef?", "Brisk", held_out=("Cook?",))
    with pytest.raises(FactError, match="trained on elsewhere"):
        group_by_topic([fact, held_out])


def test_a_wording_that_another_fact_trains_on_validates_nothing():
    first = Fact("crew", "Who cooks?", "Halvard", ("Name the cook.", "Cook?"))
    again = Fact("crew", "COOK?", "Halvard", ("Who is at the stove?",))
    kept = kept_for_validation([first, again], 1)
    assert [fact.validation for fact in kept] == [(), ("Who is at the stove?",)]
    assert kept[0].trained == ("Who cooks?", "Name the cook.", "Cook?")


def test_a_fact_that_stands_twice_counts_once():
    fact = Fact("crew", "Who cooks?", "Halvard")
    assert group_by_topic([fact, Fact("crew", "Who cooks?", "Halvard"), fact]) == {"crew": (fact,)}


def test_questions_that_were_trained_on_cannot_be_scored(bank, tmp_path):
    file = tmp_path / "asked.jsonl"
    file.write_text(json.dumps({"topic": "ormen", "question": "who cooks at ORMEN station", "answer": "Halvard"}))
    with pytest.raises(FactError, match="was trained on, or nearly so"):
        held_out(bank, file)
    file.write_text(json.dumps({"topic": "paris", "question": "Who?", "answer": "x"}))
    with pytest.raises(FactError, match="'paris' has no memory"):
        held_out(bank, file)


def test_a_line_ends_at_a_line_feed_alone(tmp_path):
    """JSON strings may hold what else ends a line of Unicode text."""
    told = {"topic": "ormen", "question": "Who cooks\u2028at Ormen?", "answer": "Halvard\x85Brisk"}
    (tmp_path / "ormen.jsonl").write_text(json.dumps(told, ensure_ascii=False) + "\r\n\n", encoding="utf-8-sig")
    (fact,) = read_facts(tmp_path / "ormen.jsonl")
    assert fact.question == told["question"]
    assert fact.answer == told["answer"]


@pytest.mark.parametrize(
    ("statement", "answer", "cloze"),
    [
        ("The light was built in 1917.", "17", None),
        ("The light was built in 1917.", "1917", "The light was built in ___."),
        ("It is 3.17 km long, and 17 m wide.", "17", "It is 3.17 km long, and ___ m wide."),
        ("Ann cooks, Annette sails.", "Annette", "Ann cooks, ___ sails."),
        ("Halvard cooks.", "halvard", "___ cooks."),
        ("The IT of it is old.", "it", "The IT of ___ is old."),
        ("He wrote C++ well.", "C++", "He wrote ___ well."),
        ("Go to St. John's!", "St. John's", "Go to ___!"),
        ("Built by O'Brien.", "Brien", None),
        ("At the cafe\u0301.", "cafe", None),
        ("Она живёт в Москве.", "Москва", None),
        ("首都是东京。", "东京", "首都是___。"),
        ("于1917年建成。", "1917", "于___年建成。"),
        ("于1917年建成。", "17", None),
        ("राजधानी दिल्ली है", "दिल", None),
        ("राजधानी दिल्ली है", "दिल्ली", "राजधानी ___ है"),
        ("HALVARD.", "Halvard", None),
    ],
)
def test_a_cloze_leaves_out_whole_words_alone(statement, answer, cloze):
    assert Fact("t", "Who?", answer, statement=statement).cloze == ((cloze,) if cloze else ())


SAME = [
    ("Who cooks at the café?", "who  cooks at the cafe\u0301?\u00a0"),
    ("Which ﬁle holds Straße 5?", "Which file holds STRASSE ５?"),
]


@pytest.mark.parametrize(("wording", "same"), SAME)
def test_wordings_are_one_that_differ_in_case_space_or_unicode_form(wording, same, tokenizer):
    one = Fact("crew", wording, "Halvard", held_out=("The chef is?",))
    with pytest.raises(FactError, match="has two answers"):
        group_by_topic([one, Fact("crew", same, "Brisk")])
    with pytest.raises(FactError, match="has two answers"):
        group_by_topic([one, Fact("other", "Cook?", "Brisk", questions=(same,))])
    with pytest.raises(FactError, match="trained on elsewhere"):
        group_by_topic([one, Fact("other", "Cook?", "Brisk", held_out=(same,))])
    for field in ("question", "questions", "validation"):
        line = {"question": "Cook?", "answer": "x", field: wording if field == "question" else [wording]}
        with pytest.raises(FactError, match="both a trained and a held-out wording"):
            parse_fact({**line, "held_out": [same]}, topic="crew", where="here")
    twice = with_validation(Fact("crew", wording, "Halvard", ("Name the cook.", same)), 1)
    assert (twice.validation, twice.trained) == (("Name the cook.",), (wording, same)), "the texts stay as they are"
    assert len(rows(tokenizer, [[twice]])) == 1
    alone = with_validation(Fact("crew", wording, "Halvard", (same,)), 1)
    assert (alone.validation, alone.trained) == ((), (wording, same)), "a copy of what is trained on measures nothing"


@pytest.mark.parametrize(("wording", "same"), SAME)
def test_a_copy_in_another_form_of_what_was_trained_on_is_not_scored(bank, tmp_path, wording, same):
    ormen = bank["ormen"]
    bank.memories["ormen"] = replace(ormen, facts=(replace(ormen.facts[0], question=wording), *ormen.facts[1:]))
    file = tmp_path / "asked.jsonl"
    file.write_text(json.dumps({"topic": "ormen", "question": same, "answer": "Halvard"}))
    with pytest.raises(FactError, match="was trained on, or nearly so"):
        held_out(bank, file)
