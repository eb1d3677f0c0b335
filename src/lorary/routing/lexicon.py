"""Lexicon: BM25 over texts of memories, by words or by letters, which alone say what names and codes mean."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
from bm25s.stopwords import STOPWORDS_EN
from jaxtyping import Float
from torch import Tensor

from lorary.bank.facts import comparable
from lorary.routing.postings import Counted, Postings
from lorary.words import lowered, words_of

# At its import bm25s gives its logger the level DEBUG, and configures logging to show it.
logging.getLogger("bm25s").setLevel(logging.WARNING)

Words = Sequence[str] | np.ndarray
"""The words of a text, as they are or as numbers of 64 bits."""
_STOPWORDS = frozenset(STOPWORDS_EN)
_LETTERS = 4
_BASE = np.uint64(0x9E3779B97F4A7C15)
"""What the letters of a run are multiplied by, so that different runs have different numbers of 64 bits."""


class Lexicon:
    """Scores texts against wordings by BM25 (Robertson and Zaragoza 2009), as a share of what their words weigh.

    A text's score for a wording is divided by the sum of its words' inverse document frequencies, those included that
    no wording has: it lies between 0 and 1, and a name that nobody knows lowers it. The weights are those of the library
    `bm25s`. They are worked out here, because memories join and leave: every word's weight depends on all wordings, and
    the library counts the words of all of them again.

    Args:
        split: texts → the words of each; by default without English stopwords and words of one
            letter; `letter_grams` reads any script.
    """

    def __init__(self, split: Callable[[Sequence[str]], Sequence[Words]] | None = None) -> None:
        self._split = split or _words
        self._counted: dict[str, Counted] = {}
        self._made: Postings | None = None

    def __len__(self) -> int:
        return sum(len(counted.lengths) for counted in self._counted.values())

    def add(self, memory: str, wordings: Sequence[str]) -> None:
        """Adds the wordings of `memory`, in place of those that it had."""
        self.remove(memory)
        if wordings:
            self._counted[memory] = Counted.of(_coded(self._split(wordings)))

    def replace(self, memory: str, wordings: Sequence[str]) -> None:
        """Exchanges the wordings of `memory` for as many others; it keeps its place among the memories."""
        if wordings:
            self._counted[memory] = Counted.of(_coded(self._split(wordings)))
            self._made = None

    def remove(self, memory: str) -> None:
        """Forgets the wordings of `memory`, if it has any."""
        self._counted.pop(memory, None)
        self._made = None

    def scores(self, texts: Sequence[str]) -> Float[Tensor, "texts wordings"]:
        """The score of each text for each wording, memory after memory in the order in which they joined."""
        postings = self._postings()
        rows = [postings.sums(words)[0] / postings.most(words) for words in self._numbers(texts)]
        return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, len(self))

    def rarities(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """The words of each text that count, and the inverse document frequency of each.

        Only of a lexicon of words: runs of letters have no name.
        """
        rarity, words = self._postings().rarity, self._split(texts)
        return [
            {str(word): rarity[number] for word, number in zip(own, numbers, strict=True)}
            for own, numbers in zip(words, self._numbers(texts), strict=True)
        ]

    def votes(self, texts: Sequence[str], memories: Sequence[str]) -> Float[Tensor, "texts memories"]:
        """Each memory's best score, 0 for one that has no wordings. Only wordings that share a word are looked at."""
        postings = self._postings()
        best = np.zeros(
            (len(texts), len(self._counted) + 1), dtype=np.float32
        )  # the last for memories without wordings
        for row, words in zip(best, self._numbers(texts), strict=True):
            sums, shared = postings.sums(words)
            np.maximum.at(row, postings.owner[shared], sums[shared])
            row /= postings.most(words)
        if list(self._counted) == list(memories):
            return torch.from_numpy(best[:, :-1])
        joined = {name: number for number, name in enumerate(self._counted)}
        return torch.from_numpy(best[:, [joined.get(name, -1) for name in memories]])

    def _numbers(self, texts: Sequence[str]) -> list[list[int]]:
        """The numbers of the words of each text."""
        postings = self._postings()
        return [postings.numbers(words) for words in _coded(self._split(texts))] if texts else []

    def _postings(self) -> Postings:
        postings = self._made
        if postings is None:
            postings = self._made = Postings.of(self._counted.values())
        return postings


def _words(texts: Sequence[str]) -> list[list[str]]:
    """The words that `bm25s.tokenize` finds, without English stopwords, but whole: it cuts words at combining marks."""
    return [[word for word in words_of(lowered(text)) if len(word) > 1 and word not in _STOPWORDS] for text in texts]


def between_spaces(texts: Sequence[str]) -> list[list[str]]:
    """The words of texts between white space: each counts, also of one letter, or such as an English stopword."""
    return [lowered(text).split() for text in texts]


def _coded(texts: Sequence[Words]) -> list[np.ndarray]:
    """The words of texts as numbers of 64 bits."""
    return [
        words if isinstance(words, np.ndarray) else np.fromiter(map(hash, words), dtype=np.int64, count=len(words))
        for words in texts
    ]


def letter_grams(texts: Sequence[str]) -> list[np.ndarray]:
    """The runs of four letters of texts, spaces among them: they need no rules of any language, and know parts of words.

    McNamee and Mayfield 2004 (Information Retrieval 7) found four to be the best length for European languages.
    """
    grams = []
    for text in texts:
        letters = np.frombuffer(f" {comparable(text)} ".encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        letters = np.pad(letters, (0, max(0, _LETTERS - len(letters)))).astype(np.uint64)
        codes = np.zeros(len(letters) - _LETTERS + 1, dtype=np.uint64)
        for place in range(_LETTERS):
            codes = codes * _BASE + letters[place : place + len(codes)]
        grams.append(codes.view(np.int64))
    return grams
