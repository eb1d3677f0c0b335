"""New facts among those that a memory holds: the latest wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lorary.bank.documents import document_of
from lorary.bank.facts import Fact, comparable
from lorary.memories.rewording import distinct


def latest_wins(before: Sequence[Fact], new: Sequence[Fact], *, keep_wordings: bool = True) -> tuple[Fact, ...]:
    """Facts with new ones: each takes the place of the first that shares a wording with it, any others of these go; one
    that shares none comes last.

    Args:
        keep_wordings: a new fact has the wordings of those whose place it takes beside its own; and the statement and
            the source, if it has none and its answer is theirs.
    """
    facts: list[Fact | None] = list(before)
    places: dict[str, set[int]] = {}
    for place, fact in enumerate(facts):
        for wording in fact.wordings if fact is not None else ():
            places.setdefault(comparable(wording), set()).add(place)
    for fact in new:
        own = sorted(set[int]().union(*(places.get(comparable(wording), set()) for wording in fact.wordings)))
        shared = [old for place in own if (old := facts[place]) is not None]
        for place in own:
            facts[place] = None
        if not own:
            own = [len(facts)]
            facts.append(None)
        after = _with_wordings(fact, shared) if keep_wordings else fact
        facts[own[0]] = after
        for wording in after.wordings:
            places.setdefault(comparable(wording), set()).add(own[0])
    return tuple(fact for fact in facts if fact is not None)


def _with_wordings(fact: Fact, olds: Sequence[Fact]) -> Fact:
    """A fact that also has the wordings of those that it replaces; the old one where it tells nothing that is new."""
    every = distinct([*fact.wordings, *(wording for old in olds for wording in old.wordings)])
    kept = {comparable(wording) for wording in every}
    held_out = distinct([*fact.held_out, *(wording for old in olds for wording in old.held_out)])
    same = [old for old in olds if old.answer == fact.answer]
    merged = replace(
        fact,
        questions=tuple(every[1:]),
        held_out=tuple(wording for wording in held_out if comparable(wording) not in kept),
        statement=fact.statement or next((old.statement for old in same if old.statement), None),
        source=fact.source or next((old.source for old in same if old.source), None),
    )
    return next((old for old in same if len(olds) == 1 and _tells(old) == _tells(merged)), merged)


def _tells(fact: Fact) -> tuple[Any, ...]:
    """What a fact says, whatever the order of its wordings, and in which document, whatever the place there.

    A row that is put into a table moves all below it, and what these say stays.
    """
    wordings = ({comparable(w) for w in own} for own in (fact.wordings, fact.held_out))
    return (fact.answer, *map(frozenset, wordings), fact.statement, document_of(fact.source or ""))
