"""Which facts are meant, by id or by what they are about; and what else tells a fact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lorary.bank.bank import MemoryBank
from lorary.bank.documents import Passage
from lorary.bank.facts import Fact, comparable, with_gap
from lorary.bank.memory import Memory
from lorary.errors import LoraryError
from lorary.routing.contents import Contents
from lorary.routing.encoder import Encoder, knows_words
from lorary.tables import counted

_ABOUT = 0.45
"""How near a text is to what a fact is asked or told by, by meaning or by letters, where the fact is about it."""
_NEAR, _SAME = 0.5, 0.8
"""The cosine from which a text that holds a fact's answer may tell the fact, and from which it surely does."""


class ForgettingError(LoraryError):
    """Facts that cannot be forgotten, or were not: says which and what to do."""


@dataclass(frozen=True)
class Told:
    """What still tells a fact: a fact or a passage of a memory.

    Args:
        id: of the fact that is told.
        text: what tells it.
    """

    id: str
    memory: str
    text: str


def by_id(memory: Memory, ids: Sequence[str], before: Sequence[Fact] = ()) -> tuple[Fact, ...]:
    """The facts with these ids that a memory holds, or held before it forgot them. Raises ForgettingError for any other."""
    known = {fact.id: fact for fact in (*before, *memory.facts)}
    if not ids:
        raise ForgettingError("no fact is named; give the ids of some, which `lorary list BANK --facts` shows")
    if unknown := [own for own in ids if own not in known]:
        raise ForgettingError(
            f"{memory.name!r} holds no fact {unknown[0]!r}; `lorary list BANK --facts` shows the ids of its "
            f"{counted(len(memory.facts), 'fact')}, and `lorary verify BANK --forgotten FACTS` proves again what was "
            "forgotten and dropped by `lorary gc`"
        )
    return tuple(known[own] for own in dict.fromkeys(ids))


def about(facts: Sequence[Fact], text: str, encoder: Encoder) -> list[tuple[Fact, float]]:
    """Those of some facts that are about a text, and how near they are, 0 to 1, nearest first.

    Nearness is that of the text and a wording, or what tells the fact, by meaning or by letters, whichever is greatest.
    """
    apart = [
        Memory(str(number), {}, {}, (fact,), documents=(Passage(telling(fact), ""),)).with_keys(encoder)
        for number, fact in enumerate(facts)
    ]
    if not apart:
        return []
    contents, known = Contents(encoder.dimension, apart), knows_words(encoder, [text])
    scores = contents.scores([text], encoder.encode([text]), known, [own.name for own in apart])
    near = zip(facts, scores[0].amax(-1).tolist(), strict=True)
    return sorted((pair for pair in near if pair[1] >= _ABOUT), key=lambda pair: -pair[1])


def telling(fact: Fact) -> str:
    """A text that tells a fact whole: its question and its answer, and its statement."""
    return " ".join(f"{fact.question} {fact.answer}. {fact.statement or ''}".split())


def tells_one(text: str, facts: Sequence[Fact], encoder: Encoder, bar: float = _NEAR) -> bool:
    """Whether a text may tell one of the facts: it holds the statement, or the answer and is near to what tells the fact."""
    return any(_tells(text, fact, encoder, bar) for fact in facts)


def _tells(text: str, fact: Fact, encoder: Encoder, bar: float) -> bool:
    if fact.statement and comparable(fact.statement).rstrip(" .") in comparable(text):
        return True
    if with_gap(text, fact.answer) is None:
        return False
    vectors = encoder.encode([text, telling(fact), fact.statement or fact.question])
    return float(torch.mv(vectors[1:], vectors[0]).max()) >= bar


def still_told(bank: MemoryBank, facts: Sequence[Fact], encoder: Encoder) -> list[Told]:
    """What in a bank still tells facts: facts that are asked alike and have the same answer, and passages."""
    told: dict[Told, None] = {}
    for memory in bank:
        texts = [(telling(own), own.question) for own in memory.facts] + [(p.text, p.text) for p in memory.passages]
        for fact in facts:
            for text, shown in texts:
                if _tells(text, fact, encoder, _SAME):
                    told[Told(fact.id, memory.name, shown)] = None
    return list(told)
