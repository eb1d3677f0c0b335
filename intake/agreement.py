"""One wording, one answer: what stands twice counts once, and of two answers the later one stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lorary.bank.facts import Fact, comparable
from lorary.intake.source import LeftOut, Source, left_out

LATER = "a later place gives the same question another answer"
TWICE = "the same question and answer stand twice"


def agreed(sources: Sequence[Source]) -> tuple[list[Source], list[LeftOut]]:
    """(sources that a bank can hold together, what they lost).

    A wording that has two answers keeps the later one, anywhere in the sources. A fact whose wordings all went is left
    out; so is a held-out wording that is trained on. Facts of one topic with one question and one answer are joined.
    """
    left: list[LeftOut] = []
    joined = [replace(source, facts=tuple(_joined(source.facts, left))) for source in sources]
    last: dict[str, Fact] = {}
    for source in joined:
        for fact in source.facts:
            last |= {comparable(wording): fact for wording in fact.wordings}
    result = []
    for source in joined:
        facts = [kept for fact in source.facts if (kept := _kept(fact, last, left)) is not None]
        result.append(replace(source, facts=tuple(facts)))
    return [source for source in result if source.facts or source.passages], left


def _joined(facts: Sequence[Fact], left: list[LeftOut]) -> list[Fact]:
    """Facts with one question and one answer as one fact, with the wordings of all."""
    first: dict[tuple[str, str], Fact] = {}
    for fact in facts:
        key = (comparable(fact.question), comparable(fact.answer))
        if (known := first.get(key)) is None:
            first[key] = fact
            continue
        by_wording = {comparable(wording): wording for wording in (*known.questions, *fact.questions)}
        by_wording.pop(key[0], None)
        held_out = tuple(dict.fromkeys((*known.held_out, *fact.held_out)))
        first[key] = replace(known, questions=tuple(by_wording.values()), held_out=held_out)
        left.append(left_out(fact.source or fact.topic, f"{fact.question} {fact.answer}", TWICE))
    return list(first.values())


def _kept(fact: Fact, last: dict[str, Fact], left: list[LeftOut]) -> Fact | None:
    """The fact with the wordings that no later fact answers otherwise; None where there are none."""
    trained = [wording for wording in (fact.question, *fact.questions) if _is_its(wording, fact, last)]
    validation = tuple(wording for wording in fact.validation if _is_its(wording, fact, last))
    held_out = tuple(wording for wording in fact.held_out if comparable(wording) not in last)
    for wording in fact.held_out:
        if wording not in held_out:
            left.append(left_out(fact.source or fact.topic, wording, "a held-out wording that is trained on"))
    if not trained or len(trained) <= len(validation):
        other = last[comparable(fact.question)]
        told = f"{fact.question} {fact.answer} (later: {other.answer}, {other.source or other.topic})"
        left.append(LeftOut(fact.source or fact.topic, told, LATER))
        return None
    first, *others = trained
    return replace(fact, question=first, questions=tuple(others), validation=validation, held_out=held_out)


def _is_its(wording: str, fact: Fact, last: dict[str, Fact]) -> bool:
    return last[comparable(wording)].answer == fact.answer
