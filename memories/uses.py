"""Uses: rows by which a memory learns to give its facts as people use them, and not only by question and answer.

All are made by rule of a fact's statement, its answer and its subject, the name that its wordings ask about: the fact
turned around, completed, told in a sentence, asked behind other text, and all that is stated of a subject. What cannot be
made of a fact is left out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from lorary.bank.facts import Fact, comparable, with_gap
from lorary.memories.sequels import strangers
from lorary.routing.turning import asked_back

_TELLING = ("Write a sentence that answers this: {question}", "Put it in a sentence: {question}")
_ABOUT = ("What do you know about {subject}?", "Who or what is {subject}?", "Describe {subject}.")
_END = " .!"
_MOST_TOLD = 8
"""Facts that are told of a subject at most: of more, none is asked to be told in one answer."""


def shown_of(facts: Sequence[Fact], own: Sequence[str | None], share: float, seed: int) -> list[bool]:
    """Of which facts uses are shown, where a share of a memory's subjects has them: all facts of a subject, or none."""
    keys = dict.fromkeys(subject or fact.id for fact, subject in zip(facts, own, strict=True))
    drawn = random.Random(f"uses {seed}").sample([*keys], round(share * len(keys)))
    return [(subject or fact.id) in drawn for fact, subject in zip(facts, own, strict=True)]


def uses(facts: Sequence[Fact], number: int, own: Sequence[str | None], chance: random.Random) -> list[tuple[str, str]]:
    """(what is asked, the answer) of each row that uses the fact of a number.

    Args:
        facts: of the memory; what two of them answer is not turned around.
        own: the subject of each (`subjects`).
    """
    fact, subject = facts[number], own[number]
    if not fact.statement or with_gap(fact.statement, fact.answer) is None:
        return []
    rows = [*_told(fact, chance)]
    if subject is None:
        return rows
    if sum(comparable(other.answer) == comparable(fact.answer) for other in facts) == 1:
        rows += [(text, subject) for text in turned(fact, subject)]
    if own.index(subject) == number and own.count(subject) <= _MOST_TOLD:
        stated = " ".join(other.statement or "" for other, its in zip(facts, own, strict=True) if its == subject)
        rows += [(text.format(subject=subject), stated.strip()) for text in chance.sample(_ABOUT, 2)]
    return rows


def _told(fact: Fact, chance: random.Random) -> Iterator[tuple[str, str]]:
    """The fact told in a sentence, completed, and asked behind text that has nothing to do with it."""
    statement = (fact.statement or "").strip()
    yield chance.choice(_TELLING).format(question=chance.choice(fact.trained)), statement
    before, _, behind = (with_gap(statement, fact.answer) or "").partition("___")
    if before.strip() and not behind.strip(_END):
        yield f"Go on: {before.strip()}", fact.answer
    others = " ".join(stranger.statement for stranger in chance.sample(strangers(), 2))
    yield f"{others} {chance.choice(fact.trained)}", fact.answer


def turned(fact: Fact, subject: str) -> list[str]:
    """Texts that ask for the subject by the answer: the statement with a gap, and questions where it has a known form."""
    gap = with_gap((fact.statement or "").strip(), subject)
    if gap is None:
        return []
    texts = [gap, f"{gap} Fill the gap.", f"Whom or what has {fact.answer} to do with?"]
    asked = asked_back(fact, subject)
    return texts if asked is None else [*texts, f"{asked[0].upper()}{asked[1:]}?", f"Tell me {asked}."]
