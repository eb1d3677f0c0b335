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
from lorary.routing.postings import NOTHING, Postings, Weighed
from lorary.words import lowered, word_code, words_of

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

    def __init__(
        self,
        split: Callable[[Sequence[str]], Sequence[Words]] | None = None,
        stored: Postings = NOTHING,
        order: Sequence[str] = (),
    ) -> None:
        self._split = split or _words
        self._order = dict.fromkeys(order)
        # In one attribute, because threads that ask at once may both take in what joined and left.
        self._held: tuple[Weighed, dict[str, Postings], set[str]] = (Weighed([stored]), {}, set())

    def __len__(self) -> int:
        return self._state().texts

    def add(self, memory: str, wordings: Sequence[str]) -> None:
        """Adds the wordings of `memory`, in place of those that it had."""
        self.remove(memory)
        if wordings:
            self._order[memory] = None
            self._held[1][memory] = Postings.of(memory, _coded(self._split(wordings)))

    def replace(self, memory: str, wordings: Sequence[str]) -> None:
        """Exchanges the wordings of `memory` for as many others; it keeps its place among the memories."""
        if wordings:
            order = {**self._order, memory: None}
            self.add(memory, wordings)
            self._order = order

    def remove(self, memory: str) -> None:
        """Forgets the wordings of `memory`, if it has any."""
        if memory in self._order:
            del self._order[memory]
            _, joining, left = self._held
            if joining.pop(memory, None) is None:
                left.add(memory)

    def stored(self) -> tuple[Postings, list[str]]:
        """(all its postings as one, the memories in their order): what `Lexicon(split, *stored)` goes on from."""
        weighed = self._state()
        return Postings.joined(weighed.parts), list(self._order)

    def scores(self, texts: Sequence[str]) -> Float[Tensor, "texts wordings"]:
        """The score of each text for each wording, memory after memory in the order in which they joined."""
        weighed = self._state()
        rows = [np.concatenate(sums) / most for sums, most in map(weighed.sums, _coded(self._split(texts)))]
        scores = np.stack(rows) if rows else np.zeros((0, weighed.texts), dtype=np.float32)
        if weighed.memories != tuple(self._order):
            places, first = dict[str, range](), 0
            for part in weighed.parts:
                for number, name in enumerate(part.memories):
                    own = part.texts_of(number)
                    places[name] = range(first + own.start, first + own.stop)
                first += len(part.lengths)
            scores = scores[:, [column for name in self._order for column in places[name]]]
        return torch.from_numpy(scores)

    def rarities(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """The words of each text that count, and the inverse document frequency of each.

        Only of a lexicon of words: runs of letters have no name.
        """
        weighed, words = self._state(), self._split(texts)
        return [
            dict(zip(map(str, own), weighed.rarity(codes).tolist(), strict=True))
            for own, codes in zip(words, _coded(words), strict=True)
        ]

    def votes(self, texts: Sequence[str], memories: Sequence[str]) -> Float[Tensor, "texts memories"]:
        """Each memory's best score, 0 for one that has no wordings. Only wordings that share a word are looked at."""
        weighed = self._state()
        owners = np.cumsum([0, *(len(part.memories) for part in weighed.parts)])
        best = np.zeros(
            (len(texts), len(weighed.memories) + 1), dtype=np.float32
        )  # the last for memories without wordings
        for row, words in zip(best, _coded(self._split(texts)), strict=True):
            sums, most = weighed.sums(words)
            for first, part, total in zip(owners, weighed.parts, sums, strict=False):
                shared = (total > 0).nonzero()[0]  # numpy finds what is true six times as fast as what is not 0
                np.maximum.at(row, part.owner[shared] + first, total[shared])
            row /= most
        if weighed.memories == tuple(memories):
            return torch.from_numpy(best[:, :-1])
        joined = {name: number for number, name in enumerate(weighed.memories)}
        return torch.from_numpy(best[:, [joined.get(name, -1) for name in memories]])

    def _state(self) -> Weighed:
        """The postings as they stand: those of most memories, and those of the few that joined since."""
        weighed, joining, left = self._held
        if not (joining or left):
            return weighed
        first, *later = (part.without(left) for part in weighed.parts)
        last = Postings.joined([*later, *joining.values()]) if later or joining else NOTHING
        few = _FEW_MORE * len(last.texts) <= len(first.texts)
        weighed = Weighed([first, last] if few else [Postings.joined([first, last])])
        self._held = weighed, {}, set()
        return weighed


_FEW_MORE = 4
"""So many times as many words stand in the first part of the postings as in the second; else the two become one."""


def _words(texts: Sequence[str]) -> list[list[str]]:
    """The words that `bm25s.tokenize` finds, without English stopwords, but whole: it cuts words at combining marks."""
    return [[word for word in words_of(lowered(text)) if len(word) > 1 and word not in _STOPWORDS] for text in texts]


def between_spaces(texts: Sequence[str]) -> list[list[str]]:
    """The words of texts between white space: each counts, also of one letter, or such as an English stopword."""
    return [lowered(text).split() for text in texts]


def _coded(texts: Sequence[Words]) -> list[np.ndarray]:
    """The words of texts as numbers of 64 bits."""
    return [
        words if isinstance(words, np.ndarray) else np.fromiter(map(word_code, words), dtype=np.int64, count=len(words))
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
