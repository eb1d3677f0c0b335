"""TrainedWordings: the trained wordings of a bank as the gate meets them in training, where a question must not find itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lorary.bank.bank import MemoryBank
from lorary.bank.facts import Fact, comparable, with_gap
from lorary.routing.lexicon import Lexicon

_AT_ONCE = 1024
"""Queries that are compared at once."""
_APART = 1 << 20
"""The place of the first example: beyond those of all wordings."""
_AROUND = " .:;,?!¿¡؟。？！\"'«»“”„‘’"
"""What ends or begins a wording without being one of its words."""


@dataclass(frozen=True)
class TrainedWordings:
    """Every trained wording's embedding, the memory it belongs to, and which wording of its fact it is.

    A trained question is compared only with wordings at other places than its own: facts written from one list of
    wordings have the same words at the same place, and a question that will be asked has words that no fact has. A wording
    that puts another of its fact in a frame ("Tell me who cooks.") stands at the other's place, since it has the same words.
    An example stands at a place of its own.
    """

    keys: Float[Tensor, "wordings embedding"]
    owner: Int[Tensor, " wordings"]
    place: Int[Tensor, " wordings"]
    memories: int

    @staticmethod
    def of(bank: MemoryBank) -> TrainedWordings:
        """The wordings of a bank, in its order."""
        owners = [number for number, memory in enumerate(bank) for _ in memory.routing_texts]
        keys = torch.cat([keys for memory in bank if len(keys := memory.routing_keys)])
        own, places = count(_APART), list[int]()
        for memory in bank:
            places += [place for of_fact in _places(memory.facts) for place in of_fact]
            places += [next(own) for _ in memory.examples]
        return TrainedWordings(keys, torch.tensor(owners), torch.tensor(places), len(bank))

    def left_out(self, key: Int[Tensor, " queries"]) -> Bool[Tensor, "queries wordings"]:
        """What each query is not compared with; nothing where its `key` is -1.

        In a memory whose facts have one wording each, only the query's own is left out: else nothing would be left.
        """
        known = (key >= 0).unsqueeze(-1)
        alone = torch.zeros(self.memories, dtype=torch.long).scatter_reduce(0, self.owner, self.place, "amax") == 0
        same_place = self.place == self.place[key].unsqueeze(-1)
        own = torch.arange(len(self.keys)) == key.unsqueeze(-1)
        return known & torch.where(alone[self.owner[key]].unsqueeze(-1), own, same_place)

    def votes(
        self, queries: Float[Tensor, "queries embedding"], key: Int[Tensor, " queries"]
    ) -> Float[Tensor, "queries memories"]:
        """Each memory's best cosine similarity among what the query is compared with."""
        parts = zip(queries.split(_AT_ONCE), key.split(_AT_ONCE), strict=True)
        return torch.cat([self._best(part @ self.keys.T, own) for part, own in parts])

    def lexical(
        self, lexicon: Lexicon, texts: Sequence[str], key: Int[Tensor, " queries"]
    ) -> Float[Tensor, "queries memories"]:
        """Each memory's best score in the lexicon, which holds the same wordings, among what the query is compared with."""
        starts = range(0, len(texts), _AT_ONCE)
        scores = [self._best(lexicon.scores(texts[i : i + _AT_ONCE]), key[i : i + _AT_ONCE]) for i in starts]
        return torch.cat(scores) if scores else torch.zeros(0, self.memories)

    def _best(
        self, similarity: Float[Tensor, "queries wordings"], key: Int[Tensor, " queries"]
    ) -> Float[Tensor, "queries memories"]:
        compared = similarity.masked_fill(self.left_out(key), -1.0)
        best = torch.zeros(len(compared), self.memories)
        return best.scatter_reduce(1, self.owner.expand_as(compared), compared, "amax")


def _places(facts: Sequence[Fact]) -> list[list[int]]:
    """The place of each wording of each of a memory's facts.

    Where no fact has wordings of different words, frames stand apart: else nothing would be left to compare with.
    """
    places = [places_of(fact.trained) for fact in facts]
    if any(len({*of_fact}) > 1 for of_fact in places):
        return places
    return [[*range(len(fact.trained))] for fact in facts]


def places_of(wordings: Sequence[str]) -> list[int]:
    """The place of each wording of a fact: its number, or that of the shortest wording that it puts in a frame.

    Frames of a wording that is not among them are not told from other wordings.
    """
    bare = [comparable(wording).strip(_AROUND) for wording in wordings]
    order = sorted(range(len(bare)), key=lambda number: (len(bare[number]), number))
    return [next(number for number in order if _holds(own, bare[number])) for own in bare]


def _holds(text: str, words: str) -> bool:
    """Whether the words stand in the text as they are."""
    return text == words or (bool(words) and words in text and with_gap(text, words) is not None)
