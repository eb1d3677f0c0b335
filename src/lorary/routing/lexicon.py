"""Lexicon: BM25 over the trained wordings of memories. Names and codes are lexical: what they mean, their letters say."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence

import bm25s
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

logging.getLogger("bm25s").setLevel(
    logging.WARNING
)  # it tells of each index at DEBUG, and configures logging to show it


class Lexicon:
    """Scores texts against wordings by BM25 (Robertson and Zaragoza 2009), as a share of what their words weigh.

    A text's score for a wording is divided by the sum of its words' inverse document frequencies, those included that
    no wording has: it lies between 0 and 1, and a name that nobody knows lowers it. Memories join and leave; the sparse
    matrix is made anew when it is next asked, since every word's weight depends on all wordings.

    Args:
        split: texts → the words of each; by default without English stopwords and words of one letter.
    """

    def __init__(self, split: Callable[[Sequence[str]], list[list[str]]] | None = None) -> None:
        self._split = split or _words
        self._wordings: dict[str, list[list[str]]] = {}
        self._clear()

    def __len__(self) -> int:
        return sum(map(len, self._wordings.values()))

    def _clear(self) -> None:
        self._bm25: bm25s.BM25 | None = None
        self._weights: dict[str, float] = {}

    def add(self, memory: str, wordings: Sequence[str]) -> None:
        """Adds the wordings of `memory`."""
        if wordings:
            self._wordings[memory] = self._split(wordings)
            self._clear()

    def remove(self, memory: str) -> None:
        """Forgets the wordings of `memory`."""
        self._wordings.pop(memory, None)
        self._clear()

    def scores(self, texts: Sequence[str]) -> Float[Tensor, "texts wordings"]:
        """The score of each text for each wording, memory after memory in the order in which they joined."""
        if not any(map(any, self._wordings.values())) or not texts:  # no wording has a word: nothing to index
            return torch.zeros(len(texts), len(self))
        matrix = self._matrix()
        rows = []
        for words in self._split(texts):
            known = [word for word in words if word in matrix.vocab_dict]
            most = sum(self._weight(word) for word in words)
            rows.append(matrix.get_scores(known) / most if known else np.zeros(len(self), dtype=np.float32))
        return torch.from_numpy(np.stack(rows).astype(np.float32))

    def votes(self, texts: Sequence[str], memories: Sequence[str]) -> Float[Tensor, "texts memories"]:
        """Each memory's best score, 0 for one that has no wordings."""
        votes = torch.zeros(len(texts), len(memories))
        if not len(self) or not texts:
            return votes
        starts = np.cumsum([0, *map(len, self._wordings.values())])[:-1]
        best = torch.from_numpy(np.maximum.reduceat(self.scores(texts).numpy(), starts, axis=1))
        joined = {name: number for number, name in enumerate(self._wordings)}
        held = [(number, joined[name]) for number, name in enumerate(memories) if name in joined]
        if held:
            here, there = map(list, zip(*held, strict=True))
            votes[:, here] = best[:, there]
        return votes

    def _matrix(self) -> bm25s.BM25:
        if self._bm25 is None:
            wordings = [words for held in self._wordings.values() for words in held]
            self._bm25 = bm25s.BM25()
            self._bm25.index(wordings, show_progress=False)
            self._counts = Counter(word for words in wordings for word in set(words))
        return self._bm25

    def _weight(self, word: str) -> float:
        """Its inverse document frequency, as bm25s has it (Lucene's); that of a word which no wording has is greatest."""
        if word not in self._weights:
            count = self._counts[word]
            self._weights[word] = math.log(1 + (len(self) - count + 0.5) / (count + 0.5))
        return self._weights[word]


def _words(texts: Sequence[str]) -> list[list[str]]:
    return bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)  # type: ignore
