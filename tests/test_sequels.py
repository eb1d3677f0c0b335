"""Sequels: a memory learns its own part of what follows, and nothing of a stranger's."""

from __future__ import annotations

import random

import pytest
import torch
from conftest import FACTS

from lorary.memories.recipe import Recipe
from lorary.memories.rows import Row, Store, rows
from lorary.memories.sequels import FIRST, SECOND, sequels, strangers
from lorary.memories.writing import Writer


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


def test_a_memory_reads_its_own_question_and_answer_and_the_base_a_strangers(tokenizer):
    facts = FACTS["ormen"]
    asked = {stranger.question.rstrip("?. ").lower() for stranger in strangers()}
    for row in _drawn(tokenizer, facts)[: FIRST + SECOND]:
        others = [token for token, read in zip(row.ids, row.read, strict=True) if not read]
        told = tokenizer.decode(others).lower()
        if others:
            assert any(question[1:] in told for question in asked)
            assert "halvard" not in told
        else:
            assert "halvard" in tokenizer.decode(row.ids).lower()
            assert "4173" in tokenizer.decode(row.ids), "both answers are the memory's own"


@pytest.mark.parametrize("plain", [False, True])
def test_what_a_memory_does_not_read_the_base_does(base, plain):
    ids = base.tokenizer("Who cooks at Ormen station? Halvard does, and who cooks at Velka?")["input_ids"]
    half = len(ids) // 2
    written = [
        Row(0, 0, tuple(ids), len(ids) - 2, read=read) for read in ((), (True,) * half + (False,) * (len(ids) - half))
    ]
    writer = Writer(base, [FACTS["ormen"], FACTS["lamps"]], Recipe(), 0, plain=plain)
    for layer in writer.layers.values():
        layer.up.data.normal_()
    store = Store(writer.base, 0, [*written, Row(0, 0, tuple(ids), len(ids) - 2, read=(False,) * len(ids))], None)
    with torch.no_grad():
        whole, part, none = (writer.logits(store, [n])[0] for n in range(3))
        alone = base.model(torch.tensor([ids])).logits[0, len(ids) - 3 : -1].float()
        together = writer.logits(store, [0, 1, 2])[0]
    assert not torch.allclose(whole, part, atol=1e-3)
    assert not torch.allclose(part, none, atol=1e-3)
    torch.testing.assert_close(none, alone, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(together, torch.cat([whole, part, none]), atol=1e-4, rtol=1e-3)


def test_a_statement_stands_in_running_text(tokenizer):
    facts = [
        type(fact)(fact.topic, fact.question, fact.answer, statement=f"It is {fact.answer}.") for fact in FACTS["ormen"]
    ]
    drawn = sequels(tokenizer, facts, 0, random.Random(0))
    told = [tokenizer.decode(row.ids[row.start - 1 :]) for row in drawn[FIRST + SECOND :]]
    assert told == [" It is Halvard. It is 4173.", " It is 4173. It is Halvard."]
    before = [tokenizer.decode(row.ids[: row.start - 1]) for row in drawn[FIRST + SECOND :]]
    assert all(sum(row.read) == len(row.ids) - row.start + 1 for row in drawn[FIRST + SECOND :])
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
