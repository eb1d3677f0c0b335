"""Lookup: the stored answer of the fact whose trained wording is nearest to a question; no model is asked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.bank.facts import NO_FACT, Fact, comparable
from lorary.bank.memory import Memory
from lorary.routing.router import Router

_VOTERS, _SHARPNESS = 12, 0.05
"""Nearest wordings that support an answer, and the similarity by which a vote falls to 1/e."""
Near = Sequence[tuple[str, Fact, float]]
"""The wordings nearest to a question, best first: the memory and the fact of each, and the cosine similarity."""


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


def neighbours(router: Router, embedding: Float[Tensor, "questions embedding"]) -> list[Near]:
    """The wordings nearest to each question; none where no memory has facts, or the encoder cannot read the question."""
    near = router.index.neighbours_of(embedding.cpu())
    return [
        [(memory, router.bank[memory].facts[fact], score) for memory, fact, score in own if fact != NO_FACT]
        for own in near
    ]


def nearest(near: Near) -> Stored | None:
    """The nearest fact; None where there is none."""
    if not near:
        return None
    memory, fact, similarity = near[0]
    others = (other for _, rival, other in near if not same(rival.answer, fact.answer))
    return Stored(memory, fact, similarity, similarity - next(others, 0.0))


def look_up(router: Router, embedding: Float[Tensor, "questions embedding"]) -> list[Stored | None]:
    """The nearest stored fact of each question; None where there is none."""
    return [nearest(near) for near in neighbours(router, embedding)]


def support(near: Near, answer: str) -> float:
    """The share of the votes of the nearest wordings that an answer has, 0 to 1: each votes by e to its similarity, so that
    several near wordings of one fact tell more than one (kernel-weighted neighbours; Nadaraya 1964)."""
    if not near:
        return 0.0
    first = near[0][2]
    votes = [(math.exp((score - first) / _SHARPNESS), fact.answer) for _, fact, score in near[:_VOTERS]]
    return sum(vote for vote, own in votes if same(own, answer)) / sum(vote for vote, _ in votes)


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
