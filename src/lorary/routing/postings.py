"""Postings: for each word the texts that have it, and what it weighs there by BM25. Words are numbers of 64 bits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

_K1, _B = 1.5, 0.75
"""BM25's: how soon a repeated word adds no more, and how much the length of a text counts."""
_COMMON, _FEW = 50, 2_000
"""A word that more than one text in so many has, and most memories, tells next to nothing; with few texts every word counts."""


@dataclass(frozen=True)
class Counted:
    """The words of some texts: each word of each text once, with how often it stands there.

    Args:
        vocabulary: the distinct words, ascending.
        word: the number of the word in the vocabulary.
        text: the number of the text.
        count: how often it has the word.
        lengths: the number of words of each text.
    """

    vocabulary: np.ndarray
    word: np.ndarray
    text: np.ndarray
    count: np.ndarray
    lengths: np.ndarray

    @staticmethod
    def of(texts: Sequence[np.ndarray]) -> Counted:
        """The words of texts, each an array of its words."""
        lengths = np.fromiter(map(len, texts), dtype=np.int32, count=len(texts))
        vocabulary, word = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *texts]), return_inverse=True)
        pairs, count = np.unique(word * len(texts) + np.repeat(np.arange(len(texts)), lengths), return_counts=True)
        number, text = np.divmod(pairs, max(len(texts), 1))
        return Counted(vocabulary, number.astype(np.int32), text.astype(np.int32), count.astype(np.int32), lengths)


@dataclass(frozen=True)
class Postings:
    """For each word the texts that have it and its weight in each: those of word w stand at starts[w] to starts[w + 1].

    Args:
        vocabulary: the distinct words, ascending.
        owner: the number of the memory of each text.
        rarity: the inverse document frequency of each word, 0 of one that is too common to tell anything, and last that of a
            word that no text has.
    """

    vocabulary: np.ndarray
    starts: np.ndarray
    texts: np.ndarray
    weights: np.ndarray
    owner: np.ndarray
    rarity: list[float]

    @staticmethod
    def of(memories: Iterable[Counted]) -> Postings:
        """Those of memories' texts, a memory after the other."""
        memories = list(memories)
        none = np.zeros(0, dtype=np.int64)
        vocabulary = np.unique(np.concatenate([none, *(counted.vocabulary for counted in memories)]))
        firsts = np.cumsum([0, *(len(counted.lengths) for counted in memories)])
        places = [np.searchsorted(vocabulary, counted.vocabulary) for counted in memories]
        word = np.concatenate([none, *(own[c.word] for own, c in zip(places, memories, strict=True))])
        text = np.concatenate([none, *(c.text + first for first, c in zip(firsts, memories, strict=False))])
        count = np.concatenate([none, *(counted.count for counted in memories)])
        length = np.concatenate([none, *(counted.lengths for counted in memories)])
        owner = np.repeat(np.arange(len(memories), dtype=np.int32), np.diff(firsts))
        having = np.bincount(word, minlength=len(vocabulary))
        held = np.bincount(np.concatenate([none, *places]), minlength=len(vocabulary))
        everywhere = held > max(1, len(memories) / 2) if len(length) > _FEW else np.zeros(len(vocabulary), dtype=bool)
        rarity = _rarity(having, len(length), everywhere & (having > len(length) / _COMMON))
        order = word.argsort(kind="stable")
        word, text, count = word[order], text[order].astype(np.int32), count[order].astype(np.float32)
        average = max(length.sum(), 1) / max(len(length), 1)
        frequency = count / (_K1 * ((1 - _B) + _B * length[text] / average) + count)
        weights = (np.array(rarity, dtype=np.float32)[word] * frequency).astype(np.float32)
        return Postings(vocabulary, np.concatenate([[0], having.cumsum()]), text, weights, owner, rarity)

    def numbers(self, words: np.ndarray) -> list[int]:
        """The number of each word, -1 for one that no text has."""
        if not len(self.vocabulary):
            return [-1] * len(words)
        places = np.searchsorted(self.vocabulary, words).clip(max=len(self.vocabulary) - 1)
        return np.where(self.vocabulary[places] == words, places, -1).tolist()  # type: ignore[no-any-return]

    def sums(self, numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """(the sum of the words' weights in each text, the texts that have one of them)."""
        sums = np.zeros(len(self.owner), dtype=np.float32)
        for number in numbers:
            if number >= 0 and self.rarity[number]:
                having = slice(self.starts[number], self.starts[number + 1])
                np.add.at(sums, self.texts[having], self.weights[having])
        return sums, (sums > 0).nonzero()[0]  # numpy finds what is true six times as fast as what is not 0

    def most(self, numbers: Sequence[int]) -> float:
        """What the words weigh together: no text has a greater sum. 1 where there are no words, whose sum is 0."""
        return sum(self.rarity[number] for number in numbers) or 1.0


def _rarity(having: np.ndarray, texts: int, left_out: np.ndarray) -> list[float]:
    """The inverse document frequency of words that so many texts have, 0 of those left out, and last that of an unknown one."""
    rarity = np.log1p((texts - having + 0.5) / (having + 0.5))
    return [*np.where(left_out, 0.0, rarity).tolist(), math.log1p((texts + 0.5) / 0.5)]
