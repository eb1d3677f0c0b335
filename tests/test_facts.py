"""Input is checked before anything is trained, and an error names file, line and fault."""

from __future__ import annotations

import json

import pytest

from lorary.bank.facts import FactError, group_by_topic, read_facts
from lorary.eval.questions import held_out
from lorary.memories.building import build, read_topics
from lorary.memories.rows import rows, with_validation

GOOD = {"question": "Who cooks?", "answer": "Halvard", "questions": ["Name the cook."], "held_out": ["The chef is?"]}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
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
