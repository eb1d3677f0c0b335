"""Lexicon: BM25 over texts of memories, by words or by letters, which alone say what names and codes mean."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import bm25s
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lorary.bank.facts import comparable

# bm25s tells of each call at DEBUG, and configures logging to show it.
logging.getLogger("bm25s").setLevel(logging.WARNING)

_K1, _B = 1.5, 0.75
"""BM25's: how soon a repeated word adds no more, and how much the length of a wording counts."""
_LETTERS = 4
_COMMON, _FEW = 50, 2_000
"""A word that more than one wording in so many has tells next to nothing; with few wordings every word is looked at."""


class Lexicon:
    """Scores texts against wordings by BM25 (Robertson and Zaragoza 2009), as a share of what their words weigh.

    A text's score for a wording is divided by the sum of its words' inverse document frequencies, those included that
    no wording has: it lies between 0 and 1, and a name that nobody knows lowers it. The weights are those of the library
    `bm25s`. They are worked out here, because memories join and leave: every word's weight depends on all wordings, and
    the library counts the words of all of them again.

    Args:
        split: texts → the words of each; by default without English stopwords and words of one letter; `letter_grams` reads
            any script.
    """

    def __init__(self, split: Callable[[Sequence[str]], list[list[str]]] | None = None) -> None:
        self._split = split or _words
        self._counted: dict[str, _Counted] = {}
        self._made: _Postings | None = None

    def __len__(self) -> int:
        return sum(len(counted.lengths) for counted in self._counted.values())

    def add(self, memory: str, wordings: Sequence[str]) -> None:
        """Adds the wordings of `memory`, in place of those that it had."""
        self.remove(memory)
        if wordings:
            self._counted[memory] = _Counted.of(self._split(wordings))

    def replace(self, memory: str, wordings: Sequence[str]) -> None:
        """Exchanges the wordings of `memory` for as many others; it keeps its place among the memories."""
        if wordings:
            self._counted[memory] = _Counted.of(self._split(wordings))
            self._made = None

    def remove(self, memory: str) -> None:
        """Forgets the wordings of `memory`, if it has any."""
        self._counted.pop(memory, None)
        self._made = None

    def scores(self, texts: Sequence[str]) -> Float[Tensor, "texts wordings"]:
        """The score of each text for each wording, memory after memory in the order in which they joined."""
        postings = self._postings()
        rows = [postings.sums(words)[0] / postings.most(words) for words in self._words_of(texts)]
        return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, len(self))

    def votes(self, texts: Sequence[str], memories: Sequence[str]) -> Float[Tensor, "texts memories"]:
        """Each memory's best score, 0 for one that has no wordings. Only wordings that share a word are looked at."""
        postings = self._postings()
        best = np.zeros(
            (len(texts), len(self._counted) + 1), dtype=np.float32
        )  # the last for memories without wordings
        for row, words in zip(best, self._words_of(texts), strict=True):
            sums, shared = postings.sums(words)
            np.maximum.at(row, postings.owner[shared], sums[shared])
            row /= postings.most(words)
        joined = {name: number for number, name in enumerate(self._counted)}
        return torch.from_numpy(best[:, [joined.get(name, -1) for name in memories]])

    def _words_of(self, texts: Sequence[str]) -> list[list[str]]:
        return self._split(texts) if texts else []

    def _postings(self) -> _Postings:
        postings = self._made
        if postings is None:
            postings = self._made = _Postings.of(self._counted.values())
        return postings


@dataclass(frozen=True)
class _Counted:
    """The words of some wordings: each word of each wording once, with how often it stands there.

    Args:
        vocabulary: the distinct words.
        word: the number of the word in the vocabulary.
        wording: the number of the wording.
        count: how often it has the word.
        lengths: the number of words of each wording.
    """

    vocabulary: tuple[str, ...]
    word: np.ndarray
    wording: np.ndarray
    count: np.ndarray
    lengths: np.ndarray

    @staticmethod
    def of(wordings: Sequence[Sequence[str]]) -> _Counted:
        numbers = dict[str, int]()
        held = [
            (numbers.setdefault(word, len(numbers)), wording, count)
            for wording, words in enumerate(wordings)
            for word, count in Counter(words).items()
        ]
        word, wording, count = np.array(held, dtype=np.int32).reshape(-1, 3).T
        lengths = np.fromiter(map(len, wordings), dtype=np.int32)
        return _Counted(tuple(numbers), word, wording, count, lengths)


@dataclass(frozen=True)
class _Postings:
    """For each word the wordings that have it and its weight in each: those of word w stand at starts[w] to starts[w + 1].

    Args:
        owner: the number of the memory of each wording.
        rarity: the inverse document frequency of each word, 0 of one that is too common to tell anything, and last that of a
            word that no wording has.
    """

    numbers: dict[str, int]
    starts: np.ndarray
    wordings: np.ndarray
    weights: np.ndarray
    owner: np.ndarray
    rarity: list[float]

    @staticmethod
    def of(memories: Iterable[_Counted]) -> _Postings:
        numbers = dict[str, int]()
        words, wordings, counts, lengths = ([np.zeros(0, dtype=np.int32)] for _ in range(4))
        owner, first = [np.zeros(0, dtype=np.int32)], 0
        for number, counted in enumerate(memories):
            own = np.fromiter((numbers.setdefault(w, len(numbers)) for w in counted.vocabulary), dtype=np.int32)
            words.append(own[counted.word])
            wordings.append(counted.wording + np.int32(first))
            counts.append(counted.count)
            lengths.append(counted.lengths)
            owner.append(np.full(len(counted.lengths), number, dtype=np.int32))
            first += len(counted.lengths)
        word, wording, count, length = (np.concatenate(parts) for parts in (words, wordings, counts, lengths))
        having = np.bincount(word, minlength=len(numbers))
        most = first / _COMMON if first > _FEW else first
        rarity = [math.log(1 + (first - n + 0.5) / (n + 0.5)) if n <= most else 0.0 for n in [*having.tolist(), 0]]
        order = word.argsort(kind="stable")
        word, wording, count = word[order], wording[order], count[order].astype(np.float32)
        average = max(length.sum(), 1) / max(len(length), 1)
        frequency = count / (_K1 * ((1 - _B) + _B * length[wording] / average) + count)
        weights = (np.array(rarity, dtype=np.float32)[word] * frequency).astype(np.float32)
        starts = np.concatenate([[0], having.cumsum()])
        return _Postings(numbers, starts, wording, weights, np.concatenate(owner), rarity)

    def sums(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(the sum of the words' weights in each wording, the wordings that have one of them)."""
        sums = np.zeros(len(self.owner), dtype=np.float32)
        for number in (self.numbers[word] for word in words if word in self.numbers):
            if not self.rarity[number]:
                continue
            having = slice(self.starts[number], self.starts[number + 1])
            sums[self.wordings[having]] += self.weights[having]
        return sums, sums.nonzero()[0]

    def most(self, words: Sequence[str]) -> float:
        """What the words weigh together: no wording has a greater sum. 1 where there are no words, whose sum is 0."""
        return sum(self.rarity[self.numbers.get(word, -1)] for word in words) or 1.0


def _words(texts: Sequence[str]) -> list[list[str]]:
    return bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)  # type: ignore


def letter_grams(texts: Sequence[str]) -> list[list[str]]:
    """The runs of four letters of texts, spaces among them: they need no rules of any language, and know parts of words.

    McNamee and Mayfield 2004 (Information Retrieval 7) found four to be the best length for European languages.
    """
    padded = [f" {comparable(text)} " for text in texts]
    return [[text[i : i + _LETTERS] for i in range(max(1, len(text) - _LETTERS + 1))] for text in padded]


def between_spaces(texts: Sequence[str]) -> list[list[str]]:
    """The words of texts between white space: each counts, also of one letter, or such as an English stopword."""
    return [text.lower().split() for text in texts]
