"""Contents: what the memories of a bank hold, to be searched: wordings and passages, by meaning, by words and by letters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lorary.bank.facts import NO_FACT
from lorary.bank.memory import Memory
from lorary.routing.features import KINDS
from lorary.routing.index import FactIndex
from lorary.routing.lexicon import Lexicon, letter_grams


class Contents:
    """The wordings and the passages of memories that join and leave; a query is scored against each of them.

    Nothing is trained: a memory that holds documents alone is found by them at once. The letters serve scripts and names
    that the encoder does not know; the encoder serves questions in other words. Each store is made when it is first asked.

    Args:
        made: stores that stand already, by kind.
        bare: the names of memories without passages, where that is known.
    """

    def __init__(
        self,
        dimension: int,
        memories: Iterable[Memory] = (),
        made: Mapping[str, Any] | None = None,
        bare: Iterable[str] | None = None,
    ) -> None:
        self.dimension = dimension
        self._memories = {memory.name: memory for memory in memories}
        self.bare = {m.name for m in self._memories.values() if not m.passages} if bare is None else {*bare}
        self._made: dict[str, Any] = dict(made or {})

    @property
    def index(self) -> FactIndex:
        """The trained wordings by the encoder."""
        return self.store("wordings")  # type: ignore[no-any-return]

    @property
    def passage_index(self) -> FactIndex:
        """The passages by the encoder; a number there is that of a passage of its memory."""
        return self.store("passages")  # type: ignore[no-any-return]

    @property
    def lexicon(self) -> Lexicon:
        """The trained wordings by words."""
        return self.store("words")  # type: ignore[no-any-return]

    @property
    def wording_grams(self) -> Lexicon:
        """The trained wordings by runs of letters."""
        return self.store("wording_grams")  # type: ignore[no-any-return]

    def store(self, kind: str) -> Any:
        """The store of a kind, of `_FILL`."""
        made = self._made.get(kind)
        if made is None:
            fill = _FILL[kind]
            made = FactIndex(self.dimension) if kind in INDEXES else new_lexicon(kind)
            for memory in self._memories.values():
                fill(made, memory)
            self._made[kind] = made
        return made

    def add(self, memory: Memory) -> None:
        """Takes a memory in, in place of one of its name."""
        self._memories.pop(memory.name, None)
        self._memories[memory.name] = memory
        self.bare = self.bare - {memory.name} | ({memory.name} if not memory.passages else set())
        for kind, made in self._made.items():
            _FILL[kind](made, memory)

    def remove(self, name: str) -> None:
        """Forgets a memory, if it is there."""
        self._memories.pop(name, None)
        self.bare = self.bare - {name}
        for made in self._made.values():
            made.remove(name)

    def without(self, names: Iterable[str]) -> Contents:
        """The same without some memories, as if they had never been there."""
        left_out = {*names}
        return Contents(self.dimension, (m for m in self._memories.values() if m.name not in left_out))

    def scores(
        self,
        texts: Sequence[str],
        embedding: Float[Tensor, "queries embedding"],
        known: Bool[Tensor, " queries"],
        memories: Sequence[str],
        wordings: Float[Tensor, "queries memories"] | None = None,
        wording_grams: Float[Tensor, "queries memories"] | None = None,
    ) -> Float[Tensor, "queries memories kinds"]:
        """What each memory has in common with each query, by `KINDS`: cosines and shares, 0 to 1, 0 for nothing.

        Where other memories have passages, its wordings stand for those of one that has none.

        Args:
            known: whether the encoder knows the words of the query; where not, it is not asked.
            wordings: what the index says of the wordings, where that was asked already.
            wording_grams: the same of the wordings by letters.
        """
        embedding, believed = embedding.cpu(), known.unsqueeze(-1)
        wordings = self.index.votes(embedding, memories) if wordings is None else wordings
        passages = self.passage_index.votes(embedding, memories)
        wording_grams = self.wording_grams.votes(texts, memories) if wording_grams is None else wording_grams
        grams = [self.store(kind).votes(texts, memories) for kind in ("passage_grams", "document_grams")]
        scores = torch.stack([wordings * believed, passages * believed, wording_grams, *grams], dim=-1).clamp(min=0)
        bare = [number for number, name in enumerate(memories) if name in self.bare] if self.bare else []
        if 0 < len(bare) < len(memories):
            scores[:, bare] = scores[:, bare][..., _IN_PLACE]
        return scores


_IN_PLACE = [KINDS.index(kind) for kind in ("wordings", "wordings", "wording_grams", "wording_grams", "wording_grams")]
"""For each of `KINDS`, what stands for it in a memory without passages."""


INDEXES = ("wordings", "passages")
"""The stores by the encoder; the others go by words or by letters."""
KEPT = (*INDEXES, "wording_grams", "passage_grams", "document_grams")
"""The stores that a gate asks, which are kept with a bank."""


def new_lexicon(kind: str, *stored: Any) -> Lexicon:
    """The lexicon of a kind, empty or as `Lexicon.stored` told it."""
    return Lexicon(None if kind == "words" else letter_grams, *stored)


def _add_wordings(index: FactIndex, memory: Memory) -> None:
    numbers = [*memory.key_facts, *[NO_FACT] * len(memory.examples)]
    index.add(memory.name, memory.routing_keys, numbers)


def _add_passages(index: FactIndex, memory: Memory) -> None:
    # An older bank has no keys for passages.
    index.add(memory.name, memory.passage_keys, range(len(memory.passage_keys)))


def _texts(memory: Memory) -> list[str]:
    return [passage.text for passage in memory.passages]


def _document(memory: Memory) -> list[str]:
    texts = _texts(memory)
    return ["\n".join(texts)] if texts else []


_FILL: dict[str, Callable[[Any, Memory], None]] = {
    "wordings": _add_wordings,
    "passages": _add_passages,
    "words": lambda lexicon, memory: lexicon.add(memory.name, memory.routing_texts),
    "wording_grams": lambda lexicon, memory: lexicon.add(memory.name, memory.routing_texts),
    "passage_grams": lambda lexicon, memory: lexicon.add(memory.name, _texts(memory)),
    "document_grams": lambda lexicon, memory: lexicon.add(memory.name, _document(memory)),
}
"""How each store takes a memory in."""
