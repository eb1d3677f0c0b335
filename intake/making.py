"""Topics and a generator → the facts that their passages state, checked; and all that was left out, with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from lorary.bank.documents import Passage
from lorary.bank.facts import Fact
from lorary.intake.checking import Checked, kept, told_by, uncovered, why_not, why_not_ask
from lorary.intake.source import Generator, LeftOut, Source, left_out
from lorary.progress import progress_bars
from lorary.routing.encoder import Encoder

ROUNDS = 2
"""How often a generator is asked; from the second time on, and of passages that state facts themselves, of the sentences alone
that are in no fact."""
_BEFORE = 2
"""Passages of the same document that a generator may look back at, for what a pronoun means."""


def with_facts(
    sources: Sequence[Source], generator: Generator, *, encoder: Encoder | None = None, quiet: bool = True
) -> tuple[list[Source], list[LeftOut]]:
    """(the topics with the facts that a generator finds in their passages behind those that they have, what was dropped)."""
    result, left = [], list[LeftOut]()
    passages = sum(len(source.passages) for source in sources)
    with progress_bars(quiet or not passages) as bars:
        bar = bars.start("reading passages", ROUNDS * passages)
        for source in sources:
            checked = facts_of(
                source, generator, encoder=encoder, tell=lambda passage: bar.advance(note=passage.source)
            )
            result.append(replace(source, facts=(*source.facts, *checked.facts)))
            left += checked.left_out
    return result, left


def facts_of(
    source: Source,
    generator: Generator,
    *,
    encoder: Encoder | None = None,
    tell: Callable[[Passage], None] = lambda passage: None,
) -> Checked:
    """The facts that a generator finds in the passages of a source and that the source does not hold already.

    Args:
        encoder: tells which questions ask for the same.
        tell: called with each passage in each round.
    """
    facts, left = list[Fact](), list[LeftOut]()
    for turn in range(ROUNDS):
        for place, passage in enumerate(source.passages):
            stated = told_by(source.facts, passage.text)
            covered = [*stated, *(fact for fact in facts if fact.source == passage.source)]
            missed = uncovered(passage.text, covered) if turn or stated else []
            before = before_passage(source, place)
            if missed or not (turn or stated):
                for proposed in generator.propose(passage, covered, source.topic, before=before, missed=missed):
                    checked = proposed if isinstance(proposed, LeftOut) else checked_fact(proposed, passage, before)
                    if isinstance(checked, LeftOut):
                        left.append(checked)
                    else:
                        facts.append(checked)
            tell(passage)
    result = kept(list(dict.fromkeys(facts)), source.facts, encoder)
    return Checked(result.facts, [*dict.fromkeys(left), *result.left_out])


def before_passage(source: Source, place: int) -> str:
    """What stands before a passage in its document, without tables; each part ends as a sentence does."""
    passages = source.passages
    near = [p.text for p in passages[max(place - _BEFORE, 0) : place] if p.source == passages[place].source]
    return " ".join(text if text[-1] in ".!?:…" else f"{text}." for text in near if text.count(" | ") < 2)


def checked_fact(fact: Fact, passage: Passage, before: str = "") -> Fact | LeftOut:
    """The fact with those of its wordings that can be asked, or why the passage does not bear it."""
    context = f"{before} {passage.text}"
    sound = [w for w in (fact.question, *fact.questions) if why_not_ask(w, fact.answer, context) is None]
    fact = replace(fact, question=sound[0], questions=tuple(sound[1:])) if sound else fact
    reason = why_not(fact, passage.text, before)
    return fact if reason is None else left_out(passage.source, f"{fact.question} {fact.answer}", reason)
