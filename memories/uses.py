"""Uses: rows by which a memory learns to give its facts as people use them, and not only by question and answer.

All are made by rule of a fact's statement, its answer and its subject, the name that its wordings ask about: the fact
turned around, completed, told in a sentence, asked behind other text, and all that is stated of a subject. What cannot be
made of a fact is left out.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from lorary.bank.facts import Fact, comparable, with_gap
from lorary.memories.sequels import strangers
from lorary.routing.proper_names import name_runs, names_of

_TELLING = ("Write a sentence that answers this: {question}", "Put it in a sentence: {question}")
_ABOUT = ("What do you know about {subject}?", "Who or what is {subject}?", "Describe {subject}.")
_END = " .!"
_MOST_TOLD = 8
"""Facts that are told of a subject at most: of more, none is asked to be told in one answer."""
_OWNED = re.compile(r"^(?:The )?(?P<thing>[^_,]+?) of ___ (?P<rest>(?:are|were|\w+s) .+?)[.!]?$")
"""A statement of what somebody has, with a gap for whose it is, as far as its verb's ending tells."""


def subjects(facts: Sequence[Fact]) -> list[str | None]:
    """The subject of each of a memory's facts: the name in its statement that most of its trained wordings hold; None where
    no name does."""
    names = names_of(wording for fact in facts for wording in fact.trained)
    return [_subject(fact, names) for fact in facts]


def _subject(fact: Fact, names: frozenset[str]) -> str | None:
    statement = fact.statement or ""
    runs = {statement[start:end] for start, end in name_runs(statement, names)}
    wordings = [comparable(wording) for wording in fact.trained]
    held = Counter({run: sum(comparable(run) in wording for wording in wordings) for run in sorted(runs)})
    held.pop(fact.answer, None)
    run, count = max(held.items(), key=lambda own: (own[1], len(own[0])), default=("", 0))
    return run if 2 * count > len(wordings) else None


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
    """Texts that ask for the subject by the answer: the statement with a gap, and questions where it has a known form:
    "___ was born in Velsir." → "Who was born in Velsir?", "The code of ___ is 4173." → "Whose code is 4173?"."""
    gap = with_gap((fact.statement or "").strip(), subject)
    if gap is None:
        return []
    texts = [gap, f"{gap} Fill the gap.", f"Whom or what has {fact.answer} to do with?"]
    if owned := _OWNED.match(gap):
        asked = f"whose {owned['thing']} {owned['rest']}"
    elif gap.startswith("___ "):
        asked = f"who {gap.removeprefix('___ ').rstrip(_END)}"
    else:
        return texts
    return [*texts, f"{asked[0].upper()}{asked[1:]}?", f"Tell me {asked}."]
