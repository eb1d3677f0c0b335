"""Names: which words of a bank's wordings name someone or something, and questions without them or with them alone.

A name tells whom a question is about and drowns what is asked: an embedding of "Who treats Ada Kelholm when ill?" lies
near other questions about her, that of "Who treats they when ill?" near other questions about doctors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

import regex

from lorary.words import WORD, lowered, words_of

_SENTENCE_STARTS = re.compile(r"(?:^|(?<!\b[A-Z])(?<!\bMr)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\bMrs)[.!?])\W*$")
"""Not after an initial, Mr., Ms., Dr., St. or Mrs."""
_TRIES = 20
"""Draws of a new name before there is none."""
_ALL_CAPITAL = 3
"""So many words, if all have a capital, are a title or shouted: their capitals tell nothing."""
_GERMAN = re.compile(
    r"\b(?:auf|das|dem|der|eine?|eine[mnrs]|für|heißt|ist|mit|nicht|sich|sind|und|viele|von|wann|warum|welche[mnrs]?|wer|wird|"
    r"wohin|wurden?|zum|zur)\b"
)
"""The commonest German words that are no English ones, in lower case."""
_ANOTHER = r"\s+|-"
"""What may stand between two words of one name."""


class Names:
    """The names in the wordings of memories that join and leave, in lower case.

    A word is a name if it holds a digit, or has a capital in most places where no sentence starts; "I" is none. Where
    capitals tell nothing they are not looked at: in the wordings of a memory that is in German, where every noun has
    one, and in a wording where every word has one. A script without capitals has no names but those with digits.
    """

    def __init__(self) -> None:
        self._names = set[str]()
        self._frozen: frozenset[str] | None = None
        self._seen: dict[str, _Seen] = {}
        self._places, self._capitals, self._codes = Counter[str](), Counter[str](), Counter[str]()

    @staticmethod
    def of(memories: Iterable[tuple[str, Iterable[str]]]) -> Names:
        """The names in memories, each given by its name and its wordings."""
        names = Names()
        for memory, wordings in memories:
            names.add(memory, wordings)
        return names

    @property
    def all(self) -> frozenset[str]:
        """The names as they are now, over all memories."""
        frozen = self._frozen
        if frozen is None:
            frozen = self._frozen = frozenset(self._names)
        return frozen

    def add(self, memory: str, wordings: Iterable[str]) -> frozenset[str]:
        """Takes in the wordings of `memory`, in place of those that it had. Returns the words whose standing changed."""
        before = self.remove(memory)
        seen = self._seen[memory] = _Seen.of(list(wordings))
        for total, own in ((self._places, seen.places), (self._capitals, seen.capitals), (self._codes, seen.codes)):
            total.update(own)
        return before ^ self._judge(seen)

    def remove(self, memory: str) -> frozenset[str]:
        """Forgets the wordings of `memory`, if it has any. Returns the words whose standing changed."""
        seen = self._seen.pop(memory, None)
        if seen is None:
            return frozenset()
        for total, own in ((self._places, seen.places), (self._capitals, seen.capitals), (self._codes, seen.codes)):
            total.subtract(own)
            for word in own:
                if not total[word]:
                    del total[word]
        return self._judge(seen)

    def memories_with(self, words: frozenset[str]) -> list[str]:
        """The memories whose wordings hold one of `words`."""
        return [memory for memory, seen in self._seen.items() if not words.isdisjoint(seen.words)] if words else []

    def _judge(self, seen: _Seen) -> frozenset[str]:
        """Judges the words of some wordings anew. Returns those whose standing changed."""
        names = frozenset(word for word in seen.words if self._codes[word] or self._mostly_capital(word))
        changed = names ^ (self._names & seen.words)
        if changed:
            self._names ^= changed
            self._frozen = None
        return changed

    def _mostly_capital(self, word: str) -> bool:
        return 2 * self._capitals[word] > self._places[word] and word != "i"


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


def names_of(wordings: Iterable[str]) -> frozenset[str]:
    """The names among the words of some wordings of one memory, in lower case (see `Names`)."""
    return Names.of([("", wordings)]).all


def without_names(text: str, names: frozenset[str]) -> str:
    """The text with "they" for each run of names, "their" for a possessive; the text itself if names are all it is.

    Whether a word has a capital does not matter here: who asks may not care.
    """
    pieces, end, rest = list[str](), 0, False
    for start, stop, possessive in _runs(text, names):
        pieces += [text[end:start], "their" if possessive else "they"]
        rest, end = rest or bool(WORD.search(text, end, start)), stop
    rest = rest or bool(WORD.search(text, end))
    return "".join([*pieces, text[end:]]) if rest else text


def only_names(text: str, names: frozenset[str]) -> str:
    """The names of a text, in its order."""
    return " ".join(word for word in words_of(text) if lowered(word) in names)


def with_other_names(text: str, names: frozenset[str], words: Sequence[str], chance: Random) -> str:
    """The text about others: each of its names exchanged for one that is none of `names`.

    A new word joins the first half of one of `words` to the second half of another, so that it looks like them; in a code
    digits are drawn anew. The text stays itself where it holds no name, or one for which no new word is found: then it may
    still ask for what is known.
    """
    found: dict[str, str | None] = {}

    def other(word: str) -> str | None:
        for _ in range(_TRIES):
            if any(letter.isdigit() for letter in word):
                new = "".join(chance.choice("0123456789") if letter.isdigit() else letter for letter in word)
            else:
                first, second = chance.choice(words), chance.choice(words)
                new = first[: (len(first) + 1) // 2] + second[len(second) // 2 :]
            if new not in names:
                return new
        return None

    for word in map(lowered, words_of(text)):
        if word in names and word not in found:
            found[word] = other(word)
    if None in found.values():
        return text

    def exchanged(match: regex.Match[str]) -> str:
        word = match.group()
        new = found.get(lowered(word))
        return word if new is None else new.capitalize() if word[0].isupper() else new

    return WORD.sub(exchanged, text) if found else text


def name_runs(text: str, names: frozenset[str]) -> list[tuple[int, int]]:
    """(start, end) of each run of names in a text, without a possessive's ending."""
    return [(start, stop - 2 * possessive) for start, stop, possessive in _runs(text, names)]


def _runs(text: str, names: frozenset[str]) -> list[tuple[int, int, bool]]:
    """(start, end, whether possessive) of each run of names in a text."""
    runs = list[tuple[int, int, bool]]()
    for found in WORD.finditer(text):
        if lowered(found.group()) not in names:
            continue
        start, stop = found.span()
        possessive = bool(re.match(r"['’]s\b", text[stop : stop + 3]))
        stop += 2 * possessive
        if runs and not runs[-1][2] and re.fullmatch(_ANOTHER, text[runs[-1][1] : start]):
            start = runs.pop()[0]
        runs.append((start, stop, possessive))
    return runs
