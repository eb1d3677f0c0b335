"""Router: the gate, the index and the encoder together; texts in, decisions out. It keeps nothing of a request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lorary.bank.bank import MemoryBank
from lorary.bank.memory import Memory
from lorary.errors import LoraryError
from lorary.routing.encoder import Encoder, knows_words, readable
from lorary.routing.features import Features
from lorary.routing.gate import Gate, cosines
from lorary.routing.names import Names
from lorary.routing.parts import settled, told_of_parts
from lorary.routing.policy import Decision, Policy, decide, decide_tokens
from lorary.routing.proper_names import only_names, without_names
from lorary.routing.remembering import RememberedVectors
from lorary.routing.starting import mean_key, starting_keys

if TYPE_CHECKING:
    from lorary.routing.contents import Contents
    from lorary.routing.index import FactIndex
    from lorary.routing.lexicon import Lexicon


@dataclass
class Router:
    """Asks the gate, then the index, for the memories of a bank.

    Args:
        get_encoder: loads the encoder, when a query is first embedded.

    Attributes:
        remembered: the vectors of the questions that were asked last.
        beside: whether a request is routed beside the layers below the split, in another thread; else before them.
    """

    bank: MemoryBank
    gate: Gate
    policy: Policy
    get_encoder: Callable[[], Encoder]
    _contents: Contents | None = field(default=None, init=False)
    _names_lexicon: Lexicon | None = field(default=None, init=False)
    _names: Names | None = field(default=None, init=False)
    beside: bool = field(default=True, init=False)
    remembered: RememberedVectors = field(default_factory=RememberedVectors, init=False, repr=False, compare=False)
    _kept_is_read: bool = field(default=False, init=False)
    _reading: Any = field(default_factory=threading.RLock, init=False, repr=False, compare=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _reading=threading.RLock())

    def __getstate__(self) -> dict[str, Any]:
        """Without what is made when first asked: another process, or a copy, makes it again."""
        made = dict.fromkeys(("_contents", "_names_lexicon", "_names", "_reading"))
        return {**self.__dict__, **made, "_kept_is_read": False}

    def _make_anew(self) -> None:
        """Lets go of what is made of the bank's contents: the next who asks makes it, or is told what cannot be read."""
        self._contents = self._names_lexicon = self._names = None

    def _read_kept(self) -> None:
        """Goes on, when first asked, from what was kept with the bank; else all is made anew. Threads wait for the first."""
        with self._reading:
            if self._kept_is_read:
                return
            from lorary.routing.kept_contents import kept_contents  # faiss is heavy

            self._kept_is_read = True  # for what this thread asks below
            try:
                kept = kept_contents(self.bank, self.gate.from_embedding.shape[1])
                if kept is not None:
                    self._contents, self._names_lexicon, self._names, _ = kept
                for memory in kept[-1] if kept is not None else ():
                    self._take_names(memory, self.name_counts.add(memory.name, memory.routing_texts))
                    self.add_passages(memory)
            except BaseException:
                self._make_anew()
                self._kept_is_read = False
                raise

    @property
    def contents(self) -> Contents:
        """The bank's wordings and passages, to be searched, made when first asked."""
        self._read_kept()
        if self._contents is None:
            from lorary.routing.contents import Contents

            self._contents = Contents(self.gate.from_embedding.shape[1], self.bank)
        return self._contents

    @property
    def index(self) -> FactIndex:
        """The index over the bank's trained wordings."""
        return self.contents.index

    @property
    def passage_index(self) -> FactIndex:
        """The index over the bank's passages."""
        return self.contents.passage_index

    @property
    def lexicon(self) -> Lexicon:
        """The words of the bank's trained wordings."""
        return self.contents.lexicon

    @property
    def names_lexicon(self) -> Lexicon:
        """The lexicon of the names alone in the bank's trained wordings, made when first asked: each of them counts, also
        of one letter, or such as an English stopword."""
        self._read_kept()
        if self._names_lexicon is None:
            from lorary.routing.lexicon import Lexicon, between_spaces

            self._names_lexicon = Lexicon(split=between_spaces)
            for memory in self.bank:
                self._names_lexicon.add(memory.name, self.only_names(memory.routing_texts))
        return self._names_lexicon

    @property
    def names(self) -> frozenset[str]:
        """The names in the bank's trained wordings."""
        return self.name_counts.all

    @property
    def name_counts(self) -> Names:
        """What tells which words are names."""
        self._read_kept()
        if self._names is None:
            self._names = Names.of((memory.name, memory.routing_texts) for memory in self.bank)
        return self._names

    def without_names(self, texts: Sequence[str]) -> list[str]:
        """The texts without the bank's names."""
        return [without_names(text, self.names) for text in texts]

    def only_names(self, texts: Sequence[str]) -> list[str]:
        """The names in each text."""
        return [only_names(text, self.names) for text in texts]

    @torch.no_grad()
    def features(self, texts: Sequence[str]) -> Features:
        """What the gate reads of `texts`, the hidden state apart; equal texts, and what is left without names, are
        encoded once, and those that were asked lately not again (`remembered`).

        Of a text that is longer than the encoder reads, the part that asks counts, for all features alike. A gate that
        decides at each token reads the parts of each text, too (`parts.told_of_parts`).
        """
        features = self.query_features(texts)
        if self.gate.reading is not None:
            features = replace(features, parts=told_of_parts(self, texts, features))
        return features

    def query_features(self, texts: Sequence[str]) -> Features:
        """The same without the parts."""
        texts = readable(self.get_encoder(), texts)
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        distinct, used, memories = list(rows), self.gate.features, self.bank.names
        bare = self.without_names(distinct) if "asked" in used else []
        places = {text: place for place, text in enumerate(dict.fromkeys([*distinct, *bare]))}
        encoded = self.remembered.encode(self.get_encoder(), list(places))
        embedding = encoded[: len(distinct)]
        votes = self.index.votes(embedding, memories)
        features = Features(
            embedding,
            votes,
            asked=encoded[[places[text] for text in bare]] if "asked" in used else None,
            names=self.names_lexicon.votes(self.only_names(distinct), memories) if "names" in used else None,
            contents=self.contents.scores(distinct, embedding, self.knows_words(distinct), memories, votes)
            if "contents" in used
            else None,
        )
        return features.to(self.gate.none.device).rows([rows[text] for text in texts])

    def read(self, texts: Sequence[str]) -> None:
        """Encodes texts, so that `features` finds them `remembered`; any thread may call it."""
        texts = readable(self.get_encoder(), texts)
        bare = self.without_names(texts) if "asked" in self.gate.features else []
        self.remembered.encode(self.get_encoder(), list(dict.fromkeys([*texts, *bare])))

    def knows_words(self, texts: Sequence[str]) -> Bool[Tensor, " texts"]:
        """Whether the encoder knows the words of each text."""
        return knows_words(self.get_encoder(), texts)

    def logits(self, features: Features) -> Float[Tensor, "*batch memories_and_none"]:
        """The gate's logits; of each token where the features hold a hidden state for each, else of each query."""
        return self.gate(features)

    def decide(self, features: Features, policy: Policy | None = None) -> Decision:
        """Routes for a batch under a policy, the router's own by default: one a query, or one a token."""
        policy = policy or self.policy
        if self.gate.reads(features) and features.parts is not None:
            features = replace(features, parts=settled(features.parts, policy))
            return decide_tokens(self.logits(features).softmax(-1), policy)
        return decide(self.logits(features).softmax(-1), features.votes, policy)

    def centroids(self, embedding: Float[Tensor, "queries embedding"]) -> Float[Tensor, "queries memories"]:
        """The cosine similarity of each query and each memory's mean fact embedding: what a router without training tells."""
        keys = torch.stack([mean_key(memory, embedding.shape[1]) for memory in self.bank])
        return cosines(embedding, keys)

    def add(self, memory: Memory) -> None:
        """Lets a memory that has just joined the bank be reached: a key for the gate, its facts for the index."""
        # One memory's wordings may tell of a word in another's that it is a name.
        changed = self._names.add(memory.name, memory.routing_texts) if self._names is not None else frozenset()
        dimension = self.gate.from_embedding.shape[1]
        try:
            started = starting_keys([memory], lambda: self.names, self.gate.features, dimension, self.get_encoder)
            ((key, asked),) = started
            self.gate.append(key, asked)
        except Exception:  # no encoder, for one: the router is as it was
            if self._names is not None:
                self._names.remove(memory.name)
            raise
        try:
            self.add_passages(memory)
            self._take_names(memory, changed)
        except (LoraryError, OSError):  # another memory's files cannot be read
            self._make_anew()

    def _take_names(self, memory: Memory, changed: frozenset[str]) -> None:
        """Lets the names of a memory be found that joined, which changed what some words are."""
        self._judge_anew(changed)
        if self._names_lexicon is not None:
            self._names_lexicon.add(memory.name, self.only_names(memory.routing_texts))

    def add_passages(self, memory: Memory) -> None:
        """Lets what a memory holds now be found; where it is there already, the gate keeps its key."""
        if self._contents is not None:
            self._contents.add(memory)

    def remove(self, memory: str, number: int) -> None:
        """Forgets a memory that has just left the bank, which stood there as `number`."""
        self.gate.keep(torch.tensor([i for i in range(len(self.gate.keys)) if i != number], dtype=torch.long))
        try:
            for made in (self._contents, self._names_lexicon):
                if made is not None:
                    made.remove(memory)
            if self._names is not None:
                self._judge_anew(self._names.remove(memory))
        except (LoraryError, OSError):  # its files, or another's, cannot be read: no reason to stay
            self._make_anew()

    def _judge_anew(self, words: frozenset[str]) -> None:
        """Finds the names anew in the memories whose wordings hold one of the words."""
        if self._names_lexicon is not None and self._names is not None:
            for name in self._names.memories_with(words):
                self._names_lexicon.replace(name, self.only_names(self.bank[name].routing_texts))
