"""Names: which words of a bank's wordings name someone or something, and questions without them or with them alone.

A name tells whom a question is about and drowns what is asked: an embedding of "Who treats Ada Kelholm when ill?" lies
near other questions about her, that of "Who treats they when ill?" near other questions about doctors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random

_WORD = re.compile(r"\w+")
_SENTENCE_STARTS = re.compile(r"(?:^|(?<!\b[A-Z])(?<!\bMr)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\bMrs)[.!?])\W*$")
"""Not after an initial, Mr., Ms., Dr., St. or Mrs."""
_TRIES = 20
"""Draws of a new name before there is none."""
_ANOTHER = r"\s+|-"
"""What may stand between two words of one name."""


def names_of(wordings: Iterable[str]) -> frozenset[str]:
    """The names among the words of some wordings, in lower case.

    A word is a name if it holds a digit, or has a capital in most places where no sentence starts; "I" is none.
    """
    capital, all_places, codes = Counter[str](), Counter[str](), set[str]()
    for wording in wordings:
        for found in _WORD.finditer(wording):
            word = found.group()
            if any(letter.isdigit() for letter in word):
                codes.add(word.lower())
            elif not _SENTENCE_STARTS.search(wording, 0, found.start()):
                all_places[word.lower()] += 1
                capital[word.lower()] += word[0].isupper()
    return frozenset(codes | {word for word, count in all_places.items() if 2 * capital[word] > count and word != "i"})


def without_names(text: str, names: frozenset[str]) -> str:
    """The text with "they" for each run of names, "their" for a possessive; the text itself if names are all it is.

    Whether a word has a capital does not matter here: who asks may not care.
    """
    pieces, end, rest = list[str](), 0, False
    for start, stop, possessive in _runs(text, names):
        pieces += [text[end:start], "their" if possessive else "they"]
        rest, end = rest or bool(_WORD.search(text, end, start)), stop
    rest = rest or bool(_WORD.search(text, end))
    return "".join([*pieces, text[end:]]) if rest else text


def only_names(text: str, names: frozenset[str]) -> str:
    """The names of a text, in its order."""
    return " ".join(word for word in _WORD.findall(text) if word.lower() in names)


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

    for word in _WORD.findall(text.lower()):
        if word in names and word not in found:
            found[word] = other(word)
    if None in found.values():
        return text

    def exchanged(match: re.Match[str]) -> str:
        word = match.group()
        new = found.get(word.lower())
        return word if new is None else new.capitalize() if word[0].isupper() else new

    return _WORD.sub(exchanged, text) if found else text


def _runs(text: str, names: frozenset[str]) -> list[tuple[int, int, bool]]:
    """(start, end, whether possessive) of each run of names in a text."""
    runs = list[tuple[int, int, bool]]()
    for found in _WORD.finditer(text):
        if found.group().lower() not in names:
            continue
        start, stop = found.span()
        possessive = bool(re.match(r"['’]s\b", text[stop : stop + 3]))
        stop += 2 * possessive
        if runs and not runs[-1][2] and re.fullmatch(_ANOTHER, text[runs[-1][1] : start]):
            start = runs.pop()[0]
        runs.append((start, stop, possessive))
    return runs
