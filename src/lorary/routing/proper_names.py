"""Questions without the names in them, with those alone, or with others (`names.Names` tells which words are names).

A name tells whom a question is about and drowns what is asked: an embedding of "Who treats Ada Kelholm when ill?" lies
near other questions about her, that of "Who treats they when ill?" near other questions about doctors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from random import Random

import regex

from lorary.routing.names import Names
from lorary.words import WORD, lowered, words_of

_TRIES = 20
"""Draws of a new name before there is none."""
_ANOTHER = r"\s+|-"
"""What may stand between two words of one name."""


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
