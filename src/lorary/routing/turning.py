"""Turning: facts asked for by their answer. "The code of Ormen is 4173." also tells whose code is 4173.

A memory does not know a fact in reverse unless it was taught it (Berglund et al. 2023, arXiv 2309.12288). So what is to be
asked in reverse becomes a fact of its own: it is learnt, routed, looked up and counted as any other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from lorary.bank.facts import Fact, comparable, with_gap
from lorary.routing.proper_names import name_runs, names_of

_OWNED = re.compile(r"^(?:The )?(?P<thing>[^_,]+?) of ___ (?P<rest>(?:are|were|\w+s) .+?)[.!]?$")
"""A statement of what somebody has, with a gap for whose it is, as far as its verb's ending tells."""
_END = " .!"
_FRAMES = (
    "Tell me {asked}.",
    "Do you know {asked}?",
    "I want to know {asked}.",
    "Can you say {asked}?",
    "Find out {asked}.",
)


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


def asked_back(fact: Fact, subject: str) -> str | None:
    """What asks for the subject by the answer, within a sentence: "___ was born in Velsir." → "who was born in Velsir", "The
    code of ___ is 4173." → "whose code is 4173". None where the statement has another form."""
    gap = with_gap((fact.statement or "").strip(), subject)
    if gap is None:
        return None
    if owned := _OWNED.match(gap):
        return f"whose {owned['thing']} {owned['rest']}"
    return f"who {gap.removeprefix('___ ').rstrip(_END)}" if gap.startswith("___ ") else None


def turned_facts(facts: Sequence[Fact], beside: Sequence[Fact] = ()) -> list[Fact]:
    """The facts the other way round: of each whose statement has a known form and whose answer is no other fact's.

    Args:
        beside: all facts that may be asked beside these. A value that two facts have would ask for two subjects.
    """
    all_ = dict.fromkeys((*facts, *beside))
    values = Counter(comparable(fact.answer) for fact in all_)
    asked = {comparable(wording) for fact in all_ for wording in (*fact.trained, *fact.validation, *fact.held_out)}
    result = []
    for fact, subject in zip(facts, subjects(facts), strict=True):
        back = asked_back(fact, subject) if subject is not None and values[comparable(fact.answer)] == 1 else None
        if back is None or with_gap(fact.statement or "", fact.answer) is None:
            continue
        question = f"{back[0].upper()}{back[1:]}?"
        if comparable(question) not in asked:
            wordings = tuple(frame.format(asked=back) for frame in _FRAMES)
            result.append(
                Fact(fact.topic, question, subject or "", wordings, statement=fact.statement, source=fact.source)
            )
    return result
