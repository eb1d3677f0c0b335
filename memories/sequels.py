"""Sequels: rows by which a memory learns to go on. It gives its own answer before and behind a stranger's, and states its facts
in running text.

The strangers are shipped, and the same for every memory: what a memory is trained on never depends on its neighbours.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from lorary.bank.facts import Fact, read_lines
from lorary.base.prompts import inner_ids, prompt, prompt_ids
from lorary.base.several import answers_ids, two_questions

PAIRS = 3
"""Rows of two questions where a fact is asked first, and as many where it is asked second."""


@dataclass(frozen=True)
class Stranger:
    """A fact of nobody's, that stands beside a memory's own."""

    question: str
    answer: str
    statement: str


@lru_cache(maxsize=1)
def strangers() -> tuple[Stranger, ...]:
    """The shipped strangers."""
    return tuple(Stranger(**line) for _, line in read_lines(Path(__file__).parent / "strangers.jsonl"))


def sequels(
    tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact], number: int, chance: random.Random
) -> list[tuple[tuple[int, ...], int]]:
    """(tokens, where what is learnt begins) of each row that continues the fact of a number, or is continued.

    Args:
        facts: of the memory. One time in three another of them stands in the stranger's place.
    """
    fact, others = facts[number], [other for other in facts if other.answer != facts[number].answer]
    rows: list[tuple[tuple[int, ...], int]] = []
    for turn in range(2 * PAIRS):
        wording, second = chance.choice(fact.trained), turn >= PAIRS
        other: Stranger | Fact = chance.choice(strangers())
        if others and turn % PAIRS == PAIRS - 1:
            other = chance.choice(others)
        asked = chance.choice(other.trained) if isinstance(other, Fact) else other.question
        questions, answers = (wording, asked), (fact.answer, other.answer)
        if second:
            questions, answers = questions[::-1], answers[::-1]
        text = prompt(tokenizer, two_questions(*questions, chance))
        ids = prompt_ids(tokenizer, [text])[0]
        first, last = answers_ids(tokenizer, text, answers)
        if isinstance(other, Fact):
            rows.append(((*ids, *first, *last), len(ids)))
        elif second:
            rows.append(((*ids, *first, *last), len(ids) + len(first)))
        else:
            rows.append(((*ids, *first), len(ids)))
    return rows + _running(tokenizer, fact, [other.statement for other in others if other.statement], chance)


def _running(
    tokenizer: PreTrainedTokenizerBase, fact: Fact, others: Sequence[str], chance: random.Random
) -> list[tuple[tuple[int, ...], int]]:
    """Rows that state a fact behind a stranger's statement, before and behind another of the memory's own."""
    if not fact.statement:
        return []
    rows = []
    for own_first in (True, False):
        own = [fact.statement, *chance.sample(others, min(1, len(others)))]
        before = prompt_ids(tokenizer, [chance.choice(strangers()).statement])[0]
        whole = " ".join(own if own_first else own[::-1])
        behind = inner_ids(tokenizer, " " + whole)
        rows.append(((*before, *behind), len(before)))
    return rows
