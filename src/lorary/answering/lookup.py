"""Lookup: the stored answer of the fact whose trained wording is nearest to a question; no model is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.bank.facts import Fact, comparable
from lorary.bank.memory import Memory
from lorary.routing.router import Router

_NEAR = 16
"""Facts among which one with another answer is looked for."""


@dataclass(frozen=True)
class Stored:
    """A stored fact and how near a question is to its trained wordings.

    Args:
        memory: the memory that holds it.
        similarity: the cosine of the question and its nearest trained wording.
        margin: by how much that is above the nearest wording of a fact with another answer.
    """

    memory: str
    fact: Fact
    similarity: float
    margin: float


def look_up(router: Router, embedding: Float[Tensor, "questions embedding"]) -> list[Stored | None]:
    """The nearest stored fact of each question; None where no memory has facts, or the encoder cannot read the question."""
    found: list[Stored | None] = []
    for near in router.index.nearest(embedding.cpu(), _NEAR):
        facts = [(router.bank[memory].facts[number], memory, similarity) for memory, number, similarity in near]
        if not facts:
            found.append(None)
            continue
        fact, memory, similarity = facts[0]
        others = (other for fact_, _, other in facts if not same(fact_.answer, fact.answer))
        found.append(Stored(memory, fact, similarity, similarity - next(others, 0.0)))
    return found


def same(text: str, answer: str) -> bool:
    """Whether two answers are the same but for case, white space and a full stop at the end."""
    return comparable(text).rstrip(" .") == comparable(answer).rstrip(" .")


def stored_as(memories: Iterable[Memory], answer: str, embedding: Float[Tensor, " embedding"]) -> Stored | None:
    """The fact of the memories with this answer whose wordings are nearest to a question; None where none has it.

    Its margin is over the nearest wording of those memories' facts with another answer, below 0 where that is nearer.
    """
    best: Stored | None = None
    other = 0.0
    for memory in memories:
        if not len(memory.keys):
            continue
        near = _by_fact(memory, embedding)
        for fact, similarity in zip(memory.facts, near, strict=True):
            if not same(fact.answer, answer):
                other = max(other, similarity)
            elif best is None or similarity > best.similarity:
                best = Stored(memory.name, fact, similarity, 0.0)
    return best and Stored(best.memory, best.fact, best.similarity, best.similarity - other)


def _by_fact(memory: Memory, embedding: Float[Tensor, " embedding"]) -> list[float]:
    """The cosine of a question and the nearest wording of each of a memory's facts; −1 for a fact without one."""
    numbers = torch.tensor(memory.key_facts)
    nearest = torch.full((len(memory.facts),), -1.0)
    return nearest.scatter_reduce(0, numbers, memory.keys @ embedding.cpu(), "amax").tolist()


def nearest_wordings(
    stored: Stored, memory: Memory, embedding: Float[Tensor, " embedding"], count: int
) -> Sequence[str]:
    """The fact's trained wordings that are nearest to a question, nearest first, `count` at most."""
    number = memory.facts.index(stored.fact)
    of_fact = torch.tensor(memory.key_facts) == number
    near = (memory.keys @ embedding.cpu()).masked_fill(~of_fact, -2.0)
    order = near.argsort(descending=True)[: min(count, int(of_fact.sum()))]
    return [memory.wordings[place] for place in order.tolist()]
