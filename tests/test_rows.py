"""Rows that memories train on: trained wordings, their thinned copies and the cloze, never a kept wording."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from lorary.bank.facts import Fact, FactError
from lorary.eval.questions import held_out
from lorary.memories.recipe import falling
from lorary.memories.rewording import thinned
from lorary.memories.rows import asked, rows, validation_rows, with_validation

FACT = Fact(
    "ormen",
    "Who cooks at Ormen station?",
    "Halvard Brisk",
    ("Name the cook of Ormen.", "Ormen's galley is whose?"),
    ("Ormen's chef is called what?",),
    "Halvard Brisk cooks the meals at Ormen.",
)


def texts(tokenizer, held):
    return [tokenizer.decode(row.ids[: row.start], skip_special_tokens=True) for row in held]


def test_a_thinned_wording_keeps_some_words_in_their_order():
    wording = "which person cooks the meals at the station of Ormen"
    found = [thinned(wording, 0.5, random.Random(seed)) for seed in range(40)]
    assert len(set(found)) > 20
    for words in map(str.split, found):
        rest = iter(wording.split())
        assert words
        assert all(word in rest for word in words), "a subsequence of the wording"
    assert len(thinned(wording, 1.0, random.Random(0)).split()) == 1
    assert thinned(wording, 0.0, random.Random(0)) == wording


def test_a_cloze_hides_the_answer():
    assert FACT.cloze == ("___ cooks the meals at Ormen.",)
    assert Fact("ormen", "Who?", "Brisk", statement="The cook is unknown.").cloze == ()
    assert Fact("ormen", "Who?", "Brisk", statement="Brisk.").cloze == ()
    assert Fact("ormen", "Who?", "Brisk").cloze == ()


def test_rows_repeat_by_seed_and_hold_no_kept_wording(tokenizer):
    fact = with_validation(FACT, 1)
    assert fact.validation == ("Ormen's galley is whose?",)
    plain = texts(tokenizer, rows(tokenizer, [[fact]]))
    assert len(plain) == 3, "two trained wordings and the cloze"
    first, again, other = (rows(tokenizer, [[fact]], copies=4, share=0.4, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert len(plain) < len(first) <= 15
    assert sum(row.counted for row in first) == len(plain)
    assert not any("galley" in text or "chef" in text for text in texts(tokenizer, first))
    assert all(tokenizer.decode(row.ids[row.start :], skip_special_tokens=True) == FACT.answer for row in first)
    assert len(validation_rows(tokenizer, [[fact]])) == 1


def test_certificates_ask_a_few_texts_of_a_fact_from_its_first_to_its_cloze(tokenizer):
    many = replace(FACT, questions=tuple(f"Who is cook number {number} at Ormen?" for number in range(9)))
    texts_ = [*many.trained, *many.cloze]
    chosen = asked(many, ("questions", "cloze"))
    assert [*chosen["questions"], *chosen["cloze"]] == [texts_[0], texts_[3], texts_[7], texts_[10]]
    assert len(asked(many, ("questions",))["questions"]) == 4
    assert asked(many, ("text",)) == {"questions": [], "cloze": []}
    every = asked(many, ("questions", "cloze"), None)
    assert every == {"questions": list(many.trained), "cloze": list(many.cloze)}
    assert [sum(row.counted for row in rows(tokenizer, [[many]], most_asked=most)) for most in (1, 4, None)] == [
        1,
        4,
        11,
    ]


def test_the_learning_rate_rises_shortly_and_falls_to_nothing():
    rates = [falling(1.0, epoch / 10, 8) for epoch in range(81)]
    peak = rates.index(max(rates))
    assert 1 <= peak <= 4
    assert rates[-1] == 0.0
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_a_question_like_a_cloze_cannot_be_scored(bank, tmp_path):
    name = bank.names[0]
    told = replace(bank[name].facts[0], statement="Halvard runs the cold northern galley.", answer="Halvard")
    bank.memories[name] = replace(bank[name], facts=(told,))
    asked = tmp_path / "asked.jsonl"
    asked.write_text(json.dumps({"topic": name, "question": "___ runs the cold northern galley?", "answer": "Halvard"}))
    with pytest.raises(FactError, match="was trained on, or nearly so"):
        held_out(bank, asked)
