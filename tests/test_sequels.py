"""Sequels: a memory learns its own part of what follows, and nothing of a stranger's."""

from __future__ import annotations

import random

from conftest import FACTS

from lorary.memories.rows import rows
from lorary.memories.sequels import FIRST, SECOND, sequels, strangers


def test_a_memory_learns_its_own_answer_and_no_strangers(tokenizer):
    facts = FACTS["ormen"]
    answers = [tokenizer.decode(row.ids[row.start :], skip_special_tokens=True) for row in _drawn(tokenizer, facts)]
    said = {answer.strip() for answer in answers}
    assert {"Halvard and", "Halvard", "Halvard and 4173", "4173 and Halvard"} >= said
    assert {"Halvard and", "Halvard"} <= said
    assert all(stranger.answer not in answer for answer in answers for stranger in strangers())


def test_it_ends_its_turn_only_after_the_last_answer(tokenizer):
    end = tokenizer.eos_token_id
    for row in _drawn(tokenizer, FACTS["ormen"]):
        learnt = tokenizer.decode(row.ids[row.start :])
        assert (end in row.ids[row.start :]) != learnt.rstrip().endswith("and")


def test_a_statement_stands_in_running_text(tokenizer):
    facts = [
        type(fact)(fact.topic, fact.question, fact.answer, statement=f"It is {fact.answer}.") for fact in FACTS["ormen"]
    ]
    drawn = sequels(tokenizer, facts, 0, random.Random(0))
    told = [tokenizer.decode(row.ids[row.start - 1 :]) for row in drawn[FIRST + SECOND :]]
    assert told == [" It is Halvard. It is 4173.", " It is 4173. It is Halvard."]
    before = [tokenizer.decode(row.ids[: row.start - 1]) for row in drawn[FIRST + SECOND :]]
    assert set(before) <= {stranger.statement for stranger in strangers()}


def test_they_are_off_by_default_and_never_counted(tokenizer):
    plain, more = (
        rows(tokenizer, [FACTS["ormen"]], formats=formats)
        for formats in (("questions", "cloze"), ("questions", "cloze", "sequels"))
    )
    assert len(more) == len(plain) + (FIRST + SECOND) * len(FACTS["ormen"])
    assert sum(row.counted for row in more) == sum(row.counted for row in plain)


def _drawn(tokenizer, facts):
    return sequels(tokenizer, facts, 0, random.Random(0))
