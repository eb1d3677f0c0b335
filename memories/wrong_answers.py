"""Wrong answers that a right one is compared with: of its kind, and about its subject.

Where a memory's facts are sentences about one subject, the facts that are left make all that begins with its name likelier.
So a wrong answer tells of the same subject: then a likelihood measures the fact, not the subject.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from random import Random

from lorary.bank.facts import Fact, comparable
from lorary.memories.rewording import distinct
from lorary.routing.proper_names import name_runs, names_of
from lorary.words import lowered, words_of

_WRONG = 4
"""Wrong answers that a right one is compared with."""
FEWEST = 2 * _WRONG
"""Answers of other memories from which on no other is needed to choose among."""
_MOST = 0.5
"""The share of facts that must ask about a subject."""


def subject_of(facts: Sequence[Fact]) -> str | None:
    """What a memory's facts are about: the run of names that stands in most of their questions, and in half of them at least;
    None where there is none."""
    names = names_of(wording for fact in facts for wording in fact.wordings)
    runs = Counter(run for fact in facts for run in {fact.question[a:b] for a, b in name_runs(fact.question, names)})
    subject, count = max(runs.items(), key=lambda run: (run[1], len(run[0])), default=("", 0))
    return subject if subject and count >= _MOST * len(facts) else None


def about(text: str, subject: str | None, own: str | None) -> str:
    """A text about another subject: with `own` wherever words of `subject` stand; the text itself where it is nothing else, or
    where either is None."""
    if subject is None or own is None:
        return text
    runs = _mentions(text, subject)
    if [text[a:b] for a, b in runs] == [text.strip(" .")]:
        return text
    for start, end in reversed(runs):
        text = text[:start] + own + text[end:]
    return text


def tells_of(text: str, subject: str | None) -> bool:
    """Whether a text names a subject."""
    return subject is not None and bool(_mentions(text, subject))


def _mentions(text: str, subject: str) -> list[tuple[int, int]]:
    """(start, end) of each run of the subject's words in a text."""
    return name_runs(text, frozenset(lowered(word) for word in words_of(subject)))


def wrong_answers(fact: Fact, pool: Sequence[str], known: Sequence[str], seed: int = 0) -> tuple[str, ...]:
    """The answers of a pool that are most of the kind of a fact's own: of like length, with digits or without.

    None of those that the memory knows is among them. Where the pool has too few, the fact's own answer with other letters
    and digits takes their place.
    """
    left_out = {comparable(answer) for answer in (fact.answer, *known)}
    others = [answer for answer in distinct(pool) if comparable(answer) not in left_out]
    chance = Random(f"{seed} {fact.question} {fact.answer}")
    chance.shuffle(others)
    chosen = sorted(others, key=lambda answer: _unlikeness(answer, fact.answer))[:_WRONG]
    while len(chosen) < _WRONG:
        chosen.append(altered(fact.answer, chance))
    return tuple(chosen)


def _unlikeness(answer: str, other: str) -> float:
    """How much two answers differ in what they are made of."""
    digits = [sum(map(str.isdigit, text)) / len(text) for text in (answer, other)]
    capitals = [sum(map(str.isupper, text)) / len(text) for text in (answer, other)]
    words = [len(text.split()) for text in (answer, other)]
    return abs(digits[0] - digits[1]) + abs(capitals[0] - capitals[1]) + abs(words[0] - words[1]) / max(words)


def altered(answer: str, chance: Random) -> str:
    """An answer of the same form with other letters and digits."""
    kinds = ("aeiou", "bcdfghklmnprstvwz", "AEIOU", "BCDFGHKLMNPRSTVWZ", "0123456789")

    def other(match: re.Match[str]) -> str:
        letter = match[0]
        kind = next((kind for kind in kinds if letter in kind), None)
        return letter if kind is None else chance.choice(kind.replace(letter, ""))

    return re.sub(r"\w", other, answer)
