"""Postings: for each word the texts that have it, and what it weighs there by BM25. Words are numbers of 64 bits."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_K1, _B = 1.5, 0.75
"""BM25's: how soon a repeated word adds no more, and how much the length of a text counts."""
_COMMON, _FEW = 50, 2_000
"""A word that more than one text in so many has, and most memories, tells next to nothing; with few texts every word counts."""


@dataclass(frozen=True)
class Postings:
    """Which texts of some memories have each word: those of word w stand at starts[w] to starts[w + 1], in order.

    Args:
        memories: the names of those that have texts, in order.
        vocabulary: the distinct words, ascending.
        texts, counts: the numbers of the texts, and how often each has the word.
        lengths: the number of words of each text.
        owner: the number of the memory of each text, ascending.
    """

    memories: tuple[str, ...]
    vocabulary: np.ndarray
    starts: np.ndarray
    texts: np.ndarray
    counts: np.ndarray
    lengths: np.ndarray
    owner: np.ndarray

    @staticmethod
    def of(memory: str, texts: Sequence[np.ndarray]) -> Postings:
        """Those of one memory's texts, each an array of its words."""
        lengths = np.fromiter(map(len, texts), dtype=np.int32, count=len(texts))
        vocabulary, word = np.unique(np.concatenate([_NONE, *texts]), return_inverse=True)
        pairs, count = np.unique(word * len(texts) + np.repeat(np.arange(len(texts)), lengths), return_counts=True)
        word, text = np.divmod(pairs, max(len(texts), 1))
        owner = np.zeros(len(texts), dtype=np.int32)
        return Postings((memory,), vocabulary, _starts(word, vocabulary), _small(text), _small(count), lengths, owner)

    @staticmethod
    def joined(parts: Sequence[Postings]) -> Postings:
        """Those of several, one after the other."""
        if len(parts) == 1:
            return parts[0]
        vocabulary = np.unique(np.concatenate([_NONE, *(part.vocabulary for part in parts)]))
        firsts = np.cumsum([0, *(len(part.lengths) for part in parts)])
        owners = np.cumsum([0, *(len(part.memories) for part in parts)])
        word = np.concatenate([_NONE, *(np.searchsorted(vocabulary, p.vocabulary).repeat(p.having) for p in parts)])
        text = np.concatenate([_NONE, *(part.texts + first for first, part in zip(firsts, parts, strict=False))])
        order = word.argsort(kind="stable")
        return Postings(
            tuple(name for part in parts for name in part.memories),
            vocabulary,
            _starts(word, vocabulary),
            _small(text[order]),
            np.concatenate([_EMPTY, *(part.counts for part in parts)])[order],
            np.concatenate([_EMPTY, *(part.lengths for part in parts)]),
            np.concatenate([_EMPTY, *(_small(p.owner + first) for first, p in zip(owners, parts, strict=False))]),
        )

    @cached_property
    def having(self) -> np.ndarray:
        """How many texts have each word."""
        return np.diff(self.starts)

    def without(self, memories: Set[str]) -> Postings:
        """The same without some memories; words that only they had are gone, too."""
        stays = np.array([name not in memories for name in self.memories], dtype=bool)
        if stays.all():
            return self
        texts = stays[self.owner]
        entries = texts[self.texts]
        starts = np.concatenate([[0], entries.cumsum()])[self.starts]
        held = np.diff(starts) > 0
        return Postings(
            tuple(name for name in self.memories if name not in memories),
            self.vocabulary[held],
            np.append(starts[:-1][held], starts[-1]),
            _small(texts.cumsum() - 1)[self.texts[entries]],
            self.counts[entries],
            self.lengths[texts],
            _small((stays.cumsum() - 1)[self.owner[texts]]),
        )

    def texts_of(self, number: int) -> range:
        """The texts of a memory."""
        return range(*np.searchsorted(self.owner, (number, number + 1)).tolist())

    def spans(self, words: np.ndarray) -> np.ndarray:
        """[words, 2]: where the texts of each word stand; nowhere for a word that no text has."""
        if not len(self.vocabulary):
            return np.zeros((len(words), 2), dtype=np.int64)
        places = np.searchsorted(self.vocabulary, words).clip(max=len(self.vocabulary) - 1)
        known = self.vocabulary[places] == words
        return np.where(known[:, None], np.stack([self.starts[places], self.starts[places + 1]], 1), 0)


_NONE = np.zeros(0, dtype=np.int64)
_EMPTY = np.zeros(0, dtype=np.int32)
NOTHING = Postings((), _NONE, np.zeros(1, dtype=np.int64), _EMPTY, _EMPTY, _EMPTY, _EMPTY)
"""The postings of no memory."""


def _starts(word: np.ndarray, vocabulary: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.bincount(word, minlength=len(vocabulary)).cumsum()])


def _small(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.int32)


class Weighed:
    """Postings in parts, of which later ones may come and go, weighed by BM25 as one.

    What a word weighs depends on all texts, so it is worked out for the words that are asked for.
    """

    def __init__(self, parts: Sequence[Postings]) -> None:
        self.parts = tuple(parts)
        self.memories = tuple(name for part in self.parts for name in part.memories)
        self.texts = sum(len(part.lengths) for part in self.parts)
        average = max(sum(part.lengths.sum() for part in self.parts), 1) / max(self.texts, 1)
        self._norms = [_K1 * ((1 - _B) + _B * part.lengths / average) for part in self.parts]

    def rarity(self, words: np.ndarray) -> np.ndarray:
        """The inverse document frequency of each word, 0 of one that is too common to tell anything."""
        return self._rarity([part.spans(words) for part in self.parts])

    def _rarity(self, spans: Sequence[np.ndarray]) -> np.ndarray:
        having = sum((own[:, 1] - own[:, 0] for own in spans), np.zeros((), dtype=np.int64))
        rarity: np.ndarray = np.log1p((self.texts - having + 0.5) / (having + 0.5))
        if self.texts > _FEW:
            for word in (having > self.texts / _COMMON).nonzero()[0]:
                if sum(map(_memories, self.parts, (own[word] for own in spans))) > max(1, len(self.memories) / 2):
                    rarity[word] = 0.0
        return rarity

    def sums(self, words: np.ndarray) -> tuple[list[np.ndarray], float]:
        """(for each part the sum of the words' weights in each text, what the words weigh together: no sum is greater).

        1 where there are no words, whose sum is 0.
        """
        spans = [part.spans(words) for part in self.parts]
        rarity = self._rarity(spans) if len(words) else np.zeros(0)
        weights = rarity.astype(np.float32)
        sums = []
        for part, norms, own in zip(self.parts, self._norms, spans, strict=True):
            counted = np.where(rarity > 0, own[:, 1] - own[:, 0], 0)
            entries = np.repeat(own[:, 0] - counted.cumsum() + counted, counted) + np.arange(counted.sum())
            texts, count = part.texts[entries], part.counts[entries].astype(np.float32)
            frequency = count / (norms[texts] + count)
            total = np.zeros(len(part.lengths), dtype=np.float32)
            np.add.at(total, texts, (np.repeat(weights, counted) * frequency).astype(np.float32))
            sums.append(total)
        return sums, sum(rarity.tolist()) or 1.0


def _memories(part: Postings, span: np.ndarray) -> int:
    """How many memories have a word whose texts stand in a span."""
    owners = part.owner[part.texts[span[0] : span[1]]]
    return int(len(owners) > 0) + int(np.count_nonzero(np.diff(owners)))
