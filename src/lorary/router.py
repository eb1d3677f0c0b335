"""Router: the gate, the index and the encoder together; queries in, decisions out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lorary.encoder import Encoder, encode_tokens
from lorary.gate import Gate
from lorary.memory import Memory, MemoryBank
from lorary.pooling import running_mean
from lorary.routing import Decision, Policy, decide

if TYPE_CHECKING:
    from lorary.index import FactIndex
    from lorary.lexicon import Lexicon


@dataclass
class Query:
    """What is known of a batch of queries, and what the gate has seen of their tokens so far."""

    embedding: Float[Tensor, "batch embedding"]
    votes: Float[Tensor, "batch memories"]
    words: Float[Tensor, "batch embedding"] | None = None
    lexical: Float[Tensor, "batch memories"] | None = None
    seen: tuple[Float[Tensor, "batch hidden"], Float[Tensor, " batch"]] | None = None

    def rows(self, index: Tensor) -> Query:
        """The same for the rows given by number."""
        seen = None if self.seen is None else (self.seen[0][index], self.seen[1][index])
        told = {name: getattr(self, name) for name in ("embedding", "votes", "words", "lexical")}
        kept: dict[str, Any] = {name: None if rows is None else rows[index] for name, rows in told.items()}
        return replace(self, seen=seen, **kept)


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
    _lexicon: Lexicon | None = field(default=None, init=False)

    @property
    def index(self) -> FactIndex:
        """The index over the bank's facts, built when first asked."""
        if self._index is None:
            from lorary.index import FactIndex  # faiss is heavy: only who routes pays for it

            self._index = FactIndex(self.gate.from_embedding.shape[1])
            for memory in self.bank:
                self._index.add(memory.name, memory.keys, memory.key_facts)
        return self._index

    @property
    def lexicon(self) -> Lexicon:
        """The lexicon of the bank's trained wordings, made when first asked."""
        if self._lexicon is None:
            from lorary.lexicon import Lexicon  # bm25s is not needed by who has no lexical votes

            self._lexicon = Lexicon()
            for memory in self.bank:
                self._lexicon.add(memory.name, memory.wordings)
        return self._lexicon

    @torch.no_grad()
    def query(self, texts: Sequence[str]) -> Query:
        """Embeddings and votes of `texts`, and their words as the gate attends to them; equal texts are encoded once."""
        distinct = list(dict.fromkeys(texts))
        words, device = None, self.gate.none.device
        if "words" in self.gate.features:
            embedding, tokens = encode_tokens(self.get_encoder(), distinct)
            padded, counted = pad(tokens)
            words = self.gate.attend(padded.to(device), counted.to(device))
        else:
            embedding = self.get_encoder().encode(distinct)
        votes, lexical = self.index.votes(embedding, self.bank.names), None
        if "lexical" in self.gate.features:
            lexical = self.lexicon.votes(distinct, self.bank.names).to(device)
        rows = torch.tensor([distinct.index(text) for text in texts])
        return Query(embedding.to(device), votes.to(device), words, lexical).rows(rows)

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
        embedding, votes, words, lexical = query.embedding, query.votes, query.words, query.lexical
        pooled = None
        if hidden is not None and counted is not None:
            means, query.seen = running_mean(hidden.to(embedding.device), counted.to(embedding.device), query.seen)
            pooled = means if granularity == "token" else means[:, -1]
            if granularity == "token":
                embedding, votes = embedding.unsqueeze(1), votes.unsqueeze(1)
                words = None if words is None else words.unsqueeze(1)
                lexical = None if lexical is None else lexical.unsqueeze(1)
        return decide(self.gate(embedding, votes, pooled, words, lexical).softmax(-1), votes, policy)

    def add(self, memory: Memory) -> None:
        """Lets a memory that has just joined the bank be reached: a key for the gate, its facts for the index."""
        self.gate.append(mean_key(memory, self.gate.from_embedding.shape[1]))
        if self._index is not None:
            self._index.add(memory.name, memory.keys, memory.key_facts)
        if self._lexicon is not None:
            self._lexicon.add(memory.name, memory.wordings)

    def remove(self, memory: str, number: int) -> None:
        """Forgets a memory that has just left the bank, which stood there as `number`."""
        self.gate.keep(torch.tensor([i for i in range(len(self.gate.keys)) if i != number], dtype=torch.long))
        if self._index is not None:
            self._index.remove(memory)
        if self._lexicon is not None:
            self._lexicon.remove(memory)


def pad(
    tokens: Sequence[Tensor],
) -> tuple[Float[Tensor, "sentences tokens embedding"], Float[Tensor, "sentences tokens"]]:
    """(the token vectors of some sentences, zeros behind the shorter ones; 1 where a token is)."""
    padded = pad_sequence([one.float() for one in tokens], batch_first=True)
    lengths = torch.tensor([len(one) for one in tokens])
    return padded, (torch.arange(padded.shape[1]) < lengths.unsqueeze(-1)).float()


def mean_key(memory: Memory, dimension: int) -> Float[Tensor, " embedding"]:
    """The mean of a memory's fact embeddings: where its key starts (zeros for a memory without facts)."""
    return memory.keys.mean(0) if len(memory.keys) else torch.zeros(dimension)


def new_gate(bank: MemoryBank, dimension: int, hidden_size: int, features: tuple[str, ...]) -> Gate:
    """An untrained gate whose keys are the memories' mean fact embeddings."""
    keys = torch.stack([mean_key(memory, dimension) for memory in bank]) if len(bank) else torch.zeros(0, dimension)
    return Gate(keys, hidden_size, features)
