"""Router: the gate, the index and the encoder together; queries in, decisions out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.encoder import Encoder
from lorary.gate import Gate, evidence
from lorary.memory import Memory, MemoryBank
from lorary.pooling import running_mean
from lorary.routing import Decision, Policy, decide

if TYPE_CHECKING:
    from lorary.index import FactIndex


@dataclass
class Query:
    """What is known of a batch of queries, and what the gate has seen of their tokens so far."""

    embedding: Float[Tensor, "batch embedding"]
    votes: Float[Tensor, "batch memories"]
    facts: Float[Tensor, "batch memories"] | None = None
    seen: tuple[Float[Tensor, "batch hidden"], Float[Tensor, " batch"]] | None = None

    def rows(self, index: Tensor) -> Query:
        """The same for the rows given by number."""
        seen = None if self.seen is None else (self.seen[0][index], self.seen[1][index])
        facts = None if self.facts is None else self.facts[index]
        return replace(self, embedding=self.embedding[index], votes=self.votes[index], facts=facts, seen=seen)


@dataclass
class Router:
    """Asks the gate, then the index, for the memories of a bank.

    Args:
        get_encoder: loads the encoder, when a query is first embedded.
    """

    bank: MemoryBank
    gate: Gate
    policy: Policy
    get_encoder: Callable[[], Encoder]
    _index: FactIndex | None = field(default=None, init=False)
    _learned: FactIndex | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.gate.ask_facts = self.evidence

    @property
    def index(self) -> FactIndex:
        """The index over the bank's facts, built when first asked."""
        if self._index is None:
            self._index = self._build(lambda keys: keys)
        return self._index

    @property
    def learned_index(self) -> FactIndex:
        """The same facts where the gate sees them; `gate_changed` makes it be built anew."""
        if self._learned is None:
            self._learned = self._build(self._project)
        return self._learned

    def _build(self, where: Callable[[Tensor], Tensor]) -> FactIndex:
        from lorary.index import FactIndex  # faiss is heavy: only who routes pays for it

        index = FactIndex(self.gate.from_embedding.shape[1])
        for memory in self.bank:
            index.add(memory.name, where(memory.keys) if len(memory.keys) else memory.keys, memory.key_facts)
        return index

    @torch.no_grad()
    def _project(self, keys: Tensor) -> Tensor:
        return self.gate.project(keys.to(self.gate.none)).cpu()

    def gate_changed(self) -> None:
        """To be told after the gate was trained: its view of the facts is another."""
        self._learned = None

    @torch.no_grad()
    def evidence(self, embedding: Float[Tensor, "*batch embedding"]) -> Float[Tensor, "*batch memories"]:
        """What the facts nearest in the gate's space say for each memory, as `gate.evidence` reckons."""
        sigma, names = self.gate.log_sigma.exp().cpu(), self.bank.names
        similarities, owner = self.learned_index.nearby(self._project(embedding.flatten(0, -2)), names)
        scores = sigma * similarities
        told = evidence(scores, owner, len(names), floor=scores[:, -1:])
        return told.to(self.gate.none.device).unflatten(0, embedding.shape[:-1])

    def query(self, texts: Sequence[str]) -> Query:
        """Embeddings and votes of `texts`; equal texts are encoded once."""
        distinct = list(dict.fromkeys(texts))
        embedding = self.get_encoder().encode(distinct)
        votes = self.index.votes(embedding, self.bank.names)
        rows = torch.tensor([distinct.index(text) for text in texts])
        device = self.gate.none.device
        facts = self.evidence(embedding)[rows] if "facts" in self.gate.features else None
        return Query(embedding[rows].to(device), votes[rows].to(device), facts)

    def decide(
        self,
        query: Query,
        hidden: Float[Tensor, "batch seq hidden"] | None = None,
        counted: Float[Tensor, "batch seq"] | None = None,
        *,
        granularity: str = "query",
        policy: Policy | None = None,
    ) -> Decision:
        """Routes for a batch: one a query, or one a token.

        Args:
            hidden: the hidden state that enters the split; needed where the gate reads it.
            counted: 1 for the tokens that the gate's running mean takes in.
        """
        policy = policy or self.policy
        embedding, votes, facts = query.embedding, query.votes, query.facts
        pooled = None
        if hidden is not None and counted is not None:
            means, query.seen = running_mean(hidden.to(embedding.device), counted.to(embedding.device), query.seen)
            pooled = means if granularity == "token" else means[:, -1]
            if granularity == "token":
                embedding, votes = embedding.unsqueeze(1), votes.unsqueeze(1)
                facts = None if facts is None else facts.unsqueeze(1)
        return decide(self.gate(embedding, votes, pooled, facts).softmax(-1), votes, policy)

    def add(self, memory: Memory) -> None:
        """Lets a memory that has just joined the bank be reached: a key for the gate, its facts for the index."""
        self.gate.append(mean_key(memory, self.gate.from_embedding.shape[1]))
        if self._index is not None:
            self._index.add(memory.name, memory.keys, memory.key_facts)
        if self._learned is not None and len(memory.keys):
            self._learned.add(memory.name, self._project(memory.keys), memory.key_facts)

    def remove(self, memory: str, number: int) -> None:
        """Forgets a memory that has just left the bank, which stood there as `number`."""
        self.gate.keep(torch.tensor([i for i in range(len(self.gate.keys)) if i != number], dtype=torch.long))
        for index in (self._index, self._learned):
            if index is not None:
                index.remove(memory)


def mean_key(memory: Memory, dimension: int) -> Float[Tensor, " embedding"]:
    """The mean of a memory's fact embeddings: where its key starts (zeros for a memory without facts)."""
    return memory.keys.mean(0) if len(memory.keys) else torch.zeros(dimension)


def new_gate(bank: MemoryBank, dimension: int, hidden_size: int, features: tuple[str, ...]) -> Gate:
    """An untrained gate whose keys are the memories' mean fact embeddings."""
    keys = torch.stack([mean_key(memory, dimension) for memory in bank]) if len(bank) else torch.zeros(0, dimension)
    return Gate(keys, hidden_size, features)
