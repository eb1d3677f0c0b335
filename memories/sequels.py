"""Sequels: rows by which a memory learns to go on. It gives its own answer before and behind a stranger's, and states its facts
in running text. It reads what is a stranger's, too, as it will where several memories answer in turn (`model.streams`).

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
from lorary.base.prompts import inner_ids, prompt_ids
from lorary.base.several import in_turn, two_questions

FIRST, SECOND = 2, 8
"""Rows of two questions where a fact is asked first, and where it is asked second, which is harder: its answer then begins
behind another's, and not where a prompt ends."""


@dataclass(frozen=True)
class Stranger:
    """A fact of nobody's, that stands beside a memory's own."""

    question: str
    answer: str
    statement: str


@dataclass(frozen=True)
class Sequel:
    """A row that a memory learns from: `ids[start:]` is what is learnt."""

    ids: tuple[int, ...]
    start: int


@lru_cache(maxsize=1)
def strangers() -> tuple[Stranger, ...]:
    """The shipped strangers."""
    return tuple(Stranger(**line) for _, line in read_lines(Path(__file__).parent / "strangers.jsonl"))


def sequels(
    tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact], number: int, chance: random.Random
) -> list[Sequel]:
    """The rows that continue the fact of a number, or that it continues.

    Args:
        facts: of the memory. Every other time another of them stands in the stranger's place: what is asked beside a fact
            is then as like it as another memory's questions are.
    """
    fact, others = facts[number], [other for other in facts if other.answer != facts[number].answer]
    rows: list[Sequel] = []
    wordings = chance.sample(fact.trained, len(fact.trained))
    for turn in range(FIRST + SECOND):
        wording, second = wordings[turn % len(wordings)], turn >= FIRST
        other: Stranger | Fact = chance.choice(strangers())
        if others and turn % 2:
            other = chance.choice(others)
        asked = chance.choice(other.trained) if isinstance(other, Fact) else other.question
        questions, answers = (wording, asked), (fact.answer, other.answer)
        if second:
            questions, answers = questions[::-1], answers[::-1]
        turns = in_turn(tokenizer, two_questions(*questions, chance), questions, answers)
        stop = len(turns.ids) if second or isinstance(other, Fact) else turns.starts[1]
        start = turns.starts[1] if second and not isinstance(other, Fact) else turns.starts[0]
        rows.append(Sequel(turns.ids[:stop], start))
    return rows + _running(tokenizer, fact, [other.statement for other in others if other.statement], chance)


def _running(
    tokenizer: PreTrainedTokenizerBase, fact: Fact, others: Sequence[str], chance: random.Random
) -> list[Sequel]:
    """Rows that state a fact behind a stranger's statement, before and behind another of the memory's own."""
    if not fact.statement:
        return []
    rows = []
    for own_first in (True, False):
        own = [fact.statement, *chance.sample(others, min(1, len(others)))]
        before = prompt_ids(tokenizer, [chance.choice(strangers()).statement])[0]
        whole = " ".join(own if own_first else own[::-1])
        behind = inner_ids(tokenizer, " " + whole)
        rows.append(Sequel((*before, *behind), len(before) + 1))  # nothing of its own leads to the first token
    return rows
