"""Where what is told belongs: in the memory that asks for it already, or shares its subject, or is near by meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lorary.bank.bank import MemoryBank
from lorary.bank.facts import Fact, comparable
from lorary.bank.memory import Memory
from lorary.memories.updating import takes_facts
from lorary.routing.encoder import Encoder
from lorary.routing.names import Names
from lorary.words import lowered, words_of

SHARE = 0.5
"""The share of a memory's facts from which on a name that they hold is the memory's subject."""
NAMED = 0.5
"""The cosine to the nearest wording or passage from which on a text that shares one name with a fact is about its subject."""
NEAR, APART = 0.45, 0.1
"""The cosine to the mean of what a memory holds from which on a text is near it, and by how much it must be nearer than the
next.

Chosen on the development topics and on ten of TOFU's authors, each fact left out of its memory and told as a sentence: with
2, 5 or 19 facts left, 0.90 to 1.00 reach their memory and none another; where no memory holds the subject, 0.00 to 0.10 are
not left to the notes.
"""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """The memory that a told text goes to.

    Args:
        why: `wording` where the memory asks for it already, `subject` where its facts are about the same, `meaning` where
            what it holds is near, `nothing` where no memory is: then it is the one for all else.
        shared: the wording or the names that it has in common with the memory.
        similarity: cosine of the text and the mean of what the nearest memory holds, -1 where none holds anything.
        nearest: that memory.
    """

    text: str
    memory: str
    why: str
    shared: str = ""
    similarity: float = -1.0
    nearest: str | None = None

    def __str__(self) -> str:
        told = f"{self.text!r} → {self.memory}"
        if self.why == "wording":
            return f"{told}, which asks {self.shared!r} already"
        if self.why == "subject":
            return f"{told}, which tells of {self.shared}"
        if self.why == "meaning":
            return f"{told}, which is near by meaning ({self.similarity:.2f})"
        if self.nearest in (None, self.memory):
            return f"{told}; --topic names another memory"
        return f"{told}: no memory is near enough ({self.nearest} {self.similarity:.2f}); --topic names one"


class Places:
    """Finds the memory of a bank that what is told belongs to; memories that cannot take facts are none.

    Args:
        rest: the memory of what belongs to no other.

    `held` tells the facts of the memories that can take some.
    """

    def __init__(self, bank: MemoryBank, encoder: Encoder, rest: str) -> None:
        self._rest, self._encoder = rest, encoder
        self._memories = [memory for memory in bank if takes_facts(memory) and (memory.facts or memory.documents)]
        self._names = Names.of((memory.name, _texts(memory)) for memory in self._memories).all
        self._owners = {
            comparable(wording): memory.name
            for memory in self._memories
            for fact in memory.facts
            for wording in fact.wordings
        }
        self.placed: dict[Placed, None] = {}
        self.held = {memory.name: memory.facts for memory in self._memories}

    def __call__(self, text: str, fact: Fact | None = None) -> str:
        """The name of the memory for a text, or for a fact that it tells; `placed` keeps why, each once."""
        wordings = fact.wordings if fact is not None else ()
        asked = next((wording for wording in wordings if comparable(wording) in self._owners), None)
        if asked is not None:
            owner = self._owners[comparable(asked)]
            placed = Placed(text=text, memory=owner, why="wording", shared=asked)
        else:
            placed = self._by_subject_or_meaning(text)
        self.placed[placed] = None
        return placed.memory

    def _by_subject_or_meaning(self, text: str) -> Placed:
        named = {lowered(word): word for word in words_of(text) if lowered(word) in self._names}
        (vector,) = self._encoder.encode([text])
        read = [_read(memory, {*named}, vector) for memory in self._memories]
        if not read:
            return Placed(text=text, memory=self._rest, why="nothing")
        by_subject = max(read, key=lambda own: (len(own.shared), own.share, own.mean))
        ordered = sorted(read, key=lambda own: own.mean, reverse=True)
        nearest, apart = ordered[0], ordered[0].mean - (ordered[1].mean if len(ordered) > 1 else 0.0)
        told: dict[str, Any] = {"text": text, "similarity": round(nearest.mean, 4), "nearest": nearest.memory}
        if by_subject.is_about:
            shared = " ".join(word for name, word in named.items() if name in by_subject.shared)
            return Placed(**told, memory=by_subject.memory, why="subject", shared=shared)
        if nearest.mean >= NEAR and apart >= APART:
            return Placed(**told, memory=nearest.memory, why="meaning")
        return Placed(**told, memory=self._rest, why="nothing")


@dataclass(frozen=True)
class _Read:
    """What a memory has in common with a text.

    Args:
        shared: the text's names that one of its facts or passages holds, the most in any.
        share: the mean number of the text's names that its facts and passages hold.
        nearest, mean: cosines of the text to the nearest wording or passage, and to the mean of all.
    """

    memory: str
    shared: frozenset[str]
    share: float
    nearest: float
    mean: float

    @property
    def is_about(self) -> bool:
        """Whether the text and the memory share a subject: two names in one fact, one in many, or one in a fact that is near."""
        return len(self.shared) > 1 or self.share >= SHARE or (bool(self.shared) and self.nearest >= NAMED)


def _read(memory: Memory, named: set[str], vector: Float[Tensor, " embedding"]) -> _Read:
    held: list[frozenset[str]] = [
        frozenset(lowered(word) for word in words_of(text)) & named for text in _units(memory)
    ]
    keys = [own for own in (memory.keys, memory.passage_keys) if len(own)]
    return _Read(
        memory.name,
        max(held, key=len),
        sum(map(len, held)) / len(held),
        max((float((own @ vector).max()) for own in keys), default=-1.0),
        max((float(functional.normalize(own.mean(0), dim=0) @ vector) for own in keys), default=-1.0),
    )


def _units(memory: Memory) -> Iterator[str]:
    """What a memory is asked for, a text a fact, and its passages."""
    yield from (" ".join(fact.trained) for fact in memory.facts)
    yield from (passage.text for passage in memory.documents)


def _texts(memory: Memory) -> list[str]:
    return [*memory.wordings, *(passage.text for passage in memory.documents)]
