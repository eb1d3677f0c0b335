"""Names: which words of a bank's wordings name someone or something.

A name tells whom a question is about and drowns what is asked: an embedding of "Who treats Ada Kelholm when ill?" lies
near other questions about her, that of "Who treats they when ill?" near other questions about doctors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lorary.words import WORD, lowered, word_code, words_of

_SENTENCE_STARTS = re.compile(r"(?:^|(?<!\b[A-Z])(?<!\bMr)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\bMrs)[.!?])\W*$")
"""Not after an initial, Mr., Ms., Dr., St. or Mrs."""
_ALL_CAPITAL = 3
"""So many words, if all have a capital, are a title or shouted: their capitals tell nothing."""
_GERMAN = re.compile(
    r"\b(?:auf|das|dem|der|eine?|eine[mnrs]|für|heißt|ist|mit|nicht|sich|sind|und|viele|von|wann|warum|welche[mnrs]?|wer|wird|"
    r"wohin|wurden?|zum|zur)\b"
)
"""The commonest German words that are no English ones, in lower case."""


class Names:
    """The names in the wordings of memories that join and leave, in lower case.

    A word is a name if it holds a digit, or has a capital in most places where no sentence starts; "I" is none. Where
    capitals tell nothing they are not looked at: in the wordings of a memory that is in German, where every noun has
    one, and in a wording where every word has one. A script without capitals has no names but those with digits.
    """

    def __init__(self) -> None:
        self._names = set[str]()
        self._frozen: frozenset[str] | None = None
        self._words: dict[str, np.ndarray] = {}
        self._wordings: dict[str, Callable[[], Sequence[str]]] = {}
        self._places, self._capitals, self._codes = Counter[str](), Counter[str](), Counter[str]()

    @staticmethod
    def of(memories: Iterable[tuple[str, Iterable[str]]]) -> Names:
        """The names in memories, each given by its name and its wordings."""
        names = Names()
        for memory, wordings in memories:
            names.add(memory, wordings)
        return names

    @staticmethod
    def of_stored(stored: StoredNames, wordings: Mapping[str, Callable[[], Sequence[str]]]) -> Names:
        """The names that `stored` told, of memories whose wordings are read when they leave."""
        names, words = Names(), stored.words
        names._places, names._capitals, names._codes = (
            Counter({word: count for word, count in zip(words, counts.tolist(), strict=True) if count})
            for counts in stored.counts
        )
        ends = stored.ends.tolist()
        names._words = {
            memory: stored.codes[start:end]
            for memory, start, end in zip(stored.memories, [0, *ends], ends, strict=False)
        }
        names._wordings = dict(wordings)
        names._names = {word for word in words if names._is_name(word)}
        return names

    def stored(self) -> StoredNames:
        """All that it goes on from, in another process too."""
        words = sorted({*self._places, *self._codes})
        counts = [[kind[word] for word in words] for kind in (self._places, self._capitals, self._codes)]
        ends = np.cumsum([len(codes) for codes in self._words.values()])
        codes = np.concatenate([np.zeros(0, dtype=np.int64), *self._words.values()])
        return StoredNames(words, np.array(counts, dtype=np.int64).reshape(3, -1), [*self._words], codes, ends)

    @property
    def all(self) -> frozenset[str]:
        """The names as they are now, over all memories."""
        frozen = self._frozen
        if frozen is None:
            frozen = self._frozen = frozenset(self._names)
        return frozen

    def add(self, memory: str, wordings: Iterable[str]) -> frozenset[str]:
        """Takes in the wordings of `memory`, in place of those that it had. Returns the words whose standing changed."""
        before, wordings = self.remove(memory), list(wordings)
        seen = _Seen.of(wordings)
        self._words[memory] = np.fromiter(map(word_code, seen.words), dtype=np.int64, count=len(seen.words))
        self._wordings[memory] = lambda: wordings
        for total, own in ((self._places, seen.places), (self._capitals, seen.capitals), (self._codes, seen.codes)):
            total.update(own)
        return before ^ self._judge(seen)

    def remove(self, memory: str) -> frozenset[str]:
        """Forgets the wordings of `memory`, if it has any. Returns the words whose standing changed."""
        if memory not in self._words:
            return frozenset()
        seen = _Seen.of(self._wordings.pop(memory)())
        del self._words[memory]
        for total, own in ((self._places, seen.places), (self._capitals, seen.capitals), (self._codes, seen.codes)):
            total.subtract(own)
            for word in own:
                if not total[word]:
                    del total[word]
        return self._judge(seen)

    def memories_with(self, words: frozenset[str]) -> list[str]:
        """The memories whose wordings hold one of `words`."""
        if not words or not self._words:
            return []
        codes = np.sort(np.fromiter(map(word_code, words), dtype=np.int64, count=len(words)))
        own = np.concatenate([*self._words.values()])
        found = codes[np.searchsorted(codes, own).clip(max=len(codes) - 1)] == own
        owners = np.repeat(np.arange(len(self._words)), [len(codes) for codes in self._words.values()])
        memories = list(self._words)
        return [memories[number] for number in np.unique(owners[found]).tolist()]

    def _judge(self, seen: _Seen) -> frozenset[str]:
        """Judges the words of some wordings anew. Returns those whose standing changed."""
        names = frozenset(word for word in seen.words if self._is_name(word))
        changed = names ^ (self._names & seen.words)
        if changed:
            self._names ^= changed
            self._frozen = None
        return changed

    def _is_name(self, word: str) -> bool:
        return bool(self._codes[word]) or (2 * self._capitals[word] > self._places[word] and word != "i")


@dataclass(frozen=True)
class StoredNames:
    """What `Names` goes on from.

    Args:
        words: that may be names.
        counts: [3, words]: how often each stands where a capital tells something, has one there, holds a digit.
        memories: in the order in which they joined.
        codes: of all words of each memory, one memory after the other.
        ends: of each memory's codes.
    """

    words: list[str]
    counts: np.ndarray
    memories: list[str]
    codes: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True)
class _Seen:
    """What some wordings tell of their words.

    Args:
        words: all of them.
        places: how often each stands where a capital tells something, and no sentence starts.
        capitals: how often it has one there.
        codes: how often each word with a digit stands anywhere.
    """

    words: frozenset[str]
    places: Counter[str]
    capitals: Counter[str]
    codes: Counter[str]

    @staticmethod
    def of(wordings: Sequence[str]) -> _Seen:
        seen = _Seen(frozenset(lowered(word) for w in wordings for word in words_of(w)), *(Counter() for _ in "123"))
        capitals_tell = not _in_german(wordings)
        for wording in wordings:
            within = list[str]()
            for match in WORD.finditer(wording):
                word = match.group()
                if any(letter.isdigit() for letter in word):
                    seen.codes[lowered(word)] += 1
                elif capitals_tell and not _SENTENCE_STARTS.search(wording, 0, match.start()):
                    within.append(word)
            if len(within) < _ALL_CAPITAL or not all(word[0].isupper() for word in within):
                seen.places.update(map(lowered, within))
                seen.capitals.update(lowered(word) for word in within if word[0].isupper())
        return seen


def _in_german(wordings: Sequence[str]) -> bool:
    """Whether more than a third of some wordings hold a word by which German is known."""
    return 3 * sum(bool(_GERMAN.search(lowered(wording))) for wording in wordings) > len(wordings)
